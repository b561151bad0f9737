"""Networks as ONNX, for every runtime that reads it: any size, the statistics of the whole image, checked by running it."""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dped_lib import models, speed
from dped_lib.base import paths
from dped_lib.base.errors import DpedError

#: ONNX operators: of 2022, which runtimes of that age and newer know.
OPSET = 18
#: Largest difference from PyTorch that an export may have, in units of the output (0 to 1 is black to white).
TOLERANCE = 1e-4
_ELSEWHERE = "name a file in another folder"
_CHECKED = ((1, 97, 131), (2, 64, 40), (1, 1, 1))


def check_target(target: Path, overwrite: bool = False) -> None:
    """Looks at where a network is to be written, before anything is computed.

    Raises:
        DpedError: another suffix than .onnx, a folder, a file that is there and must stay, or no right or space to write.
    """
    target = Path(target)
    if target.is_dir():
        raise DpedError(f"{target}: is a folder. Name a file in it, for instance {target / 'network.onnx'}.")
    if target.suffix != ".onnx":
        raise DpedError(f"{target}: name a file that ends in .onnx.")
    if os.path.lexists(target) and not overwrite:
        raise DpedError(f"{target}: exists and is kept. Name another file, or replace it with --overwrite.")
    paths.probe_folder(target.parent, _ELSEWHERE)


def export(model: nn.Module, target: Path, said: Mapping[str, object], overwrite: bool = False) -> float:
    """Writes a network as ONNX, atomically, once ONNX Runtime gave what PyTorch gives at several sizes.

    Input ``image``: N x 3 x height x width, float32, RGB in [0, 1]. Output ``enhanced``: the same shape, in (-0.08, 1.08), to be clipped.

    Args:
        model: ``models.Generator`` or ``models.SRCNN``.
        said: what goes into the file's metadata (``weights.describe``).
        overwrite: replace a file that is there.

    Returns:
        The largest difference from PyTorch found.

    Raises:
        DpedError: the ONNX libraries are not installed, the network does not enhance, the file differs from PyTorch, or as ``check_target``.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (the exporter's)
    except ModuleNotFoundError as error:
        raise DpedError(f"ONNX needs libraries (no {error.name} here): pip install 'dped-companion[export]'.") from None
    if not isinstance(model, (models.Generator, models.SRCNN)):
        raise DpedError("these weights do not enhance: name a network, for instance authors:iphone.")
    target = Path(target)
    check_target(target, overwrite)
    model = model.eval().cpu()
    size = {0: torch.export.Dim("n"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
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
    made = program.model_proto
    onnx.helper.set_model_props(made, {k: v if isinstance(v, str) else json.dumps(v) for k, v in said.items()})
    onnx.checker.check_model(made, full_check=True)
    content = made.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    model = speed.prepare(model, torch.device("cpu"))  # whose norm also takes a single pixel, which nn.InstanceNorm2d refuses
    off = max(_difference(session, model, shape) for shape in _CHECKED)
    if off > TOLERANCE:
        raise DpedError(
            f"{target}: not written: ONNX Runtime differs from PyTorch by {off:.1e}, more than {TOLERANCE:.0e}."
        )
    with paths.atomic_path(target, _ELSEWHERE, overwrite) as part:
        part.write_bytes(content)
    return off


def _difference(session, model: nn.Module, shape: tuple[int, int, int]) -> float:
    n, height, width = shape
    x = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model(x).numpy()
    return float(np.abs(session.run(None, {"image": x.numpy()})[0] - wanted).max())
