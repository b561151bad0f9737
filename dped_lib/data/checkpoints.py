"""Write and read the folder of a training run: its description, its checkpoint, the finished networks.

    params.json               the parameters (``TrainParams``), their digest, that of the pairs, and which VGG features were used
    log.jsonl                 a line for each iteration and for each evaluation (``training_log``)
    checkpoint.safetensors    networks, optimisers and iteration, while the run is not finished
    model.safetensors         the finished network
    discriminator.safetensors the discriminator, if the loss has a texture term (shown by ``explorers.loss_terms``)

The description of a run that was shipped with the package (``shipping``) also has its name and its photographs.

Every file is replaced atomically. The batches are a function of (seed, iteration), and nothing else in the loop is
random. A run that is killed at any moment therefore resumes to bit-identical weights (on the CPU, with the same number
of threads).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dped_lib.base import writing
from dped_lib.base.errors import DpedError, first_few
from dped_lib.base.run_parameters import TrainParams
from dped_lib.base.validation import build_dataclass
from dped_lib.data import network_files, splits
from dped_lib.data.pair_store import PairStore
from dped_lib.data.shipped_runs import DESCRIPTION, DISCRIMINATOR, MODEL
from dped_lib.data.training_log import diverged

LOG, CHECKPOINT = "log.jsonl", "checkpoint.safetensors"


class State(Protocol):
    """Name what is saved of a ``training.Trainer``: everything that the next step depends on."""

    params: TrainParams
    store: PairStore
    iteration: int
    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]


# ---------------------------------------------------------------------------------------------- description


def vgg_label_of(folder: Path, params: TrainParams, store: PairStore) -> str | None:
    """Return the VGG label of the run in a folder, or None if there is no run yet.

    Raises:
        DpedError: the description is damaged or was removed from a finished run, or the run has other parameters or pairs.
    """
    if not (folder / DESCRIPTION).is_file():
        if (folder / MODEL).is_file():
            raise DpedError(
                f"{folder / MODEL}: a finished network, but its {DESCRIPTION} is missing. Restore that file, or move the folder "
                "away to train again."
            )
        return None
    known = description(folder)
    if known is None or not {"params", "digest", "vgg_label"} <= known.keys() or not isinstance(known["params"], dict):
        raise _damaged(folder)
    stored, digest, label = (known[key] for key in ("params", "digest", "vgg_label"))
    if digest != params.digest():
        asked = dataclasses.asdict(params)
        differing = (f"{k}: {stored.get(k)!r} there, {v!r} asked" for k, v in asked.items() if stored.get(k) != v)
        raise DpedError(
            f"{folder}: holds a run with other parameters ({', '.join(differing)}). "
            "Delete that folder, or ask for those parameters."
        )
    _check_pairs(known, store, folder, folder)
    return label


def _check_pairs(known: Mapping, store: PairStore, holder: Path, folder: Path) -> None:
    """Raise DpedError if ``known``, of the file or folder ``holder``, names other pairs than those of ``store``."""
    if "shipped" in known:
        if why := unfit(known, store):
            raise DpedError(
                f"{holder}: holds a copy of a network that ships with the package, and {why}. Delete {folder}."
            )
        return
    # Runs of earlier versions do not name their pairs.
    if known.get("pairs", store.digest) != store.digest:
        raise DpedError(
            f"{holder}: holds a run on other pairs (digest {known['pairs']} there, {store.digest} in {store.folder}). "
            f"Move {folder} away or delete it to train on these, or name the dataset of that run again."
        )


def photographs_by_split(store: PairStore) -> dict[str, list[str]]:
    """Return the photographs of each split of a store, sorted."""
    return {split: sorted(set(store.photographs[store.index(split)].tolist())) for split in splits.SPLITS}


def unfit(description: Mapping, store: PairStore) -> str:
    """Return why a network that ships must not be used as one trained on a store; empty if it may.

    Its pairs may have slightly other pixels (``shipped_registry.report_other_pairs`` says why), but they must be of the
    same source, and no photograph that the network has seen may be held out.
    """
    origin = store.meta.get("origin", "")
    if description["origin"] != origin:
        return f"it was trained on {description['origin']!r}, and the pairs in {store.folder} are of {origin!r}"
    seen, now = set(description["photographs"]["train"]), photographs_by_split(store)
    if not seen & set(now["train"]):
        return f"it was trained on other photographs than those in {store.folder}"
    if leaked := sorted(seen & {*now["val"], *now["test"]}):
        return f"it was trained on photographs that are held out in {store.folder} ({first_few(leaked)})"
    return ""


def shipped_name(folder: Path) -> str:
    """Return the name of the shipped run that a folder holds a copy of; empty if the run was trained here."""
    return (description(folder) or {}).get("shipped", "")


def description(folder: Path) -> dict | None:
    """Return the description of a run, empty if there is none, or None if it is damaged."""
    try:
        known = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def params_of(folder: Path) -> TrainParams:
    """Return the parameters of the run in a folder.

    Raises:
        DpedError: the folder holds no run, or its description is damaged.
    """
    file = folder / DESCRIPTION
    known = description(folder)
    if not file.is_file():
        raise DpedError(f"{file}: missing, so this is no training run. Train one: dped train.")
    if known is None or not isinstance(known.get("params"), dict):
        raise _damaged(folder)
    try:
        return build_dataclass(TrainParams, known["params"])
    except DpedError as error:
        raise DpedError(f"{file}: of another version ({error}) Delete {folder} and train again.") from error


def _damaged(folder: Path) -> DpedError:
    return DpedError(f"{folder / DESCRIPTION}: damaged (no description of a run). Delete {folder} and train again.")


def write_description(folder: Path, params: TrainParams, store: PairStore, vgg_label: str) -> None:
    """Write the description of a run, and delete the half-written files of a killed run (each may be a whole checkpoint)."""
    writing.clear_killed(*(folder / name for name in (DESCRIPTION, LOG, CHECKPOINT, DISCRIMINATOR, MODEL)))
    content = {"params": dataclasses.asdict(params), "digest": params.digest(), "pairs": store.digest}
    content["vgg_label"] = vgg_label
    writing.write_text(folder / DESCRIPTION, json.dumps(content, indent=1))


# ---------------------------------------------------------------------------------------------- state


def check_weights(state: State, folder: Path) -> None:
    """Raise TrainingDiverged if the last step broke a weight. The loss would show that only in the next step."""
    for name, network in state.networks.items():
        for key, value in network.state_dict().items():
            if not value.isfinite().all():
                raise diverged(folder, f"the {name}'s {key} has values that are not finite", state.iteration)


def save(state: State, file: Path) -> None:
    """Write everything that the next step depends on, atomically.

    Raises:
        TrainingDiverged: a weight is not finite; nothing is written.
    """
    check_weights(state, file.parent)
    tensors: dict[str, Tensor] = {}
    for name, network in state.networks.items():
        tensors |= {f"{name}/{k}": v for k, v in network.state_dict().items()}
        for j, moments in state.optimizers[name].state_dict()["state"].items():
            tensors |= {f"{name}.adam/{j}/{k}": v for k, v in moments.items()}
    about = {"iteration": str(state.iteration), "digest": state.params.digest(), "pairs": state.store.digest}
    network_files.save_tensors(tensors, file, about)


def restore(state: State, file: Path) -> None:
    """Restore the state that :func:`save` wrote.

    Raises:
        DpedError: the file is damaged, or belongs to a run with other parameters or pairs, or to another version of a network.
    """
    tensors, metadata = network_files.load_tensors(file)
    if metadata.get("digest") != state.params.digest():
        raise DpedError(
            f"{file}: checkpoint of a run with other parameters. Delete {file.parent} or choose another seed."
        )
    _check_pairs(metadata, state.store, file, file.parent)
    iteration = metadata.get("iteration", "")
    if not iteration.isdecimal() or int(iteration) > state.params.iterations:
        raise DpedError(
            f"{file}: damaged (iteration {iteration!r} of {state.params.iterations}). Delete {file.parent} and train again."
        )
    for name, network in state.networks.items():
        try:
            network.load_state_dict(_under(tensors, f"{name}/"))
        except RuntimeError as error:
            raise DpedError(
                f"{file}: checkpoint of another version of the {name}: {error}. Delete {file.parent} and train again."
            ) from error
        moments: dict[int, dict[str, Tensor]] = {}
        for j, weight in enumerate(network.parameters()):
            # Moments get the memory layout of their weight, as Adam gives them: another order may round otherwise.
            moments[j] = {
                k: torch.empty_like(weight).copy_(v) if v.shape == weight.shape else v
                for k, v in _under(tensors, f"{name}.adam/{j}/").items()
            }
        optimizer = state.optimizers[name]
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    state.iteration = int(iteration)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


# ---------------------------------------------------------------------------------------------- the end


def finish(state: State, folder: Path, model_name: str, vgg_label: str) -> None:
    """Write the finished networks and delete the checkpoint.

    Raises:
        TrainingDiverged: a weight is not finite; nothing is written.
    """
    check_weights(state, folder)
    if "discriminator" in state.networks:  # it comes first: once the model is there, the run is finished
        network_files.save_tensors(state.networks["discriminator"].state_dict(), folder / DISCRIMINATOR, {})
    params = state.params
    metadata = {"model": model_name, "variant": params.variant, "norm": params.norm, "vgg": vgg_label}
    metadata |= {"params": json.dumps(dataclasses.asdict(params))}
    network_files.save_tensors(state.networks["generator"].state_dict(), folder / MODEL, metadata)
    (folder / CHECKPOINT).unlink(missing_ok=True)
