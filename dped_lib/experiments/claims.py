"""Collect the verdicts on every testable sentence (``paper.CLAIMS``) from the numbers in ``figures/`` alone.

``judges`` and ``paper_judges`` decide each verdict, by the rules in ``evidence``. ``shift_study.Ratio`` decides those on
Figure 6, and ``limitations.noise_verdict`` the one on noise.

The notebooks save each result with a JSON of its numbers and provenance. Every claim is compared with the results of
every dataset and preset that was run:

    holds           the interval lies on the claim's side
    does not hold   the interval lies on the other side
    undecided       the interval lies on both sides
    not testable    these data cannot decide the claim, whatever their numbers are; the reason is given

The side of "achieves 99 %" is 99 % and more. The side of "only 86 %" is 86 % and less. The side of "equivalent" is a
difference of at most ``evidence.PSNR_MARGIN``. The paper states no margin, so we chose it.

Trainings that are too short or too few decide nothing about the paper, nor do differences on fewer than ten photographs
(``evidence.too_few``). What they show here stands in brackets, in the list and in the matrix.

``claims_matrix`` shows the verdicts of all results at one glance.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from dped_lib import paper
from dped_lib.base import paths, writing
from dped_lib.experiments import claims_matrix
from dped_lib.experiments.evidence import ClaimFinding, Results
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
            asked = f"{claims_matrix.NEEDS_PEOPLE}: 06_user_study asks them"
            why = asked if claim.key in PEOPLE else "its notebook has not been run"
            on_claim = [ClaimFinding(claim.key, "", "", "", "not run", "not testable", why)]
        findings += on_claim
    return findings


def findings_text(findings: Sequence[ClaimFinding]) -> str:
    """Return a section in Markdown for each claim: its sentence, and a row for each finding."""
    sections = []
    for claim in paper.CLAIMS:
        rows = ["| data | evidence | verdict |", "| :-- | :-- | :-- |"]
        for f in (f for f in findings if f.claim == claim.key):
            data = ", ".join(filter(None, (f.data, claims_matrix.KERNEL_NAMES.get(f.kernel)))) or "nothing run"
            verdict = f.verdict + (f" (our trainings show: {f.here})" if f.here else "")
            rows.append(f"| {data} | {f.evidence} | {verdict}{f': {f.why}' if f.why else ''} |")
        sections.append(f"### “{claim.sentence}”\n\n{claim.where}\n\n" + "\n".join(rows))
    return "\n\n".join(sections)


def write_findings(findings: Sequence[ClaimFinding]) -> Path:
    """Write all findings to ``figures/``: ``claims.md``, ``claims.json`` and ``claims_overview.png``.

    Return the path of ``claims.md``.
    """
    folder = paths.figures_root()
    target = folder / "claims.md"
    head = (
        f"# Does the paper hold?\n\n{claims_matrix.in_short(findings)}\n\n"
        "The page has every testable sentence, each with what was measured here. It is written by "
        "`dped run 08_claims` from the JSON files in the folders `figures/DATASET-PRESET/`. Each of these files names its "
        "dataset, preset and seed, and the command that measures it again, or why no command of today does. "
        "`provenance.json` in each folder has commit, time and versions.\n\n"
        "![Matrix of verdicts by sentence, dataset and preset](claims_overview.png)\n\n"
    )
    writing.write_text(folder / "claims.json", json.dumps([asdict(f) for f in findings], indent=1) + "\n")
    claims_matrix.save_picture(findings, folder / "claims_overview.png")
    table = claims_matrix.readme_table(findings)
    writing.write_text(target, f"{head}{table}\n\n## Findings\n\n{findings_text(findings)}\n")
    return target
