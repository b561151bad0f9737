"""Enhance photographs from files and folders into files. All paths are determined from headers before any work.

An existing result or sheet is kept unless it may be overwritten. Only earlier results are overwritten: files that say in
their EXIF that ``dped enhance`` made them (``image_decoding.is_enhanced``). No other file is ever replaced.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dped_lib.base import paths, writing
from dped_lib.base.errors import DpedError, first_few
from dped_lib.base.progress import bar
from dped_lib.data import image_decoding, photo_folders, photo_metadata, picture
from dped_lib.enhance import enhancement

_ELSEWHERE = "name another folder for the results"
_MOVE = "Move it away, or name another file or folder for the results."
#: Suffixes of pictures that Pillow does not know.
_OF_OTHERS = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".jxl", ".heic", ".heif", ".svg"}
)
#: The usual suffix of each format, for photographs whose names have none.
_SUFFIX_OF = {kind: suffix for suffix, kind in reversed(picture.FORMATS.items())} | {"MPO": ".jpg", "HEIF": ".heic"}


@dataclass(frozen=True)
class Job:
    """Describe one photograph and its results.

    Attributes:
        source: the file that is read.
        target: the file that is written.
        sheet: the file with original and result side by side, or None.
        make, make_sheet: whether to write target and sheet. An existing file is kept.
        header: the header of the source.
        overwrite: whether to replace earlier results, also those that appear after the plan.
    """

    source: Path
    target: Path
    sheet: Path | None
    make: bool
    make_sheet: bool
    header: image_decoding.Header
    overwrite: bool = False


@dataclass(frozen=True)
class JobPlan:
    """Hold what a run of ``dped enhance`` will do.

    Attributes:
        jobs: the photographs that can be enhanced.
        failed: a message for each photograph that cannot be enhanced.
        notes: messages for the user before the run.
    """

    jobs: tuple[Job, ...]
    failed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def to_do(self) -> tuple[Job, ...]:
        """Return the jobs that write at least one file."""
        return tuple(j for j in self.jobs if j.make or j.make_sheet)


def find(inputs: Iterable[Path]) -> list[Path]:
    """Return the given files and the photographs in the given folders (``photo_folders.list_files``), each once.

    Raises:
        DpedError: a file or folder does not exist, or a folder has no photographs.
    """
    files: list[Path] = []
    for item in map(paths.collapsed, inputs):
        if item.is_dir():
            if not (in_folder := photo_folders.list_files(item)):
                known = ", ".join(sorted(photo_folders.SUFFIXES))
                raise DpedError(
                    f"{item}: no photographs in it (known suffixes: {known}). Name photographs or another folder."
                )
            files += in_folder
        elif item.is_file():
            files.append(item)
        elif item.exists():
            why = "not a regular file (perhaps a pipe or a device). Save the photograph in a file first."
            raise DpedError(f"{item}: {why}")
        else:
            raise DpedError(f"{item}: no such file or folder. Correct the path.")
    return list({os.path.abspath(f): f for f in reversed(files)}.values())[::-1]


def plan_jobs(
    inputs: Iterable[Path], out: Path, suffix: str = "", compare: bool = False, overwrite: bool = False
) -> JobPlan:
    """Determine from headers alone which file each photograph is written to.

    The result is ``out`` if that names a file, and otherwise a file of the photograph's name in the folder ``out``. The
    format is that of the input if it can be written and can hold the picture (``picture.written_suffix``).

    Args:
        inputs: files and folders.
        out: the file or folder to write.
        suffix: the suffix of all results, e.g. ``.jpg``. Pictures with 16 bits a channel become PNG unless it is JPEG.
        compare: also write a sheet ``NAME-compare.jpg`` beside each result. NAME has a suffix if photographs differ only
            in it.
        overwrite: replace existing results and sheets.

    A photograph is in ``failed`` if it cannot be enhanced, if it would replace a file that is no earlier result, or if
    the one file that ``out`` names exists and is kept.

    Raises:
        DpedError: there is no photograph, two results have one path, a result would replace an original, or ``out``
            cannot hold results.
    """
    inputs, out = list(map(paths.collapsed, inputs)), paths.collapsed(out)
    named = out.suffix.lower() in picture.FORMATS and not out.is_dir()
    files, earlier = _without_earlier_results(find(inputs), inputs, out.parent if named else out)
    if named and len(files) > 1:
        raise DpedError(f"{out}: names one file, and there are {len(files)} photographs. Name a folder.")
    if named and suffix and picture.FORMATS[suffix] != picture.FORMATS[out.suffix.lower()]:
        raise DpedError(f"{out}: ends in {out.suffix}, and --format says {suffix[1:]}. Leave one of them out.")
    if not named and not out.is_dir() and out.suffix.lower() in _OF_OTHERS | Image.registered_extensions().keys():
        raise DpedError(f"{out}: cannot write {out.suffix}; allowed: {', '.join(picture.FORMATS)}. Or name a folder.")
    jobs, failed = [], []
    notes = [f"{f.parent}: earlier results in it, which are not enhanced again: {len(earlier)}" for f in earlier[:1]]
    stems = Counter(file.stem for file in files)
    notes += [note for folder in dict.fromkeys(inputs) if folder.is_dir() and (note := _left_out(folder, files, out))]
    for file in files:
        try:
            if not file.stat().st_size:
                raise DpedError(f"{file}: empty. Remove it.")
            header = image_decoding.check(file, least=1)
            wanted = out if named else out / f"{file.stem}{suffix or file.suffix}"
            # A format that the user names is used if possible. The input's own format changes if the picture needs it.
            asked = bool(named or suffix)
            own = wanted.suffix or _SUFFIX_OF.get(header.kind, "")
            final = picture.written_suffix(own, header.deep, header.alpha and not asked)
            if asked and picture.FORMATS[wanted.suffix.lower()] == "JPEG":
                final = wanted.suffix
            target = wanted.with_name(wanted.name.removesuffix(wanted.suffix) + final)
            if target != wanted:
                notes.append(f"{file}: is written as {target.name}, {_why(header, wanted.suffix)}")
            picture.check_format(target, header.height, header.width, header.deep)
            # a.jpg and a.tif have two results, and would have one sheet.
            sheet_stem = target.stem if stems[file.stem] == 1 else target.name
            sheet = target.with_name(f"{sheet_stem}-compare.jpg") if compare else None
            make, make_sheet = (path is not None and _is_to_be_made(path, overwrite) for path in (target, sheet))
            jobs.append(Job(file, target, sheet, make, make_sheet, header, overwrite))
        except DpedError as error:
            failed.append(str(error))
        except OSError as error:
            failed.append(f"{file}: cannot be read ({error}). Make it readable, or leave it out.")
    _check_originals(files, jobs)
    _check_collisions(jobs, str)
    refused = {job.source: why for job in jobs if (why := _why_refused(job, named, overwrite))}
    failed += [f"{source}: {why}" for source, why in refused.items()]
    return JobPlan(tuple(job for job in jobs if job.source not in refused), tuple(failed), tuple(notes))


def _without_earlier_results(files: list[Path], inputs: list[Path], place: Path) -> tuple[list[Path], list[Path]]:
    """Separate the photographs from the earlier results among them, in a folder that is read and written.

    A file that the user names is a photograph, whatever made it.
    """
    place = Path(os.path.realpath(place))
    folders = {folder for folder in inputs if folder.is_dir() and Path(os.path.realpath(folder)) == place}
    earlier = [f for f in files if f.parent in folders and f not in inputs and image_decoding.is_enhanced(f)]
    if earlier and len(earlier) == len(files):
        raise DpedError(f"{earlier[0].parent}: no photographs in it but earlier results. Name a folder of photographs.")
    return [f for f in files if f not in earlier], earlier


def _left_out(folder: Path, files: Iterable[Path], out: Path) -> str:
    """Return a note that counts what a folder holds besides ``files``, or an empty text if there is nothing else.

    Hidden files, those of desktop systems, and the folder of the results do not count.
    """
    known, results = set(files), Path(os.path.realpath(out))
    kinds: Counter[str] = Counter()
    for item in folder.iterdir():
        if item in known or item.name.startswith(".") or item.name in paths.OF_DESKTOPS:
            continue
        if item.is_dir():
            place = Path(os.path.realpath(item))
            kinds["a folder"] += place != results and place not in results.parents
        elif not item.is_file():
            kinds["a pipe or device" if item.exists() else "a broken link"] += 1
        # An image that is missing from ``files`` is there under another path, or is an earlier result.
        elif not photo_folders.is_image_name(item.name):
            kinds[item.suffix or "no suffix"] += 1
    if not (names := sorted(+kinds)):
        return ""
    listed = first_few(names, 4)
    return f"{folder}: files and folders in it that are not enhanced: {kinds.total()} ({listed}). Name one to try it."


def _why(header: image_decoding.Header, suffix: str) -> str:
    """Return why a result has another suffix, as the end of a note."""
    if header.deep and suffix.lower() not in (".jpg", ".jpeg"):
        return "which keeps 16 bits a channel"
    if suffix.lower() in picture.FORMATS:
        return "which keeps " + ("16 bits a channel" if header.deep else "transparency")
    return f"because {suffix} cannot be written" if suffix else "because its name has no suffix"


def _is_to_be_made(path: Path, overwrite: bool) -> bool:
    if len(os.fsencode(path.name)) > 255:
        raise DpedError(f"{path}: this name is too long for a file system. Give the photograph a shorter one.")
    if path.is_dir():
        raise DpedError(f"{path}: is a folder with the name of a result. Rename it, or {_ELSEWHERE}.")
    if not path.exists():
        if os.path.lexists(path):
            raise DpedError(f"{path}: is a link to a missing file. Remove it, or {_ELSEWHERE}.")
        return True
    return overwrite


def _is_foreign(path: Path) -> bool:
    """Return whether a file exists and was not made by ``dped enhance``."""
    return path.exists() and not image_decoding.is_enhanced(path)


def _why_refused(job: Job, named: bool, overwrite: bool) -> str:
    """Return why a job cannot write what the user asked for, or an empty text if it can.

    A result that exists in a folder is no reason, because an earlier run may have made it. If the user has named the
    result's file, an existing one is a reason.
    """
    foreign = next(filter(_is_foreign, _written(job)), None)
    if overwrite and foreign:
        return f"{foreign} exists and was not made by dped enhance, so --overwrite does not replace it. {_MOVE}"
    if foreign == job.target and job.make_sheet:
        return f"{foreign} exists and was not made by dped enhance, so --compare cannot show it as the result. {_MOVE}"
    if named and not (job.make or job.make_sheet):
        return f"{job.target} exists. " + (_MOVE if foreign else "Replace it with --overwrite, or name another file.")
    return ""


def why_kept(path: Path) -> str:
    """Return a line that says why an existing file is not written."""
    if _is_foreign(path):
        return f"{path}: exists and is kept (it was not made by dped enhance: name another file or folder for results)"
    return f"{path}: exists and is kept (--overwrite replaces it)"


def _written(job: Job) -> Iterator[Path]:
    yield job.target
    if job.sheet is not None:
        yield job.sheet


def _identities(path: Path) -> set[tuple[int, int]]:
    """Return device and inode number of a file, and those of the link if the path is one.

    They are the same for all names of a file, including hard links and names in another case.
    """
    identities = set()
    for read_status in (os.stat, os.lstat):
        try:
            status = read_status(path)
            identities.add((status.st_dev, status.st_ino))
        except OSError:
            pass
    return identities


def _check_originals(files: Iterable[Path], jobs: Iterable[Job]) -> None:
    originals = {identity: file for file in files for identity in _identities(file)}
    for job in jobs:
        for path in _written(job):
            if shared := _identities(path) & originals.keys():
                original = originals[shared.pop()]
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
                    f"{taken[name]} and {job.source} would both be written to {path}. "
                    "Enhance them into two folders, or choose another --format."
                )
            taken[name] = job.source


def probe(jobs: Iterable[Job]) -> list[str]:
    """Check before any work whether the results can be written, and return notes on possible problems.

    Delete the unfinished results of killed runs.

    Raises:
        DpedError: the folder of the results is a file, cannot be written to or is full, or its file system does not
            distinguish the names of two results.
    """
    jobs, notes = list(jobs), []
    writing.clear_killed(*(path for job in jobs for path in _written(job)))
    for folder in dict.fromkeys(job.target.parent for job in jobs):
        in_folder = [job for job in jobs if job.target.parent == folder]
        if not writing.probe_folder(folder, _ELSEWHERE):
            _check_collisions(in_folder, lambda name: unicodedata.normalize("NFC", name).casefold())
        # A low estimate: PNG needs about this much for a smooth photograph, and JPEG for most photographs.
        least = sum(j.header.height * j.header.width for j in in_folder if j.make) // 5
        if (free := writing.free_space(folder)) < least:
            notes.append(f"{folder}: {free >> 20} MiB are free, and the results may need more than {least >> 20} MiB")
    return notes


# ---------------------------------------------------------------------------------------------- work


def do(
    run: enhancement.Engine,
    job: Job,
    quality: int = 95,
    report: Callable[[str], None] = lambda text: None,
) -> Iterator[Path]:
    """Write the files of a job, and yield each path when its file is written.

    Args:
        run: the network with its memory limit.
        job: from :func:`plan_jobs`.
        quality: the quality of JPEG and WebP files, 1 to 100.
        report: is called with the plan before the run, and with one line for each kind of data that is lost.

    Raises:
        DpedError: the photograph cannot be read, it needs more memory than allowed, or a result cannot be written.
    """
    writing.probe_folder(job.target.parent, _ELSEWHERE)  # again, because the disk may be full by now
    on_cpu = run.device.type == "cpu"
    available = run.limit if on_cpu else enhancement.default_limit()
    if (need := enhancement.resident() + job.header.reading) > available:
        remedy = (
            "Allow more with --max-memory."
            if on_cpu
            else "Close other programs (--max-memory bounds the GPU's memory)."
        )
        raise DpedError(
            f"{job.source}: needs at least {need >> 20} MiB of memory to be read "
            f"({job.header.width} x {job.header.height} pixels), and {available >> 20} MiB are allowed. {remedy}"
        )
    before = picture.read(job.source)
    if job.make:
        for what in before.lost:
            report(f"{job.source}: the result lacks {what}")
        if before.profile:
            report(f"{job.source}: its colours ({before.profile.name}) are converted to sRGB for the network, and back")
        height, width = before.pixels.shape[:2]
        try:
            schedule = run.plan(height, width, held=enhancement.held(before))
        except DpedError as error:
            raise DpedError(f"{job.source}: {error}") from error
        report(f"{job.source}: {width} x {height} pixels: {schedule.describe()}")
        with bar(label=job.source.name, unit="row", total=height * schedule.sweeps, percent=True) as shown:
            after = enhancement.whole(run, before, shown.update, schedule)
        _write(after, job.target, quality, job.overwrite, lambda text: report(f"{job.target}: {text}"))
        yield job.target
    if job.make_sheet:
        after = after if job.make else picture.read(job.target)
        halves = Image.fromarray(before.on_screen()), Image.fromarray(after.on_screen())
        _write(picture.Picture(np.asarray(_sheet(*halves))), job.sheet, 92, job.overwrite)
        yield job.sheet


def _write(
    made: picture.Picture,
    target: Path,
    quality: int,
    overwrite: bool,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Write a result, marked as ours. A file that has appeared since the plan stays, unless it may be overwritten."""
    marked = replace(made, exif=photo_metadata.marked(made.exif))
    picture.write(marked, target, quality, replace=overwrite and image_decoding.is_enhanced(target), tell=tell)


def _sheet(*halves: Image.Image, longest: int = 2400) -> Image.Image:
    """Return original and enhanced side by side with their names, at most ``longest`` pixels wide."""
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
