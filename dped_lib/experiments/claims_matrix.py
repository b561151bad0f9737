"""Show at one glance whether the paper holds: claims by results (dataset and preset), one verdict in each cell.

A cell summarises all findings of its results on its claim. There is one finding for each phone or kind of pictures. A
sentence about the colour loss has one row for each kernel, because the kernels give different verdicts.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dped_lib import losses, paper
from dped_lib.base import datasets, presets, writing
from dped_lib.experiments.evidence import PSNR_MARGIN, ClaimFinding
from dped_lib.experiments.judges import JUDGES
from dped_lib.experiments.paper_judges import PAPER_JUDGES
from dped_lib.report import colors, figures, labels

#: Each claim in a few words, for rows of the matrix. ``figures/claims.md`` has the sentences.
SHORT = MappingProxyType(
    {
        "cameras": "Sony: 13 MP fits 2592 x 1944",
        "patches": "65K, 92K and 97K training patches",
        "shift_small": "colour loss ignores 1-2 px",
        "shift_middle": "5-10 times below MSE at 3-5 px",
        "shift_large": "within 3 times of MSE at 20-30 px",
        "amplitude": "A = 0.053 normalises the Gaussian",
        "two_or_one": "two images beat one image",
        "two_image": "two-image discriminator: 99 %",
        "one_image": "one-image discriminator: only 86 %",
        "best_ssim": "ours has the best SSIM",
        "psnr_dong": f"PSNR equals Dong et al.'s within {PSNR_MARGIN} dB",
        "outperforms": "PSNR above the other methods",
        "ours_iphone": "iPhone: 19.16 dB, 0.9114",
        "improves": "enhanced is better than original",
        "study_originals": "people prefer ours to originals",
        "study_equal": "people cannot tell ours from DSLR",
        "study_manual": "people prefer ours to manual enhancement",
        "noise": "noise grows on the iPhone only",
        "texture_color": "texture loss: colours deviate",
        "content_color": "content deviates less than MSE + texture",
        "color_term": "colour term: closer colours",
        "mse_blur": "MSE alone is less sharp",
        "top_scores": "full loss has the top scores",
    }
)
#: The name of each kernel of the colour loss (``losses.KERNELS``), with its standard deviation.
KERNEL_NAMES = MappingProxyType(
    {
        "printed": f"Gaussian of {labels.KERNEL_DEVIATIONS['printed']} (as printed)",
        "sigma3": f"Gaussian of {labels.KERNEL_DEVIATIONS['sigma3']}",
        "code": f"Gaussian of {labels.KERNEL_DEVIATIONS['code']} (code)",
    }
)

#: Word, sign and colour of each verdict of a cell. "mixed": its findings differ. The colour takes no side.
_LOOK = MappingProxyType(
    {
        "holds": (labels.VERDICT_WORDS["holds"], "✓", colors.BLUE),
        "mixed": ("mixed", "◐", "#C9C9A0"),
        "does not hold": (labels.VERDICT_WORDS["does not hold"], "✗", colors.VERMILION),
        "undecided": (labels.VERDICT_WORDS["undecided"], "?", colors.YELLOW),
        "not testable": (labels.VERDICT_WORDS["not testable"], "–", "#DDDDDD"),
    }
)
_MEANING = MappingProxyType(
    {
        "holds": "holds",
        "mixed": "k of n hold, others fail or are open",
        "does not hold": "fails: does not hold",
        "undecided": "open: undecided by these data",
        "not testable": "n/t: these data cannot test it",
    }
)
#: What a word in brackets means. Such a cell is framed in the colour of its verdict, not filled with it.
_HERE = "(in brackets): seen here, but trainings are too short, or trainings or photographs too few, to decide"
#: What the first column is.
_OF_PAPER = "the paper: its own numbers, checked"
#: What an empty cell means.
_EMPTY = "nothing to test, or not run"
#: What the numbers in a cell count.
_OF_CELL = "k of n counts phones, or kinds of pictures"
#: The first words of the reason of a finding that only answers of people could replace.
NEEDS_PEOPLE = "needs people"


@dataclass(frozen=True)
class Row:
    """Hold a row of the matrix: a claim and, for a sentence about the colour loss, one of its kernels."""

    claim: paper.Claim
    kernel: str = ""

    @property
    def label(self) -> str:
        """Return the row's claim in a few words."""
        kernel = f": {KERNEL_NAMES[self.kernel]}" if self.kernel else ""
        return f"{SHORT[self.claim.key]}{kernel}"


