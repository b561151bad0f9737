"""Nothing of a training's log is dropped: each term and each validation score has a panel, and can be read."""

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
            ax for ax in drawn if ax.get_title(loc="left").startswith(f"validation {labels.METRICS[score].name}")
        )
        assert len(panel.lines[0].get_xdata()) == 5, "each validation is drawn"
    assert all(colors.LOSSES[loss] in [line.get_color() for line in ax.lines] for ax in drawn)
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


def test_the_last_quarter_says_how_far_validation_moved():
    log = log_of("mse", 160)  # the validation rises by a line, with one score 0.3 dB below it
    next(line for line in log if line["iteration"] == 150 and "validation" in line)["validation"]["psnr"] -= 0.3
    fig = training_drawings.training_curves(log, "mse")
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert "validation MS-SSIM\nlast quarter: 0.4000" in titles
    # By hand, at x = -2 ... 2: the slope is that of the line without the jump, 1, minus 0.3 x 1 / (4 + 1 + 0 + 1 + 4).
    assert "validation PSNR\nlast quarter: 3.88 dB" in titles
    (panel,) = (ax for ax in fig.axes if ax.get_title(loc="left").startswith("validation PSNR"))
    assert np.ptp(panel.lines[1].get_ydata()) == pytest.approx(3.88)
    plt.close(fig)


def test_the_moving_average_of_a_line_is_a_line_and_starts_at_its_first_value():
    """The window is a twentieth of the log: 1 of 20 iterations, 3 of 60."""
    for iterations, lag in ((20, [0, 0, 0, 0]), (60, [0, 0.5, 1, 1])):
        fig = training_drawings.training_curves(log_of("mse", iterations), "mse")
        raw, average = (line.get_ydata()[[0, 1, 2, -1]] for line in fig.axes[0].lines)
        assert raw - average == pytest.approx(lag) and raw[-1] - raw[0] == iterations - 1
        plt.close(fig)


def test_rows_of_patches_are_named():
    patches = np.zeros((4, 10, 10, 3), np.uint8)
    fig = training_drawings.patch_rows(
        {"iphone": patches, "enhanced": patches, "dslr": patches}, {"iphone": "iPhone 3GS", "dslr": "Nikon D5500"}
    )
    assert [fig.axes[i].get_ylabel() for i in (0, 4, 8)] == ["iPhone\n3GS", "enhanced", "Nikon\nD5500"]
    assert fig.axes[0].yaxis.label.get_color() == colors.PHONES["iphone"]
    plt.close(fig)
