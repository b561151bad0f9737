"""Score several methods on the same held-out pairs: each score, its interval, and the differences between methods."""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from torch import nn

from dped_lib import metrics, paper, speed
from dped_lib.base import datasets, presets
from dped_lib.base.errors import DpedError
from dped_lib.data.pair_store import PairStore
from dped_lib.enhance import evaluation
from dped_lib.experiments import statistics
from dped_lib.metrics import PairStatistics

#: The protocol of the tables, which is that of the authors' code. JSON files also have scores under the others.
PROTOCOL = "train_script"
#: The metrics that the tables show, in the order of ``paper.Score``.
TABLE_METRICS = ("psnr", "ms_ssim")
#: Digits after the decimal point of each metric.
DIGITS = MappingProxyType({"psnr": 2, "ms_ssim": 4})

#: A way to enhance: a network, or a function of a store and indices of its pairs that returns uint8 N x 100 x 100 x 3.
Method = nn.Module | Callable[[PairStore, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Cell:
    """Hold one cell of a table: the scores of a method on the held-out pairs of one phone.

    Attributes:
        table, phone, column: the place of the cell.
        split, pairs, photographs: the split that was scored, and its numbers of pairs and of photographs.
        seeds: the seeds of the trainings; empty for a method that is not trained here.
        psnr, ms_ssim: scores in dB and in [0, 1] under ``PROTOCOL``, means over the repetitions of training.
        psnr_interval, ms_ssim_interval: 95 % bootstrap intervals over photographs and repetitions.
        by_repetition: the values of each repetition.
        published: the paper's score, where it has one.
        scores: the mean of every metric under every protocol.
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
    by_repetition: list[dict]
    published: paper.Score | None
    scores: dict

    def measured(self, metric: str) -> str:
        """Return ``value [low, high]``."""
        return statistics.in_words(getattr(self, metric), getattr(self, f"{metric}_interval"), DIGITS[metric])

    def text(self, metric: str) -> str:
        """Return ``value [low, high] (paper value)``."""
        digits = DIGITS[metric]
        return self.measured(metric) + (
            f" (paper {self.published[TABLE_METRICS.index(metric)]:.{digits}f})" if self.published else ""
        )


@dataclass(frozen=True)
class Difference:
    """Hold the score of the first method minus that of the second on the same pairs.

    ``interval`` is the 95 % interval of the difference. Both methods are scored on the same resamples.
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
        """Return ``higher`` or ``lower`` if the interval excludes zero, else ``undecided``. Higher is better."""
        return statistics.relation(self.interval)

    def reversed(self) -> "Difference":
        """Return second minus first."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            interval=statistics.reverse(self.interval),
        )


def repetitions(dataset: str, seeds: Iterable[int]) -> list[tuple[int, ...]]:
    """Group the seeds so that each group tests every held-out pair once.

    A group is one seed. For a dataset in ``datasets.FOLDS`` it is one seed for each fold. A group that lacks a fold of
    the first group is left out.
    """
    folds = datasets.FOLDS.get(dataset, 1)
    groups: dict[int, list[int]] = {}
    for seed in seeds:
        groups.setdefault(seed // folds, []).append(seed)
    first = next(iter(groups.values()), [])
    return [tuple(group) for group in groups.values() if {s % folds for s in group} == {s % folds for s in first}]


@dataclass(frozen=True)
class HeldOut:
    """Hold the pairs of one phone on which methods are compared.

    Attributes:
        store: the pairs of the phone.
        split: the split that they are from.
        repetitions: for each repetition of training, the indices of the pairs by the seed whose network is tested on
            them. Every repetition has the same pairs in the same order.
    """

    store: PairStore
    split: str
    repetitions: list[dict[int, np.ndarray]]

    @property
    def index(self) -> np.ndarray:
        """Return the indices of the pairs of one repetition."""
        return np.concatenate(list(self.repetitions[0].values()))

    @property
    def photographs(self) -> np.ndarray:
        """Return the photograph of each pair."""
        return self.store.photographs[self.index]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of all repetitions."""
        return tuple(seed for repetition in self.repetitions for seed in repetition)


def held_out(store: PairStore, seeds: Iterable[int], split: str, most: int) -> HeldOut:
    """Return the pairs on which the networks of these seeds are compared.

    Args:
        store: the pairs of the phone.
        seeds: the seeds of the trainings; one alone for methods that are not trained here.
        split: ``val``, ``test`` or ``all``. A dataset in ``datasets.FOLDS`` tests each seed on the fold it was trained
            without.
        most: largest number of pairs of the split of a seed; 0 takes all.

    Raises:
        DpedError: the split is empty.
    """
    groups = repetitions(store.meta["dataset"], seeds)
    by_seed = {s: store.fold(s).sample(split, most) for group in groups for s in group}
    pairs = HeldOut(store, split, [{s: by_seed[s] for s in group} for group in groups])
    if not len(pairs.index):
        raise DpedError(f"{store.folder}: split {split!r} is empty. Add photographs: at least three must give patches.")
    return pairs


def method_statistics(method: Method, store: PairStore, index: np.ndarray, at_once: int = 1000) -> PairStatistics:
    """Return the statistics of one method on the pairs at ``index``. Every score is computed from them.

    Args:
        method: a network, or a function of a store and indices.
        store: the pairs.
        index: indices of the pairs.
        at_once: number of pairs that a function enhances at a time. It holds them all in memory.
    """
    if isinstance(method, nn.Module):
        return evaluation.evaluate(method, store, index)
    parts = np.split(index, range(at_once, len(index), at_once))
    return metrics.concatenate([speed.pair_statistics(method(store, part), store.dslr[part]) for part in parts])


def score_methods(
    table: str,
    store: PairStore,
    methods: Mapping[str, Method | Mapping[int, Method]],
    split: str,
    preset: presets.Preset,
    published: Mapping[str, paper.Score],
) -> tuple[list[Cell], list[Difference]]:
    """Score several methods on the same pairs of one phone, and compare each with each.

    Args:
        table: name of the table.
        store: the pairs of the phone.
        methods: the method of each column. Networks trained here are given by seed, and all columns have the same
            seeds.
        split: as in :func:`held_out`.
        preset: sets the numbers of pairs and of bootstrap resamples.
        published: the paper's scores by column.

    Raises:
        DpedError: the split is empty.
    """
    by_seed = {column: method for column, method in methods.items() if isinstance(method, Mapping)}
    pairs = held_out(store, next(iter(by_seed.values()), (0,)), split, preset.table_pairs)
    measured: dict[str, list[PairStatistics]] = {}
    for column, method in methods.items():
        if isinstance(method, Mapping):
            measured[column] = [
                metrics.concatenate([method_statistics(method[s], store, index) for s, index in repetition.items()])
                for repetition in pairs.repetitions
            ]
        else:
            measured[column] = [method_statistics(method, store, pairs.index)]
    return compare_scores(table, pairs, measured, by_seed, published, preset.resamples)


def compare_scores(
    table: str,
    pairs: HeldOut,
    measured: Mapping[str, list[PairStatistics]],
    trained: Collection[str],
    published: Mapping[str, paper.Score],
    resamples: int,
) -> tuple[list[Cell], list[Difference]]:
    """Return the cells of several methods from their statistics on the same pairs, and compare each with each.

    Args:
        table, published: as in :func:`score_methods`.
        pairs: the pairs.
        measured: the statistics of each column, one entry a repetition of training.
        trained: the columns of networks trained here.
        resamples: number of bootstrap resamples for each interval.
    """
    photographs = pairs.photographs
    units = len(set(photographs))
    samples = _samples(measured, photographs, resamples)
    cells = []
    for column, by_repetition in measured.items():
        scored = [metrics.score_all(s) for s in by_repetition]
        mean = _mean(scored)
        cells.append(
            Cell(
                table=table,
                phone=pairs.store.meta["phone"],
                column=column,
                split=pairs.split,
                pairs=len(photographs),
                photographs=units,
                seeds=pairs.seeds if column in trained else (),
                psnr=mean[PROTOCOL]["psnr"],
                psnr_interval=statistics.bounds(samples["psnr"][column], units),
                ms_ssim=mean[PROTOCOL]["ms_ssim"],
                ms_ssim_interval=statistics.bounds(samples["ms_ssim"][column], units),
                by_repetition=[{m: s[PROTOCOL][m] for m in TABLE_METRICS} for s in scored],
                published=published.get(column),
                scores=mean,
            )
        )
    return cells, _differences(cells, samples, units)


def _samples(measured: Mapping[str, list[PairStatistics]], photographs: np.ndarray, resamples: int) -> dict:
    """Return metric -> column -> bootstrap samples.

    A resample has the same photographs for all columns. The repetitions of training are drawn separately for each column.
    """
    repeated = [s for by_repetition in measured.values() for s in by_repetition]
    counts = {column: len(by_repetition) for column, by_repetition in measured.items()}
    scored = statistics.resampled_scores(repeated, photographs, PROTOCOL, resamples)
    return {m: statistics.resampled_trainings(scored[m], counts) for m in TABLE_METRICS}


def _mean(scored: list[dict]) -> dict:
    """Return the mean of every metric under every protocol; None where it is not defined."""
    return {
        protocol: {
            m: None if v is None else float(np.mean([s[protocol][m] for s in scored])) for m, v in values.items()
        }
        for protocol, values in scored[0].items()
    }


def _differences(cells: list[Cell], samples: Mapping[str, Mapping[str, np.ndarray]], units: int) -> list[Difference]:
    differences = []
    for (a, b), metric in itertools.product(itertools.combinations(cells, 2), TABLE_METRICS):
        interval = statistics.bounds(samples[metric][a.column] - samples[metric][b.column], units)
        value = getattr(a, metric) - getattr(b, metric)
        differences.append(Difference(a.table, a.phone, metric, a.column, b.column, value, interval))
    return differences
