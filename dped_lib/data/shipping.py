"""Add a finished run to those that ship with the package, and turn one that ships into a finished run.

A run that ships has weights of half the size, float16. They are loaded as float32. The largest matrix of a discriminator
has 8 bits a weight and a scale for each row. The log is whole, with six digits a number.
"""

import dataclasses
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from dped_lib.base import writing
from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import TrainParams
from dped_lib.data import checkpoints, network_files, shipped_registry, shipped_runs
from dped_lib.data.pair_store import PairStore
from dped_lib.data.shipped_runs import ShippedRun
from dped_lib.data.training_log import read_log

#: The datasets whose networks may ship, with the licence of the photographs. The authors' photographs carry none.
LICENCES = MappingProxyType(
    {
        "rig": "MIT (simulated photographs)",
        "city100": "MIT (City100: MIT, (c) 2019 Chang Chen)",
    }
)
_DIGITS = 6
_LARGE = 1_000_000  # weights of a matrix from which on 8 bits a weight are kept: 6.4 million in a discriminator


def with_discriminator(params: TrainParams) -> bool:
    """Return whether the discriminator of a run ships, for the texture term in ``explorers.loss_terms``.

    It has 7.3 million weights, nine times those of the generator. So only one ships: of the full loss on real photographs.
    """
    return (params.dataset, params.run_name) == ("city100", "iphonex-color+content+texture-s0")


# ---------------------------------------------------------------------------------------------- half the size


def compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return floating-point tensors as float16, and matrices of a million weights or more as int8 with row scales.

    Raises:
        DpedError: a weight is beyond float16, whose largest number is 65504.
    """
    small: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if not value.is_floating_point():
            small[key] = value
        elif value.ndim == 2 and value.numel() >= _LARGE:
            scale = value.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            small[key], small[f"{key}/scale"] = (value / scale).round().to(torch.int8), scale
        else:
            small[key] = value.half()
            if not small[key].isfinite().all():
                raise DpedError(f"weight {key} is beyond the range of float16, so this network cannot ship.")
    return small


def expand(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the float32 tensors that :func:`compact` has made small."""
    full = {}
    for key, value in tensors.items():
        if key.endswith("/scale"):
            continue
        scale = tensors.get(f"{key}/scale")
        full[key] = value * scale if scale is not None else value.float() if value.is_floating_point() else value
    return full


def _rounded(value):
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _log(file: Path) -> bytes:
    """Return a log as it ships: every line, numbers with six digits, compressed."""
    text = "".join(json.dumps(_rounded(line)) + "\n" for line in read_log(file))
    return gzip.compress(text.encode(), mtime=0)


# ---------------------------------------------------------------------------------------------- adding a run


