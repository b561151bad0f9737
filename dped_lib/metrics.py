"""Compute PSNR, SSIM and MS-SSIM under named protocols. In our tables the choice of protocol changes PSNR by up to 2.8 dB.

============ ==================================================================================================
train_script The authors' training code (``train_model.py``, ``ssim.py``). Values are not clipped. PSNR is that of the
             mean squared error of a batch of 50. MS-SSIM averages each scale over that batch before it multiplies
             them. The score is the mean over batches.
pirm_script  The PIRM 2018 script (``evaluate_enhancement.py``). PSNR of clipped values and MS-SSIM of unclipped ones
             are computed for each image and averaged.
standard     The textbook definitions. Values are clipped. PSNR and SSIM (Wang et al. 2004, 11x11 window of deviation
             1.5) are computed for each image and averaged. So is MS-SSIM (Wang et al. 2003); it is None for sides
             under 161 pixels, where it is not defined.
============ ==================================================================================================

What the paper's tables call SSIM is MS-SSIM in the authors' code. :func:`pair_statistics` computes numbers for every
pair once. Protocols and bootstrap resamples are arithmetic on them. An unknown protocol raises a DpedError.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of

#: Weights of the five scales of MS-SSIM, from the finest (Wang et al. 2003; ``ssim.py``).
SCALE_WEIGHTS = np.array((0.0448, 0.2856, 0.3001, 0.2363, 0.1333))
#: Side and standard deviation of SSIM's Gaussian window, in pixels.
WINDOW, SIGMA = 11, 1.5
#: Constants that keep SSIM's quotients finite, for values in [0, 1].
C1, C2 = 0.01**2, 0.03**2
#: The metrics that every protocol returns. For each of them, a higher value is better.
METRICS = ("psnr", "ssim", "ms_ssim")


def as_images(images) -> Tensor:
    """Return images as a float64 tensor N x C x H x W in which white is 1.0.

    Args:
        images: a tensor N x C x H x W or an array N x H x W x C, with 1 or 3 channels. White is 1.0 for floats and 255
            for uint8.

    Raises:
        DpedError: the images have another shape or type.
    """
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1)
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3):
        form = "N x C x H x W tensor" if isinstance(images, Tensor) else "N x H x W x C array"
        raise DpedError(f"images must be an {form} with 1 or 3 channels, not {tuple(images.shape)}.")
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise DpedError(f"images must be floats in [0, 1] or uint8, not {tensor.dtype}.")
    # Variances are small differences, so SSIM needs float64. One memory layout rounds tensors and arrays alike.
    doubles = tensor.to(torch.float64, memory_format=torch.contiguous_format)
    return doubles.div_(255) if tensor.dtype == torch.uint8 else doubles


def window(size: int, like: Tensor) -> Tensor:
    """Return ``size`` taps of a Gaussian, with sum 1 and with the type and device of ``like``.

    The deviation is 1.5 px for 11 taps. It shrinks with the taps of small images (``ssim.py``).
    """
    offsets = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    taps = torch.exp(-(offsets**2) / (2 * (SIGMA * size / WINDOW) ** 2))
    return taps / taps.sum()


def window_mean(x: Tensor) -> Tensor:
    """Return weighted means in the window: N x C x (H-10) x (W-10) for sides of 11 px or more."""
    taps = window(min(WINDOW, *x.shape[-2:]), x)
    # The window is the outer product of its taps: convolve with a row of them, then with a column.
    row, column = (taps.view(form).expand(x.shape[1], *form) for form in ((1, 1, -1), (1, -1, 1)))
    return F.conv2d(F.conv2d(x, row, groups=x.shape[1]), column, groups=x.shape[1])


def ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pair's mean SSIM and contrast-structure factor (Wang et al. 2004): N each."""
    mean_x, mean_y = window_mean(x), window_mean(y)
    var_x = window_mean(x * x) - mean_x**2
    var_y = window_mean(y * y) - mean_y**2
    covariance = window_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    contrast_structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (luminance * contrast_structure).mean((1, 2, 3)), contrast_structure.mean((1, 2, 3))


