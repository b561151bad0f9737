"""What an explorer shows: its pictures and its widgets."""

import io

import numpy as np
from PIL import Image


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def children(widget) -> tuple:
    return getattr(widget, "children", ())


def inside(widget):
    """Every widget that is displayed with this one."""
    yield widget
    for child in children(widget):
        yield from inside(child)
