"""Choose what notebook 00 opens with: a photograph before and after enhancement, and the DSLR's beside it.

The best network that needs no training is taken: the one that ships for the iPhone X, or else the authors' of the
iPhone 3GS. Both enhance the real photograph that comes with the package. If neither is there, a photograph of the
dataset is enhanced by the network trained on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from torch import nn

from dped_lib.alignment import aligner
from dped_lib.base.datasets import camera_name
from dped_lib.base.errors import DpedError
from dped_lib.data import examples, network_files, opening
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import gallery
from dped_lib.experiments.networks import trained
from dped_lib.losses import TABLE3_LOSSES

#: The networks that may enhance the real photograph, best first, each with the words that say whose it is.
READY = MappingProxyType(
    {
        "shipped:city100-iphonex": "trained here on City100",
        "authors:iphone": "the authors' for the iPhone 3GS, another camera",
    }
)


@dataclass(frozen=True)
class FirstLook:
    """Hold the photograph that notebook 00 opens with.

    Attributes:
        name: what it is, and whose.
        weights: the network, as ``network_files.resolve`` takes it.
        original: the phone's photograph, uint8 H x W x 3.
        versions: the photograph, the enhanced one, and the DSLR's if there is one; title -> uint8 H x W x 3.
    """

    name: str
    weights: str
    original: np.ndarray
    versions: Mapping[str, np.ndarray]


def choose(dataset: str, preset: str, phone: str, seed: int = 0, weights: str = "") -> FirstLook:
    """Return the first look. ``weights`` names a network for the real photograph; empty means the first that is there.

    Raises:
        DpedError: ``weights`` cannot be read or fetched, or no network can be trained.
    """
    for spec in (weights,) if weights else READY:
        try:
            network = network_files.resolve(spec)
        except DpedError:
            if weights:
                raise
            continue
        pair = examples.city100_pair()
        cameras = {c: camera_name("city100", c) for c in pair}
        title = f"enhanced by {spec} ({READY[spec]})" if spec in READY else f"enhanced by {spec}"
        return _look(
            examples.CREDIT, spec, network, pair["iphonex"], pair["dslr"], cameras["iphonex"], title, cameras["dslr"]
        )
    return _of_dataset(dataset, preset, phone, seed)


def _of_dataset(dataset: str, preset: str, phone: str, seed: int) -> FirstLook:
    """Return a photograph of the test split, enhanced by the network trained on the dataset."""
    result = trained(dataset, preset, phone, TABLE3_LOSSES[0], seed)
    store = opening.open_or_make(dataset, phone, preset, seed=seed)
    example = gallery.choose_examples(dataset, phone, 1, set(store.photographs[store.index("test")]))[0]
    original, dslr = example.original, None
    if example.dslr is not None:
        pair = aligner.align(example.original, example.dslr)
        if pair.phone is not None:
            original, dslr = pair.phone, pair.dslr
    title = f"enhanced (trained here, preset {preset}, {result.params.iterations} iterations)"
    camera, other = camera_name(dataset, phone), camera_name(dataset, "dslr")
    weights = str(result.folder / "model.safetensors")
    return _look(f"{example.name}, dataset {dataset}", weights, result.model, original, dslr, camera, title, other)


def _look(
    name: str, weights: str, network: nn.Module, original: np.ndarray, dslr: np.ndarray | None, *titles: str
) -> FirstLook:
    images = (original, enhancement.engine(network)(original), dslr)
    versions = {title: image for title, image in zip(titles, images, strict=True) if image is not None}
    return FirstLook(name, weights, original, versions)
