"""Read single patches and images, and the pairs of the datasets ``pirm`` and ``rig``, one at a time.

``official_layout`` reads the pairs of ``dped``. ``builder`` aligns the photographs of ``city100`` and ``own``, whose
folders are named here.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.base.validation import one_of
from dped_lib.data import downloads, image_decoding, pair_store, pairing, photo_folders, rig
from dped_lib.data.pair_store import Pair
from dped_lib.data.pairing import Settings
from dped_lib.paper import PATCH_SIZE

#: What to do with a bad file: stop with an error, or leave it out and count it.
ON_BAD = ("error", "skip")
#: The rig's frames have 0.3 of the cameras' sizes, so its aligned images have half the paper's size.
RIG_SETTINGS = Settings(size=(400, 540))


class BadPatch(DpedError):
    """Report a patch that cannot be used. ``reason`` is ``missing partner``, ``unreadable`` or ``wrong size``."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def read_image(file: Path | str, content: bytes | None = None) -> np.ndarray:
    """Return an image file as uint8 H x W x 3, RGB. ``content`` holds the bytes of a file that is not on the disk.

    Raises:
        DpedError: missing, truncated, not an image, or not 8-bit RGB.
    """
    decoded = image_decoding.decode(file, content=content)
    mode = decoded.header.mode
    if mode != "RGB" or decoded.header.deep:
        raise DpedError(f"{file}: mode {mode}, not 8-bit RGB. Convert it.")
    return decoded.pixels


def read_patch(file: Path | str, content: bytes | None = None) -> np.ndarray:
    """Return a patch as uint8 100 x 100 x 3, RGB. Raise BadPatch, which names the file, if it is no such image."""
    try:
        pixels = read_image(file, content)
    except DpedError as error:
        raise BadPatch("unreadable", str(error)) from error
    if pixels.shape != (PATCH_SIZE, PATCH_SIZE, 3):
        size = "x".join(map(str, pixels.shape[:2]))
        raise BadPatch(
            "wrong size",
            f"{file}: {size} pixels, a patch has {PATCH_SIZE}x{PATCH_SIZE}. Cut it again.",
        )
    return pixels


def missing_partner(file: Path | str) -> BadPatch:
    """Return the error for a missing patch (``file``) whose partner exists."""
    return BadPatch("missing partner", f"{file}: missing, but its partner is there. Add it.")


def or_skip(error: DpedError) -> DpedError:
    """Return the error of a bad file that stops a command (``on_bad="error"``), with the remedy of leaving it out."""
    return DpedError(f"{error} Add --on-bad skip to dped fetch, align, train or evaluate to leave such files out.")


def natural(name: str) -> str:
    """Return a sort key that compares the numbers in names as numbers."""
    # The length before the digits makes 9 come before 10. The name itself decides between 1.jpg and 01.jpg.
    return re.sub(r"\d+", lambda n: f"\0{chr(len(d := str(int(n[0]))))}{d}", name) + f"\0\0{name}"


def read_folders(
    phone_dir: Path,
    dslr_dir: Path,
    on_bad: str = "error",
    report: Counter | None = None,
    only: Container[str] | None = None,
) -> Iterator[Pair]:
    """Yield the pairs of equally named 100 x 100 images in two folders, in natural order of their names.

    Args:
        only: names of the files to use; None: every image file that is not hidden.
        on_bad: ``error`` stops at the first bad file; ``skip`` leaves the pair out and counts the reason in ``report``.

    Raises:
        DpedError: a missing folder, a missing partner, a wrong size, or an unreadable image; the message names the
            file.
    """
    one_of("on_bad", on_bad, ON_BAD)
    report = Counter() if report is None else report
    sides = [photo_folders.list_photographs(folder, only) for folder in (phone_dir, dslr_dir)]
    names = sorted(sides[0].keys() | sides[1].keys(), key=natural)
    for name in bar(names, label=f"read {phone_dir.parent.name}", unit="pair", brief=True):
        try:
            images = []
            for folder, side, other in zip((phone_dir, dslr_dir), sides, sides[::-1], strict=True):
                if name not in side:
                    raise missing_partner(folder / other[name].name)
                images.append(read_patch(side[name]))
        except BadPatch as error:
            report[error.reason] += 1
            if on_bad == "error":
                raise or_skip(error) from error
            continue
        report["read"] += 1
        yield Pair(name, name, *images)


