"""PSNR, SSIM and MS-SSIM against the authors' numbers, an outside library, and their own definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dped_lib import metrics, speed
from dped_lib.base.errors import DpedError


@pytest.fixture(scope="module")
def sets(load_reference):
    inputs = load_reference("inputs_u8")
    outputs = {
        "phone": inputs["iphone_u8"].astype(np.float32) / 255,
        "enhanced_iphone": load_reference("dped_generator_outputs")["iphone_patches"],
        "srcnn": load_reference("srcnn_resnet8_outputs")["srcnn_patches"],
    }
    return outputs, inputs["canon_u8"]


#: The definition, and its quick form.
FORMS = {"plain": metrics.pair_statistics, "swapped": speed.pair_statistics}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["phone", "enhanced_iphone", "srcnn"])
def test_every_scale_and_product_equal_the_authors(sets, load_reference, name, form):
    outputs, dslr = sets
    wanted = load_reference("loss_reference")
    s = FORMS[form](outputs[name], dslr.astype(np.float32) / 255)
    np.testing.assert_allclose(s.scale_ssim, wanted[f"msssim_{name}_ssim_levels"], atol=1e-6)
    np.testing.assert_allclose(s.scale_cs, wanted[f"msssim_{name}_cs_levels"], atol=1e-6)
    np.testing.assert_allclose(metrics.ms_ssim(s.scale_ssim, s.scale_cs), wanted[f"msssim_{name}"], atol=1e-6)
    batch = metrics.score(s, "train_script")["ms_ssim"]
    assert batch == pytest.approx(wanted[f"msssim_{name}_batch16"].item(), abs=1e-6)
    decibels = metrics.psnr(s.mse_clipped)
    finite = np.isfinite(decibels)
    np.testing.assert_allclose(decibels[finite], wanted[f"psnr_{name}"][finite], atol=1e-4)
    assert np.all(wanted[f"psnr_{name}"][~finite] == 300)  # the reference writes 300 for identical pairs


def test_pooled_psnr_equals_the_training_codes(sets, load_reference):
    outputs, dslr = sets
    wanted = load_reference("loss_reference")
    for name, key in (("enhanced_iphone", "loss_psnr"), ("phone", "phone_loss_psnr")):
        pooled = metrics.score(metrics.pair_statistics(outputs[name], dslr), "train_script")["psnr"]
        assert pooled == pytest.approx(wanted[key].item(), abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_standard_protocol_equals_scikit_image(form):
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 70, 53, 3)), rng.random((3, 70, 53, 3)) * 0.5 + 0.2
    scores = metrics.score(FORMS[form](x, y), "standard")
    ssim = [
        structural_similarity(
            a, b, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(x, y, strict=True)
    ]
    assert scores["ssim"] == pytest.approx(np.mean(ssim), abs=1e-9)
    assert scores["psnr"] == pytest.approx(
        np.mean([peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(x, y, strict=True)])
    )


def test_standard_ms_ssim_needs_large_images():
    x = torch.rand(1, 3, 176, 180)
    assert metrics.score(metrics.pair_statistics(x, x), "standard")["ms_ssim"] == pytest.approx(1)
    small = torch.rand(1, 3, 160, 180)
    assert metrics.score(metrics.pair_statistics(small, small), "standard")["ms_ssim"] is None


images = st.integers(0, 2**32 - 1).map(lambda s: np.random.default_rng(s).random((2, 40, 44, 3)))


@pytest.mark.parametrize("form", FORMS)
def test_no_pairs_are_an_error(form):
    with pytest.raises(DpedError, match="differ in shape or are none"):
        FORMS[form](np.zeros((0, 40, 44, 3)), np.zeros((0, 40, 44, 3)))


@settings(max_examples=20, deadline=None)
@given(x=images, y=images)
def test_symmetry_identity_and_bounds(x, y):
    forth, back, same = (metrics.pair_statistics(a, b) for a, b in ((x, y), (y, x), (x, x)))
    for protocol in metrics.PROTOCOLS:
        a, b, i = (metrics.score(s, protocol) for s in (forth, back, same))
        for name, (low, high) in {"psnr": (0, math.inf), "ssim": (-1, 1), "ms_ssim": (0, 1)}.items():
            if a[name] is None:
                continue
            assert a[name] == pytest.approx(b[name], rel=1e-9)
            assert low <= a[name] <= high
            assert i[name] >= a[name]
            assert i[name] == (math.inf if name == "psnr" else pytest.approx(1))
        assert i["identical_pairs"] == 2
        assert a["identical_pairs"] == (2 if np.array_equal(x, y) else 0)


@settings(max_examples=10, deadline=None)
@given(x=images, shift=st.floats(0.01, 0.3))
def test_constant_error_has_a_known_psnr(x, shift):
    x = x * 0.6
    s = metrics.pair_statistics(x, x + shift)
    for protocol in metrics.PROTOCOLS:
        assert metrics.score(s, protocol)["psnr"] == pytest.approx(-20 * math.log10(shift), abs=1e-6)


def test_flips_and_turns_change_nothing():
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 48, 48, 3)), rng.random((2, 48, 48, 3))
    s = metrics.pair_statistics(x, y)
    for transform in (lambda z: np.rot90(z, axes=(1, 2)), lambda z: z[:, :, ::-1]):
        t = metrics.pair_statistics(transform(x), transform(y))
        np.testing.assert_allclose(t.ssim_clipped, s.ssim_clipped, atol=1e-12)
        np.testing.assert_allclose(t.mse, s.mse)


def test_protocols_differ_where_they_should():
    """Values outside [0, 1] count in ``train_script`` and not in the others; pooling is not averaging decibels."""
    target = np.full((2, 30, 30, 3), 1.0)
    over = np.stack([np.full((30, 30, 3), 1.08), np.full((30, 30, 3), 0.5)])
    s = metrics.pair_statistics(over, target)
    assert metrics.score(s, "train_script")["psnr"] == pytest.approx(-10 * math.log10((0.08**2 + 0.5**2) / 2))
    assert metrics.score(s, "pirm_script")["psnr"] == pytest.approx(
        -20 * math.log10(0.5)
    )  # the other pair is identical once clipped
    identical = {protocol: metrics.score(s, protocol)["identical_pairs"] for protocol in metrics.PROTOCOLS}
    assert identical == {"train_script": 0, "pirm_script": 1, "standard": 1}, "those whose PSNR is infinite"


def test_batches_of_fifty_and_the_rest():
    """``train_script`` averages batches of 50; a rest counts by its size. Batching of the computation changes nothing."""
    rng = np.random.default_rng(2)
    x, y = rng.random((60, 12, 12, 3)), rng.random((60, 12, 12, 3))
    whole, parts = metrics.pair_statistics(x, y), metrics.pair_statistics(x, y, batch=7)
    np.testing.assert_allclose(whole.mse, parts.mse)
    np.testing.assert_allclose(whole.scale_cs, parts.scale_cs)
    pooled = [-10 * math.log10(((x[p] - y[p]) ** 2).mean()) for p in (slice(0, 50), slice(50, 60))]
    assert metrics.score(whole, "train_script")["psnr"] == pytest.approx((50 * pooled[0] + 10 * pooled[1]) / 60)


def test_a_rest_of_identical_pairs_does_not_make_everything_infinite():
    x = np.random.default_rng(6).random((51, 12, 12, 3))
    y = x * 0.9
    y[50] = x[50]
    scores = metrics.score(metrics.pair_statistics(x, y), "train_script")
    assert scores["psnr"] == pytest.approx(-10 * math.log10(((x[:50] - y[:50]) ** 2).mean()))
    assert scores["identical_pairs"] == 1


def test_arrays_tensors_and_bytes_mean_the_same():
    u8 = np.random.default_rng(3).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    y = np.zeros_like(u8)
    a = metrics.pair_statistics(u8, y)
    b = metrics.pair_statistics(u8.astype(np.float64) / 255, y.astype(np.float64))
    tensor = torch.from_numpy(u8).permute(0, 3, 1, 2)
    c = metrics.pair_statistics(tensor, torch.zeros_like(tensor))
    for other in (b, c):
        np.testing.assert_allclose(a.mse, other.mse)
        np.testing.assert_allclose(a.ssim_clipped, other.ssim_clipped)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((2, 9, 9, 3)), np.zeros((3, 9, 9, 3)), "differ in shape"),
        (np.zeros((9, 9, 3)), np.zeros((9, 9, 3)), "must be"),
        (np.zeros((1, 9, 9, 4)), np.zeros((1, 9, 9, 4)), "1 or 3 channels"),
        (np.zeros((1, 9, 9, 3), int), np.zeros((1, 9, 9, 3), int), "uint8"),
        (np.full((1, 9, 9, 3), np.nan), np.zeros((1, 9, 9, 3)), "not finite"),
    ],
)
def test_wrong_input_is_named(x, y, words):
    with pytest.raises(DpedError, match=words):
        metrics.pair_statistics(x, y)


def test_unknown_protocol():
    s = metrics.pair_statistics(np.zeros((1, 9, 9, 3)), np.zeros((1, 9, 9, 3)))
    with pytest.raises(DpedError, match="train_script, pirm_script, standard"):
        metrics.score(s, "matlab")
