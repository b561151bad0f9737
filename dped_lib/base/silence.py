"""Keep the messages of libraries written in C off the terminal."""

import contextlib
import os
import threading


class Silence:
    """Discard what the libraries in C print on standard error (file descriptor 2).

    Our own errors report damaged files instead.

    Several threads may read files at once. The first one redirects, and the last one restores.
    """

    _lock, _readers, _saved = threading.Lock(), 0, -1

    def __enter__(self):
        with self._lock:
            if not Silence._readers:
                with contextlib.suppress(OSError):  # there is no standard error
                    Silence._saved = os.dup(2)
                    with open(os.devnull, "wb") as null:
                        os.dup2(null.fileno(), 2)
            Silence._readers += 1

    def __exit__(self, *_):
        with self._lock:
            Silence._readers -= 1
            if not Silence._readers and Silence._saved >= 0:
                os.dup2(Silence._saved, 2)
                os.close(Silence._saved)
                Silence._saved = -1
