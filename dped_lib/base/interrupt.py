"""Let signals end a long piece of work between two of its steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


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
