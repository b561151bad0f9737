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

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import models
from dped_lib.errors import DpedError

#: Bytes of one band of features: large enough to feed the cores, small enough to stay in their caches. Measured (benchmarks/README.md).
BAND_BYTES = 6 << 20
_MIB = 1 << 20


# ---------------------------------------------------------------------------------------------- stages


class _Conv:
    """A convolution, fed bands of rows (1 x C x h x W), that returns the rows it can: zero padding only at the picture's own edges."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, relu: bool = False, bias: Tensor | None = None):
        self.weight = conv.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        bias = conv.bias.detach() if bias is None else bias
        self.bias = bias.to(dtype)
        self.radius = conv.kernel_size[0] // 2
        self.relu = relu
        self.kept: Tensor | None = None

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        r = self.radius
        edge = x.new_zeros(1, x.shape[1], r, x.shape[3])
        parts = [edge if self.kept is None else self.kept, x] + ([edge] if last else [])
        window = torch.cat([p.contiguous(memory_format=torch.channels_last) for p in parts], 2)
        if window.shape[2] <= 2 * r:
            self.kept = window
            return x.new_zeros(1, len(self.bias), 0, x.shape[3])
        self.kept = window[:, :, -2 * r :].clone(memory_format=torch.channels_last) if r else x[:, :, :0]
        y = self.convolve(window)
        return F.relu_(y) if self.relu else y

    def convolve(self, window: Tensor) -> Tensor:
        return F.conv2d(window, self.weight, self.bias, padding=(0, self.radius))


class _Tail(_Conv):
    """A convolution to few channels: a column of taps to one channel for each (output, horizontal offset), summed shifted.

    The same sums in another order. oneDNN is slow at three output channels, and at 27 it is not: 2.7 times as fast. In float32 whatever the
    type of the rest: it is the last layer, and what bfloat16 would round here is seen.
    """

    def __init__(self, conv: nn.Conv2d, bias: Tensor | None = None):
        super().__init__(conv, torch.float32, bias=bias)
        self.outputs, channels, taps, _ = self.weight.shape
        columns = self.weight.permute(0, 3, 1, 2).reshape(self.outputs * taps, channels, taps, 1)
        self.weight = columns.contiguous(memory_format=torch.channels_last)

    def convolve(self, window: Tensor) -> Tensor:
        width, taps = window.shape[3], 2 * self.radius + 1
        planes = F.conv2d(window, self.weight, padding=(0, self.radius)).contiguous()
        parts = planes.view(1, self.outputs, taps, -1, width + 2 * self.radius)
        return sum(parts[:, :, d, :, d : d + width] for d in range(taps)) + self.bias.view(1, -1, 1, 1)


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

    def __call__(self, x: Tensor) -> Tensor:
        """Normalised, then ReLU, in the type of ``x``; the arithmetic is float32."""
        # One fused pass, whatever the type: with known statistics instance norm and batch norm are the same map.
        y = F.batch_norm(x, self.mean, self.variance, self.scale, self.shift, eps=models.NORM_EPSILON)
        return F.relu_(y)


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
    row = width * channels
    full = height * row * each
    for buffers in (2, 1, 0) if statistics else (0,):
        # The rows that convolutions and delays keep, and the bands in flight: in, window, out, and float32 for statistics.
        standing = row * each * (4 * depth + 16) + buffers * full
        for rows in sorted(
            {min(height, max(4, BAND_BYTES // (row * each))), min(height, 16), min(height, 4)}, reverse=True
        ):
            need = standing + rows * row * (4 * each + 8) + 64 * _MIB
            if limit is None or need <= limit:
                sweeps = (
                    {2: len(_norms(model)) + 1, 1: len(_norms(model)) + 1, 0: len(_norms(model)) + 1}[buffers]
                    if statistics
                    else 1
                )
                work = _work(model, buffers) if statistics else 1.0
                return Plan(buffers, rows, sweeps, work, need)
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
        """The photograph in bands, in [0, 1]."""
        full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}[self.image.dtype]
        for at in range(0, self.height, self.how.rows):
            band = np.ascontiguousarray(self.image[at : at + self.how.rows]).astype(np.float32)
            x = torch.from_numpy(band).to(self.device).div_(full).to(self.dtype)
            yield x.permute(2, 0, 1).unsqueeze(0), at + self.how.rows >= self.height
            self.tick(len(band))

    def buffered(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        for at in range(0, self.height, self.how.rows):
            yield (*(_rows(b, at, at + self.how.rows) for b in buffers), at + self.how.rows >= self.height)
            self.tick(min(self.how.rows, self.height - at))

    def buffer(self) -> Tensor:
        return torch.empty(self.height, self.width, self.model.head.out_channels, dtype=self.dtype, device=self.device)

    def conv(self, conv: nn.Conv2d, relu: bool = False) -> _Conv:
        return _Conv(conv, self.dtype, relu)

    # ------------------------------------------------------------------------------------ parts of the generator

    def block(self, j: int, folded: list[Norm]) -> Callable[[Tensor, bool], Tensor]:
        """Residual block ``j`` with both its norms known."""
        block, a, b, delay = self.model.blocks[j], self.conv(self.model.blocks[j].conv1), None, _Delay()
        b = self.conv(block.conv2)

        def push(x: Tensor, last: bool) -> Tensor:
            y = b(folded[2 * j](a(x, last)), last)
            return folded[2 * j + 1](y).add_(delay(x, y.shape[2]))

        return push

    def to_norm(self, k: int, folded: list[Norm]) -> Callable[[Tensor, bool], Tensor]:
        """From a block's input to what its norm ``k`` (counted through the network) sees."""
        block = self.model.blocks[k // 2]
        a = self.conv(block.conv1)
        if k % 2 == 0:
            return a
        b = self.conv(block.conv2)
        return lambda x, last: b(folded[k - 1](a(x, last)), last)

    def ending(self) -> Callable[[Tensor, bool], Tensor]:
        stages = [self.conv(self.model.conv1, True), self.conv(self.model.conv2, True)]
        tail = _Tail(self.model.tail)

        def push(x: Tensor, last: bool) -> Tensor:
            for stage in stages:
                x = stage(x, last)
            return models.scaled_tanh(tail(x.float(), last))

        return push

    # ------------------------------------------------------------------------------------ the three ways

    def without_buffers(self) -> Iterator[Tensor]:
        folded = [] if self.how.sweeps > 1 else [Norm.fixed(n) for n in _norms(self.model)]
        for k in range(len(folded), len(_norms(self.model))):
            head = self.conv(self.model.head, True)
            blocks = [self.block(j, folded) for j in range(k // 2)]
            rest, found = self.to_norm(k, folded), Statistics()
            for x, last in self.photograph():
                x = head(x, last)
                for block in blocks:
                    x = block(x, last)
                found.add(rest(x, last))
            folded.append(found.of(_norms(self.model)[k]))
        head, end = self.conv(self.model.head, True), self.ending()
        blocks = [self.block(j, folded) for j in range(len(self.model.blocks))]
        for x, last in self.photograph():
            x = head(x, last)
            for block in blocks:
                x = block(x, last)
            yield end(x, last)

    def with_one_buffer(self) -> Iterator[Tensor]:
        norms, kept, folded = _norms(self.model), self.buffer(), []
        head, first, found, at = self.conv(self.model.head, True), self.to_norm(0, folded), Statistics(), 0
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
        head, a, found, at, below = self.conv(self.model.head, True), self.conv(blocks[0].conv1), Statistics(), 0, 0
        for x, last in self.photograph():
            x = head(x, last)
            at = _store(kept, at, x)
            y = a(x, last)
            below = _store(behind, below, y)
            found.add(y)
        for j, block in enumerate(blocks):
            known = found.of(norms[2 * j])
            b, found, below = self.conv(block.conv2), Statistics(), 0
            for y, last in self.buffered(behind):
                y = b(known(y), last)
                below = _store(behind, below, y)
                found.add(y)
            known = found.of(norms[2 * j + 1])
            if j + 1 == len(blocks):
                break
            a, found, at, below = self.conv(blocks[j + 1].conv1), Statistics(), 0, 0
            for x, y, last in self.buffered(kept, behind):
                x = known(y).add_(x)
                at = _store(kept, at, x)
                y = a(x, last)
                below = _store(behind, below, y)
                found.add(y)
        end = self.ending()
        for x, y, last in self.buffered(kept, behind):
            yield end(known(y).add_(x), last)

    def srcnn(self) -> Iterator[Tensor]:
        model = self.model
        stages = [
            self.conv(model.conv1, True),
            self.conv(model.conv2, True),
        ]
        tail = _Tail(model.conv3, bias=model.shared_bias.detach().expand(3))
        for x, last in self.photograph():
            for stage in stages:
                x = stage(x, last)
            yield models.scaled_tanh(tail(x.float(), last))


def _rows(buffer: Tensor, start: int, end: int) -> Tensor:
    return buffer[start:end].permute(2, 0, 1).unsqueeze(0)


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
