"""Map the DSLR's photograph to the phone's by a homography between two lenses, and fit this map to matches."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dped_lib.alignment import geometry

# Pixels in these constants are pixels of the images that are compared.
_KEYPOINT_SIGMA = 1.0  # standard error (px) of a keypoint match
_BLOCK_SIGMA = 0.2  # standard error (px) of a block
_DISTORTION_SIGMA = 0.02  # expected distortion at the corner, relative to the radius
_MIN_LENS_BLOCKS = 40  # fewer blocks cannot determine the lenses
_MAX_FIT_KEYPOINTS = 150  # more keypoint matches cost time and gain nothing: one block weighs as much as 25 of them
_INLIER_PX = 1.0  # matches within this distance of a map lie on its plane or surface
_MIN_INLIERS = 20
# The map of one surface replaces the first map if its cost is below this fraction of the first map's cost. The best fit
# has 0.8 of the cost for the Eiffel tower, which has depth, and 0.91 to 0.98 for flat scenes.
_MAX_COST_RATIO = 0.9
_REPETITIONS = 8  # of the fit to one surface; its inliers then hardly change any more


@dataclass(frozen=True)
class PairMap:
    """Map pixels of the DSLR's photograph to pixels of the phone's, and back.

    Only the map as a whole is meaningful, since a match cannot tell which of the two lenses distorts.

    Attributes:
        homography: 3 x 3, from undistorted pixels of the DSLR to undistorted pixels of the phone.
        phone, dslr: the two lenses.
    """

    homography: np.ndarray
    phone: geometry.Lens
    dslr: geometry.Lens

    @property
    def model(self) -> str:
        """Return ``homography``, or ``homography + lens`` if a lens distorts."""
        return "homography + lens" if self.phone.k1 or self.dslr.k1 else "homography"

    def to_phone(self, xy) -> np.ndarray:
        """Map pixels of the DSLR's photograph (N x 2) to pixels of the phone's (N x 2)."""
        return self.phone.distort(geometry.apply_homography(self.homography, self.dslr.undistort(xy)))

    def to_dslr(self, xy) -> np.ndarray:
        """Map pixels of the phone's photograph (N x 2) to pixels of the DSLR's (N x 2)."""
        inverse = np.linalg.inv(self.homography)
        return self.dslr.distort(geometry.apply_homography(inverse, self.phone.undistort(xy)))

    def residual(self, pairs: np.ndarray) -> np.ndarray:
        """Return the distance between matches and the map: N, in pixels of the phone's photograph.

        ``pairs`` is N x 4: x, y in the phone's photograph, then x, y in the DSLR's.
        """
        return np.linalg.norm(self.to_phone(pairs[:, 2:]) - pairs[:, :2], axis=1)

    def grid_to_phone(self, height: int, width: int, origin, step: float) -> np.ndarray:
        """Map a ``geometry.pixel_grid`` of the DSLR's photograph to the phone's: h x w x 2 float32."""
        return geometry.interpolated_map(self.to_phone, height, width, origin, step)

    def _local_jacobian(self, xy) -> np.ndarray:
        """Return the change of the phone's pixel for one DSLR pixel to the right and one down, 2 x 2 (columns)."""
        around = np.asarray(xy, float) + [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]
        mapped = self.to_phone(around)
        return np.column_stack([mapped[1] - mapped[0], mapped[3] - mapped[2]])

    def scale_at(self, xy) -> float:
        """Return how many phone pixels one DSLR pixel spans at ``xy`` (x, y) of the DSLR's photograph."""
        return float(abs(np.linalg.det(self._local_jacobian(xy))) ** 0.5)

    def rotation_at(self, xy) -> float:
        """Return the rotation that makes the phone's photograph match the DSLR's at ``xy`` (x, y, DSLR pixels).

        The angle is in degrees, clockwise on the screen.
        """
        right = self._local_jacobian(xy)[:, 0]
        return float(-np.degrees(np.arctan2(right[1], right[0])))


