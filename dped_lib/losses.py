"""The loss terms of section 3.1 and their weighted sum, as the paper writes them and as the released code computes them.

The two variants differ in kernels, layers and normalisation, so their weights cannot be exchanged:

======== ============================================== ==============================================
term     ``paper``                                      ``code``
======== ============================================== ==============================================
color    eq. 2-4: sum of squares an image               sum of squares an image / 2, a wider kernel
mse      sum of squares an image                        sum of squares an image / 2
texture  eq. 5: -log D(F(I_s), I_t), bi-channel D       batch SUM of log p(enhanced), one image a sample
content  eq. 6: norm / (C H W) at relu5_2               mean of squares at relu5_4
tv       eq. 7: norm of (grad_x + grad_y) / (C H W)     mean squared grad_x plus mean squared grad_y
weights  1, -, 1, 0.1, 100 (eq. 8)                      0.5, -, 1, 10, 2000
======== ============================================== ==============================================

All terms but the released texture term are means over the batch (equation 1). The MSE of Table 3 stands in the place of the
colour term, with its normalisation and weight. Sources: the paper; ``train_model.py`` and ``utils.py`` of aiff22/DPED.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtr
from torch import Tensor, nn

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import VARIANTS
from dped_lib.base.validation import one_of

#: Half-width of every colour kernel. The released kernel is 21x21; the paper gives no size.
KERNEL_RADIUS = 10


@dataclass(frozen=True)
class LossSpec:
    """A loss function of the paper: its terms, the network it trains, and its VGG layer where that is not the variant's."""

    terms: tuple[str, ...]
    model: str = "dped"
    content_layer: str = ""


#: The four columns of Table 3, in the paper's order. Total variation goes with the texture term, whose noise it damps.
TABLE3 = ("color+content+texture", "content+texture", "mse+texture", "mse")

LOSSES: Mapping[str, LossSpec] = MappingProxyType(
    {
        "color+content+texture": LossSpec(("color", "content", "texture", "tv")),
        "content+texture": LossSpec(("content", "texture", "tv")),
        "mse+texture": LossSpec(("mse", "texture", "tv")),
        "mse": LossSpec(("mse",)),
        # Johnson et al. train the same kind of residual network on VGG features alone, at relu2_2.
        "johnson": LossSpec(("content",), content_layer="relu2_2"),
        "dong": LossSpec(("mse",), model="srcnn"),
    }
)

#: What the whole reproduction trains for each phone: Table 3, and the learned baselines of Table 2.
TRAINED = (*TABLE3, "johnson", "dong")

KERNEL = MappingProxyType({"paper": "printed", "code": "code"})
CONTENT_LAYER = MappingProxyType({"paper": "relu5_2", "code": "relu5_4"})
DISCRIMINATOR = MappingProxyType({"paper": "two_image", "code": "code"})

#: The three kernels that the colour loss can mean; see DEVIATIONS.md.
KERNELS = MappingProxyType(
    {
        "printed": "equation 4 as printed: variance 3, standard deviation 1.73 px",
        "sigma3": "a reader's guess: standard deviation 3 px",
        "code": "utils.gauss_kernel(21, 3): standard deviation 4.34 px",
    }
)

# ---------------------------------------------------------------------------------------------- equation 1


def batch_mean(losses: Tensor) -> Tensor:
    """Equation 1: return the mean of N losses, one for each image pair."""
    return losses.mean()


# ---------------------------------------------------------------------------------------------- colour, equations 2 to 4


def kernel_1d(kernel: str) -> np.ndarray:
    """Equation 4: return the 21 taps (float64) whose outer product with themselves is the kernel G of ``KERNELS``."""
    k = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=np.float64)
    match one_of("kernel", kernel, KERNELS):
        case "printed":
            return np.sqrt(paper.COLOR_AMPLITUDE) * np.exp(-(k**2) / (2 * paper.COLOR_SIGMA))
        case "sigma3":
            taps = np.exp(-(k**2) / (2 * 3.0**2))
        case "code":
            # The probabilities of 21 equal bins over +-(3 + 1/6) deviations of a normal variable. The released code then
            # takes the square root of their outer product, which widens the kernel by sqrt(2).
            taps = np.sqrt(np.diff(ndtr(np.linspace(-3 - 1 / 6, 3 + 1 / 6, 22))))
    return taps / taps.sum()


