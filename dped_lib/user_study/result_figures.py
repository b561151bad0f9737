"""Draw what the answers of a user study say: the ranking, the agreement of subjects, and the test of equal preference."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dped_lib.experiments import statistics
from dped_lib.report import colors
from dped_lib.report import figures as report
from dped_lib.user_study.agreement import CAN_TELL, CANNOT_TELL, UNDECIDED, Agreement, Verdict
from dped_lib.user_study.analysis import Strength
from dped_lib.user_study.figures import NOT_YET, class_name, set_name, signed

#: Grays: the rows are phones, and the classes of pictures have the colours. The verdict stands beside, in words.
_COLORS = {CANNOT_TELL: "0.15", CAN_TELL: "0.15", UNDECIDED: "0.55"}
_ROW = 0.19  # height of a row in inches


def draw_equivalence(ax: Axes, verdicts: Sequence[Verdict], names: Sequence[str]) -> None:
    """Draw equivalence tests, a row each: 90 % interval (thick), 95 % interval (thin), and the band of the margin.

    The share with its 90 % interval and the verdict stand beside the panel. All tests have the margin of the first.
    """
    for y, v in enumerate(verdicts):
        words, color = v.word, _COLORS[v.word]
        if v.within:
            ax.plot(v.apart, (y, y), color=color, lw=1.2)
            ax.plot(v.within, (y, y), color=color, lw=4, solid_capstyle="butt")
            ax.plot(v.share, y, "o", color=color, ms=6, mec="white")
            words = f"{statistics.in_words(v.share, v.within, 2, borders=v.borders)}: {v.word}"
        report.write_beside(ax, y, words)
    low, half, high = verdicts[0].borders if verdicts else (0.5,) * 3
    ax.axvspan(low, high, color="0.9", zorder=0)
    ax.axvline(half, color="0.55", lw=0.8, ls=":", zorder=0)
    report.label_rows(ax, names)
    ax.set(xlim=(0, 1))


def results_figure(
    strengths: Iterable[Strength], agreements: Iterable[Agreement], verdicts: Iterable[Verdict], dataset: str
) -> Figure:
    """Draw the strength of each class, the kappa of each pair of classes, and the tests of the DSLR against ours.

    Intervals are 95 %. Those of the tests are as in :func:`draw_equivalence`. Numbers stand beside the panels.
    """
    strengths, agreements, verdicts = list(strengths), list(agreements), list(verdicts)
    rows = [len(strengths), len(agreements), max(1, len(verdicts))]
    height = 2.55 + _ROW * sum(rows)
    fig, (ranking, kappas, tests) = plt.subplots(3, 1, figsize=(report.WIDTH, height), height_ratios=rows)
    for y, s in enumerate(strengths):
        _draw_value(ranking, y, s.logit, s.interval, colors.CLASS_COLORS[s.cls])
    report.label_rows(ranking, [f"{set_name(s.set, dataset)}: {class_name(s.cls)}" for s in strengths])
    ranking.set(xlabel="strength (logit), the classes of a set sum to 0")
    ranking.set_title(f"(a) ranking, 95 % intervals{_count([s.answers for s in strengths], 'answers a set')}")
    for y, a in enumerate(agreements):
        _draw_value(kappas, y, a.kappa, a.interval, "0.25")
    pairs = ((class_name(a.first), class_name(a.second)) for a in agreements)
    names = [f"{set_name(a.set, dataset)}: {' / '.join(p)}" for a, p in zip(agreements, pairs, strict=True)]
    report.label_rows(kappas, names)
    kappas.set(xlabel="Fleiss' kappa, 0 is chance")
    counted = _count([a.answer_pairs for a in agreements], "pairs of answers a row")
    kappas.set_title(f"(b) agreement, 95 % intervals{counted}")
    draw_equivalence(tests, verdicts, [set_name(v.set, dataset) + _split_scenes(v) for v in verdicts])
    tests.set_title(f"(c) equivalence test{_count([v.answers for v in verdicts], 'answers a row')}")
    lines = ["share that prefers the DSLR to ours (thick and in brackets: 90 %, thin: 95 %)"]
    if verdicts:
        lines.append(
            f"gray: one half ± {verdicts[0].margin:g}; told apart in a scene: its own share differs from one half"
        )
    tests.set_xlabel("\n".join(lines))
    return fig


def _count(counts: Sequence[int], what: str) -> str:
    """Return ``, n = 378 to 1134 answers a set``, or nothing if there are no rows."""
    ends = dict.fromkeys(f(counts) for f in (min, max)) if counts else ()
    return f", n = {' to '.join(map(str, ends))} {what}" if ends else ""


def _split_scenes(verdict: Verdict) -> str:
    if not verdict.within:
        return ""
    count = len(verdict.split_scenes)
    return f": told apart in {count} scene{'' if count == 1 else 's'}"


def _draw_value(ax: Axes, y: int, value: float | None, interval: tuple[float, float] | None, color: str) -> None:
    ax.axvline(0, color="0.55", lw=0.8, ls=":", zorder=0)
    if value is None:
        report.write_beside(ax, y, NOT_YET)
        return
    if interval:
        ax.plot(interval, (y, y), color=color, lw=2)
    ax.plot(value, y, "o", color=color, ms=5)
    report.write_beside(ax, y, signed(value, interval))
