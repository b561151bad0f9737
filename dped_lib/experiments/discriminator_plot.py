"""Draw how often the discriminators are right. The trainings (``discriminators``) do not depend on this drawing."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dped_lib import paper
from dped_lib.data import experiment_results
from dped_lib.experiments.discriminators import Curve
from dped_lib.report import colors, figures

_ASIDE = 0.14  # distance of a bar from its point, as a share of the iterations; their axis is logarithmic


def plot_accuracy(curves: Sequence[Curve]) -> Figure:
    """Draw the accuracy over the iterations of each discriminator, and what the paper states (hollow)."""
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
    marks = {"two_image": "o", "one_image": "s"}
    # Both trainings may have the same length. Each bar stands beside its last point, on its own side.
    aside = {"two_image": 1 + _ASIDE, "one_image": 1 / (1 + _ASIDE)}
    exact = []  # the intervals that are too short to see
    for c in curves:
        color, mark = colors.DISCRIMINATOR_COLORS[c.form], marks[c.form]
        words = c.form.replace("_", "-")
        trained_by = "this run" if c.origin == experiment_results.HERE else c.origin
        low, high = c.interval()
        ax.plot(c.iterations, c.accuracy, f"{mark}-", color=color, label=f"{words}, {trained_by}")
        end = c.accuracy[-1]
        bar = {"yerr": [[max(end - low, 0)], [max(high - end, 0)]], "ecolor": color, "capsize": 3}
        ax.errorbar([c.iterations[-1] * aside[c.form]], [end], fmt="none", **bar)
        hollow = {"mfc": "none", "mec": color, "ms": 9, "ls": "none", "zorder": 1}
        ax.plot(*paper.DISCRIMINATOR_ACCURACY[c.form], mark, **hollow, label=f"{words}, the paper")
        if high - low < 0.01:
            exact.append(f"{words}: [{low:.2f}, {high:.2f}], too short to see")
    ax.axhline(0.5, color="0.6", lw=0.8, ls=":")
    place = {"transform": ax.get_yaxis_transform(), "ha": "right", "fontsize": figures.SMALLEST_TEXT, "color": "0.3"}
    ax.text(0.99, 0.51, "guessing", **place)
    sizes = sorted({c.batch_size for c in curves})
    batch = ", ".join(str(size) for size in sizes)
    published = ", as in the paper" if sizes == [paper.BATCH_SIZE] else f" (the paper: {paper.BATCH_SIZE})"
    bars = "; ".join(["bars: 95 % interval of the last point", *exact])
    lowest = min([0.4, *(min(*c.accuracy, c.interval()[0]) - 0.03 for c in curves)])
    ax.set(xscale="log", ylim=(lowest, 1.03), ylabel="accuracy on held-out pairs")
    ax.set_xlabel(f"iterations of batch {batch}{published}\n{bars}")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    fig.legend(loc="outside upper center", ncols=2)
    return fig
