"""Hold the data: where photographs come from, their files, the patch pairs made of them, and stored networks."""
