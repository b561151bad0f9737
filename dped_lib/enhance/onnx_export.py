"""Export networks as ONNX for images of any size, and compare the output of ONNX Runtime with PyTorch's.

An existing file is kept unless it may be overwritten. Only an earlier export is overwritten: a file whose metadata
names this module's command (``CREATOR``).
"""

import contextlib
import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from dped_lib import speed
from dped_lib.base import paths, writing
from dped_lib.base.errors import DpedError, pip_install
from dped_lib.enhance import plans

#: Version of the ONNX operators. It is of 2022, so runtimes since then support it.
OPSET = 18
#: Largest allowed difference from PyTorch's output, where 0 is black and 1 is white.
TOLERANCE = 1e-4
#: Entry in the metadata of every file that is written here.
CREATOR = ("creator", "dped export")
#: No export has more bytes. A larger file is not read to see who made it.
_LARGEST = 1 << 30
_ELSEWHERE = "name a file in another folder"
#: Shapes (N, height, width) for which the outputs are compared.
_CHECKED = ((1, 97, 131), (2, 64, 40), (1, 1, 1))


def check_target(target: Path, overwrite: bool = False) -> None:
    """Check before any work whether a network can be written to ``target``.

    Raises:
        DpedError: the path does not end in .onnx, is a folder or an existing file to keep, or cannot be written. A file
            that is no earlier export is always kept.
    """
    target = paths.collapsed(target)
    if target.is_dir():
        raise DpedError(f"{target}: is a folder. Name a file in it, for instance {target / 'network.onnx'}.")
    if target.suffix != ".onnx":
        raise DpedError(f"{target}: name a file that ends in .onnx.")
    if os.path.lexists(target):
        if not overwrite:
            raise DpedError(f"{target}: exists and is kept. Name another file, or replace it with --overwrite.")
        if not is_export(target):
            raise DpedError(
                f"{target}: exists and was not made by dped export, so --overwrite does not replace it. "
                "Move it away, or name another file."
            )
    writing.probe_folder(target.parent, _ELSEWHERE)


def is_export(file: Path) -> bool:
    """Return whether :func:`export` wrote this file."""
    onnx = _libraries()[0]
    # Reading a pipe may wait forever, and a device such as /dev/zero has no end.
    if not os.path.isfile(file) or os.path.getsize(file) > _LARGEST:
        return False
    try:
        metadata = onnx.load(file, load_external_data=False).metadata_props
    except Exception:  # a file of another kind, or a damaged one; the parser raises many kinds
        return False
    return CREATOR in ((entry.key, entry.value) for entry in metadata)


def _libraries() -> tuple[ModuleType, ModuleType]:
    """Return the modules ``onnx`` and ``onnxruntime``, or raise a DpedError that says how to install them."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (the exporter needs it)
    except ModuleNotFoundError as error:
        install = pip_install("'dped-companion[export]'")
        raise DpedError(f"ONNX needs libraries (no {error.name} here). Run: {install}") from None
    return onnx, onnxruntime


def export(model: nn.Module, target: Path, description: Mapping[str, object], overwrite: bool = False) -> float:
    """Write a network as ONNX, atomically, after ONNX Runtime and PyTorch gave the same output at several sizes.

    The input ``image`` is N x 3 x height x width, float32, RGB in [0, 1]. The output ``enhanced`` has the same
    shape and values in (-0.08, 1.08), which the user of the file must clip.

    Args:
        model: ``models.Generator`` or ``models.SRCNN``.
        target: the file to write.
        description: the metadata of the file (``network_files.describe``).
        overwrite: replace an earlier export.

    Returns:
        The largest difference from PyTorch.

    Raises:
        DpedError: the ONNX libraries are missing, the network does not enhance (``plans.check_enhances``), the outputs
            differ or are not finite, or :func:`check_target` refuses ``target``.
    """
    onnx, onnxruntime = _libraries()
    plans.check_enhances(model)
    target = paths.collapsed(target)
    check_target(target, overwrite)
    writing.clear_killed(target)
    model = model.eval().cpu()
    size = {0: torch.export.Dim("n"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    # The exporter warns that torchvision is missing, which is not needed here.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (torch.rand(1, 3, 64, 80),),
            dynamo=True,
            input_names=["image"],
            output_names=["enhanced"],
            dynamic_shapes=(size,),
            opset_version=OPSET,
            verbose=False,
        )
    proto = program.model_proto
    described = {k: v if isinstance(v, str) else json.dumps(v) for k, v in description.items()}
    onnx.helper.set_model_props(proto, {**described, CREATOR[0]: CREATOR[1]})
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # The quick norm also accepts a single pixel, which nn.InstanceNorm2d refuses. Only the plain form can be exported
    # again, so a copy gets the quick one.
    quick = speed.prepare(copy.deepcopy(model), torch.device("cpu"))
    # NumPy's maximum is NaN if a difference is, and NaN is not within the tolerance. Python's max() may drop it.
    difference = float(np.max([_difference(session, quick, shape) for shape in _CHECKED]))
    if not difference <= TOLERANCE:
        raise DpedError(
            f"{target}: not written: ONNX Runtime differs from PyTorch by {difference:.1e}, more than {TOLERANCE:.0e}. Try another "
            "version of onnxruntime."
        )
    with writing.atomic_path(target, _ELSEWHERE, overwrite) as part:
        part.write_bytes(content)
    return difference


def _difference(session, model: nn.Module, shape: tuple[int, int, int]) -> float:
    n, height, width = shape
    x = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(x).numpy()
    return float(np.abs(session.run(None, {"image": x.numpy()})[0] - expected).max())
