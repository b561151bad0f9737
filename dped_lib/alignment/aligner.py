"""The matching algorithm of section 2 and Figure 4: from two photographs of a scene to one pair of aligned images.

SIFT keypoints are found at reduced size, matched and given to RANSAC for a first homography. That map is then refined:
small blocks of both photographs are compared at (nearly) full size, and the map is fitted to where they agree; in a
scene with depth, to keypoints of one surface, found once more where both photographs are laid over each other. Both
photographs are cut to the largest rectangle of the wanted aspect that both show, and resampled once. The DSLR's keeps its
axes. Every attempt ends in a report with a verdict; a pair that cannot be aligned is a result, not an error.

Source: paper, section 2, "Matching algorithm". Its code was never released; the authors' answer in issue 7 of aiff22/DPED
names SIFT and windows, but no settings. Those here were chosen on the simulated rig and on City100 (benchmarks/README.md).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.alignment import geometry, keypoints
from dped_lib.base.errors import DpedError
from dped_lib.alignment.pair_map import PairMap, fit, fit_points

VERDICTS = (
    "aligned", "too few matches", "different scene", "degenerate homography", "folded homography", "too little overlap",
)  # fmt: skip

_FEW_KEYPOINTS = 50
_RANSAC_PX = 1.5  # in pixels of the image that keypoints were found in
_ROUNDS = (
    (0.6e6, 9),
    (2.0e6, 6),
    (2.0e6, 3),
)  # of refinement: pixels of the images compared, and how far blocks may move
_BLOCKS = 300
_BLOCK_NCC = 0.55
_OFF_PX = 1.0  # blocks further than that from the map do not agree with it,
_MOST_OFF = 0.05  # and of one surface few do not: 2 % at most on the rig and City100
_POINT_REACH = 12  # pixels from the map within which keypoints look for their partners once more
_MIN_OVERLAP = 0.1
_MIN_NCC = 0.25  # depth and moving leaves cost correlation, and patches are judged one by one; chance gives about 0
_SAME_PX = 3.0  # blocks within so many pixels of the map agree with it


@dataclass(frozen=True)
class Report:
    """What was found for one pair of photographs. Numbers are None where the work did not come that far.

    Attributes:
        verdict: ``aligned``, or why not (``VERDICTS``). ``reason``: the same as a sentence with the numbers.
        keypoints: SIFT keypoints of the phone's and of the DSLR's photograph.
        matches: those that pass the ratio test and are each other's nearest.
        inliers: matches that agree on one homography.
        blocks: blocks that agree with the refined map.
        reprojection_px: median distance between where these were found and where the map puts them, in pixels of the
            aligned images.
        overlap: shared area as a share of the photograph with the smaller field of view.
        turn: degrees, clockwise, by which the phone's photograph is turned to match the DSLR's.
        ncc: median normalised cross-correlation (gray) of the aligned images' 50 x 50 blocks that are not flat.
        model: ``homography``, or ``homography + lens`` where fitting the lenses' distortion paid.
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
    turn: float | None = None
    ncc: float | None = None
    model: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Alignment:
    """The outcome for one pair. ``phone``, ``dslr`` and ``map`` are None unless the verdict is ``aligned``.

    Attributes:
        phone, dslr: aligned images, uint8 H x W x 3, RGB.
        map: from the DSLR's photograph to the phone's.
        origin, step: (x, y) of the first aligned pixel in the DSLR's photograph, and DSLR pixels per aligned pixel.
        matched: keypoint matches, N x 4 (x, y in the phone's photograph, x, y in the DSLR's); ``agreed``: the inliers.
        seconds: time of each stage.
    """

    report: Report
    phone: np.ndarray | None = None
    dslr: np.ndarray | None = None
    map: PairMap | None = None
    origin: tuple[float, float] = (0.0, 0.0)
    step: float = 1.0
    matched: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    agreed: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    seconds: dict[str, float] = field(default_factory=dict)
    source: "geometry.Resampler | None" = None

    def to_dslr(self, xy) -> np.ndarray:
        """Pixels of the aligned images (N x 2) -> pixels of the DSLR's photograph."""
        return geometry.points(xy) * self.step + self.origin

    def to_phone(self, xy) -> np.ndarray:
        """Pixels of the aligned images (N x 2) -> pixels of the phone's photograph."""
        return self.map.to_phone(self.to_dslr(xy))

    def phone_at(self, xy: np.ndarray) -> np.ndarray:
        """The phone's photograph at ``xy`` (h x w x 2, pixels of the aligned image), interpolated once: uint8 h x w x 3.

        Beyond the aligned image the photograph goes on, as a rule for a few pixels; see ``inside``.
        """
        return self.source(self.to_phone(np.reshape(xy, (-1, 2))).reshape(np.shape(xy)))

    def inside(self, xy: np.ndarray) -> np.ndarray:
        """Whether the phone's photograph has something at ``xy`` (h x w x 2): bool h x w."""
        return self.source.inside(self.to_phone(np.reshape(xy, (-1, 2))).reshape(np.shape(xy)))


