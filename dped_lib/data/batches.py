"""Draw random training batches of patch pairs, and convert and augment them on the device."""

import functools
import warnings
import zlib

import numpy as np
import torch
from torch import Tensor

from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.data.pair_store import PairStore

_CHUNK = 1000  # patches that are copied to a GPU at once


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 N x H x W x C to float32 N x C x H x W in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255).contiguous()


def floats(images: np.ndarray, index) -> Tensor:
    """Return the patches of a store at ``index`` (uint8 N x H x W x C) as float32 N x C x H x W in [0, 1]."""
    return to_float(torch.from_numpy(np.array(images[index])))


def pictures(images: Tensor) -> np.ndarray:
    """Return N x C x H x W on the CPU as pictures to show: N x H x W x C, clipped to [0, 1]."""
    return images.clamp(0, 1).permute(0, 2, 3, 1).numpy()


@functools.cache
def _source_pixels(size: int, device: torch.device) -> Tensor:
    """Return, for each of the eight codes, the source pixel of every result pixel: int64 8 x size * size."""
    pixels = torch.arange(size * size).view(size, size)
    moved = [torch.rot90(pixels.flip(1) if code >= 4 else pixels, code % 4) for code in range(8)]
    return torch.stack(moved).flatten(1).to(device)


def dihedral(images: Tensor, codes: Tensor) -> Tensor:
    """Flip and rotate each image of N x C x S x S by its code, an integer from 0 to 7.

    Code = quarter turns + 4 * (flipped left-right first). Code 0 changes nothing.
    """
    # Gathering pixels needs no synchronization. Selecting the images of each code would make the GPU report their
    # number to the host.
    pixels = _source_pixels(images.shape[-1], images.device)[codes].unsqueeze(1).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, pixels).view(images.shape)


class Batches:
    """Draw random training batches from one split of a store, and convert and augment them on the device.

    A batch depends only on (seed, stream, iteration). An interrupted training therefore continues with the batches that
    it would have drawn, and no random state has to be saved.
    """

    def __init__(self, store: PairStore, split: str, device: torch.device, seed: int, augment: bool):
        index = store.index(split)
        if not len(index):
            raise DpedError(
                f"{store.folder}: no pairs in split {split!r}. Add photographs: at least three must give patches."
            )
        self.seed, self.augment, self.device = seed, augment, device
        self._index = index
        # On the CPU all patches stay memory-mapped: the system reads the pages of those that are drawn.
        self._mapped = device.type == "cpu"
        self._phone, self._dslr = (self._on_device(images) for images in (store.phone, store.dslr))

    def _on_device(self, images: np.memmap) -> Tensor:
        with warnings.catch_warnings():
            # PyTorch has no read-only tensors. Nothing writes to this one.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            if self._mapped:
                return torch.from_numpy(images)
        split = torch.empty((len(self), *images.shape[1:]), dtype=torch.uint8, device=self.device)
        for first in range(0, len(self), _CHUNK):
            chosen = self._index[first : first + _CHUNK]
            split[first : first + len(chosen)] = torch.from_numpy(images[chosen])
        return split

    def __len__(self) -> int:
        return len(self._index)

    def rng(self, iteration: int, stream: str) -> np.random.Generator:
        """Return the random number generator of one iteration and purpose."""
        return np.random.default_rng((self.seed, zlib.crc32(stream.encode()), iteration))

    def draw(self, iteration: int, size: int, stream: str = "generator") -> tuple[Tensor, Tensor]:
        """Return a batch of (phone, DSLR), float32 N x 3 x 100 x 100 in [0, 1].

        As in the authors' code, it is drawn with replacement.
        """
        rng = self.rng(iteration, stream)
        drawn = rng.integers(0, len(self), size)
        index = devices.put(self._index[drawn] if self._mapped else drawn, self.device)
        pair = [to_float(images[index]) for images in (self._phone, self._dslr)]
        if self.augment:
            codes = devices.put(rng.integers(0, 8, size), self.device)
            pair = [dihedral(images, codes) for images in pair]
        return tuple(pair)
