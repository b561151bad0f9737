"""Draw Figures 1, 8, 9, 13-18 and 19: photographs before and after enhancement, by several methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import nn

from dped_lib.base.datasets import camera_name
from dped_lib.base.errors import DpedError
from dped_lib.data import photographs
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import baselines

#: The figures of the paper that show the photographs of each phone, original beside enhanced.
PAGES = {"iphone": "fig13_14", "blackberry": "fig15_16", "sony": "fig17_18"}


@dataclass(frozen=True)
class Example:
    """Hold a phone's photograph and, if there is one, the DSLR's of the same scene (uint8 H x W x 3, not aligned)."""

    name: str
    phone: str
    original: np.ndarray
    dslr: np.ndarray | None


def choose_examples(dataset: str, phone: str, count: int, held_out: set[str] | None = None) -> list[Example]:
    """Return ``count`` photographs of a phone, evenly spread over those that a dataset has.

    ``held_out`` names the photographs to choose from: those that no network was trained on (``PairStore.photographs``).

    Raises:
        DpedError: the dataset has no whole photographs of that phone.
    """
    available = [p for p in photographs.of_dataset(dataset) if p.camera in (phone, "dslr")]
    dslr = {p.scene: p for p in available if p.camera == "dslr"}
    of_phone = [p for p in available if p.camera == phone and (held_out is None or p.scene in held_out)]
    if not of_phone:
        raise DpedError(f"dataset {dataset!r} has no whole photographs of the {phone} to show.")
    chosen = np.unique(np.linspace(0, len(of_phone) - 1, min(count, len(of_phone))).round().astype(int))
    pairs = [(of_phone[i], dslr.get(of_phone[i].scene)) for i in chosen]
    return [Example(p.name, phone, p.image, other and other.image) for p, other in pairs]


def enhanced_versions(example: Example, methods: Mapping[str, nn.Module | None]) -> dict[str, np.ndarray]:
    """Return the original, its version by each method, and, if there is one, the DSLR's photograph, by name.

    The method ``None`` is automatic contrast (``baselines``). These pictures are shown and not scored. They are
    computed in bfloat16 if the machine supports it, so 8-bit values differ, mostly by one step.
    """
    versions = {"original": example.original}
    for name, model in methods.items():
        enhance = baselines.auto_contrast if model is None else enhancement.engine(model)
        versions[name] = enhance(example.original)
    if example.dslr is not None:
        versions["DSLR"] = example.dslr
    return versions


def grid(rows: Sequence[Mapping[str, np.ndarray]], labels: Sequence[str] = (), width: float = 9.0) -> Figure:
    """Draw pictures in a grid: a row for each mapping, a column for each key; ``labels`` name the rows."""
    names = list(rows[0])
    heights = [max(p.shape[0] / p.shape[1] for p in row.values()) for row in rows]
    each = width / len(names)
    fig, axes = plt.subplots(
        len(rows),
        len(names),
        figsize=(width, each * sum(heights) + 0.25 * len(rows) + 0.35),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for i, (line, row) in enumerate(zip(axes, rows, strict=True)):
        for ax, name in zip(line, names, strict=True):
            ax.imshow(row[name], interpolation="antialiased")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            for spine in ax.spines.values():
                spine.set_visible(False)
            if i == 0:
                ax.set_title(name, fontsize=9)
        if labels:
            line[0].set_ylabel(labels[i], fontsize=8)
    return fig


def mosaic(versions: Mapping[str, np.ndarray], columns: int, width: float = 9.0) -> Figure:
    """Draw pictures in rows of ``columns``, each under its name."""
    each = width / columns
    rows = -(-len(versions) // columns)
    tallest = max(p.shape[0] / p.shape[1] for p in versions.values())
    fig, axes = plt.subplots(rows, columns, figsize=(width, rows * (each * tallest + 0.3) + 0.2), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (name, picture) in zip(axes.flat, versions.items(), strict=False):
        ax.imshow(picture, interpolation="antialiased")
        ax.set_title(name, fontsize=9)
    return fig


def phone_page(dataset: str, phone: str, rows: Sequence[Mapping[str, np.ndarray]]) -> Figure:
    """Draw a page of Figures 13-18: photographs of one phone, original beside enhanced, without the DSLR's."""
    without_dslr = [{name: p for name, p in row.items() if name != "DSLR"} for row in rows]
    return grid(without_dslr, [camera_name(dataset, phone)] * len(rows))


def over_under(pairs: Sequence[tuple[np.ndarray, np.ndarray]], label: str = "enhanced", width: float = 9.0) -> Figure:
    """Draw Figure 9: pairs (original, enhanced), the originals in the top row and the enhanced pictures below.

    ``label`` says whose network enhanced them.
    """
    each = width / len(pairs)
    tallest = max(p.shape[0] / p.shape[1] for pair in pairs for p in pair)
    fig, axes = plt.subplots(2, len(pairs), figsize=(width, 2 * each * tallest + 0.4), squeeze=False)
    for column, pair in zip(axes.T, pairs, strict=True):
        for ax, picture in zip(column, pair, strict=True):
            ax.imshow(picture, interpolation="antialiased")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
    for ax, name in zip(axes[:, 0], ("original", label), strict=True):
        ax.set_ylabel(name, fontsize=9)
    return fig
