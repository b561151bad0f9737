"""Define the commands that check the installation, run notebooks and serve a study: ``doctor``, ``run``, ``study``."""

import json
import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dped_lib.app.options import (
    Dataset,
    Fresh,
    Json,
    PresetName,
    SetOptions,
    phone_or_first,
    program,
    train_anew,
    typed_settings,
)
from dped_lib.base import presets, run_parameters, validation
from dped_lib.base.errors import DpedError


def doctor(as_json: Json = False) -> None:
    """Check the installation: list what is present and what is missing, and name the remedies."""
    from dped_lib.app import doctor as module

    checks = module.examine()
    typer.echo(json.dumps([asdict(check) for check in checks], indent=1) if as_json else module.checks_text(checks))
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


def study(
    dataset: Dataset = "rig",
    preset: PresetName = presets.DEFAULT,
    network: Annotated[
        str, typer.Option(help="The network that enhanced the pictures: trained (here, or for the package) or authors.")
    ] = "trained",
    folder: Annotated[
        Path | None, typer.Option(help="Your own pictures, FOLDER/SET/CLASS/SCENE.png, instead of the dataset's.")
    ] = None,
    manual: Annotated[Path | None, typer.Option(help="Folder with retouched originals, SCENE.png.")] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Folder for the answers. Default: in the folder of the run.")
    ] = None,
    scenes: Annotated[
        int,
        typer.Option(
            help="Number of scenes in each set. Default: 9 as in the paper, or all held-out scenes of the dataset if there are fewer.",
            show_default=False,
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the networks and of the order of questions.")] = 0,
    vgg: Annotated[str, typer.Option(help="VGG-19 weights, if networks must be trained first.")] = run_parameters.VGG,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8866,
    address: Annotated[
        str,
        typer.Option(help="127.0.0.1 serves this machine only. 0.0.0.0 serves the whole network, without a password."),
    ] = "127.0.0.1",
) -> None:
    """Serve the user study as a web page for any number of subjects at once."""
    from dped_lib.user_study import answers as study_answers
    from dped_lib.user_study import make_pictures, server

    validation.one_of("network", network, run_parameters.NETWORKS)
    server.check_free(port, address)  # before the pictures are made, which takes minutes
    pictures = make_pictures.open_or_make(dataset, preset, network, seed, vgg, str(manual or ""), scenes, folder or "")
    default_folder = study_answers.answers_folder("own" if folder else dataset, preset, pictures.digest, seed)
    store = study_answers.AnswerStore(answers or default_folder, pictures.digest, pictures.questions, seed)
    named = {"folder": folder, "manual": manual, "answers": answers, "scenes": scenes}
    named |= {"network": network if network != "trained" else "", "vgg": vgg if vgg != run_parameters.VGG else ""}
    where = [] if folder else ["--dataset", dataset]
    where += ["--preset", preset, *(["--seed", str(seed)] if seed else [])]
    where += [word for key, value in named.items() if value for word in ("--set", f"{key}={value}")]
    typer.echo(
        f"{len(pictures.questions)} questions at {server.urls(address, port)} (stop with Ctrl-C); "
        f"answers go to {store.folder.absolute()}; {program()} run 06_user_study {shlex.join(where)} analyses them"
    )
    if status := server.serve(pictures, store, port, address):
        raise typer.Exit(status)


def run(
    notebook: Annotated[str, typer.Argument(help="A notebook, e.g. 03_training, or 'all' for the whole reproduction.")],
    dataset: Dataset = "rig",
    preset: PresetName = presets.DEFAULT,
    phone: Annotated[str, typer.Option(help="The phone, for notebooks that have this parameter.")] = "",
    loss: Annotated[str, typer.Option(help="The loss, for notebooks that have this parameter.")] = "",
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    settings: SetOptions = [],  # noqa: B006 (typer reads the default, and no code changes it)
    cores: Annotated[int | None, typer.Option(min=1, help="With 'all': number of processor cores to use.")] = None,
    profile: Annotated[
        str,
        typer.Option(
            help="With 'all': local, gpu or slurm. Default: gpu with the preset paper, else local.", show_default=False
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With 'all': list the jobs without running them.")] = False,
    fresh: Fresh = False,
) -> None:
    """Execute one notebook with papermill, or all notebooks with Snakemake."""
    from dped_lib.app import notebook_runner

    train_anew(fresh)
    if notebook == "all":
        if phone or loss or seed is not None:
            raise DpedError(
                "'dped run all' runs every phone, loss and seed of the preset; "
                "--phone, --loss and --seed go with one notebook."
            )
        chosen = typed_settings(settings, {"vgg": str, "seeds": int})
        chosen |= {"profile": profile} if profile else {}
        notebook_runner.run_all(dataset, preset, cores, extra=("--dry-run",) if dry_run else (), **chosen)
        return
    if dry_run or cores is not None or profile:
        raise DpedError(
            "--dry-run, --cores and --profile go with 'dped run all'. Leave them out, or write 'all' for the notebook."
        )
    defaults = notebook_runner.parameters_of(notebook)
    values: dict[str, object] = {"dataset": dataset, "preset": preset}
    if defaults.get("phone"):
        values["phone"] = phone_or_first(dataset, phone)
    elif phone:
        # By default the notebook takes all phones, or it has no such parameter. The runner refuses an unknown one.
        values["phone"] = phone
    values |= {"loss": loss} if loss else {}
    values |= {} if seed is None else {"seed": seed}
    values |= typed_settings(settings, {k: type(v) for k, v in defaults.items()})
    # papermill logs what the cells print. This level shows standard error only: the progress of a training.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    typer.echo(notebook_runner.run_notebook(notebook, values))
