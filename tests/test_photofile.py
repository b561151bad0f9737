"""Photograph files of every kind are read as they are seen, or refused by name."""

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from dped_lib.data import photofile
from dped_lib.base.errors import DpedError

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


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def save_deep_png(file, pixels: np.ndarray, orientation: int = 1) -> None:
    """OpenCV writes no EXIF: it is put behind the header."""
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file.write_bytes(data[:33] + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[33:])


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_every_orientation_gives_the_same_picture(tmp_path, picture, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    file = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](picture))).save(file, exif=exif, **options)
    assert differ(photofile.read_photograph(file), picture) <= (4 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_with_16_bits(tmp_path, deep, picture, orientation):
    stored = np.ascontiguousarray(STORED[orientation](deep))
    save_deep_png(tmp_path / "a.png", stored, orientation)
    assert differ(photofile.read_photograph(tmp_path / "a.png"), picture) == 0
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert differ(photofile.read_photograph(tmp_path / "a.tif"), picture) == 0


def test_16_bits_are_scaled_not_cut(tmp_path, deep, picture):
    gray = np.repeat(picture[..., :1], 3, 2)
    cv2.imwrite(str(tmp_path / "gray.png"), deep[..., 0])
    cv2.imwrite(str(tmp_path / "gray.tif"), deep[..., 0])
    cv2.imwrite(
        str(tmp_path / "alpha.png"), cv2.merge([*cv2.split(deep[..., ::-1]), np.full_like(deep[..., 0], 40000)])
    )
    assert differ(photofile.read_photograph(tmp_path / "gray.png"), gray) == 0
    assert differ(photofile.read_photograph(tmp_path / "gray.tif"), gray) == 0
    assert differ(photofile.read_photograph(tmp_path / "alpha.png"), over_white(deep, 40000)) <= 1


def test_8_bits_of_other_modes(tmp_path, deep, picture):
    image = Image.fromarray(picture)
    image.convert("L").save(tmp_path / "gray.jpg", quality=100)
    gray = np.repeat(np.asarray(image.convert("L"))[..., None], 3, 2)
    assert differ(photofile.read_photograph(tmp_path / "gray.jpg"), gray) <= 1

    palette = image.quantize(64)
    palette.save(tmp_path / "palette.png")
    assert differ(photofile.read_photograph(tmp_path / "palette.png"), np.asarray(palette.convert("RGB"))) == 0

    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    assert differ(photofile.read_photograph(tmp_path / "cmyk.tif"), picture) <= 1

    image.putalpha(156)
    image.save(tmp_path / "alpha.png")
    assert differ(photofile.read_photograph(tmp_path / "alpha.png"), over_white(deep, 156 * 257)) <= 1
    hidden = Image.fromarray(np.dstack([picture, np.zeros_like(picture[..., 0])]))
    hidden.save(tmp_path / "hidden.png")
    assert (photofile.read_photograph(tmp_path / "hidden.png") == 255).all()


# refusals


def test_truncated_files_are_refused_not_filled_with_gray(tmp_path, deep, picture):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        whole = tmp_path / f"whole{suffix}"
        Image.fromarray(noise).save(whole)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
        with warnings.catch_warnings(), pytest.raises(DpedError, match=f"cut{suffix}: .*on_bad='skip'"):
            warnings.simplefilter("error")
            photofile.read_photograph(cut)
    save_deep_png(tmp_path / "deep.png", noise.astype(np.uint16) * 257)
    (tmp_path / "cut-deep.png").write_bytes((tmp_path / "deep.png").read_bytes()[:40_000])
    with pytest.raises(DpedError, match="cut-deep.png: cannot be read to its end"):
        photofile.read_photograph(tmp_path / "cut-deep.png")


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
                assert photofile.read_photograph(file).dtype == np.uint8
            except DpedError as error:
                assert str(file) in str(error)


REFUSED = {
    "text.jpg": (lambda f: f.write_text("a picture"), "no image that can be read"),
    "empty.jpg": (lambda f: f.touch(), "no image that can be read"),
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
    for look in (photofile.check, photofile.read_photograph):
        with pytest.raises(DpedError, match=message) as error:
            look(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))


def test_16_bit_planes_are_refused(tmp_path, deep):
    """OpenCV and Pillow both read them, and show something else."""
    planes = np.ascontiguousarray(np.moveaxis(deep, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(DpedError, match="separate planes"):
        photofile.check(tmp_path / "a.tif")


def test_heic_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.HEIC").write_bytes(b"\0" * 100)
    with pytest.raises(DpedError, match="a.HEIC: HEIC needs a library: pip install pillow-heif"):
        photofile.check(tmp_path / "a.HEIC")


# folders


def test_a_folder_is_listed_by_stems(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.Tif", ".hidden.jpg", "notes.txt", "a.jpg.part"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert {k: v.name for k, v in photofile.list_photographs(tmp_path).items()} == {
        "a": "a.jpg",
        "b": "b.JPEG",
        "c": "c.Tif",
    }
    assert list(photofile.list_photographs(tmp_path, {"c.Tif", "x.jpg"})) == ["c"]


def test_two_files_of_one_stem_are_both_named(tmp_path):
    for name in ("a.jpg", "a.PNG"):
        (tmp_path / name).touch()
    with pytest.raises(DpedError, match="a.PNG and a.jpg have the same name"):
        photofile.list_photographs(tmp_path)
    assert list(photofile.list_photographs(tmp_path, {"a.jpg"})) == ["a"]


def test_folders_without_photographs(tmp_path):
    with pytest.raises(DpedError, match="nowhere: no such folder"):
        photofile.list_photographs(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DpedError, match="no photographs in it"):
        photofile.list_photographs(tmp_path)
