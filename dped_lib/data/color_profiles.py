"""Convert RGB and gray photographs from the colours of an ICC profile to sRGB and back.

The networks were trained on sRGB.

ImageCms (littleCMS in Pillow) converts 8-bit RGB only. This module evaluates the usual kind of profile, three curves
and a matrix, for 8 and 16 bits. The tests compare it with ImageCms. The intent is relative colorimetric: white stays
white, and colours outside sRGB are clipped.
"""

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import ImageCms

_ROWS = 64  # rows converted at a time, so that no whole photograph is held in floating point
_GRID = 65536  # samples of a curve; interpolation between them inverts it
_SAME = 1.5 / 255  # a profile that differs less than this from sRGB counts as sRGB, and nothing is converted


@dataclass(frozen=True)
class Profile:
    """Hold an ICC profile: the colours that it assigns to numbers.

    Attributes:
        name: the profile's own description.
        curves: 3 x 65536, increasing; they map the profile's numbers (0 to 1) to light (0 to 1).
        matrix: 3 x 3; it maps that light to linear sRGB.
        gray: whether it is a profile for gray photographs. Their three channels are equal here.
    """

    name: str
    curves: np.ndarray
    matrix: np.ndarray
    gray: bool = False

    def to_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """Convert H x W x 3 pixels, uint8 or uint16, to sRGB.

        Return uint16 (65535 is white), so nothing is rounded twice.
        """
        full = np.iinfo(pixels.dtype).max
        light = self.curves[:, np.round(np.linspace(0, _GRID - 1, full + 1)).astype(int)].astype(np.float32)
        out = np.empty(pixels.shape, np.uint16)
        for rows in _bands(pixels):
            linear = np.stack([light[c][pixels[rows][..., c]] for c in range(3)], -1)
            out[rows] = encode_srgb((linear @ self.matrix.T.astype(np.float32)).clip(0, 1)) * 65535 + 0.5
        return out

    def from_srgb(self, pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Convert H x W x 3 pixels, uint16 in sRGB, to the profile's numbers. ``dtype`` is uint8 or uint16."""
        full, out = np.iinfo(dtype).max, np.empty(pixels.shape, dtype)
        light = decode_srgb(np.arange(65536) / 65535).astype(np.float32)
        back = np.linalg.inv(self.matrix).astype(np.float32)
        steps = np.linspace(0, 1, _GRID)
        for rows in _bands(pixels):
            linear = light[pixels[rows]] @ back.T
            for c in range(3):
                out[rows][..., c] = np.interp(linear[..., c], self.curves[c], steps) * full + 0.5
        return out


def _bands(pixels: np.ndarray) -> Iterator[slice]:
    return (slice(top, top + _ROWS) for top in range(0, len(pixels), _ROWS))


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Apply the sRGB curve (IEC 61966-2-1), from light to numbers, both from 0 to 1."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def decode_srgb(numbers: np.ndarray) -> np.ndarray:
    """Invert :func:`encode_srgb`, from numbers to light."""
    return np.where(numbers <= 0.04045, numbers / 12.92, ((numbers + 0.055) / 1.055) ** 2.4)


# ---------------------------------------------------------------------------------------------- reading


def space(icc: bytes) -> str:
    """Return the colours that a profile is for (``RGB``, ``GRAY``, ``CMYK``, ...).

    Return "" if these bytes are no profile.
    """
    return icc[16:20].decode("ascii", "replace").strip() if len(icc) >= 132 and icc[36:40] == b"acsp" else ""


@functools.lru_cache(4)
def load_profile(icc: bytes) -> Profile | None:
    """Return the profile of a file; None if its numbers are those of sRGB, or if the profile cannot be evaluated.

    :func:`usable` tells these two apart.
    """
    if not icc or not usable(icc):
        return None
    profile = _parse(icc)
    samples = np.round(np.stack(np.meshgrid(*[np.linspace(0, 255, 9)] * 3), -1).reshape(1, -1, 3)).astype(np.uint8)
    if profile.gray:
        samples = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    same = np.abs(profile.to_srgb(samples) / 65535 - samples / 255).max() < _SAME
    return None if same else profile


@functools.lru_cache(4)
def usable(icc: bytes) -> bool:
    """Return whether a profile can be evaluated: it has three curves and a matrix, or one gray curve."""
    try:
        profile = _parse(icc)
        np.linalg.inv(profile.matrix)
    except (ValueError, KeyError, IndexError, OverflowError, struct.error, np.linalg.LinAlgError):
        return False
    return bool(np.isfinite(profile.curves).all() and np.isfinite(profile.matrix).all())


def _parse(icc: bytes) -> Profile:
    kind = space(icc)
    count = struct.unpack_from(">I", icc, 128)[0]
    if kind not in ("RGB", "GRAY") or count > 200:
        raise ValueError(f"no profile of RGB or gray: {kind}")
    tags = {}
    for i in range(count):
        name, start, size = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        tags[name] = icc[start : start + size]
    name = _text(tags.get(b"desc", b"")) or "no name"
    if kind == "GRAY":
        return Profile(name, np.repeat(_curve(tags[b"kTRC"])[None], 3, 0), np.eye(3), gray=True)
    if icc[20:24] != b"XYZ ":
        raise ValueError("a profile of tables")
    curves = np.stack([_curve(tags[c + b"TRC"]) for c in (b"r", b"g", b"b")])
    return Profile(name, curves, np.linalg.inv(_srgb_colorants()) @ _colorants(tags))


@functools.cache
def _srgb_colorants() -> np.ndarray:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack_from(">I", icc, 128)[0]
    entries = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(count))
    return _colorants({name: icc[start : start + size] for name, start, size in entries})


