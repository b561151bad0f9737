"""Apply a network to a whole photograph exactly, in bounded memory and on all cores.

The generator normalises each layer by the mean and variance of the *whole* image. Enhancing tiles one by one therefore
changes the picture (26 to 37 dB against the whole image, with visible seams). Here the statistics of the whole image
are computed part by part and merged. Nothing is approximated.

A *sweep* is one pass over the picture through some of the layers. Threads divide it into *strips* of rows (``sweeps``),
and a strip goes through the layers in *bands* (``bands``). ``plans`` chooses the bands, and what is kept between sweeps.
"""

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib import models
from dped_lib.enhance import bands, sweeps
from dped_lib.enhance.plans import Plan, norms
from dped_lib.enhance.sweeps import Strip, Sweeper

#: The value of white in bands of the photograph. bfloat16 holds integers to 255 exactly, but not multiples of 1/255.
_WHITE = 255
#: Number of strips of a sweep that computes several layers. Each strip computes rows of its neighbours again.
_STRIPS = 8


class _Streamer:
    """Stream one photograph through one network by one plan."""

    def __init__(
        self,
        model: nn.Module,
        image: np.ndarray,
        schedule: Plan,
        dtype: torch.dtype,
        device: torch.device,
        finish: Callable[[Tensor], Tensor],
        sweeper: Sweeper,
    ):
        self.model, self.image, self.schedule = model, image, schedule
        self.dtype, self.device, self.finish, self.sweeper = dtype, device, finish, sweeper
        self.height, self.width = image.shape[:2]

    # ------------------------------------------------------------------------------------ pictures, layers, memory

    def photograph(self, start: int, end: int) -> Tensor:
        """Return rows of the photograph, with values from 0 to ``_WHITE``. Rows outside it are left out."""
        full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}[self.image.dtype]
        # The copy avoids PyTorch's warning about read-only arrays.
        band = np.array(self.image[max(start, 0) : end])
        if full != _WHITE:
            band = band.astype(np.float32) * np.float32(_WHITE / full)
        return bands.as_band(torch.from_numpy(band).to(self.device))

    def buffer(self) -> Tensor:
        shape = (self.height, self.width, self.model.head.out_channels)
        if self.device.type != "cpu" or not hasattr(mmap, "MAP_PRIVATE"):
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        # The allocator would keep freed memory. mmap returns it to the system before the next photograph. Pages have
        # the default size. Large pages make later photographs a few per cent faster, but the host of a virtual
        # machine may need time to provide each of them.
        memory = mmap.mmap(-1, math.prod(shape) * self.dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return torch.frombuffer(memory, dtype=self.dtype).view(shape)

    def layer(self, conv: nn.Conv2d) -> bands.Layer:
        return bands.Layer(conv, self.dtype)

    def normed(self, conv: nn.Conv2d) -> bands.Layer:
        """Return a convolution in front of a norm.

        An instance norm removes the bias again. On a GPU adding it would cost a pass of its own, so it is omitted.
        """
        return bands.Layer(conv, self.dtype, biased=self.device.type == "cpu" or self.schedule.sweeps == 1)

    def first(self, conv: nn.Conv2d) -> bands.Layer:
        return bands.Layer(conv, self.dtype, scale=1 / _WHITE)

    def finished(self, y: Tensor) -> Tensor:
        """Return rows of the result (h x W x 3) from the last convolution's."""
        return self.finish(models.scaled_tanh(y)[0].permute(1, 2, 0))

    # ------------------------------------------------------------------------------------ two buffers

    def once(self, layer: bands.Layer, strip: Strip, pieces: Iterable[Tensor], before=bands.copy) -> Tensor:
        """Return a strip of one convolution. The pieces are the rows above it, its own, and those below."""
        conv = bands.Conv(layer, strip.end - strip.start, before, strip.top)
        for x in pieces:
            conv.add(x)
        y = conv.complete(self.width, strip.bottom)
        self.sweeper.passed(strip.end - strip.start)
        return y

    def convolved(
        self,
        layer: bands.Layer,
        target: Tensor,
        sources: Sequence[Tensor],
        join: Callable[..., Tensor] = lambda x: x,
        before: Callable[[Tensor, Tensor], None] = bands.copy,
        norm: nn.InstanceNorm2d | None = None,
    ) -> bands.Norm | None:
        """Write a convolution of the buffers to ``target``, in one sweep. Return the norm that follows, if there is one.

        ``join`` takes rows of all sources and returns the rows that ``before`` takes.
        """

        def work(strip: Strip) -> bands.Statistics:
            y = self.once(layer, strip, (join(*rows) for rows in strip.pieces(*sources)), before)
            sweeps.store(target, strip.start, y)
            statistics = bands.Statistics()
            if norm is not None:
                statistics.add(y)
            return statistics

        of_strips = list(self.sweeper.sweep(work, self.schedule.rows, layer.radius, *sources))
        return None if norm is None else bands.norm_of(of_strips, norm)

    def with_two_buffers(self) -> Iterator[Tensor]:
        """Compute one convolution a sweep. ``kept`` holds the input of a block, ``behind`` the last convolution's rows."""
        model, kept, behind = self.model, self.buffer(), self.buffer()
        head, tail = self.first(model.head), bands.Tail(model.tail, self.dtype, model.tail.bias)

        def of_head(strip: Strip) -> None:
            rows = self.photograph(strip.start - head.radius, strip.end + head.radius)
            sweeps.store(kept, strip.start, bands.relu_(self.once(head, strip, [rows])))

        list(self.sweeper.sweep(of_head, self.schedule.rows, head.radius))
        sources: tuple[Tensor, ...] = (kept,)
        known: bands.Norm | None = None

        def skip(x: Tensor, y: Tensor | None = None) -> Tensor:
            return x if y is None else x.add_(known(y))  # the next block's input overwrites this block's

        for block in model.blocks:
            known = self.convolved(self.normed(block.conv1), behind, sources, skip, norm=block.norm1)
            known = self.convolved(self.normed(block.conv2), behind, (behind,), before=known, norm=block.norm2)
            sources = (kept, behind)
        self.convolved(self.layer(model.conv1), behind, sources, skip)
        self.convolved(self.layer(model.conv2), behind, (behind,), before=bands.relu)

        def of_tail(strip: Strip) -> Tensor:
            rows = sweeps.rows(behind, max(strip.start - tail.radius, 0), strip.end + tail.radius)
            return self.finished(self.once(tail, strip, [rows], bands.relu))

        yield from self.sweeper.sweep(of_tail, self.schedule.rows, tail.radius)

    # ------------------------------------------------------------------------------------ one buffer, or none

    def long_strips(self) -> int:
        """Return the number of rows of a strip that passes several layers."""
        return -(-self.height // (_STRIPS * self.schedule.rows)) * self.schedule.rows

    def from_photograph(self, strip: Strip, radius: int) -> Iterator[tuple[Tensor, bool]]:
        """Yield a strip and the rows around it in bands, and whether each ends the picture."""
        end = min(strip.end + radius, self.height)
        for at in range(max(strip.start - radius, 0), end, self.schedule.rows):
            until = min(at + self.schedule.rows, end)
            yield self.photograph(at, until), strip.bottom and until == end
            self.sweeper.passed(max(min(until, strip.end) - max(at, strip.start), 0))

    def from_buffer(self, strip: Strip, kept: Tensor) -> Iterator[tuple[Tensor, bool]]:
        for at in range(strip.start, strip.end, self.schedule.rows):
            until = min(at + self.schedule.rows, strip.end)
            above, below = strip.above if at == strip.start else (), strip.below if until == strip.end else ()
            rows = [*above, sweeps.rows(kept, at, until), *below]
            yield torch.cat(rows, 2) if len(rows) > 1 else rows[0], strip.bottom and until == strip.end
            self.sweeper.passed(until - at)

    def conv(self, layer: bands.Layer, strip: Strip, before=bands.copy) -> bands.Conv:
        return bands.Conv(layer, self.schedule.rows, before, strip.top)

    def head(self, strip: Strip) -> Callable[[Tensor, bool], Tensor]:
        head = self.conv(self.first(self.model.head), strip)
        return lambda x, last: bands.relu_(head(x, last))

    def block(self, j: int, known: list[bands.Norm], strip: Strip) -> Callable[[Tensor, bool], Tensor]:
        """Return residual block ``j``, for which both norms are known."""
        block, delay = self.model.blocks[j], bands.Delay(0 if strip.top else 2)
        a = self.conv(self.normed(block.conv1), strip)
        b = self.conv(self.normed(block.conv2), strip, known[2 * j])

        def push(x: Tensor, last: bool) -> Tensor:
            y = b(a(x, last), last)
            return known[2 * j + 1](y).add_(delay(x, y.shape[2]))

        return push

    def to_norm(self, k: int, known: list[bands.Norm], strip: Strip) -> Callable[[Tensor, bool], Tensor]:
        """Return the path from a block's input to the input of norm ``k``, counted through the network."""
        block = self.model.blocks[k // 2]
        a = self.conv(self.normed(block.conv1), strip)
        if k % 2 == 0:
            return a
        b = self.conv(self.normed(block.conv2), strip, known[k - 1])
        return lambda x, last: b(a(x, last), last)

    def ending(self, strip: Strip) -> Callable[[Tensor, bool], Tensor]:
        model = self.model
        stages = (
            self.conv(self.layer(model.conv1), strip),
            self.conv(self.layer(model.conv2), strip, bands.relu),
            self.conv(bands.Tail(model.tail, self.dtype, model.tail.bias), strip, bands.relu),
        )

        def push(x: Tensor, last: bool) -> Tensor:
            for stage in stages:
                x = stage(x, last)
            return self.finished(x)

        return push

    def without_buffers(self) -> Iterator[Tensor]:
        all_norms, ends = norms(self.model), self.model.head.kernel_size[0] // 2
        known = [] if self.schedule.sweeps > 1 else [bands.Norm.fixed(n) for n in all_norms]
        for k in range(len(known), len(all_norms)):
            radius = ends + k + 1

            def measured(strip: Strip, k: int = k, radius: int = radius) -> bands.Statistics:
                path = [self.head(strip), *(self.block(j, known, strip) for j in range(k // 2))]
                path, statistics = [*path, self.to_norm(k, known, strip)], bands.Statistics()
                for x, last in self.from_photograph(strip, radius):
                    for part in path:
                        x = part(x, last)
                    statistics.add(x)
                return statistics

            known.append(bands.norm_of(self.sweeper.sweep(measured, self.long_strips(), radius), all_norms[k]))
        radius = 2 * ends + len(all_norms) + 2

        def enhanced(strip: Strip) -> Tensor:
            path = [self.head(strip), *(self.block(j, known, strip) for j in range(len(self.model.blocks)))]
            return self.through([*path, self.ending(strip)], self.from_photograph(strip, radius))

        yield from self.sweeper.sweep(enhanced, self.long_strips(), radius)

    @staticmethod
    def through(path: Sequence[Callable], source: Iterable[tuple[Tensor, bool]]) -> Tensor:
        """Return a strip of the result, for which the path ends in rows h x W x 3."""
        bands_of_strip = []
        for x, last in source:
            for part in path:
                x = part(x, last)
            bands_of_strip.append(x)
        return torch.cat(bands_of_strip)

    def with_one_buffer(self) -> Iterator[Tensor]:
        all_norms, kept, known = norms(self.model), self.buffer(), []
        count, ends, rows = len(self.model.blocks), self.model.head.kernel_size[0] // 2, self.long_strips()

        def advanced(strip: Strip, source, stage, k: int) -> bands.Statistics:
            """Store what the stage returns, and measure the input of norm ``k`` behind it."""
            following, statistics = self.to_norm(k, known, strip), bands.Statistics()
            at = strip.start if strip.top else strip.start - 1
            for x, last in source:
                x = stage(x, last)
                start, end = max(at, strip.start), min(at + x.shape[2], strip.end)
                if start < end:
                    # This overwrites only rows that were read already.
                    sweeps.store(kept, start, x[:, :, start - at : end - at])
                at += x.shape[2]
                statistics.add(following(x, last))
            return statistics

        def of_head(strip: Strip) -> bands.Statistics:
            return advanced(strip, self.from_photograph(strip, ends + 1), self.head(strip), 0)

        known.append(bands.norm_of(self.sweeper.sweep(of_head, rows, ends + 1), all_norms[0]))
        for j in range(count):

            def of_second(strip: Strip, j: int = j) -> bands.Statistics:
                rest, statistics = self.to_norm(2 * j + 1, known, strip), bands.Statistics()
                for x, last in self.from_buffer(strip, kept):
                    statistics.add(rest(x, last))
                return statistics

            def of_block(strip: Strip, j: int = j) -> bands.Statistics:
                return advanced(strip, self.from_buffer(strip, kept), self.block(j, known, strip), 2 * j + 2)

            known.append(bands.norm_of(self.sweeper.sweep(of_second, rows, 2, kept), all_norms[2 * j + 1]))
            if j + 1 < count:
                known.append(bands.norm_of(self.sweeper.sweep(of_block, rows, 3, kept), all_norms[2 * j + 2]))

        def of_ending(strip: Strip) -> Tensor:
            return self.through(
                [self.block(count - 1, known, strip), self.ending(strip)], self.from_buffer(strip, kept)
            )

        yield from self.sweeper.sweep(of_ending, rows, ends + 4, kept)

    def srcnn(self) -> Iterator[Tensor]:
        model = self.model
        layers = (
            self.first(model.conv1),
            self.layer(model.conv2),
            bands.Tail(model.conv3, self.dtype, model.shared_bias.expand(3)),
        )
        radius = sum(layer.radius for layer in layers)

        def enhanced(strip: Strip) -> Tensor:
            first, *others = (
                self.conv(a, strip, b) for a, b in zip(layers, (bands.copy, *2 * [bands.relu]), strict=True)
            )
            path = [first, *others, lambda y, last: self.finished(y)]
            return self.through(path, self.from_photograph(strip, radius))

        yield from self.sweeper.sweep(enhanced, self.long_strips(), radius)


@torch.inference_mode()
def stream(
    model: nn.Module,
    image: np.ndarray,
    schedule: Plan,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    tick: Callable[[int], None] = lambda rows: None,
    finish: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Iterator[Tensor]:
    """Yield the enhanced photograph in strips from top to bottom.

    Args:
        model: ``models.Generator`` or ``models.SRCNN``, in evaluation mode, float32.
        image: H x W x 3, RGB: uint8, uint16, or float32 in [0, 1].
        schedule: the plan from :func:`plans.plan` for this model, size and type.
        dtype: type of the features: float32 (exact: within 1e-4 of the whole-image pass) or bfloat16.
        device: the device that computes. Default: the CPU.
        tick: is called with the number of rows that passed a sweep. They sum to ``schedule.sweeps`` times the height.
        finish: is applied to each strip of the result by the thread that computed it.

    Yields:
        What ``finish`` returns. It gets float32 h x W x 3 on the device, in (-0.08, 1.08), unclipped.
    """
    device = device or torch.device("cpu")
    with torch.inference_mode(False):  # weights moved in inference mode could not be trained again
        model = model.to(device)
    with Sweeper(len(image), schedule.threads, tick) as sweeper:
        streamer = _Streamer(model, image, schedule, dtype, device, finish, sweeper)
        sweeps = {2: streamer.with_two_buffers, 1: streamer.with_one_buffer, 0: streamer.without_buffers}
        yield from streamer.srcnn() if isinstance(model, models.SRCNN) else sweeps[schedule.buffers]()
