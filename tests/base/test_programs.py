"""A program that ``programs.ending_with_us`` starts ends with this process, and otherwise runs as if it were started directly."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dped_lib.base import programs

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the end of a parent")
#: Starts a program that says its number and then sleeps.
SLEEPER = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
START = f"""
import subprocess, sys
from dped_lib.base import programs
with subprocess.Popen(programs.ending_with_us([sys.executable, "-c", {SLEEPER!r}])) as process:
    process.wait()
"""
#: The commands with children of theirs, which are replaced by the sleeper.
STUDY = f"""
import subprocess
from pathlib import Path
from types import SimpleNamespace
from dped_lib.user_study import server
popen = subprocess.Popen
subprocess.Popen = lambda command, env: popen([*command[: command.index("-m")], "-c", {SLEEPER!r}])
server.write_page = lambda *_: Path("study.ipynb")
server.serve(None, None, 8866, "127.0.0.1")
"""
RUN_ALL = f"""
import subprocess
from dped_lib.app import notebook_runner
popen = subprocess.Popen
subprocess.Popen = lambda command: popen([*command[: command.index("-m")], "-c", {SLEEPER!r}])
notebook_runner.run_all("rig", "smoke")
"""


def ends_with_its_parent(code: str) -> bool:
    """Start a process with this code, kill it, and return whether the sleeper that it started ends."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        number = int(parent.stdout.readline())
        assert number != parent.pid
        parent.kill()
    end = time.monotonic() + 10
    while psutil.pid_exists(number) and psutil.Process(number).status() != "zombie" and time.monotonic() < end:
        time.sleep(0.05)
    if gone := not psutil.pid_exists(number) or psutil.Process(number).status() == "zombie":
        return gone
    os.kill(number, signal.SIGKILL)
    return False


@LINUX
def test_a_program_ends_with_a_killed_parent():
    assert ends_with_its_parent(START)


@LINUX
@pytest.mark.parametrize("code", [STUDY, RUN_ALL], ids=["study", "run all"])
def test_no_server_and_no_workflow_outlives_a_killed_command(code):
    assert ends_with_its_parent(code)


def test_the_program_is_the_process_that_was_started():
    """With its own status, environment and arguments. A signal reaches it, and one that is ignored stays ignored."""
    code = (
        "import os, signal, sys; print(os.getpid(), os.environ['WORD'], *sys.argv[1:], signal.getsignal(signal.SIGHUP))"
    )
    command = programs.ending_with_us([sys.executable, "-c", f"{code}; sys.exit(7)", "a b", "-c"])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = subprocess.Popen(command, env={**os.environ, "WORD": "x"}, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    said, _ = process.communicate(timeout=60)
    assert said == f"{process.pid} x a b -c {signal.Handlers.SIG_IGN}\n" and process.returncode == 7
