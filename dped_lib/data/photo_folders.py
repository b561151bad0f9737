"""List the photographs in a folder, and compare their names as people see them."""

import os
import unicodedata
from collections.abc import Container, Mapping
from pathlib import Path

from dped_lib.base.errors import DpedError

#: Suffixes of the files that are read in a folder of photographs. Other files are ignored.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".heic", ".heif"})


def is_image_name(name: str) -> bool:
    """Return whether a file of this name counts as an image: not hidden, and with a suffix of ``SUFFIXES`` in any case."""
    # A Path interns its parts: 160 000 names of an archive would grow a table of the interpreter by many megabytes.
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def list_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name (``is_image_name``).

    Raises:
        DpedError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DpedError(f"{folder}: no such folder. It must hold photographs ({', '.join(sorted(SUFFIXES))}).")
    return sorted(f for f in folder.iterdir() if is_image_name(f.name) and f.is_file())


def list_photographs(folder: Path, only: Container[str] | None = None, broken: bool = False) -> dict[str, Path]:
    """Return the photographs of a folder (``list_files``) by the stem of their names.

    Args:
        only: the names of the files (with suffix) to list; None: all.
        broken: whether links to missing files are listed, too. They have a place in an order.

    Raises:
        DpedError: no such folder, none in it, or two files with one stem.
    """
    by_stem: dict[str, Path] = {}
    for file in sorted(list_files(folder) + (_broken_links(folder) if broken else [])):
        if only is not None and file.name not in only:
            continue
        if file.stem in by_stem:
            raise DpedError(
                f"{folder}: {by_stem[file.stem].name} and {file.name} have the same name, so their partner is not clear. "
                "Rename or remove one."
            )
        by_stem[file.stem] = file
    if not by_stem:
        raise DpedError(f"{folder}: no photographs in it ({', '.join(sorted(SUFFIXES))}).")
    return by_stem


def _broken_links(folder: Path) -> list[Path]:
    return [f for f in Path(folder).iterdir() if is_image_name(f.name) and f.is_symlink() and not f.exists()]


def appearance(name: str) -> str:
    """Return a text that is equal for names that look alike: in upper or lower case, with accents stored in either way."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def lookalike(name: str, others: Mapping[str, str]) -> str:
    """Return how a missing name differs from another that looks like it. Return "" if none does.

    Args:
        name: the name that is missing.
        others: the other names by their :func:`appearance`.
    """
    other = others.get(appearance(name))
    if other is None:
        return ""
    same = unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name)
    return f"{other!r} differs only in " + (
        "how its accents are stored (Unicode NFC and NFD)" if same else "upper and lower case"
    )
