"""Whole photographs through a network, exactly, in the memory that there is.

The arithmetic is ``bounded_memory``'s; this module chooses its precision and plan. ``enhancefiles`` looks after files and folders.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dped_lib import models, speed
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.data import picture
from dped_lib.enhance import bounded_memory

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


def whole(
    run: Engine,
    photograph: picture.Picture,
    tick: Callable[[int], None] = lambda rows: None,
    how: bounded_memory.Plan | None = None,
) -> picture.Picture:
    """Return a photograph enhanced: its numbers converted to sRGB for the network and back, where a profile says that they are others."""
    profile, pixels = photograph.profile, photograph.pixels
    if profile is None:
        return replace(photograph, pixels=run(pixels, tick, how))
    enhanced = run(profile.to_srgb(pixels), tick, how)
    return replace(photograph, pixels=profile.from_srgb(enhanced, pixels.dtype))


def held(photograph: picture.Picture) -> int:
    """Return the bytes of memory that :func:`whole` needs beside the network's features: this process as it is, and the results."""
    converted = 0 if photograph.profile is None else 2 * 2 * photograph.pixels.size
    return resident() + photograph.pixels.nbytes + converted
