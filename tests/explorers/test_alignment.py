"""The explorer of the alignment: its views, its scenes, and what it reports of a failure."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image
from showing import opened

from dped_lib.alignment import extraction
from dped_lib.base.errors import DpedError
from dped_lib.data import rig
from dped_lib.explorers import alignment as alignment_explorer
from dped_lib.explorers import widgets


@pytest.fixture(scope="module")
def aligned():
    names = {"iphone": "iPhone 3GS", "dslr": "Canon 70D"}
    frames = {c: f.image for c, f in rig.shoot("chelsea-a", cameras=("iphone", "dslr")).items()}
    flat = {c: np.full_like(f, 128) for c, f in frames.items()}
    explorer = alignment_explorer.AlignmentExplorer(
        {"cat": frames, "gray": flat}.get, ["cat", "gray"], "iphone", names, (400, 540)
    )
    explorer.work.wait(60)
    return explorer


def test_every_view_of_an_alignment(aligned):
    alignment = aligned.alignment
    pictures = set()
    for view, words in (
        ("matches", f"{alignment.report.matches} matches"),
        ("overlap", f"shared: {alignment.report.overlap:.0%}"),
        ("blink", f"{alignment.report.ncc:.3f}"),
        ("patch", "NCC in place"),
    ):
        aligned.view.value = view
        assert words in aligned.numbers.value
        pictures.add(aligned.image.value)
    assert len(pictures) == 4
    window = aligned.patch()[0]
    fig = aligned.static()
    assert len(fig.findobj(Axes)) == 4
    words = fig.findobj(Axes)[3].get_title()
    assert f"{window.ncc_before:.3f}, now {window.ncc:.3f}" in words and ("not moved" in words) != window.moved
    assert words.endswith("the DSLR's image; phone in place; phone as kept; DSLR")


def test_the_window_shown_first_gained_most_by_being_moved():
    still = extraction.Window(0, 0, extraction.KEPT, 0.95, 0.95, 0, 0, 0, 20, 0.5)
    little = dataclasses.replace(still, ncc=0.96, dx=0.2)
    much = dataclasses.replace(still, ncc=0.98, dy=-0.4)
    left_out = dataclasses.replace(still, verdict=extraction.BELOW, ncc_before=0.1, ncc=0.8, dx=3)
    assert alignment_explorer.example_window([still, little, much, left_out]) == 2
    assert alignment_explorer.example_window([still] * 5) == 2, "none was moved: that in the middle"


def test_blinking_alternates_the_two_aligned_images(aligned):
    aligned.view.value = "blink"
    for frame, image in ((1, aligned.alignment.dslr), (0, aligned.alignment.phone)):
        aligned.play.value = frame
        assert np.abs(opened(aligned.image.value) - widgets.fit_to_screen(image, 700)).mean() < 3


def test_a_patch_has_the_correlation_of_its_two_windows(aligned):
    aligned.view.value = "patch"
    pictures = set()
    for i, window in enumerate(aligned.extraction.windows):
        aligned.window.value = i
        chosen, phone, kept, dslr = aligned.patch()
        assert chosen == window and f"{window.ncc_before:.4f}" in aligned.numbers.value
        gray = [np.asarray(Image.fromarray(p).convert("L")) for p in (phone, dslr)]
        assert extraction.ncc(*gray) == pytest.approx(window.ncc_before, abs=5e-3)
        assert (kept is None) == (window.verdict != extraction.KEPT)
        pictures.add(aligned.image.value)
        whole = widgets.fit_to_screen(aligned.alignment.dslr, 330, 200)
        scale = whole.shape[1] / aligned.alignment.dslr.shape[1]
        left, right = (round(scale * n) for n in (window.x, window.x + 100))
        line = aligned.look()[0][round(scale * (window.y + 50))]
        for edge in (left, right):
            around = line[max(0, edge - 3) : edge + 4].sum(1)
            assert around.max() == 3 * 255 and around.min() == 0, "white, with a black rim"
    assert len(pictures) == len(aligned.extraction.windows)


def test_the_scene_before_is_not_drawn_under_the_next_name():
    """While a scene is aligned, and after it could not be read, another view has nothing to draw."""
    frames = {c: f.image for c, f in rig.shoot("chelsea-a", cameras=("iphone", "dslr")).items()}
    names = {"iphone": "iPhone 3GS", "dslr": "Canon 70D"}
    explorer = alignment_explorer.AlignmentExplorer(
        {"cat": frames}.__getitem__, ["cat", "lost"], "iphone", names, (200, 270)
    )
    explorer.work.wait(60)
    explorer.scene.value = "lost"
    explorer.work.wait(60)
    before = explorer.image.value, explorer.numbers.value
    explorer.view.value = "overlap"
    assert explorer.alignment is None and (explorer.image.value, explorer.numbers.value) == before


def test_another_scene_is_opened_only_after_a_drawing_has_ended(aligned, monkeypatch):
    """A scene is drawn in the background. Opening the next one must not take it away meanwhile."""
    inside, outcome, look = threading.Event(), [], alignment_explorer.AlignmentExplorer.look

    def slow_look(explorer):
        inside.set()
        time.sleep(0.3)
        outcome.append(explorer.alignment is not None)
        return look(explorer)

    monkeypatch.setattr(alignment_explorer.AlignmentExplorer, "look", slow_look)
    drawing = threading.Thread(target=aligned.draw)
    drawing.start()
    assert inside.wait(10)
    aligned.open()
    drawing.join()
    aligned.work.wait(60)
    assert outcome and all(outcome) and aligned.alignment.report.verdict == "aligned"


def test_a_failed_alignment_is_reported(aligned):
    aligned.scene.value = "gray"
    aligned.work.wait(60)
    aligned.view.value = "patch"
    assert "too few keypoints" in aligned.numbers.value
    with pytest.raises(DpedError, match="gray: could not be aligned .*too few keypoints"):
        aligned.static()
    aligned.scene.value = "cat"
    aligned.work.wait(60)
    assert aligned.alignment.report.verdict == "aligned"
