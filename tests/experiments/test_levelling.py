"""A training was long enough if validation has levelled off: curves of known shape, and the chance between trainings."""

import math

import numpy as np
import pytest

from dped_lib.data import training_log
from dped_lib.experiments import levelling


def log_of(score, iterations=2000, every=100):
    """The validation lines of a log whose PSNR is a function of the iteration."""
    lines = [
        {"iteration": i, "validation": {"psnr": score(i), "ms_ssim": 0.9}} for i in range(0, iterations + 1, every)
    ]
    return [{"iteration": 1, "total": 3.0}, *lines]


def test_the_line_through_a_straight_curve_is_the_curve():
    quarter = training_log.last_quarter(training_log.validation_curve(log_of(lambda i: 20 + i / 1000)))
    assert quarter.iterations == (1500, 2000) and quarter.line == pytest.approx((21.5, 22))
    assert quarter.moved == pytest.approx(0.5) and quarter.scatter == pytest.approx(0, abs=1e-9)


def test_a_quarter_that_starts_between_two_scores_starts_on_the_curve():
    quarter = training_log.last_quarter(training_log.validation_curve(log_of(lambda i: i / 10, 60, 30)))
    assert quarter.iterations == (45, 60) and quarter.line == pytest.approx((4.5, 6)) and quarter.scatter == 0


def test_one_score_has_not_moved():
    assert training_log.last_quarter(np.array([[0, 12.0]])).moved == 0


@pytest.mark.parametrize(("metric", "moved"), [("psnr", 0.5), ("ms_ssim", 0.0)])
def test_each_metric_has_its_curve(metric, moved):
    curve = training_log.validation_curve(log_of(lambda i: i / 1000), metric)
    assert training_log.last_quarter(curve).moved == pytest.approx(moved, abs=1e-9)


@pytest.mark.parametrize(("length", "levelled"), [(100, True), (2000, False)])
def test_jumps_about_a_curve_do_not_hide_whether_it_still_rises(length, levelled):
    """The curve rises to 5 dB as 1 - exp(-i / length), and jumps by 0.1 dB up and down."""
    rising = log_of(lambda i: 5 * (1 - math.exp(-i / length)) + 0.1 * (-1) ** (i // 100))
    trend = levelling.of_logs([rising])
    assert trend.levelled_off is levelled and trend.seeds == 1
    assert (trend.moved > 0.25) is not levelled


def test_seeds_say_by_how_much_chance_moves_a_score():
    trend = levelling.of_logs([log_of(lambda i, end=end: end - 0.3 + 0.3 * i / 2000) for end in (25, 25.4, 26)])
    assert (trend.seeds, trend.spread) == (3, pytest.approx(1)) and trend.moved == pytest.approx(0.075)
    assert trend.levelled_off
    alike = levelling.of_logs([log_of(lambda i: 25 + 0.3 * i / 2000)] * 2)
    assert alike.spread == 0 and not alike.levelled_off
