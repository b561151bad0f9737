"""Compute the same numbers faster: swap plain parts of the library for equivalent quick forms.

=============== ======================================================= ================================
module          quick form                                              plain form
=============== ======================================================= ================================
``norm``        instance norm and its ReLU in one pass                  ``nn.InstanceNorm2d``, ``F.relu``
``convolution`` layers with few channels                                ``nn.Conv2d``, ``nn.Linear``
``networks``    the layers of a network, by ``norm``, ``convolution``   the layers of ``models``
``blur``        blur of the colour loss: band matrices, OpenCV's filter ``losses.color_distance``
``windows``     window sums of SSIM by products with band matrices      ``metrics.batch_statistics``
``graphs``      losses compiled, a training step recorded (GPU)         a step called from Python
``training``    mixed precision, Adam in one pass                       float32, ``torch.optim.Adam``
``threads``     a few images of a step, or a batch, for each thread     each operation on all threads (CPU)
``winograd``    3x3 layers of photographs in half the products (CPU)    ``F.conv2d``
``rectify``     ReLU of photographs on the bits of the numbers          ``torch.clamp_min``
``memory``      an allocator that keeps freed memory                    the system's allocator
=============== ======================================================= ================================

Training, enhancement and the experiments that score pairs use this package. ``DPED_SPEED=0`` turns every swap in this
table off. Photographs are still enhanced in bands then (``enhance.bands``), because nothing else bounds the memory. Their
layers and norms are computed in float32 as PyTorch's users write them.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from dped_lib import losses, metrics
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.speed import blur, memory, networks, threads, training, windows
from dped_lib.speed.training import autocast, release

__all__ = [
    "accelerate",
    "accelerated",
    "autocast",
    "color_distance",
    "enabled",
    "give_back_pages",
    "in_order",
    "keep_pages",
    "pair_statistics",
    "precision",
    "prepare",
    "release",
]


def enabled() -> bool:
    """Return whether quick forms are used. The environment variable ``DPED_SPEED=0`` turns them off."""
    return one_of("DPED_SPEED", os.environ.get("DPED_SPEED", "1"), ("0", "1")) == "1"


def keep_pages() -> None:
    """Make the allocator keep freed memory (:mod:`dped_lib.speed.memory`)."""
    if enabled():
        memory.keep_pages()


def give_back_pages() -> None:
    """Make the allocator return the memory that it keeps. The next computation takes it again."""
    memory.give_back()


def precision(requested: str, device: torch.device) -> torch.dtype:
    """Return the type in which networks compute (``device.precision``). The plain form is float32.

    Raises:
        DpedError: the name is unknown, or bfloat16 is requested while swaps are off.
    """
    dtype = devices.precision(requested, device)
    if enabled():
        return dtype
    if requested == "bfloat16":
        raise DpedError(
            "precision bfloat16 is a swap, and DPED_SPEED=0 leaves all swaps out. Unset DPED_SPEED, or choose float32."
        )
    return torch.float32


def prepare(network: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Move a network to a device, swap its layers in place, and return it. Its ``state_dict`` does not change.

    Only a frozen network may have another ``dtype`` than float32. The result is then a copy with convolutions of this
    type. Use the copy under :func:`autocast`.
    """
    with torch.inference_mode(False):  # weights that were moved in inference mode can never be trained again
        if not enabled():
            return network.to(device)
        if dtype != torch.float32:
            network = networks.frozen_in(network, dtype)
        return networks.swap(network.to(device=device, memory_format=torch.channels_last))


def accelerate(trainer, compiled: bool | dict | None = None, recorded: bool | None = None):
    """Swap the parts of a ``training.Trainer`` and return it. Call it again after its state is replaced.

    Args:
        trainer: the trainer, changed in place.
        compiled: whether to compile the losses, or the options of ``torch.compile``. None compiles long runs on a GPU.
        recorded: whether to record the step as a CUDA graph. None records it on a GPU.
    """
    dtype = precision(trainer.params.precision, trainer.device)
    if enabled():
        memory.keep_pages()
        training.accelerate(trainer, prepare, dtype, compiled, recorded)
    return trainer


@contextlib.contextmanager
def accelerated(trainer):
    """Swap the parts of a ``training.Trainer``, and drop compiled losses and recorded steps at the end of a ``with`` block.

    Swapped layers, VGG-19, Adam and colour distance stay: they hold nothing that must be freed.
    """
    try:
        yield accelerate(trainer)
    finally:
        release(trainer)


def in_order(function: Callable, items: Iterable, device: torch.device) -> Iterator:
    """Yield ``function(item)`` for each item, in their order. On a CPU several threads share the items."""
    return threads.in_order(function, items) if enabled() and device.type == "cpu" else map(function, items)


def color_distance(enhanced: Tensor, target: Tensor, kernel: str = "code") -> Tensor:
    """Return ``losses.color_distance`` of image pairs N x C x H x W, computed by its quick form: N values."""
    if not enabled():
        return losses.color_distance(enhanced, target, kernel)
    needs_gradient = torch.is_grad_enabled() and (enhanced.requires_grad or target.requires_grad)
    quick = blur.color_distance if needs_gradient or enhanced.is_cuda else blur.filtered_distance
    return quick(enhanced, target, kernel)


def pair_statistics(images, targets) -> metrics.PairStatistics:
    """Return ``metrics.pair_statistics`` of image pairs, computed by its quick form."""
    if not enabled():
        return metrics.pair_statistics(images, targets)
    memory.keep_pages()
    # On a CPU, 8 pairs fit in the cache of a core. A GPU needs more work at a time.
    batch = 100 if isinstance(images, Tensor) and images.is_cuda else 8
    return metrics.pair_statistics(images, targets, batch, windows.batch_statistics)
