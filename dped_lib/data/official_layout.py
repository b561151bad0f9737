"""Read the full dataset in its official layout, from a folder or an archive, into a store.

    PHONE/training_data/{PHONE,canon}/N.jpg
    PHONE/test_data/patches/{PHONE,canon}/N.jpg
    PHONE/test_data/full_size_test_images/N.jpg

The layout may lie at any depth. Each patch has its row in the store from the start, so patches can come in any order,
and an interrupted run can continue. Rows of bad pairs are removed at the end.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dped_lib import paper
from dped_lib.base import datasets, paths, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.data import archives, pair_store, pairing, photo_folders, readers, splits
from dped_lib.data.readers import BadPatch

SPLIT_OF = {"training_data": "train", "test_data/patches": "test"}
_PHOTOGRAPHS = "test_data/full_size_test_images"
_PATCH_BYTES = 3 * paper.PATCH_SIZE**2
_REASONS = ("", "", "unreadable", "wrong size")  # meaning of a flag above 1; 0 is not read yet, 1 is good
_SAVE_EVERY = 2.0  # seconds; a killed run reads at most the patches of this time again
#: Names of every file that an unfinished store may hold.
_OF_WORK = frozenset({"of.json", "flags.npy", "phone.npy", "dslr.npy", "meta.json"})
_HEADER = 128  # bytes of an array's header, as numpy writes it


def where() -> Path:
    """Return the folder or archive that ``DPED_DATA`` names."""
    named = os.environ.get("DPED_DATA")
    if not named:
        raise DpedError(
            "dataset 'dped' is the full dataset on your disk. Set DPED_DATA to the folder or archive (.zip, .tar, .tar.gz) "
            "that holds iphone/, blackberry/ and sony/, or run 'dped fetch --dataset dped --from FILE'. Its official "
            "download has been dead for years. The datasets 'rig', 'pirm' and 'city100' do not need it."
        )
    path = paths.expanded(named)
    if not path.exists():
        raise DpedError(f"{path}: nothing is there. Correct --from or DPED_DATA, which names it.")
    return path


def origin(path: Path) -> str:
    """Return a text that identifies this copy of the dataset. A store of another origin is made again."""
    return f"official layout in {archives.open_source(path).origin}"


def phones(path: Path) -> list[str]:
    """Return the phones with training data in a folder."""
    ends = {tuple(name.split("/")[-2:]) for name in archives.Folder(path).folders()}
    return [p for p in datasets.DATASET_PHONES["dped"] if (p, "training_data") in ends]


class Listing:
    """List the patches of one phone: pairs in natural order of their names, training data first.

    Attributes:
        names: ``train/N`` or ``test/N`` of each pair.
        tokens: (pairs, 2) int64. The source needs them to read the phone's and the DSLR's patch.
        missing: number of patches without a partner. They are not among ``names``.
        others: the other phones with patches in the source.
    """

    def __init__(self, source, phone: str, on_bad: str):
        self.source, self.phone = source, phone
        self.missing = 0
        self.others: set[str] = set()
        self.names: list[str] = []
        self._suffixes: list[str] = []
        self._folders: dict[tuple[str, int], str] = {}
        self._rows: list[tuple[int, str]] = []  # the first row of each place
        listed = self._walk()
        tokens, suffixes = [np.empty((0, 2), np.int64)], [np.empty((0, 2), np.int8)]
        for place, split in SPLIT_OF.items():
            index, of_place, of_suffix = listed.pop(place)
            stems = sorted(index, key=readers.natural)
            order = np.fromiter((index[s] for s in stems), np.int64, len(stems))
            of_place = np.array(of_place, np.int64).reshape(-1, 2)[order]
            of_suffix = np.array(of_suffix, np.int8).reshape(-1, 2)[order]
            whole = (of_suffix >= 0).all(1)
            if not whole.all() and on_bad == "error":
                row = int(np.flatnonzero(~whole)[0])
                side = int(of_suffix[row].argmax() == 0)
                folder = self._folders.get((place, side)) or f"{phone}/{place}/{(phone, 'canon')[side]}"
                name = f"{folder}/{stems[row]}{self._suffixes[of_suffix[row].max()]}"
                raise readers.or_skip(readers.missing_partner(self.source.shown(name)))
            self.missing += int((~whole).sum())
            self._rows.append((len(self.names), place))
            self.names += [f"{split}/{s}" for s, good in zip(stems, whole, strict=True) if good]
            tokens.append(of_place[whole])
            suffixes.append(of_suffix[whole])
        self.tokens = np.concatenate(tokens)
        self._suffix = np.concatenate(suffixes)
        if not self.names:
            remedy = "; ".join(filter(None, ("Name a folder or archive in the official layout", self.left_out()))) + "."
            if self.others:
                remedy = f"It holds those of {' and '.join(sorted(self.others))}: say --phone {min(self.others)}."
            raise DpedError(
                f"{source.path}: no pairs in {phone}/training_data/ or {phone}/test_data/patches/ in it. {remedy}"
            )

    def _walk(self) -> dict[str, tuple[dict[str, int], array, array]]:
        """Return, for each place, the number of each pair by its name, and its tokens and suffixes.

        Tokens and suffixes are flat arrays by pair and side.
        """
        form = re.compile(rf"(?:.*/)?{self.phone}/({'|'.join(SPLIT_OF)})/({self.phone}|phone|canon)/([^/]+)", re.DOTALL)
        phones = "|".join(p for p in datasets.DATASET_PHONES["dped"] if p != self.phone)
        other = re.compile(rf"(?:.*/)?({phones})/(?:{'|'.join(SPLIT_OF)})/canon/[^/]+", re.DOTALL)
        listed = {place: ({}, array("q"), array("b")) for place in SPLIT_OF}
        known: dict[str, int] = {}
        for path, token in bar(self.source.walk(), label=f"list {self.source.path.name}", unit="file", brief=True):
            match = form.fullmatch(path)
            if not match and (of_other := other.fullmatch(path)):
                self.others.add(of_other[1])
            if not match or not photo_folders.is_image_name(match[3]):
                continue
            place, side, (stem, suffix) = match[1], int(match[2] == "canon"), os.path.splitext(match[3])
            folder = path[: match.start(3) - 1]
            if self._folders.setdefault((place, side), folder) != folder:
                raise DpedError(
                    f"{self.source.path}: holds {self.phone}'s patches twice, in {self._folders[place, side]} and in {folder}. Keep one."
                )
            index, tokens, suffixes = listed[place]
            if (number := index.setdefault(stem, len(index))) * 2 == len(tokens):
                tokens.extend((0, 0))
                suffixes.extend((-1, -1))
            kind = known.setdefault(suffix, len(known))
            if suffixes[2 * number + side] not in (-1, kind):
                raise DpedError(
                    f"{self.source.shown(path)}: another file has the same name with another suffix. Remove one of them."
                )
            # If an archive holds one path twice, the later member counts, as it does for programs that unpack.
            tokens[2 * number + side], suffixes[2 * number + side] = token, kind
        self._suffixes = list(known)
        return listed

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int, side: int) -> str:
        """Return the path of a patch in the source. ``side`` is 0 for the phone's patch and 1 for the DSLR's."""
        place = [p for first, p in self._rows if first <= row][-1]
        stem = self.names[row].split("/", 1)[1]
        return f"{self._folders[place, side]}/{stem}{self._suffixes[self._suffix[row, side]]}"

    def shown(self, row: int, side: int) -> str:
        """Return the path of a patch as an error message shows it."""
        return self.source.shown(self.path(row, side))

    def left_out(self) -> str:
        """Return a text that counts the members that are never read: ``left out: 2 links``. It is empty if there are none."""
        lost = self.source.left_out
        remedy = " (a tar with links: pack it again with --dereference --hard-dereference)" if lost["links"] else ""
        return f"left out: {', '.join(f'{n} {what}' for what, n in lost.items())}{remedy}" if lost.total() else ""

    def digest(self) -> str:
        """Return a checksum of the names, tokens and suffixes. Another list of patches has another digest."""
        made = hashlib.sha256(self.source.origin.encode("utf-8", "surrogateescape"))
        for name in self.names:
            made.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        made.update(self.tokens.tobytes() + self._suffix.tobytes())
        return made.hexdigest()

    def contents(self, todo: np.ndarray) -> Iterator[tuple[int, int, bytes | DpedError]]:
        """Yield row, side and content of the patches with the numbers (2 row + side) in ``todo``.

        The content of a patch that cannot be read is the error.
        """
        if self.source.streamed:
            tokens = self.tokens.ravel()[todo]
            order = np.argsort(tokens)
            for position, content in self.source.stream(tokens[order]):
                yield *divmod(int(todo[order[position]]), 2), content
            return
        for code in todo:
            row, side = divmod(int(code), 2)
            try:
                yield row, side, self.source.read(self.path(row, side), int(self.tokens[row, side]))
            except DpedError as error:
                yield row, side, error


def _clear_work(folder: Path) -> None:
    """Delete what an earlier call has begun in ``folder``.

    Raises:
        DpedError: there is something that is not ours. Nothing is deleted.
    """
    if not os.path.lexists(folder):
        return
    begun = {f.name for f in writing.left_by_killed(folder / "flags.npy")}
    foreign = (
        [folder.name]
        if not folder.is_dir() or folder.is_symlink()
        else sorted({f.name for f in folder.iterdir()} - _OF_WORK - begun - paths.OF_DESKTOPS)
    )
    if foreign:
        raise DpedError(
            f"{folder}: holds {foreign[0]}, which dped did not make. Move it away, and run the command again."
        )
    for name in _OF_WORK:
        (folder / name).unlink(missing_ok=True)
    writing.clear_killed(folder / "flags.npy")


class _Work:
    """Hold a store that is being filled: both arrays, and a flag for each patch.

    A killed process leaves it on the disk.
    """

    def __init__(self, folder: Path, listing: Listing):
        self.folder = folder
        sign = json.dumps({"digest": listing.digest(), "pairs": len(listing)})
        try:
            if (folder / "of.json").read_text() != sign:
                raise ValueError
            self.flags = np.load(folder / "flags.npy")
            writing.clear_killed(folder / "flags.npy")
        except (OSError, EOFError, ValueError):
            # The work is missing, empty, of another dataset, or was killed while its rows were being moved.
            _clear_work(folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.flags = np.zeros((len(listing), 2), np.uint8)
            pairing.write_array(folder / "flags.npy", self.flags)
            (folder / "of.json").write_text(sign)
        missing = int((self.flags == 0).sum()) * _PATCH_BYTES
        if (free := shutil.disk_usage(folder).free) < missing:
            raise DpedError(
                f"{folder.parent}: the patches take {missing / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free. Free some, or "
                "point DPED_RUNS at another disk, and run the same command again."
            )
        arrays = [folder / f"{side}.npy" for side in ("phone", "dslr")]
        for file in arrays:
            file.touch()
        self.files = [open(file, "r+b") for file in arrays]  # noqa: SIM115 (closed in close)
        self._saved = time.monotonic()

    def put(self, row: int, side: int, pixels: np.ndarray) -> None:
        self.files[side].seek(_HEADER + row * _PATCH_BYTES)
        self.files[side].write(pixels.tobytes())
        self.flags[row, side] = 1

    def save(self, now: bool = False) -> None:
        """Save the flags, at most every few seconds.

        The patches reach the disk before the flags that count them as read.
        """
        if not now and time.monotonic() - self._saved < _SAVE_EVERY:
            return
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())
        with writing.atomic_path(self.folder / "flags.npy") as part:
            pairing.write_array(part, self.flags)
        self._saved = time.monotonic()

    def close_up(self, good: np.ndarray) -> None:
        """Move the good rows together and write the arrays' headers."""
        # A run that is stopped from here on starts again from the beginning, because rows change their places.
        (self.folder / "of.json").unlink()
        for file in self.files:
            for target, row in enumerate(np.flatnonzero(good)):
                if target != row:
                    file.seek(_HEADER + int(row) * _PATCH_BYTES)
                    content = file.read(_PATCH_BYTES)
                    file.seek(_HEADER + target * _PATCH_BYTES)
                    file.write(content)
            file.truncate(_HEADER + int(good.sum()) * _PATCH_BYTES)
            pair_store.write_header(file, int(good.sum()))
            file.flush()
            os.fsync(file.fileno())
        (self.folder / "flags.npy").unlink()

    def close(self) -> None:
        for file in self.files:
            file.close()