@dataclass(frozen=True)
class Summary:
    """Hold the verdict of a cell: ``held`` of ``decided`` findings hold.

    ``verdict`` is that of all findings, or "mixed" if they differ. Findings that cannot test the claim count only if no finding
    can: then the verdict is what their trainings show here, if they show anything, and ``here`` is True.
    """

    verdict: str
    held: int
    decided: int
    here: bool = False

    @property
    def words(self) -> str:
        """Return the verdict in a word, or "k of n" if findings differ; in brackets if it decides nothing."""
        words = f"{self.held} of {self.decided}" if self.verdict == "mixed" else _LOOK[self.verdict][0]
        return f"({words})" if self.here else words

    @property
    def sign(self) -> str:
        """Return the sign of the verdict."""
        return _LOOK[self.verdict][1]

    @property
    def color(self) -> str:
        """Return the colour of the verdict."""
        return _LOOK[self.verdict][2]


def matrix_rows(findings: Iterable[ClaimFinding]) -> list[Row]:
    """Return the rows in the order of the paper; a claim that was judged by kernel has a row for each kernel."""
    by_kernel = {f.claim for f in findings if f.kernel}
    return [Row(c, k) for c in paper.CLAIMS for k in (losses.KERNELS if c.key in by_kernel else ("",))]


def matrix_columns(findings: Iterable[ClaimFinding]) -> list[str]:
    """Return the results that have findings: the paper's own numbers, then datasets with their presets."""
    return list(dict.fromkeys(["the paper", *(f.results for f in sorted(findings, key=_order) if f.results)]))


def _order(finding: ClaimFinding) -> tuple[int, int]:
    of_datasets, of_presets = ("the paper", *datasets.DATASETS), ("", *presets.PRESETS)
    place = of_datasets.index(finding.dataset) if finding.dataset in of_datasets else -1
    return place, of_presets.index(finding.preset)


def summarise(findings: Iterable[ClaimFinding]) -> Summary | None:
    """Return the verdict of a cell's findings; None if there are none."""
    findings = list(findings)
    if not findings:
        return None
    decided = [f.verdict for f in findings if f.verdict != "not testable"]
    verdicts = decided or [f.here for f in findings if f.here]
    if not verdicts:
        return Summary("not testable", 0, 0)
    verdict = verdicts[0] if len(set(verdicts)) == 1 else "mixed"
    return Summary(verdict, verdicts.count("holds"), len(verdicts), not decided)


def cells(findings: Sequence[ClaimFinding]) -> dict[tuple[Row, str], Summary]:
    """Return the summary of each row and column that has findings."""
    summaries = {}
    for row in matrix_rows(findings):
        for column in matrix_columns(findings):
            of_cell = (f for f in findings if (f.claim, f.results) == (row.claim.key, column))
            if summary := summarise(f for f in of_cell if f.kernel in ("", row.kernel)):
                summaries[row, column] = summary
    return summaries


