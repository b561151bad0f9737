"""Compute instance norm and its ReLU in fewer passes over memory.

In channels-last layout, instance norm composed of PyTorch's operations reads and writes the features seven times
forward, and more often backward. Batch norm of *one* image is instance norm, and PyTorch's batch norm is one fused pass
in that layout. So on a CPU we normalise one image at a time. Its 100 x 100 x 64 values then stay in the cache of a core
between norm and ReLU. On a GPU, a loop over images would launch too many kernels. There the norm is composed of
statistics, scale and shift, which a compiler fuses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import models
from dped_lib.speed import convolution

_FORWARD = torch.ops.aten.native_batch_norm.out
_BACKWARD = torch.ops.aten.native_batch_norm_backward.out


class InstanceNorm2d(nn.InstanceNorm2d):
    """Compute ``nn.InstanceNorm2d(affine=True)`` in channels-last layout, with statistics in float32."""

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """Return the normalised ``x``; ``relu`` applies ReLU in the same pass."""
        if fits(x, self.weight):
            return norm(x, self.weight, self.bias, self.eps, relu)
        return composed(x, self.weight, self.bias, self.eps, relu)


class ResidualBlock(models.ResidualBlock):
    """Compute ``models.ResidualBlock`` with norm and ReLU in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        y = self.norm1(self.conv1(x), relu=True)
        return x + self.norm2(self.conv2(y), relu=True)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Return whether :func:`norm` accepts ``x``: float32 or bfloat16 on the CPU, float32 weights, and no compiler."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and weight.dtype == torch.float32


def composed(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, relu: bool) -> Tensor:
    """Return the same as :func:`norm`, composed of PyTorch's operations, on any device and for any type."""
    variance, mean = torch.var_mean(convolution.wide(x), dim=(2, 3), keepdim=True, correction=0)
    scale = weight[:, None, None] * torch.rsqrt(variance + epsilon)
    shift = bias[:, None, None] - mean * scale
    y = x * scale.to(x.dtype) + shift.to(x.dtype)
    return F.relu(y) if relu else y


def norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, relu: bool) -> Tensor:
    """Return each channel of each image, normalised by its own mean and biased variance.

    Args:
        x: N x C x H x W that meets :func:`fits`. The result has its type, in channels-last layout.
        weight, bias: float32 vectors of C values.
        epsilon: added to the variance inside the square root.
        relu: whether to apply ReLU to the result.
    """
    return _Norm.apply(x, weight, bias, epsilon, relu)


def _statistics(one: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance (C values each) of one float32 image, exact to the last digits of float32.

    PyTorch's kernel adds the pixels in float32, one after the other. Over a whole patch, the rounding changes the
    output by 2e-5, and the network may differ from the authors' by at most 1e-5. So we use the kernel for single rows
    and merge these in float64, which changes the output by 1e-6.
    """
    ignored = one.new_zeros(2, one.shape[1])
    rows = [torch.batch_norm_update_stats(row, *ignored, 1.0) for row in one.split(1, 2)]
    mean, variance = (torch.stack(of_rows).double() for of_rows in zip(*rows, strict=True))
    centre = mean.mean(0)
    return centre.float(), (variance + (mean - centre).square()).mean(0).float()


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, relu: bool) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(x)
        means, rates = x.new_empty(2, *x.shape[:2], dtype=torch.float32)
        unused = dict.fromkeys(("save_mean", "save_invstd"), x.new_empty(0, dtype=torch.float32))
        for i in range(len(x)):
            one = slice(i, i + 1)
            if x.dtype == torch.float32:
                mean, variance = _statistics(x[one])
                _FORWARD(x[one], weight, bias, mean, variance, False, 0.0, epsilon, out=y[one], **unused)
                means[i], rates[i] = mean, torch.rsqrt(variance + epsilon)
            else:
                out = {"out": y[one], "save_mean": means[i], "save_invstd": rates[i]}
                _FORWARD(x[one], weight, bias, None, None, True, 0.0, epsilon, **out)
            if relu:
                y[one].relu_()
        ctx.save_for_backward(x, y if relu else None, weight, means, rates)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        x, y, weight, means, rates = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_input = torch.empty_like(x)
        weights, biases = torch.empty_like(means), torch.empty_like(means)
        for i in range(len(x)):
            one = slice(i, i + 1)
            g = gradient[one] if y is None else torch.ops.aten.threshold_backward(gradient[one], y[one], 0)
            out = {"out0": of_input[one], "out1": weights[i], "out2": biases[i]}
            _BACKWARD(g, x[one], weight, None, None, means[i], rates[i], True, ctx.epsilon, [True] * 3, **out)
        return of_input, weights.sum(0), biases.sum(0), None, None
