"""Verdicts follow from numbers: made-up results with known answers."""

import pytest
from judging import difference, ratio, verdicts

from dped_lib import paper
from dped_lib.experiments import claims, claims_matrix, evidence


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        (((0.001, 0.01), (0.002, 0.02), (0.1, 0.2)), "holds"),
        (((0.001, 0.01), (-0.002, 0.02), (0.1, 0.2)), "undecided"),
        (((0.001, 0.01), (-0.02, -0.01), (-0.1, 0.2)), "does not hold"),
    ],
)
def test_best_needs_every_interval_above_zero(shelf, intervals, expected):
    rows = [
        difference("ours", o, *i, metric="ms_ssim") for o, i in zip(("ape", "dong", "johnson"), intervals, strict=True)
    ]
    shelf("table2_methods", {"differences": rows})
    assert verdicts("best_ssim") == [expected]


@pytest.mark.parametrize(
    ("psnr", "ssim", "expected"),
    [
        ((0.1, 0.2), (0.01, 0.02), "holds"),
        ((0.1, 0.2), (-0.02, -0.01), "does not hold"),
        ((-0.2, -0.1), (-0.01, 0.02), "does not hold"),
        ((0.1, 0.2), (-0.01, 0.02), "undecided"),
    ],
)
def test_top_psnr_and_ssim_need_both(shelf, psnr, ssim, expected):
    full, *others = ("color+content+texture", "content+texture", "mse+texture", "mse")
    scores = (("psnr", psnr), ("ms_ssim", ssim))
    shelf("table3_losses", {"differences": [difference(full, o, *i, metric=m) for m, i in scores for o in others]})
    assert verdicts("top_scores") == [expected]
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "top_scores" and f.preset)
    assert "PSNR: " in finding.evidence and "MS-SSIM: " in finding.evidence


def test_a_column_that_is_missing_leaves_best_undecided(shelf):
    rows = [difference("dong", "ours", -0.2, -0.1, metric="ms_ssim")]  # given the other way round
    shelf("table2_methods", {"differences": rows})
    assert verdicts("best_ssim") == ["undecided"]
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "best_ssim" and f.preset)
    why = "holds against Dong et al., but Apple Photo Enhancer and Johnson et al. were not run"
    assert why in finding.why, "without it the verdict would contradict the interval beside it"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1.0, 2.0), "does not hold"),
        ((-2.0, -0.75), "does not hold"),
        ((-0.7, 0.7), "holds"),
        ((0.1, 0.7), "holds"),
        ((-1.0, 0.2), "undecided"),
        ((-1.0, 2.0), "undecided"),
    ],
)
def test_equivalence_is_an_interval_within_a_margin(shelf, interval, expected):
    """A small difference that is no chance is still small. That no difference was found does not show equality."""
    shelf("table2_methods", {"differences": [difference("ours", "dong", *interval)]})
    assert verdicts("psnr_dong") == [expected]
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "psnr_dong" and f.preset)
    assert "asked: at most 0.74 dB apart (our margin)" in finding.evidence


def test_the_margin_is_the_largest_difference_that_the_paper_calls_equivalent():
    gaps = [row["ours"].psnr - row["dong"].psnr for row in paper.TABLE2.values()]
    assert {evidence.verdict_equal((gap, gap), evidence.PSNR_MARGIN + 1e-9) for gap in gaps} == {"holds"}
    assert "does not hold" in {evidence.verdict_equal((gap, gap), evidence.PSNR_MARGIN - 0.01) for gap in gaps}


def test_lower_is_better_for_colour_deviation(shelf):
    row = difference("color+content+texture", "content+texture", -2.0, -1.0, measure="colour deviation")
    shelf("table3_looks", {"differences": [{k: v for k, v in row.items() if k != "metric"}]})
    assert verdicts("color_term") == ["holds"]


@pytest.mark.parametrize(
    ("form", "last", "batch", "interval", "expected"),
    [
        ("two_image", 300, 50, (0.99, 1.0), "holds"),
        ("two_image", 300, 50, (0.98, 1.0), "undecided"),
        ("two_image", 300, 50, (0.50, 1.0), "undecided"),
        ("two_image", 300, 50, (0.80, 0.90), "does not hold"),
        ("two_image", 300, 16, (0.80, 0.90), "not testable"),
        ("two_image", 40, 50, (0.80, 0.90), "not testable"),
        ("two_image", 40, 50, (0.98, 1.0), "not testable"),
        ("two_image", 40, 16, (0.995, 1.0), "holds"),
        ("one_image", 5000, 50, (0.84, 0.86), "holds"),
        ("one_image", 5000, 50, (0.84, 0.87), "undecided"),
        ("one_image", 5000, 50, (0.50, 1.0), "undecided"),
        ("one_image", 5000, 50, (0.87, 0.90), "does not hold"),
        ("one_image", 300, 16, (0.90, 0.95), "does not hold"),
        ("one_image", 300, 50, (0.60, 0.70), "not testable"),
        ("one_image", 300, 50, (0.60, 0.90), "not testable"),
    ],
)
def test_the_discriminators_claim(shelf, form, last, batch, interval, expected):
    """A sentence holds only if the whole interval lies on its side."""
    shelf("discriminator_accuracy", {"curves": [curve(form, last, batch, interval)]})
    assert verdicts(form) == [expected]


