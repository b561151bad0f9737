"""Explore the alignment of one pair of photographs at a time (sections 2 and 3.2.1)."""

import threading
from collections.abc import Callable, Mapping, Sequence

import cv2
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dped_lib import paper
from dped_lib.alignment import aligner, extraction, geometry
from dped_lib.base.errors import DpedError
from dped_lib.explorers import gestures
from dped_lib.explorers.widgets import (
    WIDE,
    Background,
    at_line,
    dropdown,
    fit_to_screen,
    image_widget,
    jpeg,
    note,
    row,
    set_nearest,
    slider,
)
from dped_lib.paper import PATCH_SIZE
from dped_lib.report import figures

_GAP = 8
_VIEWS = ("matches", "overlap", "blink", "patch")
_KEPT = "phone as kept"
_PARTS = ("the DSLR's image", "phone in place", _KEPT, "DSLR")  # of the view "patch"
_LINE = "a line"
_SIDES = ("phone", "DSLR", "in squares", _LINE)
_DRAWN = 120  # the number of matches drawn at the start
_NOTHING = gestures.Uses()
_USES = {
    "matches": gestures.Uses(
        f"On the picture: double-click for {_DRAWN} matches again. "
        "Keys, after a click on it: left and right draw fewer or more matches, 0 resets.",
        gestures.STEPS,
    ),
    "blink": gestures.Uses(
        "On the picture: drag a line between the phone (left) and the DSLR (right); double-click for the phone alone. "
        "Keys: left and right change what is shown, 0 resets.",
        gestures.STEPS,
        cursor="ew-resize",
    ),
    "patch": gestures.Uses(
        "On the DSLR's image: click or drag to choose the nearest window; double-click for the one shown first. "
        "Keys: left and right choose the previous or next window, 0 resets.",
        gestures.STEPS,
        cursor="crosshair",
    ),
}
_INLIER, _OUTLIER, _CROP = (86, 180, 233), (230, 159, 0), (0, 158, 115)


