"""Run the methods of Table 2 that are not networks: Apple's enhancer and automatic contrast.

The authors used the enhancer of Apple's Photos app. A program cannot run it. So ``write_sheets`` writes the pictures to
enhance, a user enhances them, and Table 2 reads the results:

    FOLDER/DATASET/PHONE/input/0000.png ...    written by ``dped baselines``: a sheet of patches for each photograph
    FOLDER/DATASET/PHONE/input/layout.json     the place of each patch
    FOLDER/DATASET/PHONE/ape/0000.jpg ...      the same sheets after Apple's Enhance (PNG, JPEG or TIFF; same sizes)

The environment variable ``DPED_BASELINES`` names FOLDER. A sheet holds all patches of a photograph, because an enhancer
may adapt to the whole picture. ``auto`` is Pillow's automatic contrast on the same sheets. It is not Apple's enhancer,
and every label says so.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dped_lib.base import paths, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.data import image_decoding, photo_folders
from dped_lib.data import picture as picture_file
from dped_lib.data.pair_store import PairStore

#: Methods whose pictures the user supplies.
USER_METHODS = ("ape",)
#: Percentage of the darkest and of the brightest values of each channel that automatic contrast clips.
CUTOFF = 0.5


def sheet(images: np.ndarray) -> np.ndarray:
    """Return patches N x S x S x 3 as a nearly square picture. The last patch is repeated in the remaining places."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    size = images.shape[1]
    filled = np.concatenate([images, np.repeat(images[-1:], rows * columns - len(images), axis=0)])
    grid = filled.reshape(rows, columns, size, size, 3).swapaxes(1, 2)
    return np.ascontiguousarray(grid.reshape(rows * size, columns * size, 3))


def cut_sheet(picture: np.ndarray, count: int, size: int) -> np.ndarray:
    """Return the first ``count`` patches of a sheet: count x size x size x 3."""
    rows, columns = picture.shape[0] // size, picture.shape[1] // size
    grid = picture.reshape(rows, size, columns, size, 3).swapaxes(1, 2)
    return grid.reshape(rows * columns, size, size, 3)[:count]


def _sheets(store: PairStore) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each photograph of a store and the indices of its pairs, in the order of their first pairs."""
    for name in dict.fromkeys(store.photographs.tolist()):
        yield name, np.flatnonzero(store.photographs == name)


def scenes_of(store: PairStore, index: np.ndarray) -> list[str]:
    """Return the scenes that pairs show, each once, as a reader knows them: ``flower-a`` and not ``photo:flower``.

    The name of a pair consists of its scene, ``/`` and its place. A pair that came as a patch has only a name of its own.
    Its photograph is then named after a patch.
    """
    patches = set(store.names)
    named = ((store.names[i], store.photographs[i]) for i in index)
    return list(dict.fromkeys(name if photo in patches else name.rsplit("/", 1)[0] for name, photo in named))


def auto_contrast(picture: np.ndarray) -> np.ndarray:
    """Return a uint8 H x W x 3 picture, each channel stretched to full range by Pillow."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(picture), cutoff=CUTOFF))


