"""Reproduce Figure 6: MSE and colour loss of two images that differ only by a shift, as functions of that shift."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dped_lib import losses, speed
from dped_lib.base.datasets import camera_name
from dped_lib.base.errors import DpedError
from dped_lib.data.batches import floats, pictures
from dped_lib.data.pair_store import PairStore
from dped_lib.data.photographs import Photograph
from dped_lib.experiments import statistics
from dped_lib.report import colors, figures, labels

#: Shifts in pixels. The paper speaks of 1-2, 3-5, and larger ones.
SHIFTS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 30)
_SUPPORT = 6  # room for the interpolation around a shifted patch


@dataclass(frozen=True)
class ShiftCurves:
    """Hold the losses of N shifted patches: means of squares over pixels and channels, for values in [0, 1].

    Attributes:
        shifts: shifts in pixels.
        photographs, scenes: the photograph of each patch, and the scene that it shows; (N,).
        loss: the losses by name, ``mse`` and each colour kernel; (N, len(shifts)).
    """

    shifts: tuple[int, ...]
    photographs: np.ndarray
    scenes: np.ndarray
    loss: dict[str, np.ndarray]

    def mean(self) -> dict[str, np.ndarray]:
        """Return each curve averaged over the patches: (len(shifts),)."""
        return {k: v.mean(0) for k, v in self.loss.items()}

    def resampled(self, resamples: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Return the mean curves of bootstrap resamples of scenes: (resamples, len(shifts)). All use the same draws."""
        return {k: statistics.resampled_curves(v, self.scenes, resamples, seed) for k, v in self.loss.items()}

    def sizes(self) -> dict[str, int]:
        """Return how many patches were shifted, and how many different pictures and scenes they come from."""
        return {"patches": len(self.scenes), "pictures": len(set(self.photographs)), "scenes": len(set(self.scenes))}


def measure(
    photographs: Iterable[Photograph], patches: int, seed: int = 0, size: int = 100, shifts: tuple[int, ...] = SHIFTS
) -> ShiftCurves:
    """Return the losses between patches and themselves shifted in a random direction, for every shift.

    The shifted patch is cut from the photograph around it, so its border holds real pixels.

    Args:
        photographs: photographs that are too small for the largest shift are left out.
        patches: number of patches, spread evenly over the photographs. If there are more photographs than patches, only
            some photographs are used, evenly chosen.
        seed: seed of the places and directions.
        size: side of a patch in pixels.
        shifts: shifts in pixels.

    Raises:
        DpedError: no photograph is large enough.
    """
    rng = np.random.default_rng(seed)
    reach = max(shifts) + _SUPPORT
    usable = [p for p in photographs if min(p.image.shape[:2]) >= size + 2 * reach]
    if not usable:
        raise DpedError(
            f"no photograph is as large as {size + 2 * reach} pixels, which shifts up to {max(shifts)} px need."
        )
    if len(usable) > patches:
        usable = [usable[i] for i in np.linspace(0, len(usable) - 1, patches).astype(int)]
    # Every photograph is read a second time here: all of them together may be larger than the memory.
    of_patches = [p for first, p in enumerate(usable) for _ in range(first, patches, len(usable))]
    windows = (
        _window(image, size, reach, len(shifts), rng)
        for first, p in enumerate(usable)
        for image in (p.image,)
        for _ in range(first, patches, len(usable))
    )
    by_patch = list(speed.in_order(lambda w: _losses(*_shifted_patches(*w, shifts)), windows, torch.device("cpu")))
    rows = {name: np.array([values[name] for values in by_patch]) for name in ("mse", *losses.KERNELS)}
    return ShiftCurves(shifts, np.array([p.name for p in of_patches]), np.array([p.scene for p in of_patches]), rows)


