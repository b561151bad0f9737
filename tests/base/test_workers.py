"""Processes that do jobs: every job once, and a clear end whatever happens to them."""

import math
import os
import signal

import psutil
import pytest

from dped_lib.base import workers


def children() -> list[psutil.Process]:
    return [c for c in psutil.Process().children() if "dped_lib.base.workers" in " ".join(c.cmdline())]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_job_once(count):
    jobs = [float(i) for i in range(9)]
    assert sorted(workers.run(math.sqrt, jobs, count)) == [(i, math.sqrt(i)) for i in range(9)]
    assert not children()


def test_nothing_to_do():
    assert list(workers.run(math.sqrt, [], 2)) == []


def test_an_error_comes_back_with_where_it_was_raised():
    with pytest.raises(ValueError, match="math domain error") as caught:
        list(workers.run(math.sqrt, [1.0, -1.0], 2))
    assert "in a worker process" in caught.value.__notes__[0] and not children()


def test_a_worker_that_ends_is_told_from_one_that_answers():
    with pytest.raises(workers.WorkerLost):
        list(workers.run(os._exit, [3], 1))
    assert not children()


def test_stopping_early_leaves_no_process():
    going = workers.run(math.sqrt, [1.0] * 50, 2)
    next(going)
    assert len(children()) == 2
    going.close()
    assert not children()


def test_workers_are_deaf_to_what_reaches_the_group():
    assert [n for _, n in workers.run(_hit, [signal.SIGINT, signal.SIGTERM], 1)] == [signal.SIGINT, signal.SIGTERM]


def _hit(number: int) -> int:
    os.kill(os.getpid(), number)
    return number
