"""Figures 10 and 11 of the paper, and the user study's results as tables one can read."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dped_lib.base import config
from dped_lib.data import photofile
from dped_lib.user_study import analysis as study_analysis, pictures as study_pictures, study, tell
from dped_lib.base.errors import DpedError
from dped_lib.user_study.analysis import Choices, Fraction, Share

#: A class has the same colour everywhere, and light or dark letters upon it.
CLASS_COLORS = MappingProxyType(
    {"original": "#E69F00", "dslr": "#000000", "enhanced": "#009E73", "automatic": "#56B4E9", "manual": "#CC79A7"}
)
CLASS_WORDS = MappingProxyType({"dslr": "DSLR", "enhanced": "ours"})
_DARK = ("dslr",)


def word(cls: str) -> str:
    """What a reader calls a class; "enhanced" is "ours", as in the paper's tables."""
    return CLASS_WORDS.get(cls, cls)


def set_word(name: str, dataset: str) -> str:
    """What a reader calls a set: its camera; in a folder of one's own its name."""
    known = dataset != "own" and name in config.DATASET_PHONES[dataset]
    return config.camera_name(dataset, name) if known else name


def of_observer(observer: str, subjects: int) -> str:
    """Who answered, for titles and captions."""
    if observer == "person":
        return "1 person" if subjects == 1 else f"{subjects} people"
    return f"{subjects} simulated subjects (model observer), no people"


