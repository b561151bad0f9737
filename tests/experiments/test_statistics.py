"""The bootstrap against cases with known answers, and against the intervals that are committed in figures/."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dped_lib import metrics
from dped_lib.base import paths
from dped_lib.experiments import limitations, statistics

finite = st.floats(-100, 100)


@given(count=st.integers(1, 40), seed=st.integers(0, 99))
def test_every_resample_draws_as_many_units_as_there_are(count, seed):
    drawn = statistics.draws(count, 30, seed)
    assert drawn.shape == (30, count) and drawn.min() >= 0 and drawn.max() < count
    counts = statistics.draw_counts(count, 30, seed)
    assert counts.shape == (30, count) and (counts.sum(1) == count).all()
    assert np.array_equal(drawn, statistics.draws(count, 30, np.random.default_rng(seed)))


def test_each_unit_is_drawn_equally_often():
    drawn = statistics.draws(10, 4000)
    assert np.bincount(drawn.ravel()) == pytest.approx(np.full(10, 4000), rel=0.06)
    assert statistics.draw_counts(10, 4000).mean(0) == pytest.approx(np.ones(10), rel=0.06)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    """For many independent values the 95 % interval is 1.96 standard errors to either side."""
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = statistics.bounds(statistics.resampled_means(values, np.arange(400).astype(str), 4000), 400)
    error = values.std() / np.sqrt(400)
    assert (low - values.mean()) / error == pytest.approx(-1.96, abs=0.12)
    assert (high - values.mean()) / error == pytest.approx(1.96, abs=0.12)


def test_patches_of_one_photograph_are_drawn_together():
    """25 copies of each value say no more than one of each."""
    values = np.random.default_rng(1).normal(0, 1, 8)
    once = statistics.resampled_means(values, [f"p{i}" for i in range(8)], 500)
    copies = statistics.resampled_means(np.repeat(values, 25), np.repeat([f"p{i}" for i in range(8)], 25), 500)
    np.testing.assert_allclose(once, copies, atol=1e-12)


def test_values_that_are_not_defined_are_left_out():
    values, photographs = np.array([1.0, np.nan, 3.0, 3.0]), np.array(["a", "a", "b", "b"])
    assert statistics.mean(values, photographs) == pytest.approx(7 / 3)
    assert set(np.round(statistics.resampled_means(values, photographs, 200), 6)) == {1.0, round(7 / 3, 6), 3.0}


def test_curves_are_averaged_point_by_point():
    """Both ways of drawing estimate the same spread, and all points of a curve share their draw."""
    values, scenes = np.random.default_rng(2).normal(0, 1, 60), np.repeat([f"s{i}" for i in range(20)], 3)
    curves = statistics.resampled_curves(np.stack([values, 2 * values], 1), scenes, 3000)
    np.testing.assert_allclose(curves[:, 1], 2 * curves[:, 0])
    assert curves[:, 0].std() == pytest.approx(statistics.resampled_means(values, scenes, 3000).std(), rel=0.08)


def _statistics(errors: np.ndarray) -> metrics.PairStatistics:
    ones = np.ones((len(errors), 5))
    return metrics.PairStatistics(errors, errors, errors, ones, ones, ones, ones)


def test_scores_are_resampled_by_photograph():
    """Patches of one photograph are copies: the interval is that of the photographs, wider than patches would give."""
    errors = np.repeat(np.random.default_rng(4).uniform(0.001, 0.01, 8), 25)
    by_group = [
        statistics.resampled_scores([_statistics(errors)], groups, "pirm_script", 500)["psnr"][:, 0]
        for groups in (np.repeat(np.arange(8), 25), np.arange(len(errors)))
    ]
    decibels = -10 * np.log10(errors[::25])
    assert by_group[0].std() == pytest.approx(decibels.std() / np.sqrt(8), rel=0.15)
    assert by_group[0].std() > 3 * by_group[1].std()
    assert by_group[0].mean() == pytest.approx(decibels.mean(), abs=0.15)


def test_methods_are_scored_on_the_same_draw():
    """Two methods that differ by a constant differ by it in every resample."""
    errors = np.random.default_rng(5).uniform(0.001, 0.01, 30)
    both = [_statistics(errors), _statistics(errors * 10)]
    psnr = statistics.resampled_scores(both, np.arange(30), "train_script", 50)["psnr"]
    np.testing.assert_allclose(psnr[:, 0] - psnr[:, 1], 10)


def test_trainings_are_drawn_with_replacement():
    """Of two trainings with scores 0 and 1 a resample has the mean 0, 1/2 or 1; one training alone is always drawn."""
    scores = np.tile([0.0, 1.0, 5.0], (2000, 1))
    means = statistics.resampled_trainings(scores, {"two": 2, "one": 1})
    shares = [np.mean(means["two"] == v) for v in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.04) and set(means["one"]) == {5.0}


@pytest.mark.parametrize("count", [5, 10, 40])
def test_intervals_of_few_units_contain_the_truth_as_often_as_they_say(count):
    """The plain percentile interval of 5 normal values contains their true mean in some 84 of 100 cases."""
    generator, cases = np.random.default_rng(2), 1500
    values = generator.normal(size=(cases, count))
    means = np.stack([v[statistics.draws(count, 2000, generator)].mean(1) for v in values], 1)
    low, high = statistics.interval(means, count)
    covered = np.mean((low <= 0) & (high >= 0))
    assert covered > 0.9
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    assert covered > np.mean((low <= 0) & (high >= 0))


def test_the_interval_of_a_mean_is_nearly_students():
    values = np.random.default_rng(3).normal(7, 2, 10)
    low, high = statistics.bounds(statistics.resampled_means(values, np.arange(10).astype(str), 20000), 10)
    half = stats.t.ppf(0.975, 9) * values.std(ddof=1) / np.sqrt(10)
    assert high - low == pytest.approx(2 * half, rel=0.08)


def test_students_interval_of_a_mean():
    """Gosset's sleep data (1908), extra hours by drug 1 and by drug 2: the difference as textbooks give it."""
    difference = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert statistics.mean_interval(difference) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert statistics.mean_interval(np.array([3.0])) == (3.0, 3.0)


