"""Read files in a folder, a zip or a tar without unpacking it. No member's path becomes a path on the disk.

Python's ``zipfile`` and ``tarfile`` keep an object of some 700 bytes for every member, and the full dataset has a
million members. This module therefore reads the zip's directory itself, and clears the list that ``tarfile`` keeps.
"""

import bz2
import gzip
import lzma
import os
import re
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dped_lib.base.errors import DpedError

_MOST = 2**28  # largest allowed member in bytes; a photograph of the dataset has some 10 MB
_DRIVE = re.compile("[A-Za-z]:")


def safe_path(name: str) -> str | None:
    """Return a member's path, relative and with ``/``; None if it is absolute or leads out of the archive."""
    name = name.replace("\\", "/")
    if name.startswith("/") or _DRIVE.match(name) or "\0" in name:
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts else "/".join(parts)


class Folder:
    """Read a folder of the user's.

    Links in it are followed, because the user made them. A loop of links is detected.
    """

    streamed = False

    def __init__(self, path: Path):
        self.path = path
        self.left_out: Counter[str] = Counter()

    @property
    def origin(self) -> str:
        """Return a text that identifies the source."""
        return str(self.path.resolve())

    def folders(self) -> Iterator[str]:
        """Yield every folder, itself first, as paths that start with its own name. Hidden folders are left out."""
        waiting, seen = [(self.path.resolve().name, self.path)], set()
        while waiting:
            name, folder = waiting.pop()
            state = folder.stat()
            if (state.st_dev, state.st_ino) in seen:
                continue
            seen.add((state.st_dev, state.st_ino))
            yield name
            with os.scandir(folder) as entries:
                below = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
            waiting += [(f"{name}/{n}", folder / n) for n in reversed(below)]

    def walk(self) -> Iterator[tuple[str, int]]:
        """Yield path and token of every file. A changed file gets another token."""
        for name in self.folders():
            with os.scandir(self.place(name)) as entries:
                for entry in entries:
                    if entry.is_file():
                        state = entry.stat()
                        yield f"{name}/{entry.name}", (state.st_mtime_ns * 31 + state.st_size) % 2**62

    def place(self, name: str) -> str:
        """Return the path of ``name`` on the disk."""
        return os.path.join(self.path, *name.split("/")[1:])

    def shown(self, name: str) -> str:
        """Return ``name`` as a message shows it: the path on the disk."""
        return self.place(name)

    def read(self, name: str, token: int) -> bytes:
        """Return the content of a file."""
        try:
            with open(self.place(name), "rb") as file:
                return file.read()
        except OSError as error:
            raise DpedError(
                f"{self.place(name)}: cannot be read ({error}). Make it readable, or get it again."
            ) from error


