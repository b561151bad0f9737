"""Section 4.4: colour deviations, too high contrast, amplified noise; found by measuring every photograph, not chosen.

Each measure compares a photograph with its enhanced version; no DSLR image is needed. What enhancing is for (other colours, more
contrast) is measured, too: a rank says where it goes furthest, not where it goes wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2gray, rgb2lab

from dped_lib import metrics
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import gallery
from dped_lib.experiments.appearance import BLUR
from dped_lib.report.figures import PHONE_COLORS

#: Measures by name: what a value means.
MEASURES = MappingProxyType(
    {
        "colour deviation": "CIEDE2000 between enhanced and original, both blurred by 4.34 px and at equal lightness; 95th percentile of the photograph",
        "contrast gain": "standard deviation of the lightness L*, enhanced over original",
        "noise amplification": "noise in the flattest twentieth of the photograph, enhanced over original",
    }
)

_BLOCK = 16
#: The share of blocks that counts as flat, and the blur after which their detail is measured: it leaves 7 % of the noise, so
#: that blocks are not chosen for having little of it.
_FLAT, _DETAIL_BLUR = 0.05, 4.0
#: Noise of rounding to 8 bits: less cannot be told from none.
_ROUNDING = 1 / (255 * np.sqrt(12))
#: Second differences in both directions: no plane and no straight edge along an axis passes; gain 1 for white noise (Immerkaer 1996).
_NOISE_FILTER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6


def flat_blocks(image: np.ndarray) -> np.ndarray:
    """Upper left corners (n x 2: y, x) of the flattest 16 x 16 blocks of an RGB image in [0, 1] that are not clipped; at least one."""
    gray = rgb2gray(image)
    smooth = gaussian_filter(gray, _DETAIL_BLUR)
    rows, columns = gray.shape[0] // _BLOCK, gray.shape[1] // _BLOCK

    def blocks(x: np.ndarray) -> np.ndarray:
        cut = x[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
        return cut.swapaxes(1, 2).reshape(rows * columns, -1)

    detail, level = blocks(smooth).std(1), blocks(gray).mean(1)
    detail[(level < 0.05) | (level > 0.95)] += 1  # black and white have no noise left; they come last
    chosen = np.argsort(detail, kind="stable")[: max(1, round(_FLAT * len(detail)))]
    return np.stack([chosen // columns, chosen % columns], 1) * _BLOCK


def noise_level(image: np.ndarray, corners: np.ndarray) -> float:
    """Standard deviation of the noise of the luminance in the blocks at ``corners``; RGB in [0, 1]."""
    rough = cv2.filter2D(rgb2gray(image), cv2.CV_64F, _NOISE_FILTER, borderType=cv2.BORDER_REFLECT)
    found = [np.square(rough[y : y + _BLOCK, x : x + _BLOCK]).mean() for y, x in corners]
    return float(np.sqrt(np.mean(found)))


def colour_deviation(original: np.ndarray, enhanced: np.ndarray) -> float:
    """See ``MEASURES``; RGB in [0, 1]."""
    before, after = (rgb2lab(gaussian_filter(i, (BLUR, BLUR, 0))) for i in (original, enhanced))
    after[..., 0] = before[..., 0]
    return float(np.percentile(deltaE_ciede2000(before, after), 95))


def contrast_gain(original: np.ndarray, enhanced: np.ndarray) -> float:
    """See ``MEASURES``; RGB in [0, 1]. A photograph without contrast counts as one of half a step of L*."""
    before, after = (rgb2lab(i)[..., 0].std() for i in (original, enhanced))
    return float(after / max(before, 0.5))


@dataclass(frozen=True)
class Flaw:
    """One photograph of ``phone`` enhanced by ``network``: every measure, the noise levels (in 8-bit steps), the flattest block."""

    name: str
    phone: str
    network: str
    values: Mapping[str, float]
    noise: tuple[float, float]
    flattest: tuple[int, int]


def measure(scene: gallery.Scene, network: str, enhanced: np.ndarray) -> Flaw:
    """Every measure of a photograph and its enhanced version (uint8 H x W x 3)."""
    before, after = (i.astype(np.float64) / 255 for i in (scene.original, enhanced))
    corners = flat_blocks(before)
    noise = tuple(noise_level(i, corners) for i in (before, after))
    values = {
        "colour deviation": colour_deviation(before, after),
        "contrast gain": contrast_gain(before, after),
        "noise amplification": max(noise[1], _ROUNDING) / max(noise[0], _ROUNDING),
    }
    steps = (noise[0] * 255, noise[1] * 255)
    return Flaw(scene.name, scene.phone, network, values, steps, (int(corners[0][0]), int(corners[0][1])))


def search(scenes: Sequence[gallery.Scene], networks: Mapping[str, enhancement.Engine]) -> list[Flaw]:
    """Measures of every photograph by every network."""
    return [measure(s, name, run(s.original)) for s in scenes for name, run in networks.items()]


def ranked(flaws: Sequence[Flaw], network: str, measure: str) -> list[Flaw]:
    """The flaws of one network, the worst first."""
    return sorted((f for f in flaws if f.network == network), key=lambda f: -f.values[measure])


@dataclass(frozen=True)
class Amplification:
    """Noise of one phone by one network: geometric mean over photographs, with its 95 % bootstrap interval."""

    phone: str
    network: str
    photographs: int
    value: float
    interval: tuple[float, float]


def amplification(flaws: Sequence[Flaw], resamples: int = 2000) -> list[Amplification]:
    """One entry for each network and phone, in the order of ``flaws``."""
    found = []
    for network, phone in dict.fromkeys((f.network, f.phone) for f in flaws):
        logs = np.log([f.values["noise amplification"] for f in flaws if (f.network, f.phone) == (network, phone)])
        drawn = np.random.default_rng(0).choice(logs, (resamples, len(logs))).mean(1)
        low, high = np.exp(metrics.interval(drawn))
        found.append(Amplification(phone, network, len(logs), float(np.exp(logs.mean())), (float(low), float(high))))
    return found


def verdict(found: Sequence[Amplification], testable: str = "") -> dict[str, str]:
    """The paper's sentence ("only on photos from the poor iPhone 3GS camera") against one network's amplifications.

    It holds where the iPhone's interval lies above 1 and no other phone's does; it does not where another's lies above 1, or the
    iPhone's below. ``testable``: why these photographs or networks cannot decide it; empty: they can.
    """
    text = ", ".join(f"{a.phone} x{a.value:.2f} [{a.interval[0]:.2f}, {a.interval[1]:.2f}]" for a in found)
    mine = [a for a in found if a.phone == "iphone"]
    others = [a for a in found if a.phone != "iphone"]
    if testable or not (mine and others):
        return {"evidence": text, "verdict": "not testable", "why": testable or "not all phones are here"}
    louder = [a.phone for a in others if a.interval[0] > 1]
    if louder or mine[0].interval[1] < 1:
        why = f"amplified on {' and '.join(louder)}, too" if louder else "not amplified on the iPhone"
        return {"evidence": text, "verdict": "does not hold", "why": why}
    return {"evidence": text, "verdict": "holds" if mine[0].interval[0] > 1 else "undecided", "why": ""}


def as_frame(flaws: Sequence[Flaw]) -> pd.DataFrame:
    """Each measure's median and worst photograph, by network and phone."""
    rows = []
    for network, phone in dict.fromkeys((f.network, f.phone) for f in flaws):
        mine = [f for f in flaws if (f.network, f.phone) == (network, phone)]
        row = {"network": network, "phone": phone, "photographs": len(mine)}
        for name in MEASURES:
            worst = max(mine, key=lambda f: f.values[name])
            middle = float(np.median([f.values[name] for f in mine]))
            row[f"{name}, median"] = round(middle, 2)
            row[f"{name}, most"] = f"{worst.values[name]:.2f} ({worst.name})"
        rows.append(row)
    return pd.DataFrame(rows)


