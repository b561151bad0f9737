"""Measure the peak memory of a process, and keep a core busy beside it."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def peak_mib() -> float:
    """Return the peak memory of this process in MiB."""
    # A process inherits the value of getrusage from its parent, so we read the kernel's own.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


@contextlib.contextmanager
def busy(wanted: bool = True) -> Iterator[None]:
    """Keep one core busy while the block runs, if that is wanted."""
    if not wanted:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()
