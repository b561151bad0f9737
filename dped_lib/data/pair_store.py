"""Read and write a memory-mapped store of aligned patch pairs.

``opening`` finds or makes the store of a dataset.
"""

import copy
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from dped_lib.base import paths, writing
from dped_lib.base.datasets import FOLDS
from dped_lib.base.errors import DpedError, first_few
from dped_lib.base.validation import one_of
from dped_lib.data.splits import SPLITS, assign_splits, split_fold
from dped_lib.paper import PATCH_SIZE

_FORMAT = 3  # increased when the content of a store would change; an older store is made again
_DIGESTED = 256  # pairs whose pixels are in the digest: 15 MB are read in an instant, a whole store is not


@dataclass(frozen=True)
class Pair:
    """Hold one aligned pair of patches.

    Attributes:
        name: unique in the dataset.
        photograph: the photograph that the patches come from. Patches of one photograph stay in one split.
        phone, dslr: uint8 arrays 100 x 100 x 3, RGB.
        split: the split that the source fixes; empty if it fixes none.
        kind: the photographs of each kind are split separately, so every split has some of each kind that has at least
            three.
    """

    name: str
    photograph: str
    phone: np.ndarray
    dslr: np.ndarray
    split: str = ""
    kind: str = ""


class PairStore:
    """Hold the patch pairs of a folder.

    The folder has ``phone.npy`` and ``dslr.npy`` (uint8, N x 100 x 100 x 3, memory-mapped) and ``meta.json``.

    Attributes:
        meta: dataset, phone, the counts of pairs read and skipped (``report``), and those of the alignment
            (``alignment``).
        phone, dslr: the memory maps.
        names: the name of each pair.
        photographs: (N,) photograph of each pair.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        try:
            self.meta = json.loads((self.folder / "meta.json").read_text())
            self.phone = np.load(self.folder / "phone.npy", mmap_mode="r")
            self.dslr = np.load(self.folder / "dslr.npy", mmap_mode="r")
            self.names = self.meta["names"]
            self.photographs = np.array(self.meta["photographs"])
            self._splits = np.array(self.meta["splits"])
            counts = {len(self.photographs), len(self._splits), len(self.names)}
            if (
                len(counts) > 1
                or not set(self._splits.tolist()) <= set(SPLITS)
                or not isinstance(self.meta.get("report", {}), dict)
            ):
                raise ValueError(
                    "meta.json does not name the photograph and the split of each pair, or what was left out"
                )
        # AttributeError: something other than a dictionary; EOFError: an empty array.
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DpedError(
                f"{self.folder}: not a store of patch pairs ({error}). Delete the folder and run the command again."
                if self.folder.exists()
                else f"{self.folder}: no patch pairs there. Make them with dped fetch, or with dped align."
            ) from error
        shape = (len(self.names), PATCH_SIZE, PATCH_SIZE, 3)
        if self.phone.shape != shape or self.dslr.shape != shape:
            raise DpedError(
                f"{self.folder}: arrays {self.phone.shape} and {self.dslr.shape}, expected {shape}. Delete the folder and run again."
            )

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def digest(self) -> str:
        """Return a checksum of the pairs. It depends on neither the fold, the folder nor the source.

        It covers every name, photograph and split as stored, and the pixels of at most 256 evenly spread pairs. A store
        that is made again with the same pairs has the same one.
        """
        made = hashlib.sha256()
        for texts in (self.names, self.meta["photographs"], self.meta["splits"]):
            for text in texts:
                made.update(f"{text}\0".encode("utf-8", "surrogateescape"))
            made.update(b"\0")
        for i in self.sample("all", _DIGESTED):
            made.update(self.phone[i].tobytes() + self.dslr[i].tobytes())
        return made.hexdigest()[:16]

    @property
    def skipped(self) -> dict[str, int]:
        """Return the number of bad pairs that were left out, by reason."""
        return {k: v for k, v in self.meta.get("report", {}).items() if k != "read"}

    @property
    def alignment(self) -> dict[str, int]:
        """Return the number of aligned and rejected photographs and windows by verdict.

        It is empty for pairs that came as patches.
        """
        return self.meta.get("alignment", {})

    def records(self) -> list[dict]:
        """Return the record of each pair of photographs, aligned or rejected. It is empty for pairs that came as patches.

        A record has the entries ``name``, ``report`` (``aligner.Report``) and ``windows``. The ``verdict`` of its report
        is ``aligned`` unless the pair was rejected. A rejected pair has no windows, and its report lacks numbers.
        """
        try:
            lines = (self.folder / "records.jsonl").read_text().splitlines()
            return [json.loads(line) for line in lines]
        except FileNotFoundError:
            return []

    def fold(self, seed: int) -> "PairStore":
        """Return the same pairs with the split that a training with this seed uses.

        Datasets in ``datasets.FOLDS`` are cross-validated (``splits.split_fold``). Other datasets have one split for
        all seeds.
        """
        folds = FOLDS.get(self.meta.get("dataset"))
        if not folds:
            return self
        split_of = split_fold(self.photographs, folds, seed)
        other = copy.copy(self)
        other._splits = np.array([split_of[p] for p in self.photographs])
        return other

    def index(self, split: str) -> np.ndarray:
        """Return the indices of the pairs of one split (``train``, ``val``, ``test``), or of ``all``."""
        one_of("split", split, (*SPLITS, "all"))
        return np.arange(len(self)) if split == "all" else np.flatnonzero(self._splits == split)

    def sample(self, split: str, most: int) -> np.ndarray:
        """Return at most ``most`` indices of a split (0: all).

        They are evenly spread, so every photograph gets its share.
        """
        index = self.index(split)
        if not most or len(index) <= most:
            return index
        return index[np.linspace(0, len(index) - 1, most).round().astype(int)]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of ``pairs`` and ``photographs`` of each split."""
        return {
            s: {"pairs": int((i := self.index(s)).size), "photographs": len(np.unique(self.photographs[i]))}
            for s in SPLITS
        }

    def in_words(self) -> str:
        """Return the numbers of pairs and photographs: ``530 patch pairs (photographs): 396 (12) train, ...``.

        Pairs of the authors' dataset do not name the photographs that they were cut from, so only pairs are counted.
        """
        named = self.meta.get("dataset") != "dped"
        numbers = {s: f"{n['pairs']}" + f" ({n['photographs']})" * named for s, n in self.counts().items()}
        splits = ", ".join(f"{number} {split}" for split, number in numbers.items())
        return f"{len(self)} patch pairs{' (photographs)' * named}: {splits}"


