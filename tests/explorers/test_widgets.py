"""Test the explorers without a browser: controls change pictures and numbers to the library's values."""

import dataclasses
import datetime
import io
import json
import re
import threading
import time

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from legible import SCREEN, smallest_text
from matplotlib.axes import Axes
from PIL import Image

from dped_lib import losses, models, training, vgg
from dped_lib.alignment import extraction
from dped_lib.base import run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import batches, checkpoints, network_files, pair_store, photographs, picture, rig
from dped_lib.data.pairing import Pair
from dped_lib.experiments import shift_study
from dped_lib.explorers import alignment as alignment_explorer
from dped_lib.explorers import color_loss as color_loss_explorer
from dped_lib.explorers import enhancer, widgets
from dped_lib.explorers import loss_terms as loss_terms_explorer
from dped_lib.report import figures


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def children(widget) -> tuple:
    return getattr(widget, "children", ())


def inside(widget):
    """Every widget that is displayed with this one."""
    yield widget
    for child in children(widget):
        yield from inside(child)


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return rig.shoot("chelsea-a", cameras=("iphone",))["iphone"].image


# ---------------------------------------------------------------------------------------------- show, background


class Small:
    def __init__(self):
        import ipywidgets

        self.widget, self.drawn = ipywidgets.HTML("live"), 0

    def static(self):
        self.drawn += 1
        return plt.figure()


