"""Make programs end with this process, even if it is killed."""

import os
import sys
from collections.abc import Sequence

#: Python code that asks Linux for a signal to this process when its parent ends, and then becomes another program.
#: The numbers are those of PR_SET_PDEATHSIG and SIGTERM. If the parent has already ended, the code starts nothing.
_BECOME = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)


def ending_with_us(command: Sequence[str]) -> list[str]:
    """Return a command that runs the same program, and on Linux ends it with SIGTERM when this process ends.

    Without it a program goes on if this process is killed with SIGKILL, for example because memory ran out. Linux sends
    the signal when the thread that started the program ends, so that thread has to wait for the program. Programs that
    the program starts get no signal. Other systems have no such signal, and the command is returned unchanged.

    Args:
        command: the path of the program, and its arguments.
    """
    if sys.platform != "linux":
        return [*command]
    # ``preexec_fn`` of subprocess would need no further program, but it can block if this process has threads.
    return [sys.executable, "-ISc", _BECOME, str(os.getpid()), *command]