# ---------------------------------------------------------------------------------------------- writing


def write_header(file: BinaryIO, count: int) -> None:
    """Write the header of an array of ``count`` patches, 128 bytes, at the start of a file."""
    # numpy leaves room in the header for the first axis to grow, so it can be written before the count is known.
    file.seek(0)
    shape = (count, PATCH_SIZE, PATCH_SIZE, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


_FILES = frozenset({"phone.npy", "dslr.npy", "meta.json", "records.jsonl"})


def store_of(out: Path) -> Path:
    """Return the folder where ``dped align`` puts the store of patch pairs."""
    return Path(out) / "store"


def made_in(out: Path) -> bool:
    """Return whether ``dped align`` has put a store into a folder. A folder of photographs may have its own ``store``."""
    return all((store_of(out) / name).is_file() for name in ("phone.npy", "dslr.npy", "meta.json"))


def check_replaceable(folder: Path) -> None:
    """Raise DpedError if a store in this place would replace a file, or a folder that holds anything but a store."""
    there = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(there - _FILES - paths.OF_DESKTOPS)
    if foreign or folder.is_file():
        content = f" and holds {first_few(foreign)}" if foreign else ""
        raise DpedError(
            f"{folder}: is there already{content}, which dped did not make. Move it away, or write elsewhere."
        )


def write_store(folder: Path, pairs: Iterable[Pair | dict], meta: dict) -> PairStore:
    """Write pairs as they come, in constant memory, and put the finished store in place in one step.

    A dict among the pairs is the record of two photographs that pairs were cut from (:meth:`PairStore.records`).

    Raises:
        DpedError: no pair at all, one that is not 100 x 100 RGB uint8, or a full disk.
    """
    names, photographs, kinds, fixed = [], [], [], []
    folder = Path(folder)
    check_replaceable(folder)
    with writing.atomic_path(folder) as part:
        part.mkdir()
        records = part / "records.jsonl"
        with (
            open(part / "phone.npy", "wb") as phone,
            open(part / "dslr.npy", "wb") as dslr,
            open(records, "w") as lines,
        ):
            for file in (phone, dslr):
                write_header(file, 0)
            for pair in pairs:
                if isinstance(pair, dict):
                    lines.write(json.dumps(pair) + "\n")
                    continue
                for file, image in ((phone, pair.phone), (dslr, pair.dslr)):
                    if image.shape != (PATCH_SIZE, PATCH_SIZE, 3) or image.dtype != np.uint8:
                        raise DpedError(
                            f"{pair.name}: a patch must be {PATCH_SIZE} x {PATCH_SIZE} RGB uint8, not {image.shape} {image.dtype}."
                        )
                    file.write(image.tobytes())
                names.append(pair.name)
                photographs.append(pair.photograph)
                kinds.append(pair.kind)
                fixed.append(pair.split)
            if not names:
                raise DpedError(f"{folder}: no pairs to store; the source was empty or every pair was skipped.")
            for file in (phone, dslr):
                write_header(file, len(names))
        with open(part / "meta.json", "w", encoding="utf-8") as file:
            write_meta(file, meta, names, photographs, assign_splits(photographs, kinds, fixed))
        if not records.stat().st_size:
            records.unlink()
    return PairStore(folder)


def write_meta(
    file: TextIO,
    meta: dict,
    names: list[str],
    photographs: list[str],
    splits: list[str],
    version: int | None = _FORMAT,
) -> None:
    """Write ``meta.json`` piece by piece: as one string, 160 000 pairs would take tens of megabytes of memory.

    ``version`` is the format of the store.
    """
    content = {**meta, "format": version, "names": names, "photographs": photographs, "splits": splits}
    for piece in json.JSONEncoder().iterencode(content):
        file.write(piece)


def adopt_store(source: Path, folder: Path, meta: dict) -> PairStore:
    """Put a store that was made elsewhere into ``folder``, update its ``meta``, and return it.

    Both stores share their arrays (hard links) if they are on one disk. Otherwise the arrays are copied.
    """
    store = PairStore(source)
    check_replaceable(folder)
    with writing.atomic_path(folder) as part:
        part.mkdir()
        for name in sorted(_FILES - {"meta.json"}):
            if not (source / name).exists():
                continue
            try:
                os.link(source / name, part / name)
            except OSError:
                shutil.copyfile(source / name, part / name)
        # The format stays that of the source: a store of an earlier version is not current (``current_store``).
        known = {**store.meta, **meta}
        with open(part / "meta.json", "w", encoding="utf-8") as file:
            write_meta(file, known, store.names, known["photographs"], known["splits"], known.get("format"))
    return PairStore(folder)


def current_store(folder: Path, origin: str = "", any_format: bool = False) -> PairStore | None:
    """Return the store in ``folder`` if it is whole, of this format, and of this ``origin`` (empty: any).

    Otherwise return None. With ``any_format`` its format does not matter.
    """
    try:
        store = PairStore(folder)
    except DpedError:  # missing, damaged or of another format: it can be made again
        return None
    same_format = any_format or store.meta.get("format") == _FORMAT
    return store if same_format and (not origin or store.meta.get("origin") == origin) else None
