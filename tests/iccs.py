"""Colour profiles for tests, written from the chromaticities of their primaries (ICC.1:2001-04)."""

import struct

import numpy as np

D50, D65 = (0.9642, 1.0, 0.8249), (0.3127, 0.3290)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _colorants(primaries, white) -> np.ndarray:
    """Red, green and blue as columns of XYZ, adapted to D50."""

    def xyz(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])

    matrix, of_white = np.stack([xyz(*p) for p in primaries], -1), xyz(*white)
    matrix = matrix * np.linalg.solve(matrix, of_white)
    adapt = np.diag((_BRADFORD @ D50) / (_BRADFORD @ of_white))
    return np.linalg.inv(_BRADFORD) @ adapt @ _BRADFORD @ matrix


def _fixed(*values) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def _curve(curve) -> bytes:
    if isinstance(curve, float):
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(curve * 256))
    if isinstance(curve, tuple):
        kind = {1: 0, 3: 1, 4: 2, 5: 3, 7: 4}[len(curve)]
        return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*curve)
    return b"curv\0\0\0\0" + struct.pack(">I", len(curve)) + np.asarray(curve, ">u2").tobytes()


def profile(name: str, curve, primaries=None, white=D65) -> bytes:
    """A profile of RGB, or of gray without ``primaries``. ``curve``: a power, parameters of ``para``, or a table up to 65535."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" * 79,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*D50),
    }
    if primaries is None:
        tags[b"kTRC"] = _curve(curve)
    else:
        for letter, column in zip((b"r", b"g", b"b"), _colorants(primaries, white).T, strict=True):
            tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*column)
            tags[letter + b"TRC"] = _curve(curve)
    start, table, data = 132 + 12 * len(tags), b"", b""
    for key, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += struct.pack(">4sII", key, start + len(data), len(value))
        data += value
    kind = b"RGB " if primaries else b"GRAY"
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02400000, b"mntr", kind, b"XYZ ").ljust(36, b"\0")
    head = (head + b"acsp").ljust(68, b"\0") + _fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SRGB = profile("sRGB", SRGB_CURVE, ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)))
P3 = profile("Display P3", SRGB_CURVE, _P3)
WIDE = {
    "Display P3": P3,
    "P3 by a table": profile("table", (np.linspace(0, 1, 1024) ** 2 * 65535).round(), _P3),
    "Adobe RGB": profile("Adobe RGB (1998)", 563 / 256, ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))),
    "ProPhoto": profile("ProPhoto", 1.8, ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)), (0.3457, 0.3585)),
    "Rec. 2020": profile(
        "Rec. 2020",
        (1 / 0.45, 1 / 1.09929, 0.09929 / 1.09929, 1 / 4.5, 0.08145),
        ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ),
}
GRAY = profile("Gray 1.8", 1.8)
