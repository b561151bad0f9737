"""Where a result comes from: captions, strict JSON, what is recorded once, and the folder in which it lies."""

import functools
import json
import math
import multiprocessing

import numpy as np
import pytest
import saving
import torch
from saving import MADE, save

from dped_lib.base import datasets, paths
from dped_lib.base.errors import DpedError
from dped_lib.experiments.scores import Cell
from dped_lib.report import provenance


def test_provenance_names_everything_a_reader_needs():
    made = provenance.of_run("rig", "smoke", 3, vgg="Oxford")
    assert {"dataset", "preset", "seed", "vgg", *provenance.ENVIRONMENT} == set(made)
    assert made["versions"]["torch"] == torch.__version__
    assert made["threads"]["torch"] == torch.get_num_threads()


def test_caption_names_data_network_and_length_but_nothing_that_changes_from_run_to_run():
    made = provenance.of_run(
        "rig", "smoke", 3, phone="sony", variant="code", network="trained here", iterations="60 of batch 2", n="30 pairs", vgg="Oxford"
    )  # fmt: skip
    assert provenance.caption(made) == (
        "dataset rig: simulated rig · preset smoke · phone Sony Xperia Z · variant code · network trained here · "
        "iterations 60 of batch 2 · seed 3 · n 30 pairs"
    )


def test_every_dataset_is_described():
    assert set(provenance.DATASET_WORDS) == set(datasets.DATASETS)
    assert "simulated" in provenance.DATASET_WORDS["rig"] and "real" in provenance.DATASET_WORDS["pirm"]


def test_json_is_strict():
    cell = Cell("3", "iphone", "mse", "val", 2, 1, (0,), math.inf, (1.0, math.nan), 0.5, (0.4, 0.6), [], None, {})
    text = provenance.to_json(
        {"a": np.float32(1.5), "b": math.inf, "c": math.nan, "d": np.arange(2), "e": cell, 1: True}
    )
    parsed = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert parsed["a"] == 1.5 and parsed["b"] == "infinite" and parsed["c"] is None and parsed["d"] == [0, 1]
    assert parsed["e"]["psnr"] == "infinite" and parsed["e"]["psnr_interval"] == [1.0, None] and parsed["1"] is True


def test_provenance_says_once_what_most_artifacts_have_in_common(saved):
    save({**MADE, "time": "1"}, "a")
    save({**MADE, "time": "2"}, "b")
    save({**MADE, "time": "3", "commit": "other", "device": "GPU"}, "c")
    assert json.loads((saved / "provenance.json").read_text()) == {
        "common": {"commit": "abc", "versions": {"torch": "2"}},
        "artifacts": {"a": {"time": "1"}, "b": {"time": "2"}, "c": {"commit": "other", "time": "3", "device": "GPU"}},
    }
    assert provenance.of_artifact(saved / "a.png") == {**MADE, "time": "1"}
    assert provenance.of_artifact(saved / "c.json") == {**MADE, "time": "3", "commit": "other", "device": "GPU"}
    # An artifact that was deleted leaves the record with the next one that is saved.
    (saved / "c.json").unlink()
    save({**MADE, "time": "4"}, "b")
    assert set(json.loads((saved / "provenance.json").read_text())["artifacts"]) == {"a", "b"}


def test_jobs_that_end_together_are_all_recorded(saved):
    # Not forked: threads of other tests may hold locks, and a forked process would wait for them for ever.
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(functools.partial(saving.save_tables, MADE), range(4))
    for process in range(4):
        for i in range(5):
            name = f"table_{process}_{i}"
            assert provenance.of_artifact(saved / f"{name}.json")["time"] == name
    assert [f.name for f in saved.iterdir() if f.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["fig99_test.json", "provenance.json"])
def test_a_damaged_record_is_named(saved, name):
    file = save(MADE)
    (saved / name).write_text("{")
    with pytest.raises(DpedError, match=f"{name}: damaged"):
        provenance.of_artifact(file)


def test_a_notebook_run_by_hand_never_saves_in_figures(monkeypatch, tmp_path):
    monkeypatch.delenv("DPED_FIGURES")
    monkeypatch.setenv("DPED_RUNS", str(tmp_path))
    assert save(MADE) == tmp_path / "rig-smoke" / "figures" / "fig99_test.png"
    assert provenance.of_artifact(tmp_path / "rig-smoke" / "figures" / "fig99_test.json") == MADE
    assert paths.figures_root() == tmp_path
    # It reads what it saved; of other data, what is published.
    assert provenance.result_folder("rig", "smoke") == tmp_path / "rig-smoke" / "figures"
    assert provenance.result_folder("pirm", "cpu") == paths.published_figures() / "pirm-cpu"


def test_the_workflow_says_where_to_save(saved):
    """``workflow/Snakefile`` sets DPED_FIGURES; then nothing else is read, either."""
    assert save(MADE).parent == saved == provenance.result_folder("rig", "smoke")
    assert provenance.result_folder("pirm", "cpu") == saved.parent / "pirm-cpu"
