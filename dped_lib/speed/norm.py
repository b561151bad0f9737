"""Instance norm and its activation on a CPU, an image at a time: the composed form's numbers in a fraction of its passes over memory.

Composed of PyTorch's operations, an instance norm in channels-last reads and writes the features seven times forward and more
backward, and ``var_mean`` alone took a tenth of an iteration. Batch norm of *one* image is instance norm, and PyTorch's
kernel for it is fused and quick in that layout. One image of 100 x 100 x 64 also stays in a core's cache from its norm to its
activation. On a GPU a loop over images would be launches; there the composed form stays (:class:`models.InstanceNorm`).
"""

import torch
from torch import Tensor

_FORWARD = torch.ops.aten.native_batch_norm.out
_BACKWARD = torch.ops.aten.native_batch_norm_backward.out


def fits(x: Tensor, scale: Tensor) -> bool:
    """Whether :func:`norm` takes these: on the CPU, float32 or bfloat16, with float32 scale and shift, and not for a graph
    that is traced (``dped export``)."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and scale.dtype == torch.float32


def _statistics(one: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of one float32 image, as exact as sums in float64 to float32's last digits.

    The kernel adds pixels one after another: over a whole patch that moves the output by 2e-5, over single rows, merged in
    float64 here, by 1e-6. (The authors' own outputs are up to 9e-6 from the exact ones, and a port may be 1e-5 from them.)
    """
    ignored = one.new_zeros(2, one.shape[1])
    rows = [torch.batch_norm_update_stats(row, *ignored, 1.0) for row in one.split(1, 2)]
    mean, variance = (torch.stack(found).double() for found in zip(*rows, strict=True))
    centre = mean.mean(0)
    return centre.float(), (variance + (mean - centre).square()).mean(0).float()


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, shift: Tensor, epsilon: float, relu: bool) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.empty_like(x)
        means, rates = x.new_empty(2, *x.shape[:2], dtype=torch.float32)
        unused = dict.fromkeys(("save_mean", "save_invstd"), x.new_empty(0, dtype=torch.float32))
        for i in range(len(x)):
            one = slice(i, i + 1)
            if x.dtype == torch.float32:
                mean, variance = _statistics(x[one])
                _FORWARD(x[one], scale, shift, mean, variance, False, 0.0, epsilon, out=y[one], **unused)
                means[i], rates[i] = mean, torch.rsqrt(variance + epsilon)
            else:
                out = {"out": y[one], "save_mean": means[i], "save_invstd": rates[i]}
                _FORWARD(x[one], scale, shift, None, None, True, 0.0, epsilon, **out)
            if relu:
                y[one].relu_()
        ctx.save_for_backward(x, y if relu else None, scale, means, rates)
        ctx.epsilon = epsilon
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        x, y, scale, means, rates = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        found = torch.empty_like(x)
        scales, shifts = torch.empty_like(means), torch.empty_like(means)
        for i in range(len(x)):
            one = slice(i, i + 1)
            g = gradient[one] if y is None else torch.ops.aten.threshold_backward(gradient[one], y[one], 0)
            out = {"out0": found[one], "out1": scales[i], "out2": shifts[i]}
            _BACKWARD(g, x[one], scale, None, None, means[i], rates[i], True, ctx.epsilon, [True] * 3, **out)
        return found, scales.sum(0), shifts.sum(0), None, None


def norm(x: Tensor, scale: Tensor, shift: Tensor, epsilon: float, relu: bool) -> Tensor:
    """Each channel of each image by its own mean and biased variance, scaled and shifted, then ReLU if asked.

    Args:
        x: N x C x H x W for which :func:`fits`; the result is of its type and channels-last. Statistics are accumulated in float32,
            those of float32 input over rows and then in float64.
        scale, shift: float32 vectors of C.
        epsilon: inside the square root.
    """
    return _Norm.apply(x, scale, shift, epsilon, relu)
