"""Which device computes, in which precision, and with what memory habits."""

import ctypes
import functools
import sys
from pathlib import Path

import torch

from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError


def pick(name: str = "auto") -> torch.device:
    """The device to compute on: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` is the first GPU where there is one, else the CPU.

    On a GPU float32 then means float32: by default cuDNN rounds what it convolves to the 10 bits of TF32.

    Raises:
        DpedError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise DpedError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:0 ...")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DpedError(
            f"device {name!r}: PyTorch sees {torch.cuda.device_count()} GPUs here. Take another, or cpu; dped doctor says more."
        )
    if kind == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":")[1].split() for line in lines if line.startswith("flags")), ()))


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16"})


def precision(requested: str, device: torch.device) -> torch.dtype:
    """The type of the networks' arithmetic: ``auto`` takes bfloat16 where it is native (2.4 times as fast on a CPU, benchmarks/README.md)."""
    one_of("precision", requested, ("auto", "float32", "bfloat16"))
    if requested == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return getattr(torch, requested)


def describe(device: torch.device) -> str:
    """The device in words, for provenance."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    kind = "native bfloat16" if native_bfloat16(device) else "float32"
    return f"CPU, {torch.get_num_threads()} thread(s), {kind}"


@functools.cache
def keep_pages() -> None:
    """Makes glibc keep freed memory instead of returning it.

    A training step frees and takes the same hundreds of megabytes again; the page faults of taking them anew cost up
    to a fifth of an iteration on a CPU. No effect elsewhere than on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_top_pad, m_mmap_threshold, never = -1, -2, -3, -1
        mallopt(m_mmap_threshold, 1 << 30)
        mallopt(m_trim_threshold, never)
        mallopt(m_top_pad, 1 << 26)
