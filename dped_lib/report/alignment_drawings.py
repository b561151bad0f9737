"""Draw how the dataset is made: the rig (Figure 2), quadruplets (Figure 3), the matching step by step (Figure 4)."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle

from dped_lib import paper
from dped_lib.alignment import aligner, extraction, geometry
from dped_lib.data import rig
from dped_lib.report import colors, figures

_INLIER, _OUTLIER, _CROP = colors.SKY, colors.ORANGE, colors.GREEN
_IN_PLACE = "0.2"
_MAX_DRAWN_MATCHES = 600
_TALLEST = 6.2  # height of Figure 4 in inches; a notebook's page in JupyterLab shows about 6.7
_ROOM = 0.12  # how far beyond a photograph Figure 4 shows the other camera's frame, as a share of its side
_CAPTION = 30  # characters in a line below a third of a figure's width
_PAIRS_IN_ROW = 4
_LEAST_DRAWN_NCC = 0.5  # few windows have a lower NCC; the histogram counts them in its first bin


def rig_drawing() -> Figure:
    """Draw the simulated rig (Figure 2): the cameras from above, enlarged beside it, and what each camera sees."""
    fig, (above, near, front) = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.9), width_ratios=(1, 0.95, 1.1))
    places = {name: rig.camera_position(name) for name in rig.CAMERA_MODELS}
    above.plot([-0.85, 0.85], [0, 0], color="#888888", lw=5, solid_capstyle="butt")
    above.text(0, 0.05, "scene", ha="center", va="bottom", color="#555555")
    for name, frame in rig.shoot("wall-1", scale=0.02).items():
        color = colors.PHONE_COLORS[name]
        visible = frame.geometry.to_scene(geometry.outline(*frame.image.shape[:2]))
        x, _, z = places[name]
        for edge in (visible[:, 0].min(), visible[:, 0].max()):
            above.plot([x, edge], [z, 0], color=color, lw=1)
        for ax in (above, near):
            ax.plot(x, z, "o", color=color, ms=5 if ax is above else 9)
        label = paper.CAMERAS[name].name
        front.add_patch(Polygon(visible, closed=True, fill=False, edgecolor=color, lw=1.6, label=label))
    x, z = np.array(list(places.values()))[:, (0, 2)].T
    half = 0.95 * max(np.ptp(x), np.ptp(z), 0.02)  # room for the names at both sides
    box = Rectangle((x.mean() - half, z.mean() - half), 2 * half, 2 * half, fill=False, ec="0.3", lw=1)
    above.add_patch(box)
    near.set(xlim=(x.mean() - half, x.mean() + half), ylim=(z.mean() - half, z.mean() + half), aspect="equal")
    for i, (name, (x, _, z)) in enumerate(sorted(places.items(), key=lambda item: item[1][0])):
        words = paper.CAMERAS[name].name.replace(" DSLR", "").replace(" ", "\n", 1)
        # Names alternate between above and below, because those of neighbours would touch.
        offset, side = ((0, 8), "bottom") if i % 2 else ((0, -8), "top")
        place = {"textcoords": "offset points", "ha": "center", "va": side, "fontsize": figures.SMALLEST_TEXT}
        near.annotate(words, (x, z), offset, color=colors.PHONE_COLORS[name], **place)
    near.set(yticks=[], xlabel="heights of the scene")
    near.locator_params(axis="x", nbins=3)
    near.set_title("Enlarged: the cameras", loc="left")
    for side in near.spines.values():
        side.set_visible(True)
    above.set(xlim=(-0.95, 0.95), ylim=(-1.95, 0.25), xlabel="heights of the scene", ylabel="heights of the scene")
    above.set_title("From above", loc="left")
    front.set(xlim=(-0.82, 0.82), ylim=(0.62, -0.62), aspect="equal")
    front.set(xlabel="heights of the scene", ylabel="heights of the scene")
    front.set_title("What each camera sees", loc="left")
    fig.legend(*front.get_legend_handles_labels(), loc="outside upper center", ncols=len(places))
    for ax in (above, near, front):
        ax.grid(False)
        ax.set_anchor("N")  # the titles then stand on one line
    above.set_aspect("equal")
    return fig


def quadruplets(photographs: Mapping[str, Mapping[str, np.ndarray]], names: Mapping[str, str]) -> Figure:
    """Draw photographs of the same scenes (rows) by each camera (columns), before alignment (Figure 3).

    Args:
        photographs: scene -> camera -> uint8 H x W x 3, RGB.
        names: camera -> title of its column.
    """
    # Photographs of any shape get the same height.
    widths = [max(images[c].shape[1] / images[c].shape[0] for images in photographs.values()) for c in names]
    size = figures.WIDTH, figures.WIDTH / sum(widths) * len(photographs) + 0.4
    fig, axes = plt.subplots(len(photographs), len(names), figsize=size, squeeze=False, width_ratios=widths)
    for row, (scene, images) in zip(axes, photographs.items(), strict=True):
        row[0].set_ylabel(scene)
        for ax, camera in zip(row, names, strict=True):
            figures.show_picture(ax, images[camera])
    for ax, name in zip(axes[0], names.values(), strict=True):
        ax.set_title(name)
    return fig


def matching_steps(phone: np.ndarray, dslr: np.ndarray, alignment: aligner.Alignment, names: tuple[str, str]) -> Figure:
    """Draw the matching step by step (Figure 4): keypoint matches, intersection, crop, and the two aligned images.

    Each column is a step. The upper row is the phone's, the lower row the DSLR's.

    Args:
        phone, dslr: the photographs, uint8 H x W x 3, RGB.
        alignment: their alignment, with verdict ``aligned``.
        names: of the phone and of the DSLR, for the titles.
    """
    tallest = [max(i.shape[0] / i.shape[1] for i in row) for row in ((phone, alignment.phone), (dslr, alignment.dslr))]
    height = figures.WIDTH / 3 * sum(tallest) + 0.9
    size = figures.WIDTH, min(height, _TALLEST)
    fig, axes = plt.subplots(2, 3, figsize=size, gridspec_kw={"height_ratios": tallest})
    count = len(alignment.matches)
    sample = np.linspace(0, count - 1, min(_MAX_DRAWN_MATCHES, count)).astype(int)
    sides = ((phone, slice(0, 2), names[0]), (dslr, slice(2, 4), names[1]))
    for ax, (image, columns, name) in zip(axes[:, 0], sides, strict=True):
        figures.show_picture(ax, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cmap="gray")
        for inlier, color, mark in ((False, _OUTLIER, "x"), (True, _INLIER, ".")):
            xy = alignment.matches[sample][alignment.inliers[sample] == inlier][:, columns]
            ax.plot(*xy.T, mark, color=color, ms=4, mew=1)
        height, width = image.shape[:2]
        ax.set_ylabel(f"{name}\n{width} px wide, {height} high")
    r = alignment.report
    drawn = f", {len(sample)} of them drawn" if len(sample) < count else ""
    matched = f"1. SIFT: {r.matches} matches{drawn}. RANSAC: {r.inliers} agree on one homography (dots), "
    captions = [matched + "the others do not (crosses)"]
    size = alignment.dslr.shape[:2]
    crop = geometry.outline(*size)
    outlines = (
        (phone, alignment.map.to_phone(geometry.outline(*dslr.shape[:2])), alignment.to_phone(crop)),
        (dslr, alignment.map.to_dslr(geometry.outline(*phone.shape[:2])), alignment.to_dslr(crop)),
    )
    for ax, (image, other_frame, crop_outline) in zip(axes[:, 1], outlines, strict=True):
        figures.show_picture(ax, image)
        _make_room(ax, other_frame)
        # The other frame is dashed and drawn over the crop, so both are seen where they coincide.
        ax.add_patch(Polygon(crop_outline, fill=False, edgecolor=_CROP, lw=2.2))
        ax.add_patch(Polygon(other_frame, fill=False, edgecolor=_OUTLIER, lw=1.8, ls=(0, (4, 2)), zorder=2))
    aspect = "1080:800" if size[1] >= size[0] else "800:1080"
    captions.append(
        f"2. Orange: the other camera's frame (intersection {r.overlap:.0%})\n"
        f"3. Green: the largest rectangle in both, width to height {aspect}"
    )
    for ax, image in zip(axes[:, 2], (alignment.phone, alignment.dslr), strict=True):
        figures.show_picture(ax, image)
    captions.append(f"4. Resampled ({r.model}) to {size[1]} px wide, {size[0]} high")
    for ax, caption in zip(axes[1], captions, strict=True):
        lines = "\n".join(textwrap.fill(line, _CAPTION) for line in caption.split("\n"))
        ax.set_xlabel(lines, loc="left")
        ax.set_anchor("S")  # the captions then begin on one line
    return fig


def _make_room(ax: Axes, outline: np.ndarray) -> None:
    """Widen the limits of a picture's axes so that an outline (N x 2 pixels) is inside, but by :data:`_ROOM` at most."""
    for ends, set_limits, places in (
        (ax.get_xlim(), ax.set_xlim, outline[:, 0]),
        (ax.get_ylim(), ax.set_ylim, outline[:, 1]),
    ):
        low, high = sorted(ends)
        most = _ROOM * (high - low)
        edge = 0.01 * (high - low)  # half of a line's width lies outside the outline
        low -= np.clip(low - places.min() + edge, edge, most)
        high += np.clip(places.max() - high + edge, edge, most)
        set_limits((low, high) if ends[0] < ends[1] else (high, low))


