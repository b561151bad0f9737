"""Draw Tables 2 and 3: every score with its interval, and the published value."""

import itertools
from collections.abc import Iterable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dped_lib.base.datasets import camera_name
from dped_lib.experiments.scores import PROTOCOL, SHOWN, Cell
from dped_lib.experiments.table_layout import metric_name
from dped_lib.experiments.tables import published
from dped_lib.report import colors, figures, labels

_APART = 0.24  # from the mark of one phone to that of the next, in rows


def _in_lines(column: str) -> str:
    """Return the name of a method or loss in two lines, or in one if it is short."""
    name = labels.method_name(column).replace("+", " +\n", 1)
    for mark, broken in ((", ", ",\n"), (" (", "\n("), ("Photo ", "Photo\n")):
        name = name.replace(mark, broken, 1)
    return name


def plot_cells(cells: Iterable[Cell], columns: Iterable[str], title: str, dataset: str) -> Figure:
    """Draw each score with its interval (filled) and the published value (hollow), by metric, method and phone.

    A method without a score says "not run" at the left edge. Its published values are drawn, too.
    """
    columns = tuple(columns)
    drawn = [c for c in cells if c.column in columns]
    phones = tuple(dict.fromkeys(c.phone for c in drawn))
    row = 0.2 + 0.16 * len(phones)  # height in inches
    fig, panels = plt.subplots(1, 2, figsize=(figures.WIDTH, 1.5 + row * len(columns)), sharey=True)
    for axes, metric in zip(panels, SHOWN, strict=True):
        for c in drawn:
            y = columns.index(c.column) + _APART * (phones.index(c.phone) - (len(phones) - 1) / 2)
            color = colors.PHONES[c.phone]
            axes.plot(getattr(c, f"{metric}_interval"), (y, y), color=color, lw=2)
            axes.plot(getattr(c, metric), y, "o", color=color, ms=5)
        for phone, column in itertools.product(phones, columns):
            if score := published(drawn[0].table, phone).get(column):
                y = columns.index(column) + _APART * (phones.index(phone) - (len(phones) - 1) / 2)
                axes.plot(score[SHOWN.index(metric)], y, "o", mfc="white", mec=colors.PHONES[phone], ms=6, mew=1.3)
        for column in set(columns) - {c.column for c in drawn}:
            place = {"transform": axes.get_yaxis_transform(), "fontsize": figures.SMALLEST_TEXT, "va": "center"}
            axes.text(0.02, columns.index(column), "not run", color="0.4", **place)
        axes.set(xlabel=metric_name(metric), ylim=(len(columns) - 0.5, -0.5))
        axes.set_yticks(range(len(columns)), [_in_lines(c) for c in columns])
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(False, axis="y")
        for border in range(1, len(columns)):
            axes.axhline(border - 0.5, color="0.9", lw=0.8, zorder=0)
    marks = [
        *(Line2D([], [], color=colors.PHONES[p], marker="s", ls="none", label=camera_name(dataset, p)) for p in phones),
        Line2D([], [], color="0.4", marker="o", lw=2, label="this run, 95 % interval"),
        Line2D([], [], color="0.4", marker="o", mfc="white", ls="none", label="the paper"),
    ]
    pairs = sorted({c.pairs for c in drawn})
    n = f"{pairs[0]} to {pairs[-1]}" if len(pairs) > 1 else f"{pairs[0]}" if pairs else "no"
    # The legend stands above the panels. Inside a panel, its symbols could be mistaken for scores.
    heading = f"{title}: {n} held-out pairs a phone, protocol {PROTOCOL}"
    fig.legend(handles=marks, loc="outside upper center", ncols=len(marks), title=heading, columnspacing=1.2)
    return fig
