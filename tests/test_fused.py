"""Instance norm an image at a time: the composed form's values and gradients, in every precision and layout."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib import models
from dped_lib.speed import norm as fused_norm


def exact(x, scale, shift, relu):
    """Instance norm composed in float64."""
    x, scale, shift = x.double(), scale.double()[:, None, None], shift.double()[:, None, None]
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    y = (x - mean) * torch.rsqrt(variance + models.NORM_EPSILON) * scale + shift
    return F.relu(y) if relu else y


def case(seed, n, c, h, w, level):
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=make) + level * torch.randn(1, c, 1, 1, generator=make)
    return x, torch.rand(c, generator=make) + 0.5, torch.randn(c, generator=make), torch.randn(x.shape, generator=make)


@settings(max_examples=30)
@given(
    st.integers(0, 99), st.integers(1, 3), st.integers(1, 5), st.integers(2, 19), st.integers(2, 9), st.booleans(),
    st.sampled_from([0.0, 3.0]), st.booleans(),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_composed_form(seed, n, c, h, w, relu, level, channels_last):
    x, scale, shift, toward = case(seed, n, c, h, w, level)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = [t.requires_grad_() for t in (x, scale, shift)]
    wanted = exact(*leaves, relu)
    # Where ReLU bends, float32 and float64 may stand on either side of it.
    toward = toward.double() * (exact(*leaves, False).abs() > 1e-4) if relu else toward.double()
    found = fused_norm.norm(*leaves, models.NORM_EPSILON, relu)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-5)
    by_hand = torch.autograd.grad((wanted * toward).sum(), leaves)
    for a, b in zip(torch.autograd.grad((found * toward.float()).sum(), leaves), by_hand, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3 * float(b.abs().max() + 1), rtol=1e-3)


@pytest.mark.parametrize("relu", [False, True])
def test_bfloat16_is_rounded_once(relu):
    """Statistics and arithmetic are float32: the result is the exact one of the rounded input, rounded."""
    x, scale, shift, _ = case(1, 2, 64, 50, 50, 2.0)
    x = x.bfloat16()
    found = fused_norm.norm(x, scale, shift, models.NORM_EPSILON, relu)
    assert found.dtype == torch.bfloat16
    wanted = exact(x, scale, shift, relu)
    assert ((found.double() - wanted).abs() <= wanted.abs() * 2**-8 + 1e-4).all()


def test_float32_statistics_do_not_drift_with_size():
    """A large image far from zero, where sums in float32 lose digits."""
    x, scale, shift, _ = case(2, 1, 4, 300, 400, 30.0)
    found = fused_norm.norm(x, scale, shift, models.NORM_EPSILON, False)
    assert (found.double() - exact(x, scale, shift, False)).abs().max() < 2e-5


def test_images_of_a_batch_do_not_meet():
    x, scale, shift, _ = case(3, 3, 8, 20, 20, 1.0)
    together = fused_norm.norm(x, scale, shift, models.NORM_EPSILON, True)
    alone = torch.cat([fused_norm.norm(x[i : i + 1], scale, shift, models.NORM_EPSILON, True) for i in range(3)])
    assert torch.equal(together, alone)


def test_other_types_take_the_composed_form():
    norm = models.InstanceNorm(3).double()
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert not fused_norm.fits(x, norm.scale)
    assert torch.autograd.gradcheck(lambda t: norm(t, relu=False), (x,))
