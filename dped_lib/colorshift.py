"""Figure 6: how MSE and the colour loss grow with a shift between two otherwise equal images."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dped_lib import losses, metrics
from dped_lib.errors import DpedError
from dped_lib.patches import to_float
from dped_lib.photographs import Photograph

#: Shifts in pixels. The paper speaks of 1-2, 3-5, and larger ones.
SHIFTS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 30)
_SUPPORT = 6  # room for the interpolation around a shifted patch


@dataclass(frozen=True)
class ShiftCurves:
    """Losses of shifted patches, a mean over pixels and channels of squares, values in [0, 1].

    Attributes:
        shifts: in pixels.
        photographs, scenes: (N,) photograph of each patch, and what it shows.
        loss: ``mse`` and each colour kernel -> array (N, len(shifts)).
    """

    shifts: tuple[int, ...]
    photographs: np.ndarray
    scenes: np.ndarray
    loss: dict[str, np.ndarray]

    def mean(self) -> dict[str, np.ndarray]:
        """Each curve averaged over the patches: (len(shifts),)."""
        return {k: v.mean(0) for k, v in self.loss.items()}

    def resampled(self, resamples: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Mean curves of bootstrap resamples of scenes: (resamples, len(shifts)), the same draw for every curve."""
        names, inverse = np.unique(self.scenes, return_inverse=True)
        sizes = np.bincount(inverse)
        draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
        found = {}
        for key, values in self.loss.items():
            sums = np.stack([np.bincount(inverse, values[:, j]) for j in range(values.shape[1])], 1)
            found[key] = draws @ sums / (draws @ sizes)[:, None]
        return found


