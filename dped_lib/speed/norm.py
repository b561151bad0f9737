"""Instance norm and its ReLU in fewer passes over memory.

In channels-last, instance norm composed of PyTorch's operations reads and writes the features seven times forward and more
often backward. Batch norm of *one* image is instance norm, and PyTorch's batch norm is one fused pass in that layout. On a CPU
we therefore normalise one image at a time; its 100 x 100 x 64 values also stay in a core's cache between norm and ReLU. On a
GPU a loop over images would cost launches, so there the norm is composed as statistics, scale and shift, which a compiler fuses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import models

_FORWARD = torch.ops.aten.native_batch_norm.out
_BACKWARD = torch.ops.aten.native_batch_norm_backward.out


class InstanceNorm2d(nn.InstanceNorm2d):
    """``nn.InstanceNorm2d`` with ``affine=True``, in channels-last. Statistics are float32 whatever the type of the input."""

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """Return the normalised ``x``; ``relu`` applies ReLU in the same pass."""
        if fits(x, self.weight):
            return norm(x, self.weight, self.bias, self.eps, relu)
        return composed(x, self.weight, self.bias, self.eps, relu)


class ResidualBlock(models.ResidualBlock):
    """``models.ResidualBlock`` whose ReLU belongs to the norm's pass."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x), relu=True)
        return x + self.norm2(self.conv2(y), relu=True)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Return whether :func:`norm` takes ``x``: on the CPU, float32 or bfloat16, float32 weights, and no graph being traced."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and weight.dtype == torch.float32


def composed(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, relu: bool) -> Tensor:
    """Return what :func:`norm` does, composed of PyTorch's operations, on any device and for any type."""
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    variance, mean = torch.var_mean(wide, dim=(2, 3), keepdim=True, correction=0)
    scale = weight[:, None, None] * torch.rsqrt(variance + epsilon)
    shift = bias[:, None, None] - mean * scale
    y = x * scale.to(x.dtype) + shift.to(x.dtype)
    return F.relu(y) if relu else y


def norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, relu: bool) -> Tensor:
    """Return each channel of each image normalised by its own mean and biased variance, then ReLU of it if asked.

    Args:
        x: N x C x H x W for which :func:`fits`. The result has its type and is channels-last. Statistics are accumulated in
            float32; those of float32 input are accumulated over rows and then in float64.
        weight, bias: float32 vectors of C.
        epsilon: inside the square root.
    """
    return _Norm.apply(x, weight, bias, epsilon, relu)


def _statistics(one: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel of one float32 image, exact to float32's last digits.

    PyTorch's kernel adds pixels one after another. Over a whole patch that moves the output by 2e-5. Over single rows, merged
    in float64 here, it moves it by 1e-6. A port may be 1e-5 from the authors' outputs.
    """
    ignored = one.new_zeros(2, one.shape[1])
    rows = [torch.batch_norm_update_stats(row, *ignored, 1.0) for row in one.split(1, 2)]
    mean, variance = (torch.stack(found).double() for found in zip(*rows, strict=True))
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
        found = torch.empty_like(x)
        weights, biases = torch.empty_like(means), torch.empty_like(means)
        for i in range(len(x)):
            one = slice(i, i + 1)
            g = gradient[one] if y is None else torch.ops.aten.threshold_backward(gradient[one], y[one], 0)
            out = {"out0": found[one], "out1": weights[i], "out2": biases[i]}
            _BACKWARD(g, x[one], weight, None, None, means[i], rates[i], True, ctx.epsilon, [True] * 3, **out)
        return found, weights.sum(0), biases.sum(0), None, None
