"""Draw a training: each number of its log in a panel of its own, and patches before and after enhancement."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dped_lib.data.training_log import last_quarter, validation_curve
from dped_lib.report import colors, figures, labels

_COLUMNS = 3
_BEGINNING = 50  # the first fiftieth of a log does not set the axis of a term
_CUT = "\n(the first 2 % may lie outside)"
_FIRST_CUT = "\n(the first may\nlie outside)"
_FEW = 4  # so few validation scores are all inside the axis
_WORDS = MappingProxyType(
    {
        **labels.TERM_NAMES,
        "total": "total loss (weighted sum)",
        "discriminator": "discriminator's loss",
        "accuracy": "discriminator's accuracy",
    }
)


def training_curves(log: Sequence[Mapping], loss: str) -> Figure:
    """Draw each term of a training's log, and each validation score, in a panel of its own.

    A term is drawn for each iteration (gray) and as a centred moving average. The last quarter of a validation score is
    shaded. The title of its panel says how far a straight line through it moves there (``training_log.last_quarter``), and
    how far chance alone may move it: twice the scatter about the line. If the line moves further, a single training has
    not levelled off. A quarter of too few scores for a scatter has none of these marks.
    The axis of a score begins at its second value: the first is that of a network that has not been trained. If there are
    few scores, all are inside. The axis of a term has room for all but the first 2 % of its iterations, because some terms
    fall or rise by much more there. If an axis cuts values off, the legend says so.

    Args:
        log: the lines of the log (``TrainResult.log``): ``iteration`` with terms, or with ``validation``.
        loss: the loss of the training, which sets the colour.
    """
    scored = next((line["validation"] for line in log if "validation" in line), {})
    terms, scores = _terms(log), {metric: validation_curve(log, metric) for metric in scored}
    panels = len(terms) + len(scores)
    columns = 2 if panels == 4 else _COLUMNS
    rows = -(-panels // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(figures.WIDTH, 1.6 * rows + 0.55), squeeze=False)
    places, cut, first_cut, fitted = iter(axes.flat), False, False, False
    for (name, points), ax in zip(terms.items(), places, strict=False):
        iterations, values = points.T
        ax.plot(iterations, values, color="0.8", lw=0.7)
        ax.plot(iterations, _smoothed(values, max(1, len(values) // 20)), color=colors.LOSS_COLORS[loss], lw=1.5)
        ax.set_title(_WORDS.get(name, name), loc="left")
        _set_limits(ax, values[len(values) // _BEGINNING :])
        cut |= _cuts_off(ax, values)
    for (name, points), ax in zip(scores.items(), places, strict=False):
        # A third of the width has no room for both numbers of a title in one line.
        fitted |= _draw_score(ax, points, name, colors.LOSS_COLORS[loss], "\n" if columns == _COLUMNS else "; ")
        first_cut |= _cuts_off(ax, points[:, 1])
    for ax in places:
        ax.set_axis_off()
    marks = [
        Line2D([], [], color="0.8", lw=0.7, label="each iteration" + _CUT * cut),
        Line2D([], [], color=colors.LOSS_COLORS[loss], lw=1.5, label="moving average"),
        Line2D([], [], color=colors.LOSS_COLORS[loss], marker="o", ms=3, label="validation" + _FIRST_CUT * first_cut),
    ]
    if fitted:
        marks += [
            Patch(color="0.9", label="its last quarter\n(chance: 2 x scatter)"),
            Line2D([], [], color="0.3", lw=1, label="line through it"),
        ]
    narrow = {"columnspacing": 1.0, "handlelength": 1.5}
    fig.legend(handles=marks, loc="outside upper center", ncols=len(marks), **narrow)
    for column in axes.T:
        [ax for ax in column if ax.axison][-1].set_xlabel("iteration")
    return fig


def _draw_score(ax: Axes, points: np.ndarray, metric: str, color: str, gap: str) -> bool:
    """Draw a validation score (N x 2, iteration and score). Return whether its last quarter has a line through it."""
    iterations, values = points.T
    ax.plot(iterations, values, marker="o", ms=3, color=color)
    _set_limits(ax, values[1:] if len(values) > _FEW else values)
    ax.locator_params(axis="y", nbins=5, min_n_ticks=3)
    label, quarter = labels.METRIC_LABELS[metric], last_quarter(points)
    title = f"validation {label}"
    if quarter.scatter:
        ax.axvspan(*quarter.iterations, color="0.9", lw=0)
        ax.plot(quarter.iterations, quarter.line, color="0.3", lw=1)
        digits = 2 if label.unit else 4
        moved = round(quarter.moved, digits) + 0.0  # never -0
        title += f"\nlast quarter {moved:+.{digits}f}{gap}chance {quarter.chance:.{digits}f}"
    ax.set_title(title, loc="left")
    return quarter.scatter > 0


def _set_limits(ax: Axes, values: np.ndarray) -> None:
    """Set the limits of the vertical axis to those of the values, with a tenth of room at both ends."""
    room = 0.1 * np.ptp(values) or 0.05 * abs(values[0]) or 1.0
    ax.set_ylim(values.min() - room, values.max() + room)


def _cuts_off(ax: Axes, values: np.ndarray) -> bool:
    """Return whether values lie outside the vertical axis."""
    low, high = ax.get_ylim()
    return bool(values.min() < low or values.max() > high)


def _terms(log: Iterable[Mapping]) -> dict[str, np.ndarray]:
    """Return each term over the iterations of a log, by its name: N x 2, iteration and value."""
    by_name: dict[str, list] = {}
    for line in (line for line in log if "validation" not in line):
        for name, value in line.items():
            if name != "iteration":
                by_name.setdefault(name, []).append((line["iteration"], value))
    return {name: np.array(points, dtype=float) for name, points in by_name.items()}


def _smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of about ``window`` values around each value: as many before it as after it, except at the end."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    places = np.arange(len(values))
    # A loss falls steeply at first, so the window must not reach further to one side there. At the end it is flat but noisy.
    reach = np.minimum(window // 2, places)
    starts, ends = places - reach, np.minimum(places + reach + 1, len(values))
    return (sums[ends] - sums[starts]) / (ends - starts)


def patch_rows(rows: Mapping[str, Sequence[np.ndarray]], names: Mapping[str, str], loss: str) -> Figure:
    """Draw rows of patches (H x W x 3), each with the name of its camera, or ``enhanced``, at its left.

    ``enhanced`` is written in the colour of the loss that trained the network, and all other names in black.

    Args:
        rows: camera, or ``enhanced`` -> its patches.
        names: camera -> its name.
        loss: the loss of the training, which sets the colour.
    """
    columns = max(len(patches) for patches in rows.values())
    side = (figures.WIDTH - 0.4) / columns
    fig, axes = plt.subplots(len(rows), columns, figsize=(figures.WIDTH, side * len(rows) + 0.1), squeeze=False)
    for line, (name, patches) in zip(axes, rows.items(), strict=True):
        for ax, patch in zip(line, patches, strict=True):
            figures.show_picture(ax, patch, interpolation="nearest")
        # A row is lower than a long name, so the name takes two lines.
        color = colors.LOSS_COLORS[loss] if name == "enhanced" else colors.BLACK
        line[0].set_ylabel(names.get(name, name).replace(" ", "\n", 1), color=color)
    return fig
