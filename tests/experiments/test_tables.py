"""Tables 2 and 3: their cells, the words beside them, and their plots."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legible import smallest_text
from torch import nn

from dped_lib import losses, metrics, paper
from dped_lib.base import presets
from dped_lib.data import pair_store
from dped_lib.experiments import appearance, scores, table_layout, table_plot, tables
from dped_lib.experiments.scores import Cell
from dped_lib.report import colors, figures


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six photographs of two pairs each; the phone is the Canon, darker."""
    rng = np.random.default_rng(0)

    def pairs():
        for i in range(12):
            dslr = rng.integers(80, 256, (100, 100, 3), dtype=np.uint8)
            yield pair_store.Pair(str(i), f"p{i // 2}", (dslr * 0.8).astype(np.uint8), dslr)

    return pair_store.write_store(
        tmp_path_factory.mktemp("store") / "iphone", pairs(), {"dataset": "rig", "phone": "iphone", "report": {}}
    )


class Brighter(nn.Module):
    def forward(self, image):
        return image / 0.8


def test_cells_measure_compare_and_cite(store):
    preset = presets.preset("smoke")
    methods = {"original": nn.Identity(), "ours": {0: Brighter()}}
    cells, differences = scores.score_methods(
        "2", store, methods, "train", preset, {"ours": paper.Score(19.16, 0.9114)}
    )
    original, ours = cells
    assert ours.psnr > original.psnr + 10 and ours.ms_ssim > original.ms_ssim
    for c in cells:
        assert c.psnr_interval[0] <= c.psnr <= c.psnr_interval[1]
        assert c.pairs == len(store.index("train")) and c.photographs == c.pairs // 2
        assert set(c.scores) == set(metrics.PROTOCOLS)
    assert (
        ours.published == (19.16, 0.9114)
        and "(paper 19.16)" in ours.text("psnr")
        and "(paper 0.9114)" in ours.text("ms_ssim")
    )
    assert "paper" not in original.text("psnr")
    frame = table_layout.cells_frame(cells, ("original", "ours", "authors"), "rig")
    assert list(frame["phone"]) == ["iPhone 3GS"] * 3
    assert list(frame["method"]) == ["original", "ours", "ours, authors' weights"]
    # "authors" was not run here, but the paper's later version has its score.
    assert list(frame["PSNR (dB), paper"]) == ["", "19.16", "20.08"]
    assert list(frame["MS-SSIM, paper"]) == ["", "0.9114", "0.9201"]
    assert table_layout.how_to_read(frame) == "Value [95 % interval], and the paper's value beside it."
    assert frame["PSNR (dB)"][1] == ours.measured("psnr") and frame["PSNR (dB)"][2] == "not run"
    counted = f"iPhone 3GS {ours.pairs} pairs of {ours.photographs} photographs"
    assert table_layout.pairs_in_words(cells, "rig") == counted
    of_ours = [d if d.first == "ours" else d.reversed() for d in differences]
    assert {(d.first, d.second, d.verdict) for d in of_ours} == {("ours", "original", "higher")}
    assert all(d.difference > 0 for d in of_ours)


def test_plot_shows_every_cell_and_every_published_value():
    figures.use_style()
    cells = [
        Cell("3", phone, loss, "val", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], (score.psnr, score.ssim), {})
        for phone in paper.PHONES
        for loss, score in paper.TABLE3[phone].items()
    ]
    fig = table_plot.plot_cells(cells, losses.TABLE3_LOSSES, "Table 3", "rig")
    for axes, value in zip(fig.axes, ("psnr", "ssim"), strict=True):
        hollow = sorted(
            line.get_xdata()[0]
            for line in axes.lines
            if line.get_marker() == "o" and line.get_markerfacecolor() == "none"
        )
        assert hollow == sorted(getattr(s, value) for row in paper.TABLE3.values() for s in row.values())
        assert axes.get_xlabel().startswith(("PSNR (dB)", "MS-SSIM"))
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    assert named == ["iPhone 3GS", "BlackBerry Passport", "Sony Xperia Z", "this run, 95 % interval", "the paper"]
    assert "val split, 9 pairs of 3 photographs a phone" in fig.legends[0].get_title().get_text()
    for axes, words in zip(fig.axes, ("18.00 [17.00, 19.00]", "0.8000 [0.7000, 0.9000]"), strict=True):
        assert [t.get_text() for t in axes.texts] == [words] * 12, "the picture has all numbers of the table"
    assert fig.get_tightbbox().width <= fig.get_figwidth(), "the numbers fit beside the panels"
    plt.close(fig)


def test_a_published_value_does_not_hide_an_equal_one_of_this_run():
    """The network of the authors on their own kind of data: its score is nearly that of the paper."""
    own = paper.TABLE2_LATER_VERSION["iphone"]
    scored = {"ours": paper.TABLE2["iphone"]["ours"], "authors": own}
    cells = [
        Cell("2", "iphone", c, "test", 9, 3, (0,), s.psnr, (s.psnr, s.psnr), s.ssim, (s.ssim, s.ssim), [], None, {})
        for c, s in scored.items()
    ]
    fig = table_plot.plot_cells(cells, tuple(scored), "Table 2", "pirm")
    for axes in fig.axes:
        at = {column: [line for line in axes.lines if y in line.get_ydata()] for y, column in enumerate(scored)}
        for lines in at.values():
            (published,) = (line for line in lines if line.get_markerfacecolor() == "none")
            measured = [line for line in lines if line is not published]
            assert len(measured) == 2 and len({line.get_xdata()[0] for line in lines}) == 1
            assert all(line.get_zorder() > published.get_zorder() for line in measured)
            assert published.get_markersize() > max(line.get_markersize() for line in measured) + 2
    plt.close(fig)


