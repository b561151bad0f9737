"""The results of a training state what they were measured on."""

import json

import pytest

from dped_lib import models
from dped_lib.base import run_parameters
from dped_lib.experiments import training_report, training_runs
from dped_lib.report import figures


@pytest.mark.parametrize("most", [100, 1])
def test_every_result_says_how_many_pairs_it_shows_and_of_which_split(store, shelf, monkeypatch, tmp_path, most):
    """A validation score is the mean of the pairs that the training drew once, at most ``eval_pairs``."""
    params = run_parameters.train_params("rig", "iphone", "mse", "smoke", eval_pairs=most)
    result = training_runs.TrainResult(tmp_path, params, models.generator("srcnn").eval(), "VGG")
    scores = [{"iteration": i, "validation": {"psnr": 20.0 + i, "ms_ssim": 0.9}} for i in (0, 10)]
    monkeypatch.setattr(
        training_runs.TrainResult, "log", lambda _: [{"iteration": 1, "total": 1.0, "mse": 1.0}, *scores]
    )
    training_report.save(result, store, "smoke")
    held_out = {split: len(store.index(split)) for split in ("val", "test")}
    assert held_out["val"] > 1
    shown = f"{min(training_report.PATCHES_SHOWN, held_out['test'])} test patches"
    said = f"{min(most, held_out['val'])} validation pairs"
    for name, n in (("curves", said), ("scores", f"{held_out['test']} test pairs"), ("samples", shown)):
        saved = json.loads((tmp_path / "rig-smoke" / f"training_{name}-{params.run_name}.json").read_text())
        assert saved["parameters"].get("n") == n
    digits = {"PSNR (dB)": 2, "SSIM": 4, "MS-SSIM": 4}
    frame, numbers, _ = training_report.score_table(result, store, "smoke")
    assert set(digits) < set(frame), "the names have their units"
    lines = (tmp_path / "rig-smoke" / f"training_scores-{params.run_name}.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    for name, places in digits.items():
        shown = {row[rows[0].index(name)] for row in rows[2:]} - {figures.NOT_DEFINED}
        assert shown and {len(value.partition(".")[2]) for value in shown} == {places}, "alike in a column"
    assert numbers["test"]["enhanced"]["standard"]["psnr"] not in set(frame["PSNR (dB)"]), "the JSON is not rounded"
