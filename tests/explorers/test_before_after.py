"""The slider between two versions of a photograph: what it shows, its gestures and its captions."""

import numpy as np
import pytest
from legible import smallest_text
from reporting import gesture
from showing import opened

from dped_lib.base.errors import DpedError
from dped_lib.explorers import widgets
from dped_lib.report import figures


def test_the_slider_shows_one_version_left_and_the_other_right(photo):
    other = 255 - photo
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": other, "DSLR": photo[:-9]}})
    assert explorer.right.options == ("original", "ours"), "a version of another size cannot lie over it"
    explorer.split.value = 1
    assert (explorer.view() == widgets.fit_to_screen(photo)).all()
    explorer.split.value = 0
    assert (explorer.view() == widgets.fit_to_screen(other)).all()
    assert np.abs(opened(explorer.image.value) - widgets.fit_to_screen(other)).mean() < 3, "the page gets that picture"
    explorer.split.value = 0.25
    quarter = explorer.view().shape[1] // 4
    assert (explorer.view()[:, : quarter - 2] == widgets.fit_to_screen(photo)[:, : quarter - 2]).all()
    assert (explorer.view()[:, quarter + 2 :] == widgets.fit_to_screen(other)[:, quarter + 2 :]).all()


def test_zoom_and_pan_choose_the_part(photo):
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": 255 - photo}})
    height, width = photo.shape[:2]
    assert explorer.region() == (0, 0, height, width) and explorer.across.disabled
    explorer.zoom.value, explorer.across.value, explorer.down.value = 4, 1, 0
    y, x, h, w = explorer.region()
    assert (y, x + w) == (0, width) and abs(h - height / 4) <= 1 and not explorer.across.disabled
    explorer.split.value = 1
    assert (explorer.view() == widgets.fit_to_screen(photo[:h, x:])).all()
    mean = photo[:h, x:].reshape(-1, 3).mean(0)
    assert " ".join(f"{v:.1f}" for v in mean) in explorer.numbers.value


def test_the_picture_is_dragged_zoomed_moved_and_reset(photo):
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": 255 - photo}})
    height, width = photo.shape[:2]
    gesture(explorer, split=0.25)
    assert explorer.split.value == 0.25
    gesture(explorer, step=-2)
    assert explorer.split.value == pytest.approx(0.21), "the arrow keys move the line"
    for x, y in ((0.3, 0.8), (0.6, 0.5)):
        top, left, h, w = explorer.region()
        under = top + y * h, left + x * w
        gesture(explorer, zoom=4, x=x, y=y)
        top, left, h, w = explorer.region()
        assert (top + y * h, left + x * w) == pytest.approx(under, abs=1.5), "what lies under the pointer stays there"
    assert explorer.zoom.value == 4 and h == round(height / 4)
    before = explorer.region()
    gesture(explorer, across=0.5, down=-0.25)
    assert explorer.region()[1] - before[1] == pytest.approx(0.5 * w, abs=1.5)
    assert explorer.region()[0] - before[0] == pytest.approx(-0.25 * h, abs=1.5)
    assert "dped-zoomed" in explorer.widget._dom_classes
    gesture(explorer, zoom=-40)
    assert explorer.region() == (0, 0, height, width) and "dped-zoomed" not in explorer.widget._dom_classes
    gesture(explorer, zoom=3, x=0, y=0)
    gesture(explorer, reset=1)
    assert explorer.region() == (0, 0, height, width) and explorer.split.value == 0.5
    for damaged in ("{", "[1]", '{"zoom": "x"}'):
        explorer.gestures.value = damaged
    assert explorer.region() == (0, 0, height, width)


def test_the_caption_says_whose_version_is_on_which_side(photo):
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": 255 - photo}}, {"ours": "the authors' network"})
    assert "Left of the line: original. Right of it: the authors&#x27; network." in explorer.caption.value
    explorer.left.value = "ours"
    assert "Left of the line: the authors" in explorer.caption.value


def test_another_photograph_offers_its_own_versions(photo):
    small = photo[:100, :120]
    explorer = widgets.BeforeAfter({"a": {"x": photo, "y": photo}, "b": {"p": small, "q": 255 - small}})
    explorer.photograph.value = "b"
    assert (explorer.left.value, explorer.right.value) == ("p", "q")
    assert "120 x 100 pixels" in explorer.numbers.value
    still = explorer.static()
    assert len(still.axes) == 3
    assert smallest_text(still) >= figures.SMALLEST_TEXT and still.get_figwidth() <= figures.WIDTH
    with pytest.raises(DpedError, match="b: fewer than two versions"):
        widgets.BeforeAfter({"b": {"p": small, "q": photo}})
