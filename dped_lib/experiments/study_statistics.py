"""Statistics that experiments share: intervals, and resamples of units such as subjects, photographs or scenes."""

import functools

import numpy as np
from scipy import stats


@functools.cache
def wilson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a share of independent trials, in [0, 1]."""
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def resample_counts(units: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each unit is in each bootstrap resample: float64 (resamples, units). A row sums to ``units``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)


def percentile_interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of bootstrap samples (one axis). Samples that are not finite are left out.

    Return None if no sample is finite.
    """
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None
    low, high = np.percentile(samples, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)
