"""Lay out tables for a reader: Tables 2 and 3 with a row of scores for each phone and method, without empty columns."""

from collections.abc import Iterable

import pandas as pd

from dped_lib.base.datasets import camera_name
from dped_lib.experiments.scores import DIGITS, SHOWN, Cell
from dped_lib.experiments.tables import published
from dped_lib.report import labels

_PAPER = ", paper"  # ends the heading of a column with published values


def metric_name(metric: str) -> str:
    """Return the heading of a metric: its name, and its unit in brackets if it has one."""
    return str(labels.METRICS[metric])


def cells_frame(cells: Iterable[Cell], columns: Iterable[str], dataset: str) -> pd.DataFrame:
    """Return a row for each phone and method: scores with intervals, the published values, and the number of pairs.

    Phones and methods have the names that a reader knows (``datasets.camera_name``, ``labels.method_heading``).

    The table is long instead of wide, so that it fits into the width of a column. A method without a cell is
    ``not run`` and has its published values all the same. Without any published value there is no column for them.
    """
    cells = tuple(cells)
    by_key = {(c.phone, c.column): c for c in cells}
    columns = tuple(columns)
    rows = []
    for phone in dict.fromkeys(phone for phone, _ in by_key):
        of_paper = published(cells[0].table, phone)
        for column in columns:
            cell = by_key.get((phone, column))
            row = {"phone": camera_name(dataset, phone), "method": labels.method_heading(column)}
            for i, metric in enumerate(SHOWN):
                name = metric_name(metric)
                row[name] = cell.measured(metric) if cell else "not run"
                score = of_paper.get(column)
                row[f"{name}{_PAPER}"] = f"{score[i]:.{DIGITS[metric]}f}" if score else ""
            row["pairs (photographs)"] = f"{cell.pairs} ({cell.photographs})" if cell else ""
            rows.append(row)
    return without_empty(pd.DataFrame(rows))


def without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the columns that are empty or 0 in every row."""
    return frame.loc[:, [not frame[column].isin(["", 0]).all() for column in frame]]


def how_to_read(frame: pd.DataFrame) -> str:
    """Return the sentence below a table of :func:`cells_frame` that says what stands in its columns."""
    published_too = any(str(column).endswith(_PAPER) for column in frame)
    return "Value [95 % interval]" + (", and the paper's value beside it." if published_too else ".")