def make_store(path: Path, phone: str, folder: Path, meta: dict, on_bad: str = "error") -> None:
    """Read one phone's patches into a store at ``folder``. Continue where an earlier call was stopped.

    ``splits.split_official`` gives each usable pair its split.

    Raises:
        DpedError: no data in this layout, a damaged archive, a full disk, or no usable pair. With on_bad ``error`` also
            a bad or missing patch, which the message names.
    """
    pair_store.check_replaceable(folder)
    listing = Listing(archives.open_source(path), phone, on_bad)
    if lost := listing.left_out():
        print(f"{path}: {lost}.", file=sys.stderr)
    making = folder.parent / f".{folder.name}.making"
    with writing.explain_full_disk(folder), contextlib.closing(_Work(making, listing)) as work:
        _fill(work, listing, on_bad)
        good = (work.flags == 1).all(1)
        report = Counter({"missing partner": listing.missing, "read": int(good.sum())})
        for code in np.where(work.flags[:, 0] > 1, work.flags[:, 0], work.flags[:, 1])[~good]:
            report[_REASONS[code]] += 1
        if not good.any():
            raise DpedError(f"{path}: not one usable pair of {len(listing)} ({dict(+report)}). Get the dataset again.")
        work.close_up(good)
    names = [name for name, usable in zip(listing.names, good, strict=True) if usable]
    train = sum(name.startswith("train/") for name in names)
    labels = splits.split_official(train, len(names) - train)
    del listing
    with writing.atomic_path(folder) as part:
        with open(work.folder / "meta.json", "w", encoding="utf-8") as file:
            pair_store.write_meta(file, {**meta, "report": dict(+report)}, names, names, labels)
        os.rename(work.folder, part)


