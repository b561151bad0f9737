"""Compute Tables 2 and 3 for a dataset: choose the method of each column, and score it on held-out pairs."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from torch import Tensor, nn

from dped_lib import losses, metrics, paper, speed
from dped_lib.base import datasets, presets
from dped_lib.data import opening, pair_store
from dped_lib.enhance import evaluation
from dped_lib.experiments import appearance, baselines, scores
from dped_lib.experiments.networks import NO_AUTHORS_IN_TABLE2, Trained, authors_beside_ours, of_seeds
from dped_lib.experiments.scores import Cell, Difference, Method

#: Columns of Table 2. The paper's are ``original``, ``ape``, ``dong``, ``johnson`` and ``ours``. ``auto`` is an open
#: substitute for Apple's enhancer. ``dong authors`` and ``authors`` are the authors' weights of SRCNN and of their own
#: network.
COLUMNS2 = ("original", "auto", "ape", "dong", "dong authors", "johnson", "ours", "authors")
#: Columns of Table 2 with networks trained here, and the loss of their training.
TRAINED2 = MappingProxyType({"dong": "dong", "johnson": "johnson", "ours": paper.FULL_LOSS})

#: The columns of Table 2 with weights that the authors published.
_OF_AUTHORS = ("dong authors", "authors")

#: By phone, the columns that are not run, each with the reason: few words, and sometimes a colon and details.
Missing = dict[str, dict[str, str]]


def columns2(dataset: str) -> tuple[str, ...]:
    """Return the columns of Table 2 that can be run on a dataset.

    On the rig those of the authors' weights are left out (``networks.NO_AUTHORS_IN_TABLE2``).
    """
    return tuple(column for column in COLUMNS2 if dataset not in NO_AUTHORS_IN_TABLE2 or column not in _OF_AUTHORS)


def published2(phone: str) -> dict[str, paper.Score]:
    """Return the published scores of Table 2 by column.

    They are those of the paper's first version. ``authors`` has the score of the later version, if it is known.
    """
    if phone not in paper.TABLE2:
        return {}
    first = paper.TABLE2[phone]
    return {**first, "dong authors": first["dong"], "authors": paper.TABLE2_LATER_VERSION.get(phone, first["ours"])}


def published(table: str, phone: str) -> Mapping[str, paper.Score]:
    """Return the paper's scores of a phone in Table ``2`` or ``3``, by column; also those of methods that are not run."""
    return published2(phone) if table == "2" else paper.TABLE3.get(phone, {})


def methods2(
    networks: Trained, phone: str, store: pair_store.PairStore
) -> dict[str, Method | Mapping[int, Method] | str]:
    """Return the columns of Table 2 for a phone: a method, networks by seed, or the reason why it is not run."""
    methods: dict = {
        "original": nn.Identity(),
        "auto": baselines.enhance_auto,
        "ape": baselines.users_method("ape", store),
    }
    for column, loss in TRAINED2.items():
        methods[column] = of_seeds(networks, phone, loss) or f"loss {loss!r} was not asked for"
    for column, method in (("dong authors", "dong"), ("authors", "ours")):
        methods[column] = authors_beside_ours(store.meta["dataset"], phone, method, in_table2=True)
    return {column: methods[column] for column in COLUMNS2}


def score_table3(
    dataset: str,
    preset: str,
    networks: Trained,
    phones: Iterable[str],
    columns: Sequence[str] = losses.TABLE3_LOSSES,
) -> tuple[list[Cell], list[Difference], list[appearance.Look], list[appearance.LookDifference]]:
    """Score the loss functions of Table 3, on the validation split as the paper does, and measure their looks.

    A dataset in folds is scored on its held-out pairs. No choice in training depends on either split. Each network
    enhances each pair once. Scores and looks (``appearance``) are measured on the same enhanced pairs.
    """
    cells, differences, looks, look_differences = [], [], [], []
    settings = presets.preset(preset)
    split = "test" if dataset in datasets.FOLDS else "val"
    for phone in phones:
        methods = {loss: by_seed for loss in columns if (by_seed := of_seeds(networks, phone, loss))}
        if not methods:
            continue
        store = opening.open_or_make(dataset, phone, preset)
        pairs = scores.held_out(store, next(iter(methods.values())), split, settings.table_pairs)
        statistics, looked = {}, {}
        for loss, of_loss in methods.items():
            measured = [_score_and_look(of_loss, store, repetition) for repetition in pairs.repetitions]
            statistics[loss] = [of_pairs for of_pairs, _ in measured]
            looked[loss] = np.mean([of_pairs for _, of_pairs in measured], axis=0)
        scored = scores.compare_scores("3", pairs, statistics, methods, published("3", phone), settings.resamples)
        compared = appearance.compare_looks(phone, pairs.photographs, looked, settings.resamples)
        cells += scored[0]
        differences += scored[1]
        looks += compared[0]
        look_differences += compared[1]
    return cells, differences, looks, look_differences


def _score_and_look(
    by_seed: Mapping[int, nn.Module], store: pair_store.PairStore, repetition: Mapping[int, np.ndarray]
) -> tuple[metrics.PairStatistics, np.ndarray]:
    """Return the statistics and the looks of the pairs of one repetition of training (``scores.HeldOut``)."""

    def both(enhanced: Tensor, dslr: Tensor) -> tuple[metrics.PairStatistics, np.ndarray]:
        return speed.pair_statistics(enhanced, dslr), appearance.measure_batch(enhanced, dslr)

    batches = [
        batch
        for seed, index in repetition.items()
        for batch in evaluation.measure_pairs(by_seed[seed], store, index, both)
    ]
    statistics, looks = zip(*batches, strict=True)
    return metrics.concatenate(statistics), np.concatenate(looks)


def score_table2(
    dataset: str, preset: str, networks: Trained, phones: Iterable[str]
) -> tuple[list[Cell], list[Difference], Missing]:
    """Score the methods of Table 2 on the test split: cells, differences, and the columns that are not run."""
    return _score2(dataset, preset, networks, phones, COLUMNS2, "test", presets.preset(preset))


def score_untrained(dataset: str, preset: str) -> tuple[list[Cell], list[Difference], Missing]:
    """Score the columns of Table 2 that need no training here, on every pair of a dataset."""
    columns = [column for column in COLUMNS2 if column not in TRAINED2]
    every_pair = dataclasses.replace(presets.preset(preset), table_pairs=0)
    return _score2(dataset, preset, {}, datasets.DATASET_PHONES[dataset], columns, "all", every_pair)


def _score2(
    dataset: str,
    preset: str,
    networks: Trained,
    phones: Iterable[str],
    columns: Sequence[str],
    split: str,
    settings: presets.Preset,
) -> tuple[list[Cell], list[Difference], Missing]:
    cells, differences, missing = [], [], {}
    for phone in phones:
        store = opening.open_or_make(dataset, phone, preset)
        methods = {c: m for c, m in methods2(networks, phone, store).items() if c in columns}
        missing[phone] = {c: m for c, m in methods.items() if isinstance(m, str)}
        runnable = {c: m for c, m in methods.items() if not isinstance(m, str)}
        scored = scores.score_methods("2", store, runnable, split, settings, published("2", phone))
        cells += scored[0]
        differences += scored[1]
    return cells, differences, missing
