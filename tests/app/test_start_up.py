"""What a command or module imports before it answers: every package costs time at each start."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import numpy as np
from PIL import Image
from small import make_store, network

from dped_lib.base import paths
from dped_lib.data import network_files

#: What a process runs before it prints the modules that it holds.
_COMMAND = """
import atexit, sys
atexit.register(lambda: print("modules:", *sys.modules))
from dped_lib.app import cli
sys.argv[0] = "dped"
cli.main()
"""
#: PyTorch, and what it imports itself.
TORCH = {"torch", "torchgen", "numpy", "tqdm"}
#: Packages that draw figures, run notebooks or fetch files.
NOT_FOR_NETWORKS = {"matplotlib", "pandas", "scipy", "skimage", "sklearn", "requests", "pooch", "IPython", "ipykernel"}
NOT_FOR_NETWORKS |= {"jupyterlab", "ipywidgets", "voila", "nbformat", "papermill", "snakemake"}
_MODULE = "import sys, {}; print('modules:', *sys.modules)"


def own_dependencies() -> set[str]:
    """The import names of the packages that pyproject.toml names."""
    project = tomllib.loads((paths.project_root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    distributions = {re.match(r"[\w.-]+", d).group().lower().replace("_", "-") for d in named}
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if {o.lower().replace("_", "-") for o in owners} & distributions
    }


def loaded(code: str, *arguments: str, **environment: str) -> list[str]:
    """Run code in a process of its own. Return the names of the modules that it holds at its end."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.rpartition("modules:")[2].split()


def imported(code: str, *arguments: str, **environment: str) -> tuple[set[str], set[str]]:
    """Run code in a process of its own. Return the packages among our dependencies, and the rooms, that it imports."""
    modules = loaded(code, *arguments, **environment)
    rooms = {m.split(".")[1] for m in modules if m.startswith("dped_lib.")}
    return {m.split(".")[0] for m in modules} & own_dependencies(), rooms


def test_the_names_of_dependencies_are_import_names():
    assert {"torch", "numpy", "cv2", "PIL", "matplotlib", "papermill", "ipywidgets", "pandas"} <= own_dependencies()


def test_the_core_needs_torch_and_numpy_alone():
    """``import dped_lib.losses`` is the start of every notebook that teaches: no rig, no figures, no notebook tools."""
    packages, rooms = imported(_MODULE.format("dped_lib.losses, dped_lib.models, dped_lib.vgg, dped_lib.metrics"))
    assert packages <= TORCH
    assert rooms == {"losses", "models", "vgg", "metrics", "paper", "base"}


def test_help_computes_nothing():
    packages, rooms = imported(_COMMAND, "--help")
    assert packages <= {"typer", "filelock", "platformdirs"}
    assert rooms == {"app", "base", "data", "paper"}  # of data, the list of what ships, which reads no tensor


def test_enhancement_starts_without_what_it_does_not_use(tmp_path):
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "in.png")
    weights = tmp_path / "small.safetensors"
    described = {"model": "resnet_8_32", "variant": "code", "norm": ""}
    network_files.save_tensors(network("resnet_8_32").state_dict(), weights, described)
    packages, rooms = imported(
        _COMMAND, "enhance", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--weights", str(weights)
    )
    assert (tmp_path / "out.png").exists()
    files = {"PIL", "cv2", "pillow_heif", "_pillow_heif", "safetensors", "google_crc32c"}
    assert packages <= {*TORCH, "typer", "filelock", "platformdirs", "packaging", *files}
    assert rooms == {"app", "base", "paper", "models", "losses", "vgg", "metrics", "data", "speed", "enhance"}


def test_training_starts_without_figures_and_notebooks(tmp_path):
    make_store(tmp_path / "own-cpu" / "patches" / "phone")
    changes = [part for text in ("iterations=1", "batch_size=1", "eval_pairs=1") for part in ("--set", text)]
    packages, rooms = imported(
        _COMMAND, "train", "--dataset", "own", "--loss", "dong", *changes, DPED_RUNS=str(tmp_path)
    )
    assert len(list(tmp_path.rglob("model.safetensors"))) == 1
    assert not packages & NOT_FOR_NETWORKS
    assert not rooms & {"explorers", "user_study", "report"}


def test_a_job_that_runs_a_notebook_compiles_no_grammars():
    """lark compiled those of web addresses for one to four seconds, each time that nbformat was imported."""
    modules = set(loaded(_MODULE.format("dped_lib.app.notebook_runner")))
    assert {"nbformat", "papermill", "jsonschema"} <= modules and not {"lark", "matplotlib"} & modules


def test_commands_on_networks_start_without_figures_and_notebooks(tmp_path):
    make_store(tmp_path / "own-cpu" / "patches" / "phone")
    network_files.save_tensors(
        network("resnet_8_32").state_dict(),
        weights := tmp_path / "small.safetensors",
        {"model": "resnet_8_32", "variant": "code", "norm": ""},
    )
    for command in (
        ("evaluate", "--weights", str(weights), "--dataset", "own"),
        ("export", str(weights), str(tmp_path / "small.onnx")),
    ):
        packages, rooms = imported(_COMMAND, *command, DPED_RUNS=str(tmp_path))
        assert not packages & NOT_FOR_NETWORKS, command
        assert not rooms & {"explorers", "user_study", "experiments"}, command
