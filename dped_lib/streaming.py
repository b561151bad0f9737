"""A network over a whole photograph in bounded memory, exactly: bands of rows stream through it, layer by layer.

The generator normalises each layer by the mean and variance of the *whole* image, so cutting a photograph into tiles and
enhancing each changes the picture (26 to 37 dB against the whole image, with visible seams). Here every statistic is that of the whole
image, gathered band by band and merged, and every convolution keeps the rows that the next band needs: nothing is
approximated, no row is computed twice in a sweep. What is bounded is how much is remembered between sweeps:

    2 buffers   the features before and behind a convolution stay in memory; every layer is computed once
    1 buffer    the input of a residual block stays; its layers are computed again for each statistic: 2.1 times the work
    0 buffers   only the photograph stays; each sweep starts from it: 4.6 times the work

Batch norm in evaluation and SRCNN need no statistics: one sweep, no buffer.
"""

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import models
from dped_lib.errors import DpedError

#: Bytes of one band of features: large enough to feed the cores, small enough to stay in their caches. Measured (benchmarks/README.md).
BAND_BYTES = 4 << 20
#: What bands of the photograph are scaled to: bfloat16 holds these 256 levels exactly, and multiples of 1/255 it does not.
_WHITE = 255
_MIB = 1 << 20
#: Beside bands and buffers: what oneDNN compiles and unpacks, and what the allocator cannot use.
_WORKING = 64 * _MIB


# ---------------------------------------------------------------------------------------------- stages


def _copy(x: Tensor, out: Tensor) -> None:
    out.copy_(x)


def _relu(x: Tensor, out: Tensor) -> None:
    torch.clamp_min(_bits(x), 0, out=_bits(out))


def _bits(x: Tensor) -> Tensor:
    # Where the sign bit is set, the integer of the same bits is negative, too: ReLU needs no arithmetic in bfloat16, which a CPU
    # converts to float32 and back for it. Four times as fast there.
    return x.view(torch.int16 if x.dtype.itemsize == 2 else torch.int32)


class _Conv:
    """A convolution, fed bands of rows (1 x C x h x W), that returns the rows it can: zero padding only at the picture's own edges.

    ``before`` writes what is to be convolved, a norm of the band for instance, to where the convolution reads it.
    """

    #: Columns of padding beside the rows; 0: the convolution pads.
    margin = 0

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, before: Callable[[Tensor, Tensor], None] = _copy, scale: float = 1):
        self.weight = (conv.weight.detach() * scale).to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self.radius = conv.kernel_size[0] // 2
        self.outputs = conv.out_channels
        self.before = before
        self.window: Tensor | None = None
        self.filled = self.radius  # rows of the window; at first those above the picture

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        r, new = self.radius, self.filled + x.shape[2]
        end = new + (r if last else 0)
        window = self._window(end, x)
        self.before(x, _picture(window[self.filled : new, self.margin : self.margin + x.shape[3]]))
        window[new:end] = 0
        self.filled = end
        if end <= 2 * r:
            return window.new_zeros(1, self.outputs, 0, x.shape[3])
        y = self.convolve(_picture(window[:end]))
        # The next band needs the last rows; they may overlap with where they go.
        window[: 2 * r] = window[end - 2 * r : end].clone()
        self.filled = 2 * r
        return y

    def _window(self, rows: int, x: Tensor) -> Tensor:
        if self.window is None or len(self.window) < rows:
            shape = (rows, x.shape[3] + 2 * self.margin, self.weight.shape[1])
            larger = torch.zeros(shape, dtype=self.weight.dtype, device=self.weight.device)
            if self.window is not None:
                larger[: self.filled] = self.window[: self.filled]
            self.window = larger
        return self.window

    def convolve(self, window: Tensor) -> Tensor:
        return F.conv2d(window, self.weight, self.bias, padding=(0, self.radius))


