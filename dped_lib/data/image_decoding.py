"""Open and decode image files.

No other module does this. Every picture is upright RGB; a file that cannot be used is refused by name.

Pillow reads all formats, but keeps only 8 of 16 bits a channel. OpenCV therefore decodes files of 16 bits; Pillow reads
the header and recognizes them. This module alone handles orientation, TIFFs in which zero is white, transparency and
Adobe's inverted inks.
"""

import contextlib
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from dped_lib import paper
from dped_lib.base import silence
from dped_lib.base.errors import DpedError, memory_ran_out, pip_install
from dped_lib.data import color_profiles, photo_metadata

HEIC = (".heic", ".heif")
#: Pillow's names of the formats that are opened, whatever the suffix says. Other formats run programs (EPS) or hold no
#: photographs.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "HEIF")
# TIFF tags
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _EXTRA, _SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339


# ---------------------------------------------------------------------------------------------- headers


@dataclass(frozen=True)
class Header:
    """Describe a picture as its file does, before a pixel is decoded.

    Attributes:
        kind, mode: format and mode, as Pillow names them.
        height, width: in pixels. Pillow gives them before rotation for some formats and after it for others.
        deep: whether it has 16 bits a channel.
        alpha: whether it has transparency.
    """

    kind: str
    mode: str
    height: int
    width: int
    deep: bool
    alpha: bool

    @property
    def reading(self) -> int:
        """Return the peak memory of decoding in bytes, without the file itself."""
        return self.height * self.width * (24 if self.deep else 12)


