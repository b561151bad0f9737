"""Find which photographs of two cameras' folders are a pair, and check their headers before hours of work."""

import filecmp
import hashlib
import os
import sys
from collections.abc import Container
from pathlib import Path

from dped_lib.base.errors import DpedError, first_few
from dped_lib.base.validation import one_of
from dped_lib.data import image_decoding, photo_folders, readers


def pairs(
    phone_dir: Path, dslr_dir: Path, by: str, only: Container[str] | None, on_bad: str, bad: dict[str, str]
) -> dict[str, tuple[Path, Path]]:
    """Return the two files of each pair, phone and DSLR, by its name, in natural order of the names.

    All pairs are looked at. A bad one is added to ``bad``; with ``on_bad="error"`` they then raise one error.

    Args:
        by: ``name`` or ``order`` (``builder.build``).
        only: names of the files (with suffix) to use; None: all photographs.

    Raises:
        DpedError: a folder is missing, empty or named twice, no two files are a pair, or a file cannot be used.
    """
    one_of("order of pairs", by, ("name", "order"))
    phone, dslr = (photo_folders.list_photographs(folder, only, broken=True) for folder in (phone_dir, dslr_dir))
    if os.path.samefile(phone_dir, dslr_dir):
        places = " and ".join(dict.fromkeys(map(str, (phone_dir, dslr_dir))))
        raise DpedError(
            f"{places}: the same folder for both cameras. Name a folder of the phone's photographs and one of the DSLR's."
        )
    if by == "order":
        dslr = _in_order(phone_dir, dslr_dir, phone, dslr)
    _check_names(phone_dir, dslr_dir, phone, dslr)
    paired, larger = {}, 0
    looks = [{photo_folders.appearance(name): name for name in side} for side in (phone, dslr)]
    for name in sorted(phone.keys() | dslr.keys(), key=readers.natural):
        try:
            sides = zip((phone_dir, dslr_dir), (phone, dslr), looks, strict=True)
            pixels = [_pixels(folder, name, side, look) for folder, side, look in sides]
            _check_different(phone[name], dslr[name])
        except DpedError as error:
            bad[name] = str(error)
            continue
        larger += pixels[0] > pixels[1]
        paired[name] = phone[name], dslr[name]
    if bad and on_bad == "error":
        first, *others = bad
        more = f" Bad, too: {first_few(others, 9)}." if others else ""
        raise readers.or_skip(DpedError(bad[first] + more))
    if not paired:
        raise DpedError(f"{phone_dir}, {dslr_dir}: no pair of photographs. The first: {next(iter(bad.values()))}")
    _report_equal(paired)
    if larger == len(paired):
        print(
            f"note: the photographs in {phone_dir} have more pixels than those in {dslr_dir}. The phone's folder comes first.",
            file=sys.stderr,
        )
    return paired


def _pixels(folder: Path, name: str, side: dict[str, Path], looks: dict[str, str]) -> int:
    """Return the number of pixels of a photograph from its header, or raise a DpedError if it is missing or bad."""
    if name not in side:
        like = photo_folders.lookalike(name, looks)
        remedy = f"{like}. Rename one of them." if like else "Add it."
        raise DpedError(f"{folder}: no photograph {name!r}, but its partner is there. {remedy}")
    header = image_decoding.check(side[name])
    return header.height * header.width


def _check_different(one: Path, other: Path) -> None:
    if one.stat().st_size == other.stat().st_size and filecmp.cmp(one, other, shallow=False):
        raise DpedError(
            f"{one} and {other}: the same photograph twice. Replace one by the photograph of the other camera."
        )


def _report_equal(paired: dict[str, tuple[Path, Path]]) -> None:
    """Print on standard error which photographs occur under two names.

    The name of a photograph decides its split: training, validation or test. So such a photograph may be in two.
    """
    for side in (0, 1):
        # Only files of equal size and beginning are read whole. Equal size is common among uncompressed photographs.
        by_start: dict[tuple[int, bytes], list[Path]] = {}
        for files in paired.values():
            with open(files[side], "rb") as f:
                start = hashlib.sha256(f.read(1 << 16)).digest()
            by_start.setdefault((files[side].stat().st_size, start), []).append(files[side])
        by_content: dict[bytes, list[str]] = {}
        for file in (file for alike in by_start.values() if len(alike) > 1 for file in alike):
            with open(file, "rb") as f:
                by_content.setdefault(hashlib.file_digest(f, "sha256").digest(), []).append(file.name)
        equal = [" = ".join(names[:2]) for names in by_content.values() if len(names) > 1]
        if equal:
            folder = next(iter(paired.values()))[side].parent
            print(
                f"note: {folder} holds the same photograph under two names ({first_few(equal)}). Remove one of them "
                "and its partner. Otherwise the test may show what a training has seen.",
                file=sys.stderr,
            )


def _in_order(phone_dir: Path, dslr_dir: Path, phone: dict[str, Path], dslr: dict[str, Path]) -> dict[str, Path]:
    """Return the DSLR's photographs by the name of their partner: the first of one folder belongs to the first of the other.

    Raises:
        DpedError: the folders do not have as many photographs each.
    """
    names, others = (sorted(side, key=readers.natural) for side in (phone, dslr))
    if len(names) != len(others):
        raise DpedError(
            f"{phone_dir} has {len(names)} photographs and {dslr_dir} has {len(others)}, so they cannot be paired by order. "
            "Remove what has no partner, or give the two files of a scene the same name."
        )
    last = f", the last {phone[names[-1]].name} with {dslr[others[-1]].name}" if len(names) > 1 else ""
    print(f"by order: the first pair is {phone[names[0]].name} with {dslr[others[0]].name}{last}", file=sys.stderr)
    return {name: dslr[other] for name, other in zip(names, others, strict=True)}


def _check_names(phone_dir: Path, dslr_dir: Path, phone: dict[str, Path], dslr: dict[str, Path]) -> None:
    """Raise a DpedError if no name of one folder is, or looks like, one of the other."""
    first, other = (min(side, key=readers.natural) for side in (phone, dslr))
    looks = [{photo_folders.appearance(name) for name in side} for side in (phone, dslr)]
    if not set.intersection(*looks):
        raise DpedError(
            f"{phone_dir}: no name in it ({first!r} ...) occurs in {dslr_dir} ({other!r} ...). The two files of a scene must "
            "have the same name. If both folders hold the scenes in the same order, add --by order to dped align."
        )
