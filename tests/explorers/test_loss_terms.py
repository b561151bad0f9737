"""The explorer of the loss terms: values and maps are those of the objective."""

import dataclasses
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from legible import SCREEN, smallest_text
from reporting import damaged, drag, gesture, taken
from showing import children, inside, opened

from dped_lib import training, vgg
from dped_lib.base import run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import batches, checkpoints, network_files, pair_store
from dped_lib.data.pair_store import Pair
from dped_lib.explorers import loss_terms as loss_terms_explorer
from dped_lib.explorers import widgets
from dped_lib.report import figures


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return an interrupted run of two iterations, its store, and its folder with a checkpoint and a finished model."""
    base = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    made = (Pair(f"p{i}", f"photo-{i % 6}", *rng.integers(0, 255, (2, 100, 100, 3), np.uint8)) for i in range(12))
    store = pair_store.write_store(base / "store", made, {"dataset": "rig", "phone": "iphone", "report": {}})
    params = run_parameters.train_params(
        "rig", "iphone", "color+content+texture", "smoke", iterations=2, precision="float32"
    )
    folder = base / "run"
    trainer = training.Trainer(params, store, torch.device("cpu"))
    trainer.step()
    checkpoints.save(trainer, folder / "checkpoint.safetensors")
    known = {"params": dataclasses.asdict(params), "digest": params.digest(), "vgg_label": "none"}
    (folder / "params.json").write_text(json.dumps(known))
    finished = trainer.generator.state_dict()
    network_files.save_tensors(finished, folder / "model.safetensors", {"model": "dped", "variant": "code", "norm": ""})
    return trainer, store, folder


def test_terms_are_those_of_the_objective_and_their_maps_add_up(run):
    trainer, store, folder = run
    explorer = loss_terms_explorer.LossTerms(folder, store, trainer.objective.vgg)
    explorer.state.value = "checkpoint, iteration 1"
    explorer.patch.value = 1
    i = store.index(explorer.split.value)[1]
    phone, dslr = (batches.to_float(torch.from_numpy(np.array(a[[i]]))) for a in (store.phone, store.dslr))
    trainer.generator.eval()
    trainer.discriminator.eval()
    with torch.no_grad():
        enhanced = trainer.generator(phone)
        terms = trainer.objective.generator_terms(enhanced, dslr)
    assert set(explorer.terms) == {"color", "content", "texture", "tv"}
    for name, value in terms.items():
        assert explorer.terms[name] == pytest.approx(float(value), rel=1e-3, abs=1e-6)
    maps = loss_terms_explorer.maps(explorer.objective, enhanced, dslr)
    assert float(maps["color"].sum()) == pytest.approx(2 * explorer.terms["color"], rel=1e-3)
    assert float(maps["content"].mean()) == pytest.approx(explorer.terms["content"], rel=1e-3)
    assert maps["texture"].shape == (100, 100) and float(maps["texture"].sum()) > 0
    total = float(trainer.objective.total(terms))
    assert float(re.search(r"weighted sum ([-\d.]+\d)", explorer.summary())[1]) == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("layer, side", [("relu5_4", 16), ("relu2_2", 2), ("relu1_2", 1)])
def test_a_map_lies_exactly_under_the_pixels_that_it_maps(layer, side):
    weights = []  # every convolution copies: a feature is the brightest pixel that it stands for
    for shape in vgg.SHAPES:
        kernel = torch.zeros(shape)
        kernel[:, 0, 1, 1] = 1
        weights.append((kernel, torch.zeros(shape[0])))
    net = vgg.VGG19(weights, "copies", mean=(0, 0, 0))
    for y, x in ((1, 1), (40, 70), (99, 98)):
        dot = torch.zeros(1, 3, 100, 100)
        dot[..., y, x] = 1
        over = loss_terms_explorer.over_patch(net(dot, layer)[0].sum(0), (100, 100))
        bright = torch.zeros(100, 100, dtype=bool)
        top, left = y // side * side, x // side * side
        bright[top : top + side, left : left + side] = True
        assert ((over > 0) == bright).all()
    grid = torch.arange(49.0).reshape(7, 7)
    over = loss_terms_explorer.over_patch(grid, (100, 100))
    assert [int((over == v).sum()) for v in (0, 6, 48)] == [256, 64, 16], "the last squares are cut, not squeezed"


def test_every_map_has_a_bar_and_a_caption_names_the_network(run):
    trainer, store, folder = run
    explorer = loss_terms_explorer.LossTerms(folder, store, trainer.objective.vgg)
    for name, shown in explorer.look().items():
        assert shown.image.shape == (100, 100, 3)
        (bar,) = (box.children[1].value for box in inside(explorer.widget) if explorer.tiles[name] in children(box)[:1])
        assert ("linear-gradient" in bar) == (name in loss_terms_explorer.MAPS) == (shown.top is not None)
        assert shown.top is None or f"{shown.top:.3g}</span>" in bar
    says = explorer.numbers.value.split("Enhanced by", 1)[1]
    state = explorer.state.value
    assert f"trained here, {state} (rig, iPhone 3GS, colour+content+texture, 2 iterations, seed 0)." in says
    assert "each square is one feature position, cut at the border" in says


def captions(explorer) -> dict[str, str]:
    pictures = {tile: name for name, tile in explorer.tiles.items()}
    boxes = [box for box in inside(explorer.widget) if any(child in pictures for child in children(box)[:1])]
    return {pictures[box.children[0]]: box.children[1].value for box in boxes}


def coarse(image, layer):
    """Return features that cost nothing, where the net does not matter."""
    return F.avg_pool2d(image, 16, ceil_mode=True)


def test_a_click_marks_the_same_pixel_in_every_picture(run):
    _, store, folder = run
    explorer = loss_terms_explorer.LossTerms(folder, store, coarse)
    first = explorer.tiles
    explorer.state.value = "checkpoint, iteration 1"
    assert "here:" not in "".join(captions(explorer).values()) and "drag to mark a pixel" in explorer.numbers.value
    before = {name: opened(tile.value) for name, tile in explorer.tiles.items()}
    assert len(before) == len(first) + 1, "the pictures are made anew, because the checkpoint has a texture term"
    assert all("dped-picture" in tile._dom_classes for tile in explorer.tiles.values())
    drag(explorer, (0.5, 0.5), (0.305, 0.725))
    assert explorer.mark == (30, 72) and "pixel (30, 72)" in explorer.numbers.value
    shown = explorer.look()
    for name, tile in explorer.tiles.items():
        whole = widgets.fit_to_screen(shown[name].image, 200, 200)
        expected = loss_terms_explorer.marked(whole, 30, 72)
        assert np.abs(opened(tile.value) - expected).mean() < np.abs(opened(tile.value) - whole).mean()
        assert np.abs(opened(tile.value) - before[name])[:100].max() < 30, f"{name}: only around the pixel"
    for name, words in captions(explorer).items():
        held = shown[name].values
        if held is None:
            assert f"here: R G B {' '.join(str(v) for v in shown[name].image[72, 30])}<" in words
        else:
            assert f"here: {held[72, 30]:.3g}, {held[72, 30] / held.mean():.2g} x mean<" in words
    explorer.patch.value = 0
    gesture(explorer, step=1)
    assert explorer.patch.value == 1 and explorer.mark == (30, 72), "the mark stays on another patch"
    gesture(explorer, step=-9)
    assert explorer.patch.value == 0
    for place, pixel in (((1, 1), (99, 99)), ((0, 0), (0, 0))):
        drag(explorer, place)
        assert explorer.mark == pixel
    gesture(explorer, reset=1)
    assert explorer.mark is None and "here:" not in "".join(captions(explorer).values())
    damaged(explorer)
    assert explorer.mark is None and not taken(explorer)["zooms"], "the wheel scrolls the page"


def test_the_cross_points_at_its_pixel_and_leaves_it_visible():
    gray = np.full((200, 200, 3), 128, np.uint8)
    for x, y in ((30, 72), (0, 0), (99, 99), (0, 50)):
        tile = loss_terms_explorer.marked(gray, x, y)
        white, black = (tile == 255).all(2), (tile == 0).all(2)
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        assert set(columns[white.sum(0)[columns] > 2]) == {2 * x, 2 * x + 1}, "the upright arms stand in its columns"
        assert set(rows[white.sum(1)[rows] > 2]) == {2 * y, 2 * y + 1}
        assert (tile[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] == 128).all() and black.sum() > 0
    assert (gray == 128).all(), "the picture itself is not changed"


def test_another_patch_or_state_is_another_picture(run):
    trainer, store, folder = run
    explorer = loss_terms_explorer.LossTerms(folder, store, trainer.objective.vgg)
    assert explorer.state.options == ("iteration 0, before training", "checkpoint, iteration 1", "finished")
    assert "no discriminator was kept" in explorer.summary() and "texture" not in explorer.terms
    network_files.save_tensors(trainer.discriminator.state_dict(), folder / "discriminator.safetensors", {})
    explorer = loss_terms_explorer.LossTerms(
        folder, store, trainer.objective.vgg
    )  # as training_runs.train leaves a run
    assert explorer.state.value == "finished" and "texture" in explorer.terms
    explorer.state.value = "iteration 0, before training"
    explorer.patch.value = 0
    first = explorer.tiles["enhanced"].value, explorer.tiles["phone"].value, dict(explorer.terms)
    assert "texture" in explorer.terms
    explorer.patch.value = explorer.patch.max
    assert explorer.tiles["phone"].value != first[1] and explorer.terms != first[2]
    explorer.patch.value = 0
    explorer.state.value = "checkpoint, iteration 1"
    assert explorer.tiles["phone"].value == first[1] and explorer.tiles["enhanced"].value != first[0]
    fig = explorer.static()
    assert sum(bool(ax.images) for ax in fig.axes) == 7
    fig.draw_without_rendering()
    (above,) = (text.get_window_extent() for text in fig.texts)
    titles = [ax.title.get_window_extent() for ax in fig.axes if ax.get_title()]
    assert len(titles) == 7 and all(title.y1 < above.y0 for title in titles), "below the title of the figure"
    assert above.y1 <= fig.bbox.y1 and above.x0 >= 0 and above.x1 <= fig.bbox.x1
    assert any(ax.get_title().startswith("colour loss\n") for ax in fig.axes)
    origin = "Network: trained here (rig, iPhone 3GS, colour+content+texture, 2 iterations, seed 0)."
    assert fig.get_suptitle().splitlines()[1:] == [origin], "two lines stand above the pictures"
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figheight() <= SCREEN
    plt.close(fig)


def test_it_opens_on_a_patch_with_much_to_see(run, tmp_path):
    """A dark flat patch, such as the first of the rig's held-out ones, shows little of any term."""
    trainer, _, folder = run
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    patches = [noise // 8] * 3 + [noise, np.full_like(noise, 30)]
    made = (Pair(f"{p}-{k}", f"photo-{p}", noise // 8, patch) for p in range(6) for k, patch in enumerate(patches))
    store = pair_store.write_store(tmp_path / "store", made, {"dataset": "rig", "phone": "iphone", "report": {}})
    explorer = loss_terms_explorer.LossTerms(folder, store, trainer.objective.vgg)
    shown = store.index(explorer.split.value)[int(explorer.patch.value)]
    assert (store.dslr[shown] == noise).all() and explorer.summary().startswith(f"{store.names[shown]}, ")


def test_a_folder_without_a_run_is_named(tmp_path, run):
    with pytest.raises(DpedError, match="no training run"):
        loss_terms_explorer.LossTerms(tmp_path, run[1])
