"""An explorer gets every gesture on its pictures, and the page knows which ones it takes."""

import ipywidgets
import pytest
from reporting import damaged, drag, gesture, taken

from dped_lib.explorers import gestures, widgets


class Told:
    """A box of two pictures that keeps every gesture."""

    def __init__(self, uses: gestures.Uses):
        self.widget = ipywidgets.HBox([gestures.listen(widgets.image_widget()) for _ in range(2)])
        self.said: list[gestures.Gesture] = []
        self.gestures = gestures.attach(self.widget, uses, self.said.append)


def test_a_drag_knows_both_coordinates_its_start_and_whether_it_begins():
    told = Told(gestures.Uses(cursor="crosshair"))
    drag(told, (0.2, 0.3), (0.4, 0.1))
    drag(told, (0.4, 0.1))
    assert [(g.drag.x, g.drag.y, g.drag.start, g.drag.begun) for g in told.said] == [
        (0.2, 0.3, (0.2, 0.3), True),
        (0.4, 0.1, (0.2, 0.3), False),
        (0.4, 0.1, (0.4, 0.1), True),
    ], "a click where the last drag ended is a drag, too"
    gesture(told, step=-2, rise=1)
    assert told.said[-1] == gestures.Gesture(None, -2, 1, 0, (0.5, 0.5), 0, 0, False)
    gesture(told, reset=1)
    assert told.said[-1].reset and told.said[-1].step == 0, "the field holds totals, a gesture what is new"


def test_messages_that_the_page_merges_lose_nothing():
    told = Told(gestures.Uses(cursor="crosshair"))
    gesture(told, strokes=2, start_x=0.1, start_y=0.5, split=0.6, level=0.5, step=3)
    (one,) = told.said
    assert (one.drag.start, one.drag.x, one.drag.begun, one.step) == ((0.1, 0.5), 0.6, True, 3)


def test_a_damaged_report_is_no_gesture():
    told = Told(gestures.Uses(cursor="crosshair"))
    damaged(told)
    assert told.said == []


def test_the_page_is_told_what_the_explorer_takes():
    told = Told(gestures.Uses("help", gestures.STEPS, "crosshair"))
    assert all("dped-picture" in picture._dom_classes for picture in told.widget.children[:2])
    keys = {"ArrowLeft": ["step", -1], "ArrowRight": ["step", 1], "0": ["reset", 1]}
    assert taken(told) == {"keys": keys, "cursor": "crosshair", "zooms": False}
    gestures.take(told.gestures, gestures.Uses())
    assert taken(told) == {"keys": {}, "cursor": "", "zooms": False}, "all is left to the page"


@pytest.mark.parametrize("value, step", [(-9, 0.5), (0.26, 0.5), (0.74, 0.5), (99, 2)])
def test_a_slider_stands_on_the_nearest_of_its_steps(value, step):
    slider = widgets.slider("shift", 1, 0.5, 2, 0.5)
    widgets.set_nearest(slider, value)
    assert slider.value == step
