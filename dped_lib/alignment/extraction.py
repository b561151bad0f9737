"""Cut patch pairs from two aligned images (section 3.2.1): the phone's window moves to its highest correlation.

Non-overlapping windows run over both images. The phone's window is shifted and rotated slightly, so that its
normalised cross-correlation (NCC) with the DSLR's is highest. The pair is kept if its NCC exceeds 0.9
(``paper.NCC_THRESHOLD``) and the fine detail of both windows agrees. The paper leaves two things open. We decided them
on the simulated rig and on City100:

- The place is searched in a band of fine detail, which slow changes of light and noise do not affect. It is judged in
  plain gray, as in the paper. In plain gray, a sky that darkens to one side correlates above 0.9 at every place.
- If the fine detail of the two windows does not correlate, nothing fixes the window's place. It never moves, and the
  pair is not kept, however high its NCC is. The paper has no such condition.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.alignment.keypoints import band_pass
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.paper import PATCH_SIZE

if TYPE_CHECKING:
    from dped_lib.alignment.aligner import Alignment


KEPT = "kept"
BELOW = "below threshold"
FLAT = "flat"  # nothing fixes its place: it has no contrast, or no fine detail that both cameras show
EDGE = "at the edge of the search"  # its best place is where the search ends, so it is no maximum
DIFFERS = "fine detail differs"  # the NCC exceeds the threshold because light and shade agree, but the detail differs
WINDOW_VERDICTS = (KEPT, BELOW, FLAT, EDGE, DIFFERS)
CHOICES_FOR_FLAT = ("drop", "keep")  # what can happen to windows of verdict ``flat``

_COARSE_SIGMA = 4.0  # standard deviation (px) of the blur that is subtracted from the band of fine detail
_BAND_REACH = 12  # px: pixels further away have 0.3 % of the weight in the blur of a pixel of the band
_BORDER = 8  # px: closer to the image's border, places in the band are wrong by up to a fifth of a pixel
# A search in a window of another scene reaches a median NCC of 0.07, at most 0.19 (160 windows, rig and City100).
_MIN_BAND_NCC = 0.25
_MIN_BAND_STD = 1.5  # gray levels; a DSLR window whose band has less contains only noise
# Gray levels (standard deviation); below, a window that would be ``BELOW`` or ``EDGE`` counts as flat.
_LOW_CONTRAST = 3.0
_NO_CONTRAST = 0.5  # gray levels; below, only rounding is left
# A move that gains less NCC follows noise. On the rig, positions are more accurate without such moves.
_MIN_GAIN = 0.0005
_MAX_STEPS = 10  # of the sub-pixel search; it usually takes three
_MIN_STEP = 0.01  # px and degrees: a smaller step ends the search
_Place = tuple[float, float, float]  # dx and dy in px, and the angle in degrees, of a window in the phone's image


@dataclass(frozen=True)
class Window:
    """Describe one window and its verdict.

    Attributes:
        y, x: its top-left corner in the aligned images.
        verdict: one of ``WINDOW_VERDICTS``.
        ncc_before: NCC (gray) of the two windows in place; nan if one is constant (None in a record).
        ncc: NCC of the pair as moved. A window at the edge of the search is not moved and has its ``ncc_before``.
        dx, dy: where the phone shows this window: shift of its centre to the right and down, in pixels. They are 0 if
            it stays. At the edge of the search they are the place where the search ended.
        angle: rotation of the phone's window in degrees, clockwise.
        contrast: standard deviation of the DSLR's gray (levels of 255).
        structure: NCC of the fine detail of both windows at the best place; 0 if no place was searched.
    """

    y: int
    x: int
    verdict: str
    ncc_before: float
    ncc: float
    dx: float
    dy: float
    angle: float
    contrast: float
    structure: float

    @property
    def moved(self) -> bool:
        """Return whether the phone's patch was read at another place than the window's."""
        return self.verdict != EDGE and (self.dx, self.dy, self.angle) != (0, 0, 0)


@dataclass(frozen=True)
class Extraction:
    """Hold the windows and patches of one aligned pair.

    Attributes:
        windows: every window tried, in reading order.
        patches: those of verdict ``kept``, and with ``flat="keep"`` the flat ones: (window, phone's patch, DSLR's patch),
            uint8 100 x 100 x 3, RGB.
    """

    windows: tuple[Window, ...]
    patches: tuple[tuple[Window, np.ndarray, np.ndarray], ...]

    def counts(self) -> dict[str, int]:
        """Count windows: all (``tried``), those of each verdict, the kept ones that ``moved``, and the ``patches``.

        The counts of the verdicts add up to ``tried``.
        """
        verdicts = [w.verdict for w in self.windows]
        return {
            "tried": len(verdicts),
            **{v: verdicts.count(v) for v in WINDOW_VERDICTS},
            "moved": sum(w.moved for w in self.windows if w.verdict == KEPT),
            "patches": len(self.patches),
        }


def windows(height: int, width: int, size: int = PATCH_SIZE) -> list[tuple[int, int]]:
    """Return the top-left corners (y, x) of non-overlapping, centred windows (section 3.2.1)."""
    y0, x0 = (height % size) // 2, (width % size) // 2
    rows = range(y0, height - size + 1, size)
    columns = range(x0, width - size + 1, size)
    return [(y, x) for y in rows for x in columns]


def ncc(a: np.ndarray, b: np.ndarray) -> float:
    """Return the zero-mean normalised cross-correlation of two arrays of one shape.

    It lies between -1 and 1, and it is nan if one of the arrays is constant.
    """
    a, b = (np.asarray(v, np.float64) - np.mean(v, dtype=np.float64) for v in (a, b))
    # Rounding may make the mean of equal numbers differ from them, so we test their range.
    if min(np.ptp(a), np.ptp(b)) == 0:
        return float("nan")
    norms = math.sqrt((a * a).sum()) * math.sqrt((b * b).sum())
    return float(np.clip((a * b).sum() / norms, -1, 1)) if norms > 0 else float("nan")


def extract(
    alignment: "Alignment",
    threshold: float = paper.NCC_THRESHOLD,
    reach: int = 6,
    max_angle: float = 1.5,
    flat: str = "drop",
) -> Extraction:
    """Extract the patch pairs of one aligned pair of photographs (section 3.2.1).

    The same arguments give the same bytes.

    Args:
        alignment: an aligned pair.
        threshold: the NCC that a pair must exceed to be kept, from -1 to 1.
        reach: largest shift of the phone's window along each axis, in pixels (1 to 50).
        max_angle: largest rotation of the phone's window, in degrees (0 to 10); 0 allows shifts alone.
        flat: what happens to windows of verdict ``flat``. ``drop`` leaves them out. Some of them correlate above 0.9 by
            their light and shade alone, and section 3.2.1 would keep these. ``keep`` adds all of them to the patches in
            place, for skies and walls.

    Raises:
        DpedError: the pair is not aligned, or a parameter is out of range.
    """
    one_of("flat", flat, CHOICES_FOR_FLAT)
    if alignment.phone is None or alignment.dslr is None:
        raise DpedError(
            "The photographs are not aligned, so there are no patches to extract: see the report's verdict."
        )
    if alignment.phone.shape != alignment.dslr.shape:
        raise DpedError(f"Aligned images differ in size: {alignment.phone.shape} and {alignment.dslr.shape}.")
    if reach != int(reach) or not 1 <= reach <= 50:
        raise DpedError(f"reach is {reach}, but must be a whole number of pixels from 1 to 50.")
    if not 0 <= max_angle <= 10:
        raise DpedError(f"max_angle is {max_angle}, but must be between 0 and 10 degrees.")
    if not -1 <= threshold <= 1:
        raise DpedError(f"threshold is {threshold}, but an NCC lies between -1 and 1.")
    search = _WindowSearch(alignment, int(reach), float(max_angle))
    tried, patches = [], []
    for y, x in windows(*alignment.dslr.shape[:2]):
        window, phone = search.judge(y, x, threshold)
        tried.append(window)
        if window.verdict == KEPT or (window.verdict == FLAT and flat == "keep"):
            patches.append((window, phone, alignment.dslr[y : y + PATCH_SIZE, x : x + PATCH_SIZE].copy()))
    return Extraction(tuple(tried), tuple(patches))


class _WindowSearch:
    """Search the windows of one aligned pair. It holds both images in gray and in the band of fine detail.

    The phone's band has a margin, so that windows at the border can move, too.
    """

    def __init__(self, alignment: "Alignment", reach: int, max_angle: float):
        self.alignment, self.reach, self.max_angle = alignment, reach, max_angle
        # Rotated windows and cubic interpolation need these pixels beyond the shift.
        self.pad = math.ceil(PATCH_SIZE / 2 * math.sin(math.radians(max_angle))) + 3
        self.margin = reach + self.pad + _BAND_REACH
        with_margin, self.inside = _with_margin(alignment, self.margin)
        self.dslr, self.phone = _gray(alignment.dslr), _gray(alignment.phone)
        self.dslr_band = band_pass(self.dslr, _COARSE_SIGMA)
        self.phone_band = band_pass(_gray(with_margin), _COARSE_SIGMA)

    def judge(self, y: int, x: int, threshold: float) -> tuple[Window, np.ndarray]:
        """Return the verdict on the window at (y, x), and the phone's patch: as moved, or in place."""
        cut = np.s_[y : y + PATCH_SIZE, x : x + PATCH_SIZE]
        phone, dslr, band = self.phone[cut], self.dslr[cut], self.dslr_band[cut]
        in_place = self.alignment.phone[cut].copy()
        contrast, before = float(dslr.std()), ncc(phone, dslr)
        stays = Window(y, x, FLAT, before, before, 0.0, 0.0, 0.0, contrast, 0.0)
        if min(contrast, phone.std()) < _NO_CONTRAST or math.isnan(before):
            return stays, in_place

        part = self._away_from_border(y, x)
        (dx, dy, angle), failed = self._best_place(y, x, band, part)
        grid = _window_grid(x + dx + self.margin, y + dy + self.margin, angle)[part]
        structure = ncc(cv2.remap(self.phone_band, grid, None, cv2.INTER_CUBIC), band[part])
        stays = replace(stays, structure=structure)
        detail_agrees = structure >= _MIN_BAND_NCC
        if not detail_agrees and band.std() < _MIN_BAND_STD:
            return stays, in_place
        if failed and detail_agrees:
            if contrast < _LOW_CONTRAST:
                return stays, in_place
            return replace(stays, verdict=EDGE, dx=dx, dy=dy, angle=angle), in_place

        window, patch = stays, in_place
        if detail_agrees:
            moved = self.alignment.sample_phone(_window_grid(x + dx, y + dy, angle))
            after = ncc(_gray(moved), dslr)
            if after - before >= _MIN_GAIN:
                window, patch = replace(stays, ncc=after, dx=dx, dy=dy, angle=angle), moved
        if window.ncc > threshold:
            return replace(window, verdict=KEPT if detail_agrees else DIFFERS), patch
        if contrast < _LOW_CONTRAST:
            return stays, in_place
        return replace(window, verdict=BELOW), patch

    def _away_from_border(self, y: int, x: int) -> tuple[slice, slice]:
        """Return the rows and columns of a window that are far enough from the images' border."""
        return tuple(
            slice(max(0, _BORDER - start), min(PATCH_SIZE, length - _BORDER - start))
            for start, length in zip((y, x), self.dslr.shape, strict=True)
        )

    def _best_place(self, y: int, x: int, band: np.ndarray, part) -> tuple[_Place, bool]:
        """Return (dx, dy, angle) of the bands' highest NCC, and whether the search failed.

        It fails if the maximum lies at the search's edge or cannot be refined, or if the window leaves
        the phone's photograph.
        """
        first = self.margin - self.reach
        side = PATCH_SIZE + 2 * self.reach
        search_area = np.s_[y + first : y + first + side, x + first : x + first + side]
        wider = tuple(slice(p.start, p.stop + 2 * self.reach) for p in part)
        searched = self.phone_band[search_area][wider]
        score = cv2.matchTemplate(searched, np.ascontiguousarray(band[part]), cv2.TM_CCOEFF_NORMED)
        score[~_filled(self.inside[search_area])] = -2
        dy, dx = np.unravel_index(np.argmax(score), score.shape)
        around = np.pad(score, 1, constant_values=-2)[dy : dy + 3, dx : dx + 3]
        start = float(dx - self.reach), float(dy - self.reach), 0.0
        if min(around[0, 1], around[2, 1], around[1, 0], around[1, 2]) <= -2:
            return start, True
        place = self._subpixel_place(y, x, band[part], part, np.array(start))
        if place is None:
            return start, True
        window = _window_grid(x + place[0], y + place[1], place[2])
        if not self.alignment.inside(window)[1:-1, 1:-1].all():
            return start, True
        return tuple(float(v) for v in place), False

    def _subpixel_place(self, y: int, x: int, band: np.ndarray, part, place: np.ndarray) -> np.ndarray | None:
        """Return the maximum of the NCC near ``place``, to a fraction of a pixel; None if it leaves the search's range.

        Each step solves for the factor a, offset b and motion p for which a (phone + gradient p) + b is closest to the
        DSLR's window (least squares). It then moves by p, which to first order is the maximum of the NCC (ECC:
        Evangelidis and Psarakis 2008).
        """
        first = self.margin - self.pad - self.reach
        side = PATCH_SIZE + 2 * (self.pad + self.reach)
        around = self.phone_band[y + first : y + first + side, x + first : x + first + side]
        slopes = [cv2.Sobel(around, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))]
        layers = cv2.merge([around, *slopes])
        goal = band.astype(np.float64).ravel()
        goal -= goal.mean()
        u, v = (c[part].ravel() for c in np.meshgrid(_OFFSETS, _OFFSETS))
        for _ in range(_MAX_STEPS):
            corner = place[:2] + self.pad + self.reach
            grid = _window_grid(corner[0], corner[1], place[2])[part]
            value, along_x, along_y = cv2.remap(layers, grid, None, cv2.INTER_CUBIC).reshape(-1, 3).T.astype(np.float64)
            rows = [value, along_x, along_y]
            if self.max_angle:
                c, s = math.cos(math.radians(place[2])), math.sin(math.radians(place[2]))
                rows.append(math.radians(1) * (along_y * (c * u - s * v) - along_x * (s * u + c * v)))
            rows = np.stack(rows)
            rows -= rows.mean(1, keepdims=True)
            # The sums of einsum do not depend on the number of threads; those of @ do.
            normal, right = np.einsum("ik,jk->ij", rows, rows), np.einsum("ik,k->i", rows, goal)
            try:
                factor, *motion = np.linalg.solve(normal, right)
            except np.linalg.LinAlgError:
                return None
            motion = np.array(motion) / factor if factor > 0 else np.array([np.nan])
            if not np.isfinite(motion).all():
                return None
            motion = np.clip(motion, -1, 1)  # the first-order model does not hold further away
            place[: len(motion)] += motion
            if np.abs(place[:2]).max() > self.reach or abs(place[2]) > self.max_angle:
                return None
            if np.abs(motion).max() < _MIN_STEP:
                break
        return place


