"""Test the drawings of the matching: they show the report's numbers, and residual shifts are measured correctly."""

import dataclasses
import itertools

import cv2
import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
from legible import SCREEN, smallest_text

from dped_lib import paper
from dped_lib.alignment import aligner, extraction
from dped_lib.data import rig
from dped_lib.report import alignment_drawings, colors, figures

NAMES = {"sony": "Sony Xperia Z", "iphone": "iPhone 3GS"}


@pytest.fixture(scope="module")
def pair():
    frames = rig.shoot("motorcycle-a", cameras=("sony", "dslr"))
    a, b = frames["sony"].image, frames["dslr"].image
    return a, b, aligner.align(a, b, (400, 540))


def test_every_camera_is_named_and_drawn(pair):
    frames = {"sony": pair[0], "dslr": pair[1]}
    fig = alignment_drawings.quadruplets({"motorcycle-a": frames, "again": frames}, {"sony": "Sony", "dslr": "Canon"})
    assert [ax.get_title() for ax in fig.axes] == ["Sony", "Canon", "", ""]
    assert [ax.get_ylabel() for ax in fig.axes] == ["motorcycle-a", "", "again", ""], "each row has its scene's name"
    for _ in range(2):
        fig.draw_without_rendering()
    (sony, canon) = (ax.get_window_extent() for ax in fig.axes[:2])
    assert (sony.y0, sony.y1) == pytest.approx((canon.y0, canon.y1), abs=1), "3:2 and 4:3 have the same height"
    plt.close(fig)
    fig = alignment_drawings.rig_drawing()
    assert {c.name for c in paper.CAMERAS.values()} == {t.get_text() for t in fig.legends[0].get_texts()}
    assert [ax.get_ylabel() for ax in fig.axes] == ["heights of the scene", "", "heights of the scene"]
    assert {ax.get_xlabel() for ax in fig.axes} == {"heights of the scene"}
    plt.close(fig)


def test_cameras_that_overlap_are_enlarged_beside():
    """Figure 2: from above the cameras overlap; enlarged, no camera and no name touches another."""
    figures.use_style()
    fig = alignment_drawings.rig_drawing()
    fig.draw_without_rendering()
    near = fig.axes[1]
    dots = [line for line in near.lines if line.get_marker() == "o"]
    assert len(dots) == len(rig.CAMERA_MODELS)
    places = np.array([near.transData.transform(line.get_xydata()[0]) for line in dots])
    pixels = dots[0].get_markersize() * fig.dpi / 72
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(len(places))
    assert apart.min() > pixels
    boxes = [text.get_window_extent() for text in near.texts]
    assert len(boxes) == len(rig.CAMERA_MODELS) and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert np.ptp([ax._left_title.get_window_extent().y0 for ax in fig.axes]) < 1, "one line of titles"
    assert {line.get_color() for line in dots} == {colors.PHONE_COLORS[c] for c in rig.CAMERA_MODELS}
    readable(fig)


def readable(fig):
    """No text is under 8 points at the width of a column."""
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


@pytest.mark.parametrize(
    ("ncc", "words"),
    [(0.8999, "NCC 0.899, not above 0.9"), (0.9, "NCC 0.900, not above 0.9"), (0.85, "NCC 0.850, not above 0.9")],
)
def test_a_window_below_the_threshold_never_reads_as_the_threshold(ncc, words):
    window = extraction.Window(0, 0, "below threshold", 0.5, ncc, 0, 0, 0, 9, 0.5)
    assert alignment_drawings.window_caption(window) == words
    flat = "flat (too little detail)"
    assert alignment_drawings.window_caption(dataclasses.replace(window, verdict="flat")) == f"{flat}: {words[:9]}"
    assert alignment_drawings.window_caption(dataclasses.replace(window, verdict="flat", ncc=None)) == flat


def test_every_drawing_can_be_read(pair):
    figures.use_style()
    windows = extraction.extract(pair[2]).windows
    patch = np.zeros((100, 100, 3), np.uint8)
    frames = {"motorcycle-a": {"sony": pair[0], "dslr": pair[1]}}
    readable(alignment_drawings.quadruplets(frames, {"sony": "Sony", "dslr": "Canon"}))
    readable(alignment_drawings.matching_steps(*pair, ("Sony", "Canon")))
    readable(alignment_drawings.alignment_check(*pair))
    readable(alignment_drawings.ncc_distribution({"sony": windows, "iphone": windows}, NAMES))
    readable(alignment_drawings.window_pairs([("NCC 0.899, not above 0.9", patch, patch)] * 5, 62))


def test_windows_that_were_left_out_say_whose_they_are():
    figures.use_style()
    patch = np.zeros((100, 100, 3), np.uint8)
    pairs = [("flat (too little detail): NCC 0.899", patch, patch)] * 4
    fig = alignment_drawings.window_pairs(pairs, 1062, names=("BlackBerry Passport", "Canon 70D DSLR"))
    title = fig.get_suptitle()
    assert title == "4 of 1062 windows that were left out: BlackBerry Passport (left) and Canon 70D DSLR (right)"
    fig.draw_without_rendering()
    (above,) = (text.get_window_extent() for text in fig.texts)
    assert above.x0 >= 0 and above.x1 <= fig.bbox.x1
    boxes = [ax.title.get_window_extent() for ax in fig.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= fig.bbox.x1 for box in boxes)
    plt.close(fig)


