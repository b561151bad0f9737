"""Provide the parts of the notebooks' explorers, and the explorer that compares a photograph before and after.

An explorer has a ``widget`` for JupyterLab. Its method ``static()`` draws the same content as a still figure for
papermill, nbval and GitHub. :func:`show` displays the widget, or the figure in a headless run. Pictures are sent to the
page at screen size, so a step of a slider draws only one screen. Longer work runs in the background
(:class:`Background`), where it can be stopped.
"""

import html
import os
import textwrap
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import cv2
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from dped_lib.base.errors import DpedError
from dped_lib.base.progress import HEADLESS
from dped_lib.explorers import gestures
from dped_lib.report import figures

#: Width of a picture that fills a notebook's width, and the greatest height of a picture, in screen pixels. With its
#: controls above it, a picture of this height fits JupyterLab's window on a screen of 1366 x 768.
WIDE, TALL = 860, 440
_STILL = 560  # the greatest height of the picture in a still figure
_ZOOM_KEYS = {
    "ArrowUp": ("down", -0.1),
    "ArrowDown": ("down", 0.1),
    "Shift+ArrowLeft": ("across", -0.1),
    "Shift+ArrowRight": ("across", 0.1),
    "+": ("zoom", 1),
    "=": ("zoom", 1),  # the key of + without shift
    "-": ("zoom", -1),
}
_USES = gestures.Uses(
    "On the picture: drag the line; turn the wheel to zoom; hold shift and drag to move; double-click to reset. "
    "Keys: left and right move the line, up and down (with shift also left and right) move the picture, + and - zoom, "
    "0 resets.",
    {**gestures.STEPS, **_ZOOM_KEYS},
    cursor="ew-resize",
    zooms=True,
)
_FULL = ipywidgets.Layout(width="100%")


class Explorer(Protocol):
    """Describe an object that :func:`show` can display."""

    widget: ipywidgets.Widget

    def static(self) -> Figure:
        """Draw the explorer's current picture with pyplot."""


def show(explorer: Explorer) -> None:
    """Display an explorer at the end of a cell: its widget, or in a headless run (``DPED_HEADLESS``) its figure."""
    if os.environ.get(HEADLESS):
        explorer.static()  # Jupyter shows open pyplot figures at the end of the cell
    else:
        display(explorer.widget)


def jpeg(image: np.ndarray) -> bytes:
    """Encode an image (uint8 H x W x 3, RGB) as JPEG, which ``ipywidgets.Image`` shows faster than other formats."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def image_widget(format: str = "jpeg") -> ipywidgets.Image:
    """Return an empty image widget for a :func:`jpeg`, or for a file of another format.

    On a narrow page the picture shrinks to the width of the page.
    """
    # Without "flex-start" a box would stretch the picture over its whole width.
    layout = ipywidgets.Layout(max_width="100%", height="auto", align_self="flex-start", object_fit="contain")
    return ipywidgets.Image(format=format, layout=layout)


def slider(label: str, value: float, least: float, most: float, step: float, **more) -> ipywidgets.FloatSlider:
    """Return a slider that shows its whole label and reports its value while it is dragged."""
    style = {"description_width": "initial"}
    layout = ipywidgets.Layout(width="auto", flex="1 1 220px", min_width="200px")
    given = {"style": style, "layout": layout, **more}
    return ipywidgets.FloatSlider(value, min=least, max=most, step=step, description=label, **given)


def set_nearest(slider: ipywidgets.FloatSlider, value: float) -> None:
    """Set a slider to its step nearest to a value. The page would round any other value, and report that as a change."""
    slider.value = min(slider.max, max(slider.min, round(round(value / slider.step) * slider.step, 6)))


def dropdown(label: str, options) -> ipywidgets.Dropdown:
    """Return a dropdown that shows its whole label. Its first option is chosen."""
    style, layout = {"description_width": "initial"}, ipywidgets.Layout(width="auto", max_width="100%")
    return ipywidgets.Dropdown(options=options, description=label, style=style, layout=layout)


def row(*children: ipywidgets.Widget) -> ipywidgets.HBox:
    """Return controls side by side. They wrap on a narrow page."""
    return ipywidgets.HBox(children, layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"))


def note(text: str) -> str:
    """Return plain text as the value of an HTML widget."""
    return f'<div style="line-height:1.4">{html.escape(text)}</div>'


def fit_to_screen(image: np.ndarray, width: int = WIDE, height: int = TALL) -> np.ndarray:
    """Scale an image to the largest size that fits. Shrinking averages; enlarging by 2 or more keeps pixels visible."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 2 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation)


