"""Train one network for each choice in which the paper and the authors' code differ, and score it on held-out pairs."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dped_lib import paper
from dped_lib.base import datasets, paths, presets, run_parameters
from dped_lib.base.run_parameters import VGG
from dped_lib.data import experiment_results, opening
from dped_lib.data.training_log import TrainingDiverged
from dped_lib.experiments import training_runs
from dped_lib.experiments.scores import Cell, Difference, score_methods

#: The row of the authors' code. The last row changes all its choices, and each row between changes one.
BASELINE = "code"
#: The rows: for each, the parameters of ``TrainParams`` that differ from the authors' code.
CHOICE_ROWS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        BASELINE: {},
        "paper's kernel (eq. 4)": {"kernel": "printed"},
        "kernel of 3 px": {"kernel": "sigma3"},
        "relu5_2 (eq. 6)": {"content_layer": "relu5_2"},
        "batch norm (3.2.2)": {"norm": "batch"},
        "two-image discriminator (3.1.2)": {"discriminator": "two_image"},
        "one-image counterpart": {"discriminator": "one_image"},
        "all of the paper": {"variant": "paper"},
    }
)


@dataclass(frozen=True)
class ChoiceOutcome:
    """Hold the outcome of one row.

    Attributes:
        row, choices: its name, and the parameters that differ from the authors' code.
        cell: its score on the held-out pairs; None if the training diverged. Then ``why`` has the message.
        first, last: validation scores before the first and after the last iteration.
    """

    row: str
    choices: dict[str, str]
    cell: Cell | None
    first: dict[str, float]
    last: dict[str, float]
    why: str = ""

    @property
    def trains(self) -> bool:
        """Return whether the validation PSNR rose. These trainings are too short to show more."""
        return self.cell is not None and self.last["psnr"] > self.first["psnr"]


def row_params(
    dataset: str, preset_name: str, phone: str, choices: Mapping[str, str], seed: int = 0, vgg: str = VGG
) -> run_parameters.TrainParams:
    """Return the parameters of a row: ``choices``, trained with the full loss for ``Preset.variant_iterations``."""
    preset = presets.preset(preset_name)
    length = min(preset.iterations, preset.variant_iterations)
    changed = {"iterations": length, "eval_every": length, **choices}
    return run_parameters.train_params(dataset, phone, paper.FULL_LOSS, preset_name, seed=seed, vgg=vgg, **changed)


def runs(dataset: str, preset_name: str, vgg: str = VGG) -> dict[str, run_parameters.TrainParams]:
    """Return the parameters of every row, by run name. The ablation uses the dataset's first phone and seed 0."""
    phone = datasets.first_phone(dataset)
    rows = (row_params(dataset, preset_name, phone, choices, vgg=vgg) for choices in CHOICE_ROWS.values())
    return {params.run_name: params for params in rows}


def train_row(params: run_parameters.TrainParams, preset_name: str) -> training_runs.TrainResult:
    """Train one row, or load it if it is finished.

    Raises:
        TrainingDiverged: a term became NaN or infinite.
    """
    store = opening.open_or_make(params.dataset, params.phone, preset_name, seed=params.seed)
    return training_runs.train(params, store, row_folder(params, preset_name))


def row_folder(params: run_parameters.TrainParams, preset_name: str) -> Path:
    """Return the folder of a row's training."""
    return paths.run_dir(params.dataset, preset_name) / "variants" / params.run_name


class Ablation(NamedTuple):
    """Hold the outcomes of all rows, the differences between their scores, and who trained them (``experiment_results``)."""

    outcomes: list[ChoiceOutcome]
    differences: list[Difference]
    origin: str


def result_name(phone: str, seed: int = 0) -> str:
    """Return the name of the result of the ablation (``experiment_results.Experiment.name``)."""
    return f"variants/{phone}-s{seed}"


def experiment(
    dataset: str, preset_name: str, phone: str, seed: int = 0, vgg: str = VGG, rows: Mapping = CHOICE_ROWS
) -> experiment_results.Experiment:
    """Return the ablation as an experiment, with what decides its result."""
    preset = presets.preset(preset_name)
    store = opening.open_or_make(dataset, phone, preset_name, seed=seed)
    digests = {row: row_params(dataset, preset_name, phone, c, seed, vgg).digest() for row, c in rows.items()}
    asked = {"rows": digests, "pairs": preset.table_pairs, "resamples": preset.resamples}
    return experiment_results.Experiment(result_name(phone, seed), preset_name, store, asked)


def train_choices(
    dataset: str, preset_name: str, phone: str, seed: int = 0, vgg: str = VGG, rows: Mapping = CHOICE_ROWS
) -> Ablation:
    """Train every row that is not finished, and score all rows on the same held-out pairs.

    If no row was begun here, the result that ships is loaded. Trainings that were begun here are the user's: they are
    finished, and their networks are scored as they are now.
    """
    wanted = experiment(dataset, preset_name, phone, seed, vgg, rows)
    trainings = {row: row_params(dataset, preset_name, phone, c, seed, vgg) for row, c in rows.items()}
    begun = any(row_folder(params, preset_name).is_dir() for params in trainings.values())
    if not begun and (shipped := experiment_results.shipped_result(wanted)):
        return Ablation(*_from_json(shipped), experiment_results.SHIPPED)
    preset, store = presets.preset(preset_name), wanted.store
    results: dict[str, training_runs.TrainResult] = {}
    diverged: dict[str, str] = {}
    for row, params in trainings.items():
        try:
            results[row] = train_row(params, preset_name)
        except TrainingDiverged as error:
            diverged[row] = str(error)
    methods = {row: {seed: result.model} for row, result in results.items()}
    cells, differences = score_methods("variants", store, methods, "test", preset, {})
    by_row = {c.column: c for c in cells}
    outcomes = []
    for row, choices in rows.items():
        log = results[row].log() if row in results else []
        validations = [line["validation"] for line in log if "validation" in line] or [{}]
        outcomes.append(
            ChoiceOutcome(row, dict(choices), by_row.get(row), validations[0], validations[-1], diverged.get(row, ""))
        )
    result = {"outcomes": [*map(dataclasses.asdict, outcomes)], "differences": [*map(dataclasses.asdict, differences)]}
    experiment_results.keep(wanted, result)
    return Ablation(outcomes, differences, experiment_results.HERE)


def _from_json(result: Mapping) -> tuple[list[ChoiceOutcome], list[Difference]]:
    """Return the outcomes and differences of a result that ships."""
    outcomes = []
    for outcome in result["outcomes"]:
        cell = outcome["cell"] and Cell(**_with_tuples(outcome["cell"], "seeds", "psnr_interval", "ms_ssim_interval"))
        outcomes.append(ChoiceOutcome(**{**outcome, "cell": cell}))
    return outcomes, [Difference(**_with_tuples(d, "interval")) for d in result["differences"]]


def _with_tuples(values: Mapping, *names: str) -> dict:
    # JSON has lists only.
    return {**values, **{name: tuple(values[name]) for name in names}}