@contextlib.contextmanager
def _open(file: Path, least: int, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a file, or its ``content``, with Pillow, and check its header."""
    if content is None and os.path.exists(file) and not (os.path.isfile(file) or os.path.isdir(file)):
        # Reading a pipe may wait forever, and a device such as /dev/zero has no end.
        raise DpedError(
            f"{file}: not a regular file (perhaps a pipe or a device). Save the photograph in a file first."
        )
    Image.init()
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif

            pillow_heif.register_heif_opener()
        except ModuleNotFoundError:
            if file.suffix.lower() in HEIC:
                raise DpedError(
                    f"{file}: HEIC needs a library. Run: {pip_install('pillow-heif')}. Or convert it to JPEG."
                ) from None
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(silence.Silence())
        try:
            # Opened here and not by name: Pillow maps some files into memory, and then garbles TIFFs that have to be
            # rotated and are gray or transparent.
            data = stack.enter_context(io.BytesIO(content) if content is not None else file.open("rb"))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # faults that matter raise an exception
            image = stack.enter_context(Image.open(data, formats=[f for f in _FORMATS if f in Image.OPEN]))
        except FileNotFoundError:
            if file.is_symlink():
                raise DpedError(
                    f"{file}: a link to a file that is not there ({os.readlink(file)}). Bring it back, or remove the link."
                ) from None
            raise DpedError(f"{file}: not found.") from None
        except PermissionError:
            raise DpedError(f"{file}: cannot be read (no permission). Make it readable.") from None
        except UnidentifiedImageError:
            raise DpedError(
                f"{file}: no image of a kind that can be read. Convert it to PNG, JPEG or TIFF (8 or 16 bits), or remove it."
            ) from None
        except Image.DecompressionBombError as error:  # we keep Pillow's limit of 179 million pixels
            raise DpedError(
                f"{file}: too large ({error}). Scale it down to {2 * Image.MAX_IMAGE_PIXELS // 10**6} megapixels."
            ) from error
        except Exception as error:  # the readers of the formats raise many kinds of errors on damaged files
            raise DpedError(f"{file}: cannot be read as an image ({error}). Replace it.") from error
        _refuse(image, file, least)
        yield image


def _refuse(image: Image.Image, file: Path, least: int) -> None:
    width, height = image.size
    if min(width, height) < least:
        raise DpedError(f"{file}: {height} x {width} pixels, less than one patch of {paper.PATCH_SIZE}. Remove it.")
    tags = image.tag_v2 if image.format == "TIFF" else {}
    strange = image.mode == "F" or (image.mode == "I" and image.format != "PNG")
    if _is_deep(image) and image.format == "TIFF":
        # OpenCV reads these files too, but gives other pixels.
        gray = tags.get(_PHOTOMETRIC) in (0, 1) and tags.get(_SAMPLES, 1) == 1
        strange |= not (gray or (tags.get(_PHOTOMETRIC) == 2 and tags.get(_SAMPLES, 1) in (3, 4)))
        strange |= tags.get(_PLANES, 1) == 2 or set(np.atleast_1d(tags.get(_BITS, 16))) != {16}
        strange |= not set(np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1))) <= {1}
    if strange:
        raise DpedError(
            f"{file}: numbers of a kind that photographs do not have (mode {image.mode}; floating point, 32 bits or separate "
            f"planes). Convert it to 8 or 16 bits a channel."
        )


def _is_deep(image: Image.Image) -> bool:
    """Return whether a file has 16 bits a channel.

    Pillow opens such colours with 8, so the file's own header decides.
    """
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":
        return any("16B" in str(tile[3]) for tile in image.tile)
    return image.format == "TIFF" and image.mode != "CMYK" and max(np.atleast_1d(image.tag_v2.get(_BITS, 8))) == 16


def _header(image: Image.Image) -> Header:
    width, height = image.size
    return Header(image.format, image.mode, height, width, _is_deep(image), image.has_transparency_data)


def check(file: Path, least: int = paper.PATCH_SIZE) -> Header:
    """Read only the header of a file and return it. A bad file is thus found before hours of work, not after.

    Args:
        least: smallest allowed side in pixels.

    Raises:
        DpedError: the file is missing, no image, too small, too large, or has numbers of a kind that photographs do not
            have.
    """
    with _open(Path(file), least) as image:
        return _header(image)


def lost_parts(file: Path) -> list[str]:
    """Return the parts of a file that an enhanced photograph cannot keep (``photo_metadata.lost``), a phrase each."""
    with _open(Path(file), 1) as image:
        try:
            return photo_metadata.lost(image, Path(file))
        except Exception:  # the picture is whole, but the metadata are damaged
            return ["its metadata, which are damaged"]


def is_enhanced(file: Path) -> bool:
    """Return whether a file is a result of ``dped enhance``, by its EXIF (``photo_metadata.marked``)."""
    try:
        with _open(Path(file), 1) as image:
            return photo_metadata.is_marked(photo_metadata.parts(image))
    except (DpedError, OSError):  # no image, or one that cannot be read
        return False


# ---------------------------------------------------------------------------------------------- pixels


@dataclass(frozen=True)
class Decoded:
    """Hold a decoded picture.

    Attributes:
        header: the file's header.
        pixels: H x W x 3, RGB, uint8 or uint16, upright.
        alpha: H x W in the same type, or None if the file has no transparency.
        exif: the file's EXIF, unchanged (``photo_metadata.parts``).
        icc: the bytes of the colour profile: for RGB, or for gray if the picture is gray. Empty if there is none.
        stray: the bytes of a profile that is left out, because it is for other colours (CMYK, for example) or damaged.
            Empty if there is none.
    """

    header: Header
    pixels: np.ndarray
    alpha: np.ndarray | None
    exif: photo_metadata.Parts
    icc: bytes
    stray: bytes


def decode(file: Path, least: int = 1, content: bytes | None = None) -> Decoded:
    """Return a file's picture, rotated upright according to its EXIF orientation.

    Gray and palettes become RGB, CMYK is converted without its profile, 16 bits stay 16 bits.

    ``least`` is that of ``check``. ``content`` holds the bytes of a file that is not on the disk.

    Raises:
        DpedError: as ``check``, or the file is damaged after its header.
        MemoryError: the picture does not fit into memory.
    """
    file = Path(file)
    with _open(file, least, content) as image:
        header = _header(image)
        icc = image.info.get("icc_profile") or b""  # before EXIF: reading that reads a PNG to its end
        try:
            exif = photo_metadata.parts(image)  # before loading: Pillow removes the orientation when it rotates a TIFF
            orientation = photo_metadata.orientation(exif)
            tags = dict(image.tag_v2) if header.kind == "TIFF" else {}
            image.load()  # refuses a truncated file; OpenCV would return a part of it
            if header.deep:
                data = np.fromfile(file, np.uint8) if content is None else np.array(np.frombuffer(content, np.uint8))
                pixels, alpha = _deep(data, header, tags, image.info.get("transparency"))
            else:
                pixels, alpha = _shallow(image)
                orientation = 1 if header.kind == "TIFF" else orientation  # Pillow has rotated it
            pixels, alpha = (
                None if a is None else np.ascontiguousarray(upright(a, orientation)) for a in (pixels, alpha)
            )
            icc, stray = (icc, b"") if _describes(icc, header, pixels) else (b"", icc)
            return Decoded(header, pixels, alpha, exif, icc, stray)
        except Exception as error:  # the readers of the formats raise many kinds of errors on damaged files
            if memory_ran_out(error):  # the file may be whole
                raise MemoryError(str(error)) from error
            raise DpedError(f"{file}: cannot be read to its end ({error}). Replace it.") from error


def _describes(icc: bytes, header: Header, pixels: np.ndarray) -> bool:
    space = color_profiles.space(icc) if header.mode != "CMYK" else ""
    gray = space == "GRAY" and all(np.array_equal(pixels[..., 0], pixels[..., c]) for c in (1, 2))
    return space == "RGB" or (gray and color_profiles.usable(icc))


def _shallow(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow treats every CMYK JPEG as one of Adobe's, whose inks are inverted
    if image.has_transparency_data:
        image = image.convert("RGBA")
        pixels = np.array(image)
        return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
    return np.array(image if image.mode == "RGB" else image.convert("RGB")), None


def _deep(data: np.ndarray, header: Header, tags: dict, clear: object) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode 16 bits a channel with OpenCV, without rotation.

    ``clear`` is the gray value that a PNG declares transparent.
    """
    if header.kind == "TIFF":
        _neutralize_tags(data)
    raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or sorted(raw.shape[:2]) != sorted((header.height, header.width)):
        raise ValueError("OpenCV cannot decode its 16 bits a channel")
    if raw.ndim == 2:
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero
            raw = 65535 - raw
        alpha = np.where(raw == clear, 0, 65535).astype(np.uint16) if isinstance(clear, int) else None
        return np.repeat(raw[..., None], 3, 2), alpha
    pixels, alpha = raw[..., 2::-1], raw[..., 3] if raw.shape[2] == 4 else None
    # a TIFF that does not say what its fourth channel means is taken to have transparency
    meaning = np.atleast_1d(tags.get(_EXTRA, 2))[0]
    if alpha is None or meaning == 0:  # the fourth channel has no stated meaning
        return pixels, None
    if meaning == 1:  # the colours are premultiplied by it
        pixels = np.minimum(pixels * np.float32(65535) / np.maximum(alpha, 1)[..., None] + 0.5, 65535).astype(np.uint16)
    return pixels, alpha


def _neutralize_tags(data: np.ndarray) -> None:
    """Overwrite orientation and "white is zero" in the bytes of a TIFF.

    OpenCV handles them differently by depth and version.
    """
    order = "<" if data[:2].tobytes() == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    start = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)[0]
    first, size, value = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    for entry in range(first, min(first + count * size, len(data) - size + 1), size):
        tag = struct.unpack_from(f"{order}H", data, entry)[0]
        zero = tag == _PHOTOMETRIC and struct.unpack_from(f"{order}H", data, entry + value)[0] == 0
        if tag == photo_metadata.ORIENTATION or zero:
            struct.pack_into(f"{order}H", data, entry + value, 1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and flip H x W (x C) pixels with an EXIF orientation (1 to 8) so that the picture is upright."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0))


def in_8bit(pixels: np.ndarray) -> np.ndarray:
    """Round uint16 to uint8 (65535 becomes 255). Return uint8 unchanged."""
    return pixels if pixels.dtype == np.uint8 else cv2.convertScaleAbs(pixels, alpha=1 / 257)


def in_srgb(decoded: Decoded) -> np.ndarray:
    """Return the pixels in sRGB: uint16 if a profile was applied, otherwise unchanged."""
    profile = color_profiles.load_profile(decoded.icc)
    return decoded.pixels if profile is None else profile.to_srgb(decoded.pixels)


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend H x W x 3 pixels with white by their transparency ``alpha`` (H x W). Return the same type."""
    full = np.iinfo(pixels.dtype).max
    share = alpha[..., None] / np.float32(np.iinfo(alpha.dtype).max)
    return (pixels * share + full * (1 - share) + np.float32(0.5)).astype(pixels.dtype)


def read_photograph(file: Path) -> np.ndarray:
    """Return a photograph as uint8 H x W x 3, upright, in sRGB. The networks were trained on sRGB.

    16 bits a channel are scaled to 8, transparent pixels are blended with white, and profiles for RGB and gray are
    applied.

    Raises:
        DpedError: the file is missing, damaged, truncated, no image, smaller than a patch, or too large. The message
            names it.
    """
    decoded = decode(file, paper.PATCH_SIZE)
    pixels = in_srgb(decoded)
    return in_8bit(pixels if decoded.alpha is None else over_white(pixels, decoded.alpha))
