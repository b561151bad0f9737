"""The one place that knows where files live, and how they are put there: whole or not at all."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from dped_lib.base.errors import DpedError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def project_root() -> Path:
    """The checkout this library was installed from; the working directory when it was installed as a wheel."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "workflow" / "Snakefile").is_file() else Path.cwd()


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


def make_absolute() -> None:
    """Makes the paths in ``VARIABLES`` absolute, so that they mean the same in a kernel or job with another working folder."""
    for name in VARIABLES:
        value = os.environ.get(name)
        if value and "://" not in value:
            os.environ[name] = os.path.abspath(os.path.expanduser(value))


def _named(variable: str, default: Path | str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(os.environ.get(variable) or default)))


def notebooks_dir() -> Path:
    return project_root() / "notebooks"


def cache_dir() -> Path:
    """Fetched files and stores made from them. ``DPED_CACHE`` overrides the user's cache folder."""
    return _named("DPED_CACHE", platformdirs.user_cache_dir("dped"))


def runs_dir() -> Path:
    """Artifacts of every dataset and preset. ``DPED_RUNS`` overrides ``runs/``."""
    return _named("DPED_RUNS", project_root() / "runs")


def run_dir(dataset: str, preset: str) -> Path:
    """Artifacts of one dataset and preset: stores, checkpoints, executed notebooks."""
    return runs_dir() / f"{dataset}-{preset}"


def published_figures() -> Path:
    """Return ``figures/`` of the checkout: what full runs have produced. Only the workflow saves there."""
    return project_root() / "figures"


def figures_root() -> Path:
    """Return where the folders of figures of this run lie: ``DPED_FIGURES``, which the workflow sets, or the folder of runs."""
    return _named("DPED_FIGURES", runs_dir())


def figures_dir(dataset: str, preset: str) -> Path:
    """Return where pictures, tables and their JSON of one dataset and preset are saved.

    The workflow (``make figures``) sets ``DPED_FIGURES`` to ``figures/``, so its notebooks save in ``figures/DATASET-PRESET``.
    Without the variable, as in a notebook run by hand, it is ``runs/DATASET-PRESET/figures``.
    """
    if os.environ.get("DPED_FIGURES"):
        return figures_root() / f"{dataset}-{preset}"
    return run_dir(dataset, preset) / "figures"


@contextlib.contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turns "no space left" (and its kin: quota, file-size limit) into a message that names the file and the remedy.

    safetensors and other native writers raise their own exceptions, so the operating system's words are looked
    for in the message too.
    """
    try:
        yield
    except DpedError:
        raise
    except Exception as error:
        words = str(error).lower()
        full = isinstance(error, OSError) and error.errno in _FULL
        if full or any(w in words for w in ("no space left", "quota exceeded", "file too large")):
            raise DpedError(
                f"{path}: not written, the disk is full ({error}). What was there before is untouched. "
                "Free some space, or point DPED_RUNS, DPED_FIGURES or DPED_CACHE at another disk, and run the same command again."
            ) from error
        raise


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a path beside ``target`` to write to; renames it over ``target`` on success, removes it on failure.

    A reader, or a process killed at any moment, sees the old file or the new one, never half of one.
    Works for a folder too, if the caller creates one at the yielded path; an old folder is replaced (for an instant
    neither is there). Of several processes that write the same target, the last one's stays.

    Raises:
        DpedError: the disk is full, or the folder of ``target`` cannot be written to.
    """
    target = Path(target)
    with explain_full_disk(target):
        holder = _make_holder(target)
        try:
            # The suffix stays last: writers choose the format by it.
            part = holder / target.name
            yield part
            if part.is_dir():
                _put_folder(part, target, holder)
            else:
                with open(part, "rb") as f:
                    os.fsync(f.fileno())
                os.replace(part, target)
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def _make_holder(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise DpedError(
            f"{target}: cannot be written ({error}). Make its folder writable, or point DPED_RUNS, DPED_FIGURES or "
            "DPED_CACHE at one that is, and run the same command again."
        ) from error


def _put_folder(part: Path, target: Path, holder: Path) -> None:
    # A rename does not replace a folder that holds something, so the old one steps aside first. Another process may put
    # its own there in between: then that one steps aside.
    for attempt in range(100):
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, holder / f"old{attempt}")
        try:
            os.rename(part, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == 99:
                raise


def write_text(target: Path, text: str) -> None:
    """Writes ``text`` as UTF-8, atomically."""
    with atomic_path(target) as part:
        part.write_text(text, encoding="utf-8")
