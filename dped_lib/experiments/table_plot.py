"""Draw Tables 2 and 3: every score with its interval, in words too, and the published value."""

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dped_lib import paper
from dped_lib.base.datasets import camera_name, resampled_in_words
from dped_lib.experiments import statistics
from dped_lib.experiments.appearance import OF_DSLR, Look
from dped_lib.experiments.scores import PROTOCOL, TABLE_METRICS, Cell
from dped_lib.experiments.table_layout import metric_name
from dped_lib.experiments.tables import published
from dped_lib.report import colors, figures, labels

_APART = 0.25  # from the mark of one phone to that of the next, in rows


def in_lines(column: str) -> str:
    """Return the name of a method or loss in two lines, or in one if it is short."""
    name = labels.method_heading(column)
    if column in labels.LOSS_NAMES:
        return textwrap.fill(name, 18)
    for mark, broken in ((", ", ",\n"), (" (", "\n("), ("Photo ", "Photo\n")):
        name = name.replace(mark, broken, 1)
    return name


@dataclass(frozen=True)
class _Value:
    """Hold one value to draw: its place (phone, column), the value, its interval, and both in words."""

    phone: str
    column: str
    value: float
    interval: tuple[float, float]
    words: str


class _Rows:
    """Lay out a figure: a row for each column of the table, and in it a line for each phone."""

    def __init__(self, phones: Sequence[str], columns: Sequence[str]):
        self.phones, self.columns = tuple(phones), tuple(columns)
        #: Height in inches of all rows.
        self.inches = (0.18 + 0.17 * len(self.phones)) * len(self.columns)
        self.y_of = {
            (phone, column): y + _APART * (i - (len(self.phones) - 1) / 2)
            for (i, phone), (y, column) in itertools.product(enumerate(self.phones), enumerate(self.columns))
        }

    def draw(self, axes: Axes, values: Iterable[_Value], name: str) -> None:
        """Draw each value with its interval, and write both beside the panel."""
        axes.set(xlabel=name)
        figures.label_rows(axes, [in_lines(c) for c in self.columns])
        for v in values:
            y, color = self.y_of[v.phone, v.column], colors.PHONE_COLORS[v.phone]
            axes.plot(v.interval, (y, y), color=color, lw=2)
            axes.plot(v.value, y, "o", color=color, ms=5)
            figures.write_beside(axes, y, v.words, "0.15")  # the colours of some phones are too pale for words
        axes.locator_params(axis="x", nbins=4)
        for border in range(1, len(self.columns)):
            axes.axhline(border - 0.5, color="0.9", lw=0.8, zorder=0)

    def draw_missing(self, axes: Axes, done: Iterable[tuple[str, str]]) -> None:
        """Write "not run" where a value would stand: once if no phone has one, else in the colour of each that has none."""
        missing = set(self.y_of) - set(done)
        for phone, column in missing:
            if all((other, column) in missing for other in self.phones):
                if phone == self.phones[0]:
                    figures.write_beside(axes, self.columns.index(column), "not run", "0.4")
            else:
                figures.write_beside(axes, self.y_of[phone, column], "not run", colors.PHONE_COLORS[phone])

    def legend(self, fig: Figure, heading: str, marks: Sequence[Line2D], dataset: str) -> None:
        """Write the legend above the panels. Inside a panel, its symbols could be mistaken for values."""
        names = [(colors.PHONE_COLORS[p], camera_name(dataset, p)) for p in self.phones]
        of_phones = [Line2D([], [], color=color, marker="s", ls="none", label=name) for color, name in names]
        handles = [*of_phones, *marks]
        if len(handles) == 6:  # too many for one row: phones above, marks below; a legend fills its columns first
            handles = [h for pair in zip(of_phones, marks, strict=True) for h in pair]
        across = 3 if len(handles) == 6 else len(handles)
        fig.legend(handles=handles, loc="outside upper center", ncols=across, title=heading, columnspacing=1.2)


#: A published value leaves room for a measured one within it, and lies beneath: where both are equal, each is seen.
_HOLLOW = MappingProxyType({"mfc": "none", "ms": 9, "mew": 1.3, "zorder": 1})
_THIS_RUN = {"color": "0.4", "marker": "o", "lw": 2, "label": "this run, 95 % interval"}


