"""Process a picture in bands of rows: convolutions that keep the rows of the last band, norms, and delays.

A band is 1 x C x h x W in channels-last memory. Bands come in order from the top of a picture to its bottom
(``bounded_memory``).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import models, speed
from dped_lib.speed import convolution, rectify, winograd


def as_band(rows: Tensor) -> Tensor:
    """Return rows (h x W x C) as a channels-last band (1 x C x h x W) that shares their memory."""
    return rows.permute(2, 0, 1).unsqueeze(0)


def copy(x: Tensor, out: Tensor) -> None:
    """Write ``x`` to ``out``."""
    out.copy_(x)


def relu(x: Tensor, out: Tensor) -> None:
    """Write the ReLU of ``x`` to ``out``, which may be ``x``. Both are float32, or both are bfloat16."""
    if speed.enabled():
        rectify.relu(x, out)
    else:
        torch.clamp_min(x, 0, out=out)


class Layer:
    """Hold the weights of a convolution for bands of rows. Threads share it.

    Args:
        conv: the convolution.
        dtype: type of the arithmetic.
        scale: factor on the weights.
        biased: False omits the bias.
    """

    #: Columns of padding at each side of the stored rows. With 0 the convolution pads.
    margin = 0

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, scale: float = 1, biased: bool = True):
        weight = conv.weight.detach() * scale
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = conv.bias.detach().to(dtype) if biased and conv.bias is not None else None
        self.radius = conv.kernel_size[0] // 2
        self.outputs = conv.out_channels
        self.few = speed.enabled() and conv.in_channels < convolution.FEW
        self.kernels = winograd.kernels(weight) if speed.enabled() and winograd.fits(weight, dtype) else None

    def convolve(self, window: Tensor) -> Tensor:
        """Convolve the rows of the window (1 x C x h x W) without padding above and below."""
        if window.is_cuda and self.few:
            return convolution.from_few(window, self.weight, self.bias, rows=0)
        if self.kernels is None:
            return self._directly(window)
        rows, height = window[0].permute(1, 2, 0), window.shape[2] - 2
        fast = height - height % winograd.GROUP
        out = rows.new_empty(height, rows.shape[1], self.outputs)
        if fast:
            winograd.convolve(rows[: fast + 2], self.kernels, self.bias, out[:fast])
        if fast < height:
            as_band(out[fast:]).copy_(self._directly(window[:, :, fast:]))
        return as_band(out)

    def _directly(self, window: Tensor) -> Tensor:
        return F.conv2d(window, self.weight, self.bias, padding=(0, self.radius))


class Tail(Layer):
    """Hold a convolution to few output channels. Its result is float32.

    A convolution with a column of taps has one channel for each pair of a horizontal offset and an output. Then the
    channels of an output are shifted by their offsets and summed. The sums are the same in another order. oneDNN is
    slow for 3 output channels and fast for 27, so this is three to five times as fast.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, bias: Tensor):
        super().__init__(conv, dtype)
        self.margin = self.radius
        self.quick = speed.enabled()
        if self.quick:
            self.weight = convolution.column_kernels(self.weight).contiguous(memory_format=torch.channels_last)
        self.bias = bias.detach().view(1, -1, 1, 1)

    def convolve(self, window: Tensor) -> Tensor:
        """Convolve the rows of the window (1 x C x h x W, padded at the sides)."""
        if not self.quick:
            return F.conv2d(window, self.weight).float() + self.bias
        planes = F.conv2d(window, self.weight)[0].permute(1, 2, 0).float().contiguous()
        height, width, channels = planes.shape
        taps = channels // self.outputs
        # The summand of offset d for output o is d columns to the right, in channel d * outputs + o.
        steps = (width * channels, channels, channels + self.outputs, 1)
        shifted = planes.as_strided((height, width - taps + 1, taps, self.outputs), steps)
        return as_band(shifted.sum(2)) + self.bias


class Conv:
    """Convolve a picture, or a strip of its rows, band by band. Each call returns the rows that are complete by then.

    The padding with zeros applies only at the edges of the picture, as in the convolution of the whole picture.

    Args:
        layer: the weights.
        rows: number of rows of a band, for which memory is reserved.
        before: writes the input of the convolution, for instance the norm of a band, to a given tensor.
        top: whether the first band begins at the top of the picture.
    """

    def __init__(
        self, layer: Layer, rows: int, before: Callable[[Tensor, Tensor], None] = copy, top: bool = True
    ) -> None:
        self.layer, self.before = layer, before
        self.rows = rows + 3 * layer.radius
        self.window: Tensor | None = None
        self.filled = layer.radius if top else 0  # filled rows of the window; at first the zeros above the picture
        self.used = 0  # rows at the top of the window that no later row needs

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        """Add the band ``x`` and return the rows that are complete. ``last``: whether it ends the picture."""
        self.add(x)
        return self.complete(x.shape[3], last)

    def add(self, x: Tensor) -> None:
        """Add the band ``x``."""
        if self.used:
            kept = self.filled - self.used
            # The clone is needed because source and destination may overlap.
            self.window[:kept] = self.window[self.used : self.filled].clone()
            self.filled, self.used = kept, 0
        new, margin = self.filled + x.shape[2], self.layer.margin
        window = self._window(new + self.layer.radius, x.shape[3])
        self.before(x, as_band(window[self.filled : new, margin : margin + x.shape[3]]))
        self.filled = new

    def complete(self, width: int, last: bool) -> Tensor:
        """Return the rows that are complete. ``last``: whether the bands so far end the picture."""
        r, end = self.layer.radius, self.filled + (self.layer.radius if last else 0)
        window = self._window(end, width)
        window[self.filled : end] = 0
        self.filled = end
        if end <= 2 * r:
            return window.new_zeros(1, self.layer.outputs, 0, width)
        self.used = end - 2 * r
        return self.layer.convolve(as_band(window[:end]))

    def _window(self, rows: int, width: int) -> Tensor:
        if self.window is None or len(self.window) < rows:
            weight, margin = self.layer.weight, self.layer.margin
            larger = weight.new_empty(max(rows, self.rows), width + 2 * margin, weight.shape[1])
            larger[: self.filled] = 0 if self.window is None else self.window[: self.filled]
            if margin:
                larger[:, :margin] = larger[:, -margin:] = 0
            self.window = larger
        return self.window


