"""Enhance the patch pairs of a store, and compare them with the DSLR's."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib import metrics, speed
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.data.batches import to_float
from dped_lib.data.pair_store import PairStore


@torch.inference_mode()
def enhance_pairs(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device, batch: int = 50
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (enhanced, DSLR) of the pairs at ``index``: float32 N x 3 x 100 x 100, not clipped.

    ``model`` is moved to ``device``.
    """
    model = speed.prepare(model, device)
    for first in range(0, len(index), batch):
        chosen = index[first : first + batch]
        phone, dslr = (to_float(torch.from_numpy(np.array(a[chosen]))).to(device) for a in (store.phone, store.dslr))
        yield model(phone), dslr


def evaluate(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device | None = None
) -> metrics.PairStatistics:
    """Return the statistics of the pairs at ``index``: enhanced against DSLR. ``nn.Identity()`` enhances nothing.

    Raises:
        DpedError: ``index`` is empty.
    """
    if not len(index):
        raise DpedError(f"{store.folder}: no pairs to evaluate in that split. Choose another, or --split all.")
    pairs = enhance_pairs(model.eval(), store, index, device or devices.pick())
    return metrics.concatenate([speed.pair_statistics(enhanced, dslr) for enhanced, dslr in pairs])
