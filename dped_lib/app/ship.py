"""Add finished runs and results to those that ship with the package, and write the table of the networks.

    python -m dped_lib.app.ship RUNS            every finished run below RUNS/DATASET-PRESET/train, and the results of the
                                                ablation and the discriminators (`make ship RUNS=...`)
    python -m dped_lib.app.ship RUNS --table    only docs/model_zoo.md

RUNS is a folder of runs, as ``DPED_RUNS`` names one, with the pairs that the networks were trained on. A run that ships
already is left unchanged. Unfinished runs are left out, and so are runs whose parameters are not those of the preset.
Networks that were trained on photographs without a licence do not ship (``shipping.LICENCES``).
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dped_lib.base import datasets, paths, presets, run_parameters, writing
from dped_lib.base.errors import DpedError
from dped_lib.data import checkpoints, experiment_results, network_files, opening, pair_store, shipped_runs, shipping
from dped_lib.experiments import ablation, discriminators, model_zoo

#: The page with the table, in the checkout.
PAGE = Path("docs") / "model_zoo.md"


def finished_runs(runs: Path, preset: str) -> list[Path]:
    """Return the folder of every finished run of a preset and of a dataset whose networks may ship."""
    trainings = (runs / f"{dataset}-{preset}" / "train" for dataset in shipping.LICENCES)
    return [file.parent for folder in trainings for file in sorted(folder.glob(f"*/{checkpoints.MODEL}"))]


def ship(folder: Path, preset: str) -> str:
    """Add one run, and return a line about it. ``DPED_RUNS`` names the folder of its pairs.

    Raises:
        DpedError: the run is damaged or cannot ship (``shipping.pack``), or its pairs are missing.
    """
    params = checkpoints.params_of(folder)
    name = shipped_runs.PREFIX + shipped_runs.name_of(params, preset)
    if (there := shipped_runs.of_params(params)) or checkpoints.shipped_name(folder):
        return f"{name}: ships already" + (f" ({there.folder})" if there else "")
    usual = run_parameters.train_params(params.dataset, params.phone, params.loss, preset, seed=params.seed)
    if params.digest() != usual.digest():
        return f"{name}: not added, because its parameters are not those of preset {preset!r} ({folder})"
    # The pairs are opened as they are. Making them anew here could give others than the network has seen.
    store = pair_store.PairStore(opening.folder_of(params.dataset, preset, params.phone)).fold(params.seed)
    model = network_files.load_model(folder / checkpoints.MODEL)
    model.load_state_dict(shipping.expand(shipping.compact(model.state_dict())))
    run = shipping.pack(folder, store, preset, model_zoo.score_network(model, params, store, preset))
    size = sum((run.folder / file).stat().st_size for file in run.files) / 1e6
    return f"{name}: added, {size:.2f} MB"


def results(dataset: str, preset: str) -> list[experiment_results.Experiment]:
    """Return the experiments of 08_claims whose results may ship; none if the dataset's pairs are not there.

    ``DPED_RUNS`` names the folder of the pairs.
    """
    phone, chosen = datasets.first_phone(dataset), presets.preset(preset)
    folder = opening.folder_of(dataset, preset, phone)
    if not folder.is_dir():
        return []
    store = pair_store.PairStore(folder)
    forms = (discriminators.experiment(store, form, chosen) for form in discriminators.FORMS)
    return [*forms, ablation.experiment(dataset, preset, phone)]


def main(
    runs: Annotated[Path, typer.Argument(help="A folder of runs.")],
    table: Annotated[bool, typer.Option("--table", help="Only write the table.")] = False,
    preset: Annotated[str, typer.Option(help="The preset whose runs are added.")] = presets.DEFAULT,
) -> None:
    """Add the finished runs below a folder to those that ship, and write the table."""
    presets.preset(preset)
    page = paths.checkout() / PAGE
    os.environ["DPED_RUNS"] = str(runs.absolute())
    for folder in () if table else finished_runs(runs, preset):
        typer.echo(ship(folder, preset))
    for dataset in () if table else shipping.LICENCES:
        for experiment in results(dataset, preset):
            if experiment_results.pack(experiment):
                typer.echo(f"result {experiment.key}: added")
    writing.write_text(page, model_zoo.markdown())
    count, size = len(shipped_runs.runs()), shipped_runs.total_size() / 1e6
    typer.echo(
        f"{page}: {count} networks, {size:.1f} MB with their logs and scores. Commit {shipped_runs.FOLDER} and this page."
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except DpedError as error:
        print(f"ship: {error}", file=sys.stderr)
        sys.exit(2)
