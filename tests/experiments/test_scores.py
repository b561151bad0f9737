"""Comparisons of methods on the same pairs: repetitions, folds, intervals and verdicts with known answers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dped_lib import metrics
from dped_lib.base import presets
from dped_lib.base.errors import DpedError
from dped_lib.data import opening, pair_store, splits
from dped_lib.data.pair_store import Pair
from dped_lib.enhance import evaluation
from dped_lib.experiments import appearance, scores, tables


class Gain(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return x * self.gain


def make_store(folder, dataset, count=24, photographs=12):
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(count):
        dslr = rng.integers(40, 200, (100, 100, 3)).astype(np.uint8)
        phone = np.clip(dslr.astype(float) * 0.8 + rng.normal(0, 4, dslr.shape), 0, 255).astype(np.uint8)
        pairs.append(Pair(f"p{i}", f"photo{i % photographs}", phone, dslr))
    return pair_store.write_store(folder, pairs, {"dataset": dataset, "phone": "iphone", "report": {}})


@pytest.fixture(scope="module")
def rig_store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("s") / "rig", "rig")


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("s") / "pirm", "pirm")


PRESET = presets.preset("smoke")


def test_repetitions_test_the_same_pairs():
    assert scores.repetitions("rig", (0, 1, 2)) == [(0,), (1,), (2,)]
    assert scores.repetitions("pirm", (0, 1, 2)) == [(0, 1, 2)]
    assert scores.repetitions("pirm", (0, 1, 2, 3, 4, 5)) == [(0, 1, 2), (3, 4, 5)]
    assert scores.repetitions("pirm", (0, 1, 2, 3)) == [(0, 1, 2)]  # the rest would test other pairs than the first
    assert scores.repetitions("pirm", (1,)) == [(1,)]


@given(seed=st.integers(0, 8))
def test_folds_hold_out_every_pair_once(folded, seed):
    """No photograph on two sides, and the seeds of a repetition together test everything."""
    store = folded.fold(seed)
    sides = [set(store.photographs[store.index(s)]) for s in splits.SPLITS]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    start = seed - seed % 3
    tested = np.concatenate([folded.fold(s).index("test") for s in range(start, start + 3)])
    assert sorted(tested.tolist()) == list(range(len(folded)))
    assert np.array_equal(folded.fold(seed + 3).index("test"), store.index("test"))


def test_other_datasets_have_no_folds(rig_store):
    assert rig_store.fold(2) is rig_store


def test_a_better_method_is_found_better_and_equal_ones_are_not(rig_store):
    """Undoing the phone's gain of 0.8 is better than leaving it; two copies of a network differ by nothing."""
    methods = {"original": nn.Identity(), "mended": Gain(1.25), "again": {0: Gain(1.25), 1: Gain(1.25)}}
    cells, differences = scores.score_methods("2", rig_store, methods, "test", PRESET, {})
    by_name = {c.column: c for c in cells}
    assert by_name["mended"].psnr == pytest.approx(by_name["again"].psnr) and by_name["again"].seeds == (0, 1)
    assert by_name["mended"].psnr > by_name["original"].psnr + 5 and by_name["original"].seeds == ()
    verdicts = {(d.first, d.second, d.metric): d.verdict for d in differences}
    assert verdicts["original", "mended", "psnr"] == "lower"
    assert verdicts["mended", "again", "psnr"] == "undecided"
    assert len(differences) == 3 * len(scores.TABLE_METRICS)
    for c in cells:
        assert c.psnr_interval[0] <= c.psnr <= c.psnr_interval[1]


def test_seeds_that_differ_widen_the_interval(rig_store):
    same = scores.score_methods("3", rig_store, {"a": {0: Gain(1.25), 1: Gain(1.25)}}, "test", PRESET, {})[0][0]
    apart = scores.score_methods("3", rig_store, {"a": {0: Gain(1.25), 1: Gain(1.0)}}, "test", PRESET, {})[0][0]
    width = [c.psnr_interval[1] - c.psnr_interval[0] for c in (same, apart)]
    assert width[1] > 2 * width[0]
    assert apart.psnr == pytest.approx(np.mean([r["psnr"] for r in apart.by_repetition]))