class Zip:
    """Read a zip, with or without the extension for more than 4 GB.

    A token is the offset of the member's entry in the directory.
    """

    streamed = False
    _ENTRY = struct.Struct("<4s4B4HL2L5H2L")
    _END, _LOCATOR, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")

    def __init__(self, path: Path):
        self.path = path
        self.left_out: Counter[str] = Counter()
        self._file = open(path, "rb")  # noqa: SIM115 (open as long as this object exists)
        self._start, self._stop, self._shift = self._directory()

    @property
    def origin(self) -> str:
        """Return a text that identifies the source."""
        return _origin(self.path)

    def shown(self, name: str) -> str:
        """Return ``name`` as a message shows it: the archive, and the member in it."""
        return f"{self.path}: {name}"

    def _damaged(self, why: str) -> DpedError:
        return DpedError(f"{self.path}: damaged or incomplete zip ({why}). Get the file again.")

    def _directory(self) -> tuple[int, int, int]:
        """Return the offsets of the directory's start and end, and the number of bytes before the zip."""
        length = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, length - self._END.size - 65535))
        tail = self._file.read()
        at = tail.rfind(b"PK\5\6")
        while at >= 0 and at + self._END.size + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
            at = tail.rfind(b"PK\5\6", 0, at)  # that match lay in the comment, which comes last
        if at < 0:
            raise self._damaged("no directory at its end")
        _, _, _, _, _, size, offset, _ = self._END.unpack_from(tail, at)
        end = length - len(tail) + at
        self._file.seek(max(0, end - self._LOCATOR.size))
        locator = self._file.read(self._LOCATOR.size)
        if locator.startswith(b"PK\6\7"):
            end -= self._LOCATOR.size + self._END64.size
            self._file.seek(max(0, end))
            record = self._file.read(self._END64.size)
            if not record.startswith(b"PK\6\6"):
                raise self._damaged("the directory of a large zip is not where it should be")
            size, offset = self._END64.unpack(record)[-2:]
        shift = end - size - offset
        if shift < 0:
            raise self._damaged("its directory is longer than the file")
        return offset + shift, end, shift

    def _entry(self, file) -> tuple[tuple, bytes, bytes]:
        """Return the numbers of the entry at the position of ``file``, its name, and its extra fields."""
        head = file.read(self._ENTRY.size)
        if len(head) < self._ENTRY.size or not head.startswith(b"PK\1\2"):
            raise self._damaged("its directory breaks off")
        numbers = self._ENTRY.unpack(head)
        rest = file.read(sum(numbers[12:15]))
        return numbers, rest[: numbers[12]], rest[numbers[12] : numbers[12] + numbers[13]]

    def walk(self) -> Iterator[tuple[str, int]]:
        """Yield path and token of every file. Links and unsafe paths are counted in ``left_out``."""
        with open(self.path, "rb") as file:
            file.seek(self._start)
            while (token := file.tell()) < self._stop:  # some tools write the number of entries modulo 65 536
                numbers, name, _ = self._entry(file)
                text = name.decode("utf-8" if numbers[5] & 0x800 else "cp437", "replace")
                kind = numbers[17] >> 28
                if text.endswith("/") or kind == 0o04:
                    continue
                path = safe_path(text)
                if kind not in (0, 0o10) or path is None:
                    self.left_out["links" if kind == 0o12 else "unsafe paths"] += 1
                    continue
                yield path, token

    def read(self, name: str, token: int) -> bytes:
        """Return the content of a member, with its checksum verified."""
        self._file.seek(token)
        numbers, _, extra = self._entry(self._file)
        flags, method, crc, packed, size, offset = numbers[5], numbers[6], *numbers[9:12], numbers[18]
        at = 0
        while at + 4 <= len(extra):  # numbers that do not fit into the entry are stored here, in this order
            kind, length = struct.unpack_from("<2H", extra, at)
            if kind == 1:
                length = min(length, len(extra) - at - 4)
                wide = list(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
                size, packed, offset = (
                    wide.pop(0) if value == 0xFFFFFFFF and wide else value for value in (size, packed, offset)
                )
            at += 4 + length
        if flags & 1:
            raise DpedError(f"{self.path}: {name} is encrypted. Unpack the archive and name the folder.")
        if method not in (0, 8):
            raise DpedError(
                f"{self.path}: {name} is packed by method {method}. Unpack the archive and name the folder."
            )
        if max(size, packed) > _MOST:
            raise DpedError(f"{self.path}: {name} has {size} bytes, more than a photograph. Get the archive again.")
        self._file.seek(offset + self._shift)
        head = self._file.read(30)
        if len(head) == 30 and head.startswith(b"PK\3\4"):
            self._file.seek(sum(struct.unpack_from("<2H", head, 26)), os.SEEK_CUR)
            content = self._file.read(packed)
            try:
                content = content if method == 0 else zlib.decompressobj(-15).decompress(content, size + 1)
            except zlib.error:
                content = b""
            if len(content) == size and zlib.crc32(content) == crc:
                return content
        raise DpedError(f"{self.path}: {name} is damaged. Get the archive again.")


class _Strict(tarfile.TarInfo):
    """Read a member's header, and report a damaged or missing one, which ``tarfile`` takes for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar):
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # the block of zeros that marks the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


#: The function that unpacks a file, by the file's first bytes. These functions notice a missing end; ``tarfile``'s
#: own unpacking does not.
_UNPACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class Tar:
    """Read a tar. A token is the offset of the member's content; in a packed tar it is the number of the member.

    A packed tar is read from its start each time. That takes time, but needs no second copy on the disk.
    """

    def __init__(self, path: Path, unpack: Callable | None = None):
        self.path, self.streamed, self._unpack = path, unpack is not None, unpack or open
        self.left_out: Counter[str] = Counter()

    @property
    def origin(self) -> str:
        """Return a text that identifies the source."""
        return _origin(self.path)

    def shown(self, name: str) -> str:
        """Return ``name`` as a message shows it: the archive, and the member in it."""
        return f"{self.path}: {name}"

    def _members(self) -> Iterator[tuple[tarfile.TarFile, int, tarfile.TarInfo]]:
        try:
            with (
                self._unpack(self.path, "rb") as file,
                tarfile.open(fileobj=file, mode="r|" if self.streamed else "r:", tarinfo=_Strict) as tar,
            ):
                number = 0
                while (member := tar.next()) is not None:
                    yield tar, number, member
                    tar.members.clear()
                    number += 1
        except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise DpedError(f"{self.path}: damaged or incomplete tar ({error}). Get the file again.") from error

    def walk(self) -> Iterator[tuple[str, int]]:
        """Yield path and token of every file. Links and unsafe paths are counted in ``left_out``."""
        for _, number, member in self._members():
            path = safe_path(member.name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse() or path is None:
                self.left_out["unsafe paths" if member.isreg() else "links"] += 1
                continue
            yield path, number if self.streamed else member.offset_data

    def read(self, name: str, token: int) -> bytes:
        """Return the content of a member."""
        if self.streamed:
            return next(content for _, content in self.stream(np.array([token])))
        with open(self.path, "rb") as file:
            file.seek(token - tarfile.BLOCKSIZE)
            size = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape").size
            content = file.read(min(size, _MOST))
        if len(content) != size:
            raise DpedError(f"{self.path}: {name} breaks off. Get the archive again.")
        return content

    def stream(self, tokens: np.ndarray) -> Iterator[tuple[int, bytes]]:
        """Yield, for each member in ``tokens`` (ascending), its position in ``tokens`` and its content."""
        position = 0
        for tar, number, member in self._members():
            if position == len(tokens):
                return
            if number == tokens[position]:
                content = tar.extractfile(member).read(_MOST)
                if len(content) != member.size:
                    raise DpedError(f"{self.path}: {member.name} breaks off. Get the archive again.")
                yield position, content
                position += 1


def _origin(path: Path) -> str:
    state = path.stat()
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"


def open_source(path: Path) -> Folder | Zip | Tar:
    """Open a folder, zip or tar. The content of the file decides what it is, not its name.

    Raises:
        DpedError: ``path`` does not exist, cannot be read, or is neither a folder nor a zip or tar.
    """
    if path.is_dir():
        return Folder(path)
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise DpedError(f"{path}: neither a file nor a folder. Name a folder, or a .zip, .tar or .tar.gz.")
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise DpedError(
            f"{path}: cannot be read ({error.strerror}). Name a folder, or a .zip, .tar or .tar.gz."
        ) from error
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return Zip(path)
    for sign, unpack in _UNPACKED.items():
        if start.startswith(sign):
            return Tar(path, unpack)
    if start[257:262] == b"ustar" or path.suffix.lower() == ".tar":
        return Tar(path)
    raise DpedError(f"{path}: neither a folder nor a .zip, .tar or .tar.gz. Get the file again, or name the right one.")
