"""Lay out Tables 2 and 3 for a reader: rows of scores, and rows of paired differences."""

from collections.abc import Iterable

import pandas as pd

from dped_lib import metrics
from dped_lib.experiments import statistics
from dped_lib.experiments.scores import DIGITS, SHOWN, Cell, Difference


def metric_name(metric: str) -> str:
    """Return the heading of a metric: its label, and its unit in brackets if it has one."""
    m = metrics.METRICS[metric]
    return f"{m.label} ({m.unit})" if m.unit else m.label


def cells_frame(cells: Iterable[Cell], columns: Iterable[str]) -> pd.DataFrame:
    """Return a row for each phone and metric, and a column for each method; ``not run`` if there is no cell."""
    by_key = {(c.phone, c.column): c for c in cells}
    columns = tuple(columns)
    rows = []
    for phone in dict.fromkeys(phone for phone, _ in by_key):
        for metric in SHOWN:
            row = {"phone": phone, "metric": metric_name(metric)}
            row |= {c: by_key[phone, c].text(metric) if (phone, c) in by_key else "not run" for c in columns}
            rows.append(row)
    return pd.DataFrame(rows)


def differences_frame(differences: Iterable[Difference], first: str | None = None) -> pd.DataFrame:
    """Return a row for each difference.

    If ``first`` names a method, only its differences are listed, each as that method minus another.
    """
    rows = []
    for d in differences:
        if first not in (None, d.first, d.second):
            continue
        d = d.reversed() if first == d.second else d
        rows.append(
            {
                "phone": d.phone,
                "metric": metric_name(d.metric),
                "first minus second": f"{d.first} - {d.second}",
                "difference": statistics.in_words(d.difference, d.interval, DIGITS[d.metric], "+"),
                "first is": d.verdict,
            }
        )
    return pd.DataFrame(rows)
