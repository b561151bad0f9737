"""Choose the device that computes, and the precision that it supports in hardware."""

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import PRECISIONS
from dped_lib.base.validation import one_of


def pick(name: str = "auto") -> torch.device:
    """Return the device of a name: ``cpu``, ``cuda``, ``cuda:1``. ``auto`` means the first GPU, or the CPU without one.

    For a GPU this function also switches TF32 off. By default cuDNN rounds the inputs of float32 convolutions to TF32,
    which keeps 10 bits of the mantissa.

    Raises:
        DpedError: the machine does not have this device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdecimal() or name.endswith(":"):
        raise DpedError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:0 ...")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        allowed = ", ".join(["auto", "cpu", *(f"cuda:{i}" for i in range(count))])
        raise DpedError(
            f"device {name!r}: PyTorch sees {count or 'no'} GPU{'' if count == 1 else 's'} here; allowed: {allowed} "
            "(dped doctor names the one that auto takes)."
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
    """Return whether the device multiplies bfloat16 in hardware. Emulated bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(_cpu_flags() & {"amx_bf16", "avx512_bf16"})


def precision(requested: str, device: torch.device) -> torch.dtype:
    """Return the number type that the networks compute in.

    ``auto`` means bfloat16 on hardware that multiplies it (2.4 times as fast on a CPU), and float32 elsewhere.
    """
    one_of("precision", requested, PRECISIONS)
    if requested == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return getattr(torch, requested)


def describe(device: torch.device) -> str:
    """Return a description of the device for the provenance of a result."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    kind = "native bfloat16" if native_bfloat16(device) else "no native bfloat16"
    return f"CPU, {torch.get_num_threads()} thread(s), {kind}"


def put(array: np.ndarray, device: torch.device) -> Tensor:
    """Return ``array`` as a tensor on the device. The copy to a GPU is asynchronous."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
