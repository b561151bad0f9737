"""Report a finished training: its curves, patches before and after, and its scores on held-out photographs."""

import math
from collections.abc import Mapping

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from dped_lib import losses, metrics, paper
from dped_lib.base import datasets, presets
from dped_lib.data import batches
from dped_lib.data.pair_store import PairStore
from dped_lib.enhance import evaluation
from dped_lib.experiments.training_runs import TrainResult
from dped_lib.report import figures, labels, provenance, training_drawings

#: Number of held-out patches that are drawn.
PATCHES_SHOWN = 6


def facts_of(result: TrainResult) -> dict[str, str]:
    """Return the parameters that every figure and table on a training states (``provenance.of_run``)."""
    params = result.params
    named = {"phone": params.phone, "loss": params.loss, "variant": params.variant}
    return {"vgg": result.vgg_label, **named, "network": result.origin, "iterations": params.length}


def curves(result: TrainResult) -> tuple[Figure, dict]:
    """Draw the log of a training. Return the figure, and the log with the weights of its terms."""
    params, log = result.params, result.log()
    weights = losses.weights_of(params.variant)
    numbers = {"log": log, "weights": {term: weights[term] for term in losses.LOSSES[params.loss].terms}}
    return training_drawings.training_curves(log, params.loss), numbers


def validation_pairs(result: TrainResult, store: PairStore) -> str:
    """Return the number of pairs over which a validation score is averaged, in words for a caption."""
    return f"{len(store.sample('val', result.params.eval_pairs))} validation pairs"


def samples(result: TrainResult, store: PairStore) -> tuple[Figure, dict]:
    """Draw held-out patches: as the phone took them, enhanced, and as the DSLR took them.

    Return the figure and the patches' names.
    """
    chosen = store.sample("test", PATCHES_SHOWN)
    enhanced, _ = evaluation.enhance_pairs(result.model, store, chosen, torch.device("cpu"))
    pictures = batches.pictures(enhanced)
    phone = result.params.phone
    rows = {phone: store.phone[chosen], "enhanced": pictures, "dslr": store.dslr[chosen]}
    names = {camera: datasets.camera_name(result.params.dataset, camera) for camera in (phone, "dslr")}
    fig = training_drawings.patch_rows(rows, names, result.params.loss)
    return fig, {"patches": [store.names[i] for i in chosen]}


def score_table(result: TrainResult, store: PairStore, preset: str) -> tuple[pd.DataFrame, dict, str]:
    """Return the scores of the test photographs, original and enhanced, under every protocol.

    Returns:
        a table for a reader; its numbers, unrounded; and notes with the number of pairs and the published value.
    """
    params = result.params
    index = store.sample("test", presets.preset(preset).table_pairs)
    by_image = {
        name: metrics.score_all(evaluation.evaluate(model, store, index))
        for name, model in (("original", nn.Identity()), ("enhanced", result.model))
    }
    rows = [
        {"protocol": protocol, "image": name, **_rounded(of_protocols[protocol])}
        for protocol in metrics.PROTOCOLS
        for name, of_protocols in by_image.items()
    ]
    published = paper.TABLE3.get(params.phone, {}).get(params.loss)
    trained = f"{result.origin}, preset {preset}, {params.length}, seed {params.seed}"
    notes = f"{len(index)} test pairs of dataset {params.dataset}; enhanced: {trained}."
    if published:
        notes += (
            " Published (Table 3, PSNR/SSIM on the paper's validation pairs, full training on the full dataset): "
            f"{published.psnr} / {published.ssim}."
        )
    numbers = {
        "test": by_image,
        "pairs": len(index),
        "published_table3": published,
    }
    return pd.DataFrame(rows), numbers, notes


def _rounded(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics of a row with two digits for dB and four for others; NaN where a protocol does not define one."""
    return {
        str(label): math.nan if values[metric] is None else round(values[metric], 2 if label.unit else 4)
        for metric, label in labels.METRIC_LABELS.items()
    }


def save(result: TrainResult, store: PairStore, preset: str) -> None:
    """Save the three results of a training, as 03_training does for the training that it teaches with."""
    params = result.params
    made = provenance.of_run(params.dataset, preset, params.seed, **facts_of(result))
    fig, numbers = curves(result)
    validated = {**made, "n": validation_pairs(result, store)}
    figures.save_figure(fig, f"training_curves-{params.run_name}", validated, numbers)
    fig, numbers = samples(result, store)
    shown = {**made, "n": f"{len(numbers['patches'])} test patches"}
    figures.save_figure(fig, f"training_samples-{params.run_name}", shown, numbers)
    frame, numbers, notes = score_table(result, store, preset)
    made = {**made, "n": f"{numbers['pairs']} test pairs"}
    figures.save_table(frame, f"training_scores-{params.run_name}", made, title(result), numbers, notes)


def title(result: TrainResult) -> str:
    """Return the title of the table of scores."""
    params = result.params
    camera = datasets.camera_name(params.dataset, params.phone)
    return f"{camera}, {labels.method_name(params.loss)}, {params.variant}"
