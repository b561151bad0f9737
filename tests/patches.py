"""Pairs of noise, and files of such patches."""

from pathlib import Path

import small
from PIL import Image

from dped_lib.data.pair_store import Pair
from dped_lib.paper import PATCH_SIZE


def noise(seed, height=PATCH_SIZE, width=PATCH_SIZE):
    return small.noise(height, width, seed)


def pair(number, photograph=None, **more):
    """A pair whose dslr image is the negative of the phone's."""
    image = noise(number)
    return Pair(str(number), photograph or str(number), image, 255 - image, **more)


def save(file: Path, image=None, **how):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(sum(file.stem.encode())) if image is None else image).save(file, **how)
