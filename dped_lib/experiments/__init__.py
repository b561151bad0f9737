"""Run the experiments: one module for each figure or table of the paper, and the statistics that they share."""
