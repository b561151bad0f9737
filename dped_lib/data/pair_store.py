"""Aligned patch pairs: a memory-mapped store, splits by photograph, batches on the device. ``readers`` reads them."""

import copy
import functools
import json
import os
import shutil
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import torch
from torch import Tensor

from dped_lib.base import device as devices
from dped_lib.base import paths
from dped_lib.base.datasets import FOLDS, check_phone
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.data import official_layout
from dped_lib.data.pairing import Pair
from dped_lib.data.readers import (
    CITY100_SETTINGS,
    SIZE,
    city100_folders,
    city100_origin,
    own_origin,
    own_root,
    read_city100,
    read_folders,
    read_image,
    read_pirm,
    read_rig,
)

__all__ = [
    "SIZE", "SPLITS", "Batches", "Pair", "PairStore", "dihedral", "folder_of", "open_or_make", "read_folders", "read_image",
    "split_photographs", "to_float", "write_store",
]  # fmt: skip

SPLITS = ("train", "val", "test")
_FORMAT = 3  # raised when the content of a store would change; an older store is made again


class PairStore:
    """Patch pairs in a folder: ``phone.npy`` and ``dslr.npy`` (uint8, N x 100 x 100 x 3, memory-mapped) and ``meta.json``.

    Attributes:
        meta: dataset, phone, and the counts of what was read and skipped (``report``), and aligned (``alignment``).
        phone, dslr: the memory maps.
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
        except (OSError, ValueError, KeyError) as error:
            raise DpedError(
                f"{self.folder}: not a store of patch pairs ({error}). Delete the folder and run the command again."
            ) from error
        shape = (len(self.names), SIZE, SIZE, 3)
        if self.phone.shape != shape or self.dslr.shape != shape:
            raise DpedError(
                f"{self.folder}: arrays {self.phone.shape} and {self.dslr.shape}, expected {shape}. Delete the folder and run again."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def skipped(self) -> dict[str, int]:
        """What was left out for being bad, by reason."""
        return {k: v for k, v in self.meta["report"].items() if k != "read"}

    @property
    def alignment(self) -> dict[str, int]:
        """Where the pairs were cut from photographs here: these by verdict, and the windows tried in them by verdict."""
        return self.meta.get("alignment", {})

    def records(self) -> list[dict]:
        """Of each pair of photographs that was aligned here: ``name``, ``report`` (``alignment.Report``) and ``windows``."""
        try:
            lines = (self.folder / "records.jsonl").read_text().splitlines()
            return [json.loads(line) for line in lines]
        except FileNotFoundError:
            return []

    def fold(self, seed: int) -> "PairStore":
        """The same pairs with the split that a training of this seed uses: of datasets in ``datasets.FOLDS``, one part is ``test``
        and a tenth of the rest ``val``; of others nothing changes."""
        folds = FOLDS.get(self.meta.get("dataset"))
        if not folds:
            return self
        ordered = _by_checksum(self.photographs)
        tested = set(ordered[seed % folds :: folds])
        table = split_photographs((p for p in ordered if p not in tested), test=0, val=0.1) | dict.fromkeys(
            tested, "test"
        )
        other = copy.copy(self)
        other._splits = np.array([table[p] for p in self.photographs])
        return other

    def index(self, split: str) -> np.ndarray:
        """Indices of the pairs of one split (``train``, ``val``, ``test``), or of ``all``."""
        one_of("split", split, (*SPLITS, "all"))
        return np.arange(len(self)) if split == "all" else np.flatnonzero(self._splits == split)

    def some(self, split: str, most: int) -> np.ndarray:
        """At most ``most`` indices of a split (0: all), evenly spread, so that every photograph has its share."""
        index = self.index(split)
        return (
            index if not most or len(index) <= most else index[np.linspace(0, len(index) - 1, most).round().astype(int)]
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Pairs and photographs of each split."""
        return {
            s: {"pairs": int((i := self.index(s)).size), "photographs": len(np.unique(self.photographs[i]))}
            for s in SPLITS
        }


# ---------------------------------------------------------------------------------------------- splits


def split_photographs(photographs: Iterable[str], test: float = 0.15, val: float = 0.15) -> dict[str, str]:
    """A split for each photograph: about ``test`` and ``val`` of them held out, at least one each where there are three.

    The order is that of a checksum of the name: the same in every process, and a photograph added later moves few others.
    """
    ordered = _by_checksum(photographs)
    held = [max(1, round(len(ordered) * share)) if len(ordered) >= 3 and share else 0 for share in (test, val)]
    labels = ["test"] * held[0] + ["val"] * held[1]
    return dict(zip(ordered, labels + ["train"] * (len(ordered) - len(labels)), strict=True))


def _by_checksum(photographs: Iterable[str]) -> list[str]:
    return sorted(set(photographs), key=lambda p: (zlib.crc32(p.encode()), p))


