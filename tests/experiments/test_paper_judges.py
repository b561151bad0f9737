"""Verdicts on the paper's own tables."""

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
