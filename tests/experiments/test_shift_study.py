"""Figure 6: the curves of pictures whose shift has a closed form, the bootstrap, and what counts as holding.

A blur multiplies a wave of angular frequency w by its transfer function H(w). A wave of amplitude A shifted by s along
it differs from itself by a wave of amplitude 2 A sin(w s / 2).
"""

import weakref

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from legible import smallest_text
from PIL import Image
from scipy.special import j0

from dped_lib import losses
from dped_lib.base.errors import DpedError
from dped_lib.data import photographs, rig
from dped_lib.data.photographs import Photograph
from dped_lib.experiments import shift_study
from dped_lib.experiments.shift_study import Ratio, Sentence, ShiftCurves
from dped_lib.report import colors, figures, labels

VARIANCE = {"printed": 3.0, "sigma3": 9.0}  # of the kernels that are Gaussians as they stand


def photograph(image, name="p", scene=None):
    pixels = np.round(image).clip(0, 255).astype(np.uint8)
    return Photograph(name, "dslr", lambda: pixels, scene or name)


def waves(wavelength, height=520, width=520, amplitude=100.0):
    """Waves along x in red and along y in green and blue is constant."""
    w = 2 * np.pi / wavelength
    y, x = np.mgrid[:height, :width]
    return photograph(
        np.stack([128 + amplitude * np.sin(w * x), 128 + amplitude * np.sin(w * y), np.full_like(x, 128.0)], -1)
    )


def transfer(kernel, w):
    """Of one row of the kernel."""
    offsets = np.arange(-losses.KERNEL_RADIUS, losses.KERNEL_RADIUS + 1)
    return (losses.kernel_1d(kernel) * np.cos(w * offsets)).sum()


# closed forms


@pytest.mark.parametrize("kernel", VARIANCE)
def test_the_kernels_have_the_transfer_function_of_their_gaussian(kernel):
    for w in (0.0, 0.1, 0.3, 0.6, 1.0):
        assert transfer(kernel, w) == pytest.approx(np.exp(-VARIANCE[kernel] * w**2 / 2), abs=3e-3)


def test_a_shifted_ramp():
    # A ramp of slope 1/255 a pixel along x in red and y in green: whatever the direction of the shift s, the squares of
    # the two differences add up to s^2.
    y, x = np.mgrid[:250, :250]
    ramp = photograph(np.stack([x, y, np.full_like(x, 90)], -1).astype(float))
    shifts = (10, 20)
    curves = shift_study.measure([ramp], 40, shifts=shifts).mean()
    mse = np.square(np.array(shifts) / 255) / 3
    assert np.allclose(curves["mse"], mse, rtol=0.02)
    for kernel in losses.KERNELS:
        # A constant difference stays one, but for the border, where the kernel meets the zero padding.
        row = np.convolve(np.ones(100), losses.kernel_1d(kernel), mode="same")
        assert np.allclose(curves[kernel], mse * np.square(row).mean() ** 2, rtol=0.02)


# A wave of 5 pixels has to survive the shift by parts of a pixel: no interpolation may soften it.
@pytest.mark.parametrize("wavelength", [5, 13, 24, 60])
def test_shifted_waves(wavelength):
    w, amplitude = 2 * np.pi / wavelength, 100 / 255
    shifts = (1, 2, 4)
    curves = shift_study.measure([waves(wavelength)], 40, size=256, shifts=shifts).mean()
    # The mean over all directions of 2 A^2 sin^2(w s cos(a) / 2) is A^2 (1 - J0(w s)); two of three channels have a wave.
    expected = 2 / 3 * amplitude**2 * (1 - j0(w * np.array(shifts)))
    assert np.allclose(curves["mse"], expected, rtol=0.05)
    for kernel in losses.KERNELS:
        # Along the wave, the transfer function; across it, nothing changes but the border. There the waves' ends, too,
        # leave a trace that is no wave: three thousandths of MSE.
        row = np.square(np.convolve(np.ones(256), losses.kernel_1d(kernel), mode="same")).mean()
        gain = transfer(kernel, w) ** 2 * row
        assert np.allclose(curves[kernel] / curves["mse"], gain, rtol=0.03, atol=3e-3)