def answers(form, correct, last=300, batch=50):
    """Return the curve of a discriminator.

    Each photograph has one pair. ``correct`` has the number of right answers, of 2, about each.
    """
    values = curve(form, last, batch, (0.5, 1.0))
    return {**values, "dataset": "pirm", "seed": 0, "correct": correct, "photographs": [*map(str, range(len(correct)))]}


@pytest.mark.parametrize(
    ("two", "one", "verdict", "here"),
    [
        ([2] * 10, [1] * 10, "holds", ""),
        ([1] * 10, [2] * 10, "does not hold", ""),
        ([2, 1] * 5, [1, 2] * 5, "undecided", ""),
        ([2] * 9, [1] * 9, "not testable", "holds"),
    ],
)
def test_two_images_beat_one_where_the_paired_difference_says_so(shelf, two, one, verdict, here):
    """Intervals over fewer than ten photographs are too narrow to decide."""
    shelf("discriminator_accuracy", {"curves": [answers("two_image", two), answers("one_image", one)]})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "two_or_one")
    assert (finding.verdict, finding.here) == (verdict, here)
    assert f"{len(two)} {'different patches' if verdict != 'not testable' else 'photographs'}" in finding.why


def test_a_difference_of_two_discriminators_is_paired(shelf):
    """Photographs differ more than the discriminators do, but both find the same ones hard."""
    hard = [0, 1] * 5
    curves = [answers("two_image", [c + 1 for c in hard]), answers("one_image", hard)]
    shelf("discriminator_accuracy", {"curves": curves})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "two_or_one")
    assert "two images - one image: +50.0 [+50.0, +50.0] points" in finding.evidence and finding.verdict == "holds"


@pytest.mark.parametrize(("last", "batch"), [(40, 50), (300, 16)])
def test_two_images_against_one_needs_a_training_as_long_as_the_papers(shelf, last, batch):
    curves = [answers(form, [right] * 10, last, batch) for form, right in (("two_image", 2), ("one_image", 1))]
    shelf("discriminator_accuracy", {"curves": curves})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "two_or_one")
    assert (finding.verdict, finding.here) == ("not testable", "holds") and finding.why.startswith("trained ")


def test_a_table_of_nine_photographs_decides_nothing(shelf):
    """With nine photographs even trainings of the paper's length decide nothing."""
    for photographs, expected in ((9, ("not testable", "does not hold")), (10, ("does not hold", ""))):
        numbers = {"differences": [difference("mse", "color+content+texture", 1.0, 2.0, measure="sharpness")]}
        del numbers["differences"][0]["metric"]
        shelf("table3_looks", {**numbers, "cells": [{"phone": "iphone", "photographs": photographs}]})
        (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "mse_blur")
        assert (finding.verdict, finding.here) == expected


def curve(form, last, batch, interval):
    return {
        "form": form,
        "phone": "iphone",
        "iterations": [5, last],
        "accuracy": [0.5, sum(interval) / 2],
        "interval": interval,
        "batch_size": batch,
    }


@pytest.mark.parametrize(
    ("last", "batch", "why"),
    [
        (300, 50, "trained for 300 of 5000 iterations"),
        (5000, 16, "trained with batches of 16 instead of 50"),
        (300, 16, "trained for 300 of 5000 iterations with batches of 16 instead of 50"),
    ],
)
def test_a_short_training_of_a_discriminator_names_what_differs_from_the_papers(shelf, last, batch, why):
    shelf("discriminator_accuracy", {"curves": [curve("one_image", last, batch, (0.60, 0.70))]})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "one_image")
    assert finding.why == why


def test_published_scores_are_not_tested_with_the_weights_of_the_later_version(shelf):
    """The score of other weights on other pairs contradicts nothing."""
    cell = {"column": "authors", "phone": "iphone", "pairs": 400, "psnr": 19.93, "ms_ssim": 0.92}
    shelf("table2_all_pairs", {"cells": [{**cell, "psnr_interval": (19.3, 20.5), "ms_ssim_interval": (0.917, 0.927)}]})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "ours_iphone")
    assert finding.verdict == "not testable" and "the later version of the paper (20.08 / 0.9201)" in finding.why
    assert "PSNR 19.93 [19.30, 20.50] dB" in finding.evidence


