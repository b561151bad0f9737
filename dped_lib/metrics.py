"""PSNR, SSIM and MS-SSIM under named protocols, because the same pictures differ by more than 2 dB between conventions.

============ ==================================================================================================
train_script the authors' training code (``train_model.py``, ``ssim.py``): values unclipped; PSNR of the mean squared
             error pooled over a batch of 50; MS-SSIM with each scale averaged over that batch before the product;
             then the mean over batches.
pirm_script  the PIRM 2018 script (``evaluate_enhancement.py``): PSNR of clipped values, an image at a time, then the
             mean; MS-SSIM an image at a time, of unclipped values.
standard     values clipped; PSNR and SSIM (Wang et al. 2004, 11x11 window of deviation 1.5) an image at a time, then the
             mean; MS-SSIM (Wang et al. 2003) is not defined for sides under 161 pixels, and is None there.
============ ==================================================================================================

What the paper's tables call SSIM is MS-SSIM by ``ssim.py``. Per-pair statistics are computed once
(:func:`pair_statistics`); every protocol, and every bootstrap resample of it, is arithmetic on them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from dped_lib.base import device as devices
from dped_lib import paper
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError

#: Weights of the five scales, from the finest (Wang et al. 2003; ``ssim.py``).
SCALE_WEIGHTS = np.array((0.0448, 0.2856, 0.3001, 0.2363, 0.1333))
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Metric:
    """What a number means: its name, unit, range, and whether more is better."""

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
    """Images as a float64 tensor N x 3 x H x W with 1.0 as white.

    Args:
        images: a float tensor N x C x H x W, or an array N x H x W x C; integers are uint8 (255 is white).

    Raises:
        DpedError: another shape or type.
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