def _colorants(tags: dict[bytes, bytes]) -> np.ndarray:
    """Return red, green and blue as columns of XYZ under D50 (s15Fixed16 in the profile)."""
    return np.array([struct.unpack_from(">3i", tags[c + b"XYZ"], 8) for c in (b"r", b"g", b"b")]).T / 65536


def _curve(data: bytes) -> np.ndarray:
    """Sample a ``curv`` or ``para`` tag at 65536 points from 0 to 1 (ICC.1:2022, 10.6 and 10.18)."""
    x = np.linspace(0, 1, _GRID)
    if data[:4] == b"curv":
        count = struct.unpack_from(">I", data, 8)[0]
        if count == 0:
            return x
        if count == 1:
            return x ** (struct.unpack_from(">H", data, 12)[0] / 256)
        if count > _GRID:
            raise ValueError("a curve of too many points")
        table = np.frombuffer(data, ">u2", count, 12) / 65535
        return np.maximum.accumulate(np.interp(x, np.linspace(0, 1, count), table))
    if data[:4] != b"para":
        raise ValueError("a curve of unknown kind")
    kind = struct.unpack_from(">H", data, 8)[0]
    g, *more = np.array(struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", data, 12)) / 65536
    a, b, c, d, e, f = {
        0: lambda: (1, 0, 0, 0, 0, 0),
        1: lambda: (*more, 0, -more[1] / more[0], 0, 0),
        2: lambda: (*more[:2], 0, -more[1] / more[0], more[2], more[2]),
        3: lambda: (*more, 0, 0),
        4: lambda: more,
    }[kind]()
    with np.errstate(all="ignore"):
        y = np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)
    return np.maximum.accumulate(y.clip(0, 1))


def _text(data: bytes) -> str:
    """Return the text of a ``desc`` or ``mluc`` tag."""
    if data[:4] == b"desc" and len(data) >= 12:
        return data[12 : 12 + struct.unpack_from(">I", data, 8)[0]].decode("ascii", "replace").strip("\0 ")
    if data[:4] == b"mluc" and len(data) >= 28:
        size, start = struct.unpack_from(">II", data, 20)
        return data[start : start + size].decode("utf-16-be", "replace").strip("\0 ")
    return ""
