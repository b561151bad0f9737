"""Winograd's convolution is the direct one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small import NETWORKS, noise

from dped_lib.enhance import bands, bounded_memory, plans
from dped_lib.speed import convolution, rectify, winograd


def layers(channels: int, outputs: int, seed: int) -> torch.nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Conv2d(channels, outputs, 3, padding=1)


@given(
    rows=st.integers(1, 23),
    width=st.integers(1, 40),
    channels=st.sampled_from((16, 24, 64)),
    outputs=st.sampled_from((16, 40)),
    seed=st.integers(0, 9),
)
def test_any_size_is_the_direct_convolution(rows, width, channels, outputs, seed):
    """Rows that are no multiple of four are computed directly."""
    conv, x = layers(channels, outputs, seed), torch.rand(rows + 2, width, channels)
    layer = bands.Layer(conv, torch.float32)
    assert layer.kernels is not None
    with torch.inference_mode():
        output = layer.convolve(bands.as_band(x))
        wanted = F.conv2d(bands.as_band(x).double(), conv.weight.double(), conv.bias.double(), padding=(0, 1))
    assert output.dtype == torch.float32 and output.shape == (1, outputs, rows, width)
    assert (output - wanted).abs().max() < 3e-6


def test_it_is_used_only_where_it_is_exact_and_quicker():
    weight = torch.zeros(64, 64, 3, 3)
    assert winograd.fits(weight, torch.float32)
    assert not winograd.fits(weight, torch.bfloat16)
    assert not winograd.fits(torch.zeros(64, 3, 3, 3), torch.float32)
    assert not winograd.fits(torch.zeros(64, 64, 9, 9), torch.float32)


@pytest.mark.parametrize("buffers", [2, 1, 0])
def test_without_swaps_a_photograph_is_the_same_within_rounding(monkeypatch, buffers):
    model, image = NETWORKS["dped"], noise(45, 30)
    how = plans.Plan(buffers, 8, plans.sweeps(model, buffers), 1.0, 0, 2)
    quick, plain = (), ()
    for swaps in ("1", "0"):
        monkeypatch.setenv("DPED_SPEED", swaps)
        if swaps == "0":
            for owner, name in (
                (torch, "native_batch_norm"),
                (torch, "batch_norm_update_stats"),
                (rectify, "relu"),
                (convolution, "column_kernels"),
            ):
                monkeypatch.setattr(owner, name, lambda *_, name=name, **__: pytest.fail(f"{name} is a quick form"))
        assert (bands.Layer(model.conv1, torch.float32).kernels is None) == (swaps == "0")
        quick, plain = plain, np.concatenate(list(bounded_memory.stream(model, image, how)))
    assert 0 < np.abs(quick - plain).max() < 1e-4