def test_show_is_live_in_a_notebook_and_still_in_a_headless_run(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
    small = Small()
    monkeypatch.setenv("DPED_HEADLESS", "")
    widgets.show(small)
    assert shown == [small.widget] and not small.drawn
    monkeypatch.setenv("DPED_HEADLESS", "1")
    widgets.show(small)
    assert len(shown) == 1 and small.drawn == 1


def test_background_runs_one_work_at_a_time_and_reports_errors():
    said, order, go = [], [], threading.Event()
    work = widgets.Background(said.append)

    def long(check):
        order.append("long")
        while True:
            go.set()
            check()
            time.sleep(0.01)

    work.start(long)
    assert go.wait(10)
    work.start(lambda check: order.append("second"))
    work.wait(10)
    assert order == ["long", "second"]
    work.start(lambda check: 1 / 0)
    work.wait(10)
    assert said == ["ZeroDivisionError: division by zero"]


def test_fit_fills_the_screen_without_changing_the_shape():
    wide = widgets.fit_to_screen(np.zeros((300, 1000, 3), np.uint8))
    assert wide.shape == (round(300 * widgets.WIDE / 1000), widgets.WIDE, 3)
    assert widgets.fit_to_screen(np.zeros((1000, 300, 3), np.uint8)).shape[0] == widgets.TALL
    pixels = widgets.fit_to_screen(np.array([[[0] * 3, [255] * 3]], np.uint8), 8, 8)
    assert set(np.unique(pixels)) == {0, 255}, "pixels stay visible where they are enlarged"


# ---------------------------------------------------------------------------------------------- before and after


def test_the_slider_shows_one_version_left_and_the_other_right(photo):
    other = 255 - photo
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": other, "DSLR": photo[:-9]}})
    assert explorer.right.options == ("original", "ours"), "a version of another size cannot lie over it"
    explorer.split.value = 1
    assert (explorer.view() == widgets.fit_to_screen(photo)).all()
    explorer.split.value = 0
    assert (explorer.view() == widgets.fit_to_screen(other)).all()
    assert np.abs(opened(explorer.image.value) - widgets.fit_to_screen(other)).mean() < 3, "the page gets that picture"
    explorer.split.value = 0.25
    quarter = explorer.view().shape[1] // 4
    assert (explorer.view()[:, : quarter - 2] == widgets.fit_to_screen(photo)[:, : quarter - 2]).all()
    assert (explorer.view()[:, quarter + 2 :] == widgets.fit_to_screen(other)[:, quarter + 2 :]).all()


def test_zoom_and_pan_choose_the_part(photo):
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": 255 - photo}})
    height, width = photo.shape[:2]
    assert explorer.region() == (0, 0, height, width) and explorer.across.disabled
    explorer.zoom.value, explorer.across.value, explorer.down.value = 4, 1, 0
    y, x, h, w = explorer.region()
    assert (y, x + w) == (0, width) and abs(h - height / 4) <= 1 and not explorer.across.disabled
    explorer.split.value = 1
    assert (explorer.view() == widgets.fit_to_screen(photo[:h, x:])).all()
    mean = photo[:h, x:].reshape(-1, 3).mean(0)
    assert " ".join(f"{v:.1f}" for v in mean) in explorer.numbers.value


def gesture(explorer, **said) -> None:
    """Report gestures as the page does: totals of all that was done so far."""
    totals = json.loads(explorer.gestures.value or "{}")
    placed = {k: said.pop(k) for k in ("split", "x", "y") if k in said}
    totals |= placed | {k: totals.get(k, 0) + v for k, v in said.items()}
    explorer.gestures.value = json.dumps(totals)


def test_the_picture_is_dragged_zoomed_moved_and_reset(photo):
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": 255 - photo}})
    height, width = photo.shape[:2]
    gesture(explorer, split=0.25)
    assert explorer.split.value == 0.25
    gesture(explorer, step=-2)
    assert explorer.split.value == pytest.approx(0.21), "the arrow keys move the line"
    for x, y in ((0.3, 0.8), (0.6, 0.5)):
        top, left, h, w = explorer.region()
        under = top + y * h, left + x * w
        gesture(explorer, zoom=4, x=x, y=y)
        top, left, h, w = explorer.region()
        assert (top + y * h, left + x * w) == pytest.approx(under, abs=1.5), "what lies under the pointer stays there"
    assert explorer.zoom.value == 4 and h == round(height / 4)
    before = explorer.region()
    gesture(explorer, across=0.5, down=-0.25)
    assert explorer.region()[1] - before[1] == pytest.approx(0.5 * w, abs=1.5)
    assert explorer.region()[0] - before[0] == pytest.approx(-0.25 * h, abs=1.5)
    assert "dped-zoomed" in explorer.widget._dom_classes
    gesture(explorer, zoom=-40)
    assert explorer.region() == (0, 0, height, width) and "dped-zoomed" not in explorer.widget._dom_classes
    gesture(explorer, zoom=3, x=0, y=0)
    gesture(explorer, reset=1)
    assert explorer.region() == (0, 0, height, width) and explorer.split.value == 0.5
    for damaged in ("{", "[1]", '{"zoom": "x"}'):
        explorer.gestures.value = damaged
    assert explorer.region() == (0, 0, height, width)


def test_the_caption_says_whose_version_is_on_which_side(photo):
    explorer = widgets.BeforeAfter({"cat": {"original": photo, "ours": 255 - photo}}, {"ours": "the authors' network"})
    assert "Left of the line: original. Right of it: the authors&#x27; network." in explorer.caption.value
    explorer.left.value = "ours"
    assert "Left of the line: the authors" in explorer.caption.value


def test_another_photograph_offers_its_own_versions(photo):
    small = photo[:100, :120]
    explorer = widgets.BeforeAfter({"a": {"x": photo, "y": photo}, "b": {"p": small, "q": 255 - small}})
    explorer.photograph.value = "b"
    assert (explorer.left.value, explorer.right.value) == ("p", "q")
    assert "120 x 100 pixels" in explorer.numbers.value
    assert len(explorer.static().axes) == 3
    with pytest.raises(DpedError, match="b: fewer than two versions"):
        widgets.BeforeAfter({"b": {"p": small, "q": photo}})


# ---------------------------------------------------------------------------------------------- colour loss


@pytest.fixture(scope="module")
def color(photo):
    one = photographs.Photograph("cat", "iphone", lambda: photo, "cat")
    return color_loss_explorer.ColorLoss({"cat": photo, "turned": photo[:, ::-1]}, shift_study.measure([one], 8))


def test_the_colour_explorer_computes_what_the_library_does(color):
    for name in losses.KERNELS:
        color.kernel.value, color.shift.value = name, 5
        x, y = (torch.from_numpy(i).permute(2, 0, 1)[None] for i in color.pair())
        assert color.mse == pytest.approx(float((y - x).square().mean()), rel=1e-5)
        assert color.color == pytest.approx(float(losses.color_distance(x, y, name)) / x.numel(), rel=1e-6)
        assert f"{color.color:.5f}" in color.numbers.value
    offsets = np.arange(-10, 11)
    taps = losses.kernel_1d(name)
    assert color.sigma.value == pytest.approx(np.sqrt((taps * offsets**2).sum() / taps.sum()), abs=0.006)


def test_dragging_the_shift_changes_pictures_numbers_and_the_point(color):
    color.kernel.value, color.shift.value = "code", 2
    before = color.image.value, color.plot.value, color.numbers.value, color.mse
    color.shift.value = 9
    after = color.image.value, color.plot.value, color.numbers.value, color.mse
    assert all(a != b for a, b in zip(before, after, strict=True)) and after[3] > before[3]
    color.shift.value = 0
    assert color.mse < 1e-6, "nothing is shifted"


def test_each_curve_and_point_looks_unlike_the_others(color):
    for kernel in (*losses.KERNELS, "own sigma"):
        color.kernel.value, color.shift.value = kernel, 4
        ax = color.static().axes[-1]
        looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.get_lines()]
        assert len(set(looks)) == len(looks) == 6
        gray = {line.get_label() for line in ax.get_lines() if "#" not in line.get_color()}
        assert gray == {f"colour loss, {k}" for k in losses.KERNELS if k != kernel}