def figure11(pictures: study_pictures.Pictures, name: str, cls: str, dataset: str) -> Figure:
    """The scenes of a study, as one class of one set (Figure 11: BlackBerry, enhanced)."""
    files = {scene: f for (s, c, scene), f in pictures.files.items() if (s, c) == (name, cls)}
    if not files:
        raise DpedError(f"{pictures.folder}: no pictures of class {cls!r} in set {name!r}.")
    rows = -(-len(files) // 3)
    fig, axes = plt.subplots(rows, 3, figsize=(8, 2.05 * rows + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (scene, file) in zip(axes.flat, files.items(), strict=False):
        ax.imshow(photofile.read_photograph(file))
        ax.set_title(scene, fontsize=8)
    fig.suptitle(f"The {len(files)} scenes, here {set_word(name, dataset)}, {word(cls)}", fontsize=10)
    return fig


def scene_classes(pictures: study_pictures.Pictures, scene: str, dataset: str) -> Figure:
    """One scene in every class of every set."""
    sets = {s: by_class for s, by_class in pictures.scenes.items() if scene in next(iter(by_class.values()))}
    width = max(len(by_class) for by_class in sets.values())
    fig, axes = plt.subplots(len(sets), width, figsize=(2.7 * width, 1.95 * len(sets) + 0.4), squeeze=False)
    for row, (name, by_class) in zip(axes, sets.items(), strict=True):
        for ax in row:
            ax.set_axis_off()
        for ax, cls in zip(row, by_class, strict=False):
            ax.imshow(photofile.read_photograph(pictures.files[name, cls, scene]))
            ax.set_title(f"{set_word(name, dataset)}: {word(cls)}", fontsize=8)
    return fig


def _bar(ax: Axes, y: float, parts: Iterable[tuple[str, float]]) -> None:
    left = 0.0
    for cls, width in parts:
        ax.barh(y, width, left=left, height=0.54, color=CLASS_COLORS[cls], edgecolor="white")
        # The words only where they fit; the pair is named beside the bar, in the same order.
        words = f"{word(cls)} {width:.0%}" if width > 0.2 else f"{width:.0%}" if width > 0.06 else ""
        color = "white" if cls in _DARK else "black"
        ax.text(left + width / 2, y, words, ha="center", va="center", fontsize=8, color=color)
        left += width


def _interval(
    ax: Axes, y: float, at: float, wilson: tuple[float, float], clustered: tuple[float, float] | None
) -> None:
    # Beneath the bar, where it hides no words.
    for offset, interval, style in ((0.36, wilson, "-"), (0.45, clustered, (0, (2, 1)))):
        if interval:
            ax.plot(interval, (y + offset,) * 2, color="#B00020", lw=1.8, ls=style, solid_capstyle="butt")
    ax.plot((at, at), (y + 0.28, y + 0.5), color="#B00020", lw=1)


def _other_side(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return (1 - interval[1], 1 - interval[0]) if interval else None


def figure10(shares: Iterable[Share], fractions: Iterable[Fraction], dataset: str, truth: Mapping | None = None) -> Figure:
    """Figure 10: a panel a set; three bars of pairwise choices averaged over scenes, and one of all choices.

    Intervals at 95 % lie beneath the bars' borders: solid Wilson's, dashed the bootstrap over subjects.

    Args:
        truth: (set, first, second) -> share that the model observer's rule implies, drawn as a hollow circle.
    """
    shares, fractions = list(shares), list(fractions)
    names = list(dict.fromkeys(s.set for s in shares))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(5.2 * columns, 2.9 * rows + 0.4), squeeze=False)
    for letter, ax, name in zip("abcdefghijkl", axes.flat, names, strict=False):
        found = {(s.first, s.second): s for s in shares if s.set == name}
        kind = study.kind_of({c for pair in found for c in pair})
        pairs = list(combinations(study.KINDS[kind], 2))
        for y, pair in enumerate(pairs):
            s = found.get(pair)
            if s is None or s.share is None:
                words = "not run" if s is None else "no answers"
                ax.text(0.5, y, words, ha="center", va="center", fontsize=8, color="0.4", backgroundcolor="white")
                continue
            _bar(ax, y, ((s.first, s.share), (s.second, 1 - s.share)))
            _interval(ax, y, s.share, s.wilson, s.clustered)
            if truth:
                ax.plot(truth[s.set, s.first, s.second], y + 0.405, "o", mfc="none", mec="black", ms=6)
        last = [f for f in fractions if f.set == name]
        _bar(ax, len(pairs) + 0.25, [(f.cls, f.share) for f in last])
        if len(last) > 1:
            first, final = last[0], last[-1]
            _interval(ax, len(pairs) + 0.25, first.share, first.wilson, first.clustered)
            if len(last) > 2:
                sides = _other_side(final.wilson), _other_side(final.clustered)
                _interval(ax, len(pairs) + 0.25, 1 - final.share, *sides)
        ax.axvline(0.5, color="0.55", lw=0.8, ls=":", zorder=0)
        ax.set(xlim=(0, 1), ylim=(len(pairs) + 0.95, -0.45), xlabel="share of choices")
        ax.set_yticks([*range(len(pairs)), len(pairs) + 0.25])
        ax.set_yticklabels([*(f"{word(a)}\nor {word(b)}" for a, b in pairs), "all\nchoices"], fontsize=8)
        ax.grid(visible=False)
        ax.set_title(f"({letter}) {set_word(name, dataset)}", fontsize=10)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    return fig


def _span(interval: tuple[float, float] | None, form: str = ".2f") -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else "not known"


def share_table(shares: Iterable[Share], dataset: str) -> pd.DataFrame:
    """The bars in figures."""
    return pd.DataFrame(
        {
            "set": set_word(s.set, dataset),
            "pair": f"{word(s.first)} over {word(s.second)}",
            "answers": s.answers,
            "share": "no answers" if s.share is None else f"{s.share:.2f}",
            "Wilson": _span(s.wilson),
            "over subjects": _span(s.clustered),
        }
        for s in shares
    )


def ranking_table(found: Iterable[study_analysis.Strength], dataset: str) -> pd.DataFrame:
    """Strengths in logits, the strongest of each set first."""
    return pd.DataFrame(
        {
            "set": set_word(s.set, dataset),
            "class": word(s.cls),
            "strength (logit)": f"{s.logit:+.2f} {_span(s.interval, '+.2f')}",
            "first in": "not known" if s.first is None else f"{s.first:.0%} of resamples",
        }
        for s in found
    )


def agreement_table(found: Iterable[tell.Agreement], dataset: str) -> pd.DataFrame:
    """Agreement beside its chance level."""
    return pd.DataFrame(
        {
            "set": set_word(a.set, dataset),
            "pair": f"{word(a.first)} / {word(a.second)}",
            "agreeing": f"{a.agreeing:.2f}",
            "by chance": f"{a.by_chance:.2f}",
            "Fleiss' kappa": f"{a.kappa:+.2f} {_span(a.interval, '+.2f')}",
        }
        for a in found
    )


def verdict_table(found: Iterable[tell.Verdict], dataset: str) -> pd.DataFrame:
    """The test of "cannot tell", a row a set."""
    return pd.DataFrame(
        {
            "set": set_word(v.set, dataset),
            "pair": f"{word(v.first)} over {word(v.second)}",
            "share": "no answers" if v.share is None else f"{v.share:.2f}",
            "90 %": _span(v.within),
            "95 %": _span(v.apart),
            "verdict": v.word,
            "why": v.why,
            "scenes told apart": len(v.split_scenes),
        }
        for v in found
    )


def progress_table(choices: Choices) -> pd.DataFrame:
    """Answers of each subject, and the median of the reaction times in seconds."""
    given = (choices.sign != 0).sum(1)
    median = [float(np.nanmedian(row)) if np.isfinite(row).any() else float("nan") for row in choices.seconds]
    return pd.DataFrame({"subject": choices.subjects, "answers": given, "median time (s)": np.round(median, 2)})


def question(left: np.ndarray, right: np.ndarray, asked: study.Asked) -> Figure:
    """A question as its page shows it: two pictures and nothing about them."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.7))
    for ax, image, side in zip(axes, (left, right), ("1", "2"), strict=True):
        ax.imshow(image)
        ax.set_axis_off()
        ax.set_title(side, fontsize=10)
    fig.suptitle(f"Question {asked.number} of {asked.total}: which looks better?", fontsize=10)
    return fig
