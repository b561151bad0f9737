"""What tests of files share."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Fail the test after 20 seconds, for example if it waits for a pipe."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("still runs after 20 seconds"))
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
