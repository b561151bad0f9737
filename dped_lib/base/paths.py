"""Define where files are stored, and write them atomically."""

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

_HOLDER = ".part"  # suffix of the temporary folder in which a file is written before it moves to its place
_HELD = ".dped-is-writing"  # a file in that folder, which its process holds locked
_ASIDE = ".dped-replaces"  # suffix of an old folder there, until the new one is in its place
_HOLDERS = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(_HOLDER)}", re.DOTALL)
#: Variable of the environment with the command that is running. The notebook runner sets it, and results name it.
COMMAND = "DPED_COMMAND"
#: Files that desktop systems add to every folder they display. No user or program of ours made them.
OF_DESKTOPS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


def in_checkout(folder: Path) -> bool:
    """Return whether a folder is a checkout of the project. A wheel lacks the workflow and the notebooks."""
    return (folder / "workflow" / "Snakefile").is_file() and (folder / "notebooks").is_dir()


def project_root() -> Path:
    """Return the checkout that this library runs from, or the working directory if a wheel was installed."""
    checkout = Path(dped_lib.__file__).resolve().parent.parent
    return checkout if in_checkout(checkout) else Path.cwd()


def checkout() -> Path:
    """Return the checkout, for files that only a checkout has.

    Raises:
        DpedError: the library was installed as a wheel, and the working directory is not a checkout.
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


def collapsed(path: Path | str) -> Path:
    """Return a path without ``..`` behind the name of a folder.

    While ``new`` does not exist, the system finds nothing at ``new/../photos``, so a check passes. A writer that makes
    ``new`` would then replace ``photos``. ``link/..`` is the folder of the link's target, as for the system.
    """
    path = Path(path)
    if ".." not in path.parts:
        return path
    done = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        if part != "..":
            done /= part
        elif os.path.islink(done):
            done = Path(os.path.realpath(done)).parent
        elif done.name not in ("", ".."):
            done = done.parent
        elif not done.anchor:  # the root has no parent
            done /= ".."
    return done


def make_absolute() -> None:
    """Make the paths in ``VARIABLES`` absolute, because kernels and jobs have other working folders."""
    for name in VARIABLES:
        value = os.environ.get(name)
        if value and "://" not in value:
            os.environ[name] = os.path.abspath(collapsed(os.path.expanduser(value)))


def _named(variable: str, default: Path | str) -> Path:
    return Path(os.path.abspath(collapsed(os.path.expanduser(os.environ.get(variable) or default))))


def notebooks_dir() -> Path:
    """Return the folder of the notebooks."""
    return project_root() / "notebooks"


def cache_dir() -> Path:
    """Return the folder of fetched files. ``DPED_CACHE`` overrides the user's cache folder."""
    return _named("DPED_CACHE", platformdirs.user_cache_dir("dped"))


def runs_dir() -> Path:
    """Return the folder with the runs of all datasets and presets. ``DPED_RUNS`` overrides ``runs/``."""
    return _named("DPED_RUNS", project_root() / "runs")


def run_dir(dataset: str, preset: str) -> Path:
    """Return the folder of one dataset and preset: stores, checkpoints, executed notebooks."""
    return runs_dir() / f"{dataset}-{preset}"


def published_figures() -> Path:
    """Return ``figures/`` of the checkout, which holds the results of full runs. Only the workflow saves there."""
    return project_root() / "figures"


def figures_root() -> Path:
    """Return the parent of the folders of figures: ``DPED_FIGURES``, which the workflow sets, or the runs folder."""
    return _named("DPED_FIGURES", runs_dir())


def figures_dir(dataset: str, preset: str) -> Path:
    """Return the folder in which pictures, tables and JSON files of one dataset and preset are saved.

    The workflow (``make figures``) sets ``DPED_FIGURES`` to ``figures/``, so its notebooks save in
    ``figures/DATASET-PRESET``. Without the variable the folder is ``runs/DATASET-PRESET/figures``.
    """
    if os.environ.get("DPED_FIGURES"):
        return figures_root() / f"{dataset}-{preset}"
    return run_dir(dataset, preset) / "figures"


