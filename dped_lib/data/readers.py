"""Aligned patch pairs as they come from each dataset, one at a time: folders of files, the official layout, the rig."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from dped_lib import paper
from dped_lib.data import downloads, pairing, photofile, rig
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError
from dped_lib.data.pairing import Pair, Settings
from dped_lib.base.progress import bar

SIZE = paper.PATCH_SIZE

#: The rig photographs at 0.3 of the cameras' sizes, so its aligned images are half the paper's.
RIG_SETTINGS = Settings(size=(400, 540))


def read_image(file: Path, content: bytes | None = None) -> np.ndarray:
    """Return an image file as uint8 H x W x 3, RGB. ``content``: of the file, where it is not on the disk.

    Raises:
        DpedError: missing, truncated, not an image, or not 8-bit RGB.
    """
    found = photofile.decode(file, otherwise=", or skip it with on_bad='skip'", content=content)
    mode = found.header.mode
    if mode != "RGB" or found.header.deep:
        raise DpedError(f"{file}: mode {mode}, not 8-bit RGB. Convert it, or skip it with on_bad='skip'.")
    return found.pixels


def natural(name: str) -> tuple:
    """Sort key: numbers in names count as numbers."""
    # The name itself decides between 1.jpg and 01.jpg.
    return [int(t) if i % 2 else t for i, t in enumerate(re.split(r"(\d+)", name))], name


def _files(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [f.name for f in entries if f.is_file() and not f.name.startswith(".")]


def read_folders(
    phone_dir: Path,
    canon_dir: Path,
    on_bad: str = "error",
    report: Counter | None = None,
    only: Container[str] | None = None,
) -> Iterator[Pair]:
    """Pairs of equally named 100 x 100 images in two folders, in natural order of their names.

    Args:
        only: names to look at; None: every file that is not hidden.
        on_bad: ``error`` stops at the first bad file; ``skip`` leaves the pair out and counts why in ``report``.

    Raises:
        DpedError: a missing folder, a missing partner, a wrong size, or an unreadable image; the message names the file.
    """
    one_of("on_bad", on_bad, ("error", "skip"))
    report = Counter() if report is None else report
    listing = []
    for folder in (phone_dir, canon_dir):
        if not folder.is_dir():
            raise DpedError(
                f"{folder}: no such folder. Patch pairs lie in two folders with the same file names, phone and DSLR."
            )
        listing.append({name for name in _files(folder) if only is None or name in only})
    everything = sorted(listing[0] | listing[1], key=natural)
    for name in bar(everything, label=f"read {phone_dir.parent.name}", unit="pair", brief=True):
        try:
            for folder, names in zip((phone_dir, canon_dir), listing, strict=True):
                if name not in names:
                    report["missing partner"] += 1
                    raise DpedError(
                        f"{folder / name}: missing, but its partner is there. Add it, or skip the pair with on_bad='skip'."
                    )
            images = []
            for folder in (phone_dir, canon_dir):
                try:
                    images.append(read_image(folder / name))
                except DpedError:
                    report["unreadable"] += 1
                    raise
                if images[-1].shape != (SIZE, SIZE, 3):
                    report["wrong size"] += 1
                    size = "x".join(map(str, images[-1].shape[:2]))
                    raise DpedError(
                        f"{folder / name}: {size} pixels, a patch has {SIZE}x{SIZE}. Cut it again, or skip it with on_bad='skip'."
                    )
        except DpedError:
            if on_bad == "error":
                raise
            continue
        report["read"] += 1
        yield Pair(Path(name).stem, Path(name).stem, *images)


def _same_picture_same_photograph(pairs: Iterable[Pair]) -> Iterator[Pair]:
    # No patch of pirm says which photograph it is from. What can be known is that identical ones (four are all white)
    # must not lie on both sides of a split.
    first: dict[bytes, str] = {}
    for pair in pairs:
        digest = hashlib.sha256(pair.dslr.tobytes()).digest()
        yield replace(pair, photograph=first.setdefault(digest, pair.photograph))


def read_pirm(on_bad: str = "error", report: Counter | None = None) -> Iterator[Pair]:
    """The authors' 400 real iPhone-Canon pairs, fetched where they are not in the cache."""
    files = downloads.fetch_all(downloads.keys("pirm"), "pirm pairs")
    phone, dslr = ({f for f in files if f.parent.name == camera} for camera in ("iphone", "canon"))
    names = {f.name for f in phone | dslr}
    # Only these: a fetch that runs beside this one, or was killed, has other files there.
    pairs = read_folders(min(phone).parent, min(dslr).parent, on_bad, report, names)
    yield from _same_picture_same_photograph(pairs)


