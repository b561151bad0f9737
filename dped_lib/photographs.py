"""Whole photographs of a tier: what can be shown, shifted and enhanced beyond 100x100 patches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dped_lib import patches, readers, rig, sources
from dped_lib.config import TIERS, one_of
from dped_lib.errors import DpedError


@dataclass(frozen=True)
class Photograph:
    """``image``: uint8 H x W x 3, RGB. ``camera``: who took it; ``name`` is unique within the tier.

    ``scene``: photographs of one scene are not independent of each other.
    """

    name: str
    camera: str
    image: np.ndarray
    scene: str


def _rig() -> Iterator[Photograph]:
    for scene in rig.scenes():
        for camera, frame in rig.shoot(scene.name).items():
            yield Photograph(f"{scene.name}/{camera}", camera, frame.image, f"{scene.kind}:{scene.photograph}")


def _pirm() -> Iterator[Photograph]:
    for file in sources.fetch_all(sources.keys("hd"), "HD photographs"):
        yield Photograph(f"HD_res/{file.stem}", "iphone", readers.read_image(file), f"HD_res/{file.stem}")
    originals = [k for k in sources.keys("demo") if k.endswith("_0.jpg")]
    for file in sources.fetch_all(originals, "demo photographs"):
        camera = file.parent.name
        yield Photograph(f"demo/{camera}/{file.stem}", camera, readers.read_image(file), f"demo/{file.stem}")


def _dped() -> Iterator[Photograph]:
    root = readers.official_root()
    files = sorted(root.glob("*/test_data/full_size_test_images/*"))
    if not files:
        raise DpedError(f"{root}: no PHONE/test_data/full_size_test_images in it; whole photographs come from there.")
    for file in files:
        camera = file.parents[2].name
        yield Photograph(f"{camera}/{file.stem}", camera, readers.read_image(file), f"{camera}/{file.stem}")


def of_tier(tier: str) -> Iterator[Photograph]:
    """Every whole photograph that a tier has, one at a time.

    ``rig``: the frames of all four cameras. ``pirm``: the 4 HD photographs of the iPhone and the authors' demo
    photographs by the three phones (unaligned; the DSLR's are not published). ``dped``: the full-size test images.
    """
    match one_of("tier", tier, TIERS):
        case "rig":
            yield from _rig()
        case "pirm":
            yield from _pirm()
        case "dped":
            yield from _dped()


def patches_of(store: patches.PairStore) -> Iterator[Photograph]:
    """The patches of a store, of both cameras, each as a small photograph of its own."""
    for camera, images in (("canon", store.canon), (store.meta["phone"], store.phone)):
        for name, scene, image in zip(store.names, store.photographs, images, strict=True):
            yield Photograph(f"{name}/{camera}", camera, image, str(scene))
