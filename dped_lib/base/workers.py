"""Processes that do jobs one by one, each told by a pipe of its own: whatever becomes of one, no other waits for it.

Started afresh, not forked: the libraries' threads do not survive a fork. The standard library's pools share queues and
locks between their workers, and one that is stopped while it starts leaves a traceback, or the rest waiting.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import cv2

#: Set for workers before they start: the same bytes whatever their number, and no more threads than cores.
ENVIRONMENT = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class WorkerLost(Exception):
    """A worker process ended without an answer: it was killed."""


def run(function: Callable, jobs: Sequence, count: int) -> Iterator[tuple[int, object]]:
    """``function`` of each job by ``count`` processes: (number of the job, what it returned), as they are finished.

    ``function`` is one of a module, and what it takes and returns can be pickled; what it raises is raised here.
    However this ends, no process is left. Workers are deaf to Ctrl-C and SIGTERM, which reach the whole group, and end
    when this process does.

    Raises:
        WorkerLost: a worker was killed.
    """
    waiting = iter(enumerate(jobs))
    started: list[subprocess.Popen] = []
    busy: dict[Connection, int] = {}
    try:
        for number, job in _first(count, waiting):
            connection, process = _start()
            started.append(process)
            busy[connection] = number
            _tell(connection, function, job)
        while busy:
            for connection in wait(list(busy)):
                number, (result, error) = busy.pop(connection), _hear(connection)
                if error is not None:
                    raise error
                for following, job in _first(1, waiting):
                    busy[connection] = following
                    _tell(connection, function, job)
                yield number, result
    finally:
        # Of a job in hand nothing is lost but its time: files are put in place whole.
        for process in started:
            process.kill()
        for process in started:
            process.wait()
            process.stdin.close()


def _first(count: int, waiting: Iterator) -> Iterator:
    return (item for _, item in zip(range(count), waiting, strict=False))


def _start() -> tuple[Connection, subprocess.Popen]:
    ours, theirs = Pipe()
    command = f"import sys; sys.path[:] = {sys.path!r}; from dped_lib.base.workers import _serve; _serve({theirs.fileno()})"
    # What is blocked here is blocked there, from its first instant.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        # Its standard input tells it that this process has ended.
        process = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env=os.environ | ENVIRONMENT,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return ours, process


def _tell(connection: Connection, *message) -> None:
    try:
        connection.send(message)
    except OSError as error:
        raise WorkerLost from error


def _hear(connection: Connection) -> tuple[object, Exception | None]:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise WorkerLost from error


def _serve(handle: int) -> None:
    """What a worker does: one job after another, until there is nobody to tell."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    connection = Connection(handle)
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, job = connection.recv()
            connection.send(_answer(function, job))


def _answer(function: Callable, job) -> tuple[object, Exception | None]:
    try:
        return function(job), None
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return None, error


def _end_with_parent() -> None:
    # A worker whose parent was killed would finish its job first, beside those of the next run.
    while os.read(0, 1):
        pass
    os._exit(1)
