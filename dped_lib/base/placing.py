"""Move a finished file or folder to its place, and delete what an unfinished one left. ``writing.atomic_path`` uses this.

A *holder* is the temporary folder, beside its target, in which a file or folder is written before it moves to its place.
"""

import contextlib
import errno
import io
import os
import shutil
import stat
from pathlib import Path

from dped_lib.base.errors import DpedError

HELD = ".dped-is-writing"  # a file in a holder, which its process holds locked
_ASIDE = ".dped-replaces"  # suffix of an old folder in a holder, until the new one is in its place


class WholeFile(io.BufferedRandom):
    """Write a new file completely, or raise an error.

    If a file has a descriptor, Pillow hands it to C code, which takes a partial write for a complete one. On a full disk a
    JPEG or TIFF would lack its end, without an error. This file has no descriptor to hand out, so Pillow writes through
    Python.
    """

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path, "w+"))

    def fileno(self) -> int:
        """Raise io.UnsupportedOperation."""
        raise io.UnsupportedOperation("fileno")


def put_file(part: Path, target: Path, replace: bool, elsewhere: str) -> None:
    """Move a finished file to ``target``.

    Args:
        part: the finished file, in its holder.
        target: the place. A file there is replaced, and so is a symbolic link that leads to no folder.
        replace: False keeps what is at ``target``.
        elsewhere: the remedy that ends an error message, beside moving away what is at ``target``.

    Raises:
        DpedError: a folder or a link to one is at ``target``, or a file that must stay.
    """
    if os.path.isdir(target):
        raise DpedError(_kept(target, "a folder with this name is there", elsewhere))
    if replace:
        os.replace(part, target)
        return
    try:
        os.link(part, target)  # unlike a rename, this fails if the target exists
    except OSError as error:
        if os.path.lexists(target):
            raise DpedError(_kept(target, "another file with this name has appeared", elsewhere)) from error
        os.rename(part, target)  # a file system without links


def put_folder(part: Path, target: Path, replace: bool, elsewhere: str) -> None:
    """Move a finished folder to ``target``. An old folder there moves into the holder.

    Args:
        part: the finished folder, in its holder.
        target: the place. A folder there, or a symbolic link to one, is replaced.
        replace: False keeps what is at ``target``.
        elsewhere: the remedy that ends an error message, beside moving away what is at ``target``.

    Raises:
        DpedError: a file is at ``target``, or a folder that must stay.
    """
    # A rename cannot replace a folder that is not empty, so the old folder is moved away first. If another process puts
    # its own folder there meanwhile, that one is moved away in the next attempt.
    for attempt in range(100):
        if _is_folder(target, elsewhere):
            if not replace:
                raise DpedError(_kept(target, "another folder with this name has appeared", elsewhere))
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, part.parent / f"{attempt:02}{_ASIDE}")
        try:
            os.rename(part, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 99:
                raise


def _is_folder(target: Path, elsewhere: str) -> bool:
    """Return whether a folder, or a link to one, is at ``target``. Raise DpedError if something else is there."""
    # One look at the disk: between two, another process may move its own folder to the place or away from it.
    try:
        folder, there = stat.S_ISDIR(os.stat(target).st_mode), True
    except FileNotFoundError:
        folder, there = False, os.path.islink(target)
    if there and not folder:
        raise DpedError(_kept(target, "a file or a broken link with this name is there", elsewhere))
    return folder


def _kept(target: Path, why: str, elsewhere: str) -> str:
    return f"{target}: not written, because {why}. It is untouched. Move it away, or {elsewhere}."


def clear(holder: Path) -> None:
    """Delete a holder. An old folder in it first returns to its place, if the new one has not reached that place.

    The file ``HELD`` goes last: a holder without it is no longer recognized if the process is killed meanwhile.
    """
    inside = set(os.listdir(holder)) - {HELD}
    aside = {name for name in inside if name.endswith(_ASIDE)}
    for name in inside - aside if aside else ():
        if not os.path.lexists(holder.parent / name):
            os.rename(holder / max(aside), holder.parent / name)
    for entry in (holder / name for name in os.listdir(holder) if name != HELD):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if set(os.listdir(holder)) <= {HELD}:
        (holder / HELD).unlink(missing_ok=True)
        holder.rmdir()
