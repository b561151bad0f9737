"""Measure the limitations of section 4.4 on every photograph: colour deviations, high contrast, amplified noise.

Each measure compares a photograph with its enhanced version and needs no DSLR image. Enhancing should change colours
and raise contrast, so a high value does not prove a flaw. A ranking shows which photographs a network changes most. It
does not show errors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.ndimage import gaussian_filter
from skimage.color import deltaE_ciede2000, rgb2gray, rgb2lab

from dped_lib.base.datasets import camera_name, photograph_name, without_camera
from dped_lib.enhance import enhancement
from dped_lib.experiments import gallery, statistics
from dped_lib.experiments.appearance import BLUR, blurred_lab
from dped_lib.report import colors, figures

#: Measures by name, with the meaning of a value.
FLAW_MEASURES = MappingProxyType(
    {
        "colour change": f"CIEDE2000 after a blur of {BLUR:g} px, at the original's lightness; 95th percentile",
        "contrast gain": "standard deviation of the lightness L*, enhanced over original",
        "noise amplification": "luminance noise in the flattest twentieth, enhanced over original",
    }
)

_BLOCK = 16
#: The share of blocks that counts as flat, and the standard deviation (px) of the blur before their detail is measured.
#: The blur leaves 7 % of white noise, so blocks are not chosen for having little of it. It leaves more of coarse noise.
_FLAT, _DETAIL_BLUR = 0.05, 4.0
#: Noise of rounding to 8 bits. A lower level cannot be distinguished from none.
_ROUNDING = 1 / (255 * np.sqrt(12))
_SURROUNDINGS = 160  # side (px) of what Figure 12 shows around a flat block
_NOISE_TICKS = (0.1, 0.14, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.4, 2, 3, 4, 5, 7, 10)


def flat_blocks(image: np.ndarray) -> np.ndarray:
    """Return upper left corners (n x 2: y, x) of the flattest 16 x 16 blocks of RGB in [0, 1].

    There is at least one. Clipped blocks come last.
    """
    gray = rgb2gray(image)
    smooth = gaussian_filter(gray, _DETAIL_BLUR)
    rows, columns = gray.shape[0] // _BLOCK, gray.shape[1] // _BLOCK

    def blocks(plane: np.ndarray) -> np.ndarray:
        whole = plane[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
        return whole.swapaxes(1, 2).reshape(rows * columns, -1)

    detail, level = blocks(smooth).std(1), blocks(gray).mean(1)
    detail[(level < 0.05) | (level > 0.95)] += 1  # clipping to black or white has removed the noise
    chosen = np.argsort(detail, kind="stable")[: max(1, round(_FLAT * len(detail)))]
    return np.stack([chosen // columns, chosen % columns], 1) * _BLOCK


def noise_level(image: np.ndarray, corners: np.ndarray) -> float:
    """Return the standard deviation of luminance noise in the blocks at ``corners``; RGB in [0, 1].

    Noise is what a plane fitted to each block leaves, whether its grain is one pixel or several.
    """
    gray = rgb2gray(image)
    blocks = np.stack([gray[y : y + _BLOCK, x : x + _BLOCK].ravel() for y, x in corners], 1)
    y, x = np.mgrid[:_BLOCK, :_BLOCK].reshape(2, -1)
    planes = np.stack([np.ones(_BLOCK**2), y, x], 1)
    left = blocks - planes @ np.linalg.lstsq(planes, blocks, rcond=None)[0]
    freedom = left.size - 3 * blocks.shape[1]  # a plane has 3 parameters
    return float(np.sqrt(np.square(left).sum() / freedom))


def color_change(original: np.ndarray, enhanced: np.ndarray) -> float:
    """Return the "colour change" of ``FLAW_MEASURES``; RGB in [0, 1]."""
    before, after = blurred_lab(original), blurred_lab(enhanced)
    after[..., 0] = before[..., 0]
    return float(np.percentile(deltaE_ciede2000(before, after), 95))


def contrast_gain(original: np.ndarray, enhanced: np.ndarray) -> float:
    """Return the "contrast gain" of ``FLAW_MEASURES``; RGB in [0, 1].

    A deviation of L* below 0.5 in the original counts as 0.5.
    """
    before, after = (rgb2lab(i)[..., 0].std() for i in (original, enhanced))
    return float(after / max(before, 0.5))


@dataclass(frozen=True)
class Flaw:
    """Hold the measures of one photograph of ``phone``, enhanced by ``network``.

    Attributes:
        name: the photograph.
        values: the value of each measure by its name.
        noise: noise levels before and after, in 8-bit steps.
        flattest: upper left corner (y, x) of the flattest block.
    """

    name: str
    phone: str
    network: str
    values: Mapping[str, float]
    noise: tuple[float, float]
    flattest: tuple[int, int]


def measure_flaws(example: gallery.Example, network: str, enhanced: np.ndarray) -> Flaw:
    """Return every measure of a photograph and its enhanced version (uint8 H x W x 3)."""
    before, after = (i.astype(np.float64) / 255 for i in (example.original, enhanced))
    corners = flat_blocks(before)
    noise = tuple(noise_level(i, corners) for i in (before, after))
    values = {
        "colour change": color_change(before, after),
        "contrast gain": contrast_gain(before, after),
        "noise amplification": max(noise[1], _ROUNDING) / max(noise[0], _ROUNDING),
    }
    steps = (noise[0] * 255, noise[1] * 255)
    return Flaw(example.name, example.phone, network, values, steps, (int(corners[0][0]), int(corners[0][1])))


def enhance_once(
    networks: Mapping[str, Mapping[str, enhancement.Engine]], most: int = 256 << 20
) -> Callable[[gallery.Example, str], np.ndarray]:
    """Return a function that enhances a photograph with a network of its phone, and keeps the result.

    Figure 12 shows some of the photographs that were measured, and their ranks are known last.

    Args:
        networks: phone -> name -> network.
        most: the bytes of results that are kept. Photographs that do not fit are enhanced again when they are shown.
    """
    kept: dict[tuple[str, str], np.ndarray] = {}

    def enhanced(example: gallery.Example, network: str) -> np.ndarray:
        wanted = example.name, network
        if wanted in kept:
            return kept[wanted]
        result = networks[example.phone][network](example.original)
        if sum(picture.nbytes for picture in kept.values()) + result.nbytes <= most:
            kept[wanted] = result
        return result

    return enhanced


def rank_flaws(flaws: Sequence[Flaw], network: str, measure: str) -> list[Flaw]:
    """Return the flaws of one network, the highest value of a measure first."""
    return sorted((f for f in flaws if f.network == network), key=lambda f: -f.values[measure])


@dataclass(frozen=True)
class Amplification:
    """Hold the noise amplification of a phone by a network: geometric mean over photographs, with Student's 95 % interval."""

    phone: str
    network: str
    photographs: int
    value: float
    interval: tuple[float, float]