def _elsewhere(path: Path) -> str:
    """Return the remedy for a path that cannot be written to, unless the caller names another.

    It names a variable for the project's own folders, and another folder for paths that the user has named.
    """
    for variable, folder in (("DPED_RUNS", runs_dir()), ("DPED_FIGURES", figures_root()), ("DPED_CACHE", cache_dir())):
        if Path(os.path.abspath(path)).is_relative_to(folder):
            return f"point {variable} at another disk, and run the same command again"
    return "name another folder, and run the same command again"


@contextlib.contextmanager
def explain_full_disk(path: Path, elsewhere: str = "") -> Iterator[None]:
    """Turn errors of a full disk, quota or file-size limit into a message that names the file and the remedy.

    safetensors and other native writers raise their own exceptions. Their messages are searched for the words of the
    operating system.

    Args:
        path: the file that is written.
        elsewhere: the remedy if no space can be freed. Empty: another disk or folder.

    Raises:
        DpedError: the disk is full.
    """
    try:
        yield
    except DpedError:
        raise
    except Exception as error:
        message = str(error).lower()
        full = isinstance(error, OSError) and error.errno in _FULL
        if full or any(w in message for w in ("no space left", "quota exceeded", "file too large")):
            raise DpedError(
                f"{path}: not written, the disk is full ({error}). An older version of it is untouched. "
                f"Free some space, or {elsewhere or _elsewhere(path)}."
            ) from error
        raise


@contextlib.contextmanager
def atomic_path(target: Path, elsewhere: str = "", replace: bool = True) -> Iterator[Path]:
    """Yield a path to write to. Rename it to ``target`` on success and remove it on failure.

    Readers see the old file or the new one, never a part of one, even if the process is killed at any moment. If
    several processes write the same target, the result of the last one stays. The caller may also create a folder at
    the path. It replaces an old folder, and for an instant neither of the two exists.

    Args:
        target: the file or folder to write.
        elsewhere: the remedy if the folder of ``target`` cannot be written to. It ends the error message. Empty: another
            disk or folder.
        replace: False keeps a file that exists already or that another process writes meanwhile.

    Raises:
        DpedError: the disk is full, the folder of ``target`` cannot be written to, or an existing file must stay.
    """
    _check_parents(Path(target))
    target = collapsed(target)
    with explain_full_disk(target, elsewhere):
        holder = _make_holder(target, elsewhere)
        held = filelock.FileLock(holder / _HELD)
        try:
            with contextlib.suppress(NotImplementedError, OSError):  # some network file systems have no locks
                held.acquire()
            # The name keeps its suffix, because writers choose the format by it.
            part = holder / target.name
            yield part
            if part.is_dir():
                _put_folder(part, target, holder)
            else:
                with open(part, "rb") as f:
                    os.fsync(f.fileno())
                _put_file(part, target, replace)
        finally:
            held.release()
            with contextlib.suppress(OSError):
                _clear(holder)


def _check_parents(target: Path) -> None:
    # The caller has looked for an existing target by a name at which the system finds nothing (``collapsed``).
    for folder, below in zip(target.parents, (target, *target.parents), strict=False):
        if below.name == ".." and not os.path.isdir(folder):
            raise DpedError(f"{target}: not written, because there is no folder {folder}. Name the file without '..'.")


def _holder_stem(target: Path) -> str:
    name = target.name
    while len(os.fsencode(name)) > 225:  # a name may have 255 bytes, and the holder's name is longer
        name = name[:-1]
    return name


def _make_holder(target: Path, elsewhere: str) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{_holder_stem(target)}.", suffix=_HOLDER, dir=target.parent))
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise DpedError(
            f"{target}: cannot be written ({error}). Make its folder writable, or {elsewhere or _elsewhere(target)}."
        ) from error


def _put_file(part: Path, target: Path, replace: bool) -> None:
    if replace:
        os.replace(part, target)
        return
    try:
        os.link(part, target)  # unlike a rename, this fails if the target exists
    except FileExistsError:
        raise DpedError(
            f"{target}: not written, because another file with this name has appeared. That file is untouched."
        ) from None
    except OSError as error:  # a file system without links
        if os.path.lexists(target):
            raise DpedError(f"{target}: not written, because it exists. It is untouched.") from error
        os.rename(part, target)


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    folder = Path(os.path.abspath(collapsed(folder)))
    return shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.is_dir())).free