def test_dragging_sigma_leaves_the_named_kernels(color):
    color.kernel.value, color.shift.value = "code", 4
    color.sigma.value = 3.0
    assert color.kernel.value == "own sigma"
    x, y = (torch.from_numpy(i).permute(2, 0, 1)[None] for i in color.pair())
    assert color.color == pytest.approx(float(losses.color_distance(x, y, "sigma3")) / x.numel(), rel=1e-6)
    wide = color.color
    color.sigma.value = 1.0
    assert wide < color.color < color.mse, "less blur leaves more of the difference"
    color.kernel.value = "printed"
    assert color.sigma.value == 1.73
    axes = color.static().axes
    assert len(axes) == 5 and max(ax.get_title().count("\n") for ax in axes) == 1, "titles of two lines at most"
    assert "Black and white are differences of -0.25 and +0.25." in color.numbers.value


# ---------------------------------------------------------------------------------------------- alignment


@pytest.fixture(scope="module")
def aligned():
    names = {"iphone": "iPhone 3GS", "dslr": "Canon 70D"}
    frames = {c: f.image for c, f in rig.shoot("chelsea-a", cameras=("iphone", "dslr")).items()}
    flat = {c: np.full_like(f, 128) for c, f in frames.items()}
    explorer = alignment_explorer.AlignmentExplorer(
        {"cat": frames, "gray": flat}.get, ["cat", "gray"], "iphone", names, (400, 540)
    )
    explorer.work.wait(60)
    return explorer


def test_every_view_of_an_alignment(aligned):
    found = aligned.alignment
    pictures = set()
    for view, words in (
        ("matches", f"{found.report.matches} matches"),
        ("overlap", f"shared: {found.report.overlap:.0%}"),
        ("blink", f"{found.report.ncc:.3f}"),
        ("patch", "NCC in place"),
    ):
        aligned.view.value = view
        assert words in aligned.numbers.value
        pictures.add(aligned.image.value)
    assert len(pictures) == 4
    window = aligned.patch()[0]
    fig = aligned.static()
    assert len(fig.findobj(Axes)) == 4
    words = fig.findobj(Axes)[3].get_title()
    assert f"{window.ncc_before:.3f}, now {window.ncc:.3f}" in words and ("not moved" in words) != window.moved
    assert words.endswith("the DSLR's image; phone in place; phone as kept; DSLR")


def test_the_window_shown_first_gained_most_by_being_moved():
    still = extraction.Window(0, 0, extraction.KEPT, 0.95, 0.95, 0, 0, 0, 20, 0.5)
    little = dataclasses.replace(still, ncc=0.96, dx=0.2)
    much = dataclasses.replace(still, ncc=0.98, dy=-0.4)
    left_out = dataclasses.replace(still, verdict=extraction.BELOW, ncc_before=0.1, ncc=0.8, dx=3)
    assert alignment_explorer.example_window([still, little, much, left_out]) == 2
    assert alignment_explorer.example_window([still] * 5) == 2, "none was moved: that in the middle"


def test_blinking_alternates_the_two_aligned_images(aligned):
    aligned.view.value = "blink"
    for frame, image in ((1, aligned.alignment.dslr), (0, aligned.alignment.phone)):
        aligned.play.value = frame
        assert np.abs(opened(aligned.image.value) - widgets.fit_to_screen(image, 700)).mean() < 3


