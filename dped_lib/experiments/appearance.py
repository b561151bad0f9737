"""Measure what the appendix describes only in words (Figure 19): colour difference from the DSLR, and sharpness."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2gray, rgb2lab
from torch import Tensor

from dped_lib.base.datasets import camera_name
from dped_lib.experiments import statistics
from dped_lib.report import labels

#: Standard deviation in pixels of the blur that removes texture and keeps colour. It equals that of the colour loss in
#: the authors' code.
BLUR = 4.34

#: Measures by name, with the meaning of a value.
LOOK_MEASURES = MappingProxyType(
    {
        "colour deviation": f"mean CIEDE2000 difference to the DSLR after a blur of {BLUR:g} px; "
        "0 is the DSLR's colour, about 1 is just visible between uniform fields",
        "sharpness": "mean gradient of the luminance over that of the DSLR; 1 is as sharp",
    }
)
#: The value of the DSLR's own picture in each measure.
OF_DSLR = MappingProxyType({"colour deviation": 0.0, "sharpness": 1.0})


def blurred_lab(image: np.ndarray) -> np.ndarray:
    """Return an RGB image (float H x W x 3; clipped to [0, 1]) in CIELAB after a blur of ``BLUR`` px."""
    return rgb2lab(gaussian_filter(np.clip(image, 0, 1), (BLUR, BLUR, 0)))


def color_difference(image: np.ndarray, target: np.ndarray) -> float:
    """Return the mean CIEDE2000 difference of two blurred RGB images (float H x W x 3; clipped to [0, 1])."""
    return float(deltaE_ciede2000(blurred_lab(image), blurred_lab(target)).mean())


def _mean_gradient(image: np.ndarray) -> float:
    dy, dx = np.gradient(rgb2gray(np.clip(image, 0, 1)))
    return float(np.hypot(dx, dy).mean())


def sharpness(image: np.ndarray, target: np.ndarray) -> float:
    """Return the mean gradient of the image over that of the target; NaN where the target has none."""
    of_target = _mean_gradient(target)
    return _mean_gradient(image) / of_target if of_target > 1e-6 else np.nan


@dataclass(frozen=True)
class Look:
    """Hold a measure of one method on the held-out pairs of a phone.

    ``value`` is the mean over pairs, ``interval`` its 95 % bootstrap interval over photographs.
    """

    phone: str
    column: str
    measure: str
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class LookDifference:
    """Hold a measure of the first method minus that of the second. Both use the same resamples of photographs."""

    phone: str
    measure: str
    first: str
    second: str
    difference: float
    interval: tuple[float, float]


def measure_batch(enhanced: Tensor, dslr: Tensor) -> np.ndarray:
    """Return the measures of each image pair: (pairs, measures). Images are N x 3 x H x W and clipped to [0, 1]."""
    images, targets = (i.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64) for i in (enhanced, dslr))
    return np.array([(color_difference(i, t), sharpness(i, t)) for i, t in zip(images, targets, strict=True)])


def compare_looks(
    phone: str, photographs: np.ndarray, values: Mapping[str, np.ndarray], resamples: int
) -> tuple[list[Look], list[LookDifference]]:
    """Return the measures of several methods on the same pairs of one phone, and compare each with each.

    Args:
        phone: the phone of the pairs.
        photographs: (N,) the photograph of each pair.
        values: the measures of each pair by column, (N, measures): mean over the repetitions of training.
        resamples: number of bootstrap resamples for each interval.
    """
    looks, differences, units = [], [], len(set(photographs))
    means: dict[tuple[str, str], float] = {}
    samples: dict[tuple[str, str], np.ndarray] = {}
    for (column, of_pairs), (m, measure) in itertools.product(values.items(), enumerate(LOOK_MEASURES)):
        key = column, measure
        means[key] = statistics.mean(of_pairs[:, m], photographs)
        samples[key] = statistics.resampled_means(of_pairs[:, m], photographs, resamples)
        looks.append(Look(phone, column, measure, means[key], statistics.bounds(samples[key], units)))
    for (a, b), measure in itertools.product(itertools.combinations(values, 2), LOOK_MEASURES):
        interval = statistics.bounds(samples[a, measure] - samples[b, measure], units)
        difference = means[a, measure] - means[b, measure]
        differences.append(LookDifference(phone, measure, a, b, difference, interval))
    return looks, differences


def looks_frame(looks: Sequence[Look], dataset: str) -> pd.DataFrame:
    """Return a table with a row for each phone and method, and a column for each measure."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for look in looks:
        named = {"phone": camera_name(dataset, look.phone), "loss": labels.method_heading(look.column)}
        row = rows.setdefault((look.phone, look.column), named)
        row[look.measure] = statistics.in_words(look.value, look.interval, 2)
    return pd.DataFrame(list(rows.values()))
