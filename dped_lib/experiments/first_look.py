"""Choose the first picture of notebook 00: a photograph before and after enhancement, and the DSLR's beside it.

We take the best network that needs no training. It is the one that ships for the iPhone X, or else the authors' network
for the iPhone 3GS. Both enhance the real photograph that comes with the package. If neither is available, the network
trained on the dataset enhances a photograph of the dataset.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from torch import nn

from dped_lib import paper
from dped_lib.alignment import aligner
from dped_lib.base.datasets import camera_name, photograph_name
from dped_lib.base.errors import DpedError
from dped_lib.data import examples, network_files, opening, shipped_runs
from dped_lib.enhance import enhancement
from dped_lib.experiments import gallery
from dped_lib.experiments.networks import trained

#: The networks that may enhance the real photograph, best first, each with the words that say whose it is.
READY = MappingProxyType(
    {
        "shipped:city100-iphonex": "trained for the package on other photographs of City100",
        "authors:iphone": "the authors' network for the iPhone 3GS, another camera",
    }
)


@dataclass(frozen=True)
class FirstLook:
    """Hold the photograph that notebook 00 opens with.

    Attributes:
        name: which photograph it is.
        caption: whose photograph and whose network, in words.
        weights: the network, as ``network_files.resolve`` takes it.
        original: the phone's photograph, uint8 H x W x 3.
        versions: the photograph, the enhanced one, and the DSLR's if there is one; title -> uint8 H x W x 3.
        origins: title of the enhanced photograph -> that title, and whose network it is.
    """

    name: str
    caption: str
    weights: str
    original: np.ndarray
    versions: Mapping[str, np.ndarray]
    origins: Mapping[str, str]


def choose(dataset: str, preset: str, phone: str, seed: int = 0, weights: str = "") -> FirstLook:
    """Return the first look. ``weights`` names a network for the real photograph; empty means the first available one.

    Raises:
        DpedError: ``weights`` cannot be read or fetched, or no network can be trained.
    """
    for spec in (weights,) if weights else READY:
        try:
            network = network_files.resolve(spec)
        except DpedError as error:
            if weights:
                raise
            print(f"{spec} is not used: {error}", file=sys.stderr)
            continue
        pair = examples.city100_pair()
        label = Path(spec).name if spec not in READY and Path(spec).is_file() else spec
        words = READY.get(spec, "named by you")
        caption = f"{examples.CREDIT}. Enhanced by {label}: {words}."
        titles = camera_name("city100", "iphonex"), f"enhanced by {label}", camera_name("city100", "dslr")
        name = f"City100, scene {examples.SCENE}"
        return _look(name, caption, words, spec, network, pair["iphonex"], pair["dslr"], titles)
    return _of_dataset(dataset, preset, phone, seed)


def _of_dataset(dataset: str, preset: str, phone: str, seed: int) -> FirstLook:
    """Return a photograph of the test split, enhanced by the network trained on the dataset."""
    result = trained(dataset, preset, phone, paper.FULL_LOSS, seed)
    store = opening.open_or_make(dataset, phone, preset, seed=seed)
    example = gallery.choose_examples(dataset, phone, 1, set(store.photographs[store.index("test")]))[0]
    original, dslr = example.original, None
    if example.of_dslr is not None:
        pair = aligner.align(original, example.dslr)
        if pair.phone is not None:
            original, dslr = pair.phone, pair.dslr
    words = f"the network {result.origin} (dataset {dataset}, preset {preset}, iterations {result.params.length})"
    caption = f"Enhanced by {words}."
    if preset == "smoke":
        caption += " That is too short to enhance anything."
    titles = camera_name(dataset, phone), f"enhanced, preset {preset}", camera_name(dataset, "dslr")
    weights = str(result.folder / shipped_runs.MODEL)
    name = photograph_name(dataset, example.name)
    return _look(name, caption, words, weights, result.model, original, dslr, titles)


def _look(
    name: str,
    caption: str,
    words: str,
    weights: str,
    network: nn.Module,
    original: np.ndarray,
    dslr: np.ndarray | None,
    titles: tuple[str, str, str],
) -> FirstLook:
    images = (original, enhancement.engine(network)(original), dslr)
    versions = {title: image for title, image in zip(titles, images, strict=True) if image is not None}
    return FirstLook(name, caption, weights, original, versions, {titles[1]: f"{titles[1]} ({words})"})
