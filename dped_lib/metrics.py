"""PSNR, SSIM and MS-SSIM under named protocols. Between conventions the same pictures differ by more than 2 dB.

============ ==================================================================================================
train_script the authors' training code (``train_model.py``, ``ssim.py``): values unclipped; PSNR of the mean squared
             error pooled over a batch of 50; MS-SSIM with each scale averaged over that batch before the product;
             then the mean over batches.
pirm_script  the PIRM 2018 script (``evaluate_enhancement.py``): PSNR of clipped values, an image at a time, then the
             mean; MS-SSIM an image at a time, of unclipped values.
standard     values clipped; PSNR and SSIM (Wang et al. 2004, 11x11 window of deviation 1.5) an image at a time, then the
             mean; MS-SSIM (Wang et al. 2003) is not defined for sides under 161 pixels, and is None there.
============ ==================================================================================================

The paper's tables call MS-SSIM by ``ssim.py`` SSIM. :func:`pair_statistics` computes the statistics of every pair once.
Every protocol, and every bootstrap resample of it, is arithmetic on them.
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

#: Weights of the five scales, from the finest (Wang et al. 2003; ``ssim.py``).
SCALE_WEIGHTS = np.array((0.0448, 0.2856, 0.3001, 0.2363, 0.1333))
#: Side and standard deviation of SSIM's Gaussian window in pixels, and its two constants for values in [0, 1].
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Metric:
    """The meaning of a number: its name, unit and range, and whether more is better."""

    label: str
    unit: str
    low: float
    high: float
    higher_is_better: bool


METRICS = MappingProxyType(
    {
        "psnr": Metric("PSNR", "dB", 0.0, math.inf, True),
        "ssim": Metric("SSIM", "", -1.0, 1.0, True),
        "ms_ssim": Metric("MS-SSIM", "", 0.0, 1.0, True),
    }
)


def as_images(images) -> Tensor:
    """Return images as a float64 tensor N x C x H x W in which white is 1.0.

    Args:
        images: a tensor N x C x H x W or an array N x H x W x C; floats, or uint8 whose 255 is white.

    Raises:
        DpedError: the shape or type is another.
    """
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1)
    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3):
        form = "N x C x H x W tensor" if isinstance(images, Tensor) else "N x H x W x C array"
        raise DpedError(f"images must be an {form} with 1 or 3 channels, not {tuple(images.shape)}.")
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.float64, memory_format=torch.contiguous_format).div_(255)
    if not tensor.is_floating_point():
        raise DpedError(f"images must be floats in [0, 1] or uint8, not {tensor.dtype}.")
    return tensor.to(torch.float64, memory_format=torch.contiguous_format)


def window(size: int, like: Tensor) -> Tensor:
    """Return the taps of the Gaussian window: 11 of deviation 1.5, or fewer of proportional deviation on a smaller image."""
    at = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    taps = torch.exp(-(at**2) / (2 * (SIGMA * size / WINDOW) ** 2))
    return taps / taps.sum()


def window_mean(x: Tensor) -> Tensor:
    """Return the means of N x C x H x W under the window, where it lies inside the image: N x C x (H-10) x (W-10)."""
    taps = window(min(WINDOW, *x.shape[-2:]), x)
    # The window is the outer product of its taps.
    row, column = (taps.view(shape).expand(x.shape[1], *shape) for shape in ((1, 1, -1), (1, -1, 1)))
    return F.conv2d(F.conv2d(x, row, groups=x.shape[1]), column, groups=x.shape[1])


def ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean SSIM and mean contrast-structure term of each image pair (Wang et al. 2004): two vectors of N."""
    mean_x, mean_y = window_mean(x), window_mean(y)
    var_x = window_mean(x * x) - mean_x**2
    var_y = window_mean(y * y) - mean_y**2
    covariance = window_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    contrast_structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (luminance * contrast_structure).mean((1, 2, 3)), contrast_structure.mean((1, 2, 3))


def halved(x: Tensor) -> Tensor:
    """Return the means of 2 x 2 pixels. An odd last row or column is reflected, as in ``ssim.py`` (scipy's ``reflect``)."""
    odd_rows, odd_columns = x.shape[-2] % 2, x.shape[-1] % 2
    return F.avg_pool2d(F.pad(x, (0, odd_columns, 0, odd_rows), mode="replicate"), 2)


