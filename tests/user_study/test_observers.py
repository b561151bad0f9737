"""The model observer, whose simulated answers never look like people's."""

import numpy as np
import pytest
from studies import fill
from synthetic import FULL, SCENES

from dped_lib.base.errors import DpedError
from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import observers as study_observers


def test_simulated_answers_never_look_like_peoples(store):
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    study_observers.write_answers(store, utility, 12, 0, study_observers.TASTE)
    fill(store, "p01", 4)
    assert len(store.everyone("model")) == 12 * 108 and len(store.everyone("person")) == 4
    assert {a.observer for a in store.everyone("model")} == {"model"}
    assert {a.seconds for a in store.everyone("model")} == {0.0}
    assert study_analysis.collect(store, "person").subjects == ("p01",)
    assert len(study_analysis.collect(store, "model").subjects) == 12
    moved = store.file_of("model-001")
    store.file_of("model-001", "model").rename(moved)
    with pytest.raises(DpedError, match="an answer of model 'model-001' in the file of person 'model-001'"):
        store.everyone("person")


def test_the_model_observer_likes_edges_and_contrast():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (100, 100, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    flat = (sharp // 2 + 64).astype(np.uint8)
    assert (study_observers.edges_and_contrast(sharp) > study_observers.edges_and_contrast(flat)).all()


def test_simulated_again_gives_fewer_not_more(store):
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    study_observers.write_answers(store, utility, 5, 0, 0.0)
    study_observers.write_answers(store, utility, 3, 0, 0.0)
    assert len(store.subjects("model")) == 3


def test_simulated_answers_replace_nothing_else(store):
    """Only files of simulated subjects go: what a user put beside them stays."""
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    study_observers.write_answers(store, utility, 5, 0, 0.0)
    kept = [
        store.folder / "model" / name for name in ("notes.txt", "mine.jsonl", "model-1.jsonl", "model-004.jsonl.bak")
    ]
    for file in kept:
        file.write_text("precious")
    study_observers.write_answers(store, utility, 3, 0, 0.0)
    assert all(file.read_text() == "precious" for file in kept)
    assert not store.file_of("model-004", "model").exists()
