"""Test keypoints and blocks: moved content is found at its new place, and flat areas give no blocks."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dped_lib.alignment import keypoints
from dped_lib.data import rig


@pytest.fixture(scope="module")
def gray() -> np.ndarray:
    return cv2.cvtColor(rig.shoot("astronaut-a", cameras=("dslr",))["dslr"].image, cv2.COLOR_RGB2GRAY)


def moved(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Shift the content of ``image`` by ``dx`` to the right and ``dy`` down."""
    return cv2.warpAffine(
        image.astype(np.float32),
        np.float32([[1, 0, dx], [0, 1, dy]]),
        image.shape[::-1],
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )


@given(st.floats(-4, 4), st.floats(-4, 4), st.floats(0.5, 1.5), st.floats(-20, 20))
@examples(max_examples=12)
def test_blocks_are_found_to_a_tenth_of_a_pixel_in_any_light(gray, dx, dy, gain, offset):
    phone = keypoints.band_pass(moved(gray, dx, dy) * gain + offset)
    blocks, ncc = keypoints.match_blocks(phone, keypoints.band_pass(gray), np.ones(gray.shape, bool), 6, 60)
    assert len(blocks) > 30
    assert np.abs(np.median(blocks[:, 2:], axis=0) - (dx, dy)).max() < 0.1
    assert np.median(ncc) > 0.9


def test_there_are_no_blocks_where_nothing_is_visible(gray):
    flat = np.full(gray.shape, 90.0, np.float32)
    everywhere = np.ones(gray.shape, bool)
    assert len(keypoints.match_blocks(flat, flat, everywhere, 6, 60)[0]) == 0
    assert len(keypoints.match_blocks(gray[:40], gray[:40], everywhere[:40], 6, 60)[0]) == 0, (
        "the image is smaller than the search"
    )
    half = everywhere.copy()
    half[:, gray.shape[1] // 2 :] = False
    band = keypoints.band_pass(gray)
    blocks, _ = keypoints.match_blocks(band, band, half, 6, 60)
    assert len(blocks) and blocks[:, 0].max() < gray.shape[1] // 2


def test_matches_are_one_to_one():
    """Shuffled descriptors find their partners. A descriptor with two equal partners is ambiguous and finds none."""
    rng = np.random.default_rng(0)
    a = np.abs(rng.normal(size=(40, 128))).astype(np.float32)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    order = rng.permutation(40)
    pairs = keypoints.match(a, a[order])
    assert len(pairs) == 40 and np.array_equal(order[pairs[:, 1]], pairs[:, 0])
    doubled = np.vstack([a, a[:5]])
    assert set(keypoints.match(a, doubled)[:, 0]) == set(range(5, 40))
    assert keypoints.match(a[:1], a).shape == (0, 2)


def test_keypoints_are_in_pixels_of_the_photograph(gray):
    """An enlarged photograph, searched at reduced size, has the same keypoints at enlarged positions."""
    large = cv2.resize(gray, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    a, b = keypoints.detect(gray), keypoints.detect(large)
    assert 3 * b.scale == pytest.approx(a.scale, rel=0.01) and b.scale < 0.5
    pairs = keypoints.match(a.descriptors, b.descriptors)
    residual = (b.xy[pairs[:, 1]] + 0.5) / 3 - 0.5 - a.xy[pairs[:, 0]]
    assert len(pairs) > 300 and np.abs(np.median(residual, axis=0)).max() < 0.05
    assert len(keypoints.detect(np.zeros((300, 300), np.uint8)).xy) == 0
