"""Draw Figures 10 and 11 of the paper, and write the results of the user study as tables."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dped_lib.base import datasets
from dped_lib.base.errors import DpedError
from dped_lib.experiments import statistics
from dped_lib.report import colors
from dped_lib.report import figures as report
from dped_lib.user_study.agreement import Agreement, Verdict
from dped_lib.user_study.analysis import Fraction, Share, Sizes, Strength
from dped_lib.user_study.pictures import Pictures, enhancers_phone
from dped_lib.user_study.questions import KINDS, PAPER_SETS, Trial, kind_of

_CLASS_NAMES = MappingProxyType({"dslr": "DSLR", "enhanced": "ours"})
_INTERVAL = "#B00020"
_CLEAR = 0.008  # from the axis to a share above a bar, as a part of a panel's width
_CHARACTER = 0.036  # width of a character of a share, as a part of the narrower panels' width
#: Stands in place of a number that needs more answers.
NOT_YET = "not enough answers yet"


def class_name(cls: str) -> str:
    """Return the name of a class for readers. "enhanced" is "ours", as in the paper's tables."""
    return _CLASS_NAMES.get(cls, cls)


def set_name(name: str, dataset: str) -> str:
    """Return the name of a set for readers: its camera, or for a user's own folder the name of the set.

    The set of the enhancers is named with the camera whose photographs they get.
    """
    if dataset == "own":
        return name
    phones = datasets.DATASET_PHONES[dataset]
    if name == "enhancers":
        return f"{name}, {datasets.camera_name(dataset, enhancers_phone(phones))}"
    return datasets.camera_name(dataset, name) if name in phones else name


def describe_subjects(observer: str, subjects: int) -> str:
    """Return who answered, for titles and captions."""
    if observer == "person":
        return "1 person" if subjects == 1 else f"{subjects} people"
    return f"{subjects} simulated subjects (model observer: edges and contrast only), no people"


def describe_sizes(sizes: Sizes) -> str:
    """Return how large people saw the pictures, a sentence for captions. It is empty if there are no answers."""
    if not sizes.answers:
        return ""
    if not sizes.known:
        return f"Size of the pictures on the screen: not known (n = {sizes.answers} answers)."
    count = "1 answer" if sizes.known == 1 else f"{sizes.known} answers"
    missing = f", not known of {sizes.answers - sizes.known} more" if sizes.known < sizes.answers else ""
    return (
        f"Median width of a picture on the screen: {sizes.width:.0f} CSS pixels (n = {count}{missing}); "
        f"smaller than 1:1 in {sizes.below:.0%}."
    )


