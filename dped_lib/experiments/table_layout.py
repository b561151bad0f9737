"""Lay out Tables 2 and 3 for a reader: rows of scores, and rows of paired differences."""

from collections.abc import Iterable

import pandas as pd

from dped_lib import metrics
from dped_lib.experiments import statistics
from dped_lib.experiments.scores import DIGITS, SHOWN, Cell, Difference
from dped_lib.experiments.tables import published


def metric_name(metric: str) -> str:
    """Return the heading of a metric: its label, and its unit in brackets if it has one."""
    m = metrics.METRICS[metric]
    return f"{m.label} ({m.unit})" if m.unit else m.label


def cells_frame(cells: Iterable[Cell], columns: Iterable[str]) -> pd.DataFrame:
    """Return a row for each phone and method: scores with intervals, the published values, and the number of pairs.

    The table is long instead of wide, so that it fits into the width of a column. A method without a cell is
    ``not run`` and has its published values all the same.
    """
    cells = tuple(cells)
    by_key = {(c.phone, c.column): c for c in cells}
    columns = tuple(columns)
    rows = []
    for phone in dict.fromkeys(phone for phone, _ in by_key):
        of_paper = published(cells[0].table, phone)
        for column in columns:
            cell = by_key.get((phone, column))
            row = {"phone": phone, "method": column}
            for i, metric in enumerate(SHOWN):
                name = metric_name(metric)
                row[name] = cell.measured(metric) if cell else "not run"
                score = of_paper.get(column)
                row[f"{name}, paper"] = f"{(score.psnr, score.ssim)[i]:.{DIGITS[metric]}f}" if score else ""
            row["pairs (photographs)"] = f"{cell.pairs} ({cell.photographs})" if cell else ""
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
