"""Read and write photographs with their bit depth, transparency, EXIF and colour profile.

``image_decoding`` decodes the pixels. This module adds the metadata, and is the only writer of photographs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dped_lib.base import placing, writing
from dped_lib.base.errors import DpedError, memory_ran_out
from dped_lib.data import color_profiles, image_decoding, photo_metadata

#: Formats that can be written, by suffix. Only PNG holds 16 bits a channel.
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
#: Longest side in pixels that a format can hold (WebP) or that its library writes (libjpeg, libpng).
LONGEST = {"JPEG": 65_500, "WEBP": 16_383, "PNG": 1_000_000}
#: EXIF in JPEG is one segment of 65535 bytes, which includes its 2 bytes of length.
_JPEG_EXIF = 65_533

_ELSEWHERE = "name another folder for the results"


@dataclass(frozen=True)
class Picture:
    """Hold an upright photograph and its metadata.

    Attributes:
        pixels: H x W x 3, RGB, uint8 or uint16.
        alpha: H x W in the same type, or None if the file has no transparency.
        exif, icc: the bytes that are written to a file; empty if there are none. EXIF holds only entries that are true
            of these pixels (``photo_metadata``). The profile is for RGB.
        lost: what else the file held, one phrase for each kind.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes = b""
    icc: bytes = b""
    lost: tuple[str, ...] = ()

    @property
    def profile(self) -> color_profiles.Profile | None:
        """Return the profile that converts the pixels to sRGB; None if they are sRGB, or are taken as sRGB."""
        return color_profiles.load_profile(self.icc)

    def on_screen(self) -> np.ndarray:
        """Return the pixels as uint8 in sRGB."""
        return image_decoding.in_8bit(self.profile.to_srgb(self.pixels) if self.profile else self.pixels)


def written_suffix(suffix: str, deep: bool, alpha: bool = False) -> str:
    """Return the suffix for an enhanced copy of a file.

    It is ``suffix`` itself if that format can be written and can hold the picture.

    JPEG has neither 16 bits a channel (``deep``) nor transparency (``alpha``), and TIFF and WebP are written with 8
    bits only. Such pictures become PNG. HEIC becomes JPEG or PNG. Any other format becomes PNG.
    """
    kind = "JPEG" if suffix.lower() in image_decoding.HEIC else FORMATS.get(suffix.lower())
    if kind == "PNG" or (kind and not deep and not (alpha and kind == "JPEG")):
        return suffix if suffix.lower() in FORMATS else ".jpg"
    return ".png"


def read(file: Path) -> Picture:
    """Return a photograph of any size, upright, with the metadata that stay true of it. ``lost`` names the rest.

    Gray and palettes become RGB, and 16 bits stay 16 bits. A gray profile is applied, and CMYK is converted without its
    profile, so both become sRGB.

    Raises:
        DpedError: the file is missing, empty, damaged, truncated, no image or too large. The message names it.
    """
    file = Path(file)
    if file.is_file() and not file.stat().st_size:
        raise DpedError(f"{file}: empty. Remove it.")
    decoded = image_decoding.decode(file)
    pixels, icc, lost = decoded.pixels, decoded.icc, image_decoding.lost_parts(file)
    if decoded.header.mode == "CMYK":
        lost.append("its four inks (CMYK), of which red, green and blue are made")
    if decoded.stray:
        why = "is for other colours" if color_profiles.space(decoded.stray) else "cannot be read"
        lost.append(f"the colour profile, which {why}")
    if color_profiles.space(icc) == "GRAY":
        pixels, icc = image_decoding.in_srgb(decoded), b""
        pixels = image_decoding.in_8bit(pixels) if decoded.pixels.dtype == np.uint8 else pixels
    elif icc and not color_profiles.usable(icc):
        lost.append(
            "the meaning of its colour profile, which is kept but cannot be applied: its colours are taken for sRGB"
        )
    exif, more = photo_metadata.kept(decoded.exif, *pixels.shape[:2], rgb_profile=bool(icc))
    return Picture(pixels, decoded.alpha, exif, icc, (*lost, *more))


