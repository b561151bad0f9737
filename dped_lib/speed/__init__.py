"""The same numbers sooner. The library is written in plain PyTorch; this package swaps in quick forms of its parts.

=============== ==================================================================== ========================================
swap            what becomes quick                                                   plain form
=============== ==================================================================== ========================================
``norm``        instance norm and its ReLU in one pass                               ``nn.InstanceNorm2d``, ``F.relu``
``convolution`` layers of few channels                                               ``nn.Conv2d``, ``nn.Linear``
``blur``        the colour loss's blur as products with banded matrices              ``losses.color_distance``
``windows``     SSIM's window sums                                                   ``metrics.batch_statistics``
``graphs``      losses compiled, a step recorded (GPU)                               a step called from Python
``training``    mixed precision, one pass of Adam                                    float32, ``torch.optim.Adam``
``memory``      freed memory kept                                                    the system's allocator
=============== ==================================================================== ========================================

``training`` and ``enhance`` call this package, and so do callers of the metrics. ``DPED_SPEED=0`` leaves every swap out.
"""

import contextlib
import os

import torch
from torch import Tensor, nn

from dped_lib import losses, metrics
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.speed import blur, memory, networks, training, windows
from dped_lib.speed.training import autocast, release

__all__ = [
    "accelerate", "accelerated", "autocast", "color_distance", "enabled", "keep_pages", "pair_statistics", "precision", "prepare", "release",
]  # fmt: skip


def enabled() -> bool:
    """Return whether quick forms are used: unless the environment variable ``DPED_SPEED`` is 0."""
    return one_of("DPED_SPEED", os.environ.get("DPED_SPEED", "1"), ("0", "1")) == "1"


def keep_pages() -> None:
    """Make the allocator keep freed memory; see ``speed.memory``."""
    if enabled():
        memory.keep_pages()


def precision(requested: str, device: torch.device) -> torch.dtype:
    """Return the type of the networks' arithmetic (``device.precision``). The plain form is float32.

    Raises:
        DpedError: the name is unknown, or bfloat16 is asked for without swaps.
    """
    found = devices.precision(requested, device)
    if enabled():
        return found
    if requested == "bfloat16":
        raise DpedError(
            "precision bfloat16 is a swap, and DPED_SPEED=0 leaves all swaps out. Unset it, or take float32."
        )
    return torch.float32


def prepare(network: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Move a network to a device and swap its layers, in place; return it. Its ``state_dict`` stays as it is.

    ``dtype``: of a frozen network's convolutions. If it is another than they have, a copy is returned, to be used under
    :func:`autocast`.
    """
    with torch.inference_mode(False):  # weights that are moved in inference mode can never be trained again
        if not enabled():
            return network.to(device)
        if dtype != torch.float32:
            network = networks.frozen_in(network, dtype)
        return networks.swap(network.to(device=device, memory_format=torch.channels_last))


def accelerate(trainer, compiled: bool | dict | None = None, recorded: bool | None = None):
    """Swap the parts of a ``training.Trainer`` and return it. To be called again when its state was replaced.

    Args:
        compiled: whether to compile the losses, or options of ``torch.compile``. None: if the run is long enough, on a GPU.
        recorded: whether to record the step as a CUDA graph. None: on a GPU.
    """
    dtype = precision(trainer.params.precision, trainer.device)
    if enabled():
        memory.keep_pages()
        training.accelerate(trainer, prepare, dtype, compiled, recorded)
    return trainer


@contextlib.contextmanager
def accelerated(trainer):
    """Swap the parts of a ``training.Trainer`` for the time of a ``with`` block."""
    try:
        yield accelerate(trainer)
    finally:
        release(trainer)


def color_distance(enhanced: Tensor, target: Tensor, kernel: str = "code") -> Tensor:
    """Return ``losses.color_distance`` of image pairs, computed by its quick form."""
    if not enabled():
        return losses.color_distance(enhanced, target, kernel)
    graded = torch.is_grad_enabled() and (enhanced.requires_grad or target.requires_grad)
    quick = blur.color_distance if graded or enhanced.is_cuda else blur.filtered_distance
    return quick(enhanced, target, kernel)


def pair_statistics(images, targets) -> metrics.PairStatistics:
    """Return ``metrics.pair_statistics`` of image pairs, computed by its quick form."""
    if not enabled():
        return metrics.pair_statistics(images, targets)
    memory.keep_pages()
    # On a CPU a batch stays in a core's cache; a GPU needs more to be busy.
    batch = 100 if isinstance(images, Tensor) and images.is_cuda else 8
    return metrics.pair_statistics(images, targets, batch, windows.batch_statistics)
