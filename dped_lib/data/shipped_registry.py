"""Read, extend and check a registry of what ships with the package: of networks (``shipped_runs``) or results (``experiment_results``).

A registry is a JSON file in ``data/shipped``: name -> the sha256 of a file, or an object with the sha256 of several files.
"""

import functools
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dped_lib.base import writing
from dped_lib.base.errors import DpedError

if TYPE_CHECKING:  # shipped networks are listed before PyTorch and NumPy are imported
    from dped_lib.data.pair_store import PairStore

REMEDY = "Install the package again, or train anew with DPED_FRESH=1."
_Entry = TypeVar("_Entry")


def read(file: Path, entry: Callable[[str, Any], _Entry]) -> dict[str, _Entry]:
    """Return the entries of a registry, by name. There are none if the file is missing.

    Args:
        file: the registry.
        entry: builds an entry from its name and its content in the file.

    Raises:
        DpedError: the registry is damaged.
    """
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {name: entry(name, content) for name, content in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). {REMEDY}") from error


def add(file: Path, name: str, content: str | dict) -> None:
    """Add an entry to a registry, or replace it. The file is replaced atomically, and its names are sorted.

    Raises:
        DpedError: the registry is damaged.
    """
    entries = {**read(file, lambda _, known: known), name: content}
    writing.write_text(file, json.dumps(dict(sorted(entries.items())), indent=1) + "\n")


def sha256_of(content: bytes) -> str:
    """Return the sha256 of a content, as registries hold it: 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def checked_content(file: Path, registered: str) -> bytes:
    """Return the content of a file that ships.

    Raises:
        DpedError: the file is missing, or its sha256 is not the registered one.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DpedError(f"{file}: cannot be read ({error}). {REMEDY}") from error
    if (sha256 := sha256_of(content)) != registered:
        raise DpedError(
            f"{file}: not the file that was shipped (sha256 {sha256[:16]}..., registered {registered[:16]}...). {REMEDY}"
        )
    return content


@functools.cache
def tell_once(store_folder: Path, message: str) -> None:
    """Print on standard error why something that ships is not used for a store. Say it once a process."""
    print(message, file=sys.stderr)


def report_other_pairs(made: str, anew: str, digest: str, store: "PairStore") -> None:
    """Print a note on standard error if what ships was made from slightly other pairs than those of a store.

    Matched keypoints, and with them the pixels of patches, differ slightly between processors. What ships is what the
    parameters gave on the pairs of one machine. Refusing it elsewhere would make everybody train for hours, for a
    difference far below that between seeds. So the source of the photographs and the split must agree
    (``checkpoints.unfit``), and other pixels are only reported.

    Args:
        made: what ships and how it was made: "the result X that ships was measured".
        anew: what DPED_FRESH=1 does: "measures anew". Not every command that uses what ships has the option --fresh.
        digest: the digest of its pairs.
        store: the pairs that it is used for.
    """
    if digest != store.digest:
        print(
            f"{made} on slightly other pairs of the same photographs (digest {digest} there, {store.digest} in "
            f"{store.folder}). It is used. DPED_FRESH=1 {anew}.",
            file=sys.stderr,
        )
