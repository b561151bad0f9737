"""Draw Tables 2 and 3: every score with its interval, and the published value."""

import itertools
import textwrap
from collections.abc import Iterable, Iterator

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dped_lib import paper
from dped_lib.base.datasets import camera_name
from dped_lib.experiments.scores import PROTOCOL, TABLE_METRICS, Cell
from dped_lib.experiments.table_layout import metric_name
from dped_lib.experiments.tables import published
from dped_lib.report import colors, figures, labels

_APART = 0.24  # from the mark of one phone to that of the next, in rows


def in_lines(column: str) -> str:
    """Return the name of a method or loss in two lines, or in one if it is short."""
    name = labels.method_heading(column)
    if column in labels.LOSSES:
        return textwrap.fill(name, 18)
    for mark, broken in ((", ", ",\n"), (" (", "\n("), ("Photo ", "Photo\n")):
        name = name.replace(mark, broken, 1)
    return name


def plot_cells(cells: Iterable[Cell], columns: Iterable[str], title: str, dataset: str) -> Figure:
    """Draw each score with its interval (filled) and the published value (hollow), by metric, method and phone.

    A method without a score says "not run" at the left edge: once if no phone has one, else in the colour of each phone
    that has none. Its published values are drawn, too. Those of the paper's later version have a mark of their own.
    """
    columns = tuple(columns)
    drawn = [c for c in cells if c.column in columns]
    phones = tuple(dict.fromkeys(c.phone for c in drawn))
    row = 0.2 + 0.16 * len(phones)  # height in inches
    fig, panels = plt.subplots(1, 2, figsize=(figures.WIDTH, 1.7 + row * len(columns)), sharey=True)
    first, later = (dict(_published(drawn[0].table, phones, columns, later)) for later in (False, True))
    for axes, metric in zip(panels, TABLE_METRICS, strict=True):
        height = {
            (phone, column): columns.index(column) + _APART * (phones.index(phone) - (len(phones) - 1) / 2)
            for phone, column in itertools.product(phones, columns)
        }
        for c in drawn:
            y = height[c.phone, c.column]
            color = colors.PHONES[c.phone]
            axes.plot(getattr(c, f"{metric}_interval"), (y, y), color=color, lw=2)
            axes.plot(getattr(c, metric), y, "o", color=color, ms=5)
        for (phone, column), score in (first | later).items():
            mark, edge = "D" if (phone, column) in later else "o", colors.PHONES[phone]
            axes.plot(
                score[TABLE_METRICS.index(metric)], height[phone, column], mark, mfc="white", mec=edge, ms=6, mew=1.3
            )
        missing = set(height) - {(c.phone, c.column) for c in drawn}
        for phone, column in missing:
            place = {"transform": axes.get_yaxis_transform(), "fontsize": figures.SMALLEST_TEXT, "va": "center"}
            if all((other, column) in missing for other in phones):
                if phone == phones[0]:
                    axes.text(0.02, columns.index(column), "not run", color="0.4", **place)
            else:
                axes.text(0.02, height[phone, column], "not run", color=colors.PHONES[phone], **place)
        axes.set(xlabel=metric_name(metric), ylim=(len(columns) - 0.5, -0.5))
        axes.set_yticks(range(len(columns)), [in_lines(c) for c in columns])
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(False, axis="y")
        for border in range(1, len(columns)):
            axes.axhline(border - 0.5, color="0.9", lw=0.8, zorder=0)
    of_phones = [
        Line2D([], [], color=colors.PHONES[p], marker="s", ls="none", label=camera_name(dataset, p)) for p in phones
    ]
    marks = [Line2D([], [], color="0.4", marker="o", lw=2, label="this run, 95 % interval")]
    hollow = {"color": "0.4", "mfc": "white", "ls": "none"}
    marks += [Line2D([], [], marker="o", label="the paper", **hollow)] if first else []
    marks += [Line2D([], [], marker="D", label="its later version", **hollow)] if later else []
    pairs = sorted({c.pairs for c in drawn})
    n = f"{pairs[0]} to {pairs[-1]}" if len(pairs) > 1 else f"{pairs[0]}" if pairs else "no"
    # The legend stands above the panels. Inside a panel, its symbols could be mistaken for scores.
    heading = f"{title}: {n} held-out pairs a phone, protocol {PROTOCOL}"
    handles = of_phones + marks
    if len(handles) == 6:  # too many for one row: phones above, marks below; a legend fills its columns first
        handles = [h for pair in zip(of_phones, marks, strict=True) for h in pair]
    across = 3 if len(handles) == 6 else len(handles)
    fig.legend(handles=handles, loc="outside upper center", ncols=across, title=heading, columnspacing=1.2)
    return fig


def _published(
    table: str, phones: Iterable[str], columns: Iterable[str], later: bool
) -> Iterator[tuple[tuple[str, str], paper.Score]]:
    """Yield the paper's scores by phone and column: those of its first version, or of its later one (``published2``)."""
    for phone, column in itertools.product(phones, columns):
        score = published(table, phone).get(column)
        if score and later == (column == "authors" and phone in paper.TABLE2_LATER_VERSION):
            yield (phone, column), score
