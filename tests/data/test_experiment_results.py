"""Results of experiments: kept for the question they answer, and shipped with the package."""

import hashlib
import json
import threading

import pytest
from small import WITH_TEST, make_store

from dped_lib.base.errors import DpedError
from dped_lib.data import checkpoints, experiment_results, shipped_runs
from dped_lib.data.experiment_results import HERE, SHIPPED, Experiment

ASKED = {"form": "two_image", "iterations": 3}
RESULT = {"accuracy": [0.5, 0.1 + 0.2], "n": 7}


def rig_store(folder, pairs=16):
    """Of each four photographs two are for training, one for validation and one held out."""
    return make_store(folder, pairs, WITH_TEST, dataset="rig")


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


def known(experiment):
    return experiment_results.finished_result(experiment, dict)


def other(experiment, **changed):
    return Experiment(**{**vars(experiment), **changed})


def test_a_result_answers_the_question_it_was_measured_for(experiment, tmp_path):
    assert known(experiment) is None
    experiment_results.keep(experiment, RESULT)
    assert known(experiment) == (RESULT, HERE)
    assert known(other(experiment, asked={**ASKED, "iterations": 4})) is None
    other_pairs = rig_store(tmp_path / "others", 20)
    assert known(other(experiment, store=other_pairs)) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"asked": {}}'])
def test_a_damaged_result_is_none(experiment, content):
    experiment_results.keep(experiment, RESULT)
    experiment.file.write_text(content)
    assert known(experiment) is None


def test_a_result_of_another_version_is_measured_again(experiment):
    """Its fields may have other names."""
    experiment_results.keep(experiment, {"accuracies": [0.5]})
    assert experiment_results.finished_result(experiment, lambda result: result["accuracy"]) is None
    assert experiment_results.finished_result(experiment, lambda result: int(**result)) is None


def test_a_result_belongs_to_one_split(experiment, tmp_path):
    """The digest of the pairs does not depend on the fold."""
    pairs = make_store(tmp_path / "folded", dataset="pirm")
    first, second = (other(experiment, store=pairs.fold(seed)) for seed in (0, 1))
    assert first.store.digest == second.store.digest
    experiment_results.keep(first, RESULT)
    assert known(first) == (RESULT, HERE) and known(second) is None


def test_a_result_of_other_pairs_does_not_ship(shipped, tmp_path):
    experiment_results.keep(shipped, {"accuracy": []})
    pairs = rig_store(tmp_path / "others", 20)
    assert not experiment_results.pack(other(shipped, store=pairs))
    shipped.file.unlink()
    assert known(shipped) == (RESULT, SHIPPED)


def test_one_process_at_a_time_measures_a_result(experiment, capsys):
    waiting = threading.Event()

    def measure():
        waiting.set()
        with experiment_results.alone(experiment):
            experiment_results.keep(experiment, RESULT)

    with experiment_results.alone(experiment):
        second = threading.Thread(target=measure)
        second.start()
        waiting.wait(10)
        second.join(0.5)
        assert known(experiment) is None
    second.join(10)
    assert known(experiment) == (RESULT, HERE)
    assert "iphone-s0.json: another process is measuring this; waiting for it." in capsys.readouterr().err


def test_a_result_that_ships_is_copied_and_said_to_ship(shipped):
    assert experiment_results.shipped_result(shipped) == RESULT and not shipped.file.exists()
    assert known(shipped) == (RESULT, SHIPPED) == known(shipped)
    assert experiment_results.copies(shipped.file.parent) == [shipped.file]
    assert not experiment_results.pack(shipped)  # a copy is no result of this machine


def test_what_was_measured_here_comes_first(shipped):
    experiment_results.keep(shipped, {"accuracy": []})
    assert known(shipped) == ({"accuracy": []}, HERE)
    assert experiment_results.copies(shipped.file.parent) == []


def test_another_question_is_not_answered_by_what_ships(shipped):
    assert known(other(shipped, asked={})) is None
    assert known(other(shipped, name="discriminators/iphone-s1")) is None


def test_fresh_measures_anew(shipped, monkeypatch):
    known(shipped)
    monkeypatch.setenv(shipped_runs.FRESH, "1")
    assert known(shipped) is None and experiment_results.shipped_result(shipped) is None


def test_on_other_photographs_it_is_not_used(shipped, tmp_path, capsys):
    strangers = rig_store(tmp_path / "strangers")
    strangers.meta["origin"] = "another folder"
    assert known(other(shipped, store=strangers)) is None
    assert "discriminators/iphone-s0.json that ships is not used: it was trained on" in capsys.readouterr().err


def test_scores_of_other_held_out_photographs_are_not_used(shipped, tmp_path, capsys):
    """A network would be. It has seen none of the held-out photographs."""
    store = make_store(tmp_path / "others", 16, ("test", "test", "train", "train"), dataset="rig")
    assert checkpoints.unfit(json.loads((shipped_runs.FOLDER / shipped.key).read_text()), store) == ""
    assert known(other(shipped, store=store)) is None
    assert "is not used: other photographs are held out in" in capsys.readouterr().err


def test_slightly_other_pairs_are_reported(shipped, tmp_path, capsys):
    store = rig_store(tmp_path / "again")
    store.phone = store.phone ^ 1
    assert store.digest != shipped.store.digest
    assert known(other(shipped, store=store)) == (RESULT, SHIPPED) == known(other(shipped, store=store))
    assert capsys.readouterr().err.count("was measured on slightly other pairs of the same photographs") == 1


def test_a_copy_follows_the_package(shipped, monkeypatch):
    """An update may bring another result, or none."""
    known(shipped)
    record = json.loads((shipped_runs.FOLDER / shipped.key).read_text())
    content = json.dumps({**record, "result": {"accuracy": [1.0]}})
    (shipped_runs.FOLDER / shipped.key).write_text(content)
    registry = shipped_runs.FOLDER / experiment_results.REGISTRY
    registry.write_text(json.dumps({shipped.key: hashlib.sha256(content.encode()).hexdigest()}))
    assert known(shipped) == ({"accuracy": [1.0]}, SHIPPED)
    registry.write_text("{}")
    assert known(shipped) is None


def test_a_changed_file_is_refused(shipped):
    file = shipped_runs.FOLDER / shipped.key
    record = json.loads(file.read_text())
    record["result"]["n"] = 8
    file.write_text(json.dumps(record))
    with pytest.raises(DpedError, match=r"iphone-s0\.json: not the file that was shipped .* Install the package again"):
        known(shipped)
    file.unlink()
    with pytest.raises(DpedError, match="cannot be read"):
        known(shipped)
    (shipped_runs.FOLDER / experiment_results.REGISTRY).write_text("{")
    with pytest.raises(DpedError, match=r"results\.json: damaged"):
        known(shipped)