class _Tail(_Conv):
    """A convolution to few channels, float32: a column of taps to a channel of its own for each (horizontal offset, output), summed shifted.

    The same sums in another order. oneDNN is slow at three output channels, and at 27 it is not: five times as fast.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, before: Callable[[Tensor, Tensor], None], bias: Tensor):
        super().__init__(conv, dtype, before)
        self.margin = self.radius
        columns = self.weight.permute(3, 0, 1, 2).flatten(0, 1).unsqueeze(3)
        self.weight = columns.contiguous(memory_format=torch.channels_last)
        self.bias = bias.detach().view(1, -1, 1, 1)

    def convolve(self, window: Tensor) -> Tensor:
        planes = F.conv2d(window, self.weight)[0].permute(1, 2, 0).float().contiguous()
        height, width, channels = planes.shape
        taps = channels // self.outputs
        # Offset d of output o lies d columns to the right, in channel d * outputs + o.
        steps = (width * channels, channels, channels + self.outputs, 1)
        shifted = planes.as_strided((height, width - taps + 1, taps, self.outputs), steps)
        return _picture(shifted.sum(2)) + self.bias


class Statistics:
    """Mean and variance of each channel over bands, merged in float64 (Chan, Golub and LeVeque)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, None, None

    def add(self, x: Tensor) -> None:
        """Takes in 1 x C x h x W."""
        n = x.shape[2] * x.shape[3]
        if not n:
            return
        # The statistics of batch norm's training pass: in channels-last 20 times as fast as var_mean. It also wants two
        # running averages to update; nobody looks at those.
        mean, var = torch.batch_norm_update_stats(x, *x.new_zeros(2, x.shape[1], dtype=torch.float32), 1.0)
        mean, var = mean.double(), var.double()
        if self.mean is None:
            self.count, self.mean, self.squares = n, mean, var * n
            return
        total = self.count + n
        delta = mean - self.mean
        self.squares += var * n + delta.square() * (self.count * n / total)
        self.mean += delta * (n / total)
        self.count = total

    def of(self, norm: models.InstanceNorm) -> "Norm":
        """The norm with these statistics."""
        return Norm(self.mean.float(), (self.squares / self.count).float(), norm.scale, norm.shift)


