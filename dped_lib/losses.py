"""The loss terms of section 3.1 and their weighted sums, as the paper writes them and as the released code computes them.

The two variants differ in kernels, layers and normalisation, so their weights cannot be exchanged:

======== ============================================== ==============================================
term     ``paper``                                      ``released``
======== ============================================== ==============================================
color    eq. 2-4: sum of squares an image               sum of squares an image / 2, a wider kernel
mse      sum of squares an image                        sum of squares an image / 2
texture  eq. 5: -log D(F(I_s), I_t), bi-channel D       batch SUM of log p(enhanced), one image a sample
content  eq. 6: norm / (C H W) at relu5_2               mean of squares at relu5_4
tv       eq. 7: norm of (grad_x + grad_y) / (C H W)     mean squared grad_x plus mean squared grad_y
weights  1, -, 1, 0.1, 100 (eq. 8)                      0.5, -, 1, 10, 2000
======== ============================================== ==============================================

All but the released texture term are means over the batch (equation 1). The MSE of Table 3 stands in the colour
term's place: same normalisation, same weight. Sources: the paper; ``train_model.py`` and ``utils.py`` of aiff22/DPED.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtr
from torch import Tensor, nn

from dped_lib import paper
from dped_lib.base.config import VARIANTS, one_of
from dped_lib.base.errors import DpedError
from dped_lib.vgg import VGG19

#: Half-width of every colour kernel; the released code's is 21x21 and the paper gives no size.
KERNEL_RADIUS = 10


@dataclass(frozen=True)
class LossSpec:
    """A loss function of the paper: its terms, the network it trains, the VGG layer where that is not the variant's."""

    terms: tuple[str, ...]
    model: str = "dped"
    content_layer: str = ""


#: The four columns of Table 3, in the paper's order. Total variation goes with the texture term it tames.
TABLE3 = ("color+content+texture", "content+texture", "mse+texture", "mse")

LOSSES: Mapping[str, LossSpec] = MappingProxyType(
    {
        "color+content+texture": LossSpec(("color", "content", "texture", "tv")),
        "content+texture": LossSpec(("content", "texture", "tv")),
        "mse+texture": LossSpec(("mse", "texture", "tv")),
        "mse": LossSpec(("mse",)),
        # Johnson et al. train the same kind of residual network on VGG features alone; relu2_2 is theirs.
        "johnson": LossSpec(("content",), content_layer="relu2_2"),
        "dong": LossSpec(("mse",), model="srcnn"),
    }
)

#: What the whole reproduction trains for each phone: Table 3, and the learned baselines of Table 2.
TRAINED = (*TABLE3, "johnson", "dong")

CONTENT_LAYER = MappingProxyType({"paper": "relu5_2", "released": "relu5_4"})
DISCRIMINATOR = MappingProxyType({"paper": "bichannel", "released": "released"})

#: The three kernels the colour loss can mean; see DEVIATIONS.md.
KERNELS = MappingProxyType(
    {
        "paper": "equation 4 as printed: variance 3, standard deviation 1.73 px",
        "sigma3": "a reader's guess: standard deviation 3 px",
        "released": "utils.gauss_kernel(21, 3): standard deviation 4.34 px",
    }
)


def kernel_1d(kernel: str) -> np.ndarray:
    """The 21 taps, float64, whose outer product with themselves is the named colour kernel (``KERNELS``)."""
    k = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=np.float64)
    match one_of("kernel", kernel, KERNELS):
        case "paper":
            return np.sqrt(paper.COLOR_AMPLITUDE) * np.exp(-(k**2) / (2 * paper.COLOR_SIGMA))
        case "sigma3":
            taps = np.exp(-(k**2) / (2 * 3.0**2))
            return taps / taps.sum()
        case "released":
            # 21 equal bins over +-(3 + 1/6) deviations, each with its normal probability; the code then takes the
            # square root of their outer product, which widens the kernel by sqrt(2).
            taps = np.sqrt(np.diff(ndtr(np.linspace(-3 - 1 / 6, 3 + 1 / 6, 22))))
            return taps / taps.sum()


