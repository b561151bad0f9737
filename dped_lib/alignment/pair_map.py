"""The map from the DSLR's photograph to the phone's: a homography between two radial lenses, and its fit to matches."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dped_lib.alignment import geometry

_KEYPOINT_PX = 1.0  # standard errors of a match, in pixels of the images compared
_BLOCK_PX = 0.2
_LENS = 0.02  # what distortion a lens is expected to have at the corner, as a share of the radius
_FEW = 40  # fewer blocks say nothing about lenses
_PLANE_PX = 1.0  # matches within so many pixels compared lie on one plane, or surface
_FEW_POINTS = 20
_CONTRADICTED = 0.9  # of the cost: the best fit leaves 0.8 before the Eiffel tower, 0.91 to 0.98 before flat scenes
_SETTLE = 8  # rounds until the keypoints on one surface stay the same
_MOST = 150  # more keypoint matches than this add time, not accuracy: a block is worth twenty-five


@dataclass(frozen=True)
class PairMap:
    """Pixels of the DSLR's photograph <-> pixels of the phone's.

    ``homography`` (3 x 3) takes undistorted pixels of the DSLR to undistorted pixels of the phone; ``phone`` and
    ``dslr`` are the lenses. The distortions of the two cannot be told apart fully: only the map as a whole is meant.
    """

    homography: np.ndarray
    phone: geometry.Lens
    dslr: geometry.Lens

    @property
    def model(self) -> str:
        return "homography + lens" if self.phone.k1 or self.dslr.k1 else "homography"

    def to_phone(self, xy) -> np.ndarray:
        """Pixels of the DSLR's photograph (N x 2) -> pixels of the phone's (N x 2)."""
        return self.phone.distort(geometry.apply(self.homography, self.dslr.undistort(xy)))

    def to_dslr(self, xy) -> np.ndarray:
        """The inverse of ``to_phone``."""
        return self.dslr.distort(geometry.apply(np.linalg.inv(self.homography), self.phone.undistort(xy)))

    def off(self, pairs: np.ndarray) -> np.ndarray:
        """Distance (N, pixels of the phone's photograph) of matches (N x 4: phone, DSLR) from where the map puts them."""
        return np.linalg.norm(self.to_phone(pairs[:, 2:]) - pairs[:, :2], axis=1)

    def dense(self, height: int, width: int, origin, step: float) -> np.ndarray:
        """``to_phone`` of every pixel of a grid (h x w x 2 float32), see ``geometry.pixel_grid``."""
        return geometry.smooth_map(self.to_phone, height, width, origin, step)

    def _frame_at(self, xy) -> np.ndarray:
        around = np.asarray(xy, float) + [[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]
        there = self.to_phone(around)
        return np.column_stack([there[1] - there[0], there[3] - there[2]])

    def scale_at(self, xy) -> float:
        """Pixels of the phone for one of the DSLR, at one point of the DSLR's photograph."""
        return float(abs(np.linalg.det(self._frame_at(xy))) ** 0.5)

    def turn_at(self, xy) -> float:
        """Degrees, clockwise on the screen, by which the phone's photograph must be turned to match the DSLR's."""
        along = self._frame_at(xy)[:, 0]
        return float(-np.degrees(np.arctan2(along[1], along[0])))


def fit(guess: PairMap, matched: np.ndarray, blocks: np.ndarray, step: float, lenses: bool = True) -> PairMap:
    """The map that fits keypoint matches and blocks best, in the robust sense of soft L1.

    Args:
        matched, blocks: N x 4 (x, y in the phone's photograph, x, y in the DSLR's).
        step: pixels of the DSLR per pixel of the images that were compared: errors are measured in those.
        lenses: whether distortion may be fitted.

    The lenses' distortion is kept if it pays for its three parameters (Bayesian information criterion).
    Where it does not, the homography is that of the plane that most matches lie on.
    """
    matched = matched[:: max(1, -(-len(matched) // _MOST))]
    pairs = np.vstack([matched, blocks])
    unit = step * guess.scale_at(pairs[:, 2:].mean(0))  # phone pixels per pixel compared
    weight = 1 / np.repeat([_KEYPOINT_PX * unit, _BLOCK_PX * unit], [len(matched), len(blocks)])
    plain, cost = _solve(guess, pairs, weight, with_lens=False)
    if lenses and len(blocks) >= _FEW:
        bent, less = _solve(guess, pairs, weight, with_lens=True)
        # Twice the robust cost stands for the chi-square, in units of the richer model's: errors are not known exactly.
        noise = max(less / len(pairs), 1e-12)
        if (cost - less) / noise > 3 * np.log(2 * len(pairs)):
            return bent
    # No lens explains what is left, so the scene may have depth: then one plane is matched well, not all of them badly.
    h, chosen = _plane(pairs, step, unit)
    if chosen.sum() < _FEW_POINTS:
        return plain
    # A block may show several depths at once, so it counts no more than a keypoint here.
    alike = np.full(chosen.sum(), 1 / unit)
    return _solve(replace(plain, homography=h), pairs[chosen], alike, with_lens=False)[0]


def _plane(pairs: np.ndarray, step: float, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """The homography that most matches agree on, and which do (none: there is no such homography)."""
    h, mask = cv2.findHomography(
        pairs[:, 2:] / step, pairs[:, :2] / unit, cv2.USAC_MAGSAC, _PLANE_PX, maxIters=5000, confidence=0.9999
    )
    if h is None:
        return np.eye(3), np.zeros(len(pairs), bool)
    h = np.diag([unit, unit, 1.0]) @ h @ np.diag([1 / step, 1 / step, 1.0])
    return h / h[2, 2], mask.ravel().astype(bool)


def fit_points(guess: PairMap, points: np.ndarray, step: float) -> PairMap:
    """The map of the one surface that most keypoints lie on, for scenes that blocks, and ``guess``, explain badly.

    Arguments as of :func:`fit`.

    Where there is depth, blocks straddle edges and show several depths at once, and in a loss with long tails what
    lies behind pulls on what lies in front. So the squares of keypoints' distances are summed, each up to one pixel
    (MSAC: Torr and Zisserman 2000), and those within that pixel are fitted anew until they stay the same.

    ``guess`` stays where there are too few keypoints, and unless they contradict it: before one surface they and the
    blocks agree, and blocks are more exact.
    """
    if len(points) < _FEW_POINTS:
        return guess
    unit = step * guess.scale_at(points[:, 2:].mean(0))

    def cost(m: PairMap) -> float:
        return float((np.minimum(m.off(points) / unit, _PLANE_PX) ** 2).sum())

    def settled(m: PairMap, with_lens: bool) -> PairMap:
        for _ in range(_SETTLE):
            near = m.off(points) < _PLANE_PX * unit
            if near.sum() < _FEW_POINTS:
                break
            m = _solve(m, points[near], np.full(near.sum(), 1 / unit), with_lens)[0]
        return m

    starts = [replace(guess, phone=replace(guess.phone, k1=0.0, k2=0.0), dslr=replace(guess.dslr, k1=0.0, k2=0.0))]
    h, chosen = _plane(points, step, unit)
    if chosen.any():
        starts.append(replace(starts[0], homography=h))
    plane = min((settled(s, with_lens=False) for s in starts), key=cost)
    bent = settled(plane, with_lens=True)
    pays = len(points) * np.log(max(cost(plane), 1e-9) / max(cost(bent), 1e-9)) > 3 * np.log(len(points))
    found = bent if pays else plane
    return found if cost(found) < _CONTRADICTED * cost(guess) else guess


def _solve(guess: PairMap, pairs: np.ndarray, weight: np.ndarray, with_lens: bool) -> tuple[PairMap, float]:
    """The fitted map, and twice its robust cost."""
    at_phone, at_dslr = pairs[:, :2], pairs[:, 2:]
    # In units of the radius round the middle all nine entries of the homography are of the size of one.
    units = [np.array([[1 / m.radius, 0, -m.centre[0] / m.radius], [0, 1 / m.radius, -m.centre[1] / m.radius], [0, 0, 1]])
             for m in (guess.phone, guess.dslr)]  # fmt: skip
    start = units[0] @ guess.homography @ np.linalg.inv(units[1])
    start /= np.linalg.norm(start)

    def made(p: np.ndarray) -> PairMap:
        h = np.linalg.inv(units[0]) @ np.append(p[:8], start[2, 2]).reshape(3, 3) @ units[1]
        lens = p[8:] * _LENS if with_lens else np.zeros(3)
        return PairMap(
            h / h[2, 2], replace(guess.phone, k1=lens[0], k2=lens[1]), replace(guess.dslr, k1=lens[2], k2=0.0)
        )

    def error(p: np.ndarray) -> np.ndarray:
        m = made(p)
        # Compared before the phone's lens, which spares inverting it and changes lengths by no more than its distortion.
        off = m.phone.undistort(at_phone) - geometry.apply(m.homography, m.dslr.undistort(at_dslr))
        return off * weight[:, None]

    def robust(p: np.ndarray) -> np.ndarray:
        # Cauchy's loss of the distance, not of each axis: r^2 = log(1 + d^2). Wrong matches hardly pull.
        off = error(p)
        out = np.sqrt(np.log1p((off * off).sum(1)))
        # Zero distortion is the expectation, so that what two lenses share stays small.
        return np.concatenate([out, p[8:]])

    lens = [guess.phone.k1 / _LENS, guess.phone.k2 / _LENS, guess.dslr.k1 / _LENS] if with_lens else []
    from scipy.optimize import least_squares  # 40 MB and a quarter of a second, wherever patches are only read

    answer = least_squares(
        robust, np.concatenate([start.ravel()[:8], lens]), x_scale="jac", ftol=1e-6, xtol=1e-9, max_nfev=30
    )
    return made(answer.x), 2 * float(answer.cost)
