"""Divide a sweep over a picture among threads: each takes the next strip of rows and computes it alone.

PyTorch divides every *operation* among its threads, and they wait for each other after each of thousands of operations.
If another process keeps a core busy, each of these waits is long. Here threads wait for each other only at the end of a
sweep. The strips depend on the height of the bands (``Plan.rows``) and not on the number of threads, and their results
are returned in order. So with bands of the same height, a result that is merged from the strips is the same to the last
bit for any number of threads.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dped_lib.enhance import bands
from dped_lib.speed import threads


def rows(buffer: Tensor, start: int, end: int) -> Tensor:
    """Return rows of a buffer (H x W x C) as a band (1 x C x h x W) that shares their memory."""
    return bands.as_band(buffer[start:end])


def store(buffer: Tensor, start: int, x: Tensor) -> None:
    """Write a band to the rows of a buffer from ``start`` on."""
    rows(buffer, start, start + x.shape[2]).copy_(x)


@dataclass(frozen=True)
class Strip:
    """Describe the rows that one thread computes in one go.

    Attributes:
        start, end: the first row, and the row after the last.
        top, bottom: whether the strip begins or ends the picture.
        above, below: copies of the rows around it, one for each buffer that the sweep overwrites.
    """

    start: int
    end: int
    top: bool
    bottom: bool
    above: Sequence[Tensor]
    below: Sequence[Tensor]

    def pieces(self, *buffers: Tensor) -> Iterator[Sequence[Tensor]]:
        """Yield the rows above, the strip's own and the rows below, of all buffers that the sweep overwrites."""
        return iter((self.above, [rows(b, self.start, self.end) for b in buffers], self.below))


class Sweeper:
    """Hold the threads that compute the sweeps over one picture. Use it in a ``with`` block.

    Args:
        height: number of rows of the picture.
        count: number of threads.
        tick: is called with numbers of rows that passed a sweep, by the thread that reads the results.
    """

    def __init__(self, height: int, count: int, tick: Callable[[int], None]):
        self.height, self.threads, self.tick = height, count, tick
        self.messages: queue.SimpleQueue = queue.SimpleQueue()
        self.stopped = threading.Event()

    def __enter__(self) -> "Sweeper":
        self.pool = threads.workers(self.threads)
        return self

    def __exit__(self, *_) -> None:
        # The caller may have stopped reading, or Ctrl-C may have ended the wait for a strip. Each thread then stops after its
        # band.
        self.stopped.set()
        self.pool.shutdown(cancel_futures=True)

    def _strips(self, starts: Sequence[int], radius: int, overwritten: Sequence[Tensor]) -> Iterator[Strip]:
        """Yield the strips from top to bottom. The copies are right if only strips that were yielded are overwritten."""

        def copies(start: int, end: int) -> list[Tensor]:
            return [rows(b, max(start, 0), end).clone(memory_format=torch.channels_last) for b in overwritten]

        above = copies(0, 0)
        for start, end in zip(starts, [*starts[1:], self.height], strict=True):
            strip = Strip(start, end, start == 0, end == self.height, above, copies(end, end + radius))
            above = copies(end - radius, end)  # now, because the strip may be overwritten when the next is asked for
            yield strip

    def sweep(self, work: Callable[[Strip], object], size: int, radius: int, *overwritten: Tensor) -> Iterator:
        """Yield the results of ``work`` for all strips from top to bottom. The threads compute them.

        Args:
            work: computes a strip, and reports its rows by :meth:`passed`.
            size: number of rows of a strip.
            radius: number of rows around a strip that its result depends on.
            overwritten: buffers that the sweep reads and overwrites.
        """
        size = max(size, radius)
        starts = [s for s in range(0, self.height, size) if s == 0 or self.height - s >= radius]
        numbered, lock = enumerate(self._strips(starts, radius, overwritten)), threading.Lock()

        @torch.inference_mode()
        def step() -> None:
            try:
                with lock:  # the next strip copies rows before this one overwrites them
                    at, strip = next(numbered)
                self.messages.put(("strip", at, work(strip)))
            except BaseException as error:  # raised again by the thread that waits for the result
                self.messages.put(("error", -1, error))

        # More strips than threads are asked for, so that no thread waits for the one that reads the results.
        asked, done = 0, {}
        for at in range(len(starts)):
            while asked < min(len(starts), at + 2 * self.threads + 1):
                self.pool.submit(step)
                asked += 1
            while at not in done:
                kind, number, content = self.messages.get()
                if kind == "error":
                    raise content
                if kind == "rows":
                    self.tick(number)
                else:
                    done[number] = content
            yield done.pop(at)

    def passed(self, count: int) -> None:
        """Report ``count`` rows of a strip as done. A thread does this after every band, and ends here if the work was stopped."""
        if self.stopped.is_set():
            raise InterruptedError
        self.messages.put(("rows", count, None))
