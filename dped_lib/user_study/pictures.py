"""Check the folder of pictures of a user study, and prepare the two pictures that a page shows.

Layout, also of a folder of the user's own: ``FOLDER/SET/CLASS/SCENE.png`` (or .jpg). The classes of a set are those of
one of ``questions.KINDS``: ``original``, ``dslr``, ``enhanced`` (a phone; the set may have any name), or
``automatic``, ``manual``, ``enhanced`` (enhancers). If a class is missing, its questions are not asked.
``make_pictures`` makes such a folder from a dataset.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# This module must not import PyTorch: the page of each subject is a process of its own and should open at once.
from dped_lib import paper
from dped_lib.base import paths, validation
from dped_lib.base.errors import DpedError
from dped_lib.data import image_decoding, photo_folders
from dped_lib.user_study import questions as study_questions
from dped_lib.user_study.answers import DESCRIPTION, OBSERVERS

_WIDEST = 900  # pixels: two pictures side by side fit on a screen


@dataclass(frozen=True)
class Pictures:
    """Hold the files of a checked folder by (set, class, scene). Sets are in the order of Figure 10.

    Phones that the paper has not lie between its phones and the enhancers, by name.
    """

    folder: Path
    files: Mapping[tuple[str, str, str], Path]

    @property
    def scenes(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Return the scenes of each class of each set: set -> class -> scenes."""
        scenes: dict[str, dict[str, tuple[str, ...]]] = {}
        for name, cls, scene in self.files:
            by_class = scenes.setdefault(name, {})
            by_class[cls] = (*by_class.get(cls, ()), scene)
        return scenes

    @property
    def count(self) -> int:
        """Return the number of scenes in each set."""
        by_class = next(iter(self.scenes.values()))
        return len(next(iter(by_class.values())))

    @property
    def questions(self) -> tuple[study_questions.Question, ...]:
        """Return all questions about these pictures."""
        return study_questions.all_questions(self.scenes)

    @cached_property
    def hashes(self) -> dict[tuple[str, str, str], str]:
        """Return the SHA-256 of every file. Each file is read once."""
        return {key: _hash(file) for key, file in self.files.items()}

    @cached_property
    def digest(self) -> str:
        """Return a hash over the bytes and the place of every picture. Answers belong to this digest."""
        parts = [(*key, value) for key, value in sorted(self.hashes.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def read(self, key: tuple[str, str, str]) -> np.ndarray:
        """Return the picture of (set, class, scene): uint8 H x W x 3, RGB.

        Raises:
            DpedError: the file is missing, or has changed since :attr:`hashes` was first computed.
        """
        file = self.files[key]
        if _hash(file) != self.hashes[key]:
            raise DpedError(
                f"{file}: changed since this study began. Put the old picture back, or start a new study with "
                "the new one."
            )
        return image_decoding.read_photograph(file)


def _hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DpedError(f"{file}: cannot be read ({error}). Put the picture back.") from error


def open_folder(folder: Path | str, scenes: int = paper.STUDY_SCENES) -> Pictures:
    """Read a folder in the layout of the module, and check the header of every picture.

    Args:
        scenes: number of scenes that each set must have; 9 in the paper.

    Raises:
        DpedError: the folder does not exist, has no set, an unknown class, classes of a set with different scenes,
            another number of scenes, or a file that is not a picture. The message names it.
    """
    folder = paths.expanded(folder)
    if not folder.is_dir():
        raise DpedError(
            f"{folder}: no such folder. It must hold SET/CLASS/SCENE.png "
            f"(classes: {', '.join(study_questions.CLASSES)})."
        )
    place = {name: i for i, name in enumerate(study_questions.PAPER_SETS)}
    sets = sorted(_folders(folder), key=lambda f: (_of_enhancers(f), place.get(f.name, len(place)), f.name))
    if not sets:
        raise DpedError(f"{folder}: no set of pictures in it. It must hold SET/CLASS/SCENE.png.")
    files = {}
    for set_folder in sets:
        by_class = {}
        for class_folder in _folders(set_folder):
            validation.one_of(f"class of pictures in {set_folder}", class_folder.name, study_questions.CLASSES)
            by_class[class_folder.name] = photo_folders.list_photographs(class_folder)
        kind = study_questions.kind_of(by_class)
        if kind is None:
            kinds = " or ".join(f"{{{', '.join(classes)}}}" for classes in study_questions.KINDS.values())
            raise DpedError(f"{set_folder}: classes {sorted(by_class)}; a set holds at least two of {kinds}.")
        _check_scenes(set_folder, by_class, scenes)
        for cls in study_questions.KINDS[kind]:
            for scene, file in sorted(by_class.get(cls, {}).items()):
                image_decoding.check(file)
                files[set_folder.name, cls, scene] = file
    return Pictures(folder, files)


def enhancers_phone(phones: Iterable[str]) -> str:
    """Return the phone whose originals the enhancers get: the iPhone as in the paper, or else the first one."""
    phones = tuple(phones)
    return "iphone" if "iphone" in phones else phones[0]


def _of_enhancers(set_folder: Path) -> bool:
    return study_questions.kind_of(f.name for f in _folders(set_folder)) == "enhancers"


def _folders(folder: Path) -> list[Path]:
    visible = (f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    return sorted(f for f in visible if not _holds_only_answers(f))


def _holds_only_answers(folder: Path) -> bool:
    """Return whether a folder is a part of an ``answers.AnswerStore`` and no set or class of pictures.

    A user may keep the answers anywhere among the pictures. The next start must find the same sets as the first one.
    """
    of_people = folder.name in OBSERVERS.values() and (folder.parent / DESCRIPTION).is_file()
    if not (of_people or (folder / DESCRIPTION).is_file()):
        return False
    is_set = any((folder / cls).is_dir() for cls in study_questions.CLASSES)
    is_class = folder.name in study_questions.CLASSES and bool(photo_folders.list_files(folder))
    return not (is_set or is_class)


def _check_scenes(set_folder: Path, by_class: Mapping[str, Mapping[str, Path]], scenes: int) -> None:
    names = sorted(set().union(*by_class.values()))
    for cls, files in by_class.items():
        if missing := [s for s in names if s not in files]:
            raise DpedError(
                f"{set_folder / cls}: scene {missing[0]!r} is missing, but another class of the set has it "
                f"({len(missing)} missing in all). Every class needs the same scenes under the same names."
            )
    if len(names) != scenes:
        raise DpedError(
            f"{set_folder}: {len(names)} scenes, the study has {scenes} in each set. Add or remove some, or ask "
            f"for {len(names)} (--scenes, or scenes in 06_user_study)."
        )


# ---------------------------------------------------------------------------------------------- what is shown


def shown_pair(pictures: Pictures, trial: study_questions.Trial) -> tuple[np.ndarray, np.ndarray]:
    """Return the left and the right picture of a trial: uint8 H x W x 3, RGB, both of one size.

    All classes of a scene get the same size, so the size does not reveal the class. Each picture is scaled to cover
    H x W, at most 900 pixels wide, and cropped to its centre.

    Raises:
        DpedError: see :meth:`Pictures.read`.
    """
    question = trial.question
    images = {
        cls: pictures.read((name, cls, scene))
        for name, cls, scene in pictures.files
        if (name, scene) == (question.set, question.scene)
    }
    size = _common_size(images.values())
    return _cover(images[trial.left], size), _cover(images[trial.right], size)


def shown_png(pictures: Pictures, trial: study_questions.Trial) -> tuple[bytes, bytes]:
    """Return :func:`shown_pair` as two PNG files in memory, without metadata. A page gets only these."""
    left, right = shown_pair(pictures, trial)
    return _png(left), _png(right)


def _common_size(images: Iterable[np.ndarray]) -> tuple[int, int]:
    sizes = np.array([image.shape[:2] for image in images])
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
