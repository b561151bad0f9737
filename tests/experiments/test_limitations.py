"""Section 4.4: the measures against pictures whose flaws are known; the verdict against its sentence."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from legible import smallest_text
from scipy.ndimage import gaussian_filter

from dped_lib.data.photographs import Photograph
from dped_lib.experiments import gallery, limitations
from dped_lib.experiments.limitations import Amplification
from dped_lib.report import figures


def scene(height: int = 320, width: int = 400, seed: int = 0) -> np.ndarray:
    """Texture above, a smooth gradient below: float H x W x 3 in [0, 1], without noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.3 + 0.2 * x, 0.35 + 0.1 * y, 0.5 - 0.1 * x], -1)
    coarse = np.kron(rng.random((height // 16, width // 8, 3)), np.ones((8, 8, 1)))[: height // 2, :width]
    image[: height // 2] = 0.2 + 0.6 * coarse
    return image


@given(st.floats(0.004, 0.03), st.floats(0.5, 3))
def test_the_noise_level_is_that_of_the_noise_and_its_gain_is_found(deviation, gain):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, deviation, (320, 400, 1))  # the same in every channel: the luminance has it whole
    clean = scene()
    corners = limitations.flat_blocks((clean + noise).clip(0, 1))
    assert (corners[:, 0] >= 160 - 16).all(), "the texture is not flat"
    before, after = (limitations.noise_level(clean + g * noise, corners) for g in (1, gain))
    assert before == pytest.approx(deviation, rel=0.15)
    assert after / before == pytest.approx(gain, rel=0.03)


@given(st.floats(0, 1.5))
def test_noise_counts_whether_its_grain_is_fine_or_coarse(grain):
    """The noise of JPEG files and of networks has a grain of some pixels."""
    white = np.random.default_rng(2).normal(size=(320, 400))
    noise = gaussian_filter(white, grain) if grain else white
    noise = (0.02 * noise / noise.std())[..., None]
    clean = np.full((320, 400, 3), 0.5)
    corners = np.stack(np.mgrid[0:320:16, 0:400:16], -1).reshape(-1, 2)
    assert limitations.noise_level(clean + noise, corners) == pytest.approx(0.02, rel=0.15)


def test_a_plane_has_no_noise():
    y, x = np.mgrid[:64, :64] / 100
    plane = (0.1 + 0.4 * y + 0.3 * x)[..., None].repeat(3, 2)
    assert limitations.noise_level(plane, np.array([[0, 0], [16, 32]])) < 1e-12


def test_flat_blocks_are_not_the_clipped_ones():
    image = scene()
    image[200:280, 100:300] = 1.0
    image[200:280, :80] = 0.0
    for y, x in limitations.flat_blocks(image):
        assert 0.05 < image[y : y + 16, x : x + 16].mean() < 0.95


def test_colour_deviation_sees_hue_and_not_lightness():
    image = scene()
    assert limitations.color_change(image, image) == 0
    assert limitations.color_change(image, image * 0.9) < 2.5
    green = image.copy()
    green[: 320 // 8, :, 1] += 0.3  # green asphalt: an eighth of the picture
    assert limitations.color_change(image, green.clip(0, 1)) > 10


@given(st.floats(0.3, 0.9))
def test_contrast_gain_of_a_gray_scale_in_lightness_is_its_factor(factor):
    from skimage.color import lab2rgb

    lightness = np.tile(np.linspace(20, 80, 64), (64, 1))
    wide, narrow = (lab2rgb(np.dstack([50 + f * (lightness - 50), np.zeros((64, 64, 2))])) for f in (1, factor))
    assert limitations.contrast_gain(wide, narrow) == pytest.approx(factor, rel=1e-3)
    assert limitations.contrast_gain(narrow, wide) == pytest.approx(1 / factor, rel=1e-3)
    assert np.isfinite(limitations.contrast_gain(np.full((32, 32, 3), 0.5), wide[:32, :32]))


def test_a_photograph_is_enhanced_once_while_the_results_fit_into_the_memory_for_them():
    def photograph(phone, value):
        return gallery.Example(Photograph(f"{phone}/{value}", phone, partial(np.full, (4, 5, 3), value, np.uint8), ""))

    def network(by):
        return lambda image: asked.append((by, int(image[0, 0, 0]))) or image + np.uint8(by)

    asked, bytes_of_one = [], 4 * 5 * 3
    networks = {"sony": {"ours": network(100), "authors": network(50)}, "iphone": {"ours": network(70)}}
    expected = {
        ("sony", 1, "ours"): 101,
        ("sony", 1, "authors"): 51,
        ("iphone", 1, "ours"): 71,
        ("sony", 2, "ours"): 102,
    }
    enhanced = limitations.enhance_once(networks, most=3 * bytes_of_one)
    for _ in range(2):
        for (phone, value, name), result in expected.items():
            assert (enhanced(photograph(phone, value), name) == result).all()
    assert asked == [(100, 1), (50, 1), (70, 1), (100, 2), (100, 2)], "the fourth result does not fit"


def flaws() -> list[limitations.Flaw]:
    """Three phones with four photographs each; the noise of the iPhone's is doubled, all others' are as they were."""
    rng, measured = np.random.default_rng(0), []
    for phone in ("iphone", "blackberry", "sony"):
        for i in range(4):
            clean, noise = scene(seed=i), rng.normal(0, 0.012, (320, 400, 1))
            pictures = [
                np.rint((clean + g * noise).clip(0, 1) * 255).astype(np.uint8)
                for g in (1, 2 if phone == "iphone" else 1)
            ]
            photograph = Photograph(f"{phone}/{i}", phone, partial(np.asarray, pictures[0]), str(i))
            measured.append(limitations.measure_flaws(gallery.Example(photograph), "ours", pictures[1]))
    return measured


def test_amplification_by_phone_and_its_verdict():
    amplifications = limitations.amplifications(flaws())
    value = {a.phone: a for a in amplifications}
    assert value["iphone"].value == pytest.approx(2, rel=0.05) and value["sony"].value == pytest.approx(1, abs=1e-6)
    assert all(a.photographs == 4 and a.interval[0] <= a.value <= a.interval[1] for a in amplifications)
    assert limitations.noise_verdict(amplifications, "rig")["verdict"] == "holds"
    assert limitations.noise_verdict(amplifications, "rig", "simulated")["verdict"] == "not testable"


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ({"iphone": (1.2, 1.6), "sony": (0.7, 0.9)}, "holds"),
        ({"iphone": (1.2, 1.6), "sony": (0.9, 1.05)}, "holds"),
        ({"iphone": (1.2, 1.6), "sony": (0.9, 1.3)}, "undecided"),  # it may rise by more than QUIET allows
        ({"iphone": (1.2, 1.6), "sony": (1.1, 1.3)}, "does not hold"),
        ({"iphone": (0.7, 0.9), "sony": (0.7, 0.9)}, "does not hold"),
        ({"iphone": (0.9, 1.2), "sony": (0.7, 0.9)}, "undecided"),
        ({"iphone": (1.2, 1.6)}, "not testable"),
    ],
)
def test_the_sentence_against_intervals(intervals, expected):
    amplifications = [Amplification(phone, "n", 9, sum(i) / 2, i) for phone, i in intervals.items()]
    assert limitations.noise_verdict(amplifications, "dped")["verdict"] == expected


def test_a_verdict_names_the_phones():
    amplifications = [Amplification(p, "n", 9, i[0], i) for p, i in (("iphone", (1.2, 1.6)), ("sony", (1.1, 1.3)))]
    assert limitations.noise_verdict(amplifications, "dped") == {
        "evidence": "iPhone 3GS x1.20 [1.20, 1.60], Sony Xperia Z x1.10 [1.10, 1.30]",
        "verdict": "does not hold",
        "why": "amplified on Sony Xperia Z, too",
    }
    amplifications[0] = Amplification("iphone", "n", 9, 0.8, (0.7, 0.9))
    assert limitations.noise_verdict(amplifications, "dped")["why"] == "amplified on Sony Xperia Z"


def test_ranks_and_pictures():
    measured = flaws()
    order = limitations.rank_flaws(measured, "ours", "noise amplification")
    assert [f.phone for f in order[:4]] == ["iphone"] * 4
    names = limitations.names_in_figure12(measured, "ours")
    assert order[0].name in names and len(names) <= 6
    picture = np.zeros((320, 400, 3), np.uint8)
    figures.use_style()
    fig = limitations.figure12(measured, "ours", {n: (picture, picture) for n in names}, "rig")
    assert len(fig.axes) == 12 and fig.axes[8].images[0].get_array().shape[:2] == (160, 160)
    titles = [ax.get_title() for ax in fig.axes]
    assert [t.split("\n")[2] for t in titles[::2]] == ["highest of 12: original", "rank 7 of 12: original"] * 3
    scene = order[0].name.removeprefix("iphone/")
    assert titles[8].startswith(f"{scene},\niPhone 3GS\n"), "scene and phone of each photograph are named"
    assert titles[9] == f"luminance noise rises:\nx {order[0].values['noise amplification']:.2f}"
    assert titles[1].startswith("colours move by\n")
    assert [fig.axes[i].get_ylabel().split("\n") for i in (0, 4, 8)] == [
        ["colour change"], ["contrast gain"], ["noise amplification", "(flattest part, enlarged)"],
    ], "cut-outs are called so"  # fmt: skip
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)
    fig = limitations.plot_noise(measured, "rig")
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()][0] == "iPhone 3GS\nours (n = 4)"
    assert len(fig.legends[0].get_texts()) == 3
    plt.close(fig)
    frame = limitations.flaws_frame(measured, "rig")
    noise = frame[frame["measure"] == "noise amplification"].set_index("phone")
    assert set(frame["photographs"]) == {4} and noise["median"]["iPhone 3GS"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_what_is_called_the_median_is_the_median(count):
    """It stands beside a table of medians. That of an even number of photographs is the mean of two of them."""
    flaws = [
        limitations.Flaw(
            f"{i}", "iphone", "ours", dict.fromkeys(limitations.FLAW_MEASURES, 1.0 + i), (1.0, 1.0), (0, 0)
        )
        for i in range(count)
    ]
    picture = np.zeros((32, 40, 3), np.uint8)
    fig = limitations.figure12(flaws, "ours", {f.name: (picture, picture) for f in flaws}, "rig")
    words, shown = (ax.get_title().split("\n")[-1] for ax in fig.axes[6:8])  # of the contrast gain
    value = float(shown.removeprefix("x "))
    median = float(np.median([f.values["contrast gain"] for f in flaws]))
    assert ("median" in words) == (value == median)
    if value != median:
        assert (
            words
            == f"rank {sorted((1.0 + i for i in range(count)), reverse=True).index(value) + 1} of {count}: original"
        )
    plt.close(fig)


@pytest.mark.parametrize("values", [(1.2, 2.6, 2.5), (0.3, 0.9, 0.8), (1.5, 1.6, 1.7), (0.5,)])
def test_every_interval_is_drawn_whole(values):
    """An interval over a few photographs is wider than their values. "Unchanged" is drawn, too."""
    flaws = [
        limitations.Flaw(f"{i}", "iphone", "ours", {"noise amplification": value}, (1.0, value), (0, 0))
        for i, value in enumerate(values)
    ]
    fig = limitations.plot_noise(flaws, "rig")
    (ax,) = fig.axes
    left, right = ax.get_xlim()
    (entry,) = limitations.amplifications(flaws)
    assert left < min(1, *values, entry.interval[0]) and max(1, *values, entry.interval[1]) < right
    assert all(left <= tick <= right for tick in ax.get_xticks())
    plt.close(fig)


def test_the_meaning_of_a_measure_fits_into_a_line():
    """A page of 900 px shows 98 characters of a printed line."""
    assert max(len(f"{name}: {meaning}") for name, meaning in limitations.FLAW_MEASURES.items()) <= 98


@pytest.mark.parametrize(
    ("measure", "value", "words"),
    [
        ("noise amplification", 0.80, "luminance noise falls:\nx 0.80"),
        ("noise amplification", 1.25, "luminance noise rises:\nx 1.25"),
        ("contrast gain", 1.001, "contrast stays:\nx 1.00"),
        ("contrast gain", 0.5, "contrast falls:\nx 0.50"),
        ("colour change", 12.34, "colours move by\n12.3 (CIEDE2000)"),
    ],
)
def test_words_say_what_happened(measure, value, words):
    assert limitations.describe_change(measure, value) == words
