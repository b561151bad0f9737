"""Load and save networks by name or file: the authors', those that ship, those trained here, and the identity."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dped_lib import models
from dped_lib.base import writing
from dped_lib.base.errors import DpedError, first_few
from dped_lib.data import authors_checkpoints, shipped_runs


def save_tensors(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, atomically. ``metadata`` describes them."""
    with writing.atomic_path(target) as part:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=dict(metadata))


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a safetensors file.

    Raises:
        DpedError: the file is missing, damaged, or of another kind.
    """
    try:
        with safe_open(file, "pt") as f:
            names = list(f.keys())
            return {k: f.get_tensor(k) for k in names}, f.metadata() or {}
    except FileNotFoundError:
        raise DpedError(f"{file}: not found.") from None
    except (SafetensorError, OSError) as error:
        raise DpedError(
            f"{file}: damaged, or not a safetensors file ({error}). If this project wrote it: delete it and make it again."
        ) from error


def load_model(file: Path) -> nn.Module:
    """Load a network that ``training_runs.train`` or ``dped fetch --safetensors`` wrote, in evaluation mode on the CPU.

    Raises:
        DpedError: the file is missing, damaged, or not a network of this project.
    """
    state, metadata = load_tensors(file)
    if "model" not in metadata:
        raise DpedError(
            f"{file}: does not say which network it holds (metadata 'model'); it was not written by this project. "
            "Name a file of dped train or dped fetch."
        )
    try:
        model = models.generator(metadata["model"], metadata.get("variant", "code"), metadata.get("norm", ""))
        model.load_state_dict(state)
    except (DpedError, RuntimeError) as error:
        raise DpedError(f"{file}: not the weights of network {metadata['model']!r}: {error}") from error
    return model.eval()


def resolve(spec: str) -> nn.Module:
    """Return the network that a user names.

    Args:
        spec: ``authors:NAME`` (``authors_checkpoints.AUTHORS_NETWORKS``), ``shipped:NAME`` (``shipped_runs.runs``), ``identity``,
            or the path of a safetensors file.

    Raises:
        DpedError: ``spec`` is none of these, or its files cannot be fetched or read.
    """
    if spec == "identity":
        return nn.Identity()
    if spec.startswith("authors:"):
        return _authors(spec.removeprefix("authors:"))
    file = _file_of(spec)
    if not file.is_file():
        names = ", ".join((*(f"authors:{n}" for n in authors_checkpoints.AUTHORS_NETWORKS), *shipped_names()))
        raise DpedError(f"weights {spec!r}: no such file, and not one of {names}, identity.")
    return load_model(file)


def shipped_names() -> tuple[str, ...]:
    """Return the names of the networks that ship with the package, as ``--weights`` takes them."""
    return tuple(shipped_runs.PREFIX + name for name in shipped_runs.runs())


def _file_of(spec: str) -> Path:
    """Return the file of a shipped network, after checking its sha256, or the file that the user names."""
    if spec.startswith(shipped_runs.PREFIX):
        return shipped_runs.named(spec.removeprefix(shipped_runs.PREFIX)).checked(shipped_runs.MODEL)
    return Path(os.path.expanduser(spec))  # unlike Path's, this leaves the name of an unknown user as it is


def _authors(name: str) -> nn.Module:
    """Return one of the authors' networks. If it cannot be fetched, the error names the networks that need no fetching."""
    try:
        return authors_checkpoints.load_network(name)
    except DpedError as error:
        if name in authors_checkpoints.AUTHORS_NETWORKS and (names := shipped_names()):
            raise DpedError(
                f"{error} Networks that come with this package work offline: --weights {first_few(names, 6)}"
            ) from error
        raise


def describe(spec: str, model: nn.Module) -> dict[str, object]:
    """Return what a result must state about its network: how it was trained, its VGG features, and its fingerprint.

    ``model`` is the network that :func:`resolve` returns for ``spec``.

    Raises:
        DpedError: the file does not describe its training as this project does.
    """
    facts: dict[str, object] = {"network": spec, "fingerprint": fingerprint(model)}
    if spec.startswith("authors:"):
        return facts | authors_checkpoints.metadata_of(spec.removeprefix("authors:"))
    if spec != "identity":
        _, metadata = load_tensors(_file_of(spec))
        facts |= {k: metadata[k] for k in ("model", "variant", "vgg", "origin", "sha256") if k in metadata}
        facts |= {"params": _params_in(metadata, spec)} if "params" in metadata else {}
    return facts


def _params_in(metadata: Mapping[str, str], spec: str) -> dict:
    """Return the parameters of its training that a network's file states."""
    try:
        params = json.loads(metadata["params"])
        if params["seed"] < 0:
            raise ValueError(f"seed {params['seed']}")
        return dict(params)
    except (ValueError, KeyError, TypeError) as error:
        raise DpedError(
            f"{spec}: the metadata 'params' is not that of a training ({error!r}). Train or export the network again."
        ) from error


def save_authors(name: str, target: Path) -> bool:
    """Write one of the authors' networks as safetensors, with its origin in the metadata. A file that holds it is kept.

    Return whether the file was written.

    Raises:
        DpedError: another file is there.
    """
    origin = authors_checkpoints.metadata_of(name)
    if target.exists():
        if _metadata(target) == origin:
            return False
        raise DpedError(f"{target}: is there and holds something else. It is kept; name another folder.")
    save_tensors(authors_checkpoints.load_network(name).state_dict(), target, origin)
    return True


def _metadata(file: Path) -> dict[str, str] | None:
    try:
        return load_tensors(file)[1]
    except DpedError:
        return None


def fingerprint(model: nn.Module) -> str:
    """Return a short hash of all weights. Equal networks have equal fingerprints."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
