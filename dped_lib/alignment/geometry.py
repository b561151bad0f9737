"""Compute the plane geometry that the simulated rig and the alignment share: homographies, lenses, resampling.

Points are N x 2 (x, y) float64 in pixels, and the centre of the first pixel is (0, 0). Homographies are 3 x 3.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from dped_lib.base.errors import DpedError


def as_points(xy) -> np.ndarray:
    """Return ``xy`` as N x 2 float64.

    Raises:
        DpedError: ``xy`` has another shape.
    """
    xy = np.asarray(xy, float)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise DpedError(f"points have shape {xy.shape}, but must be N x 2 (x, y)")
    return xy


def apply_homography(h: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Map points (N x 2) by the homography ``h`` (3 x 3)."""
    homogeneous = np.column_stack([xy, np.ones(len(xy))]) @ h.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def corners(height: int, width: int) -> np.ndarray:
    """Return the centres of an image's corner pixels (4 x 2), clockwise on the screen from the top left."""
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)


@dataclass(frozen=True)
class Lens:
    """Describe the radial distortion of a lens (Brown's model without its tangential part).

    A pixel of the photograph lies at ``q`` from ``centre``, in units of ``radius`` pixels. An ideal lens would have
    shown the same point at ``q (1 + k1 |q|^2 + k2 |q|^4)``.
    """

    centre: tuple[float, float]
    radius: float
    k1: float = 0.0
    k2: float = 0.0

    def undistort(self, xy) -> np.ndarray:
        """Map pixels of the photograph (N x 2) to pixels of the ideal photograph (N x 2)."""
        q = (as_points(xy) - self.centre) / self.radius
        r2 = (q * q).sum(1, keepdims=True)
        return self.centre + self.radius * q * (1 + self.k1 * r2 + self.k2 * r2 * r2)

    def distort(self, xy) -> np.ndarray:
        """Invert ``undistort`` by Newton's method on the radius.

        The result is exact to 1e-9 pixels within twice the size of the photograph.
        """
        u = (as_points(xy) - self.centre) / self.radius
        goal = np.sqrt((u * u).sum(1, keepdims=True))
        r = goal.copy()
        for _ in range(8):
            r2 = r * r
            slope = 1 + 3 * self.k1 * r2 + 5 * self.k2 * r2 * r2
            r -= (r * (1 + self.k1 * r2 + self.k2 * r2 * r2) - goal) / slope
        return self.centre + self.radius * u * (r / np.maximum(goal, 1e-12))


def centred_lens(height: int, width: int, k1: float = 0.0, k2: float = 0.0) -> Lens:
    """Return a lens that is centred on an image. Its unit of radius is half the diagonal."""
    return Lens(((width - 1) / 2, (height - 1) / 2), float(np.hypot(width, height) / 2), k1, k2)


def largest_rectangle(quads: list[np.ndarray], aspect: float) -> tuple[float, float, float] | None:
    """Return the largest upright rectangle that lies inside all the given convex quadrilaterals.

    The shared region is convex, so this is a linear programme in three unknowns.

    Args:
        quads: quadrilaterals (4 x 2 each), clockwise on the screen.
        aspect: width / height of the rectangle.

    Returns:
        (x, y) of the rectangle's centre and half its height; None if there is no such rectangle.
    """
    a, b = [], []
    for quad in quads:
        edge = np.roll(quad, -1, 0) - quad
        normal = np.stack([edge[:, 1], -edge[:, 0]], 1)  # outwards, as the corners are clockwise
        a.append(np.column_stack([normal, np.abs(normal) @ [aspect, 1]]))
        b.append((normal * quad).sum(1))
    from scipy.optimize import linprog  # slow to import, so not before it is needed

    bounds = [(None, None), (None, None), (0, None)]
    answer = linprog([0, 0, -1], np.vstack(a), np.concatenate(b), bounds=bounds)
    return tuple(answer.x) if answer.success and answer.x[2] >= 1 else None


def clockwise(quad: np.ndarray) -> np.ndarray:
    """Return a convex quadrilateral (4 x 2) with its corners in clockwise order on the screen."""
    x, y = quad.T
    area = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    return quad if area > 0 else quad[::-1]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area that two convex quadrilaterals (4 x 2) share, as a fraction of the smaller one's area."""
    shared = cv2.intersectConvexConvex(a.astype(np.float32), b.astype(np.float32))[0]
    return float(shared / min(cv2.contourArea(q.astype(np.float32)) for q in (a, b)))


def outline(height: int, width: int, pieces: int = 16) -> np.ndarray:
    """Return points along the border of an image (N x 2): the corners, and ``pieces`` points a side."""
    c = corners(height, width)
    fraction = np.linspace(0, 1, pieces, endpoint=False)[:, None]
    return np.vstack([a + fraction * (b - a) for a, b in zip(c, np.roll(c, -1, 0), strict=True)])


def pixel_grid(height: int, width: int, origin, step: float) -> np.ndarray:
    """Return the positions ``origin + step * (column, row)`` of every pixel, h x w x 2 float32."""
    x = np.arange(width) * step + origin[0]
    y = np.arange(height) * step + origin[1]
    return np.stack(np.meshgrid(x, y), -1).astype(np.float32)


def interpolated_map(f, height: int, width: int, origin, step: float) -> np.ndarray:
    """Evaluate ``f`` (N x 2 -> N x 2) on a ``pixel_grid``: h x w x 2 float32.

    ``f`` is computed at every eighth pixel and interpolated linearly between them. For the maps between cameras the
    interpolation error is below a hundredth of a pixel.
    """
    every = 8
    rows, columns = -(-height // every) + 2, -(-width // every) + 2
    # cv2.resize treats each node as the centre of a cell of eight pixels. Beyond the outermost nodes it repeats
    # them, so we compute one more node on each side.
    x = ((np.arange(columns) - 0.5) * every - 0.5) * step + origin[0]
    y = ((np.arange(rows) - 0.5) * every - 0.5) * step + origin[1]
    nodes = np.stack(np.meshgrid(x, y), -1)
    mapped = f(nodes.reshape(-1, 2)).reshape(nodes.shape).astype(np.float32)
    fine = cv2.resize(mapped, (columns * every, rows * every), interpolation=cv2.INTER_LINEAR)
    return fine[every : every + height, every : every + width]


class Resampler:
    """Read one photograph (H x W or H x W x 3) at any positions by cubic interpolation.

    Args:
        image: the photograph.
        step: distance between the positions that will be read, in pixels of the photograph. Where it skips pixels, the
            photograph is first downscaled by area averaging, which avoids aliasing.
    """

    def __init__(self, image: np.ndarray, step: float):
        height, width = image.shape[:2]
        self._last = (width - 1, height - 1)
        if step > 1.2:  # below that, cubic interpolation shows hardly any aliasing
            downscaled = (max(1, round(width / step)), max(1, round(height / step)))
            image = cv2.resize(image, downscaled, interpolation=cv2.INTER_AREA)
        self._image = image
        self._scale = np.array([image.shape[1] / width, image.shape[0] / height])

    def __call__(self, xy: np.ndarray) -> np.ndarray:
        """Return the values at ``xy`` (h x w x 2, pixels of the photograph).

        Positions beyond the border get the value of the nearest border pixel.
        """
        position = ((xy + 0.5) * self._scale - 0.5).astype(np.float32)
        return cv2.remap(self._image, position, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def inside(self, xy: np.ndarray) -> np.ndarray:
        """Return whether each position of ``xy`` (h x w x 2) lies inside the photograph: bool h x w."""
        return ((xy >= 0) & (xy <= self._last)).all(-1)
