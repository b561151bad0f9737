"""Define the exception whose message is written for the user."""

import shlex
import sys
from collections.abc import Sequence


class DpedError(Exception):
    """Report an error that the user can correct.

    The message names the file or parameter at fault and the remedy. The command line prints it without a
    traceback and exits with status 2. In a notebook it stops the run.
    """


def pip_install(arguments: str) -> str:
    """Return the command that installs a package into this environment, wherever the user types it."""
    return f"{shlex.quote(sys.executable)} -m pip install {arguments}"


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names for a message, with dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
