"""Explore the colour loss (section 3.1.1) and Figure 6: choose a shift and a kernel, and see colour loss and MSE."""

import io
import textwrap
from collections.abc import Mapping

import cv2
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from dped_lib import losses
from dped_lib.base.errors import DpedError
from dped_lib.experiments import shift_study
from dped_lib.explorers import gestures
from dped_lib.explorers.widgets import WIDE, dropdown, image_widget, jpeg, note, row, set_nearest, slider
from dped_lib.report import colors, figures

_OWN = "own sigma"
#: The gray of each kernel that is not chosen. No two look alike, because each kernel also has its own dashes.
_GRAYS = {"printed": "0.35", "sigma3": "0.5", "code": "0.65"}
_DIAGONAL = 1 / np.sqrt(2)  # a shift goes down and to the right by equal amounts, so it prefers neither axis
_SIDE = 200  # side (px) of the part of a photograph that is compared
_MARGIN = 36  # px around it, for the largest shift and for interpolation
_START_SHIFT, _START_KERNEL = 3, "code"
_DRAGGED = 120  # px of shift for a drag over the four pictures: a drag over one of them covers the whole slider
_SIGMA_STEP = 0.1  # px for one press of a key: a step of the slider (0.01 px) would change nothing visible
_USES = gestures.Uses(
    "On the pictures: drag to the right for a larger shift, to the left for a smaller one; double-click to reset. "
    "Keys: left and right change the shift, up and down the sigma of the blur, 0 resets.",
    {**gestures.STEPS, "ArrowUp": ("rise", 1), "ArrowDown": ("rise", -1)},
    cursor="ew-resize",
)


def _deviation(kernel: str | float) -> float:
    """Return the standard deviation (px) of a kernel's taps (``losses.kernel_1d``)."""
    taps = losses.kernel_1d(kernel)
    offsets = np.arange(-losses.KERNEL_RADIUS, losses.KERNEL_RADIUS + 1)
    return float(np.sqrt((taps * offsets**2).sum() / taps.sum()))


