"""Pictures of the dataset's making: the rig (Figure 2), quadruplets (Figure 3), the matching step by step (Figure 4)."""

from collections.abc import Mapping, Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from dped_lib import paper
from dped_lib.alignment import aligner, extraction, geometry
from dped_lib.data import rig
from dped_lib.report import figures

_MATCH, _WRONG, _CROP = "#56B4E9", "#E69F00", "#009E73"


def rig_drawing() -> Figure:
    """Figure 2 as a drawing of the simulated rig from above: where each camera stands, and what it sees of the scene."""
    fig, (above, front) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1.25, 1))
    above.plot([-0.85, 0.85], [0, 0], color="#888888", lw=5, solid_capstyle="butt")
    above.text(0, 0.05, "scene", ha="center", va="bottom", color="#555555")
    for i, (name, frame) in enumerate(rig.shoot("wall-1", scale=0.02).items()):
        color = figures.PHONE_COLORS[name]
        seen = frame.geometry.to_scene(geometry.outline(*frame.image.shape[:2]))
        eye = rig.position(name)
        for edge in (seen[:, 0].min(), seen[:, 0].max()):
            above.plot([eye[0], edge], [eye[2], 0], color=color, lw=1.2)
        above.plot(eye[0], eye[2], "o", color=color, ms=8)
        above.annotate(
            paper.CAMERAS[name].name, (eye[0], eye[2]), xytext=(0.45, -1.1 - 0.16 * i), color=color, va="center",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.8},
        )  # fmt: skip
        front.add_patch(Polygon(seen, closed=True, fill=False, edgecolor=color, lw=1.6, label=paper.CAMERAS[name].name))
    above.set(xlim=(-1, 1.6), ylim=(-1.85, 0.25), xlabel="heights of the scene", ylabel="heights of the scene")
    above.set_title("From above", loc="left")
    front.set(xlim=(-0.82, 0.82), ylim=(0.62, -0.62), aspect="equal", xlabel="heights of the scene")
    front.set_title("What each camera sees of the scene", loc="left")
    front.legend(loc="center", fontsize=9)
    for ax in (above, front):
        ax.grid(False)
    above.set_aspect("equal")
    return fig


def quadruplets(photographs: Sequence[Mapping[str, np.ndarray]], names: Mapping[str, str]) -> Figure:
    """Figure 3: the same scenes (rows) by each camera (columns), as they come out of it."""
    fig, axes = plt.subplots(
        len(photographs), len(names), figsize=(2.5 * len(names), 1.85 * len(photographs)), squeeze=False
    )
    for i, (row, images) in enumerate(zip(axes, photographs, strict=True)):
        for ax, (camera, name) in zip(row, names.items(), strict=True):
            _show(ax, images[camera])
            if i == 0:
                ax.set_title(name, fontsize=10)
    return fig


def steps(phone: np.ndarray, dslr: np.ndarray, found: aligner.Alignment, names: tuple[str, str]) -> Figure:
    """Figure 4: keypoint matches, what both photographs show, the crop, and the two aligned images."""
    fig, axes = plt.subplots(3, 2, figsize=(9, 10.2))
    few = np.linspace(0, len(found.matched) - 1, min(600, len(found.matched))).astype(int)
    sides = ((phone, slice(0, 2), names[0]), (dslr, slice(2, 4), names[1]))
    for ax, (image, columns, name) in zip(axes[0], sides, strict=True):
        _show(ax, image, gray=True)
        for agreed, color, mark in ((False, _WRONG, "x"), (True, _MATCH, ".")):
            at = found.matched[few][found.agreed[few] == agreed][:, columns]
            ax.plot(*at.T, mark, color=color, ms=4, mew=1)
        height, width = image.shape[:2]
        ax.set_title(f"{name}: {width} x {height}", fontsize=10)
    r = found.report
    axes[0, 0].set_xlabel(
        f"1. SIFT: {r.matches} matches; dots: {r.inliers} agree on one\nhomography (RANSAC), crosses: the others",
        loc="left",
    )
    size = found.dslr.shape[:2]
    crop = geometry.outline(*size)
    outlines = (
        (phone, found.map.to_phone(geometry.outline(*dslr.shape[:2])), found.to_phone(crop)),
        (dslr, found.map.to_dslr(geometry.outline(*phone.shape[:2])), found.to_dslr(crop)),
    )
    for ax, (image, other, cut) in zip(axes[1], outlines, strict=True):
        _show(ax, image)
        ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())
        ax.add_patch(Polygon(other, fill=False, edgecolor=_WRONG, lw=1.8))
        ax.add_patch(Polygon(cut, fill=False, edgecolor=_CROP, lw=2.2))
    axes[1, 0].set_xlabel(
        f"2. Orange: what the other camera sees (shared: {r.overlap:.0%})\n3. Green: the largest {_ratio(size)} rectangle in both",
        loc="left",
    )
    for ax, image in zip(axes[2], (found.phone, found.dslr), strict=True):
        _show(ax, image)
    axes[2, 0].set_xlabel(f"4. Resampled to {size[1]} x {size[0]}", loc="left")
    return fig