def figure11(pictures: Pictures, name: str, cls: str, dataset: str) -> Figure:
    """Draw the scenes of a study in one class of one set (Figure 11: BlackBerry, enhanced).

    Raises:
        DpedError: the study has no such class.
    """
    keys = [key for key in pictures.files if key[:2] == (name, cls)]
    if not keys:
        raise DpedError(f"{pictures.folder}: no pictures of class {cls!r} in set {name!r}.")
    rows = -(-len(keys) // 3)
    fig, axes = plt.subplots(rows, 3, figsize=(report.WIDTH, 2.0 * rows + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, key in zip(axes.flat, keys, strict=False):
        ax.imshow(pictures.read(key))
        ax.set_title(key[2])
    fig.suptitle(f"The {len(keys)} scenes, here {set_name(name, dataset)}, {class_name(cls)}")
    return fig


def scene_figure(pictures: Pictures, scene: str, dataset: str) -> Figure:
    """Draw one scene, which the title names, in every class of every set."""
    rows = _rows_of_scene(pictures, scene, dataset)
    classes = list(dict.fromkeys(cls for by_class in rows.values() for cls in by_class))
    shown = {key: pictures.read(key) for by_class in rows.values() for key in by_class.values()}
    tallest = max(picture.shape[0] / picture.shape[1] for picture in shown.values())
    height = len(rows) * (report.WIDTH / len(classes) * tallest + 0.08) + 0.95
    fig, axes = plt.subplots(len(rows), len(classes), figsize=(report.WIDTH, height), squeeze=False)
    for line, (camera, by_class) in zip(axes, rows.items(), strict=True):
        for ax, cls in zip(line, classes, strict=True):
            ax.set(xticks=[], yticks=[], frame_on=False)
            if cls in by_class:
                ax.imshow(shown[by_class[cls]])
        line[0].set_ylabel(camera, fontsize=report.SMALLEST_TEXT + 0.5)
    for column, cls in zip(axes.T, classes, strict=True):
        first = next(ax for ax in column if ax.images)
        first.set_title(class_name(cls), fontsize=report.SMALLEST_TEXT + 0.5)
    fig.suptitle(f"Scene {scene}")
    return fig


def _rows_of_scene(pictures: Pictures, scene: str, dataset: str) -> dict[str, dict[str, tuple[str, str, str]]]:
    """Return the pictures of a scene by row and class. The enhancers' share the row of the phone that took them."""
    rows: dict[str, dict[str, tuple[str, str, str]]] = {}
    for name, by_class in pictures.scenes.items():
        if scene not in next(iter(by_class.values())):
            continue
        of_phone = name
        if name == "enhancers" and dataset != "own":
            of_phone = enhancers_phone(datasets.DATASET_PHONES[dataset])
        row = rows.setdefault(set_name(of_phone, dataset), {})
        for cls in by_class:
            row.setdefault(cls, (name, cls, scene))
    return rows


def _bar(ax: Axes, y: float, parts: Iterable[tuple[str, float]]) -> None:
    left, narrow = 0.0, []
    for cls, width in parts:
        color = colors.CLASS_COLORS[cls]
        ax.barh(y, width, left=left, height=0.54, color=color, edgecolor="white")
        if width > 0.12:
            place = {"ha": "center", "va": "center", "fontsize": report.SMALLEST_TEXT}
            ax.text(left + width / 2, y, f"{width:.0%}", color=colors.text_on(color), **place)
        elif width:
            narrow.append((left, f"{width:.0%}"))
        left += width
    # A narrow part has no room for its share, which then stands above it, in the panel and beside its neighbour's.
    starts, room = [], [_CHARACTER * len(label) for _, label in narrow]
    for i, (start, _) in enumerate(narrow):
        starts.append(max(start, starts[i - 1] + room[i - 1]) if i else max(start, _CLEAR))
    end = 1.0
    for i in reversed(range(len(narrow))):
        starts[i] = end = min(starts[i], end - room[i])
    for x, (_, label) in zip(starts, narrow, strict=True):
        ax.text(x, y - 0.28, label, ha="left", va="bottom", fontsize=report.SMALLEST_TEXT)


def _empty(ax: Axes, y: float, why: str) -> None:
    ax.text(0.5, y, why, ha="center", va="center", fontsize=report.SMALLEST_TEXT, color="0.4", backgroundcolor="white")


def _count(ax: Axes, y: float, answers: int) -> None:
    ax.text(1.015, y, f"n = {answers}", ha="left", va="center", fontsize=report.SMALLEST_TEXT, color="0.25")


def _interval(
    ax: Axes, y: float, at: float, wilson: tuple[float, float], clustered: tuple[float, float] | None
) -> None:
    # The lines lie beneath the bar, so that they do not hide its text.
    for offset, interval, style in ((0.34, wilson, "-"), (0.47, clustered, (0, (2, 1)))):
        if interval:
            ax.plot(interval, (y + offset,) * 2, color=_INTERVAL, lw=1.4, ls=style, solid_capstyle="butt")
            # A dashed line may end in a gap.
            ax.plot(interval, (y + offset,) * 2, "|", color=_INTERVAL, ms=4, mew=1)
    ax.plot((at, at), (y + 0.28, y + 0.5), color=_INTERVAL, lw=1)


def _other_side(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return (1 - interval[1], 1 - interval[0]) if interval else None


def _all_choices(ax: Axes, y: float, parts: list[Fraction]) -> None:
    """Draw the last bar of a panel, with the intervals of its first and its last part."""
    _count(ax, y, parts[0].answers if parts else 0)
    if not parts:
        _empty(ax, y, NOT_YET)
        return
    _bar(ax, y, [(part.cls, part.share) for part in parts])
    first, last = parts[0], parts[-1]
    _interval(ax, y, first.share, first.wilson, first.clustered)
    if len(parts) > 2:
        _interval(ax, y, 1 - last.share, _other_side(last.wilson), _other_side(last.clustered))


def figure10(
    shares: Iterable[Share], fractions: Iterable[Fraction], dataset: str, truth: Mapping | None = None
) -> Figure:
    """Draw Figure 10.

    Each set has a panel with three bars of pairwise choices, averaged over scenes, and one bar of all choices. The
    paper's sets keep the letters that they have in its Figure 10, even in a study that lacks some of them.

    The 95 % intervals lie beneath the borders within a bar: Wilson's is solid, that of the bootstrap over subjects is
    dashed. The number of answers stands beside each bar, and the legend names every mark.

    Args:
        truth: (set, first, second) -> share that the model observer's rule implies. It is drawn as a hollow circle.
    """
    shares, fractions = list(shares), list(fractions)
    names = list(dict.fromkeys(s.set for s in shares))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    fig = plt.figure(figsize=(report.WIDTH, 2.6 * rows + 1.0))
    places = fig.add_gridspec(rows + 1, columns, height_ratios=[1] * rows + [0.2])
    panels = [fig.add_subplot(places[i // columns, i % columns]) for i in range(len(names))]
    letters = dict(zip(PAPER_SETS, "abcd", strict=True))
    for ax, name in zip(panels, names, strict=True):
        by_pair = {(s.first, s.second): s for s in shares if s.set == name}
        kind = kind_of({cls for pair in by_pair for cls in pair})
        pairs = list(combinations(KINDS[kind], 2))
        for y, pair in enumerate(pairs):
            s = by_pair.get(pair)
            if s is None or s.share is None:
                _empty(ax, y, "not run" if s is None else NOT_YET)
                _count(ax, y, 0)
                continue
            _bar(ax, y, ((s.first, s.share), (s.second, 1 - s.share)))
            _count(ax, y, s.answers)
            _interval(ax, y, s.share, s.wilson, s.clustered)
            if truth:
                ax.plot(truth[s.set, s.first, s.second], y + 0.405, "o", mfc="none", mec="black", ms=5, mew=0.8)
        _all_choices(ax, len(pairs) + 0.25, [f for f in fractions if f.set == name])
        ax.axvline(0.5, color="0.55", lw=0.8, ls=":", zorder=0)
        ax.set(xlim=(0, 1), ylim=(len(pairs) + 0.95, -0.52), xlabel="share (pairs: mean over scenes)")
        ax.set_yticks([*range(len(pairs)), len(pairs) + 0.25])
        ax.set_yticklabels([*(f"{class_name(a)}\nor {class_name(b)}" for a, b in pairs), "all\nchoices"])
        ax.grid(visible=False)
        ax.set_title((f"({letters[name]}) " if name in letters else "") + set_name(name, dataset))
    classes = dict.fromkeys(cls for s in shares for cls in (s.first, s.second))
    marks = [Patch(color=colors.CLASS_COLORS[cls], label=class_name(cls)) for cls in classes]
    marks += [
        Line2D([], [], color=_INTERVAL, lw=1.4, label="95 %: Wilson"),
        Line2D([], [], color=_INTERVAL, lw=1.4, ls=(0, (2, 1)), label="95 %: bootstrap over subjects"),
        Line2D([], [], color="0.55", lw=0.8, ls=":", label="chosen equally often"),
    ]
    if truth:
        marks.append(
            Line2D([], [], ls="none", marker="o", mfc="none", mec="black", ms=5, mew=0.8, label="model's true share")
        )
    # The legend has a row of its own, because the caption and the title take the places outside the panels.
    below = fig.add_subplot(places[rows, :])
    below.set_axis_off()
    below.legend(handles=marks, loc="center", ncols=4)
    return fig


def _span(interval: tuple[float, float] | None, borders: Iterable[float] = ()) -> str:
    """Return ``[low, high]``, with the digits that keep both ends on their sides of the borders of a verdict."""
    return statistics.interval_in_words(interval, 2, borders=borders) if interval else "not known"


def signed(value: float, interval: tuple[float, float] | None) -> str:
    """Return ``+0.05 [-0.002, +0.112]``: an interval that contains 0 is seen to contain it."""
    return statistics.in_words(value, interval, 2, "+z", (0,)) if interval else f"{value:+z.2f} not known"


def _frame(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    # The columns are named because a table without rows has columns, too.
    return pd.DataFrame(list(rows), columns=list(columns))


def share_table(
    shares: Iterable[Share], dataset: str, fractions: Iterable[Fraction] = (), truth: Mapping | None = None
) -> pd.DataFrame:
    """Return the bars of each part of Figure 10 as numbers: three pairs, and with ``fractions`` the bar of all choices.

    With ``truth``, as of :func:`figure10`, a last column has the true share of each pair.
    """
    rows = [
        (s, f"{class_name(s.first)} over {class_name(s.second)}", NOT_YET if s.share is None else f"{s.share:.2f}")
        for s in shares
    ]
    rows += [(f, f"all choices: {class_name(f.cls)}", f"{f.share:.2f}") for f in fractions]
    sets = list(dict.fromkeys(row.set for row, *_ in rows))
    rows.sort(key=lambda row: sets.index(row[0].set))
    listed = (
        {
            "set": set_name(row.set, dataset),
            "choice": words,
            "answers": row.answers,
            "share": share,
            "Wilson": _span(row.wilson, (0.5,)),
            "over subjects": _span(row.clustered, (0.5,)),
        }
        for row, words, share in rows
    )
    frame = _frame(listed, ("set", "choice", "answers", "share", "Wilson", "over subjects"))
    if truth:
        of_pairs = ((row.set, row.first, row.second) if isinstance(row, Share) else None for row, *_ in rows)
        frame["model's true share"] = [f"{truth[key]:.2f}" if key else "" for key in of_pairs]
    return frame


def ranking_table(strengths: Iterable[Strength], dataset: str) -> pd.DataFrame:
    """Return the strengths in logits, the strongest of each set first."""
    rows = (
        {
            "set": set_name(s.set, dataset),
            "class": class_name(s.cls),
            "answers": s.answers,
            "strength (logit)": NOT_YET if s.logit is None else signed(s.logit, s.interval),
            "first in": "not known" if s.first is None else f"{s.first:.0%} of resamples",
        }
        for s in strengths
    )
    return _frame(rows, ("set", "class", "answers", "strength (logit)", "first in"))


def agreement_table(agreements: Iterable[Agreement], dataset: str) -> pd.DataFrame:
    """Return the agreement of each pair beside its chance level."""
    rows = (
        {
            "set": set_name(a.set, dataset),
            "pair": f"{class_name(a.first)} / {class_name(a.second)}",
            "pairs of answers": a.answer_pairs,
            "agreeing": NOT_YET if a.agreeing is None else f"{a.agreeing:.2f}",
            "by chance": "not known" if a.by_chance is None else f"{a.by_chance:.2f}",
            "Fleiss' kappa": "not known" if a.kappa is None else signed(a.kappa, a.interval),
        }
        for a in agreements
    )
    return _frame(rows, ("set", "pair", "pairs of answers", "agreeing", "by chance", "Fleiss' kappa"))


def verdict_table(verdicts: Iterable[Verdict], dataset: str) -> pd.DataFrame:
    """Return the results of the equivalence test, one row for each pair."""
    rows = (
        {
            "set": set_name(v.set, dataset),
            "pair": f"{class_name(v.first)} over {class_name(v.second)}",
            "answers": v.answers,
            "share": NOT_YET if v.share is None else f"{v.share:.2f}",
            "90 %": _span(v.within, v.borders),
            "95 %": _span(v.apart, (0.5,)),
            # The intervals and the margin say why. Without intervals, something else does.
            "verdict": v.word if v.within else f"{v.word}: {v.why}",
            "scenes told apart": len(v.split_scenes),
        }
        for v in verdicts
    )
    columns = ("set", "pair", "answers", "share", "90 %", "95 %", "verdict", "scenes told apart")
    return _frame(rows, columns)


def trial_figure(left: np.ndarray, right: np.ndarray, trial: Trial) -> Figure:
    """Draw a trial as the page shows it: two pictures (uint8 H x W x 3, RGB) without names."""
    fig, axes = plt.subplots(1, 2, figsize=(report.WIDTH, 3.2))
    for ax, image, side in zip(axes, (left, right), ("1", "2"), strict=True):
        ax.imshow(image)
        ax.set_axis_off()
        ax.set_title(side)
    fig.suptitle(f"Question {trial.number} of {trial.total}: which looks better?")
    return fig
