"""What every explorer takes: it is shown live or still, works in the background, and fits the screen."""

import threading
import time

import matplotlib.pyplot as plt
import numpy as np

from dped_lib.explorers import widgets


class Small:
    def __init__(self):
        import ipywidgets

        self.widget, self.drawn = ipywidgets.HTML("live"), 0

    def static(self):
        self.drawn += 1
        return plt.figure()


def test_show_is_live_in_a_notebook_and_still_in_a_headless_run(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    small = Small()
    monkeypatch.setenv("DPED_HEADLESS", "")
    widgets.show(small)
    assert shown == [small.widget] and not small.drawn
    monkeypatch.setenv("DPED_HEADLESS", "1")
    widgets.show(small)
    assert len(shown) == 1 and small.drawn == 1


def test_background_runs_one_work_at_a_time_and_reports_errors():
    said, order, go = [], [], threading.Event()
    work = widgets.Background(said.append)

    def long(check):
        order.append("long")
        while True:
            go.set()
            check()
            time.sleep(0.01)

    work.start(long)
    assert go.wait(10)
    work.start(lambda check: order.append("second"))
    work.wait(10)
    assert order == ["long", "second"]
    work.start(lambda check: 1 / 0)
    work.wait(10)
    assert said == ["ZeroDivisionError: division by zero"]


def test_fit_fills_the_screen_without_changing_the_shape():
    wide = widgets.fit_to_screen(np.zeros((300, 1000, 3), np.uint8))
    assert wide.shape == (round(300 * widgets.WIDE / 1000), widgets.WIDE, 3)
    assert widgets.fit_to_screen(np.zeros((1000, 300, 3), np.uint8)).shape[0] == widgets.TALL
    pixels = widgets.fit_to_screen(np.array([[[0] * 3, [255] * 3]], np.uint8), 8, 8)
    assert set(np.unique(pixels)) == {0, 255}, "pixels stay visible where they are enlarged"
