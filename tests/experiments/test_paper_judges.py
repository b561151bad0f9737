"""Verdicts on the paper's own tables."""

import re

from dped_lib import paper
from dped_lib.base import datasets
from dped_lib.experiments import claims


def test_what_the_papers_own_numbers_say():
    own = {(f.claim, f.evidence.split(":")[0]): f for f in claims.judge_claims([]) if f.dataset == "the paper"}
    phones = [datasets.camera_name("dped", p) for p in paper.PHONES]
    sizes = "2592 x 1944 is 5.0 MP; likewise the Canon 70D DSLR's 3648 x 2432 is 8.9 MP beside 20 MP"
    assert own["cameras", sizes].verdict == "does not hold"
    assert [own["best_ssim", p].verdict for p in phones] == ["holds"] * 3
    assert [own["top_scores", p].verdict for p in phones] == ["does not hold", "does not hold", "does not hold"]
    assert own["outperforms", "iPhone 3GS"].verdict == "does not hold"  # 19.16 against Johnson's 19.65
    assert own["outperforms", "Sony Xperia Z"].verdict == "holds"


def test_published_scores_have_the_digits_of_the_papers_tables():
    """0.94 beside 0.9114 would look like a score that is known less well."""
    own = [f for f in claims.judge_claims([]) if f.dataset == "the paper"]
    scores = {"best_ssim", "outperforms", "psnr_dong", "top_scores"}
    numbers = [n for f in own if f.claim in scores for n in re.findall(r"\d+\.\d+", f.evidence)]
    assert len(numbers) == 3 * (1 + 3 + 1 + 2)
    assert all(len(n.partition(".")[2]) == (4 if n.startswith("0.9") else 2) for n in numbers)