def at_line(left: np.ndarray, right: np.ndarray, split: float) -> np.ndarray:
    """Return ``left`` up to a share of its width, then a white line, then ``right``. Both pictures have one size."""
    column = round(split * left.shape[1])
    image = left.copy()
    image[:, column:] = right[:, column:]
    if 0 < column < image.shape[1]:
        image[:, max(0, column - 1) : column + 1] = 255
    return image


class Stopped(Exception):
    """End the work of a :class:`Background` that was asked to stop."""


class Background:
    """Run one piece of work at a time in a thread, so that the kernel stays free. New work stops the previous one.

    Args:
        failed: is called with a message if the work ends with an error.
    """

    def __init__(self, failed: Callable[[str], None]):
        self._failed = failed
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, work: Callable[[Callable[[], None]], None]) -> None:
        """Start ``work(check)``.

        The work should call ``check()`` about every second, which raises :class:`Stopped` if the work is to end.
        """
        previous, stop = self._thread, threading.Event()
        self._stop.set()
        self._stop = stop

        def check() -> None:
            if stop.is_set():
                raise Stopped

        def run() -> None:
            if previous is not None:
                previous.join()
            try:
                check()
                work(check)
            except Stopped:
                pass
            except DpedError as error:
                self._failed(str(error))
            except Exception as error:  # an error that a thread raises would go unnoticed
                self._failed(f"{type(error).__name__}: {error}")

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the work to end. Unfinished work is dropped."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the work has ended, or for ``seconds``."""
        if self._thread is not None:
            self._thread.join(seconds)


# ---------------------------------------------------------------------------------------------- before and after


