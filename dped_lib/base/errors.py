"""The one exception a user is meant to read."""


class DpedError(Exception):
    """Something the user can put right.

    The message names the file or parameter at fault and the remedy. The command line prints it without a
    traceback and exits with status 2; in a notebook it stops the run.
    """
