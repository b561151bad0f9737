"""Test patch extraction: known motions are recovered, flat windows stay, and only maxima of the NCC are kept."""

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image

from dped_lib import paper
from dped_lib.alignment import aligner, extraction
from dped_lib.alignment.extraction import BELOW, DIFFERS, EDGE, FLAT, KEPT, WINDOW_VERDICTS, extract, ncc
from dped_lib.base.errors import DpedError
from dped_lib.data import rig

MARGIN = 30


@dataclass
class Known:
    """Hold an aligned pair whose true motion is known.

    The DSLR shows ``canvas`` inside its margin. A point that the DSLR has at ``middle + u`` is at
    ``middle + (dx, dy) + R(angle) u`` in the phone's image, in other light (``tone``).
    """

    canvas: np.ndarray
    dx: float = 0.0
    dy: float = 0.0
    angle: float = 0.0
    tone: object = None
    ends: bool = False  # whether the phone's photograph ends where the aligned image does
    phone_canvas: np.ndarray | None = None  # what the phone shows, if that is not ``canvas``
    dslr: np.ndarray = field(init=False)
    phone: np.ndarray = field(init=False)

    def __post_init__(self):
        self.dslr = self.canvas[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()
        height, width = self.dslr.shape[:2]
        self.middle = np.array([(width - 1) / 2, (height - 1) / 2])
        self.phone = self.sample_phone(
            np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        )

    def sample_phone(self, xy):
        c, s = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        offset = np.asarray(xy, np.float64) - self.middle - (self.dx, self.dy)
        at = offset @ np.array([[c, -s], [s, c]]) + self.middle + MARGIN
        source = self.canvas if self.phone_canvas is None else self.phone_canvas
        # The canvas is smooth, so errors of Lanczos interpolation are far below the tested accuracy.
        image = cv2.remap(source, at.astype(np.float32), None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
        return (
            image
            if self.tone is None
            else np.clip(self.tone(image.astype(np.float64)), 0, 255).round().astype(np.uint8)
        )

    def inside(self, xy):
        height, width = self.dslr.shape[:2]
        if not self.ends:
            return np.ones(xy.shape[:2], bool)
        return ((xy >= 0) & (xy <= (width - 1, height - 1))).all(-1)


@pytest.fixture(scope="session")
def photograph():
    return rig.shoot("chelsea-a", cameras=("dslr",))["dslr"].image


@pytest.fixture(scope="session")
def canvas(photograph):
    """One window with its margin."""
    return np.ascontiguousarray(photograph[200 : 300 + 2 * MARGIN, 300 : 400 + 2 * MARGIN])


@pytest.fixture(scope="session")
def rig_pairs():
    pairs = {}
    for phone, scene in (("iphone", "coffee-a"), ("blackberry", "pebbles-1"), ("sony", "town-2")):
        frames = rig.shoot(scene, cameras=(phone, "dslr"))
        pairs[phone] = aligner.align(frames[phone].image, frames["dslr"].image, size=(400, 540)), frames
        assert pairs[phone][0].report.verdict == "aligned"
    return pairs


def only(result):
    assert len(result.windows) == 1
    return result.windows[0]


def noise(seed, shape=(160, 160, 3), smooth=2.0):
    grain = np.random.default_rng(seed).normal(0, 1, shape[:2]).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), smooth)
    return np.repeat((grain / grain.std())[..., None], 3, 2)


def as_image(values):
    return np.clip(values, 0, 255).round().astype(np.uint8)


def phase_shift(a, b):
    """Return the shift in pixels by phase correlation, which does not place the patches."""
    window = cv2.createHanningWindow((100, 100), cv2.CV_32F)
    # phaseCorrelate multiplies the window into its arguments, so each needs its own array.
    gray = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (a, b)]
    return float(np.hypot(*cv2.phaseCorrelate(*gray, window)[0]))


# -- known truth -------------------------------------------------------------------------------------------------------


@examples(max_examples=40)
@given(dx=st.floats(-5, 5), dy=st.floats(-5, 5), angle=st.floats(-1.2, 1.2))
def test_an_injected_shift_and_rotation_are_recovered(canvas, dx, dy, angle):
    w = only(extract(Known(canvas, dx, dy, angle)))
    assert w.verdict == KEPT
    assert np.hypot(w.dx - dx, w.dy - dy) < 0.1
    assert abs(w.angle - angle) < 0.1
    assert w.ncc > 0.97