def test_plot_of_looks_has_every_number_and_the_dslr():
    looks = [
        appearance.Look(phone, loss, measure, value, (value - 0.1, value + 0.1))
        for phone in ("iphone", "sony")
        for loss in ("mse", paper.FULL_LOSS)
        for measure, value in (("colour deviation", 5.0), ("sharpness", 0.9))
        if (phone, loss) != ("sony", "mse")
    ]
    fig = table_plot.plot_looks(looks, losses.TABLE3_LOSSES, "Looks", "rig")
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["colour + content +\ntexture", "MSE"]
    for axes, words, of_dslr in zip(fig.axes, ("5.00 [4.90, 5.10]", "0.90 [0.80, 1.00]"), (0, 1), strict=True):
        assert sorted(t.get_text() for t in axes.texts) == sorted([words] * 3 + ["not run"])
        assert [of_dslr] * 2 in [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"]
    assert "the DSLR" in [text.get_text() for text in fig.legends[0].get_texts()]
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


def test_words_say_which_loss_has_the_lowest_value_on_each_phone():
    values = {
        ("iphone", "mse"): 2.0, ("iphone", "mse+texture"): 1.0,
        ("sony", "mse"): 1.0, ("sony", "mse+texture"): 2.0,
        ("blackberry", "mse"): 4.0, ("blackberry", "mse+texture"): 3.0,
    }  # fmt: skip
    lowest = "MSE + texture (iPhone 3GS, BlackBerry Passport); MSE (Sony Xperia Z)"
    assert table_layout.chosen_by_phone(values, "rig") == lowest
    highest = "MSE (iPhone 3GS, BlackBerry Passport); MSE + texture (Sony Xperia Z)"
    assert table_layout.chosen_by_phone(values, "rig", max) == highest


def cell(phone, column, table="2"):
    """Return some cell of a table."""
    return Cell(table, phone, column, "test", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], None, {})


def test_a_camera_that_the_paper_does_not_have_has_no_place_for_its_values():
    """The iPhone X: neither columns, nor words, nor a mark of the legend speak of values that nobody published."""
    cells = [cell("iphonex", column) for column in ("original", "ours", "authors")]
    frame = table_layout.cells_frame(cells, ("original", "ours", "authors"), "city100")
    assert list(frame) == ["phone", "method", "PSNR (dB)", "MS-SSIM"]
    assert table_layout.how_to_read(frame) == "Value [95 % interval]."
    fig = table_plot.plot_cells(cells, ("original", "ours", "authors"), "Table 2", "city100")
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
    cells = [cell(phone, column) for phone in paper.PHONES for column in ("ours", "authors")]
    fig = table_plot.plot_cells(cells, ("ours", "authors"), "Table 2", "rig")
    legend = [text.get_text() for text in fig.legends[0].get_texts()]
    assert set(legend) >= {"the paper", "its later version"}
    assert fig.legends[0].get_window_extent(fig.canvas.get_renderer()).width <= fig.bbox.width
    diamonds = [line for line in fig.axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [paper.TABLE2_LATER_VERSION["iphone"].psnr]
    (circle,) = {
        line.get_xdata()[0]
        for line in fig.axes[0].lines
        if line.get_markerfacecolor() == "none" and line.get_ydata()[0] == diamonds[0].get_ydata()[0] - 1
    }
    assert circle == paper.TABLE2["iphone"]["ours"].psnr
    plt.close(fig)


def test_a_phone_without_a_score_says_so_beside_the_others():
    """A phone was trained with one loss: the words stand where its other scores would."""
    cells = [cell("iphone", loss, "3") for loss in losses.TABLE3_LOSSES] + [cell("sony", paper.FULL_LOSS, "3")]
    fig = table_plot.plot_cells(cells, losses.TABLE3_LOSSES, "Table 3", "rig")
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert names == ["colour + content +\ntexture", "content + texture", "MSE + texture", "MSE"]
    for axes in fig.axes:
        of_sony = [line for line in axes.lines if line.get_markeredgecolor() == colors.PHONE_COLORS["sony"]]
        heights = sorted({y for line in of_sony for y in line.get_ydata()})
        lacking = [t for t in axes.texts if t.get_text() == "not run"]
        assert len(lacking) == 3 and len(axes.texts) == 3 + 5
        assert {t.get_color() for t in lacking} == {colors.PHONE_COLORS["sony"]}
        assert sorted(t.get_position()[1] for t in lacking) == heights[1:], "beside its published values"
    plt.close(fig)


def test_a_plot_says_what_was_not_run():
    """A method without scores has its place, the words "not run" and the paper's values."""
    cells = [Cell("2", "sony", "ours", "test", 9, 3, (0,), 18.0, (17.0, 19.0), 0.8, (0.7, 0.9), [], None, {})]
    fig = table_plot.plot_cells(cells, ("ours", "ape"), "Table 2", "rig")
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["ours", "Apple Photo\nEnhancer"]
    for axes, value in zip(fig.axes, ("psnr", "ssim"), strict=True):
        assert [t.get_position()[1] for t in axes.texts if t.get_text() == "not run"] == [1]
        hollow = {
            (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_markerfacecolor() == "none"
        }
        published = paper.TABLE2["sony"]
        assert hollow == {(getattr(published[c], value), y) for y, c in enumerate(("ours", "ape"))}
    plt.close(fig)
