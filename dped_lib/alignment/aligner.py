"""Align two photographs of a scene: the matching algorithm of section 2 and Figure 4.

The code follows the paper's order. It detects SIFT keypoints, matches them, and estimates a homography by RANSAC. It
crops both photographs to their intersection, then to the largest rectangle of the requested aspect ratio, and
resamples them once. The aligned images keep the axes of the DSLR's photograph. Between RANSAC and the crop the map is refined
(:mod:`dped_lib.alignment.refinement`). Every attempt ends with a verdict: a pair that cannot be aligned is a result,
not an error.

Source: paper, section 2, "Matching algorithm". Its code was never released. The authors' answer in issue 7 of
aiff22/DPED names SIFT and windows, but no settings. The settings here were chosen on the simulated rig and on City100
(benchmarks/README.md).
"""

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.alignment import geometry, keypoints, refinement
from dped_lib.alignment.pair_map import PairMap
from dped_lib.base.errors import DpedError

_MIN_KEYPOINTS = 50
_MIN_MATCHES = 8
_RANSAC_PX = 1.5  # largest distance of an inlier, in pixels of the image that keypoints were detected in
_MIN_OVERLAP = 0.1
# Unrelated images correlate by about 0. Depth and motion lower the NCC of good pairs. Patches are judged later.
_MIN_NCC = 0.25
_NCC_BLOCK = 50  # side (px) of the blocks whose median NCC is reported
_MIN_BLOCK_STD = 4  # gray levels; the NCC of flatter blocks is mostly noise


@dataclass(frozen=True)
class Report:
    """Report the alignment of one pair of photographs.

    If the alignment stopped early, a number that was not computed is None, or 0 for ``keypoints``, ``matches`` and
    ``inliers``.

    Attributes:
        verdict: ``aligned``, or why not: ``too few keypoints``, ``different scene``, ``degenerate homography``, ``folded
            homography``, ``too little overlap`` or ``too little contrast``.
        reason: the verdict as a sentence with its numbers.
        keypoints: numbers of SIFT keypoints in the phone's and in the DSLR's photograph.
        matches: number of keypoint pairs that pass the ratio test and are each other's nearest.
        inliers: number of matches that agree on one homography.
        blocks: number of blocks that agree with the refined map.
        reprojection_px: median distance between these blocks and the map, in pixels of the aligned images.
        overlap: shared area, as a fraction of the photograph with the smaller field of view.
        rotation: degrees, clockwise, by which the phone's photograph was rotated to match the DSLR's.
        ncc: median normalised cross-correlation (gray) of the aligned images' 50 x 50 blocks that are not flat.
        model: ``homography``, or ``homography + lens`` if the lenses' distortion was fitted.
        size: height and width of the aligned images.
    """

    verdict: str = ""
    reason: str = ""
    keypoints: tuple[int, int] = (0, 0)
    matches: int = 0
    inliers: int = 0
    blocks: int | None = None
    reprojection_px: float | None = None
    overlap: float | None = None
    rotation: float | None = None
    ncc: float | None = None
    model: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Alignment:
    """Hold the result for one pair. Images and map are None unless the verdict is ``aligned``.

    Attributes:
        report: the numbers and the verdict.
        phone, dslr: aligned images, uint8 H x W x 3, RGB.
        map: from the DSLR's photograph to the phone's.
        origin: (x, y) of the first aligned pixel in the DSLR's photograph.
        step: DSLR pixels per aligned pixel.
        matches: keypoint matches, N x 4: x, y in the phone's photograph, then x, y in the DSLR's.
        inliers: bool N, true for the matches that agree on the first homography.
        resampler: reads the phone's photograph.
    """

    report: Report
    phone: np.ndarray | None = None
    dslr: np.ndarray | None = None
    map: PairMap | None = None
    origin: tuple[float, float] = (0.0, 0.0)
    step: float = 1.0
    matches: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    inliers: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    resampler: geometry.Resampler | None = None

    def to_dslr(self, xy) -> np.ndarray:
        """Map pixels of the aligned images (N x 2) to pixels of the DSLR's photograph (N x 2)."""
        return geometry.as_points(xy) * self.step + self.origin

    def to_phone(self, xy) -> np.ndarray:
        """Map pixels of the aligned images (N x 2) to pixels of the phone's photograph (N x 2)."""
        return self.map.to_phone(self.to_dslr(xy))

    def sample_phone(self, xy: np.ndarray) -> np.ndarray:
        """Return the phone's photograph at ``xy`` (h x w x 2, pixels of the aligned image): uint8 h x w x 3.

        It is interpolated only once. Positions may lie beyond the aligned image, where the photograph usually goes on
        for a few pixels; see ``inside``.
        """
        return self.resampler(self._phone_grid(xy))

    def inside(self, xy: np.ndarray) -> np.ndarray:
        """Return whether ``xy`` (h x w x 2, aligned pixels) lies inside the phone's photograph: bool h x w."""
        return self.resampler.inside(self._phone_grid(xy))

    def _phone_grid(self, xy: np.ndarray) -> np.ndarray:
        return self.to_phone(np.reshape(xy, (-1, 2))).reshape(np.shape(xy))


