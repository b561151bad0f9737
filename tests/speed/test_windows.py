"""The quick statistics of PSNR, SSIM and MS-SSIM are those of the definition."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib import metrics
from dped_lib.speed import windows


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(2, 60),
    width=st.integers(2, 60),
    channels=st.sampled_from((1, 3)),
    seed=st.integers(0, 99),
    spread=st.sampled_from((1.0, 1.3)),
)
def test_statistics_are_those_of_the_definition(height, width, channels, seed, spread):
    """Every field, on any size, whether clipping changes some pairs or none."""
    rng = np.random.default_rng(seed)
    x, y = (torch.from_numpy(rng.random((3, channels, height, width))) for _ in range(2))
    x[1] = (x[1] - 0.5) * spread + 0.5
    y[2] = x[2]
    for field, statistic, expected in zip(
        metrics.PairStatistics.__annotations__,
        windows.batch_statistics(x, y),
        metrics.batch_statistics(x, y),
        strict=True,
    ):
        assert torch.allclose(statistic, expected, rtol=0, atol=1e-11, equal_nan=True), field


def test_statistics_of_large_images_have_five_scales():
    x, y = (torch.rand(2, 3, 163, 178, dtype=torch.float64) * 1.1 for _ in range(2))
    for statistic, expected in zip(windows.batch_statistics(x, y), metrics.batch_statistics(x, y), strict=True):
        assert torch.isfinite(statistic).all() and torch.allclose(statistic, expected, rtol=0, atol=1e-11)
