"""The experiments of 05_tables and 08_claims: discriminators, single choices, looks, pictures."""

import itertools
import json
import shutil
import weakref
from dataclasses import replace

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from legible import smallest_text
from small import WITH_TEST, make_store
from torch import nn

from dped_lib import losses, models, training
from dped_lib.base import paths, presets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import experiment_results, network_files, opening, pair_store, shipped_runs, vgg_files
from dped_lib.data.pairing import Pair
from dped_lib.data.photographs import Photograph
from dped_lib.experiments import ablation, appearance, discriminators, gallery, networks
from dped_lib.report import figures, labels

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
def features():
    return vgg_files.vgg19()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """DSLR patches are sharp noise, the phone's the same smoothed: what a discriminator is for."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(24):
        dslr = rng.integers(60, 190, (100, 100, 3)).astype(np.uint8)
        phone = ((dslr.astype(int) + np.roll(dslr, 1, 0) + np.roll(dslr, 1, 1)) // 3).astype(np.uint8)
        pairs.append(Pair(f"p{i}", f"photo{i}", phone, dslr))
    return pair_store.write_store(
        tmp_path_factory.mktemp("s") / "rig", pairs, {"dataset": "rig", "phone": "iphone", "report": {}}
    )


@pytest.mark.parametrize("form", discriminators.FORMS)
def test_what_is_easy_is_told_apart(store, runs, form, monkeypatch):
    found = discriminators.curve(store, form, TINY)
    assert found.iterations[-1] == 10 and len(found.iterations) == len(found.accuracy)
    assert found.accuracy[-1] == np.mean(found.correct) / 2 >= 0.75
    low, high = found.interval()
    assert 0 <= low <= found.accuracy[-1] <= high <= 1
    monkeypatch.setattr(models, "discriminator", lambda *_: pytest.fail("was trained again"))
    assert discriminators.curve(store, form, TINY) == found
    with pytest.raises(BaseException, match="was trained again"):
        discriminators.curve(store, form, replace(TINY, discriminator_iterations=11))


def test_the_same_image_twice_cannot_be_told(store, runs, tmp_path):
    """Where phone and DSLR are the same picture, exactly one of two answers is right."""
    same = [
        Pair(n, p, np.array(c), np.array(c)) for n, p, c in zip(store.names, store.photographs, store.dslr, strict=True)
    ]
    twin = pair_store.write_store(tmp_path / "twin", same, store.meta)
    for form in discriminators.FORMS:
        assert set(discriminators.curve(twin, form, SHORT).correct) == {1}


def test_a_damaged_result_is_made_again(store, runs):
    found = discriminators.curve(store, "one_image", SHORT)
    file = paths.run_dir("rig", "smoke") / "discriminators" / "iphone-one_image-s0.json"
    file.write_text(file.read_text()[:40])
    assert discriminators.curve(store, "one_image", SHORT) == found
    with pytest.raises(DpedError, match="unknown form 'double'"):
        discriminators.curve(store, "double", SHORT)


@pytest.mark.parametrize(("row", "choices"), [(r, c) for r, c in ablation.CHOICE_ROWS.items() if c])
def test_each_choice_changes_what_it_says_and_nothing_else(store, features, row, choices):
    """Of one training: the kernel, layer, norm or discriminator asked for; the rest as in the authors' code."""
    params = run_parameters.train_params("rig", "iphone", losses.TABLE3_LOSSES[0], "smoke", model="", **choices)
    trainer = training.Trainer(params, store, torch.device("cpu"), features)
    o, code = trainer.objective, "variant" not in choices
    assert o.kernel == choices.get("kernel", "code" if code else "printed")
    assert o.layer == choices.get("content_layer", "relu5_4" if code else "relu5_2")
    batch = choices.get("norm") == "batch" or not code
    assert any(isinstance(m, nn.BatchNorm2d) for m in trainer.generator.modules()) == batch
    form = choices.get("discriminator", "code" if code else "two_image")
    with torch.device("meta"):  # random weights take seconds
        kind = type(models.discriminator(form))
    assert type(trainer.discriminator) is kind and trainer.discriminator.inputs == 1 + (form == "two_image")
    assert params.run_name != run_parameters.train_params("rig", "iphone", losses.TABLE3_LOSSES[0], "smoke").run_name


