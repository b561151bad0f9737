"""Select the metadata of a photograph that stay true of the enhanced pixels, and name those that are lost.

An EXIF entry is kept if it is in a list of entries that stay true. Entries that describe the old file's pixels are
dropped or rewritten.
"""

import mmap
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

from PIL import ExifTags, Image

_EXIF, _GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
ORIENTATION = 0x0112
_WIDTH, _HEIGHT, _COLOR_SPACE, _MAKER_NOTE = 40962, 40963, 40961, 37500
_PROCESSED_BY = 11  # "the name and version of the software used to post-process the picture" (Exif.Image)
#: What a result of ``dped enhance`` says there.
_MARK = "dped enhance"

#: Entries of the main directory that stay true: description, author, camera, date, resolution, Windows keywords,
#: rating.
_KEPT = frozenset(
    (_PROCESSED_BY, 269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 18246, 33432, *range(40091, 40096))
)
#: Entries of the camera's directory that stay true: exposure, dates, lens, owner, scene, weather.
_KEPT_OF_CAMERA = frozenset(
    (33434, 33437, 34850, 34852, 34855, *range(34864, 34870), 36864, 36867, 36868, *range(36880, 36883))
    + (*range(37377, 37387), _MAKER_NOTE, 37510, 37520, 37521, 37522, *range(37888, 37894), 40960, _COLOR_SPACE)
    + (41483, 41493, 41495, 41728, 41729, *range(41985, 41997), 42016, *range(42032, 42038))
)
#: Entries with positions in the picture, or with separate resolutions for x and y. They stay true unless the photograph
#: was rotated.
_KEPT_UNROTATED = frozenset((37396, 41486, 41487, 41488, 41492))
#: Entries that describe how the old file stores its pixels, and pointers. Dropping them loses nothing.
_LAYOUT = _KEPT_UNROTATED | frozenset(
    (*range(254, 260), 262, 266, 273, *range(277, 280), 284, 301, *range(317, 321), *range(322, 326), 330, 338, 339)
    + (347, 513, 514, *range(529, 533), 700, 33723, 34377, 34675, 37121, 37122, 40965, 42240, 59932)
    + (ORIENTATION, _WIDTH, _HEIGHT, int(_EXIF), int(_GPS))
)
#: Entries that are trimmed last if EXIF is too long: person, camera, date and place.
_LAST = frozenset((_PROCESSED_BY, 271, 272, 306, 315, 33432, 36867, 36868, *range(36880, 36883), *range(42032, 42038)))


#: The values of each directory of EXIF by tag. The main directory has the key None. A damaged directory has the value
#: None.
Parts = Mapping[int | None, dict[int, object] | None]


def parts(image: Image.Image) -> Parts:
    """Return the EXIF of an open image. Damaged EXIF is no reason to refuse a photograph, so it raises no error."""
    exif_parts: dict[int | None, dict[int, object] | None] = {}
    for part in (None, _EXIF, _GPS):
        try:
            exif = image.getexif()
            values = exif.items() if part is None else exif.get_ifd(part).items()
            exif_parts[part] = {t: v for t, v in values if t not in (_EXIF, _GPS)}
        except Exception:  # for example, an offset beyond the end
            exif_parts[part] = None
    return exif_parts