def proof(phone: np.ndarray, dslr: np.ndarray, found: aligner.Alignment) -> Figure:
    """What proves an alignment: the two images in a chequerboard, and their difference with and without the matching.

    Without it, the photographs are only scaled to one size. Differences are of gray, each first brought to the same mean
    and spread: what is left is what does not coincide.
    """
    fig, axes = plt.subplots(1, 3, figsize=(10, 3.1), width_ratios=(1, 1, 1))
    height, width = found.dslr.shape[:2]
    rows, columns = np.indices((height, width)) // (height // 6)
    tile = (rows + columns) % 2
    _show(axes[0], np.where(tile[..., None] == 1, found.phone, found.dslr))
    axes[0].set_title("Aligned, in turns: phone, DSLR", fontsize=10)
    naive = [cv2.resize(i, (width, height), interpolation=cv2.INTER_AREA) for i in (phone, dslr)]
    for ax, pair, title in (
        (axes[1], naive, "Difference, only scaled"),
        (axes[2], (found.phone, found.dslr), "Difference, aligned"),
    ):
        a, b = (_normal(i) for i in pair)
        shown = ax.imshow(a - b, cmap="RdBu_r", vmin=-2, vmax=2)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(False)
        ax.set_title(f"{title}: {np.abs(a - b).mean():.2f}", fontsize=10)
    fig.colorbar(shown, ax=axes[2], label="standard deviations", shrink=0.9)
    return fig


def ncc_distribution(
    windows: Mapping[str, Sequence[extraction.Window]], threshold: float = paper.NCC_THRESHOLD
) -> Figure:
    """How the correlation of windows with the DSLR's is distributed, in place and after they were moved, phone by phone."""
    fig, axes = plt.subplots(1, len(windows), figsize=(3.4 * len(windows), 2.9), sharey=True, squeeze=False)
    least = 0.5  # few are below; they are counted in the first bin
    bins = np.linspace(least, 1, 51)
    for ax, (phone, some) in zip(axes[0], windows.items(), strict=True):
        color = figures.PHONE_COLORS.get(phone, "#0072B2")
        for values, style in (
            ([w.ncc_before for w in some], {"color": "#999999", "histtype": "step", "lw": 1.5, "label": "in place"}),
            ([w.ncc for w in some], {"color": color, "alpha": 0.6, "label": "moved"}),
        ):
            ax.hist(
                np.clip(np.nan_to_num(values, nan=0.0), least, 1),
                bins,
                weights=np.full(len(some), 100 / max(1, len(some))),
                **style,
            )
        ax.axvline(threshold, color="#D55E00", lw=1.2, ls="--")
        ax.set(xlabel="NCC with the DSLR's window", yscale="log", title=f"{phone}: {len(some)} windows")
        ax.legend(loc="upper left", fontsize=9)
    axes[0, 0].set_ylabel("windows (%, logarithmic)")
    return fig


def window_pairs(shown: Sequence[tuple[str, np.ndarray, np.ndarray]], columns: int = 6) -> Figure:
    """Small pairs side by side, phone left and DSLR right, each under its caption."""
    rows = -(-len(shown) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 1.25 * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (caption, phone, dslr) in zip(axes.flat, shown, strict=False):
        gap = np.full((phone.shape[0], 4, 3), 255, np.uint8)
        ax.imshow(np.hstack([phone, gap, dslr]))
        ax.set_title(caption, fontsize=8)
    return fig


def residual_shifts(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Shift (px) left between the patches of each pair, measured independently of how they were found: phase correlation."""
    found = []
    window = cv2.createHanningWindow((paper.PATCH_SIZE, paper.PATCH_SIZE), cv2.CV_32F)
    for phone, dslr in pairs:
        a, b = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (phone, dslr))
        (dx, dy), _ = cv2.phaseCorrelate(b, a, window)
        found.append(np.hypot(dx, dy))
    return np.array(found)


def _show(ax, image: np.ndarray, gray: bool = False) -> None:
    ax.imshow(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if gray else image, cmap="gray" if gray else None)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)


def _normal(image: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (gray - gray.mean()) / max(gray.std(), 1e-6)


def _ratio(size: tuple[int, int]) -> str:
    return "1080:800" if size[1] >= size[0] else "800:1080"