def pack(source: Path, store: PairStore, preset: str, scores: Mapping) -> ShippedRun:
    """Add a finished run to those that ship: write its files into the package, and register their sha256.

    Args:
        source: the folder of the run.
        store: the pairs that it was trained on.
        preset: the preset of the run.
        scores: the scores of its network (``experiments.model_zoo.score_network``).

    Raises:
        DpedError: the run is not finished or damaged, is a copy of a run that ships, was trained on other pairs, on photographs
            without a licence to share, or another run ships under its name.
    """
    params, known = checkpoints.params_of(source), checkpoints.description(source)
    if not {"pairs", "vgg_label"} <= known.keys():
        raise DpedError(f"{source / checkpoints.DESCRIPTION}: damaged (no pairs or no VGG label). Train the run again.")
    pairs, label = known["pairs"], known["vgg_label"]
    if params.dataset not in LICENCES:
        raise DpedError(
            f"{source}: networks of dataset {params.dataset!r} do not ship. Its photographs carry no licence."
        )
    if "shipped" in known:
        raise DpedError(f"{source}: a copy of {shipped_runs.PREFIX}{known['shipped']}, which ships already.")
    if pairs != store.digest:
        raise DpedError(f"{source}: was trained on other pairs (digest {pairs}) than {store.folder} ({store.digest}).")
    name = shipped_runs.name_of(params, preset)
    if (other := shipped_runs.runs().get(name)) and other.digest != params.digest():
        raise DpedError(f"{source}: another run ships as {name!r}: {other.folder}. Remove it from the registry first.")
    description = {"params": dataclasses.asdict(params), "digest": params.digest(), "pairs": pairs, "vgg_label": label}
    description |= {"origin": store.meta.get("origin", ""), "photographs": checkpoints.photographs_by_split(store)}
    folder = shipped_runs.FOLDER / f"{params.dataset}-{preset}" / params.run_name
    with writing.atomic_path(folder) as part:
        part.mkdir()
        (part / shipped_runs.DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        (part / shipped_runs.SCORES).write_text(json.dumps(dict(scores), indent=1) + "\n", encoding="utf-8")
        (part / shipped_runs.LOG).write_bytes(_log(source / checkpoints.LOG))
        for file in (checkpoints.MODEL, checkpoints.DISCRIMINATOR):
            if file == checkpoints.MODEL or (with_discriminator(params) and (source / file).is_file()):
                tensors, metadata = network_files.load_tensors(source / file)
                network_files.save_tensors(compact(tensors), part / file, metadata)
        files = {f.name: shipped_registry.sha256_of(f.read_bytes()) for f in sorted(part.iterdir())}
    return shipped_runs.register(name, folder, params.digest(), files)


# ---------------------------------------------------------------------------------------------- a finished run


def provide(folder: Path, params: TrainParams, store: PairStore) -> None:
    """Put the run that ships with these parameters into the folder of a training, unless that folder holds a run.

    A finished run and one that was interrupted stay as they are: they are the user's. With ``DPED_FRESH`` nothing is put
    there, and a copy that an earlier call has put there is removed, so that the training starts anew.

    Raises:
        DpedError: a file that ships is not the registered one.
    """
    if shipped_runs.fresh():
        if is_copy(folder):
            for name in (checkpoints.MODEL, checkpoints.DISCRIMINATOR, checkpoints.LOG, checkpoints.DESCRIPTION):
                (folder / name).unlink(missing_ok=True)
        return
    if any((folder / name).is_file() for name in (checkpoints.MODEL, checkpoints.CHECKPOINT)):
        return
    known = checkpoints.description(folder)
    if known is None or known.get("digest", params.digest()) != params.digest():
        return  # the check of the description says what is wrong
    run = shipped_runs.of_params(params)
    if run is None:
        return
    description = run.description()
    if why := checkpoints.unfit(description, store):
        shipped_registry.tell_once(folder, f"{shipped_runs.PREFIX}{run.name} is not used: {why}.")
        return
    made = f"{shipped_runs.PREFIX}{run.name} was trained"
    shipped_registry.report_other_pairs(made, "trains anew", description["pairs"], store)
    _copy(run, description, folder)


def is_copy(folder: Path) -> bool:
    """Return whether the folder of a run holds a copy of one that ships, which :func:`provide` has put there."""
    return bool(checkpoints.shipped_name(folder))


def copies(runs: Path) -> list[Path]:
    """Return the networks below a folder ``DATASET-PRESET`` that are copies of networks that ship."""
    return [file for file in sorted(runs.glob(f"*/*/{checkpoints.MODEL}")) if is_copy(file.parent)]


def _copy(run: ShippedRun, description: Mapping, folder: Path) -> None:
    text = json.dumps({**description, "shipped": run.name}, indent=1)
    contents = {name: run.read(name) for name in run.files}  # checks all before the first is written
    writing.write_text(folder / checkpoints.DESCRIPTION, text)
    writing.write_text(folder / checkpoints.LOG, gzip.decompress(contents[shipped_runs.LOG]).decode())
    for name in (checkpoints.DISCRIMINATOR, checkpoints.MODEL):  # once the model is there, the run is finished
        if name in run.files:
            tensors, metadata = network_files.load_tensors(run.folder / name)
            network_files.save_tensors(expand(tensors), folder / name, metadata)
