"""Libraries in C print nothing while a file is read, and everything else is printed."""

import os
import threading

from dped_lib.base.silence import Silence


def test_the_last_of_several_readers_restores_standard_error(capfd):
    first, second = threading.Event(), threading.Event()

    def read():
        with Silence():
            first.set()
            second.wait(10)
            os.write(2, b"of a library\n")

    other = threading.Thread(target=read)
    with Silence():
        other.start()
        first.wait(10)
        os.write(2, b"of a library\n")
    os.write(2, b"of a library\n")  # the other thread still reads
    second.set()
    other.join()
    os.write(2, b"ours\n")
    assert capfd.readouterr().err == "ours\n"


def test_without_standard_error_nothing_fails():
    before = os.dup(2)
    os.close(2)
    try:
        with Silence():
            pass
    finally:
        os.dup2(before, 2)
        os.close(before)
