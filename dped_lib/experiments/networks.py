"""Return networks: those trained here for a (dataset, phone, loss, seed), and those that the authors published."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import nn

from dped_lib import paper
from dped_lib.base import run_parameters, validation
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints, opening, shipped_runs
from dped_lib.experiments import training_runs
from dped_lib.report import labels

#: Datasets whose pictures show no network of the authors, and those whose Table 2 scores none.
NO_AUTHORS_IN_PICTURES, NO_AUTHORS_IN_TABLE2 = ("rig", "city100"), ("rig",)

#: Trained networks by phone, loss and seed.
Trained = Mapping[tuple[str, str, int], training_runs.TrainResult]


def trained(dataset: str, preset: str, phone: str, loss: str, seed: int = 0, **overrides) -> training_runs.TrainResult:
    """Return the network of one (dataset, phone, loss, seed) at a preset: load, resume or train it, as needed.

    A network that ships with the package is loaded, unless ``DPED_FRESH`` is set (``--fresh``).

    ``overrides`` replace training parameters, for example ``vgg="mat"``.
    """
    params = run_parameters.train_params(dataset, phone, loss, preset, seed=seed, **overrides)
    store = opening.open_or_make(dataset, phone, preset, seed=seed)
    return training_runs.train(params, store, training_runs.run_folder(params, preset))


def origins(results: Iterable[training_runs.TrainResult], others: Iterable[str] = ()) -> str:
    """Return whose networks these are, for a caption: ``trained here``, ``shipped:NAME``, or how many are of each kind.

    Networks of the package are named if there are at most three. Otherwise the first is named, and the others are
    counted. ``others`` are the names of other networks that the figure shows beside these, such as ``authors' weights``.
    """
    results = list(results)
    shipped = [r for r in results if r.origin.startswith(shipped_runs.PREFIX)]
    if not shipped:
        words = shipped_runs.HERE
    elif len(shipped) <= 3:
        words = ", ".join(r.origin for r in shipped)
    else:
        words = f"{shipped[0].origin} and {len(shipped) - 1} more of the package"
    if shipped and len(shipped) < len(results):
        words += f", {len(results) - len(shipped)} {shipped_runs.HERE}"
    return words + "".join(f", or {name} where named" for name in dict.fromkeys(others))


def length(results: Iterable[training_runs.TrainResult]) -> str:
    """Return how long networks were trained, for a caption: ``2000 of batch 8 (Dong et al.: 10000)``.

    The length that most losses have comes first. ``evidence.too_short`` reads it. The others have its batch size, or
    state their own.
    """
    by_loss = {result.params.loss: result.params.length for result in results}
    usual = Counter(by_loss.values()).most_common(1)[0][0]
    _, batch = usual.split(" of batch ")
    others = [
        f"{labels.method_name(loss)}: {text.removesuffix(f' of batch {batch}')}"
        for loss, text in by_loss.items()
        if text != usual
    ]
    return usual + (f" ({', '.join(others)})" if others else "")


def of_seeds(networks: Trained, phone: str, loss: str) -> dict[int, nn.Module]:
    """Return the networks of a phone and a loss by seed."""
    return {seed: r.model for (p, name, seed), r in networks.items() if (p, name) == (phone, loss)}


def receptive_field(network: nn.Module) -> int:
    """Return the side (px) of a network's receptive field: of the square that its convolutions see.

    This holds for convolutions that follow each other, as in ``models.GENERATORS``. The means of
    instance norm, which depend on the whole picture, are left out.
    """
    side, step = 1, 1
    for conv in (layer for layer in network.modules() if isinstance(layer, nn.Conv2d)):
        side += (conv.kernel_size[0] - 1) * step
        step *= conv.stride[0]
    return side


def authors_network(name: str) -> nn.Module | str:
    """Return the authors' network ``authors:NAME``, or the reason why it is not available: few words, a colon, details."""
    try:
        return authors_checkpoints.load_network(name)
    except DpedError as error:
        return f"the authors' weights are not here: {error}"


def authors_network_for(phone: str) -> nn.Module | str:
    """Return the authors' network for a phone, or the reason why it is not available.

    A phone that the authors did not use gets their network of the iPhone 3GS. It was trained for another camera, and
    every table says so.
    """
    return authors_network(phone if phone in paper.PHONES else "iphone")


def authors_beside_ours(dataset: str, phone: str, method: str = "ours", in_table2: bool = False) -> nn.Module | str:
    """Return the authors' network that stands beside ours on a dataset, or the reason why there is none.

    ``rig`` and ``city100`` hold no photographs of the authors' phones. Their pictures show no network of the authors,
    because a run must draw the same whether or not the authors' weights can be fetched. Table 2 scores them on
    ``city100``, whose photographs are real.

    Args:
        dataset, phone: the photographs that the networks enhance.
        method: ``ours`` for the authors' own network (:func:`authors_network_for`), ``dong`` for their SRCNN, which they
            trained on the iPhone's pairs only.
        in_table2: whether the network is one for Table 2.
    """
    if dataset in NO_AUTHORS_IN_TABLE2:
        return "made for real photographs, and these are simulated"
    if dataset in NO_AUTHORS_IN_PICTURES and not in_table2:
        return "not shown: pictures of other phones do not depend on the authors' weights"
    if method == "ours":
        return authors_network_for(phone)
    return authors_network("srcnn") if phone == "iphone" else "the authors published it for the iPhone only"


def authors_words(phones: Iterable[str]) -> str:
    """Return whose networks :func:`authors_network_for` gives for these phones, for a caption."""
    if all(phone in paper.PHONES for phone in phones):
        return "the authors' network for this phone"
    return "the authors' network for the iPhone 3GS, another phone"


def enhancing_network(network: str, dataset: str, preset: str, phone: str, seed: int = 0, **overrides) -> nn.Module:
    """Return the network that enhances the photographs of a phone.

    Args:
        network: ``trained`` (here, with the paper's loss) or ``authors``.
        dataset, preset, phone, seed: the training.
        overrides: training parameters to replace.

    Raises:
        DpedError: ``network`` is neither, or the authors' weights are not available.
    """
    if validation.one_of("network", network, run_parameters.NETWORKS) == "trained":
        return trained(dataset, preset, phone, paper.FULL_LOSS, seed, **overrides).model
    theirs = authors_network_for(phone)
    if isinstance(theirs, str):
        raise DpedError(theirs)
    return theirs


def enhancers_in_words(
    network: str, dataset: str, preset: str, phones: Iterable[str], seed: int = 0, **overrides
) -> dict[str, str]:
    """Return whose networks :func:`enhancing_network` returns for the phones, and their length, for captions."""
    if network != "trained":
        return {"network": authors_words(phones)}
    results = [trained(dataset, preset, phone, paper.FULL_LOSS, seed, **overrides) for phone in phones]
    return {"network": origins(results), "iterations": length(results)}
