"""Test the matching algorithm against the rig's geometry, published ground truth, and scenes that do not match."""

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from dped_lib import paper
from dped_lib.alignment import aligner, geometry
from dped_lib.base import workers
from dped_lib.base.errors import DpedError
from dped_lib.data import downloads, readers, rig

ALIGNED_SIZE = (400, 540)  # of the aligned images of dataset rig


@lru_cache(maxsize=16)
def frames(scene: str, phone: str):
    shot = rig.shoot(scene, cameras=(phone, "dslr"))
    return shot[phone], shot["dslr"]


@lru_cache(maxsize=16)
def aligned(scene: str, phone: str) -> aligner.Alignment:
    a, b = frames(scene, phone)
    return aligner.align(a.image, b.image, ALIGNED_SIZE)


def corner_errors(pair: tuple[str, str]) -> np.ndarray:
    """Return the alignment errors at the four corners, in pixels of the aligned image, for (scene, phone)."""
    alignment = aligned(*pair)
    assert alignment.report.verdict == "aligned", (pair, alignment.report)
    return rig.alignment_error(alignment, *frames(*pair))


# ---------------------------------------------------------------------------------------------- the rig


def test_the_rig_is_aligned_to_half_a_pixel():
    """Each scene is aligned for one phone; benchmarks/README.md has the errors of every phone on every scene."""
    jobs = [(s.name, paper.PHONES[i % 3]) for i, s in enumerate(rig.scenes())]
    errors = np.concatenate([pair_errors for _, pair_errors in workers.run(corner_errors, jobs, 2)])
    assert len(errors) >= 4 * 30
    assert np.median(errors) <= 0.5
    assert np.percentile(errors, 95) <= 1.5


def test_the_images_agree_with_the_map():
    alignment = aligned("wall-1", "iphone")
    b = frames("wall-1", "iphone")[1]
    assert alignment.phone.shape == alignment.dslr.shape == (*ALIGNED_SIZE, 3) and alignment.phone.dtype == np.uint8
    grid = geometry.pixel_grid(*ALIGNED_SIZE, (0, 0), 1.0)
    assert (
        np.abs(alignment.sample_phone(grid).astype(int) - alignment.phone).max() <= 2
    )  # the image was made with an interpolated map
    assert alignment.inside(grid).all()
    # One pixel of the aligned image covers `step` pixels of the DSLR's photograph, along its axes.
    x, y = alignment.to_dslr([[0, 0]])[0]
    step = alignment.step
    patch = b.image[round(y) : round(y + 50 * step), round(x) : round(x + 50 * step)].mean((0, 1))
    assert np.abs(patch - alignment.dslr[:50, :50].mean((0, 1))).max() < 2
    r = alignment.report
    assert r.overlap > 0.9 and abs(r.rotation) < 2 and r.ncc > 0.9 and r.reprojection_px < 0.2
    assert r.inliers <= r.matches <= min(r.keypoints) and len(alignment.matches) == r.matches == len(alignment.inliers)
    json.dumps(asdict(r))


def test_lenses_are_fitted_where_there_is_distortion_and_help():
    """The best homography alone has twice the error at the corners, because the rig's lenses distort."""
    assert aligned("foliage-1", "blackberry").report.model == "homography + lens"
    a, b = frames("foliage-1", "blackberry")
    alignment = aligned("foliage-1", "blackberry")
    corners = geometry.corners(*alignment.report.size)
    dslr_corners, outline = alignment.to_dslr(corners), alignment.to_dslr(geometry.outline(*ALIGNED_SIZE))
    best = cv2.findHomography(outline, rig.map_points(b, a, outline))[0]
    unit = alignment.step * alignment.map.scale_at(dslr_corners.mean(0))
    residuals = geometry.apply_homography(best, dslr_corners) - rig.map_points(b, a, dslr_corners)
    without_lenses = np.linalg.norm(residuals, axis=1) / unit
    assert np.median(corner_errors(("foliage-1", "blackberry"))) < 0.5 * np.median(without_lenses)


def test_the_same_photographs_give_the_same_bytes():
    a, b = frames("coffee-a", "sony")
    again, first = aligner.align(a.image, b.image, ALIGNED_SIZE), aligned("coffee-a", "sony")
    assert np.array_equal(again.phone, first.phone) and again.report == first.report


# ---------------------------------------------------------------------------------------------- what does not match


