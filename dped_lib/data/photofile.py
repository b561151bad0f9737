"""Image files: the one place that lists them in a folder, opens and decodes them. Every picture comes out upright, as RGB, or is refused by name.

Pillow reads all formats; of 16 bits a channel it keeps 8, so those are decoded by OpenCV, told by Pillow's reading of the header. Orientation,
black or white for zero, transparency and Adobe's inverted inks are settled here and nowhere else, for both.
"""

import contextlib
import io
import struct
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.data import color_profiles, photo_metadata

#: What is looked at in a folder of photographs; other files there are none of ours.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".heic", ".heif"})

HEIC = (".heic", ".heif")
#: Pillow's names of the formats that are opened, whatever the suffix says. Others run programs (EPS), or are no photographs.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "HEIF")
# Tags of TIFF.
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _EXTRA, _SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339
_SKIP = ", or skip it with on_bad='skip'"


# ---------------------------------------------------------------------------------------------- folders


def is_image_name(name: str) -> bool:
    """Say whether a file of this name counts as an image: not hidden, suffix of ``SUFFIXES`` in any case."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def list_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name (``is_image_name``).

    Raises:
        DpedError: no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DpedError(f"{folder}: no such folder. It must hold photographs ({', '.join(sorted(SUFFIXES))}).")
    return sorted(f for f in folder.iterdir() if is_image_name(f.name) and f.is_file())


def list_photographs(folder: Path, only: Container[str] | None = None) -> dict[str, Path]:
    """Return the photographs of a folder (``list_files``) by the stem of their names.

    ``only``: names of files (with suffix) to look at; None: all.

    Raises:
        DpedError: no such folder, none in it, or two files with one stem.
    """
    found: dict[str, Path] = {}
    for file in list_files(folder):
        if only is not None and file.name not in only:
            continue
        if file.stem in found:
            raise DpedError(
                f"{folder}: {found[file.stem].name} and {file.name} have the same name, so their partner is not clear. "
                "Rename or remove one."
            )
        found[file.stem] = file
    if not found:
        raise DpedError(f"{folder}: no photographs in it ({', '.join(sorted(SUFFIXES))}).")
    return found


# ---------------------------------------------------------------------------------------------- headers


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before a pixel is decoded.

    Attributes:
        kind, mode: format and mode in Pillow's words.
        height, width: in pixels; before or after turning, as Pillow says for the format.
        deep: 16 bits a channel.
        alpha: it has transparency.
    """

    kind: str
    mode: str
    height: int
    width: int
    deep: bool
    alpha: bool

    @property
    def reading(self) -> int:
        """Bytes of memory that decoding takes at its peak, beside the file."""
        return self.height * self.width * (24 if self.deep else 12)


@contextlib.contextmanager
def _open(file: Path, least: int, otherwise: str, content: bytes | None = None) -> Iterator[Image.Image]:
    """The file, or this content of it, as Pillow opens it, its header checked."""
    Image.init()
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif

            pillow_heif.register_heif_opener()
        except ModuleNotFoundError:
            if file.suffix.lower() in HEIC:
                raise DpedError(
                    f"{file}: HEIC needs a library: pip install pillow-heif; or convert it to JPEG."
                ) from None
    with contextlib.ExitStack() as stack:
        try:
            # Opened here, not by name: what Pillow maps into memory, TIFFs of gray or transparency, it garbles if they lie on their side.
            data = stack.enter_context(open(file, "rb") if content is None else io.BytesIO(content))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # what matters comes as an exception
            image = stack.enter_context(Image.open(data, formats=[f for f in _FORMATS if f in Image.OPEN]))
        except FileNotFoundError:
            raise DpedError(f"{file}: not found.") from None
        except UnidentifiedImageError:
            raise DpedError(f"{file}: no image that can be read. Remove it{otherwise}.") from None
        except Image.DecompressionBombError as error:  # Pillow's limit, 179 million pixels, is ours
            raise DpedError(
                f"{file}: too large ({error}). Scale it down to {2 * Image.MAX_IMAGE_PIXELS // 10**6} megapixels{otherwise}."
            ) from error
        except Exception as error:  # damaged bytes end in whatever the format's reader stumbles over
            raise DpedError(f"{file}: cannot be read as an image ({error}). Replace it{otherwise}.") from error
        _refuse(image, file, least, otherwise)
        yield image


