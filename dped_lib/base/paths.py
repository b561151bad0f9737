"""The one place that knows where files live, and how they are put there: whole or not at all."""

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import platformdirs

import dped_lib
from dped_lib.base.errors import DpedError

_HOLDER = ".part"  # how the folder ends that a file is written in before it is put in place
_HOLDERS = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(_HOLDER)}", re.DOTALL)
#: Files that desktops put into every folder they show. They are nobody's work.
OF_DESKTOPS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def in_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of the project: it holds the workflow and the notebooks, which a wheel does not carry."""
    return (folder / "workflow" / "Snakefile").is_file() and (folder / "notebooks").is_dir()


def project_root() -> Path:
    """Return the checkout that this library was installed from, or the working directory if it was installed as a wheel."""
    checkout = Path(dped_lib.__file__).resolve().parent.parent
    return checkout if in_checkout(checkout) else Path.cwd()


def checkout() -> Path:
    """Return the checkout, for what only a checkout has.

    Raises:
        DpedError: the library was installed as a wheel, and the working directory is no checkout either.
    """
    root = project_root()
    if not in_checkout(root):
        raise DpedError(
            f"{root}: not a checkout of the project. Notebooks and workflow are not part of the installed package: "
            "clone the project and run this command inside the clone."
        )
    return root


#: Variables of the environment that name files or folders.
VARIABLES = (
    "DPED_CACHE",
    "DPED_RUNS",
    "DPED_FIGURES",
    "DPED_MIRROR",
    "DPED_DATA",
    "DPED_OWN",
    "DPED_BASELINES",
    "DPED_VGG_MAT",
)


def make_absolute() -> None:
    """Makes the paths in ``VARIABLES`` absolute, so that they mean the same in a kernel or job with another working folder."""
    for name in VARIABLES:
        value = os.environ.get(name)
        if value and "://" not in value:
            os.environ[name] = os.path.abspath(os.path.expanduser(value))


def _named(variable: str, default: Path | str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(os.environ.get(variable) or default)))


def notebooks_dir() -> Path:
    return project_root() / "notebooks"


def cache_dir() -> Path:
    """Fetched files and stores made from them. ``DPED_CACHE`` overrides the user's cache folder."""
    return _named("DPED_CACHE", platformdirs.user_cache_dir("dped"))


def runs_dir() -> Path:
    """Artifacts of every dataset and preset. ``DPED_RUNS`` overrides ``runs/``."""
    return _named("DPED_RUNS", project_root() / "runs")


def run_dir(dataset: str, preset: str) -> Path:
    """Artifacts of one dataset and preset: stores, checkpoints, executed notebooks."""
    return runs_dir() / f"{dataset}-{preset}"


def published_figures() -> Path:
    """Return ``figures/`` of the checkout: what full runs have produced. Only the workflow saves there."""
    return project_root() / "figures"


def figures_root() -> Path:
    """Return where the folders of figures of this run lie: ``DPED_FIGURES``, which the workflow sets, or the folder of runs."""
    return _named("DPED_FIGURES", runs_dir())


def figures_dir(dataset: str, preset: str) -> Path:
    """Return where pictures, tables and their JSON of one dataset and preset are saved.

    The workflow (``make figures``) sets ``DPED_FIGURES`` to ``figures/``, so its notebooks save in ``figures/DATASET-PRESET``.
    Without the variable, as in a notebook run by hand, it is ``runs/DATASET-PRESET/figures``.
    """
    if os.environ.get("DPED_FIGURES"):
        return figures_root() / f"{dataset}-{preset}"
    return run_dir(dataset, preset) / "figures"


#: What to do about a folder that cannot be written to, unless the writer knows better.
_ELSEWHERE = "point DPED_RUNS, DPED_FIGURES or DPED_CACHE at another disk, and run the same command again"


@contextlib.contextmanager
def explain_full_disk(path: Path, elsewhere: str = _ELSEWHERE) -> Iterator[None]:
    """Turns "no space left" (and its kin: quota, file-size limit) into a message that names the file and the remedy.

    ``elsewhere``: what to do if no space can be freed.

    safetensors and other native writers raise their own exceptions, so the operating system's words are looked
    for in the message too.
    """
    try:
        yield
    except DpedError:
        raise
    except Exception as error:
        words = str(error).lower()
        full = isinstance(error, OSError) and error.errno in _FULL
        if full or any(w in words for w in ("no space left", "quota exceeded", "file too large")):
            raise DpedError(
                f"{path}: not written, the disk is full ({error}). What was there before is untouched. "
                f"Free some space, or {elsewhere}."
            ) from error
        raise


