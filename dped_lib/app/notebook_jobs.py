"""Run one part of a notebook as a job of its own, so that the workflow can run several at once.

    python -m dped_lib.app.notebook_jobs training-report DATASET PRESET PHONE LOSS SEED [--vgg SOURCE]
    python -m dped_lib.app.notebook_jobs discriminator DATASET PRESET FORM
    python -m dped_lib.app.notebook_jobs ablation DATASET PRESET RUN_NAME [--vgg SOURCE]

``03_training`` teaches with one training; the first job reports the others. The other two are trainings of
``08_claims``, with the dataset's first phone and seed 0. That notebook then reads their results.
"""

import sys
from typing import Annotated

import typer

from dped_lib.base import datasets, interrupt, paths, presets, run_parameters, validation
from dped_lib.base.errors import DpedError
from dped_lib.data import checkpoints, opening
from dped_lib.data.training_log import TrainingDiverged
from dped_lib.experiments import ablation, discriminators, networks
from dped_lib.experiments import training_report as report
from dped_lib.report import figures

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Vgg = Annotated[str, typer.Option(help="VGG-19 weights of the content loss.")]


@app.command()
def training_report(dataset: str, preset: str, phone: str, loss: str, seed: int, vgg: Vgg = run_parameters.VGG) -> None:
    """Save the curves, samples and scores of a finished training."""
    from dped_lib.app import notebook_runner  # imports nbformat, which the workflow need not wait for

    figures.use_style(photographs=True)
    chosen = {"dataset": dataset, "preset": preset, "phone": phone, "loss": loss, "seed": seed, "vgg": vgg}
    result = networks.trained(dataset, preset, phone, loss, seed, vgg=vgg)
    with notebook_runner.variables_set({paths.COMMAND: notebook_runner.command_of("03_training", chosen)}):
        report.save(result, opening.open_or_make(dataset, phone, preset, seed=seed), preset)
    typer.echo(f"{result.params.run_name}: {result.params.length}")


@app.command()
def discriminator(dataset: str, preset: str, form: str) -> None:
    """Train one discriminator to distinguish phone patches from DSLR patches."""
    store = opening.open_or_make(dataset, datasets.first_phone(dataset), preset)
    curve = discriminators.curve(store, form, presets.preset(preset))
    typer.echo(f"{form}: accuracy {curve.accuracy[-1]:.3f} after {curve.iterations[-1]} iterations")


@app.command("ablation")
def ablation_row(dataset: str, preset: str, run_name: str, vgg: Vgg = run_parameters.VGG) -> None:
    """Train one row of the comparison of paper and authors' code.

    A training that diverges is a result and no error.
    """
    runs = ablation.runs(dataset, preset, vgg)
    params = runs[validation.one_of("run of the ablation", run_name, runs)]
    folder = ablation.row_folder(params, preset)
    if not (folder / checkpoints.DESCRIPTION).is_file():
        # The workflow removes the description of an outdated run. The result that was computed with its network must not
        # ship, nor may that network count as a finished one.
        (folder.parents[1] / f"{ablation.result_name(params.phone, params.seed)}.json").unlink(missing_ok=True)
        (folder / checkpoints.MODEL).unlink(missing_ok=True)
    try:
        result = ablation.train_row(params, preset)
    except TrainingDiverged as error:
        typer.echo(f"{run_name}: diverged ({error})")
        return
    typer.echo(f"{result.folder}: {params.iterations} iterations")


def main() -> None:
    """Run one job. An error that the user can correct ends it with a message and status 2."""
    paths.make_absolute()
    interrupt.spare_imports()
    try:
        app()
    except DpedError as error:
        print(f"dped: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
