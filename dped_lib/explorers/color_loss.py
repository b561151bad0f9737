"""The colour-loss explorer: section 3.1.1 and Figure 6 with one's own hand on the slider."""

import io
from collections.abc import Mapping

import cv2
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dped_lib import losses
from dped_lib.experiments import shift_study
from dped_lib.base.errors import DpedError
from dped_lib.explorers.widgets import WIDE, dropdown, jpeg, note, picture, row, slider

_OWN = "own sigma"
_TURN = 1 / np.sqrt(2)  # shifts go down and to the right, half each: no axis is preferred
_SIDE = 200  # pixels of a photograph that are compared
_REACH = 36  # the largest shift, and room for interpolating


def kernel(name: str, sigma: float) -> np.ndarray:
    """The 21 taps of a colour kernel of ``losses.KERNELS``; or, for any other name, of a Gaussian of ``sigma`` px that sums to one."""
    if name in losses.KERNELS:
        return losses.kernel_1d(name)
    offsets = np.arange(-losses.KERNEL_RADIUS, losses.KERNEL_RADIUS + 1)
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    return taps / taps.sum()


class ColorLoss:
    """A piece of a photograph and the same shifted, both blurred; their MSE and colour loss, and the point on Figure 6.

    Losses are means over pixels and channels of values in [0, 1], as in ``shift_study``.

    Attributes:
        mse, color: of what is shown.

    Args:
        photographs: name -> uint8 H x W x 3, RGB, of 272 pixels at least on each side.
        curves: Figure 6 (``shift_study.measure``).

    Raises:
        DpedError: no photograph is large enough.
    """

    def __init__(self, photographs: Mapping[str, np.ndarray], curves: shift_study.ShiftCurves):
        room = _SIDE + 2 * _REACH
        self.photographs = {n: p for n, p in photographs.items() if min(p.shape[:2]) >= room}
        if not self.photographs:
            raise DpedError(f"no photograph of {room} x {room} pixels to shift.")
        self.mean = curves.mean()
        self.shifts = curves.shifts
        self.mse = self.color = self._named_sigma = 0.0
        self.photograph = dropdown("photograph", list(self.photographs))
        self.shift = slider("shift (px)", 3, 0, 30, 0.5)
        self.sigma = slider("sigma of the blur (px)", 3.0, 0.3, 6, 0.01)
        self.kernel = ipywidgets.ToggleButtons(
            options=[*losses.KERNELS, _OWN],
            value="released",
            tooltips=[*losses.KERNELS.values(), "the sigma of the slider"],
        )
        self.kernel.style.button_width = "auto"
        self.image, self.plot, self.numbers = picture(), ipywidgets.Image(format="png"), ipywidgets.HTML()
        self._follow_kernel()
        for control in (self.photograph, self.shift):
            control.observe(lambda _: self._draw(), "value")
        self.kernel.observe(lambda _: self._follow_kernel(), "value")
        self.sigma.observe(lambda _: self._follow_sigma(), "value")
        controls = [row(self.photograph, ipywidgets.Label("kernel"), self.kernel), row(self.shift, self.sigma)]
        self.widget = ipywidgets.VBox([*controls, self.image, self.numbers, self.plot])
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-color-loss")

    def _follow_kernel(self) -> None:
        """The slider shows a named kernel's standard deviation."""
        if self.kernel.value in losses.KERNELS:
            taps = losses.kernel_1d(self.kernel.value)
            offsets = np.arange(-losses.KERNEL_RADIUS, losses.KERNEL_RADIUS + 1)
            self._named_sigma = round(float(np.sqrt((taps * offsets**2).sum() / taps.sum())), 2)
            self.sigma.value = self._named_sigma
        self._draw()

    def _follow_sigma(self) -> None:
        """Whoever moves the slider leaves the named kernels."""
        if self.kernel.value in losses.KERNELS and self.sigma.value != self._named_sigma:
            self.kernel.value = _OWN  # and that draws
        elif self.kernel.value == _OWN:
            self._draw()

    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """The piece from the photograph's middle and the same shifted: float32 200 x 200 x 3 in [0, 1]."""
        image = self.photographs[self.photograph.value]
        y, x = ((n - _SIDE) // 2 for n in image.shape[:2])
        window = image[y - _REACH : y + _SIDE + _REACH, x - _REACH : x + _SIDE + _REACH]
        by = self.shift.value * _TURN
        matrix = np.array([[1, 0, by + _REACH], [0, 1, by + _REACH]])
        # As in colorshift: Lanczos keeps the sharpness, and nothing is invented at the border.
        moved = cv2.warpAffine(window, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP)
        still = window[_REACH : _REACH + _SIDE, _REACH : _REACH + _SIDE]
        return still.astype(np.float32) / 255, moved.astype(np.float32) / 255

    def blurred(self, image: np.ndarray) -> np.ndarray:
        """Equation 3 with the chosen kernel: H x W x 3, zero padding. ``losses.blur`` does the same for the named ones."""
        taps = kernel(self.kernel.value, self.sigma.value)
        return cv2.sepFilter2D(image, -1, taps, taps, borderType=cv2.BORDER_CONSTANT)

    def _measure(self) -> dict[str, np.ndarray]:
        """Measures what is shown, and returns its pictures, uint8."""
        x, y = self.pair()
        difference = self.blurred(y - x)
        self.mse, self.color = float(np.square(y - x).mean()), float(np.square(difference).mean())
        shown = {
            "X": x,
            "X blurred": self.blurred(x),
            "Y: X shifted, blurred": self.blurred(y),
            "difference of the blurred (gray: none)": 0.5 + 2 * difference,
        }
        return {name: (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8) for name, image in shown.items()}

    def _plot(self, ax) -> None:
        ax.plot(self.shifts, self.mean["mse"], color="#000000", label="MSE")
        chosen = self.kernel.value
        for name in losses.KERNELS:
            style = {"color": "#0072B2"} if name == chosen else {"color": "0.7", "lw": 1}
            ax.plot(self.shifts, self.mean[name], label=f"colour loss, {name}", **style)
        if self.shift.value:
            ax.plot(self.shift.value, self.mse, "o", color="#000000", ms=9, mfc="w", mew=2, label="MSE here")
            ax.plot(self.shift.value, self.color, "o", color="#D55E00", ms=9, label="colour loss here")
        ax.set(xlabel="shift (px)", ylabel="mean of squares", xlim=(0, 31))
        ax.set_title("Figure 6: lines are means over all photographs", fontsize=9)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))

    def words(self) -> str:
        """The numbers in a sentence."""
        ratio = f"{self.mse / self.color:.1f} times smaller" if self.color else "no difference"
        what = f"sigma {self.sigma.value:.2f} px" if self.kernel.value == _OWN else f"kernel {self.kernel.value}"
        return f"Shift {self.shift.value:g} px: MSE {self.mse:.5f}; colour loss ({what}) {self.color:.5f}: {ratio}."

    def _draw(self) -> None:
        shown = self._measure()
        gap = np.full((_SIDE, 8, 3), 255, np.uint8)
        self.image.value = jpeg(np.hstack([part for image in shown.values() for part in (image, gap)][:-1]))
        self.numbers.value = note(f"Left to right: {'; '.join(shown)}.") + f"<b>{note(self.words())}</b>"
        fig = Figure(figsize=(8, 2.6), dpi=100, layout="constrained")  # not pyplot's: a cell would show it again
        self._plot(fig.subplots())
        file = io.BytesIO()
        fig.savefig(file, format="png")
        self.plot.value = file.getvalue()

    def static(self) -> Figure:
        """The pictures, the numbers, and the point on Figure 6."""
        shown = self._measure()
        fig = plt.figure(figsize=(9, 5.2))
        axes = fig.subplot_mosaic([list("abcd"), list("eeee")], height_ratios=(1, 1.05))
        for ax, (name, image) in zip((axes[k] for k in "abcd"), shown.items(), strict=True):
            ax.imshow(image)
            ax.set_title(name.replace(" (", "\n("), fontsize=8)
            ax.set_axis_off()
        self._plot(axes["e"])
        fig.suptitle(f"{self.photograph.value}. {self.words()}", fontsize=9)
        return fig
