"""Photograph files of every kind are read as they are seen, or refused by name."""

import resource
import struct
import warnings
import zlib

import cv2
import iccs
import numpy as np
import psutil
import pytest
import tifffile
from pictures import png_chunk
from PIL import Image

from dped_lib.base.errors import DpedError
from dped_lib.data import color_profiles, image_decoding
from dped_lib.data import picture as pictures

HEIGHT, WIDTH = 120, 180
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def deep() -> np.ndarray:
    """A picture without symmetry, uint16 H x W x 3, RGB."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 364, y * 546, (x + 2 * y) * 156], -1).astype(np.uint16)


@pytest.fixture(scope="module")
def picture(deep) -> np.ndarray:
    """The same with 8 bits."""
    return (deep / 257 + 0.5).astype(np.uint8)


def differ(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape and a.dtype == np.uint8
    return int(np.abs(a.astype(int) - b).max())


def over_white(deep: np.ndarray, alpha: int) -> np.ndarray:
    return (deep / 257 * alpha / 65535 + 255 * (1 - alpha / 65535) + 0.5).astype(np.uint8)


#: What turns an upright picture into what a camera held that way stores (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 3),
}


def save_deep_png(file, pixels: np.ndarray, orientation: int = 1) -> None:
    """OpenCV writes no EXIF: it is put behind the header."""
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file.write_bytes(data[:33] + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[33:])


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_orientation_gives_the_same_picture(tmp_path, picture, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    file = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](picture))).save(file, exif=exif, **options)
    assert differ(image_decoding.read_photograph(file), picture) <= (4 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_with_16_bits(tmp_path, deep, picture, orientation):
    stored = np.ascontiguousarray(STORED[orientation](deep))
    save_deep_png(tmp_path / "a.png", stored, orientation)
    assert differ(image_decoding.read_photograph(tmp_path / "a.png"), picture) == 0
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert differ(image_decoding.read_photograph(tmp_path / "a.tif"), picture) == 0


def test_16_bits_are_scaled_not_cut(tmp_path, deep, picture):
    gray = np.repeat(picture[..., :1], 3, 2)
    cv2.imwrite(str(tmp_path / "gray.png"), deep[..., 0])
    cv2.imwrite(str(tmp_path / "gray.tif"), deep[..., 0])
    cv2.imwrite(
        str(tmp_path / "alpha.png"), cv2.merge([*cv2.split(deep[..., ::-1]), np.full_like(deep[..., 0], 40000)])
    )
    assert differ(image_decoding.read_photograph(tmp_path / "gray.png"), gray) == 0
    assert differ(image_decoding.read_photograph(tmp_path / "gray.tif"), gray) == 0
    assert differ(image_decoding.read_photograph(tmp_path / "alpha.png"), over_white(deep, 40000)) <= 1


def test_8_bits_of_other_modes(tmp_path, deep, picture):
    image = Image.fromarray(picture)
    image.convert("L").save(tmp_path / "gray.jpg", quality=100)
    gray = np.repeat(np.asarray(image.convert("L"))[..., None], 3, 2)
    assert differ(image_decoding.read_photograph(tmp_path / "gray.jpg"), gray) <= 1

    palette = image.quantize(64)
    palette.save(tmp_path / "palette.png")
    assert differ(image_decoding.read_photograph(tmp_path / "palette.png"), np.asarray(palette.convert("RGB"))) == 0

    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    assert differ(image_decoding.read_photograph(tmp_path / "cmyk.tif"), picture) <= 1

    image.putalpha(156)
    image.save(tmp_path / "alpha.png")
    assert differ(image_decoding.read_photograph(tmp_path / "alpha.png"), over_white(deep, 156 * 257)) <= 1
    hidden = Image.fromarray(np.dstack([picture, np.zeros_like(picture[..., 0])]))
    hidden.save(tmp_path / "hidden.png")
    assert (image_decoding.read_photograph(tmp_path / "hidden.png") == 255).all()


# one reader: format x depth x orientation x channels, as `dped align` and as `dped enhance` read them


def _png(pixels: np.ndarray, channels: str, orientation: int, clear: tuple[int, ...] | None = None) -> bytes:
    """Written by hand, since no writer here has 16 bits of gray with transparency, or names a transparent colour."""
    kind, deep = {"gray": 0, "rgb": 2, "gray+alpha": 4, "rgba": 6}[channels], pixels.dtype == np.uint16
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1).astype(">u2" if deep else "u1")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    head = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        + (b"" if clear is None else png_chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
        + png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
        + png_chunk(b"IEND", b"")
    )


def _tif(pixels: np.ndarray, channels: str, orientation: int, **more) -> dict:
    photometric = {"gray": "minisblack", "white is zero": "miniswhite", "gray+alpha": "minisblack"}.get(channels, "rgb")
    extra = {"extrasamples": [more.pop("extra", "unassalpha")]} if channels in ("rgba", "gray+alpha") else {}
    return {
        "photometric": photometric,
        "planarconfig": "contig",
        "extratags": [(274, "H", 1, orientation, True)],
        **extra,
        **more,
    }


def _in_channels(pixels: np.ndarray, channels: str) -> np.ndarray:
    alpha = pixels[..., 2:]
    return {
        "gray": pixels[..., 0],
        "white is zero": np.iinfo(pixels.dtype).max - pixels[..., 0],
        "gray+alpha": np.concatenate([pixels[..., :1], alpha], -1),
        "rgb": pixels,
        "rgba": np.concatenate([pixels, alpha], -1),
    }[channels]


MATRIX = [
    (suffix, bits, channels)
    for suffix, kinds in {
        ".png": ("gray", "rgb", "gray+alpha", "rgba"),
        ".tif": ("gray", "white is zero", "rgb", "gray+alpha", "rgba"),
    }.items()
    for channels in kinds
    for bits in (8, 16)
    if (suffix, bits, channels) != (".tif", 16, "gray+alpha")  # refused, see below
]


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("suffix", "bits", "channels"), MATRIX)
def test_every_kind_of_file_gives_the_same_picture(tmp_path, deep, picture, suffix, bits, channels, orientation):
    upright = deep if bits == 16 else picture
    stored = np.ascontiguousarray(_in_channels(STORED[orientation](upright), channels))
    file = tmp_path / f"a{suffix}"
    if suffix == ".png":
        file.write_bytes(_png(stored, channels, orientation))
    else:
        tifffile.imwrite(file, stored, **_tif(stored, channels, orientation))
    wanted = upright if channels.startswith("rgb") else np.repeat(upright[..., :1], 3, 2)
    alpha = upright[..., 2] if "a" in channels.removeprefix("gray") and channels != "white is zero" else None
    decoded = pictures.read(file)
    assert decoded.pixels.dtype == upright.dtype and np.array_equal(decoded.pixels, wanted)
    assert (decoded.alpha is None) == (alpha is None) and (alpha is None or np.array_equal(decoded.alpha, alpha))
    header = image_decoding.check(file)
    assert (header.deep, header.alpha) == (bits == 16, alpha is not None)
    seen = image_decoding.read_photograph(file)
    full = np.iinfo(upright.dtype).max
    flat = wanted / full * 255
    if alpha is not None:
        share = alpha[..., None] / full
        flat = flat * share + 255 * (1 - share)
    assert seen.dtype == np.uint8 and np.abs(seen - flat).max() < 1.01


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (channels, options)
        for channels in ("white is zero", "rgb")
        for options in ({"bigtiff": True}, {"byteorder": ">"}, {"compression": "zlib"}, {"rowsperstrip": 7})
        if channels == "rgb" or "byteorder" not in options  # Pillow does not know that one: refused
    ],
)
def test_tiffs_of_16_bits_however_they_are_laid_out(tmp_path, deep, channels, options):
    stored = np.ascontiguousarray(_in_channels(STORED[6](deep), channels))
    tifffile.imwrite(tmp_path / "a.tif", stored, **_tif(stored, channels, 6, **options))
    wanted = deep if channels == "rgb" else np.repeat(deep[..., :1], 3, 2)
    assert np.array_equal(pictures.read(tmp_path / "a.tif").pixels, wanted)


def test_what_a_fourth_channel_of_16_bits_means(tmp_path, deep):
    alpha = np.full_like(deep[..., :1], 40000)
    for extra, stored in (("assocalpha", (deep * (40000 / 65535)).astype(np.uint16)), ("unspecified", deep)):
        pixels = np.concatenate([stored, alpha], -1)
        tifffile.imwrite(tmp_path / "a.tif", pixels, **_tif(pixels, "rgba", 1, extra=extra))
        decoded = pictures.read(tmp_path / "a.tif")
        assert (decoded.alpha is None) == (extra == "unspecified")
        assert np.abs(decoded.pixels.astype(int) - deep).max() <= 2


@pytest.mark.parametrize("channels", ["gray", "rgb"])
def test_a_transparent_colour_of_16_bits(tmp_path, deep, channels):
    stored = np.ascontiguousarray(_in_channels(deep, channels))
    clear = tuple(int(v) for v in np.atleast_1d(stored[50, 60]))
    (tmp_path / "a.png").write_bytes(_png(stored, channels, 1, clear))
    decoded = pictures.read(tmp_path / "a.png")
    hidden = stored == stored[50, 60]
    assert np.array_equal(decoded.alpha == 0, hidden if channels == "gray" else hidden.all(-1))


def test_gray_with_transparency_of_16_bits_in_tiff_is_refused(tmp_path, deep):
    stored = _in_channels(deep, "gray+alpha")
    tifffile.imwrite(tmp_path / "a.tif", stored, **_tif(stored, "gray+alpha", 1))
    with pytest.raises(DpedError, match="a.tif: no image of a kind that can be read"):
        image_decoding.check(tmp_path / "a.tif")


def test_inks_are_inverted_only_where_adobe_wrote_them(tmp_path, picture):
    inks = Image.fromarray(picture).convert("CMYK")
    inks.save(tmp_path / "adobe.jpg", quality=100, subsampling=0)
    # Pillow writes inverted inks and Adobe's marker; the convention without the marker is the inks themselves.
    Image.fromarray(255 - np.asarray(inks), "CMYK").save(tmp_path / "plain.jpg", quality=100, subsampling=0)
    data = (tmp_path / "plain.jpg").read_bytes()
    at = data.index(b"\xff\xee")
    size = struct.unpack_from(">H", data, at + 2)[0]
    (tmp_path / "plain.jpg").write_bytes(data[:at] + data[at + 2 + size :])
    for name in ("adobe", "plain"):
        assert differ(image_decoding.read_photograph(tmp_path / f"{name}.jpg"), picture) <= 3


def test_a_wide_photograph_is_read_in_srgb(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=iccs.P3)
    wanted = (color_profiles.load_profile(iccs.P3).to_srgb(picture) / 257 + 0.5).astype(np.uint8)
    assert differ(image_decoding.read_photograph(tmp_path / "a.png"), wanted) <= 1
    assert differ(wanted, picture) > 20, "and it matters"


def test_content_that_is_not_on_the_disk(tmp_path, deep, picture):
    for name, pixels in (("a.png", picture), ("deep.tif", deep)):
        tifffile.imwrite(tmp_path / name, pixels) if pixels is deep else Image.fromarray(pixels).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        decoded = image_decoding.decode(tmp_path / "archive.zip" / name, content=content)
        assert np.array_equal(decoded.pixels, pixels)
        with pytest.raises(DpedError, match=f"archive.zip/{name}: "):
            image_decoding.decode(tmp_path / "archive.zip" / name, content=content[: len(content) // 2])


def test_the_suffix_may_be_wrong(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert differ(image_decoding.read_photograph(tmp_path / "a.jpg"), picture) == 0


def test_formats_that_run_programs_are_not_opened(tmp_path):
    (tmp_path / "a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\nshowpage\n")
    with pytest.raises(DpedError, match="a.jpg: no image of a kind that can be read"):
        image_decoding.read_photograph(tmp_path / "a.jpg")


# refusals


def test_truncated_files_are_refused_not_filled_with_gray(tmp_path, deep, picture):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(noise).save(whole)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
        with warnings.catch_warnings(), pytest.raises(DpedError, match=f"cut{suffix}: .*Replace it.$"):
            warnings.simplefilter("error")
            image_decoding.read_photograph(cut)
    save_deep_png(tmp_path / "deep.png", noise.astype(np.uint16) * 257)
    (tmp_path / "cut-deep.png").write_bytes((tmp_path / "deep.png").read_bytes()[:40_000])
    with pytest.raises(DpedError, match="cut-deep.png: cannot be read to its end"):
        image_decoding.read_photograph(tmp_path / "cut-deep.png")


def test_too_little_memory_is_no_damaged_file(tmp_path):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "large.png", compress_level=1)
    large = pictures.Picture(np.broadcast_to(np.uint8(0), (12_000, 12_000, 3)))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (64 << 20), before[1]))
    try:
        for use in (
            lambda: image_decoding.decode(tmp_path / "large.png"),
            lambda: pictures.write(large, tmp_path / "o.png"),
        ):
            with pytest.raises(MemoryError):
                use()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_memory_that_runs_out_in_opencv_is_no_damaged_file(tmp_path, monkeypatch):
    """OpenCV, which reads 16 bits, has an exception of its own for it."""

    def no_memory(*_):
        error = cv2.error("Failed to allocate 288000000 bytes")
        error.code = cv2.Error.StsNoMem
        raise error

    save_deep_png(tmp_path / "deep.png", np.zeros((200, 200, 3), np.uint16))
    monkeypatch.setattr(cv2, "imdecode", no_memory)
    with pytest.raises(MemoryError, match="Failed to allocate"):
        image_decoding.decode(tmp_path / "deep.png")


def test_damage_in_the_middle_is_no_traceback(tmp_path, picture):
    """Whatever a format's reader stumbles over: a picture or a DpedError, nothing else."""
    rng = np.random.default_rng(1)
    for suffix in (".jpg", ".png", ".tif", ".webp", ".bmp"):
        file = tmp_path / f"a{suffix}"
        Image.fromarray(picture).save(file)
        whole = np.frombuffer(file.read_bytes(), np.uint8)
        for _ in range(20):
            damaged = whole.copy()
            damaged[rng.integers(2, len(whole), 10)] = rng.integers(0, 256, 10)
            file.write_bytes(damaged.tobytes())
            try:
                assert image_decoding.read_photograph(file).dtype == np.uint8
            except DpedError as error:
                assert str(file) in str(error)


