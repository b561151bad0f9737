"""The pictures of a user study: a folder of them, and the two that a page shows. ``studymake`` makes such a folder from a dataset.

Layout, also of a folder of one's own: ``FOLDER/SET/CLASS/SCENE.png`` (or .jpg). A set is what is compared with each other,
one of ``study.KINDS``: classes ``original``, ``dslr``, ``enhanced`` (a phone; the set has any name) or ``automatic``,
``manual``, ``enhanced`` (enhancers). A set may lack a class; its questions are then not asked.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# Nothing here may need PyTorch: every subject's page is a process of its own, and should open at once.
from dped_lib import paper
from dped_lib.base import config
from dped_lib.data import photofile
from dped_lib.user_study import study
from dped_lib.base.errors import DpedError

_WIDEST = 900  # pixels: two pictures side by side on a screen


@dataclass(frozen=True)
class Pictures:
    """A validated folder. ``files``: (set, class, scene) -> file, sets in the order of Figure 10, then by name."""

    folder: Path
    files: Mapping[tuple[str, str, str], Path]

    @property
    def scenes(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Set -> class -> its scenes."""
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for name, cls, scene in self.files:
            of_set = found.setdefault(name, {})
            of_set[cls] = (*of_set.get(cls, ()), scene)
        return found

    @property
    def count(self) -> int:
        """Scenes in each set."""
        of_classes = next(iter(self.scenes.values()))
        return len(next(iter(of_classes.values())))

    @property
    def questions(self) -> tuple[study.Question, ...]:
        return study.questions(self.scenes)

    @cached_property
    def digest(self) -> str:
        """Hash of every picture's bytes and place; answers belong to it. Read once."""
        parts = [(*key, hashlib.sha256(file.read_bytes()).hexdigest()) for key, file in sorted(self.files.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def open_folder(folder: Path, scenes: int = paper.STUDY_SCENES) -> Pictures:
    """Reads the layout of the module and looks at every picture's header.

    Args:
        scenes: how many each set must have; the paper's 9.

    Raises:
        DpedError: no such folder, no set in it, an unknown class, classes of a set with different scenes, another number
            of scenes, or a file that is no picture; the message names it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DpedError(
            f"{folder}: no such folder. It must hold SET/CLASS/SCENE.png (classes: {', '.join(study.CLASSES)})."
        )
    place = {name: i for i, name in enumerate(study.PAPER_SETS)}
    sets = sorted(_folders(folder), key=lambda f: (place.get(f.name, len(place)), f.name))
    if not sets:
        raise DpedError(f"{folder}: no set of pictures in it. It must hold SET/CLASS/SCENE.png.")
    files = {}
    for of_set in sets:
        found = {}
        for of_class in _folders(of_set):
            config.one_of(f"class of pictures in {of_set}", of_class.name, study.CLASSES)
            found[of_class.name] = photofile.list_photographs(of_class)
        kind = study.kind_of(found)
        if kind is None:
            kinds = " or ".join(f"{{{', '.join(k)}}}" for k in study.KINDS.values())
            raise DpedError(f"{of_set}: classes {sorted(found)}; a set holds at least two of {kinds}.")
        _check_scenes(of_set, found, scenes)
        for cls in study.KINDS[kind]:
            for scene, file in sorted(found.get(cls, {}).items()):
                photofile.check(file)
                files[of_set.name, cls, scene] = file
    return Pictures(folder, files)


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _check_scenes(of_set: Path, found: Mapping[str, Mapping[str, Path]], scenes: int) -> None:
    every = sorted(set().union(*found.values()))
    for cls, files in found.items():
        if missing := [s for s in every if s not in files]:
            raise DpedError(
                f"{of_set / cls}: scene {missing[0]!r} is missing, but another class of the set has it "
                f"({len(missing)} missing in all). Every class needs the same scenes under the same names."
            )
    if len(every) != scenes:
        raise DpedError(
            f"{of_set}: {len(every)} scenes, the study has {scenes} in each set. Add or remove some, or set scenes={len(every)}."
        )


# ---------------------------------------------------------------------------------------------- what is shown


def shown(pictures: Pictures, asked: study.Asked) -> tuple[np.ndarray, np.ndarray]:
    """The two pictures of a question, left and right: uint8 H x W x 3, RGB, of one size, so that size tells nothing.

    Every class of a scene is scaled down to cover the same H x W, at most 900 pixels wide, and cut in the middle.
    """
    q = asked.question
    size = _common_size([f for (s, _, scene), f in pictures.files.items() if (s, scene) == (q.set, q.scene)])
    left, right = (
        _cover(photofile.read_photograph(pictures.files[q.set, c, q.scene]), size) for c in (asked.left, asked.right)
    )
    return left, right


def page(pictures: Pictures, asked: study.Asked) -> tuple[bytes, bytes]:
    """:func:`shown` as two PNG files in memory, without names, dates or any metadata: all that a subject's page gets."""
    return tuple(_png(image) for image in shown(pictures, asked))


def _common_size(files: list[Path]) -> tuple[int, int]:
    sizes = np.array([photofile.read_photograph(f).shape[:2] for f in files])
    height, width = sizes.min(0)
    shrink = min(1.0, _WIDEST / width)
    return round(height * shrink), round(width * shrink)


def _cover(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    scale = max(size[0] / image.shape[0], size[1] / image.shape[1])
    if scale != 1:
        height, width = (max(n, round(m * scale)) for n, m in zip(size, image.shape[:2], strict=True))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    y, x = ((m - n) // 2 for n, m in zip(size, image.shape[:2], strict=True))
    return np.ascontiguousarray(image[y : y + size[0], x : x + size[1]])


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