def _assign_splits(photographs: list[str], kinds: list[str], fixed: list[str]) -> list[str]:
    table: dict[str, str] = {}
    for kind in sorted(set(kinds)):
        table |= split_photographs(p for p, k in zip(photographs, kinds, strict=True) if k == kind)
    return [f or table[p] for p, f in zip(photographs, fixed, strict=True)]


# ---------------------------------------------------------------------------------------------- writing


def write_header(file: BinaryIO, count: int) -> None:
    """Write the header of an array of ``count`` patches, 128 bytes, at the start of a file."""
    # numpy leaves room in the header for the first axis to grow, so it can be written before the count is known.
    file.seek(0)
    shape = (count, SIZE, SIZE, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


_FILES = frozenset({"phone.npy", "dslr.npy", "meta.json", "records.jsonl"})


def check_replaceable(folder: Path) -> None:
    """Raise DpedError where a store would replace a file, or a folder with anything in it that is not of a store."""
    there = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(there - _FILES - paths.OF_DESKTOPS)
    if foreign or folder.is_file():
        what = f" and holds {', '.join(foreign[:3])}" if foreign else ""
        raise DpedError(f"{folder}: is there already{what}, which dped did not make. Move it away, or write elsewhere.")


def write_store(folder: Path, pairs: Iterable[Pair | dict], meta: dict) -> PairStore:
    """Writes pairs as they come, in constant memory, and puts the finished store in place at once.

    A dict among the pairs is what is known of two photographs that some were cut from: see :meth:`PairStore.records`.

    Raises:
        DpedError: no pair at all, one that is not 100 x 100 RGB uint8, or a full disk.
    """
    names, photographs, kinds, fixed = [], [], [], []
    folder = Path(folder)
    check_replaceable(folder)
    with paths.atomic_path(folder) as part:
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
                    if image.shape != (SIZE, SIZE, 3) or image.dtype != np.uint8:
                        raise DpedError(
                            f"{pair.name}: a patch must be {SIZE} x {SIZE} RGB uint8, not {image.shape} {image.dtype}."
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
            write_meta(file, meta, names, photographs, _assign_splits(photographs, kinds, fixed))
        if not records.stat().st_size:
            records.unlink()
    return PairStore(folder)


def write_meta(file: TextIO, meta: dict, names: list[str], photographs: list[str], splits: list[str]) -> None:
    """Write ``meta.json``, a piece at a time: in one, 160 000 pairs take tens of megabytes."""
    content = {**meta, "format": _FORMAT, "names": names, "photographs": photographs, "splits": splits}
    for piece in json.JSONEncoder().iterencode(content):
        file.write(piece)


# ---------------------------------------------------------------------------------------------- making


def folder_of(dataset: str, preset: str, phone: str) -> Path:
    """Where the store of a dataset and phone lives."""
    return paths.run_dir(dataset, preset) / "patches" / phone


def adopt_store(source: Path, folder: Path, meta: dict) -> PairStore:
    """A store made elsewhere, in the place where a dataset's is looked for, with ``meta`` over its own. Its arrays are shared
    (hard links) where both are on one disk, else copied."""
    store = PairStore(source)
    check_replaceable(folder)
    with paths.atomic_path(folder) as part:
        part.mkdir()
        for name in sorted(_FILES - {"meta.json"}):
            if not (source / name).exists():
                continue
            try:
                os.link(source / name, part / name)
            except OSError:
                shutil.copyfile(source / name, part / name)
        (part / "meta.json").write_text(json.dumps({**store.meta, **meta}))
    return PairStore(folder)


def current(folder: Path, origin: str = "") -> PairStore | None:
    """The store in ``folder``, if there is one that is whole, of this format, and of this ``origin`` where that is named."""
    try:
        store = PairStore(folder)
    except DpedError:  # none, a damaged one, or one of another format: it can be made again
        return None
    same = store.meta.get("format") == _FORMAT and (not origin or store.meta.get("origin") == origin)
    return store if same else None


def open_or_make(dataset: str, phone: str, preset: str = "smoke", on_bad: str = "error", seed: int = 0) -> PairStore:
    """The pairs of one dataset and phone; read, and fetched or simulated, where there is no current store of them.

    ``seed``: of the training whose split is wanted (:meth:`PairStore.fold`). ``on_bad`` says what to do while pairs are read; a store made with ``skip`` serves every later call, and its report
    (``meta["report"]``) goes on saying what it lacks. To read the files again, delete its folder.

    Raises:
        DpedError: unknown dataset or phone, a dataset without that phone, data that is not there or bad (see the readers).
    """
    return _open_or_make(dataset, phone, preset, on_bad).fold(seed)


def _open_or_make(dataset: str, phone: str, preset: str, on_bad: str) -> PairStore:
    check_phone(dataset, phone)
    one_of("on_bad", on_bad, ("error", "skip"))
    folder = folder_of(dataset, preset, phone)
    origin = _origin(dataset)
    if store := current(folder, origin):
        return store
    if dataset == "dped":
        official_layout.where()  # raises where there is nothing to read, before a folder is made
    with paths.alone(
        folder.parent / f".{phone}.lock", f"{folder}: another process is making these pairs; waiting for it."
    ):
        return current(folder, origin) or _make(dataset, phone, preset, on_bad, origin)


def _origin(dataset: str) -> str:
    """Say of what is on the user's disk which it is: with another folder it is another dataset. Empty: whatever there is."""
    if dataset == "dped" and os.environ.get("DPED_DATA"):
        return official_layout.origin(official_layout.where())
    if dataset == "own" and os.environ.get("DPED_OWN"):
        return own_origin()
    return city100_origin() if dataset == "city100" else ""


def _make(dataset: str, phone: str, preset: str, on_bad: str, origin: str) -> PairStore:
    from dped_lib.data import builder  # it writes its stores with this module

    folder = folder_of(dataset, preset, phone)
    meta = {"dataset": dataset, "phone": phone, "origin": origin, "on_bad": on_bad}
    work = paths.run_dir(dataset, preset) / "photographs" / phone
    report, alignment = Counter(), Counter()
    match dataset:
        case "city100":
            *folders, names = city100_folders()
            how = {"only": names, "read": read_city100}
            return builder.build(*folders, work, CITY100_SETTINGS, on_bad=on_bad, meta=meta, store=folder, **how)
        case "own":
            root = own_root()
            if builder.store_of(root).is_dir():
                return adopt_store(builder.store_of(root), folder, meta)
            return builder.build(root / "phone", root / "dslr", work, on_bad=on_bad, meta=meta, store=folder)
        case "dped":
            official_layout.make_store(official_layout.where(), phone, folder, meta, on_bad)
            return PairStore(folder)
        case "rig":
            pairs = read_rig(phone, report, alignment)
        case "pirm":
            pairs = read_pirm(on_bad, report)
    # The counters are filled while the pairs are read; json sees them afterwards.
    return write_store(folder, pairs, {**meta, "report": report, "alignment": alignment})


# ---------------------------------------------------------------------------------------------- batches


def to_float(images: Tensor) -> Tensor:
    """uint8 N x H x W x C to float32 N x C x H x W in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255).contiguous()


@functools.cache
def _turned(size: int, device: torch.device) -> Tensor:
    # Of each code, for each pixel of the result the pixel it comes from.
    place = torch.arange(size * size).view(size, size)
    turned = [torch.rot90(place.flip(1) if code >= 4 else place, code % 4) for code in range(8)]
    return torch.stack(turned).flatten(1).to(device)


def dihedral(images: Tensor, codes: Tensor) -> Tensor:
    """One of the eight flips and quarter turns for each image of N x C x S x S; ``codes`` are integers 0..7.

    Code = quarter turns + 4 * (flipped left-right first). Code 0 changes nothing.
    """
    # As places to gather from: to pick the images of each code, a GPU would have to tell the host how many there are.
    places = _turned(images.shape[-1], images.device)[codes].unsqueeze(1).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, places).view(images.shape)


class Batches:
    """Random training batches, cut, converted and augmented on the device.

    A batch depends on (seed, stream, iteration) alone, so an interrupted training continues with the batches it would
    have had, and nothing about random state needs saving.
    """

    def __init__(self, store: PairStore, split: str, device: torch.device, seed: int, augment: bool):
        index = store.index(split)
        if not len(index):
            raise DpedError(
                f"{store.folder}: no pairs in split {split!r}; the dataset has too few photographs to hold some out."
            )
        self.seed, self.augment, self.device = seed, augment, device
        self._phone, self._dslr = (self._resident(a, index) for a in (store.phone, store.dslr))

    def _resident(self, array: np.memmap, index: np.ndarray) -> Tensor:
        # A contiguous split of a memory map stays one on the CPU: the system pages it in as it is drawn from.
        contiguous = len(index) == index[-1] - index[0] + 1
        part = array[index[0] : index[-1] + 1] if contiguous else array[index]
        with warnings.catch_warnings():
            # torch has no read-only tensors; nothing writes to this one.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(part).to(self.device)

    def __len__(self) -> int:
        return len(self._phone)

    def rng(self, iteration: int, stream: str) -> np.random.Generator:
        """The random numbers of one iteration and purpose."""
        return np.random.default_rng((self.seed, zlib.crc32(stream.encode()), iteration))

    def draw(self, iteration: int, size: int, stream: str = "generator") -> tuple[Tensor, Tensor]:
        """A batch of (phone, dslr), float32 N x 3 x 100 x 100 in [0, 1], drawn with replacement as in the released code."""
        rng = self.rng(iteration, stream)
        index = devices.put(rng.integers(0, len(self), size), self.device)
        pair = [to_float(images[index]) for images in (self._phone, self._dslr)]
        if self.augment:
            codes = devices.put(rng.integers(0, 8, size), self.device)
            pair = [dihedral(images, codes) for images in pair]
        return tuple(pair)
