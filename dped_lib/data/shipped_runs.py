"""List the trained networks that ship with the package, and check their files.

    data/shipped/runs.json                             name -> folder, digest of the parameters, sha256 of every file
    data/shipped/DATASET-PRESET/RUN/params.json        the description of the run (``checkpoints``), its dataset and its photographs
    data/shipped/DATASET-PRESET/RUN/model.safetensors  the network, float16
    data/shipped/DATASET-PRESET/RUN/log.jsonl.gz       the whole log, every number with six digits
    data/shipped/DATASET-PRESET/RUN/scores.json        its scores on held-out pairs (``experiments.model_zoo``)
    data/shipped/DATASET-PRESET/RUN/discriminator.safetensors   where it ships (``shipping.with_discriminator``)

``shipped_registry`` reads the registry and checks the files. ``shipping`` adds a run to them and turns one into a finished
run. ``make ship RUNS=FOLDER`` calls it.
"""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dped_lib import paper
from dped_lib.base import presets
from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import TrainParams
from dped_lib.base.validation import build_dataclass, one_of
from dped_lib.data import shipped_registry

FOLDER = Path(__file__).parent / "shipped"
REGISTRY, DESCRIPTION, MODEL, DISCRIMINATOR, LOG, SCORES = (
    "runs.json",
    "params.json",
    "model.safetensors",
    "discriminator.safetensors",
    "log.jsonl.gz",
    "scores.json",
)
#: The prefix of a shipped network among ``--weights``.
PREFIX = "shipped:"
#: Whose network it is if it did not come with the package.
HERE = "trained here"
#: The environment variable that makes every training start anew. ``dped train --fresh`` and ``dped run --fresh`` set it.
FRESH = "DPED_FRESH"


@dataclass(frozen=True)
class ShippedRun:
    """Name a run that ships.

    Attributes:
        name: as in ``shipped:NAME``.
        folder: its files.
        digest: of its parameters (:meth:`TrainParams.digest`).
        files: the registered sha256 of each file, by name.
    """

    name: str
    folder: Path
    digest: str
    files: dict[str, str]

    @property
    def preset(self) -> str:
        """Return the preset of the training."""
        return self.folder.parent.name.rpartition("-")[2]

    def read(self, name: str) -> bytes:
        """Return the content of a file of the run.

        Raises:
            DpedError: the file is missing, or its sha256 is not the registered one.
        """
        return shipped_registry.checked_content(self.folder / name, self.files[name])

    def checked(self, name: str) -> Path:
        """Return the path of a file of the run after checking its sha256."""
        self.read(name)
        return self.folder / name

    def description(self) -> dict:
        """Return the description of the run: ``params``, ``digest``, ``pairs``, ``origin``, ``photographs`` and more."""
        return json.loads(self.read(DESCRIPTION))

    def params(self) -> TrainParams:
        """Return the parameters of the run."""
        return build_dataclass(TrainParams, self.description()["params"])


def name_of(params: TrainParams, preset: str) -> str:
    """Return the name under which a run ships, for instance ``city100-iphonex`` or ``city100-iphonex-mse-s1``.

    The full loss, seed 0 and the default preset are not named.
    """
    run = params.run_name.removeprefix(params.phone).removeprefix(f"-{paper.FULL_LOSS}").removesuffix("-s0")
    return f"{params.dataset}-{params.phone}{run}" + (f"-preset_{preset}" if preset != presets.DEFAULT else "")


def runs() -> dict[str, ShippedRun]:
    """Return the runs that ship, by name.

    Raises:
        DpedError: the registry is damaged.
    """
    return _runs(FOLDER)


@functools.cache
def _runs(folder: Path) -> dict[str, ShippedRun]:
    return shipped_registry.read(
        folder / REGISTRY,
        lambda name, run: ShippedRun(name, folder / run["folder"], run["digest"], dict(run["files"])),
    )


def register(name: str, folder: Path, digest: str, files: Mapping[str, str]) -> ShippedRun:
    """Add a run to the registry, and return it. Its folder lies in ``FOLDER``; the others are as in :class:`ShippedRun`."""
    place = folder.relative_to(FOLDER).as_posix()
    shipped_registry.add(FOLDER / REGISTRY, name, {"folder": place, "digest": digest, "files": dict(files)})
    _runs.cache_clear()
    return runs()[name]


def named(name: str) -> ShippedRun:
    """Return the run that ships under a name (without ``shipped:``), or raise a DpedError that lists the names."""
    if not runs():
        raise DpedError(f"weights '{PREFIX}{name}': no network ships with this version of the package.")
    return runs()[one_of("shipped network", name, runs())]


def of_params(params: TrainParams) -> ShippedRun | None:
    """Return the run that was trained with exactly these parameters, or None if it does not ship."""
    return next((run for run in runs().values() if run.digest == params.digest()), None)


def scores(run: ShippedRun) -> dict:
    """Return the scores that ship with a run (``experiments.model_zoo.score_network``)."""
    return json.loads(run.read(SCORES))


def fresh() -> bool:
    """Return whether trainings start anew although a finished run ships (``DPED_FRESH=1``).

    Raises:
        DpedError: ``DPED_FRESH`` is neither 0 nor 1.
    """
    return one_of(FRESH, os.environ.get(FRESH) or "0", ("0", "1")) == "1"


def total_size() -> int:
    """Return the bytes of all files that ship."""
    return sum((run.folder / name).stat().st_size for run in runs().values() for name in run.files)
