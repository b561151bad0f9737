"""Verdicts follow from numbers: made-up results with known answers, the paper's own tables, and what is not there."""

import itertools
import json
import re

import matplotlib.pyplot as plt
import pytest
from legible import smallest_text

from dped_lib import losses, paper
from dped_lib.base import datasets, paths, presets
from dped_lib.base.errors import DpedError
from dped_lib.experiments import claims, claims_matrix, evidence, judges, paper_judges
from dped_lib.report import figures


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """``shelf(name, numbers)`` saves a result as the notebooks do; the default is dataset pirm at preset paper."""
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))

    def save(name, numbers, dataset="pirm", preset="paper", iterations="20000 of batch 50", **more):
        folder = tmp_path / f"{dataset}-{preset}"
        folder.mkdir(exist_ok=True)
        parameters = {"dataset": dataset, "preset": preset, "iterations": iterations, **more}
        (folder / f"{name}.json").write_text(json.dumps({"parameters": parameters, "numbers": numbers}))

    return save


def verdicts(claim):
    return [f.verdict for f in claims.judge_claims(evidence.saved_results()) if f.claim == claim and f.preset]


def difference(first, second, low, high, metric="psnr", **more):
    return {
        "phone": "iphone",
        "metric": metric,
        "first": first,
        "second": second,
        "difference": (low + high) / 2,
        "interval": [low, high],
        **more,
    }


def test_every_claim_is_quoted_once_and_tested_or_said_not_to_be(shelf):
    keys = [c.key for c in paper.CLAIMS]
    assert len(set(keys)) == len(keys)
    assert set(judges.JUDGES) | set(claims.PEOPLE) | set(paper_judges.PAPER_JUDGES) == set(keys)
    findings = claims.judge_claims(evidence.saved_results())
    assert {f.claim for f in findings} == set(keys)
    assert {f.verdict for f in findings} <= {"holds", "does not hold", "undecided", "not testable"}
    nothing = [f for f in findings if not f.dataset]
    assert nothing and all(f.verdict == "not testable" and f.evidence == "not run" and f.why for f in nothing)


def test_what_the_papers_own_numbers_say():
    own = {(f.claim, f.evidence.split(":")[0]): f for f in claims.judge_claims([]) if f.dataset == "the paper"}
    phones = [datasets.camera_name("dped", p) for p in paper.PHONES]
    assert own["cameras", "2592 x 1944 is 5.0 MP"].verdict == "does not hold"
    assert [own["best_ssim", p].verdict for p in phones] == ["holds"] * 3
    assert [own["top_scores", p].verdict for p in phones] == ["does not hold", "does not hold", "does not hold"]
    assert own["outperforms", "iPhone 3GS"].verdict == "does not hold"  # 19.16 against Johnson's 19.65
    assert own["outperforms", "Sony Xperia Z"].verdict == "holds"


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
    assert "psnr: " in finding.evidence and "ms_ssim: " in finding.evidence


def test_a_column_that_is_missing_leaves_best_undecided(shelf):
    rows = [difference("dong", "ours", -0.2, -0.1, metric="ms_ssim")]  # given the other way round
    shelf("table2_methods", {"differences": rows})
    assert verdicts("best_ssim") == ["undecided"]


@pytest.mark.parametrize(
    ("iterations", "why"),
    [
        ("60 of batch 2", "trained on 120 patches instead of 1,000,000"),
        ("200 of batch 4 (Dong et al.: 1000 of batch 4)", "trained on 800 patches instead of 1,000,000"),
        ("20000 of batch 8", "trained on 160,000 patches instead of 1,000,000"),
        ("", "does not say how long its networks were trained"),
    ],
)
def test_short_trainings_decide_nothing(shelf, iterations, why):
    """Whatever the preset says today: a result records how long its networks were trained."""
    shelf("table2_methods", {"differences": [difference("ours", "dong", 1.0, 2.0)]}, iterations=iterations)
    findings = [f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "psnr_dong" and f.preset]
    assert [(f.verdict, f.here) for f in findings] == [("not testable", "does not hold")]
    assert findings[0].why == why
    assert "| not testable (here: does not hold): " in claims.findings_text(findings)


