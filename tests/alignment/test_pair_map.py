"""Test the map between two photographs: its inverse, and a fit that finds the truth among wrong matches."""

import numpy as np
import pytest

from dped_lib.alignment import geometry, pair_map

H = np.array([[0.62, 0.015, 21.0], [-0.012, 0.61, 14.0], [4e-6, -7e-6, 1.0]])
PHONE, DSLR = (1200, 1600), (2000, 2600)


def truth(k_phone=0.0, k_dslr=0.0) -> pair_map.PairMap:
    return pair_map.PairMap(H, geometry.centred_lens(*PHONE, k_phone), geometry.centred_lens(*DSLR, k_dslr))


def matches(true: pair_map.PairMap, count: int, noise: float, wrong: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dslr = rng.uniform((100, 100), (2400, 1800), (count, 2))
    phone = true.to_phone(dslr) + rng.normal(0, noise, (count, 2))
    bad = rng.random(count) < wrong
    phone[bad] += rng.uniform(-40, 40, (bad.sum(), 2))
    return np.hstack([phone, dslr])


def worst(fitted: pair_map.PairMap, true: pair_map.PairMap) -> float:
    corners = geometry.corners(1800, 2300) + 150
    return float(np.linalg.norm(fitted.to_phone(corners) - true.to_phone(corners), axis=1).max())


def test_a_map_and_its_inverse():
    m = truth(0.02, -0.01)
    xy = geometry.outline(*DSLR)
    assert np.allclose(m.to_dslr(m.to_phone(xy)), xy, atol=1e-6)
    assert m.model == "homography + lens" and truth().model == "homography"
    assert truth().scale_at((100, 100)) == pytest.approx(0.615, rel=0.01)


@pytest.mark.parametrize("degrees", [0, 90, 180, -37])
def test_a_map_rotates_against_the_photograph(degrees):
    """A phone photograph rotated clockwise is matched by rotating it counter-clockwise, and vice versa."""
    a = np.radians(degrees)
    rotation = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    m = pair_map.PairMap(rotation, geometry.centred_lens(*PHONE), geometry.centred_lens(*DSLR))
    assert (m.rotation_at((500, 500)) + degrees + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
    assert abs(m.rotation_at((500, 500))) == pytest.approx(abs(degrees), abs=1e-6)


@pytest.mark.parametrize(("k_phone", "k_dslr"), [(0.0, 0.0), (0.012, 0.0), (-0.009, 0.002), (0.0, -0.02)])
def test_the_fit_finds_the_truth_among_wrong_matches(k_phone, k_dslr):
    true = truth(k_phone, k_dslr)
    guess = pair_map.PairMap(H + [[0.002, 0, 3], [0, -0.002, -2], [0, 0, 0]], *(truth().phone, truth().dslr))
    fitted = pair_map.fit(guess, matches(true, 60, 1.0, 0.1), matches(true, 250, 0.15, 0.2, seed=1), step=1.6)
    assert worst(fitted, true) < 0.4  # a distortion of 2 % moves a corner by 30 pixels
    assert fitted.model == ("homography + lens" if k_phone or k_dslr else "homography")


def test_few_blocks_do_not_determine_lenses():
    true = truth(0.012)
    fitted = pair_map.fit(truth(), matches(true, 60, 1.0, 0.1), matches(true, 20, 0.15, 0.0, seed=1), step=1.6)
    assert fitted.model == "homography"


def receding(pairs: np.ndarray, share: float) -> np.ndarray:
    """Shift the matches in the left ``share`` of the image like a receding surface, by at most five pixels."""
    pairs = pairs.copy()
    shift = np.maximum(0, 1 - (pairs[:, 2] - 100) / (2300 * share)) * 5
    pairs[:, :2] += np.column_stack([-shift, shift / 2])
    return pairs


def worst_right(fitted: pair_map.PairMap, true: pair_map.PairMap) -> float:
    corners = geometry.corners(1800, 1300) + (1150, 150)
    return float(np.linalg.norm(fitted.to_phone(corners) - true.to_phone(corners), axis=1).max())


def test_a_scene_with_depth_gives_the_surface_that_most_of_it_lies_on():
    points = receding(matches(truth(), 400, 0.2, 0.05), 0.25)
    guess = pair_map.fit(truth(), points, points[:0], step=1.6)
    fitted = pair_map.fit_surface(guess, points, step=1.6)
    assert worst_right(fitted, truth()) < 0.3 and worst_right(guess, truth()) > 1
    assert fitted.model == "homography"


def test_keypoints_that_contradict_a_lens_overrule_it():
    """The blocks mistake depth for distortion."""
    true = truth(0.012)
    points, blocks = (receding(m, 0.45) for m in (matches(true, 400, 0.2, 0.05), matches(true, 250, 0.15, 0.1, 1)))
    guess = pair_map.fit(truth(), points, blocks, step=1.6)
    fitted = pair_map.fit_surface(guess, points, step=1.6)
    assert guess.model == "homography + lens" and fitted is not guess
    assert worst_right(fitted, true) < 0.6 * worst_right(guess, true)


def test_on_one_surface_the_map_of_the_blocks_stays():
    true = truth(0.012)
    guess = pair_map.fit(truth(), matches(true, 60, 1.0, 0.1), matches(true, 250, 0.15, 0.1, seed=1), step=1.6)
    assert guess.model == "homography + lens"
    assert pair_map.fit_surface(guess, matches(true, 300, 0.5, 0.05, seed=4), step=1.6) is guess


def test_few_keypoints_change_nothing():
    assert pair_map.fit_surface(guess := truth(), matches(truth(), 19, 0.2, 0.0), step=1.6) is guess
