"""Keep the results of experiments that take minutes of training, and use those that ship with the package.

    RUNS/DATASET-PRESET/NAME.json            a result that was measured here, or a copy of one that ships
    data/shipped/DATASET-PRESET/NAME.json    a result that ships
    data/shipped/results.json                the sha256 of each result that ships

A result records what was asked, and on which photographs it was measured. It is used for the same question only.

If a row of the ablation was trained here, all scores are computed from the networks each time, and written for
:func:`pack` (``experiments.ablation``). Otherwise the result that ships is used.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dped_lib.base import paths, writing
from dped_lib.data import checkpoints, shipped_registry, shipped_runs
from dped_lib.data.pair_store import PairStore

REGISTRY = "results.json"
#: Whose result it is.
HERE, SHIPPED = shipped_runs.HERE, "trained for the package"
_Result = TypeVar("_Result")


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


def finished_result(experiment: Experiment, read: Callable[[dict], _Result]) -> tuple[_Result, str] | None:
    """Return a finished result and whose it is (``HERE`` or ``SHIPPED``), or None if it has yet to be measured.

    What was measured here comes first. A result that ships is copied into the folder of runs, where the workflow looks
    for it.

    Args:
        experiment: what is asked.
        read: builds the result from what :func:`keep` was given. Where it fails, another version of the library has kept
            the result, which is then measured again.

    Raises:
        DpedError: a result that ships is not the registered one.
    """
    own = _read(experiment.file)
    if _measured_here(own, experiment):
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
            return read(own["result"]), HERE
    record = _shipped_record(experiment)
    if record is None:
        return None
    copy = {**record, "shipped": True}
    if own != copy:
        _report_other_pairs(experiment, record)
        writing.write_text(experiment.file, json.dumps(copy))
    return read(record["result"]), SHIPPED


def shipped_result(experiment: Experiment) -> dict | None:
    """Return the result that ships for a question, or None. Nothing is copied. With ``DPED_FRESH`` none is used.

    Raises:
        DpedError: the result that ships is not the registered one.
    """
    record = _shipped_record(experiment)
    if record is None:
        return None
    _report_other_pairs(experiment, record)
    return record["result"]


def alone(experiment: Experiment) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of an experiment, so that one process at a time measures it (``writing.alone``)."""
    file = experiment.file
    waiting = f"{file}: another process is measuring this; waiting for it."
    return writing.alone(file.with_name(f".{file.stem}.lock"), waiting)


def keep(experiment: Experiment, result: Mapping) -> None:
    """Write a result that was measured here."""
    store = experiment.store
    record = {"asked": experiment.asked, "pairs": store.digest, "origin": store.meta.get("origin", "")}
    record |= {"photographs": checkpoints.photographs_by_split(store), "result": result}
    writing.write_text(experiment.file, json.dumps(record))


def _read(file: Path) -> dict:
    """Return the record in a file; empty if there is none, or if it is damaged: then the result is measured again."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _answers(record: Mapping, experiment: Experiment) -> bool:
    return "result" in record and record.get("asked") == experiment.asked


def _measured_here(record: Mapping, experiment: Experiment) -> bool:
    """Return whether a record was measured here, for this question, on these pairs and in this split."""
    store = experiment.store
    same = (record.get("pairs"), record.get("photographs")) == (store.digest, checkpoints.photographs_by_split(store))
    return _answers(record, experiment) and not record.get("shipped") and same


# ---------------------------------------------------------------------------------------------- results that ship


def _registry() -> dict[str, str]:
    return shipped_registry.read(shipped_runs.FOLDER / REGISTRY, lambda _, sha256: sha256)


def is_registered(key: str) -> bool:
    """Return whether a result ships under a key."""
    return key in _registry()


def _shipped_record(experiment: Experiment) -> dict | None:
    """Return the record that ships for a question, or None. Print why a registered record is not used."""
    registered = None if shipped_runs.fresh() else _registry().get(experiment.key)
    if registered is None:
        return None
    record = json.loads(shipped_registry.checked_content(shipped_runs.FOLDER / experiment.key, registered))
    if not _answers(record, experiment):
        return None
    store = experiment.store
    why = checkpoints.unfit(record, store)
    # A network may be used wherever it has not seen the held-out photographs. Scores are of certain photographs.
    if not why and record["photographs"]["test"] != checkpoints.photographs_by_split(store)["test"]:
        why = f"other photographs are held out in {store.folder}"
    if why:
        shipped_registry.tell_once(store.folder, f"the result {experiment.key} that ships is not used: {why}.")
        return None
    return record


def _report_other_pairs(experiment: Experiment, record: Mapping) -> None:
    made = f"the result {experiment.key} that ships was measured"
    shipped_registry.report_other_pairs(made, "measures anew", record["pairs"], experiment.store)


def pack(experiment: Experiment) -> bool:
    """Add a result that was measured here to those that ship.

    Return False if there is none for this question on these pairs.
    """
    record = _read(experiment.file)
    if not _measured_here(record, experiment):
        return False
    content = json.dumps(record) + "\n"
    writing.write_text(shipped_runs.FOLDER / experiment.key, content)
    sha256 = shipped_registry.sha256_of(content.encode())
    shipped_registry.add(shipped_runs.FOLDER / REGISTRY, experiment.key, sha256)
    return True


def is_copy(file: Path) -> bool:
    """Return whether a file in the folder of runs is a copy of a result that ships."""
    return bool(_read(file).get("shipped"))


def copies(folder: Path) -> list[Path]:
    """Return the results in a folder that are copies of results that ship."""
    return [file for file in sorted(folder.glob("*.json")) if is_copy(file)]
