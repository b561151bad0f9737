"""What tests of files share."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def impatient() -> Iterator[None]:
    """The test fails when it has waited for 20 seconds, for instance for a pipe that nobody writes to."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits"))
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
