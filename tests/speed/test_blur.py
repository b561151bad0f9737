"""The quick colour distance is that of equation 2."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib import losses, speed
from dped_lib.speed import blur

CPU = torch.device("cpu")


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kernel=st.sampled_from(sorted(losses.KERNELS)),
    seed=st.integers(0, 99),
)
def test_the_colour_distance_has_the_values_and_gradients_of_equation_2(height, width, kernel, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(2, 3, height, width, dtype=torch.float64, generator=g, requires_grad=True) for _ in range(2))
    assert torch.allclose(blur.blur(x, kernel), losses.blur(x, kernel), atol=1e-12)
    distances, expected = (form.color_distance(x, y, kernel) for form in (blur, losses))
    assert distances.shape == (2,) and torch.allclose(distances, expected, rtol=1e-10)
    assert torch.allclose(blur.filtered_distance(x.detach(), y.detach(), kernel), expected, rtol=1e-10)
    for a, b in zip(*(torch.autograd.grad(d.sum(), (x, y)) for d in (distances, expected)), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_blur_stays_float32_in_mixed_precision():
    x, y = torch.rand(2, 3, 30, 30), torch.rand(2, 3, 30, 30)
    with speed.autocast(CPU, torch.bfloat16):
        distances = blur.color_distance(x, y)
    assert distances.dtype == torch.float32 and torch.allclose(distances, losses.color_distance(x, y), rtol=1e-4)
