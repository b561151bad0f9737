"""What is committed in figures/: provenance in one file a folder, commands, whose network, and no pictures of others."""

import json
import re
import shlex
import subprocess

import matplotlib as mpl
import pytest
from lacking import lacking
from PIL import Image

from dped_lib.app import notebook_runner
from dped_lib.base import paths
from dped_lib.report import figures, provenance


def test_committed_figures_keep_provenance_in_one_file_a_folder():
    """Nothing that differs between two runs stands in the other files, and every artifact has a commit and versions."""
    folders = sorted(f for f in paths.published_figures().iterdir() if f.is_dir())
    assert folders
    for folder in folders:
        results = [f for f in folder.glob("*.json") if f.name != provenance.PROVENANCE]
        recorded = json.loads((folder / provenance.PROVENANCE).read_text())
        assert set(recorded["artifacts"]) == {f.stem for f in results}
        for file in results:
            content = json.loads(file.read_text())
            assert not {"provenance", *provenance.ENVIRONMENT} & {*content, *content["parameters"]}, file
            dataset, _, preset = folder.name.rpartition("-")
            assert (content["parameters"]["dataset"], content["parameters"]["preset"]) == (dataset, preset), file
        for file in folder.glob("*.md"):
            assert not re.search(r"· (commit|torch) ", file.read_text()), file
        if results:
            made = provenance.of_artifact(results[0])
            assert re.match(r"[0-9a-f]{10}", made["commit"]) and made["versions"]["torch"]


@pytest.mark.parametrize(
    "file", sorted(paths.published_figures().glob("*/*.png")), ids=lambda f: f"{f.parent.name}/{f.name}"
)
def test_no_picture_is_wider_than_a_column(file):
    """A wider one is shrunk to the column, and its text with it. Figure 1 is stored larger on purpose."""
    figures.use_style()
    with Image.open(file) as picture:
        assert picture.width <= round(figures.WIDTH * mpl.rcParams["savefig.dpi"]) or file.name.startswith("fig01")


#: Folders whose results are older than the record of their commands.
WITHOUT_COMMANDS = {"pirm-cpu"}


def test_every_committed_result_names_the_command_that_reproduces_it():
    """The command is one that `dped run` understands, for this dataset and preset."""
    folders = [f for f in paths.published_figures().iterdir() if f.is_dir()]
    assert folders
    for folder in folders:
        for file in {f for f in folder.glob("*.json") if f.name != provenance.PROVENANCE}:
            command = json.loads(file.read_text()).get("reproduce", "")
            if folder.name in WITHOUT_COMMANDS and not command:
                continue
            words = shlex.split(command)
            dped, run, name, *options = words[words[0].startswith(("DPED_OWN=", "DPED_DATA=")) :]
            given = list(zip(options[::2], options[1::2], strict=True))
            given = dict(value.split("=", 1) if o == "--set" else (o.removeprefix("--"), value) for o, value in given)
            assert (dped, run, f"{given['dataset']}-{given['preset']}") == ("dped", "run", folder.name), file
            for key, value in given.items():
                assert key in notebook_runner.parameters_of(name), file
                if file.stem.startswith("training_") and key in ("phone", "loss", "seed"):
                    assert f"{'s' * (key == 'seed')}{value}" in file.stem.split("-"), file


def test_every_committed_result_says_whose_network_it_shows():
    """The bare word "trained" is a parameter's and says neither whose a network is nor that it was trained here."""
    named = {}
    for file in paths.published_figures().glob("*/*.json"):
        if file.name != provenance.PROVENANCE and file.parent.name not in WITHOUT_COMMANDS:
            named[file] = json.loads(file.read_text())["parameters"].get("network", "")
    shown = (
        "trained here",
        "trained for the package",
        "shipped:",
        "authors",
        "that ship",
        "of the package",
        "the folder's",
        "not trained",
        "of the paper",
    )
    assert {file: words for file, words in named.items() if words and not any(w in words for w in shown)} == {}
    assert sum("shipped:" in words for words in named.values()) > 10


#: Results in which no network of ours has a part, by the beginning of their names.
UNTRAINED = (
    "alignment_errors", "fig02", "fig03", "fig04", "fig05", "fig06", "fig07_networks", "ncc_distribution", "patch_counts", "provenance",
    "residual_shifts", "table2_all_pairs", "windows_left_out",
)  # fmt: skip


@pytest.mark.parametrize("folder", ["rig-cpu", "city100-cpu"])
def test_results_of_trained_networks_say_whose_and_how_long(folder):
    files = [f for f in (paths.published_figures() / folder).glob("*.json") if not f.name.startswith(UNTRAINED)]
    assert len(files) > 40
    for file in files:
        assert {"network", "iterations"} <= provenance.read_result(file)["parameters"].keys(), file.name


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("pirm-cpu/fig01_before_after.jpg", True),
        ("pirm-cpu/fig05_blurred_fragments.png", True),
        ("pirm-cpu/fig07_system_code.png", True),
        ("pirm-cpu/training_samples-iphone-mse-s0.png", True),
        ("pirm-cpu/fig06_color_loss_shift.png", False),
        ("pirm-cpu/fig07_networks_code.png", False),
        ("pirm-cpu/table2_methods_plot.png", False),
        ("dped-paper/fig06_color_loss_shift.png", True),
        ("own-cpu/table2_methods.md", True),
        ("city100-cpu/fig01_before_after.jpg", False),
    ],
)
def test_git_ignores_pictures_of_photographs_that_are_not_ours_to_publish(name, ignored):
    if not (paths.project_root() / ".git").exists():
        lacking("not a git checkout: there is nothing to ask git about")
    asked = ["git", "check-ignore", "--quiet", "--no-index", f"figures/{name}"]
    assert subprocess.run(asked, cwd=paths.project_root()).returncode == (0 if ignored else 1)