def orientation(exif: Parts) -> int:
    """Return EXIF's orientation, 1 to 8. Return 1 if it is missing or damaged."""
    value = (exif[None] or {}).get(ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def kept(exif: Parts, height: int, width: int, rgb_profile: bool) -> tuple[bytes, list[str]]:
    """Return the EXIF bytes of an upright photograph (empty if there are none), and a phrase for each kind of loss.

    Args:
        exif: the EXIF of the file that was read.
        height, width: of the upright photograph in pixels.
        rgb_profile: whether the pixels keep a colour profile. If not, they are sRGB, and an entry for the colour space is set to sRGB.
    """
    new: dict[int | None, dict] = {}
    unknown, damaged, rotated = 0, any(values is None for values in exif.values()), orientation(exif) != 1
    for part, allowed in ((None, _KEPT), (_EXIF, _KEPT_OF_CAMERA), (_GPS, range(32))):
        new[part] = {}
        for tag, value in (exif[part] or {}).items():
            if tag in allowed or (part == _EXIF and tag in _KEPT_UNROTATED and not rotated):
                if _encodes(part, tag, value):
                    new[part][tag] = value
                else:
                    damaged = True
            elif part == _EXIF and tag in (_WIDTH, _HEIGHT):
                new[part][tag] = width if tag == _WIDTH else height
            elif tag not in _LAYOUT:
                unknown += 1
    if _COLOR_SPACE in new[_EXIF] and not rgb_profile:
        new[_EXIF][_COLOR_SPACE] = 1
    lost = [f"{unknown} EXIF entr{'y' if unknown == 1 else 'ies'} of unknown meaning"] if unknown else []
    lost += ["damaged EXIF entries"] if damaged else []
    return (_joined(new) if any(new.values()) else b""), lost


def marked(exif: bytes) -> bytes:
    """Return EXIF that names ``dped enhance`` as the last software that processed the picture."""
    directories = _split(exif)
    before = str(directories[None].get(_PROCESSED_BY, "")).strip("\0 ").removesuffix(_MARK).rstrip("; ")
    directories[None][_PROCESSED_BY] = f"{before[:100]}; {_MARK}" if before else _MARK
    return _joined(directories)


def is_marked(exif: Parts) -> bool:
    """Return whether ``dped enhance`` was the last software that processed a picture."""
    return str((exif[None] or {}).get(_PROCESSED_BY, "")).strip("\0 ").endswith(_MARK)


def _joined(exif: Mapping[int | None, dict]) -> bytes:
    new = Image.Exif()
    for tag, value in exif.get(None, {}).items():
        new[tag] = value
    for part, values in exif.items():
        if part is not None and values:
            new[part] = values
    return new.tobytes()


def _split(exif: bytes) -> dict[int | None, dict]:
    directories = Image.Exif()
    if exif:
        directories.load(exif)
    return {None: {t: v for t, v in directories.items() if t not in (_EXIF, _GPS)}} | {
        part: dict(directories.get_ifd(part)) for part in (_EXIF, _GPS)
    }


def _encodes(part: int | None, tag: int, value: object) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tag in _split(_joined({part: {tag: value}}))[part]
    except Exception:  # the value does not fit the tag's type
        return False


def trimmed(exif: bytes, most: int) -> tuple[bytes, list[str]]:
    """Return EXIF of at most ``most`` bytes, and the names of the entries that were removed or shortened.

    Maker notes are removed first, then other entries, the longest first. Place, date, camera, person and copyright come
    last, and their texts are cut short.
    """
    if len(exif) <= most:
        return exif, []
    directories, gone = _split(exif), []

    def rank(entry: tuple[int | None, int]) -> tuple[bool, bool, int]:
        part, tag = entry
        return _is_last(part, tag), tag != _MAKER_NOTE, -_size(directories[part][tag])

    for part, tag in sorted(((p, t) for p, values in directories.items() for t in values), key=rank):
        value = directories[part].pop(tag)
        if _is_last(part, tag) and isinstance(value, (str, bytes)):  # shorten it, since nothing else is left to remove
            directories[part][tag] = value[:200]
        gone.append((ExifTags.GPSTAGS if part == _GPS else ExifTags.TAGS).get(tag, str(tag)))
        if len(data := _joined(directories)) <= most:
            return data, gone
    return b"", ["all of it"]


def _is_last(part: int | None, tag: int) -> bool:
    return part == _GPS or tag in _LAST


def _size(value: object) -> int:
    return len(value) if isinstance(value, (str, bytes, tuple, list)) else 1


# ---------------------------------------------------------------------------------------------- losses

_GAIN_MAP = re.compile(rb"hdrgainmap|HDRGainMap|hdr-gain-map|iso:ts:21496")
_VIDEO = re.compile(rb"ftyp(mp4|isom|iso\d|qt  |avc1|M4V|3gp|MSNV|hvc1)|mpvd|MotionPhoto_Data")


def lost(image: Image.Image, file: Path) -> list[str]:
    """Return the parts of an image file that an enhanced photograph cannot keep, one phrase for each kind.

    ``image`` is the file as Pillow opens it, not loaded.
    """
    phrases, info = [], image.info
    with open(file, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if info.get("xmp") or (texts := _png_texts(data)) and b"XML:com.adobe.xmp" in texts:
            phrases.append("XMP")
        if info.get("photoshop") or _tagged(image, 33723, 34377):
            phrases.append("IPTC")
        if info.get("comment") or any(t != b"XML:com.adobe.xmp" for t in _png_texts(data)):
            phrases.append("comments")
        gain = bool(_GAIN_MAP.search(data)) and image.format not in ("PNG", "TIFF", "BMP", "GIF")
        if gain:
            phrases.append("the gain map (HDR)")
        if image.format in ("JPEG", "MPO", "HEIF") and _VIDEO.search(data, 64):
            phrases.append("the video of a motion photograph")
        if info.get("depth_images"):
            phrases.append("the depth map")
        depths = re.search(rb"pixi....(.)(.)", data[:65536], re.DOTALL) if image.format in ("HEIF", "AVIF") else None
        if depths and depths[2][0] > 8:
            phrases.append(f"bits beyond 8 a channel (it has {depths[2][0]})")
        if image.mode == "CMYK" and max(_tagged(image, 258) or (8,)) > 8:
            phrases.append("bits beyond 8 a channel (CMYK)")
    try:
        later = image.n_frames - 1 - (gain and image.format == "MPO")
    except Exception:  # only the first frame is read, so faults of later ones do not matter
        later = 0
    if later > 0:
        phrases.append(f"{later} later frame{'s' * (later > 1)} or page{'s' * (later > 1)}")
    return phrases


def _tagged(image: Image.Image, *tags: int) -> tuple:
    if image.format != "TIFF":
        return ()
    return next((image.tag_v2[t] for t in tags if t in image.tag_v2), ())


def _png_texts(data: mmap.mmap) -> list[bytes]:
    """Return the keywords of a PNG's texts, also of those after the pixels."""
    keywords, at = [], 8
    while data[:4] == b"\x89PNG" and at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keywords.append(data[at + 8 : at + 8 + min(size, 80)].split(b"\0")[0])
        at += size + 12
    return keywords
