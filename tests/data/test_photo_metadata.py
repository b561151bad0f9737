"""What stands beside the pixels: kept where it stays true, trimmed where it does not fit, said where it is lost."""

import io

import iccs
import numpy as np
import pytest
from pictures import png_chunk
from PIL import ExifTags, Image, TiffImagePlugin

from dped_lib.data import photo_metadata, picture

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
EXIF, GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
MAKE, DATE, COPYRIGHT, MAKER_NOTE, SUBJECT_AREA = 271, 36867, 33432, 37500, 37396


@pytest.fixture(scope="module")
def image() -> Image.Image:
    y, x = np.mgrid[:40, :60]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8))


def exif(note: int = 10, comment: int = 10, copyright: int = 10, **more) -> Image.Exif:
    entries = Image.Exif()
    entries.update({MAKE: "Maker", 272: "Model", 306: "2020:01:01 00:00:00", COPYRIGHT: "c" * copyright})
    entries[EXIF] = {DATE: "2020:01:01 00:00:00", MAKER_NOTE: b"M" * note, 37510: b"u" * comment, SUBJECT_AREA: (3, 4)}
    entries[GPS] = {1: "N", 2: (52.0, 30.0, 1.5)}
    for tag, value in more.items():
        entries[int(tag[1:])] = value
    return entries


def opened(data: bytes) -> tuple[dict, dict, dict]:
    entries = Image.Exif()
    entries.load(data)
    return dict(entries.items()), entries.get_ifd(EXIF), entries.get_ifd(GPS)


def kept(image: Image.Image, file, **options) -> tuple[dict, dict, dict]:
    image.save(file, **options)
    return opened(picture.read(file).exif)


def test_what_stays_true_is_kept_and_what_does_not_is_not(image, tmp_path):
    main, camera, place = kept(image, tmp_path / "a.jpg", exif=exif(_274=6, _282=72.0, _259=7))
    assert main[MAKE] == "Maker" and camera[DATE] == "2020:01:01 00:00:00" and place[2] == (52.0, 30.0, 1.5)
    assert main[282] == 72 and camera[MAKER_NOTE] == b"M" * 10
    assert 274 not in main and 259 not in main and SUBJECT_AREA not in camera, "the photograph was turned"
    assert SUBJECT_AREA in kept(image, tmp_path / "a.jpg", exif=exif())[1]


def test_the_colour_space_is_that_of_the_new_file(image, tmp_path):
    entries = exif()
    entries[EXIF] = {40961: 65535, DATE: "2020:01:01 00:00:00"}
    assert kept(image, tmp_path / "a.jpg", exif=entries, icc_profile=iccs.P3)[1][40961] == 65535
    assert kept(image.convert("L"), tmp_path / "a.jpg", exif=entries, icc_profile=iccs.GRAY)[1][40961] == 1


def test_entries_of_unknown_meaning_are_left_out_and_said(image, tmp_path):
    image.save(tmp_path / "a.jpg", exif=exif(_50000="private"))
    photograph = picture.read(tmp_path / "a.jpg")
    assert 50000 not in opened(photograph.exif)[0] and photograph.lost == ("1 EXIF entry of unknown meaning",)


def test_damaged_exif_costs_the_entries_not_the_photograph(image, tmp_path):
    image.save(tmp_path / "a.jpg", exif=exif())
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    rng, at = np.random.default_rng(0), data.index(b"Exif\0\0")
    for _ in range(40):
        damaged = data.copy()
        for i in rng.integers(at + 6, at + 200, 6):
            damaged[i] = rng.integers(256)
        (tmp_path / "b.jpg").write_bytes(damaged)
        photograph = picture.read(tmp_path / "b.jpg")
        assert sorted(photograph.pixels.shape) == [3, 40, 60]
        picture.write(photograph, tmp_path / "c.jpg")


@pytest.mark.parametrize(
    ("sizes", "gone"),
    [
        ((80_000, 10, 10), ["MakerNote"]),
        ((100, 70_000, 10), ["MakerNote", "UserComment"]),
        ((40_000, 40_000, 10), ["MakerNote"]),
    ],
)
def test_exif_too_long_for_jpeg_is_trimmed_and_said(image, tmp_path, sizes, gone):
    image.save(tmp_path / "a.png", exif=exif(*sizes))
    said = []
    picture.write(picture.read(tmp_path / "a.png"), tmp_path / "a.jpg", tell=said.append)
    assert said == [f"EXIF is too long for JPEG; trimmed: {', '.join(gone)}"]
    main, camera, place = opened(Image.open(tmp_path / "a.jpg").getexif().tobytes())
    assert main[MAKE] == "Maker" and main[COPYRIGHT] == "c" * 10
    assert camera[DATE] == "2020:01:01 00:00:00" and place[2] == (52.0, 30.0, 1.5)
    assert (
        picture.read(picture.write(picture.read(tmp_path / "a.png"), tmp_path / "b.png")).exif
        == picture.read(tmp_path / "a.png").exif
    ), "PNG has room"