def _enhance_sheets(
    store: PairStore, index: np.ndarray, enhance: Callable[[int, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return the enhanced patches at ``index``; ``enhance`` takes the number of a sheet and its picture."""
    size = store.phone.shape[1]
    enhanced: dict[int, np.ndarray] = {}
    chosen = set(store.photographs[index].tolist())
    for number, (name, members) in enumerate(_sheets(store)):
        if name in chosen:
            picture = enhance(number, sheet(np.array(store.phone[members])))
            enhanced |= dict(zip(members.tolist(), cut_sheet(picture, len(members), size), strict=True))
    return np.stack([enhanced[i] for i in index.tolist()])


def enhance_auto(store: PairStore, index: np.ndarray) -> np.ndarray:
    """Return the phone patches at ``index`` after automatic contrast: uint8 N x 100 x 100 x 3."""
    return _enhance_sheets(store, index, lambda _, picture: auto_contrast(picture))


# ---------------------------------------------------------------------------------------------- user's pictures


def _digest(store: PairStore) -> str:
    # Sheets of another store would be compared with the wrong DSLR patches, so we hash names and pixels of all pairs.
    digest = hashlib.sha256("\n".join(store.names).encode())
    digest.update(np.ascontiguousarray(store.phone).tobytes())
    return digest.hexdigest()[:16]


def write_sheets(store: PairStore, root: Path) -> Path:
    """Write the sheets of every photograph of a store and the layout of their patches; return their folder.

    Raises:
        DpedError: the folder holds sheets of another store or pictures of another origin, or it cannot be written.
    """
    folder = paths.collapsed(root) / store.meta["dataset"] / store.meta["phone"] / "input"
    sheets = [(folder / f"{i:04d}.png", name, members) for i, (name, members) in enumerate(_sheets(store))]
    layout_file, digest = folder / "layout.json", _digest(store)
    if not layout_file.is_file():
        if present := [file.name for file, _, _ in sheets if os.path.lexists(file)]:
            raise DpedError(
                f"{folder}: holds {present[0]} but no layout.json, so dped did not write its pictures. Name another folder."
            )
    elif _read_layout(layout_file)["store"] != digest:
        raise DpedError(
            f"{folder}: holds the sheets of other patches; pictures enhanced from them would not fit. "
            "Name another folder."
        )
    # We write the layout first. After an interruption it shows that the folder is ours.
    listed = [{"photograph": name, "patches": [store.names[i] for i in members]} for _, name, members in sheets]
    writing.write_text(layout_file, json.dumps({"store": digest, "sheets": listed}, indent=1))
    for file, _, members in sheets:
        if not file.exists():  # the user may have edited an existing sheet
            picture_file.write(picture_file.Picture(sheet(np.array(store.phone[members]))), file)
    return folder


def _read_layout(file: Path) -> dict:
    try:
        layout = json.loads(file.read_text())
        return {"store": layout["store"], "sheets": layout["sheets"]}
    except FileNotFoundError:
        raise DpedError(f"{file}: not found. 'dped baselines' writes it, with the pictures to enhance.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Delete this file and run 'dped baselines' again.") from error


def users_method(method: str, store: PairStore) -> Callable[[PairStore, np.ndarray], np.ndarray] | str:
    """Check the user's pictures, and return a method that reads them. If there are none, return the reason.

    A reason is a few words, a colon, and details.

    Raises:
        DpedError: the method is unknown; or pictures are missing, differ from the sheets in size, or show other
            patches.
    """
    one_of("baseline", method, USER_METHODS)
    root = os.environ.get("DPED_BASELINES")
    if not root:
        return "no pictures were brought: DPED_BASELINES names no folder with them"
    place = paths.expanded(root) / store.meta["dataset"] / store.meta["phone"]
    if not (place / method).is_dir():
        return f"no pictures were brought: no folder {place / method}"
    layout = _read_layout(place / "input" / "layout.json")
    if layout["store"] != _digest(store):
        raise DpedError(
            f"{place / 'input'}: holds sheets of other patches than {store.folder}. "
            "Write the sheets into an empty folder with 'dped baselines'."
        )
    files = photo_folders.list_photographs(place / method)
    for number, entry in enumerate(layout["sheets"]):
        name = f"{number:04d}"
        if name not in files:
            raise DpedError(
                f"{place / method}: no picture {name!r} ({entry['photograph']}); "
                f"all {len(layout['sheets'])} of input/ are needed."
            )

    def read(number: int, original: np.ndarray) -> np.ndarray:
        file = files[f"{number:04d}"]
        picture = image_decoding.read_photograph(file)
        if picture.shape != original.shape:
            expected, size = ("x".join(map(str, p.shape[:2])) for p in (original, picture))
            raise DpedError(f"{file}: {size} pixels, the sheet has {expected}. Export it at its own size, uncropped.")
        return picture

    return lambda store, index: _enhance_sheets(store, index, read)