@examples(max_examples=25)
@given(gain=st.floats(0.3, 1.0), offset=st.floats(0, 40), dx=st.floats(-4, 4), dy=st.floats(-4, 4))
def test_the_place_does_not_depend_on_the_phones_brightness_and_contrast(canvas, gain, offset, dx, dy):
    assume(np.hypot(dx, dy) > 0.7)
    w = only(extract(Known(canvas, dx, dy, tone=lambda v: gain * v + offset)))
    assert np.hypot(w.dx - dx, w.dy - dy) < 0.1 and abs(w.angle) < 0.1


@pytest.mark.parametrize("gamma", [0.7, 0.8, 1.25, 1.5])
def test_a_tone_curve_hardly_moves_the_place(canvas, gamma):
    # A tone curve moves the centre of every soft edge slightly to one side, so the tolerance is larger.
    w = only(extract(Known(canvas, 1.3, -2.6, tone=lambda v: 255 * (v / 255) ** gamma)))
    assert np.hypot(w.dx - 1.3, w.dy + 2.6) < 0.25 and abs(w.angle) < 0.15


def test_a_gradient_of_light_does_not_move_a_window(canvas):
    ramp = np.linspace(-60, 60, 5000)
    dark = only(
        extract(Known(canvas, 1.6, -2.3, tone=lambda v: v * 0.6 + 60 + ramp[: v.shape[1]][None, :, None] * 0.8))
    )
    assert np.hypot(dark.dx - 1.6, dark.dy + 2.3) < 0.15


def test_shifts_alone_when_no_rotation_is_allowed(canvas):
    w = only(extract(Known(canvas, 2.5, -1.5), max_angle=0))
    assert w.angle == 0
    assert np.hypot(w.dx - 2.5, w.dy + 1.5) < 0.1


def test_equal_images_correlate_fully_and_stay(photograph):
    pair = Known(photograph)
    result = extract(pair)
    for w in result.windows:
        assert (w.dx, w.dy, w.angle) == (0, 0, 0) and not w.moved
        assert w.verdict in (KEPT, FLAT)
        assert w.verdict == FLAT or w.ncc == pytest.approx(1)
    assert result.counts()["moved"] == 0
    for w, phone, dslr in result.patches:
        assert np.array_equal(phone, dslr)
        assert np.array_equal(dslr, pair.dslr[w.y : w.y + 100, w.x : w.x + 100])


def test_a_moved_patch_is_interpolated_once(canvas):
    """The patch is read at the shifted and rotated places of the window's pixels, which complex numbers give here."""
    pair = Known(canvas, 2.25, -3.5, 0.8)
    ((w, phone, dslr),) = extract(pair).patches
    offsets = np.arange(100) - 49.5
    rotated = (offsets[None, :] + 1j * offsets[:, None]) * np.exp(1j * np.radians(w.angle))
    places = np.stack([w.x + 49.5 + w.dx + rotated.real, w.y + 49.5 + w.dy + rotated.imag], -1)
    assert np.array_equal(phone, pair.sample_phone(places.astype(np.float32)))
    gray = [cv2.cvtColor(patch.astype(np.float32), cv2.COLOR_RGB2GRAY) for patch in (phone, dslr)]
    assert w.ncc == pytest.approx(np.corrcoef(*(g.ravel() for g in gray))[0, 1], abs=1e-6)


# -- windows with little detail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_window_is_flat_and_never_moved(level):
    pair = Known(np.full((160, 160, 3), level, np.uint8))
    w = only(extract(pair))
    assert w.verdict == FLAT and np.isnan(w.ncc) and not w.moved
    assert extract(pair).patches == ()
    ((kept, phone, dslr),) = extract(pair, flat="keep").patches
    assert kept.verdict == FLAT and np.array_equal(phone, pair.phone) and np.array_equal(dslr, pair.dslr)


@pytest.mark.parametrize("seed", range(6))
def test_a_sky_is_flat_though_its_gradient_correlates(seed):
    # Both show the same evening sky with different grain, so the NCC is above 0.9 at any place.
    sky = np.full((160, 160, 3), 150.0) + np.linspace(-30, 30, 160)[:, None, None]
    grain = noise(seed, smooth=0.8), noise(seed + 100, smooth=0.8)
    w = only(extract(Known(as_image(sky + grain[0]), phone_canvas=as_image(sky + 2 * grain[1]))))
    assert w.ncc_before > 0.9
    assert w.verdict == FLAT and not w.moved and w.ncc == w.ncc_before


def test_a_clipped_phone_is_flat(canvas):
    w = only(extract(Known(canvas, tone=lambda v: v * 0 + 255)))
    assert w.verdict == FLAT and w.contrast > 3


