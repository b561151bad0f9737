"""Compute every interval of this project: bootstrap over photographs, expanded percentile intervals, paired differences.

Patches of one photograph resemble each other, so a resample draws photographs, each with all its patches. All methods
are scored on the same draw, so the difference of two methods is paired.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dped_lib import metrics
from dped_lib.metrics import PairStatistics

#: Default level of an interval.
LEVEL = 0.95

#: Intervals over few photographs stay somewhat too narrow (:func:`lower_tail`), above all if their values are skewed. With
#: fewer units (photographs or patches) than this, judges of claims give no verdict on a difference. The user study asks for
#: the same number of subjects.
FEWEST_UNITS = 10


# ---------------------------------------------------------------------------------------------- drawing


def draws(count: int, resamples: int, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Return which of ``count`` units each resample draws, with replacement: indices (resamples, count).

    If ``seed`` is a generator, its next numbers are used.
    """
    return np.random.default_rng(seed).integers(0, count, (resamples, count))


def draw_counts(count: int, resamples: int, seed: int | np.random.Generator = 0) -> np.ndarray:
    """Return how often each resample draws each of ``count`` units: float64 (resamples, count), rows sum to ``count``.

    Statistics that are a product of the counts and a matrix use this form. It draws other numbers than :func:`draws`.
    """
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    return counts.astype(np.float64)


