"""Save figures and tables in one style, each with a JSON file of its numbers and parameters (``provenance``)."""

import base64
import io
import math
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
import pandas as pd
from IPython.core.formatters import DisplayFormatter
from IPython.core.getipython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib_inline import backend_inline  # noqa: F401, it would set its own formats if it were loaded later
from PIL import Image

from dped_lib.base import paths, placing, writing
from dped_lib.report import colors, provenance

#: Width of a figure in inches: 700 pixels at the 96 pixels an inch of a web page, and about a page's text width.
WIDTH = 7.3
#: The smallest text of a figure in points, at ``WIDTH``.
SMALLEST_TEXT = 8.0
#: What a table says instead of NaN.
NOT_DEFINED = "not defined"

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
    """Return a figure with pictures as JPEG, else None.

    Colours have half the resolution of the picture. If words, lines or frames are coloured, that would blur them, so
    colours then keep the full resolution.
    """
    if not _has_pictures(fig):
        return None
    subsampling = "4:4:4" if _has_colors(fig) else "4:2:0"
    return print_figure(fig, "jpeg", base64=True, pil_kwargs={"quality": 55, "subsampling": subsampling})


def _has_colors(fig: Figure) -> bool:
    """Return whether words, lines or frames of a figure are not gray."""
    inks = [text.get_color() for text in fig.findobj(Text) if text.get_text()]
    inks += [line.get_color() for line in fig.findobj(Line2D)]
    inks += [patch.get_edgecolor() for patch in fig.findobj(Patch)]
    return any(len(set(to_rgb(ink))) > 1 for ink in inks)


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


def write_beside(ax: Axes, y: float, words: str, color: str = "black") -> None:
    """Write words at the right of a panel, at the height of a value."""
    place = {"transform": ax.get_yaxis_transform(), "fontsize": SMALLEST_TEXT, "va": "center"}
    ax.text(1.03, y, words, color=color, **place)


def label_rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of a panel, from the top down."""
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(max(len(names), 1) - 0.5, -0.5)
    ax.grid(False, axis="y")


def caption_lines(caption: str, width: int) -> list[str]:
    """Break a caption into lines of at most ``width`` characters, between its entries.

    An entry that is longer than a line is broken after a comma or a semicolon. A part that is still longer than a line is
    broken between words, but never within the name of a copyright holder.
    """
    lines: list[str] = []
    for entry in caption.split(" · "):
        entry = re.sub(r"© [^),]+", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), entry)
        if lines and len(lines[-1]) + len(" · ") + len(entry) <= width:
            lines[-1] += f" · {entry}"
            continue
        if lines:
            lines[-1] += " ·"
        first, *others = re.split(r"(?<=[,;]) ", entry)
        lines += textwrap.wrap(first, width, break_on_hyphens=False)
        for part in others:
            if len(lines[-1]) + len(" ") + len(part) <= width:
                lines[-1] += f" {part}"
            else:
                lines += textwrap.wrap(part, width, break_on_hyphens=False)
    return lines


def save_figure(
    fig: Figure,
    name: str,
    origin: Mapping,
    numbers: Mapping,
    photographs: bool = False,
    pixels: int | None = None,
    caption: str = "",
) -> Path:
    """Write ``NAME.png`` with its parameters as caption, and ``NAME.json`` with its numbers. Return the picture's path.

    Args:
        fig: the figure.
        name: starts with the paper's figure number, e.g. ``fig06_color_loss_shift``.
        origin: the provenance of the result, from ``provenance.of_run``.
        numbers: the values that are drawn, and the published values.
        photographs: write ``NAME.jpg`` instead, which is a fifth of the size for photographs.
        pixels: width of the picture. By default the style sets it.
        caption: the caption of a diagram that shows nothing of the dataset. By default it is made from ``origin``.
    """
    target = provenance.place_of(origin, f"{name}.jpg" if photographs else f"{name}.png")
    # At least 15 characters of this size fit into an inch.
    lines = caption_lines(caption or provenance.caption(origin), int(15 * fig.get_figwidth()))
    fig.supxlabel("\n".join(lines), fontsize=SMALLEST_TEXT, color="0.35")
    dpi = {"dpi": pixels / fig.get_figwidth()} if pixels else {}
    # One pass of the layout does not settle pictures of a fixed shape, and cuts titles off at the upper edge.
    fig.draw_without_rendering()
    with writing.atomic_path(target) as part:
        if photographs:
            with placing.WholeFile(part) as file:
                fig.savefig(file, **dpi, **_JPEG)
        else:
            fig.savefig(part, **dpi, **PNG)
    provenance.save_numbers(target, origin, {"figure": name, "numbers": numbers})
    return target


def to_markdown(frame: pd.DataFrame) -> str:
    """Return a table without its index as Markdown.

    Text such as "19.90" keeps its last digit. All numbers of a column have the same number of decimals. NaN becomes
    :data:`NOT_DEFINED`. No line ends within an interval, or between a value and its interval.
    """
    text = [i for i, kind in enumerate(frame.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    digits = tuple(f".{_decimals(frame.iloc[:, i])}f" for i in range(frame.shape[1]))
    # Tabulate takes only None for a missing value. It refuses the indices of columns if there is no row.
    cells = frame.astype(object).where(frame.notna(), None)
    numparse = {"disable_numparse": text if len(frame) else True, "floatfmt": digits}
    table = cells.to_markdown(index=False, missingval=NOT_DEFINED, **numparse)
    return re.sub(r"(?:[^\s|]+ )?\[[+-]?\d[^]|]*\]", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), table)


def _decimals(column: pd.Series) -> int:
    """Return the number of decimals that the numbers of a column need; 0 for text and whole numbers."""
    if not pd.api.types.is_float_dtype(column):
        return 0
    decimals = (str(value).partition(".")[2] for value in column if math.isfinite(value))
    return max((len(d) for d in decimals if d != "0"), default=0)


def save_table(frame: pd.DataFrame, name: str, origin: Mapping, title: str, numbers: Mapping, notes: str = "") -> Path:
    """Write a table as Markdown (``NAME.md``), as CSV, and as JSON with unrounded numbers and parameters.

    Return the path of the Markdown file.
    """
    target = provenance.place_of(origin, f"{name}.md")
    body = f"# {title}\n\n{to_markdown(frame)}\n\n{notes}\n\n{provenance.caption(origin)}\n"
    if command := os.environ.get(paths.COMMAND):
        body += f"\nHow to reproduce this table: `{command}`\n"
    writing.write_text(target, body)
    writing.write_text(target.with_suffix(".csv"), frame.to_csv(index=False, na_rep=NOT_DEFINED))
    provenance.save_numbers(target, origin, {"table": title, "numbers": numbers, "notes": notes})
    return target
