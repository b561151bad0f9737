"""The study's questions and the order and sides in which a subject sees them."""

import collections
import itertools

import numpy as np
from studies import QUESTIONS
from synthetic import FULL, SCENES

from dped_lib import paper
from dped_lib.user_study import questions as study_questions

EXPECTED_FIRST = [("iphone/scene-2/original-enhanced", "enhanced"), ("iphone/scene-3/dslr-enhanced", "enhanced")]


def test_the_study_is_the_papers():
    assert len(QUESTIONS) == paper.STUDY_QUESTIONS == 108
    counts = collections.Counter(q.set for q in QUESTIONS)
    assert counts == {"blackberry": 27, "iphone": 27, "sony": 27, "enhancers": 27}
    assert list(dict.fromkeys(q.set for q in QUESTIONS)) == list(study_questions.PAPER_SETS), "the order of Figure 10"


def test_every_pair_of_every_scene_once():
    asked = collections.Counter((q.set, q.scene, frozenset((q.first, q.second))) for q in QUESTIONS)
    assert set(asked.values()) == {1}
    for name, kind in study_questions.PAPER_SETS.items():
        a, b, c = study_questions.KINDS[kind]
        for scene in SCENES:
            assert {p for s, sc, p in asked if (s, sc) == (name, scene)} == {
                frozenset((a, b)),
                frozenset((a, c)),
                frozenset((b, c)),
            }
    assert len({q.key for q in QUESTIONS}) == 108


def test_dslr_against_enhanced_is_the_third_bar_of_a_phone():
    pairs = list(dict.fromkeys((q.first, q.second) for q in QUESTIONS if q.set == "sony"))
    assert pairs[2] == ("dslr", "enhanced")


def test_a_missing_class_leaves_its_questions_out():
    scenes = {**FULL, "enhancers": {c: SCENES for c in ("automatic", "enhanced")}}
    asked = study_questions.all_questions(scenes)
    assert len(asked) == 81 + 9


def test_order_is_a_shuffle_of_its_own_for_every_subject():
    one, again, other = (study_questions.order(QUESTIONS, s, 0) for s in ("p01", "p01", "p02"))
    assert one == again
    assert sorted(a.question for a in one) == sorted(QUESTIONS)
    assert [a.number for a in one] == list(range(1, 109)) and {a.total for a in one} == {108}
    places = [[a.question.key for a in order].index(QUESTIONS[0].key) for order in (one, other)]
    assert places[0] != places[1]
    assert study_questions.order(QUESTIONS, "p01", 1) != one, "the study's seed matters"
    assert study_questions.order(reversed(QUESTIONS), "p01", 0) == one, "the order they come in does not"


def test_order_stays_the_same_forever():
    """A subject who goes on after an update must see the same sides; written down once."""
    first = study_questions.order(QUESTIONS, "p01", 0)[:2]
    assert [(a.question.key, a.left) for a in first] == EXPECTED_FIRST


def test_sides_are_balanced():
    orders = [study_questions.order(QUESTIONS, f"p{i:03}", 0) for i in range(200)]
    for sequence in orders:
        assert sum(a.left == a.question.first for a in sequence) == 54, "half of a subject's questions"
    left = collections.Counter(a.question for o in orders for a in o if a.left == a.question.first)
    # 200 fair coins: five standard deviations are 35.
    assert all(abs(left[q] - 100) < 36 for q in QUESTIONS)
    for cls in study_questions.CLASSES:
        sides = [a.left == cls for o in orders for a in o if cls in (a.left, a.right)]
        assert abs(np.mean(sides) - 0.5) < 0.02
    place = np.mean([[a.number for a in sorted(o, key=lambda a: a.question)] for o in orders], 0)
    assert np.all(np.abs(place - 54.5) < 5 * 31.2 / np.sqrt(200)), "no question comes early for everyone"


def test_neighbours_do_not_tell_the_class():
    """Which class was left before says nothing of which is left now."""
    runs = []
    for i in range(300):
        sides = [a.left == a.question.first for a in study_questions.order(QUESTIONS, f"p{i}", 0)]
        runs.append(np.mean([a == b for a, b in itertools.pairwise(sides)]))
    assert abs(np.mean(runs) - 53 / 107) < 0.012