def _refuse(image: Image.Image, file: Path, least: int, otherwise: str) -> None:
    width, height = image.size
    if min(width, height) < least:
        raise DpedError(
            f"{file}: {height} x {width} pixels, less than one patch of {paper.PATCH_SIZE}. Remove it{otherwise}."
        )
    tags = image.tag_v2 if image.format == "TIFF" else {}
    strange = image.mode == "F" or (image.mode == "I" and image.format != "PNG")
    if _is_deep(image) and image.format == "TIFF":
        # OpenCV reads these too, and shows something else.
        gray = tags.get(_PHOTOMETRIC) in (0, 1) and tags.get(_SAMPLES, 1) == 1
        strange |= not (gray or (tags.get(_PHOTOMETRIC) == 2 and tags.get(_SAMPLES, 1) in (3, 4)))
        strange |= tags.get(_PLANES, 1) == 2 or set(np.atleast_1d(tags.get(_BITS, 16))) != {16}
        strange |= not set(np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1))) <= {1}
    if strange:
        raise DpedError(
            f"{file}: numbers of a kind that photographs do not have (mode {image.mode}; floating point, 32 bits or separate "
            f"planes). Convert it to 8 or 16 bits a channel{otherwise}."
        )


def _is_deep(image: Image.Image) -> bool:
    """Whether a file has 16 bits a channel. Pillow opens such colours with 8; only the file's own description tells."""
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":
        return any("16B" in str(tile[3]) for tile in image.tile)
    return image.format == "TIFF" and image.mode != "CMYK" and max(np.atleast_1d(image.tag_v2.get(_BITS, 8))) == 16


def _header(image: Image.Image) -> Header:
    width, height = image.size
    return Header(image.format, image.mode, height, width, _is_deep(image), image.has_transparency_data)


def check(file: Path, least: int = paper.PATCH_SIZE, otherwise: str = _SKIP) -> Header:
    """Return what a file's header says, looked at alone: a bad file is named before hours of work, not after.

    Args:
        least: shortest side in pixels.
        otherwise: what else than mending the file its user can do, as an error message ends.

    Raises:
        DpedError: missing, no image, smaller than that, too large, or of numbers that photographs do not have.
    """
    with _open(Path(file), least, otherwise) as image:
        return _header(image)


def losses(file: Path) -> list[str]:
    """Return what of a file has no place in an enhanced photograph (``photo_metadata.lost``)."""
    with _open(Path(file), 1, "") as image:
        try:
            return photo_metadata.lost(image, Path(file))
        except Exception:  # the picture is whole, what stands beside it is damaged
            return ["what stands beside its picture, which is damaged"]


# ---------------------------------------------------------------------------------------------- pixels


@dataclass(frozen=True)
class Decoded:
    """A file's picture.

    Attributes:
        pixels: H x W x 3, RGB, uint8 or uint16, upright.
        alpha: H x W in the same type, or None where the file has no transparency.
        exif: of the file, unchanged (``photo_metadata.parts``).
        icc: the colour profile's bytes, of RGB, or of gray where the picture is gray; empty where there is none.
        stray: the file has a profile of something else (inks, say), which is left out.
    """

    header: Header
    pixels: np.ndarray
    alpha: np.ndarray | None
    exif: photo_metadata.Parts
    icc: bytes
    stray: bool


def decode(file: Path, least: int = 1, otherwise: str = "", content: bytes | None = None) -> Decoded:
    """Return a file's picture, turned upright as its EXIF orientation says.

    Gray and palettes become RGB, CMYK is converted without its profile, 16 bits stay 16 bits.

    ``least``, ``otherwise``: as of ``check``. ``content``: of the file, where it is not on the disk.

    Raises:
        DpedError: as ``check``, or the file is damaged behind its header.
    """
    file = Path(file)
    with _open(file, least, otherwise, content) as image:
        header, icc = _header(image), image.info.get("icc_profile") or b""  # before EXIF, which reads a PNG to its end
        try:
            exif = photo_metadata.parts(image)  # Pillow takes the orientation out when it turns a TIFF
            turn = photo_metadata.orientation(exif)
            tags = dict(image.tag_v2) if header.kind == "TIFF" else {}
            image.load()  # a truncated file is refused here; OpenCV would show what there is of it
            if header.deep:
                data = np.fromfile(file, np.uint8) if content is None else np.array(np.frombuffer(content, np.uint8))
                pixels, alpha = _deep(data, header, tags, image.info.get("transparency"))
            else:
                pixels, alpha = _shallow(image)
                turn = 1 if header.kind == "TIFF" else turn  # Pillow has turned it
            pixels, alpha = (None if a is None else np.ascontiguousarray(upright(a, turn)) for a in (pixels, alpha))
            icc, stray = (icc, False) if _describes(icc, header, pixels) else (b"", bool(icc))
            return Decoded(header, pixels, alpha, exif, icc, stray)
        except Exception as error:  # damaged bytes end in whatever the format's reader stumbles over
            raise DpedError(f"{file}: cannot be read to its end ({error}). Replace it{otherwise}.") from error