def alignment_check(phone: np.ndarray, dslr: np.ndarray, alignment: aligner.Alignment) -> Figure:
    """Draw the two aligned images in a chequerboard, and their difference with and without the alignment.

    Without alignment, the photographs are only scaled to one size. Differences (phone minus DSLR) are between gray images,
    each brought to mean 0 and standard deviation 1. They show misalignment and not differences in brightness. The titles
    give the mean of the absolute differences.

    Args:
        phone, dslr: the photographs, uint8 H x W x 3, RGB.
        alignment: their alignment, with verdict ``aligned``.
    """
    fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.5), width_ratios=(1, 1, 1))
    height, width = alignment.dslr.shape[:2]
    rows, columns = np.indices((height, width)) // (height // 6)
    tile = (rows + columns) % 2
    figures.show_picture(axes[0], np.where(tile[..., None] == 1, alignment.phone, alignment.dslr))
    axes[0].set_title("Aligned: phone and DSLR\nin alternate squares")
    scaled = [cv2.resize(i, (width, height), interpolation=cv2.INTER_AREA) for i in (phone, dslr)]
    for ax, pair, title in (
        (axes[1], scaled, "Only scaled to one size"),
        (axes[2], (alignment.phone, alignment.dslr), "Aligned"),
    ):
        a, b = (_standardised_gray(i) for i in pair)
        drawn = figures.show_picture(ax, a - b, cmap="RdBu_r", vmin=-2, vmax=2)
        ax.set_title(f"{title}:\nmean difference {np.abs(a - b).mean():.2f}")
    fig.colorbar(drawn, ax=axes[2], label="phone minus DSLR\n(standard deviations)", shrink=0.9)
    return fig


