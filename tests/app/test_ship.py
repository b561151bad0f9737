"""Adding runs to those that ship: one command for any subset, the scores beside the weights, and the table of them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from small import pair, settings
from torch import nn

from dped_lib import metrics
from dped_lib.app import doctor, ship
from dped_lib.base import paths, presets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import network_files, opening, pair_store, shipped_runs
from dped_lib.enhance import evaluation
from dped_lib.experiments import model_zoo, networks, training_runs


@pytest.fixture
def run(runs, tmp_path, monkeypatch):
    """A finished run at preset smoke, its pairs, and a package in which nothing ships yet."""
    monkeypatch.setattr(shipped_runs, "FOLDER", tmp_path / "package" / "shipped")
    monkeypatch.setattr(ship, "PAGE", tmp_path / "model_zoo.md")
    rng = np.random.default_rng(0)
    labels = ["train", "val", "test"] * 4
    pairs = [pair(f"mosaic{i}", label, rng) for i, label in enumerate(labels)]
    meta = {"dataset": "rig", "phone": "iphone", "report": {}}
    store = pair_store.write_store(opening.folder_of("rig", "smoke", "iphone"), pairs, meta)
    short = {"dong_iterations": 2, "batch_size": 1, "eval_every": 2, "eval_pairs": 2}
    monkeypatch.setattr(presets, "PRESETS", {**presets.PRESETS, "smoke": replace(presets.preset("smoke"), **short)})
    params = run_parameters.train_params("rig", "iphone", "dong", "smoke")
    return training_runs.train(params, store, training_runs.run_folder(params, "smoke"), "cpu")


def test_runs_are_added_scored_and_listed(run, runs, tmp_path, capsys):
    ship.main(runs, preset="cpu")
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'model_zoo.md'}: 0 networks, 0.0 MB")
    assert ship.PAGE.read_text() == f"# {model_zoo.TITLE}\n\nNone in this version.\n"
    ship.main(runs, preset="smoke")
    added, page = capsys.readouterr().out.splitlines()
    name = "shipped:rig-iphone-dong-preset_smoke"
    assert added == f"{name}: added, 0.14 MB" and "1 networks, 0.1 MB" in page  # 69 000 weights of two bytes
    (shipped,) = shipped_runs.runs().values()
    scores = shipped_runs.scores(shipped)
    store = pair_store.PairStore(opening.folder_of("rig", "smoke", "iphone"))
    assert (scores["pairs"], scores["photographs"], scores["split"], scores["protocol"]) == (
        4,
        4,
        "test",
        "train_script",
    )
    again = model_zoo.score_network(network_files.resolve(name), shipped.params(), store, shipped.preset)
    assert again == scores
    direct = metrics.score(evaluation.evaluate(network_files.resolve(name), store, store.index("test")), "train_script")
    original = metrics.score(evaluation.evaluate(nn.Identity(), store, store.index("test")), "train_script")
    assert {k: scores[k] for k in ("psnr", "ms_ssim")} == {k: direct[k] for k in ("psnr", "ms_ssim")}
    assert scores["original"] == {k: original[k] for k in ("psnr", "ms_ssim")}
    (described,) = model_zoo.networks()
    assert described.weights == f"`{name}`" and described.held_out == (4, 4)
    assert described.scores == (f"{scores['psnr']:.2f}", f"{scores['ms_ssim']:.4f}")
    assert described.iterations == "2 of batch 1" and described.trained_on == "rig, iPhone 3GS, 4 photographs"
    assert not described.for_photographs, "its photographs are simulated"
    assert "networks of `rig` MIT (simulated photographs)." in model_zoo.markdown()
    assert ship.PAGE.read_text() == model_zoo.markdown() and name in model_zoo.markdown()
    before = (shipped.folder / "params.json").stat().st_mtime_ns
    ship.main(runs, preset="smoke")
    assert capsys.readouterr().out.startswith(f"{name}: ships already")
    assert (shipped.folder / "params.json").stat().st_mtime_ns == before
    for damage, state, detail in (
        (b"", "ok", f"1 (0 MB), sha256 as registered: {name}"),
        (b"x", "broken", "not the file"),
    ):
        with open(shipped.folder / "scores.json", "ab") as file:
            file.write(damage)
        (check,) = (c for c in doctor.examine() if c.topic == "networks that ship")
        assert check.state == state and detail in check.detail


def test_a_copy_of_a_run_that_ships_is_labelled_everywhere(run, runs, capsys):
    assert networks.origins([run]) == "trained here" and networks.length([run]) == "2 of batch 1"
    ship.main(runs, preset="smoke")
    for file in run.folder.iterdir():
        file.unlink()
    store = pair_store.PairStore(opening.folder_of("rig", "smoke", "iphone"))
    copy = training_runs.train(run.params, store, run.folder, "cpu")
    assert networks.origins([copy]) == "shipped:rig-iphone-dong-preset_smoke"
    assert networks.origins([copy] * 4) == f"{copy.origin} and 3 more of the package"
    assert networks.origins([copy], ["authors' weights"]) == f"{copy.origin}, or authors' weights where named"
    ship.main(runs, preset="smoke")
    assert "ships already" in capsys.readouterr().out


def test_a_run_with_other_parameters_than_its_preset_does_not_ship(run, runs, monkeypatch, capsys):
    monkeypatch.setattr(
        presets, "PRESETS", {**presets.PRESETS, "smoke": replace(presets.preset("smoke"), eval_every=1)}
    )
    ship.main(runs, preset="smoke")
    assert "not added, because its parameters are not those of preset 'smoke'" in capsys.readouterr().out
    assert shipped_runs.runs() == {}


def test_a_run_without_its_pairs_does_not_ship(run, runs):
    store = opening.folder_of("rig", "smoke", "iphone")
    for file in store.iterdir():
        file.unlink()
    with pytest.raises(DpedError, match=f"{store}: not a store of patch pairs"):
        ship.main(runs, preset="smoke")
    store.rmdir()
    with pytest.raises(DpedError, match=f"{store}: no patch pairs there. Make them with dped fetch"):
        ship.main(runs, preset="smoke")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"par', "damaged"),
        ("[]", "damaged"),
        ('{"params": 3}', "damaged"),
        ('{"params": {"sed": 0}}', "of another version .*'sed'"),
        (None, "missing, so this is no training run"),
    ],
)
def test_a_damaged_run_is_named_and_does_not_ship(run, runs, text, message):
    description = run.folder / "params.json"
    if text is None:
        description.unlink()
    else:
        description.write_text(text)
    with pytest.raises(DpedError, match=f"{re.escape(str(description))}: {message}"):
        ship.main(runs, preset="smoke")
    assert shipped_runs.runs() == {}


def test_the_page_in_docs_is_that_of_what_ships():
    """`make ship RUNS=... ARGS=--table` writes it again."""
    assert (paths.project_root() / "docs" / "model_zoo.md").read_text(encoding="utf-8") == model_zoo.markdown()


def test_lengths_in_words(run):
    results = [
        training_runs.TrainResult(run.folder, settings(loss, iterations=n, batch_size=8), run.model, "")
        for loss, n in (("mse", 2000), ("dong", 10000), ("mse+texture", 2000))
    ]
    assert networks.length(results) == "2000 of batch 8 (Dong et al.: 10000)"
