"""Define the exception whose message is written for the user."""


class DpedError(Exception):
    """Report an error that the user can correct.

    The message names the file or parameter at fault and the remedy. The command line prints it without a
    traceback and exits with status 2. In a notebook it stops the run.
    """
