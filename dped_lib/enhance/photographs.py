"""Whole photographs through a network: from arrays, files and folders, exactly, in the memory that there is.

The arithmetic is ``bounded_memory``'s; this module chooses its precision and plan, and looks after the files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from dped_lib.base import device as devices
from dped_lib import models, speed
from dped_lib.base import paths
from dped_lib.data import photofile, picture
from dped_lib.enhance import bounded_memory
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar

_MIB, _GIB = 1 << 20, 1 << 30
#: Of the memory that is free, what a run takes unless told otherwise.
_SHARE = 0.6
_UNITS = {"k": 1 << 10, "m": _MIB, "g": _GIB, "t": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes from ``4GiB``, ``4G``, ``800 MiB`` or a plain number; all units are powers of 1024.

    Raises:
        DpedError: none of these.
    """
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = _UNITS.get(number[-1:], 1)
    try:
        size = float(number.rstrip("kmgt")) * unit
    except ValueError:
        size = 0
    if not 0 < size < float("inf"):
        raise DpedError(f"size {text!r}: write a number and a unit, for instance 4GiB or 800MiB.")
    return int(size)


def _read_number(file: str, key: str = "") -> int | None:
    try:
        for line in Path(file).read_text().splitlines():
            if line.startswith(key):
                return int(line.removeprefix(key).split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None


def resident() -> int:
    """Bytes of memory that this process holds now (0 where the system does not say)."""
    return (_read_number("/proc/self/status", "VmRSS:") or 0) << 10


def default_limit() -> int:
    """Peak memory of the process that a run may reach unless told otherwise: a share of what is free, containers' limits included."""
    free = [kib << 10 for kib in [_read_number("/proc/meminfo", "MemAvailable:")] if kib]
    limit, used = (_read_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:
        free.append(max(limit - used, 0))
    return int(min(free, default=4 * _GIB) * _SHARE) + resident()


@dataclass(frozen=True)
class Engine:
    """A network ready to enhance.

    Attributes:
        model: ``models.Generator`` or ``models.SRCNN``.
        dtype: float32 is exact (within 1e-4 of the whole-image pass); bfloat16 is faster where it is native, and changes 8-bit
            values mostly by one step (55 dB or better).
        limit: bytes of peak memory of the process; on a GPU of its memory.
    """

    model: nn.Module
    dtype: torch.dtype
    device: torch.device
    limit: int

    def plan(self, height: int, width: int, held: int = 0) -> bounded_memory.Plan:
        """How a photograph of that size goes through; ``held``: bytes of main memory taken already, which count on a CPU."""
        on_gpu = self.device.type != "cpu"
        return bounded_memory.plan(self.model, height, width, self.dtype, self.limit - (0 if on_gpu else held), on_gpu)

    def __call__(
        self, image: np.ndarray, tick: Callable[[int], None] = lambda rows: None, how: bounded_memory.Plan | None = None
    ) -> np.ndarray:
        """Enhances H x W x 3, RGB: uint8 and uint16 return the same type, clipped and rounded; float32 in [0, 1] returns float32, unclipped."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16, np.float32):
            raise DpedError(f"takes H x W x 3 of uint8, uint16 or float32, not {image.shape} of {image.dtype}.")
        how = how or self.plan(*image.shape[:2], held=resident() + image.nbytes)
        out, at = np.empty_like(image), 0
        full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype)
        for band in bounded_memory.stream(self.model, image, how, self.dtype, self.device, tick):
            if full:  # where the band is: of 8 bits a GPU then sends a quarter of the bytes
                band = band.clamp(0, 1).mul_(full).round_().to(torch.uint8 if full == 255 else torch.int32)
            out[at : at + len(band)] = band.cpu().numpy()
            at += len(band)
        return out


def engine(model: nn.Module, precision: str = "auto", device: str = "auto", limit: int | None = None) -> Engine:
    """A network with its precision (``auto``: bfloat16 where it is native), device and memory.

    Raises:
        DpedError: a network that does not enhance or whose weights are not finite, an unknown precision, or no such device.
    """
    if not isinstance(model, (models.Generator, models.SRCNN)):
        raise DpedError("these weights do not enhance: name a network, for instance authors:iphone.")
    if not all(w.isfinite().all() for w in model.parameters()):
        raise DpedError("these weights have values that are not finite: the network would paint black. Train it again.")
    target = devices.pick(device)
    if limit is None:
        limit = default_limit() if target.type == "cpu" else int(torch.cuda.mem_get_info(target)[0] * _SHARE)
    speed.keep_pages()
    return Engine(model.eval().to(target), speed.precision(precision, target), target, limit)


# ---------------------------------------------------------------------------------------------- files


def find(inputs: Iterable[Path]) -> list[Path]:
    """Files and, of folders, the photographs in them (not hidden, suffix of ``photofile.SUFFIXES``).

    Raises:
        DpedError: no such file or folder, or a folder without photographs.
    """
    found: list[Path] = []
    for item in map(Path, inputs):
        if item.is_dir():
            mine = sorted(
                f
                for f in item.iterdir()
                if f.suffix.lower() in photofile.SUFFIXES and f.is_file() and not f.name.startswith(".")
            )
            if not mine:
                raise DpedError(f"{item}: no photographs in it ({', '.join(sorted(photofile.SUFFIXES))}).")
            found += mine
        elif item.is_file():
            found.append(item)
        else:
            raise DpedError(f"{item}: no such file or folder.")
    return list(dict.fromkeys(found))


def targets(files: Iterable[Path], out: Path, suffix: str = "") -> dict[Path, Path]:
    """Where each enhanced file goes: ``out`` itself if it names a file, else under its own name in that folder.

    The format stays the input's where it can be written; HEIC and BMP become JPEG and PNG. ``suffix``: of all instead.

    Raises:
        DpedError: two would have one name, or one would replace its input.
    """
    files, out = list(files), Path(out)
    if out.suffix.lower() in picture.FORMATS and not out.is_dir():
        if len(files) > 1:
            raise DpedError(f"{out}: names one file, and there are {len(files)} photographs. Name a folder.")
        found = {files[0]: out}
    else:
        found = {}
        for file in files:
            found[file] = out / f"{file.stem}{suffix or picture.written_suffix(file.suffix, deep=False)}"
    taken: dict[Path, Path] = {}
    for file, target in found.items():
        if target in taken:
            raise DpedError(
                f"{file} and {taken[target]} would both be written to {target}. Enhance them into two folders."
            )
        if target.resolve() == file.resolve():
            raise DpedError(f"{target}: would replace the original. Name another folder.")
        taken[target] = file
    return found


def one_file(
    run: Engine,
    file: Path,
    target: Path,
    quality: int = 95,
    compare: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Enhances a file into another; returns where it went. ``compare`` also writes ``NAME-compare.jpg``.

    16 bits a channel stay 16 bits; where ``target`` is a format that has none (TIFF, WebP), PNG is written instead.
    ``tell``: hears the plan before the run starts.

    Raises:
        DpedError: the photograph cannot be read, needs more memory than allowed, or the result cannot be written.
    """
    photograph = picture.read(file)
    pixels = photograph.pixels
    target = target.with_suffix(picture.written_suffix(target.suffix, pixels.dtype == np.uint16))
    # What is held beside the features: the process with the photograph read, and the result.
    how = run.plan(*pixels.shape[:2], held=resident() + pixels.nbytes)
    height, width = pixels.shape[:2]
    tell(f"{file}: {width} x {height} pixels: {how.describe()}")
    with bar(label=file.name, unit="row", total=height * how.sweeps) as shown:
        enhanced = run(pixels, shown.update, how)
    picture.write(replace(photograph, pixels=enhanced), target, quality)
    if compare:
        _write_comparison(pixels, enhanced, target.with_name(f"{target.stem}-compare.jpg"))
    return target


def _write_comparison(before: np.ndarray, after: np.ndarray, target: Path, longest: int = 2400) -> None:
    """Original and enhanced side by side, each named, at most ``longest`` pixels wide."""
    halves = []
    for pixels in (before, after):
        half = Image.fromarray(picture.in_8bit(pixels))
        half.thumbnail((longest // 2, longest))
        halves.append(half)
    width, height = halves[0].size
    line = max(16, height // 30)
    sheet = Image.new("RGB", (2 * width + 4, height + 2 * line), "white")
    draw = ImageDraw.Draw(sheet)
    for x, half, name in ((0, halves[0], "original"), (width + 4, halves[1], "enhanced")):
        sheet.paste(half, (x, 2 * line))
        draw.text((x + line // 2, line // 2), name, fill="black", font_size=line)
    with paths.atomic_path(target) as part:
        sheet.save(part, quality=92)
