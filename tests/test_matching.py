"""Keypoints and blocks: what moved is found where it went, what shows nothing is left out."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from dped_lib.alignment import keypoints
from dped_lib.data import rig


@pytest.fixture(scope="module")
def gray() -> np.ndarray:
    return cv2.cvtColor(rig.shoot("astronaut-a", cameras=("dslr",))["dslr"].image, cv2.COLOR_RGB2GRAY)


def moved(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """``image`` with its content ``dx`` to the right and ``dy`` down."""
    return cv2.warpAffine(
        image.astype(np.float32), np.float32([[1, 0, dx], [0, 1, dy]]), image.shape[::-1],
        flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip


@given(st.floats(-4, 4), st.floats(-4, 4), st.floats(0.5, 1.5), st.floats(-20, 20))
@few(max_examples=12)
def test_blocks_are_found_to_a_tenth_of_a_pixel_in_any_light(gray, dx, dy, gain, offset):
    phone = keypoints.band(moved(gray, dx, dy) * gain + offset)
    found, ncc = keypoints.compare_blocks(phone, keypoints.band(gray), np.ones(gray.shape, bool), 6, 60)
    assert len(found) > 30
    assert np.abs(np.median(found[:, 2:], axis=0) - (dx, dy)).max() < 0.1
    assert np.median(ncc) > 0.9


def test_blocks_show_nothing_where_nothing_is(gray):
    flat = np.full(gray.shape, 90.0, np.float32)
    everywhere = np.ones(gray.shape, bool)
    assert len(keypoints.compare_blocks(flat, flat, everywhere, 6, 60)[0]) == 0
    assert len(keypoints.compare_blocks(gray[:40], gray[:40], everywhere[:40], 6, 60)[0]) == 0, "smaller than a search"
    half = everywhere.copy()
    half[:, gray.shape[1] // 2 :] = False
    band = keypoints.band(gray)
    found, _ = keypoints.compare_blocks(band, band, half, 6, 60)
    assert len(found) and found[:, 0].max() < gray.shape[1] // 2


def test_matches_are_one_to_one():
    """Shuffled descriptors find their partners; a doubled one is ambiguous and finds none."""
    rng = np.random.default_rng(0)
    a = np.abs(rng.normal(size=(40, 128))).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    order = rng.permutation(40)
    pairs = keypoints.match(a, a[order])
    assert len(pairs) == 40 and np.array_equal(order[pairs[:, 1]], pairs[:, 0])
    doubled = np.vstack([a, a[:5]])
    assert set(keypoints.match(a, doubled)[:, 0]) == set(range(5, 40))
    assert keypoints.match(a[:1], a).shape == (0, 2)


def test_keypoints_lie_where_the_photograph_has_them(gray):
    """The same keypoints whether they were looked for at full or at reduced size, in pixels of the photograph."""
    large = cv2.resize(gray, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    a, b = keypoints.keypoints(gray), keypoints.keypoints(large)
    assert 3 * b.scale == pytest.approx(a.scale, rel=0.01) and b.scale < 0.5
    pairs = keypoints.match(a.descriptors, b.descriptors)
    off = (b.xy[pairs[:, 1]] + 0.5) / 3 - 0.5 - a.xy[pairs[:, 0]]
    assert len(pairs) > 300 and np.abs(np.median(off, axis=0)).max() < 0.05
    assert len(keypoints.keypoints(np.zeros((300, 300), np.uint8)).xy) == 0
