"""Lay out the table of the ablation. The trainings (``ablation``) do not depend on this layout."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from dped_lib.experiments import ablation, statistics
from dped_lib.experiments.scores import DIGITS, TABLE_METRICS, Difference
from dped_lib.experiments.table_layout import metric_name
from dped_lib.report import labels


def choices_frame(outcomes: Sequence[ablation.ChoiceOutcome], differences: Sequence[Difference]) -> pd.DataFrame:
    """Return a row for each choice: its scores, and their differences from the authors' code with intervals."""
    rows = []
    for o in outcomes:
        row: dict[str, str] = {"choice": o.row, "trains": "yes" if o.trains else "no" if o.cell else "diverges"}
        for metric in TABLE_METRICS:
            row[metric_name(metric)] = o.cell.text(metric) if o.cell else "diverged"
            row[_difference_name(metric)] = _minus_baseline(differences, o.row, metric)
        rows.append(row)
    return pd.DataFrame(rows)


def _difference_name(metric: str) -> str:
    """Return the heading of the differences in a metric, with their unit: ``PSNR minus code (dB)``."""
    label = labels.METRIC_LABELS[metric]
    return str(replace(label, name=f"{label.name} minus {ablation.BASELINE}"))


def _minus_baseline(differences: Sequence[Difference], row: str, metric: str) -> str:
    """Return the difference in words, with a star if its interval excludes zero; empty if there is none."""
    for d in differences:
        if d.metric == metric and {d.first, d.second} == {ablation.BASELINE, row}:
            d = d if d.first == row else d.reversed()
            star = "" if d.verdict == "undecided" else " *"
            return statistics.in_words(d.difference, d.interval, DIGITS[metric], "+", borders=(0,)) + star
    return ""


def choices_numbers(outcomes: Sequence[ablation.ChoiceOutcome]) -> list[dict]:
    """Return the outcomes for the JSON beside the table."""
    return [{**dataclasses.asdict(o), "trains": o.trains} for o in outcomes]
