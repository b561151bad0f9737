"""The ablation of 08_claims: each row changes one choice, and all are compared on the same pairs."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from small import WITH_TEST, make_store
from torch import nn

from dped_lib import models, paper, training
from dped_lib.base import presets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import experiment_results, network_files, opening, shipped_runs, vgg_files
from dped_lib.experiments import ablation, ablation_table

TINY = replace(presets.preset("smoke"), iterations=2, variant_iterations=2, table_pairs=0)


@pytest.fixture(scope="module")
def features():
    return vgg_files.vgg19()


def test_rows_call_a_discriminator_by_its_form():
    """The same two are drawn and judged elsewhere as two-image and one-image."""
    for row, choices in ablation.CHOICE_ROWS.items():
        assert row.startswith(choices.get("discriminator", "").replace("_", "-")) and "channel" not in row


@pytest.mark.parametrize(("row", "choices"), [(r, c) for r, c in ablation.CHOICE_ROWS.items() if c])
def test_each_choice_changes_what_it_says_and_nothing_else(store, features, row, choices):
    """Of one training: the kernel, layer, norm or discriminator asked for; the rest as in the authors' code."""
    params = run_parameters.train_params("rig", "iphone", paper.FULL_LOSS, "smoke", model="", **choices)
    trainer = training.Trainer(params, store, torch.device("cpu"), features)
    o, code = trainer.objective, "variant" not in choices
    assert o.kernel == choices.get("kernel", "code" if code else "printed")
    assert o.content_layer == choices.get("content_layer", "relu5_4" if code else "relu5_2")
    batch = choices.get("norm") == "batch" or not code
    assert any(isinstance(m, nn.BatchNorm2d) for m in trainer.generator.modules()) == batch
    form = choices.get("discriminator", "code" if code else "two_image")
    with torch.device("meta"):  # random weights take seconds
        kind = type(models.discriminator(form))
    assert type(trainer.discriminator) is kind and trainer.discriminator.inputs == 1 + (form == "two_image")
    assert params.run_name != run_parameters.train_params("rig", "iphone", paper.FULL_LOSS, "smoke").run_name


def test_unknown_choices_are_named(store, features):
    for choice, value in (
        ("kernel", "box"),
        ("content_layer", "relu9_9"),
        ("norm", "layer"),
        ("discriminator", "three"),
    ):
        params = run_parameters.train_params("rig", "iphone", paper.FULL_LOSS, "smoke", **{choice: value})
        with pytest.raises(DpedError, match=f"'{value}'"):
            training.Trainer(params, store, torch.device("cpu"), features)


def test_variants_are_compared_on_the_same_pairs(store, runs, monkeypatch):
    monkeypatch.setattr(opening, "open_or_make", lambda *_, **__: store)
    monkeypatch.setattr(presets, "preset", lambda name: TINY)
    rows = {"code": {}, "batch": {"norm": "batch"}}
    monkeypatch.setattr(paper, "FULL_LOSS", "mse")
    outcomes, differences, origin = trained = ablation.train_choices("rig", "smoke", "iphone", rows=rows)
    assert [o.row for o in outcomes] == ["code", "batch"] and len(differences) == 2
    assert all(o.cell.pairs == len(store.index("test")) for o in outcomes)
    frame = ablation_table.choices_frame(outcomes, differences)
    differs = frame["PSNR minus code (dB)"]
    assert differs[0] == "" and differs[1][0] in "+-" and "MS-SSIM minus code" in frame
    assert json.dumps(ablation_table.choices_numbers(outcomes))
    model = network_files.load_model(runs / "rig-smoke" / "variants" / "iphone-mse-norm_batch-s0" / "model.safetensors")
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    monkeypatch.setattr(training, "Trainer", lambda *_: pytest.fail("was trained again"))
    assert origin == "trained here" and ablation.train_choices("rig", "smoke", "iphone", rows=rows) == trained


def test_an_ablation_is_loaded_only_if_it_ships_and_no_row_was_begun_here(runs, tmp_path, monkeypatch):
    """Messages tell the user to delete the folder of a row. The result that was kept belongs to a network that is gone."""
    store = make_store(tmp_path / "patches", 16, WITH_TEST, dataset="rig", phone="iphone")
    monkeypatch.setattr(shipped_runs, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(opening, "open_or_make", lambda *_, **__: store)
    monkeypatch.setattr(presets, "preset", lambda name: TINY)
    monkeypatch.setattr(paper, "FULL_LOSS", "dong")
    wanted = {"dataset": "rig", "preset_name": "smoke", "phone": "iphone", "rows": {"code": {}}}
    row = runs / "rig-smoke" / "variants" / "iphone-dong-s0"
    measured = ablation.train_choices(**wanted)
    shutil.rmtree(row)
    monkeypatch.setattr(training, "Trainer", lambda *_: pytest.fail("is trained"))
    with pytest.raises(pytest.fail.Exception, match="is trained"):
        ablation.train_choices(**wanted)
    assert experiment_results.pack(ablation.experiment(**wanted))
    assert ablation.train_choices(**wanted) == measured._replace(origin="trained for the package")
    row.mkdir()
    with pytest.raises(pytest.fail.Exception, match="is trained"):
        ablation.train_choices(**wanted)