def test_with_many_units_the_interval_is_that_of_percentiles():
    assert statistics.lower_tail(10**6) == pytest.approx(0.025, rel=1e-4)
    assert statistics.lower_tail(5) < statistics.lower_tail(10) < statistics.lower_tail(100) < 0.025


@given(st.lists(finite, min_size=2, max_size=60), st.integers(1, 60), st.floats(0.5, 0.99))
def test_an_interval_lies_within_the_samples(samples, units, level):
    low, high = statistics.bounds(np.array(samples), units, level)
    assert min(samples) - 1e-9 <= low <= high <= max(samples) + 1e-9


def test_an_interval_of_infinite_samples_is_infinite_where_they_are():
    """Pictures that are equal have an infinite PSNR."""
    both = np.column_stack([np.full(11, np.inf), np.arange(11.0), np.append(np.arange(10.0), np.inf)])
    low, high = statistics.interval(both, 10**9, 0.9)
    assert low == pytest.approx([np.inf, 0.5, 0.5]) and high == pytest.approx([np.inf, 9.5, np.inf])


@given(low=finite, width=st.floats(0, 50), reference=finite)
def test_a_relation_is_that_of_the_whole_interval(low, width, reference):
    relation = statistics.relation((low, low + width), reference)
    assert (relation == "higher") == (low > reference) and (relation == "lower") == (low + width < reference)
    other_way = statistics.relation(statistics.reverse((low, low + width)), -reference)
    assert {relation, other_way} in ({"higher", "lower"}, {"undecided"})


