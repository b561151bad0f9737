"""Test the simulated rig: exact geometry, cameras that rank as in Table 1, and the same bytes for the same call."""

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib import paper
from dped_lib.alignment import geometry
from dped_lib.base.errors import DpedError
from dped_lib.data import rig, rig_cameras, rig_scenes

PHONES = paper.PHONES
SAMPLE = ("astronaut-a", "motorcycle-b", "foliage-1", "wall-3", "town-2")


@lru_cache(maxsize=8)
def shot(name, seed=0, scale=0.3):
    return rig.shoot(name, seed, scale)


def gray(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def ncc(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def tiles(image, side=100):
    """Cut an aligned image into non-overlapping square tiles, like the paper's patches."""
    height, width = image.shape[:2]
    return [
        image[y : y + side, x : x + side]
        for y in range(0, height - side + 1, side)
        for x in range(0, width - side + 1, side)
    ]


# scenes


def test_scenes_are_unique_and_of_both_kinds():
    all_scenes = rig.scenes()
    assert all_scenes == rig.scenes()
    assert len({s.name for s in all_scenes}) == len(all_scenes)
    assert Counter(s.kind for s in all_scenes) == {"photo": 16, "leaves": 24}


def test_only_takes_of_one_photograph_share_its_id():
    takes = Counter(s.photograph for s in rig.scenes())
    for scene in rig.scenes():
        if scene.kind == "photo":
            assert takes[scene.photograph] == 2 and scene.name[:-2] == scene.photograph
        else:
            assert takes[scene.photograph] == 1
    photos = {s.name: cv2.resize(rig_scenes.radiance(s.name), (64, 48)) for s in rig.scenes() if s.kind == "photo"}
    for name, light in photos.items():
        if name.endswith("-b"):
            assert not np.allclose(light, photos[name[:-1] + "a"], atol=0.02), "two takes must differ"


@pytest.mark.parametrize("name", SAMPLE)
def test_radiance_is_linear_light(name):
    light = rig_scenes.radiance(name)
    assert light.dtype == np.float32 and light.ndim == 3 and light.shape[2] == 3 and min(light.shape[:2]) >= 700
    assert light.min() >= 0 and np.isfinite(light).all() and 0.03 < light.mean() < 1.2
    assert not light.flags.writeable


def test_leaves_have_the_spectrum_of_natural_pictures():
    """The amplitude of natural pictures falls as about 1/f (Field 1987)."""
    for name in ("foliage-1", "wall-3", "coast-1"):
        light = np.log(rig_scenes.radiance(name)[-512:, :512].mean(2) + 0.02)
        window = np.hanning(512)[:, None] * np.hanning(512)[None, :]
        power = np.abs(np.fft.fftshift(np.fft.fft2((light - light.mean()) * window))) ** 2
        y, x = np.mgrid[-256:256, -256:256]
        ring = np.hypot(x, y).astype(int)
        mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
        f = np.arange(4, 128)
        slope = np.polyfit(np.log(f), np.log(mean[f]), 1)[0] / 2
        assert -1.8 < slope < -0.7, (name, slope)


# frames


def test_sizes_are_table_1():
    for scale in (0.1, 0.3):
        for camera, frame in shot("pebbles-1", scale=scale).items():
            spec = paper.CAMERAS[camera]
            assert frame.image.shape == (round(spec.height * scale), round(spec.width * scale), 3)
            assert frame.image.dtype == np.uint8
            assert (frame.camera, frame.scene) == (camera, "pebbles-1")


def test_image_is_what_its_jpeg_holds():
    for frame in shot("foliage-1").values():
        decoded = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decoded, frame.image)


def test_same_bytes_in_another_process_with_other_threads():
    code = (
        "import cv2, hashlib; cv2.setNumThreads(1); from dped_lib.data import rig; "
        "print(hashlib.sha256(b''.join(f.jpeg for f in rig.shoot('coffee-a', 3, 0.1).values())).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    here = hashlib.sha256(b"".join(f.jpeg for f in rig.shoot("coffee-a", 3, 0.1).values())).hexdigest()
    assert here == there


def test_seed_changes_frame_and_pose():
    a, b = rig.shoot("coffee-a", 0, 0.1), rig.shoot("coffee-a", 1, 0.1)
    for camera in a:
        assert a[camera].jpeg != b[camera].jpeg
        assert not np.allclose(a[camera].geometry.homography, b[camera].geometry.homography)


# geometry

unit = st.floats(-0.02, 1.02)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=20), st.sampled_from([*PHONES, "dslr"]))
def test_frame_to_scene_and_back(points, camera):
    frame = shot("pebbles-1", scale=0.3)[camera]
    xy = np.array(points) * frame.image.shape[1::-1]
    back = frame.geometry.to_frame(frame.geometry.to_scene(xy))
    np.testing.assert_allclose(back, xy, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.floats(-0.6, 0.6), st.floats(-0.45, 0.45)), st.sampled_from([*PHONES, "dslr"]))