def in_short(findings: Sequence[ClaimFinding]) -> str:
    """Return how many sentences of the paper hold, fail, or could not be decided. Verdicts in brackets are not counted.

    A sentence about the colour loss counts once, although it has a row for each kernel. What the paper's own numbers say is
    counted apart, so that no measurement seems to stand behind it.
    """
    alone = PAPER_JUDGES.keys() - JUDGES.keys()
    verdicts: dict[str, set[str]] = {claim.key: set() for claim in paper.CLAIMS if claim.key not in alone}
    own: list[str] = []
    for (row, column), summary in cells(findings).items():
        if column == "the paper":
            own.append(summary.verdict)
        elif summary.verdict != "not testable" and not summary.here:
            verdicts[row.claim.key].add(summary.verdict)
    holds, fails = (sum(v == {word} for v in verdicts.values()) for word in ("holds", "does not hold"))
    none = sum(not v for v in verdicts.values())
    support, against = own.count("holds"), own.count("does not hold")
    return (
        f"Of {len(paper.CLAIMS)} sentences, {len(verdicts)} need measurements. Where these could be decided, "
        f"{holds} hold and {fails} fail on all data. {len(verdicts) - holds - fails - none} are open, or their verdicts differ "
        f"between the data or the kernels. {none} could not be decided here: they need people, longer or more trainings, or "
        f"the authors' photographs. The paper's own numbers can be compared with {len(own)} sentences: they bear out "
        f"{support}, contradict {against}, and leave {len(own) - support - against} open or mixed."
    )


def _only_people(findings: Iterable[ClaimFinding]) -> set[str]:
    """Return the claims that nothing has tested because only people can (``claims.PEOPLE``)."""
    return {f.claim for f in findings if not f.results and f.why.startswith(NEEDS_PEOPLE)}


def frame(findings: Sequence[ClaimFinding]) -> pd.DataFrame:
    """Return the matrix as a table: a row for each claim and kernel, a column for each result."""
    summaries, people, listed = cells(findings), _only_people(findings), []
    for row in matrix_rows(findings):
        empty = {
            c: NEEDS_PEOPLE if row.claim.key in people and c != "the paper" else "" for c in matrix_columns(findings)
        }
        words = {
            c: f"{s.sign} {s.words}" if (s := summaries.get((row, c))) else empty[c] for c in matrix_columns(findings)
        }
        listed.append({"claim": row.label, "where": row.claim.where, **words})
    return pd.DataFrame(listed)


def readme_table(findings: Sequence[ClaimFinding]) -> str:
    """Return the matrix in Markdown, narrow enough for the width of a column; a line below it explains the signs."""
    table = frame(findings)
    table["where"] = table["where"].str.replace("Figure", "Fig.").str.replace("Appendix, ", "")
    lines = [list(table.columns), [":--", ":--", *[":-:"] * (len(table.columns) - 2)], *table.values.tolist()]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    signs = "; ".join(f"{_LOOK[v][1]} {meaning}" for v, meaning in _MEANING.items())
    return (
        f"{text}\n\n{signs}; {_HERE}; {NEEDS_PEOPLE}: not run, because only people can answer; empty: {_EMPTY}; {_OF_PAPER}. "
        "A verdict is about these data and this length of training. "
        "A cell sums up phones or kinds of pictures: 2 of 3 means that the sentence holds for two of three. "
        "Nobody knows which of PIRM's patches share a photograph, so its intervals are over patches, and somewhat too narrow."
    )


_HEIGHT = 0.18  # of a row, in inches: the whole matrix fits on one screen of JupyterLab
_LABELS = 3.15  # width of the labels, in inches
_FRAME = 1.2  # of a cell in brackets, in points
_LINE = 17  # characters in a line of a claim that stands beside its kernels