@pytest.mark.parametrize(
    ("moved", "spread", "seeds", "verdict", "why"),
    [
        (0.2, 0.6, 3, "holds", "these data and this length: 16"),
        (-0.2, 0.6, 2, "holds", "these data and this length: 16"),
        (0.9, 0.6, 3, "not testable", "and validation had not levelled off (last quarter: Johnson et al. +0.90 dB)"),
        (0.2, 0.6, 1, "not testable", "and each network once: a difference may be chance"),
    ],
)
def test_shorter_trainings_decide_if_they_had_levelled_off_and_were_repeated(shelf, moved, spread, seeds, verdict, why):
    rows = [difference("ours", o, 1.0, 2.0) for o in ("ape", "johnson")]
    measured = {"moved": moved, "spread": spread, "seeds": seeds}
    full = {**measured, "moved": 0.1}
    # Dong's network still moves, but the sentence does not compare it.
    dong = {"moved": 3.0, "spread": 0.1, "seeds": 1}
    levelling = {"iphone": {losses.TABLE3_LOSSES[0]: full, "johnson": measured, "dong": dong}}
    numbers = {"differences": rows, "cells": [{"phone": "iphone", "photographs": 16}]}
    shelf("table2_methods", numbers, iterations="2000 of batch 8", levelling=levelling)
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "outperforms" and f.preset)
    assert finding.verdict == verdict and why in finding.why
    assert finding.here == ("holds" if verdict == "not testable" else ""), "a short training shows, and decides nothing"


def test_every_saved_result_on_trainings_says_how_long_they_were():
    """Tables 2 and 3 in ``figures/``: a reader and a judge of claims find the length in the result itself."""
    files = [f for name in ("table2_methods", "table3_losses", "table3_looks") for f in (paths.project_root() / "figures").glob(f"*/{name}.json")]  # fmt: skip
    assert files
    for file in files:
        assert re.match(r"\d+ of batch \d+", figures.read_result(file)["parameters"]["iterations"]), file


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((1.0, 2.0), "does not hold"), ((-2.0, -1.0), "does not hold"), ((-1.0, 2.0), "undecided")],
)
def test_a_difference_contradicts_equivalence_and_nothing_shows_it(shelf, interval, expected):
    """To show that two methods are equivalent takes a margin, which the paper does not give."""
    shelf("table2_methods", {"differences": [difference("ours", "dong", *interval)]})
    assert verdicts("psnr_dong") == [expected]


def test_lower_is_better_for_colour_deviation(shelf):
    row = difference("color+content+texture", "content+texture", -2.0, -1.0, measure="colour deviation")
    shelf("table3_looks", {"differences": [{k: v for k, v in row.items() if k != "metric"}]})
    assert verdicts("colour_term") == ["holds"]


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


@pytest.mark.parametrize(
    ("psnr", "ssim", "expected"),
    [
        ((19.0, 19.5), (0.910, 0.912), "undecided"),
        ((19.2, 19.5), (0.910, 0.912), "does not hold"),
        ((19.0, 19.5), (0.912, 0.914), "does not hold"),
    ],
)
def test_published_scores_can_only_be_contradicted(shelf, psnr, ssim, expected):
    """An interval that contains 19.16 dB also contains other numbers."""
    cell = {"column": "authors", "phone": "iphone", "pairs": 400, "psnr": 19.3, "ms_ssim": 0.91}
    shelf("table2_all_pairs", {"cells": [{**cell, "psnr_interval": psnr, "ms_ssim_interval": ssim}]})
    assert verdicts("ours_iphone") == [expected]


def ratio(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.1}


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


def test_results_of_another_folder_or_damaged_ones_are_named(shelf, tmp_path):
    shelf("table2_methods", {"differences": []})
    file = tmp_path / "pirm-paper" / "table2_methods.json"
    file.rename(tmp_path / "pirm-paper" / "table3_looks.json")
    wrong = evidence.Results("pirm", "smoke", tmp_path / "pirm-paper")
    with pytest.raises(DpedError, match="is a result of pirm-paper"):
        wrong.numbers("table3_looks")
    file.write_text("{")
    with pytest.raises(DpedError, match=r"table2_methods.json: damaged"):
        claims.judge_claims(evidence.saved_results())


def test_written_with_sources(shelf, tmp_path):
    shelf("table2_methods", {"differences": [difference("ours", "dong", 1.0, 2.0)]})
    findings = claims.judge_claims(evidence.saved_results())
    text = claims.write_findings(findings).read_text()
    assert "| pirm-paper iPhone 3GS | psnr: ours - Dong et al.: +1.50 [+1.00, +2.00] |" in text
    saved = json.loads((tmp_path / "claims.json").read_text())
    assert {s["source"] for s in saved if s["claim"] == "psnr_dong"} == {
        "pirm-paper/table2_methods.json",
        "dped_lib/paper.py",
    }
    assert (tmp_path / "claims_overview.png").read_bytes().startswith(b"\x89PNG")
    table = claims_matrix.frame(findings)
    assert list(table.columns) == ["claim", "where", "the paper", "pirm-paper"]
    assert table.set_index("claim").loc["PSNR equals that of Dong et al.", "pirm-paper"] == "✗ fails"