def test_a_patch_has_the_correlation_of_its_two_windows(aligned):
    aligned.view.value = "patch"
    pictures = set()
    for i, window in enumerate(aligned.extraction.windows):
        aligned.window.value = i
        chosen, phone, kept, dslr = aligned.patch()
        assert chosen == window and f"{window.ncc_before:.4f}" in aligned.numbers.value
        gray = [np.asarray(Image.fromarray(p).convert("L")) for p in (phone, dslr)]
        assert extraction.ncc(*gray) == pytest.approx(window.ncc_before, abs=5e-3)
        assert (kept is None) == (window.verdict != extraction.KEPT)
        pictures.add(aligned.image.value)
        whole = widgets.fit_to_screen(aligned.alignment.dslr, 330, 200)
        scale = whole.shape[1] / aligned.alignment.dslr.shape[1]
        left, right = (round(scale * n) for n in (window.x, window.x + 100))
        line = aligned.look()[0][round(scale * (window.y + 50))]
        for edge in (left, right):
            around = line[max(0, edge - 3) : edge + 4].sum(1)
            assert around.max() == 3 * 255 and around.min() == 0, "white, with a black rim"
    assert len(pictures) == len(aligned.extraction.windows)


def test_the_scene_before_is_not_drawn_under_the_next_name():
    """While a scene is aligned, and after it could not be read, another view has nothing to draw."""
    frames = {c: f.image for c, f in rig.shoot("chelsea-a", cameras=("iphone", "dslr")).items()}
    names = {"iphone": "iPhone 3GS", "dslr": "Canon 70D"}
    explorer = alignment_explorer.AlignmentExplorer(
        {"cat": frames}.__getitem__, ["cat", "lost"], "iphone", names, (200, 270)
    )
    explorer.work.wait(60)
    explorer.scene.value = "lost"
    explorer.work.wait(60)
    before = explorer.image.value, explorer.numbers.value
    explorer.view.value = "overlap"
    assert explorer.alignment is None and (explorer.image.value, explorer.numbers.value) == before


def test_another_scene_is_opened_only_after_a_drawing_has_ended(aligned, monkeypatch):
    """A scene is drawn in the background. Opening the next one must not take it away meanwhile."""
    inside, outcome, look = threading.Event(), [], alignment_explorer.AlignmentExplorer.look

    def slow_look(explorer):
        inside.set()
        time.sleep(0.3)
        outcome.append(explorer.alignment is not None)
        return look(explorer)

    monkeypatch.setattr(alignment_explorer.AlignmentExplorer, "look", slow_look)
    drawing = threading.Thread(target=aligned.draw)
    drawing.start()
    assert inside.wait(10)
    aligned.open()
    drawing.join()
    aligned.work.wait(60)
    assert outcome and all(outcome) and aligned.alignment.report.verdict == "aligned"


def test_a_failed_alignment_is_reported(aligned):
    aligned.scene.value = "gray"
    aligned.work.wait(60)
    aligned.view.value = "patch"
    assert "too few matches" in aligned.numbers.value
    with pytest.raises(DpedError, match="gray: could not be aligned .*too few matches"):
        aligned.static()
    aligned.scene.value = "cat"
    aligned.work.wait(60)
    assert aligned.alignment.report.verdict == "aligned"


# ---------------------------------------------------------------------------------------------- loss terms


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
        assert shown.top is None or f"{shown.top:.2g}</span>" in bar
    says = explorer.numbers.value.split("Enhanced by", 1)[1]
    state = explorer.state.value
    assert f"trained here, {state} (rig, iPhone 3GS, colour+content+texture, 2 iterations, seed 0)." in says
    assert "each square is one feature position, cut at the border" in says


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
    whose = "Network: trained here (rig, iPhone 3GS, colour+content+texture, 2 iterations, seed 0)."
    assert fig.get_suptitle().splitlines()[1:] == [whose], "two lines stand above the pictures"
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figheight() <= SCREEN
    plt.close(fig)


def test_a_folder_without_a_run_is_named(tmp_path, run):
    with pytest.raises(DpedError, match="no training run"):
        loss_terms_explorer.LossTerms(tmp_path, run[1])


# ---------------------------------------------------------------------------------------------- enhancing