class BeforeAfter:
    """Show two versions of a whole photograph, left and right of a line that can be dragged, with zoom and pan.

    Args:
        photographs: name -> version ("original", "ours", ...) -> uint8 H x W x 3, RGB. Versions that differ in size
            from the first are left out, because they cannot lie over it (an unaligned DSLR photograph, for example).
        origins: version -> whose photograph or network it is, for the caption. Default: the version's name.

    Raises:
        DpedError: there is no photograph, or one has fewer than two versions of one size.
    """

    def __init__(
        self, photographs: Mapping[str, Mapping[str, np.ndarray]], origins: Mapping[str, str] = MappingProxyType({})
    ):
        self.origins = origins
        self.photographs = {name: _of_one_size(name, versions) for name, versions in photographs.items()}
        if not self.photographs:
            raise DpedError("no photograph to show before and after.")
        self.photograph = dropdown("photograph", list(self.photographs))
        self.left, self.right = dropdown("left", []), dropdown("right", [])
        self.split = slider("before | after", 0.5, 0, 1, 0.005, readout=False)
        self.split.layout = _FULL
        self.zoom = slider("zoom", 1, 1, 16, 0.05)
        self.across, self.down = slider("pan across", 0.5, 0, 1, 0.001), slider("pan down", 0.5, 0, 1, 0.001)
        self.image = gestures.listen(image_widget())
        self.caption, self.numbers = ipywidgets.HTML(), ipywidgets.HTML()
        self.photograph.observe(lambda _: self._offer(), "value")
        for control in (self.left, self.right, self.split, self.zoom, self.across, self.down):
            control.observe(lambda _: self._draw(), "value")
        top = row(self.photograph, self.left, self.right)
        tools = row(self.zoom, self.across, self.down)
        self.widget = ipywidgets.VBox([top, tools, self.split, self.caption, self.image, self.numbers])
        self.gestures = gestures.attach(self.widget, _USES, self._take)
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-before-after")
        self._offer()

    def _offer(self) -> None:
        names = list(self.photographs[self.photograph.value])
        self._offering = True  # draw nothing until all choices are set
        self.left.options, self.right.options = names, names
        self.left.value, self.right.value = names[0], names[1]
        self._offering = False
        self._draw()

    def _take(self, gesture: gestures.Gesture) -> None:
        """Set the sliders to the result of a gesture, and draw once."""
        self._offering = True
        if gesture.reset:
            self.split.value, self.zoom.value, self.across.value, self.down.value = 0.5, 1, 0.5, 0.5
        else:
            split = self.split.value if gesture.drag is None else gesture.drag.x
            set_nearest(self.split, split + 0.02 * gesture.step)
            self._zoom_and_pan(gesture)
        self._offering = False
        self._draw()

    def _zoom_and_pan(self, gesture: gestures.Gesture) -> None:
        """Move the picture, and zoom around the pointer."""
        y, x, h, w = self.region()
        fixed = y + gesture.at[1] * h + gesture.down * h, x + gesture.at[0] * w + gesture.across * w
        set_nearest(self.zoom, self.zoom.value * 2 ** (gesture.zoom / 4))
        height, width = self._versions()[0].shape[:2]
        _, _, h, w = self.region()
        if h < height:
            set_nearest(self.down, (fixed[0] - gesture.at[1] * h) / (height - h))
        if w < width:
            set_nearest(self.across, (fixed[1] - gesture.at[0] * w) / (width - w))

    def region(self) -> tuple[int, int, int, int]:
        """Return the visible part of the photograph: top, left, height, width in its pixels."""
        height, width = self._versions()[0].shape[:2]
        h, w = max(1, round(height / self.zoom.value)), max(1, round(width / self.zoom.value))
        return round(self.down.value * (height - h)), round(self.across.value * (width - w)), h, w

    def view(self, tall: int = TALL) -> np.ndarray:
        """Return the visible picture (uint8 h x w x 3): ``left`` up to the slider, a white line, then ``right``."""
        y, x, h, w = self.region()
        left, right = (fit_to_screen(version[y : y + h, x : x + w], WIDE, tall) for version in self._versions())
        return at_line(left, right, self.split.value)

    def static(self) -> Figure:
        """Draw the photograph as on the screen, and both versions of the part chosen by the pan sliders, at zoom 4."""
        height, width = self._versions()[0].shape[:2]
        fig = plt.figure(figsize=(figures.WIDTH, 0.73 * figures.WIDTH * height / width + 0.4))
        axes = fig.subplot_mosaic([["whole", "before"], ["whole", "after"]], width_ratios=(2.2, 1))
        names = {"before": _over_detail(self.left.value), "after": _over_detail(self.right.value)}
        names["whole"] = f"{self.photograph.value}: {self.left.value} | {self.right.value}"
        images = {"whole": self.view(_STILL), **dict(zip(("before", "after"), self._cuts(), strict=True))}
        for key, ax in axes.items():
            ax.imshow(images[key])
            ax.set_title(names[key], fontsize=9)
            ax.set_axis_off()
        return fig

    def crops(self) -> Figure:
        """Draw only both versions of the part chosen by the pan sliders, at zoom 4, side by side."""
        cuts = self._cuts()
        size = figures.WIDTH, figures.WIDTH / 2 * cuts[0].shape[0] / cuts[0].shape[1] + 0.6
        fig, axes = plt.subplots(1, 2, figsize=size)
        for ax, cut, name in zip(axes, cuts, (self.left.value, self.right.value), strict=True):
            ax.imshow(cut)
            ax.set_title(_over_detail(name), fontsize=9)
            ax.set_axis_off()
        return fig

    def _cuts(self) -> list[np.ndarray]:
        """Return a quarter of the height and width of both versions, at the place of the pan sliders."""
        height, width = self._versions()[0].shape[:2]
        y, x = (round(c.value * 0.75 * n) for c, n in ((self.down, height), (self.across, width)))
        return [version[y : y + height // 4, x : x + width // 4] for version in self._versions()]

    def _versions(self) -> tuple[np.ndarray, np.ndarray]:
        versions = self.photographs[self.photograph.value]
        return versions[self.left.value], versions[self.right.value]

    def _draw(self) -> None:
        if self._offering:
            return
        for pan in (self.across, self.down):
            pan.disabled = self.zoom.value == 1
        (self.widget.remove_class if self.zoom.value == 1 else self.widget.add_class)("dped-zoomed")
        left, right = (self.origins.get(v, v) for v in (self.left.value, self.right.value))
        self.caption.value = note(f"Left of the line: {left}. Right of it: {right}.")
        self.image.value = jpeg(self.view())
        y, x, h, w = self.region()
        height, width = self._versions()[0].shape[:2]
        before, after = (cv2.mean(v[y : y + h, x : x + w])[:3] for v in self._versions())
        self.numbers.value = note(
            f"Shown: {w} x {h} of {width} x {height} pixels, from ({x}, {y}). Mean colour of this part (R, G, B): "
            f"{self.left.value} {_rounded(before)}, {self.right.value} {_rounded(after)}."
        ) + note(_USES.help)


def _over_detail(name: str) -> str:
    """Return the title of a part of a version, in lines that its narrow picture has room for.

    Of "enhanced by NETWORK" only "enhanced" is left, because the title of the whole photograph names the network.
    """
    return textwrap.fill(f"{name.split(' by ')[0]}, zoom 4", 34, break_on_hyphens=False)


def _of_one_size(name: str, versions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the versions that have the size of the first one."""
    shape = next(iter(versions.values())).shape if versions else None
    kept = {key: v for key, v in versions.items() if v.shape == shape}
    if len(kept) < 2:
        raise DpedError(f"{name}: fewer than two versions of one size, so there is no before and after.")
    return kept


def _rounded(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.1f}" for v in values)
