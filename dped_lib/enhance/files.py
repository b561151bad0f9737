"""Photographs of files and folders enhanced into files: every path is settled from headers before any work, and nothing is lost.

A result or a sheet that is there is kept unless it may be overwritten; what was read is never written to.
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.data import photofile, picture
from dped_lib.enhance import photographs as enhancement

_ELSEWHERE = "name another folder for the results"
#: Suffixes of pictures that cannot be written: as OUT they would be taken for folders.
_UNWRITABLE = (photofile.SUFFIXES | {".gif", ".avif", ".jp2", ".dng"}) - picture.FORMATS.keys()


@dataclass(frozen=True)
class Job:
    """One photograph and where its results go.

    Attributes:
        source, target: the file that is read, and the one that is written.
        sheet: where original and result go side by side; None: no such sheet is wanted.
        make, make_sheet: whether to write them; what is there already is kept.
        header: of the source.
    """

    source: Path
    target: Path
    sheet: Path | None
    make: bool
    make_sheet: bool
    header: photofile.Header


@dataclass(frozen=True)
class Settled:
    """What will be done: ``jobs``; ``failed``, a message for each photograph that cannot be; ``notes`` to be read before."""

    jobs: tuple[Job, ...]
    failed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def to_do(self) -> tuple[Job, ...]:
        return tuple(j for j in self.jobs if j.make or j.make_sheet)


def find(inputs: Iterable[Path]) -> list[Path]:
    """Return files and, of folders, the photographs in them (``photofile.list_files``), each once.

    Raises:
        DpedError: no such file or folder, or a folder without photographs.
    """
    found: list[Path] = []
    for item in map(Path, inputs):
        if item.is_dir():
            mine = photofile.list_files(item)
            if not mine:
                raise DpedError(f"{item}: no photographs in it ({', '.join(sorted(photofile.SUFFIXES))}).")
            found += mine
        elif item.is_file():
            found.append(item)
        else:
            raise DpedError(f"{item}: no such file or folder.")
    return list({os.path.abspath(f): f for f in reversed(found)}.values())[::-1]


def settle(
    inputs: Iterable[Path], out: Path, suffix: str = "", compare: bool = False, overwrite: bool = False
) -> Settled:
    """Return where each photograph goes, from headers alone: into ``out`` if it names a file, else under its own name in that folder.

    The format stays the input's where it can be written and holds the picture (``picture.written_suffix``).

    Args:
        suffix: of all results instead, e.g. ``.jpg``; 16 bits a channel go into PNG even so, unless it is JPEG.
        compare: also a sheet ``NAME-compare.jpg`` beside each result.
        overwrite: replace results and sheets that are there.

    Raises:
        DpedError: nothing to enhance; two files would be written to one path; one would replace a photograph that is read; ``out`` is
            no place for results.
    """
    files, out = find(inputs), Path(out)
    named = out.suffix.lower() in picture.FORMATS and not out.is_dir()
    if named and len(files) > 1:
        raise DpedError(f"{out}: names one file, and there are {len(files)} photographs. Name a folder.")
    if named and suffix and picture.FORMATS[suffix] != picture.FORMATS[out.suffix.lower()]:
        raise DpedError(f"{out}: ends in {out.suffix}, and --format says {suffix[1:]}. Leave one of them out.")
    if out.suffix.lower() in _UNWRITABLE and not out.is_dir():
        raise DpedError(f"{out}: cannot write {out.suffix}; allowed: {', '.join(picture.FORMATS)}. Or name a folder.")
    jobs, failed, notes = [], [], []
    for file in files:
        try:
            if not file.stat().st_size:
                raise DpedError(f"{file}: empty. Remove it.")
            header = photofile.check(file, least=1, otherwise="")
            wanted = out if named else out / f"{file.stem}{suffix or file.suffix}"
            # What a user names is done where it can be; a suffix of the input's own gives way to what the picture has.
            asked = bool(named or suffix)
            final = picture.written_suffix(wanted.suffix, header.deep, header.alpha and not asked)
            if asked and picture.FORMATS[wanted.suffix.lower()] == "JPEG":
                final = wanted.suffix
            target = wanted.with_name(wanted.name.removesuffix(wanted.suffix) + final)
            if target != wanted:
                notes.append(f"{file}: is written as {target.name}, {_why(header, wanted.suffix)}")
            picture.check_format(target, header.height, header.width, header.deep)
            sheet = target.with_name(f"{target.stem}-compare.jpg") if compare else None
            make, make_sheet = (path is not None and _is_to_be_made(path, overwrite) for path in (target, sheet))
            jobs.append(Job(file, target, sheet, make, make_sheet, header))
        except DpedError as error:
            failed.append(str(error))
        except OSError as error:
            failed.append(f"{file}: cannot be read ({error}).")
    _check_originals(files, jobs)
    _check_collisions(jobs, str)
    return Settled(tuple(jobs), tuple(failed), tuple(notes))


def _why(header: photofile.Header, suffix: str) -> str:
    if header.deep and suffix.lower() not in (".jpg", ".jpeg"):
        return "which keeps 16 bits a channel"
    if suffix.lower() in picture.FORMATS:
        return "which keeps " + ("16 bits a channel" if header.deep else "transparency")
    return f"since {suffix or 'its format'} is not written"


def _is_to_be_made(path: Path, overwrite: bool) -> bool:
    if len(os.fsencode(path.name)) > 255:
        raise DpedError(f"{path}: this name is too long for a file system. Give the photograph a shorter one.")
    if path.is_dir():
        raise DpedError(f"{path}: is a folder, and a result would go there. Rename it, or {_ELSEWHERE}.")
    if os.path.lexists(path) and not path.exists() and not overwrite:
        raise DpedError(f"{path}: is a link that leads nowhere. Remove it, or {_ELSEWHERE}.")
    return overwrite or not path.exists()


def _written(job: Job) -> Iterator[Path]:
    yield job.target
    if job.sheet is not None:
        yield job.sheet


def _identities(path: Path) -> set[tuple[int, int]]:
    """Device and number of a file and of the link that leads to it: the same under every name, hard links and other cases included."""
    found = set()
    for look in (os.stat, os.lstat):
        try:
            status = look(path)
            found.add((status.st_dev, status.st_ino))
        except OSError:
            pass
    return found


def _check_originals(files: Iterable[Path], jobs: Iterable[Job]) -> None:
    originals = {identity: file for file in files for identity in _identities(file)}
    for job in jobs:
        for path in _written(job):
            if found := _identities(path) & originals.keys():
                original = originals[found.pop()]
                what = "the original" if path == job.target else "a photograph by a sheet of --compare"
                also = "" if os.path.abspath(original) == os.path.abspath(path) else f" {original}"
                raise DpedError(f"{path}: would replace {what}{also}. Name another folder.")


def _check_collisions(jobs: Iterable[Job], key: Callable[[str], str]) -> None:
    taken: dict[str, Path] = {}
    for job in jobs:
        for path in _written(job):
            name = key(os.path.join(os.path.realpath(path.parent), path.name))
            if name in taken:
                raise DpedError(
                    f"{taken[name]} and {job.source} would both be written to {path}. Enhance them into two folders, or choose another "
                    "--format."
                )
            taken[name] = job.source


def probe(jobs: Iterable[Job]) -> list[str]:
    """Find out, before anything is computed, whether the results can be written; returns notes on what may go wrong.

    Raises:
        DpedError: their folder is none, cannot be written to or is full; or it does not tell apart names that the results need.
    """
    jobs, notes = list(jobs), []
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        mine = [job for job in jobs if job.target.parent == folder]
        if not paths.probe_folder(folder, _ELSEWHERE):
            _check_collisions(mine, lambda name: unicodedata.normalize("NFC", name).casefold())
        # A guess on the low side: PNG needs about this much of a smooth photograph, and JPEG of most.
        least = sum(j.header.height * j.header.width for j in mine if j.make) // 5
        if (free := paths.free_space(folder)) < least:
            notes.append(f"{folder}: {free >> 20} MiB are free, and the results may need more than {least >> 20} MiB")
    return notes


# ---------------------------------------------------------------------------------------------- work


def do(
    run: enhancement.Engine,
    job: Job,
    quality: int = 95,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Writes what a job makes; returns it.

    ``tell``: hears the plan before the run starts, and one line for each kind of loss.

    Raises:
        DpedError: the photograph cannot be read, needs more memory than allowed, or a result cannot be written.
    """
    paths.probe_folder(job.target.parent, _ELSEWHERE)  # as it is now: the disk may be full meanwhile
    available = run.limit if run.device.type == "cpu" else enhancement.default_limit()
    if (need := enhancement.resident() + job.header.reading) > available:
        raise DpedError(
            f"{job.source}: needs at least {need >> 20} MiB of memory to be read ({job.header.width} x {job.header.height} pixels), "
            f"and {available >> 20} MiB are allowed. Allow more with --max-memory."
        )
    before, done = picture.read(job.source), []
    if job.make:
        for what in before.lost:
            tell(f"{job.source}: the result is without {what}")
        if before.profile:
            tell(f"{job.source}: its colours ({before.profile.name}) are converted to sRGB for the network, and back")
        height, width = before.pixels.shape[:2]
        try:
            how = run.plan(height, width, held=enhancement.held(before))
        except DpedError as error:
            raise DpedError(f"{job.source}: {error}") from error
        tell(f"{job.source}: {width} x {height} pixels: {how.describe()}")
        with bar(label=job.source.name, unit="row", total=height * how.sweeps) as shown:
            after = enhancement.whole(run, before, shown.update, how)
        picture.write(after, job.target, quality, overwrite, lambda text: tell(f"{job.target}: {text}"))
        done.append(job.target)
    if job.make_sheet:
        after = after if job.make else picture.read(job.target)
        halves = Image.fromarray(before.on_screen()), Image.fromarray(after.on_screen())
        picture.write(picture.Picture(np.asarray(_sheet(*halves))), job.sheet, 92, overwrite)
        done.append(job.sheet)
    return done


def _sheet(*halves: Image.Image, longest: int = 2400) -> Image.Image:
    """Original and enhanced side by side, each named, at most ``longest`` pixels wide."""
    for half in halves:
        half.thumbnail((longest // 2, longest))
    width, height = (max(half.size[i] for half in halves) for i in (0, 1))
    line = max(16, height // 30)
    sheet = Image.new("RGB", (2 * width + 4, height + 2 * line), "white")
    draw = ImageDraw.Draw(sheet)
    for x, half, name in zip((0, width + 4), halves, ("original", "enhanced"), strict=True):
        sheet.paste(half, (x, 2 * line))
        draw.text((x + line // 2, line // 2), name, fill="black", font_size=line)
    return sheet