@pytest.mark.parametrize("phone", paper.PHONES)
def test_other_scenes_are_rejected(phone):
    photographs = {s.photograph: s.name for s in rig.scenes() if s.kind == "photo"}
    painted = {s.photograph: s.name for s in rig.scenes() if s.kind != "photo"}
    names = [*list(photographs.values())[:4], *list(painted.values())[:8:2]]
    for one, other in zip(names, names[1:] + names[:1], strict=True):
        report = aligner.align(frames(one, phone)[0].image, frames(other, phone)[1].image, ALIGNED_SIZE).report
        assert report.verdict == "different scene", (one, other, report)
        assert report.size is None and str(report.matches) in report.reason


def test_the_wrong_scene_among_the_authors_photographs(mirror):
    """demo/blackberry/10_0.jpg shows another scene than the iPhone and Sony photographs of that number, which match."""
    demo = mirror / "aiff22" / "aiff22.github.io" / "demo"
    images = {p: cv2.imread(str(demo / p / "10_0.jpg"))[..., ::-1].copy() for p in paper.PHONES}
    for partner in ("iphone", "sony"):
        report = aligner.align(images["blackberry"], images[partner]).report
        assert report.verdict == "different scene", report
    assert aligner.align(images["iphone"], images["sony"]).report.verdict == "aligned"


def test_nothing_to_match():
    gray, rng = np.full((300, 400, 3), 128, np.uint8), np.random.default_rng(0)
    noise = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    picture = frames("chelsea-a", "iphone")[1].image
    assert aligner.align(gray, picture).report.verdict == "too few keypoints"
    assert aligner.align(picture, gray).report.verdict == "too few keypoints"
    assert aligner.align(noise, picture).report.verdict == "different scene"
    assert aligner.align(picture[:40, :40], picture).report.verdict != "aligned"
    # SIFT descriptors of mirrored copies do not match.
    assert aligner.align(picture[:, ::-1].copy(), picture).report.verdict != "aligned"


def test_photographs_without_contrast_are_named_as_such():
    """They match and lie on each other, but a correlation of so flat blocks is mostly noise. JSON knows no nan."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (420, 560)), (0, 0), 2)
    gray = np.clip(np.round(128 + 2.5 * texture / texture.std()), 0, 255).astype(np.uint8)
    rgb = np.dstack([gray] * 3)
    report = aligner.align(rgb[:400, :540], rgb[4:404, 7:547]).report
    assert report.verdict == "too little contrast" and report.ncc is None, report
    json.dumps(asdict(report), allow_nan=False)


def test_too_little_in_common():
    wide = frames("wall-2", "sony")[1].image
    third = wide.shape[1] * 45 // 100
    left, right = wide[:, : wide.shape[1] // 2].copy(), wide[:, third:].copy()
    report = aligner.align(left, right).report
    assert report.reason == "the photographs share 9.8% (10% needed)."
    assert report.verdict == "too little overlap", report
    assert report.overlap == pytest.approx(0.1, abs=0.005) and "(10% needed)" in report.reason


@pytest.mark.parametrize("bad", [np.zeros((50, 50), np.uint8), np.zeros((50, 50, 4), np.uint8), np.zeros((50, 50, 3))])
def test_only_rgb_bytes(bad):
    with pytest.raises(DpedError, match="uint8 H x W x 3"):
        aligner.align(bad, bad)


# ---------------------------------------------------------------------------------------------- other poses and sizes


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_rotated_phone_photograph_gives_the_same_pair(quarters):
    """It may be upright against a landscape, or upside down like three scenes of City100."""
    a, b = frames("town-1", "sony")
    rotated = aligner.align(np.rot90(a.image, quarters).copy(), b.image, ALIGNED_SIZE)
    straight = aligned("town-1", "sony")
    assert rotated.report.verdict == "aligned" and rotated.report.size == ALIGNED_SIZE
    # rot90 rotates counter-clockwise, so the alignment rotates clockwise by the same angle.
    difference = rotated.report.rotation - straight.report.rotation - 90 * quarters
    assert (difference + 180) % 360 - 180 == pytest.approx(0, abs=0.3)
    corners = geometry.corners(*ALIGNED_SIZE)
    assert np.abs(rotated.to_dslr(corners) - straight.to_dslr(corners)).max() < 2
    assert np.abs(rotated.phone.astype(int) - straight.phone).mean() < 3


def test_an_upright_dslr_gives_upright_images():
    a, b = frames("town-1", "sony")
    alignment = aligner.align(a.image, np.rot90(b.image).copy(), ALIGNED_SIZE)
    assert alignment.report.verdict == "aligned" and alignment.report.size == ALIGNED_SIZE[::-1]


def test_nothing_is_enlarged():
    """A phone photograph smaller than the wanted size gives a smaller pair of the same aspect."""
    a, b = frames("market-1", "iphone")
    alignment = aligner.align(a.image, b.image, paper.ALIGNED_SIZE)
    height, width = alignment.report.size
    assert 400 < height <= a.image.shape[0] and width / height == pytest.approx(1080 / 800, rel=0.01)


# ---------------------------------------------------------------------------------------------- published ground truth


def plain_sift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the homography of full-size OpenCV SIFT and RANSAC with default settings."""
    gray = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (a, b)]
    (ka, da), (kb, db) = (cv2.SIFT_create().detectAndCompute(g, None) for g in gray)
    good = [m for m, n in cv2.BFMatcher().knnMatch(da, db, k=2) if m.distance < 0.75 * n.distance]
    return cv2.findHomography(
        np.array([ka[m.queryIdx].pt for m in good]), np.array([kb[m.trainIdx].pt for m in good]), cv2.RANSAC, 3.0
    )[0]


