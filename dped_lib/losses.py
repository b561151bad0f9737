"""Compute the losses of section 3.1, equations 1 to 8: as the paper prints them, and as the authors' code does.

The two variants differ in kernels, layers and normalisation, so weights of one variant mean nothing in the other:

======== ============================================== ==============================================
term     ``paper``                                      ``code``
======== ============================================== ==============================================
color    eq. 2-4: sum of squared differences, blurred   half of that sum, a wider kernel
mse      sum of squared differences                     half of that sum
texture  eq. 5: -log D(F(I_s), I_t), two images         SUM over the batch of log p(enhanced), one image
content  eq. 6: norm / (C H W) at relu5_2               mean of squares at relu5_4
tv       eq. 7: norm of (grad_x + grad_y) / (C H W)     mean squared grad_x plus mean squared grad_y
weights  1, 1, 1, 0.1, 100 (eq. 8)                      0.5, 0.5, 1, 10, 2000
======== ============================================== ==============================================

All terms are means over the batch (equation 1), except the texture term of the discriminator ``code``, which is a sum.
In Table 3 the MSE replaces the colour term, so it has the same normalisation and weight. Images are RGB tensors N x 3 x H x W whose values
are in [0, 1] or slightly outside. An unknown name raises a DpedError that lists the allowed ones.

Sources: the paper; ``train_model.py`` and ``utils.py`` of aiff22/DPED.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.paper import VARIANTS

#: Half-width of every colour kernel in pixels. The kernel of the authors' code is 21x21; the paper gives no size.
KERNEL_RADIUS = 10
_OFFSETS = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, dtype=np.float64)


@dataclass(frozen=True)
class LossSpec:
    """Describe a loss of the paper: its terms, the network it trains, and its layer of VGG-19.

    ``model`` is a key of ``models.GENERATORS``. An empty layer means the variant's.
    """

    terms: tuple[str, ...]
    model: str = "dped"
    content_layer: str = ""


#: The four columns of Table 3, in the paper's order.
TABLE3_LOSSES = tuple(paper.TABLE3["iphone"])

#: Every loss by name. Table 3 names no total variation. Every loss with a texture term has it here, because it damps the
#: noise of that term (DEVIATIONS.md).
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

#: The losses that a full reproduction trains for each phone: Table 3, and the learned baselines of Table 2.
TRAINED = tuple(LOSSES)

#: The colour kernel, the layer of VGG-19 and the discriminator of each variant.
KERNEL_OF = MappingProxyType({"paper": "printed", "code": "code"})
CONTENT_LAYER_OF = MappingProxyType({"paper": "relu5_2", "code": "relu5_4"})
DISCRIMINATOR_OF = MappingProxyType({"paper": "two_image", "code": "code"})

#: Three readings of the Gaussian kernel of the colour loss, with their meaning; see DEVIATIONS.md.
KERNELS = MappingProxyType(
    {
        "printed": "equation 4 as printed: variance 3, standard deviation 1.73 px",
        "sigma3": "a reader's guess: standard deviation 3 px",
        "code": "utils.gauss_kernel(21, 3): standard deviation 4.34 px",
    }
)

# ---------------------------------------------------------------------------------------------- equation 1


def batch_mean(losses: Tensor) -> Tensor:
    """Return the mean of N losses, one for each image pair (equation 1): a scalar."""
    return losses.mean()


# --------------------------------------------------------------------------------------------- colour, equations 2 to 4


def gaussian(deviation: float) -> np.ndarray:
    """Return 21 float64 taps of a Gaussian of this deviation (px), with sum 1.

    Equation 4 has this shape. The taps end 10 px from the centre, which narrows wide kernels: 4.34 px become 4.11 px.
    """
    taps = np.exp(-(_OFFSETS**2) / (2 * deviation**2))
    return taps / taps.sum()


def printed_kernel() -> np.ndarray:
    """Return the 21 taps t of equation 4 as printed: G(k, l) = t(k) t(l)."""
    return np.sqrt(paper.COLOR_AMPLITUDE) * np.exp(-(_OFFSETS**2) / (2 * paper.COLOR_SIGMA))


def kernel_1d(kernel: str | float) -> np.ndarray:
    """Return 21 taps whose outer product is a kernel: one of ``KERNELS``, or a deviation (px)."""
    if isinstance(kernel, int | float):
        return gaussian(kernel)
    match one_of("kernel", kernel, KERNELS):
        case "printed":
            return printed_kernel()
        case "sigma3":
            return gaussian(3.0)
        case "code":
            # Probabilities of 21 equal bins of a Gaussian over +-(3 + 1/6) deviations. The root of
            # their outer product, as in the authors' code, widens the kernel from 3.30 to 4.34 px.
            edges = torch.linspace(-3 - 1 / 6, 3 + 1 / 6, 22, dtype=torch.float64)
            taps = np.sqrt(np.diff(torch.special.ndtr(edges).numpy()))
            return taps / taps.sum()


def blur(image: Tensor, kernel: str | float = "code") -> Tensor:
    """Convolve every channel of N x C x H x W with a kernel, with zero padding (equation 3)."""
    channels = image.shape[1]
    taps = torch.tensor(kernel_1d(kernel), dtype=image.dtype, device=image.device)
    # The kernel is the outer product of its taps: convolve with a row of them, then with a column.
    row, column = (taps.view(shape).expand(channels, *shape) for shape in ((1, 1, -1), (1, -1, 1)))
    x = F.conv2d(image, row, padding=(0, KERNEL_RADIUS), groups=channels)
    return F.conv2d(x, column, padding=(KERNEL_RADIUS, 0), groups=channels)


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each image pair: N values for N x C x H x W."""
    return (x - y).square().flatten(1).sum(1)


