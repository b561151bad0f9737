"""Places are absolute, follow the environment, and mean what the system means by them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dped_lib.base import paths
from dped_lib.base.errors import DpedError


def test_a_collapsed_path_means_the_same_before_and_after_its_folders_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("deep/er").mkdir(parents=True)
    Path("link").symlink_to("deep/er")
    Path("dangling").symlink_to("deep/not/yet")
    for name, meant in (
        ("new/../photos", "photos"),
        ("a/b/../../photos", "photos"),
        ("../../x", "../../x"),
        ("/../x", "/x"),
        ("x/../..", ".."),
        ("a/./b", "a/b"),
        ("deep/er/..", "deep"),
        ("link/../x", f"{tmp_path}/deep/x"),
        ("link/sub/../../x", f"{tmp_path}/deep/x"),
        ("dangling/../x", f"{tmp_path}/deep/not/x"),
        (f"{tmp_path}/new/../x", f"{tmp_path}/x"),
    ):
        assert str(paths.collapsed(name)) == meant
    for name in ("link/../x", "deep/er/../x", "link/../er/../x", "../x", "link/../../x"):
        Path(name).touch()
        assert os.path.samefile(name, paths.collapsed(name))  # as the system has it


@given(
    st.sampled_from(("DPED_CACHE", "DPED_RUNS", "DPED_FIGURES", "DPED_DATA", "DPED_MIRROR")),
    st.sampled_from(("a", "../b", "./c/d", ".")),
)
def test_relative_variables_become_absolute(name, value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        paths.make_absolute()
        assert Path(os.environ[name]) == Path.cwd().joinpath(value).resolve()
        paths.make_absolute()
        assert Path(os.environ[name]) == Path.cwd().joinpath(value).resolve()


def test_urls_and_unset_variables_stay(monkeypatch):
    monkeypatch.setenv("DPED_MIRROR", "https://example.org/mirror")
    monkeypatch.delenv("DPED_DATA", raising=False)
    paths.make_absolute()
    assert os.environ["DPED_MIRROR"] == "https://example.org/mirror"
    assert "DPED_DATA" not in os.environ


def test_the_home_folder_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DPED_CACHE", "DPED_RUNS", "DPED_FIGURES"):
        monkeypatch.setenv(name, "~/dped")
    assert paths.cache_dir() == tmp_path / "dped"
    assert paths.run_dir("rig", "smoke") == paths.figures_dir("rig", "smoke") == tmp_path / "dped" / "rig-smoke"


def test_without_variables_everything_lies_in_the_checkout(monkeypatch):
    for name in ("DPED_RUNS", "DPED_FIGURES"):
        monkeypatch.delenv(name)
    root = paths.project_root()
    assert (root / "pyproject.toml").is_file()
    assert paths.run_dir("pirm", "paper") == root / "runs" / "pirm-paper"
    # Only the workflow, which sets the variable, saves in figures/.
    assert paths.figures_dir("pirm", "paper") == root / "runs" / "pirm-paper" / "figures"
    assert paths.published_figures() == root / "figures"


def test_the_workflow_names_files_from_its_folder(tmp_path):
    assert paths.in_workflow(tmp_path / "runs" / "rig-cpu", tmp_path) == "runs/rig-cpu"
    assert paths.in_workflow(tmp_path / "runs", tmp_path / "checkout") == str(tmp_path / "runs")
    assert paths.in_workflow(tmp_path / "{me}" / "runs", tmp_path / "{me}") == "runs"
    for name in ("{me}", "a{", "a}"):
        with pytest.raises(DpedError, match="cannot use a name with { or }. Rename the folder, or name another"):
            paths.in_workflow(tmp_path / name / "runs", tmp_path)


def test_paths_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    assert paths.figures_dir("pirm", "paper") == tmp_path / "pirm-paper"


@pytest.mark.parametrize("variable", ["DPED_RUNS", "DPED_CACHE", "DPED_FIGURES"])
def test_an_unknown_user_is_no_folder(monkeypatch, tmp_path, variable):
    """``~nobody99`` is nobody's home. No folder of that name is made in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "~nobody99/x")
    paths.make_absolute()
    folder = {"DPED_RUNS": paths.runs_dir, "DPED_CACHE": paths.cache_dir, "DPED_FIGURES": paths.figures_root}[variable]
    with pytest.raises(DpedError, match="~nobody99/x: there is no user of that name"):
        folder()
    assert not list(tmp_path.iterdir())
