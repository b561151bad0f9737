"""Run jobs in worker processes. Each worker has its own pipe, so a crash in one does not block the others.

Workers are started as new processes and not forked, because the libraries' threads do not survive a fork. The standard
library's pools share queues and locks between workers. There a worker that is stopped during its start leaves a
traceback, or blocks the others. Joblib's workers go on with their job when this process is killed.
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

#: Variables of the environment of a worker. One thread each gives the same bytes for any number of workers, and no more
#: threads than cores.
ONE_THREAD = {k: "1" for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class WorkerLost(Exception):
    """Report that a worker process was killed before it answered."""


def run(function: Callable, jobs: Sequence, count: int) -> Iterator[tuple[int, object]]:
    """Apply ``function`` to the jobs in ``count`` processes. Yield (number of the job, result) as jobs finish.

    ``function`` belongs to a module, and its argument and result can be pickled. An exception in it is raised here.
    No worker outlives this generator or this process. Workers ignore Ctrl-C and SIGTERM, which a terminal or batch
    system sends to the whole process group.

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
            _send(connection, function, job)
        while busy:
            for connection in wait(list(busy)):
                number, (result, error) = busy.pop(connection), _receive(connection)
                if error is not None:
                    raise error
                for following, job in _first(1, waiting):
                    busy[connection] = following
                    _send(connection, function, job)
                yield number, result
    finally:
        # Killing a worker during a job loses only time, because workers write files atomically.
        for process in started:
            process.kill()
        for process in started:
            process.wait()
            process.stdin.close()


def _first(count: int, waiting: Iterator) -> Iterator:
    return (item for _, item in zip(range(count), waiting, strict=False))


def _start() -> tuple[Connection, subprocess.Popen]:
    ours, theirs = Pipe()
    imports = f"import sys; sys.path[:] = {sys.path!r}; from dped_lib.base.workers import _serve"
    command = f"{imports}; _serve({theirs.fileno()})"
    # The worker inherits the blocked signals, so it ignores them from its start.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        # The end of its standard input shows the worker that this process has ended.
        process = subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env=os.environ | ONE_THREAD,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return ours, process


def _send(connection: Connection, *message) -> None:
    try:
        connection.send(message)
    except OSError as error:
        raise WorkerLost from error


def _receive(connection: Connection) -> tuple[object, Exception | None]:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise WorkerLost from error


def _serve(handle: int) -> None:
    """Do one job after another in a worker until the connection ends."""
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
    # Without this, the worker of a killed parent would finish its job while the next run already works.
    while os.read(0, 1):
        pass
    os._exit(1)