def test_fine_detail_counts_even_at_low_contrast():
    # A texture of four gray levels that both cameras show is enough to place a window.
    texture = noise(1)
    w = only(extract(Known(as_image(128 + 4 * texture), 1.4, 0.6)))
    assert w.verdict == KEPT and w.contrast < 5
    assert np.hypot(w.dx - 1.4, w.dy - 0.6) < 0.1


def test_common_light_on_different_detail_is_not_kept():
    light = np.linspace(40, 210, 160)[:, None, None]
    w = only(extract(Known(as_image(light + 8 * noise(1)), phone_canvas=as_image(light + 8 * noise(2)))))
    assert w.ncc > 0.9 and w.verdict == DIFFERS


def test_another_scene_is_below_the_threshold():
    w = only(extract(Known(as_image(128 + 40 * noise(3)), phone_canvas=as_image(128 + 40 * noise(4)))))
    assert w.verdict == BELOW and not w.moved


@pytest.mark.parametrize(("dx", "dy"), [(9.0, 0.0), (0.0, -8.0), (-6.0, 6.0), (6.4, 0.0)])
def test_a_shift_beyond_the_search_is_not_kept(canvas, dx, dy):
    w = only(extract(Known(canvas, dx, dy), threshold=-1))
    assert w.verdict == EDGE and not w.moved and w.ncc == w.ncc_before
    further = only(extract(Known(canvas, dx, dy), reach=12))
    assert further.verdict == KEPT and np.hypot(further.dx - dx, further.dy - dy) < 0.1


def test_a_rotation_beyond_the_search_is_not_kept(canvas):
    assert only(extract(Known(canvas, angle=2.5))).verdict == EDGE
    w = only(extract(Known(canvas, angle=2.5), max_angle=4))
    assert w.verdict == KEPT and abs(w.angle - 2.5) < 0.1


def test_the_search_ends_where_the_photograph_ends(canvas):
    assert only(extract(Known(canvas, 3.0, 0.0), threshold=-1)).verdict == KEPT
    assert only(extract(Known(canvas, 3.0, 0.0, ends=True), threshold=-1)).verdict == EDGE
    nearly = only(extract(Known(canvas, 0.4, -0.3, ends=True)))
    assert nearly.verdict == KEPT and np.hypot(nearly.dx - 0.4, nearly.dy + 0.3) < 0.1


# -- the correlation ---------------------------------------------------------------------------------------------------

arrays = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).uniform(0, 255, (9, 7)).astype(np.float32))


@given(a=arrays, b=arrays, gain=st.floats(0.01, 100), offset=st.floats(-300, 300))
def test_ncc_is_symmetric_bounded_and_independent_of_gain_and_offset(a, b, gain, offset):
    value = ncc(a, b)
    assert -1 <= value <= 1
    assert ncc(b, a) == pytest.approx(value, abs=1e-12)
    assert ncc(gain * a.astype(np.float64) + offset, b) == pytest.approx(value, abs=1e-6)
    assert ncc(-a, b) == pytest.approx(-value, abs=1e-12)
    assert ncc(a, a) == pytest.approx(1)
    assert value == pytest.approx(
        np.corrcoef(a.ravel().astype(np.float64), b.ravel().astype(np.float64))[0, 1], abs=1e-9
    )


@pytest.mark.parametrize("level", [0, 0.1, 7, 255])
def test_ncc_of_a_constant_is_undefined(level):
    flat = np.full((100, 100), level, np.float32)
    assert np.isnan(ncc(flat, np.arange(10_000.0).reshape(100, 100)))
    assert np.isnan(ncc(flat, flat))


# -- the whole ---------------------------------------------------------------------------------------------------------