def amplifications(flaws: Sequence[Flaw]) -> list[Amplification]:
    """Return one entry for each network and phone, in the order of ``flaws``."""
    entries = []
    for network, phone in dict.fromkeys((f.network, f.phone) for f in flaws):
        logs = np.log([f.values["noise amplification"] for f in flaws if (f.network, f.phone) == (network, phone)])
        low, high = np.exp(statistics.mean_interval(logs))
        entries.append(Amplification(phone, network, len(logs), float(np.exp(logs.mean())), (float(low), float(high))))
    return entries


#: The sentence on noise can hold only if the intervals of all other phones end below this amplification. The choice is ours.
QUIET = 1.1


def noise_verdict(
    entries: Sequence[Amplification],
    dataset: str,
    why_not: str = "",
) -> dict[str, str]:
    """Judge the paper's "only on photos from the poor iPhone 3Gs camera" for one network.

    The sentence does not hold if another phone's interval lies above 1, or the iPhone's below 1.
    Otherwise it holds if the iPhone's interval lies above 1, and the intervals of all other phones
    end below ``QUIET``. Otherwise it is undecided.

    Args:
        entries: the network's amplifications by phone.
        dataset: the dataset of the photographs, which has the names of the phones.
        why_not: the reason why these photographs or networks cannot decide it; empty if they can.
    """
    names = {a.phone: camera_name(dataset, a.phone) for a in entries}
    borders = (1, QUIET)
    shown = {a.phone: statistics.in_words(a.value, a.interval, 2, borders=borders) for a in entries}
    text = ", ".join(f"{names[phone]} x{words}" for phone, words in shown.items())
    relations = {a.phone: statistics.relation(a.interval, 1) for a in entries}
    iphone = relations.pop("iphone", None)
    open_ones = [names[a.phone] for a in entries if a.phone != "iphone" and a.interval[1] >= QUIET]
    if why_not or iphone is None or not relations:
        why = why_not or "not all phones are here"
        return {"evidence": text, "verdict": "not testable", "why": why}
    louder = [names[phone] for phone, relation in relations.items() if relation == "higher"]
    if louder or iphone == "lower":
        others = " and ".join(louder)
        too = ", too" if iphone == "higher" else ""
        why = f"amplified on {others}{too}" if louder else "not amplified on the iPhone"
        return {"evidence": text, "verdict": "does not hold", "why": why}
    if open_ones or iphone != "higher":
        open_ones += ["the iPhone"] if iphone != "higher" else []
        why = f"on {' and '.join(open_ones)}"
        return {"evidence": text, "verdict": "undecided", "why": why}
    return {"evidence": text, "verdict": "holds", "why": ""}


