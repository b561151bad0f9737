"""Write files atomically, one process at a time, and explain a full disk."""

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

from dped_lib.base import paths, placing
from dped_lib.base.errors import DpedError

_HOLDER = ".part"  # suffix of the temporary folder in which a file is written before it moves to its place
_HOLDERS = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(_HOLDER)}", re.DOTALL)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


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
                f"{path}: not written, the disk is full ({error}). Free some space, or {elsewhere or paths.elsewhere(path)}."
            ) from error
        raise


@contextlib.contextmanager
def atomic_path(target: Path, elsewhere: str = "", replace: bool = True) -> Iterator[Path]:
    """Yield a path to write to. Rename it to ``target`` on success and remove it on failure.

    Readers see the old file or the new one, never a part of one, even if the process is killed at any moment. If
    several processes write the same target, the result of the last one stays. The caller may also create a folder at
    the path. It replaces an old folder, and for an instant neither of the two exists. A file never replaces a folder
    or a link to one. A folder never replaces a file or a broken link. Other symbolic links are replaced, not followed.

    Args:
        target: the file or folder to write.
        elsewhere: the remedy if the folder of ``target`` cannot be written to. It ends the error message. Empty: another
            disk or folder.
        replace: False keeps a file or folder that exists already or that another process writes meanwhile.

    Raises:
        DpedError: the disk is full, the folder of ``target`` cannot be written to, or what is at ``target`` must stay.
    """
    _check_parents(Path(target))
    target = paths.collapsed(target)
    with explain_full_disk(target, elsewhere):
        holder = _make_holder(target, elsewhere)
        held = lock_of(holder / placing.HELD)
        try:
            try:
                held.acquire()
            except (NotImplementedError, OSError):  # some network file systems have no locks
                with contextlib.suppress(OSError):  # an empty folder counts as left by a killed process
                    (holder / placing.HELD).touch()
            # The name keeps its suffix, because writers choose the format by it.
            part = holder / target.name
            yield part
            if part.is_dir():
                placing.put_folder(part, target, replace, elsewhere or paths.elsewhere(target))
            else:
                with open(part, "rb") as f:
                    os.fsync(f.fileno())
                placing.put_file(part, target, replace, elsewhere or paths.elsewhere(target))
        finally:
            held.release()
            with contextlib.suppress(OSError):
                placing.clear(holder)


def _check_parents(target: Path) -> None:
    # As long as a folder before ".." is missing, the system finds nothing at ``target``. The caller's check for an
    # existing file has then missed the file that ``collapsed`` names.
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
        elsewhere = elsewhere or paths.elsewhere(target)
        if why := paths.obstacle(target.parent, elsewhere):
            raise DpedError(f"{target}: cannot be written, because {why}") from error
        raise DpedError(f"{target}: cannot be written ({error}). Make its folder writable, or {elsewhere}.") from error


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    folder = Path(os.path.abspath(paths.collapsed(folder)))
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    """Return the folder itself if it exists, else the nearest of its parents that does."""
    return next(f for f in (folder, *folder.parents) if os.path.isdir(f))


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
    folder = Path(os.path.abspath(paths.collapsed(folder)))
    if why := paths.obstacle(folder, elsewhere):
        raise DpedError(f"{folder}: cannot be made, because {why}")
    with explain_full_disk(folder, elsewhere):
        try:
            with tempfile.TemporaryDirectory(prefix=".dped-probe-", dir=_nearest(folder)) as temporary:
                (Path(temporary) / "probe").write_bytes(bytes(4096))
                return not (Path(temporary) / "PROBE").exists()
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise DpedError(f"{folder}: cannot be written to ({error}). Make it writable, or {elsewhere}.") from error


def left_by_killed(*targets: Path) -> list[Path]:
    """Return the temporary folders of ``atomic_path`` for ``targets``: those in use, and those that killed processes left.

    Only folders with the lock file of ``atomic_path`` count, and empty ones, whose process was killed before it made that
    file. Another folder may have such a name by chance.
    """
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(_holder_stem(target))
    leftover = []
    for folder, stems in names.items():
        # A folder that cannot be read is reported when it is written to.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
            leftover += [
                Path(e.path)
                for e in entries
                if (m := _HOLDERS.fullmatch(e.name))
                and m[1] in stems
                and e.is_dir(follow_symlinks=False)
                and (os.path.isfile(os.path.join(e.path, placing.HELD)) or not os.listdir(e.path))
            ]
    return leftover


def clear_killed(*targets: Path) -> None:
    """Delete the unfinished versions of ``targets`` that killed processes have left, and nothing else.

    A folder that such a process was replacing returns to its place. The system frees the lock of a killed process. What
    another process is writing stays.
    """
    for folder in left_by_killed(*targets):
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # only if it is empty; a process that is just about to lock it makes it again
            continue
        held = lock_of(folder / placing.HELD, timeout=0)
        with contextlib.suppress(filelock.Timeout, NotImplementedError, OSError), held:
            placing.clear(folder)


def lock_of(file: Path, timeout: float = -1) -> filelock.FileLock:
    """Return the lock of a lock file. The system frees it when its process ends, even if that is killed.

    Acquiring it raises OSError or NotImplementedError on a file system without locks.

    Args:
        file: the lock file.
        timeout: seconds to wait for the lock; negative: without end.
    """
    # By default filelock would write a marker file there, which stays when its process is killed.
    return filelock.FileLock(file, timeout, fallback_to_soft=False)


@contextlib.contextmanager
def alone(lock: Path, waiting: str) -> Iterator[None]:
    """Hold a lock, so that one process at a time runs the block. The system frees it even if the process is killed.

    On a file system without locks the block runs without one.

    Args:
        lock: the lock file.
        waiting: the message on standard error if another process holds the lock.

    Raises:
        DpedError: the folder of the lock cannot be written to, its disk is full, or something else is in the place of the
            lock.
    """
    held = lock_of(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            print(waiting, file=sys.stderr)
            held.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            if os.path.isdir(lock) or os.path.islink(lock):
                raise DpedError(f"{lock}: is in the place of a lock file. Remove it.") from error
            if why := paths.obstacle(lock.parent, paths.elsewhere(lock)):
                raise DpedError(f"{lock.parent}: cannot be made, because {why}") from error
            remedy = "Free some space" if error.errno in _FULL else "Make it writable"
            raise DpedError(
                f"{lock.parent}: cannot be written ({error}). {remedy}, or {paths.elsewhere(lock)}."
            ) from error
    try:
        yield
    finally:
        held.release()


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(target) as part:
        part.write_text(text, encoding="utf-8")
