"""Draw Figures 1, 8, 9, 13-18 and 19: photographs before and after enhancement, by several methods."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from dped_lib.alignment import aligner, geometry
from dped_lib.base.datasets import ALIGNED_DATASETS, camera_name, without_camera
from dped_lib.base.errors import DpedError
from dped_lib.data import photographs
from dped_lib.enhance import enhancement
from dped_lib.experiments import baselines
from dped_lib.report import colors, figures

#: The figures of the paper that show the photographs of each phone, original beside enhanced.
PAGES = {"iphone": "fig13_14", "blackberry": "fig15_16", "sony": "fig17_18"}
_GAP = 0.05  # of the width of a picture: between the two halves of a page


@dataclass(frozen=True)
class Example:
    """Name a phone's photograph and, if there is one, the DSLR's of the same scene, not aligned.

    ``original`` and ``dslr`` (uint8 H x W x 3) are read whenever they are used: a hundred of them need not fit into
    memory.
    """

    of_phone: photographs.Photograph
    of_dslr: photographs.Photograph | None = None

    @property
    def name(self) -> str:
        """Return the name of the phone's photograph."""
        return self.of_phone.name

    @property
    def scene(self) -> str:
        """Return the photograph's name without the phone's: ``flower-a`` for ``flower-a/iphone``."""
        return without_camera(self.name, self.phone)

    @property
    def phone(self) -> str:
        """Return the phone that took it."""
        return self.of_phone.camera

    @property
    def original(self) -> np.ndarray:
        """Read the phone's photograph."""
        return self.of_phone.image

    @property
    def dslr(self) -> np.ndarray | None:
        """Read the DSLR's photograph, or return None if there is none."""
        return self.of_dslr and self.of_dslr.image


def choose_examples(dataset: str, phone: str, count: int, held_out: set[str] | None = None) -> list[Example]:
    """Return photographs of ``count`` scenes, or of all scenes if there are fewer.

    They are evenly spread over the dataset's scenes. Each scene is there once, even if the dataset has several photographs of it.

    ``held_out`` names the photographs to choose from: those that no network was trained on (``PairStore.photographs``).
    The patches of ``pirm`` and ``dped`` are not cut from the whole photographs that are shown, so all of those are held
    out.

    Raises:
        DpedError: the dataset has no whole photographs of that phone.
    """
    available = [p for p in photographs.of_dataset(dataset) if p.camera in (phone, "dslr")]
    dslr: dict[str, photographs.Photograph] = {}
    by_scene: dict[str, photographs.Photograph] = {}
    for p in available:
        if p.camera == "dslr":
            dslr.setdefault(_shot(p), p)
        elif held_out is None or dataset not in ALIGNED_DATASETS or p.scene in held_out:
            by_scene.setdefault(p.scene, p)
    of_phone = list(by_scene.values())
    if not of_phone:
        raise DpedError(f"dataset {dataset!r} has no whole photographs of the {phone} to show.")
    chosen = np.unique(np.linspace(0, len(of_phone) - 1, min(count, len(of_phone))).round().astype(int))
    return [Example(of_phone[i], dslr.get(_shot(of_phone[i]))) for i in chosen]


def _shot(photograph: photographs.Photograph) -> str:
    """Return a key that photographs taken at the same moment share: their scene, and their name without the camera."""
    return f"{photograph.scene} {photograph.name.replace(photograph.camera, '')}"


_SIZE = (400, 540)  # of the aligned images, which only serve to find the map between the cameras


