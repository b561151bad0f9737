"""Run the user study of section 4.3: its questions, pictures, answers and page, and the analysis of the answers."""