def fit(guess: PairMap, matches: np.ndarray, blocks: np.ndarray, step: float, lenses: bool = True) -> PairMap:
    """Fit the map to keypoint matches and blocks by robust least squares (Cauchy's loss).

    The fit keeps the lenses' distortion if it lowers the cost by more than its three parameters are worth (Bayesian
    information criterion). Otherwise it fits a homography to the plane that most matches lie on.

    Args:
        guess: where the fit starts.
        matches, blocks: N x 4: x, y in the phone's photograph, then x, y in the DSLR's.
        step: DSLR pixels per pixel of the images that were compared. Errors are measured in the latter.
        lenses: whether distortion may be fitted.
    """
    matches = matches[:: max(1, -(-len(matches) // _MAX_FIT_KEYPOINTS))]
    pairs = np.vstack([matches, blocks])
    unit = step * guess.scale_at(pairs[:, 2:].mean(0))  # phone pixels per pixel compared
    weight = 1 / np.repeat([_KEYPOINT_SIGMA * unit, _BLOCK_SIGMA * unit], [len(matches), len(blocks)])
    plane_map, plane_cost = _least_squares(guess, pairs, weight, with_lens=False)
    if lenses and len(blocks) >= _MIN_LENS_BLOCKS:
        lens_map, lens_cost = _least_squares(guess, pairs, weight, with_lens=True)
        # The errors of matches are not known exactly, so the richer model's mean cost stands for their variance.
        variance = max(lens_cost / len(pairs), 1e-12)
        if (plane_cost - lens_cost) / variance > 3 * np.log(2 * len(pairs)):
            return lens_map
    # No lens explains the residuals, so the scene may have depth. It is better to match one plane well than all badly.
    h, inliers = _ransac_homography(pairs, step, unit)
    if inliers.sum() < _MIN_INLIERS:
        return plane_map
    # A block may show several depths at once, so here it weighs no more than a keypoint.
    equal = np.full(inliers.sum(), 1 / unit)
    return _least_squares(replace(plane_map, homography=h), pairs[inliers], equal, with_lens=False)[0]


def _ransac_homography(pairs: np.ndarray, step: float, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the homography that most matches agree on, and which matches do (bool N; none if there is none)."""
    h, mask = cv2.findHomography(
        pairs[:, 2:] / step, pairs[:, :2] / unit, cv2.USAC_MAGSAC, _INLIER_PX, maxIters=5000, confidence=0.9999
    )
    if h is None:
        return np.eye(3), np.zeros(len(pairs), bool)
    h = np.diag([unit, unit, 1.0]) @ h @ np.diag([1 / step, 1 / step, 1.0])
    return h / h[2, 2], mask.ravel().astype(bool)


def fit_surface(guess: PairMap, points: np.ndarray, step: float) -> PairMap:
    """Fit the map to the one surface that most keypoints lie on, for scenes with depth.

    Blocks fail where there is depth: they straddle edges and show several depths at once. A loss with long tails fails
    too, because the background pulls on the foreground. This fit minimises the sum of squared residuals of keypoints,
    each limited to one pixel (MSAC, Torr and Zisserman 2000). It repeats least squares on the keypoints within that pixel.

    Args:
        guess: the map that explains the blocks. It is returned if there are too few keypoints, or if no other map
            explains them clearly better: for a scene of one surface, blocks are more accurate than keypoints.
        points: keypoint matches, N x 4, as in :func:`fit`.
        step: as in :func:`fit`.
    """
    if len(points) < _MIN_INLIERS:
        return guess
    unit = step * guess.scale_at(points[:, 2:].mean(0))

    def cost(m: PairMap) -> float:
        return float((np.minimum(m.residual(points) / unit, _INLIER_PX) ** 2).sum())

    def fit_inliers(m: PairMap, with_lens: bool) -> PairMap:
        for _ in range(_REPETITIONS):
            inliers = m.residual(points) < _INLIER_PX * unit
            if inliers.sum() < _MIN_INLIERS:
                break
            m = _least_squares(m, points[inliers], np.full(inliers.sum(), 1 / unit), with_lens)[0]
        return m

    starts = [replace(guess, phone=replace(guess.phone, k1=0.0, k2=0.0), dslr=replace(guess.dslr, k1=0.0, k2=0.0))]
    h, inliers = _ransac_homography(points, step, unit)
    if inliers.any():
        starts.append(replace(starts[0], homography=h))
    plane_map = min((fit_inliers(s, with_lens=False) for s in starts), key=cost)
    lens_map = fit_inliers(plane_map, with_lens=True)
    gain = len(points) * np.log(max(cost(plane_map), 1e-9) / max(cost(lens_map), 1e-9))
    best = lens_map if gain > 3 * np.log(len(points)) else plane_map
    return best if cost(best) < _MAX_COST_RATIO * cost(guess) else guess


def _least_squares(guess: PairMap, pairs: np.ndarray, weight: np.ndarray, with_lens: bool) -> tuple[PairMap, float]:
    """Return the map that fits ``pairs`` (N x 4) best, and twice its robust cost. ``weight`` (N) is per phone pixel."""
    phone_xy, dslr_xy = pairs[:, :2], pairs[:, 2:]
    # Normalise both images by their lens's radius and centre: all nine entries of the homography are then of order one.
    normalise = [
        np.array([[1 / m.radius, 0, -m.centre[0] / m.radius], [0, 1 / m.radius, -m.centre[1] / m.radius], [0, 0, 1]])
        for m in (guess.phone, guess.dslr)
    ]
    start = normalise[0] @ guess.homography @ np.linalg.inv(normalise[1])
    start /= np.linalg.norm(start)

    def to_map(p: np.ndarray) -> PairMap:
        h = np.linalg.inv(normalise[0]) @ np.append(p[:8], start[2, 2]).reshape(3, 3) @ normalise[1]
        k = p[8:] * _DISTORTION_SIGMA if with_lens else np.zeros(3)
        return PairMap(h / h[2, 2], replace(guess.phone, k1=k[0], k2=k[1]), replace(guess.dslr, k1=k[2], k2=0.0))

    def weighted_residuals(p: np.ndarray) -> np.ndarray:
        m = to_map(p)
        # We compare undistorted pixels of the phone. That avoids inverting its lens, and it changes lengths by no more
        # than the distortion.
        predicted = geometry.apply_homography(m.homography, m.dslr.undistort(dslr_xy))
        return (m.phone.undistort(phone_xy) - predicted) * weight[:, None]

    def robust_residuals(p: np.ndarray) -> np.ndarray:
        # Cauchy's loss of the distance d, not of each axis: r^2 = log(1 + d^2). Wrong matches hardly count.
        residuals = weighted_residuals(p)
        robust = np.sqrt(np.log1p((residuals * residuals).sum(1)))
        # The prior expects no distortion. Without it, the two lenses could take large distortions that cancel out.
        return np.concatenate([robust, p[8:]])

    k = [guess.phone.k1, guess.phone.k2, guess.dslr.k1] if with_lens else []
    first = np.concatenate([start.ravel()[:8], [value / _DISTORTION_SIGMA for value in k]])
    from scipy.optimize import least_squares  # slow to import (0.25 s, 40 MB), so not before it is needed

    answer = least_squares(robust_residuals, first, x_scale="jac", ftol=1e-6, xtol=1e-9, max_nfev=30)
    return to_map(answer.x), 2 * float(answer.cost)