def _tensor(image: np.ndarray) -> torch.Tensor:
    """Return an image H x W x 3 as a batch of one: 1 x 3 x H x W."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


class ColorLoss:
    """Show a part of a photograph and the same part shifted, both blurred, with their MSE and colour loss.

    The plot shows both losses as points on Figure 6. Losses are means over pixels and channels of values in [0, 1],
    as in ``shift_study``.

    Args:
        photographs: name -> uint8 H x W x 3, RGB. Those with a side below 272 pixels are left out.
        curves: Figure 6 (``shift_study.measure``).

    Attributes:
        mse, color: the two losses of the shown pair.
        widget: the explorer for a live notebook.

    Raises:
        DpedError: no photograph is large enough.
    """

    def __init__(self, photographs: Mapping[str, np.ndarray], curves: shift_study.ShiftCurves):
        needed = _SIDE + 2 * _MARGIN
        self.photographs = {n: p for n, p in photographs.items() if min(p.shape[:2]) >= needed}
        if not self.photographs:
            raise DpedError(f"no photograph of {needed} x {needed} pixels to shift.")
        self.mean = curves.mean()
        self.shifts = curves.shifts
        self.mse = self.color = self._named_sigma = 0.0
        self._dragged_from = float(_START_SHIFT)
        self.photograph = dropdown("photograph", list(self.photographs))
        self.shift = slider("shift (px)", _START_SHIFT, 0, 30, 0.5)
        self.sigma = slider("sigma of the blur (px)", 3.0, 0.3, 6, 0.01)
        self.kernel = ipywidgets.ToggleButtons(
            options=[*losses.KERNELS, _OWN],
            value=_START_KERNEL,
            tooltips=[*losses.KERNELS.values(), "the sigma of the slider"],
        )
        self.kernel.style.button_width = "auto"
        self.image, self.plot = gestures.listen(image_widget()), image_widget("png")
        self.numbers = ipywidgets.HTML()
        self._follow_kernel()
        for control in (self.photograph, self.shift):
            control.observe(lambda _: self._draw(), "value")
        self.kernel.observe(lambda _: self._follow_kernel(), "value")
        self.sigma.observe(lambda _: self._follow_sigma(), "value")
        controls = [row(self.photograph, ipywidgets.Label("kernel"), self.kernel), row(self.shift, self.sigma)]
        self.widget = ipywidgets.VBox([*controls, self.image, self.numbers, self.plot])
        self.gestures = gestures.attach(self.widget, _USES, self._take)
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-color-loss")

    def _follow_kernel(self) -> None:
        """Set the slider to the standard deviation of the chosen kernel, and draw."""
        if self.kernel.value in losses.KERNELS:
            self._named_sigma = round(_deviation(self.kernel.value), 2)
            self.sigma.value = self._named_sigma
        self._draw()

    def _follow_sigma(self) -> None:
        """Switch from a named kernel to ``own sigma`` if the slider was moved, and draw."""
        if self.kernel.value in losses.KERNELS and self.sigma.value != self._named_sigma:
            self.kernel.value = _OWN  # its observer draws
        elif self.kernel.value == _OWN:
            self._draw()

    def _take(self, gesture: gestures.Gesture) -> None:
        """Set the controls to the result of a gesture; their observers draw."""
        drag = gesture.drag
        if drag is not None:
            if drag.begun:
                self._dragged_from = self.shift.value
            set_nearest(self.shift, self._dragged_from + _DRAGGED * (drag.x - drag.start[0]))
        if gesture.step:
            set_nearest(self.shift, self.shift.value + gesture.step * self.shift.step)
        if gesture.rise:
            set_nearest(self.sigma, self.sigma.value + gesture.rise * _SIGMA_STEP)
        if gesture.reset:
            self.shift.value, self.kernel.value = _START_SHIFT, _START_KERNEL

    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the centre of the photograph, and the same part shifted: float32 200 x 200 x 3 in [0, 1]."""
        image = self.photographs[self.photograph.value]
        y, x = ((n - _SIDE) // 2 for n in image.shape[:2])
        window = image[y - _MARGIN : y + _SIDE + _MARGIN, x - _MARGIN : x + _SIDE + _MARGIN]
        offset = self.shift.value * _DIAGONAL
        matrix = np.array([[1, 0, offset + _MARGIN], [0, 1, offset + _MARGIN]])
        # As in shift_study, Lanczos interpolation keeps the image sharp. The margin gives real pixels at the border.
        moved = cv2.warpAffine(window, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP)
        still = window[_MARGIN : _MARGIN + _SIDE, _MARGIN : _MARGIN + _SIDE]
        return still.astype(np.float32) / 255, moved.astype(np.float32) / 255

    def _kernel(self) -> str | float:
        """Return the chosen kernel as ``losses.blur`` takes it: its name, or the sigma of the slider."""
        return self.sigma.value if self.kernel.value == _OWN else self.kernel.value

    def blurred(self, image: np.ndarray) -> np.ndarray:
        """Return the image (float32 H x W x 3) blurred with the chosen kernel (``losses.blur``)."""
        return losses.blur(_tensor(image), self._kernel())[0].permute(1, 2, 0).numpy()

    def _measure(self) -> dict[str, np.ndarray]:
        """Compute both losses, and return the pictures (uint8 200 x 200 x 3) by name."""
        x, y = self.pair()
        pair = _tensor(y), _tensor(x)
        self.mse = float(losses.squared_distance(*pair)) / x.size
        self.color = float(losses.color_distance(*pair, self._kernel())) / x.size
        pictures = {
            "X": x,
            "X blurred": self.blurred(x),
            "Y: X shifted, blurred": self.blurred(y),
            "difference of the blurred images (gray: none)": 0.5 + 2 * self.blurred(y - x),
        }
        return {name: (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8) for name, image in pictures.items()}

    def _plot(self, ax) -> None:
        ax.plot(self.shifts, self.mean["mse"], color=colors.KERNEL_COLORS["mse"], label="MSE")
        chosen = self.kernel.value
        for name in losses.KERNELS:
            # The chosen kernel has its colour of Figure 6; each of the others keeps one gray of its own.
            ink, width = (colors.KERNEL_COLORS[name], 2) if name == chosen else (_GRAYS[name], 1.2)
            label, dashes = f"colour loss, {name}", shift_study.STYLES[name]
            ax.plot(self.shifts, self.mean[name], dashes, color=ink, lw=width, label=label)
        if self.shift.value:
            ax.plot(
                self.shift.value,
                self.mse,
                "o",
                color=colors.KERNEL_COLORS["mse"],
                ms=9,
                mfc="w",
                mew=2,
                label="MSE here",
            )
            point = colors.KERNEL_COLORS.get(chosen, colors.GREEN)
            ax.plot(self.shift.value, self.color, "o", color=point, ms=9, label=f"colour loss here, {chosen}")
        ax.set(xlabel="shift (px)", ylabel="mean of squares", xlim=(0, 31))
        ax.set_title("Figure 6: lines are means over all photographs", fontsize=9)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))

    def summary(self) -> str:
        """Return both losses in a sentence."""
        ratio = f"{self.mse / self.color:.1f} times smaller" if self.color else "no difference"
        kernel_name = f"sigma {self.sigma.value:.2f} px" if self.kernel.value == _OWN else f"kernel {self.kernel.value}"
        color = f"colour loss ({kernel_name}) {self.color:.5f}"
        narrowed = ""
        if self.kernel.value == _OWN and self.sigma.value - (kept := _deviation(self.sigma.value)) > 0.01:
            narrowed = f" The kernel ends {losses.KERNEL_RADIUS} px from its centre, so its own sigma is {kept:.2f} px."
        return f"Shift {self.shift.value:g} px: MSE {self.mse:.5f}; {color}: {ratio}.{narrowed}"

    def _draw(self) -> None:
        pictures = self._measure()
        gap = np.full((_SIDE, 8, 3), 255, np.uint8)
        self.image.value = jpeg(np.hstack([part for image in pictures.values() for part in (image, gap)][:-1]))
        named = f"Left to right: {'; '.join(pictures)}. Black and white are differences of -0.25 and +0.25."
        self.numbers.value = note(named) + f"<b>{note(self.summary())}</b>" + note(_USES.help)
        # Jupyter would show a figure of pyplot again at the end of the cell.
        fig = Figure(figsize=(8, 2.6), dpi=100, layout="constrained")
        self._plot(fig.subplots())
        file = io.BytesIO()
        fig.savefig(file, format="png")
        self.plot.value = file.getvalue()

    def static(self) -> Figure:
        """Draw the pictures, the losses, and their points on Figure 6."""
        pictures = self._measure()
        fig = plt.figure(figsize=(figures.WIDTH, 4.8))
        above, below = fig.subfigures(2, 1, height_ratios=(1, 1.05))  # the pictures need the room over the legend, too
        for ax, (name, image) in zip(above.subplots(1, len(pictures)), pictures.items(), strict=True):
            ax.imshow(image)
            ax.set_title(textwrap.fill(name, 26), fontsize=8)
            ax.set_axis_off()
        self._plot(below.subplots())
        fig.suptitle(f"{self.photograph.value}\n{self.summary()}", fontsize=9)
        return fig
