"""Programs that users start: the command line, the notebook runner and the doctor."""