def measure(
    photographs: Iterable[Photograph], patches: int, seed: int = 0, size: int = 100, shifts: tuple[int, ...] = SHIFTS
) -> ShiftCurves:
    """Losses between patches and themselves shifted in a random direction, for every shift.

    The shifted patch is cut from the photograph around it, so nothing is invented at its border.

    Args:
        photographs: those too small for the largest shift are left out.
        patches: patches in all, spread evenly over the photographs, or over some of them, evenly chosen, if there are more.
        size: side of a patch in pixels.

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
    names: list[str] = []
    scenes: list[str] = []
    rows: dict[str, list[np.ndarray]] = {k: [] for k in ("mse", *losses.KERNELS)}
    for at, photo in enumerate(usable):
        for _ in range(at, patches, len(usable)):
            difference = _differences(photo.image, size, shifts, rng)
            names.append(photo.name)
            scenes.append(photo.scene)
            rows["mse"].append(_mean_square(difference))
            for kernel in losses.KERNELS:
                rows[kernel].append(_mean_square(losses.blur(difference, kernel)))
    return ShiftCurves(shifts, np.array(names), np.array(scenes), {k: np.stack(v) for k, v in rows.items()})


def _differences(image: np.ndarray, size: int, shifts: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """One random patch, shifted by each of ``shifts`` in a random direction, minus itself: len(shifts) x 3 x size x size."""
    reach = max(shifts) + _SUPPORT
    height, width = image.shape[:2]
    y = rng.integers(reach, height - size - reach + 1)
    x = rng.integers(reach, width - size - reach + 1)
    window = image[y - reach : y + size + reach, x - reach : x + size + reach]
    moved = []
    for shift, angle in zip(shifts, rng.uniform(0, 2 * np.pi, len(shifts)), strict=True):
        matrix = np.array([[1, 0, shift * np.cos(angle) + reach], [0, 1, shift * np.sin(angle) + reach]])
        # Lanczos keeps the sharpness that a bilinear shift would take away, and count as a loss.
        moved.append(cv2.warpAffine(window, matrix, (size, size), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP))
    still = np.ascontiguousarray(window[None, reach : reach + size, reach : reach + size])
    return to_float(torch.from_numpy(np.stack(moved))) - to_float(torch.from_numpy(still))


def _mean_square(difference: torch.Tensor) -> np.ndarray:
    return difference.square().mean((1, 2, 3)).double().numpy()


@dataclass(frozen=True)
class Sentence:
    """A sentence of section 3.1.1 as a test: the ratio MSE / colour loss over ``shifts`` lies in [low, high]."""

    text: str
    shifts: tuple[int, ...]
    low: float
    high: float


#: "Almost not sensitive" is read as more than ten times less than MSE (the next sentence says "still ... 5-10 times"),
#: "similar magnitude" as less than a factor of three at the two largest shifts.
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
    """MSE over colour loss, with its 95 % bootstrap interval over scenes."""

    value: float
    low: float
    high: float

    def verdict(self, sentence: Sentence) -> str:
        """``holds`` or ``fails`` where the whole interval says so, else ``open``."""
        if sentence.low <= self.low and self.high <= sentence.high:
            return "holds"
        return "fails" if self.high < sentence.low or self.low > sentence.high else "open"


def ratios(curves: ShiftCurves, resamples: int, seed: int = 0) -> dict[str, dict[str, Ratio]]:
    """For each kernel, the ratio over the shifts of each sentence that were measured, and at each single shift (``"3"``)."""
    mean, boot = curves.mean(), curves.resampled(resamples, seed)
    groups = {name: s.shifts for name, s in SENTENCES.items()} | {str(s): (s,) for s in curves.shifts}
    table: dict[str, dict[str, Ratio]] = {}
    for kernel in losses.KERNELS:
        table[kernel] = {}
        for name, shifts in groups.items():
            if not set(shifts) <= set(curves.shifts):
                continue
            at = [curves.shifts.index(s) for s in shifts]
            value = mean["mse"][at].sum() / mean[kernel][at].sum()
            low, high = metrics.interval(boot["mse"][:, at].sum(1) / boot[kernel][:, at].sum(1))
            table[kernel][name] = Ratio(float(value), float(low), float(high))
    return table


_STYLES = MappingProxyType({"mse": "-", "paper": ":", "sigma3": "--", "released": "-."})


def plot(curves: ShiftCurves, found: dict[str, dict[str, Ratio]], resamples: int, seed: int = 0) -> Figure:
    """Figure 6 and, beside it, how many times smaller the colour loss is, with 95 % bands and the paper's 3-5 px."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    mean, boot = curves.mean(), curves.resampled(resamples, seed)
    for name, style in _STYLES.items():
        label = "MSE" if name == "mse" else f"colour loss, {name}"
        (line,) = left.plot(curves.shifts, mean[name], style, marker=".", label=label)
        band = {"color": line.get_color(), "alpha": 0.15, "lw": 0}
        left.fill_between(curves.shifts, *metrics.interval(boot[name]), **band)
        if name in found:
            at = [found[name][str(s)] for s in curves.shifts]
            right.plot(curves.shifts, [r.value for r in at], style, marker=".", color=line.get_color(), label=name)
            right.fill_between(curves.shifts, [r.low for r in at], [r.high for r in at], **band)
    sentence = SENTENCES["3-5 px"]
    box = (min(sentence.shifts), sentence.low), np.ptp(sentence.shifts), sentence.high - sentence.low
    right.add_patch(Rectangle(*box, color="0.75", zorder=0))
    arrow = {"arrowstyle": "-", "color": "0.4"}
    right.annotate("the paper, 3-5 px:\n5-10 times smaller", (5, 7), (9, 17), fontsize=8, arrowprops=arrow)
    left.set(
        xlabel="shift (px)", ylabel="mean of squares, values in [0, 1]", title="Figure 6: losses of a shifted image"
    )
    right.set(xlabel="shift (px)", ylabel="MSE / colour loss", title="How much smaller the colour loss is")
    right.set(xscale="log", yscale="log")
    right.set_xticks(curves.shifts, [str(s) for s in curves.shifts])
    right.set_yticks((1, 2, 5, 10, 20, 50), ("1", "2", "5", "10", "20", "50"))
    right.minorticks_off()
    left.legend()
    right.legend(title="kernel", loc="lower left")
    return fig
