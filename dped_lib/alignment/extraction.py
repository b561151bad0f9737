"""Section 3.2.1: patch pairs from two aligned images, each of the phone's moved to where it matches the DSLR's best.

Non-overlapping windows run in parallel over both images. The phone's is shifted and turned a little so that its normalised
cross-correlation (NCC) with the DSLR's is highest, and the pair is kept where that exceeds 0.9. Two things the paper does
not say were decided on the simulated rig and on City100:

- The place is sought in a band of fine detail, where slow changes of light and grain play no part, and judged in plain gray,
  as in the paper. A sky that darkens to one side correlates above 0.9 wherever one puts it.
- Where the fine detail of the two windows does not correlate, nothing holds the window in place. It is never moved.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError

if TYPE_CHECKING:
    from dped_lib.alignment.aligner import Alignment

SIZE = paper.PATCH_SIZE

KEPT = "kept"
BELOW = "below threshold"
FLAT = "flat"  # nothing in it says where it belongs: no contrast, or no fine detail that both cameras show
EDGE = "at the edge of the search"  # it matches best where the search ends, so that is no maximum
DIFFERS = "fine detail differs"  # light and shade agree above the threshold, what is drawn on them does not
VERDICTS = (KEPT, BELOW, FLAT, EDGE, DIFFERS)

_BAND = (1.0, 4.0)  # standard deviations (px) of the Gaussians whose difference is the band
_BAND_REACH = 12  # a pixel of the band depends on gray up to here
_BORDER = 8  # nearer to where an image ends its band is bent, by up to a fifth of a pixel, and not looked at
# The best of a whole search in a window of another scene: 0.07 as a rule, 0.19 at most (160 windows of rig and City100).
_LEAST_STRUCTURE = 0.25
_FINE = 1.5  # a DSLR window whose band has a lower standard deviation (gray levels) is empty but for grain
_LOW_CONTRAST = 3.0  # gray levels (standard deviation): failing the threshold says nothing below that
_NO_CONTRAST = 0.5  # and below that there is only rounding
# Moves that gain less than that follow noise: on the rig, leaving them out makes positions more accurate, not less.
_LEAST_GAIN = 0.0005
_STEPS = 10  # of the sub-pixel search; three are usual
_STILL = 0.01  # px and degrees: a smaller step ends it


@dataclass(frozen=True)
class Window:
    """One window and what became of it.

    Attributes:
        y, x: its top-left corner in the aligned images.
        verdict: one of ``VERDICTS``.
        ncc_before, ncc: NCC (gray) of the two windows in place, and of the pair as moved; nan where one has no contrast.
        dx, dy, angle: where the phone shows what the DSLR has here: shift of the centre in pixels, to the right and down,
            and degrees, clockwise. All 0 where the window stays. At the edge of the search: where the search ended; such
            a window is not moved, and its ``ncc`` is that in place.
        contrast: standard deviation of the DSLR's gray (levels of 255).
        structure: NCC of the two bands of fine detail at the best place.
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
        return self.verdict != EDGE and (self.dx, self.dy, self.angle) != (0, 0, 0)


@dataclass(frozen=True)
class Extraction:
    """Every window tried, in reading order, and the patches kept: (window, phone's, DSLR's), uint8 100 x 100 x 3, RGB."""

    windows: tuple[Window, ...]
    patches: tuple[tuple[Window, np.ndarray, np.ndarray], ...]

    def counts(self) -> dict[str, int]:
        """Windows tried; of each verdict (these add up to ``tried``); kept ones that were moved; patches that came out."""
        verdicts = [w.verdict for w in self.windows]
        return {
            "tried": len(verdicts),
            **{v: verdicts.count(v) for v in VERDICTS},
            "moved": sum(w.moved for w in self.windows if w.verdict == KEPT),
            "patches": len(self.patches),
        }


def windows(height: int, width: int, size: int = SIZE) -> list[tuple[int, int]]:
    """Top-left corners (y, x) of the non-overlapping windows of section 3.2.1, centred in the image."""
    y0, x0 = (height % size) // 2, (width % size) // 2
    return [(y, x) for y in range(y0, height - size + 1, size) for x in range(x0, width - size + 1, size)]


def ncc(a: np.ndarray, b: np.ndarray) -> float:
    """Zero-mean normalised cross-correlation of two arrays of one shape, -1 to 1; nan where one of them is constant."""
    a, b = (np.asarray(v, np.float64) - np.mean(v, dtype=np.float64) for v in (a, b))
    # The mean of equal numbers may miss them by a rounding.
    if min(np.ptp(a), np.ptp(b)) == 0:
        return float("nan")
    both = math.sqrt((a * a).sum()) * math.sqrt((b * b).sum())
    return float(np.clip((a * b).sum() / both, -1, 1)) if both > 0 else float("nan")