def test_scene_to_frame_and_back(point, camera):
    geometry = shot("pebbles-1", scale=0.3)[camera].geometry
    np.testing.assert_allclose(geometry.to_scene(geometry.to_frame([point])), [point], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)), st.sampled_from(PHONES))
def test_map_points_inverts_itself(point, phone):
    frames = shot("pebbles-1", scale=0.3)
    xy = np.array([point]) * frames[phone].image.shape[1::-1]
    there = rig.map_points(frames[phone], frames["dslr"], xy)
    np.testing.assert_allclose(rig.map_points(frames["dslr"], frames[phone], there), xy, atol=1e-3)


def test_homography_is_map_points_without_lenses():
    frames = shot("pebbles-1", scale=0.3)
    ideal = {
        c: replace(f, geometry=replace(f.geometry, lens=replace(f.geometry.lens, k1=0.0, k2=0.0)))
        for c, f in frames.items()
    }
    xy = np.random.default_rng(0).uniform(50, 400, (50, 2))
    for phone in PHONES:
        h = rig.homography(frames[phone], frames["dslr"])
        assert h[2, 2] == 1
        expected = cv2.perspectiveTransform(xy[None], h)[0]
        np.testing.assert_allclose(rig.map_points(ideal[phone], ideal["dslr"], xy), expected, atol=1e-6)
        inverse = rig.homography(frames["dslr"], frames[phone])
        product = h @ inverse
        np.testing.assert_allclose(product / product[2, 2], np.eye(3), atol=1e-6)