@pytest.fixture(scope="module")
def srcnn(tmp_path_factory):
    """A small network with random weights, in a file."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network_files.save_tensors(models.generator("srcnn").state_dict(), file, {"model": "srcnn"})
    return file


def uploaded(name: str, content: bytes) -> dict:
    """What a page sends of a file."""
    when = datetime.datetime.now(datetime.UTC)
    return {"name": name, "type": "", "size": len(content), "content": content, "last_modified": when}


def test_copies_of_what_ships_are_not_trained_here(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path))
    for name, known in (("copy", {"shipped": "rig-cpu/x"}), ("mine", {})):
        folder = tmp_path / "rig-cpu" / "train" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        (folder / "params.json").write_text(json.dumps(known))
    assert [w for w in enhancer.known_weights() if w.startswith(str(tmp_path))] == [
        str(tmp_path / "rig-cpu" / "train" / "mine" / "model.safetensors")
    ]


def test_an_uploaded_photograph_is_enhanced_with_all_that_belongs_to_it(photo, srcnn, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    Image.fromarray(photo).save(tmp_path / "mine.jpg", exif=exif, quality=95)
    explorer = enhancer.Enhancer(("example", photo[:64, :64]), [str(srcnn)])
    content = (tmp_path / "mine.jpg").read_bytes()
    explorer.upload.value = (uploaded("mine.jpg", content),)
    assert f"mine.jpg: {photo.shape[1]} x {photo.shape[0]} pixels" in explorer.message.value
    explorer.run()
    explorer.work.wait(60)
    assert "enhanced by" in explorer.message.value and explorer.progress.value == 1
    given = picture.read(tmp_path / "mine.jpg").pixels
    with torch.no_grad():
        wanted = network_files.resolve(str(srcnn))(batches.to_float(torch.from_numpy(given[None])))[0].permute(1, 2, 0)
    assert np.abs(explorer.enhanced - wanted.numpy().clip(0, 1) * 255).max() < 3
    (tmp_path / "back.jpg").write_bytes(explorer.result)
    with Image.open(tmp_path / "back.jpg") as back:
        assert back.format == "JPEG" and back.getexif()[0x010F] == "a maker"
    assert 'download="mine-enhanced.jpg"' in explorer.download.value
    shown = [widget for widget in inside(explorer.widget) if "dped-before-after" in widget._dom_classes]
    assert len(shown) == 1 and not explorer.start.disabled


def test_enhancing_can_be_stopped(photo, srcnn, monkeypatch):
    explorer = enhancer.Enhancer(("big", np.tile(photo, (3, 3, 1))), [str(srcnn)])
    ticked, go = threading.Event(), threading.Event()
    real = enhancer.enhancement.Engine.__call__

    def slow(self, image, tick, how):
        def waiting(rows):
            ticked.set()
            go.wait(10)
            tick(rows)

        return real(self, image, waiting, how)

    monkeypatch.setattr(enhancer.enhancement.Engine, "__call__", slow)
    explorer.start.click()
    assert ticked.wait(30) and explorer.start.disabled and not explorer.stop.disabled
    explorer.stop.click()
    go.set()
    explorer.work.wait(30)
    assert "stopped" in explorer.message.value and explorer.enhanced is None and explorer.result == b""
    assert not explorer.start.disabled and explorer.stop.disabled


def test_what_is_wrong_with_a_photograph_or_weights_is_said(photo, srcnn, tmp_path):
    explorer = enhancer.Enhancer(("example", photo), [str(srcnn)])
    explorer.upload.value = (uploaded("../x/broken.jpg", b"abc"),)
    assert "broken.jpg: no image" in explorer.message.value and explorer.name == "example"
    explorer.path.value = str(tmp_path / "missing.png")
    assert "missing.png" in explorer.message.value and explorer.name == "example"
    explorer.weights.value = ""
    explorer.weights_file.value = str(tmp_path / "none.safetensors")
    explorer.run()
    explorer.work.wait(30)
    assert "no such file" in explorer.message.value and not explorer.start.disabled


def test_the_still_figure_enhances_the_example(photo, srcnn):
    fig = enhancer.Enhancer(("cat", photo), [str(srcnn)]).static()
    assert [ax.get_title() for ax in fig.axes] == ["original, zoom 4", "enhanced, zoom 4"]
    assert "small.safetensors" in fig.get_suptitle()
    quarter = tuple(n // 4 for n in photo.shape[:2])
    assert {ax.images[0].get_array().shape[:2] for ax in fig.axes} == {quarter}
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)