def test_each_fold_is_scored_by_the_network_that_has_not_seen_it(folded):
    """Seed 1's network answers for its own part alone."""
    good = scores.score_methods("3", folded, {"a": {s: Gain(1.25) for s in range(3)}}, "test", PRESET, {})[0][0]
    bad = scores.score_methods(
        "3", folded, {"a": {s: Gain(1.25 if s != 1 else 0.5) for s in range(3)}}, "test", PRESET, {}
    )[0][0]
    assert good.pairs == bad.pairs == len(folded) and len(good.by_repetition) == 1
    one = scores.score_methods("3", folded, {"a": {1: Gain(0.5)}}, "test", PRESET, {})[0][0]
    assert one.pairs == len(folded.fold(1).index("test")) and one.psnr < bad.psnr < good.psnr


def looks_of(network: nn.Module, store: pair_store.PairStore, index: np.ndarray) -> list[tuple[float, float]]:
    batch = evaluation.enhance_pairs(network, store, index, torch.device("cpu"))
    images, targets = (b.permute(0, 2, 3, 1).numpy().astype(np.float64) for b in batch)
    return [
        (appearance.color_difference(i, t), appearance.sharpness(i, t)) for i, t in zip(images, targets, strict=True)
    ]


@pytest.mark.parametrize(("dataset", "split", "seeds"), [("rig", "val", (0, 1)), ("pirm", "test", (0, 1, 2))])
def test_table_3_enhances_each_pair_once_and_finds_what_two_separate_measures_find(
    rig_store, folded, dataset, split, seeds, monkeypatch
):
    store, seen = {"rig": rig_store, "pirm": folded}[dataset], []
    methods = {
        loss: {s: nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)) for s in seeds} for loss in ("mse", "mse+texture")
    }
    pairs = scores.held_out(store, seeds, split, 0)
    apart = scores.score_methods("3", store, methods, split, PRESET, tables.published("3", "iphone"))
    looks = {
        loss: np.mean(
            [[row for s, i in r.items() for row in looks_of(by_seed[s], store, i)] for r in pairs.repetitions], 0
        )
        for loss, by_seed in methods.items()
    }
    apart += appearance.compare_looks("iphone", store.photographs[pairs.index], looks, PRESET.resamples)
    networks = {("iphone", loss, s): SimpleNamespace(model=methods[loss][s]) for loss in methods for s in seeds}
    for trained in networks.values():
        trained.model.register_forward_hook(lambda network, given, enhanced: seen.append(len(enhanced)))
    monkeypatch.setattr(opening, "open_or_make", lambda *_: store)
    assert tables.score_table3(dataset, "smoke", networks, ["iphone"], list(methods)) == apart
    assert sum(seen) == len(methods) * len(pairs.repetitions) * len(pairs.index)


def test_a_method_may_be_a_function_of_pixels(rig_store):
    def dslr(store, index):
        return store.dslr[index]

    cell = scores.score_methods("2", rig_store, {"perfect": dslr}, "test", PRESET, {})[0][0]
    assert math.isinf(cell.psnr) and cell.ms_ssim == pytest.approx(1)
    assert cell.psnr_interval == (math.inf, math.inf)


def test_an_empty_split_is_refused(tmp_path):
    store = make_store(tmp_path / "two", "rig", 2, 2)
    with pytest.raises(DpedError, match="split 'test' is empty"):
        scores.score_methods("2", store, {"original": nn.Identity()}, "test", PRESET, {})


def test_statistics_join_in_order():
    x = torch.rand(3, 3, 100, 100)
    y = torch.rand(3, 3, 100, 100)
    parts = [metrics.pair_statistics(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    whole = metrics.pair_statistics(x, y)
    assert np.array_equal(metrics.concatenate(parts).mse, whole.mse)
