"""Define the exception whose message is written for the user."""

import errno
import shlex
import sys
from collections.abc import Sequence

#: ``cv2.Error.StsNoMem``, without an import of OpenCV.
_OPENCV_NO_MEMORY = -4


class DpedError(Exception):
    """Report an error that the user can correct.

    The message names the file or parameter at fault and the remedy. The command line prints it without a
    traceback and exits with status 2. In a notebook it stops the run.
    """


def pip_install(arguments: str) -> str:
    """Return the command that installs a package into this environment, wherever the user types it."""
    return f"{shlex.quote(sys.executable)} -m pip install {arguments}"


def memory_ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory could not be allocated. Python, OpenCV and PyTorch say it differently."""
    by_number = getattr(error, "errno", None) == errno.ENOMEM or getattr(error, "code", None) == _OPENCV_NO_MEMORY
    by_words = any(words in str(error).lower() for words in ("allocate memory", "out of memory"))
    return isinstance(error, MemoryError) or by_number or by_words


def first_few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names for a message, with dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