def ncc_distribution(
    windows: Mapping[str, Sequence[extraction.Window]],
    names: Mapping[str, str],
    threshold: float = paper.NCC_THRESHOLD,
) -> Figure:
    """Draw the distribution of the windows' NCC with the DSLR's, in place and as moved (section 3.2.1).

    Args:
        windows: phone -> its windows.
        names: phone -> title of its panel.
        threshold: NCC that kept pairs exceed; it is drawn as a dashed line.
    """
    width = figures.WIDTH if len(windows) > 1 else 4.5
    fig, axes = plt.subplots(1, len(windows), figsize=(width, 2.8), sharey=True, squeeze=False)
    bins = np.linspace(_LEAST_DRAWN_NCC, 1, 51)
    for ax, (phone, sample) in zip(axes[0], windows.items(), strict=True):
        color = colors.PHONE_COLORS[phone]
        percent = np.full(len(sample), 100 / max(1, len(sample)))
        for values, style in (
            ([w.ncc_before for w in sample], {"color": _IN_PLACE, "histtype": "step", "lw": 1}),
            ([w.ncc for w in sample], {"color": color, "alpha": 0.6}),
        ):
            drawn = np.clip(np.nan_to_num(values, nan=0.0), _LEAST_DRAWN_NCC, 1)
            ax.hist(drawn, bins, weights=percent, **style)
        ax.axvline(threshold, color="0.2", lw=1.2, ls="--")
        ax.set(xlabel="NCC with the DSLR's window", yscale="log", title=f"{names[phone]}:\n{len(sample)} windows")
        figures.plain_numbers(ax.yaxis)
        ticks = np.arange(_LEAST_DRAWN_NCC, 1.05, 0.1)
        ax.set_xticks(ticks, [f"≤ {ticks[0]:g}", *(f"{t:.1f}" for t in ticks[1:])])
    axes[0, 0].set_ylabel("windows (%, logarithmic)")
    marks = (
        Patch(fc="none", ec=_IN_PLACE, lw=1, label="in place"),
        Patch(fc="0.35", alpha=0.6, label="moved to the best place"),
        Line2D([], [], color="0.2", lw=1.2, ls="--", label=f"threshold {threshold:g}"),
    )
    fig.legend(handles=marks, loc="outside upper center", ncols=len(marks))
    return fig