def seen_from_phone(example: Example) -> np.ndarray:
    """Return the DSLR's photograph as the phone saw the scene: uint8, the size of ``original``.

    It is white where the phone saw more than the DSLR. If the pair cannot be aligned, the DSLR's photograph is unchanged.
    """
    original, dslr = example.original, example.dslr
    alignment = aligner.align(original, dslr, _SIZE)
    if alignment.map is None:
        return dslr
    height, width = original.shape[:2]
    where = geometry.interpolated_map(alignment.map.to_dslr, height, width, (0, 0), 1.0)
    across = np.linalg.norm(where[height // 2, -1] - where[height // 2, 0]) / (width - 1)
    reader = geometry.Resampler(dslr, float(across))
    return np.where(reader.inside(where)[..., None], reader(where), np.uint8(255))


def enhanced_versions(example: Example, methods: Mapping[str, nn.Module | None]) -> dict[str, np.ndarray]:
    """Return the original, its version by each method, and, if there is one, the DSLR's photograph, by name.

    All have the size of the original: the DSLR's photograph is shown as the phone saw the scene. The method ``None`` is
    automatic contrast (``baselines``). These pictures are shown and not scored. They are computed in bfloat16 if the
    machine supports it, so 8-bit values differ, mostly by one step.
    """
    versions = {"original": example.original}
    for name, model in methods.items():
        enhance = baselines.auto_contrast if model is None else enhancement.engine(model)
        versions[name] = enhance(versions["original"])
    if example.of_dslr is not None:
        versions["DSLR"] = seen_from_phone(example)
    return versions


def _not_here(missing: Iterable[str]) -> list[str]:
    return [f"{name}: not here" for name in missing]


_WARPED = "DSLR, from the phone's view (white: beyond its frame)"
_ENLARGED = "yellow frame\nenlarged"


def _title(name: str, versions: Mapping[str, np.ndarray]) -> str:
    """Return the title of a version of a photograph.

    The DSLR's photograph is warped (:func:`seen_from_phone`), and its title says so. If it could not be aligned, it has
    another size and is not warped.
    """
    warped = name == "DSLR" and "original" in versions and versions[name].shape == versions["original"].shape
    return _WARPED if warped else name


#: Characters of a title or label that fit into an inch.
_CHARACTERS = 13.5


def _wrapped(title: str, inches: float) -> str:
    """Return a title in lines that fit into a width.

    A word longer than a line begins a new one, and is broken after colons. Parts that are still too long are broken after
    hyphens, and then after underscores.
    """
    width = round(_CHARACTERS * inches)
    lines = [""]
    for word in re.findall(r"\S+ ?", title):
        parts = [word]
        for mark in ":-_":
            parts = [p for part in parts for p in ([part] if _fits(part, width) else _broken_after(mark, part))]
        for i, part in enumerate(parts):
            if lines[-1] and (not _fits(lines[-1] + part, width) or (i == 0 and len(parts) > 1)):
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _fits(words: str, width: int) -> bool:
    return len(words.rstrip()) <= width


def _broken_after(mark: str, word: str) -> list[str]:
    return re.findall(f"[^{mark}]*{mark}|[^{mark}]+", word)


def grid(rows: Sequence[Mapping[str, np.ndarray]]) -> Figure:
    """Draw pictures in a grid: a row for each mapping, a column for each key."""
    names = list(rows[0])
    heights = [max(p.shape[0] / p.shape[1] for p in row.values()) for row in rows]
    size = figures.WIDTH, figures.WIDTH / len(names) * sum(heights) + 0.5
    fig, axes = plt.subplots(len(rows), len(names), figsize=size, squeeze=False, gridspec_kw={"height_ratios": heights})
    for i, (line, row) in enumerate(zip(axes, rows, strict=True)):
        for ax, name in zip(line, names, strict=True):
            figures.show_picture(ax, row[name], name if i == 0 else "")
    return fig


def mosaic(versions: Mapping[str, np.ndarray], columns: int) -> Figure:
    """Draw pictures in rows of ``columns``, each under its name."""
    rows = -(-len(versions) // columns)
    each = figures.WIDTH / columns
    titles = {name: _wrapped(_title(name, versions), each) for name in versions}
    lines = max(title.count("\n") for title in titles.values())
    tallest = max(p.shape[0] / p.shape[1] for p in versions.values())
    size = figures.WIDTH, rows * (each * tallest + 0.25 + 0.15 * lines) + 0.3
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, picture) in zip(axes.flat, versions.items(), strict=False):
        figures.show_picture(ax, picture, titles[name])
    return fig


_ZOOM = 5  # a crop is a fifth of the photograph's height and width


def detail(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Return where a photograph has most detail: (y, x, height, width) of a fifth of its height and width.

    Detail is the mean magnitude of the luminance's gradient. A margin of a tenth at each side is left out, because the
    DSLR may not show it.
    """
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    height, width = (max(1, n // _ZOOM) for n in gray.shape)
    means = cv2.blur(strength, (width, height), anchor=(0, 0), borderType=cv2.BORDER_REFLECT)
    top, left = height // 2, width // 2
    inner = means[top : gray.shape[0] - height - top, left : gray.shape[1] - width - left]
    y, x = np.unravel_index(np.argmax(inner), inner.shape)
    return int(y) + top, int(x) + left, height, width


def compare_methods(
    scenes: Sequence[Mapping[str, np.ndarray]], missing: Sequence[str] = (), names: Sequence[str] = ()
) -> Figure:
    """Draw Figure 8: scenes by methods, each photograph above the crop of it that has most detail.

    Args:
        scenes: for each scene, its versions by name (:func:`enhanced_versions`), all with the same names.
        missing: names of methods that could not run. They stand above the figure.
        names: names of the scenes. Each stands at the left of its row.
    """
    methods = list(scenes[0])
    each = figures.WIDTH / len(methods)
    heights = [row["original"].shape[0] / row["original"].shape[1] for row in scenes for _ in range(2)]
    fig, axes = plt.subplots(
        2 * len(scenes),
        len(methods),
        figsize=(figures.WIDTH, each * sum(heights) + 0.8 + 0.2 * bool(missing)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
    )
    fig.get_layout_engine().set(w_pad=0.015, h_pad=0.03)
    for i, row in enumerate(scenes):
        y, x, height, width = detail(row["original"])
        for ax, close, name in zip(axes[2 * i], axes[2 * i + 1], methods, strict=True):
            figures.show_picture(ax, row[name], _wrapped(_title(name, row), each) if i == 0 else "")
            # A photograph that could not be aligned has another size; its crop is at the same place of the frame.
            scale = row[name].shape[0] / row["original"].shape[0]
            top, left, h, w = (round(scale * n) for n in (y, x, height, width))
            figures.show_picture(close, row[name][top : top + h, left : left + w])
            if name == "original":
                ax.add_patch(Rectangle((x, y), width, height, fill=False, ec=colors.YELLOW, lw=1.5))
        if names:
            _name_row(axes[2 * i, 0], names[i], each * heights[2 * i])
        axes[2 * i + 1, 0].set_ylabel(_ENLARGED, fontsize=figures.SMALLEST_TEXT)
    if missing:
        fig.suptitle(", ".join(_not_here(missing)), fontsize=figures.SMALLEST_TEXT + 0.5, color="0.35")
    return fig


def _name_row(ax: Axes, name: str, inches: float) -> None:
    """Write a name at the left of a row of pictures, whose height is given in inches."""
    ax.set_ylabel(_wrapped(name, inches), fontsize=figures.SMALLEST_TEXT)


def phone_page(
    dataset: str,
    phone: str,
    rows: Sequence[Mapping[str, np.ndarray]],
    missing: Sequence[str] = (),
    scenes: Sequence[str] = (),
) -> Figure:
    """Draw a page of Figures 13-18: photographs of one phone, original beside enhanced, without the DSLR's.

    More than two scenes with their enhanced version, or more than four with two versions, stand in two columns. The
    title names the methods that could not run (``missing``). The name of each of the ``scenes`` stands at its left.
    """
    names = [name for name in rows[0] if name != "DSLR"]
    across = 2 if len(rows) > (2 if len(names) == 2 else 4) else 1
    lines = -(-len(rows) // across)
    each = figures.WIDTH / (across * len(names))
    tallest = max(row["original"].shape[0] / row["original"].shape[1] for row in rows)
    # The names of the right half would stand nearer to the pictures of the left one, so an empty column parts them.
    widths = ([*[1.0] * len(names), _GAP] * across)[:-1]
    fig, axes = plt.subplots(
        lines,
        len(widths),
        figsize=(figures.WIDTH, lines * each * tallest + 0.9),
        squeeze=False,
        width_ratios=widths,
    )
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.03)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, row in enumerate(rows):
        place = axes[i // across, (i % across) * (len(names) + 1) :]
        for ax, name in zip(place, names, strict=False):
            figures.show_picture(ax, row[name], _wrapped(name, each) if i < across else "")
        if scenes:
            place[0].set_axis_on()
            _name_row(place[0], scenes[i], each * tallest)
    title = f"{camera_name(dataset, phone)}: {len(rows)} scenes" + "".join(
        f" ({words})" for words in _not_here(missing)
    )
    fig.suptitle(title, fontsize=figures.SMALLEST_TEXT + 1)
    return fig


def over_under(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str] = (), label: str = "enhanced"
) -> Figure:
    """Draw Figure 9: pairs (original, enhanced), the originals in the top row and the enhanced pictures below.

    ``names`` are the cameras of the pairs. ``label`` says whose network enhanced them.
    """
    each = figures.WIDTH / len(pairs)
    tallest = max(p.shape[0] / p.shape[1] for pair in pairs for p in pair)
    fig, axes = plt.subplots(2, len(pairs), figsize=(figures.WIDTH, 2 * each * tallest + 0.5), squeeze=False)
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02)
    for i, (column, pair) in enumerate(zip(axes.T, pairs, strict=True)):
        for ax, picture, title in zip(column, pair, (names[i] if names else "", ""), strict=True):
            figures.show_picture(ax, picture, title)
    for ax, words in zip(axes[:, 0], ("original", label), strict=True):
        ax.set_ylabel(_wrapped(words, each * tallest))
    return fig