def test_a_copyright_that_is_too_long_itself_is_cut_not_dropped():
    data, gone = photo_metadata.trimmed(exif(copyright=70_000).tobytes(), 65_533)
    assert len(data) <= 65_533 and gone[-1] == "Copyright"
    assert opened(data)[0][COPYRIGHT] == "c" * 200 and opened(data)[2][1] == "N"


# ---------------------------------------------------------------------------------------------- losses


def _with_tags(image: Image.Image, file) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700], tags[274], tags[33723] = XMP, 6, b"iptc"
    image.save(file, tiffinfo=tags)


def _png_texts(image: Image.Image, file) -> None:
    image.save(file)
    data = file.read_bytes()
    xmp, text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), png_chunk(b"tEXt", b"Title\0hello")
    file.write_bytes(data[:33] + xmp + data[33:-12] + text + data[-12:])


def _motion(image: Image.Image, file) -> None:
    image.save(file)
    file.write_bytes(file.read_bytes() + b"\0\0\0\x18ftypmp42" + b"\0" * 300)


def _frames(image: Image.Image, file, **more) -> None:
    image.save(file, save_all=True, append_images=[image.rotate(90), image.rotate(180)], **more)


GAIN = XMP + b'hdrgm:Version="1.0" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
LOST = {
    "plain.jpg": (lambda i, f: i.save(f), []),
    "plain.png": (lambda i, f: i.save(f), []),
    "xmp.jpg": (lambda i, f: i.save(f, xmp=XMP), ["XMP"]),
    "xmp.webp": (lambda i, f: i.save(f, xmp=XMP), ["XMP"]),
    "texts.png": (_png_texts, ["XMP", "comments"]),
    "tags.tif": (_with_tags, ["XMP", "IPTC"]),
    "comment.jpg": (lambda i, f: i.save(f, comment=b"hello"), ["comments"]),
    "gain.jpg": (lambda i, f: i.save(f, xmp=GAIN), ["XMP", "the gain map (HDR)"]),
    "gain-mpo.jpg": (
        lambda i, f: i.save(f, format="MPO", save_all=True, append_images=[i], xmp=GAIN),
        ["XMP", "the gain map (HDR)"],
    ),
    "motion.jpg": (_motion, ["the video of a motion photograph"]),
    "frames.gif": (_frames, ["2 later frames or pages"]),
    "frames.webp": (_frames, ["2 later frames or pages"]),
    "frames.png": (_frames, ["2 later frames or pages"]),
    "pages.tif": (_frames, ["2 later frames or pages"]),
    "frames.jpg": (lambda i, f: _frames(i, f, format="MPO"), ["2 later frames or pages"]),
    "gray.jpg": (lambda i, f: i.convert("L").save(f, icc_profile=iccs.GRAY), []),
    "stray.jpg": (
        lambda i, f: i.save(f, icc_profile=iccs.GRAY),
        ["the colour profile, which is for other colours"],
    ),
    "inks.jpg": (
        lambda i, f: i.convert("CMYK").save(f, icc_profile=iccs.SRGB),
        [
            "its four inks (CMYK), of which red, green and blue are made",
            "the colour profile, which is for other colours",
        ],
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_each_kind_of_loss_is_named_once(image, tmp_path, name):
    make, wanted = LOST[name]
    make(image, tmp_path / name)
    photograph = picture.read(tmp_path / name)
    assert list(photograph.lost) == wanted
    if name == "gray.jpg":
        assert photograph.icc == b"", "a gray profile does not describe RGB"


def test_a_tiff_does_not_carry_xmp_on(image, tmp_path):
    _with_tags(image, tmp_path / "a.tif")
    picture.write(picture.read(tmp_path / "a.tif"), tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as written:
        assert written.size == (40, 60) and not {700, 33723} & set(written.tag_v2) and written.tag_v2.get(274, 1) == 1


def test_gray_numbers_are_converted_when_their_profile_goes(image, tmp_path):
    gray = image.convert("L")
    gray.save(tmp_path / "a.png", icc_profile=iccs.GRAY)
    photograph = picture.read(tmp_path / "a.png")
    light = (np.asarray(gray) / 255) ** 1.8
    wanted = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert photograph.icc == b"" and np.abs(photograph.pixels[..., 1] - wanted).max() < 1


def test_heic_xmp_is_named(image, tmp_path):
    import pillow_heif

    pillow_heif.register_heif_opener()
    held = io.BytesIO()
    image.save(held, "HEIF", xmp=XMP)
    (tmp_path / "a.heic").write_bytes(held.getvalue())
    assert picture.read(tmp_path / "a.heic").lost == ("XMP",)