def window_caption(window: extraction.Window, threshold: float = paper.NCC_THRESHOLD) -> str:
    """Return why a window was left out, and its NCC: ``NCC 0.899, not above 0.9``.

    The NCC is rounded down to three decimals, so a value below the threshold never reads as the threshold.
    """
    ncc = "" if window.ncc is None else f"NCC {math.floor(1000 * window.ncc) / 1000:.3f}"
    if window.verdict == extraction.BELOW:
        return f"{ncc}, not above {threshold:g}"
    words = "flat (too little detail)" if window.verdict == extraction.FLAT else window.verdict
    return words + (f": {ncc}" if ncc else "")


def window_pairs(
    pairs: Sequence[tuple[str, np.ndarray, np.ndarray]], count: int, names: tuple[str, str] = ("phone", "DSLR")
) -> Figure:
    """Draw windows that were left out side by side, phone left and DSLR right.

    Args:
        pairs: caption, the phone's and the DSLR's patch (uint8 H x W x 3, RGB) of each drawn window.
        count: the number of all windows that were left out, for the title.
        names: of the phone and of the DSLR, for the title.
    """
    rows = -(-len(pairs) // _PAIRS_IN_ROW)
    height = figures.WIDTH / _PAIRS_IN_ROW / 2 + 0.45
    fig, axes = plt.subplots(rows, _PAIRS_IN_ROW, figsize=(figures.WIDTH, height * rows + 0.3), squeeze=False)
    fig.suptitle(f"{len(pairs)} of {count} windows that were left out: {names[0]} (left) and {names[1]} (right)")
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (caption, phone, dslr) in zip(axes.flat, pairs, strict=False):
        gap = np.full((phone.shape[0], 4, 3), 255, np.uint8)
        ax.imshow(np.hstack([phone, gap, dslr]), interpolation="nearest")
        # Two lines: the longest caption is wider than its pair.
        ax.set_title(re.sub(r"[:,] ", "\n", caption), fontsize=figures.SMALLEST_TEXT + 0.5)
    return fig


def residual_shifts(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Measure the remaining shift between the patches of each pair: N, in pixels.

    Phase correlation measures it, independently of the NCC that placed the patches. ``pairs`` holds patches of the
    phone and of the DSLR, uint8 100 x 100 x 3, RGB.
    """
    shifts = []
    window = cv2.createHanningWindow((paper.PATCH_SIZE, paper.PATCH_SIZE), cv2.CV_32F)
    for phone, dslr in pairs:
        a, b = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (phone, dslr))
        (dx, dy), _ = cv2.phaseCorrelate(b, a, window)
        shifts.append(np.hypot(dx, dy))
    return np.array(shifts)


def _standardised_gray(image: np.ndarray) -> np.ndarray:
    """Return the image in gray (float32 H x W) with mean 0 and standard deviation 1."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (gray - gray.mean()) / max(gray.std(), 1e-6)
