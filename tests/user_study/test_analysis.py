"""The analysis of answers, checked on known preferences."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from studies import QUESTIONS, SONY, fill, simulated, unfinished, utility_of
from synthetic import SCENES

from dped_lib.base.errors import DpedError
from dped_lib.experiments import statistics
from dped_lib.user_study import agreement as study_agreement
from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import figures as study_figures
from dped_lib.user_study import observers as study_observers
from dped_lib.user_study import questions as study_questions


def probability(gap):
    return 1 / (1 + np.exp(-gap))


def test_wilson_covers_the_truth_at_its_nominal_rate():
    """10 000 simulated subjects, each an experiment of its own, with known preferences."""
    first = study_observers.simulate(QUESTIONS, utility_of(original=-1.0, enhanced=0.3), 10_000, 0)
    for pair, gap in ((("original", "dslr"), -1.0), (("original", "enhanced"), -1.3), (("dslr", "enhanced"), -0.3)):
        at = [i for i, q in enumerate(QUESTIONS) if (q.first, q.second) == pair]
        bounds = np.array([statistics.wilson(int(k), len(at)) for k in first[:, at].sum(1)])
        covered = np.mean((bounds[:, 0] <= probability(gap)) & (probability(gap) <= bounds[:, 1]))
        assert 0.93 < covered < 0.97, (pair, covered)


def test_bradley_terry_finds_the_strengths_of_10_000_subjects():
    truth = {"original": -0.9, "dslr": 0.5, "enhanced": 0.4}
    choices = simulated(10_000, **truth)
    ranking = study_analysis.ranking(choices, resamples=20)
    assert [s.cls for s in ranking] == ["dslr", "enhanced", "original"]
    assert {s.cls: s.logit for s in ranking} == pytest.approx(truth, abs=0.02)
    assert all(s.interval[0] <= s.logit <= s.interval[1] for s in ranking)
    assert sum(s.first for s in ranking) == pytest.approx(1)


def test_a_class_that_always_won_or_always_lost_has_no_strength_yet():
    """Its strength of maximum likelihood is infinite: no number would be true."""
    for leaning in ({"enhanced": 50.0}, {"original": -50.0}, {"original": -50.0, "enhanced": 50.0}):
        ranking = study_analysis.ranking(simulated(20, **leaning), resamples=20)
        assert [s.cls for s in ranking] == ["original", "dslr", "enhanced"]
        assert {(s.logit, s.interval, s.first, s.answers) for s in ranking} == {(None, None, None, 540)}
        assert set(study_figures.ranking_table(ranking, "rig")["strength (logit)"]) == {"not enough answers yet"}


def test_a_single_loss_decides_and_resamples_without_it_stay_finite():
    choices = simulated(20, original=-50.0, enhanced=50.0)
    for i, (worse, better) in enumerate((("dslr", "enhanced"), ("original", "dslr"))):
        at = next(j for j, q in enumerate(SONY) if {q.first, q.second} == {worse, better})
        choices.sign[i, at] *= -1
    ranking = study_analysis.ranking(choices, resamples=50)
    assert [s.cls for s in ranking] == ["enhanced", "dslr", "original"]
    assert all(np.isfinite((s.logit, *s.interval)).all() for s in ranking) and ranking[0].first == 1


@pytest.mark.parametrize(
    ("wins", "decided"),
    [
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], False),  # the third was never compared
        ([[0, 1, 1], [0, 0, 1], [0, 0, 0]], False),  # the first never lost
        ([[0, 1, 1], [1, 0, 1], [0, 0, 0]], False),  # the third never won
        ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], True),  # a circle
        ([[0, 2, 0], [1, 0, 3], [0, 1, 0]], True),  # two classes that were never compared, by way of the third
        ([[0, 0], [0, 0]], False),
    ],
)
def test_answers_that_decide_a_ranking(wins, decided):
    assert study_analysis.is_decided(np.array(wins)) is decided


@settings(max_examples=150, deadline=None)
@given(unfinished())
def test_unfinished_answers_have_an_analysis(study_so_far):
    """Every number is finite and in its range, or is said to be unknown."""
    asked, answers = study_so_far
    sign = np.zeros((3, len(asked)), np.int8)
    for who, left in answers:
        at = [a for a in study_questions.order(asked, f"p{who}", 0) if not sign[who, asked.index(a.question)]]
        if at:
            sign[who, asked.index(at[0].question)] = 1 if (at[0].left == at[0].question.first) == left else -1
    sign = sign[sign.any(1)]
    choices = study_analysis.Choices("person", tuple("abc"[: len(sign)]), asked, sign, np.zeros(sign.shape))
    for s in study_analysis.shares(choices, 30):
        assert (s.share is None) == (s.answers == 0) == (s.wilson is None)
        for low, high in filter(None, (s.wilson, s.clustered)):
            assert 0 <= low <= high <= 1
    for name in choices.sets:
        parts = [f for f in study_analysis.fractions(choices, 30) if f.set == name]
        assert not parts or sum(f.share for f in parts) == pytest.approx(1)
        ranks = [s for s in study_analysis.ranking(choices, 30) if s.set == name]
        wins = collections.Counter()
        for q, column in zip(asked, sign.T, strict=True):
            if q.set == name:
                wins[q.first, q.second] += int((column > 0).sum())
                wins[q.second, q.first] += int((column < 0).sum())
        classes = {s.cls for s in ranks}
        parted = any(
            not any(wins[a, b] for a in group for b in classes - set(group))
            for size in range(1, len(classes))
            for group in itertools.combinations(classes, size)
        )
        assert parted == all(s.logit is None for s in ranks) == any(s.logit is None for s in ranks)
        assert parted or np.isfinite([s.logit for s in ranks]).all()
        assert all(s.answers == sum(wins.values()) for s in ranks)
    for a in study_agreement.agreement(choices, 30):
        assert (a.agreeing is None) == (a.answer_pairs == 0)
        assert a.agreeing is None or (0 <= a.agreeing <= 1 and np.isfinite(a.kappa))
    for pair in choices.pairs:
        assert study_agreement.equivalence(choices, *pair, resamples=30).word == "not enough answers"


def test_the_bootstrap_over_subjects_covers_where_wilson_does_not():
    """Subjects with tastes of their own, 42 as in the paper: their answers are not independent."""
    truth = simulated(100_000, seed=99, taste=1.0, enhanced=0.3)
    value = study_analysis.share(truth, "sony", "dslr", "enhanced", resamples=2).share
    covered = {"wilson": 0, "clustered": 0}
    for seed in range(200):
        preference = study_analysis.share(simulated(42, seed, 1.0, enhanced=0.3), "sony", "dslr", "enhanced", 300)
        for name in covered:
            low, high = getattr(preference, name)
            covered[name] += low <= value <= high
    assert covered["clustered"] / 200 > 0.89
    assert covered["wilson"] / 200 < 0.85


def test_figure_10_is_an_average_over_scenes_and_a_share_of_all_answers():
    asked = tuple(q for q in SONY if q.scene in SCENES[:2])
    order = {(q.scene, q.first, q.second): i for i, q in enumerate(asked)}
    sign = np.zeros((4, len(asked)), np.int8)
    sign[:, order[SCENES[0], "dslr", "enhanced"]] = (1, 1, 1, -1)
    sign[:2, order[SCENES[1], "dslr", "enhanced"]] = (-1, -1)
    choices = study_analysis.Choices("model", tuple("abcd"), asked, sign, np.zeros(sign.shape))
    preference = study_analysis.share(choices, "sony", "dslr", "enhanced", 50)
    assert preference.by_scene == {SCENES[0]: 0.75, SCENES[1]: 0.0}
    assert preference.share == 0.375, "not 3 of 6: scenes count alike"
    assert preference.answers == 6 and preference.wilson == statistics.wilson(3, 6)
    last = {f.cls: f.share for f in study_analysis.fractions(choices, 50)}
    assert last == {"original": 0.0, "dslr": 0.5, "enhanced": 0.5}
    assert study_analysis.share(choices, "sony", "original", "dslr").share is None, "nobody was asked"
    assert [s.share is None for s in study_analysis.shares(choices, 20)] == [True, True, False]


def test_one_subject_gives_no_interval_over_subjects(small):
    _, store = small
    fill(store, "p01", 36)
    choices = study_analysis.collect(store, "person")
    assert all(s.clustered is None for s in study_analysis.shares(choices, 20))
    assert all(s.interval is None for s in study_analysis.ranking(choices, 20))
    assert {(a.answer_pairs, a.agreeing, a.kappa) for a in study_agreement.agreement(choices, 20)} == {(0, None, None)}
    assert study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=20).word == "not enough answers"
    with pytest.raises(DpedError, match="no answers of observer 'model'"):
        study_analysis.collect(store, "model")
