"""Find what two photographs have in common: SIFT keypoints first, and small blocks once the two nearly coincide.

Source: paper, section 2, "Matching algorithm". The blocks are ours: the refinement of the homography needs them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# Keypoints are detected in images of at most this many pixels. A soft phone photograph has no finer ones.
_DETECTION_PIXELS = 0.6e6
_KEYPOINTS_PER_PIXEL = 0.01  # we keep the strongest ones, at most this many per pixel
_CONTRAST_THRESHOLD = 0.01  # a quarter of OpenCV's default: a dark, soft phone photograph has few strong keypoints
_LOWE_RATIO = 0.8  # of the distances to the nearest and to the second nearest descriptor
_ROUNDING = 1e-5  # of a squared distance computed from float32 products
# Descriptors compared at a time. The products of all 20 000 of a photograph of 2 megapixels would take 1.6 GB.
_ROWS = 512

_BLOCK = 49  # side of a block, in pixels
_COARSE_SIGMA = 6.0  # standard deviation (px) of the blur that removes shading and vignetting from blocks


@dataclass(frozen=True)
class Keypoints:
    """Hold the SIFT keypoints of one photograph.

    Attributes:
        xy: positions, N x 2, in pixels of the photograph.
        descriptors: RootSIFT descriptors, N x 128 float32.
        scale: size of the image in which they were detected, relative to the photograph.
    """

    xy: np.ndarray
    descriptors: np.ndarray
    scale: float


def detect(gray: np.ndarray, pixels: float = _DETECTION_PIXELS) -> Keypoints:
    """Detect the SIFT keypoints of a gray photograph (uint8 H x W).

    They are detected in a copy of at most ``pixels`` pixels, because the map between the photographs is refined later.
    Descriptors are L1-normalised and square-rooted (RootSIFT, Arandjelovic and Zisserman 2012). The Euclidean distance
    between two of them is then the Hellinger distance between the original ones.
    """
    height, width = gray.shape
    scale = min(1.0, (pixels / gray.size) ** 0.5)
    small = gray
    if scale < 1:
        small = cv2.resize(gray, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT_create(int(small.size * _KEYPOINTS_PER_PIXEL), contrastThreshold=_CONTRAST_THRESHOLD)
    detected, descriptors = sift.detectAndCompute(small, None)
    if not detected:
        return Keypoints(np.zeros((0, 2)), np.zeros((0, 128), np.float32), scale)
    xy = np.array([k.pt for k in detected])
    # Area averaging puts the centre of a small pixel at the centre of the pixels that it covers.
    xy = (xy + 0.5) * (width / small.shape[1], height / small.shape[0]) - 0.5
    norm = np.maximum(descriptors.sum(1, keepdims=True), 1e-9)
    return Keypoints(xy, np.sqrt(descriptors / norm), scale)


def match(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Match RootSIFT descriptors (N x 128 and M x 128): return pairs of their indices, K x 2.

    Two descriptors match if each is the other's nearest, and if the nearest is clearly nearer than
    the second nearest (Lowe's ratio test).
    """
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), int)
    # Descriptors have length 1, so the nearest has the largest product. BLAS computes it fastest.
    nearest = np.empty(len(a), int)
    best, second = np.empty((2, len(a)), np.float32)
    nearest_in_a, best_in_a = np.zeros(len(b), int), np.full(len(b), -1, np.float32)
    columns = np.arange(len(b))
    for start in range(0, len(a), _ROWS):
        products = a[start : start + _ROWS] @ b.T
        rows = np.arange(len(products))
        part = slice(start, start + len(products))
        top = products.argmax(0)
        better = products[top, columns] > best_in_a
        nearest_in_a[better] = top[better] + start
        best_in_a[better] = products[top, columns][better]
        nearest[part] = products.argmax(1)
        best[part] = products[rows, nearest[part]]
        products[rows, nearest[part]] = -1
        second[part] = products.max(1)
    # Equal descriptors differ by the rounding of their product. No smaller squared distance counts.
    distance = np.sqrt(np.maximum(2 - 2 * np.stack([best, second]), _ROUNDING))
    good = (distance[0] < _LOWE_RATIO * distance[1]) & (nearest_in_a[nearest] == np.arange(len(a)))
    return np.column_stack([np.flatnonzero(good), nearest[good]])


def band_pass(gray: np.ndarray, coarse_sigma: float = _COARSE_SIGMA) -> np.ndarray:
    """Return the fine detail of a gray image (H x W) as float32: the difference of two Gaussian blurs.

    The first blur (1 px) removes noise. Subtracting the second (``coarse_sigma`` px) removes slow changes of light. Two
    cameras share neither.
    """
    gray = gray.astype(np.float32)
    return cv2.GaussianBlur(gray, (0, 0), 1.0) - cv2.GaussianBlur(gray, (0, 0), coarse_sigma)


def match_blocks(
    phone: np.ndarray, dslr: np.ndarray, valid: np.ndarray, reach: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find blocks of ``dslr`` in ``phone``, to a fraction of a pixel, where their correlation (NCC) is highest.

    Args:
        phone, dslr: float32 H x W, nearly aligned, as ``band_pass`` returns them.
        valid: bool H x W, true where both photographs show something.
        reach: how far a block may have moved, in pixels.
        count: approximate number of blocks. They are spread over a grid; each cell gives its block of most structure.

    Returns:
        Blocks, N x 4 (x, y of the centre in ``dslr``, displacement in ``phone``), and the NCC of each, N. Flat blocks
        are left out, and so are those whose best place is at the edge of the search.
    """
    height, width = dslr.shape
    margin = _BLOCK // 2 + reach + 1
    if min(height, width) < 3 * margin:
        return np.zeros((0, 4)), np.zeros(0)
    structure = cv2.cornerMinEigenVal(dslr, _BLOCK // 2, 3)
    structure *= cv2.erode(valid.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8), borderValue=0)
    pitch = max(_BLOCK // 2, int((height * width / count) ** 0.5))
    blocks, scores = [], []
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
            search_area = phone[y - more : y + more + 1, x - more : x + more + 1]
            peak = _subpixel_peak(cv2.matchTemplate(search_area, block, cv2.TM_CCOEFF_NORMED))
            if peak is not None:
                blocks.append((x, y, peak[0] - reach, peak[1] - reach))
                scores.append(peak[2])
    return np.array(blocks, float).reshape(-1, 4), np.array(scores)


def _subpixel_peak(surface: np.ndarray) -> tuple[float, float, float] | None:
    """Return (x, y, height) of the maximum, by a parabola along each axis; None if it lies at the edge."""
    y, x = divmod(int(surface.argmax()), surface.shape[1])
    if not (0 < x < surface.shape[1] - 1 and 0 < y < surface.shape[0] - 1):
        return None
    top = float(surface[y, x])

    def vertex(before: float, after: float) -> float:
        bend = before - 2 * top + after
        return 0.5 * (before - after) / bend if bend < 0 else 0.0

    return x + vertex(*surface[y, [x - 1, x + 1]]), y + vertex(*surface[[y - 1, y + 1], x]), top