def test_the_order_of_the_kernels_is_that_of_their_widths():
    curves = shift_study.measure([waves(13)], 10, size=200).mean()
    assert (curves["mse"] > curves["printed"]).all()
    assert (curves["printed"] > curves["sigma3"]).all() and (curves["sigma3"] > curves["code"]).all()


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_the_color_loss_never_exceeds_mse(seed, coarseness):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (200 // 2**coarseness + 1,) * 2 + (3,))
    noisy = np.kron(small, np.ones((2**coarseness,) * 2 + (1,)))[:200, :200]
    curves = shift_study.measure([photograph(noisy)], 2, seed, shifts=(1, 5, 20))
    for kernel in losses.KERNELS:
        assert (curves.loss[kernel] <= curves.loss["mse"]).all() and (curves.loss[kernel] >= 0).all()


def test_an_unshifted_patch_differs_from_itself_by_nothing():
    curves = shift_study.measure([waves(13)], 3, shifts=(0,))
    assert all((v == 0).all() for v in curves.loss.values())


# which patches


def test_what_is_measured_is_a_function_of_the_seed():
    one, same, other = (shift_study.measure([waves(24)], 4, seed).loss["mse"] for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_patches_are_spread_evenly_over_the_photographs():
    many = [Photograph(str(i), "dslr", waves(24, 180, 180).read, f"scene {i // 2}") for i in range(10)]
    curves = shift_study.measure(many, 23, shifts=(1,))
    _, counts = np.unique(curves.photographs, return_counts=True)
    assert counts.sum() == 23 and sorted(set(counts)) == [2, 3]
    assert all(int(s.split()[1]) == int(p) // 2 for p, s in zip(curves.photographs, curves.scenes, strict=True))
    # With fewer patches than photographs, the photographs are from the first to the last.
    few = [int(p) for p in shift_study.measure(many, 4, shifts=(1,)).photographs]
    assert few == sorted(set(few)) and few[0] == 0 and few[-1] == 9 and max(np.diff(few)) == 3


def test_photographs_that_are_too_small_are_left_out():
    reach = 5 + 6
    fits, small = waves(24, 60 + 2 * reach, 200), waves(24, 60 + 2 * reach - 1, 200)
    assert len(shift_study.measure([small, fits], 3, size=60, shifts=(1, 5)).photographs) == 3
    with pytest.raises(DpedError, match="no photograph is as large as 82 pixels, which shifts up to 5 px need"):
        shift_study.measure([small], 3, size=60, shifts=(1, 5))
    with pytest.raises(DpedError, match="no photograph"):
        shift_study.measure(iter(()), 3)


# the bootstrap


def curves_of(mse, color, scenes):
    """Curves of three shifts, all patches of a scene alike."""
    rows = {
        k: np.repeat(np.array(v, float)[:, None], 3, 1)
        for k, v in {"mse": mse, **dict.fromkeys(losses.KERNELS, color)}.items()
    }
    return ShiftCurves((3, 4, 5), np.arange(len(scenes)).astype(str), np.array(scenes), rows)


def test_ratios_are_those_of_the_sums():
    ratios = shift_study.ratios(curves_of([6, 2], [1, 1], ["a", "b"]), 50)["printed"]
    assert ratios.keys() == {"3-5 px", "3", "4", "5"}  # no sentence about shifts that were not measured
    assert all(r.value == pytest.approx(4.0) for r in ratios.values())
    assert all(2 <= r.low <= r.value <= r.high <= 6 for r in ratios.values())


def test_patches_of_one_scene_are_resampled_together():
    # Many patches of one scene know no more about other scenes than one does.
    few = shift_study.ratios(curves_of([6, 2], [1, 1], ["a", "b"]), 200)["printed"]["3"]
    many = shift_study.ratios(curves_of([6] * 50 + [2] * 50, [1] * 100, ["a"] * 50 + ["b"] * 50), 200)["printed"]["3"]
    assert (few.low, few.value, few.high) == pytest.approx((many.low, many.value, many.high))
    alone = shift_study.ratios(curves_of([6, 2], [1, 1], ["a", "a"]), 50)["printed"]["3"]
    assert alone.low == alone.value == alone.high


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.integers(0, 99))
def test_resampled_means_lie_between_the_least_and_the_greatest(values, seed):
    means = curves_of(values, values, [str(i) for i in range(len(values))]).resampled(30, seed)
    assert means["mse"].shape == (30, 3)
    assert (means["mse"] >= min(values) - 1e-9).all() and (means["mse"] <= max(values) + 1e-9).all()
    assert all(np.array_equal(v, means["mse"]) for v in means.values())  # the same draw for every curve


# verdicts

BETWEEN = Sentence("between", (3,), 5.0, 10.0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (6, 9, "holds"), (5, 10, "holds"), (5, 5, "holds"), (10, 10, "holds"),
        (4, 4.99, "does not hold"), (10.01, 20, "does not hold"),
        (4.99, 10, "undecided"), (5, 10.01, "undecided"), (1, 5, "undecided"), (10, 11, "undecided"), (1, 99, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)  # fmt: skip
def test_a_verdict_needs_the_whole_interval(low, high, verdict):
    assert Ratio((low + high) / 2, low, high).verdict(BETWEEN) == verdict


@given(st.floats(0.01, 1e4), st.floats(0, 1e4), st.sampled_from(sorted(shift_study.SENTENCES)))
def test_a_verdict_is_that_of_every_point_of_the_interval(low, width, name):
    sentence = shift_study.SENTENCES[name]
    inside = [sentence.low <= r <= sentence.high for r in np.linspace(low, low + width, 201)]
    verdict = Ratio(low, low, low + width).verdict(sentence)
    if verdict == "holds":
        assert all(inside)
    elif verdict == "does not hold":
        assert not any(inside)


def test_the_sentences_are_about_shifts_that_are_measured():
    for sentence in shift_study.SENTENCES.values():
        assert set(sentence.shifts) <= set(shift_study.SHIFTS)
    assert {1, 2} == set(shift_study.SENTENCES["1-2 px"].shifts) and {3, 4, 5} == set(
        shift_study.SENTENCES["3-5 px"].shifts
    )


# photographs of the datasets


def test_photographs_need_not_fit_into_memory_together():
    """200 pairs of 12 and 24 megapixels are 20 GB. They are read in turn, and their pixels go."""
    alive, most = weakref.WeakSet(), []

    class Pixels(np.ndarray):
        __hash__ = object.__hash__

    def read():
        pixels = np.zeros((200, 200, 3), np.uint8).view(Pixels)
        alive.add(pixels)
        most.append(len(alive))
        return pixels

    whole = [Photograph(str(i), "dslr", read, str(i)) for i in range(30)]
    curves = shift_study.measure(whole, 60, shifts=(1, 2))
    assert len(set(curves.photographs)) == 30 and max(most) <= 3 and not alive


def test_photographs_of_the_rig(monkeypatch):
    chosen = [s for s in rig.scenes() if s.photograph == rig.scenes()[0].photograph]
    monkeypatch.setattr(rig, "scenes", lambda: chosen)
    pictures = list(photographs.of_dataset("rig"))
    assert len(pictures) == 4 * len(chosen) == len({p.name for p in pictures})
    assert len({p.scene for p in pictures}) == 1  # two takes of one picture, by four cameras
    assert {p.camera for p in pictures} == {"iphone", "blackberry", "sony", "dslr"}


def test_real_photographs(mirror):
    pictures = list(photographs.of_dataset("pirm"))
    assert len({p.name for p in pictures}) == len(pictures) == 4 + 3 * 12
    assert {p.image.shape for p in pictures if p.name.startswith("HD_res/")} == {(720, 1280, 3)}
    demo = {
        c: {p.image.shape for p in pictures if p.camera == c and p.name.startswith("demo/")}
        for c in ("blackberry", "sony")
    }
    assert demo == {"blackberry": {(780, 1040, 3)}, "sony": {(972, 1296, 3)}}
    assert len({p.scene for p in pictures}) == 4 + 12
    assert all(p.image.dtype == np.uint8 for p in pictures)


def test_photographs_of_the_full_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_DATA", str(tmp_path))
    with pytest.raises(DpedError, match=f"{tmp_path}: no PHONE/test_data/full_size_test_images"):
        list(photographs.of_dataset("dped"))
    for phone in ("sony", "iphone"):
        folder = tmp_path / phone / "test_data" / "full_size_test_images"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((30, 40, 3), 7, np.uint8)).save(folder / "0.jpg")
    pictures = list(photographs.of_dataset("dped"))
    assert [(p.name, p.camera) for p in pictures] == [("iphone/0", "iphone"), ("sony/0", "sony")]
    (folder / "1.jpg").write_bytes(b"damaged")
    with pytest.raises(
        DpedError, match="iphone/test_data/full_size_test_images/1.jpg: no image of a kind that can be read"
    ):
        [p.image for p in photographs.of_dataset("dped")]
    with pytest.raises(DpedError, match="unknown dataset 'owned'"):
        list(photographs.of_dataset("owned"))


def test_patches_of_a_store_keep_their_scene(tmp_path):
    from dped_lib.data import pair_store

    pairs = [
        pair_store.Pair(f"{i}", f"scene {i % 2}", *torch.full((2, 100, 100, 3), i, dtype=torch.uint8).numpy())
        for i in range(4)
    ]
    store = pair_store.write_store(tmp_path / "s", pairs, {"phone": "sony"})
    patches = list(photographs.patches_of(store))
    assert [(p.name, p.camera, p.scene) for p in patches] == [
        (f"{i}/{c}", c, f"scene {i % 2}") for c in ("dslr", "sony") for i in range(4)
    ]
    assert all((p.image == int(p.name[0])).all() for p in patches)


# ---------------------------------------------------------------------------------------------- drawings


def test_a_kernel_has_the_same_colour_and_line_in_both_panels():
    figures.use_style()
    curves = shift_study.measure([waves(20.0)], 4)
    figure6 = shift_study.plot_curves(curves, shift_study.ratios(curves, 20), 20)
    left, right = figure6.axes
    drawn = {"mse": [left.lines[0]]}
    for kernel in losses.KERNELS:
        in_left = [line for line in left.lines if line.get_label() == f"colour loss, {kernel}"]
        in_right = [line for line in right.lines if line.get_label() == labels.kernel_name(kernel)]
        drawn[kernel] = in_left + in_right
        assert len(drawn[kernel]) == 2
        assert len({line.get_linestyle() for line in drawn[kernel]}) == 1
    for name, lines in drawn.items():
        assert {line.get_color() for line in lines} == {colors.KERNEL_COLORS[name]}
    scenes = f"95 % intervals over {curves.sizes()['scenes']} scenes"
    assert all(scenes in ax.get_title() for ax in (left, right)), "what the bands are"
    figure6.draw_without_rendering()
    highest = max(line.get_ydata().max() for line in right.lines)
    assert right.get_ylim()[1] >= max(t for t in right.get_yticks() if t <= right.get_ylim()[1]) >= highest
    assert smallest_text(figure6) >= figures.SMALLEST_TEXT and figure6.get_figwidth() <= figures.WIDTH
    plt.close(figure6)


def test_pictures_that_are_cut_several_times_are_counted_once():
    two = [photograph(np.random.default_rng(i).uniform(0, 255, (100, 100, 3)), name) for i, name in enumerate("ab")]
    curves = shift_study.measure(two, 10, size=74, shifts=(1, 7))
    assert curves.sizes() == {"patches": 10, "pictures": 2, "scenes": 2}


class FourPatches:
    """As much of a store as Figure 5 needs."""

    meta = {"dataset": "rig", "phone": "sony"}
    phone = np.random.default_rng(0).integers(0, 256, (4, 100, 100, 3), dtype=np.uint8)
    dslr = phone[::-1]


def test_figure_5_shows_patches_of_both_cameras_sharp_and_blurred():
    figures.use_style()
    fig = shift_study.plot_blurred(FourPatches, [0, 2])
    each = 1 + len(losses.KERNELS)
    assert len(fig.axes) == 2 * 2 * each
    pictures = [np.asarray(ax.images[0].get_array()) for ax in fig.axes]
    inside = np.s_[10:-10, 10:-10]
    assert pictures[0] == pytest.approx(FourPatches.phone[0][inside] / 255)
    assert pictures[2 * each] == pytest.approx(FourPatches.dslr[0][inside] / 255), (
        "the right half begins after two rows"
    )
    inner = [picture[10:-10, 10:-10].std() for picture in pictures[:each]]
    assert inner == sorted(inner, reverse=True), "a wider kernel blurs more"
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == ["original", *(labels.kernel_name(k, "\n") for k in losses.KERNELS)] * 2, "above each first row"
    assert [half.get_suptitle() for half in fig.subfigs] == ["Sony Xperia Z", "Canon 70D DSLR"]
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    fig.draw_without_rendering()
    assert all(ax.get_window_extent().width >= 80 for ax in fig.axes), "a patch that shrinks loses its noise"
    plt.close(fig)


def test_figure_5_has_no_dark_rims():
    """Blurring takes zeros beyond the border. What is drawn is as bright at its border as the patch is."""

    class Gray(FourPatches):
        phone = dslr = np.full((1, 100, 100, 3), 120, np.uint8)

    fig = shift_study.plot_blurred(Gray, [0])
    for ax in fig.axes:
        shown = np.asarray(ax.images[0].get_array())
        assert shown.min() == pytest.approx(shown.max(), abs=1 / 254), ax.get_title()
        assert abs(shown.min() - 120 / 255) < 0.01
    assert all(half._suptitle.get_color() == "black" for half in fig.subfigs), "as black on white as text can be"
    plt.close(fig)


@pytest.mark.parametrize("kernel", sorted(losses.KERNELS))
def test_a_kernel_is_labelled_with_its_deviation(kernel):
    taps, offsets = losses.kernel_1d(kernel), np.arange(-losses.KERNEL_RADIUS, losses.KERNEL_RADIUS + 1)
    deviation = np.sqrt((taps * offsets**2).sum() / taps.sum())
    assert float(labels.KERNEL_DEVIATIONS[kernel].removesuffix(" px")) == pytest.approx(deviation, abs=0.015)
    assert labels.kernel_name(kernel) == f"{kernel} {labels.KERNEL_DEVIATIONS[kernel]}"


def test_pictures_are_named_by_their_cameras():
    named = {
        p: shift_study.pictures_in_words("city100", p) for p in ("whole photographs", "dslr patches", "iphonex patches")
    }
    assert list(named.values()) == ["whole photographs", "Nikon D5500 patches", "iPhone X patches"]