def half_size(x: Tensor) -> Tensor:
    """Return N x C x H x W at half its size, rounded up: the means of 2 x 2 pixels.

    An odd last row or column is repeated, as in ``ssim.py`` (SciPy's mode ``reflect``).
    """
    odd_rows, odd_columns = x.shape[-2] % 2, x.shape[-1] % 2
    return F.avg_pool2d(F.pad(x, (0, odd_columns, 0, odd_rows), mode="replicate"), 2)


def scale_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``ssim_terms`` at the five scales of MS-SSIM (Wang et al. 2003): N x 5 each."""
    terms = []
    for scale in range(len(SCALE_WEIGHTS)):
        x, y = (half_size(x), half_size(y)) if scale else (x, y)
        terms.append(ssim_terms(x, y))
    ssim, cs = zip(*terms, strict=True)
    return torch.stack(ssim, 1), torch.stack(cs, 1)


@dataclass(frozen=True)
class PairStatistics:
    """Hold the errors and similarities of N image pairs: all that a protocol needs to score them (numpy, float64).

    Attributes:
        mse, mse_clipped: mean squared error of the values as they are, and clipped to [0, 1]; (N,).
        ssim_clipped: single-scale SSIM of the clipped values; (N,).
        scale_ssim, scale_cs: the values of :func:`scale_terms` for the images as they are; (N, 5).
        scale_ssim_clipped, scale_cs_clipped: the same for clipped values; NaN if a side is under 161 pixels.
    """

    mse: np.ndarray
    mse_clipped: np.ndarray
    ssim_clipped: np.ndarray
    scale_ssim: np.ndarray
    scale_cs: np.ndarray
    scale_ssim_clipped: np.ndarray
    scale_cs_clipped: np.ndarray

    def __len__(self) -> int:
        return len(self.mse)

    def take(self, index) -> "PairStatistics":
        """Return the statistics of the pairs at ``index``, in that order. A bootstrap repeats some."""
        return PairStatistics(*(getattr(self, f.name)[index] for f in fields(self)))


def has_five_scales(x: Tensor) -> bool:
    """Return whether the window fits into the fifth scale of N x C x H x W, as MS-SSIM by definition requires."""
    return min(x.shape[-2:]) > (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)


def batch_statistics(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return the fields of :class:`PairStatistics` in order, as tensors, for float64 images N x C x H x W."""
    xc, yc = x.clamp(0, 1), y.clamp(0, 1)
    ssim, cs = scale_terms(x, y)
    if has_five_scales(x):
        ssim_clipped, cs_clipped = scale_terms(xc, yc)
        finest = ssim_clipped[:, 0]
    else:
        finest = ssim_terms(xc, yc)[0]
        ssim_clipped = cs_clipped = torch.full_like(ssim, math.nan)
    mse, mse_clipped = ((a - b).square().mean((1, 2, 3)) for a, b in ((x, y), (xc, yc)))
    return mse, mse_clipped, finest, ssim, cs, ssim_clipped, cs_clipped


def pair_statistics(images, targets, batch: int = 50, compute=batch_statistics) -> PairStatistics:
    """Return the statistics of each pair, computed in float64 on the tensors' own device.

    Args:
        images, targets: see :func:`as_images`. Both have the same shape.
        batch: number of pairs computed at a time. It limits the memory and changes no result.
        compute: computes the statistics of a batch; ``speed`` replaces it by an equivalent.

    Raises:
        DpedError: there are no pairs, their shapes differ, or a value is not finite.
    """
    if tuple(images.shape) != tuple(targets.shape) or not len(images):
        raise DpedError(f"images {tuple(images.shape)} and targets {tuple(targets.shape)} differ in shape or are none.")
    parts: list[PairStatistics] = []
    for first in range(0, len(images), batch):
        values = compute(as_images(images[first : first + batch]), as_images(targets[first : first + batch]))
        if not torch.isfinite(values[0]).all():
            raise DpedError(f"images {first} to {first + len(values[0]) - 1} hold values that are not finite.")
        parts.append(PairStatistics(*(v.cpu().numpy() for v in values)))
    return concatenate(parts)