@dataclass(frozen=True)
class Norm:
    """A normalisation whose statistics are known: float32 vectors of C."""

    mean: Tensor
    variance: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def fixed(cls, norm: nn.BatchNorm2d) -> "Norm":
        """Batch norm in evaluation: its running statistics."""
        return cls(norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Normalised, then ReLU, in the type of ``x``; the arithmetic is float32. ``out``: where to, if not into a new tensor."""
        out = torch.empty_like(x) if out is None else out
        # One fused pass, whatever the type: with known statistics instance norm and batch norm are the same map.
        known = (self.scale, self.shift, self.mean, self.variance)
        none = x.new_empty(0, dtype=torch.float32)
        torch.native_batch_norm(x, *known, False, 0.0, models.NORM_EPSILON, out=(out, none, none))
        _bits(out).clamp_min_(0)
        return out


def _relu_(x: Tensor) -> Tensor:
    _bits(x).clamp_min_(0)
    return x


class _Delay:
    """Holds rows back until as many come out of the path beside it."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    def __call__(self, x: Tensor, rows: int) -> Tensor:
        both = x if self.kept is None else torch.cat([self.kept, x], 2)
        self.kept = both[:, :, rows:].clone(memory_format=torch.channels_last)
        return both[:, :, :rows]


# ---------------------------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class Plan:
    """How a photograph will be enhanced.

    Attributes:
        buffers: feature buffers of the photograph's size kept between sweeps: 2, 1 or 0.
        rows: of a band.
        sweeps: times the picture streams through a part of the network.
        work: multiplications, relative to the whole-image pass.
        bytes: of memory at most, beside the process as it is and the photograph itself.
    """

    buffers: int
    rows: int
    sweeps: int
    work: float
    bytes: int

    def describe(self) -> str:
        """One line for people."""
        again = "each layer once" if self.work == 1 else f"{self.work:.1f} times the work of the unbounded pass"
        return f"{self.sweeps} sweeps in bands of {self.rows} rows, {again}, about {self.bytes / _MIB:.0f} MiB beside the photograph"


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
        # Of a block: one convolution, then two, then two more on the way to the next.
        return (ends + (5 * blocks + 2) * inner) / once
    return (sum(cost["head"] + k * inner for k in range(1, 2 * blocks + 1)) + once) / once


def plan(model: nn.Module, height: int, width: int, dtype: torch.dtype, limit: int | None = None) -> Plan:
    """The quickest way that needs at most ``limit`` bytes beside the photograph (None: no limit).

    Raises:
        DpedError: not even single rows fit; the message names the least that would do.
    """
    each = dtype.itemsize
    if isinstance(model, models.Generator):
        channels = model.head.out_channels
        statistics = isinstance(model.blocks[0].norm1, models.InstanceNorm)
        depth = len(_norms(model)) + 4
    elif isinstance(model, models.SRCNN):
        channels, statistics, depth = model.conv1.out_channels, False, 3
    else:
        raise DpedError(f"a network of kind {type(model).__name__} cannot be streamed; Generator and SRCNN can.")
    row = width * channels * each
    for buffers in (2, 1, 0) if statistics else (0,):
        # Windows that are open at a time (a residual block has two, the end three), and in one block at a time, bands in flight.
        windows = {2: 3, 1: 5, 0: depth}[buffers]
        best = min(height, max(4, BAND_BYTES // row))
        for rows in sorted({best, min(best, 4)}, reverse=True):
            # A window has the rows around a band, too, which at its widest (9x9) are eight; its last rows are copied as they move up.
            need = row * (buffers * height + windows * (rows + 8) + 5 * rows + 8 + 4 * windows) + _WORKING
            if limit is None or need <= limit:
                work = _work(model, buffers) if statistics else 1.0
                return Plan(buffers, rows, len(_norms(model)) + 1 if statistics else 1, work, need)
    raise DpedError(
        f"a photograph of {width} x {height} needs at least {need / _MIB:.0f} MiB beside itself, and {limit / _MIB:.0f} MiB are "
        "left. Allow more with --max-memory."
    )


# ---------------------------------------------------------------------------------------------- sweeps


class _Streamer:
    """One photograph, one network, one plan."""

    def __init__(
        self,
        model: nn.Module,
        image: np.ndarray,
        how: Plan,
        dtype: torch.dtype,
        device: torch.device,
        tick: Callable[[int], None],
    ):
        self.model, self.image, self.how, self.dtype, self.device, self.tick = model, image, how, dtype, device, tick
        self.height, self.width = image.shape[:2]

    def photograph(self) -> Iterator[tuple[Tensor, bool]]:
        """The photograph in bands, 0 to ``_WHITE``."""
        full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}[self.image.dtype]
        for at in range(0, self.height, self.how.rows):
            band = np.ascontiguousarray(self.image[at : at + self.how.rows])
            if full != _WHITE:
                band = band.astype(np.float32) * np.float32(_WHITE / full)
            yield _picture(torch.from_numpy(band).to(self.device)), at + self.how.rows >= self.height
            self.tick(len(band))

    def buffered(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for at in range(0, self.height, self.how.rows):
            yield (*(_rows(b, at, at + self.how.rows) for b in buffers), at + self.how.rows >= self.height)
            self.tick(min(self.how.rows, self.height - at))

    def buffer(self) -> Tensor:
        shape = (self.height, self.width, self.model.head.out_channels)
        if self.device.type != "cpu" or not hasattr(mmap, "MADV_HUGEPAGE"):
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        # Not from the allocator, which keeps what is freed: the next photograph has all the memory again. Large pages: fewer faults.
        memory = mmap.mmap(-1, math.prod(shape) * self.dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        return torch.frombuffer(memory, dtype=self.dtype).view(shape)

    def conv(self, conv: nn.Conv2d, before: Callable[[Tensor, Tensor], None] = _copy) -> _Conv:
        return _Conv(conv, self.dtype, before)

    def first(self, conv: nn.Conv2d) -> _Conv:
        return _Conv(conv, self.dtype, scale=1 / _WHITE)

    def head(self) -> Callable[[Tensor, bool], Tensor]:
        head = self.first(self.model.head)
        return lambda x, last: _relu_(head(x, last))

    # ------------------------------------------------------------------------------------ parts of the generator

    def block(self, j: int, folded: list[Norm]) -> Callable[[Tensor, bool], Tensor]:
        """Residual block ``j`` with both its norms known."""
        block, delay = self.model.blocks[j], _Delay()
        a, b = self.conv(block.conv1), self.conv(block.conv2, folded[2 * j])

        def push(x: Tensor, last: bool) -> Tensor:
            y = b(a(x, last), last)
            return folded[2 * j + 1](y).add_(delay(x, y.shape[2]))

        return push

    def to_norm(self, k: int, folded: list[Norm]) -> Callable[[Tensor, bool], Tensor]:
        """From a block's input to what its norm ``k`` (counted through the network) sees."""
        block = self.model.blocks[k // 2]
        a = self.conv(block.conv1)
        if k % 2 == 0:
            return a
        b = self.conv(block.conv2, folded[k - 1])
        return lambda x, last: b(a(x, last), last)

    def ending(self) -> Callable[[Tensor, bool], Tensor]:
        model = self.model
        stages = [self.conv(model.conv1), self.conv(model.conv2, _relu), _Tail(model.tail, self.dtype, _relu, model.tail.bias)]

        def push(x: Tensor, last: bool) -> Tensor:
            for stage in stages:
                x = stage(x, last)
            return models.scaled_tanh(x)

        return push

    # ------------------------------------------------------------------------------------ the three ways

    def without_buffers(self) -> Iterator[Tensor]:
        folded = [] if self.how.sweeps > 1 else [Norm.fixed(n) for n in _norms(self.model)]
        for k in range(len(folded), len(_norms(self.model))):
            head = self.head()
            blocks = [self.block(j, folded) for j in range(k // 2)]
            rest, found = self.to_norm(k, folded), Statistics()
            for x, last in self.photograph():
                x = head(x, last)
                for block in blocks:
                    x = block(x, last)
                found.add(rest(x, last))
            folded.append(found.of(_norms(self.model)[k]))
        head, end = self.head(), self.ending()
        blocks = [self.block(j, folded) for j in range(len(self.model.blocks))]
        for x, last in self.photograph():
            x = head(x, last)
            for block in blocks:
                x = block(x, last)
            yield end(x, last)

    def with_one_buffer(self) -> Iterator[Tensor]:
        norms, kept, folded = _norms(self.model), self.buffer(), []
        head, first, found, at = self.head(), self.to_norm(0, folded), Statistics(), 0
        for x, last in self.photograph():
            x = head(x, last)
            at = _store(kept, at, x)
            found.add(first(x, last))
        folded.append(found.of(norms[0]))
        for j in range(len(self.model.blocks)):
            rest, found = self.to_norm(2 * j + 1, folded), Statistics()
            for x, last in self.buffered(kept):
                found.add(rest(x, last))
            folded.append(found.of(norms[2 * j + 1]))
            if j + 1 == len(self.model.blocks):
                break
            block, following, found, at = self.block(j, folded), self.to_norm(2 * j + 2, folded), Statistics(), 0
            for x, last in self.buffered(kept):
                x = block(x, last)
                at = _store(kept, at, x)  # behind the rows still to be read
                found.add(following(x, last))
            folded.append(found.of(norms[2 * j + 2]))
        block, end = self.block(len(self.model.blocks) - 1, folded), self.ending()
        for x, last in self.buffered(kept):
            yield end(block(x, last), last)

    def with_two_buffers(self) -> Iterator[Tensor]:
        norms, kept, behind = _norms(self.model), self.buffer(), self.buffer()
        blocks = self.model.blocks
        head, a, found, at, below = self.head(), self.conv(blocks[0].conv1), Statistics(), 0, 0
        for x, last in self.photograph():
            x = head(x, last)
            at = _store(kept, at, x)
            y = a(x, last)
            below = _store(behind, below, y)
            found.add(y)
        for j, block in enumerate(blocks):
            b, found, below = self.conv(block.conv2, found.of(norms[2 * j])), Statistics(), 0
            for y, last in self.buffered(behind):
                y = b(y, last)
                below = _store(behind, below, y)
                found.add(y)
            known = found.of(norms[2 * j + 1])
            if j + 1 == len(blocks):
                break
            a, found, below = self.conv(blocks[j + 1].conv1), Statistics(), 0
            for x, y, last in self.buffered(kept, behind):
                y = a(x.add_(known(y)), last)  # the next block's input takes the place of this one's
                below = _store(behind, below, y)
                found.add(y)
        end = self.ending()
        for x, y, last in self.buffered(kept, behind):
            yield end(known(y).add_(x), last)

    def srcnn(self) -> Iterator[Tensor]:
        model = self.model
        first, second = self.first(model.conv1), self.conv(model.conv2, _relu)
        tail = _Tail(model.conv3, self.dtype, _relu, model.shared_bias.expand(3))
        for x, last in self.photograph():
            for stage in (first, second, tail):
                x = stage(x, last)
            yield models.scaled_tanh(x)


def _picture(rows: Tensor) -> Tensor:
    """h x W x C as a channels-last 1 x C x h x W of the same memory."""
    return rows.permute(2, 0, 1).unsqueeze(0)


def _rows(buffer: Tensor, start: int, end: int) -> Tensor:
    return _picture(buffer[start:end])


def _store(buffer: Tensor, at: int, x: Tensor) -> int:
    end = at + x.shape[2]
    _rows(buffer, at, end).copy_(x)
    return end


@torch.inference_mode()
def stream(
    model: nn.Module,
    image: np.ndarray,
    how: Plan,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    tick: Callable[[int], None] = lambda rows: None,
) -> Iterator[np.ndarray]:
    """Yields the enhanced photograph from its top to its bottom.

    Args:
        model: ``models.Generator`` or ``models.SRCNN``, in evaluation mode, float32.
        image: H x W x 3, RGB: uint8, uint16, or float32 in [0, 1].
        how: from :func:`plan`, for this model, size and type.
        dtype: of the features: float32 (exact: within 1e-4 of the whole-image pass) or bfloat16.
        tick: told the rows that went through a sweep; ``how.sweeps`` times the height in all.

    Yields:
        Float32 h x W x 3, in (-0.08, 1.08), unclipped.
    """
    device = device or torch.device("cpu")
    model = model.to(device)
    streamer = _Streamer(model, image, how, dtype, device, tick)
    if isinstance(model, models.SRCNN):
        bands = streamer.srcnn()
    else:
        bands = {2: streamer.with_two_buffers, 1: streamer.with_one_buffer, 0: streamer.without_buffers}[how.buffers]()
    for band in bands:
        if band.shape[2]:
            yield band[0].permute(1, 2, 0).cpu().numpy()
