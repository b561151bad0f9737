"""How figures look and are saved, and the drawings of alignments and networks."""
