"""Enhance the patch pairs of a store, and compare them with the DSLR's."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib import metrics, speed
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.data.batches import floats
from dped_lib.data.pair_store import PairStore

#: Number of pairs that are enhanced at a time on a GPU, and on a CPU, where one thread computes them.
#: Larger batches are slower on a CPU: their memory is returned to the system and taken again each time.
GPU_BATCH, CPU_BATCH = 50, 8

Measured = TypeVar("Measured")


@torch.inference_mode()
def enhance_pairs(model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the few pairs at ``index`` as one batch (enhanced, DSLR): float32 N x 3 x 100 x 100, not clipped.

    ``model`` is the network. It is moved to ``device``.
    """
    return _enhanced(speed.prepare(model.eval(), device), store, device, index)


def measure_pairs(
    model: nn.Module,
    store: PairStore,
    index: np.ndarray,
    measure: Callable[[Tensor, Tensor], Measured],
    device: torch.device | None = None,
) -> list[Measured]:
    """Return what ``measure`` returns for each batch of the pairs at ``index``, in order.

    Args:
        model: the network; ``nn.Identity()`` enhances nothing.
        measure: takes a batch (enhanced, DSLR) as :func:`enhance_pairs` returns it. On a CPU several threads call it.

    Raises:
        DpedError: ``index`` is empty.
    """
    if not len(index):
        raise DpedError(f"{store.folder}: no pairs to evaluate in that split. Choose another, or --split all.")
    device = device or devices.pick()
    network = speed.prepare(model.eval(), device)

    def measured(chosen: np.ndarray) -> Measured:
        return measure(*_enhanced(network, store, device, chosen))

    return list(speed.in_order(measured, _batches(index, device), device))


def evaluate(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device | None = None
) -> metrics.PairStatistics:
    """Return the statistics of the pairs at ``index``: enhanced against DSLR (:func:`measure_pairs`)."""
    return metrics.concatenate(measure_pairs(model, store, index, speed.pair_statistics, device))


def _batches(index: np.ndarray, device: torch.device) -> Iterator[np.ndarray]:
    size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    return (index[first : first + size] for first in range(0, len(index), size))


@torch.inference_mode()
def _enhanced(network: nn.Module, store: PairStore, device: torch.device, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    phone, dslr = (floats(images, chosen).to(device) for images in (store.phone, store.dslr))
    return network(phone), dslr