REFUSED = {
    "text.jpg": (lambda f: f.write_text("a picture"), "no image of a kind that can be read"),
    "empty.jpg": (lambda f: f.touch(), "no image of a kind that can be read"),
    "tiny.png": (lambda f: Image.new("RGB", (300, 99)).save(f), "99 x 300 pixels, less than one patch of 100"),
    "huge.png": (lambda f: Image.new("1", (20_000, 10_000)).save(f), r"too large .* megapixels"),
    "float.tif": (lambda f: Image.new("F", (200, 200)).save(f), "numbers of a kind that photographs do not have"),
    "wide.tif": (lambda f: Image.new("I", (200, 200)).save(f), "numbers of a kind that photographs do not have"),
    "missing.jpg": (lambda f: None, "not found"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_its_header(tmp_path, name):
    make, message = REFUSED[name]
    make(tmp_path / name)
    for look in (image_decoding.check, image_decoding.read_photograph):
        with pytest.raises(DpedError, match=message) as error:
            look(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))


def test_16_bit_planes_are_refused(tmp_path, deep):
    """OpenCV and Pillow both read them, and show something else."""
    planes = np.ascontiguousarray(np.moveaxis(deep, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(DpedError, match="separate planes"):
        image_decoding.check(tmp_path / "a.tif")


def test_heic_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "a.HEIC").write_bytes(b"\0" * 100)
    with pytest.raises(DpedError, match="a.HEIC: HEIC needs a library. Run: .* -m pip install pillow-heif"):
        image_decoding.check(tmp_path / "a.HEIC")
