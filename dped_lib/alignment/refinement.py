"""Refine the first homography to a fraction of a pixel, with the lenses' distortion. The paper has no such step.

Small blocks of both photographs are compared in images of up to 2 megapixels, and the map is fitted to the places where
they agree. In a scene with depth it is fitted to keypoints of one surface. They are detected anew in the overlaid
photographs. The settings were chosen on the simulated rig and on City100 (benchmarks/README.md).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from dped_lib.alignment import geometry, keypoints, pair_map
from dped_lib.alignment.pair_map import PairMap

# Each repetition: pixels of the images that are compared, and how far blocks may have moved (px).
_REPETITIONS = ((0.6e6, 9), (2.0e6, 6), (2.0e6, 3))
_BLOCKS = 300
_MIN_BLOCK_NCC = 0.55
_OUTLIER_PX = 1.0  # blocks with a larger residual do not agree with the map
_MAX_OUTLIERS = 0.05  # a scene with more has depth; on the rig and City100, single surfaces have at most 0.02
_AGREEMENT_PX = 3.0  # the result reports the blocks with a smaller residual
_KEYPOINT_REACH = 12  # pixels between keypoints of the overlay that may match


@dataclass(frozen=True)
class _Overlay:
    """Hold both photographs in gray on one grid. A map has put the phone's in its place.

    Attributes:
        phone, dslr: uint8 H x W.
        valid: bool H x W, true where both photographs show something.
        origin, step: (x, y) of the first pixel in the DSLR's photograph, and DSLR pixels per pixel.
    """

    phone: np.ndarray
    dslr: np.ndarray
    valid: np.ndarray
    origin: np.ndarray
    step: float

    def to_photographs(self, guess: PairMap, phone_xy: np.ndarray, dslr_xy: np.ndarray) -> np.ndarray:
        """Map points of the overlay (N x 2 each) to pixels of the phone's and of the DSLR's photograph (N x 4)."""
        return np.hstack([guess.to_phone(phone_xy * self.step + self.origin), dslr_xy * self.step + self.origin])


def refine(guess: PairMap, inliers: np.ndarray, phone: np.ndarray, dslr: np.ndarray) -> tuple[PairMap, np.ndarray]:
    """Refine the map between two gray photographs.

    Args:
        guess: the map of the first homography.
        inliers: keypoint matches that agree on that homography, N x 4 (x, y of the phone, x, y of the DSLR).
        phone, dslr: the photographs, uint8 H x W.

    Returns:
        The refined map, and the blocks that agree with it (N x 4, as ``inliers``).
    """
    box = _shared_box(guess, phone.shape, dslr.shape)
    blocks, step = np.zeros((0, 4)), 1.0
    for repetition, (pixels, reach) in enumerate(_REPETITIONS):
        overlay = _lay_over(guess, box, pixels, phone, dslr)
        if overlay is None:
            break
        step = overlay.step
        bands = (keypoints.band_pass(image) for image in (overlay.phone, overlay.dslr))
        matched, ncc = keypoints.match_blocks(*bands, overlay.valid, reach, _BLOCKS)
        matched = matched[ncc > _MIN_BLOCK_NCC]
        # A block shows the same thing at its place in the DSLR's image and at its displaced place in the phone's.
        blocks = overlay.to_photographs(guess, matched[:, :2] + matched[:, 2:], matched[:, :2])
        # The first repetition only brings the blocks near enough to fit the lenses.
        guess = pair_map.fit(guess, inliers, blocks, step, lenses=repetition > 0)
    unit = step * guess.scale_at(box.mean(0))
    # If the map does not explain the blocks, the scene may have depth.
    outliers = guess.residual(blocks) > _OUTLIER_PX * unit
    if outliers.sum() > _MAX_OUTLIERS * len(outliers):
        overlay = _lay_over(guess, box, pixels, phone, dslr)
        if overlay is not None:
            guess = pair_map.fit_surface(guess, _match_overlay(guess, overlay), step)
    return guess, blocks[guess.residual(blocks) < _AGREEMENT_PX * unit]


def _shared_box(guess: PairMap, phone: tuple[int, ...], dslr: tuple[int, ...]) -> np.ndarray:
    """Return the bounding box of what both photographs show, in DSLR pixels: 2 x 2 (least x, y; greatest x, y)."""
    phone_outline = guess.to_dslr(geometry.outline(*phone))
    last = (dslr[1] - 1, dslr[0] - 1)
    return np.array([np.clip(np.floor(phone_outline.min(0)), 0, last), np.clip(np.ceil(phone_outline.max(0)), 0, last)])


def _lay_over(guess: PairMap, box: np.ndarray, pixels: float, phone: np.ndarray, dslr: np.ndarray) -> _Overlay | None:
    """Resample both photographs to about ``pixels`` pixels of ``box``; return None if that leaves a line or less."""
    extent = np.ptp(box, axis=0)
    scale = guess.scale_at(box.mean(0))
    step = max(1.0, 1 / scale, (np.prod(extent) / pixels) ** 0.5)
    width, height = (extent / step).astype(int) + 1
    if min(width, height) < 2:
        return None
    dslr_xy = geometry.pixel_grid(height, width, box[0], step)
    phone_xy = guess.grid_to_phone(height, width, box[0], step)
    sample_dslr = geometry.Resampler(dslr, step)
    sample_phone = geometry.Resampler(phone, step * scale)
    valid = sample_phone.inside(phone_xy) & sample_dslr.inside(dslr_xy)
    return _Overlay(sample_phone(phone_xy), sample_dslr(dslr_xy), valid, box[0], step)


def _match_overlay(guess: PairMap, overlay: _Overlay) -> np.ndarray:
    """Match keypoints of an overlay that lie near each other: N x 4, pixels of the phone's and DSLR's photographs."""
    phone, dslr = (keypoints.detect(image, np.inf) for image in (overlay.phone, overlay.dslr))
    pairs = keypoints.match(phone.descriptors, dslr.descriptors)
    ends = phone.xy[pairs[:, 0]], dslr.xy[pairs[:, 1]]
    interior = cv2.erode(overlay.valid.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0).astype(bool)
    good = np.linalg.norm(ends[0] - ends[1], axis=1) < _KEYPOINT_REACH
    for xy in ends:
        column, row = np.clip(xy.round().astype(int), 0, np.array(interior.shape[::-1]) - 1).T
        good &= interior[row, column]
    return overlay.to_photographs(guess, ends[0][good], ends[1][good])
