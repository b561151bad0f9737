"""What the notebooks' live explorers share, and the first of them: a slider between a photograph before and after.

An explorer has a ``widget`` for a live JupyterLab and ``static()``, the same as a still figure, for papermill, nbval and GitHub;
:func:`show` displays whichever it is the place for. Pictures go to the page at screen size, so that no drag of a slider waits
for more than the drawing of one screen; what takes longer runs beside the kernel (:class:`Background`) and can be stopped.
"""

import html
import os
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import cv2
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from dped_lib.base.errors import DpedError
from dped_lib.base.progress import HEADLESS

#: Screen pixels: a picture of the whole width of a notebook, and the most in height.
WIDE, TALL = 860, 560
_FULL = ipywidgets.Layout(width="100%")


class Explorer(Protocol):
    """What :func:`show` takes."""

    widget: ipywidgets.Widget

    def static(self) -> Figure:
        """The explorer's picture as it stands, drawn with pyplot."""


def show(explorer: Explorer) -> None:
    """Displays an explorer at the end of a cell: its widget, or in a headless run (``DPED_HEADLESS``) its still figure."""
    if os.environ.get(HEADLESS):
        explorer.static()  # pyplot's own figures appear at the end of the cell
    else:
        display(explorer.widget)


def jpeg(image: np.ndarray) -> bytes:
    """uint8 H x W x 3, RGB, as a JPEG file in memory: what an ``ipywidgets.Image`` shows soonest."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def picture() -> ipywidgets.Image:
    """An empty place for a :func:`jpeg`, shown at its own size, or narrower where the page is."""
    return ipywidgets.Image(format="jpeg", layout=ipywidgets.Layout(max_width="100%", object_fit="contain"))


def slider(label: str, value: float, least: float, most: float, step: float, **more) -> ipywidgets.FloatSlider:
    """A slider whose label is not cut off, and which answers while it is dragged."""
    style = {"description_width": "initial"}
    layout = ipywidgets.Layout(width="auto", flex="1 1 220px", min_width="200px")
    given = {"style": style, "layout": layout, **more}
    return ipywidgets.FloatSlider(value, min=least, max=most, step=step, description=label, **given)


def dropdown(label: str, options) -> ipywidgets.Dropdown:
    """A choice whose label is not cut off; the first option is chosen."""
    style, layout = {"description_width": "initial"}, ipywidgets.Layout(width="auto", max_width="100%")
    return ipywidgets.Dropdown(options=options, description=label, style=style, layout=layout)


def row(*children: ipywidgets.Widget) -> ipywidgets.HBox:
    """Controls side by side, below each other where the page is narrow."""
    return ipywidgets.HBox(children, layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"))


def note(words: str) -> str:
    """Plain words as the value of an HTML widget."""
    return f'<div style="line-height:1.4">{html.escape(words)}</div>'


def fit(image: np.ndarray, width: int = WIDE, height: int = TALL) -> np.ndarray:
    """The image scaled to the largest size that fits: averaged where it shrinks, its pixels left visible where it grows."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 2 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=how)


class Stopped(Exception):
    """Raised in a :class:`Background` work that was asked to stop."""


class Background:
    """Runs one piece of work at a time beside the kernel. A new one stops the one before it.

    Args:
        failed: hears, in words, why a work did not come to its end.
    """

    def __init__(self, failed: Callable[[str], None]):
        self._failed = failed
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[Callable[[], None]], None]) -> None:
        """Begins ``work(check)``; it calls ``check()`` every second or so, which raises :class:`Stopped` when it is to end."""
        before, stop = self._thread, threading.Event()
        self._stop.set()
        self._stop = stop

        def check() -> None:
            if stop.is_set():
                raise Stopped

        def run() -> None:
            if before is not None:
                before.join()
            try:
                check()
                work(check)
            except Stopped:
                pass
            except DpedError as error:
                self._failed(str(error))
            except Exception as error:  # nobody sees what a thread raises
                self._failed(f"{type(error).__name__}: {error}")

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks the work to end; what it had not finished is dropped."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Returns when the work has ended, or after ``seconds``."""
        if self._thread is not None:
            self._thread.join(seconds)


# ---------------------------------------------------------------------------------------------- before and after


