"""Figures and tables: whole, legible, and the same from run to run."""

import base64
import io
import json
import os
import re

import cv2
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from legible import smallest_text
from PIL import Image
from saving import MADE, PARAMETERS, save

from dped_lib.base.errors import DpedError
from dped_lib.experiments import gallery
from dped_lib.report import colors, figures, provenance


@pytest.mark.parametrize("width", [2.0, 3.1, 4.4])
def test_a_line_of_a_caption_ends_between_entries(saved, width):
    fig = plt.figure(figsize=(width, 2))
    figures.save_figure(fig, "fig99_test", {**MADE, "phone": "sony", "n": "30 pairs"}, {})
    lines = fig.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert " ".join(lines) == provenance.caption({**MADE, "phone": "sony", "n": "30 pairs"})
    assert len(lines) > 1
    for line in lines[:-1]:  # only the words of the dataset are long enough to be broken
        assert line.endswith(" ·") or line.startswith("dataset"), lines


@pytest.mark.parametrize(
    "entry",
    [
        "n iPhone 3GS 120 pairs of 5 photographs, BlackBerry Passport 114 pairs of 5 photographs, "
        "Sony Xperia Z 120 pairs of 5 photographs",
        "network shipped:city100-iphonex, shipped:city100-iphonex-dong; shipped:city100-iphonex-johnson, "
        "or the authors' weights where named",
    ],
)
@pytest.mark.parametrize("width", [48, 60, 80, 109])
def test_a_long_entry_of_a_caption_breaks_at_its_commas_only(entry, width):
    lines = figures.caption_lines(f"preset cpu · {entry} · seed 0", width)
    assert " ".join(lines) == f"preset cpu · {entry} · seed 0" and max(map(len, lines)) <= width
    assert len(lines) > 2 and all(line.endswith((",", ";", " ·")) for line in lines[:-1])


def test_a_caption_keeps_the_name_of_a_network_whole(saved):
    named = "shipped:rig-iphone, shipped:rig-iphone-dong, shipped:rig-iphone-johnson, unless another is named"
    for width in (3.1, 4.4, 5.7, 7.3):
        fig = plt.figure(figsize=(width, 2))
        figures.save_figure(fig, "fig99_test", {**MADE, "network": named}, {})
        for name in re.findall(r"shipped:[\w-]+", named):
            assert re.search(rf"{name}(,|\s|$)", fig.get_supxlabel()), fig.get_supxlabel()
        plt.close(fig)


def test_a_long_entry_is_broken_behind_a_comma():
    entry = "network ours (shipped:city100-iphonex), Dong et al., Johnson et al. or the authors' weights where named; no other"
    lines = figures.caption_lines(f"preset cpu · {entry}", 80)
    assert lines[0] == "preset cpu ·" and " ".join(lines[1:]) == entry
    assert [line[-1] for line in lines[1:-1]] == [","]
    assert max(map(len, figures.caption_lines("word " * 40, 80))) <= 80, "words without a comma are broken, too"


def test_a_diagram_may_have_a_caption_of_its_own(saved):
    """It shows nothing of the dataset, so the words on whose photographs those are would be wrong."""
    fig = plt.figure(figsize=(4, 2))
    file = figures.save_figure(fig, "fig99_test", MADE, {}, caption="variant code")
    assert fig.get_supxlabel() == "variant code" and provenance.of_artifact(file) == MADE
    plt.close(fig)


def test_figure_and_numbers_lie_side_by_side(saved):
    file = save(MADE)
    assert file == saved / "fig99_test.png" and file.read_bytes().startswith(b"\x89PNG")
    beside = json.loads(file.with_suffix(".json").read_text())
    assert beside == {"figure": "fig99_test", "parameters": PARAMETERS, "numbers": {"values": [1, 2]}}
    assert provenance.read_result(file.with_suffix(".json")) == beside
    assert provenance.of_artifact(file) == MADE


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
    assert sampling(data) == (1, 1), "the line has a colour"
    axes.lines[0].remove()
    data, _ = display.format(fig)
    assert sampling(data) == (2, 2), "nothing but the picture has"
    plt.close(fig)


def sampling(data: dict) -> tuple[int, int]:
    """Return how many pixels share a colour in a stored JPEG, across and down."""
    with Image.open(io.BytesIO(base64.b64decode(data["image/jpeg"]))) as picture:
        return picture.layer[0][1:3]


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
    assert provenance.of_artifact(file) == MADE


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
    made = provenance.of_run("rig", "smoke", 3)
    for file in (save(made), save(made, "fig98_photographs", photographs=True)):
        content = file.read_bytes()
        for word in ("Software", "matplotlib", mpl.__version__, made["commit"], "tEXt", "tIME", "Exif"):
            assert word.encode() not in content, (file.name, word)


def test_the_numbers_of_a_column_have_equally_many_decimals():
    frame = pd.DataFrame({"n": [4, 10], "dB": [22.485, 18.6129], "share": [99.5, 100.0], "whole": [1.0, 2.0]})
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in figures.to_markdown(frame).splitlines()[2:]]
    assert rows == [["4", "22.4850", "99.5", "1"], ["10", "18.6129", "100.0", "2"]]


def test_a_number_that_is_not_defined_leaves_the_decimals_of_its_column():
    frame = pd.DataFrame({"protocol": ["standard", "train_script", "pirm_script"], "SSIM": [0.905, np.nan, 0.8068]})
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in figures.to_markdown(frame).splitlines()[2:]]
    assert [row[1] for row in cells] == ["0.9050", figures.NOT_DEFINED, "0.8068"]


def test_a_table_without_rows_has_its_columns():
    """A study without the pair DSLR and enhanced has no verdicts, and its table is empty."""
    text = figures.to_markdown(pd.DataFrame([], columns=["set", "pair"]))
    assert "set" in text and "pair" in text and len(text.splitlines()) == 2


def test_the_smallest_text_counts_the_width_and_exponents():
    fig, axes = plt.subplots(figsize=(2 * figures.WIDTH, 3))
    axes.set(xticks=[], yticks=[])
    axes.text(0, 0, "words", fontsize=18)
    assert smallest_text(fig) == pytest.approx(9)
    axes.text(0, 0, "$10^{3}$", fontsize=18)
    assert smallest_text(fig) == pytest.approx(0.7 * 9)
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


def test_a_picture_that_does_not_fit_on_the_disk_is_not_written(small_disk, monkeypatch):
    """Pillow's C code takes a partial write for a complete one, so a JPEG would lack its end."""
    fig, ax = plt.subplots(figsize=(2, 2))
    ax.imshow(np.random.default_rng(0).random((40, 40, 3)))
    made = {"dataset": "rig", "preset": "smoke", "seed": 0}
    monkeypatch.setenv("DPED_FIGURES", str(small_disk.parent / "whole"))
    size = figures.save_figure(fig, "fig99", made, {}, photographs=True).stat().st_size
    monkeypatch.setenv("DPED_FIGURES", str(small_disk))
    room = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - (size - 1) // 4096 * 4096))
    with pytest.raises(DpedError, match="disk is full"):
        figures.save_figure(fig, "fig99", made, {}, photographs=True)
    assert not [f for f in small_disk.rglob("*") if f.is_file() and f.name != "filler"]