def plot_cells(cells: Iterable[Cell], columns: Iterable[str], title: str, dataset: str) -> Figure:
    """Draw each score with its interval (filled) and the published value (hollow), by metric, method and phone.

    Score and interval stand beside the panel in words. A method without a score says "not run" there: once if no phone
    has one, else in the colour of each phone that has none. Its published values are drawn, too. Those of the paper's
    later version have a mark of their own.
    """
    columns = tuple(columns)
    drawn = [c for c in cells if c.column in columns]
    rows = _Rows(dict.fromkeys(c.phone for c in drawn), columns)
    fig, panels = plt.subplots(1, 2, figsize=(figures.WIDTH, 1.7 + rows.inches), sharey=True)
    first, later = (dict(_published(drawn[0].table, rows.phones, columns, later)) for later in (False, True))
    for axes, metric in zip(panels, TABLE_METRICS, strict=True):
        values = (
            _Value(c.phone, c.column, getattr(c, metric), getattr(c, f"{metric}_interval"), c.measured(metric))
            for c in drawn
        )
        rows.draw(axes, values, metric_name(metric))
        for (phone, column), score in (first | later).items():
            mark, edge = "D" if (phone, column) in later else "o", colors.PHONE_COLORS[phone]
            value, y = score[TABLE_METRICS.index(metric)], rows.y_of[phone, column]
            axes.plot(value, y, mark, **_HOLLOW, mec=edge)
        rows.draw_missing(axes, ((c.phone, c.column) for c in drawn))
    marks = [Line2D([], [], **_THIS_RUN)]
    for mark, name, values in (("o", "the paper", first), ("D", "its later version", later)):
        marks += [Line2D([], [], marker=mark, label=name, color="0.4", ls="none", **_HOLLOW)] if values else []
    rows.legend(fig, f"{title}: {scored(drawn, dataset)}; protocol {PROTOCOL}", marks, dataset)
    return fig


def scored(cells: Sequence[Cell], dataset: str) -> str:
    """Return the split, and the pairs of a phone, in words: ``test split, 114 to 120 pairs of 5 photographs a phone``."""
    if not cells:
        return "no pairs"
    pairs, photographs = (_from_to([getattr(c, name) for c in cells]) for name in ("pairs", "photographs"))
    return f"{cells[0].split} split, {pairs} pairs of {resampled_in_words(dataset, photographs)} a phone"


def _from_to(counts: Sequence[int]) -> str:
    return " to ".join(str(count) for count in dict.fromkeys(f(counts) for f in (min, max)))


#: The axis of each measure of looks.
_LOOK_AXES = MappingProxyType({"colour deviation": "colour deviation (CIEDE2000)", "sharpness": "sharpness (DSLR = 1)"})


def plot_looks(looks: Iterable[Look], columns: Iterable[str], heading: str, dataset: str) -> Figure:
    """Draw each measure of looks (``appearance``) with its interval, by loss and phone, and the value of the DSLR."""
    looks = tuple(looks)
    rows = _Rows(dict.fromkeys(k.phone for k in looks), [c for c in columns if c in {k.column for k in looks}])
    fig, panels = plt.subplots(1, len(OF_DSLR), figsize=(figures.WIDTH, 1.5 + rows.inches), sharey=True)
    for axes, (measure, of_dslr) in zip(panels, OF_DSLR.items(), strict=True):
        values = (
            _Value(k.phone, k.column, k.value, k.interval, statistics.in_words(k.value, k.interval, 2))
            for k in looks
            if k.measure == measure
        )
        axes.axvline(of_dslr, color="0.4", lw=1, ls="--")
        rows.draw(axes, values, _LOOK_AXES[measure])
        rows.draw_missing(axes, ((k.phone, k.column) for k in looks))
    dslr = Line2D([], [], color="0.4", lw=1, ls="--", label="the DSLR")
    rows.legend(fig, heading, [Line2D([], [], **_THIS_RUN), dslr], dataset)
    return fig


def _published(
    table: str, phones: Iterable[str], columns: Iterable[str], later: bool
) -> Iterator[tuple[tuple[str, str], paper.Score]]:
    """Yield the paper's scores by phone and column: those of its first version, or of its later one (``published2``)."""
    for phone, column in itertools.product(phones, columns):
        score = published(table, phone).get(column)
        if score and later == (column == "authors" and phone in paper.TABLE2_LATER_VERSION):
            yield (phone, column), score
