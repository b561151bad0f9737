"""Let signals end a program only at safe points: after an import, or between two steps of a long computation."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Seconds after which a signal that came during an import is sent again.
_AGAIN = 0.05


def spare_imports() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, but not inside an import.

    Libraries with compiled code turn the exception into another one if it comes while they are imported, or lose it. A
    signal that comes then is therefore sent again later. Slurm sends SIGTERM before it kills a job. Signals that are
    ignored stay ignored.
    """
    for s in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(s) is not signal.SIG_IGN:
            signal.signal(s, _raise_or_wait)


def _raise_or_wait(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            # pthread_kill ends a wait of the main thread at once. A signal from raise_signal is noticed only after the wait.
            again = threading.Timer(_AGAIN, signal.pthread_kill, (threading.main_thread().ident, number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def stop_between_steps() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that the work can finish its current step.

    Slurm sends SIGTERM before it kills a job. Only the main thread receives signals. In other threads the event is
    never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # A shell starts background jobs with Ctrl-C ignored. This function leaves an ignored signal ignored.
    heeded = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in heeded}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