def test_a_photograph_is_not_drawn_noisier_than_it_is():
    """A photograph that is shrunk to a quarter has a quarter of its pixels' noise, not all of it."""
    figures.use_style()
    noise = np.clip(np.random.default_rng(0).normal(128, 30, (1600, 1600, 1)), 0, 255).astype(np.uint8)
    frames = {"sony": np.repeat(noise, 3, 2)}
    fig = alignment_drawings.quadruplets({"a": {**frames, "dslr": frames["sony"]}}, {"sony": "Sony", "dslr": "Canon"})
    fig.set_dpi(96)
    fig.canvas.draw()
    box = fig.axes[0].get_window_extent()
    drawn = np.asarray(fig.canvas.buffer_rgba())[..., 0]
    height = drawn.shape[0]
    inside = drawn[int(height - box.y1) + 9 : int(height - box.y0) - 9, int(box.x0) + 9 : int(box.x1) - 9]
    assert min(inside.shape) > 200 and inside.std() < 15
    plt.close(fig)


def test_the_steps_carry_the_numbers_of_the_report(pair):
    fig = alignment_drawings.matching_steps(*pair, ("Sony", "Canon"))
    words = " ".join(" ".join(ax.get_xlabel().split()) for ax in fig.axes)
    report = pair[2].report
    assert f"{report.matches} matches" in words and str(report.inliers) in words
    assert f"Resampled ({report.model}) to 540 px wide, 400 high" in words
    assert "width to height 1080:800" in words
    drawn = sum(len(line.get_xdata()) for line in fig.axes[0].lines)
    assert ("drawn" in words) == (drawn < report.matches)
    assert [ax.get_ylabel() for ax in fig.axes] == ["Sony\n{1} px wide, {0} high".format(*pair[0].shape), "", ""] + [
        "Canon\n{1} px wide, {0} high".format(*pair[1].shape),
        "",
        "",
    ], "a row is a camera"
    assert fig.get_figheight() <= SCREEN
    plt.close(fig)


def test_the_other_cameras_frame_is_seen(pair):
    """Figure 4 explains it: it lies within its panel, also where it is beyond the picture, and above the green crop."""
    figures.use_style()
    fig = alignment_drawings.matching_steps(*pair, ("Sony", "Canon"))
    for ax in (fig.axes[1], fig.axes[4]):
        frame, crop = sorted(ax.patches, key=lambda p: -p.get_zorder())
        wanted = [colors.ORANGE, colors.GREEN]
        assert [matplotlib.colors.to_hex(p.get_edgecolor()).upper() for p in (frame, crop)] == wanted
        assert frame.get_zorder() > crop.get_zorder() and frame.get_linestyle() != crop.get_linestyle()
        corners = frame.get_xy()
        for low, high, places in ((*ax.get_xlim(), corners[:, 0]), (*ax.get_ylim()[::-1], corners[:, 1])):
            assert low < places.min() and places.max() < high
    plt.close(fig)
    # Far away it would make the picture small.
    fig, ax = plt.subplots()
    figures.show_picture(ax, pair[0])
    height, width = pair[0].shape[:2]
    alignment_drawings._make_room(ax, np.array([[-9.0 * width, 5], [9 * width, 9 * height]]))
    assert np.ptp(ax.get_xlim()) < 1.3 * width and np.ptp(ax.get_ylim()) < 1.3 * height
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the picture still stands upright"
    plt.close(fig)


def test_matches_that_are_not_drawn_are_told(pair, monkeypatch):
    monkeypatch.setattr(alignment_drawings, "_MAX_DRAWN_MATCHES", 50)
    fig = alignment_drawings.matching_steps(*pair, ("Sony", "Canon"))
    assert f"{pair[2].report.matches} matches, 50 of them drawn" in " ".join(fig.axes[3].get_xlabel().split())
    assert sum(len(line.get_xdata()) for line in fig.axes[0].lines) == 50
    plt.close(fig)


def test_alignment_halves_the_difference(pair):
    fig = alignment_drawings.alignment_check(*pair)
    scaled, aligned = (float(ax.get_title().split("mean difference ")[1]) for ax in fig.axes[1:3])
    assert aligned < scaled / 2
    drawn = fig.axes[2].images[0].get_array()
    assert np.abs(drawn).mean() == pytest.approx(aligned, abs=0.005)
    tilted = np.corrcoef(drawn.ravel(), cv2.cvtColor(pair[2].phone, cv2.COLOR_RGB2GRAY).ravel())[0, 1]
    assert tilted > 0 and "phone minus DSLR" in fig.axes[3].get_ylabel()
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
    fig = alignment_drawings.ncc_distribution({"sony": windows}, NAMES)
    heights = sum(p.get_height() for p in fig.axes[0].patches if hasattr(p, "get_height"))
    assert heights == pytest.approx(100, abs=0.01) and fig.axes[0].get_title() == "Sony Xperia Z:\n20 windows"
    fig.draw_without_rendering()
    first = fig.axes[0].get_xticklabels()[0]
    assert (first.get_text(), first.get_position()[0]) == ("≤ 0.5", 0.5), "its bar holds all that is below"
    plt.close(fig)