@contextlib.contextmanager
def atomic_path(target: Path, elsewhere: str = _ELSEWHERE, replace: bool = True) -> Iterator[Path]:
    """Yields a path beside ``target`` to write to; renames it over ``target`` on success, removes it on failure.

    A reader, or a process killed at any moment, sees the old file or the new one, never half of one.
    Works for a folder too, if the caller creates one at the yielded path; an old folder is replaced (for an instant
    neither is there). Of several processes that write the same target, the last one's stays.

    Args:
        elsewhere: what to do if the folder of ``target`` cannot be written to, as an error message ends.
        replace: False: a file that is there, or has come meanwhile, stays.

    Raises:
        DpedError: the disk is full, the folder of ``target`` cannot be written to, or a file is there that must stay.
    """
    target = Path(target)
    with explain_full_disk(target, elsewhere):
        holder = _make_holder(target, elsewhere)
        try:
            # The suffix stays last: writers choose the format by it.
            part = holder / target.name
            yield part
            if part.is_dir():
                _put_folder(part, target, holder)
            else:
                with open(part, "rb") as f:
                    os.fsync(f.fileno())
                _put_file(part, target, replace)
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def _holder_stem(target: Path) -> str:
    name = target.name
    while len(os.fsencode(name)) > 225:  # a name may have 255 bytes, and the holder's is longer
        name = name[:-1]
    return name


def _make_holder(target: Path, elsewhere: str) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{_holder_stem(target)}.", suffix=_HOLDER, dir=target.parent))
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise DpedError(f"{target}: cannot be written ({error}). Make its folder writable, or {elsewhere}.") from error


def _put_file(part: Path, target: Path, replace: bool) -> None:
    if replace:
        os.replace(part, target)
        return
    try:
        os.link(part, target)  # unlike a rename, this fails where something is
    except FileExistsError:
        raise DpedError(
            f"{target}: not written, since another file has come there meanwhile. It is untouched."
        ) from None
    except OSError as error:  # a file system without links
        if os.path.lexists(target):
            raise DpedError(f"{target}: not written, since something is there. It is untouched.") from error
        os.rename(part, target)


def free_space(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    folder = Path(os.path.abspath(folder))
    return shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.is_dir())).free


def probe_folder(folder: Path, elsewhere: str) -> bool:
    """Finds out whether files can be put into a folder, which need not be there yet, by putting one there; leaves no trace.

    Args:
        elsewhere: what to do if they cannot, as an error message ends.

    Returns:
        Whether its file system tells names apart that differ in case only.

    Raises:
        DpedError: it is no folder, cannot be written to, or its disk is full.
    """
    folder = Path(os.path.abspath(folder))
    there = next(f for f in (folder, *folder.parents) if os.path.lexists(f))
    if not there.is_dir():
        raise DpedError(f"{folder}: cannot be made, since {there} is no folder. Remove it, or {elsewhere}.")
    with explain_full_disk(folder, elsewhere):
        try:
            with tempfile.TemporaryDirectory(prefix=".dped-probe-", dir=there) as place:
                (Path(place) / "probe").write_bytes(bytes(4096))
                return not (Path(place) / "PROBE").exists()
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise DpedError(f"{folder}: cannot be written to ({error}). Make it writable, or {elsewhere}.") from error


def left_by_killed(*targets: Path) -> list[Path]:
    """Return the folders beside ``targets`` that ``atomic_path`` made to write them in, and did not live to remove."""
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(_holder_stem(target))
    found = []
    for folder, of_folder in names.items():
        if folder.is_dir():
            with os.scandir(folder) as entries:
                found += [
                    Path(e.path)
                    for e in entries
                    if (m := _HOLDERS.fullmatch(e.name)) and m[1] in of_folder and e.is_dir(follow_symlinks=False)
                ]
    return found


def clear_killed(*targets: Path) -> None:
    """Delete what killed processes were writing in the place of ``targets``, and nothing else.

    Whoever calls this must be alone: a process at work would lose what it writes.
    """
    for folder in left_by_killed(*targets):
        shutil.rmtree(folder, ignore_errors=True)


def _put_folder(part: Path, target: Path, holder: Path) -> None:
    # A rename does not replace a folder that holds something, so the old one steps aside first. Another process may put
    # its own there in between: then that one steps aside.
    for attempt in range(100):
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, holder / f"old{attempt}")
        try:
            os.rename(part, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 99:
                raise


@contextlib.contextmanager
def alone(lock: Path, waiting: str) -> Iterator[None]:
    """Let only one process at a time into what follows; the lock ends with the process, however that ends.

    ``waiting``: said on standard error where another process is in there.

    Raises:
        DpedError: the lock's folder cannot be written to.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(lock)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            print(waiting, file=sys.stderr)
            held.acquire()
    except OSError as error:
        raise DpedError(f"{lock.parent}: cannot be written ({error}). Name another folder for the result.") from error
    try:
        yield
    finally:
        held.release()


def write_text(target: Path, text: str) -> None:
    """Writes ``text`` as UTF-8, atomically."""
    with atomic_path(target) as part:
        part.write_text(text, encoding="utf-8")