@pytest.mark.parametrize(
    ("pairs", "interval", "expected"),
    [(241, (0.8, 0.9), "not testable"), (15_000, (0.8, 0.9), "does not hold"), (241, (0.99, 1.0), "holds")],
)
def test_few_training_pairs_do_not_contradict_99_percent(shelf, pairs, interval, expected):
    """Our network sees each of its 241 pairs sixty times, and can learn them by heart. The paper's network sees few pairs twice."""
    shelf("discriminator_accuracy", {"curves": [{**curve("two_image", 300, 50, interval), "training_pairs": pairs}]})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "two_image")
    assert finding.verdict == expected and (("trained on 241 pairs" in finding.why) == (expected == "not testable"))


@pytest.mark.parametrize(
    ("low", "high", "printed", "verdict"),
    [(3.7, 4.969, "4.33 [3.70, 4.97]", "does not hold"), (4.9935, 5.6, "5.30 [4.99, 5.60]", "undecided")],
)
def test_a_printed_interval_of_figure_6_has_the_verdict_beside_it(shelf, low, high, printed, verdict):
    """Rounded to one digit, the first would end at 5, and the second would begin at 5. Both would then have another verdict."""
    measured = {"value": (low + high) / 2, "low": low, "high": high}
    shelf("fig06_verdicts", {"ratios": {"dslr patches": {"code": {"3-5 px": measured}}}})
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "shift_middle")
    assert f"= {printed}; asked: 5 to 10" in finding.evidence and finding.verdict == verdict


def test_printed_ends_stay_on_their_side_of_what_is_asked(shelf):
    """The borders are 99 % right answers, the margin of equal scores, and zero."""
    shelf("discriminator_accuracy", {"curves": [curve("two_image", 300, 50, (0.98996, 1.0))]})
    shelf("table2_methods", {"differences": [difference("ours", "dong", 0.1, 0.742)]})
    looks = difference("mse", "color+content+texture", -0.004, 0.1, "sharpness")
    shelf("table3_looks", {"differences": [looks]})
    by_claim = {f.claim: f for f in claims.judge_claims(evidence.saved_results()) if f.preset}
    assert "[98.996, 100.000]" in by_claim["two_image"].evidence and by_claim["two_image"].verdict == "undecided"
    assert "[+0.100, +0.742] dB" in by_claim["psnr_dong"].evidence and by_claim["psnr_dong"].verdict == "undecided"
    assert "[-0.004, +0.100]" in by_claim["mse_blur"].evidence and by_claim["mse_blur"].verdict == "undecided"


def test_figure_6_has_a_verdict_for_each_kernel(shelf):
    kernels = {"printed": {"3-5 px": ratio(3.0)}, "sigma3": {"3-5 px": ratio(7.0)}, "code": {"3-5 px": ratio(20.0)}}
    other = {**kernels, "sigma3": {"3-5 px": ratio(2.0)}}
    shelf("fig06_verdicts", {"ratios": {"dslr patches": kernels, "iphone patches": other}})
    findings = claims.judge_claims(evidence.saved_results())
    by_kernel = {(f.kernel, f.evidence.split(":")[0]): f.verdict for f in findings if f.claim == "shift_middle"}
    assert by_kernel == {
        ("printed", "Canon 70D DSLR patches"): "does not hold",
        ("sigma3", "Canon 70D DSLR patches"): "holds",
        ("code", "Canon 70D DSLR patches"): "does not hold",
        ("printed", "iPhone 3GS patches"): "does not hold",
        ("sigma3", "iPhone 3GS patches"): "does not hold",
        ("code", "iPhone 3GS patches"): "does not hold",
    }
    assert not verdicts("shift_large")
    cells = {(r.claim.key, r.kernel): s for (r, c), s in claims_matrix.cells(findings).items() if c == "pirm-paper"}
    assert cells["shift_middle", "printed"].words == "fails"
    assert cells["shift_middle", "sigma3"].words == "1 of 2"
    assert ("shift_middle", "") not in cells, "no single verdict stands for three kernels"


def test_the_authors_weights_improve_where_they_belong(shelf):
    rows = [difference("original", "authors", -4.0, -3.0), difference("original", "authors", 0.01, 0.02, "ms_ssim")]
    shelf("table2_all_pairs", {"differences": rows, "cells": []})
    assert verdicts("improves") == ["holds", "does not hold"]


@pytest.mark.parametrize(
    ("dataset", "improves"), [("rig", ["not testable"]), ("city100", ["not testable"]), ("own", [])]
)
def test_photographs_that_are_not_the_papers_cannot_test_its_networks(shelf, dataset, improves):
    """A cell of the matrix is empty only if a notebook was not run."""
    shelf("fig06_verdicts", {"ratios": {}}, dataset)
    assert not verdicts("improves") and not verdicts("ours_iphone")
    shelf("table2_methods", {"differences": []}, dataset)
    assert verdicts("improves") == verdicts("ours_iphone") == improves
