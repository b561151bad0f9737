"""Explore the loss terms (section 3.1) of one patch, as values and maps, at any stage of a training."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from torch import Tensor, nn

from dped_lib import losses, training, vgg
from dped_lib.base import datasets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import batches, checkpoints, network_files, pair_store, splits, vgg_files
from dped_lib.explorers import gestures
from dped_lib.explorers.widgets import WIDE, dropdown, fit_to_screen, image_widget, jpeg, note, row, set_nearest, slider
from dped_lib.paper import PATCH_SIZE
from dped_lib.report import figures, labels

#: Description of the map of each term.
MAPS = {
    "color": "squared difference of the blurred images",
    "mse": "squared difference",
    "content": "squared difference of VGG features; each square is one feature position, cut at the border",
    "tv": "squared differences of neighbouring pixels",
    "texture": "absolute gradient of the texture term with respect to each pixel",
}
_TILE = 200  # twice the side of a patch: each pixel of a picture or a map covers the same 2 x 2 screen pixels
_COLORS = "magma"
_START = "iteration 0, before training"
_USES = gestures.Uses(
    "On any picture: click or drag to mark a pixel in all of them; double-click to remove the mark. "
    "Keys: left and right choose the previous or next patch, 0 removes the mark.",
    gestures.STEPS,
    cursor="crosshair",
)
_SAMPLE = 200  # patches, among which the explorer looks for the one that it opens on


class Stage:
    """Hold the networks of a run at one stage.

    Attributes:
        generator: in evaluation mode, as in validation.
        discriminator: None if the loss has none or the file lacks it.

    Args:
        file: a checkpoint or finished network of the run. None: the networks before training.

    Raises:
        DpedError: the file is damaged, or it holds networks of another run.
    """

    def __init__(self, params: run_parameters.TrainParams, file: Path | None):
        networks = training.networks_of(params)
        self.generator, self.discriminator = networks["generator"], networks.get("discriminator")
        if file is not None:
            tensors, metadata = network_files.load_tensors(file)
            if "model" in metadata:
                tensors = {f"generator/{k}": v for k, v in tensors.items()}
                opponent = file.with_name(checkpoints.DISCRIMINATOR)
                if file.name == checkpoints.MODEL and opponent.is_file():
                    tensors |= {f"discriminator/{k}": v for k, v in network_files.load_tensors(opponent)[0].items()}
            self._load(self.generator, "generator", tensors, file)
            if not any(k.startswith("discriminator/") for k in tensors):
                self.discriminator = None
            if self.discriminator is not None:
                self._load(self.discriminator, "discriminator", tensors, file)
        for net in (self.generator, self.discriminator):
            if net is not None:
                net.eval().requires_grad_(False)

    def _load(self, net: nn.Module, name: str, tensors: Mapping[str, Tensor], file: Path) -> None:
        try:
            net.load_state_dict({k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")})
        except RuntimeError as error:
            raise DpedError(f"{file}: not the {name} of this run: {error}") from error


def states(folder: Path) -> dict[str, Path | None]:
    """Return the files of a run by stage: the start (None), the checkpoint, the finished network, and the user's copies."""
    files: dict[str, Path | None] = {_START: None}
    for file in sorted(f for f in folder.glob("*.safetensors") if f.name != checkpoints.DISCRIMINATOR):
        _, metadata = network_files.load_tensors(file)
        when = f", iteration {metadata['iteration']}" if "iteration" in metadata else ""
        files[f"{'finished' if file.stem == 'model' else file.stem}{when}"] = file
    return files