def _describes(icc: bytes, header: Header, pixels: np.ndarray) -> bool:
    space = color_profiles.space(icc) if header.mode != "CMYK" else ""
    gray = space == "GRAY" and all(np.array_equal(pixels[..., 0], pixels[..., c]) for c in (1, 2))
    return space == "RGB" or (gray and color_profiles.usable(icc))


def _shallow(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for one of Adobe's, whose inks are inverted
    if image.has_transparency_data:
        image = image.convert("RGBA")
        pixels = np.array(image)
        return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
    return np.array(image if image.mode == "RGB" else image.convert("RGB")), None


def _deep(data: np.ndarray, header: Header, tags: dict, clear: object) -> tuple[np.ndarray, np.ndarray | None]:
    """16 bits a channel by OpenCV from the bytes of a file, as stored. ``clear``: the number that a PNG declares transparent."""
    if header.kind == "TIFF":
        _plain(data)
    log, level = cv2.utils.logging, cv2.utils.logging.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)  # what it prints of damaged files is said in the error
    try:
        raw = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    finally:
        log.setLogLevel(level)
    if raw is None or raw.dtype != np.uint16 or sorted(raw.shape[:2]) != sorted((header.height, header.width)):
        raise ValueError("as 16 bits a channel")
    if raw.ndim == 2:
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero
            raw = 65535 - raw
        alpha = np.where(raw == clear, 0, 65535).astype(np.uint16) if isinstance(clear, int) else None
        return np.repeat(raw[..., None], 3, 2), alpha
    pixels, alpha = raw[..., 2::-1], raw[..., 3] if raw.shape[2] == 4 else None
    meaning = np.atleast_1d(tags.get(_EXTRA, 2))[0]  # where a TIFF does not say, it is taken for transparency
    if alpha is None or meaning == 0:  # a fourth channel of no stated meaning
        return pixels, None
    if meaning == 1:  # colours were multiplied by it
        pixels = np.minimum(pixels * np.float32(65535) / np.maximum(alpha, 1)[..., None] + 0.5, 65535).astype(np.uint16)
    return pixels, alpha


def _plain(data: np.ndarray) -> None:
    """Overwrites orientation and "white is zero" in the bytes of a TIFF: what OpenCV makes of them depends on depth and version."""
    order = "<" if data[:2].tobytes() == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    at = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, at)[0]
    first, size, value = (at + 8, 20, 12) if big else (at + 2, 12, 8)
    for entry in range(first, min(first + count * size, len(data) - size + 1), size):
        tag = struct.unpack_from(f"{order}H", data, entry)[0]
        zero = tag == _PHOTOMETRIC and struct.unpack_from(f"{order}H", data, entry + value)[0] == 0
        if tag == photo_metadata.ORIENTATION or zero:
            struct.pack_into(f"{order}H", data, entry + value, 1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return H x W (x C) as stored with an EXIF orientation (1 to 8) the way it is meant to be seen."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0))


def in_8bit(pixels: np.ndarray) -> np.ndarray:
    """Return uint16 rounded to uint8 (65535 is 255); uint8 as it is."""
    return pixels if pixels.dtype == np.uint8 else cv2.convertScaleAbs(pixels, alpha=1 / 257)


def in_srgb(decoded: Decoded) -> np.ndarray:
    """Return the pixels in sRGB: uint16 where a profile was applied, else as they are."""
    profile = color_profiles.load(decoded.icc)
    return decoded.pixels if profile is None else profile.to_srgb(decoded.pixels)


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return H x W x 3 laid over white by its transparency H x W, in the same type."""
    full = np.iinfo(pixels.dtype).max
    share = alpha[..., None] / np.float32(np.iinfo(alpha.dtype).max)
    return (pixels * share + full * (1 - share) + np.float32(0.5)).astype(pixels.dtype)


def read_photograph(file: Path, least: int = paper.PATCH_SIZE, otherwise: str = _SKIP) -> np.ndarray:
    """Return a photograph as uint8 H x W x 3, upright, in sRGB, which the networks were trained on.

    16 bits a channel are scaled to 8, transparency is laid over white, colour profiles of RGB and gray are applied.

    Raises:
        DpedError: missing, damaged, truncated, no image, smaller than a patch, or too large; the file is named.
    """
    decoded = decode(file, least, otherwise)
    pixels = in_srgb(decoded)
    return in_8bit(pixels if decoded.alpha is None else over_white(pixels, decoded.alpha))
