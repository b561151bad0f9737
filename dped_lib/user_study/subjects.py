"""Convert the name that a subject of the user study types to the id that is stored.

The id is the name of a file. It must be valid on every file system, differ between names, and never change.
"""

import hashlib
import re
import unicodedata

from dped_lib.base.errors import DpedError

# A name that is its own id, and an id that was made from a name. A name of the first kind has no dot.
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_MADE = re.compile(r"[a-z0-9-]{1,21}\.[0-9a-f]{16}")

# Windows opens a device instead of a file with one of these names, whatever the suffix is.
_RESERVED = frozenset(("con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))))

# Invisible characters. A keyboard or a copied text may add or omit them, so they do not distinguish names. The joiners
# U+200C and U+200D are kept, because they change how letters and emoji look.
_INVISIBLE = dict.fromkeys(
    (
        0xAD,
        0x180E,
        0x200B,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        0x2060,
        *range(0x2066, 0x206A),
        0xFE0E,
        0xFE0F,
        0xFEFF,
    )
)
# Control characters, and letters that look like a space.
_BLANK = dict.fromkeys((*range(32), *range(0x7F, 0xA0), 0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0), " ")


def subject_id(name: str) -> str:
    """Return the id of the subject who typed this name.

    These differences do not matter: capital or small letters, extra spaces, invisible characters, and the two Unicode
    forms of an accented letter. A name of 1 to 32 letters a to z, digits, ``-`` and ``_`` is its own id in lower case.
    The id of any other name is its readable part and 64 bits of its hash: ``Anna Müller`` becomes
    ``anna-muller.432f35a692ab4ee6``. So two different names never share a file, and the id is a safe file name on every
    system: short, ASCII, lower case, and not reserved by Windows. The function maps an id to itself.

    Raises:
        DpedError: the name is empty, consists of spaces, or is damaged text. The message addresses the subject.
    """
    if not isinstance(name, str):
        raise DpedError(f"subject {name!r}: a name is text. Put it in quotation marks.")
    if any(unicodedata.category(c) == "Cs" for c in name):
        raise DpedError("This name did not arrive whole. Please type it again, or choose another one.")
    # Lower case can create a letter that must be composed again, so we compose before and after.
    visible = unicodedata.normalize("NFC", name).translate(_INVISIBLE).translate(_BLANK)
    name = " ".join(unicodedata.normalize("NFC", visible.lower()).split())
    # We do not require a letter: a character that is newer than this Python has no category, but the subject sees it.
    if all(unicodedata.category(c)[0] in "ZM" or unicodedata.category(c) in ("Cc", "Cf") for c in name):
        raise DpedError("Please type a nickname. Any word or number will do.")
    if _MADE.fullmatch(name) or (_PLAIN.fullmatch(name) and name not in _RESERVED):
        return name
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub("[^a-z0-9]+", "-", letters).strip("-")[:20].strip("-") or "name"
    readable += "-" if readable in _RESERVED else ""
    digest = hashlib.sha256(f"subject\0{name}".encode()).hexdigest()
    return f"{readable}.{digest[:16]}"


def is_subject_id(text: str) -> bool:
    """Return whether the text is an id that :func:`subject_id` can return."""
    try:
        return subject_id(text) == text
    except DpedError:
        return False