def maps(objective: losses.Objective, enhanced: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return a map (H x W, not negative) of every term for one patch (1 x 3 x H x W). ``MAPS`` describes the maps.

    In variant ``code`` the colour and MSE maps sum to twice their term, and the mean of the content map is the term.
    """
    drawn = {}
    for name in objective.terms:
        match name:
            case "color":
                blurred = [losses.blur(image, objective.kernel) for image in (enhanced, target)]
                drawn[name] = (blurred[0] - blurred[1]).square().sum(1)[0]
            case "mse":
                drawn[name] = (enhanced - target).square().sum(1)[0]
            case "tv":
                dx, dy = (gradient.square().mean(1)[0] for gradient in losses.gradients(enhanced))
                drawn[name] = F.pad(dx, (1, 0)) + F.pad(dy, (0, 0, 1, 0))
            case "content":
                features = [objective.vgg(image, objective.content_layer) for image in (enhanced, target)]
                drawn[name] = (features[0] - features[1]).square().mean(1)[0]
            case "texture":
                drawn[name] = _influence(objective, enhanced, target)
    return {k: v.detach() for k, v in drawn.items()}


def _influence(objective: losses.Objective, enhanced: Tensor, target: Tensor) -> Tensor:
    with torch.enable_grad():
        image = enhanced.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective.term("texture", image, target), image)
    return gradient.abs().sum(1)[0]


@dataclass(frozen=True)
class Shown:
    """Hold one picture of the explorer.

    Attributes:
        image: uint8 H x W x 3, RGB. A map covers the patch: its pixel (y, x) belongs to pixel (y, x) of the patch.
        caption: the name of the picture, and for a map the value of its term.
        top: the value of a map's brightest colour; None for a photograph.
        values: the map, H x W; None for a photograph.
    """

    image: np.ndarray
    caption: str
    top: float | None = None
    values: np.ndarray | None = None

    def at(self, x: int, y: int) -> str:
        """Return what the picture holds at a pixel: the colour of a photograph, or the value of a map.

        The text also compares a value with the map's mean. A share of the sum over 10 000 pixels would be a tiny number.
        """
        if self.values is None:
            return f"R G B {' '.join(map(str, self.image[y, x]))}"
        value, mean = self.values[y, x], self.values.mean()
        return f"{value:.3g}" + (f", {value / mean:.2g} x mean" if mean else "")


class LossTerms:
    """Show every term of a run's loss for any patch, at the start, at a checkpoint, or at the end of the training.

    Attributes:
        terms: term -> unweighted value for the shown patch. Terms that cannot be computed are missing.
        mark: the marked pixel of the patch, x and y, or None.

    Args:
        folder: the folder of a run (``training_runs.run_folder``).
        store: the pairs of the run.
        vgg_net: VGG features to use. Default: the features that the run was trained with.

    Raises:
        DpedError: the folder holds no run, or a file is damaged.
    """

    def __init__(self, folder: Path, store: pair_store.PairStore, vgg_net: vgg.VGG19 | None = None):
        self.folder, self.store = Path(folder), store
        self.params = checkpoints.params_of(self.folder)
        spec = losses.LOSSES[self.params.loss]
        self._vgg = (vgg_net or vgg_files.vgg19(self.params.vgg)) if "content" in spec.terms else None
        self._files = states(self.folder)
        self.terms: dict[str, float] = {}
        self.mark: tuple[int, int] | None = None
        self.state = dropdown("state of the training", list(self._files))
        self.state.value = list(self._files)[-1]
        self.split = dropdown("split", [s for s in splits.SPLITS if len(store.index(s))])
        self.split.value = "test" if len(store.index("test")) else self.split.options[0]
        self.patch = slider("patch", 0, 0, 1, 1, readout_format="d")
        self.numbers, self._tiles = ipywidgets.HTML(), row()
        self._tiles.layout.align_items = "flex-start"  # so a longer caption of one picture does not move the others
        self.tiles: dict[str, ipywidgets.Image] = {}
        self._open()
        self._bound()
        self.patch.value = self._most_varied()
        self.state.observe(lambda _: (self._open(), self._draw()), "value")
        self.split.observe(lambda _: (self._bound(), self._draw()), "value")
        self.patch.observe(lambda _: self._draw(), "value")
        self._draw()
        self.widget = ipywidgets.VBox([row(self.state, self.split, self.patch), self._tiles, self.numbers])
        self.gestures = gestures.attach(self.widget, _USES, self._take)
        self.widget.layout.max_width = f"{WIDE + 20}px"
        self.widget.add_class("dped-loss-terms")

    def _open(self) -> None:
        self.networks = Stage(self.params, self._files[self.state.value])
        self.objective = _objective(self.params, self._vgg, self.networks.discriminator)

    def _bound(self) -> None:
        self.patch.max = max(1, len(self.store.index(self.split.value)) - 1)

    def _most_varied(self) -> int:
        """Return the number of a patch with much to see: of a sample, the one with the most contrast of the DSLR's grays."""
        sample = self.store.sample(self.split.value, _SAMPLE)
        contrast = self.store.dslr[sample].mean(-1, dtype=np.float32).std((1, 2))
        return int(np.searchsorted(self.store.index(self.split.value), sample[contrast.argmax()]))

    def _take(self, gesture: gestures.Gesture) -> None:
        """Mark a pixel, or choose another patch. The slider's observer draws the patch."""
        if gesture.reset:
            self.mark = None
        elif gesture.drag is not None:
            places = (gesture.drag.x, gesture.drag.y)
            self.mark = tuple(min(PATCH_SIZE - 1, max(0, int(place * PATCH_SIZE))) for place in places)
        set_nearest(self.patch, self.patch.value + gesture.step)
        self._paint()

    def look(self) -> dict[str, Shown]:
        """Return the shown pictures by name, and set ``terms``."""
        index = self.store.index(self.split.value)
        i = index[min(int(self.patch.value), len(index) - 1)]
        phone, dslr = (batches.floats(images, [i]) for images in (self.store.phone, self.store.dslr))
        with torch.no_grad():
            enhanced = self.networks.generator(phone)
            values = self.objective.generator_terms(enhanced, dslr)
            drawn = maps(self.objective, enhanced, dslr)
        self.terms = {name: float(v) for name, v in values.items()}
        images = {"phone": phone, "enhanced": enhanced, "DSLR": dslr}
        shown = {name: Shown(_image(x), name) for name, x in images.items()}
        for name in losses.LOSSES[self.params.loss].terms:
            if name in drawn:
                value, weight = self.terms[name], self.objective.weights[name]
                over = over_patch(drawn[name], enhanced.shape[2:]).numpy()
                top = float(np.percentile(over, 99.5)) or 1.0
                caption = f"{labels.TERM_NAMES[name]}: {value:.4g} x {weight:g} = {value * weight:.4g}"
                shown[name] = Shown(_heat(over, top), caption, top, over)
        return shown

    def summary(self) -> str:
        """Return a sentence with the weighted sum, and with the missing term if there is one."""
        index = self.store.index(self.split.value)
        name = self.store.names[index[min(int(self.patch.value), len(index) - 1)]]
        total = sum(self.objective.weights[k] * v for k, v in self.terms.items())
        missing = [t for t in losses.LOSSES[self.params.loss].terms if t not in self.terms]
        lacking = " without the texture loss: no discriminator was kept with this file" if missing else ""
        return f"{name}, {self.state.value}: weighted sum {total:.5g}{lacking}."

    def origin(self) -> str:
        """Return whose network enhances the shown patch, the stage, and what it was trained on."""
        shipped = checkpoints.shipped_name(self.folder)
        where = f"shipped network {shipped}" if shipped else "network trained here"
        return f"{where}, {self.state.value} ({self._trained_on()})"

    def _trained_on(self) -> str:
        p = self.params
        camera, loss = datasets.camera_name(p.dataset, p.phone), labels.method_name(p.loss)
        return f"{p.dataset}, {camera}, {loss}, {p.iterations} iterations, seed {p.seed}"

    def _draw(self) -> None:
        self._shown = self.look()
        self._paint()

    def _paint(self) -> None:
        """Show the pictures that were computed last, with the mark."""
        shown = self._shown
        if list(self.tiles) != list(shown):
            narrow = ipywidgets.Layout(width=f"{_TILE + 4}px", margin="0 6px 6px 0", align_items="flex-start")
            self.tiles = {name: gestures.listen(image_widget()) for name in shown}
            self._captions = {name: ipywidgets.HTML() for name in shown}
            self._tiles.children = [ipywidgets.VBox([self.tiles[n], self._captions[n]], layout=narrow) for n in shown]
        for name, picture in shown.items():
            tile = fit_to_screen(picture.image, _TILE, _TILE)
            self.tiles[name].value = jpeg(tile if self.mark is None else marked(tile, *self.mark))
            bar = "" if picture.top is None else _bar(picture.top)
            here = "" if self.mark is None else note(f"here: {picture.at(*self.mark)}")
            self._captions[name].value = bar + note(picture.caption) + here
        marked_at = "" if self.mark is None else f" Marked: pixel {self.mark}."
        self.numbers.value = (
            f"<b>{note(self.summary() + marked_at)}</b>"
            + note(_USES.help)
            + note("Bright areas of a map are large; each map has its own scale.")
            + note(f"Enhanced by the {self.origin()}.")
            + note("; ".join(f"{labels.TERM_NAMES[n]}: {MAPS[n]}" for n in shown if n in MAPS) + ".")
        )

    def static(self) -> Figure:
        """Draw the patch, and every term as a map with its value."""
        shown = self.look()
        columns = 3 if len(shown) <= 6 else 4
        rows = -(-len(shown) // columns)
        height = (6.3 / columns + 0.55) * rows + 0.5  # at most 6.2 inches, so that a screen shows all of it
        fig, axes = plt.subplots(rows, columns, figsize=(figures.WIDTH, height), squeeze=False, layout="constrained")
        fig.get_layout_engine().set(h_pad=0.06)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, picture in zip(axes.flat, shown.values(), strict=False):
            ax.imshow(picture.image)
            ax.set_title(picture.caption.replace(": ", "\n", 1), fontsize=9)
            if picture.top is not None:
                scale = ScalarMappable(Normalize(0, picture.top), _COLORS)
                place = ax.inset_axes((0, -0.1, 1, 0.06))
                bar = fig.colorbar(scale, cax=place, orientation="horizontal", extend="max")
                bar.set_ticks([0, picture.top], labels=["0", f"{picture.top:.3g}"], fontsize=8)
        # The layout does not see where "wrap" breaks a title, and would leave no room for the lines after the first.
        network = checkpoints.shipped_name(self.folder) or "trained here"
        lines = [self.summary(), f"Network: {network} ({self._trained_on()})."]
        fig.suptitle("\n".join(textwrap.fill(line, 115) for line in lines), fontsize=figures.SMALLEST_TEXT)
        return fig


def _objective(params: run_parameters.TrainParams, vgg_net: vgg.VGG19 | None, discriminator: nn.Module | None):
    """Return the objective of the run, without the texture term if there is no discriminator."""
    objective = training.objective_of(params, vgg_net, discriminator or nn.Identity())
    if discriminator is None:
        objective.terms = tuple(t for t in objective.terms if t != "texture")
    return objective


def _image(tensor: Tensor) -> np.ndarray:
    return (batches.pictures(tensor)[0] * 255 + 0.5).astype(np.uint8)


def over_patch(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread a map (h x w) over the patch (H x W = ``size``) that it was computed from.

    A feature of block b of VGG stands for a square of 2 ** (b - 1) pixels, counted from the upper left corner, because
    the pooling rounds odd sizes up. The last row and column of squares reach beyond the patch and are cut there.
    If the 7 x 7 features of relu5_4 were stretched over 100 pixels, they would move by up to 10 pixels.
    """
    side = 1
    while values.shape[0] * side < size[0] or values.shape[1] * side < size[1]:
        side *= 2
    return values.repeat_interleave(side, 0).repeat_interleave(side, 1)[: size[0], : size[1]]


def marked(tile: np.ndarray, x: int, y: int) -> np.ndarray:
    """Return an enlarged patch (uint8 h x w x 3) with a thin cross around its pixel (x, y).

    The pixel stays visible, and the arms are as wide as it is. White with a black rim shows on any picture.
    """
    side = tile.shape[0] / PATCH_SIZE
    # The distance (screen pixels) of each row and column from those of the pixel.
    down, across = (
        np.maximum(0, np.abs(np.arange(n) + 0.5 - (at + 0.5) * side) - (side - 1) / 2)
        for n, at in zip(tile.shape[:2], (y, x), strict=True)
    )
    image = tile.copy()
    for level, rim in ((0, 1), (255, 0)):
        upright, lying = ((d > 3 - rim) & (d <= 14 + rim) for d in (down, across))
        image[np.outer(upright, across <= rim) | np.outer(down <= rim, lying)] = level
    return image


def _heat(values: np.ndarray, top: float) -> np.ndarray:
    """Return a map from 0 to ``top`` in the colours of magma (black, red, light yellow)."""
    return (plt.get_cmap(_COLORS)(np.clip(values / max(top, 1e-12), 0, 1))[..., :3] * 255).astype(np.uint8)


def _bar(top: float) -> str:
    """Return the colour bar of a map as HTML."""
    stops = ", ".join(to_hex(c) for c in plt.get_cmap(_COLORS)(np.linspace(0, 1, 9)))
    ends = f'<div style="display:flex;justify-content:space-between"><span>0</span><span>&ge; {top:.3g}</span></div>'
    return (
        f'<div class="dped-bar" style="line-height:1.2;width:{_TILE}px">'
        f'<div style="height:8px;background:linear-gradient(to right, {stops})"></div>{ends}</div>'
    )