def _sums(values: np.ndarray, groups: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the finite values and their number for each group, groups in sorted order."""
    names, group = np.unique(groups, return_inverse=True)
    known = np.isfinite(values)
    return (
        np.bincount(group[known], values[known], len(names)),
        np.bincount(group[known], minlength=len(names)).astype(np.float64),
    )


def mean(values: np.ndarray, groups: Sequence[str] | np.ndarray) -> float:
    """Return the mean of the finite values (N,), summed by group as :func:`resampled_means` sums them."""
    sums, sizes = _sums(values, groups)
    return float(sums.sum() / sizes.sum())


def resampled_means(values: np.ndarray, groups: Sequence[str] | np.ndarray, resamples: int) -> np.ndarray:
    """Return the mean of the finite values in each resample of their groups: (resamples,).

    Calls with the same groups and resamples use the same draw, so their results can be subtracted.

    Args:
        values: (N,) a value for each pair; NaN where it is not defined.
        groups: (N,) photograph of each pair.
    """
    sums, sizes = _sums(values, groups)
    drawn = draws(len(sums), resamples)
    return sums[drawn].sum(1) / sizes[drawn].sum(1)


def resampled_curves(
    curves: np.ndarray, groups: Sequence[str] | np.ndarray, resamples: int, seed: int | np.random.Generator = 0
) -> np.ndarray:
    """Return the mean curve of each resample of the groups: (resamples, points).

    Args:
        curves: (N, points) a curve for each patch, all values finite.
        groups: (N,) scene of each patch.
    """
    names, group = np.unique(groups, return_inverse=True)
    counts = draw_counts(len(names), resamples, seed)
    sums = np.stack([np.bincount(group, column) for column in curves.T], 1)
    return counts @ sums / (counts @ np.bincount(group))[:, None]


def resampled_scores(
    statistics: Sequence[PairStatistics], photographs: np.ndarray, protocol: str, resamples: int
) -> dict[str, np.ndarray]:
    """Return the scores of several methods in each resample of the photographs: metric -> (resamples, methods).

    Every method is scored on the same draw.

    Args:
        statistics: one entry a method, all over the same N pairs.
        photographs: (N,) photograph of each pair.
        protocol: a key of ``metrics.PROTOCOLS``.
    """
    names, photograph = np.unique(photographs, return_inverse=True)
    members = [np.flatnonzero(photograph == i) for i in range(len(names))]
    scores: dict[str, list[list[float]]] = {metric: [] for metric in metrics.METRICS}
    for drawn in draws(len(names), resamples):
        index = np.concatenate([members[i] for i in drawn])
        by_method = [metrics.PROTOCOLS[protocol](s.take(index)) for s in statistics]
        for metric, rows in scores.items():
            rows.append([math.nan if s[metric] is None else s[metric] for s in by_method])
    return {metric: np.array(rows) for metric, rows in scores.items()}


def resampled_trainings(scores: np.ndarray, trainings: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return, for each method, its mean over trainings drawn with replacement in each resample: method -> (resamples,).

    Args:
        scores: (resamples, sum of ``trainings``), the trainings of a method side by side (:func:`resampled_scores`).
        trainings: method -> number of its trainings, in the order of the columns.
    """
    generator = np.random.default_rng(1)  # other numbers than those that draw the photographs
    means, first = {}, 0
    for method, count in trainings.items():
        drawn = draws(count, len(scores), generator) + first
        means[method] = np.take_along_axis(scores, drawn, axis=1).mean(1)
        first += count
    return means


# ---------------------------------------------------------------------------------------------- intervals


@functools.cache
def lower_tail(units: int, level: float = LEVEL) -> float:
    """Return the share of bootstrap samples below an interval at a level, in [0, 1], if each resample draws ``units`` units.

    The percentile interval of few units is too narrow. It uses the normal distribution where Student's t is right. Also,
    means of resamples of n units vary too little: their variance is (n - 1) / n of the right one. The *expanded* percentile interval begins
    further out, which corrects both errors (T. Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). Of 95 %
    intervals of the mean of 5 normal values, some 92 in 100 then contain the true mean instead of some 85; of 10 values, 94
    instead of some 90. With a single unit the interval has no width, whatever the level.
    """
    from scipy import stats  # takes 0.6 s to import

    units = max(units, 2)
    deviations = math.sqrt(units / (units - 1)) * stats.t.ppf((1 + level) / 2, units - 1)
    return float(stats.norm.cdf(-deviations))


def interval(samples: np.ndarray, units: int, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the expanded percentile interval of bootstrap samples at a level, as (low, high) (:func:`lower_tail`).

    Args:
        samples: (resamples, ...), may be infinite, as the PSNR of equal pictures is.
        units: the number of photographs, scenes or subjects that each resample draws.
        level: the share of intervals that contain the true value, if all assumptions hold.
    """
    tails = (100 * lower_tail(units, level), 100 - 100 * lower_tail(units, level))
    with np.errstate(invalid="ignore"):
        ends = np.percentile(samples, tails, axis=0)
        if not np.isfinite(ends).all():
            # NumPy interpolates between two samples, and infinity minus infinity is not a number. Their mean is infinite.
            below, above = (np.percentile(samples, tails, axis=0, method=m) for m in ("lower", "higher"))
            ends = np.where(np.isnan(ends), (below + above) / 2, ends)
    return ends[0], ends[1]


def finite_bounds(samples: np.ndarray, units: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the interval of the finite samples (:func:`interval`), or None if no sample is finite."""
    samples = samples[np.isfinite(samples)]
    return bounds(samples, units, level) if len(samples) else None


@functools.cache
def wilson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval for a share of independent trials, in [0, 1]."""
    from scipy import stats  # takes 0.6 s to import

    limits = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(limits.low), float(limits.high)


def bounds(samples: np.ndarray, units: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of bootstrap samples (resamples,) as two Python floats (:func:`interval`)."""
    low, high = interval(samples, units, level)
    return float(low), float(high)


def bounds_of_mean(
    values: np.ndarray, groups: Sequence[str] | np.ndarray, resamples: int, level: float = LEVEL
) -> tuple[float, float]:
    """Return the interval of the mean of the finite values (N,) over resamples of their groups (:func:`resampled_means`)."""
    return bounds(resampled_means(values, groups, resamples), len(set(groups)), level)


def mean_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return Student's interval for the mean of independent values (N,). That of a single value has no width."""
    from scipy import stats  # takes 0.6 s to import

    count, center = len(values), float(np.mean(values))
    half = stats.t.ppf((1 + level) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count) if count > 1 else 0.0
    return center - float(half), center + float(half)


def reverse(low_high: Sequence[float]) -> tuple[float, float]:
    """Return the interval of second minus first, given that of first minus second."""
    low, high = low_high
    return -high, -low


def relation(low_high: Sequence[float], reference: float = 0.0) -> str:
    """Return ``higher`` or ``lower`` if the interval excludes the reference, else ``undecided``."""
    low, high = low_high
    return "higher" if low > reference else "lower" if high < reference else "undecided"


def verdict(low_high: Sequence[float], least: float = -math.inf, most: float = math.inf) -> str:
    """Return ``holds`` for an interval in [least, most], ``does not hold`` for one outside.

    An interval that overlaps a border is ``undecided``.
    """
    low, high = low_high
    if least <= low and high <= most:
        return "holds"
    return "does not hold" if high < least or low > most else "undecided"


def digits_beside(low_high: Sequence[float], digits: int, borders: Iterable[float]) -> int:
    """Return how many digits after the point, at least ``digits``, keep both ends on their sides of all borders.

    Rounding moves 4.97 onto the border 5, and then the printed interval has another verdict. At most three digits are added.
    """
    borders = tuple(borders)

    def sides(ends: Iterable[float]) -> list[tuple[bool, bool]]:
        return [(end < border, end > border) for end in ends for border in borders]

    more = range(digits, digits + 4)
    return next((d for d in more if sides(float(f"{e:.{d}f}") for e in low_high) == sides(low_high)), more[-1])


def interval_in_words(low_high: Sequence[float], digits: int, sign: str = "", borders: Iterable[float] = ()) -> str:
    """Return ``[low, high]`` with ``digits`` digits after the point; ``sign="+"`` shows plus signs.

    Both have more digits if the interval's verdict at ``borders`` needs them (:func:`digits_beside`).
    """
    form = f"{sign}.{digits_beside(low_high, digits, borders)}f"
    low, high = low_high
    return f"[{low:{form}}, {high:{form}}]"


def in_words(
    value: float, low_high: Sequence[float], digits: int, sign: str = "", borders: Iterable[float] = ()
) -> str:
    """Return ``value [low, high]``, all three with the digits and signs of :func:`interval_in_words`."""
    digits = digits_beside(low_high, digits, borders)
    return f"{value:{sign}.{digits}f} {interval_in_words(low_high, digits, sign)}"
