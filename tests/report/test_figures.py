"""Figures and tables: whole, with provenance beside them, strict JSON; and the drawing of Figure 7 says what the modules are."""

import base64
import functools
import io
import itertools
import json
import math
import multiprocessing
import re
import shlex
import subprocess

import cv2
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import saving
import torch
from IPython.core.formatters import DisplayFormatter
from lacking import lacking
from legible import SCREEN, smallest_text
from matplotlib.patches import FancyBboxPatch
from PIL import Image
from torch import nn

from dped_lib import losses, metrics, models, paper
from dped_lib.app import notebook_runner
from dped_lib.base import datasets, paths, presets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import pair_store, pairing
from dped_lib.experiments import (
    architecture,
    gallery,
    networks,
    scores,
    table_layout,
    table_plot,
    tables,
    training_runs,
)
from dped_lib.experiments.scores import Cell
from dped_lib.report import colors, figures, labels, network_diagrams
from dped_lib.user_study import questions

MADE = {"dataset": "rig", "preset": "smoke", "seed": 3, "commit": "abc", "versions": {"torch": "2"}}
PARAMETERS = {"dataset": "rig", "preset": "smoke", "seed": 3}


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The folder where figures of the rig at preset smoke are saved."""
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    return tmp_path / "figures" / "rig-smoke"


def save(made, name="fig99_test", photographs=False, values=(1, 2)):
    fig, axes = plt.subplots()
    axes.plot(values)
    file = figures.save_figure(fig, name, made, {"values": list(values)}, photographs)
    plt.close(fig)
    return file


def test_provenance_names_everything_a_reader_needs():
    made = figures.provenance("rig", "smoke", 3, vgg="Oxford")
    assert {"dataset", "preset", "seed", "vgg", *figures.ENVIRONMENT} == set(made)
    assert made["versions"]["torch"] == torch.__version__
    assert made["threads"]["torch"] == torch.get_num_threads()


@pytest.mark.parametrize("width", [2.0, 3.1, 4.4])
def test_a_line_of_a_caption_ends_between_entries(saved, width):
    fig = plt.figure(figsize=(width, 2))
    figures.save_figure(fig, "fig99_test", {**MADE, "phone": "sony", "n": "30 pairs"}, {})
    lines = fig.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert " ".join(lines) == figures.caption({**MADE, "phone": "sony", "n": "30 pairs"})
    assert len(lines) > 1
    for line in lines[:-1]:  # only the words of the dataset are long enough to be broken
        assert line.endswith(" ·") or line.startswith("dataset"), lines


def test_caption_names_data_network_and_length_but_nothing_that_changes_from_run_to_run():
    made = figures.provenance(
        "rig", "smoke", 3, phone="sony", network="trained here", iterations="60 of batch 2", n="30 pairs", vgg="Oxford"
    )
    assert figures.caption(made) == (
        "dataset rig: simulated rig · preset smoke · phone Sony Xperia Z · network trained here · iterations 60 of batch 2 · "
        "seed 3 · n 30 pairs"
    )


def test_every_dataset_is_described():
    assert set(figures.DATASET_WORDS) == set(datasets.DATASETS)
    assert "simulated" in figures.DATASET_WORDS["rig"] and "real" in figures.DATASET_WORDS["pirm"]


def test_json_is_strict():
    cell = Cell("3", "iphone", "mse", "val", 2, 1, (0,), math.inf, (1.0, math.nan), 0.5, (0.4, 0.6), [], None, {})
    text = figures.to_json({"a": np.float32(1.5), "b": math.inf, "c": math.nan, "d": np.arange(2), "e": cell, 1: True})
    found = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert found["a"] == 1.5 and found["b"] == "infinite" and found["c"] is None and found["d"] == [0, 1]
    assert found["e"]["psnr"] == "infinite" and found["e"]["psnr_interval"] == [1.0, None] and found["1"] is True


def test_figure_and_numbers_lie_side_by_side(saved):
    file = save(MADE)
    assert file == saved / "fig99_test.png" and file.read_bytes().startswith(b"\x89PNG")
    beside = json.loads(file.with_suffix(".json").read_text())
    assert beside == {"figure": "fig99_test", "parameters": PARAMETERS, "numbers": {"values": [1, 2]}}
    assert figures.read_result(file.with_suffix(".json")) == beside
    assert figures.provenance_of(file) == MADE


def test_a_picture_may_be_as_wide_as_asked_for(saved):
    fig, axes = plt.subplots(figsize=(4, 1))
    axes.plot([1, 2])
    file = figures.save_figure(fig, "fig01_test", MADE, {}, photographs=True, pixels=2000)
    assert cv2.imread(str(file)).shape[1] == 2000
    plt.close(fig)


def test_notebooks_store_plots_as_png_and_photographs_as_jpeg():
    """The lines and letters of a plot stay sharp, and keep their colours; photographs stay small."""
    display = DisplayFormatter()
    figures.store_small(display)
    fig, axes = plt.subplots(figsize=(3, 2))
    axes.plot([1, 2], color=colors.VERMILION, lw=4)
    data, _ = display.format(fig)
    assert {kind for kind in data if kind.startswith("image/")} == {"image/png"}
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as plot:
        drawn = {color for _, color in plot.convert("RGB").getcolors(256)}
    wanted = [round(255 * v) for v in mpl.colors.to_rgb(colors.VERMILION)]
    assert min(max(abs(a - b) for a, b in zip(color, wanted, strict=True)) for color in drawn) <= 4
    axes.imshow(np.zeros((4, 4, 3), np.uint8))
    data, _ = display.format(fig)
    assert {kind for kind in data if kind.startswith("image/")} == {"image/jpeg"}
    plt.close(fig)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_words_are_cut_off_at_the_edge(saved, count):
    """Pictures of a fixed shape move while they are laid out, and their titles with them."""
    figures.use_style()
    pictures = {f"picture {i}": np.zeros((225, 300, 3), np.uint8) for i in range(count)}
    fig = gallery.grid([pictures])
    figures.save_figure(fig, "fig99_test", {**MADE, "iterations": "60 of batch 2 " * 9}, {}, pixels=2000)
    words = [*(ax.title for ax in fig.axes), fig._supxlabel]
    assert len(words) == count + 1
    for box in (w.get_window_extent(fig.canvas.get_renderer()) for w in words):
        assert box.x0 > 0 and box.y0 > 0 and box.x1 < fig.bbox.x1 and box.y1 < fig.bbox.y1
    plt.close(fig)


def test_table_is_written_to_be_read_and_to_be_computed_with(saved):
    frame = pd.DataFrame({"phone": ["iphone"], "mse": ["20.10"]})
    file = figures.save_table(frame, "table9", MADE, "Table 9", {"x": 1}, "A note.")
    assert {f.name for f in saved.iterdir()} == {"table9.md", "table9.csv", "table9.json", "provenance.json"}
    text = file.read_text()
    assert "A note." in text and "simulated rig" in text and "| iphone" in text and "| 20.10" in text
    assert pd.read_csv(file.with_suffix(".csv"), dtype=str).equals(frame)
    assert figures.provenance_of(file) == MADE


def test_same_numbers_from_another_commit_time_and_machine_change_one_file_only(saved):
    """git then shows that file alone."""
    frame = pd.DataFrame({"phone": ["iphone"]})
    contents = []
    for commit, device in (("abc", "CPU"), ("def", "GPU")):
        made = {
            **PARAMETERS,
            "commit": commit,
            "time": f"2026-{commit}",
            "versions": {"torch": commit},
            "device": device,
        }
        save(made)
        save(made, "fig98_photographs", photographs=True)
        figures.save_table(frame, "table9", made, "Table 9", {"x": 1})
        contents.append({file.name: file.read_bytes() for file in saved.iterdir()})
    changed = {name for name in contents[0] if contents[0][name] != contents[1][name]}
    assert contents[0].keys() == contents[1].keys() and changed == {"provenance.json"}


def test_pictures_carry_no_version_or_date_of_the_software(saved):
    made = figures.provenance("rig", "smoke", 3)
    for file in (save(made), save(made, "fig98_photographs", photographs=True)):
        content = file.read_bytes()
        for word in ("Software", "matplotlib", mpl.__version__, made["commit"], "tEXt", "tIME", "Exif"):
            assert word.encode() not in content, (file.name, word)


def test_provenance_says_once_what_most_artifacts_have_in_common(saved):
    save({**MADE, "time": "1"}, "a")
    save({**MADE, "time": "2"}, "b")
    save({**MADE, "time": "3", "commit": "other", "device": "GPU"}, "c")
    assert json.loads((saved / "provenance.json").read_text()) == {
        "common": {"commit": "abc", "versions": {"torch": "2"}},
        "artifacts": {"a": {"time": "1"}, "b": {"time": "2"}, "c": {"commit": "other", "time": "3", "device": "GPU"}},
    }
    assert figures.provenance_of(saved / "a.png") == {**MADE, "time": "1"}
    assert figures.provenance_of(saved / "c.json") == {**MADE, "time": "3", "commit": "other", "device": "GPU"}
    # An artifact that was deleted leaves the record with the next one that is saved.
    (saved / "c.json").unlink()
    save({**MADE, "time": "4"}, "b")
    assert set(json.loads((saved / "provenance.json").read_text())["artifacts"]) == {"a", "b"}


def test_a_table_without_rows_has_its_columns():
    """A study without the pair DSLR and enhanced has no verdicts, and its table is empty."""
    text = figures.to_markdown(pd.DataFrame([], columns=["set", "pair"]))
    assert "set" in text and "pair" in text and len(text.splitlines()) == 2


def test_jobs_that_end_together_are_all_recorded(saved):
    # Not forked: threads of other tests may hold locks, and a forked process would wait for them for ever.
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(functools.partial(saving.save_tables, MADE), range(4))
    for process in range(4):
        for i in range(5):
            name = f"table_{process}_{i}"
            assert figures.provenance_of(saved / f"{name}.json")["time"] == name
    assert [f.name for f in saved.iterdir() if f.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["fig99_test.json", "provenance.json"])
def test_a_damaged_record_is_named(saved, name):
    file = save(MADE)
    (saved / name).write_text("{")
    with pytest.raises(DpedError, match=f"{name}: damaged"):
        figures.provenance_of(file)


def test_committed_figures_keep_provenance_in_one_file_a_folder():
    """Nothing that differs between two runs stands in the other files, and every artifact has a commit and versions."""
    folders = sorted(f for f in paths.published_figures().iterdir() if f.is_dir())
    assert folders
    for folder in folders:
        results = [f for f in folder.glob("*.json") if f.name != figures.PROVENANCE]
        recorded = json.loads((folder / figures.PROVENANCE).read_text())
        assert set(recorded["artifacts"]) == {f.stem for f in results}
        for file in results:
            content = json.loads(file.read_text())
            assert not {"provenance", *figures.ENVIRONMENT} & {*content, *content["parameters"]}, file
            dataset, _, preset = folder.name.rpartition("-")
            assert (content["parameters"]["dataset"], content["parameters"]["preset"]) == (dataset, preset), file
        for file in folder.glob("*.md"):
            assert not re.search(r"· (commit|torch) ", file.read_text()), file
        if results:
            made = figures.provenance_of(results[0])
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
    """The command is one that `dped run` understands, for this dataset and preset, and of a notebook that names the result."""
    for folder in {f for f in paths.published_figures().iterdir() if f.is_dir()}:
        for file in {f for f in folder.glob("*.json") if f.name != figures.PROVENANCE}:
            command = json.loads(file.read_text()).get("reproduce", "")
            if folder.name in WITHOUT_COMMANDS and not command:
                continue
            dped, run, name, *options = shlex.split(command)
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
        if file.name != figures.PROVENANCE and file.parent.name not in WITHOUT_COMMANDS:
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


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("pirm-cpu/fig01_before_after.jpg", True),
        ("pirm-cpu/fig05_blurred_fragments.png", True),
        ("pirm-cpu/fig07_system_code.png", True),
        ("pirm-cpu/training_samples-iphone-mse-s0.png", True),
        ("pirm-cpu/fig06_color_loss_shift.png", False),
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


# ---------------------------------------------------------------------------------------------- where they are saved


def test_a_notebook_run_by_hand_never_saves_in_figures(monkeypatch, tmp_path):
    monkeypatch.delenv("DPED_FIGURES")
    monkeypatch.setenv("DPED_RUNS", str(tmp_path))
    assert save(MADE) == tmp_path / "rig-smoke" / "figures" / "fig99_test.png"
    assert figures.provenance_of(tmp_path / "rig-smoke" / "figures" / "fig99_test.json") == MADE
    assert paths.figures_root() == tmp_path
    # It reads what it saved; of other data, what is published.
    assert figures.result_folder("rig", "smoke") == tmp_path / "rig-smoke" / "figures"
    assert figures.result_folder("pirm", "cpu") == paths.published_figures() / "pirm-cpu"


def test_the_workflow_says_where_to_save(saved):
    """``workflow/Snakefile`` sets DPED_FIGURES; then nothing else is read, either."""
    assert save(MADE).parent == saved == figures.result_folder("rig", "smoke")
    assert figures.result_folder("pirm", "cpu") == saved.parent / "pirm-cpu"


@pytest.mark.parametrize(
    ("mapping", "things"),
    [
        (colors.PHONES, {*datasets.ALL_PHONES, "dslr"}),
        (colors.KERNELS, {"mse", *losses.KERNELS}),
        (colors.LOSSES, set(losses.LOSSES)),
        (colors.DISCRIMINATORS, set(models.DISCRIMINATORS)),
        (colors.CLASSES, {cls for classes in questions.KINDS.values() for cls in classes}),
    ],
)
def test_each_thing_has_a_colour_of_its_own(mapping, things):
    assert set(mapping) == things
    assert len(set(mapping.values())) == len(mapping)


def test_words_on_a_colour_can_be_read():
    assert colors.text_on(colors.BLACK) == "white" and colors.text_on(colors.YELLOW) == "black"


def test_the_smallest_text_counts_the_width_and_exponents():
    fig, axes = plt.subplots(figsize=(2 * figures.WIDTH, 3))
    axes.set(xticks=[], yticks=[])
    axes.text(0, 0, "words", fontsize=18)
    assert smallest_text(fig) == pytest.approx(9)
    axes.text(0, 0, "$10^{3}$", fontsize=18)
    assert smallest_text(fig) == pytest.approx(0.7 * 9)
    plt.close(fig)


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
        assert {"network", "iterations"} <= figures.read_result(file)["parameters"].keys(), file.name


@pytest.mark.parametrize("form", sorted(models.DISCRIMINATORS))
def test_drawn_layers_add_up_to_the_network(form):
    """Every trainable parameter is in a drawn box, and shapes are those that run."""
    with torch.device("meta"):  # the weights play no part
        pairs = (
            (models.generator(), torch.zeros(1, 3, 100, 100)),
            (d := models.discriminator(form), torch.zeros(1, d.inputs, 100, 100)),
        )
    for network, image in pairs:
        found = network_diagrams.layers(network, image)
        assert sum(layer.parameters for layer in found) == models.count_parameters(network)
    assert [layer.kind for layer in found].count("conv") == (5 if form == "code" else 6)
    generator = network_diagrams.layers(models.generator(), torch.zeros(1, 3, 64, 48))
    assert [layer.kind for layer in generator].count("conv") == 12
    assert generator[-1].shape == (3, 64, 48) and generator[0].label == "9x9"
    assert not any(m._forward_hooks for m in network.modules()), "hooks are taken off again"


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_figure_7_shows_the_whole_system(loss, variant):
    """Each term of the loss has its box and its weight."""
    figures.use_style()
    picture = np.zeros((100, 100, 3), np.uint8)
    fig = network_diagrams.system(loss, variant, {"phone": picture, "dslr": picture})
    words = [text.get_text() for text in fig.axes[0].texts]
    terms = losses.LOSSES[loss].terms
    names = {"color": "colour loss", "content": "content loss", "texture": "texture loss", "tv": "total variation"}
    total = next(w for w in words if w.startswith("loss ="))
    for term in losses.weights_of(variant):
        name = names.get(term, "MSE")
        assert any(w.startswith(name) for w in words) == (term in terms)
        assert (f"{losses.weights_of(variant)[term]:g} x {name}" in total) == (term in terms)
    assert {"phone", "enhanced", "DSLR", "generator"} <= set(words) and len(fig.axes[0].images) == 2
    assert any("discriminator" in w for w in words) == ("texture" in terms)
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    assert fig.get_figheight() <= SCREEN, "a screen shows all of it"
    plt.close(fig)


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
def test_figure_7_shows_every_layer(variant):
    """Each layer of the networks that the paper's loss trains has its box, and the abbreviations are explained."""
    figures.use_style()
    fig = network_diagrams.networks(variant)
    words = [text.get_text() for text in fig.axes[0].texts]
    with torch.device("meta"):
        drawn = models.generator(), models.discriminator(losses.DISCRIMINATOR_OF[variant])
    convolutions = sum(isinstance(m, nn.Conv2d) for network in drawn for m in network.modules())
    assert sum(bool(re.match(r"\d+x\d+( /\d)?\n", w)) for w in words) == convolutions
    assert any(w.startswith("Discriminator: ") for w in words)
    assert any("FC: fully connected" in w for w in words) and fig.get_figheight() <= SCREEN
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


