"""Test what notebook 00 opens with: the real pair, whose network enhances it, and what is shown without any network."""

import importlib.resources
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dped_lib import models
from dped_lib.alignment import extraction
from dped_lib.base import run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import examples, network_files, opening
from dped_lib.experiments import first_look


def only(monkeypatch, *there: str) -> None:
    """Only the named networks can be read; each is a small one with random weights."""
    torch.manual_seed(0)
    network = models.generator("srcnn").eval()

    def resolve(spec: str) -> nn.Module:
        if spec not in there:
            raise DpedError(f"{spec}: not there")
        return network

    monkeypatch.setattr(network_files, "resolve", resolve)


def test_the_real_pair_is_aligned_and_differs():
    pair = examples.city100_pair()
    assert {image.shape for image in pair.values()} == {(560, 756, 3)}
    phone, dslr = (cv2.cvtColor(pair[c], cv2.COLOR_RGB2GRAY) for c in ("iphonex", "dslr"))
    windows = extraction.windows(*dslr.shape)
    ncc = [extraction.ncc(*(i[y : y + 100, x : x + 100] for i in (phone, dslr))) for y, x in windows]
    assert len(ncc) == 35 and np.median(ncc) > 0.9
    assert np.abs(pair["iphonex"].astype(float) - pair["dslr"]).mean() > 5


def test_its_licence_lies_beside_it():
    licence = importlib.resources.files("dped_lib.data") / "examples" / "LICENSE.txt"
    assert "Copyright (c) 2019 Chang Chen" in licence.read_text()


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (("shipped:city100-iphonex", "authors:iphone"), "trained for the package on other photographs of City100"),
        (("authors:iphone",), "the authors' network for the iPhone 3GS, another camera"),
    ],
)
def test_the_first_network_that_is_there_is_taken_and_named(monkeypatch, there, words):
    only(monkeypatch, *there)
    look = first_look.choose("rig", "smoke", "iphone")
    assert list(look.versions) == ["iPhone X", f"enhanced by {there[0]}", "Nikon D5500"]
    assert look.weights == there[0] and look.name == "City100, scene 056"
    assert look.caption == f"City100, scene 056, (c) 2019 Chang Chen, MIT. Enhanced by {there[0]}: {words}."
    assert look.origins == {f"enhanced by {there[0]}": f"enhanced by {there[0]} ({words})"}
    before, after, dslr = look.versions.values()
    pair = examples.city100_pair()
    assert np.array_equal(before, pair["iphonex"]) and np.array_equal(look.original, pair["iphonex"])
    assert np.array_equal(dslr, pair["dslr"])
    assert after.shape == before.shape and after.dtype == np.uint8 and not np.array_equal(after, before)


def test_a_named_network_that_is_missing_is_an_error(monkeypatch):
    only(monkeypatch, "authors:iphone")
    with pytest.raises(DpedError, match="other.safetensors: not there"):
        first_look.choose("rig", "smoke", "iphone", weights="other.safetensors")


def test_without_any_network_the_datasets_own_is_used(monkeypatch, tmp_path, capsys):
    """The photograph and the network are then of the dataset, and the caption says how short the training was."""
    only(monkeypatch)
    params = run_parameters.train_params("rig", "iphone", "mse", "smoke", iterations=60, batch_size=4)
    result = SimpleNamespace(
        model=models.generator("srcnn").eval(), folder=tmp_path, params=params, origin="trained here"
    )
    store = SimpleNamespace(photographs=np.array(["photo:chelsea"]), index=lambda split: [0])
    monkeypatch.setattr(first_look, "trained", lambda *_: result)
    monkeypatch.setattr(opening, "open_or_make", lambda *_, **__: store)
    look = first_look.choose("rig", "smoke", "iphone")
    assert "shipped:city100-iphonex is not used: shipped:city100-iphonex: not there" in capsys.readouterr().err
    assert list(look.versions) == ["iPhone 3GS", "enhanced, preset smoke", "Canon 70D DSLR"]
    assert "dataset" in look.caption.lower() and "preset smoke, iterations 60 of batch 4" in look.caption
    (enhanced,) = look.origins.values()
    assert "the network trained here (dataset rig, preset smoke, iterations 60" in enhanced
    assert look.weights == str(tmp_path / "model.safetensors")
    assert len({image.shape for image in look.versions.values()}) == 1, "aligned, so that they lie under one slider"
