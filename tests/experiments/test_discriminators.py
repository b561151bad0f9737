"""The accuracy of discriminators: what is easy is told apart, and the curves are drawn beside the paper's numbers."""

import copy
import functools
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from legible import smallest_text

from dped_lib import models
from dped_lib.base import paths, presets
from dped_lib.base.errors import DpedError
from dped_lib.data import pair_store
from dped_lib.data.pair_store import Pair
from dped_lib.experiments import discriminator_plot, discriminators
from dped_lib.report import figures

TINY = replace(
    presets.preset("smoke"),
    discriminator_iterations=10,
    discriminator_batch=6,
    iterations=2,
    variant_iterations=2,
    table_pairs=0,
)
#: Of a training whose length does not matter.
SHORT = replace(TINY, discriminator_iterations=2)


@pytest.fixture(scope="module")
def drawn_once():
    return functools.cache(models.discriminator)


@pytest.fixture
def same_weights(drawn_once, monkeypatch):
    """Every discriminator of a form begins with the same weights: 44 million random numbers take seconds."""
    monkeypatch.setattr(models, "discriminator", lambda form: copy.deepcopy(drawn_once(form)))


@pytest.mark.parametrize("form", discriminators.FORMS)
def test_what_is_easy_is_told_apart(store, runs, same_weights, form, monkeypatch):
    curve = discriminators.curve(store, form, TINY)
    assert curve.iterations[-1] == 10 and len(curve.iterations) == len(curve.accuracy)
    assert curve.accuracy[-1] == np.mean(curve.correct) / 2 >= 0.75
    low, high = curve.interval()
    assert 0 <= low <= curve.accuracy[-1] <= high <= 1
    monkeypatch.setattr(models, "discriminator", lambda *_: pytest.fail("was trained again"))
    assert discriminators.curve(store, form, TINY) == curve
    with pytest.raises(BaseException, match="was trained again"):
        discriminators.curve(store, form, replace(TINY, discriminator_iterations=11))


def test_the_same_image_twice_cannot_be_told(store, runs, same_weights, tmp_path):
    """Where phone and DSLR are the same picture, exactly one of two answers is right."""
    same = [
        Pair(n, p, np.array(c), np.array(c)) for n, p, c in zip(store.names, store.photographs, store.dslr, strict=True)
    ]
    twin = pair_store.write_store(tmp_path / "twin", same, store.meta)
    for form in discriminators.FORMS:
        assert set(discriminators.curve(twin, form, SHORT).correct) == {1}


def test_a_damaged_result_is_made_again(store, runs):
    curve = discriminators.curve(store, "one_image", SHORT)
    file = paths.run_dir("rig", "smoke") / "discriminators" / "iphone-one_image-s0.json"
    file.write_text(file.read_text()[:40])
    assert discriminators.curve(store, "one_image", SHORT) == curve
    with pytest.raises(DpedError, match="unknown form 'double'"):
        discriminators.curve(store, "double", SHORT)


def test_accuracies_are_drawn_beside_the_papers():
    def curve(form, value):
        names = ["a", "b", "c", "d"]
        return discriminators.Curve("rig", "iphone", form, 0, 6, [5, 10, 40], [0.5, 0.7, value], [2, 1, 2, 1], names)

    figures.use_style()
    fig = discriminator_plot.plot_accuracy([curve("two_image", 0.75), curve("one_image", 0.75)])
    (ax,) = fig.axes
    hollow = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert hollow == [(300, 0.99), (5000, 0.86)]
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    forms = ("two-image", "one-image")
    assert {f"{form}, {what}" for form in forms for what in ("this run", "the paper")} == set(named)
    assert [text.get_text() for text in ax.texts] == ["guessing"], "the line has its name beside it"
    assert "(the paper: 50)" in ax.get_xlabel() and "too short" not in ax.get_xlabel()
    fig.draw_without_rendering()
    assert fig.legends[0].get_window_extent().y0 > ax.bbox.y1, "no line runs through the legend"
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


def test_bars_of_two_trainings_of_the_same_length_hide_nothing():
    """Two points, two bars and the paper's mark stand at the last iteration, which the claim is about."""
    answers = {"two_image": [2] * 19 + [1], "one_image": [2, 1, 0, 2, 1] * 4}
    names = [str(i % 5) for i in range(20)]
    curves = [
        discriminators.Curve("rig", "iphone", form, 0, 50, [5, 300], [0.5, sum(right) / 40], right, names)
        for form, right in answers.items()
    ]
    figures.use_style()
    fig = discriminator_plot.plot_accuracy(curves)
    fig.draw_without_rendering()
    (ax,) = fig.axes
    bars = [ax.transData.transform(c.lines[2][0].get_segments()[0])[0][0] for c in ax.containers]  # x in pixels
    ends = [line for line in ax.lines if line.get_markerfacecolor() != "none" and len(line.get_xdata()) == 2]
    points = [ax.transData.transform((300, c.accuracy[-1])) for c in curves]
    mark = ax.transData.transform((300, 0.99))
    assert len(bars) == 2 and len(ends) >= 2
    for bar in bars:
        assert ax.bbox.x0 < bar < ax.bbox.x1
        assert all(abs(bar - x) > 5 * fig.dpi / 72 for x, _ in (*points, mark)), "beside the points and the mark"
    assert (bars[0] - points[0][0]) * (bars[1] - points[1][0]) < 0, "one on either side"
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "none"]
    assert max(line.get_zorder() for line in hollow) < min(line.get_zorder() for line in ends), (
        "the paper's lies behind"
    )
    plt.close(fig)


def test_an_interval_that_cannot_be_seen_is_written():
    names = ["a", "b", "c", "d"] * 250
    sure = discriminators.Curve("rig", "iphone", "two_image", 0, 50, [5, 300], [0.5, 1.0], [2] * 1000, names)
    fig = discriminator_plot.plot_accuracy([sure])
    (ax,) = fig.axes
    assert "batch 50, as in the paper" in ax.get_xlabel() and "two-image: [1.00, 1.00]" in ax.get_xlabel()
    plt.close(fig)


@pytest.mark.parametrize(("correct", "closed_form"), [([2] * 114, (114 / (114 + 1.96**2), 1)), ([0] * 4, (0, 0.49))])
def test_answers_that_are_all_alike_do_not_make_an_accuracy_certain(correct, closed_form):
    """The bootstrap would give an interval without width, and a verdict on "99 %" from it."""
    names = [str(i % 5) for i in range(len(correct))]
    curve = discriminators.Curve("rig", "iphone", "two_image", 0, 50, [300], [correct[0] / 2], correct, names)
    assert curve.interval() == pytest.approx(closed_form, abs=1e-3)
