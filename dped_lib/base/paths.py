"""Define where files are stored."""

import os
from pathlib import Path

import platformdirs

import dped_lib
from dped_lib.base.errors import DpedError

#: Variable of the environment with the command that is running. The notebook runner sets it, and results name it.
COMMAND = "DPED_COMMAND"
#: Files that desktop systems add to every folder they display. No user or program of ours made them.
OF_DESKTOPS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def in_checkout(folder: Path) -> bool:
    """Return whether a folder is a checkout of the project. A wheel lacks the workflow and the notebooks."""
    return (folder / "workflow" / "Snakefile").is_file() and (folder / "notebooks").is_dir()


def project_root() -> Path:
    """Return the checkout that this library runs from, or the working directory if a wheel was installed."""
    checkout = Path(dped_lib.__file__).resolve().parent.parent
    return checkout if in_checkout(checkout) else Path.cwd()


def checkout() -> Path:
    """Return the checkout, for files that only a checkout has.

    Raises:
        DpedError: the library was installed as a wheel, and the working directory is not a checkout.
    """
    root = project_root()
    if not in_checkout(root):
        raise DpedError(
            f"{root}: not a checkout of the project. Notebooks and workflow are not part of the installed package: "
            "clone the project and run this command inside the clone."
        )
    return root


#: Variables of the environment that name files or folders.
VARIABLES = (
    "DPED_CACHE",
    "DPED_RUNS",
    "DPED_FIGURES",
    "DPED_MIRROR",
    "DPED_DATA",
    "DPED_OWN",
    "DPED_BASELINES",
    "DPED_VGG_MAT",
)


def collapsed(path: Path | str) -> Path:
    """Return a path in which each ``FOLDER/..`` is left out.

    While ``new`` does not exist, the system finds nothing at ``new/../photos``, so a check passes. A writer that makes
    ``new`` would then replace ``photos``. ``link/..`` is the folder of the link's target, as for the system.
    """
    path = Path(path)
    if ".." not in path.parts:
        return path
    done = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        if part != "..":
            done /= part
        elif os.path.islink(done):
            done = Path(os.path.realpath(done)).parent
        elif done.name not in ("", ".."):
            done = done.parent
        elif not done.anchor:  # the root has no parent
            done /= ".."
    return done


def expanded(path: Path | str) -> Path:
    """Return a path with the home folder in place of ``~``. Raise DpedError if there is no user of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DpedError(f"{path}: there is no user of that name. Write the whole path.") from error


def make_absolute() -> None:
    """Make the paths in ``VARIABLES`` absolute, because kernels and jobs have other working folders."""
    for name in VARIABLES:
        value = os.path.expanduser(os.environ.get(name, ""))
        # An unknown user is reported where the path is used.
        if value and "://" not in value and not value.startswith("~"):
            os.environ[name] = str(absolute(value))


def absolute(path: Path | str) -> Path:
    """Return an absolute path without ``~`` and ``..`` (:func:`expanded`, :func:`collapsed`)."""
    return Path(os.path.abspath(collapsed(expanded(path))))


def seen_from(path: Path | str, folder: Path) -> Path:
    """Return a path relative to ``folder`` if it lies inside, else absolute."""
    path = Path(os.path.abspath(path))
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _named(variable: str, default: Path | str) -> Path:
    return absolute(os.environ.get(variable) or default)


def notebooks_dir() -> Path:
    """Return the folder of the notebooks."""
    return project_root() / "notebooks"


def cache_dir() -> Path:
    """Return the folder of fetched files. ``DPED_CACHE`` overrides the user's cache folder."""
    return _named("DPED_CACHE", platformdirs.user_cache_dir("dped"))


def runs_dir() -> Path:
    """Return the folder with the runs of all datasets and presets. ``DPED_RUNS`` overrides ``runs/``."""
    return _named("DPED_RUNS", project_root() / "runs")


def run_dir(dataset: str, preset: str) -> Path:
    """Return the folder of one dataset and preset: stores, checkpoints, executed notebooks."""
    return runs_dir() / f"{dataset}-{preset}"


def published_figures() -> Path:
    """Return ``figures/`` of the checkout, which holds the results of full runs. Only the workflow saves there."""
    return project_root() / "figures"


def figures_root() -> Path:
    """Return the parent of the folders of figures: ``DPED_FIGURES``, which the workflow sets, or the runs folder."""
    return _named("DPED_FIGURES", runs_dir())


def figures_dir(dataset: str, preset: str) -> Path:
    """Return the folder in which pictures, tables and JSON files of one dataset and preset are saved.

    The workflow (``make figures``) sets ``DPED_FIGURES`` to ``figures/``, so its notebooks save in
    ``figures/DATASET-PRESET``. Without the variable the folder is ``runs/DATASET-PRESET/figures``.
    """
    if os.environ.get("DPED_FIGURES"):
        return figures_root() / f"{dataset}-{preset}"
    return run_dir(dataset, preset) / "figures"


def workflow_figures() -> Path:
    """Return the parent of the folders in which the workflow saves: ``DPED_FIGURES``, or ``figures/`` of the checkout."""
    return _named("DPED_FIGURES", published_figures())


def in_workflow(path: Path | str, folder: Path) -> str:
    """Return the name of a file or folder in the workflow: relative to ``folder`` if it lies inside, else absolute.

    Args:
        path: the file or folder.
        folder: the folder in which the workflow runs.

    Raises:
        DpedError: the name has a brace.
    """
    name = str(seen_from(path, folder))
    if "{" in name or "}" in name:
        raise DpedError(
            f"{name}: the workflow cannot use a name with {{ or }}. Rename the folder, or {elsewhere(Path(path))}."
        )
    return name


def obstacle(folder: Path, remedy: str) -> str:
    """Return what keeps a folder from being made, as the end of a message, or an empty text if nothing is in its place.

    Args:
        folder: a folder that could not be made or entered.
        remedy: what the user can do instead of removing the obstacle.
    """
    folder = Path(os.path.abspath(collapsed(folder)))
    existing = next(f for f in (folder, *folder.parents) if os.path.lexists(f))
    if os.path.isdir(existing):
        return ""
    if not os.path.exists(existing):
        return f"{existing} is a link to a missing folder. If its disk is not mounted, mount it; else {remedy}."
    if os.path.isfile(existing):
        return f"{existing} is not a folder. Move it away, or {remedy}."
    return f"{existing} is not a folder. {remedy[0].upper()}{remedy[1:]}."  # a device must stay where it is


def elsewhere(path: Path) -> str:
    """Return the remedy for a path that cannot be written to, unless the caller names another.

    It names a variable for the project's own folders, and another folder for paths that the user has named.
    """
    for variable, folder in (("DPED_RUNS", runs_dir()), ("DPED_FIGURES", figures_root()), ("DPED_CACHE", cache_dir())):
        if Path(os.path.abspath(path)).is_relative_to(folder):
            return f"point {variable} at another disk, and run the same command again"
    return "name another folder, and run the same command again"
