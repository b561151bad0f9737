"""Figures and tables: whole, with provenance, strict JSON; and the drawing of Figure 7 says what the modules are."""

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dped_lib import losses, metrics, models, paper
from dped_lib.base import config, paths
from dped_lib.data import pair_store
from dped_lib.experiments import networks, scores, table_layout, table_plot
from dped_lib.report import figures, network_diagrams
from dped_lib.experiments.scores import Cell

MADE = {"dataset": "rig", "preset": "smoke", "seed": 3, "commit": "abc", "versions": {"torch": "2"}}


def test_provenance_names_everything_a_reader_needs():
    made = figures.provenance("rig", "smoke", 3, vgg="Oxford")
    assert {"dataset", "preset", "seed", "commit", "versions", "device", "vgg"} <= set(made)
    assert made["versions"]["torch"] == torch.__version__
    for word in ("rig", "simulated", "smoke", "seed 3", made["commit"]):
        assert word in figures.stamp(made)


def test_every_dataset_is_described():
    assert set(figures.DATASET_WORDS) == set(config.DATASETS)
    assert "simulated" in figures.DATASET_WORDS["rig"] and "real" in figures.DATASET_WORDS["pirm"]


def test_json_is_strict():
    cell = Cell("3", "iphone", "mse", "val", 2, 1, (0,), math.inf, (1.0, math.nan), 0.5, (0.4, 0.6), [], None, {})
    text = figures.to_json({"a": np.float32(1.5), "b": math.inf, "c": math.nan, "d": np.arange(2), "e": cell, 1: True})
    found = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert found["a"] == 1.5 and found["b"] == "infinite" and found["c"] is None and found["d"] == [0, 1]
    assert found["e"]["psnr"] == "infinite" and found["e"]["psnr_interval"] == [1.0, None] and found["1"] is True


def test_figure_and_numbers_lie_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    file = figures.save_figure(fig, "fig99_test", MADE, {"values": [1, 2]})
    plt.close(fig)
    assert file == tmp_path / "rig-smoke" / "fig99_test.png" and file.read_bytes().startswith(b"\x89PNG")
    beside = json.loads(file.with_suffix(".json").read_text())
    assert beside["provenance"] == MADE and beside["numbers"] == {"values": [1, 2]}


def test_table_is_written_to_be_read_and_to_be_computed_with(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    frame = pd.DataFrame({"phone": ["iphone"], "mse": ["20.1"]})
    file = figures.save_table(frame, "table9", MADE, "Table 9", {"x": 1}, "A note.")
    assert {f.suffix for f in file.parent.iterdir()} == {".md", ".csv", ".json"}
    text = file.read_text()
    assert "A note." in text and "simulated rig" in text and "| iphone" in text
    assert pd.read_csv(file.with_suffix(".csv"), dtype=str).equals(frame)


def test_phones_have_distinct_colours():
    assert set(figures.PHONE_COLORS) == {*config.PHONES, "dslr"}
    assert len(set(figures.PHONE_COLORS.values())) == len(config.PHONES) + 1


@pytest.mark.parametrize("form", sorted(models.DISCRIMINATORS))
def test_drawn_layers_add_up_to_the_network(form):
    """Every trainable parameter is in a drawn box, and shapes are those that run."""
    for network, image in (
        (models.generator(), torch.zeros(1, 3, 100, 100)),
        (d := models.discriminator(form), torch.zeros(1, d.inputs, 100, 100)),
    ):
        found = network_diagrams.layers(network, image)
        assert sum(layer.parameters for layer in found) == models.count_parameters(network)
    assert [layer.kind for layer in found].count("conv") == (5 if form == "released" else 6)
    generator = network_diagrams.layers(models.generator(), torch.zeros(1, 3, 64, 48))
    assert [layer.kind for layer in generator].count("conv") == 12
    assert generator[-1].shape == (3, 64, 48) and generator[0].label == "9x9"
    assert not any(m._forward_hooks for m in network.modules()), "hooks are taken off again"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six photographs of two pairs each; the phone is the Canon, darker."""
    rng = np.random.default_rng(0)

    def pairs():
        for i in range(12):
            dslr = rng.integers(80, 256, (100, 100, 3), dtype=np.uint8)
            yield pair_store.Pair(str(i), f"p{i // 2}", (dslr * 0.8).astype(np.uint8), dslr)

    return pair_store.write_store(
        tmp_path_factory.mktemp("store") / "iphone", pairs(), {"dataset": "rig", "phone": "iphone", "report": {}}
    )


class Brighter(nn.Module):
    def forward(self, image):
        return image / 0.8


def test_cells_measure_compare_and_cite(store):
    preset = config.preset("smoke")
    methods = {"original": nn.Identity(), "ours": {0: Brighter()}}
    found, differences = scores.score_methods("2", store, methods, "train", preset, {"ours": paper.Score(19.16, 0.9114)})
    original, ours = found
    assert ours.psnr > original.psnr + 10 and ours.ms_ssim > original.ms_ssim
    for c in found:
        assert c.psnr_interval[0] <= c.psnr <= c.psnr_interval[1]
        assert c.pairs == len(store.index("train")) and c.photographs == c.pairs // 2
        assert set(c.scores) == set(metrics.PROTOCOLS)
    assert (
        ours.published == (19.16, 0.9114)
        and "(paper 19.16)" in ours.text("psnr")
        and "(paper 0.9114)" in ours.text("ms_ssim")
    )
    assert "paper" not in original.text("psnr")
    frame = table_layout.cells_frame(found, ("original", "ours", "authors"))
    assert list(frame["metric"]) == ["PSNR (dB)", "MS-SSIM"] and set(frame["authors"]) == {"not run"}
    frame = table_layout.differences_frame(differences, "ours")
    assert set(frame["first minus second"]) == {"ours - original"} and set(frame["first is"]) == {"higher"}
    assert all(text.startswith("+") for text in frame["difference"])
    assert not len(table_layout.differences_frame(differences, "dong"))


def test_plot_shows_every_cell_and_every_published_value():
    found = [
        Cell("3", phone, loss, "val", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], (score.psnr, score.ssim), {})
        for phone in paper.PHONES
        for loss, score in paper.TABLE3[phone].items()
    ]
    fig = table_plot.plot_cells(found, losses.TABLE3, "Table 3")
    for axes, value in zip(fig.axes, ("psnr", "ssim"), strict=True):
        hollow = sorted(
            line.get_xdata()[0]
            for line in axes.lines
            if line.get_marker() == "o" and line.get_markerfacecolor() == "white"
        )
        assert hollow == sorted(getattr(s, value) for row in paper.TABLE3.values() for s in row.values())
        assert axes.get_xlabel().startswith(("PSNR (dB)", "MS-SSIM"))
    plt.close(fig)


def test_missing_weights_are_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_MIRROR", str(tmp_path))
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "cache"))
    for phone in ("iphone", "iphonex"):
        assert "mirror lacks" in networks.authors_network_for(phone)


def test_paths_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    assert paths.figures_dir("pirm", "paper") == tmp_path / "pirm-paper"