def blur(image: Tensor, kernel: str = "code") -> Tensor:
    """Equation 3: return each channel of N x C x H x W convolved with a kernel, zero-padded, in the same size."""
    channels = image.shape[1]
    taps = torch.tensor(kernel_1d(kernel), dtype=image.dtype, device=image.device)
    # The kernel is the outer product of its taps, so a row of them and a column of them give the same sums.
    row, column = (taps.view(shape).expand(channels, *shape) for shape in ((1, 1, -1), (1, -1, 1)))
    x = F.conv2d(image, row, padding=(0, KERNEL_RADIUS), groups=channels)
    return F.conv2d(x, column, padding=(KERNEL_RADIUS, 0), groups=channels)


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each pair of images: N values for N x C x H x W."""
    return (x - y).square().flatten(1).sum(1)


def color_distance(enhanced: Tensor, target: Tensor, kernel: str = "code") -> Tensor:
    """Equation 2: return the squared distance of the blurred images, one value a pair."""
    return squared_distance(blur(enhanced, kernel), blur(target, kernel))


def _of_variant(distances: Tensor, variant: str) -> Tensor:
    """Return the mean of squared distances (equation 1), which the released code halves."""
    return batch_mean(distances) / (2 if one_of("variant", variant, VARIANTS) == "code" else 1)


def color_loss(
    enhanced: Tensor, target: Tensor, variant: str = "code", kernel: str = "", distance=color_distance
) -> Tensor:
    """Equations 1 and 2: return the colour loss of a batch. ``kernel`` is the variant's unless it is named.

    ``distance`` computes equation 2 (``speed`` has a quicker form of it).
    """
    return _of_variant(distance(enhanced, target, kernel or KERNEL[one_of("variant", variant, VARIANTS)]), variant)


def mse_loss(enhanced: Tensor, target: Tensor, variant: str = "code") -> Tensor:
    """Return the MSE of Table 3 in the normalisation of :func:`color_loss`."""
    return _of_variant(squared_distance(enhanced, target), variant)


# ---------------------------------------------------------------------------------------------- texture, equation 5


def gray(image: Tensor) -> Tensor:
    """Return N x 1 x H x W from N x 3 x H x W by TensorFlow's weights (``rgb_to_grayscale``)."""
    red, green, blue = image.split(1, 1)
    return 0.2989 * red + 0.5870 * green + 0.1140 * blue


def log_probability(logits: Tensor) -> Tensor:
    """Return log softmax of N x 2 logits. The released code clips it: below 1e-10 the gradient is zero and not infinite."""
    return torch.log(torch.softmax(logits, dim=1).clamp(min=1e-10))


def texture_loss(logits: Tensor) -> Tensor:
    """Equation 5 from a discriminator's answers to enhanced images: return ``-log D``.

    N x 1 logits (the paper's discriminators): the mean of -log sigmoid. N x 2 logits (the released one): the batch sum of
    log p(enhanced), which falls as the discriminator is deceived.
    """
    if logits.shape[1] == 2:
        return log_probability(logits)[:, 1].sum()
    return batch_mean(F.softplus(-logits))


def discriminator_loss(logits: Tensor, is_dslr: Tensor) -> Tensor:
    """Return the cross-entropy that trains a discriminator (section 3.1.2): a mean, or with N x 2 logits a batch sum.

    ``is_dslr``: N ones or zeros, whether the (first) image was the DSLR photo.
    """
    if logits.shape[1] == 2:
        log_p = log_probability(logits)
        return -(is_dslr * log_p[:, 0] + (1 - is_dslr) * log_p[:, 1]).sum()
    return F.binary_cross_entropy_with_logits(logits[:, 0], is_dslr)


def says_dslr(logits: Tensor) -> Tensor:
    """Return N truth values: whether a discriminator takes the (first) image for the DSLR photo."""
    return logits[:, 0] > (logits[:, 1] if logits.shape[1] == 2 else 0)


def permuted(enhanced: Tensor, target: Tensor, swaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images of each pair in the order that a discriminator sees them in (section 3.1.2).

    ``swaps``: N ones or zeros; 1 puts the DSLR photo first.
    """
    swap = swaps.view(-1, 1, 1, 1).to(enhanced.dtype)
    return enhanced * (1 - swap) + target * swap, enhanced * swap + target * (1 - swap)


# ---------------------------------------------------------------------------------------------- content, equation 6


def content_loss(enhanced: Tensor, target: Tensor, variant: str = "code") -> Tensor:
    """Equation 6: return the distance of two feature maps N x C x h x w (released: the mean of their squared difference)."""
    difference = enhanced - target
    if one_of("variant", variant, VARIANTS) == "code":
        return difference.square().mean()
    return batch_mean(torch.linalg.vector_norm(difference.flatten(1), dim=1)) / difference[0].numel()


# ---------------------------------------------------------------------------------------------- total variation, equation 7


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences of neighbours of N x C x H x W to the right, N x C x H x (W-1), and down, N x C x (H-1) x W."""
    return image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]


