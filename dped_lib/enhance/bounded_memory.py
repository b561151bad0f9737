"""Apply a network to a whole photograph exactly, in bounded memory: bands of rows stream through it layer by layer.

The generator normalises each layer by the mean and variance of the *whole* image. Enhancing tiles one by one therefore
changes the picture (26 to 37 dB against the whole image, with visible seams). Here the statistics of the whole image
are computed band by band and merged. Every convolution keeps the rows that the next band needs. Nothing is
approximated, and no row is computed twice in a sweep. The plan bounds how many features are kept between sweeps:

    2 buffers   keep the features before and after a convolution; every layer is computed once
    1 buffer    keep the input of a residual block; its layers are recomputed for each statistic: 2.1 times the work
    0 buffers   keep only the photograph; each sweep starts from it: 4.6 times the work

Batch norm in evaluation mode and SRCNN need no statistics. One sweep without a buffer is enough for them.
"""

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib import models
from dped_lib.base.errors import DpedError
from dped_lib.enhance import bands

#: Bytes of one band of features. The band keeps all cores busy and fits their caches. Measured (benchmarks/README.md).
BAND_BYTES = 4 << 20
#: The same on a GPU, where each operation on each band costs a launch, so larger bands are faster.
GPU_BAND_BYTES = 256 << 20
#: The value of white in bands of the photograph. bfloat16 holds integers to 255 exactly, but not multiples of 1/255.
_WHITE = 255
_MIB = 1 << 20
#: Memory beside bands and buffers: kernels and unpacked weights of oneDNN, and what the allocator cannot use.
_WORKING = 64 * _MIB
#: The same on a GPU: the workspace of cuDNN.
_GPU_WORKING = 1024 * _MIB


# ---------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class Plan:
    """Describe how a photograph will be enhanced.

    Attributes:
        buffers: number of feature buffers of the photograph's size that are kept between sweeps: 2, 1 or 0.
        rows: number of rows of a band.
        sweeps: how often the picture streams through a part of the network.
        work: number of multiplications, relative to the whole-image pass.
        bytes: largest memory in bytes, beside the present process and the photograph.
    """

    buffers: int
    rows: int
    sweeps: int
    work: float
    bytes: int

    def describe(self) -> str:
        """Return the plan in one readable line."""
        again = "each layer once" if self.work == 1 else f"{self.work:.1f} times the work of the unbounded pass"
        memory = f"about {self.bytes / _MIB:.0f} MiB beside the photograph"
        return f"{self.sweeps} sweeps in bands of {self.rows} rows, {again}, {memory}"


def _norms(model: nn.Module) -> list[nn.Module]:
    return [n for block in getattr(model, "blocks", ()) for n in (block.norm1, block.norm2)]


def _work(model: models.Generator, buffers: int) -> float:
    cost = {name: conv.weight.numel() for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d)}
    ends, inner = cost["head"] + cost["tail"], cost["conv1"]
    blocks = len(model.blocks)
    once = ends + (2 * blocks + 2) * inner
    if buffers == 2:
        return 1.0
    if buffers == 1:
        # A block computes one convolution for its first norm, two for its second, and two again for its output.
        return (ends + (5 * blocks + 2) * inner) / once
    return (sum(cost["head"] + k * inner for k in range(1, 2 * blocks + 1)) + once) / once


