"""The package without its checkout: built, installed into an empty folder, and used from another one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dped_lib import models
from dped_lib.base import paths
from dped_lib.data import network_files, shipped_runs

ROOT = paths.project_root()


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which pip has installed the wheel, without its dependencies: those of the test run serve."""
    base = tmp_path_factory.mktemp("wheel")
    source, target = base / "source", base / "installed"
    # setuptools builds in the folder of the sources, and the checkout is to stay as it is.
    source.mkdir()
    shutil.copytree(ROOT / "dped_lib", source / "dped_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(base), str(source)]
    subprocess.run(wheel, check=True)
    (built,) = base.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(built)], check=True)
    return target


@pytest.fixture
def dped(installed, tmp_path):
    """Runs the installed command in an empty folder, as the environment of a new user."""

    def call(*arguments: str) -> subprocess.CompletedProcess:
        clean = {k: v for k, v in os.environ.items() if not re.match(r"DPED_|PYTHON|CI$", k)}
        own = {"PYTHONPATH": str(installed), "DPED_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, str(installed / "bin" / "dped"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=clean | own, capture_output=True, text=True, timeout=300)

    return call


def files_of(package: Path) -> set[str]:
    return {str(f.relative_to(package)) for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts}


def test_every_file_of_the_library_is_in_the_wheel(installed):
    assert files_of(installed / "dped_lib") == files_of(ROOT / "dped_lib")
    assert len(files_of(installed / "dped_lib")) > 50


def test_help_and_doctor(dped):
    done = dped("--help")
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"\b{command}\b", done.stdout) for command in ("fetch", "train", "enhance", "run"))
    done = dped("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ok +VGG-19", done.stdout, re.MULTILINE)
    assert re.search(r"^optional +packages +no requirements.lock", done.stdout, re.MULTILINE)


def test_a_photograph_is_enhanced(dped, installed, tmp_path):
    """By the installed code and not by the checkout's: the result is that of the network."""
    torch.manual_seed(0)
    network = models.generator("srcnn")
    network_files.save_tensors(network.state_dict(), tmp_path / "mine.safetensors", {"model": "srcnn"})
    photograph = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(photograph).save(tmp_path / "mine.png")
    done = dped("enhance", "--weights", "mine.safetensors", "--precision", "float32", "mine.png", "out.png")
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        enhanced = network(torch.tensor(photograph).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).clamp(0, 1)
    with Image.open(tmp_path / "out.png") as written:
        assert np.abs(np.asarray(written) / 255 - enhanced.numpy()).max() < 1 / 255
    code = "import dped_lib; print(dped_lib.__file__)"
    where = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, text=True
    )
    assert Path(where.strip()).is_relative_to(installed)


@pytest.mark.parametrize("name", list(shipped_runs.runs())[:1])
def test_a_network_that_ships_enhances_without_a_cache_or_a_connection(dped, installed, tmp_path, name):
    """Right after the installation, in an empty folder; the mirror that is named has nothing in it."""
    photograph = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(photograph).save(tmp_path / "mine.png")
    done = dped("enhance", "--weights", f"shipped:{name}", "--precision", "float32", "mine.png", "out.png")
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        image = torch.tensor(photograph).permute(2, 0, 1)[None] / 255
        enhanced = network_files.resolve(f"shipped:{name}")(image)[0].permute(1, 2, 0).clamp(0, 1)
    with Image.open(tmp_path / "out.png") as written:
        assert np.abs(np.asarray(written) / 255 - enhanced.numpy()).max() < 1 / 255
    assert not (tmp_path / "cache" / "sources").exists()
    file = next(installed.rglob("shipped/*/*/model.safetensors"))
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-1])
        done = dped("doctor")
    finally:
        file.write_bytes(whole)  # other tests use this installation, too
    assert re.search(r"^broken +networks that ship +.*: not the file that was shipped", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("what", ["02_color_loss", "all"])
def test_what_needs_the_checkout_says_so(dped, tmp_path, what):
    """In a folder that only looks a little like one."""
    (tmp_path / "notebooks").mkdir()
    done = dped("run", what)
    assert done.returncode == 2
    assert done.stderr == (
        f"dped: {tmp_path}: not a checkout of the project. Notebooks and workflow are not part of the installed "
        "package: clone the project and run this command inside the clone.\n"
    )
    assert not (tmp_path / "runs").exists()