def write(
    picture: Picture,
    target: Path,
    quality: int = 95,
    replace: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write a picture atomically, in the format that the suffix of ``target`` names (``FORMATS``). Return ``target``.

    JPEG has neither transparency nor 16 bits, so the picture is blended with white, or rounded to 8 bits.

    Args:
        quality: the quality of JPEG and WebP, 1 to 100.
        replace: whether an existing file is replaced. If not, it is an error.
        tell: is called with a message for each thing that the format cannot keep.

    Raises:
        DpedError: the suffix is unknown, the format cannot hold the picture, or the file cannot be written.
    """
    target = Path(target)
    height, width = picture.pixels.shape[:2]
    kind = check_format(target, height, width, picture.pixels.dtype == np.uint16)
    pixels, alpha, exif = picture.pixels, picture.alpha, picture.exif
    if kind == "JPEG":
        if pixels.dtype == np.uint16:
            tell("JPEG has 8 bits a channel, and the photograph had 16")
            pixels, alpha = (None if a is None else image_decoding.in_8bit(a) for a in (pixels, alpha))
        if alpha is not None and alpha.min() < 255:
            tell("JPEG has no transparency: the photograph is laid over white")
            pixels = image_decoding.over_white(pixels, alpha)
        alpha = None
        exif, gone = photo_metadata.trimmed(exif, _JPEG_EXIF)
        if gone:
            tell(f"EXIF is too long for JPEG; trimmed: {', '.join(gone)}")
    try:
        with writing.atomic_path(target, _ELSEWHERE, replace) as part:
            if pixels.dtype == np.uint16:
                part.write_bytes(_deep_png(pixels, alpha, exif, picture.icc))
            else:
                image = Image.fromarray(pixels)
                if alpha is not None:
                    image.putalpha(Image.fromarray(alpha))
                # TIFF is uncompressed, because libtiff's writer, which compresses, cannot write EXIF.
                more = {"quality": quality} if kind in ("JPEG", "WEBP") else {}
                more |= {"subsampling": 0} if kind == "JPEG" else {}
                more |= {k: v for k, v in (("exif", exif), ("icc_profile", picture.icc)) if v}
                with placing.WholeFile(part) as file:
                    image.save(file, kind, **more)
    except DpedError:
        raise
    except Exception as error:  # the writers of the formats raise many kinds of errors
        if memory_ran_out(error):
            raise MemoryError(str(error)) from error
        raise DpedError(f"{target}: cannot be written ({error}). Choose another --format, or {_ELSEWHERE}.") from error
    return target


def check_format(target: Path, height: int, width: int, deep: bool) -> str:
    """Return the format (Pillow's name) of the suffix of ``target``, if it can hold a picture of that size and depth.

    Raises:
        DpedError: the suffix is unknown, or the format cannot hold the picture.
    """
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise DpedError(
            f"{target}: cannot write {target.suffix or 'a file without suffix'}; allowed: {', '.join(FORMATS)}."
        )
    if deep and kind not in ("PNG", "JPEG"):
        raise DpedError(f"{target}: 16 bits a channel are written as PNG only. Choose --format png (or jpg: 8 bits).")
    if max(height, width) > LONGEST.get(kind, 1 << 31):
        raise DpedError(
            f"{target}: {width} x {height} pixels, and {kind} takes at most {LONGEST[kind]} a side. Choose --format png or tif."
        )
    return kind


def _deep_png(pixels: np.ndarray, alpha: np.ndarray | None, exif: bytes, icc: bytes) -> bytes:
    pixels = pixels[..., ::-1] if alpha is None else np.dstack([pixels[..., ::-1], alpha])
    kinds = {cv2.IMAGE_METADATA_EXIF: exif.removeprefix(b"Exif\0\0"), cv2.IMAGE_METADATA_ICCP: icc}
    metadata = {kind: np.frombuffer(data, np.uint8) for kind, data in kinds.items() if data}
    done, encoded = cv2.imencodeWithMetadata(
        ".png", np.ascontiguousarray(pixels), list(metadata), list(metadata.values())
    )
    if not done:
        raise OSError("OpenCV cannot encode it")
    return encoded.tobytes()
