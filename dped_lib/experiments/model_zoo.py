"""Describe the networks that ship with the package: what each was trained on, for how long, and how well it does."""

from collections.abc import Mapping

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
#: The column that counts what a network is scored on.
HELD_OUT = "held-out pairs / photographs"


def score(model: nn.Module, params: run_parameters.TrainParams, store: PairStore, preset: str) -> dict:
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


def _in_words(scores: Mapping) -> str:
    return " / ".join(f"{scores[metric]:.{DIGITS[metric]}f}" for metric in TABLE_METRICS)


def frame() -> pd.DataFrame:
    """Return a row for each network that ships, from the files that ship."""
    rows = []
    for run in shipped_runs.runs().values():
        params, scores = run.params(), shipped_runs.scores(run)
        camera = datasets.camera_name(params.dataset, params.phone)
        photographs = len(run.description()["photographs"]["train"])
        seed = f", seed {params.seed}" if params.seed else ""
        rows.append(
            {
                "weights": f"`{shipped_runs.PREFIX}{run.name}`",
                "loss": params.loss,
                "trained on": f"{params.dataset}, {camera}, {photographs} photographs{seed}",
                "iterations": params.length,
                "PSNR (dB) / MS-SSIM": _in_words(scores),
                "original": _in_words(scores["original"]),
                HELD_OUT: f"{scores['pairs']} / {scores['photographs']}",
                "size (MB)": f"{(run.folder / shipped_runs.MODEL).stat().st_size / 1e6:.2f}",
            }
        )
    return pd.DataFrame(rows)


def below_original() -> list[str]:
    """Return the networks that ship whose PSNR and MS-SSIM are both below those of the original photographs."""
    scored = {name: shipped_runs.scores(run) for name, run in shipped_runs.runs().items()}
    return [name for name, scores in scored.items() if all(scores[m] < scores["original"][m] for m in TABLE_METRICS)]


def markdown() -> str:
    """Return the table of the networks that ship as Markdown, with what its numbers mean."""
    if not shipped_runs.runs():
        return f"# {TITLE}\n\nNone in this version.\n"
    lower = [f"`{shipped_runs.PREFIX}{name}`" for name in below_original()]
    warning = f"These score below the original in both: {', '.join(lower)}. " if lower else ""
    licences = {run.params().dataset: shipping.LICENCES[run.params().dataset] for run in shipped_runs.runs().values()}
    choice = (
        "To enhance photographs, take a network with the full loss (`color+content+texture`) that was trained on real "
        "photographs. The other networks are for the tables and figures. Where no seed is named, it is 0. Licences: "
        f"{', '.join(f'networks of `{dataset}` {licence}' for dataset, licence in licences.items())}."
    )
    notes = (
        f"Scores follow protocol `{PROTOCOL}` on the {SPLIT} pairs of the same dataset: photographs that the network has "
        "not seen. `original` is the phone's own picture on the same pairs. "
        f"{warning}"
        "Table 3 scores the same networks on the validation pairs, so its numbers differ. Pairs of `rig` are simulated. City100 shows "
        "printed pictures in a laboratory; photographs of other scenes and phones were not scored. The paper trains "
        f"{paper.ITERATIONS} iterations of batch {paper.BATCH_SIZE} on other photographs, so its published scores do not "
        "compare with these. `make ship` computes the scores when it adds a network, and writes this page.\n\n"
        "How to reproduce a row: `.venv/bin/dped evaluate --dataset DATASET --phone PHONE --weights shipped:NAME`, for instance "
        "`.venv/bin/dped evaluate --dataset city100 --phone iphonex --weights shipped:city100-iphonex`. "
        "How to use a network: `.venv/bin/dped enhance IN OUT --weights shipped:NAME`."
    )
    return f"# {TITLE}\n\n{choice}\n\n{figures.to_markdown(frame())}\n\n{notes}\n"