def plot_matrix(findings: Sequence[ClaimFinding]) -> Figure:
    """Draw the matrix: colours show the verdicts, and each cell has its word or sign, too."""
    listed, results, summaries = matrix_rows(findings), matrix_columns(findings), cells(findings)
    people = _only_people(findings)
    width = (figures.WIDTH - _LABELS) / len(results)
    upright = width < 0.52  # the names of the results would touch each other
    top = 1.1 if upright else 0.45
    fig = plt.figure(figsize=(figures.WIDTH, top + _HEIGHT * len(listed) + 1.0))
    fig.set_layout_engine("none")  # rows have a fixed height
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, figures.WIDTH), ylim=(fig.get_figheight(), 0))
    ax.set_axis_off()
    size, blank = figures.SMALLEST_TEXT, {"fc": "none", "ec": "0.88", "lw": 0.6}
    # Brackets reach from 0.13 of the size below the baseline to 0.76 above it, and a "p" to 0.21 below: both just fit.
    baseline = _HEIGHT / 2 + (0.76 - 0.17) / 2 * size / 72
    for i, result in enumerate(results):
        head = result if upright else result.replace("-", "\n").replace("the paper", "the\npaper")
        place = {"ha": "center", "va": "bottom", "rotation": 90 if upright else 0}
        ax.text(_LABELS + (i + 0.5) * width, top - 0.05, head, fontsize=size, **place)
    for i, row in enumerate(listed):
        y = top + i * _HEIGHT
        if not row.kernel:
            ax.text(0.05, y + baseline, row.label, va="baseline", fontsize=size)
        else:
            # The claim stands once, beside the rows of its kernels.
            of_claim = [r for r in listed if r.claim == row.claim]
            if row == of_claim[0]:
                words = textwrap.fill(SHORT[row.claim.key], _LINE)
                ax.text(0.05, y + len(of_claim) * _HEIGHT / 2, words, va="center", fontsize=size)
            place = _LABELS - 0.08, y + baseline
            ax.text(*place, KERNEL_NAMES[row.kernel], ha="right", va="baseline", fontsize=size)
        if row.claim.key in people:
            ax.add_patch(
                Rectangle((_LABELS + 0.015, y + 0.015), figures.WIDTH - _LABELS - 0.03, _HEIGHT - 0.03, **blank)
            )
            place = (_LABELS + figures.WIDTH) / 2, y + baseline
            ax.text(*place, f"not run: {NEEDS_PEOPLE}", ha="center", va="baseline", fontsize=size, color="0.4")
            continue
        for j, result in enumerate(results):
            box = (_LABELS + j * width + 0.015, y + 0.015), width - 0.03, _HEIGHT - 0.03
            if summary := summaries.get((row, result)):
                few = f"{summary.held}/{summary.decided}" if summary.verdict == "mixed" else summary.sign
                few = f"({few})" if summary.here else few
                # At 8 points some ten characters fit into 0.7 inches.
                word = f"{summary.sign} {summary.words}" if width > 0.7 else few if upright else summary.words
                fill, frame = ("#FFFFFF", _FRAME) if summary.here else (summary.color, 0)
                (x, y0), w, h = box
                half = frame / 144  # of the frame's width, in inches: it would lie outside the box
                inside = (x + half, y0 + half), w - 2 * half, h - 2 * half
                ax.add_patch(Rectangle(*inside, fc=fill, ec=summary.color, lw=frame))
                place = x + w / 2, y + baseline
                ax.text(*place, word, ha="center", va="baseline", fontsize=size, color=colors.text_on(fill))
            else:
                ax.add_patch(Rectangle(*box, **blank))
    patches = [Patch(color=_LOOK[v][2], label=f"{_LOOK[v][1]} {meaning}") for v, meaning in _MEANING.items()]
    patches.append(Patch(fc="none", ec="0.88", label=_EMPTY))
    legend = {"loc": "lower center", "fontsize": size}
    fig.legend(handles=patches, ncols=3, columnspacing=1.2, **legend, bbox_to_anchor=(0.5, 0.45 / fig.get_figheight()))
    seen = [Patch(fc="#FFFFFF", ec=colors.BLUE, lw=_FRAME, label=_HERE)]
    fig.legend(handles=seen, **legend, bbox_to_anchor=(0.5, 0.23 / fig.get_figheight()))
    fig.text(0.5, 0.18 / fig.get_figheight(), f"{_OF_PAPER}; {_OF_CELL}", ha="center", va="center", fontsize=size)
    return fig


def save_picture(findings: Sequence[ClaimFinding], target: Path) -> None:
    """Write the drawing of the matrix as a PNG file. ``claims.json``, beside it, has its numbers."""
    fig = plot_matrix(findings)
    with writing.atomic_path(target) as part:
        fig.savefig(part, **figures.PNG)
    plt.close(fig)
