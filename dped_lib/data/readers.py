"""Aligned patch pairs as they come from each dataset, one at a time: folders of files, and the rig."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.base.validation import one_of
from dped_lib.data import downloads, pairing, photofile, rig
from dped_lib.data.pairing import Pair, Settings

SIZE = paper.PATCH_SIZE

#: The rig photographs at 0.3 of the cameras' sizes, so its aligned images are half the paper's.
RIG_SETTINGS = Settings(size=(400, 540))


class BadPatch(DpedError):
    """A patch that cannot be used. ``reason``: ``missing partner``, ``unreadable`` or ``wrong size``."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


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


def read_patch(file: Path, content: bytes | None = None) -> np.ndarray:
    """Return a patch as uint8 100 x 100 x 3, RGB. Raises BadPatch, which names the file."""
    try:
        pixels = read_image(file, content)
    except DpedError as error:
        raise BadPatch("unreadable", str(error)) from error
    if pixels.shape != (SIZE, SIZE, 3):
        size = "x".join(map(str, pixels.shape[:2]))
        raise BadPatch(
            "wrong size",
            f"{file}: {size} pixels, a patch has {SIZE}x{SIZE}. Cut it again, or skip it with on_bad='skip'.",
        )
    return pixels


def missing_partner(file: Path | str) -> BadPatch:
    """Return the error for a patch whose partner is there."""
    return BadPatch(
        "missing partner", f"{file}: missing, but its partner is there. Add it, or skip the pair with on_bad='skip'."
    )


def natural(name: str) -> str:
    """Return a sort key: numbers in names count as numbers."""
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
        only: names to look at; None: every image file that is not hidden.
        on_bad: ``error`` stops at the first bad file; ``skip`` leaves the pair out and counts why in ``report``.

    Raises:
        DpedError: a missing folder, a missing partner, a wrong size, or an unreadable image; the message names the file.
    """
    one_of("on_bad", on_bad, ("error", "skip"))
    report = Counter() if report is None else report
    sides = [photofile.list_photographs(folder, only) for folder in (phone_dir, dslr_dir)]
    everything = sorted(sides[0].keys() | sides[1].keys(), key=natural)
    for name in bar(everything, label=f"read {phone_dir.parent.name}", unit="pair", brief=True):
        try:
            images = []
            for folder, side, other in zip((phone_dir, dslr_dir), sides, sides[::-1], strict=True):
                if name not in side:
                    raise missing_partner(folder / other[name].name)
                images.append(read_patch(side[name]))
        except BadPatch as error:
            report[error.reason] += 1
            if on_bad == "error":
                raise
            continue
        report["read"] += 1
        yield Pair(name, name, *images)


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


#: Photographs that the phone took upside down, as the DSLR sees the scene.
CITY100_UPSIDE_DOWN = frozenset({"065H"})


def city100_folders() -> tuple[Path, Path, set[str]]:
    """Return the folders of the iPhone X's and the Nikon's photographs, fetched where they are not in the cache, and the names in them."""
    files = downloads.fetch_all(downloads.keys("city100"), "city100")
    phone, dslr = ({f for f in files if f.parent.name == f"City100_{c}"} for c in ("iPhoneX", "NikonD5500"))
    return min(phone).parent, min(dslr).parent, {f.name for f in phone | dslr}


def city100_origin() -> str:
    """Say which scenes are read. A store of fewer, as an earlier version made it, is another dataset."""
    return f"City100, {len(downloads.keys('city100')) // 2} scenes"


def read_city100(file: Path) -> np.ndarray:
    """Return a photograph of City100, uint8 H x W x 3, RGB, the same way up by both cameras."""
    pixels = photofile.read_photograph(file)
    turned = file.stem in CITY100_UPSIDE_DOWN and file.parent.name == "City100_iPhoneX"
    return np.ascontiguousarray(pixels[::-1, ::-1]) if turned else pixels


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
        for file in (f for side in ("phone", "dslr") for f in photofile.list_photographs(root / side).values()):
            made.update(f"{file.relative_to(root)} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    return f"{root.resolve()} {made.hexdigest()[:16]}"


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
