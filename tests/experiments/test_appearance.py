"""Colour and sharpness of enhanced pictures: made-up images with known answers."""

import numpy as np
import pytest
import torch
from torch import nn

from dped_lib.enhance import evaluation
from dped_lib.experiments import appearance


def test_colour_difference_sees_colour_and_not_texture():
    rng = np.random.default_rng(0)
    grey = np.full((60, 60, 3), 0.5)
    assert appearance.color_difference(grey, grey) == 0
    noisy = grey + rng.normal(0, 0.05, grey.shape)
    assert (
        appearance.color_difference(noisy, grey)
        < 0.2 * appearance.deltaE_ciede2000(*map(appearance.rgb2lab, (noisy, grey))).mean()
    )
    assert appearance.color_difference(grey + (0.1, 0, -0.1), grey) > 10


def test_sharpness_is_a_ratio():
    rng = np.random.default_rng(0)
    image = 0.5 + rng.uniform(-0.2, 0.2, (50, 50, 3))
    assert appearance.sharpness(image, image) == 1
    assert appearance.sharpness(0.5 + (image - 0.5) / 2, image) == pytest.approx(0.5)
    assert np.isnan(appearance.sharpness(image, np.full_like(image, 0.3)))


def test_looks_are_compared_on_the_same_pairs(store):
    class Warm(nn.Module):
        def forward(self, x):
            return x + torch.tensor((0.1, 0.0, -0.1))[:, None, None]

    index = store.index("test")
    values = {
        name: np.concatenate(evaluation.measure_pairs(network, store, index, appearance.measure_batch))
        for name, network in (("plain", nn.Identity()), ("warm", Warm()))
    }
    looks, differences = appearance.compare_looks("iphone", store.photographs[index], values, 200)
    value = {(k.column, k.measure): k for k in looks}
    assert value["warm", "colour deviation"].value > value["plain", "colour deviation"].value + 5
    assert value["plain", "sharpness"].value < 0.8  # the phone's are smoothed
    by_measure = {d.measure: d for d in differences}
    assert by_measure["colour deviation"].interval[1] < 0
    frame = appearance.looks_frame(looks, "rig")
    assert set(frame.columns) == {"phone", "loss", *appearance.LOOK_MEASURES}
    assert set(frame["phone"]) == {"iPhone 3GS"}