@given(height=st.integers(1, 1200), width=st.integers(1, 1200))
def test_windows_do_not_overlap_and_fill_what_they_can(height, width):
    corners = extraction.windows(height, width)
    assert len(set(corners)) == len(corners) == (height // 100) * (width // 100)
    assert len({(y // 100, x // 100) for y, x in corners}) == len(corners)
    assert all(0 <= y <= height - 100 and 0 <= x <= width - 100 for y, x in corners)


def test_on_the_rig_patches_lie_where_the_geometry_says(rig_pairs):
    residual = []
    for phone, (aligned, frames) in rig_pairs.items():
        # The alignment is made wrong by this shift.
        shift = np.array([1.7, -2.4])
        result = extract(Shifted(aligned, shift))
        assert len(result.patches) >= 0.8 * len(result.windows)
        error = []
        for w, _, _ in result.patches:
            middle = np.array([[w.x + 49.5, w.y + 49.5]])
            wanted = rig.map_points(frames["dslr"], frames[phone], aligned.to_dslr(middle))
            position = aligned.to_phone(middle + shift + (w.dx, w.dy))
            unit = np.linalg.norm(aligned.to_phone(middle + (1, 0)) - aligned.to_phone(middle))
            error.append(np.linalg.norm(position - wanted) / unit)
        assert np.median(error) < 0.15 and np.percentile(error, 95) < 0.5
        residual += [phase_shift(c, p) for _, p, c in result.patches]
    assert np.mean(np.array(residual) < 1) >= 0.95


class Shifted:
    """Wrap an alignment, with its phone image shifted by some pixels."""

    def __init__(self, aligned, shift):
        self.aligned, self.shift, self.dslr = aligned, np.asarray(shift, np.float32), aligned.dslr
        height, width = aligned.dslr.shape[:2]
        self.phone = self.sample_phone(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1))

    def sample_phone(self, xy):
        return self.aligned.sample_phone(np.asarray(xy, np.float32) + self.shift)

    def inside(self, xy):
        # The shift would put true places of border windows outside, so the photograph counts as endless.
        return np.ones(np.shape(xy)[:2], bool)


@pytest.mark.parametrize("phone", paper.PHONES)
def test_no_window_gets_worse_and_counts_add_up(rig_pairs, phone):
    result = extract(rig_pairs[phone][0], threshold=0.97)
    counts = result.counts()
    assert counts["tried"] == len(result.windows) == sum(counts[v] for v in WINDOW_VERDICTS)
    assert counts["patches"] == counts[KEPT] == len(result.patches)
    assert counts["moved"] <= counts[KEPT]
    for w in result.windows:
        assert w.ncc >= w.ncc_before or w.verdict == FLAT
        assert (w.ncc > 0.97) or w.verdict != KEPT
        assert w.moved or w.ncc == pytest.approx(w.ncc_before, nan_ok=True)
    assert len(extract(rig_pairs[phone][0]).patches) >= len(result.patches)


def test_the_same_bytes_for_any_number_of_threads(rig_pairs):
    pair = Shifted(rig_pairs["iphone"][0], (0.8, 0.5))
    threads = cv2.getNumThreads()
    try:
        runs = []
        for n in (1, 4, 2):
            cv2.setNumThreads(n)
            runs.append(extract(pair))
    finally:
        cv2.setNumThreads(threads)
    for other in runs[1:]:
        assert repr(other.windows) == repr(runs[0].windows)
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(other.patches, runs[0].patches, strict=True))


def test_real_photographs_of_two_cameras(mirror):
    folder = mirror / "ngchc" / "CameraSR" / "City100"
    residual = []
    for name in ("001H.PNG", "017H.PNG"):
        phone, dslr = (
            np.asarray(Image.open(folder / f"City100_{camera}" / name).convert("RGB"))
            for camera in ("iPhoneX", "NikonD5500")
        )
        aligned = aligner.align(phone, dslr)
        assert aligned.report.verdict == "aligned"
        result = extract(aligned)
        assert len(result.patches) > 0.6 * len(result.windows)
        residual += [phase_shift(c, p) for _, p, c in result.patches]
    assert np.mean(np.array(residual) < 1) >= 0.95


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"flat": "maybe"}, "drop, keep"),
        ({"reach": 0}, "1 to 50"),
        ({"reach": 2.5}, "1 to 50"),
        ({"max_angle": -1}, "0 and 10"),
        ({"threshold": float("nan")}, "between -1 and 1"),
        ({"threshold": 90}, "between -1 and 1"),
    ],
)
def test_wrong_parameters_are_refused(canvas, wrong, words):
    with pytest.raises(DpedError, match=words):
        extract(Known(canvas), **wrong)


def test_a_rejected_pair_has_no_patches():
    with pytest.raises(DpedError, match="not aligned"):
        extract(aligner.Alignment(aligner.Report(verdict="different scene")))


def test_images_smaller_than_a_window_give_none(canvas):
    result = extract(Known(canvas[:-20]))
    assert result.windows == () and result.counts()["tried"] == 0


@examples(max_examples=50)
@given(st.integers(1, 250), st.integers(1, 250), st.integers(1, 60))
def test_windows_tile_the_middle_of_the_image(height, width, size):
    corners = extraction.windows(height, width, size)
    assert len(corners) == (height // size) * (width // size)
    covered = np.zeros((height, width), int)
    for y, x in corners:
        assert covered[y : y + size, x : x + size].shape == (size, size)
        covered[y : y + size, x : x + size] += 1
    assert covered.max() <= 1
    if corners:
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert 0 <= (height - 1 - rows[-1]) - rows[0] <= 1 and 0 <= (width - 1 - columns[-1]) - columns[0] <= 1