def plan(
    model: nn.Module, height: int, width: int, dtype: torch.dtype, limit: int | None = None, on_gpu: bool = False
) -> Plan:
    """Return the fastest plan that needs at most ``limit`` bytes beside the photograph (None: no limit).

    Args:
        model: ``models.Generator`` or ``models.SRCNN``.
        height: of the photograph, in pixels.
        width: of the photograph, in pixels.
        dtype: type of the features.
        limit: bytes of memory.
        on_gpu: choose bands for a GPU, and count its memory.

    Raises:
        DpedError: even the smallest bands do not fit. The message names the memory that they need.
    """
    each = dtype.itemsize
    if isinstance(model, models.Generator):
        channels = model.head.out_channels
        needs_statistics = isinstance(model.blocks[0].norm1, nn.InstanceNorm2d)
        depth = len(_norms(model)) + 4
    elif isinstance(model, models.SRCNN):
        channels, needs_statistics, depth = model.conv1.out_channels, False, 3
    else:
        raise DpedError(f"a network of kind {type(model).__name__} cannot be streamed; Generator and SRCNN can.")
    row = width * channels * each
    band, working = (GPU_BAND_BYTES, _GPU_WORKING) if on_gpu else (BAND_BYTES, _WORKING)
    for buffers in (2, 1, 0) if needs_statistics else (0,):
        # Convolutions that hold a window at a time. A residual block has two of them and the end of the network three.
        windows = {2: 3, 1: 5, 0: depth}[buffers]
        best = min(height, max(4, band // row))
        for rows in sorted({best, min(best, max(4, best // 8)), min(best, 4)}, reverse=True):
            # A window also holds the rows around a band: 8 for the largest kernel (9x9). Moving them up copies them.
            need = row * (buffers * height + windows * (rows + 8) + 5 * rows + 8 + 4 * windows) + working
            if limit is None or need <= limit:
                work = _work(model, buffers) if needs_statistics else 1.0
                return Plan(buffers, rows, len(_norms(model)) + 1 if needs_statistics else 1, work, need)
    if limit > 0:
        left = f"{limit / _MIB:.0f} MiB are left"
    else:
        left = f"the rest of the process takes {-limit / _MIB:.0f} MiB too many"
    raise DpedError(
        f"a photograph of {width} x {height} needs at least {need / _MIB:.0f} MiB beside itself, and {left}. "
        "Allow more with --max-memory."
    )


# ---------------------------------------------------------------------------------------------- sweeps


class _Streamer:
    """Stream one photograph through one network by one plan."""

    def __init__(
        self,
        model: nn.Module,
        image: np.ndarray,
        schedule: Plan,
        dtype: torch.dtype,
        device: torch.device,
        tick: Callable[[int], None],
    ):
        self.model, self.image, self.schedule = model, image, schedule
        self.dtype, self.device, self.tick = dtype, device, tick
        self.height, self.width = image.shape[:2]

    def photograph(self) -> Iterator[tuple[Tensor, bool]]:
        """Yield the bands of the photograph, with values from 0 to ``_WHITE``, and whether each is the last."""
        full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}[self.image.dtype]
        for at in range(0, self.height, self.schedule.rows):
            # The copy avoids PyTorch's warning about read-only arrays.
            band = np.array(self.image[at : at + self.schedule.rows])
            if full != _WHITE:
                band = band.astype(np.float32) * np.float32(_WHITE / full)
            yield bands.picture(torch.from_numpy(band).to(self.device)), at + self.schedule.rows >= self.height
            self.tick(len(band))

    def buffered(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for at in range(0, self.height, self.schedule.rows):
            yield (*(_rows(b, at, at + self.schedule.rows) for b in buffers), at + self.schedule.rows >= self.height)
            self.tick(min(self.schedule.rows, self.height - at))

    def buffer(self) -> Tensor:
        shape = (self.height, self.width, self.model.head.out_channels)
        if self.device.type != "cpu" or not hasattr(mmap, "MAP_PRIVATE"):
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        # The allocator would keep freed memory. mmap returns it to the system before the next photograph. Pages have
        # the default size. Large pages make later photographs a few per cent faster, but the host of a virtual
        # machine may need time to provide each of them.
        memory = mmap.mmap(-1, math.prod(shape) * self.dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return torch.frombuffer(memory, dtype=self.dtype).view(shape)

    def conv(self, conv: nn.Conv2d, before: Callable[[Tensor, Tensor], None] = bands.copy) -> bands.Conv:
        return bands.Conv(conv, self.dtype, before)

    def normed(self, conv: nn.Conv2d, before: Callable[[Tensor, Tensor], None] = bands.copy) -> bands.Conv:
        """Return a convolution in front of a norm.

        An instance norm removes the bias again. On a GPU adding it would cost a pass of its own, so it is omitted.
        """
        biased = self.device.type == "cpu" or self.schedule.sweeps == 1
        return bands.Conv(conv, self.dtype, before, biased=biased)

    def first(self, conv: nn.Conv2d) -> bands.Conv:
        return bands.Conv(conv, self.dtype, scale=1 / _WHITE)

    def head(self) -> Callable[[Tensor, bool], Tensor]:
        head = self.first(self.model.head)
        return lambda x, last: bands.relu_(head(x, last))

    # ------------------------------------------------------------------------------------ parts of the generator

    def block(self, j: int, folded: list[bands.Norm]) -> Callable[[Tensor, bool], Tensor]:
        """Return residual block ``j``, for which both norms are known."""
        block, delay = self.model.blocks[j], bands.Delay()
        a, b = self.normed(block.conv1), self.normed(block.conv2, folded[2 * j])

        def push(x: Tensor, last: bool) -> Tensor:
            y = b(a(x, last), last)
            return folded[2 * j + 1](y).add_(delay(x, y.shape[2]))

        return push

    def to_norm(self, k: int, folded: list[bands.Norm]) -> Callable[[Tensor, bool], Tensor]:
        """Return the path from a block's input to the input of norm ``k``, counted through the network."""
        block = self.model.blocks[k // 2]
        a = self.normed(block.conv1)
        if k % 2 == 0:
            return a
        b = self.normed(block.conv2, folded[k - 1])
        return lambda x, last: b(a(x, last), last)

    def ending(self) -> Callable[[Tensor, bool], Tensor]:
        model = self.model
        stages = [
            self.conv(model.conv1),
            self.conv(model.conv2, bands.relu),
            bands.Tail(model.tail, self.dtype, bands.relu, model.tail.bias),
        ]

        def push(x: Tensor, last: bool) -> Tensor:
            for stage in stages:
                x = stage(x, last)
            return models.scaled_tanh(x)

        return push

    # ------------------------------------------------------------------------------------ the three plans

    def without_buffers(self) -> Iterator[Tensor]:
        folded = [] if self.schedule.sweeps > 1 else [bands.Norm.fixed(n) for n in _norms(self.model)]
        for k in range(len(folded), len(_norms(self.model))):
            head = self.head()
            blocks = [self.block(j, folded) for j in range(k // 2)]
            rest, statistics = self.to_norm(k, folded), bands.Statistics()
            for x, last in self.photograph():
                x = head(x, last)
                for block in blocks:
                    x = block(x, last)
                statistics.add(rest(x, last))
            folded.append(statistics.of(_norms(self.model)[k]))
        head, end = self.head(), self.ending()
        blocks = [self.block(j, folded) for j in range(len(self.model.blocks))]
        for x, last in self.photograph():
            x = head(x, last)
            for block in blocks:
                x = block(x, last)
            yield end(x, last)

    def with_one_buffer(self) -> Iterator[Tensor]:
        norms, kept, folded = _norms(self.model), self.buffer(), []
        head, first, statistics, at = self.head(), self.to_norm(0, folded), bands.Statistics(), 0
        for x, last in self.photograph():
            x = head(x, last)
            at = _store(kept, at, x)
            statistics.add(first(x, last))
        folded.append(statistics.of(norms[0]))
        for j in range(len(self.model.blocks)):
            rest, statistics = self.to_norm(2 * j + 1, folded), bands.Statistics()
            for x, last in self.buffered(kept):
                statistics.add(rest(x, last))
            folded.append(statistics.of(norms[2 * j + 1]))
            if j + 1 == len(self.model.blocks):
                break
            block, following = self.block(j, folded), self.to_norm(2 * j + 2, folded)
            statistics, at = bands.Statistics(), 0
            for x, last in self.buffered(kept):
                x = block(x, last)
                at = _store(kept, at, x)  # overwrites only rows that were read already
                statistics.add(following(x, last))
            folded.append(statistics.of(norms[2 * j + 2]))
        block, end = self.block(len(self.model.blocks) - 1, folded), self.ending()
        for x, last in self.buffered(kept):
            yield end(block(x, last), last)

    def with_two_buffers(self) -> Iterator[Tensor]:
        norms, kept, behind = _norms(self.model), self.buffer(), self.buffer()
        blocks = self.model.blocks
        head, a, statistics, at, below = self.head(), self.normed(blocks[0].conv1), bands.Statistics(), 0, 0
        for x, last in self.photograph():
            x = head(x, last)
            at = _store(kept, at, x)
            y = a(x, last)
            below = _store(behind, below, y)
            statistics.add(y)
        for j, block in enumerate(blocks):
            b, statistics, below = self.normed(block.conv2, statistics.of(norms[2 * j])), bands.Statistics(), 0
            for y, last in self.buffered(behind):
                y = b(y, last)
                below = _store(behind, below, y)
                statistics.add(y)
            known = statistics.of(norms[2 * j + 1])
            if j + 1 == len(blocks):
                break
            a, statistics, below = self.normed(blocks[j + 1].conv1), bands.Statistics(), 0
            for x, y, last in self.buffered(kept, behind):
                y = a(x.add_(known(y)), last)  # the next block's input overwrites this block's
                below = _store(behind, below, y)
                statistics.add(y)
        end = self.ending()
        for x, y, last in self.buffered(kept, behind):
            yield end(known(y).add_(x), last)

    def srcnn(self) -> Iterator[Tensor]:
        model = self.model
        first, second = self.first(model.conv1), self.conv(model.conv2, bands.relu)
        tail = bands.Tail(model.conv3, self.dtype, bands.relu, model.shared_bias.expand(3))
        for x, last in self.photograph():
            for stage in (first, second, tail):
                x = stage(x, last)
            yield models.scaled_tanh(x)


def _rows(buffer: Tensor, start: int, end: int) -> Tensor:
    return bands.picture(buffer[start:end])


def _store(buffer: Tensor, at: int, x: Tensor) -> int:
    end = at + x.shape[2]
    _rows(buffer, at, end).copy_(x)
    return end


@torch.inference_mode()
def stream(
    model: nn.Module,
    image: np.ndarray,
    schedule: Plan,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    tick: Callable[[int], None] = lambda rows: None,
) -> Iterator[Tensor]:
    """Yield the enhanced photograph in bands from top to bottom.

    Args:
        model: ``models.Generator`` or ``models.SRCNN``, in evaluation mode, float32.
        image: H x W x 3, RGB: uint8, uint16, or float32 in [0, 1].
        schedule: the plan from :func:`plan` for this model, size and type.
        dtype: type of the features: float32 (exact: within 1e-4 of the whole-image pass) or bfloat16.
        device: the device that computes. Default: the CPU.
        tick: is called with the number of rows that passed a sweep. They sum to ``schedule.sweeps`` times the height.

    Yields:
        Float32 h x W x 3 on the device, in (-0.08, 1.08), unclipped.
    """
    device = device or torch.device("cpu")
    with torch.inference_mode(False):  # weights moved in inference mode could not be trained again
        model = model.to(device)
    streamer = _Streamer(model, image, schedule, dtype, device, tick)
    if isinstance(model, models.SRCNN):
        sweep = streamer.srcnn()
    else:
        sweeps = {2: streamer.with_two_buffers, 1: streamer.with_one_buffer, 0: streamer.without_buffers}
        sweep = sweeps[schedule.buffers]()
    for band in sweep:
        if band.shape[2]:
            yield band[0].permute(1, 2, 0)