def test_unknown_choices_are_named(store, features):
    for choice, value in (
        ("kernel", "box"),
        ("content_layer", "relu9_9"),
        ("norm", "layer"),
        ("discriminator", "three"),
    ):
        params = run_parameters.train_params("rig", "iphone", losses.TABLE3_LOSSES[0], "smoke", **{choice: value})
        with pytest.raises(DpedError, match=f"'{value}'"):
            training.Trainer(params, store, torch.device("cpu"), features)


def test_variants_are_compared_on_the_same_pairs(store, runs, monkeypatch):
    monkeypatch.setattr(opening, "open_or_make", lambda *_, **__: store)
    monkeypatch.setattr(presets, "preset", lambda name: TINY)
    rows = {"code": {}, "batch": {"norm": "batch"}}
    monkeypatch.setattr(losses, "TABLE3_LOSSES", ("mse",))
    outcomes, differences, origin = trained = ablation.train_choices("rig", "smoke", "iphone", rows=rows)
    assert [o.row for o in outcomes] == ["code", "batch"] and len(differences) == 2
    assert all(o.cell.pairs == len(store.index("test")) for o in outcomes)
    frame = ablation.choices_frame(outcomes, differences)
    assert frame["PSNR minus code"][0] == "" and frame["PSNR minus code"][1][0] in "+-"
    assert json.dumps(ablation.choices_numbers(outcomes))
    model = network_files.load_model(runs / "rig-smoke" / "variants" / "iphone-mse-norm_batch-s0" / "model.safetensors")
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    monkeypatch.setattr(training, "Trainer", lambda *_: pytest.fail("was trained again"))
    assert origin == "trained here" and ablation.train_choices("rig", "smoke", "iphone", rows=rows) == trained


