"""The explorer of the alignment: its views, its scenes, and what it reports of a failure."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from legible import smallest_text
from matplotlib.axes import Axes
from PIL import Image
from reporting import damaged, drag, gesture, taken
from showing import opened

from dped_lib.alignment import extraction, geometry
from dped_lib.base.errors import DpedError
from dped_lib.data import rig
from dped_lib.explorers import alignment as alignment_explorer
from dped_lib.explorers import widgets
from dped_lib.report import figures


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
        ("overlap", f"intersection {alignment.report.overlap:.0%}"),
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
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    words = fig.findobj(Axes)[3].get_title()
    assert f"{window.ncc_before:.3f}, now {window.ncc:.3f}" in words and ("not moved" in words) != window.moved
    assert words.endswith("the DSLR's image; phone in place; phone as kept; DSLR")


def test_the_other_cameras_frame_is_seen_where_it_lies_on_the_crop(aligned):
    aligned.view.value = "overlap"
    image, scale = aligned.look()[0].astype(int), aligned._halves()[1][0]
    corners = aligned.alignment.map.to_phone(geometry.outline(*aligned._pair[1].shape[:2])) * scale
    along = np.linspace(corners, np.roll(corners, -1, 0), 100).reshape(-1, 2).round().astype(int)
    inside = along[(along > 2).all(1) & (along < [image.shape[1] // 2 - 6, image.shape[0] - 3]).all(1)]
    shown = image[inside[:, 1], inside[:, 0]]
    assert len(inside) > 200 and (shown[:, 0] > shown[:, 1]).mean() > 0.97, "orange has more red than green"


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


def test_a_click_on_the_overview_chooses_the_nearest_window(aligned):
    aligned.view.value = "patch"
    windows, (height, width) = aligned.extraction.windows, aligned.look()[0].shape[:2]
    whole = widgets.fit_to_screen(aligned.alignment.dslr, 330, 200)
    scale = whole.shape[1] / aligned.alignment.dslr.shape[1]

    def place(x: float, y: float) -> tuple[float, float]:
        """Return the place of a pixel of the DSLR's image as shares of the whole picture."""
        return scale * x / width, scale * y / height

    for i, window in enumerate(windows):
        drag(aligned, place(window.x + 30, window.y + 70))
        assert aligned.window.value == i and f"Window at ({window.x}, {window.y})" in aligned.numbers.value
    last = windows[-1]
    drag(aligned, place(windows[0].x + 50, windows[0].y + 50), place(last.x + 400, last.y + 400))
    assert aligned.window.value == len(windows) - 1, "the pointer may leave the image"
    gesture(aligned, step=-1)
    assert aligned.window.value == len(windows) - 2
    gesture(aligned, step=9)
    assert aligned.window.value == len(windows) - 1
    drag(aligned, (0.9, 0.1), (0.01, 0.01))
    assert aligned.window.value == len(windows) - 1, "a drag that begins on a patch chooses nothing"
    gesture(aligned, reset=1)
    assert aligned.window.value == alignment_explorer.example_window(windows)
    damaged(aligned)
    assert aligned.window.value == alignment_explorer.example_window(windows)
    aligned.gestures.value = ""


def test_the_window_nearest_to_a_place():
    still = extraction.Window(0, 0, extraction.KEPT, 0.95, 0.95, 0, 0, 0, 20, 0.5)
    row = [dataclasses.replace(still, y=20, x=x) for x in (10, 110, 210)]
    for (x, y), nearest in (((0, 0), 0), ((109, 70), 0), ((111, 70), 1), ((260, 999), 2)):
        assert alignment_explorer.nearest_window(row, x, y) == nearest


def test_a_window_that_was_left_out_moves_no_other_picture(aligned, monkeypatch):
    aligned.view.value = "patch"
    sheet, _ = aligned.look()
    left_out = dataclasses.replace(aligned.extraction, patches=())
    monkeypatch.setattr(aligned, "extraction", left_out)
    other, words = aligned.look()
    differs = (sheet != other).any((0, 2))
    assert sheet.shape == other.shape and "phone as kept (blank: it was left out); DSLR." in words
    columns = np.flatnonzero(differs)
    assert (other[:200, columns[0] : columns[-1] + 1] == 255).all(), "only that place is blank"


def test_a_drag_moves_a_line_between_the_aligned_images(aligned):
    aligned.view.value, aligned.side.value = "blink", "in squares"
    aligned.play.playing = True
    drag(aligned, (0.5, 0.5), (0.25, 0.5))
    assert (aligned.side.value, aligned.line.value, aligned.play.playing) == ("a line", 0.25, False)
    shown = opened(aligned.image.value)
    quarter = shown.shape[1] // 4
    parts = {side: widgets.fit_to_screen(getattr(aligned.alignment, side), 700) for side in ("phone", "dslr")}
    assert np.abs(shown[:, : quarter - 9] - parts["phone"][:, : quarter - 9]).mean() < 3
    assert np.abs(shown[:, quarter + 9 :] - parts["dslr"][:, quarter + 9 :]).mean() < 3
    assert "phone left of the line, DSLR right of it" in aligned.numbers.value
    for step, side in ((-1, "in squares"), (-1, "DSLR"), (-5, "phone"), (9, "a line")):
        gesture(aligned, step=step)
        assert aligned.side.value == side
    gesture(aligned, reset=1)
    assert aligned.side.value == "phone"
    aligned.line.value = 0.75
    assert aligned.side.value == "a line", "the slider shows it, too"


def test_a_drag_and_a_key_in_one_report_both_count(aligned):
    """While the kernel draws, the page merges its reports."""
    aligned.view.value, aligned.side.value = "blink", "phone"
    gesture(aligned, strokes=1, start_x=0.5, start_y=0.5, split=0.3, level=0.5, step=-1)
    assert (aligned.line.value, aligned.side.value) == (0.3, "in squares")
    aligned.view.value = "patch"
    gesture(aligned, strokes=1, start_x=0.01, start_y=0.01, split=0.01, level=0.01)
    first = aligned.window.value
    gesture(aligned, strokes=1, start_x=0.01, start_y=0.01, split=0.01, level=0.01, step=1)
    assert aligned.window.value == first + 1


def test_keys_draw_more_matches_and_nothing_moves_in_the_overlap(aligned):
    aligned.view.value = "matches"
    gesture(aligned, step=2)
    assert aligned.matches.value == 140 and taken(aligned)["cursor"] == ""
    gesture(aligned, reset=1)
    assert aligned.matches.value == 120 and "draw fewer or more matches" in aligned.numbers.value
    aligned.view.value = "overlap"
    before = aligned.image.value, aligned.numbers.value
    drag(aligned, (0.1, 0.1), (0.9, 0.9))
    gesture(aligned, step=1, reset=1)
    assert before == (aligned.image.value, aligned.numbers.value) and not taken(aligned)["keys"]


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
    drag(aligned, (0.1, 0.1))
    assert "too few keypoints" in aligned.numbers.value and not taken(aligned)["cursor"]
    with pytest.raises(DpedError, match="gray: could not be aligned .*too few keypoints"):
        aligned.static()
    aligned.scene.value = "cat"
    aligned.work.wait(60)
    assert aligned.alignment.report.verdict == "aligned"
