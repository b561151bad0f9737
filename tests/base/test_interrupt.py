"""Signals end a program where nothing is half done."""

import contextlib
import signal
import subprocess
import sys

import pytest

from dped_lib.base import interrupt

PROGRAM = """
import sys, time
from dped_lib.base import interrupt
interrupt.spare_imports()
try:
    import slow_to_import
    time.sleep(20)
    print("lost")
except KeyboardInterrupt:
    print("whole" if "slow_to_import" in sys.modules and sys.modules["slow_to_import"].done else "half")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_during_an_import_comes_after_it(tmp_path, name):
    (tmp_path / "slow_to_import.py").write_text(
        f"import signal\ntry:\n    signal.raise_signal(signal.{name})\n    import json.tool\n"
        "except BaseException as error:\n    raise ImportError('no such thing') from error\ndone = True\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}){PROGRAM}"]
    # A shell starts its background jobs with SIGINT ignored, and tests may be one.
    heard = {"preexec_fn": lambda: signal.signal(getattr(signal, name), signal.SIG_DFL)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, **heard)
    assert (done.stdout, done.stderr) == ("whole\n", "")


def test_a_signal_that_is_ignored_stays_ignored():
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from dped_lib.base import interrupt; "
        "interrupt.spare_imports(); signal.raise_signal(signal.SIGINT); print('on')"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "on\n"


def test_signals_are_given_back():
    def mine(*_):
        pass

    with contextlib.ExitStack() as stack:
        for word, handler in ((signal.SIGTERM, mine), (signal.SIGINT, signal.SIG_IGN)):
            stack.callback(signal.signal, word, signal.signal(word, handler))
        with interrupt.stop_between_steps():
            assert signal.getsignal(signal.SIGTERM) is not mine
            # A background job of a shell script is deaf to Ctrl-C, and stays so.
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is mine