def figure12(flaws: Sequence[Flaw], network: str, pictures: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """The worst and the typical (median) photograph by each measure; of the noise, the surroundings of the flattest block.

    ``pictures``: name -> (original, enhanced) of at least those that :func:`shown` names.
    """
    rows, labels = [], []
    for name in MEASURES:
        row = {}
        for which, flaw in zip(("worst", "typical"), _worst_and_typical(flaws, network, name), strict=True):
            for what, picture in zip(("original", "enhanced"), pictures[flaw.name], strict=True):
                row[f"{which}: {what}"] = _around(picture, flaw.flattest) if name == "noise amplification" else picture
        worst, typical = _worst_and_typical(flaws, network, name)
        rows.append(row)
        labels.append(f"{name}\n{worst.values[name]:.2f} and {typical.values[name]:.2f}")
    return gallery.grid(rows, labels)


def _worst_and_typical(flaws: Sequence[Flaw], network: str, measure: str) -> tuple[Flaw, Flaw]:
    order = ranked(flaws, network, measure)
    return order[0], order[len(order) // 2]


def shown(flaws: Sequence[Flaw], network: str) -> list[str]:
    """Names of the photographs in :func:`figure12`."""
    return list(dict.fromkeys(f.name for m in MEASURES for f in _worst_and_typical(flaws, network, m)))


def _around(picture: np.ndarray, corner: tuple[int, int], size: int = 160) -> np.ndarray:
    y, x = (
        min(max(c + _BLOCK // 2 - size // 2, 0), max(s - size, 0)) for c, s in zip(corner, picture.shape, strict=False)
    )
    return picture[y : y + size, x : x + size]


def plot_noise(flaws: Sequence[Flaw]) -> Figure:
    """Noise amplification of each photograph, by network and phone, with the geometric mean and its interval."""
    found = amplification(flaws)
    fig, ax = plt.subplots(figsize=(8, 0.9 + 0.42 * len(found)))
    for row, a in enumerate(found):
        color = PHONE_COLORS.get(a.phone, "0.3")
        mine = [f.values["noise amplification"] for f in flaws if (f.network, f.phone) == (a.network, a.phone)]
        ax.scatter(mine, [row] * len(mine), s=14, color=color, alpha=0.4, linewidths=0)
        ax.errorbar(
            [a.value],
            [row],
            xerr=[[a.value - a.interval[0]], [a.interval[1] - a.value]],
            fmt="D",
            ms=5,
            color=color,
            capsize=3,
        )
    ax.axvline(1, color="0.4", lw=0.8, ls="--")
    measured = [f.values["noise amplification"] for f in flaws]
    if max(measured) > 4 * min(measured):  # within less, powers of two are too few ticks to read
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_yticks(range(len(found)), [f"{a.phone}, {a.network}" for a in found])
    ax.set_ylim(len(found) - 0.5, -0.5)  # from the top, with room for half a row at either end
    ax.set_xlabel("noise in flat regions, enhanced over original (1: unchanged)")
    return fig