def probe_folder(folder: Path, elsewhere: str) -> bool:
    """Write and remove a small file, to check that a folder can be written to. The folder need not exist yet.

    Args:
        folder: the folder to check.
        elsewhere: the remedy if the check fails. It ends the error message.

    Returns:
        Whether its file system distinguishes names that differ only in case.

    Raises:
        DpedError: the path is not a folder, the folder cannot be written to, or its disk is full.
    """
    folder = Path(os.path.abspath(collapsed(folder)))
    existing = next(f for f in (folder, *folder.parents) if os.path.lexists(f))
    if not existing.is_dir():
        raise DpedError(f"{folder}: cannot be made, because {existing} is not a folder. Remove it, or {elsewhere}.")
    with explain_full_disk(folder, elsewhere):
        try:
            with tempfile.TemporaryDirectory(prefix=".dped-probe-", dir=existing) as temporary:
                (Path(temporary) / "probe").write_bytes(bytes(4096))
                return not (Path(temporary) / "PROBE").exists()
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise DpedError(f"{folder}: cannot be written to ({error}). Make it writable, or {elsewhere}.") from error


def left_by_killed(*targets: Path) -> list[Path]:
    """Return the temporary folders of ``atomic_path`` for ``targets`` that processes are using, or have left when killed.

    A folder of such a name that ``atomic_path`` did not make lacks the file that it locks.
    """
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(_holder_stem(target))
    leftover = []
    for folder, stems in names.items():
        if folder.is_dir():
            with os.scandir(folder) as entries:
                leftover += [
                    Path(e.path)
                    for e in entries
                    if (m := _HOLDERS.fullmatch(e.name))
                    and m[1] in stems
                    and e.is_dir(follow_symlinks=False)
                    and os.path.isfile(os.path.join(e.path, _HELD))
                ]
    return leftover


def clear_killed(*targets: Path) -> None:
    """Delete the unfinished versions of ``targets`` that killed processes have left, and nothing else.

    A folder that such a process was replacing returns to its place. The system frees the lock of a killed process. What
    another process is writing stays.
    """
    for folder in left_by_killed(*targets):
        held = filelock.FileLock(folder / _HELD, timeout=0)
        with contextlib.suppress(filelock.Timeout, NotImplementedError, OSError), held:
            _clear(folder)


def _put_folder(part: Path, target: Path, holder: Path) -> None:
    # A rename cannot replace a folder that is not empty, so the old folder is moved away first. If another process puts
    # its own folder there meanwhile, that one is moved away in the next attempt.
    for attempt in range(100):
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, holder / f"{attempt:02}{_ASIDE}")
        try:
            os.rename(part, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 99:
                raise


def _clear(holder: Path) -> None:
    """Delete a holder. An old folder in it first returns to its place, if the new one has not reached that place."""
    inside = set(os.listdir(holder)) - {_HELD}
    aside = {name for name in inside if name.endswith(_ASIDE)}
    for name in inside - aside if aside else ():
        if not os.path.lexists(holder.parent / name):
            os.rename(holder / max(aside), holder.parent / name)
    shutil.rmtree(holder, ignore_errors=True)


@contextlib.contextmanager
def alone(lock: Path, waiting: str) -> Iterator[None]:
    """Hold a lock, so that one process at a time runs the block. The system frees it even if the process is killed.

    On a file system without locks the block runs without one.

    Args:
        lock: the lock file.
        waiting: the message on standard error if another process holds the lock.

    Raises:
        DpedError: the folder of the lock cannot be written to, or something else is in the place of the lock.
    """
    held = filelock.FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            print(waiting, file=sys.stderr)
            held.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            if lock.is_dir() or lock.is_symlink():
                raise DpedError(f"{lock}: is in the place of a lock file. Remove it.") from error
            raise DpedError(
                f"{lock.parent}: cannot be written ({error}). Make it writable, or {_elsewhere(lock)}."
            ) from error
    try:
        yield
    finally:
        held.release()


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(target) as part:
        part.write_text(text, encoding="utf-8")