def concatenate(parts: Sequence[PairStatistics]) -> PairStatistics:
    """Return the statistics of the pairs of all parts, in order."""
    return PairStatistics(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(PairStatistics)))


def psnr(mse: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio (dB) of MSEs for a peak of 1. MSE 0 gives infinity."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def ms_ssim(scale_ssim: np.ndarray, scale_cs: np.ndarray) -> np.ndarray:
    """Return MS-SSIM: the product over the scales (last axis), each to the power of its weight.

    A negative value counts as 0. The authors' code gives NaN for it.
    """
    cs = np.maximum(scale_cs[..., :-1], 0) ** SCALE_WEIGHTS[:-1]
    return cs.prod(-1) * np.maximum(scale_ssim[..., -1], 0) ** SCALE_WEIGHTS[-1]


def _mean_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf


def _batches(n: int) -> list[slice]:
    return [slice(first, first + paper.BATCH_SIZE) for first in range(0, n, paper.BATCH_SIZE)]


def _train_script(s: PairStatistics) -> dict[str, float | None]:
    # The authors' code leaves out a smaller last batch. Here it counts by its size. A batch of
    # identical pairs has an infinite PSNR and is left out.
    parts = _batches(len(s))
    sizes = np.array([len(s.mse[p]) for p in parts])
    pooled = np.array([psnr(s.mse[p].mean()) for p in parts])
    scales = [ms_ssim(s.scale_ssim[p].mean(0), s.scale_cs[p].mean(0)) for p in parts]
    kept = np.isfinite(pooled)
    return {
        "psnr": float(np.average(pooled[kept], weights=sizes[kept])) if kept.any() else math.inf,
        "ms_ssim": float(np.average(scales, weights=sizes)),
        "ssim": None,
    }


def _pirm_script(s: PairStatistics) -> dict[str, float | None]:
    return {
        "psnr": _mean_finite(psnr(s.mse_clipped)),
        "ms_ssim": float(ms_ssim(s.scale_ssim, s.scale_cs).mean()),
        "ssim": None,
    }


def _standard(s: PairStatistics) -> dict[str, float | None]:
    scales = ms_ssim(s.scale_ssim_clipped, s.scale_cs_clipped).mean()
    return {
        "psnr": _mean_finite(psnr(s.mse_clipped)),
        "ms_ssim": None if np.isnan(scales) else float(scales),
        "ssim": float(s.ssim_clipped.mean()),
    }


#: The protocols by name. Each function returns every metric of the pairs; None if the protocol does not define it.
PROTOCOLS: MappingProxyType[str, Callable[[PairStatistics], dict[str, float | None]]] = MappingProxyType(
    {"train_script": _train_script, "pirm_script": _pirm_script, "standard": _standard}
)


def score(statistics: PairStatistics, protocol: str) -> dict[str, float | int | None]:
    """Return every metric under one protocol. ``identical_pairs`` counts equal pairs (clipped if the protocol clips).

    The PSNR of such a pair is infinite, so means of decibels leave it out. Pooled errors and similarities include it.
    """
    scores = PROTOCOLS[one_of("protocol", protocol, PROTOCOLS)](statistics)
    mse = statistics.mse if protocol == "train_script" else statistics.mse_clipped
    return {**scores, "identical_pairs": int((mse == 0).sum())}


def score_all(statistics: PairStatistics) -> dict[str, dict[str, float | int | None]]:
    """Return every metric under every protocol."""
    return {name: score(statistics, name) for name in PROTOCOLS}
