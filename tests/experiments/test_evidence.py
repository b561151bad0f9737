"""What a verdict rests on: how long networks were trained, on how many photographs, and files that are what they say."""

import json
import re

import pytest
from judging import difference

from dped_lib import paper
from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.experiments import claims, evidence
from dped_lib.report import provenance


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
    assert "| not testable (our trainings show: does not hold): " in claims.findings_text(findings)


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
    levelling = {"iphone": {paper.FULL_LOSS: full, "johnson": measured, "dong": dong}}
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
        assert re.match(r"\d+ of batch \d+", provenance.read_result(file)["parameters"]["iterations"]), file


def test_a_verdict_on_trained_networks_names_its_data_and_length(shelf, tmp_path):
    cells = [{"phone": "iphone", "column": "ours", "photographs": 12, "seeds": [0, 1, 2]}]
    shelf("table2_methods", {"cells": cells, "differences": [difference("ours", "dong", 1.0, 2.0)]})
    file = tmp_path / "pirm-paper" / "table2_methods.json"
    content = json.loads(file.read_text())
    content["parameters"] |= {"seeds": [0, 1, 2], "iterations": "20000 of batch 50"}
    file.write_text(json.dumps(content))
    (finding,) = (f for f in claims.judge_claims(evidence.saved_results()) if f.claim == "psnr_dong" and f.preset)
    of = "12 different patches, 3 trainings of each network, 20000 iterations of batch 50"
    assert finding.why == f"these data and this length: {of}"


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


def test_results_that_are_not_judged_are_counted(tmp_path, monkeypatch):
    """After one notebook run by hand, the page lacks the rows of the others. The sentence says so."""
    monkeypatch.delenv("DPED_FIGURES", raising=False)
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "published_figures", lambda: tmp_path / "figures")
    published, own = tmp_path / "figures" / "rig-cpu", tmp_path / "runs" / "rig-cpu" / "figures"
    content = json.dumps({"parameters": {}, "numbers": {}})
    for name in ("limitations", "fig06_verdicts", "variants"):
        published.mkdir(parents=True, exist_ok=True)
        (published / f"{name}.json").write_text(content)
    assert evidence.results_left_out() == []
    own.mkdir(parents=True)
    (own / "variants.json").write_text(content)
    (sentence,) = evidence.results_left_out()
    assert str(own) in sentence and "1 of the 3 results" in sentence and "Run the other notebooks by hand" in sentence
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path / "figures"))
    assert evidence.results_left_out() == [], "the workflow judges what it saves"
