"""Test the drawings of the matching: they show the report's numbers, and residual shifts are measured correctly."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest

from dped_lib import paper
from dped_lib.alignment import aligner, extraction
from dped_lib.data import rig
from dped_lib.report import alignment_drawings


@pytest.fixture(scope="module")
def pair():
    frames = rig.shoot("motorcycle-a", cameras=("sony", "dslr"))
    a, b = frames["sony"].image, frames["dslr"].image
    return a, b, aligner.align(a, b, (400, 540))


def test_every_camera_is_named_and_drawn(pair):
    fig = alignment_drawings.quadruplets([{"sony": pair[0], "dslr": pair[1]}] * 2, {"sony": "Sony", "dslr": "Canon"})
    assert [ax.get_title() for ax in fig.axes] == ["Sony", "Canon", "", ""]
    plt.close(fig)
    fig = alignment_drawings.rig_drawing()
    words = {t.get_text() for t in fig.axes[0].texts} | {t.get_text() for t in fig.axes[1].get_legend().get_texts()}
    assert {c.name for c in paper.CAMERAS.values()} <= words
    plt.close(fig)


def test_the_steps_carry_the_numbers_of_the_report(pair):
    fig = alignment_drawings.matching_steps(*pair, ("Sony", "Canon"))
    words = " ".join(ax.xaxis.label.get_text() + ax.get_title() for ax in fig.axes)
    report = pair[2].report
    assert f"{report.matches} matches" in words and str(report.inliers) in words and "540 x 400" in words
    plt.close(fig)


def test_alignment_halves_the_difference(pair):
    fig = alignment_drawings.alignment_check(*pair)
    scaled, aligned = (float(ax.get_title().split(": ")[1]) for ax in fig.axes[1:3])
    assert aligned < scaled / 2
    plt.close(fig)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (0.5, 0.25)])
def test_the_residual_shift_is_measured(pair, shift):
    image = pair[2].dslr
    moved = cv2.warpAffine(
        image, np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]), image.shape[1::-1], flags=cv2.INTER_CUBIC
    )
    cuts = [(moved[y : y + 100, x : x + 100], image[y : y + 100, x : x + 100]) for y, x in extraction.windows(400, 540)]
    before = [a.copy() for a, _ in cuts]
    assert np.median(alignment_drawings.residual_shifts(cuts)) == pytest.approx(np.hypot(*shift), abs=0.25)
    assert all(np.array_equal(a, b) for (a, _), b in zip(cuts, before, strict=True))


def test_the_distribution_counts_every_window(pair):
    windows = extraction.extract(pair[2]).windows
    fig = alignment_drawings.ncc_distribution({"sony": windows})
    heights = sum(p.get_height() for p in fig.axes[0].patches if hasattr(p, "get_height"))
    assert heights == pytest.approx(100, abs=0.01) and "20 windows" in fig.axes[0].get_title()
    plt.close(fig)
