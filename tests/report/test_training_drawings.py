"""Nothing of a training's log is dropped: each term and each validation score has a panel, and can be read."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from legible import smallest_text

from dped_lib import losses
from dped_lib.report import colors, figures, labels, training_drawings


def log_of(loss: str, iterations: int = 40) -> list[dict]:
    """A log with the terms that a training of this loss writes, as ``training`` writes it."""
    terms = losses.LOSSES[loss].terms
    names = ["total", *terms, *(["discriminator", "accuracy"] if "texture" in terms else [])]
    lines = [{"iteration": 0, "validation": {"psnr": 12.0, "ms_ssim": 0.2}}]
    for i in range(1, iterations + 1):
        lines.append({"iteration": i, **{name: float(k + i) for k, name in enumerate(names)}})
        if i % 10 == 0:
            lines.append({"iteration": i, "validation": {"psnr": 12 + i / 10, "ms_ssim": 0.2 + i / 100}})
    return lines


@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_every_number_of_the_log_has_a_panel(loss):
    log = log_of(loss)
    written = {name for line in log for name in line} - {"iteration", "validation"}
    scores = {name for line in log for name in line.get("validation", ())}
    figures.use_style()
    fig = training_drawings.training_curves(log, loss)
    drawn = [ax for ax in fig.axes if ax.lines]
    assert len(drawn) == len(written) + len(scores)
    titles = [ax.get_title(loc="left") for ax in drawn]
    assert len(set(titles)) == len(titles) and all(titles)
    for score in scores:
        (panel,) = (
            ax for ax in drawn if ax.get_title(loc="left").split("\n")[0] == f"validation {labels.METRIC_LABELS[score]}"
        )
        assert len(panel.lines[0].get_xdata()) == 5, "each validation is drawn"
    assert all(colors.LOSS_COLORS[loss] in [line.get_color() for line in ax.lines] for ax in drawn)
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_every_title_is_whole_and_touches_no_other(loss):
    """Also the last of a row of three, which has no empty place at its right."""
    figures.use_style()
    log = log_of(loss, 160)
    for line in log:
        if "validation" in line:  # the scores jump about, so their titles say what chance does
            line["validation"] = {k: v + 0.01 * (line["iteration"] % 20) for k, v in line["validation"].items()}
    fig = training_drawings.training_curves(log, loss)
    fig.draw_without_rendering()
    titles = [ax._left_title for ax in fig.axes if ax.lines]
    assert sum("chance" in title.get_text() for title in titles) == 2
    boxes = [title.get_window_extent() for title in titles]
    assert all(fig.bbox.x0 <= b.x0 and b.x1 <= fig.bbox.x1 and b.y1 <= fig.bbox.y1 for b in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    plt.close(fig)


def test_the_last_quarter_says_how_far_validation_moved():
    log = log_of("mse", 160)  # the validation rises by a line, with one score 0.3 dB below it
    next(line for line in log if line["iteration"] == 150 and "validation" in line)["validation"]["psnr"] -= 0.3
    fig = training_drawings.training_curves(log, "mse")
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert "validation MS-SSIM\nlast quarter +0.4000; chance 0.0000" in titles
    # By hand, at x = -2 ... 2: the slope is that of the line without the jump, 1, minus 0.3 x 1 / (4 + 1 + 0 + 1 + 4).
    # What the line leaves: -0.3 at x = 1, less its share of the mean and of the slope. Twice its root mean square, / (5 - 2).
    left = 0.3 * np.sqrt(1 - 1 / 5 - 1 / 10)
    assert f"validation PSNR (dB)\nlast quarter +3.88; chance {2 * left / np.sqrt(3):.2f}" in titles
    (panel,) = (ax for ax in fig.axes if ax.get_title(loc="left").startswith("validation PSNR (dB)"))
    assert np.ptp(panel.lines[1].get_ydata()) == pytest.approx(3.88)
    plt.close(fig)


@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_each_column_names_its_horizontal_axis_and_a_score_has_numbers_to_read(loss):
    figures.use_style()
    fig = training_drawings.training_curves(log_of(loss, 160), loss)
    drawn = [ax for ax in fig.axes if ax.lines]
    columns = {ax.get_subplotspec().colspan.start: ax for ax in drawn}  # the last of each column remains
    assert all(ax.get_xlabel() == "iteration" for ax in columns.values())
    fig.draw_without_rendering()
    for ax in (ax for ax in drawn if ax.get_title(loc="left").startswith("validation")):
        low, high = ax.get_ylim()
        assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 3
    plt.close(fig)


def raw_and_average(log: list[dict]) -> list[np.ndarray]:
    """The values of the first panel, and their moving average, as they are drawn."""
    fig = training_drawings.training_curves(log, "mse")
    plt.close(fig)
    return [line.get_ydata() for line in fig.axes[0].lines[:2]]


@pytest.mark.parametrize(("iterations", "at_the_end"), [(20, 0), (60, 0.5)])
def test_the_moving_average_of_a_line_is_the_line_but_for_its_end(iterations, at_the_end):
    """The window is a twentieth of the log: 1 of 20 iterations, 3 of 60."""
    raw, average = raw_and_average(log_of("mse", iterations))
    assert raw[-1] - raw[0] == iterations - 1
    assert (raw - average)[:-1] == pytest.approx(0) and raw[-1] - average[-1] == pytest.approx(at_the_end)


@pytest.mark.parametrize("count", [20, 40, 400])
def test_the_moving_average_does_not_lag(count):
    """At the steep beginning it lies among the values around it, and not above all that follow."""
    log = log_of("mse", count)
    for line in log:
        if "total" in line:
            line["total"] = line["mse"] = 100 * 0.97 ** line["iteration"]
    raw, average = raw_and_average(log)
    assert len(average) == count and np.ptp(raw) > 30
    assert np.abs(average - raw).max() <= 0.05 * raw[0]


def test_a_fall_of_validation_has_its_sign_and_late_changes_can_be_seen():
    log = log_of("mse", 160)
    for line in log:
        if line.get("validation") and line["iteration"] >= 120:
            line["validation"] = {"psnr": 20 - line["iteration"] / 100, "ms_ssim": 0.9 + line["iteration"] / 1e5}
        elif line.get("validation") and line["iteration"]:
            line["validation"] = {"psnr": 19.0, "ms_ssim": 0.9}
    fig = training_drawings.training_curves(log, "mse")
    assert any("last quarter -0.40" in ax.get_title(loc="left") for ax in fig.axes)
    (panel,) = (ax for ax in fig.axes if ax.get_title(loc="left").startswith("validation MS-SSIM"))
    low, high = panel.get_ylim()
    assert low > 0.89 and high < 0.91, "the score before training, 0.2, does not set the axis"
    plt.close(fig)


def test_the_first_iterations_do_not_set_the_axis_and_the_legend_says_so():
    """A term that begins at -1000 and stays between 1 and 2 would else be a straight line at the upper border."""
    log = log_of("mse", 400)
    for line in log:
        if "total" in line:
            line["mse"] = -1000.0 if line["iteration"] <= 8 else 1.5 + 0.5 * (-1) ** line["iteration"]
    fig = training_drawings.training_curves(log, "mse")
    (panel,) = (ax for ax in fig.axes if ax.get_title(loc="left") == labels.TERM_NAMES["mse"])
    assert panel.get_ylim() == pytest.approx((0.9, 2.1)) and panel.lines[0].get_ydata().min() == -1000
    assert fig.legends[0].get_texts()[0].get_text() == "each iteration\n(the first 2 % may lie outside)"
    plt.close(fig)


def test_the_figure_says_what_its_lines_are():
    figures.use_style()
    log = log_of("dong", 160)
    fig = training_drawings.training_curves(log, "dong")
    assert [text.get_text() for text in fig.legends[0].get_texts()][2] == "validation"
    plt.close(fig)
    log[0]["validation"]["psnr"] = 2.0  # below the axis, which the legend says
    fig = training_drawings.training_curves(log, "dong")
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    shaded = "its last quarter\n(chance: 2 x scatter)"
    outside = "validation\n(the first may\nlie outside)"
    assert named == ["each iteration", "moving average", outside, shaded, "line through it"]
    plt.close(fig)
    log = log_of("mse", 400)
    next(line for line in log if "mse" in line)["mse"] = -1000.0  # it lies outside, which the legend says
    fig = training_drawings.training_curves(log, "mse")
    assert fig.get_tightbbox().width <= fig.get_figwidth()
    assert smallest_text(fig) >= figures.SMALLEST_TEXT
    plt.close(fig)


def test_few_scores_are_all_seen_and_have_no_mark_that_is_not_drawn():
    """Three scores: half of a step between the last two would be the whole "last quarter"."""
    log = [line for line in log_of("mse") if line["iteration"] in (0, 20, 40) or "validation" not in line]
    fig = training_drawings.training_curves(log, "mse")
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "each iteration",
        "moving average",
        "validation",
    ]
    panels = [ax for ax in fig.axes if ax.get_title(loc="left").startswith("validation")]
    assert [ax.get_title(loc="left") for ax in panels] == ["validation PSNR (dB)", "validation MS-SSIM"]
    for ax in panels:
        (curve,) = ax.lines
        low, high = ax.get_ylim()
        assert len(curve.get_ydata()) == 3 and low < curve.get_ydata().min() and curve.get_ydata().max() < high
        assert not ax.patches
    plt.close(fig)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_rows_of_patches_are_named(loss):
    patches = np.zeros((4, 10, 10, 3), np.uint8)
    rows = {"sony": patches, "enhanced": patches, "dslr": patches}
    fig = training_drawings.patch_rows(rows, {"sony": "Sony Xperia Z", "dslr": "Nikon D5500"}, loss)
    assert [fig.axes[i].get_ylabel() for i in (0, 4, 8)] == ["Sony\nXperia Z", "enhanced", "Nikon\nD5500"]
    inks = [fig.axes[i].yaxis.label.get_color() for i in (0, 4, 8)]
    assert inks == [colors.BLACK, colors.LOSS_COLORS[loss], colors.BLACK], (
        "one colour for a loss everywhere; the cameras have none, because the Sony's green is that of the full loss"
    )
    plt.close(fig)