class _Rejected(Exception):
    def __init__(self, verdict: str, reason: str):
        super().__init__(reason)
        self.verdict, self.reason = verdict, reason


def align(phone: np.ndarray, dslr: np.ndarray, size: tuple[int, int] = paper.ALIGNED_SIZE) -> Alignment:
    """Aligns two photographs of a scene (section 2, Figure 4).

    Args:
        phone, dslr: uint8 H x W x 3, RGB, of any size. They may be turned against each other, but not mirrored.
        size: height x width of the aligned images; turned for an upright DSLR photograph. Where the shared part has
            fewer pixels than that in either photograph, it is smaller with the same aspect: nothing is enlarged.

    Raises:
        DpedError: not uint8 RGB. What cannot be aligned is no error: see ``Report.verdict``.
    """
    for image in (phone, dslr):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DpedError(f"photographs must be uint8 H x W x 3, not {image.dtype} {image.shape}.")
    work = _Work(phone, dslr, size)
    try:
        return work.run()
    except _Rejected as no:
        report = replace(work.report, verdict=no.verdict, reason=no.reason)
        return Alignment(report, matched=work.matched, agreed=work.agreed, seconds=work.seconds)


class _Work:
    """One pair on its way. What is known so far survives a rejection."""

    def __init__(self, phone: np.ndarray, dslr: np.ndarray, size: tuple[int, int]):
        self.phone, self.dslr = phone, dslr
        upright = dslr.shape[0] > dslr.shape[1]
        self.size = (max(size), min(size)) if upright else (min(size), max(size))
        self.report = Report()
        self.matched, self.agreed = np.zeros((0, 4)), np.zeros(0, bool)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _note(self, **known) -> None:
        self.report = replace(self.report, **known)

    def run(self) -> Alignment:
        with self._stage("gray"):
            gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (self.phone, self.dslr)]
        with self._stage("keypoints"):
            found = [keypoints.keypoints(g) for g in gray]
        with self._stage("match"):
            first = self._first_map(*found)
        with self._stage("refine"):
            refined, blocks = self._refine(first, *gray)
        with self._stage("resample"):
            return self._cut(refined, blocks)

    def _first_map(self, a: keypoints.Keypoints, b: keypoints.Keypoints) -> PairMap:
        self._note(keypoints=(len(a.xy), len(b.xy)))
        if min(len(a.xy), len(b.xy)) < _FEW_KEYPOINTS:
            raise _Rejected("too few matches", f"{len(a.xy)} and {len(b.xy)} keypoints: too little detail to match.")
        pairs = keypoints.match(a.descriptors, b.descriptors)
        self.matched = np.hstack([a.xy[pairs[:, 0]], b.xy[pairs[:, 1]]])
        self.agreed = np.zeros(len(pairs), bool)
        self._note(matches=len(pairs))
        words = f"{len(pairs)} of {len(a.xy)} and {len(b.xy)} keypoints match"
        if len(pairs) < 8:
            raise _Rejected("different scene", f"{words}: too few for one scene.")
        # At the size they were found in, a pixel means the same for both. The random numbers start alike at each call.
        h, mask = cv2.findHomography(
            self.matched[:, 2:] * b.scale, self.matched[:, :2] * a.scale, cv2.USAC_MAGSAC, _RANSAC_PX,
            maxIters=10_000, confidence=0.9999,
        )  # fmt: skip
        inliers = 0 if h is None else int(mask.sum())
        self._note(inliers=inliers)
        # Chance agrees on some homography too, and on more the more matches there are (Brown and Lowe 2007, section 3.2).
        needed = 8 + 0.1 * len(pairs)
        if inliers < needed:
            raise _Rejected("different scene", f"{words}, but {inliers} agree on one homography ({needed:.0f} needed).")
        self.agreed = mask.ravel().astype(bool)
        h = np.diag([1 / a.scale, 1 / a.scale, 1.0]) @ h @ np.diag([b.scale, b.scale, 1.0])
        self._check(h)
        shapes = self.phone.shape[:2], self.dslr.shape[:2]
        return PairMap(h / h[2, 2], *(geometry.ideal_lens(*s) for s in shapes))

    def _check(self, h: np.ndarray) -> None:
        """Whether a homography can be that of two cameras before one scene."""
        corners = geometry.corners(*self.dslr.shape[:2])
        inside = self.matched[self.agreed, 2:]
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(inside.T)))
        if spread[0] < 0.02 * spread[1] or spread[1] < 0.02 * np.linalg.norm(corners[2]):
            raise _Rejected("degenerate homography", "the matches that agree lie on one spot or line.")
        around = np.vstack([inside, inside.mean(0)])
        depth = np.column_stack([around, np.ones(len(around))]) @ h[2]
        jacobian = np.array([np.linalg.det(_jacobian(h, p)) for p in around[:: max(1, len(around) // 50)]])
        if depth.min() * depth.max() <= 0 or jacobian.min() <= 0:
            raise _Rejected("folded homography", "the map mirrors or folds the picture.")
        if not 1e-4 < jacobian.min() <= jacobian.max() < 1e4 or np.linalg.cond(_jacobian(h, inside.mean(0))) > 8:
            raise _Rejected("degenerate homography", "the map squeezes the picture to a sliver.")

    def _refine(self, guess: PairMap, phone: np.ndarray, dslr: np.ndarray) -> tuple[PairMap, np.ndarray]:
        """The map fitted to blocks, and the last round's blocks that agree: N x 4, phone's and DSLR's pixels."""
        box = self._shared_box(guess)
        blocks, step = np.zeros((0, 4)), 1.0
        for number, (pixels, reach) in enumerate(_ROUNDS):
            if (laid := self._overlay(guess, box, pixels, phone, dslr)) is None:
                break
            *grays, valid, step = laid
            found, ncc = keypoints.compare_blocks(*(keypoints.band(g) for g in grays), valid, reach, _BLOCKS)
            found = found[ncc > _BLOCK_NCC]
            # A block found further right belongs to what the guess shows there.
            blocks = _photographed(guess, found[:, :2] + found[:, 2:], found[:, :2], box[0], step)
            # The first round only brings the blocks near enough.
            guess = fit(guess, self.matched[self.agreed], blocks, step, lenses=number > 0)
        unit = step * guess.scale_at(box.mean(0))
        # Where the map does not explain what the blocks show, the scene may have depth.
        off = guess.off(blocks) > _OFF_PX * unit
        if off.sum() > _MOST_OFF * len(off) and (laid := self._overlay(guess, box, pixels, phone, dslr)):
            guess = fit_points(guess, self._points(guess, box, *laid), step)
        return guess, blocks[guess.off(blocks) < _SAME_PX * unit]

    def _overlay(self, guess: PairMap, box: np.ndarray, pixels: float, phone: np.ndarray, dslr: np.ndarray):
        """What both photographs show, in gray, the phone's where the map puts it: (phone's, DSLR's, where both have
        something, DSLR pixels per pixel of these); None where that is a line."""
        step = max(1.0, 1 / guess.scale_at(box.mean(0)), (np.prod(np.ptp(box, axis=0)) / pixels) ** 0.5)
        width, height = (np.ptp(box, axis=0) / step).astype(int) + 1
        if min(width, height) < 2:
            return None
        xy = geometry.pixel_grid(height, width, box[0], step)
        there = guess.dense(height, width, box[0], step)
        sample_dslr = geometry.Resampler(dslr, step)
        sample_phone = geometry.Resampler(phone, step * guess.scale_at(box.mean(0)))
        valid = sample_phone.inside(there) & sample_dslr.inside(xy)
        return sample_phone(there), sample_dslr(xy), valid, step

    def _points(self, guess, box, phone, dslr, valid, step) -> np.ndarray:
        """Keypoints of an overlay that match and lie near each other: N x 4, phone's and DSLR's pixels."""
        a, b = (keypoints.keypoints(g, np.inf) for g in (phone, dslr))
        pairs = keypoints.match(a.descriptors, b.descriptors)
        ends = a.xy[pairs[:, 0]], b.xy[pairs[:, 1]]
        whole = cv2.erode(valid.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0).astype(bool)
        good = np.linalg.norm(ends[0] - ends[1], axis=1) < _POINT_REACH
        for xy in ends:
            column, row = np.clip(xy.round().astype(int), 0, np.array(valid.shape[::-1]) - 1).T
            good &= whole[row, column]
        return _photographed(guess, ends[0][good], ends[1][good], box[0], step)

    def _shared_box(self, guess: PairMap) -> np.ndarray:
        """Bounding box (2 x 2: least and greatest x, y) of what both photographs show, in the DSLR's."""
        outline = geometry.outline(*self.phone.shape[:2])
        seen = guess.to_dslr(outline)
        height, width = self.dslr.shape[:2]
        least = np.clip(np.floor(seen.min(0)), 0, (width - 1, height - 1))
        most = np.clip(np.ceil(seen.max(0)), 0, (width - 1, height - 1))
        return np.array([least, most])

    def _cut(self, found: PairMap, blocks: np.ndarray) -> Alignment:
        quads = [geometry.corners(*self.dslr.shape[:2]), found.to_dslr(geometry.corners(*self.phone.shape[:2]))]
        turned = geometry.clockwise(quads[1])
        overlap = geometry.overlap(quads[0], turned)
        self._note(overlap=round(overlap, 4), turn=round(found.turn_at(quads[0].mean(0)), 2), model=found.model)
        if overlap < _MIN_OVERLAP:
            raise _Rejected("too little overlap", f"the photographs share {overlap:.0%} ({_MIN_OVERLAP:.0%} needed).")
        aspect = self.size[1] / self.size[0]
        rectangle = geometry.largest_rectangle([quads[0], turned], aspect)
        if rectangle is None:
            raise _Rejected("too little overlap", "the shared part holds no upright rectangle.")
        x, y, half = rectangle
        scale = found.scale_at((x, y))
        # Nothing is enlarged: at least one pixel of either photograph for one of the aligned image.
        height = min(self.size[0], int(2 * half), int(2 * half * scale))
        size = (height, round(height * aspect))
        if min(size) < paper.PATCH_SIZE:
            raise _Rejected(
                "too little overlap", f"the shared part has {size[0]} x {size[1]} pixels, less than a patch."
            )
        step = 2 * half / size[0]
        # Lenses bend the border: a hair of it may look outside the phone's photograph. Come in until none does.
        for _ in range(20):
            origin = np.array([x - (size[1] - 1) / 2 * step, y - (size[0] - 1) / 2 * step])
            there = found.to_phone(geometry.outline(*size) * step + origin)
            beyond = np.maximum(-there, there - (self.phone.shape[1] - 1, self.phone.shape[0] - 1)).max()
            if beyond <= 0.5:
                break
            step *= 0.995
        dslr = geometry.Resampler(self.dslr, step)(geometry.pixel_grid(*size, origin, step))
        source = geometry.Resampler(self.phone, step * scale)
        phone = source(found.dense(*size, origin, step))
        ncc = _typical_ncc(phone, dslr)
        away = found.off(blocks) / (scale * step)
        self._note(
            size=size, ncc=round(ncc, 4), blocks=len(blocks),
            reprojection_px=round(float(np.median(away)), 4) if len(away) else None,
        )  # fmt: skip
        if not ncc >= _MIN_NCC:  # a nan too
            raise _Rejected("different scene", f"aligned, the images correlate by {ncc:.2f} only ({_MIN_NCC} needed).")
        self._note(verdict="aligned", reason=f"{self.report.inliers} keypoints and {len(blocks)} blocks agree.")
        return Alignment(
            self.report, phone, dslr, found, tuple(origin), step, self.matched, self.agreed, self.seconds, source
        )


def _photographed(guess: PairMap, phone: np.ndarray, dslr: np.ndarray, origin, step: float) -> np.ndarray:
    """Points of an overlay (N x 2 each) as pixels of the phone's and the DSLR's photographs (N x 4)."""
    return np.hstack([guess.to_phone(phone * step + origin), dslr * step + origin])


def _jacobian(h: np.ndarray, xy: np.ndarray) -> np.ndarray:
    x, y, w = h @ (*xy, 1.0)
    return (h[:2, :2] - np.outer((x / w, y / w), h[2, :2])) / w


def _typical_ncc(phone: np.ndarray, dslr: np.ndarray, side: int = 50) -> float:
    found = []
    gray = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (phone, dslr)]
    for y in range(0, dslr.shape[0] - side + 1, side):
        for x in range(0, dslr.shape[1] - side + 1, side):
            a, b = (g[y : y + side, x : x + side] for g in gray)
            if b.std() > 4:
                found.append(float(cv2.matchTemplate(a, b, cv2.TM_CCOEFF_NORMED)[0, 0]))
    return float(np.median(found)) if found else float("nan")
