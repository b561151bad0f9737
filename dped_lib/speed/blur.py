"""Compute the blur of the colour loss (equation 3) faster: two products with band matrices, or OpenCV's filter.

The products have a gradient. On two cores they take a fraction of the time of convolutions, forward and backward
(benchmarks/README.md). The filter serves scores on a CPU.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from dped_lib import losses


def blur_matrix(kernel: str, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix (size x size) that convolves a vector with the taps of a kernel, with zero padding.

    ``speed.training`` declares the result a constant, because a compiler need not trace how the taps are computed.
    """
    return _cached_matrix(kernel, size, device, dtype)


@lru_cache(maxsize=32)
def _cached_matrix(kernel: str, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Row i holds the taps centred on column i. Taps outside the matrix would multiply the zero padding.
    taps, radius = losses.kernel_1d(kernel), losses.KERNEL_RADIUS
    offsets = range(-min(radius, size - 1), min(radius, size - 1) + 1)
    matrix = sum(np.diag(np.full(size - abs(o), taps[radius + o]), o) for o in offsets)
    with torch.inference_mode(False):  # training may use a matrix that was first needed in inference mode
        return torch.tensor(matrix, device=device, dtype=dtype)


def blur(image: Tensor, kernel: str = "code") -> Tensor:
    """Return ``losses.blur(image, kernel)`` of N x C x H x W."""
    rows = blur_matrix(kernel, image.shape[-2], image.device, image.dtype)
    columns = blur_matrix(kernel, image.shape[-1], image.device, image.dtype)
    # Autocast would compute the products in bfloat16, with 8 bits.
    with torch.autocast(image.device.type, enabled=False):
        # A matrix on the right is one large product; on the left it would be N x C small ones.
        return ((image @ columns.T).transpose(-1, -2) @ rows.T).transpose(-1, -2)


def color_distance(enhanced: Tensor, target: Tensor, kernel: str = "code") -> Tensor:
    """Return ``losses.color_distance`` of image pairs. The blur is linear, so we blur the difference once."""
    return blur(enhanced - target, kernel).square().flatten(1).sum(1)


def filtered_distance(enhanced: Tensor, target: Tensor, kernel: str = "code") -> Tensor:
    """Return ``losses.color_distance`` of images on the CPU by OpenCV's separable filter, without a gradient."""
    taps = losses.kernel_1d(kernel)
    differences = (enhanced - target).permute(0, 2, 3, 1).numpy()
    blurred = (cv2.sepFilter2D(d, -1, taps, taps, borderType=cv2.BORDER_CONSTANT) for d in differences)
    return torch.tensor([cv2.norm(b, cv2.NORM_L2SQR) for b in blurred], dtype=enhanced.dtype)