def extract(
    alignment: "Alignment",
    threshold: float = paper.NCC_THRESHOLD,
    reach: int = 6,
    max_angle: float = 1.5,
    flat: str = "drop",
) -> Extraction:
    """The patch pairs of one aligned pair of photographs (section 3.2.1). The same arguments give the same bytes.

    Args:
        threshold: pairs with a higher NCC are kept.
        reach: how far the phone's window may be shifted along each axis, in pixels.
        max_angle: how far it may be turned, in degrees; 0 for shifts alone.
        flat: what to do with windows of that verdict: ``drop``, as 3.2.1 implies (no NCC to exceed 0.9), or ``keep`` them in
            place among the patches, for skies and walls.

    Raises:
        DpedError: not an aligned pair, or a parameter out of range.
    """
    one_of("flat", flat, ("drop", "keep"))
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
    search = _Search(alignment, int(reach), float(max_angle))
    tried, patches = [], []
    for y, x in windows(*alignment.dslr.shape[:2]):
        window, phone = search.window(y, x, threshold)
        tried.append(window)
        if window.verdict == KEPT or (window.verdict == FLAT and flat == "keep"):
            patches.append((window, phone, alignment.dslr[y : y + SIZE, x : x + SIZE].copy()))
    return Extraction(tuple(tried), tuple(patches))


class _Search:
    """Both images in gray and in the band; the phone's with a margin, for windows at the border."""

    def __init__(self, alignment: "Alignment", reach: int, max_angle: float):
        self.alignment, self.reach, self.max_angle = alignment, reach, max_angle
        # What a turned window and cubic interpolation need beyond the shift.
        self.pad = math.ceil(SIZE / 2 * math.sin(math.radians(max_angle))) + 3
        self.margin = reach + self.pad + _BAND_REACH
        wide, self.there = _with_margin(alignment, self.margin)
        self.dslr, self.phone = _gray(alignment.dslr), _gray(alignment.phone)
        self.dslr_band, self.phone_band = _band(self.dslr), _band(_gray(wide))

    def window(self, y: int, x: int, threshold: float) -> tuple[Window, np.ndarray]:
        """The verdict on one window, and the phone's patch: as moved, or in place."""
        cut = np.s_[y : y + SIZE, x : x + SIZE]
        here, target, band = self.phone[cut], self.dslr[cut], self.dslr_band[cut]
        in_place = self.alignment.phone[cut].copy()
        contrast, before = float(target.std()), ncc(here, target)
        stays = Window(y, x, FLAT, before, before, 0.0, 0.0, 0.0, contrast, 0.0)
        if min(contrast, here.std()) < _NO_CONTRAST or math.isnan(before):
            return stays, in_place

        part = self._part(y, x)
        (dx, dy, angle), edge = self._place(y, x, band, part)
        at = _grid(x + dx + self.margin, y + dy + self.margin, angle)[part]
        structure = ncc(cv2.remap(self.phone_band, at, None, cv2.INTER_CUBIC), band[part])
        stays = replace(stays, structure=structure)
        held = structure >= _LEAST_STRUCTURE
        if not held and band.std() < _FINE:
            return stays, in_place
        if edge and held:
            if contrast < _LOW_CONTRAST:
                return stays, in_place
            return replace(stays, verdict=EDGE, dx=dx, dy=dy, angle=angle), in_place

        found, patch = stays, in_place
        if held:
            patch = self.alignment.phone_at(_grid(x + dx, y + dy, angle))
            after = ncc(_gray(patch), target)
            if after - before >= _LEAST_GAIN:
                found = replace(stays, ncc=after, dx=dx, dy=dy, angle=angle)
            else:
                patch = in_place
        if found.ncc > threshold:
            return replace(found, verdict=KEPT if held else DIFFERS), patch
        if contrast < _LOW_CONTRAST:
            return stays, in_place
        return replace(found, verdict=BELOW), patch

    def _part(self, y: int, x: int) -> tuple[slice, slice]:
        """The rows and columns of a window that are far enough from the images' border."""
        return tuple(
            slice(max(0, _BORDER - start), min(SIZE, length - _BORDER - start))
            for start, length in zip((y, x), self.dslr.shape, strict=True)
        )

    def _place(self, y: int, x: int, band: np.ndarray, part) -> tuple[tuple[float, float, float], bool]:
        """(dx, dy, angle) with the highest NCC of the bands, and whether the search ended at its edge."""
        first = self.margin - self.reach
        side = SIZE + 2 * self.reach
        wide = np.s_[y + first : y + first + side, x + first : x + first + side]
        seen = self.phone_band[wide][tuple(slice(p.start, p.stop + 2 * self.reach) for p in part)]
        score = cv2.matchTemplate(seen, np.ascontiguousarray(band[part]), cv2.TM_CCOEFF_NORMED)
        score[~_whole(self.there[wide])] = -2
        dy, dx = np.unravel_index(np.argmax(score), score.shape)
        around = np.pad(score, 1, constant_values=-2)[dy : dy + 3, dx : dx + 3]
        start = float(dx - self.reach), float(dy - self.reach), 0.0
        if min(around[0, 1], around[2, 1], around[1, 0], around[1, 2]) <= -2:
            return start, True
        place = self._climb(y, x, band[part], part, np.array(start))
        if place is None or not self.alignment.inside(_grid(x + place[0], y + place[1], place[2]))[1:-1, 1:-1].all():
            return start, True
        return tuple(float(v) for v in place), False

    def _climb(self, y: int, x: int, band: np.ndarray, part, place: np.ndarray) -> np.ndarray | None:
        """The maximum of the NCC near ``place``, to a fraction of a pixel; None where it leaves the range of the search.

        Each step finds the factor a, offset b and motion p for which a (phone + gradient p) + b comes closest to the DSLR's
        window (least squares), and moves by p: the maximum of the NCC to first order (ECC: Evangelidis and Psarakis 2008).
        """
        ends = self.margin - self.pad - self.reach
        side = SIZE + 2 * (self.pad + self.reach)
        around = self.phone_band[y + ends : y + ends + side, x + ends : x + ends + side]
        slopes = [cv2.Sobel(around, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))]
        layers = cv2.merge([around, *slopes])
        goal = band.astype(np.float64).ravel()
        goal -= goal.mean()
        u, v = (c[part].ravel() for c in np.meshgrid(_OFFSETS, _OFFSETS))
        for _ in range(_STEPS):
            at = _grid(place[0] + self.pad + self.reach, place[1] + self.pad + self.reach, place[2])[part]
            value, along_x, along_y = cv2.remap(layers, at, None, cv2.INTER_CUBIC).reshape(-1, 3).T.astype(np.float64)
            rows = [value, along_x, along_y]
            if self.max_angle:
                c, s = math.cos(math.radians(place[2])), math.sin(math.radians(place[2]))
                rows.append(math.radians(1) * (along_y * (c * u - s * v) - along_x * (s * u + c * v)))
            rows = np.stack(rows)
            rows -= rows.mean(1, keepdims=True)
            # einsum, not @: its sums do not depend on the number of threads.
            normal, right = np.einsum("ik,jk->ij", rows, rows), np.einsum("ik,k->i", rows, goal)
            try:
                factor, *motion = np.linalg.solve(normal, right)
            except np.linalg.LinAlgError:
                return None
            motion = np.array(motion) / factor if factor > 0 else np.array([np.nan])
            if not np.isfinite(motion).all():
                return None
            motion = np.clip(motion, -1, 1)  # a first-order step says nothing about places further away
            place[: len(motion)] += motion
            if np.abs(place[:2]).max() > self.reach or abs(place[2]) > self.max_angle:
                return None
            if np.abs(motion).max() < _STILL:
                break
        return place