#: City100's phone photographs are 840 x 600: what both cameras show has room for this.
CITY100_SETTINGS = Settings(size=(560, 756))


def city100_folders() -> tuple[Path, Path, set[str]]:
    """Folders of the iPhone X's and the Nikon's photographs, fetched where they are not in the cache, and the names in them."""
    files = downloads.fetch_all(downloads.keys("city100"), "city100")
    phone, dslr = ({f for f in files if f.parent.name == f"City100_{c}"} for c in ("iPhoneX", "NikonD5500"))
    return min(phone).parent, min(dslr).parent, {f.name for f in phone | dslr}


def own_root() -> Path:
    """``DPED_OWN``: a folder with ``phone`` and ``dslr``, or one that ``dped align`` made."""
    folder = os.environ.get("DPED_OWN")
    if not folder:
        raise DpedError(
            "dataset 'own' is photographs of yours: set DPED_OWN to a folder with phone/ and dslr/ in it, whose files have the "
            "same names, or to the folder that 'dped align PHONE_DIR DSLR_DIR OUT' made."
        )
    root = Path(folder).expanduser()
    if not ((root / "store").is_dir() or ((root / "phone").is_dir() and (root / "dslr").is_dir())):
        raise DpedError(
            f"{root}: DPED_OWN names neither a folder with phone/ and dslr/ in it nor one that 'dped align' finished."
        )
    return root


def own_origin() -> str:
    """Where ``DPED_OWN`` is, and a digest of what lies there: of the finished store, or of names, sizes and dates of files."""
    root = own_root()
    made = hashlib.sha256()
    if (root / "store").is_dir():
        made.update((root / "store" / "meta.json").read_bytes())
    else:
        for file in sorted((*(root / "phone").iterdir(), *(root / "dslr").iterdir())):
            made.update(f"{file.relative_to(root)} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return f"{root.resolve()} {made.hexdigest()[:16]}"


def official_root() -> Path:
    """The folder that holds ``iphone``, ``blackberry`` and ``sony`` in the official layout: ``DPED_DATA``."""
    folder = os.environ.get("DPED_DATA")
    if not folder:
        raise DpedError(
            "dataset 'dped' is the full dataset on your disk: set DPED_DATA to the folder that holds iphone/, blackberry/ and sony/ "
            "(its official download has been dead for years; datasets 'rig' and 'pirm' need none)."
        )
    root = Path(folder).expanduser()
    return root / "dped" if (root / "dped").is_dir() else root


def read_official(root: Path, phone: str, on_bad: str = "error", report: Counter | None = None) -> Iterator[Pair]:
    """The official layout: ``PHONE/training_data/{PHONE,canon}/N.jpg`` and ``PHONE/test_data/patches/{PHONE,canon}/N.jpg``.

    Patches are numbered photograph by photograph, and nothing says where one ends: the last 2 % of the training data
    are the validation split, so that at most one photograph lies on both sides.
    """
    report = Counter() if report is None else report
    for split, folder in (("train", root / phone / "training_data"), ("test", root / phone / "test_data" / "patches")):
        dslr = folder / "canon"
        # The paper's text and older copies name the phone's folder "phone"; the download names it after the phone.
        own = folder / "phone" if (folder / "phone").is_dir() else folder / phone
        ordered = sorted(_files(dslr), key=natural) if split == "train" and dslr.is_dir() else []
        held = {Path(name).stem for name in ordered[-max(1, round(len(ordered) * 0.02)) :]}
        for pair in read_folders(own, dslr, on_bad, report):
            label = "val" if pair.name in held else split
            yield replace(pair, name=f"{split}/{pair.name}", photograph=f"{split}/{pair.photograph}", split=label)


def read_rig(phone: str, report: Counter, alignment: Counter) -> Iterator[Pair | dict]:
    """Every scene of the simulated rig, photographed by ``phone`` and the DSLR, aligned and cut like any photographs.

    Of each scene its record (``name``, and what ``pairing.make`` says) comes first, then its pairs. ``report`` and
    ``alignment`` count as ``pairing.count`` does.
    """
    for scene in bar(rig.scenes(), label=f"align rig {phone}", unit="scene", brief=True):
        frames = rig.shoot(scene.name, cameras=(phone, "dslr"))
        extracted, record = pairing.make(frames[phone].image, frames["dslr"].image, RIG_SETTINGS)
        pairing.count(record, report, alignment)
        yield {"name": scene.name, **record}
        for window, *images in extracted.patches if extracted else ():
            yield Pair(
                f"{scene.name}/{window.y}-{window.x}", f"{scene.kind}:{scene.photograph}", *images, kind=scene.kind
            )