def _fill(work: _Work, listing: Listing, on_bad: str) -> None:
    """Read every patch that has not been read yet."""
    todo = np.flatnonzero(work.flags.ravel() != 1)
    done = work.flags.size - len(todo)
    label = f"read {listing.phone}"
    try:
        contents = listing.contents(todo)
        for row, side, content in bar(contents, total=work.flags.size, initial=done, label=label, unit="patch"):
            try:
                if isinstance(content, DpedError):
                    raise BadPatch("unreadable", str(content))
                work.put(row, side, readers.read_patch(listing.shown(row, side), content))
            except BadPatch as error:
                work.flags[row, side] = _REASONS.index(error.reason)
                if on_bad == "error":
                    raise readers.or_skip(error) from error
            work.save()
    except KeyboardInterrupt:
        read = int((work.flags == 1).sum())
        raise KeyboardInterrupt(
            f"{read} of {work.flags.size} patches are read and kept; run the same command again to go on from there"
        ) from None
    finally:
        work.save(now=True)


def compare(phone: str, counts: dict[str, dict[str, int]]) -> list[str]:
    """Compare the counts of a phone's splits (``PairStore.counts``) with the published ones, in lines of text."""
    published = paper.TRAIN_PATCHES_THOUSANDS[phone]
    training = counts["train"]["pairs"] + counts["val"]["pairs"]
    lines = [
        f"  {training} training pairs ({counts['val']['pairs']} of them held out for validation), {counts['test']['pairs']} test "
        f"pairs; the paper (v1) states {published} thousand training pairs for {phone}, and its later release has more"
    ]
    if training < 1000 * published:
        lines.append(f"  fewer than the paper states: part of {phone}'s training data is not in this copy")
    return lines


def photographs(path: Path) -> list[tuple[str, str, int]]:
    """Return phone, path and token of every full-size test image, in natural order."""
    form = re.compile(rf"(?:.*/)?({'|'.join(datasets.DATASET_PHONES['dped'])})/{_PHOTOGRAPHS}/([^/]+)", re.DOTALL)
    listed = {}
    for name, token in archives.open_source(path).walk():
        match = form.fullmatch(name)
        if match and photo_folders.is_image_name(match[2]):
            listed[name] = (match[1], name, token)
    return [listed[name] for name in sorted(listed, key=readers.natural)]


def read_full_size(path: Path, name: str, token: int) -> np.ndarray:
    """Return a full-size test image as uint8 H x W x 3, RGB."""
    source = archives.open_source(path)
    return readers.read_image(source.shown(name), source.read(name, token))