class AlignmentExplorer:
    """Show how one pair of photographs was aligned: matches, intersection, the two aligned images, and any patch.

    Aligning another scene takes a second or two and runs in the background. Everything else takes effect at once.

    Args:
        load: scene -> camera -> photograph, uint8 H x W x 3, RGB (``photographs.scene``); the DSLR is ``dslr``.
        scenes: names of the scenes. The first one is shown first.
        phone: the other camera.
        names: camera -> the name that readers see.
        size: height x width of the aligned images.

    Attributes:
        alignment: the alignment of the shown scene, or None.
        extraction: windows and patches of that alignment, or None.
        widget: the explorer for a live notebook.
    """

    def __init__(
        self,
        load: Callable[[str], Mapping[str, np.ndarray]],
        scenes: Sequence[str],
        phone: str,
        names: Mapping[str, str],
        size: tuple[int, int],
    ):
        self._load, self.phone, self.size = load, phone, size
        self.names = names[phone], names["dslr"]
        self.alignment: aligner.Alignment | None = None
        self.extraction: extraction.Extraction | None = None
        self._pair: tuple[np.ndarray, np.ndarray] = ()
        self._sheet = (1, 1)  # height x width of the drawn picture
        self.scene = dropdown("scene", list(dict.fromkeys(scenes)))
        self.view = ipywidgets.ToggleButtons(options=_VIEWS)
        self.view.style.button_width = "auto"
        self.matches = slider("matches drawn", _DRAWN, 0, 600, 10, readout_format="d")
        self.side = ipywidgets.ToggleButtons(options=_SIDES)
        self.side.style.button_width = "auto"
        self.play = ipywidgets.Play(min=0, max=1, interval=600, repeat=True, show_repeat=False)
        self.line = slider("phone | DSLR", 0.5, 0, 1, 0.005, readout=False)
        self.window = slider("patch", 0, 0, 1, 1, readout_format="d")
        self.image, self.numbers = gestures.listen(image_widget()), ipywidgets.HTML()
        self.work = Background(self._show_text)
        self._drawing = threading.RLock()  # what is drawn is not replaced meanwhile
        self._controls_of = {
            "matches": [self.matches],
            "overlap": [],
            "blink": [self.play, self.side, self.line],
            "patch": [self.window],
        }
        self._controls = row()
        self.widget = ipywidgets.VBox([row(self.scene, self.view), self._controls, self.image, self.numbers])
        self.gestures = gestures.attach(self.widget, _NOTHING, self._take)
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-alignment")
        self.scene.observe(lambda _: self.open(), "value")
        self.play.observe(lambda change: setattr(self.side, "value", self.side.options[change["new"]]), "value")
        self.line.observe(lambda _: self._show_line(), "value")
        for control in (self.view, self.matches, self.side, self.window):
            control.observe(lambda _: self.draw(), "value")
        self.open()

    def open(self) -> None:
        """Align the chosen scene in the background."""
        name = self.scene.value
        self.work.stop()
        with self._drawing:
            self.alignment = self.extraction = None  # another view must not draw the scene before
            self._show_text(f"{name}: aligning ...")

        def work(check: Callable[[], None]) -> None:
            images = self._load(name)
            pair = images[self.phone], images["dslr"]
            check()
            aligned = aligner.align(*pair, self.size)
            check()
            extracted = extraction.extract(aligned) if aligned.phone is not None else None
            with self._drawing:
                check()
                self._pair, self.alignment, self.extraction = pair, aligned, extracted
                if extracted:
                    self.window.max = len(extracted.windows) - 1
                    self.window.value = example_window(extracted.windows)
                self.draw()

        self.work.start(work)

    def _show_text(self, text: str) -> None:
        """Show a text, and let the picture take the gestures of the view."""
        uses = self._uses()
        gestures.take(self.gestures, uses)
        self.text, self.numbers.value = text, note(text) + note(uses.help)

    def _uses(self) -> gestures.Uses:
        """Return the gestures that the picture takes now."""
        shown = self.alignment is not None and (self.alignment.phone is not None or self.view.value == "matches")
        return _USES.get(self.view.value, _NOTHING) if shown else _NOTHING

    def _show_line(self) -> None:
        """Draw the phone's image left of the line and the DSLR's right of it, and stop showing them in turns."""
        self.play.playing = False
        if self.side.value == _LINE:
            self.draw()
        else:
            self.side.value = _LINE  # its observer draws

    def _take(self, gesture: gestures.Gesture) -> None:
        """Set the controls of the view to the result of a gesture; their observers draw.

        A page may report a drag and a key at once. Then both count.
        """
        with self._drawing:
            if self._uses() is not _NOTHING:
                getattr(self, f"_take_{self.view.value}")(gesture)

    def _take_matches(self, gesture: gestures.Gesture) -> None:
        drawn = _DRAWN if gesture.reset else self.matches.value + gesture.step * self.matches.step
        set_nearest(self.matches, drawn)

    def _take_blink(self, gesture: gestures.Gesture) -> None:
        self.play.playing = False
        if gesture.drag is not None:
            set_nearest(self.line, gesture.drag.x)
            self.side.value = _LINE
        if gesture.step:
            place = _SIDES.index(self.side.value) + round(gesture.step)
            self.side.value = _SIDES[min(len(_SIDES) - 1, max(0, place))]
        if gesture.reset:
            self.side.value = _SIDES[0]

    def _take_patch(self, gesture: gestures.Gesture) -> None:
        windows = self.extraction.windows
        if gesture.drag is not None:
            overview, scale = self._overview()
            height, width = self._sheet
            if gesture.drag.start[0] * width < overview.shape[1] and gesture.drag.start[1] * height < overview.shape[0]:
                at = gesture.drag.x * width / scale, gesture.drag.y * height / scale
                self.window.value = nearest_window(windows, *at)
        set_nearest(self.window, self.window.value + gesture.step)
        if gesture.reset:
            self.window.value = example_window(windows)

    def draw(self) -> None:
        """Draw the chosen view of the aligned scene."""
        with self._drawing:
            self._controls.children = tuple(self._controls_of[self.view.value])
            if self.alignment is None:
                return
            image, text = self.look()
            self.image.value, self._sheet = jpeg(image), image.shape[:2]
            self._show_text(text)

    def look(self) -> tuple[np.ndarray, str]:
        """Return the picture of the chosen view (uint8 h x w x 3, RGB) and a text with its numbers."""
        r = self.alignment.report
        if self.alignment.phone is None and self.view.value != "matches":
            return self._matches()[0], f"{r.verdict}: {r.reason} Only the matches can be shown."
        return getattr(self, f"_{self.view.value}")()

    def _matches(self) -> tuple[np.ndarray, str]:
        aligned, r = self.alignment, self.alignment.report
        count = min(int(self.matches.value), len(aligned.matches))
        sample = np.linspace(0, len(aligned.matches) - 1, count).astype(int)
        small, scales = self._halves()
        # The photographs are gray, so that the lines stand out.
        sheet = _beside([cv2.cvtColor(cv2.cvtColor(s, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for s in small])
        offset = np.array([small[0].shape[1] + _GAP, 0])
        for inlier, color in ((False, _OUTLIER), (True, _INLIER)):
            for match in aligned.matches[sample][aligned.inliers[sample] == inlier]:
                ends = np.round([match[:2] * scales[0], match[2:] * scales[1] + offset]).astype(int)
                cv2.line(sheet, *ends.tolist(), color, 1, cv2.LINE_AA)
        return sheet, (
            f"Left {self.names[0]}, right {self.names[1]}: {r.keypoints[0]} and {r.keypoints[1]} keypoints, "
            f"{r.matches} matches. Blue: the {r.inliers} that agree on one homography; orange: the others. "
            f"{r.verdict}: {r.reason}"
        )

    def _overlap(self) -> tuple[np.ndarray, str]:
        aligned, r = self.alignment, self.alignment.report
        small, scales = self._halves()
        crop = geometry.outline(*aligned.dslr.shape[:2])
        outlines = (
            (aligned.to_phone(crop), aligned.map.to_phone(geometry.outline(*self._pair[1].shape[:2]))),
            (aligned.to_dslr(crop), aligned.map.to_dslr(geometry.outline(*self._pair[0].shape[:2]))),
        )
        for image, scale, lines in zip(small, scales, outlines, strict=True):
            # The other frame is thinner and above the crop: where both coincide, each is seen.
            for points, color, width in zip(lines, (_CROP, _OUTLIER), (8, 3), strict=True):
                cv2.polylines(image, [np.round(points * scale).astype(np.int32)], True, color, width, cv2.LINE_AA)
        return _beside(small), (
            f"Orange: the other camera's frame (intersection {r.overlap:.0%}). Green: the largest rectangle in both, "
            f"resampled to {r.size[1]} x {r.size[0]}. The phone's photograph was rotated by "
            f"{r.rotation:.1f} degrees; {r.model}; {r.blocks} blocks agree with the map, with a median distance of "
            f"{r.reprojection_px or 0:.2f} px."
        )

    def _halves(self) -> tuple[list[np.ndarray], list[float]]:
        """Return both photographs at half the screen's width, and their scales."""
        small = [fit_to_screen(p, (WIDE - _GAP) // 2, 420) for p in self._pair]
        return small, [s.shape[1] / p.shape[1] for s, p in zip(small, self._pair, strict=True)]

    def _blink(self) -> tuple[np.ndarray, str]:
        aligned = self.alignment
        tile = (np.indices(aligned.dslr.shape[:2]) // (aligned.dslr.shape[0] // 6)).sum(0) % 2
        shown = self.side.value
        if shown == _LINE:
            image = at_line(*(fit_to_screen(i, 700) for i in (aligned.phone, aligned.dslr)), self.line.value)
            shown = "phone left of the line, DSLR right of it"
        else:
            squares = np.where(tile[..., None] == 1, aligned.phone, aligned.dslr)
            image = fit_to_screen({"phone": aligned.phone, "DSLR": aligned.dslr, "in squares": squares}[shown], 700)
        return image, (
            f"Shown: {shown}. The median NCC of the aligned images' blocks is {aligned.report.ncc:.3f}. "
            "Press play. What jumps is not aligned. What changes without a jump differs between the cameras."
        )

    def _patch(self) -> tuple[np.ndarray, str]:
        window, phone, kept, dslr = self.patch()
        overview, scale = self._overview()
        y, x = window.y, window.x
        corners = [tuple(round(n * scale) for n in corner) for corner in ((x, y), (x + PATCH_SIZE, y + PATCH_SIZE))]
        for level, thickness in ((0, 5), (255, 2)):  # white with a black rim shows on any photograph
            cv2.rectangle(overview, *corners, (level,) * 3, thickness)
        # A window that was left out is drawn blank. So no other picture moves under the pointer.
        parts = (np.full_like(dslr, 255) if p is None else p for p in (phone, kept, dslr))
        tiles = [overview, *(fit_to_screen(p, 200, 200) for p in parts)]
        place = "not moved"
        if window.moved:
            place = f"moved by ({window.dx:+.2f}, {window.dy:+.2f}) px and {window.angle:+.2f} degrees"
        return _beside(tiles), (
            f"Left to right: {_parts(kept)}. Window at ({x}, {y}): NCC in place {window.ncc_before:.4f}, "
            f"now {window.ncc:.4f}, {place}. Verdict: {window.verdict} (threshold {paper.NCC_THRESHOLD})."
        )

    def _overview(self) -> tuple[np.ndarray, float]:
        """Return the small image of the DSLR in view "patch", and its scale."""
        image = self.alignment.dslr
        overview = fit_to_screen(image, 330, 200).copy()
        return overview, overview.shape[1] / image.shape[1]

    def patch(self) -> tuple[extraction.Window, np.ndarray, np.ndarray | None, np.ndarray]:
        """Return the chosen window and its patches: the phone's in place, the phone's as kept, and the DSLR's.

        Patches are uint8 100 x 100 x 3, RGB. The second one is None if the window was not kept.
        """
        windows, patches = self.extraction.windows, self.extraction.patches
        window = windows[min(int(self.window.value), len(windows) - 1)]
        cut = np.s_[window.y : window.y + PATCH_SIZE, window.x : window.x + PATCH_SIZE]
        kept = next((phone for other, phone, _ in patches if other == window), None)
        return window, self.alignment.phone[cut], kept, self.alignment.dslr[cut]

    def static(self) -> Figure:
        """Draw all four views of the scene in one figure.

        Raises:
            DpedError: the scene could not be read or aligned.
        """
        self.work.wait()
        if self.alignment is None or self.alignment.phone is None:
            raise DpedError(f"{self.scene.value}: could not be aligned ({self.text}).")
        report = self.alignment.report
        fig = plt.figure(figsize=(figures.WIDTH, 4.1), layout="constrained")
        above, below = fig.subfigures(2, 1, height_ratios=(1, 1.15))
        axes = [*above.subplots(1, 2), *below.subplots(1, 2, width_ratios=(1, 2))]
        for ax, view in zip(axes, _VIEWS, strict=True):
            self.view.value = view
            self.side.value = "in squares"
            image, _ = self.look()
            ax.imshow(image)
            ax.set_axis_off()
        window, _, kept, _ = self.patch()
        place = f"moved by ({window.dx:+.2f}, {window.dy:+.2f}) px" if window.moved else "not moved"
        of_window = (
            f"A window: NCC in place {window.ncc_before:.3f}, now {window.ncc:.3f}\n{window.verdict}, {place}\n"
            f"Left to right: {_parts(kept)}"
        )
        titles = (
            f"{report.inliers} of {report.matches} matches agree",
            f"orange: the other frame (intersection {report.overlap:.0%})\ngreen: the crop",
            "aligned: squares of both",
            of_window,
        )
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, fontsize=9)
        self.view.value = _VIEWS[0]
        return fig


def example_window(windows: Sequence[extraction.Window]) -> int:
    """Return the number of the window whose NCC rose most by moving it; that in the middle if none was moved."""
    moved = [i for i, w in enumerate(windows) if w.moved and w.verdict == extraction.KEPT]
    return max(moved, key=lambda i: windows[i].ncc - windows[i].ncc_before, default=len(windows) // 2)


def nearest_window(windows: Sequence[extraction.Window], x: float, y: float) -> int:
    """Return the number of the window whose centre is nearest to a place of the aligned images (px)."""
    half = PATCH_SIZE / 2
    return min(range(len(windows)), key=lambda i: np.hypot(windows[i].x + half - x, windows[i].y + half - y))


def _parts(kept: np.ndarray | None) -> str:
    """Return the names of the pictures in view "patch", from left to right."""
    return "; ".join(f"{p} (blank: it was left out)" if kept is None and p == _KEPT else p for p in _PARTS)


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures side by side on white."""
    height = max(i.shape[0] for i in images)
    padded = [np.pad(i, ((0, height - i.shape[0]), (0, _GAP), (0, 0)), constant_values=255) for i in images]
    return np.ascontiguousarray(np.hstack(padded)[:, :-_GAP])
