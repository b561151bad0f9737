"""Define the commands that make and measure a network: ``train``, ``evaluate`` and ``export``."""

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dped_lib import paper
from dped_lib.app.options import (
    Dataset,
    Device,
    Fresh,
    Json,
    OnBad,
    Phone,
    PresetName,
    SetOptions,
    from_here,
    phone_or_first,
    report_skips,
    train_anew,
    typed_settings,
)
from dped_lib.base import presets, run_parameters, validation
from dped_lib.base.errors import DpedError


class SplitChoice(StrEnum):
    """Name the splits that ``dped evaluate`` accepts."""

    auto = "auto"
    all = "all"
    train = "train"
    val = "val"
    test = "test"


def train(
    dataset: Dataset = "rig",
    phone: Phone = "",
    loss: Annotated[
        str, typer.Option(help=f"The loss: {', '.join([*paper.TABLE3['iphone'], 'johnson', 'dong'])}.")
    ] = paper.FULL_LOSS,
    preset: PresetName = presets.DEFAULT,
    seed: Annotated[
        int, typer.Option(help="Seed of the first weights and the batches; on pirm also of the split.")
    ] = 0,
    settings: SetOptions = [],  # noqa: B006 (typer reads the default, and no code changes it)
    device: Device = "auto",
    on_bad: OnBad = "error",
    fresh: Fresh = False,
) -> None:
    """Train one network. The same command resumes an interrupted training, and loads a finished run or one that ships."""
    from dped_lib import losses
    from dped_lib.base import device as devices
    from dped_lib.data import opening
    from dped_lib.experiments import training_runs

    train_anew(fresh)
    devices.pick(device)
    validation.one_of("loss", loss, losses.LOSSES)
    types = {f.name: f.type for f in fields(run_parameters.TrainParams) if f.name not in ("dataset", "phone", "loss")}
    phone = phone_or_first(dataset, phone)
    chosen = {"seed": seed, **typed_settings(settings, types)}
    _refuse_idle(loss, chosen)
    params = run_parameters.train_params(dataset, phone, loss, preset, **chosen)
    store = opening.open_or_make(dataset, phone, preset, on_bad, params.seed)
    report_skips(store)
    if dataset == "own":
        typer.echo(f"photographs: {store.meta.get('origin') or 'of an earlier version'}", err=True)
    result = training_runs.train(params, store, training_runs.run_folder(params, preset), device)
    last = result.scores()
    typer.echo(
        f"{from_here(result.file)}: validation PSNR {last['psnr']:.2f} dB, MS-SSIM {last['ms_ssim']:.4f}"
        + (f" ({result.origin}; --fresh trains it anew)" if result.is_shipped else "")
    )
    if preset == "smoke" and "iterations" not in chosen:
        typer.echo(
            "Preset smoke only shows that everything runs. For a network that you want to use, leave out --preset.",
            err=True,
        )


def _refuse_idle(loss: str, chosen: Mapping[str, object]) -> None:
    """Raise DpedError if a parameter belongs to a part that the loss lacks.

    It would change the name of the run and nothing else.
    """
    from dped_lib import losses

    spec = losses.LOSSES[loss]
    has = {f"{term} term" for term in spec.terms}
    has |= {"norm"} if (chosen.get("model") or spec.model) != "srcnn" else set()
    # The workflow and the notebooks name ``vgg`` for every loss, so it is not refused.
    for choice, part in run_parameters.CHOICES.items():
        if chosen.get(choice) and part not in has:
            raise DpedError(
                f"--set {choice}={chosen[choice]}: changes nothing, because loss {loss!r} has no {part}. Leave it out."
            )


def evaluate(
    dataset: Dataset = "rig",
    phone: Phone = "",
    weights: Annotated[
        str, typer.Option(help="authors:NAME, shipped:NAME, identity, or a safetensors file.")
    ] = "identity",
    split: Annotated[
        SplitChoice,
        typer.Option(
            help="'auto' means the test pairs for a network that was trained here or ships, and all pairs otherwise."
        ),
    ] = SplitChoice.auto,
    preset: PresetName = presets.DEFAULT,
    as_json: Json = False,
    device: Device = "auto",
    on_bad: OnBad = "error",
) -> None:
    """Measure a network on the pairs of a dataset: every metric under every protocol."""
    from dped_lib import metrics
    from dped_lib.base import device as devices
    from dped_lib.data import network_files, opening
    from dped_lib.enhance import evaluation
    from dped_lib.report import labels, provenance

    phone = phone_or_first(dataset, phone)
    target = devices.pick(device)
    model = network_files.resolve(weights)
    described = network_files.describe(weights, model)
    seed = described.get("params", {}).get("seed", 0)
    if split == SplitChoice.auto:
        split = SplitChoice.test if "params" in described else SplitChoice.all
    store = opening.open_or_make(dataset, phone, preset, on_bad, seed)
    index = store.index(split.value)
    scores_by_protocol = metrics.score_all(evaluation.evaluate(model, store, index, target))
    result = {
        "dataset": dataset,
        "phone": phone,
        "weights": weights,
        "split": split.value,
        "count": len(index),
        "skipped": store.skipped,
        "metrics": scores_by_protocol,
        "provenance": provenance.of_run(dataset, preset, seed, **described),
    }
    if as_json:
        typer.echo(provenance.to_json(result))
        return
    report_skips(store)
    typer.echo(f"{weights} on {len(index)} {dataset} {phone} pairs (split {split.value})")
    for protocol, scores in scores_by_protocol.items():
        values = ", ".join(
            f"{label.name} {scores[metric]:.4f} {label.unit}".rstrip()
            if scores[metric] is not None
            else f"{label.name} not defined"
            for metric, label in labels.METRIC_LABELS.items()
        )
        identical = f" ({scores['identical_pairs']} identical pairs)" if scores["identical_pairs"] else ""
        typer.echo(f"  {protocol:12} {values}{identical}")


def export(
    weights: Annotated[str, typer.Argument(help="authors:NAME, shipped:NAME or a safetensors file.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export. Other files are always kept.")
    ] = False,
) -> None:
    """Write a network as ONNX for images of any size, and compare its output with PyTorch's."""
    from dped_lib.data import network_files
    from dped_lib.enhance import onnx_export

    onnx_export.check_target(out, overwrite)
    model = network_files.resolve(weights)
    difference = onnx_export.export(model, out, network_files.describe(weights, model), overwrite)
    typer.echo(f"{out}: any size; ONNX Runtime and PyTorch differ by at most {difference:.1e}")
