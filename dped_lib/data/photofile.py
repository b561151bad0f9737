"""One photograph file as the camera's owner sees it: upright, 8-bit RGB, or refused by name."""

import warnings
from collections.abc import Container
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dped_lib import paper
from dped_lib.base.errors import DpedError

#: What is looked at in a folder of photographs; other files there are none of ours.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".heic", ".heif"})

HEIC = (".heic", ".heif")
ORIENTATION, _BITS, _PLANES = 0x0112, 258, 284  # tags of EXIF and TIFF


def is_image_name(name: str) -> bool:
    """Say whether a file of this name counts as an image: not hidden, suffix of ``SUFFIXES`` in any case."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def list_photographs(folder: Path, only: Container[str] | None = None) -> dict[str, Path]:
    """The photographs of a folder by the stem of their names (not hidden, suffix of ``SUFFIXES`` in any case).

    ``only``: names of files (with suffix) to look at; None: all.

    Raises:
        DpedError: no such folder, none in it, or two files with one stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DpedError(f"{folder}: no such folder. It must hold photographs ({', '.join(sorted(SUFFIXES))}).")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if not is_image_name(file.name) or not file.is_file():
            continue
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


def open_photograph(
    file: Path, least: int = paper.PATCH_SIZE, otherwise: str = ", or skip it with on_bad='skip'"
) -> Image.Image:
    """The file as Pillow opens it, its header checked.

    Args:
        least: shortest side in pixels.
        otherwise: what else than mending the file its user can do, as an error message ends.

    Raises:
        DpedError: missing, no image, smaller than that, too large, or of numbers that photographs do not have.
    """
    if file.suffix.lower() in HEIC:
        try:
            import pillow_heif
        except ModuleNotFoundError:
            raise DpedError(f"{file}: HEIC needs a library: pip install pillow-heif; or convert it to JPEG.") from None
        pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters comes as an exception
            image = Image.open(file)
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
    width, height = image.size
    if min(width, height) < least:
        raise DpedError(
            f"{file}: {height} x {width} pixels, less than one patch of {paper.PATCH_SIZE}. Remove it{otherwise}."
        )
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG") or (is_deep(image) and _has_planes(image)):
        raise DpedError(
            f"{file}: numbers of a kind that photographs do not have (mode {image.mode}; floating point, 32 bits or separate "
            f"planes). Convert it to 8 or 16 bits a channel{otherwise}."
        )
    return image


def check(file: Path) -> None:
    """Looks at the header alone: a bad file is named before hours of work, not after.

    Raises:
        DpedError: as ``read_photograph``, but for damage behind the header.
    """
    open_photograph(Path(file)).close()


def read_photograph(file: Path) -> np.ndarray:
    """A photograph as uint8 H x W x 3, RGB, turned upright as its EXIF orientation says.

    16 bits a channel are scaled to 8, gray and palettes become RGB, CMYK is converted without its profile, transparency
    is laid over white. Colour profiles are not applied: the networks of the paper see the numbers that files hold.

    Raises:
        DpedError: missing, damaged, truncated, no image, smaller than a patch, or too large; the file is named.
    """
    file = Path(file)
    with open_photograph(file) as image:
        try:
            if is_deep(image):
                image.load()  # OpenCV shows what there is of a truncated file; Pillow says so
                return np.ascontiguousarray(upright(_read_deep(file), image.getexif().get(ORIENTATION, 1)))
            # Pillow, not OpenCV: that decodes 20 MP in 0.15 s instead of 0.35, but shows a truncated file's rest in gray.
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.ascontiguousarray(np.asarray(image.convert("RGB")))
        except DpedError:
            raise
        except Exception as error:
            raise DpedError(
                f"{file}: cannot be read to its end ({error}). Replace it, or skip it with on_bad='skip'."
            ) from error


def is_deep(image: Image.Image) -> bool:
    """Whether a file has 16 bits a channel. Pillow opens such colours with 8; only the file's own description tells."""
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":
        return any("16B" in str(tile[3]) for tile in image.tile)
    return image.format == "TIFF" and max(np.atleast_1d(image.tag_v2.get(_BITS, 8))) == 16


def _has_planes(image: Image.Image) -> bool:
    # Red, green and blue one after the other: OpenCV and Pillow both make noise of them where they have 16 bits.
    return image.format == "TIFF" and image.tag_v2.get(_PLANES, 1) == 2


def _read_deep(file: Path) -> np.ndarray:
    """16-bit images by OpenCV, as uint8 RGB without orientation applied."""
    raw = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        raise DpedError(f"{file}: cannot be read as 16 bits a channel. Replace it, or skip it with on_bad='skip'.")
    if raw.ndim == 2:
        return cv2.cvtColor(cv2.convertScaleAbs(raw, alpha=1 / 257), cv2.COLOR_GRAY2RGB)
    if raw.shape[2] == 3:
        return cv2.cvtColor(cv2.convertScaleAbs(raw, alpha=1 / 257), cv2.COLOR_BGR2RGB)
    share = raw[..., 3:] / np.float32(65535)
    values = raw[..., 2::-1] / np.float32(257) * share + 255 * (1 - share)
    return (values + np.float32(0.5)).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What ``ImageOps.exif_transpose`` does, for arrays."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0))