def test_an_ablation_is_loaded_only_if_it_ships_and_no_row_was_begun_here(runs, tmp_path, monkeypatch):
    """Messages tell the user to delete the folder of a row. The result that was kept belongs to a network that is gone."""
    store = make_store(tmp_path / "patches", 16, WITH_TEST, dataset="rig", phone="iphone")
    monkeypatch.setattr(shipped_runs, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(opening, "open_or_make", lambda *_, **__: store)
    monkeypatch.setattr(presets, "preset", lambda name: TINY)
    monkeypatch.setattr(losses, "TABLE3_LOSSES", ("dong",))
    wanted = {"dataset": "rig", "preset_name": "smoke", "phone": "iphone", "rows": {"code": {}}}
    row = runs / "rig-smoke" / "variants" / "iphone-dong-s0"
    measured = ablation.train_choices(**wanted)
    shutil.rmtree(row)
    monkeypatch.setattr(training, "Trainer", lambda *_: pytest.fail("is trained"))
    with pytest.raises(pytest.fail.Exception, match="is trained"):
        ablation.train_choices(**wanted)
    assert experiment_results.pack(ablation.experiment(**wanted))
    assert ablation.train_choices(**wanted) == measured._replace(origin="trained for the package")
    row.mkdir()
    with pytest.raises(pytest.fail.Exception, match="is trained"):
        ablation.train_choices(**wanted)


def test_colour_difference_sees_colour_and_not_texture():
    rng = np.random.default_rng(0)
    grey = np.full((60, 60, 3), 0.5)
    assert appearance.color_difference(grey, grey) == 0
    noisy = grey + rng.normal(0, 0.05, grey.shape)
    assert (
        appearance.color_difference(noisy, grey)
        < 0.2 * appearance.deltaE_ciede2000(*map(appearance.rgb2lab, (noisy, grey))).mean()
    )
    assert appearance.color_difference(grey + (0.1, 0, -0.1), grey) > 10


def test_sharpness_is_a_ratio():
    rng = np.random.default_rng(0)
    image = 0.5 + rng.uniform(-0.2, 0.2, (50, 50, 3))
    assert appearance.sharpness(image, image) == 1
    assert appearance.sharpness(0.5 + (image - 0.5) / 2, image) == pytest.approx(0.5)
    assert np.isnan(appearance.sharpness(image, np.full_like(image, 0.3)))


def test_looks_are_compared_on_the_same_pairs(store):
    class Warm(nn.Module):
        def forward(self, x):
            return x + torch.tensor((0.1, 0.0, -0.1))[:, None, None]

    looks, differences = appearance.measure_looks(
        store, {"plain": {0: nn.Identity()}, "warm": {0: Warm()}}, "test", 0, 200
    )
    value = {(k.column, k.measure): k for k in looks}
    assert value["warm", "colour deviation"].value > value["plain", "colour deviation"].value + 5
    assert value["plain", "sharpness"].value < 0.8  # the phone's are smoothed
    by_measure = {d.measure: d for d in differences}
    assert by_measure["colour deviation"].interval[1] < 0
    frame = appearance.looks_frame(looks, "rig")
    assert set(frame.columns) == {"phone", "loss", *appearance.LOOK_MEASURES}
    assert set(frame["phone"]) == {"iPhone 3GS"}


def test_accuracies_are_drawn_beside_the_papers():
    def curve(form, value):
        names = ["a", "b", "c", "d"]
        return discriminators.Curve("rig", "iphone", form, 0, 6, [5, 10, 40], [0.5, 0.7, value], [2, 1, 2, 1], names)

    figures.use_style()
    fig = discriminators.plot_accuracy([curve("two_image", 0.75), curve("one_image", 0.75)])
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


def test_an_interval_that_cannot_be_seen_is_written():
    names = ["a", "b", "c", "d"]
    sure = discriminators.Curve("rig", "iphone", "two_image", 0, 50, [5, 300], [0.5, 1.0], [2, 2, 2, 2], names)
    fig = discriminators.plot_accuracy([sure])
    (ax,) = fig.axes
    assert "batch 50, as in the paper" in ax.get_xlabel() and "two-image: [1.00, 1.00]" in ax.get_xlabel()
    plt.close(fig)


def test_only_the_chosen_photographs_are_read(monkeypatch):
    """A dataset's photographs may be large files: an example reads the one that is used, and does not keep it."""
    reads = []

    def photograph(camera, i):
        def read():
            reads.append((camera, i))
            return np.zeros((4, 4, 3), np.uint8)

        return Photograph(f"{camera}/{i}", camera, read, str(i))

    everything = [photograph(camera, i) for camera in ("sony", "dslr") for i in range(9)]
    monkeypatch.setattr(gallery.photographs, "of_dataset", lambda _: everything)
    examples = gallery.choose_examples("rig", "sony", 2)
    assert [e.name for e in examples] == ["sony/0", "sony/8"]
    assert not reads
    pixels = weakref.ref(examples[1].original)
    assert reads == [("sony", 8)] and pixels() is None


def test_examples_are_held_out_ones_with_their_dslr():
    found = gallery.choose_examples("rig", "sony", 2, {"photo:coffee", "photo:china"})
    assert len(found) == 2 and all(s.phone == "sony" and s.dslr is not None for s in found)
    with pytest.raises(DpedError, match="no whole photographs of the sony"):
        gallery.choose_examples("rig", "sony", 2, {"photo:nothing"})
    shown = gallery.enhanced_versions(found[0], {"stand-in": None, "ours": models.generator("srcnn")})
    assert list(shown) == ["original", "stand-in", "ours", "DSLR"] and shown["ours"].shape == found[0].original.shape
    figures.use_style()
    for fig, pictures in (
        (gallery.mosaic(shown, 3), 4),
        (gallery.grid([shown]), 4),
        (gallery.phone_page("rig", "sony", [shown] * 5), 15),
        (gallery.over_under([(shown["original"], shown["ours"])] * 2, ["Sony"] * 2), 4),
        (gallery.compare_methods([shown] * 4), 32),
    ):
        assert sum(bool(ax.images) for ax in fig.axes) == pictures
        assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
        plt.close(fig)


def test_patches_do_not_name_the_photographs_of_their_dataset(monkeypatch):
    """The pairs of pirm and dped come as patches, and their whole photographs are others."""
    everything = [Photograph("HD_res/1", "iphone", lambda: np.zeros((4, 4, 3), np.uint8), "HD_res/1")]
    monkeypatch.setattr(gallery.photographs, "of_dataset", lambda _: everything)
    assert [e.name for e in gallery.choose_examples("pirm", "iphone", 1, {"patch 7"})] == ["HD_res/1"]


def test_each_scene_is_shown_once_with_the_dslr_of_the_same_moment(monkeypatch):
    def photograph(shot, camera, scene, value):
        return Photograph(f"{shot}/{camera}", camera, lambda: np.full((4, 4, 3), value, np.uint8), scene)

    shots = (("flower-a", "flower", 10), ("flower-b", "flower", 20), ("wall", "wall", 30))
    everything = [photograph(n, c, s, v + (c == "dslr")) for n, s, v in shots for c in ("sony", "dslr")]
    monkeypatch.setattr(gallery.photographs, "of_dataset", lambda _: everything)
    found = gallery.choose_examples("rig", "sony", 8)
    assert [e.name for e in found] == ["flower-a/sony", "wall/sony"]
    assert all(e.dslr[0, 0, 0] == e.original[0, 0, 0] + 1 for e in found)


def test_the_dslr_is_shown_as_the_phone_saw_the_scene():
    """Seen from the phone, the DSLR's photograph lies on the phone's: their gray images correlate far better."""
    (example,) = gallery.choose_examples("rig", "sony", 1)
    seen = gallery.seen_from_phone(example)
    assert seen.shape == example.original.shape and seen.dtype == np.uint8

    def correlation(dslr):
        grays = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY)[60:-60, 60:-60].ravel() for i in (example.original, dslr))
        return np.corrcoef(*grays)[0, 1]

    size = example.original.shape[1::-1]
    assert correlation(seen) > 0.97 > 0.8 > correlation(cv2.resize(example.dslr, size))
    flat = np.full_like(example.dslr, 90)
    nothing = gallery.Example(example.of_phone, Photograph("flat", "dslr", lambda: flat, "flat"))
    assert gallery.seen_from_phone(nothing) is flat


