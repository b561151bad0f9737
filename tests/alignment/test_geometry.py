"""Test plane geometry by closed forms and round trips, and bound the errors of interpolation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dped_lib.alignment import geometry
from dped_lib.base.errors import DpedError

distortion = st.floats(-0.03, 0.03)


@given(distortion, distortion, st.floats(-200, 1200), st.floats(-200, 1000))
def test_distort_and_undistort_are_inverse(k1, k2, x, y):
    lens = geometry.centred_lens(800, 1000, k1, k2)
    assert np.allclose(lens.undistort(lens.distort([[x, y]])), [[x, y]], atol=1e-6)
    assert np.allclose(lens.distort(lens.undistort([[x, y]])), [[x, y]], atol=1e-6)


def test_a_lens_moves_the_corner_by_k1_and_not_the_centre():
    lens = geometry.centred_lens(601, 801, k1=0.01)
    assert np.allclose(lens.undistort([[400, 300]]), [[400, 300]])
    moved = lens.undistort([[800, 600]]) - [[800, 600]]
    assert np.allclose(moved, 0.01 * np.array([[400, 300]]), atol=0.02)  # the corner pixel lies 0.1 % inside radius 1


@given(st.floats(0.2, 3), st.floats(-50, 50), st.floats(-50, 50), st.floats(0.3, 3))
def test_largest_rectangle_in_one_rectangle(scale, x, y, aspect):
    """The largest rectangle touches two opposite sides, has the aspect, and lies inside."""
    quad = geometry.corners(101, 201) * scale + (x, y)
    middle_x, middle_y, half = geometry.largest_rectangle([quad], aspect)
    assert half == pytest.approx(min(50, 100 / aspect) * scale, rel=1e-6)
    assert abs(middle_x - (x + 100 * scale)) <= 100 * scale - aspect * half + 1e-6
    assert abs(middle_y - (y + 50 * scale)) <= 50 * scale - half + 1e-6


def test_largest_rectangle_in_nothing():
    assert geometry.largest_rectangle([geometry.corners(50, 50), geometry.corners(50, 50) + 80], 1.0) is None


def test_overlap_and_order_of_corners():
    a, b = geometry.corners(11, 11), geometry.corners(11, 21) + (5, 0)
    assert geometry.overlap(a, b) == pytest.approx(0.5)
    assert geometry.overlap(a, a + 20) == 0
    assert np.array_equal(geometry.clockwise(a), a)
    assert np.array_equal(geometry.clockwise(a[::-1]), a)


def test_interpolated_map_is_the_map():
    h = np.array([[0.9, 0.02, 14], [-0.03, 0.95, 9], [2e-5, -1e-5, 1]])
    lens = geometry.centred_lens(700, 900, 0.02, -0.01)

    def f(xy):
        return lens.distort(geometry.apply_homography(h, xy))

    exact = f(geometry.pixel_grid(333, 441, (3.5, -2.0), 2.1).reshape(-1, 2)).reshape(333, 441, 2)
    assert np.abs(geometry.interpolated_map(f, 333, 441, (3.5, -2.0), 2.1) - exact).max() < 0.01


def test_resampler():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    same = geometry.Resampler(image, 1.0)
    grid = geometry.pixel_grid(60, 80, (0, 0), 1.0)
    assert np.array_equal(same(grid), image)
    assert same.inside(grid).all() and not same.inside(grid + 80).any()
    # Every fourth pixel of a fine chequerboard is medium gray: downscaling averages before it samples.
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    coarse = geometry.Resampler(board, 4.0)(geometry.pixel_grid(16, 16, (1.5, 1.5), 4.0))
    assert np.abs(coarse.astype(int) - 127).max() <= 1


def test_points_of_a_wrong_shape_are_refused():
    with pytest.raises(DpedError, match="N x 2"):
        geometry.as_points([1.0, 2.0])
