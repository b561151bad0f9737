"""The quick instance norm is PyTorch's: values, gradients, rounding."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib import models
from dped_lib.speed import norm


def exact(x, weight, bias, relu):
    """Return PyTorch's instance norm in float64."""
    y = F.instance_norm(x.double(), weight=weight.double(), bias=bias.double(), eps=models.NORM_EPSILON)
    return F.relu(y) if relu else y


def case(seed, n, c, h, w, level):
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=make) + level * torch.randn(1, c, 1, 1, generator=make)
    return x, torch.rand(c, generator=make) + 0.5, torch.randn(c, generator=make), torch.randn(x.shape, generator=make)


@settings(max_examples=30)
@given(
    st.integers(0, 99),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(2, 19),
    st.integers(2, 9),
    st.booleans(),
    st.sampled_from([0.0, 3.0]),
    st.booleans(),
)
def test_the_norm_has_the_values_and_gradients_of_instance_norm(seed, n, c, h, w, relu, level, channels_last):
    x, weight, bias, toward = case(seed, n, c, h, w, level)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    wanted = exact(*leaves, relu)
    # Where ReLU bends, float32 and float64 may stand on either side of it.
    toward = toward.double() * (exact(*leaves, False).abs() > 1e-4) if relu else toward.double()
    normalised = norm.norm(*leaves, models.NORM_EPSILON, relu)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.double(), wanted, atol=2e-5, rtol=1e-5)
    by_hand = torch.autograd.grad((wanted * toward).sum(), leaves)
    for a, b in zip(torch.autograd.grad((normalised * toward.float()).sum(), leaves), by_hand, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3 * float(b.abs().max() + 1), rtol=1e-3)


@pytest.mark.parametrize("relu", [False, True])
def test_the_norm_in_bfloat16_is_rounded_once(relu):
    """Statistics and arithmetic are float32: the result is the exact one of the rounded input, rounded."""
    x, weight, bias, _ = case(1, 2, 64, 50, 50, 2.0)
    x = x.bfloat16()
    normalised = norm.norm(x, weight, bias, models.NORM_EPSILON, relu)
    assert normalised.dtype == torch.bfloat16
    wanted = exact(x, weight, bias, relu)
    assert ((normalised.double() - wanted).abs() <= wanted.abs() * 2**-8 + 1e-4).all()


def test_statistics_of_the_norm_do_not_drift_with_size():
    """A large image far from zero, where sums in float32 lose digits."""
    x, weight, bias, _ = case(2, 1, 4, 300, 400, 30.0)
    normalised = norm.norm(x, weight, bias, models.NORM_EPSILON, False)
    assert (normalised.double() - exact(x, weight, bias, False)).abs().max() < 2e-5


def test_the_norm_keeps_images_of_a_batch_apart():
    x, weight, bias, _ = case(3, 3, 8, 20, 20, 1.0)
    together = norm.norm(x, weight, bias, models.NORM_EPSILON, True)
    alone = torch.cat([norm.norm(x[i : i + 1], weight, bias, models.NORM_EPSILON, True) for i in range(3)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("relu", [False, True])
def test_other_types_take_the_composed_form(relu):
    layer = norm.InstanceNorm2d(3, affine=True, eps=models.NORM_EPSILON).double()
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert not norm.fits(x, layer.weight)
    assert torch.allclose(layer(x, relu), exact(x, layer.weight, layer.bias, relu), atol=1e-12)
    assert torch.autograd.gradcheck(lambda t: layer(t), (x,))