def test_a_crop_is_where_the_detail_is():
    picture = np.full((200, 300, 3), 128, np.uint8)
    picture[90:120, 180:230] = np.random.default_rng(0).integers(0, 256, (30, 50, 3))
    y, x, height, width = gallery.detail(picture)
    assert (height, width) == (40, 60)
    assert y <= 90 and y + height >= 120 and x <= 180 and x + width >= 230


ROW = dict.fromkeys(
    (
        "original",
        labels.METHODS["auto"],
        "Dong et al. (smoke)",
        "ours, shipped:city100-iphonex (cpu)",
    ),
    np.zeros((30, 40, 3), np.uint8),
)


def test_methods_have_titles_that_do_not_overlap():
    """Figure 8: each title stays in its column; a method that could not run has no column, and the figure says so."""
    figures.use_style()
    rows = [{**ROW, "Johnson et al. (smoke)": ROW["original"], "DSLR": ROW["original"]}] * 2
    fig = gallery.compare_methods(rows, ["authors' weights"])
    fig.draw_without_rendering()
    titles = [ax.title for ax in fig.axes if ax.get_title()]
    assert len(fig.axes) == 4 * len(titles) == 4 * 6
    boxes = [t.get_window_extent() for t in titles]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert "ours,\nshipped:\ncity100-iphonex\n(cpu)" in [t.get_text() for t in titles], (
        "a name that must be broken begins a line, and breaks at colons first"
    )
    assert fig.get_suptitle() == "authors' weights: not here"
    assert smallest_text(fig) >= figures.SMALLEST_TEXT
    plt.close(fig)


def test_a_page_of_a_phone_has_no_empty_column():
    figures.use_style()
    names = "original", "Dong et al. (smoke)"
    fig = gallery.phone_page("rig", "sony", [{k: ROW[k] for k in names}] * 3, ["authors' weights"])
    assert [ax.get_title() for ax in fig.axes if ax.images] == [*names, *names, "", ""]
    assert fig.get_suptitle() == "Sony Xperia Z: 3 scenes (authors' weights: not here)"
    plt.close(fig)


def test_captions_say_for_which_phone_the_authors_network_is():
    assert networks.authors_words(["iphone", "sony"]) == "the authors' network for this phone"
    assert "iPhone 3GS, another phone" in networks.authors_words(["iphonex"])


def test_long_names_of_networks_do_not_run_into_their_neighbours():
    figures.use_style()
    name, picture = "ours, shipped:city100-iphonex (cpu)", np.zeros((60, 84, 3), np.uint8)
    under = gallery.over_under([(picture, picture)] * 4, ["iPhone X"] * 4, label=name)
    page = gallery.phone_page("city100", "iphonex", [{"original": picture, name: picture}] * 8)
    for fig in (under, page):
        for _ in range(2):
            fig.draw_without_rendering()
    upper, lower = (under.axes[i].yaxis.label.get_window_extent() for i in (0, 4))
    assert lower.y1 < upper.y0 and lower.y0 > 0
    titles = [ax.title.get_window_extent() for ax in page.axes[:4]]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(titles)) and titles[-1].x1 <= page.bbox.x1
    plt.close(under)
    plt.close(page)


def test_figure_9_says_whose_network():
    picture = np.zeros((4, 6, 3), np.uint8)
    labelled = gallery.over_under([(picture, picture)], label="authors' weights")
    assert [ax.get_ylabel() for ax in labelled.axes] == ["original", "authors' weights"]
    plt.close(labelled)