class BeforeAfter:
    """Two versions of a whole photograph under one slider, with zoom and pan.

    Args:
        photographs: name -> version ("original", "ours", ...) -> uint8 H x W x 3, RGB. Versions of another size than the
            first (a DSLR's, which is not aligned) cannot lie over it and are left out; two at least must be left.

    Raises:
        DpedError: no photograph, or one with fewer than two versions of one size.
    """

    def __init__(self, photographs: Mapping[str, Mapping[str, np.ndarray]]):
        self.photographs = {name: _alike(name, versions) for name, versions in photographs.items()}
        if not self.photographs:
            raise DpedError("no photograph to show before and after.")
        self.photograph = dropdown("photograph", list(self.photographs))
        self.left, self.right = dropdown("left", []), dropdown("right", [])
        self.split = slider("before | after", 0.5, 0, 1, 0.005, readout=False)
        self.split.layout = _FULL
        self.zoom = slider("zoom", 1, 1, 16, 0.25)
        self.across, self.down = slider("pan across", 0.5, 0, 1, 0.005), slider("pan down", 0.5, 0, 1, 0.005)
        self.image, self.numbers = picture(), ipywidgets.HTML()
        self._offering = False
        self._offer()
        self.photograph.observe(lambda _: self._offer(), "value")
        for control in (self.left, self.right, self.split, self.zoom, self.across, self.down):
            control.observe(lambda _: self._draw(), "value")
        top = row(self.photograph, self.left, self.right)
        self.widget = ipywidgets.VBox(
            [top, self.split, self.image, row(self.zoom, self.across, self.down), self.numbers]
        )
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-before-after")

    def _offer(self) -> None:
        names = list(self.photographs[self.photograph.value])
        self._offering = True  # nothing is drawn from half of the new choices
        self.left.options, self.right.options = names, names
        self.left.value, self.right.value = names[0], names[1]
        self._offering = False
        self._draw()

    def region(self) -> tuple[int, int, int, int]:
        """The part of the photograph that is shown: top, left, height, width in its pixels."""
        height, width = self._versions()[0].shape[:2]
        h, w = max(1, round(height / self.zoom.value)), max(1, round(width / self.zoom.value))
        return round(self.down.value * (height - h)), round(self.across.value * (width - w)), h, w

    def view(self) -> np.ndarray:
        """What is on the screen: ``left`` up to the slider, a white line, then ``right`` (uint8 h x w x 3)."""
        y, x, h, w = self.region()
        shown, after = (fit(version[y : y + h, x : x + w]) for version in self._versions())
        at = round(self.split.value * shown.shape[1])
        shown = shown.copy()
        shown[:, at:] = after[:, at:]
        if 0 < at < shown.shape[1]:
            shown[:, max(0, at - 1) : at + 1] = 255
        return shown

    def static(self) -> Figure:
        """The photograph under the slider's middle, and a quarter of it at the place that is panned to, in both versions."""
        before, after = self._versions()
        y, x = (round(c.value * 0.75 * s) for c, s in zip((self.down, self.across), before.shape[:2], strict=True))
        cut = np.s_[y : y + before.shape[0] // 4, x : x + before.shape[1] // 4]
        fig = plt.figure(figsize=(9, 6.6 * before.shape[0] / before.shape[1] + 0.3))
        axes = fig.subplot_mosaic([["whole", "before"], ["whole", "after"]], width_ratios=(2.05, 1))
        names = {"before": f"{self.left.value}, zoom 4", "after": f"{self.right.value}, zoom 4"}
        names["whole"] = f"{self.photograph.value}: {self.left.value} | {self.right.value}"
        shown = {"whole": self.view(), "before": before[cut], "after": after[cut]}
        for key, ax in axes.items():
            ax.imshow(shown[key])
            ax.set_title(names[key], fontsize=9)
            ax.set_axis_off()
        return fig

    def _versions(self) -> tuple[np.ndarray, np.ndarray]:
        versions = self.photographs[self.photograph.value]
        return versions[self.left.value], versions[self.right.value]

    def _draw(self) -> None:
        if self._offering:
            return
        for pan in (self.across, self.down):
            pan.disabled = self.zoom.value == 1
        self.image.value = jpeg(self.view())
        y, x, h, w = self.region()
        height, width = self._versions()[0].shape[:2]
        before, after = (cv2.mean(v[y : y + h, x : x + w])[:3] for v in self._versions())
        self.numbers.value = note(
            f"Shown: {w} x {h} of {width} x {height} pixels, from ({x}, {y}). Mean colour of this part (R, G, B): "
            f"{self.left.value} {_rounded(before)}, {self.right.value} {_rounded(after)}."
        )


def _alike(name: str, versions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    shape = next(iter(versions.values())).shape if versions else None
    kept = {key: v for key, v in versions.items() if v.shape == shape}
    if len(kept) < 2:
        raise DpedError(f"{name}: fewer than two versions of one size, so there is no before and after.")
    return kept


def _rounded(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.1f}" for v in values)
