"""Lay out tables for a reader: Tables 2 and 3 with a row of scores for each phone and method, without empty columns."""

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from dped_lib.base.datasets import camera_name, resampled_in_words
from dped_lib.experiments.networks import NO_AUTHORS_IN_TABLE2
from dped_lib.experiments.scores import DIGITS, TABLE_METRICS, Cell
from dped_lib.experiments.tables import columns2, published
from dped_lib.report import labels

_PAPER = ", paper"  # ends the heading of a column with published values


def metric_name(metric: str) -> str:
    """Return the heading of a metric: its name, and its unit in brackets if it has one."""
    return str(labels.METRIC_LABELS[metric])


def cells_frame(cells: Iterable[Cell], columns: Iterable[str], dataset: str) -> pd.DataFrame:
    """Return a row for each phone and method: scores with intervals, and the published values.

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
            for i, metric in enumerate(TABLE_METRICS):
                name = metric_name(metric)
                row[name] = cell.measured(metric) if cell else "not run"
                score = of_paper.get(column)
                row[f"{name}{_PAPER}"] = f"{score[i]:.{DIGITS[metric]}f}" if score else ""
            rows.append(row)
    return without_empty(pd.DataFrame(rows))


def without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the columns that are empty or 0 in every row."""
    return frame.loc[:, [not frame[column].isin(["", 0]).all() for column in frame]]


def pairs_in_words(cells: Iterable[Cell], dataset: str) -> str:
    """Return on how many pairs the cells of each phone were scored: ``iPhone X 120 pairs of 7 photographs``."""
    counts = {c.phone: f"{c.pairs} pairs of {resampled_in_words(dataset, c.photographs)}" for c in cells}
    return "; ".join(f"{camera_name(dataset, phone)} {count}" for phone, count in counts.items())


def chosen_by_phone(values: Mapping[tuple[str, str], float], dataset: str, choose: Callable = min) -> str:
    """Return which method or loss has the lowest value on each phone: ``MSE (iPhone 3GS, Sony Xperia Z)``.

    ``values`` are by phone and column. With ``choose=max`` the highest value counts.
    """
    where: dict[str, list[str]] = {}
    for phone in dict.fromkeys(phone for phone, _ in values):
        of_phone = {column: value for (p, column), value in values.items() if p == phone}
        column = choose(of_phone, key=of_phone.__getitem__)
        where.setdefault(labels.method_heading(column), []).append(camera_name(dataset, phone))
    return "; ".join(f"{name} ({', '.join(cameras)})" for name, cameras in where.items())


def notes_on_methods(missing: Mapping[str, Mapping[str, str]], dataset: str) -> str:
    """Return the sentences below Table 2 on its methods: whose they are, and why some were not run.

    ``missing`` has the reason by phone and column (``tables.score_table2``). Details after its colon are left out.
    """
    sentences = []
    if dataset in NO_AUTHORS_IN_TABLE2:
        sentences.append("The authors' weights were made for real photographs, so they are not tested on the rig.")
    elif dataset in ("city100", "own"):
        sentences.append("The authors' weights were made for the iPhone 3GS, another phone.")
    elif "iphone" in missing:
        sentences.append(
            "On the iPhone the value beside the authors' own network is that of the paper's later version."
        )
    sentences.append("The automatic contrast is Pillow's, a stand-in for Apple's.")
    phones: dict[tuple[str, str], list[str]] = {}
    for phone, reasons in missing.items():
        for column in (c for c in columns2(dataset) if c in reasons):
            why = reasons[column].partition(": ")[0]
            phones.setdefault((labels.method_name(column), why), []).append(camera_name(dataset, phone))
    where = {key: "" if len(of) == len(missing) else f" on {', '.join(of)}" for key, of in phones.items()}
    if where:
        sentences.append(f"Not run: {'; '.join(f'{key[0]}{on} ({key[1]})' for key, on in where.items())}.")
    return " ".join(sentences)


def how_to_read(frame: pd.DataFrame) -> str:
    """Return the sentence below a table of :func:`cells_frame` that says what stands in its columns."""
    published_too = any(str(column).endswith(_PAPER) for column in frame)
    return "Value [95 % interval]" + (", and the paper's value beside it." if published_too else ".")
