"""What the loss analysis says in words (appendix, Figure 19), as numbers: colour deviation and sharpness of enhanced pairs."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2gray, rgb2lab
from torch import nn

from dped_lib import metrics, training
from dped_lib.data.pair_store import PairStore
from dped_lib.experiments.scores import rounds

#: Deviation in pixels of the blur that leaves colour and takes texture away: that of the released colour loss.
BLUR = 4.34

#: Measures by name: unit and what a value means.
MEASURES = MappingProxyType(
    {
        "colour deviation": "mean CIEDE2000 difference to the DSLR after a blur of 4.34 px; 0 is the DSLR's colour, 2 is just visible",
        "sharpness": "mean gradient of the luminance over that of the DSLR; 1 is as sharp",
    }
)


def colour_deviation(image: np.ndarray, target: np.ndarray) -> float:
    """Mean CIEDE2000 between two blurred RGB images (float H x W x 3; clipped to [0, 1])."""
    lab = [rgb2lab(gaussian_filter(np.clip(i, 0, 1), (BLUR, BLUR, 0))) for i in (image, target)]
    return float(deltaE_ciede2000(*lab).mean())


def _gradient(image: np.ndarray) -> float:
    dy, dx = np.gradient(rgb2gray(np.clip(image, 0, 1)))
    return float(np.hypot(dx, dy).mean())


def sharpness(image: np.ndarray, target: np.ndarray) -> float:
    """Mean gradient of the image over that of the target; NaN where the target has none."""
    wanted = _gradient(target)
    return _gradient(image) / wanted if wanted > 1e-6 else np.nan


@dataclass(frozen=True)
class Look:
    """A measure of one method on the held-out pairs of a phone: mean over pairs, 95 % bootstrap interval over photographs."""

    phone: str
    column: str
    measure: str
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LookDifference:
    """First minus second method, the same photographs in every resample."""

    phone: str
    measure: str
    first: str
    second: str
    difference: float
    interval: tuple[float, float]


def _of_pairs(model: nn.Module, store: PairStore, index: np.ndarray) -> np.ndarray:
    """Measures of each pair: (pairs, measures)."""
    found = []
    for enhanced, dslr in training.enhance_pairs(model, store, index, torch.device("cpu")):
        for image, target in zip(
            *(t.permute(0, 2, 3, 1).numpy().astype(np.float64) for t in (enhanced, dslr)), strict=True
        ):
            found.append((colour_deviation(image, target), sharpness(image, target)))
    return np.array(found)


def compare(
    store: PairStore, methods: Mapping[str, Mapping[int, nn.Module]], split: str, most: int, resamples: int
) -> tuple[list[Look], list[LookDifference]]:
    """Every measure of networks by column and seed on the same held-out pairs (``scores.compare`` has the same arguments)."""
    phone = store.meta["phone"]
    groups = rounds(store.meta["dataset"], next(iter(methods.values())))
    parts = {s: store.fold(s).some(split, most) for group in groups for s in group}
    index = np.concatenate([parts[s] for s in groups[0]])
    values = {
        column: np.mean(
            [np.concatenate([_of_pairs(by_seed[s].eval(), store, parts[s]) for s in g]) for g in groups], axis=0
        )
        for column, by_seed in methods.items()
    }
    names, inverse = np.unique(store.photographs[index], return_inverse=True)
    drawn = np.random.default_rng(0).integers(0, len(names), (resamples, len(names)))
    looks, differences = [], []
    samples: dict[tuple[str, str], np.ndarray] = {}
    for (column, of_pairs), (m, measure) in itertools.product(values.items(), enumerate(MEASURES)):
        known = ~np.isnan(of_pairs[:, m])
        total = np.bincount(inverse[known], of_pairs[known, m], len(names))
        count = np.bincount(inverse[known], minlength=len(names))
        samples[column, measure] = total[drawn].sum(1) / count[drawn].sum(1)
        low, high = metrics.interval(samples[column, measure])
        looks.append(Look(phone, column, measure, float(total.sum() / count.sum()), (float(low), float(high))))
    value = {(look.column, look.measure): look.value for look in looks}
    for (a, b), measure in itertools.product(itertools.combinations(values, 2), MEASURES):
        low, high = metrics.interval(samples[a, measure] - samples[b, measure])
        differences.append(
            LookDifference(phone, measure, a, b, value[a, measure] - value[b, measure], (float(low), float(high)))
        )
    return looks, differences


def as_frame(looks: Sequence[Look]) -> pd.DataFrame:
    """A row for each phone and measure, a column for each method."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for look in looks:
        row = rows.setdefault((look.phone, look.measure), {"phone": look.phone, "measure": look.measure})
        row[look.column] = f"{look.value:.2f} [{look.interval[0]:.2f}, {look.interval[1]:.2f}]"
    return pd.DataFrame(list(rows.values()))