def flaws_frame(flaws: Sequence[Flaw], dataset: str) -> pd.DataFrame:
    """Return the median and the highest value of each measure, by network and phone."""
    rows = []
    for network, phone in dict.fromkeys((f.network, f.phone) for f in flaws):
        of_phone = [f for f in flaws if (f.network, f.phone) == (network, phone)]
        for name in FLAW_MEASURES:
            highest = max(of_phone, key=lambda f: f.values[name])
            rows.append(
                {
                    "network": network,
                    "phone": camera_name(dataset, phone),
                    "measure": name,
                    "median": round(float(np.median([f.values[name] for f in of_phone])), 2),
                    "highest": f"{highest.values[name]:.2f} ({photograph_name(dataset, highest.name)})",
                    "photographs": len(of_phone),
                }
            )
    return pd.DataFrame(rows)


def describe_change(measure: str, value: float) -> str:
    """Return in two lines what enhancing did to a photograph: ``luminance noise falls:`` and ``x 0.80``."""
    if measure == "colour change":
        return f"colours move by\n{value:.1f} (CIEDE2000)"
    subject = "contrast" if measure == "contrast gain" else "luminance noise"
    change = "stays" if f"{value:.2f}" == "1.00" else "rises" if value > 1 else "falls"
    return f"{subject} {change}:\nx {value:.2f}"


