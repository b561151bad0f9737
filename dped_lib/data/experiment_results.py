"""Keep the results of experiments that take minutes of training, and use those that ship with the package.

    RUNS/DATASET-PRESET/NAME.json            a result that was measured here, or a copy of one that ships
    data/shipped/DATASET-PRESET/NAME.json    a result that ships
    data/shipped/results.json                the sha256 of each result that ships

A result records what was asked, and on which photographs it was measured. It is used for the same question only.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.data import checkpoints, shipped_runs
from dped_lib.data.pair_store import PairStore

REGISTRY = "results.json"
#: Whose result it is.
HERE, SHIPPED = "trained here", "trained for the package"


@dataclass(frozen=True)
class Experiment:
    """Name an experiment and what is asked of it.

    Attributes:
        name: the path of its result below ``DATASET-PRESET``, without ``.json``.
        preset: the name of the preset.
        store: the pairs, in the fold of the experiment's seed.
        asked: all that decides the result except the pairs, as JSON returns it: no tuples.
    """

    name: str
    preset: str
    store: PairStore
    asked: Mapping

    @property
    def file(self) -> Path:
        """Return the path of the result in the folder of runs."""
        return paths.run_dir(self.store.meta["dataset"], self.preset) / f"{self.name}.json"

    @property
    def key(self) -> str:
        """Return the path of the result in ``data/shipped``, which is its name in the registry."""
        return key_of(self.store.meta["dataset"], self.preset, self.name)


def key_of(dataset: str, preset: str, name: str) -> str:
    """Return the key of a result in the registry."""
    return f"{dataset}-{preset}/{name}.json"


def known(experiment: Experiment, begun: bool = False) -> tuple[dict, str] | None:
    """Return a finished result and whose it is (``HERE`` or ``SHIPPED``), or None if it has yet to be measured.

    A result that ships is copied into the folder of runs. With ``DPED_FRESH`` none is used.

    Args:
        experiment: what is asked.
        begun: whether trainings of the experiment were begun here. Then they are finished, and no result that ships is used.

    Raises:
        DpedError: a result that ships is not the registered one.
    """
    own = _read(experiment.file)
    if _answers(own, experiment) and not own.get("shipped") and own.get("pairs") == experiment.store.digest:
        return own["result"], HERE
    if begun or shipped_runs.fresh() or not ships(experiment.key):
        return None
    record = json.loads(_checked(experiment.key))
    if not _answers(record, experiment):
        return None
    if why := checkpoints.unfit(record, experiment.store):
        print(f"the result {experiment.key} that ships is not used: {why}.", file=sys.stderr)
        return None
    copy = {**record, "shipped": True}
    if own != copy:
        paths.write_text(experiment.file, json.dumps(copy))
    return record["result"], SHIPPED


def keep(experiment: Experiment, result: Mapping) -> None:
    """Write a result that was measured here."""
    store = experiment.store
    record = {"asked": experiment.asked, "pairs": store.digest, "origin": store.meta.get("origin", "")}
    record |= {"photographs": checkpoints.photographs_by_split(store), "result": result}
    paths.write_text(experiment.file, json.dumps(record))


def _read(file: Path) -> dict:
    """Return the record in a file; empty if there is none, or if it is damaged: then the result is measured again."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _answers(record: Mapping, experiment: Experiment) -> bool:
    return "result" in record and record.get("asked") == experiment.asked


# ---------------------------------------------------------------------------------------------- results that ship


def _registry() -> dict[str, str]:
    file = shipped_runs.FOLDER / REGISTRY
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). {shipped_runs.REMEDY}") from error


def ships(key: str) -> bool:
    """Return whether a result ships under a key."""
    return key in _registry()


def _checked(key: str) -> bytes:
    return shipped_runs.checked_content(shipped_runs.FOLDER / key, _registry()[key])


def pack(experiment: Experiment) -> bool:
    """Add a result that was measured here to those that ship. Return False if there is none for this question."""
    record = _read(experiment.file)
    if not _answers(record, experiment) or record.get("shipped"):
        return False
    content = json.dumps(record) + "\n"
    paths.write_text(shipped_runs.FOLDER / experiment.key, content)
    registry = {**_registry(), experiment.key: hashlib.sha256(content.encode()).hexdigest()}
    paths.write_text(shipped_runs.FOLDER / REGISTRY, json.dumps(dict(sorted(registry.items())), indent=1) + "\n")
    return True


def copies(runs: Path) -> list[Path]:
    """Return the results below a folder ``DATASET-PRESET`` that are copies of results that ship."""
    return [file for file in sorted(runs.glob("*/*.json")) if _read(file).get("shipped")]
