"""Open the patch pairs of a dataset and phone. Pairs that are not stored yet are first read, fetched or simulated."""

import os
import sys
from collections import Counter
from pathlib import Path

from dped_lib.base import paths, presets, writing
from dped_lib.base.datasets import check_phone
from dped_lib.base.validation import one_of
from dped_lib.data import builder, official_layout, readers
from dped_lib.data.pair_store import PairStore, adopt_store, current_store, made_in, store_of, write_store
from dped_lib.data.readers import (
    CITY100_SETTINGS,
    city100_folders,
    city100_origin,
    own_origin,
    own_root,
    read_city100,
    read_pirm,
    read_rig,
)


def folder_of(dataset: str, preset: str, phone: str) -> Path:
    """Return the folder of the store of a dataset and phone."""
    return paths.run_dir(dataset, preset) / "patches" / phone


def open_or_make(
    dataset: str, phone: str, preset: str = presets.DEFAULT, on_bad: str = "error", seed: int = 0
) -> PairStore:
    """Return the pairs of one dataset and phone. If there is no current store of them, make it.

    Args:
        seed: the seed of the training. It selects the split (:meth:`PairStore.fold`).
        on_bad: ``error`` stops at the first bad pair while the store is made; ``skip`` leaves bad pairs out. Every
            later call returns the store that was made with ``skip``, and its report (``meta["report"]``) still counts
            what it lacks. To read the files again, delete the store's folder.

    Raises:
        DpedError: unknown dataset or phone, a dataset without that phone, missing or bad data (see the readers).
    """
    return _open_or_make(dataset, phone, preset, on_bad).fold(seed)


def _open_or_make(dataset: str, phone: str, preset: str, on_bad: str) -> PairStore:
    check_phone(dataset, phone)
    one_of("on_bad", on_bad, readers.ON_BAD)
    folder = folder_of(dataset, preset, phone)
    origin = _origin(dataset)
    # A store that `dped align` made cannot be made again here, so it is used whatever its format. Its origin changes if
    # `dped align` makes it again.
    adopted = dataset == "own" and bool(origin) and made_in(own_root())
    if store := current_store(folder, origin, any_format=adopted):
        return store
    if dataset == "dped":
        official_layout.where()  # raises if there is nothing to read, before a folder is made
    with writing.alone(
        folder.parent / f".{phone}.lock", f"{folder}: another process is making these pairs; waiting for it."
    ):
        writing.clear_killed(folder)
        return current_store(folder, origin, any_format=adopted) or _make(dataset, phone, preset, on_bad, origin)


def _origin(dataset: str) -> str:
    """Return a text that identifies the data a store is made from. A store of another origin is made again.

    It is empty if any store of the dataset will do.
    """
    if dataset == "dped" and os.environ.get("DPED_DATA"):
        return official_layout.origin(official_layout.where())
    if dataset == "own" and os.environ.get("DPED_OWN"):
        return own_origin()
    return city100_origin() if dataset == "city100" else ""


def _make(dataset: str, phone: str, preset: str, on_bad: str, origin: str) -> PairStore:
    folder = folder_of(dataset, preset, phone)
    meta = {"dataset": dataset, "phone": phone, "origin": origin, "on_bad": on_bad}
    work = paths.run_dir(dataset, preset) / "photographs" / phone
    if (old := current_store(folder)) and old.meta.get("origin", "") != origin:
        print(
            f"{folder}: its {len(old)} pairs ({old.meta.get('origin') or 'of an earlier version'}) will be replaced by those of "
            f"another origin ({origin}).",
            file=sys.stderr,
        )
    report, alignment = Counter(), Counter()
    match dataset:
        case "city100":
            *folders, names = city100_folders()
            how = {"only": names, "read": read_city100}
            return builder.build(*folders, work, CITY100_SETTINGS, on_bad=on_bad, meta=meta, store=folder, **how)
        case "own":
            root = own_root()
            if made_in(root):
                return adopt_store(store_of(root), folder, meta)
            return builder.build(root / "phone", root / "dslr", work, on_bad=on_bad, meta=meta, store=folder)
        case "dped":
            official_layout.make_store(official_layout.where(), phone, folder, meta, on_bad)
            return PairStore(folder)
        case "rig":
            pairs = read_rig(phone, report, alignment)
        case "pirm":
            pairs = read_pirm(on_bad, report)
    # The readers fill the counters while the pairs are written; the store's JSON is written after that.
    return write_store(folder, pairs, {**meta, "report": report, "alignment": alignment})
