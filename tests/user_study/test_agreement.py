"""Do subjects agree, and can they tell two classes apart? Checked on known preferences."""

import numpy as np
import pytest
from studies import SONY, simulated, utility_of
from synthetic import SCENES

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.user_study import agreement as study_agreement
from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import observers as study_observers


def test_agreement_has_its_chance_level():
    chance, same = (simulated(60, seed=1), simulated(60, dslr=50.0, original=0.0, enhanced=-50.0))
    for a in study_agreement.agreement(chance, 50):
        assert a.agreeing == pytest.approx(0.5, abs=0.03) and a.by_chance == pytest.approx(0.5, abs=0.01)
        assert abs(a.kappa) < 0.05 and a.interval[0] < 0 < a.interval[1]
        assert np.mean(list(a.by_scene.values())) == pytest.approx(a.agreeing)
    assert all(a.agreeing == 1 and a.by_chance == 1 and a.kappa == 0 for a in study_agreement.agreement(same, 50))


def test_kappa_is_fleiss():
    """Against its definition, on complete answers."""
    sign = simulated(30, seed=3, taste=0.5, enhanced=0.7).of("sony", ("dslr", "enhanced")).sign
    up = (sign > 0).sum(0)
    n = len(sign)
    agreeing = ((up * (up - 1) + (n - up) * (n - up - 1)) / (n * (n - 1))).mean()
    p = up.sum() / (n * len(up))
    expected = (agreeing - p**2 - (1 - p) ** 2) / (1 - p**2 - (1 - p) ** 2)
    agreement = study_agreement.agreement(simulated(30, seed=3, taste=0.5, enhanced=0.7), 20)[2]
    assert agreement.kappa == pytest.approx(expected)


def test_the_equivalence_test_has_three_outcomes():
    def verdict(*a, **k):
        return study_agreement.equivalence(simulated(*a, **k), "sony", "dslr", "enhanced", resamples=300)

    assert verdict(42, seed=1).word == "cannot tell"
    assert verdict(42, seed=1, enhanced=1.0).word == "can tell"
    assert verdict(3, seed=1).word == "not enough answers"
    asked = tuple(q for q in SONY if q.scene == SCENES[0])
    few = study_analysis.from_simulation(asked, study_observers.simulate(asked, utility_of(), 20, 5))
    assert study_agreement.equivalence(few, "sony", "dslr", "enhanced").word == "not enough answers"


def test_different_classes_are_seldom_called_indistinguishable():
    """At the margin's edge (share 0.4) "cannot tell" may come out in 5 % of studies."""
    gap = float(np.log(0.6 / 0.4))
    wrong = sum(
        study_agreement.equivalence(simulated(42, seed, enhanced=gap), "sony", "dslr", "enhanced", resamples=200).word
        == "cannot tell"
        for seed in range(200)
    )
    assert wrong / 200 < 0.09


def test_preferences_that_cancel_out_are_seen():
    """Equal on average and yet told apart in every scene: the paper's conclusion would be wrong here."""
    utility = utility_of()
    for i, scene in enumerate(SCENES[:8]):
        utility["sony", "enhanced", scene] = 4.0 if i % 2 else -4.0
    choices = study_analysis.from_simulation(SONY, study_observers.simulate(SONY, utility, 42, 0))
    equivalence = study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=300)
    assert equivalence.word == "cannot tell" and set(equivalence.split_scenes) == set(SCENES[:8])
    kappa = study_agreement.agreement(choices, 100)[2]
    assert kappa.kappa > 0.5 and kappa.interval[0] > 0


@pytest.mark.parametrize("margin", [0, 0.5, -0.1, 1])
def test_a_margin_outside_0_to_0_5_is_refused(margin):
    with pytest.raises(DpedError, match="between 0 and 0.5"):
        study_agreement.equivalence(simulated(20), "sony", "dslr", "enhanced", margin)


def test_fewest_answers_is_the_power_of_the_paper():
    assert study_agreement.fewest_answers(0.1) == 66
    assert study_agreement.fewest_answers(0.05) < paper.STUDY_SUBJECTS * paper.STUDY_SCENES


def test_questions_that_do_not_exist_are_named():
    with pytest.raises(DpedError, match="dslr and manual in set 'sony'"):
        study_agreement.equivalence(simulated(20), "sony", "dslr", "manual")
