"""Where two photographs show the same: SIFT keypoints over the whole picture, small blocks once they nearly coincide."""

from dataclasses import dataclass

import cv2
import numpy as np

_DETECT_PIXELS = 0.6e6  # keypoints are looked for in images of at most so many pixels: finer ones a soft phone lacks
_KEYPOINTS_PER_PIXEL = 0.01  # the strongest ones, so many at most
_ROWS = 512  # of descriptors compared at a time: their products stay in the processor's cache
_CONTRAST = 0.01  # a quarter of OpenCV's default: a dark, soft phone photograph has few strong ones
_RATIO = 0.8  # Lowe's ratio test
#: Squared distances below this are rounding of float32 products, whose order the BLAS chooses: such descriptors are
#: equally near.
_ROUNDING = 1e-5

_BLOCK = 49  # side of a block, in pixels
_BAND = 6.0  # standard deviation of the blur that is taken off: the cameras' light and vignetting go with it


@dataclass(frozen=True)
class Keypoints:
    """``xy``: N x 2 in pixels of the photograph; ``descriptors``: N x 128 float32, rooted; ``scale``: size they were
    found at, as a share of the photograph's."""

    xy: np.ndarray
    descriptors: np.ndarray
    scale: float


def keypoints(gray: np.ndarray, pixels: float = _DETECT_PIXELS) -> Keypoints:
    """SIFT keypoints of a gray photograph (uint8 H x W), found in one of at most ``pixels``: localisation is refined later.

    Descriptors are L1-normalised and rooted (RootSIFT, Arandjelovic and Zisserman 2012), which makes the Euclidean
    distance between them that of Hellinger.
    """
    height, width = gray.shape
    scale = min(1.0, (pixels / gray.size) ** 0.5)
    small = gray
    if scale < 1:
        small = cv2.resize(gray, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    found, descriptors = cv2.SIFT_create(
        int(small.size * _KEYPOINTS_PER_PIXEL), contrastThreshold=_CONTRAST
    ).detectAndCompute(small, None)
    if not found:
        return Keypoints(np.zeros((0, 2)), np.zeros((0, 128), np.float32), scale)
    xy = np.array([k.pt for k in found])
    # Area averaging puts the centre of the first small pixel in the middle of those it covers.
    xy = (xy + 0.5) * (width / small.shape[1], height / small.shape[0]) - 0.5
    norm = np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
    return Keypoints(xy, np.sqrt(descriptors / norm), scale)


def match(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairs (N x 2 indices) of descriptors that are each other's nearest, and clearly nearer than the second nearest."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), int)
    # Rooted descriptors have length 1: the largest products are the smallest distances, and BLAS is the fastest search.
    first = np.empty(len(a), int)
    best, second = np.empty((2, len(a)), np.float32)
    back, back_best = np.zeros(len(b), int), np.full(len(b), -1, np.float32)
    columns = np.arange(len(b))
    for start in range(0, len(a), _ROWS):
        near = a[start : start + _ROWS] @ b.T
        rows = np.arange(len(near))
        part = slice(start, start + len(near))
        top = near.argmax(0)
        better = near[top, columns] > back_best
        back[better], back_best[better] = top[better] + start, near[top, columns][better]
        first[part] = near.argmax(1)
        best[part] = near[rows, first[part]]
        near[rows, first[part]] = -1
        second[part] = near.max(1)
    distance = np.sqrt(np.maximum(2 - 2 * np.stack([best, second]), _ROUNDING))
    good = (distance[0] < _RATIO * distance[1]) & (back[first] == np.arange(len(a)))
    return np.column_stack([np.flatnonzero(good), first[good]])


def band(gray: np.ndarray) -> np.ndarray:
    """Gray without its slow changes, float32: what two cameras with different light and tone curves still share."""
    gray = gray.astype(np.float32)
    return cv2.GaussianBlur(gray, (0, 0), 1.0) - cv2.GaussianBlur(gray, (0, 0), _BAND)


def compare_blocks(
    phone: np.ndarray, dslr: np.ndarray, valid: np.ndarray, reach: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where blocks of ``dslr`` are found in ``phone``, to a fraction of a pixel.

    Args:
        phone, dslr: float32 H x W, nearly aligned, as ``band`` makes them.
        valid: bool H x W, where both photographs have something.
        reach: how far a block may have moved, in pixels.
        most: about so many blocks, spread over the image; in each cell of a grid the one with the most structure.

    Returns:
        (middle in ``dslr``, displacement towards ``phone``), each N x 2 (x, y), and the correlation of each, N.
        Blocks found at the edge of the search, and flat ones, are left out.
    """
    height, width = dslr.shape
    margin = _BLOCK // 2 + reach + 1
    if min(height, width) < 3 * margin:
        return np.zeros((0, 4)), np.zeros(0)
    structure = cv2.cornerMinEigenVal(dslr, _BLOCK // 2, 3)
    usable = cv2.erode(valid.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8), borderValue=0)
    structure *= usable
    pitch = max(_BLOCK // 2, int((height * width / most) ** 0.5))
    found, scores = [], []
    for top in range(margin, height - margin, pitch):
        for left in range(margin, width - margin, pitch):
            cell = structure[top : min(top + pitch, height - margin), left : min(left + pitch, width - margin)]
            dy, dx = divmod(int(cell.argmax()), cell.shape[1])
            if cell[dy, dx] <= 0:
                continue
            x, y = left + dx, top + dy
            half = _BLOCK // 2
            block = dslr[y - half : y + half + 1, x - half : x + half + 1]
            more = half + reach
            surface = cv2.matchTemplate(
                phone[y - more : y + more + 1, x - more : x + more + 1], block, cv2.TM_CCOEFF_NORMED
            )
            peak = _peak(surface)
            if peak is not None:
                found.append((x, y, peak[0] - reach, peak[1] - reach))
                scores.append(peak[2])
    return np.array(found, float).reshape(-1, 4), np.array(scores)


def _peak(surface: np.ndarray) -> tuple[float, float, float] | None:
    """(x, y, height) of the maximum, by a parabola along each axis; None at the edge, where it is no maximum."""
    y, x = divmod(int(surface.argmax()), surface.shape[1])
    if not (0 < x < surface.shape[1] - 1 and 0 < y < surface.shape[0] - 1):
        return None
    here = float(surface[y, x])

    def vertex(before: float, after: float) -> float:
        bend = before - 2 * here + after
        return 0.5 * (before - after) / bend if bend < 0 else 0.0

    return x + vertex(*surface[y, [x - 1, x + 1]]), y + vertex(*surface[[y - 1, y + 1], x]), here
