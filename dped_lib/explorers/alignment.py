"""The alignment explorer: section 2 and 3.2.1, one pair of photographs at a time."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dped_lib.alignment import aligner, extraction, geometry
from dped_lib.base.errors import DpedError
from dped_lib.explorers.widgets import WIDE, Background, dropdown, fit, jpeg, note, picture, row, slider

_GAP = 8
_VIEWS = ("matches", "overlap", "blink", "patch")
_AGREED, _OTHER, _CROP = (86, 180, 233), (230, 159, 0), (0, 158, 115)


class Alignment:
    """How one pair of photographs was aligned: its matches, what both show, the two images in turns, and any patch.

    Another scene is aligned beside the kernel (a second or two); everything else answers at once.

    Attributes:
        found: ``aligner.Alignment`` of the scene that is shown, or None; ``cut``: its ``extraction.Extraction``, or None.

    Args:
        load: scene -> camera -> photograph, uint8 H x W x 3, RGB (``photographs.scene``); the DSLR is ``dslr``.
        scenes: their names; the first is shown first.
        phone: the other camera.
        names: camera -> what a reader calls it.
        size: height x width of the aligned images.
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
        self.found: aligner.Alignment | None = None
        self.cut: extraction.Extraction | None = None
        self._pair: tuple[np.ndarray, np.ndarray] = ()
        self.scene = dropdown("scene", list(dict.fromkeys(scenes)))
        self.view = ipywidgets.ToggleButtons(options=_VIEWS)
        self.view.style.button_width = "auto"
        self.matches = slider("matches drawn", 120, 0, 600, 10, readout_format="d")
        self.side = ipywidgets.ToggleButtons(options=["phone", "DSLR", "in squares"])
        self.side.style.button_width = "auto"
        self.play = ipywidgets.Play(min=0, max=1, interval=600, repeat=True, show_repeat=False)
        self.window = slider("patch", 0, 0, 1, 1, readout_format="d")
        self.image, self.numbers = picture(), ipywidgets.HTML()
        self.work = Background(lambda words: self._say(words))
        self._own = {
            "matches": [self.matches],
            "overlap": [],
            "blink": [self.play, self.side],
            "patch": [self.window],
        }
        self._controls = row()
        self.widget = ipywidgets.VBox([row(self.scene, self.view), self._controls, self.image, self.numbers])
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-alignment")
        self.scene.observe(lambda _: self.open(), "value")
        self.play.observe(lambda change: setattr(self.side, "value", self.side.options[change["new"]]), "value")
        for control in (self.view, self.matches, self.side, self.window):
            control.observe(lambda _: self.draw(), "value")
        self.open()

    def open(self) -> None:
        """Aligns the chosen scene beside the kernel."""
        name = self.scene.value
        self._say(f"{name}: being aligned ...")

        def work(check: Callable[[], None]) -> None:
            images = self._load(name)
            pair = images[self.phone], images["dslr"]
            check()
            found = aligner.align(*pair, self.size)
            check()
            cut = extraction.extract(found) if found.phone is not None else None
            check()
            self._pair, self.found, self.cut = pair, found, cut
            if cut:
                self.window.max = len(cut.windows) - 1
                self.window.value = len(cut.windows) // 2
            self.draw()

        self.work.start(work)

    def _say(self, words: str) -> None:
        self.numbers.value = note(words)

    def draw(self) -> None:
        """Shows the chosen view of what has been aligned."""
        self._controls.children = tuple(self._own[self.view.value])
        if self.found is None:
            return
        image, words = self.look()
        self.image.value = jpeg(image)
        self._say(words)

    def look(self) -> tuple[np.ndarray, str]:
        """What is on the screen, uint8 h x w x 3, and its numbers in words."""
        r = self.found.report
        if self.found.phone is None and self.view.value != "matches":
            return self._matches()[0], f"{r.verdict}: {r.reason} There is nothing to show but its matches."
        return getattr(self, f"_{self.view.value}")()

    def _matches(self) -> tuple[np.ndarray, str]:
        r, most = self.found.report, int(self.matches.value)
        some = np.linspace(0, len(self.found.matched) - 1, min(most, len(self.found.matched))).astype(int)
        small, scales = self._halves()
        # Gray, so that the lines stand out.
        sheet = _beside([cv2.cvtColor(cv2.cvtColor(s, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for s in small])
        offset = np.array([small[0].shape[1] + _GAP, 0])
        for agreed, color in ((False, _OTHER), (True, _AGREED)):
            for match in self.found.matched[some][self.found.agreed[some] == agreed]:
                ends = np.round([match[:2] * scales[0], match[2:] * scales[1] + offset]).astype(int)
                cv2.line(sheet, *ends.tolist(), color, 1, cv2.LINE_AA)
        return sheet, (
            f"Left {self.names[0]}, right {self.names[1]}: {r.keypoints[0]} and {r.keypoints[1]} keypoints, {r.matches} matches. "
            f"Blue: the {r.inliers} that agree on one homography; orange: the others. {r.verdict}: {r.reason}"
        )

    def _overlap(self) -> tuple[np.ndarray, str]:
        found, r = self.found, self.found.report
        small, scales = self._halves()
        crop = geometry.outline(*found.dslr.shape[:2])
        outlines = (
            (found.map.to_phone(geometry.outline(*self._pair[1].shape[:2])), found.to_phone(crop)),
            (found.map.to_dslr(geometry.outline(*self._pair[0].shape[:2])), found.to_dslr(crop)),
        )
        for image, scale, lines in zip(small, scales, outlines, strict=True):
            for points, color in zip(lines, (_OTHER, _CROP), strict=True):
                cv2.polylines(image, [np.round(points * scale).astype(np.int32)], True, color, 3, cv2.LINE_AA)
        return _beside(small), (
            f"Orange: what the other camera sees (shared: {r.overlap:.0%}). Green: the largest rectangle in both, resampled to "
            f"{r.size[1]} x {r.size[0]}. Turned by {r.turn:.1f} degrees; {r.model}; {r.blocks} blocks agree, "
            f"{r.reprojection_px or 0:.2f} px from the map (median)."
        )

    def _halves(self) -> tuple[list[np.ndarray], list[float]]:
        """Both photographs at half the screen's width, and their scales."""
        small = [fit(p, (WIDE - _GAP) // 2, 420) for p in self._pair]
        return small, [s.shape[1] / p.shape[1] for s, p in zip(small, self._pair, strict=True)]

    def _blink(self) -> tuple[np.ndarray, str]:
        found = self.found
        tile = (np.indices(found.dslr.shape[:2]) // (found.dslr.shape[0] // 6)).sum(0) % 2
        shown = {
            "phone": found.phone,
            "DSLR": found.dslr,
            "in squares": np.where(tile[..., None] == 1, found.phone, found.dslr),
        }[self.side.value]
        return fit(shown, 700, 520), (
            f"Shown: {self.side.value}. Aligned, the images correlate by {found.report.ncc:.3f} (median of blocks, NCC). "
            "Press play: what jumps is not aligned; what changes without moving is the camera's."
        )

    def _patch(self) -> tuple[np.ndarray, str]:
        window, phone, moved, dslr = self.patch()
        where = self.found.dslr.copy()
        y, x, side = window.y, window.x, extraction.SIZE
        cv2.rectangle(where, (x, y), (x + side - 1, y + side - 1), _OTHER, 2)
        tiles = [fit(where, 330, 200)]
        tiles += [fit(p, 200, 200) for p in (phone, moved, dslr) if p is not None]
        place = (
            f"moved by ({window.dx:+.2f}, {window.dy:+.2f}) px and {window.angle:+.2f} degrees"
            if window.moved
            else "stays"
        )
        labels = ["the DSLR's image", "phone in place", "phone as kept", "DSLR"]
        named = "; ".join(n for n, p in zip(labels, (where, phone, moved, dslr), strict=True) if p is not None)
        return _beside(tiles), (
            f"Left to right: {named}. Window at ({x}, {y}): NCC in place {window.ncc_before:.4f}, now {window.ncc:.4f}, {place}. "
            f"Verdict: {window.verdict} (threshold 0.9)."
        )

    def patch(self) -> tuple[extraction.Window, np.ndarray, np.ndarray | None, np.ndarray]:
        """The chosen window, the phone's patch in place and as it was kept (None: it was not), and the DSLR's."""
        window = self.cut.windows[min(int(self.window.value), len(self.cut.windows) - 1)]
        cut = np.s_[window.y : window.y + extraction.SIZE, window.x : window.x + extraction.SIZE]
        kept = next((p for w, p, _ in self.cut.patches if w == window), None)
        return window, self.found.phone[cut], kept, self.found.dslr[cut]

    def static(self) -> Figure:
        """Every view of the scene below each other."""
        self.work.wait()
        if self.found is None:
            raise DpedError(f"{self.scene.value}: could not be aligned ({self.numbers.value}).")
        fig, axes = plt.subplots(2, 2, figsize=(9, 5.4))
        for ax, view in zip(axes.flat, _VIEWS, strict=True):
            self.view.value = view
            self.side.value = "in squares"
            image, _ = self.look()
            ax.imshow(image)
            ax.set_axis_off()
        axes.flat[0].set_title(f"{self.found.report.inliers} of {self.found.report.matches} matches agree", fontsize=9)
        axes.flat[1].set_title(f"shared: {self.found.report.overlap:.0%}", fontsize=9)
        axes.flat[2].set_title("aligned, in squares of both", fontsize=9)
        window = self.patch()[0]
        axes.flat[3].set_title(
            f"a window: NCC {window.ncc_before:.3f}, now {window.ncc:.3f}: {window.verdict}", fontsize=9
        )
        self.view.value = _VIEWS[0]
        return fig


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures side by side on white."""
    tall = max(i.shape[0] for i in images)
    padded = [np.pad(i, ((0, tall - i.shape[0]), (0, _GAP), (0, 0)), constant_values=255) for i in images]
    return np.ascontiguousarray(np.hstack(padded)[:, :-_GAP])
