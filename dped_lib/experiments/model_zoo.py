"""Describe the networks that ship with the package: what each was trained on, for how long, and how well it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from torch import nn

from dped_lib import metrics, paper
from dped_lib.base import datasets, presets, run_parameters
from dped_lib.data import shipped_runs, shipping
from dped_lib.data.pair_store import PairStore
from dped_lib.enhance import evaluation
from dped_lib.experiments.scores import DIGITS, PROTOCOL, TABLE_METRICS
from dped_lib.report import figures

#: The split whose pairs the networks are scored on. No choice in a training depends on it.
SPLIT = "test"
TITLE = "Networks that ship with the package"
#: The row of the photographs that no network has enhanced.
ORIGINAL = "original photographs"
#: The dataset of simulated photographs.
SIMULATED = "rig"


def score_network(model: nn.Module, params: run_parameters.TrainParams, store: PairStore, preset: str) -> dict:
    """Return the scores of a network, and of the original phone patches, on held-out pairs of its dataset.

    Args:
        model: the network as it ships (``shipping.expand(shipping.compact(...))``).
        params, preset: its training.
        store: the pairs of its dataset and phone, in the fold of its seed.

    Returns:
        ``psnr`` (dB) and ``ms_ssim`` under ``protocol``, the same of ``original``, ``split``, numbers of ``pairs`` and
        ``photographs``, and the digest of the store (``store``).
    """
    index = store.fold(params.seed).sample(SPLIT, presets.preset(preset).table_pairs)
    by_network = {}
    for name, network in (("network", model), ("original", nn.Identity())):
        scores = metrics.score(evaluation.evaluate(network, store, index), PROTOCOL)
        by_network[name] = {metric: scores[metric] for metric in TABLE_METRICS}
    return {
        "protocol": PROTOCOL,
        "split": SPLIT,
        "pairs": len(index),
        "photographs": len(set(store.photographs[index].tolist())),
        "store": store.digest,
        **by_network["network"],
        "original": by_network["original"],
    }


def _in_words(scores: Mapping) -> tuple[str, str]:
    psnr, ms_ssim = (f"{scores[metric]:.{DIGITS[metric]}f}" for metric in TABLE_METRICS)
    return psnr, ms_ssim


@dataclass(frozen=True)
class Network:
    """Describe a network that ships, in the words of its page.

    Attributes:
        weights: its name for ``--weights``, as code.
        scores: its PSNR in dB and its MS-SSIM.
        original: both of the original photographs.
        iterations: its length and batch size.
        size: of its file, in MB.
        trained_on: dataset, phone and number of photographs.
        held_out: numbers of pairs and photographs that it is scored on.
        licence: of the network and of the photographs that it was trained on.
        below_original: whether both scores are below those of the original photographs.
        for_photographs: whether it has the full loss and was trained on real photographs.
    """

    weights: str
    scores: tuple[str, str]
    original: tuple[str, str]
    iterations: str
    size: str
    trained_on: str
    held_out: tuple[int, int]
    licence: str
    below_original: bool
    for_photographs: bool


def networks() -> list[Network]:
    """Return the networks that ship, from the files that ship."""
    return [_network(run) for run in shipped_runs.runs().values()]


def _network(run: shipped_runs.ShippedRun) -> Network:
    params, scores = run.params(), shipped_runs.scores(run)
    camera = datasets.camera_name(params.dataset, params.phone)
    return Network(
        weights=f"`{shipped_runs.PREFIX}{run.name}`",
        scores=_in_words(scores),
        original=_in_words(scores["original"]),
        iterations=params.length,
        size=f"{(run.folder / shipped_runs.MODEL).stat().st_size / 1e6:.2f}",
        trained_on=f"{params.dataset}, {camera}, {len(run.description()['photographs']['train'])} photographs",
        held_out=(scores["pairs"], scores["photographs"]),
        licence=shipping.LICENCES[params.dataset],
        below_original=all(scores[m] < scores["original"][m] for m in TABLE_METRICS),
        for_photographs=params.loss == paper.FULL_LOSS and params.dataset != SIMULATED,
    )


def table(group: Sequence[Network]) -> str:
    """Return a Markdown table of networks that were trained and scored on the same photographs."""
    rows = [(ORIGINAL, *group[0].original, "", ""), *((n.weights, *n.scores, n.iterations, n.size) for n in group)]
    columns = ["weights", "PSNR (dB)", "MS-SSIM", "iterations", "size (MB)"]
    return figures.to_markdown(pd.DataFrame(rows, columns=columns))


def markdown() -> str:
    """Return the tables of the networks that ship as Markdown, with what their numbers mean."""
    listed = networks()
    if not listed:
        return f"# {TITLE}\n\nNone in this version.\n"
    chosen = " or ".join(n.weights for n in listed if n.for_photographs)
    choice = (
        f"To enhance photographs, take {chosen}. It has the full loss (`{paper.FULL_LOSS}`) and was trained on real photographs. "
        if chosen
        else ""
    )
    trained = {run.params().dataset for run in shipped_runs.runs().values()}
    licences = [f"networks of `{name}` {licence}" for name, licence in shipping.LICENCES.items() if name in trained]
    opening = (
        f"{choice}The other networks are for the tables and figures. A name ends with the loss, unless it is the full one, and with "
        f"the seed, unless it is 0. Licences: {', '.join(licences)}."
    )
    groups: dict[tuple, list[Network]] = {}
    for network in listed:
        groups.setdefault((network.trained_on, network.original, network.held_out), []).append(network)
    sections = [
        f"## {trained_on}\n\nScored on {pairs} pairs of {photographs} photographs.\n\n{table(group)}"
        for (trained_on, _, (pairs, photographs)), group in groups.items()
    ]
    lower = [n.weights for n in listed if n.below_original]
    below = "These score below the original photographs in both PSNR and MS-SSIM"
    warning = f"{below}: {', '.join(lower)}. " if lower else ""
    notes = (
        f"Scores follow protocol `{PROTOCOL}` on the {SPLIT} pairs of the same dataset: photographs that the network has "
        "not seen. *Original photographs* are the phone's patches of these pairs, before a network enhances them. "
        f"{warning}"
        "Table 3 scores the same networks on the validation pairs, so its numbers differ. Pairs of `rig` are simulated. City100 shows "
        "printed pictures in a laboratory; photographs of other scenes and phones were not scored. The paper trains "
        f"{paper.ITERATIONS} iterations of batch {paper.BATCH_SIZE} on other photographs, so its published scores do not "
        "compare with these. `make ship` computes the scores when it adds a network, and writes this page.\n\n"
        "How to reproduce a row: `.venv/bin/dped evaluate --dataset DATASET --phone PHONE --weights shipped:NAME`, for instance "
        "`.venv/bin/dped evaluate --dataset city100 --phone iphonex --weights shipped:city100-iphonex`. "
        "How to use a network: `.venv/bin/dped enhance IN OUT --weights shipped:NAME`."
    )
    return "\n\n".join([f"# {TITLE}", opening, *sections, "## What the scores mean", notes]) + "\n"
