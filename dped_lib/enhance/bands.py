"""What a band of rows goes through: convolutions that keep the rows the next band needs, norms with known statistics, delays.

Bands are 1 x C x h x W in channels-last, from the top of a picture to its bottom (``streaming``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import models
from dped_lib.speed import convolution


def picture(rows: Tensor) -> Tensor:
    """h x W x C as a channels-last 1 x C x h x W of the same memory."""
    return rows.permute(2, 0, 1).unsqueeze(0)


def copy(x: Tensor, out: Tensor) -> None:
    """``x`` into ``out``."""
    out.copy_(x)


def relu(x: Tensor, out: Tensor) -> None:
    """ReLU of ``x`` into ``out``, both float32 or bfloat16."""
    torch.clamp_min(_bits(x), 0, out=_bits(out))


def _bits(x: Tensor) -> Tensor:
    # Where the sign bit is set, the integer of the same bits is negative, too: ReLU needs no arithmetic in bfloat16, which a CPU
    # converts to float32 and back for it. Four times as fast there.
    return x.view(torch.int16 if x.dtype.itemsize == 2 else torch.int32)


class Conv:
    """A convolution, fed bands of rows (1 x C x h x W), that returns the rows it can: zero padding only at the picture's own edges.

    ``before`` writes what is to be convolved, a norm of the band for instance, to where the convolution reads it. ``biased``: False leaves
    the bias out.
    """

    #: Columns of padding beside the rows; 0: the convolution pads.
    margin = 0

    def __init__(
        self,
        conv: nn.Conv2d,
        dtype: torch.dtype,
        before: Callable[[Tensor, Tensor], None] = copy,
        scale: float = 1,
        biased: bool = True,
    ):
        self.weight = (conv.weight.detach() * scale).to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = conv.bias.detach().to(dtype) if biased and conv.bias is not None else None
        self.radius = conv.kernel_size[0] // 2
        self.outputs = conv.out_channels
        self.before = before
        self.window: Tensor | None = None
        self.filled = self.radius  # rows of the window; at first those above the picture

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        r, new = self.radius, self.filled + x.shape[2]
        end = new + (r if last else 0)
        window = self._window(end, x)
        self.before(x, picture(window[self.filled : new, self.margin : self.margin + x.shape[3]]))
        window[new:end] = 0
        self.filled = end
        if end <= 2 * r:
            return window.new_zeros(1, self.outputs, 0, x.shape[3])
        y = self.convolve(picture(window[:end]))
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
        if window.is_cuda and window.shape[1] < convolution.FEW:
            return convolution.from_few(window, self.weight, self.bias, rows=0)
        return F.conv2d(window, self.weight, self.bias, padding=(0, self.radius))


class Tail(Conv):
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
        return picture(shifted.sum(2)) + self.bias


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

    def of(self, norm: nn.InstanceNorm2d) -> "Norm":
        """The norm with these statistics."""
        return Norm(self.mean.float(), (self.squares / self.count).float(), norm.weight, norm.bias)


@dataclass(frozen=True)
class Norm:
    """A normalisation whose statistics are known: float32 vectors of C."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fixed(cls, norm: nn.BatchNorm2d) -> "Norm":
        """Batch norm in evaluation: its running statistics."""
        return cls(norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Normalised, then ReLU, in the type of ``x``; the arithmetic is float32. ``out``: where to, if not into a new tensor."""
        out = torch.empty_like(x) if out is None else out
        if (
            x.is_cuda
        ):  # where native_batch_norm does not write to every ``out``, and one launch converts types as it goes
            scale = self.weight * torch.rsqrt(self.variance + models.NORM_EPSILON)
            shift = self.bias - self.mean * scale
            torch.addcmul(shift.view(-1, 1, 1), x, scale.view(-1, 1, 1), out=out)
        else:
            # One fused pass, whatever the type: with known statistics instance norm and batch norm are the same map.
            known = (self.weight, self.bias, self.mean, self.variance)
            none = x.new_empty(0, dtype=torch.float32)
            torch.native_batch_norm(x, *known, False, 0.0, models.NORM_EPSILON, out=(out, none, none))
        _bits(out).clamp_min_(0)
        return out


def relu_(x: Tensor) -> Tensor:
    """ReLU in place."""
    _bits(x).clamp_min_(0)
    return x


class Delay:
    """Holds rows back until as many come out of the path beside it."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    def __call__(self, x: Tensor, rows: int) -> Tensor:
        both = x if self.kept is None else torch.cat([self.kept, x], 2)
        self.kept = both[:, :, rows:].clone(memory_format=torch.channels_last)
        return both[:, :, :rows]