def figure12(
    flaws: Sequence[Flaw], network: str, pictures: Mapping[str, tuple[np.ndarray, np.ndarray]], dataset: str
) -> Figure:
    """Draw the photographs with the highest and with the middle value of each measure, original beside enhanced.

    An even number of values has two middle ones. We draw the lower one and name its rank, because it is not the median.
    Words over each original name its scene and its phone, and words over each enhanced photograph say what happened. For
    noise, only the surroundings of the flattest block are drawn, and the name of the row says so.

    Args:
        flaws, network: the measures, and the network whose pictures are drawn.
        pictures: name -> (original, enhanced); it must have those of :func:`names_in_figure12`.
        dataset: the dataset of the photographs, which has the names of the phones.
    """
    fig, axes = plt.subplots(len(FLAW_MEASURES), 4, figsize=(figures.WIDTH, 2.2 * len(FLAW_MEASURES)))
    count = sum(f.network == network for f in flaws)
    ranks = "highest", "median" if count % 2 else f"rank {count // 2 + 1}"
    for row, name in zip(axes, FLAW_MEASURES, strict=True):
        row[0].set_ylabel(f"{name}\n(flattest part, enlarged)" if name == "noise amplification" else name)
        for i, flaw in enumerate(_worst_and_typical(flaws, network, name)):
            titles = (
                f"{without_camera(flaw.name, flaw.phone)},\n{camera_name(dataset, flaw.phone)}\n{ranks[i]} of {count}: original",
                describe_change(name, flaw.values[name]),
            )
            for ax, picture, title in zip(row[2 * i : 2 * i + 2], pictures[flaw.name], titles, strict=True):
                shown = _around(picture, flaw.flattest) if name == "noise amplification" else picture
                figures.show_picture(ax, shown, title)
    return fig


def _worst_and_typical(flaws: Sequence[Flaw], network: str, measure: str) -> tuple[Flaw, Flaw]:
    ranked = rank_flaws(flaws, network, measure)
    return ranked[0], ranked[len(ranked) // 2]


def names_in_figure12(flaws: Sequence[Flaw], network: str) -> list[str]:
    """Return the names of the photographs that :func:`figure12` shows."""
    return list(dict.fromkeys(f.name for m in FLAW_MEASURES for f in _worst_and_typical(flaws, network, m)))


def _around(picture: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """Return ``_SURROUNDINGS`` x ``_SURROUNDINGS`` pixels around the block at ``corner`` (y, x)."""
    size = _SURROUNDINGS
    y, x = (
        min(max(c + _BLOCK // 2 - size // 2, 0), max(s - size, 0)) for c, s in zip(corner, picture.shape, strict=False)
    )
    return picture[y : y + size, x : x + size]


def plot_noise(flaws: Sequence[Flaw], dataset: str) -> Figure:
    """Draw the noise amplification of each photograph, with the geometric mean and interval of network and phone."""
    entries = amplifications(flaws)
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.9 + 0.42 * len(entries)))
    for row, a in enumerate(entries):
        color = colors.PHONE_COLORS[a.phone]
        values = [f.values["noise amplification"] for f in flaws if (f.network, f.phone) == (a.network, a.phone)]
        ax.scatter(values, [row + 0.22] * len(values), s=16, color=color, alpha=0.5, linewidths=0)
        bar = [[a.value - a.interval[0]], [a.interval[1] - a.value]]
        ax.errorbar([a.value], [row], xerr=bar, fmt="D", ms=5, color=color, capsize=3)
    ax.axvline(1, color="0.4", lw=0.8, ls="--")
    ax.set_xscale("log")
    # Student's interval of a few photographs can be wider than their values.
    drawn = [1.0, *(f.values["noise amplification"] for f in flaws), *(end for a in entries for end in a.interval)]
    low, high = min(drawn) / 1.1, max(drawn) * 1.1
    ax.set_xticks([t for t in _NOISE_TICKS if low <= t <= high], minor=False)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    ax.set_xlim(low, high)
    names = [f"{camera_name(dataset, a.phone)}\n{a.network} (n = {a.photographs})" for a in entries]
    ax.set_yticks(range(len(entries)), names)
    ax.set_ylim(len(entries) - 0.5, -0.5)  # the first row on top, half a row free at either end
    ax.set_xlabel("noise in flat regions, enhanced over original (below 1: falls; above 1: rises)")
    marks = (
        Line2D([], [], color="0.4", marker="o", ms=4, alpha=0.5, ls="none", label="one photograph"),
        Line2D([], [], color="0.4", marker="D", ms=5, label="geometric mean, 95 % interval"),
        Line2D([], [], color="0.4", lw=0.8, ls="--", label="unchanged"),
    )
    fig.legend(handles=marks, loc="outside upper center", ncols=len(marks))
    return fig