def align(phone: np.ndarray, dslr: np.ndarray, size: tuple[int, int] = paper.ALIGNED_SIZE) -> Alignment:
    """Align two photographs of a scene (section 2, Figure 4).

    Args:
        phone, dslr: uint8 H x W x 3, RGB, of any size. One may be rotated against the other, but not mirrored.
        size: height x width of the aligned images. They are upright if the DSLR's photograph is. If
            the shared part of a photograph has fewer pixels, the images are smaller and keep the aspect. So neither
            photograph is enlarged, except by some thousandths where a lens bends the border.

    Raises:
        DpedError: a photograph is not uint8 RGB. A pair that cannot be aligned raises nothing: see ``Report.verdict``.
    """
    for image in (phone, dslr):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DpedError(f"photographs must be uint8 H x W x 3, not {image.dtype} {image.shape}.")
    aligner = _Aligner(phone, dslr, size)
    try:
        return aligner.run()
    except _Rejected as rejected:
        report = replace(aligner.report, verdict=rejected.verdict, reason=rejected.reason)
        return Alignment(report, matches=aligner.matches, inliers=aligner.inliers)


class _Rejected(Exception):
    def __init__(self, verdict: str, reason: str):
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


@dataclass(frozen=True)
class _Crop:
    """Hold where the aligned images lie.

    Attributes:
        size: their height and width.
        origin: (x, y) of their first pixel in the DSLR's photograph.
        step: DSLR pixels per aligned pixel.
        scale: phone pixels per DSLR pixel, at the centre.
    """

    size: tuple[int, int]
    origin: np.ndarray
    step: float
    scale: float