def published(reference, name: str, scale: float, swapped: bool) -> tuple[np.ndarray, ...]:
    """Return two photographs, N x 2 points of the first, and the same points in the second. ``scale`` shrinks both."""
    folder = reference / "alignment"
    truth = json.loads((folder / "ground_truth.json").read_text())[name]
    a, b = (cv2.imread(str(folder / truth[k]))[..., ::-1].copy() for k in "ab")
    if "validation_points_a" in truth:
        points, true = np.array(truth["validation_points_a"]), np.array(truth["validation_points_b"])
    else:
        points = geometry.pixel_grid(9, 9, (0, 0), 1.0).reshape(-1, 2) * (np.array(a.shape[1::-1]) - 1) / 8
        true = geometry.apply_homography(np.array(truth["H_a_to_b"]), points)
        visible = ((true >= 0) & (true < b.shape[1::-1])).all(1)
        points, true = points[visible], true[visible]
    if scale < 1:
        a, b = (cv2.resize(i, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for i in (a, b))
        points, true = ((xy + 0.5) * scale - 0.5 for xy in (points, true))
    return (b, a, true, points) if swapped else (a, b, points, true)


PUBLISHED = [(name, 1, False) for name in ("graf", "Boston", "boat", "Eiffel")]
# These two views of a tower with depth share a sixth. The truth is the map of its face, not of everything they share.
PUBLISHED += [("Eiffel", 1, True), ("Eiffel", 0.75, False)]


@pytest.mark.parametrize(("name", "scale", "swapped"), PUBLISHED)
def test_published_homographies(reference, name, scale, swapped):
    """The error is at most that of plain full-size SIFT and RANSAC."""
    a, b, points, true = published(reference, name, scale, swapped)
    alignment = aligner.align(a, b)
    assert alignment.report.verdict == "aligned"
    ours = np.linalg.norm(alignment.map.to_dslr(points) - true, axis=1).mean()
    plain = np.linalg.norm(geometry.apply_homography(plain_sift(a, b), points) - true, axis=1).mean()
    print(f"{name}: {ours:.3f} px, plain SIFT and RANSAC {plain:.3f} px")
    assert ours <= plain


def city100_report(job: tuple[list[str], bool]) -> aligner.Report:
    """Align the phone's and the DSLR's file, with the phone's photograph upside down if the second value is true."""
    (a, b), upside_down = (cv2.imread(f)[..., ::-1].copy() for f in job[0]), job[1]
    return aligner.align(a[::-1, ::-1].copy() if upside_down else a, b, (560, 756)).report


def test_city100_upside_down(mirror):
    """Real phone, real DSLR: every tenth scene turned by us, and scene 065 as the phone took it.

    All seventy scenes the right way up are in tests/test_shipped_networks.py.
    """
    keys = sorted(k for k in downloads.keys("city100") if "iPhoneX" in k)
    assert len(keys) == 70
    (own,) = (i for i, k in enumerate(keys) if Path(k).stem in readers.CITY100_UPSIDE_DOWN)
    assert Path(keys[own]).name == "065H.PNG" and own % 10
    names = [keys[i] for i in (*range(0, 70, 10), own)]
    jobs = [([str(mirror / k), str(mirror / k.replace("iPhoneX", "NikonD5500"))], k != keys[own]) for k in names]
    for number, report in workers.run(city100_report, jobs, 2):
        assert report.verdict == "aligned", (names[number], report)
        assert report.ncc > 0.85 and report.reprojection_px < 0.5 and report.overlap > 0.9, (names[number], report)
        assert abs(report.rotation) > 170, (names[number], report)
