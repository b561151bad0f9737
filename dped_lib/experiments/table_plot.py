"""Draw Tables 2 and 3: every score with its interval, and the published value."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dped_lib.experiments.scores import PROTOCOL, SHOWN, Cell
from dped_lib.experiments.table_layout import metric_name
from dped_lib.report import figures


def plot_cells(cells: Iterable[Cell], columns: Iterable[str], title: str) -> Figure:
    """Draw each score with its interval (filled) and the published value (hollow), by metric, method and phone."""
    columns = tuple(columns)
    drawn = [c for c in cells if c.column in columns]
    phones = tuple(dict.fromkeys(c.phone for c in drawn))
    fig, panels = plt.subplots(1, 2, figsize=(10, 0.5 + 0.55 * len(columns) * max(1, len(phones) / 2)))
    for axes, metric in zip(panels, SHOWN, strict=True):
        for c in drawn:
            y = columns.index(c.column) + 0.22 * (phones.index(c.phone) - (len(phones) - 1) / 2)
            color = figures.PHONE_COLORS[c.phone]
            axes.plot(getattr(c, f"{metric}_interval"), (y, y), color=color, lw=1.5)
            label = c.phone if c.column == columns[0] else None
            axes.plot(getattr(c, metric), y, "o", color=color, ms=5, label=label)
            if c.published:
                axes.plot(c.published[SHOWN.index(metric)], y, "o", mfc="white", mec=color, ms=5)
        axes.set(
            xlabel=f"{metric_name(metric)}, protocol {PROTOCOL}",
            yticks=range(len(columns)),
            ylim=(len(columns) - 0.4, -0.6),
        )
        axes.set_yticklabels(columns if axes is panels[0] else [])
    # The legend stands above the panels. Inside a panel, its symbols could be mistaken for scores.
    samples = panels[0].get_legend_handles_labels()
    legend_title = f"{title}: filled this run with 95 % interval, hollow the paper"
    fig.legend(
        *samples, loc="outside upper center", ncols=len(phones), fontsize=8, title=legend_title, title_fontsize=10
    )
    return fig