_OFFSETS = np.arange(SIZE) - (SIZE - 1) / 2


def _grid(x: float, y: float, angle: float) -> np.ndarray:
    """Where the pixels of a window lie whose corner is at (x, y) before it is turned about its centre: 100 x 100 x 2."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = _OFFSETS[None, :], _OFFSETS[:, None]
    middle = (SIZE - 1) / 2
    return np.stack([x + middle + c * u - s * v, y + middle + s * u + c * v], -1).astype(np.float32)


def _gray(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)


def _band(gray: np.ndarray) -> np.ndarray:
    """Fine detail: neither grain nor slow changes of light, which two cameras do not share."""
    return cv2.GaussianBlur(gray, (0, 0), _BAND[0]) - cv2.GaussianBlur(gray, (0, 0), _BAND[1])


def _with_margin(alignment: "Alignment", margin: int) -> tuple[np.ndarray, np.ndarray]:
    """The phone's aligned image with ``margin`` more pixels of its photograph on each side, and where it has some (bool)."""
    height, width = alignment.phone.shape[:2]
    wide = cv2.copyMakeBorder(alignment.phone, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    there = np.ones(wide.shape[:2], bool)
    tall = height + 2 * margin
    for y, x, h, w in (
        (0, 0, margin, width + 2 * margin), (height + margin, 0, margin, width + 2 * margin),
        (0, 0, tall, margin), (0, width + margin, tall, margin),
    ):  # fmt: skip
        columns, rows = np.meshgrid(np.arange(x, x + w) - margin, np.arange(y, y + h) - margin)
        xy = np.stack([columns, rows], -1).astype(np.float32)
        wide[y : y + h, x : x + w] = alignment.phone_at(xy)
        there[y : y + h, x : x + w] = alignment.inside(xy)
    return wide, there


def _whole(there: np.ndarray) -> np.ndarray:
    """For each position of a window in ``there`` whether the photograph fills it, but for one pixel at its border."""
    missing = cv2.integral((~there).astype(np.uint8))
    size = SIZE - 2
    corner = missing[1:-1, 1:-1]
    count = corner[size:, size:] - corner[:-size, size:] - corner[size:, :-size] + corner[:-size, :-size]
    return count == 0