def color_distance(enhanced: Tensor, target: Tensor, kernel: str | float = "code") -> Tensor:
    """Return the squared distance of the blurred images of each pair (equation 2): N values."""
    return squared_distance(blur(enhanced, kernel), blur(target, kernel))


def _mean_distance(distances: Tensor, variant: str) -> Tensor:
    """Return the mean of N squared distances (equation 1). The authors' code halves it."""
    return batch_mean(distances) / (2 if one_of("variant", variant, VARIANTS) == "code" else 1)


def color_loss(
    enhanced: Tensor,
    target: Tensor,
    variant: str = "code",
    kernel: str = "",
    distance: Callable = color_distance,
) -> Tensor:
    """Return the colour loss of a batch N x 3 x H x W (equations 1 and 2): a scalar.

    ``kernel`` is a key of ``KERNELS``, or empty for the variant's. ``distance`` may be an
    equivalent of equation 2.
    """
    kernel = kernel or KERNEL_OF[one_of("variant", variant, VARIANTS)]
    return _mean_distance(distance(enhanced, target, kernel), variant)


def mse_loss(enhanced: Tensor, target: Tensor, variant: str = "code") -> Tensor:
    """Return the MSE of Table 3, normalised like the colour loss: a scalar."""
    return _mean_distance(squared_distance(enhanced, target), variant)


# ---------------------------------------------------------------------------------------------- texture, equation 5


def gray(image: Tensor) -> Tensor:
    """Return RGB N x 3 x H x W in gray, N x 1 x H x W, as TensorFlow's ``rgb_to_grayscale``."""
    red, green, blue = image.split(1, 1)
    return 0.2989 * red + 0.5870 * green + 0.1140 * blue


def log_probability(logits: Tensor) -> Tensor:
    """Return the log-softmax of N x 2 logits, with probabilities below 1e-10 clipped as in the authors' code."""
    return torch.log(torch.softmax(logits, dim=1).clamp(min=1e-10))


def texture_loss(logits: Tensor) -> Tensor:
    """Return the texture loss (equation 5) of discriminator logits for enhanced images: a scalar.

    N x 1 logits give the mean of -log D, D = sigmoid(logit); equation 5 prints a sum. N x 2 give
    the sum of log p(enhanced) (authors' code). Both fall as enhanced images pass for DSLR photos.
    """
    if logits.shape[1] == 2:
        return log_probability(logits)[:, 1].sum()
    return batch_mean(-F.logsigmoid(logits))


def discriminator_loss(logits: Tensor, is_dslr: Tensor) -> Tensor:
    """Return the cross-entropy that trains a discriminator (section 3.1.2): a scalar.

    It is the mean over N x 1 logits, or the sum over N x 2 logits. ``is_dslr`` has N values: 1
    where the first (or only) image was the DSLR photo, else 0.
    """
    if logits.shape[1] == 2:
        log_p = log_probability(logits)
        return -(is_dslr * log_p[:, 0] + (1 - is_dslr) * log_p[:, 1]).sum()
    return F.binary_cross_entropy_with_logits(logits[:, 0], is_dslr)


def predicts_dslr(logits: Tensor) -> Tensor:
    """Return bool N: whether N x 1 or N x 2 logits call the first (or only) image a DSLR photo."""
    return logits[:, 0] > (logits[:, 1] if logits.shape[1] == 2 else 0)


def permute_pairs(enhanced: Tensor, target: Tensor, swaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pair's first and second image in the order a discriminator sees (section 3.1.2).

    ``swaps`` has N values: 1 puts the DSLR photo (``target``) first, 0 the enhanced one.
    """
    swap = swaps.view(-1, 1, 1, 1).to(enhanced.dtype)
    return enhanced * (1 - swap) + target * swap, enhanced * swap + target * (1 - swap)


# ---------------------------------------------------------------------------------------------- content, equation 6


def content_loss(enhanced: Tensor, target: Tensor, variant: str = "code") -> Tensor:
    """Return the content loss (equation 6) of VGG-19 features N x C x h x w: a scalar."""
    difference = enhanced - target
    if one_of("variant", variant, VARIANTS) == "code":
        return difference.square().mean()
    norms = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    return batch_mean(norms) / difference[0].numel()


# ------------------------------------------------------------------------------------------ total variation, equation 7


def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences to the right, N x C x H x (W-1), and downwards, N x C x (H-1) x W."""
    return image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]


