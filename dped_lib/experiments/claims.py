"""Judge every testable sentence of the paper (``paper.CLAIMS``) from the numbers in ``figures/`` alone.

The notebooks save each result with a JSON of its numbers and provenance. Every claim is compared with the results of
every dataset and preset that was run:

    holds           the interval lies on the claim's side
    does not hold   the interval lies on the other side
    undecided       the interval lies on both sides
    not testable    these data cannot decide the claim, whatever their numbers are; the reason is given
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dped_lib import paper
from dped_lib.base import paths
from dped_lib.experiments.evidence import CLAIM_VERDICTS, ClaimFinding, Results
from dped_lib.experiments.judges import JUDGES
from dped_lib.experiments.paper_judges import PAPER_JUDGES

#: Claims that only answers of people can decide.
PEOPLE = ("study_originals", "study_equal", "study_manual")


def judge_claims(results: Iterable[Results]) -> list[ClaimFinding]:
    """Return every finding on every claim, in the order of the paper.

    A claim that nothing tests has one finding, "not run".
    """
    results = list(results)
    findings: list[ClaimFinding] = []
    for claim in paper.CLAIMS:
        on_claim = list(PAPER_JUDGES[claim.key]()) if claim.key in PAPER_JUDGES else []
        if claim.key in JUDGES:
            on_claim += [finding for r in results for finding in JUDGES[claim.key](r)]
        if not on_claim:
            why = "needs people: 06_user_study asks them" if claim.key in PEOPLE else "its notebook has not been run"
            on_claim = [ClaimFinding(claim.key, "", "", "", "not run", "not testable", why)]
        findings += on_claim
    return findings


def findings_frame(findings: Sequence[ClaimFinding]) -> pd.DataFrame:
    """Return a row for each finding."""
    by_key = {c.key: c for c in paper.CLAIMS}
    rows = []
    for f in findings:
        claim = by_key[f.claim]
        verdict = f.verdict + (f": {f.why}" if f.why else "")
        rows.append(
            {
                "claim": f"“{claim.sentence}”",
                "paper": claim.where,
                "data": f.data,
                "evidence": f.evidence,
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def _data_by_verdict(findings: Iterable[ClaimFinding], claim: str, verdicts: Iterable[str]) -> dict[str, str]:
    on_claim = [f for f in findings if f.claim == claim]
    return {v: ", ".join(dict.fromkeys(f.data or "nothing run" for f in on_claim if f.verdict == v)) for v in verdicts}


def summary_frame(findings: Sequence[ClaimFinding]) -> pd.DataFrame:
    """Return a row for each claim and a column for each verdict, with the data that give it."""
    return pd.DataFrame(
        [
            {"claim": f"“{c.sentence}”", "paper": c.where, **_data_by_verdict(findings, c.key, CLAIM_VERDICTS)}
            for c in paper.CLAIMS
        ]
    )


_COLORS = MappingProxyType(
    {"holds": "#0072B2", "does not hold": "#D55E00", "undecided": "#F0E442", "not testable": "#BBBBBB"}
)


def plot_findings(findings: Sequence[ClaimFinding]) -> Figure:
    """Draw the number of findings on each claim by verdict."""
    keys = [c.key for c in paper.CLAIMS]
    fig, ax = plt.subplots(figsize=(9, 0.5 + 0.27 * len(keys)))
    left = [0] * len(keys)
    for verdict in CLAIM_VERDICTS:
        counts = [sum((f.claim, f.verdict) == (key, verdict) for f in findings) for key in keys]
        ax.barh(range(len(keys)), counts, left=left, color=_COLORS[verdict], label=verdict, height=0.7)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    ax.set_yticks(range(len(keys)), [f"{c.key.replace('_', ' ')} ({c.where})" for c in paper.CLAIMS], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("findings (one for each dataset, preset and phone)")
    fig.legend(loc="outside upper center", ncols=len(CLAIM_VERDICTS), fontsize=8)
    return fig


def readme_table(findings: Sequence[ClaimFinding]) -> str:
    """Return the README's table in Markdown: the claims that our results or the paper's own numbers decide."""
    rows = []
    for c in paper.CLAIMS:
        cells = _data_by_verdict(findings, c.key, ("holds", "does not hold"))
        if any(cells.values()):
            rows.append({"claim": f"“{c.sentence}” ({c.where})", **cells})
    return pd.DataFrame(rows).to_markdown(index=False)


def write_findings(findings: Sequence[ClaimFinding]) -> Path:
    """Write all findings and their sources to ``figures/claims.md`` and ``claims.json``; return the first path."""
    folder = paths.figures_root()
    target = folder / "claims.md"
    head = (
        "# Does the paper hold?\n\nEvery testable sentence, each with what was measured here. Written by "
        "`08_claims` from the JSON files in this folder; each names its dataset, preset and seed. "
        "`provenance.json` has commits and versions.\n\n"
    )
    summary, table = (frame(findings).to_markdown(index=False) for frame in (summary_frame, findings_frame))
    listed = [{key: value for key, value in asdict(f).items() if key != "commit"} for f in findings]
    paths.write_text(folder / "claims.json", json.dumps(listed, indent=1) + "\n")
    paths.write_text(target, f"{head}{summary}\n\n## Findings\n\n{table}\n")
    return target