def _group_identical(pairs: Iterable[Pair]) -> Iterator[Pair]:
    # The patches of pirm do not say which photograph they come from. Identical ones (four are all white) are given one
    # photograph, so they lie in the same split.
    first: dict[bytes, str] = {}
    for pair in pairs:
        digest = hashlib.sha256(pair.dslr.tobytes()).digest()
        yield replace(pair, photograph=first.setdefault(digest, pair.photograph))


def read_pirm(on_bad: str = "error", report: Counter | None = None) -> Iterator[Pair]:
    """Yield the authors' 400 real iPhone-Canon pairs. Files that are not in the cache are fetched."""
    files = downloads.fetch_all(downloads.keys("pirm"), "pirm pairs")
    phone, dslr = ({f for f in files if f.parent.name == camera} for camera in ("iphone", "canon"))
    names = {f.name for f in phone | dslr}
    # The folder may also hold temporary files of another fetch, so only these names are read.
    pairs = read_folders(min(phone).parent, min(dslr).parent, on_bad, report, names)
    yield from _group_identical(pairs)


#: City100's phone photographs are 840 x 600 (width x height). This size fits into the area that both cameras show.
CITY100_SETTINGS = Settings(size=(560, 756))


#: Phone photographs that are upside down compared with the DSLR's.
CITY100_UPSIDE_DOWN = frozenset({"065H"})
#: Scenes that lie on their side in the photographs of both cameras.
CITY100_ON_SIDE = frozenset({"040H", "041H", "047H", "065H"})


def city100_folders() -> tuple[Path, Path, set[str]]:
    """Return the folders of the iPhone X's and the Nikon's photographs, and the names of the files in them.

    Files that are not in the cache are fetched.
    """
    files = downloads.fetch_all(downloads.keys("city100"), "city100")
    phone, dslr = ({f for f in files if f.parent.name == f"City100_{c}"} for c in ("iPhoneX", "NikonD5500"))
    return min(phone).parent, min(dslr).parent, {f.name for f in phone | dslr}


def city100_origin() -> str:
    """Return a text that counts the scenes. A store of fewer scenes, which an earlier version made, is made again."""
    return f"City100, {len(downloads.keys('city100')) // 2} scenes"


def read_city100(file: Path) -> np.ndarray:
    """Return a photograph of City100, uint8 H x W x 3, RGB, the same way up by both cameras."""
    pixels = image_decoding.read_photograph(file)
    upside_down = file.stem in CITY100_UPSIDE_DOWN and file.parent.name == "City100_iPhoneX"
    return np.ascontiguousarray(pixels[::-1, ::-1]) if upside_down else pixels


def own_root() -> Path:
    """Return the folder that ``DPED_OWN`` names: it has ``phone`` and ``dslr`` in it, or ``dped align`` made it.

    Raises:
        DpedError: ``DPED_OWN`` is not set, or names another kind of folder.
    """
    folder = os.environ.get("DPED_OWN")
    if not folder:
        raise DpedError(
            "dataset 'own' consists of your photographs: set DPED_OWN to a folder with phone/ and dslr/ in it, whose files have the "
            "same names, or to the folder that 'dped align PHONE_DIR DSLR_DIR OUT' made."
        )
    root = paths.expanded(folder)
    if not (pair_store.made_in(root) or ((root / "phone").is_dir() and (root / "dslr").is_dir())):
        raise DpedError(
            f"{root}: DPED_OWN names neither a folder with phone/ and dslr/ in it nor one that 'dped align' finished."
        )
    return root


def own_origin() -> str:
    """Return the folder that ``DPED_OWN`` names, and a digest of its content.

    The digest covers the finished store's description, or the names, sizes and dates of the photographs.
    """
    root = own_root()
    made = hashlib.sha256()
    if pair_store.made_in(root):
        made.update((pair_store.store_of(root) / "meta.json").read_bytes())
    else:
        for file in (f for side in ("phone", "dslr") for f in photo_folders.list_photographs(root / side).values()):
            line = f"{file.relative_to(root)} {file.stat().st_size} {file.stat().st_mtime_ns}\n"
            made.update(line.encode("utf-8", "surrogateescape"))
    return f"{root.resolve()} {made.hexdigest()[:16]}"


def read_rig(phone: str, report: Counter, alignment: Counter) -> Iterator[Pair | dict]:
    """Photograph every scene of the simulated rig with ``phone`` and the DSLR, align, and cut patches.

    Yield the record of each scene (``name`` and the record of ``pairing.make``), then its pairs. ``pairing.count`` counts
    them in ``report`` and ``alignment``.
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