def tv_loss(image: Tensor, variant: str = "code") -> Tensor:
    """Return the total variation of a batch N x C x H x W (equation 7): a scalar.

    ``paper`` sums both gradients in pixels that have both. ``code`` adds the two means of squares.
    """
    dx, dy = gradients(image)
    if one_of("variant", variant, VARIANTS) == "code":
        return dx.square().mean() + dy.square().mean()
    both = dx[:, :, :-1, :] + dy[:, :, :, :-1]
    return batch_mean(torch.linalg.vector_norm(both.flatten(1), dim=1)) / image[0].numel()


# ---------------------------------------------------------------------------------------------- total, equation 8


def weights_of(variant: str) -> dict[str, float]:
    """Return every term's weight (equation 8). The MSE has that of the colour term it replaces."""
    published = paper.LOSS_WEIGHTS[one_of("variant", variant, VARIANTS)]
    return {**published, "mse": published["color"]}


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the terms (equation 8): a scalar."""
    return sum(weights[name] * value for name, value in terms.items())


class Objective:
    """Combine the functions of this module with the networks that one loss needs: VGG-19 and the discriminator.

    Args:
        loss, variant: a key of ``LOSSES``, and ``code`` or ``paper``.
        vgg, discriminator: a loss with a content term needs ``vgg.VGG19``, one with a texture term a discriminator.
        kernel, content_layer: a key of ``KERNELS``, and a layer of VGG-19; by default those of the loss or the variant.

    Attributes:
        terms, kernel, content_layer, weights: names of the terms, kernel, layer of VGG-19, and weights of the terms.
        color_distance: equation 2. ``speed`` replaces it by an equivalent.

    Raises:
        DpedError: a name is unknown, or a network that the loss needs is missing.
    """

    def __init__(
        self,
        loss: str,
        variant: str = "code",
        vgg: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        kernel: str = "",
        content_layer: str = "",
    ):
        spec = LOSSES[one_of("loss", loss, LOSSES)]
        self.variant = one_of("variant", variant, VARIANTS)
        self.terms = spec.terms
        self.kernel = one_of("kernel", kernel or KERNEL_OF[variant], KERNELS)
        self.content_layer = content_layer or spec.content_layer or CONTENT_LAYER_OF[variant]
        self.weights = weights_of(variant)
        self.vgg, self.discriminator = vgg, discriminator
        self.color_distance = color_distance
        if "content" in self.terms and vgg is None:
            raise DpedError(f"loss {loss!r} has a content term and needs features: pass vgg=vgg_files.vgg19().")
        if "texture" in self.terms and discriminator is None:
            raise DpedError(f"loss {loss!r} has a texture term and needs a discriminator: pass models.discriminator().")

    def generator_terms(self, enhanced: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return every term by name, without its weight, for enhanced and DSLR images N x 3 x H x W in about [0, 1]."""
        return {name: self.term(name, enhanced, target) for name in self.terms}

    def term(self, name: str, enhanced: Tensor, target: Tensor) -> Tensor:
        """Return one term without its weight: a scalar."""
        match name:
            case "color":
                return color_loss(enhanced, target, self.variant, self.kernel, self.color_distance)
            case "mse":
                return mse_loss(enhanced, target, self.variant)
            case "texture":
                return texture_loss(self.discriminate(gray(enhanced), gray(target)))
            case "content":
                with torch.no_grad():
                    target_features = self.vgg(target, self.content_layer)
                features = self.vgg(enhanced, self.content_layer)
                return content_loss(features, target_features, self.variant)
            case "tv":
                return tv_loss(enhanced, self.variant)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms (equation 8), with this objective's weights."""
        return total_loss(terms, self.weights)

    def discriminate(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the logits for gray images. A discriminator of one image gets only the first."""
        seen = torch.cat((first, second), 1) if self.discriminator.inputs == 2 else first
        return self.discriminator(seen)

    def discriminate_permuted(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> Tensor:
        """Return the discriminator's logits for RGB pairs in the order of ``swaps``. The generator gets no gradient."""
        return self.discriminate(*permute_pairs(gray(enhanced.detach()), gray(target), swaps))

    def discriminator_terms(self, enhanced: Tensor, target: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Return the discriminator's loss (``discriminator``) and its share of right answers (``accuracy``)."""
        logits, is_dslr = self.discriminate_permuted(enhanced, target, swaps), swaps.to(enhanced.dtype)
        right = predicts_dslr(logits) == (is_dslr > 0.5)
        return {"discriminator": discriminator_loss(logits, is_dslr), "accuracy": right.float().mean()}