@pytest.mark.parametrize(("variant", "texture"), [("code", ["enhanced"]), ("paper", ["enhanced", "dslr"])])
def test_arrows_of_figure_7_end_where_the_images_are_used(variant, texture):
    """The code's texture loss sees the enhanced image alone, but both images train its discriminator."""
    fig = network_diagrams.system(variant=variant)
    ax = fig.axes[0]
    place = {text.get_text().split("\n")[0]: text.get_position() for text in ax.texts if text.get_text()}
    inks = {colors.CLASSES[name]: name for name in ("enhanced", "dslr")}
    arrows = [(*text.xy, inks.get(text.arrowprops["color"])) for text in ax.texts if getattr(text, "arrowprops", None)]

    def reach(box):
        x, y = place[box]
        return [name for at, end, name in arrows if name and abs(at - x) < 0.5 and 0 < y - end < 0.3]

    assert reach("texture loss") == texture
    assert reach("discriminator of") == reach("Gaussian blur") == reach("colour loss") == ["enhanced", "dslr"]
    assert reach("total variation") == ["enhanced"]
    words = [text.get_text() for text in ax.texts]
    assert words.count("trains") == 2 and any("also trains the discriminator" in w for w in words)
    whose = next(w for w in words if w.startswith("loss =")).splitlines()[1]
    assert whose == {"code": "(form of equation 8, weights of the authors' code)", "paper": "(equation 8)"}[variant]
    plt.close(fig)


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
@pytest.mark.parametrize("part", [network_diagrams.system, network_diagrams.networks])
def test_words_of_figure_7_stay_in_their_boxes_and_arrows_apart(variant, part):
    figures.use_style()
    fig = part(variant=variant)
    fig.draw_without_rendering()
    ax = fig.axes[0]
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    inside = 0
    for words in (text.get_window_extent() for text in ax.texts if text.get_text()):
        for box in (b for b in boxes if b.contains((words.x0 + words.x1) / 2, (words.y0 + words.y1) / 2)):
            assert box.x0 + 2 < words.x0 and words.x1 < box.x1 - 2 and box.y0 < words.y0 and words.y1 < box.y1
            inside += 1
    assert inside == len(boxes)
    around = [line.get_xydata() for line in ax.lines if len(line.get_xydata()) == 3]  # from a block's input to its sum
    assert len(around) == (0 if part is network_diagrams.system else 4)
    for one, other in itertools.permutations(around, 2):
        same_row = one[0][1] == other[0][1]
        assert not same_row or abs(one[0][0] - other[-1][0]) > 0.04, "a sum ends beside the next block's input"
    plt.close(fig)


