"""Choose how a photograph goes through a network: how many features are kept, in how large bands, on how many threads.

The generator normalises each layer by the mean and variance of the *whole* image, so each norm needs a pass over it:

    2 buffers   keep the features before and after a convolution; every layer is computed once
    1 buffer    keep the input of a residual block; its layers are recomputed for each statistic: 2.1 times the work
    0 buffers   keep only the photograph; each sweep starts from it: 4.6 times the work

Batch norm in evaluation mode and SRCNN need no statistics. One sweep without a buffer is enough for them.
``bounded_memory`` follows the plan.
"""

from dataclasses import dataclass

import torch
from torch import nn

from dped_lib import models
from dped_lib.base.errors import DpedError

#: Bytes of one band of features, which one thread computes. Measured (benchmarks/README.md).
BAND_BYTES = 4 << 20
#: The same on a GPU, where each operation on each band costs a launch, so larger bands are faster.
GPU_BAND_BYTES = 256 << 20
_MIB = 1 << 20
#: Memory beside bands and buffers: kernels and unpacked weights of oneDNN.
_WORKING = 64 * _MIB
#: Memory that the allocator cannot use, for each thread. glibc gives each thread heaps of this size.
_HEAP = 64 * _MIB
#: The same on a GPU: the workspace of cuDNN.
_GPU_WORKING = 1024 * _MIB


@dataclass(frozen=True)
class Plan:
    """Describe how a photograph will be enhanced.

    Attributes:
        buffers: number of feature buffers of the photograph's size that are kept between sweeps: 2, 1 or 0.
        rows: number of rows of a band.
        sweeps: how often the picture streams through a part of the network.
        work: number of multiplications, relative to the whole-image pass. Rows that strips share are not counted.
        bytes: largest memory in bytes, beside the present process and the photograph.
        threads: number of threads. Each takes a strip of the picture at a time.
    """

    buffers: int
    rows: int
    sweeps: int
    work: float
    bytes: int
    threads: int = 1

    def describe(self) -> str:
        """Return the plan in one readable line."""
        again = "each layer once" if self.work == 1 else f"{self.work:.1f} times the work of the unbounded pass"
        memory = f"about {self.bytes / _MIB:.0f} MiB beside the photograph"
        return (
            f"{self.sweeps} {'sweep' if self.sweeps == 1 else 'sweeps'} in bands of {self.rows} rows, {again}, {memory}"
        )


def check_enhances(model: nn.Module) -> None:
    """Check that a network enhances photographs.

    Raises:
        DpedError: it is no ``models.Generator`` or ``models.SRCNN``, or it has values that are not finite.
    """
    if not isinstance(model, (models.Generator, models.SRCNN)):
        raise DpedError("these weights do not enhance: name a network, for instance authors:iphone.")
    if not all(values.isfinite().all() for values in model.state_dict().values()):
        raise DpedError("these weights have values that are not finite. Train the network again.")


def norms(model: nn.Module) -> list[nn.Module]:
    """Return the norms of a network in their order."""
    return [n for block in getattr(model, "blocks", ()) for n in (block.norm1, block.norm2)]


def _work(model: models.Generator, buffers: int) -> float:
    cost = {name: conv.weight.numel() for name, conv in model.named_modules() if isinstance(conv, nn.Conv2d)}
    ends, inner = cost["head"] + cost["tail"], cost["conv1"]
    blocks = len(model.blocks)
    once = ends + (2 * blocks + 2) * inner
    if buffers == 2:
        return 1.0
    if buffers == 1:
        # A block computes one convolution for its first norm, two for its second, and two again for its output.
        return (ends + (5 * blocks + 2) * inner) / once
    return (sum(cost["head"] + k * inner for k in range(1, 2 * blocks + 1)) + once) / once


def sweeps(model: nn.Module, buffers: int) -> int:
    """Return how often the picture streams through a part of the network."""
    if not _needs_statistics(model):
        return 1
    # With two buffers each sweep computes one convolution: the head, those before a norm, and three at the end.
    return len(norms(model)) + (4 if buffers == 2 else 1)


def _needs_statistics(model: nn.Module) -> bool:
    return isinstance(next(iter(norms(model)), None), nn.InstanceNorm2d)


def plan(
    model: nn.Module, height: int, width: int, dtype: torch.dtype, limit: int | None = None, on_gpu: bool = False
) -> Plan:
    """Return the fastest plan that needs at most ``limit`` bytes beside the photograph (None: no limit).

    Args:
        model: ``models.Generator`` or ``models.SRCNN``.
        height, width: size of the photograph in pixels.
        dtype: type of the features.
        limit: bytes of memory.
        on_gpu: choose bands for a GPU, and count its memory.

    Raises:
        DpedError: even the smallest bands do not fit. The message names the memory that they need.
    """
    each = dtype.itemsize
    if isinstance(model, models.Generator):
        channels = model.head.out_channels
        depth = len(norms(model)) + 4
    elif isinstance(model, models.SRCNN):
        channels, depth = model.conv1.out_channels, 3
    else:
        raise DpedError(f"a network of kind {type(model).__name__} cannot be streamed; Generator and SRCNN can.")
    row = width * channels * each
    band, working, threads = (
        (GPU_BAND_BYTES, _GPU_WORKING, 1) if on_gpu else (BAND_BYTES, _WORKING, torch.get_num_threads())
    )
    best = min(height, max(4, band // row))
    candidates = sorted({best, min(best, max(4, best // 8)), min(best, 4)}, reverse=True)
    needs_statistics = _needs_statistics(model)
    for buffers in (2, 1, 0) if needs_statistics else (0,):
        # With two buffers a thread computes one convolution at a time. Otherwise it holds a window for each of several.
        windows = {2: 3, 1: 5, 0: depth}[buffers]
        spare = 5 if buffers == 2 or each < 4 else 9  # float32: the sums of speed.winograd
        for count in (threads >> halved for halved in range(threads.bit_length())):
            for rows in candidates:
                # A window also holds the rows around a band: 8 for the largest kernel (9x9). Moving them up copies them.
                # Without two buffers a band may have the rows around its strip in it, too.
                others = spare * (rows if buffers == 2 else rows + 8)
                of_thread = windows * (rows + 8) + others + 8 + 4 * windows
                need = row * (buffers * height + count * of_thread) + working + (0 if on_gpu else count * _HEAP)
                if limit is None or need <= limit:
                    work = _work(model, buffers) if needs_statistics else 1.0
                    return Plan(buffers, rows, sweeps(model, buffers), work, need, count)
    if limit > 0:
        left = f"{limit / _MIB:.0f} MiB are left"
    else:
        left = f"the rest of the process already takes {-limit / _MIB:.0f} MiB more than allowed"
    raise DpedError(
        f"a photograph of {width} x {height} needs at least {need / _MIB:.0f} MiB in addition to its pixels, and {left}. "
        "Allow more with --max-memory."
    )
