"""Convolve with 3x3 kernels in half the multiplications: Winograd's F(4, 3) along the columns of a picture.

Four rows of the result need six rows of the input. Six sums of these rows, each convolved with a 1x3 kernel, give the
four rows: 6 products a column instead of 12. The sums combine whole rows, which lie one after another in channels-last
memory. In float32 the result differs from the direct sum by about three times the rounding of that sum. bfloat16 has
too few digits for this (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Rows of the result that are computed together.
GROUP = 4
#: The sums of the kernel's three rows.
_KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6))
_KERNEL += ((1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))


def fits(weight: Tensor, dtype: torch.dtype) -> bool:
    """Return whether :func:`convolve` is quicker: float32 on a CPU, 3x3 kernels, and enough channels."""
    few = min(weight.shape[:2]) < 16
    return dtype == torch.float32 and weight.device.type == "cpu" and weight.shape[2:] == (3, 3) and not few


def kernels(weight: Tensor) -> list[Tensor]:
    """Return the six 1x3 kernels (O x C x 1 x 3 each) of 3x3 kernels (O x C x 3 x 3)."""
    sums = torch.einsum("ik,ockx->iocx", weight.new_tensor(_KERNEL, dtype=torch.float64), weight.double())
    return [s.float().unsqueeze(2).contiguous(memory_format=torch.channels_last) for s in sums]


def convolve(rows: Tensor, of_kernels: Sequence[Tensor], bias: Tensor | None, out: Tensor) -> None:
    """Convolve rows without padding above and below, and with one column of zeros at each side.

    Args:
        rows: (4 n + 2) x W x C, float32.
        of_kernels: from :func:`kernels`.
        bias: O values, or None.
        out: is written, 4 n x W x O.
    """
    n, width, channels = len(out) // GROUP, *rows.shape[1:]
    d = [rows[i : i + GROUP * (n - 1) + 1 : GROUP] for i in range(6)]
    a, b, t = rows.new_empty(3, n, width, channels)  # one sum at a time, which stays in the cache

    def product(i: int) -> Tensor:
        # Product 1 has the factor 1 in all four rows of the result, so it carries the bias.
        y = F.conv2d(t.permute(2, 0, 1).unsqueeze(0), of_kernels[i], bias if i == 1 else None, padding=(0, 1))
        return y[0].permute(1, 2, 0)

    torch.sub(d[4], d[2], alpha=4, out=a)
    torch.sub(d[3], d[1], alpha=4, out=b)
    torch.add(a, b, out=t)
    product_1 = product(1)
    torch.sub(a, b, out=t)
    product_2 = product(2)
    even = product_1 + product_2
    odd = product_1.sub_(product_2)
    torch.sub(d[4], d[2], out=a)
    torch.sub(d[3], d[1], out=b)
    torch.add(a, b, alpha=2, out=t)
    product_3 = product(3)
    torch.sub(a, b, alpha=2, out=t)
    product_4 = product(4)
    large = torch.add(product_3, product_4, out=product_2)
    signed = product_3.sub_(product_4)
    y = [out[i::GROUP] for i in range(GROUP)]
    torch.add(even, large, out=y[0])
    torch.add(odd, signed, alpha=2, out=y[1])
    torch.add(even, large, alpha=4, out=y[2])
    torch.add(odd, signed, alpha=8, out=y[3])
    torch.add(a, torch.sub(d[0], d[2], out=t), alpha=4, out=t)  # 4 d0 - 5 d2 + d4
    y[0].add_(product(0))
    torch.sub(torch.sub(d[5], d[3], out=t), b, alpha=4, out=t)  # 4 d1 - 5 d3 + d5
    y[3].add_(product(5))