def test_a_caption_keeps_the_name_of_a_network_whole(saved):
    named = "shipped:rig-iphone, shipped:rig-iphone-dong, shipped:rig-iphone-johnson, unless another is named"
    for width in (3.1, 4.4, 5.7, 7.3):
        fig = plt.figure(figsize=(width, 2))
        figures.save_figure(fig, "fig99_test", {**MADE, "network": named}, {})
        for name in re.findall(r"shipped:[\w-]+", named):
            assert re.search(rf"{name}(,|\s|$)", fig.get_supxlabel()), fig.get_supxlabel()
        plt.close(fig)


def test_a_logarithmic_axis_has_plain_numbers():
    fig, ax = plt.subplots()
    ax.plot([1, 2], [0.4, 12])
    ax.set_yscale("log")
    figures.plain_numbers(ax.yaxis)
    fig.draw_without_rendering()
    low, high = ax.get_ylim()
    shown = [
        t.get_text() for t in ax.get_yticklabels(which="both") if t.get_text() and low <= t.get_position()[1] <= high
    ]
    assert shown == ["0.5", "1", "2", "5", "10"]
    plt.close(fig)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six photographs of two pairs each; the phone is the Canon, darker."""
    rng = np.random.default_rng(0)

    def pairs():
        for i in range(12):
            dslr = rng.integers(80, 256, (100, 100, 3), dtype=np.uint8)
            yield pairing.Pair(str(i), f"p{i // 2}", (dslr * 0.8).astype(np.uint8), dslr)

    return pair_store.write_store(
        tmp_path_factory.mktemp("store") / "iphone", pairs(), {"dataset": "rig", "phone": "iphone", "report": {}}
    )


class Brighter(nn.Module):
    def forward(self, image):
        return image / 0.8


def test_cells_measure_compare_and_cite(store):
    preset = presets.preset("smoke")
    methods = {"original": nn.Identity(), "ours": {0: Brighter()}}
    found, differences = scores.score_methods(
        "2", store, methods, "train", preset, {"ours": paper.Score(19.16, 0.9114)}
    )
    original, ours = found
    assert ours.psnr > original.psnr + 10 and ours.ms_ssim > original.ms_ssim
    for c in found:
        assert c.psnr_interval[0] <= c.psnr <= c.psnr_interval[1]
        assert c.pairs == len(store.index("train")) and c.photographs == c.pairs // 2
        assert set(c.scores) == set(metrics.PROTOCOLS)
    assert (
        ours.published == (19.16, 0.9114)
        and "(paper 19.16)" in ours.text("psnr")
        and "(paper 0.9114)" in ours.text("ms_ssim")
    )
    assert "paper" not in original.text("psnr")
    frame = table_layout.cells_frame(found, ("original", "ours", "authors"), "rig")
    assert list(frame["phone"]) == ["iPhone 3GS"] * 3
    assert list(frame["method"]) == ["original", "ours", "ours, authors' weights"]
    # "authors" was not run here, but the paper's later version has its score.
    assert list(frame["PSNR (dB), paper"]) == ["", "19.16", "20.08"]
    assert list(frame["MS-SSIM, paper"]) == ["", "0.9114", "0.9201"]
    assert table_layout.how_to_read(frame) == "Value [95 % interval], and the paper's value beside it."
    assert frame["PSNR (dB)"][1] == ours.measured("psnr") and frame["PSNR (dB)"][2] == "not run"
    counted = f"iPhone 3GS {ours.pairs} pairs of {ours.photographs} photographs"
    assert table_layout.pairs_in_words(found, "rig") == counted
    of_ours = [d if d.first == "ours" else d.reversed() for d in differences]
    assert {(d.first, d.second, d.verdict) for d in of_ours} == {("ours", "original", "higher")}
    assert all(d.difference > 0 for d in of_ours)


def test_plot_shows_every_cell_and_every_published_value():
    found = [
        Cell("3", phone, loss, "val", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], (score.psnr, score.ssim), {})
        for phone in paper.PHONES
        for loss, score in paper.TABLE3[phone].items()
    ]
    fig = table_plot.plot_cells(found, losses.TABLE3_LOSSES, "Table 3", "rig")
    for axes, value in zip(fig.axes, ("psnr", "ssim"), strict=True):
        hollow = sorted(
            line.get_xdata()[0]
            for line in axes.lines
            if line.get_marker() == "o" and line.get_markerfacecolor() == "white"
        )
        assert hollow == sorted(getattr(s, value) for row in paper.TABLE3.values() for s in row.values())
        assert axes.get_xlabel().startswith(("PSNR (dB)", "MS-SSIM"))
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    assert named == ["iPhone 3GS", "BlackBerry Passport", "Sony Xperia Z", "this run, 95 % interval", "the paper"]
    assert "9 held-out pairs" in fig.legends[0].get_title().get_text()
    plt.close(fig)


def cell(phone, column, table="2"):
    """Return some cell of a table."""
    return Cell(table, phone, column, "test", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], None, {})


def test_a_camera_that_the_paper_does_not_have_has_no_place_for_its_values():
    """The iPhone X: neither columns, nor words, nor a mark of the legend speak of values that nobody published."""
    found = [cell("iphonex", column) for column in ("original", "ours", "authors")]
    frame = table_layout.cells_frame(found, ("original", "ours", "authors"), "city100")
    assert list(frame) == ["phone", "method", "PSNR (dB)", "MS-SSIM"]
    assert table_layout.how_to_read(frame) == "Value [95 % interval]."
    fig = table_plot.plot_cells(found, ("original", "ours", "authors"), "Table 2", "city100")
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["iPhone X", "this run, 95 % interval"]
    plt.close(fig)


def test_the_rig_has_no_rows_of_the_authors_weights():
    """They were made for real photographs. The note of Table 2 says so once."""
    lacking = {
        "ape": "no pictures were brought: DPED_BASELINES names no folder with them",
        "authors": "made for real photographs, and ...",
    }
    assert tables.columns2("rig") == ("original", "auto", "ape", "dong", "johnson", "ours")
    assert tables.columns2("city100") == tables.COLUMNS2
    assert table_layout.notes_on_methods({"iphone": lacking, "sony": lacking}, "rig") == (
        "The authors' weights were made for real photographs, so they are not tested on the rig. "
        "The automatic contrast is Pillow's, a stand-in for Apple's. "
        "Not run: Apple Photo Enhancer (no pictures were brought)."
    )


def test_a_note_names_the_phones_only_where_they_differ():
    missing = {"iphone": {}, "sony": {"dong authors": "the authors published it for the iPhone only"}}
    words = table_layout.notes_on_methods(missing, "pirm")
    assert words.startswith(
        "On the iPhone the value beside the authors' own network is that of the paper's later version."
    )
    assert words.endswith(
        "Not run: Dong et al., authors' weights on Sony Xperia Z (the authors published it for the iPhone only)."
    )
    assert "Not run" not in table_layout.notes_on_methods({"iphone": {}}, "pirm")


def test_columns_without_a_count_are_left_out():
    frame = pd.DataFrame({"phone": ["a", "b"], "flat": [0, 2], "edge": [0, 0], "paper": ["", ""]})
    assert list(table_layout.without_empty(frame)) == ["phone", "flat"]


def test_the_papers_later_version_has_its_own_mark():
    """Table 2 has scores of the paper's first version, but on the iPhone those of the authors' weights are later."""
    found = [cell(phone, column) for phone in paper.PHONES for column in ("ours", "authors")]
    fig = table_plot.plot_cells(found, ("ours", "authors"), "Table 2", "rig")
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert set(legend) >= {"the paper", "its later version"}
    assert fig.legends[0].get_window_extent(fig.canvas.get_renderer()).width <= fig.bbox.width
    diamonds = [line for line in fig.axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [paper.TABLE2_LATER_VERSION["iphone"].psnr]
    (circle,) = {
        line.get_xdata()[0]
        for line in fig.axes[0].lines
        if line.get_markerfacecolor() == "white" and line.get_ydata()[0] == diamonds[0].get_ydata()[0] - 1
    }
    assert circle == paper.TABLE2["iphone"]["ours"].psnr
    plt.close(fig)


def test_a_phone_without_a_score_says_so_beside_the_others():
    """Table 3 of the rig: the Sony has one loss, and the words stand where its scores would."""
    found = [cell("iphone", loss, "3") for loss in losses.TABLE3_LOSSES] + [cell("sony", losses.TABLE3_LOSSES[0], "3")]
    fig = table_plot.plot_cells(found, losses.TABLE3_LOSSES, "Table 3", "rig")
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert names == ["colour + content +\ntexture", "content + texture", "MSE + texture", "MSE"]
    for axes in fig.axes:
        of_sony = [line for line in axes.lines if line.get_markeredgecolor() == colors.PHONES["sony"]]
        heights = sorted({y for line in of_sony for y in line.get_ydata()})
        assert {t.get_text() for t in axes.texts} == {"not run"} and len(axes.texts) == 3
        assert {t.get_color() for t in axes.texts} == {colors.PHONES["sony"]}
        assert sorted(t.get_position()[1] for t in axes.texts) == heights[1:], "beside its published values"
    plt.close(fig)


def test_a_plot_says_what_was_not_run():
    """A method without scores has its place, the words "not run" and the paper's values."""
    found = [Cell("2", "sony", "ours", "test", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], None, {})]
    fig = table_plot.plot_cells(found, ("ours", "ape"), "Table 2", "rig")
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["ours", "Apple Photo\nEnhancer"]
    for axes, value in zip(fig.axes, ("psnr", "ssim"), strict=True):
        assert [(t.get_text(), t.get_position()[1]) for t in axes.texts] == [("not run", 1)]
        hollow = {
            (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_markerfacecolor() == "white"
        }
        published = paper.TABLE2["sony"]
        assert hollow == {(getattr(published[c], value), y) for y, c in enumerate(("ours", "ape"))}
    plt.close(fig)


def test_figure_7_shows_what_the_trained_network_makes(store, monkeypatch, tmp_path):
    """The patch is enhanced by the network with the paper's loss, whatever the loss of the run; else there is no picture."""
    params = run_parameters.train_params("rig", "iphone", "mse", "smoke", seed=5)
    asked = []

    monkeypatch.setattr(training_runs.TrainResult, "origin", "trained here")

    def finished(params, *_):
        asked.append(params)
        return training_runs.TrainResult(tmp_path, params, models.generator("srcnn").eval(), "VGG") if result else None

    monkeypatch.setattr(training_runs, "finished_run", finished)
    for result in (False, True):
        fig, facts = architecture.figure7(params, "smoke", store)
        assert len(fig.axes[0].images) == 2 + result
        assert ("no picture" in [t.get_text() for t in fig.axes[0].texts]) != result
        assert facts.get("network") == ("trained here" if result else None)
        plt.close(fig)
    assert {(p.loss, p.seed) for p in asked} == {("color+content+texture", 5)}


def test_missing_weights_are_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_MIRROR", str(tmp_path))
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "cache"))
    for phone in ("iphone", "iphonex"):
        reason = networks.authors_network_for(phone)
        assert "mirror lacks" in reason
        note = table_layout.notes_on_methods({phone: {"authors": reason}}, "city100")
        assert note.endswith(f"Not run: {labels.method_name('authors')} (the authors' weights are not here).")


def test_paths_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    assert paths.figures_dir("pirm", "paper") == tmp_path / "pirm-paper"
