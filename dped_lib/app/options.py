"""Define options that several ``dped`` commands share, and read and print their values.

This module and the command modules import PyTorch only inside functions, so that ``dped --help`` answers at once.
"""

import os
import shlex
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from dped_lib.base import datasets, paths, presets, validation
from dped_lib.base.errors import DpedError
from dped_lib.data import shipped_runs

Dataset = Annotated[str, typer.Option(help=f"The dataset: {', '.join(datasets.DATASETS)}.")]
PresetName = Annotated[str, typer.Option("--preset", help=f"The amount of computing: {', '.join(presets.PRESETS)}.")]
Phone = Annotated[str, typer.Option(help="A phone of the dataset. Default: its first phone.")]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, or one of several GPUs, e.g. cuda:1. auto takes a GPU if there is one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
SetOptions = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set any other parameter. The option may be repeated.")
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Train anew where a finished run comes with the package. Your own runs are kept."),
]
OnBad = Annotated[
    str,
    typer.Option(
        help="What to do with a damaged image file: 'error' stops the command, 'skip' leaves the file out and counts it."
    ),
]

#: Categories of Unicode: control characters, halves of surrogate pairs (bytes that are no text), line and paragraph ends.
_ESCAPED = ("Cc", "Cs", "Zl", "Zp")


def program() -> str:
    """Return how the user calls this program, for commands that a message proposes: ``dped``, or with its folder."""
    called = sys.argv[0]
    return shlex.quote(called) if Path(called).name == "dped" and not shutil.which("dped") else "dped"


def from_here(path: Path) -> Path:
    """Return a path as the next command may name it: relative to the working folder if it lies inside."""
    return paths.seen_from(path, Path.cwd())


def train_anew(fresh: bool) -> None:
    """Make this process and those that it starts train where a finished run ships, if ``fresh``."""
    if fresh:
        os.environ[shipped_runs.FRESH] = "1"


def print_line(text: str, err: bool = False) -> None:
    """Print one line. Escape control characters, line breaks and undecodable bytes, which a file name may contain."""
    escaped = (c.encode("unicode_escape").decode() if unicodedata.category(c) in _ESCAPED else c for c in text)
    typer.echo("".join(escaped), err=err)


def typed_settings(settings: list[str], types: dict[str, type]) -> dict[str, object]:
    """Convert ``KEY=VALUE`` arguments to values of the parameters' types.

    Raises:
        DpedError: an argument has no ``=``, an unknown key, or a value of another type.
    """
    values: dict[str, object] = {}
    for item in settings:
        key, separator, text = item.partition("=")
        if not separator:
            raise DpedError(f"--set {item!r}: write KEY=VALUE, for instance --set seed=1.")
        kind = types[validation.one_of("parameter", key, types)]
        try:
            values[key] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise DpedError(f"--set {item}: {key} must be {kind.__name__}.") from None
    return values


def phone_or_first(dataset: str, phone: str) -> str:
    """Return the phone after checking that the dataset has it. An empty name means the dataset's first phone."""
    return datasets.check_phone(dataset, phone or datasets.first_phone(dataset))


def report_skips(store) -> None:
    """Print on standard error how many pairs of a store were skipped, and why."""
    if store.skipped:
        typer.echo(f"skipped pairs: {', '.join(f'{v} {k}' for k, v in store.skipped.items())}", err=True)
