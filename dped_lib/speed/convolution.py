"""Compute convolutions and linear layers with few channels.

The tensor cores of a GPU need channel counts divisible by 8, so a 9x9 layer with three channels uses a third of them.
Summed in another order it is a 9x1 layer with 27 channels. A layer with few outputs ends a network, and scores compare
its result, so it returns at least float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Layers with fewer channels than this are computed in the other order.
FEW = 8
_MULTIPLE = 8  # a GPU's tensor cores need numbers of channels that are divisible by this


def wide(x: Tensor) -> Tensor:
    """Return ``x`` in at least float32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def has_few(layer: nn.Module) -> bool:
    """Return whether a layer has a quick form here.

    A linear layer needs few outputs. A convolution needs few inputs or outputs, stride 1, and padding that keeps the
    size.
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features < FEW
    if min(layer.in_channels, layer.out_channels) >= FEW:
        return False
    k = layer.kernel_size[0]
    same = layer.kernel_size == (k, k) and layer.padding == (k // 2, k // 2) and layer.padding_mode == "zeros"
    return k % 2 == 1 and same and layer.stride == layer.dilation == (1, 1) and layer.groups == 1


class Conv2d(nn.Conv2d):
    """Compute an ``nn.Conv2d`` that meets :func:`has_few`, in a quicker order on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution; if it has few outputs, in at least float32."""
        if x.is_cuda and self.in_channels < FEW:
            y = from_few(x, self.weight, self.bias, self.padding[0])
        elif x.is_cuda:
            y = to_few(x, self.weight, self.bias)
        else:
            y = super().forward(x)
        return wide(y) if self.out_channels < FEW else y


class Linear(nn.Linear):
    """Compute an ``nn.Linear`` with few outputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs in at least float32."""
        return wide(super().forward(x))


def from_few(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    """Return ``F.conv2d(x, weight, bias, padding=(rows, k // 2))`` for few input channels.

    Three channels, shifted by each of nine horizontal offsets, become the 27 channels of a 9x1 layer.
    """
    k, width = weight.shape[3], x.shape[3]
    padded = F.pad(x, (k // 2, k // 2))
    shifted = torch.cat([padded[..., d : d + width] for d in range(k)], 1)
    weight = weight.permute(0, 3, 1, 2).flatten(1, 2).unsqueeze(3)  # channel c at offset d is channel d * C + c
    more = -shifted.shape[1] % _MULTIPLE
    shifted, weight = (F.pad(t, (0, 0, 0, 0, 0, more)) for t in (shifted, weight))
    shifted, weight = (t.contiguous(memory_format=torch.channels_last) for t in (shifted, weight))
    return F.conv2d(shifted, weight, bias, padding=(rows, 0))


def column_kernels(weight: Tensor) -> Tensor:
    """Return one kernel (C x k x 1) for each horizontal offset and output of a weight (O x C x k x k).

    Output o at offset d is number d * O + o.
    """
    return weight.permute(3, 0, 1, 2).flatten(0, 1).unsqueeze(3)


def to_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``F.conv2d(x, weight, bias, padding=k // 2)`` for few output channels, in at least float32.

    A column of taps computes one channel for each horizontal offset and output. These channels are then shifted and
    added. ``enhance.bands.Tail`` does the same for bands, on any device.
    """
    out, _, k, _ = weight.shape
    weight = F.pad(column_kernels(weight), (0, 0, 0, 0, 0, 0, 0, -k * out % _MULTIPLE)).contiguous(
        memory_format=torch.channels_last
    )
    planes = wide(F.pad(F.conv2d(x, weight, padding=(k // 2, 0)), (k // 2, k // 2)))
    y = sum(planes[:, d * out : (d + 1) * out, :, d : d + x.shape[3]] for d in range(k))
    return y if bias is None else y + bias.view(-1, 1, 1)
