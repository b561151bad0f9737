"""What ours is compared with and is not a network: Apple's enhancer and a retoucher, as folders of pictures; an open stand-in.

The paper calls Apple's enhancer from its Photos app and paid an artist. Neither is software that can be run here, so
``prepare`` writes the pictures to be enhanced, a user enhances them, and the tables read what came back:

    FOLDER/DATASET/PHONE/input/0000.png ...    what ``dped baselines`` wrote: a sheet of patches for each photograph
    FOLDER/DATASET/PHONE/input/layout.json     which patch is where
    FOLDER/DATASET/PHONE/ape/0000.jpg ...      the same sheets after Apple's Enhance (PNG, JPEG or TIFF; same names and sizes)
    FOLDER/DATASET/PHONE/manual/0000.png ...   the same sheets after retouching

``DPED_BASELINES`` names FOLDER. A sheet holds every patch of a photograph side by side, so that an enhancer which looks at
the whole picture sees as much of it as the dataset has. ``auto`` is Pillow's automatic contrast on the same sheets: a
stand-in that everyone has, never Apple's, and labelled so wherever it is shown.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dped_lib.base import paths
from dped_lib.data import photofile, picture
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError
from dped_lib.data.pair_store import PairStore

#: Methods whose pictures a user brings.
BROUGHT = ("ape", "manual")
#: Percent of the darkest and of the brightest values of each channel that automatic contrast gives up.
CUTOFF = 0.5


def sheet(images: np.ndarray) -> np.ndarray:
    """Patches N x S x S x 3 side by side in a near-square picture, row by row; free places repeat the last."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    size = images.shape[1]
    filled = np.concatenate([images, np.repeat(images[-1:], rows * columns - len(images), axis=0)])
    grid = filled.reshape(rows, columns, size, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * size, columns * size, 3))


def cut(picture: np.ndarray, count: int, size: int) -> np.ndarray:
    """The ``count`` patches of a sheet again: N x S x S x 3."""
    rows, columns = picture.shape[0] // size, picture.shape[1] // size
    grid = picture.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return grid.reshape(rows * columns, size, size, 3)[:count]


def _sheets(store: PairStore) -> Iterator[tuple[str, np.ndarray]]:
    """Photographs of a store, in order of their first pair, with the indices of their pairs."""
    for name in dict.fromkeys(store.photographs.tolist()):
        yield name, np.flatnonzero(store.photographs == name)


def auto_contrast(picture: np.ndarray) -> np.ndarray:
    """Each channel of a uint8 H x W x 3 picture stretched to the full range (``PIL.ImageOps.autocontrast``)."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(picture), cutoff=CUTOFF))


def _gather(store: PairStore, index: np.ndarray, enhance: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    size = store.phone.shape[1]
    enhanced: dict[int, np.ndarray] = {}
    wanted = set(store.photographs[index].tolist())
    for number, (name, members) in enumerate(_sheets(store)):
        if name in wanted:
            picture = enhance(number, sheet(np.array(store.phone[members])))
            enhanced |= dict(zip(members.tolist(), cut(picture, len(members), size), strict=True))
    return np.stack([enhanced[i] for i in index.tolist()])


def auto(store: PairStore, index: np.ndarray) -> np.ndarray:
    """The stand-in on the pairs at ``index``: uint8 N x 100 x 100 x 3."""
    return _gather(store, index, lambda _, picture: auto_contrast(picture))


# ---------------------------------------------------------------------------------------------- pictures a user brings


def _digest(store: PairStore) -> str:
    """Of the names of all pairs and of the phone's pixels: sheets of another store would be compared with the wrong DSLR patches."""
    made = hashlib.sha256("\n".join(store.names).encode())
    made.update(np.ascontiguousarray(store.phone).tobytes())
    return made.hexdigest()[:16]


def prepare(store: PairStore, root: Path) -> Path:
    """Writes the sheets of every photograph of a store, and what is on them; returns their folder.

    Raises:
        DpedError: sheets of another store are there already, or the folder cannot be written.
    """
    folder = Path(root) / store.meta["dataset"] / store.meta["phone"] / "input"
    layout = {"store": _digest(store), "sheets": []}
    known = folder / "layout.json"
    if known.is_file() and _read_layout(known)["store"] != layout["store"]:
        raise DpedError(
            f"{folder}: holds the sheets of other patches; what was enhanced from them would not fit. Name another folder."
        )
    for number, (name, members) in enumerate(_sheets(store)):
        pixels = sheet(np.array(store.phone[members]))
        picture.write(picture.Picture(pixels), folder / f"{number:04d}.png")
        layout["sheets"].append({"photograph": name, "patches": [store.names[i] for i in members]})
    paths.write_text(known, json.dumps(layout, indent=1))
    return folder


def _read_layout(file: Path) -> dict:
    try:
        layout = json.loads(file.read_text())
        return {"store": layout["store"], "sheets": layout["sheets"]}
    except FileNotFoundError:
        raise DpedError(f"{file}: not found. 'dped baselines' writes it, with the pictures to enhance.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Write it anew with 'dped baselines'.") from error


def brought(method: str, store: PairStore) -> Callable[[PairStore, np.ndarray], np.ndarray] | str:
    """The method whose pictures a user has brought, checked; or why there is none to be had.

    Raises:
        DpedError: pictures are there, but not all of them, or not of the right size, or of other patches.
    """
    one_of("baseline", method, BROUGHT)
    root = os.environ.get("DPED_BASELINES")
    if not root:
        return "DPED_BASELINES names no folder with its pictures"
    place = Path(root).expanduser() / store.meta["dataset"] / store.meta["phone"]
    if not (place / method).is_dir():
        return f"no folder {place / method}"
    layout = _read_layout(place / "input" / "layout.json")
    if layout["store"] != _digest(store):
        raise DpedError(
            f"{place / 'input'}: sheets of other patches than {store.folder}. Write them anew into an empty folder with 'dped baselines'."
        )
    files = photofile.list_photographs(place / method)
    for number, entry in enumerate(layout["sheets"]):
        name = f"{number:04d}"
        if name not in files:
            raise DpedError(
                f"{place / method}: no picture {name!r} ({entry['photograph']}); all {len(layout['sheets'])} of input/ are needed."
            )

    def read(number: int, original: np.ndarray) -> np.ndarray:
        file = files[f"{number:04d}"]
        picture = photofile.read_photograph(file)
        if picture.shape != original.shape:
            wanted, found = ("x".join(map(str, p.shape[:2])) for p in (original, picture))
            raise DpedError(f"{file}: {found} pixels, the sheet has {wanted}. Export it at its own size, uncropped.")
        return picture

    return lambda store, index: _gather(store, index, read)