def tv_loss(image: Tensor, variant: str = "code") -> Tensor:
    """Equation 7: return the total variation of N x C x H x W. ``paper`` takes both gradients where both exist."""
    dx, dy = gradients(image)
    if one_of("variant", variant, VARIANTS) == "code":
        return dx.square().mean() + dy.square().mean()
    both = dx[:, :, :-1, :] + dy[:, :, :, :-1]
    return batch_mean(torch.linalg.vector_norm(both.flatten(1), dim=1)) / image[0].numel()


# ---------------------------------------------------------------------------------------------- total, equation 8


def weights_of(variant: str) -> dict[str, float]:
    """Return the weight of every term. The paper gives MSE none; it takes that of the colour term, in whose place it stands."""
    published = paper.LOSS_WEIGHTS[one_of("variant", variant, VARIANTS)]
    return {**published, "mse": published["color"]}


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Equation 8: return the weighted sum of the terms."""
    return sum(weights[name] * value for name, value in terms.items())


class Objective:
    """Tie the loss functions of one (loss, variant) to the networks they ask: VGG-19 and the discriminator.

    Args:
        loss: name in ``LOSSES``.
        variant: ``code`` or ``paper``.
        vgg: the frozen features; a loss with a content term needs them.
        discriminator: the opponent; a loss with a texture term needs one.
        weights: weight of each term; the variant's by default.
        kernel, content_layer: of ``KERNELS`` and of VGG-19; the variant's (or the loss's own layer) by default.

    Attributes:
        color_distance: computes equation 2.

    Raises:
        DpedError: an unknown name, or a network that the loss needs is missing.
    """

    def __init__(
        self,
        loss: str,
        variant: str = "code",
        vgg: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        weights: Mapping[str, float] | None = None,
        kernel: str = "",
        content_layer: str = "",
    ):
        spec = LOSSES[one_of("loss", loss, LOSSES)]
        self.variant = one_of("variant", variant, VARIANTS)
        self.terms = spec.terms
        self.kernel = one_of("kernel", kernel or KERNEL[variant], KERNELS)
        self.layer = content_layer or spec.content_layer or CONTENT_LAYER[variant]
        self.weights = dict(weights or weights_of(variant))
        self.vgg, self.discriminator = vgg, discriminator
        self.color_distance = color_distance
        if "content" in self.terms and vgg is None:
            raise DpedError(f"loss {loss!r} has a content term and needs VGG-19 features: pass vgg=vgg19().")
        if "texture" in self.terms and discriminator is None:
            raise DpedError(f"loss {loss!r} has a texture term and needs a discriminator.")

    def generator_terms(self, enhanced: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return every term, unweighted, for enhanced and DSLR images N x 3 x H x W in about [0, 1]."""
        return {name: self.term(name, enhanced, target) for name in self.terms}

    def term(self, name: str, enhanced: Tensor, target: Tensor) -> Tensor:
        """Return one term, unweighted."""
        match name:
            case "color":
                return color_loss(enhanced, target, self.variant, self.kernel, self.color_distance)
            case "mse":
                return mse_loss(enhanced, target, self.variant)
            case "texture":
                return texture_loss(self.ask(gray(enhanced), gray(target)))
            case "content":
                with torch.no_grad():
                    wanted = self.vgg(target, self.layer)
                return content_loss(self.vgg(enhanced, self.layer), wanted, self.variant)
            case "tv":
                return tv_loss(enhanced, self.variant)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return equation 8 with this objective's weights."""
        return total_loss(terms, self.weights)

    def ask(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the discriminator's logits for gray images: for both side by side, or for the first alone."""
        return self.discriminator(torch.cat((first, second), 1) if self.discriminator.inputs == 2 else first)

    def judge(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> Tensor:
        """Return the discriminator's logits for a batch in the order of :func:`permuted`. No gradient reaches the generator."""
        return self.ask(*permuted(gray(enhanced.detach()), gray(target), swaps))

    def discriminator_terms(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Return the discriminator's loss (``discriminator``) and the share of right answers (``accuracy``)."""
        logits, is_dslr = self.judge(enhanced, target, swaps), swaps.to(enhanced.dtype)
        right = says_dslr(logits) == (is_dslr > 0.5)
        return {"discriminator": discriminator_loss(logits, is_dslr), "accuracy": right.float().mean()}