class Statistics:
    """Compute mean and variance of each channel over all bands, merged in float64 (Chan, Golub and LeVeque)."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.moments: list[tuple[Tensor, Tensor]] = []

    def add(self, x: Tensor) -> None:
        """Add a band (1 x C x h x W)."""
        if not (n := x.shape[2] * x.shape[3]):
            return
        self.counts.append(n)
        if speed.enabled():
            # In channels-last this function of batch norm's training is 20 times as fast as var_mean. It also updates
            # two running averages, which are not used here.
            unused = x.new_zeros(2, x.shape[1], dtype=torch.float32)
            self.moments.append(torch.batch_norm_update_stats(x, *unused, 1.0))
        else:
            variance, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
            self.moments.append((mean, variance))

    def extend(self, others: Iterable["Statistics"]) -> "Statistics":
        """Add the bands of others, and return these statistics."""
        for other in others:
            self.counts += other.counts
            self.moments += other.moments
        return self

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of each channel over all bands, in float64."""
        means, variances = (torch.stack(of_bands).double() for of_bands in zip(*self.moments, strict=True))
        shares = means.new_tensor(self.counts).unsqueeze(1) / sum(self.counts)
        mean = (shares * means).sum(0)
        return mean, (shares * (variances + (means - mean).square())).sum(0)

    def of(self, norm: nn.InstanceNorm2d) -> "Norm":
        """Return the norm with these statistics."""
        mean, variance = self.merged()
        return Norm(mean.float(), variance.float(), norm.weight, norm.bias)


def norm_of(of_strips: Iterable[Statistics], norm: nn.InstanceNorm2d) -> "Norm":
    """Return the norm with the statistics of several parts of a picture."""
    return Statistics().extend(of_strips).of(norm)


@dataclass(frozen=True)
class Norm:
    """Normalise with known statistics and apply ReLU. The attributes are float32 vectors of C values."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fixed(cls, norm: nn.BatchNorm2d) -> "Norm":
        """Return a batch norm in evaluation mode, which uses its running statistics."""
        return cls(norm.running_mean, norm.running_var, norm.weight, norm.bias)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Normalise ``x`` in float32 arithmetic and apply ReLU.

        The result has the type of ``x``. It is written to ``out``, or to a new tensor.
        """
        out = torch.empty_like(x) if out is None else out
        if not speed.enabled():
            mean, variance, weight, bias = (
                v.view(-1, 1, 1) for v in (self.mean, self.variance, self.weight, self.bias)
            )
            out.copy_((x.float() - mean) * torch.rsqrt(variance + models.NORM_EPSILON) * weight + bias)
        elif x.is_cuda:
            # On a GPU native_batch_norm does not write to every ``out``. addcmul converts the types in one launch.
            scale = self.weight * torch.rsqrt(self.variance + models.NORM_EPSILON)
            shift = self.bias - self.mean * scale
            torch.addcmul(shift.view(-1, 1, 1), x, scale.view(-1, 1, 1), out=out)
        else:
            # With known statistics instance norm and batch norm are the same map, so one fused pass serves both.
            known = (self.weight, self.bias, self.mean, self.variance)
            none = x.new_empty(0, dtype=torch.float32)
            torch.native_batch_norm(x, *known, False, 0.0, models.NORM_EPSILON, out=(out, none, none))
        return relu_(out)


def relu_(x: Tensor) -> Tensor:
    """Apply ReLU in place."""
    relu(x, x)
    return x


class Delay:
    """Hold rows back until the parallel path has as many rows ready.

    Args:
        skipped: number of rows at the beginning that the parallel path does not return.
    """

    def __init__(self, skipped: int = 0) -> None:
        self.skipped = skipped
        self.kept: Tensor | None = None

    def __call__(self, x: Tensor, rows: int) -> Tensor:
        """Add the band ``x`` and return the oldest ``rows`` rows."""
        skipped = min(self.skipped, x.shape[2])
        self.skipped -= skipped
        x = x[:, :, skipped:]
        both = x if self.kept is None else torch.cat([self.kept, x], 2)
        self.kept = both[:, :, rows:].clone(memory_format=torch.channels_last)
        return both[:, :, :rows]
