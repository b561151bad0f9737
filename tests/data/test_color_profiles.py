"""Colour profiles: what littleCMS makes of them with 8 bits, and nothing lost with 16."""

import io

import iccs
import numpy as np
import pytest
from PIL import Image, ImageCms

from dped_lib.data import color_profiles

SRGB = ImageCms.createProfile("sRGB")


def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)


def by_littlecms(pixels: np.ndarray, source, target) -> np.ndarray:
    opened = [ImageCms.ImageCmsProfile(io.BytesIO(p)) if isinstance(p, bytes) else p for p in (source, target)]
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), *opened, intent, "RGB")).astype(float)


@pytest.mark.parametrize("name", iccs.WIDE)
def test_wide_profiles_are_converted_as_littlecms_does(name):
    icc, image = iccs.WIDE[name], colours()
    profile = color_profiles.load_profile(icc)
    assert np.abs(profile.to_srgb(image) / 257 - by_littlecms(image, icc, SRGB)).max() < 1
    back = np.abs(profile.from_srgb(image.astype(np.uint16) * 257, np.uint8) - by_littlecms(image, SRGB, icc))
    assert back.max() <= 2 and back.mean() < 0.02


@pytest.mark.parametrize("name", iccs.WIDE)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_there_and_back_is_the_same_within_srgb(name, dtype):
    full = np.iinfo(dtype).max
    # Not saturated: these are colours of sRGB under every profile here.
    soft = np.round((colours() / 255 * 0.16 + 0.42) * full).astype(dtype)
    profile = color_profiles.load_profile(iccs.WIDE[name])
    assert np.abs(profile.from_srgb(profile.to_srgb(soft), dtype).astype(int) - soft).max() <= (dtype == np.uint16)


def test_white_black_and_gray_stay_so():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    for icc in iccs.WIDE.values():
        srgb = color_profiles.load_profile(icc).to_srgb(gray)[0].astype(int)
        assert srgb[0].max() == 0 and srgb[-1].min() >= 65535 - 60
        assert (srgb.max(1) - srgb.min(1)).max() < 200


def test_gray_profiles():
    profile, ramp = (
        color_profiles.load_profile(iccs.GRAY),
        np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2),
    )
    assert profile.gray and color_profiles.space(iccs.GRAY) == "GRAY"
    wanted = by_littlecms(np.ascontiguousarray(ramp[..., 0]), iccs.GRAY, SRGB)
    assert np.abs(profile.to_srgb(ramp) / 257 - wanted)[:, 8:].max() < 1.5


def test_srgb_is_not_converted():
    assert color_profiles.load_profile(iccs.SRGB) is None and color_profiles.usable(iccs.SRGB)
    assert color_profiles.load_profile(ImageCms.ImageCmsProfile(SRGB).tobytes()) is None


def test_damaged_profiles_are_not_usable_and_no_traceback():
    rng = np.random.default_rng(0)
    for junk in (b"", b"junk", b"\0" * 500, iccs.P3[:200]):
        assert not color_profiles.usable(junk) and color_profiles.load_profile(junk) is None
    for _ in range(60):
        damaged = bytearray(iccs.P3)
        for at in rng.integers(0, len(damaged), 8):
            damaged[at] = rng.integers(256)
        color_profiles.load_profile(bytes(damaged))
        color_profiles.load_profile(bytes(damaged[: rng.integers(len(damaged))]))
