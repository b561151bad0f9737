"""Enhance whole photographs exactly, in the memory that is available.

This module finds the memory limit and chooses the precision. ``plans`` chooses the plan, ``bounded_memory`` computes,
and ``files`` handles files.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib import speed
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.data import picture
from dped_lib.enhance import bounded_memory, plans

_MIB, _GIB = 1 << 20, 1 << 30
#: Share of the free memory that a run uses by default.
_SHARE = 0.6
_UNITS = {"k": 1 << 10, "m": _MIB, "g": _GIB, "t": 1 << 40}


def parse_size(text: str) -> int:
    """Convert ``4GiB``, ``4G``, ``800 MiB`` or a plain number to bytes. All units are powers of 1024.

    Raises:
        DpedError: the text is none of these.
    """
    number, unit = re.fullmatch(r"(.*?)(?:([kmgt])i?)?b?", text.strip().lower(), re.DOTALL).groups()
    try:
        size = float(number) * _UNITS.get(unit, 1)
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
    """Return the bytes of memory that this process uses now, or 0 if the system does not report them.

    Memory that the allocator keeps from the last photograph is returned to the system first.
    """
    speed.give_back_pages()
    return (_read_number("/proc/self/status", "VmRSS:") or 0) << 10


def default_limit() -> int:
    """Return the default peak memory of the process in bytes: its present use and a share of the free memory.

    The limit of a container counts, too, if the system shows it at ``/sys/fs/cgroup`` itself (cgroup v2). The limit of a
    group below it, for instance of a Slurm job, is not read.
    """
    free = [kib << 10 for kib in [_read_number("/proc/meminfo", "MemAvailable:")] if kib]
    limit, used = (_read_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:
        free.append(max(limit - used, 0))
    return int(min(free, default=4 * _GIB) * _SHARE) + resident()


@dataclass(frozen=True)
class Engine:
    """Hold a network that is ready to enhance.

    Attributes:
        model: ``models.Generator`` or ``models.SRCNN``.
        dtype: float32 is exact (within 1e-4 of the whole-image pass). bfloat16 is faster on hardware that supports it. It
            changes about a quarter of the 8-bit values, mostly by one step (55 dB or better).
        device: the device that computes.
        limit: peak memory of the process in bytes; on a GPU, bytes of the GPU's memory that the run may take.
    """

    model: nn.Module
    dtype: torch.dtype
    device: torch.device
    limit: int

    def plan(self, height: int, width: int, held: int = 0) -> plans.Plan:
        """Return the plan for a photograph of this size.

        ``held`` is the main memory in bytes that is used already. It counts if the device is a CPU.
        """
        on_gpu = self.device.type != "cpu"
        return plans.plan(self.model, height, width, self.dtype, self.limit - (0 if on_gpu else held), on_gpu)

    def __call__(
        self,
        image: np.ndarray,
        tick: Callable[[int], None] = lambda rows: None,
        schedule: plans.Plan | None = None,
    ) -> np.ndarray:
        """Enhance an RGB image (H x W x 3).

        uint8 and uint16 give the same type, clipped and rounded. float32 in [0, 1] gives float32, unclipped.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16, np.float32):
            raise DpedError(
                f"the image must be H x W x 3 of uint8, uint16 or float32, not {image.shape} of {image.dtype}."
            )
        schedule = schedule or self.plan(*image.shape[:2], held=resident() + image.nbytes)
        out, at = np.empty_like(image), 0
        full = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype)

        def finish(rows: Tensor) -> Tensor:
            # We round on the device, because a GPU then sends a quarter of the bytes.
            return rows.clamp(0, 1).mul_(full).round_().to(torch.uint8 if full == 255 else torch.int32)

        finishes = {"finish": finish} if full else {}
        for rows in bounded_memory.stream(self.model, image, schedule, self.dtype, self.device, tick, **finishes):
            out[at : at + len(rows)] = rows.cpu().numpy()
            at += len(rows)
        return out


def engine(model: nn.Module, precision: str = "auto", device: str = "auto", limit: int | None = None) -> Engine:
    """Return a network with its precision, device and memory limit, ready to enhance.

    Precision ``auto`` means bfloat16 on hardware that multiplies it, and float32 elsewhere.

    Raises:
        DpedError: the network does not enhance (``plans.check_enhances``), the precision is unknown, or the device is
            missing.
    """
    plans.check_enhances(model)
    target = devices.pick(device)
    if limit is None:
        limit = default_limit() if target.type == "cpu" else int(torch.cuda.mem_get_info(target)[0] * _SHARE)
    speed.keep_pages()
    return Engine(model.eval().to(target), speed.precision(precision, target), target, limit)


def whole(
    run: Engine,
    photograph: picture.Picture,
    tick: Callable[[int], None] = lambda rows: None,
    schedule: plans.Plan | None = None,
) -> picture.Picture:
    """Return the enhanced photograph. If it has a colour profile, it is converted to sRGB for the network and back."""
    profile, pixels = photograph.profile, photograph.pixels
    if profile is None:
        return replace(photograph, pixels=run(pixels, tick, schedule))
    enhanced = run(profile.to_srgb(pixels), tick, schedule)
    return replace(photograph, pixels=profile.from_srgb(enhanced, pixels.dtype))


def held(photograph: picture.Picture) -> int:
    """Return the bytes that :func:`whole` needs beside features: the present process, and the results."""
    converted = 0 if photograph.profile is None else 2 * 2 * photograph.pixels.size
    return resident() + photograph.pixels.nbytes + converted
