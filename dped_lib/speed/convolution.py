"""Convolutions and linear layers of few channels.

A GPU's tensor cores need channel counts divisible by 8. They take a 9x9 layer of three channels slowly and use a third of their
units. The same sums in another order are a 9x1 layer of 27 channels. Layers of few outputs end a network, and their result is
what is compared: it is returned in at least float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: A layer of fewer channels than this gets the other order.
FEW = 8


def wide(x: Tensor) -> Tensor:
    """Return ``x`` in at least float32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def has_few(layer: nn.Module) -> bool:
    """Return whether a layer has a quick form: few inputs or outputs; as a convolution, stride 1 and padding that keeps the size."""
    if isinstance(layer, nn.Linear):
        return layer.out_features < FEW
    if min(layer.in_channels, layer.out_channels) >= FEW:
        return False
    k = layer.kernel_size[0]
    same = layer.kernel_size == (k, k) and layer.padding == (k // 2, k // 2) and layer.padding_mode == "zeros"
    return k % 2 == 1 and same and layer.stride == layer.dilation == (1, 1) and layer.groups == 1


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` for which :func:`has_few`, in a quicker order on a GPU. Few outputs are returned in at least float32."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda and self.in_channels < FEW:
            y = from_few(x, self.weight, self.bias, self.padding[0])
        elif x.is_cuda:
            y = to_few(x, self.weight, self.bias)
        else:
            y = super().forward(x)
        return wide(y) if self.out_channels < FEW else y


class Linear(nn.Linear):
    """``nn.Linear`` of few outputs, which it returns in at least float32."""

    def forward(self, x: Tensor) -> Tensor:
        return wide(super().forward(x))


def from_few(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    """Return ``F.conv2d(x, weight, bias, padding=(rows, k // 2))`` for few channels of input.

    The image shifted by each of nine horizontal offsets is 27 channels of a 9x1 layer.
    """
    k, width = weight.shape[3], x.shape[3]
    padded = F.pad(x, (k // 2, k // 2))
    shifted = torch.cat([padded[..., d : d + width] for d in range(k)], 1)
    weight = weight.permute(0, 3, 1, 2).flatten(1, 2).unsqueeze(3)  # channel c at offset d is channel d * C + c
    more = -shifted.shape[1] % FEW
    shifted, weight = (F.pad(t, (0, 0, 0, 0, 0, more)) for t in (shifted, weight))
    shifted, weight = (t.contiguous(memory_format=torch.channels_last) for t in (shifted, weight))
    return F.conv2d(shifted, weight, bias, padding=(rows, 0))


def to_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``F.conv2d(x, weight, bias, padding=k // 2)`` for few channels of output, in at least float32.

    Each (horizontal offset, output) gets a channel of its own, computed by a column of taps; the channels are added shifted.
    ``bands.Tail`` does the same on a CPU.
    """
    out, _, k, _ = weight.shape
    weight = weight.permute(3, 0, 1, 2).flatten(0, 1).unsqueeze(3)
    weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -k * out % FEW)).contiguous(memory_format=torch.channels_last)
    planes = wide(F.pad(F.conv2d(x, weight, padding=(k // 2, 0)), (k // 2, k // 2)))
    found = sum(planes[:, d * out : (d + 1) * out, :, d : d + x.shape[3]] for d in range(k))
    return found if bias is None else found + bias.view(-1, 1, 1)
