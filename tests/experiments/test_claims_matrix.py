"""The matrix of verdicts: a cell for each claim and run, as a picture and as a table."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from judging import difference, ratio
from legible import smallest_text

from dped_lib import losses, paper
from dped_lib.experiments import claims, claims_matrix, evidence
from dped_lib.report import figures


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["holds"], "holds"),
        (["holds", "holds"], "holds"),
        (["holds", "does not hold", "undecided"], "1 of 3"),
        (["holds", "undecided"], "1 of 2"),
        (["undecided", "does not hold"], "0 of 2"),
        (["does not hold", "does not hold"], "fails"),
        (["undecided", "undecided"], "open"),
        (["not testable", "holds"], "holds"),
        (["not testable", "not testable"], "n/t"),
        (["(holds)", "not testable"], "(holds)"),
        (["(holds)", "(undecided)"], "(1 of 2)"),
        (["(undecided)", "(does not hold)"], "(0 of 2)"),
        (["(holds)", "does not hold"], "fails"),
    ],
)
def test_a_cell_sums_up_its_findings(verdicts, words):
    """What a short training shows stands in brackets, and only where no finding decides."""

    def finding(verdict):
        here = verdict.strip("()") if verdict.startswith("(") else ""
        return evidence.ClaimFinding("best_ssim", "rig", "cpu", "", "", "not testable" if here else verdict, here=here)

    assert claims_matrix.summarise(map(finding, verdicts)).words == words


def test_a_cell_without_findings_is_empty():
    assert claims_matrix.summarise([]) is None


def test_the_picture_of_the_matrix_can_be_read_at_the_width_of_a_column(shelf):
    """Each claim has its row, each cell its word beside its colour, and no text is under 8 points at 700 pixels."""
    kernels = {kernel: {"3-5 px": ratio(7.0)} for kernel in losses.KERNELS}
    for dataset, preset in itertools.product(("rig", "pirm", "city100"), ("smoke", "cpu", "paper")):
        shelf("fig06_verdicts", {"ratios": {"dslr patches": kernels}}, dataset, preset)
        findings = claims.judge_claims(evidence.saved_results())
        figures.use_style()
        fig = claims_matrix.plot_matrix(findings)
        shown = [text.get_text() for text in fig.axes[0].texts]
        listed = claims_matrix.matrix_rows(findings)
        assert {row.label for row in listed if not row.kernel} <= set(shown)
        assert {"Gaussian of 1.73 px (as printed)", "Gaussian of 3 px", "Gaussian of 4.34 px (code)"} <= set(shown)
        assert "5-10 times below MSE at 3-5 px" in [words.replace("\n", " ") for words in shown]
        assert shown.count("not run: needs people") == len(claims.PEOPLE)
        below = [text.get_text() for text in fig.texts]
        assert "the paper: its own numbers, checked; k of n counts phones, or kinds of pictures" in below
        assert sum("holds" in words or words == "✓" for words in shown) >= len(losses.KERNELS)
        assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
        if len(claims_matrix.matrix_columns(findings)) < 8:
            assert fig.get_figheight() * 96 < 647, "one screen of JupyterLab at 1366 x 768"
        texts = [t for t in fig.axes[0].texts if t.get_text()]
        boxes = [t.get_window_extent() for t in texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), "no word lies on another"
        named = [legend.get_window_extent() for legend in fig.legends]
        assert all(fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1 for box in named), "the legends are whole"
        plt.close(fig)


def test_the_words_of_a_cell_stand_in_its_middle():
    """Their brackets touched the upper frame, because the space for descenders was centred with them."""
    findings = [
        evidence.ClaimFinding("best_ssim", dataset, "cpu", "", "", "not testable", here=here)
        for dataset, here in (("rig", "does not hold"), ("pirm", "holds"), ("city100", "undecided"))
    ]
    figures.use_style()
    fig = claims_matrix.plot_matrix(findings)
    fig.set_dpi(400)
    fig.canvas.draw()
    pixels = np.asarray(fig.canvas.buffer_rgba())[..., :3].astype(int)
    (ax,) = fig.axes
    framed = [p.get_window_extent() for p in ax.patches if p.get_linewidth() > 1]
    assert len(framed) == 3
    for box in framed:
        y0, y1 = (round(fig.bbox.height - y) for y in (box.y1, box.y0))
        dark = pixels[y0:y1, int(box.x0) + 8 : int(box.x1) - 8].max(2).min(1) < 130
        ink = np.flatnonzero(dark)
        frame = claims_matrix._FRAME / 72 * 400  # half of its line is cut off by the box
        above, under = ink[0] - frame / 2, len(dark) - 1 - ink[-1] - frame / 2
        assert min(above, under) > 0 and abs(above - under) <= 6, "neither frame is touched"
    plt.close(fig)


def test_the_colour_of_differing_findings_takes_no_side():
    """A cell "1 of 3" may have two findings against the sentence: it must not look like one that holds or fails."""
    red, green, blue = (int(claims_matrix.Summary("mixed", 1, 3).color[i : i + 2], 16) for i in (1, 3, 5))
    assert max(red, green, blue) - blue < 60 and abs(red - green) < 20, (
        "neither blue nor vermilion, nor the yellow of open"
    )


def test_the_table_says_which_rows_need_people(shelf):
    shelf("table2_methods", {"differences": [difference("ours", "dong", 1.0, 2.0)]})
    findings = claims.judge_claims(evidence.saved_results())
    table = claims_matrix.frame(findings).set_index("claim")
    asked = table.loc["people prefer ours to manual enhancement"]
    assert (asked["the paper"], asked["pirm-paper"]) == ("", "needs people")
    assert (table["pirm-paper"] == "needs people").sum() == len(claims.PEOPLE)
    text = claims_matrix.readme_table(findings)
    assert "needs people: not run, because only people can answer; empty: nothing to test, or not run" in text


def test_every_claim_has_a_few_words():
    assert set(claims_matrix.SHORT) == {c.key for c in paper.CLAIMS}
    assert max(len(row.label) for row in claims_matrix.matrix_rows(claims.judge_claims([]))) <= 46


def test_the_answer_in_short_counts_what_was_decided():
    """A row whose data differ neither holds nor fails. A training that is too short decides nothing."""

    def finding(claim, dataset, verdict, here=""):
        return evidence.ClaimFinding(claim, dataset, "cpu", "", "", verdict, here=here)

    findings = [
        finding("noise", "rig", "holds"),
        finding("improves", "pirm", "does not hold"),
        *(finding("psnr_dong", dataset, verdict) for dataset, verdict in (("rig", "holds"), ("pirm", "does not hold"))),
        finding("mse_blur", "rig", "not testable", here="holds"),
    ]
    measured = (
        "Of 23 sentences, 21 need measurements. Where these could be decided, 1 hold and 1 fail on all data. "
        "1 are open, or their verdicts differ between the data or the kernels. 18 could not be decided here: "
    )
    assert claims_matrix.in_short(findings).startswith(measured)
    own = claims.judge_claims([])
    assert claims_matrix.in_short([*findings, *own]).startswith(measured), "the paper's own numbers are no measurements"
    of_paper = "own numbers can be compared with 6 sentences: they bear out 2, contradict 2, and leave 2 open or mixed."
    assert claims_matrix.in_short(own).endswith(of_paper)


def test_a_sentence_about_the_colour_loss_counts_once():
    """It has a row for each kernel. It holds if it holds with all of them."""
    verdicts = {"shift_small": ["holds"] * 3, "shift_middle": ["holds", "does not hold", "does not hold"]}
    findings = [
        evidence.ClaimFinding(claim, "rig", "cpu", "", "", verdict, kernel=kernel)
        for claim, of_kernels in verdicts.items()
        for kernel, verdict in zip(losses.KERNELS, of_kernels, strict=True)
    ]
    words = claims_matrix.in_short(findings)
    assert "1 hold and 0 fail" in words and ". 1 are open, or" in words
