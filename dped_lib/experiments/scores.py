"""Several methods on the same held-out pairs: each one's score with its interval, and whether one is better than another."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from dped_lib import metrics, paper, speed, training
from dped_lib.base import config
from dped_lib.base.errors import DpedError
from dped_lib.metrics import PairStatistics
from dped_lib.data.pair_store import PairStore

#: The protocol of the authors' tables; the others go into the JSON.
PROTOCOL = "released"
#: What the tables show.
SHOWN = ("psnr", "ms_ssim")

#: A way to enhance: a network, or a function of a store and indices of its pairs to images uint8 N x 100 x 100 x 3.
Method = nn.Module | Callable[[PairStore, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a method on the held-out pairs of one phone.

    ``psnr`` in dB and ``ms_ssim`` under ``PROTOCOL``, means over the rounds of training; intervals are 95 % bootstrap over
    photographs and, where there are several, rounds. ``by_round`` has the value of each; ``scores`` the mean of every metric
    under every protocol; ``published`` the paper's (psnr, ssim), where it has one. ``seeds`` is empty for what is not trained here.
    """

    table: str
    phone: str
    column: str
    split: str
    pairs: int
    photographs: int
    seeds: tuple[int, ...]
    psnr: float
    psnr_interval: tuple[float, float]
    ms_ssim: float
    ms_ssim_interval: tuple[float, float]
    by_round: list[dict]
    published: tuple[float, float] | None
    scores: dict

    def text(self, metric: str) -> str:
        """The cell as one reads it: value [interval] (published)."""
        digits = 2 if metric == "psnr" else 4
        value, (low, high) = getattr(self, metric), getattr(self, f"{metric}_interval")
        shown = f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        return shown + (f" (paper {self.published[metric != 'psnr']:.{digits}f})" if self.published else "")


@dataclass(frozen=True)
class Difference:
    """First minus second method on the same pairs, with its 95 % interval from the same resamples.

    ``verdict``: ``higher`` or ``lower`` where the interval excludes zero (more is better for both metrics), else ``undecided``.
    """

    table: str
    phone: str
    metric: str
    first: str
    second: str
    difference: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        low, high = self.interval
        return "higher" if low > 0 else "lower" if high < 0 else "undecided"


def rounds(dataset: str, seeds: Iterable[int]) -> list[tuple[int, ...]]:
    """Seeds grouped so that each group tests the same pairs, each pair once: one seed a group, or one a fold (``config.FOLDS``).

    A last group that lacks a fold which the first has is left out.
    """
    folds = config.FOLDS.get(dataset, 1)
    groups: dict[int, list[int]] = {}
    for seed in seeds:
        groups.setdefault(seed // folds, []).append(seed)
    found = [tuple(group) for group in groups.values()]
    return [g for g in found if {s % folds for s in g} == {s % folds for s in found[0]}]


def statistics_of(method: Method, store: PairStore, index: np.ndarray) -> PairStatistics:
    """What every score is computed from, of one method on the pairs at ``index``."""
    if isinstance(method, nn.Module):
        return training.evaluate(method, store, index)
    return speed.pair_statistics(method(store, index), store.dslr[index])


def compare(
    table: str,
    store: PairStore,
    methods: Mapping[str, Method | Mapping[int, Method]],
    split: str,
    preset: config.Preset,
    published: Mapping[str, paper.Score],
) -> tuple[list[Cell], list[Difference]]:
    """Scores of several methods on the same pairs of one phone, and of each against each.

    Args:
        methods: by column of the table; what was trained here is given by seed, all with the same seeds.
        split: ``val`` or ``test``; of a dataset in ``config.FOLDS`` the part that each seed was trained without.

    Raises:
        DpedError: the split is empty.
    """
    dataset, phone = store.meta["dataset"], store.meta["phone"]
    seeds = next((tuple(m) for m in methods.values() if isinstance(m, Mapping)), (0,))
    groups = rounds(dataset, seeds)
    parts = {s: store.fold(s).some(split, preset.table_pairs) for group in groups for s in group}
    index = np.concatenate([parts[s] for s in groups[0]])
    if not len(index):
        raise DpedError(f"{store.folder}: split {split!r} is empty; a table needs held-out pairs.")
    found: dict[str, list[PairStatistics]] = {}
    for name, method in methods.items():
        if isinstance(method, Mapping):
            found[name] = [metrics.joined([statistics_of(method[s], store, parts[s]) for s in group]) for group in groups]
        else:
            found[name] = [statistics_of(method, store, index)]
    photographs = store.photographs[index]
    samples = _samples(found, photographs, preset.resamples)
    cells = []
    for name, trials in found.items():
        scored = [metrics.score_all(t) for t in trials]
        value = published.get(name)
        interval = {m: tuple(float(v) for v in metrics.interval(samples[m][name])) for m in SHOWN}
        trained = tuple(s for group in groups for s in group) if isinstance(methods[name], Mapping) else ()
        mean = _mean(scored)
        cells.append(
            Cell(
                table=table,
                phone=phone,
                column=name,
                split=split,
                pairs=len(index),
                photographs=len(set(photographs)),
                seeds=trained,
                psnr=mean[PROTOCOL]["psnr"],
                psnr_interval=interval["psnr"],
                ms_ssim=mean[PROTOCOL]["ms_ssim"],
                ms_ssim_interval=interval["ms_ssim"],
                by_round=[{m: s[PROTOCOL][m] for m in SHOWN} for s in scored],
                published=(value.psnr, value.ssim) if value else None,
                scores=mean,
            )
        )
    return cells, _differences(cells, samples)


def _samples(found: Mapping[str, list[PairStatistics]], photographs: np.ndarray, resamples: int) -> dict:
    """Metric -> column -> bootstrap samples: photographs are the same in a sample for all columns, rounds drawn for each."""
    flat = [trial for trials in found.values() for trial in trials]
    boot = metrics.bootstrap(flat, photographs, PROTOCOL, resamples)
    rng = np.random.default_rng(1)
    result: dict[str, dict[str, np.ndarray]] = {m: {} for m in SHOWN}
    at = 0
    for name, trials in found.items():
        drawn = rng.integers(0, len(trials), (resamples, len(trials))) + at
        for m in SHOWN:
            result[m][name] = np.take_along_axis(boot[m], drawn, axis=1).mean(1)
        at += len(trials)
    return result


def _mean(scored: list[dict]) -> dict:
    """Mean of every metric under every protocol; None where it is not defined."""
    return {
        protocol: {
            m: None if v is None else float(np.mean([s[protocol][m] for s in scored])) for m, v in values.items()
        }
        for protocol, values in scored[0].items()
    }


def _differences(cells: list[Cell], samples: Mapping[str, Mapping[str, np.ndarray]]) -> list[Difference]:
    found = []
    for (a, b), metric in itertools.product(itertools.combinations(cells, 2), SHOWN):
        low, high = metrics.interval(samples[metric][a.column] - samples[metric][b.column])
        value = getattr(a, metric) - getattr(b, metric)
        found.append(Difference(a.table, a.phone, metric, a.column, b.column, value, (float(low), float(high))))
    return found
