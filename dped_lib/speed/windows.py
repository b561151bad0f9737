"""Compute the window sums of SSIM as products with band matrices.

Statistics of clipped images are computed only for pairs that clipping changes.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from dped_lib import metrics


@lru_cache(maxsize=64)
def _band(size: int, outputs: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Column i holds the window, which begins in row i.
    with torch.inference_mode(False):  # other code may use a matrix that was first needed in inference mode
        matrix = torch.zeros(outputs + size - 1, outputs, dtype=dtype, device=device)
        taps = metrics.window(size, matrix)
        for i in range(outputs):
            matrix[i : i + size, i] = taps
        return matrix


def _smooth(z: Tensor) -> Tensor:
    """Return the weighted mean at each place of the window inside the image. Rows are the first axis, columns the last.

    The window is separable, so we multiply by two band matrices. We multiply in blocks, which skips most of their
    zeros.
    """
    size, step = min(metrics.WINDOW, z.shape[0], z.shape[-1]), 18
    height, width = z.shape[0] - size + 1, z.shape[-1] - size + 1

    def band(outputs: int) -> Tensor:
        return _band(size, outputs, z.dtype, z.device)

    rows = z.reshape(-1, z.shape[-1])
    across = z.new_empty(len(rows), width)
    for x in range(0, width, step):
        n = min(step, width - x)
        torch.mm(rows[:, x : x + n + size - 1], band(n), out=across[:, x : x + n])
    columns = across.view(z.shape[0], -1)
    smooth = z.new_empty(height, columns.shape[1])
    for y in range(0, height, step):
        n = min(step, height - y)
        torch.mm(band(n).T, columns[y : y + n + size - 1], out=smooth[y : y + n])
    return smooth.view(height, *z.shape[1:-1], width)


def _planes(x: Tensor, y: Tensor) -> Tensor:
    """Return (rows, 4, images x channels, columns): x, y, and room for two products of them.

    In this layout both products of :func:`_smooth` are large.
    """
    n, c, h, w = x.shape
    planes = x.new_empty(h, 4, n * c, w)
    for k, z in enumerate((x, y)):
        planes[:, k].view(h, n, c, w).copy_(z.permute(2, 0, 1, 3))
    return planes


def _terms(planes: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Return ``metrics.ssim_terms`` of the planes of ``images`` images.

    The taps of the window add up to 1, so we may add the constants before it. P and S are the smoothed values of 2xy +
    C1 + C2 and x^2 + y^2 + C1 + C2. With L = 2 mx my + C1 and B = mx^2 + my^2 + C1, the contrast-structure factor is (P
    - L) / (S - B), and SSIM is that times L / B. We compute S as P plus the smoothed (x - y)^2, and B likewise. Both
    terms of identical images are then exactly 1.
    """
    x, y = planes[:, 0], planes[:, 1]
    c1, both = planes.new_tensor(metrics.C1), planes.new_tensor(metrics.C1 + metrics.C2)
    torch.addcmul(both, x, y, value=2, out=planes[:, 2])
    difference = x - y
    torch.addcmul(planes[:, 2], difference, difference, out=planes[:, 3])
    mx, my, product, squares = _smooth(planes).unbind(1)
    means = torch.addcmul(c1, mx, my, value=2)
    difference = mx.sub_(my)
    powers = torch.addcmul(means, difference, difference)
    cs = product.sub_(means).div_(squares.sub_(powers))
    ssim = means.div_(powers).mul_(cs)
    ssim, cs = (z.mean((0, 2)).view(images, -1).mean(1) for z in (ssim, cs))
    return ssim, cs


def _halved(planes: Tensor) -> Tensor:
    """Return the planes of ``metrics.half_size`` of x and y, with room for their products."""
    h, _, n, w = planes.shape
    rows = planes.new_empty(h - h // 2, 2, n, w)
    torch.add(planes[: h - h % 2 : 2, :2], planes[1::2, :2], out=rows[: h // 2])
    if h % 2:
        torch.mul(planes[-1, :2], 2, out=rows[-1])
    smaller = planes.new_empty(len(rows), 4, n, w - w // 2)
    images = smaller[:, :2]
    torch.add(rows[..., : w - w % 2 : 2], rows[..., 1::2], out=images[..., : w // 2])
    if w % 2:
        torch.mul(rows[..., -1], 2, out=images[..., -1])
    images.mul_(0.25)
    return smaller


def scale_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``metrics.scale_terms(x, y)``."""
    terms, planes = [], _planes(x, y)
    for scale in range(len(metrics.SCALE_WEIGHTS)):
        planes = _halved(planes) if scale else planes
        terms.append(_terms(planes, len(x)))
    ssim, cs = zip(*terms, strict=True)
    return torch.stack(ssim, 1), torch.stack(cs, 1)


def batch_statistics(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return ``metrics.batch_statistics(x, y)``."""
    mse = (x - y).square_().mean((1, 2, 3))
    ssim, cs = scale_terms(x, y)
    mse_c, finest_c, ssim_c, cs_c = mse.clone(), ssim[:, 0].clone(), ssim.clone(), cs.clone()
    # Clipping leaves most pairs as they are. We compute again only those that it changes.
    flat = [z.flatten(1) for z in (x, y)]
    # PyTorch vectorises amin and amax, but not aminmax, which takes four times as long.
    changed = torch.stack([(z.amin(1) < 0) | (z.amax(1) > 1) for z in flat]).any(0)
    if changed.any():
        xc, yc = x[changed].clamp_(0, 1), y[changed].clamp_(0, 1)
        mse_c[changed] = (xc - yc).square_().mean((1, 2, 3))
        if metrics.has_five_scales(x):
            ssim_c[changed], cs_c[changed] = scale_terms(xc, yc)
            finest_c[changed] = ssim_c[changed, 0]
        else:
            finest_c[changed] = _terms(_planes(xc, yc), len(xc))[0]
    if not metrics.has_five_scales(x):
        ssim_c[:] = cs_c[:] = math.nan
    return mse, mse_c, finest_c, ssim, cs, ssim_c, cs_c