def scale_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the terms of :func:`ssim_terms` at five scales (Wang et al. 2003): two N x 5."""
    found = []
    for scale in range(len(SCALE_WEIGHTS)):
        x, y = (halved(x), halved(y)) if scale else (x, y)
        found.append(ssim_terms(x, y))
    ssim, cs = zip(*found, strict=True)
    return torch.stack(ssim, 1), torch.stack(cs, 1)


@dataclass(frozen=True)
class PairStatistics:
    """The numbers that every protocol is computed from, one entry a pair (numpy, float64).

    Attributes:
        mse, mse_clipped: mean squared error of the values as they are, and clipped to [0, 1]; (N,).
        ssim_clipped: single-scale SSIM of the clipped values; (N,).
        scale_ssim, scale_cs: the two terms at each of five scales, of the values as they are; (N, 5).
        scale_ssim_clipped, scale_cs_clipped: the same of the clipped values; NaN where a side is under 161 pixels.
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
        """Return the statistics of the pairs at ``index``, in that order; a pair may be repeated (bootstrap)."""
        return PairStatistics(*(getattr(self, f.name)[index] for f in fields(self)))


def has_five_scales(x: Tensor) -> bool:
    """Return whether the window fits into the fifth scale of N x C x H x W, as the definition of MS-SSIM demands."""
    return min(x.shape[-2:]) > (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)


def statistics_of(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return the fields of :class:`PairStatistics` for float64 images N x C x H x W, in order."""
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


def pair_statistics(images, targets, batch: int = 50, compute=statistics_of) -> PairStatistics:
    """Return the statistics of each pair, computed in float64 on the device that the tensors are on.

    Args:
        images, targets: see :func:`as_images`; of the same shape.
        batch: pairs computed at a time. It bounds the memory and changes no result.
        compute: computes a batch (``speed.pair_statistics`` has a quicker form of it).

    Raises:
        DpedError: the shapes differ, or a value is not finite.
    """
    if tuple(images.shape) != tuple(targets.shape):
        raise DpedError(f"images {tuple(images.shape)} and targets {tuple(targets.shape)} differ in shape.")
    parts: list[PairStatistics] = []
    for at in range(0, len(images), batch):
        values = compute(as_images(images[at : at + batch]), as_images(targets[at : at + batch]))
        if not torch.isfinite(values[0]).all():
            raise DpedError(f"images {at} to {at + len(values[0]) - 1} hold values that are not finite.")
        parts.append(PairStatistics(*(v.cpu().numpy() for v in values)))
    return joined(parts)


def joined(parts: Sequence[PairStatistics]) -> PairStatistics:
    """Return the statistics of all parts, one after the other."""
    return PairStatistics(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(PairStatistics)))


def psnr(mse: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio in dB for a peak of 1. It is infinite where the error is 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def ms_ssim(scale_ssim: np.ndarray, scale_cs: np.ndarray) -> np.ndarray:
    """Return the weighted product over the scales (last axis). A negative mean counts as 0; the authors' code gives NaN."""
    cs = np.maximum(scale_cs[..., :-1], 0) ** SCALE_WEIGHTS[:-1]
    return cs.prod(-1) * np.maximum(scale_ssim[..., -1], 0) ** SCALE_WEIGHTS[-1]


def _mean_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf


def _batches(n: int) -> list[slice]:
    return [slice(at, at + paper.BATCH_SIZE) for at in range(0, n, paper.BATCH_SIZE)]


def _train_script(s: PairStatistics) -> dict[str, float | None]:
    # The authors leave out a last batch of fewer pairs; here it counts by its size. A batch of identical pairs has no PSNR.
    parts = _batches(len(s))
    sizes = np.array([len(s.mse[p]) for p in parts])
    pooled = np.array([psnr(s.mse[p].mean()) for p in parts])
    scales = [ms_ssim(s.scale_ssim[p].mean(0), s.scale_cs[p].mean(0)) for p in parts]
    finite = np.isfinite(pooled)
    return {
        "psnr": float(np.average(pooled[finite], weights=sizes[finite])) if finite.any() else math.inf,
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


#: Protocol -> function from the pairs' statistics to the value of each metric (None where the protocol does not define it).
PROTOCOLS: MappingProxyType[str, Callable[[PairStatistics], dict[str, float | None]]] = MappingProxyType(
    {"train_script": _train_script, "pirm_script": _pirm_script, "standard": _standard}
)


def score(statistics: PairStatistics, protocol: str) -> dict[str, float | int | None]:
    """Return every metric under one protocol, and ``identical_pairs``: the number of pairs whose PSNR is infinite.

    A mean of decibels leaves those pairs out. Pooled errors and similarities include them.
    """
    return {
        **PROTOCOLS[one_of("protocol", protocol, PROTOCOLS)](statistics),
        "identical_pairs": int((statistics.mse_clipped == 0).sum()),
    }


def score_all(statistics: PairStatistics) -> dict[str, dict[str, float | int | None]]:
    """Return every metric under every protocol."""
    return {name: score(statistics, name) for name in PROTOCOLS}