def _window(
    image: np.ndarray, size: int, reach: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random patch with ``reach`` pixels around it, and ``count`` random directions (radians)."""
    height, width = image.shape[:2]
    y = rng.integers(reach, height - size - reach + 1)
    x = rng.integers(reach, width - size - reach + 1)
    window = image[y - reach : y + size + reach, x - reach : x + size + reach].copy()  # a view would hold the image
    return window, rng.uniform(0, 2 * np.pi, count)


def _shifted_patches(window: np.ndarray, angles: np.ndarray, shifts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the window's patch, shifted by each of ``shifts`` in its direction, and unshifted: N x 3 x H x W each."""
    reach = max(shifts) + _SUPPORT
    still = torch.from_numpy(window[reach:-reach, reach:-reach].astype(np.float32) / 255)
    moved = torch.empty(len(shifts), *still.shape)
    for i, (shift, angle) in enumerate(zip(shifts, angles, strict=True)):
        moved[i] = torch.from_numpy(_shifted(window, reach, shift * np.sin(angle), shift * np.cos(angle)) / 255)
    return moved.permute(0, 3, 1, 2), still.permute(2, 0, 1).expand(len(shifts), -1, -1, -1)


def _losses(moved: Tensor, still: Tensor) -> dict[str, np.ndarray]:
    """Return the MSE of each pair of patches, and equation 2 for each kernel as a mean over pixels and channels."""
    values = {"mse": losses.squared_distance(moved, still)}
    values |= {kernel: speed.color_distance(moved, still, kernel) for kernel in losses.KERNELS}
    return {name: v.double().numpy() / still[0].numel() for name, v in values.items()}


def _shifted(window: np.ndarray, reach: int, down: float, right: float) -> np.ndarray:
    """Return the patch of the window, ``down`` and ``right`` pixels from its centre: float32 in [0, 255], rounded.

    Lanczos interpolation keeps the sharpness. A bilinear shift would blur the patch, which would increase the losses.
    All pixels are shifted alike, so we cut the patch at whole pixels and apply a separable filter for the rest. That is
    ten times as fast as cv2.warpAffine, which also rounds to 32nds of a pixel.
    """
    (y, row), (x, column) = _taps(down), _taps(right)
    side = window.shape[0] - 2 * reach
    moved = window[reach + y - 3 : reach + y + side + 4, reach + x - 3 : reach + x + side + 4].astype(np.float32)
    moved = cv2.sepFilter2D(moved, -1, column, row, anchor=(3, 3), borderType=cv2.BORDER_CONSTANT)
    return np.rint(moved[3:-4, 3:-4]).clip(0, 255)


def _taps(shift: float) -> tuple[int, np.ndarray]:
    """Return the whole pixels of a shift, and eight Lanczos taps for the rest: three pixels before to four behind."""
    whole = int(np.floor(shift))
    distances = np.arange(-3, 5) - (shift - whole)
    taps = np.sinc(distances) * np.sinc(distances / 4)
    return whole, taps / taps.sum()


@dataclass(frozen=True)
class Sentence:
    """Hold a sentence of section 3.1.1 as a test: at ``shifts`` (px), MSE / colour loss lies in [low, high]."""

    text: str
    shifts: tuple[int, ...]
    low: float
    high: float

    def range(self) -> str:
        """Return [low, high] in words."""
        return f"above {self.low:g}" if np.isinf(self.high) else f"{self.low:.2g} to {self.high:g}"


#: We read "almost not sensitive" as more than ten times smaller than MSE, because the next sentence says "still about
#: 5-10 times smaller". We read "similar magnitude" as a factor below three at the two largest shifts.
SENTENCES = MappingProxyType(
    {
        "1-2 px": Sentence("almost not sensitive to small distortions (1-2 pixels)", (1, 2), 10.0, np.inf),
        "3-5 px": Sentence(
            "for higher shifts (3-5px) still about 5-10 times smaller compared to the MSE", (3, 4, 5), 5.0, 10.0
        ),
        "larger": Sentence("for larger displacements similar magnitude and behavior", (20, 30), 1 / 3, 3.0),
    }
)


@dataclass(frozen=True)
class Ratio:
    """Hold the ratio of MSE to colour loss, with its 95 % bootstrap interval over scenes."""

    value: float
    low: float
    high: float

    def verdict(self, sentence: Sentence) -> str:
        """Return ``holds`` if the interval lies in the range, ``does not hold`` if outside, or ``undecided``."""
        return statistics.verdict((self.low, self.high), sentence.low, sentence.high)


def ratios(curves: ShiftCurves, resamples: int, seed: int = 0) -> dict[str, dict[str, Ratio]]:
    """Return for each kernel the ratio at each single shift (key ``"3"``), and at the shifts of each sentence.

    A sentence is left out if not all of its shifts were measured.
    """
    mean, boot, scenes = curves.mean(), curves.resampled(resamples, seed), curves.sizes()["scenes"]
    groups = {name: s.shifts for name, s in SENTENCES.items()} | {str(s): (s,) for s in curves.shifts}
    table: dict[str, dict[str, Ratio]] = {}
    for kernel in losses.KERNELS:
        table[kernel] = {}
        for name, shifts in groups.items():
            if not set(shifts) <= set(curves.shifts):
                continue
            columns = [curves.shifts.index(s) for s in shifts]
            value = mean["mse"][columns].sum() / mean[kernel][columns].sum()
            samples = boot["mse"][:, columns].sum(1) / boot[kernel][:, columns].sum(1)
            low, high = statistics.bounds(samples, scenes)
            table[kernel][name] = Ratio(float(value), low, high)
    return table


def pictures_in_words(dataset: str, pictures: str) -> str:
    """Return a kind of pictures for a reader: ``sony patches`` becomes ``Sony Xperia Z patches``."""
    camera = pictures.removesuffix(" patches")
    return pictures if camera == pictures else f"{camera_name(dataset, camera)} patches"


#: The line of the MSE and of each kernel.
STYLES = MappingProxyType({"mse": "-", "printed": ":", "sigma3": "--", "code": "-."})


def plot_curves(curves: ShiftCurves, by_kernel: dict[str, dict[str, Ratio]], resamples: int, seed: int = 0) -> Figure:
    """Draw Figure 6 and the ratio of MSE to colour loss (:func:`ratios`), with 95 % bands.

    A box marks the ratio that the paper states for 3 to 5 px.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.6))
    mean, boot, scenes = curves.mean(), curves.resampled(resamples, seed), curves.sizes()["scenes"]
    for name, style in STYLES.items():
        label = "MSE" if name == "mse" else f"colour loss, {name}"
        color = colors.KERNEL_COLORS[name]
        left.plot(curves.shifts, mean[name], style, marker=".", color=color, label=label)
        band = {"color": color, "alpha": 0.15, "lw": 0}
        left.fill_between(curves.shifts, *statistics.interval(boot[name], scenes), **band)
        if name in by_kernel:
            by_shift = [by_kernel[name][str(s)] for s in curves.shifts]
            ratio = {"marker": ".", "color": color, "label": labels.kernel_name(name)}
            right.plot(curves.shifts, [r.value for r in by_shift], style, **ratio)
            right.fill_between(curves.shifts, [r.low for r in by_shift], [r.high for r in by_shift], **band)
    sentence = SENTENCES["3-5 px"]
    box = (min(sentence.shifts), sentence.low), np.ptp(sentence.shifts), sentence.high - sentence.low
    right.add_patch(Rectangle(*box, color="0.75", zorder=0, label="the paper, 3-5 px"))
    left.set(xlabel="shift (px)", ylabel="mean of squares, values in [0, 1]")
    right.set(xlabel="shift (px)", ylabel="MSE / colour loss")
    bands = f"\n(bands: 95 % intervals over {scenes} scenes)"
    left.set_title("Losses of a shifted image" + bands)
    right.set_title("How much smaller the colour loss is" + bands)
    right.set(xscale="log", yscale="log")
    right.set_xticks(curves.shifts, [str(s) for s in curves.shifts])
    right.set_xticks([], minor=True)
    figures.plain_numbers(right.yaxis)
    # The axis ends just above one of its numbers, so that a reader can read off the highest curve.
    highest = right.dataLim.ymax
    right.set_ylim(
        top=1.05 * next(t for t in right.yaxis.get_major_locator().tick_values(1, 10 * highest) if t >= highest)
    )
    left.legend()
    right.legend(title="kernel", loc="upper right")
    return fig


def plot_blurred(store: PairStore, chosen: Sequence[int]) -> Figure:
    """Draw Figure 5: patches of the phone and of the DSLR as they are, and blurred by each kernel.

    All lose the border that the blur darkens with its zero padding, because it would look like a lens's vignetting.

    Args:
        store: the pairs of a phone.
        chosen: indices of the pairs, one for each row.
    """
    columns = {"original": None} | {labels.kernel_name(kernel, "\n"): kernel for kernel in losses.KERNELS}
    inside = np.s_[losses.KERNEL_RADIUS : -losses.KERNEL_RADIUS, losses.KERNEL_RADIUS : -losses.KERNEL_RADIUS]
    width = figures.WIDTH / (2 * len(columns))
    fig = plt.figure(figsize=(figures.WIDTH, width * len(chosen) + 0.65))
    # Narrow gaps leave each patch its own size on the screen (80 pixels). If it shrank, its noise would be lost.
    fig.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    sides = ((store.meta["phone"], store.phone), ("dslr", store.dslr))
    for half, (camera, images) in zip(fig.subfigures(1, 2), sides, strict=True):
        half.suptitle(camera_name(store.meta["dataset"], camera))
        axes = half.subplots(len(chosen), len(columns), squeeze=False)
        for row, i in zip(axes, chosen, strict=True):
            patch = floats(images, [i])
            for ax, (title, kernel) in zip(row, columns.items(), strict=True):
                shown = patch if kernel is None else losses.blur(patch, kernel)
                ax.imshow(pictures(shown)[0][inside], interpolation="nearest")
                ax.set_axis_off()
                if i == chosen[0]:
                    ax.set_title(title, fontsize=8.5)
    return fig