@pytest.mark.parametrize(
    ("found", "words"),
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
def test_a_cell_sums_up_its_findings(found, words):
    """What a short training shows stands in brackets, and only where no finding decides."""

    def finding(verdict):
        here = verdict.strip("()") if verdict.startswith("(") else ""
        return evidence.ClaimFinding("best_ssim", "rig", "cpu", "", "", "not testable" if here else verdict, here=here)

    assert claims_matrix.summarise(map(finding, found)).words == words


def test_a_cell_without_findings_is_empty():
    assert claims_matrix.summarise([]) is None


def test_a_verdict_on_trained_networks_names_its_data_and_length(shelf, tmp_path):
    cells = [{"phone": "iphone", "column": "ours", "photographs": 12, "seeds": [0, 1, 2]}]
    shelf("table2_methods", {"cells": cells, "differences": [difference("ours", "dong", 1.0, 2.0)]})
    file = tmp_path / "pirm-paper" / "table2_methods.json"
    content = json.loads(file.read_text())
    content["parameters"] |= {"seeds": [0, 1, 2], "iterations": "20000 of batch 50"}
    file.write_text(json.dumps(content))
    (found,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "psnr_dong" and f.preset)
    assert (
        found.why
        == "these data and this length: 12 photographs, 3 trainings of each network, 20000 iterations of batch 50"
    )


def test_the_picture_of_the_matrix_can_be_read_at_the_width_of_a_column(shelf):
    """Each claim has its row, each cell its word beside its colour, and no text is under 8 points at 700 pixels."""
    kernels = {kernel: {"3-5 px": ratio(7.0)} for kernel in losses.KERNELS}
    for dataset, preset in itertools.product(("rig", "pirm", "city100"), ("smoke", "cpu", "paper")):
        shelf("fig06_verdicts", {"ratios": {"dslr patches": kernels}}, dataset, preset)
        found = claims.judge_claims(evidence.saved_results())
        figures.use_style()
        fig = claims_matrix.plot_matrix(found)
        shown = [text.get_text() for text in fig.axes[0].texts]
        listed = claims_matrix.rows(found)
        assert {row.label for row in listed if not row.kernel} <= set(shown)
        assert {"Gaussian of 1.73 px (as printed)", "Gaussian of 3 px", "Gaussian of 4.34 px (code)"} <= set(shown)
        assert "5-10 times below MSE at 3-5 px" in [words.replace("\n", " ") for words in shown]
        assert shown.count("not run: needs people") == len(claims.PEOPLE)
        assert "the paper: its own numbers, checked" in [text.get_text() for text in fig.texts]
        assert sum("holds" in words or words == "✓" for words in shown) >= len(losses.KERNELS)
        assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
        if len(claims_matrix.columns(found)) < 8:
            assert fig.get_figheight() * 96 < 647, "one screen of JupyterLab at 1366 x 768"
        texts = [t for t in fig.axes[0].texts if t.get_text()]
        boxes = [t.get_window_extent() for t in texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), "no word lies on another"
        plt.close(fig)


def test_the_colour_of_differing_findings_takes_no_side():
    """A cell "1 of 3" may have two findings against the sentence: it must not look like one that holds or fails."""
    red, green, blue = (int(claims_matrix.Summary("mixed", 1, 3).color[i : i + 2], 16) for i in (1, 3, 5))
    assert max(red, green, blue) - blue < 60 and abs(red - green) < 20, (
        "neither blue nor vermilion, nor the yellow of open"
    )


def test_the_table_says_which_rows_need_people(shelf):
    shelf("table2_methods", {"differences": [difference("ours", "dong", 1.0, 2.0)]})
    found = claims.judge_claims(evidence.saved_results())
    table = claims_matrix.frame(found).set_index("claim")
    asked = table.loc["people prefer ours to manual enhancement"]
    assert (asked["the paper"], asked["pirm-paper"]) == ("", "needs people")
    assert (table["pirm-paper"] == "needs people").sum() == len(claims.PEOPLE)
    assert "needs people: not run, because only people can answer" in claims_matrix.readme_table(found)


def test_every_claim_has_a_few_words():
    assert set(claims_matrix.SHORT) == {c.key for c in paper.CLAIMS}
    assert max(len(row.label) for row in claims_matrix.rows(claims.judge_claims([]))) <= 46


def test_what_is_committed_agrees_with_itself():
    """The matrix and the findings in figures/claims.md are what the JSON files beside it give."""
    from dped_lib.base import paths

    folder = paths.project_root() / "figures"
    there = [
        evidence.Results(t, p, folder / f"{t}-{p}")
        for t in datasets.DATASETS
        for p in presets.PRESETS
        if any((folder / f"{t}-{p}").glob("*.json"))
    ]
    found = claims.judge_claims(there)
    assert claims.findings_text(found) in (folder / "claims.md").read_text()
    assert claims_matrix.readme_table(found) in (folder / "claims.md").read_text()