def blur_matrix(kernel: str, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The banded matrix size x size whose product with a vector is its convolution with a kernel's taps, zero padding.

    A compiler takes its value for a constant (``training``): SciPy, which makes it, cannot be traced.
    """
    return _cached_matrix(kernel, size, device, dtype)


@lru_cache(maxsize=32)
def _cached_matrix(kernel: str, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Row i holds the taps centred on i; what falls outside meets the zero padding.
    taps = kernel_1d(kernel)
    matrix = sum(
        np.diag(np.full(size - abs(o), taps[KERNEL_RADIUS + o]), o)
        for o in range(1 - size, size)
        if abs(o) <= KERNEL_RADIUS
    )
    with torch.inference_mode(False):  # a matrix first needed in inference mode serves training, too
        return torch.tensor(matrix, device=device, dtype=dtype)


def blur(image: Tensor, kernel: str = "released") -> Tensor:
    """Equation 3: each channel of N x C x H x W convolved with a colour kernel, zero padding, same size.

    The kernels are separable, so the convolution is two products with banded matrices: 42 times as fast as the
    21x21 depthwise convolution on two cores, forward and backward.
    """
    rows = blur_matrix(kernel, image.shape[-2], image.device, image.dtype)
    columns = blur_matrix(kernel, image.shape[-1], image.device, image.dtype)
    # Autocast would compute the products, and the squares after them, with the 8 bits of bfloat16.
    with torch.autocast(image.device.type, enabled=False):
        # Both with the matrix on the right: one large product each, where a left one would be N x C small ones.
        return ((image @ columns.T).transpose(-1, -2) @ rows.T).transpose(-1, -2)


def gray(image: Tensor) -> Tensor:
    """N x 3 x H x W to N x 1 x H x W by TensorFlow's weights (``rgb_to_grayscale``)."""
    red, green, blue = image.split(1, 1)
    return 0.2989 * red + 0.5870 * green + 0.1140 * blue


def _squares(difference: Tensor, variant: str) -> Tensor:
    one_of("variant", variant, VARIANTS)
    total = difference.square().sum() / difference.shape[0]
    return total / 2 if variant == "released" else total


def color_loss(enhanced: Tensor, target: Tensor, variant: str = "released", kernel: str = "") -> Tensor:
    """Equation 2: squared distance of the blurred images, a mean over the batch of sums over pixels (see the table above).

    ``kernel`` is the variant's unless named. The blur is linear: the difference is blurred once.
    """
    return _squares(blur(enhanced - target, kernel or variant), variant)


def mse_loss(enhanced: Tensor, target: Tensor, variant: str = "released") -> Tensor:
    """The MSE of Table 3, in the normalisation of :func:`color_loss`."""
    return _squares(enhanced - target, variant)


def content_loss(enhanced: Tensor, target: Tensor, variant: str = "released") -> Tensor:
    """Equation 6 on feature maps N x C x h x w of the two images."""
    difference = enhanced - target
    if one_of("variant", variant, VARIANTS) == "released":
        return difference.square().mean()
    return torch.linalg.vector_norm(difference.flatten(1), dim=1).mean() / difference[0].numel()


def tv_loss(image: Tensor, variant: str = "released") -> Tensor:
    """Equation 7 on N x C x H x W. ``paper``: both gradients where both exist, (H-1) x (W-1)."""
    dy = image[:, :, 1:, :] - image[:, :, :-1, :]
    dx = image[:, :, :, 1:] - image[:, :, :, :-1]
    if one_of("variant", variant, VARIANTS) == "released":
        return dy.square().mean() + dx.square().mean()
    both = dx[:, :, :-1, :] + dy[:, :, :, :-1]
    return torch.linalg.vector_norm(both.flatten(1), dim=1).mean() / image[0].numel()


def _log_probability(logits: Tensor) -> Tensor:
    # Clipped as in the released code: below 1e-10 the gradient is zero, not infinite.
    return torch.log(torch.softmax(logits, dim=1).clamp(min=1e-10))


def weights_of(variant: str) -> dict[str, float]:
    """Weight of every term in one variant. MSE, which the paper gives none, takes the colour term's: it stands in its place."""
    published = paper.LOSS_WEIGHTS[one_of("variant", variant, VARIANTS)]
    return {**published, "mse": published["color"]}


class Objective:
    """The generator's and the discriminator's loss for one (loss, variant), with the frozen networks they need.

    Args:
        loss: name in ``LOSSES``.
        variant: ``released`` or ``paper``.
        vgg: needed when the loss has a content term.
        discriminator: needed when it has a texture term. Its form decides that term's: the released one is trained with
            sums of log-probabilities over a batch, those of the paper with means.
        weights: weight of each term; the variant's by default.
        kernel, content_layer: of ``KERNELS`` and of VGG-19; the variant's (or the loss's own layer) by default.

    Raises:
        DpedError: an unknown name, or a network that the loss needs is missing.
    """

    def __init__(
        self,
        loss: str,
        variant: str = "released",
        vgg: VGG19 | None = None,
        discriminator: nn.Module | None = None,
        weights: Mapping[str, float] | None = None,
        kernel: str = "",
        content_layer: str = "",
    ):
        spec = LOSSES[one_of("loss", loss, LOSSES)]
        self.variant = one_of("variant", variant, VARIANTS)
        self.terms = spec.terms
        self.kernel = one_of("kernel", kernel or variant, KERNELS)
        self.layer = content_layer or spec.content_layer or CONTENT_LAYER[variant]
        self.weights = dict(weights or weights_of(variant))
        self.vgg, self.discriminator = vgg, discriminator
        if "content" in self.terms and vgg is None:
            raise DpedError(f"loss {loss!r} has a content term and needs VGG-19 features: pass vgg=vgg19().")
        if self.adversarial and discriminator is None:
            raise DpedError(f"loss {loss!r} has a texture term and needs a discriminator.")

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator is trained too."""
        return "texture" in self.terms

    def generator_terms(self, enhanced: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Every term, unweighted, for enhanced and DSLR images N x 3 x H x W in about [0, 1]."""
        terms = {}
        for name in self.terms:
            match name:
                case "color":
                    terms[name] = color_loss(enhanced, target, self.variant, self.kernel)
                case "mse":
                    terms[name] = mse_loss(enhanced, target, self.variant)
                case "tv":
                    terms[name] = tv_loss(enhanced, self.variant)
                case "content":
                    with torch.no_grad():
                        wanted = self.vgg(target, self.layer).float()
                    terms[name] = content_loss(self.vgg(enhanced, self.layer).float(), wanted, self.variant)
                case "texture":
                    terms[name] = self._texture(enhanced, target)
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Equation 8: the weighted sum."""
        return sum(self.weights[name] * value for name, value in terms.items())

    def _texture(self, enhanced: Tensor, target: Tensor) -> Tensor:
        if self.discriminator.outputs == 2:
            return _log_probability(self.discriminator(gray(enhanced)))[:, 1].sum()
        return F.softplus(-self.discriminator(self._pair(gray(enhanced), gray(target)))).mean()

    def _pair(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat((first, second), 1) if self.discriminator.inputs == 2 else first

    def _judge(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> Tensor:
        """The discriminator's logits: shown the DSLR photo where ``swaps`` is 1 (first, where it sees both), else the other."""
        swap = swaps.view(-1, 1, 1, 1).to(enhanced.dtype)
        a, b = gray(enhanced.detach()), gray(target)
        first = a * (1 - swap) + b * swap
        return self.discriminator(self._pair(first, a * swap + b * (1 - swap)))

    def _positive(self, logits: Tensor) -> Tensor:
        return logits[:, 0] > logits[:, 1] if self.discriminator.outputs == 2 else logits[:, 0] > 0

    def says_dslr(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> Tensor:
        """N truth values: whether the discriminator takes the (first) image for the DSLR photo; arguments as below."""
        return self._positive(self._judge(enhanced, target, swaps))

    def discriminator_terms(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Cross-entropy (``discriminator``: with the released form a batch sum, else a mean) and ``accuracy``.

        ``swaps``: N zeros or ones; 1 shows the DSLR photo (first, where the discriminator sees both).
        """
        logits = self._judge(enhanced, target, swaps)
        label = swaps.to(enhanced.dtype)
        if self.discriminator.outputs == 2:
            likelihood = _log_probability(logits)
            loss = -(label * likelihood[:, 0] + (1 - label) * likelihood[:, 1]).sum()
        else:
            loss = F.binary_cross_entropy_with_logits(logits[:, 0], label)
        return {"discriminator": loss, "accuracy": (self._positive(logits) == (label > 0.5)).float().mean()}