@lru_cache(maxsize=64)
def _band(size: int, outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Column i holds the window from row i on. On images smaller than 11 pixels window and deviation shrink together, as in ssim.py.
    at = np.arange(size) - (size - 1) / 2
    taps = np.exp(-(at**2) / (2 * (_SIGMA * size / _WINDOW) ** 2))
    matrix = np.zeros((outputs + size - 1, outputs))
    for i in range(outputs):
        matrix[i : i + size, i] = taps / taps.sum()
    with torch.inference_mode(False):  # a matrix first needed in inference mode serves elsewhere, too
        return torch.tensor(matrix, dtype=dtype, device=device)


def _smooth(z: Tensor) -> Tensor:
    """The Gaussian window over the first and the last axis, where it fits entirely.

    The window is separable: two products with a banded matrix, cut into blocks along its band, where most of it is not zero.
    """
    size, step = min(_WINDOW, z.shape[0], z.shape[-1]), 18
    height, width = z.shape[0] - size + 1, z.shape[-1] - size + 1

    def band(outputs: int) -> Tensor:
        return _band(size, outputs, z.dtype, z.device)

    rows = z.reshape(-1, z.shape[-1])
    across = z.new_empty(len(rows), width)
    for at in range(0, width, step):
        n = min(step, width - at)
        torch.mm(rows[:, at : at + n + size - 1], band(n), out=across[:, at : at + n])
    columns = across.view(z.shape[0], -1)
    smooth = z.new_empty(height, columns.shape[1])
    for at in range(0, height, step):
        n = min(step, height - at)
        torch.mm(band(n).T, columns[at : at + n + size - 1], out=smooth[at : at + n])
    return smooth.view(height, *z.shape[1:-1], width)


def _planes(x: Tensor, y: Tensor) -> Tensor:
    # Rows first, then [x, y and room for what _terms makes of them], images by channels, columns: both products of _smooth are large.
    n, c, h, w = x.shape
    planes = x.new_empty(h, 4, n * c, w)
    for k, z in enumerate((x, y)):
        planes[:, k].view(h, n, c, w).copy_(z.permute(2, 0, 1, 3))
    return planes


def _terms(planes: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term of each image.

    The window's weights add up to 1, so the constants enter before it: with P = 2xy + C1 + C2 and S = x^2 + y^2 + C1 + C2, smoothed,
    and L = 2 mx my + C1 and B = mx^2 + my^2 + C1, cs = (P - L) / (S - B) and SSIM = cs L / B. S is P + (x - y)^2 and B likewise, so
    that both terms of identical images are 1 exactly.
    """
    x, y = planes[:, 0], planes[:, 1]
    c1, both = planes.new_tensor(_C1), planes.new_tensor(_C1 + _C2)
    torch.addcmul(both, x, y, value=2, out=planes[:, 2])
    off = x - y
    torch.addcmul(planes[:, 2], off, off, out=planes[:, 3])
    mx, my, product, squares = _smooth(planes).unbind(1)
    means = torch.addcmul(c1, mx, my, value=2)
    off = mx.sub_(my)
    powers = torch.addcmul(means, off, off)
    cs = product.sub_(means).div_(squares.sub_(powers))
    ssim = means.div_(powers).mul_(cs)
    ssim, cs = (z.mean((0, 2)).view(images, -1).mean(1) for z in (ssim, cs))
    return ssim, cs


def _halved(planes: Tensor) -> Tensor:
    # 2x2 means; an odd last row or column is reflected, as scipy's convolve(mode="reflect")[::2] does.
    h, _, n, w = planes.shape
    rows = planes.new_empty(h - h // 2, 2, n, w)
    torch.add(planes[: h - h % 2 : 2, :2], planes[1::2, :2], out=rows[: h // 2])
    if h % 2:
        torch.mul(planes[-1, :2], 2, out=rows[-1])
    smaller = planes.new_empty(len(rows), 4, n, w - w // 2)
    found = smaller[:, :2]
    torch.add(rows[..., : w - w % 2 : 2], rows[..., 1::2], out=found[..., : w // 2])
    if w % 2:
        torch.mul(rows[..., -1], 2, out=found[..., -1])
    found.mul_(0.25)
    return smaller


@dataclass(frozen=True)
class PairStatistics:
    """What every protocol is computed from, an entry a pair (numpy, float64).

    Attributes:
        mse, mse_clipped: mean squared error of values as they are, and clipped to [0, 1]; shape (N,).
        ssim_clipped: single-scale SSIM of clipped values; (N,).
        scale_ssim, scale_cs: the two terms at each of five scales, of values as they are; (N, 5).
        scale_ssim_clipped, scale_cs_clipped: the same of clipped values; NaN where sides are under 161 pixels.
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
        """The statistics of some pairs, in that order; repeats allowed (bootstrap)."""
        return PairStatistics(*(getattr(self, f.name)[index] for f in fields(self)))


def _scales(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    found, planes = [], _planes(x, y)
    for scale in range(len(SCALE_WEIGHTS)):
        planes = _halved(planes) if scale else planes
        found.append(_terms(planes, len(x)))
    ssim, cs = zip(*found, strict=True)
    return torch.stack(ssim, 1), torch.stack(cs, 1)


def pair_statistics(images, targets, batch: int = 0) -> PairStatistics:
    """Statistics of each pair, in float64 on the device the tensors are on.

    Args:
        images, targets: see :func:`as_images`; same shape.
        batch: pairs computed at a time (bounds the memory, changes no result). 0: on a CPU so few that they stay in a core's cache, on
            a GPU so many that it has something to do.

    Raises:
        DpedError: shapes differ, or a value is not finite.
    """
    if tuple(images.shape) != tuple(targets.shape):
        raise DpedError(f"images {tuple(images.shape)} and targets {tuple(targets.shape)} differ in shape.")
    devices.keep_pages()  # else a third of the time goes into the pages of the same intermediate results, again and again
    found: list[PairStatistics] = []
    batch = batch or (100 if isinstance(images, Tensor) and images.is_cuda else 8)
    for at in range(0, len(images), batch):
        x, y = as_images(images[at : at + batch]), as_images(targets[at : at + batch])
        mse = (x - y).square_().mean((1, 2, 3))
        if not torch.isfinite(mse).all():
            raise DpedError(f"images {at} to {at + len(x) - 1} hold values that are not finite.")
        ssim, cs = _scales(x, y)
        mse_c, finest_c, ssim_c, cs_c = mse.clone(), ssim[:, 0].clone(), ssim.clone(), cs.clone()
        # Clipping changes nothing of most pairs, and nothing has to be computed anew of those.
        flat = [z.flatten(1) for z in (x, y)]  # amin and amax are vectorised, aminmax is not: four times as fast
        changed = torch.stack([(z.amin(1) < 0) | (z.amax(1) > 1) for z in flat]).any(0)
        large = min(x.shape[-2:]) > (_WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)
        if changed.any():
            xc, yc = x[changed].clamp_(0, 1), y[changed].clamp_(0, 1)
            mse_c[changed] = (xc - yc).square_().mean((1, 2, 3))
            if large:
                ssim_c[changed], cs_c[changed] = _scales(xc, yc)
                finest_c[changed] = ssim_c[changed, 0]
            else:
                finest_c[changed] = _terms(_planes(xc, yc), len(xc))[0]
        if not large:
            ssim_c[:] = cs_c[:] = math.nan
        values = (mse, mse_c, finest_c, ssim, cs, ssim_c, cs_c)
        found.append(PairStatistics(*(v.cpu().numpy() for v in values)))
    return PairStatistics(*(np.concatenate([getattr(s, f.name) for s in found]) for f in fields(PairStatistics)))


def psnr(mse: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB for a peak of 1; infinite where the error is 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def ms_ssim(scale_ssim: np.ndarray, scale_cs: np.ndarray) -> np.ndarray:
    """The weighted product over scales (last axis). A negative mean, where the authors' code gives NaN, counts as 0."""
    cs = np.maximum(scale_cs[..., :-1], 0) ** SCALE_WEIGHTS[:-1]
    return cs.prod(-1) * np.maximum(scale_ssim[..., -1], 0) ** SCALE_WEIGHTS[-1]


def _mean_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf


def _batches(n: int) -> list[slice]:
    return [slice(at, at + paper.BATCH_SIZE) for at in range(0, n, paper.BATCH_SIZE)]


def _released(s: PairStatistics) -> dict[str, float | None]:
    # A last batch of fewer pairs (the authors leave it out) counts by its size; one of identical pairs alone has no PSNR.
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


def _pirm(s: PairStatistics) -> dict[str, float | None]:
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


#: Every protocol: statistics of the pairs -> value of each metric, None where the protocol does not define it.
PROTOCOLS: MappingProxyType[str, Callable[[PairStatistics], dict[str, float | None]]] = MappingProxyType(
    {"train_script": _released, "pirm_script": _pirm, "standard": _standard}
)


def score(statistics: PairStatistics, protocol: str) -> dict[str, float | int | None]:
    """Every metric under one protocol, and ``identical_pairs``: pairs whose PSNR is infinite.

    Those pairs cannot enter a mean of decibels: where PSNR is averaged image by image they are left out and counted
    here; pooled errors and similarities include them.
    """
    return {
        **PROTOCOLS[one_of("protocol", protocol, PROTOCOLS)](statistics),
        "identical_pairs": int((statistics.mse_clipped == 0).sum()),
    }


def score_all(statistics: PairStatistics) -> dict[str, dict[str, float | int | None]]:
    """Every metric under every protocol."""
    return {name: score(statistics, name) for name in PROTOCOLS}


def bootstrap(
    statistics: Sequence[PairStatistics], groups: np.ndarray, protocol: str, resamples: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Resampled scores of several methods on the same pairs: metric -> array (resamples, methods).

    Photographs, not patches, are drawn with replacement, the same ones for every method, so that differences between
    columns are paired.

    Args:
        statistics: one entry a method, all over the same N pairs.
        groups: (N,) photograph of each pair.
    """
    rng = np.random.default_rng(seed)
    names, inverse = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(inverse == g) for g in range(len(names))]
    found: dict[str, list] = {m: [] for m in METRICS}
    for _ in range(resamples):
        index = np.concatenate([members[g] for g in rng.integers(0, len(names), len(names))])
        scores = [PROTOCOLS[protocol](s.take(index)) for s in statistics]
        for metric, rows in found.items():
            rows.append([math.nan if v[metric] is None else v[metric] for v in scores])
    return {m: np.array(rows) for m, rows in found.items()}


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap samples (first axis) at a level."""
    tail = 50 * (1 - level)
    low, high = np.percentile(samples, (tail, 100 - tail), axis=0)
    return low, high
