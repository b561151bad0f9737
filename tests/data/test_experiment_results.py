"""Results of experiments: kept for the question they answer, and shipped with the package."""

import json

import pytest
from small import make_store

from dped_lib.base.errors import DpedError
from dped_lib.data import experiment_results, shipped_runs
from dped_lib.data.experiment_results import HERE, SHIPPED, Experiment

ASKED = {"form": "two_image", "iterations": 3}
RESULT = {"accuracy": [0.5, 0.1 + 0.2], "n": 7}


def rig_store(folder, pairs=12):
    store = make_store(folder, pairs)
    store.meta["dataset"] = "rig"
    return store


@pytest.fixture
def experiment(tmp_path, runs):
    return Experiment("discriminators/iphone-s0", "smoke", rig_store(tmp_path / "patches"), ASKED)


@pytest.fixture
def shipped(experiment, tmp_path, monkeypatch):
    """The experiment, whose result ships, on a machine that has measured nothing."""
    monkeypatch.setattr(shipped_runs, "FOLDER", tmp_path / "package" / "shipped")
    experiment_results.keep(experiment, RESULT)
    assert experiment_results.pack(experiment)
    experiment.file.unlink()
    return experiment


def other(experiment, **changed):
    return Experiment(**{**vars(experiment), **changed})


def test_a_result_answers_the_question_it_was_measured_for(experiment, tmp_path):
    assert experiment_results.known(experiment) is None
    experiment_results.keep(experiment, RESULT)
    assert experiment_results.known(experiment) == (RESULT, HERE)
    assert experiment_results.known(other(experiment, asked={**ASKED, "iterations": 4})) is None
    other_pairs = rig_store(tmp_path / "others", 16)
    assert experiment_results.known(other(experiment, store=other_pairs)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"asked": {}}'])
def test_a_damaged_result_is_none(experiment, content):
    experiment_results.keep(experiment, RESULT)
    experiment.file.write_text(content)
    assert experiment_results.known(experiment) is None


def test_a_result_that_ships_is_copied_and_said_to_ship(shipped):
    assert experiment_results.known(shipped) == (RESULT, SHIPPED) == experiment_results.known(shipped)
    assert experiment_results.copies(shipped.file.parents[1]) == [shipped.file]
    assert not experiment_results.pack(shipped)  # a copy is no result of this machine


def test_what_was_measured_here_comes_first(shipped):
    experiment_results.keep(shipped, {"accuracy": []})
    assert experiment_results.known(shipped) == ({"accuracy": []}, HERE)
    assert experiment_results.copies(shipped.file.parents[1]) == []


def test_another_question_is_not_answered_by_what_ships(shipped):
    assert experiment_results.known(other(shipped, asked={})) is None
    assert experiment_results.known(other(shipped, name="discriminators/iphone-s1")) is None
    assert experiment_results.known(shipped, begun=True) is None


def test_fresh_measures_anew(shipped, monkeypatch):
    experiment_results.known(shipped)
    monkeypatch.setenv(shipped_runs.FRESH, "1")
    assert experiment_results.known(shipped) is None


def test_on_other_photographs_it_is_not_used(shipped, tmp_path, capsys):
    strangers = rig_store(tmp_path / "strangers")
    strangers.meta["origin"] = "another folder"
    assert experiment_results.known(other(shipped, store=strangers)) is None
    assert "discriminators/iphone-s0.json that ships is not used: it was trained on" in capsys.readouterr().err


def test_a_changed_file_is_refused(shipped):
    file = shipped_runs.FOLDER / shipped.key
    record = json.loads(file.read_text())
    record["result"]["n"] = 8
    file.write_text(json.dumps(record))
    with pytest.raises(DpedError, match=r"iphone-s0\.json: not the file that was shipped .* Install the package again"):
        experiment_results.known(shipped)
    file.unlink()
    with pytest.raises(DpedError, match="cannot be read"):
        experiment_results.known(shipped)
    (shipped_runs.FOLDER / experiment_results.REGISTRY).write_text("{")
    with pytest.raises(DpedError, match=r"results\.json: damaged"):
        experiment_results.known(shipped)