class _Aligner:
    """Align one pair, step by step. Its report and matches stay readable after a rejection."""

    def __init__(self, phone: np.ndarray, dslr: np.ndarray, size: tuple[int, int]):
        self.phone, self.dslr = phone, dslr
        upright = dslr.shape[0] > dslr.shape[1]
        self.size = (max(size), min(size)) if upright else (min(size), max(size))
        self.report = Report()
        self.matches, self.inliers = np.zeros((0, 4)), np.zeros(0, bool)

    def run(self) -> Alignment:
        gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (self.phone, self.dslr)]
        detected = [keypoints.detect(g) for g in gray]
        self._match_keypoints(*detected)
        homography = self._estimate_homography(*(d.scale for d in detected))
        first = PairMap(homography, *(geometry.centred_lens(*g.shape) for g in gray))
        refined, blocks = refinement.refine(first, self.matches[self.inliers], *gray)
        return self._resample(refined, blocks, self._crop_to_intersection(refined))

    def _note(self, **numbers) -> None:
        self.report = replace(self.report, **numbers)

    def _match_keypoints(self, phone: keypoints.Keypoints, dslr: keypoints.Keypoints) -> None:
        """Match the SIFT keypoints of both photographs."""
        counts = len(phone.xy), len(dslr.xy)
        self._note(keypoints=counts)
        if min(counts) < _MIN_KEYPOINTS:
            raise _Rejected("too few keypoints", f"{counts[0]} and {counts[1]} keypoints: too little detail to match.")
        pairs = keypoints.match(phone.descriptors, dslr.descriptors)
        self.matches = np.hstack([phone.xy[pairs[:, 0]], dslr.xy[pairs[:, 1]]])
        self.inliers = np.zeros(len(pairs), bool)
        self._note(matches=len(pairs))
        if len(pairs) < _MIN_MATCHES:
            raise _Rejected("different scene", f"{self._matched()}: too few for one scene.")

    def _matched(self) -> str:
        return f"{self.report.matches} of {self.report.keypoints[0]} and {self.report.keypoints[1]} keypoints match"

    def _estimate_homography(self, phone_scale: float, dslr_scale: float) -> np.ndarray:
        """Estimate the homography from the DSLR's photograph to the phone's by RANSAC: 3 x 3.

        This form of RANSAC is MAGSAC++ (Barath et al. 2020), which needs no exact threshold.

        The scales are those of the images in which keypoints were detected. RANSAC works in pixels of
        these images, because a pixel covers about the same part of the scene in both. It uses the same
        random numbers at each call.
        """
        h, mask = cv2.findHomography(
            self.matches[:, 2:] * dslr_scale,
            self.matches[:, :2] * phone_scale,
            cv2.USAC_MAGSAC,
            _RANSAC_PX,
            maxIters=10_000,
            confidence=0.9999,
        )
        count = 0 if h is None else int(mask.sum())
        self._note(inliers=count)
        # The more random matches there are, the more agree by chance. This is the test of
        # Brown and Lowe 2007, section 3.2. They take 0.3 where we take 0.1.
        needed = 8 + 0.1 * self.report.matches
        if count < needed:
            reason = f"{self._matched()}, but {count} agree on one homography ({needed:.0f} needed)."
            raise _Rejected("different scene", reason)
        self.inliers = mask.ravel().astype(bool)
        h = np.diag([1 / phone_scale, 1 / phone_scale, 1]) @ h @ np.diag([dslr_scale, dslr_scale, 1])
        self._check_homography(h)
        return h / h[2, 2]

    def _check_homography(self, h: np.ndarray) -> None:
        """Reject a homography that two cameras in front of one scene cannot have."""
        corners = geometry.corners(*self.dslr.shape[:2])
        inliers = self.matches[self.inliers, 2:]
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(inliers.T)))
        if spread[0] < 0.02 * spread[1] or spread[1] < 0.02 * np.linalg.norm(corners[2]):
            raise _Rejected("degenerate homography", "the matches that agree lie on one spot or line.")
        tested = np.vstack([inliers, inliers.mean(0)])
        depth = np.column_stack([tested, np.ones(len(tested))]) @ h[2]
        determinant = np.array([np.linalg.det(_jacobian(h, p)) for p in tested[:: max(1, len(tested) // 50)]])
        if depth.min() * depth.max() <= 0 or determinant.min() <= 0:
            raise _Rejected("folded homography", "the map mirrors or folds the picture.")
        squeezed = np.linalg.cond(_jacobian(h, inliers.mean(0))) > 8
        if squeezed or not 1e-4 < determinant.min() <= determinant.max() < 1e4:
            raise _Rejected("degenerate homography", "the map squeezes the picture to a sliver.")

    def _crop_to_intersection(self, refined: PairMap) -> _Crop:
        """Return the largest rectangle of the requested aspect ratio that lies in both photographs."""
        dslr_frame = geometry.corners(*self.dslr.shape[:2])
        phone_frame = geometry.clockwise(refined.to_dslr(geometry.corners(*self.phone.shape[:2])))
        overlap = geometry.overlap(dslr_frame, phone_frame)
        rotation = refined.rotation_at(dslr_frame.mean(0))
        self._note(overlap=round(overlap, 4), rotation=round(rotation, 2), model=refined.model)
        if overlap < _MIN_OVERLAP:
            # Rounded down, so that a share just below the threshold is not printed as the threshold.
            shared = math.floor(1000 * overlap) / 10
            raise _Rejected("too little overlap", f"the photographs share {shared:g}% ({_MIN_OVERLAP:.0%} needed).")
        aspect = self.size[1] / self.size[0]
        rectangle = geometry.largest_rectangle([dslr_frame, phone_frame], aspect)
        if rectangle is None:
            raise _Rejected("too little overlap", "the shared part holds no upright rectangle.")
        x, y, half = rectangle
        # We enlarge neither photograph: an aligned pixel covers at least one pixel of each, until the next loop shrinks it.
        scale = refined.scale_at((x, y))
        height = min(self.size[0], int(2 * half), int(2 * half * scale))
        size = (height, round(height * aspect))
        if min(size) < paper.PATCH_SIZE:
            reason = f"the shared part has {size[0]} x {size[1]} pixels, less than a patch."
            raise _Rejected("too little overlap", reason)
        step = 2 * half / height
        # A lens bends the border, so the outermost pixels may lie outside the phone's photograph: shrink until none is.
        last = np.array(self.phone.shape[1::-1]) - 1
        for _ in range(100):
            origin = np.array([x - (size[1] - 1) / 2 * step, y - (size[0] - 1) / 2 * step])
            border = refined.to_phone(geometry.outline(*size) * step + origin)
            if np.maximum(-border, border - last).max() <= 0.5:
                break
            step *= 0.995
        else:
            raise _Rejected("too little overlap", "no rectangle lies inside both photographs.")
        return _Crop(size, origin, step, scale)

    def _resample(self, refined: PairMap, blocks: np.ndarray, crop: _Crop) -> Alignment:
        """Resample both photographs to the aligned images, and check that these correlate."""
        dslr = geometry.Resampler(self.dslr, crop.step)(geometry.pixel_grid(*crop.size, crop.origin, crop.step))
        resampler = geometry.Resampler(self.phone, crop.step * crop.scale)
        phone = resampler(refined.grid_to_phone(*crop.size, crop.origin, crop.step))
        ncc = _median_ncc(phone, dslr)
        residuals = refined.residual(blocks) / (crop.scale * crop.step)
        self._note(
            size=crop.size,
            ncc=None if ncc is None else round(ncc, 4),
            blocks=len(blocks),
            reprojection_px=round(float(np.median(residuals)), 4) if len(residuals) else None,
        )
        if ncc is None:
            block = f"{_NCC_BLOCK} x {_NCC_BLOCK} block"
            reason = f"the photographs match, but no {block} varies by more than {_MIN_BLOCK_STD} gray levels."
            raise _Rejected("too little contrast", reason)
        if ncc < _MIN_NCC:
            raise _Rejected("different scene", f"aligned, the images correlate by {ncc:.2f} only ({_MIN_NCC} needed).")
        self._note(verdict="aligned", reason=f"{self.report.inliers} keypoints and {len(blocks)} blocks agree.")
        return Alignment(
            report=self.report,
            phone=phone,
            dslr=dslr,
            map=refined,
            origin=tuple(crop.origin),
            step=crop.step,
            matches=self.matches,
            inliers=self.inliers,
            resampler=resampler,
        )


def _jacobian(h: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return the Jacobian (2 x 2) of a homography at one point."""
    x, y, w = h @ (*xy, 1.0)
    return (h[:2, :2] - np.outer((x / w, y / w), h[2, :2])) / w


def _median_ncc(phone: np.ndarray, dslr: np.ndarray) -> float | None:
    """Return the median NCC of the aligned images' gray blocks that are not flat; None if all are flat."""
    scores = []
    gray = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (phone, dslr)]
    for y in range(0, dslr.shape[0] - _NCC_BLOCK + 1, _NCC_BLOCK):
        for x in range(0, dslr.shape[1] - _NCC_BLOCK + 1, _NCC_BLOCK):
            a, b = (g[y : y + _NCC_BLOCK, x : x + _NCC_BLOCK] for g in gray)
            if b.std() > _MIN_BLOCK_STD:
                scores.append(float(cv2.matchTemplate(a, b, cv2.TM_CCOEFF_NORMED)[0, 0]))
    return float(np.median(scores)) if scores else None