def test_an_interval_in_words():
    assert statistics.in_words(1.25, (0.5, 2), 1) == "1.2 [0.5, 2.0]"
    assert statistics.in_words(-0.25, (-1, 0.5), 2, "+") == "-0.25 [-1.00, +0.50]"
    assert statistics.in_words(4.3, (3.72, 4.969), 1, borders=(5, 10)) == "4.30 [3.72, 4.97]"
    assert statistics.in_words(4.3, (3.72, 5.0), 1, borders=(5, np.inf)) == "4.3 [3.7, 5.0]", "5 is not rounded"
    assert statistics.in_words(1, (-1e-9, 2), 1, borders=(0,)) == "1.0000 [-0.0000, 2.0000]", "three more at most"


@given(
    low=st.integers(-3000, 3000),
    width=st.integers(0, 3000),
    border=st.sampled_from((0, 0.74, 1, 1.1, 99, 1 / 3)),
    digits=st.integers(0, 2),
)
def test_the_verdict_of_the_printed_interval_is_the_verdict(low, width, border, digits):
    """A reader of the printed interval judges it as we do. Its ends lie 0.001 or more from the border, or on it."""
    interval = border + low / 1000, border + (low + width) / 1000
    words = statistics.in_words(border, interval, digits, borders=(border,))
    printed = [float(end) for end in words.partition("[")[2].rstrip("]").split(", ")]
    if 0 in (low, low + width) and border == 1 / 3:
        return  # no decimal number lies on it
    assert statistics.relation(printed, border) == statistics.relation(interval, border)
    for side in ("least", "most"):
        assert statistics.verdict(printed, **{side: border}) == statistics.verdict(interval, **{side: border})


@pytest.mark.parametrize(
    ("interval", "bounds", "expected"),
    [
        ((0.99, 0.995), {"least": 0.99}, "holds"),
        ((0.97, 0.989), {"least": 0.99}, "does not hold"),
        ((0.97, 0.99), {"least": 0.99}, "undecided"),
        ((0.80, 0.86), {"most": 0.86}, "holds"),
        ((0.861, 0.9), {"most": 0.86}, "does not hold"),
        ((0.86, 0.9), {"most": 0.86}, "undecided"),
        ((5, 10), {"least": 5, "most": 10}, "holds"),
        ((4, 11), {"least": 5, "most": 10}, "undecided"),
    ],
)
def test_a_sentence_holds_only_if_the_whole_interval_lies_in_its_range(interval, bounds, expected):
    assert statistics.verdict(interval, **bounds) == expected


# ---------------------------------------------------------------------------------------------- what is committed

FOLDERS = sorted((paths.project_root() / "figures").glob("*-*"))


def _numbers(folder, name):
    return json.loads((folder / f"{name}.json").read_text())["numbers"]


@pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if (f / "noise_amplification.json").is_file()], ids=lambda f: f.name
)
def test_committed_noise_intervals_are_those_of_the_committed_measurements(folder):
    flaws = [limitations.Flaw(**f) for f in _numbers(folder, "limitations")["flaws"]]
    committed = [tuple(a["interval"]) for a in _numbers(folder, "noise_amplification")["amplification"]]
    again = [a.interval for a in limitations.amplifications(flaws)]
    np.testing.assert_allclose(again, committed, rtol=1e-12)


@pytest.mark.parametrize(
    "folder", [f for f in FOLDERS if (f / "discriminator_accuracy.json").is_file()], ids=lambda f: f.name
)
def test_committed_discriminator_intervals_are_those_of_the_committed_answers(folder):
    for curve in _numbers(folder, "discriminator_accuracy")["curves"]:
        pairs = len(curve["correct"])
        expected = statistics.wilson(pairs, pairs)  # where every answer is right
        if set(curve["correct"]) != {2}:
            samples = statistics.resampled_means(np.array(curve["correct"]) / 2, curve["photographs"], 2000)
            expected = statistics.bounds(samples, len(set(curve["photographs"])))
        np.testing.assert_allclose(expected, curve["interval"], rtol=1e-12)
