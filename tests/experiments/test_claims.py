"""Every claim is quoted once and judged, and findings are written with their sources."""

import json

from judging import difference

from dped_lib import paper
from dped_lib.base import datasets, presets
from dped_lib.experiments import claims, claims_matrix, evidence, judges, paper_judges


def test_every_claim_is_quoted_once_and_tested_or_said_not_to_be(shelf):
    keys = [c.key for c in paper.CLAIMS]
    assert len(set(keys)) == len(keys)
    assert set(judges.JUDGES) | set(claims.PEOPLE) | set(paper_judges.PAPER_JUDGES) == set(keys)
    findings = claims.judge_claims(evidence.saved_results())
    assert {f.claim for f in findings} == set(keys)
    assert {f.verdict for f in findings} <= {"holds", "does not hold", "undecided", "not testable"}
    nothing = [f for f in findings if not f.dataset]
    assert nothing and all(f.verdict == "not testable" and f.evidence == "not run" and f.why for f in nothing)


def test_written_with_sources(shelf, tmp_path):
    shelf("table2_methods", {"differences": [difference("ours", "dong", 1.0, 2.0)]})
    findings = claims.judge_claims(evidence.saved_results())
    text = claims.write_findings(findings).read_text()
    assert "| pirm-paper iPhone 3GS | PSNR: ours - Dong et al.: +1.50 [+1.00, +2.00] dB; asked: " in text
    assert "![Matrix of verdicts by sentence, dataset and preset](claims_overview.png)" in text, "for screen readers"
    saved = json.loads((tmp_path / "claims.json").read_text())
    assert {s["source"] for s in saved if s["claim"] == "psnr_dong"} == {
        "pirm-paper/table2_methods.json",
        "dped_lib/paper.py",
    }
    assert (tmp_path / "claims_overview.png").read_bytes().startswith(b"\x89PNG")
    table = claims_matrix.frame(findings)
    assert list(table.columns) == ["claim", "where", "the paper", "pirm-paper"]
    assert table.set_index("claim").loc["PSNR equals Dong et al.'s within 0.74 dB", "pirm-paper"] == "✗ fails"


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
    findings = claims.judge_claims(there)
    assert claims.findings_text(findings) in (folder / "claims.md").read_text()
    assert claims_matrix.readme_table(findings) in (folder / "claims.md").read_text()
