"""Run notebooks without a browser: one with papermill, or all of them in the order of the workflow."""

import ast
import contextlib
import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from dped_lib.app import notebook_parameters
from dped_lib.base import datasets, paths, presets, programs, run_parameters, validation, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import HEADLESS
from dped_lib.data import experiment_results, shipped_runs, shipping


def parameters_of(name: str) -> dict[str, object]:
    """Return the parameters of a notebook (its cell tagged ``parameters``) with their defaults.

    Raises:
        DpedError: the notebook does not exist, or the library runs outside a checkout.
    """
    paths.checkout()
    validation.one_of("notebook", name, notebook_parameters.notebooks())
    described = papermill.inspect_notebook(_for_papermill(paths.notebooks_dir() / f"{name}.ipynb"))
    # papermill returns the defaults as source text.
    return {key: ast.literal_eval(entry["default"]) for key, entry in described.items()}


def _for_papermill(path: Path) -> str:
    """Return a path for papermill, which fills in parameters at single braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def check_parameters(name: str, values: Mapping[str, object]) -> dict[str, object]:
    """Return the notebook's defaults, replaced by ``values`` after a check of names, types and values.

    papermill only warns of an unknown parameter. This function raises an error that lists the allowed ones.
    """
    defaults = parameters_of(name)
    for key, value in values.items():
        validation.one_of(f"parameter of {name}", key, defaults)
        validation.check_type(key, value, type(defaults[key]))
    merged = {**defaults, **values}
    notebook_parameters.check_values(**merged)
    return merged


#: The kernel would warn on each start that it talks to this process over TCP, which never leaves the machine.
_KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=ERROR"]
#: Parameters that name folders of the user's.
_FOLDERS = ("folder", "manual", "answers")


def output_of(name: str, values: Mapping[str, object]) -> Path:
    """Return the path of the executed notebook.

    The path is ``runs/DATASET-PRESET/notebooks/NAME.ipynb``, or ``NAME-phone-loss[-variant]-sSEED.ipynb`` there. With
    folders of the user's it is ``NAME-HASH.ipynb`` (``notebook_parameters.suffix_of_own``). If ``folder`` is given,
    the dataset is ``own``.
    """
    parts = [name]
    if "loss" in values:
        parts += [str(values[key]) for key in ("phone", "loss") if values[key]]
        if values.get("variant", "code") != "code":
            parts.append(str(values["variant"]))
        parts += [f"s{values['seed']}"] if values["seed"] >= 0 else []
    file = "-".join(parts) + notebook_parameters.suffix_of_own(
        **{key: values[key] for key in _FOLDERS if key in values}
    )
    dataset = "own" if values.get("folder") else values["dataset"]
    return paths.run_dir(dataset, values["preset"]) / "notebooks" / f"{file}.ipynb"


def command_of(name: str, values: Mapping[str, object]) -> str:
    """Return the command that runs a notebook with these parameters. Everything that a notebook saves names it.

    Besides dataset and preset it names what differs from the notebook's defaults. So the workflow, which gives every
    parameter, and a user, who gives few, save the same results. The command also sets the variable
    that names the folder of the user's dataset, because the command would stop without it.
    """
    defaults, parts = parameters_of(name), ["dped", "run", name]
    variable = _NAMES_FOLDER.get(values.get("dataset", defaults.get("dataset")))
    place = ""
    if folder := os.environ.get(variable or ""):
        seen = paths.seen_from(paths.absolute(folder), paths.project_root())  # commands are run in the checkout
        place = f"{variable}={shlex.quote(str(seen))} "
    for key, value in values.items():
        if value == defaults[key] and key not in ("dataset", "preset"):
            continue
        named = key in ("dataset", "preset", "phone", "loss", "seed")
        parts += [f"--{key}", str(value)] if named else ["--set", f"{key}={value}"]
    return place + shlex.join(parts)


#: Datasets in a folder of the user's, and the variable of the environment that names it.
_NAMES_FOLDER = {"own": "DPED_OWN", "dped": "DPED_DATA"}


@contextlib.contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, which a kernel inherits, and restore them afterwards."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


#: The entry of an executed notebook's metadata with the checksum of its cells. It shows whether a user changed them.
_CELLS = "dped_cells"


def _checksum(notebook: nbformat.NotebookNode) -> str:
    return hashlib.sha256(json.dumps([cell.source for cell in notebook.cells]).encode()).hexdigest()


def _is_edited(content: bytes) -> bool:
    try:
        notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
        checksum = _checksum(notebook)
        # A notebook that an earlier version has executed has no checksum.
        return notebook.metadata.get(_CELLS, checksum) != checksum or "papermill" not in notebook.metadata
    except Exception:  # damaged, or no notebook; nbformat raises many kinds of errors
        return True


def keep_edited(file: Path) -> None:
    """Copy an executed notebook, which will be replaced, to ``NAME.edited.ipynb`` if a user has changed its cells."""
    if not file.is_file() or not _is_edited(content := file.read_bytes()):
        return
    for number in itertools.count(1):
        kept = file.with_suffix(f".edited{'' if number == 1 else number}.ipynb")
        if not kept.exists():
            with writing.atomic_path(kept, replace=False) as part:
                part.write_bytes(content)
            print(f"{file}: its cells were edited; that version is kept as {kept.name}", file=sys.stderr)
            return
        if kept.read_bytes() == content:
            return


def run_notebook(name: str, values: Mapping[str, object]) -> Path:
    """Execute one notebook and return the path of the executed copy.

    The notebook saves pictures and tables in :func:`paths.figures_dir`: in ``runs/``, unless ``DPED_FIGURES`` is set. A
    copy that a user has edited is kept (:func:`keep_edited`).

    Raises:
        DpedError: a notebook or parameter is unknown, a folder cannot be written to, or a cell failed. If a cell
            failed, the message names it and its error, and ``NAME.failed.ipynb`` beside the output keeps the notebook
            up to that cell.
    """
    # The kernel has another working folder.
    given = {key: values[key] for key in _FOLDERS if values.get(key)}
    values = {**values, **{key: str(paths.absolute(v)) for key, v in given.items()}}
    merged = check_parameters(name, values)
    target = output_of(name, merged)
    failed = target.with_suffix(".failed.ipynb")
    # The first figure may be saved after hours of training.
    figures = paths.figures_dir("own" if merged.get("folder") else merged["dataset"], merged["preset"])
    for folder in (target.parent, figures):
        writing.probe_folder(folder, paths.elsewhere(folder))
    writing.clear_killed(target)
    with writing.atomic_path(target) as part, variables_set({HEADLESS: "1", paths.COMMAND: command_of(name, values)}):
        try:
            papermill.execute_notebook(
                _for_papermill(paths.notebooks_dir() / f"{name}.ipynb"),
                _for_papermill(part),
                parameters=dict(values),
                kernel_name="python3",
                cwd=str(paths.notebooks_dir()),
                log_output=True,
                start_timeout=180,
                extra_arguments=_KERNEL_ARGUMENTS,
            )
            executed = nbformat.read(part, as_version=4)
            executed.metadata[_CELLS] = _checksum(executed)
            nbformat.write(executed, part)
            keep_edited(target)
        except PapermillExecutionError as error:
            os.replace(part, failed)
            message = error.evalue if error.ename == "DpedError" else f"{error.ename}: {error.evalue}"
            message = " ".join(message.splitlines())  # an error is one line on the command line
            raise DpedError(f"{name}, cell {error.exec_count}: {message} (Up to that cell: {failed})") from error
        except (RuntimeError, nbformat.ValidationError) as error:
            if part.exists():
                os.replace(part, failed)
            raise DpedError(f"{name}: the kernel stopped ({error}). Is there enough memory?") from error
    failed.unlink(missing_ok=True)
    return target


def _copies(runs: Path) -> list[Path]:
    """Return the copies of what ships. To Snakemake each is a finished job, which must be repeated to train anew."""
    from dped_lib.experiments import discriminators  # imports Matplotlib, which a notebook's start need not wait for

    return [*shipping.copies(runs), *experiment_results.copies(runs / discriminators.RESULTS_FOLDER)]


def run_all(
    dataset: str,
    preset: str,
    cores: int | None = None,
    profile: str = "",
    extra: tuple[str, ...] = (),
    vgg: str = run_parameters.VGG,
    seeds: int = 0,
) -> None:
    """Run the whole reproduction through ``workflow/Snakefile``. Snakemake keeps results that are up to date.

    With ``DPED_FRESH`` (``--fresh``) it trains what ships with the package, too.

    Args:
        profile: a folder of ``workflow/profiles``: ``local``, ``gpu`` or ``slurm``. Empty: ``gpu`` with the preset
            ``paper``, which trains one network at a time on the GPU, and ``local`` with the others.
        extra: further arguments for snakemake.
        vgg: source of the VGG-19 features, one of ``vgg_files.SOURCES``.
        seeds: how many networks are trained for each phone and loss; 0: as ``presets.seeds_of`` says.

    Raises:
        DpedError: the dataset, preset or profile is unknown, ``seeds`` is negative or too large, the name of a folder has
            a brace, or a job failed. Snakemake prints which job.
    """
    validation.one_of("dataset", dataset, datasets.DATASETS)
    presets.seeds_of(dataset, presets.preset(preset), seeds)
    workflow, root = paths.checkout() / "workflow", paths.project_root()
    profile = profile or ("gpu" if preset == "paper" else "local")
    validation.one_of("profile", profile, (p.name for p in sorted((workflow / "profiles").iterdir())))
    runs = paths.run_dir(dataset, preset)
    for folder in (runs, paths.figures_dir(dataset, preset)):
        paths.in_workflow(folder, root)  # raises an error at a name that the workflow cannot use
    if "--dry-run" not in extra:
        writing.probe_folder(runs, paths.elsewhere(runs))
        writing.probe_folder(paths.workflow_figures(), "point DPED_FIGURES at another folder")
    # Snakemake deletes what it makes again.
    for file in () if "--dry-run" in extra else (runs / "notebooks").glob("*.ipynb"):
        if not re.search(r"\.(edited\d*|failed)\.ipynb$", file.name):
            keep_edited(file)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(workflow / "Snakefile"), "--directory", str(root)]
    command += ["--profile", str(workflow / "profiles" / profile)]
    if cores:
        command += ["--cores", str(cores)]
    copies = [paths.in_workflow(file, root) for file in _copies(runs)] if shipped_runs.fresh() else []
    command += ["--forcerun", *copies] if copies else []
    command += [*extra, "--config", f"dataset={dataset}", f"preset={preset}", f"vgg={vgg}", f"seeds={seeds}"]
    with subprocess.Popen(programs.ending_with_us(command)) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            # Ctrl-C also reaches snakemake, which ends its jobs and then exits. subprocess.run would kill it before that.
            # SIGTERM reaches this process alone, so it is passed on: snakemake then starts no further job.
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise DpedError(
            "the workflow did not finish; the failed step and the end of its log are above. "
            "The same command resumes from there."
        )