def test_geometry_agrees_with_the_pictures():
    """Warping the phone onto the DSLR by map_points leaves a shift below a fifth of a pixel, also at the corners."""
    frames = shot("foliage-1")
    dslr = frames["dslr"]
    height, width = dslr.image.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2)
    for phone in PHONES:
        there = rig.map_points(dslr, frames[phone], grid).astype(np.float32).reshape(height, width, 2)
        warped = cv2.remap(gray(frames[phone].image), there, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        window = cv2.createHanningWindow((256, 256), cv2.CV_32F)
        for y, x in ((60, 60), (60, width - 316), (height - 316, 60), (height // 2 - 128, width // 2 - 128)):
            a, b = (cv2.GaussianBlur(i[y : y + 256, x : x + 256], (0, 0), 2) for i in (warped, gray(dslr.image)))
            shift, _ = cv2.phaseCorrelate(a, b, window)
            assert np.hypot(*shift) < 0.2, (phone, y, x, shift)


# aligned pairs


def true_pair(phone: rig.Frame, dslr: rig.Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre of both frames on one grid of 400 x 540, by the known geometry."""
    height, width = dslr.image.shape[:2]
    step = 0.8 * height / 400
    grid = geometry.pixel_grid(400, 540, ((width - 540 * step) / 2, (height - 400 * step) / 2), step)
    there = rig.map_points(dslr, phone, grid.reshape(-1, 2)).reshape(grid.shape)
    shrink = step * phone.image.shape[0] / height
    return geometry.Resampler(phone.image, shrink)(there), geometry.Resampler(dslr.image, step)(grid)


@pytest.mark.parametrize("name", SAMPLE)
def test_aligned_patches_correlate_and_shuffled_ones_do_not(name):
    frames = shot(name)
    for phone in PHONES:
        a, b = true_pair(frames[phone], frames["dslr"])
        assert a.shape == b.shape == (400, 540, 3) and a.dtype == b.dtype == np.uint8
        pairs = [p for p in zip(tiles(gray(a)), tiles(gray(b)), strict=True) if p[1].std() > 15]
        assert np.mean([ncc(p, q) for p, q in pairs]) > 0.9
        shuffled = [ncc(p, q) for (p, _), (_, q) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
        assert np.mean(shuffled) < 0.4


# cameras


@pytest.mark.parametrize("camera", [*PHONES, "dslr"])
def test_noise_grows_with_light(camera):
    model = rig.CAMERA_MODELS[camera]
    rng = np.random.default_rng(5)
    levels = np.array([0.02, 0.1, 0.4, 0.9])
    variance = [
        rig_cameras.sensor_noise(np.full((240, 320, 3), level, np.float32), model, rng).var() for level in levels
    ]
    assert np.all(np.diff(variance) > 0)
    np.testing.assert_allclose(
        variance / variance[2], (levels + 0.18 * model.read_noise**2) / (0.4 + 0.18 * model.read_noise**2), rtol=0.1
    )


def test_cameras_rank_as_table_1():
    """From the iPhone to the DSLR, noise on a flat gray wall falls, and detail and colour rise."""
    order = ("iphone", "blackberry", "sony", "dslr")
    noise = []
    for camera in order:
        spec = paper.CAMERAS[camera]
        flat = np.full((round(spec.height * 0.3), round(spec.width * 0.3), 3), 0.2, np.float32)
        image = rig_cameras.develop(flat, rig.CAMERA_MODELS[camera], 1.0, np.ones(3), np.random.default_rng(1))
        noise.append(cv2.resize(image, (540, 400), interpolation=cv2.INTER_AREA).astype(float).std((0, 1)).mean())
    assert noise[0] > noise[1] > noise[2] > noise[3]
    assert noise[0] > 2 and noise[3] < 1
    detail, chroma, error = [], [], []
    frames = [shot(name) for name in ("astronaut-a", "foliage-1", "motorcycle-b")]
    for camera in order:
        aligned = [true_pair(f[camera], f["dslr"]) for f in frames]
        smooth = [cv2.GaussianBlur(gray(a), (0, 0), 0.7) for a, _ in aligned]
        detail.append(np.mean([cv2.Laplacian(s / s.std(), cv2.CV_32F).std() for s in smooth]))
        chroma.append(np.mean([np.ptp(a.astype(float), axis=2).mean() for a, _ in aligned]))
        error.append(np.mean([cv2.PSNR(a, b) for a, b in aligned]))
    assert detail[0] < min(detail[1:]) and chroma[0] < chroma[1] < chroma[2] < chroma[3]
    assert error[0] < error[1] < error[2] < error[3]
    assert 14 < error[0] < 22


def test_a_phone_differs_from_the_dslr_in_the_same_way_everywhere():
    """An affine colour transform fitted on other scenes brings the phone closer, so there is a mapping to learn."""
    rows = {
        name: [c.reshape(-1, 3)[::97] / 255.0 for c in true_pair(shot(name)["iphone"], shot(name)["dslr"])]
        for name in SAMPLE
    }
    for held_out in SAMPLE:
        x = np.concatenate([rows[n][0] for n in SAMPLE if n != held_out])
        y = np.concatenate([rows[n][1] for n in SAMPLE if n != held_out])
        affine = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
        a, b = rows[held_out]
        after = ((np.column_stack([a, np.ones(len(a))]) @ affine - b) ** 2).mean()
        assert after < 0.95 * ((a - b) ** 2).mean(), held_out


# errors


def test_unknown_scene_lists_the_known_ones():
    with pytest.raises(DpedError, match="astronaut-a.*foliage-1"):
        rig.shoot("nowhere")


@pytest.mark.parametrize("scale", [0, -1, 1.5])
def test_scale_out_of_range(scale):
    with pytest.raises(DpedError, match="scale"):
        rig.shoot("coffee-a", scale=scale)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_seed_out_of_range(seed):
    with pytest.raises(DpedError, match="seed"):
        rig.shoot("coffee-a", seed=seed, scale=0.1)


def test_frames_of_different_scenes_do_not_mix():
    a, b = shot("pebbles-1", scale=0.1)["iphone"], shot("foliage-1", scale=0.1)["dslr"]
    for call in (lambda: rig.map_points(a, b, [[0, 0]]), lambda: rig.homography(a, b)):
        with pytest.raises(DpedError, match="different scenes: (pebbles-1 and foliage-1|foliage-1 and pebbles-1)"):
            call()


def test_points_of_the_wrong_shape():
    with pytest.raises(DpedError, match="N x 2"):
        shot("pebbles-1", scale=0.1)["iphone"].geometry.to_scene([1, 2, 3])


def test_missing_package_is_named(monkeypatch):
    rig_scenes.radiance.cache_clear()
    monkeypatch.setattr(rig_scenes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DpedError, match="scikit-learn"):
        rig_scenes.radiance("china-a")


def test_missing_photograph_is_named(monkeypatch, tmp_path):
    rig_scenes.radiance.cache_clear()
    empty = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(rig_scenes.importlib.util, "find_spec", lambda name: empty)
    words = f"scikit-learn lacks its photograph {tmp_path}/datasets/images/flower.jpg. Run: .* --force-reinstall scikit-learn"
    with pytest.raises(DpedError, match=words):
        rig_scenes.radiance("flower-a")
