"""A photograph file with all that belongs to it: bit depth, transparency, EXIF and colour profile survive the way through.

``photofile`` reads what the networks were trained on (8-bit RGB); here nothing that the owner has is dropped.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from dped_lib.base import paths
from dped_lib.data import photofile
from dped_lib.base.errors import DpedError

#: What can be written, by suffix. 16 bits a channel go into PNG only, which keeps EXIF and profile there.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}

#: Tags of TIFF that say how its pixels lie in the file, which in another file is wrong (EXIF holds the others, too).
_LAYOUT = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338, 339)
    + (347, 513, 514, 529, 530, 531, 532, 34675, photofile.ORIENTATION)
)
_WIDTH, _HEIGHT = 40962, 40963


@dataclass(frozen=True)
class Picture:
    """An upright photograph.

    Attributes:
        pixels: H x W x 3, RGB, uint8 or uint16.
        alpha: H x W in the same type, or None where the file has no transparency.
        exif, icc: as they go into a file; empty where there are none. Orientation and thumbnail are left out.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes = b""


def in_8bit(pixels: np.ndarray) -> np.ndarray:
    """uint16 rounded to uint8 (65535 is 255); uint8 as it is."""
    return pixels if pixels.dtype == np.uint8 else (pixels / 257 + 0.5).astype(np.uint8)


def written_suffix(suffix: str, deep: bool) -> str:
    """The suffix of a copy of a file of ``suffix``: its own where that format can be written and, with 16 bits a channel
    (``deep``), keeps them or is JPEG; else .jpg for HEIC of 8 bits, and .png."""
    kind = FORMATS.get(suffix.lower())
    if kind in ("PNG", "JPEG") or (kind and not deep):
        return suffix
    return ".jpg" if suffix.lower() in photofile.HEIC and not deep else ".png"


def read(file: Path) -> Picture:
    """A photograph of any size, turned upright as its EXIF says.

    Gray and palettes become RGB; CMYK is converted without its profile, which then is dropped; 16 bits stay 16 bits.

    Raises:
        DpedError: missing, empty, damaged, truncated, no image or too large; the file is named.
    """
    file = Path(file)
    if file.is_file() and not file.stat().st_size:
        raise DpedError(f"{file}: empty. Remove it.")
    with photofile.open_photograph(file, least=1, otherwise="") as image:
        try:
            deep = photofile.is_deep(image)  # before EXIF: looking for it reads a PNG to its end
            turned = image.getexif().get(photofile.ORIENTATION, 1)
            icc = image.info.get("icc_profile") or b"" if image.mode != "CMYK" else b""
            if deep:
                image.load()  # a truncated file is refused here; OpenCV would show what there is of it
                exif = _exif(image)
                pixels, alpha = _deep(file)
                pixels = photofile.upright(pixels, turned)
                alpha = None if alpha is None else photofile.upright(alpha, turned)
                return Picture(np.ascontiguousarray(pixels), alpha, _sized(exif, pixels), icc)
            exif = _exif(image)
            ImageOps.exif_transpose(image, in_place=True)
            alpha = None
            if image.has_transparency_data:
                image = image.convert("RGBA")
                alpha = np.array(image.getchannel("A"))
            pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
            return Picture(pixels, alpha, _sized(exif, pixels), icc)
        except DpedError:
            raise
        except Exception as error:  # damaged bytes end in whatever the format's reader stumbles over
            raise DpedError(f"{file}: cannot be read to its end ({error}). Replace it.") from error


def _exif(image: Image.Image) -> Image.Exif:
    found, kept = image.getexif(), Image.Exif()
    for tag, value in found.items():
        if tag not in _LAYOUT:
            kept[tag] = value
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if values := found.get_ifd(part):
            kept[part] = dict(values)
    return kept


def _sized(exif: Image.Exif, pixels: np.ndarray) -> bytes:
    # A photograph that has been turned has other sides than its camera wrote down.
    inner = exif.get(ExifTags.IFD.Exif, {})
    for tag, size in ((_WIDTH, pixels.shape[1]), (_HEIGHT, pixels.shape[0])):
        if tag in inner:
            inner[tag] = size
    return exif.tobytes() if len(exif) else b""


def _deep(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    raw = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise DpedError(f"{file}: cannot be read as 16 bits a channel. Replace it.")
    if raw.ndim == 2:
        return np.repeat(raw[..., None], 3, 2), None
    return raw[..., 2::-1], raw[..., 3] if raw.shape[2] == 4 else None


def write(picture: Picture, target: Path, quality: int = 95) -> Path:
    """Writes a picture, atomically, in the format that the suffix of ``target`` names (``FORMATS``).

    JPEG has neither transparency nor 16 bits: the picture is laid over white, or rounded to 8 bits.
    ``quality``: of JPEG and WebP, 1 to 100.

    Raises:
        DpedError: unknown suffix, 16 bits for another format than PNG or JPEG, or the disk is full.
    """
    target = Path(target)
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise DpedError(
            f"{target}: cannot write {target.suffix or 'a file without suffix'}; allowed: {', '.join(FORMATS)}."
        )
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype == np.uint16 and kind == "PNG":
        return _write_deep(picture, target)
    if pixels.dtype == np.uint16:
        if kind != "JPEG":
            raise DpedError(
                f"{target}: 16 bits a channel are written as PNG only. Choose --format png (or jpg: 8 bits)."
            )
        pixels, alpha = (None if a is None else in_8bit(a) for a in (pixels, alpha))
    image = Image.fromarray(pixels)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
        if kind == "JPEG":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    # TIFF uncompressed: libtiff's own writer, which compresses, cannot take EXIF.
    more = {"quality": quality} if kind in ("JPEG", "WEBP") else {}
    if kind == "JPEG":
        more["subsampling"] = 0
    more |= {k: v for k, v in (("exif", picture.exif), ("icc_profile", picture.icc)) if v}
    with paths.atomic_path(target) as part:
        image.save(part, kind, **more)
    return target


def _write_deep(picture: Picture, target: Path) -> Path:
    pixels = picture.pixels[..., ::-1]
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    kinds = {cv2.IMAGE_METADATA_EXIF: picture.exif.removeprefix(b"Exif\0\0"), cv2.IMAGE_METADATA_ICCP: picture.icc}
    said = {kind: np.frombuffer(data, np.uint8) for kind, data in kinds.items() if data}
    _, encoded = cv2.imencodeWithMetadata(".png", np.ascontiguousarray(pixels), list(said), list(said.values()))
    with paths.atomic_path(target) as part:
        part.write_bytes(encoded)
    return target