_OFFSETS = np.arange(PATCH_SIZE) - (PATCH_SIZE - 1) / 2  # of a window's pixels from its centre


def _window_grid(x: float, y: float, angle: float) -> np.ndarray:
    """Return the positions of a window's pixels, 100 x 100 x 2 float32.

    The window's corner is at (x, y) before it is rotated about its centre by ``angle`` degrees.
    """
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = _OFFSETS[None, :], _OFFSETS[:, None]
    middle = (PATCH_SIZE - 1) / 2
    return np.stack([x + middle + c * u - s * v, y + middle + s * u + c * v], -1).astype(np.float32)


def _gray(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)


def _with_margin(alignment: "Alignment", margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the phone's aligned image with ``margin`` more pixels of its photograph on each side.

    The second array (bool) is true for the pixels that lie inside the photograph.
    """
    height, width = alignment.phone.shape[:2]
    image = cv2.copyMakeBorder(alignment.phone, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    inside = np.ones(image.shape[:2], bool)
    full_height, full_width = inside.shape
    for y, x, h, w in (
        (0, 0, margin, full_width),
        (height + margin, 0, margin, full_width),
        (0, 0, full_height, margin),
        (0, width + margin, full_height, margin),
    ):
        columns, rows = np.meshgrid(np.arange(x, x + w) - margin, np.arange(y, y + h) - margin)
        xy = np.stack([columns, rows], -1).astype(np.float32)
        image[y : y + h, x : x + w] = alignment.sample_phone(xy)
        inside[y : y + h, x : x + w] = alignment.inside(xy)
    return image, inside


def _filled(inside: np.ndarray) -> np.ndarray:
    """Return, for each position of a window in ``inside``, whether the photograph fills all but its outermost pixels."""
    missing = cv2.integral((~inside).astype(np.uint8))
    size = PATCH_SIZE - 2
    corner = missing[1:-1, 1:-1]
    count = corner[size:, size:] - corner[:-size, size:] - corner[size:, :-size] + corner[:-size, :-size]
    return count == 0
