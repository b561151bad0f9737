"""The explorer of the colour loss computes and draws what the library does."""

import numpy as np
import pytest
import torch
from legible import smallest_text
from reporting import damaged, drag, gesture, taken

from dped_lib import losses
from dped_lib.data import photographs
from dped_lib.experiments import shift_study
from dped_lib.explorers import color_loss as color_loss_explorer
from dped_lib.report import figures


@pytest.fixture(scope="module")
def color(photo):
    one = photographs.Photograph("cat", "iphone", lambda: photo, "cat")
    return color_loss_explorer.ColorLoss({"cat": photo, "turned": photo[:, ::-1]}, shift_study.measure([one], 8))


def test_the_colour_explorer_computes_what_the_library_does(color):
    for name in losses.KERNELS:
        color.kernel.value, color.shift.value = name, 5
        x, y = (torch.from_numpy(i).permute(2, 0, 1)[None] for i in color.pair())
        assert color.mse == pytest.approx(float((y - x).square().mean()), rel=1e-5)
        assert color.color == pytest.approx(float(losses.color_distance(x, y, name)) / x.numel(), rel=1e-6)
        assert f"{color.color:.5f}" in color.numbers.value
    offsets = np.arange(-10, 11)
    taps = losses.kernel_1d(name)
    assert color.sigma.value == pytest.approx(np.sqrt((taps * offsets**2).sum() / taps.sum()), abs=0.006)


def test_a_wide_kernel_of_ones_own_is_narrower_than_its_sigma(color):
    """21 taps hold a Gaussian of 2 px. One of 5 px loses its ends, and keeps the variance within 10 px of the centre."""
    color.kernel.value, color.sigma.value = "own sigma", 2.0
    assert "so its own sigma" not in color.summary()
    color.sigma.value = 5.0
    x = np.arange(-10, 11)
    p = np.exp(-(x**2) / 50)
    assert f"so its own sigma is {np.sqrt((p * x**2).sum() / p.sum()):.2f} px" in color.summary()


def test_dragging_the_shift_changes_pictures_numbers_and_the_point(color):
    color.kernel.value, color.shift.value = "code", 2
    before = color.image.value, color.plot.value, color.numbers.value, color.mse
    color.shift.value = 9
    after = color.image.value, color.plot.value, color.numbers.value, color.mse
    assert all(a != b for a, b in zip(before, after, strict=True)) and after[3] > before[3]
    color.shift.value = 0
    assert color.mse < 1e-6, "nothing is shifted"


def test_the_pictures_are_dragged_to_another_shift(color):
    color.kernel.value, color.shift.value = "code", 10
    drag(color, (0.5, 0.2), (0.55, 0.9))
    assert color.shift.value == 16, "a drag over a twentieth of the width, wherever it begins"
    drag(color, (0.5, 0.2), (0.45, 0.2), (0.5, 0.2))
    assert color.shift.value == 16, "back where it began"
    for to, shift in ((1, 30), (0, 0)):
        drag(color, (0.5, 0.5), (to, 0.5))
        assert color.shift.value == shift, "the slider's ends"
    assert "Shift 0 px" in color.numbers.value and "On the pictures: drag" in color.numbers.value
    assert not taken(color)["zooms"], "the wheel scrolls the page"


def test_keys_change_shift_and_kernel_and_a_double_click_returns_to_the_start(color):
    color.kernel.value, color.shift.value = "sigma3", 10
    gesture(color, step=-3)
    assert (color.shift.value, color.kernel.value, color.sigma.value) == (8.5, "sigma3", 2.99)
    gesture(color, rise=2)
    assert (color.sigma.value, color.kernel.value) == (3.19, "own sigma"), "another width is no named kernel"
    gesture(color, rise=-99)
    assert color.sigma.value == 0.3
    gesture(color, reset=1)
    assert (color.shift.value, color.kernel.value, color.sigma.value) == (3, "code", 4.34)
    damaged(color)
    assert (color.shift.value, color.kernel.value) == (3, "code")


def test_each_curve_and_point_looks_unlike_the_others(color):
    for kernel in (*losses.KERNELS, "own sigma"):
        color.kernel.value, color.shift.value = kernel, 4
        ax = color.static().axes[-1]
        looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.get_lines()]
        assert len(set(looks)) == len(looks) == 6
        gray = {line.get_label() for line in ax.get_lines() if "#" not in line.get_color()}
        assert gray == {f"colour loss, {k}" for k in losses.KERNELS if k != kernel}


def test_dragging_sigma_leaves_the_named_kernels(color):
    color.kernel.value, color.shift.value = "code", 4
    color.sigma.value = 3.0
    assert color.kernel.value == "own sigma"
    x, y = (torch.from_numpy(i).permute(2, 0, 1)[None] for i in color.pair())
    assert color.color == pytest.approx(float(losses.color_distance(x, y, "sigma3")) / x.numel(), rel=1e-6)
    wide = color.color
    color.sigma.value = 1.0
    assert wide < color.color < color.mse, "less blur leaves more of the difference"
    color.kernel.value = "printed"
    assert color.sigma.value == 1.73
    still = color.static()
    axes = still.axes
    assert smallest_text(still) >= figures.SMALLEST_TEXT and still.get_figwidth() <= figures.WIDTH
    assert len(axes) == 5 and max(ax.get_title().count("\n") for ax in axes) == 1, "titles of two lines at most"
    assert "Black and white are differences of -0.25 and +0.25." in color.numbers.value
