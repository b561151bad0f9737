"""The pictures of a user study: a folder of them, anyone's or made here from a tier, and the two that a page shows.

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
from PIL import Image, ImageOps
from torch import nn

from dped_lib import alignment, config, enhance, paper, patches, paths, photofile, photographs, readers, study, weights
from dped_lib.errors import DpedError
from dped_lib.progress import bar

#: What stands in for Apple's one-click enhancer, which runs on Apple's systems only.
AUTOMATIC = "Pillow ImageOps.autocontrast(cutoff=1): a stand-in for Apple Photos, not it"

_CUTOFF = 1  # per cent of the darkest and of the brightest pixels
_FORMAT = 1  # of the folder that make() leaves
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


# ---------------------------------------------------------------------------------------------- made here


def held_out(tier: str, preset: str, scenes: int) -> tuple[str, ...]:
    """Scenes that no network of the tier was trained on: of the test split, then of the validation split; one of each
    photograph before a second of any.

    Raises:
        DpedError: the tier holds out fewer, or has no whole photographs that are aligned.
    """
    if tier not in config.ALIGNED_TIERS:
        raise DpedError(
            f"tier {tier!r} has no whole aligned photographs by two cameras; a study can be made on "
            f"{', '.join(config.ALIGNED_TIERS)}, or from a folder of your own (parameter folder)."
        )
    store = patches.open_or_make(tier, config.first_phone(tier), preset)
    takes: dict[str, list[str]] = {}
    for split in ("test", "val"):
        for i in store.index(split):
            names = takes.setdefault(str(store.photographs[i]), [])
            if (name := store.names[i].rsplit("/", 1)[0]) not in names:
                names.append(name)
    first = [names[0] for names in takes.values()]
    found = first + [name for names in takes.values() for name in names[1:]]
    if len(found) < scenes:
        raise DpedError(
            f"tier {tier!r} holds out {len(found)} scenes, the study needs {scenes}; set scenes={len(found)}."
        )
    return tuple(sorted(found[:scenes], key=readers.natural))


def make(
    tier: str,
    preset: str,
    networks: Mapping[str, nn.Module],
    manual: Path | str = "",
    scenes: int = paper.STUDY_SCENES,
) -> Pictures:
    """The study's pictures of a tier, made once: ``run_dir(TIER, PRESET)/study/pictures``.

    Phone and DSLR are aligned (section 2), which the paper's were not: its subjects were asked to overlook the difference
    in what is seen; here there is none. The enhancers' set is that of the iPhone, or of the tier's first phone.

    Args:
        networks: phone -> network that enhances its photographs.
        manual: a folder with the retouched originals, ``SCENE.png``; empty: the class is left out.

    Raises:
        DpedError: see :func:`held_out`; a retouched picture is missing; a scene cannot be aligned.
    """
    names = held_out(tier, preset, scenes)
    retouched = photofile.list_photographs(Path(manual).expanduser()) if manual else {}
    if manual and (missing := [s for s in names if s not in retouched]):
        raise DpedError(f"{manual}: no retouched picture of {', '.join(missing)}. Scenes: {', '.join(names)}.")
    what = {
        "format": _FORMAT,
        "scenes": list(names),
        "networks": {phone: weights.fingerprint(n) for phone, n in networks.items()},
        "automatic": AUTOMATIC,
        "manual": {s: hashlib.sha256(retouched[s].read_bytes()).hexdigest() for s in names} if manual else None,
    }
    folder = paths.run_dir(tier, preset) / "study" / "pictures"
    if _made_of(folder) != what:
        with paths.atomic_path(folder) as part:
            for scene in bar(names, label="study pictures", unit="scene", brief=True):
                _make_scene(part, tier, scene, networks, retouched)
            (part / "made.json").write_text(json.dumps(what, indent=1), encoding="utf-8")
    return open_folder(folder, scenes)


def _made_of(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "made.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _make_scene(folder: Path, tier: str, scene: str, networks: Mapping[str, nn.Module], retouched: Mapping[str, Path]):
    frames = photographs.scene(tier, scene)
    retoucher = "iphone" if "iphone" in networks else next(iter(networks))
    for phone, network in networks.items():
        aligned = alignment.align(frames[phone], frames["canon"], readers.RIG_SETTINGS.size)
        if aligned.phone is None:
            raise DpedError(
                f"scene {scene!r} of {phone}: cannot be aligned ({aligned.report.reason}); no study with it."
            )
        enhanced = enhance.engine(network, "float32", "cpu")(aligned.phone)
        _save(folder / phone / "original" / f"{scene}.png", aligned.phone)
        _save(folder / phone / "dslr" / f"{scene}.png", aligned.canon)
        _save(folder / phone / "enhanced" / f"{scene}.png", enhanced)
        if phone == retoucher:
            automatic = ImageOps.autocontrast(Image.fromarray(aligned.phone), cutoff=_CUTOFF)
            _save(folder / "enhancers" / "enhanced" / f"{scene}.png", enhanced)
            _save(folder / "enhancers" / "automatic" / f"{scene}.png", np.asarray(automatic))
            if scene in retouched:
                _save(folder / "enhancers" / "manual" / f"{scene}.png", photofile.read_photograph(retouched[scene]))


def _save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)
