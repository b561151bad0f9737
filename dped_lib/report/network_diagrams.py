"""Draw Figure 7 in two parts: the system from the phone's photograph to the loss, and the layers of its networks.

Terms, weights, shapes and numbers of parameters are read from the library's own networks and losses.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import nn

from dped_lib import losses, models, paper, vgg
from dped_lib.report import colors, figures, labels

_KINDS = MappingProxyType({"conv": colors.SKY, "norm": colors.ORANGE, "linear": colors.PINK})
_TEXT = figures.SMALLEST_TEXT


@dataclass(frozen=True)
class DrawnLayer:
    """Describe one layer of a network.

    Attributes:
        name: the name of the module in the network.
        kind: ``conv``, ``norm`` or ``linear``.
        label: kernel and stride, or the kind of norm.
        shape: of the output, (C, H, W) or (C,).
        parameters: number of trainable parameters.
    """

    name: str
    kind: str
    label: str
    shape: tuple[int, ...]
    parameters: int


def layers(network: nn.Module, image: torch.Tensor) -> list[DrawnLayer]:
    """List the convolutions, norms and linear layers of a network, in the order in which they run.

    The network runs once on ``image`` (1 x C x H x W), in evaluation mode. Its mode is restored afterwards.
    """
    listed: list[DrawnLayer] = []

    def record(name: str, module: nn.Module):
        def hook(_module, _inputs, output):
            match module:
                case nn.Conv2d():
                    stride = f" /{module.stride[0]}" if module.stride[0] > 1 else ""
                    kind, label = "conv", f"{module.kernel_size[0]}x{module.kernel_size[1]}{stride}"
                case nn.Linear():
                    kind, label = "linear", "FC"
                case nn.BatchNorm2d():
                    kind, label = "norm", "batch norm"
                case _:
                    kind, label = "norm", "instance norm"
            listed.append(DrawnLayer(name, kind, label, tuple(output.shape[1:]), models.count_parameters(module)))

        return hook

    drawn = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.InstanceNorm2d)
    hooks = [m.register_forward_hook(record(n, m)) for n, m in network.named_modules() if isinstance(m, drawn)]
    training = network.training
    try:
        with torch.inference_mode():
            network.eval()(image)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return listed


def drawn_layers(variant: str) -> dict[str, tuple[nn.Module, list[DrawnLayer]]]:
    """Return the two networks that the paper's loss trains, ``Generator`` and ``Discriminator``, with their layers.

    They have no weights: the figure needs layers and shapes only. Random values for 45 million weights would take seconds.
    """
    with torch.device("meta"):
        generator = models.generator(losses.LOSSES[paper.FULL_LOSS].model, variant)
        discriminator = models.discriminator(losses.DISCRIMINATOR_OF[variant])
        inputs = {"Generator": (generator, 3), "Discriminator": (discriminator, discriminator.inputs)}
        side = paper.PATCH_SIZE
        return {name: (net, layers(net, torch.zeros(1, count, side, side))) for name, (net, count) in inputs.items()}


def _generator_in_words(inside: list[DrawnLayer]) -> str:
    """Return the convolutions of a generator, a line for each kind, in the order in which they run, and its norm."""
    convolutions = [layer for layer in inside if layer.kind == "conv"]
    lines = [f"generator: {len(convolutions)} convolutions"]
    kinds = itertools.groupby(convolutions, lambda c: (c.name.startswith("blocks."), c.label, c.shape[0]))
    for (in_blocks, label, channels), of_kind in kinds:
        count = len(list(of_kind))
        if in_blocks:
            norm = next(layer.label for layer in inside if layer.kind == "norm")
            lines += [f"{count // 2} residual blocks:", f"two {label}, {norm}"]
        else:
            lines.append(f"{', '.join([label] * count)} to {channels} channels")
    return "\n".join(lines)


def _discriminator_in_words(inside: list[DrawnLayer]) -> str:
    """Return how many convolutions and fully connected layers a discriminator has."""
    kinds = [layer.kind for layer in inside]
    return f"{kinds.count('conv')} convolutions,\n{kinds.count('linear')} fully connected"


def _vgg_depth(layer: str) -> int:
    """Return the number of VGG-19's convolutions up to a layer such as ``relu5_4``."""
    return vgg.LAYERS.index(layer) + 1


@dataclass(frozen=True)
class _Term:
    """Describe how a term of the loss is drawn.

    Attributes:
        through: what the images pass through, or nothing.
        name: of the term.
        equation: the equation that it follows; "like" stands before it if the term differs from the equation.
        measures: the images that the term depends on.
    """

    through: str
    name: str
    equation: str
    measures: tuple[str, ...] = ("enhanced", "dslr")


def _terms(loss: str, variant: str) -> dict[str, _Term]:
    """Return the terms of a loss in the order in which they are drawn."""
    # The terms of the authors' code differ from the equations (``losses`` has a table).
    like = "" if variant == "paper" else "like "
    layer = losses.LOSSES[loss].content_layer or losses.CONTENT_LAYER_OF[variant]
    discriminator = _discriminator_in_words(drawn_layers(variant)["Discriminator"][1])
    if losses.DISCRIMINATOR_OF[variant] == "two_image":
        texture = _Term(f"discriminator of\ntwo gray images:\n{discriminator}", "texture loss", f"{like}equation 5")
    else:
        through = f"discriminator of\none gray image:\n{discriminator}"
        texture = _Term(through, "texture loss", f"{like}equation 5", ("enhanced",))
    described = {
        "tv": _Term("", "total variation", f"{like}equation 7", ("enhanced",)),
        "color": _Term(
            f"Gaussian blur\n{labels.kernel_name(losses.KERNEL_OF[variant])}", "colour loss", f"{like}equations 2-4"
        ),
        "mse": _Term("", "MSE", "Table 3"),
        "content": _Term(
            f"VGG-19 up to\n{layer}:\n{_vgg_depth(layer)} convolutions", "content loss", f"{like}equation 6"
        ),
        "texture": texture,
    }
    return {name: term for name, term in described.items() if name in losses.LOSSES[loss].terms}


def system(variant: str = "code", pictures: Mapping[str, np.ndarray] | None = None) -> Figure:
    """Draw the first part of Figure 7: how the networks and the terms of the paper's loss belong together.

    Args:
        variant: ``paper`` or ``code``.
        pictures: any of ``phone``, ``enhanced`` and ``dslr``, each H x W x 3; the frames of the others say
            that there is no picture.
    """
    terms = _terms(paper.FULL_LOSS, variant)
    fig, ax = _page(_TOTAL + 0.7)
    generator = _generator_in_words(drawn_layers(variant)["Generator"][1])
    _draw_flow(ax, generator, terms, _sum_in_words(terms, variant), pictures or {})
    return fig


def networks(variant: str = "code") -> Figure:
    """Draw the second part of Figure 7: the layers of the two networks that the paper's loss trains.

    Args:
        variant: ``paper`` or ``code``.
    """
    parts = drawn_layers(variant)
    tops = [0.15]
    for _, inside in parts.values():
        tops.append(tops[-1] + 0.42 + _ROW * len(_rows(inside)))
    fig, ax = _page(tops[-1] + 0.5)
    for top, (name, (network, inside)) in zip(tops, parts.items(), strict=False):
        _draw_layers(ax, inside, top, f"{name} {_WHOSE[variant]}: {models.count_parameters(network):,} parameters")
    norms = dict.fromkeys(layer.label for _, inside in parts.values() for layer in inside if layer.kind == "norm")
    legend = (
        "Each box: kernel (/ stride), channels, height x width of the output for a patch of 100x100 pixels.\n"
        f"{' '.join(f'{_initials(norm)}: {norm}.' for norm in norms)} FC: fully connected.\n"
        "Generator: ReLU after each convolution (and its norm) but the last, then a scaled tanh.\n"
        "Discriminator: LeakyReLU after each layer but the last, before the norm."
    )
    ax.text(0.1, tops[-1] - 0.15, legend, fontsize=_TEXT, color="0.25", va="top")
    return fig


#: Whose networks a variant has.
_WHOSE = MappingProxyType({"code": "of the authors' code (variant code)", "paper": "of the paper (variant paper)"})


def _initials(label: str) -> str:
    """Return the abbreviation of a layer: ``IN`` for ``instance norm``."""
    return "".join(word[0].upper() for word in label.split())


def _page(height: float) -> tuple[Figure, Axes]:
    """Return a figure for a drawing of this height in inches, with room for a caption, and its axes in inches."""
    fig = plt.figure(figsize=(figures.WIDTH, height + _CAPTION))
    fig.set_layout_engine("none")  # all places are given in inches
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, figures.WIDTH), ylim=(fig.get_figheight(), 0))
    ax.set_axis_off()
    return fig, ax


_CAPTION = 0.5  # room for three lines below a drawing, in inches
_PER_ROW = 8  # boxes
_GAP = 0.18  # between two boxes, in inches
_ROW = 1.1  # height of a row of boxes, in inches
_SIDE = 1.15  # of a picture, in inches
_THROUGH, _TERM, _TOTAL = 2.15, 3.35, 4.1  # upper edges of what the images pass through, of the terms, and of their sum
_THROUGH_HEIGHT, _TERM_HEIGHT = 0.68, 0.45
_PLACES = MappingProxyType({"phone": (0.25, "phone"), "enhanced": (3.6, "enhanced"), "dslr": (5.9, "DSLR")})
_INK = MappingProxyType({"enhanced": colors.CLASS_COLORS["enhanced"], "dslr": colors.CLASS_COLORS["dslr"]})


def _sum_in_words(terms: Mapping[str, _Term], variant: str) -> str:
    """Return the weighted sum of the terms, and whose weights these are."""
    weights = losses.weights_of(variant)
    total = " + ".join(f"{weights[name]:g} x {term.name}" for name, term in terms.items())
    source = "(equation 8)" if variant == "paper" else "(form of equation 8, weights of the authors' code)"
    return f"loss = {total}\n{source}"


def _draw_flow(ax: Axes, generator: str, terms: Mapping[str, _Term], total: str, pictures: Mapping) -> None:
    """Draw the pictures, the generator, what both images pass through, the terms, and their weighted sum."""
    top = 0.3
    for name, (x, words) in _PLACES.items():
        ax.text(x + _SIDE / 2, top - 0.08, words, ha="center", va="bottom", fontsize=9, color=_INK.get(name, "black"))
        if name in pictures:
            extent = (x, x + _SIDE, top + _SIDE, top)
            ax.imshow(pictures[name], extent=extent, aspect="auto", interpolation="nearest", zorder=2)
            ax.add_patch(Rectangle((x, top), _SIDE, _SIDE, fill=False, ec=_INK.get(name, "0.2"), lw=1.5, zorder=3))
        else:
            _box(ax, (x, top, _SIDE, _SIDE), "no picture", "white", ec=_INK.get(name, "0.2"))
    middle = top + _SIDE / 2
    _box(ax, (1.6, middle - 0.5, 1.8, 1.0), generator, colors.SKY)
    _arrow(ax, (0.25 + _SIDE, middle), (1.6, middle))
    _arrow(ax, (3.4, middle), (3.6, middle))
    bus = {"enhanced": 1.72, "dslr": 1.88}
    for name, y in bus.items():
        x = _PLACES[name][0] + _SIDE / 2
        ax.plot((x, x), (top + _SIDE, y), color=_INK[name], lw=1.2)
    each = (figures.WIDTH - 0.5) / len(terms)
    centres = [0.5 + each * (i + 0.5) for i in range(len(terms))]
    ends = {"enhanced": [], "dslr": []}
    for x, (name, term) in zip(centres, terms.items(), strict=True):
        for image, offset in (("enhanced", -0.17), ("dslr", 0.17)):
            if image not in term.measures and not term.through:
                continue
            end = _THROUGH if term.through else _TERM
            _arrow(ax, (x + offset, bus[image]), (x + offset, end), _INK[image])
            ends[image].append(x + offset)
            # A discriminator of one image is trained with both, but the texture loss is its answer to the enhanced one.
            if term.through and image in term.measures:
                _arrow(ax, (x + offset, _THROUGH + _THROUGH_HEIGHT), (x + offset, _TERM), _INK[image])
        if name == "texture":
            _draw_own_training(ax, x)
        if term.through:
            place = (x - 0.68, _THROUGH, 1.36, _THROUGH_HEIGHT)
            _box(ax, place, term.through, colors.PINK if name == "texture" else "#DDDDDD")
        _box(ax, (x - 0.68, _TERM, 1.36, _TERM_HEIGHT), f"{term.name}\n{term.equation}", colors.YELLOW)
        _arrow(ax, (x, _TERM + _TERM_HEIGHT), (x, _TOTAL))
    for image, xs in ends.items():
        if xs:
            origin = _PLACES[image][0] + _SIDE / 2
            ax.plot((min(*xs, origin), max(*xs, origin)), (bus[image],) * 2, color=_INK[image], lw=1.2)
    _box(ax, (0.5, _TOTAL, figures.WIDTH - 0.6, 0.4), total, "#F7F3B0")
    # Back from the loss to the network that it trains.
    ax.plot((0.5, 0.12, 0.12, 2.5), (_TOTAL + 0.2, _TOTAL + 0.2, 1.6, 1.6), color="0.4", lw=1.2, ls="--")
    _arrow(ax, (2.5, 1.6), (2.5, middle + 0.5), "0.4", ls="--")
    ax.text(0.2, 2.05, "trains", fontsize=_TEXT, color="0.3", va="center", rotation=90)


def _draw_own_training(ax: Axes, x: float) -> None:
    """Draw that the discriminator, in the column around ``x``, is trained by a loss of its own."""
    bottom, middle = _THROUGH + _THROUGH_HEIGHT, _THROUGH + _THROUGH_HEIGHT / 2
    start, outside, below = x + 0.4, x + 0.8, bottom + 0.18
    ax.plot((start, start, outside, outside), (bottom, below, below, middle), color="0.4", lw=1.2, ls="--")
    _arrow(ax, (outside, middle), (x + 0.68, middle), "0.4", size=6)
    ax.text(outside, bottom + 0.29, "trains", fontsize=_TEXT, color="0.3", va="center", ha="right")
    words = "Each iteration also trains the discriminator, to tell the enhanced image from the DSLR's."
    ax.text(figures.WIDTH - 0.1, _TOTAL + 0.55, words, fontsize=_TEXT, color="0.25", va="center", ha="right")


def _rows(inside: list[DrawnLayer]) -> list[list[list[DrawnLayer]]]:
    """Return the boxes of a network in rows: each convolution or linear layer, with the norm that follows it.

    A residual block stays in one row.
    """
    together: list[list[list[DrawnLayer]]] = []  # the boxes of a block, or a box alone
    for layer in inside:
        if layer.kind == "norm" and together:
            together[-1][-1].append(layer)
        elif layer.name.startswith("blocks.") and layer.name.endswith("conv2"):
            together[-1].append([layer])
        else:
            together.append([[layer]])
    rows: list[list[list[DrawnLayer]]] = [[]]
    for boxes in together:
        if len(rows[-1]) + len(boxes) > _PER_ROW:
            rows.append([])
        rows[-1] += boxes
    return rows


def _draw_layers(ax: Axes, inside: list[DrawnLayer], top: float, title: str) -> None:
    """Draw the convolutions and linear layers of a network in rows; a norm lies under the layer that it follows."""
    left = 0.3
    each = (figures.WIDTH - left - 0.15 + _GAP) / _PER_ROW
    width = each - _GAP
    ax.text(0.1, top, title, fontsize=9, va="center", weight="bold")
    rows = _rows(inside)
    for k, boxes in enumerate(rows):
        y = top + 0.36 + _ROW * k
        middle = y + 0.27
        for i, box in enumerate(boxes):
            x = left + each * i
            for layer in box:
                if layer.kind == "norm":
                    _box(ax, (x, y + 0.56, width, 0.22), _initials(layer.label), _KINDS["norm"])
                else:
                    size = f"\n{layer.shape[1]}x{layer.shape[2]}" if len(layer.shape) == 3 else ""
                    _box(ax, (x, y, width, 0.54), f"{layer.label}\n{layer.shape[0]}{size}", _KINDS[layer.kind])
            if i:
                _arrow(ax, (x - _GAP, middle), (x, middle), size=5)
            if box[0].name.startswith("blocks.") and box[0].name.endswith("conv1"):
                # One block's sum ends before the next one's input begins.
                start, end = x - _GAP / 3, x + 2 * each - 2 * _GAP / 3
                ax.plot((start, start, end), (middle, y - 0.1, y - 0.1), color="0.2", lw=0.9)
                _arrow(ax, (end, y - 0.1), (end, middle), size=5)
                ax.text(x + each - _GAP / 2, y - 0.12, "+ input", ha="center", va="bottom", fontsize=_TEXT)
        if k + 1 < len(rows):  # the next row goes on here
            last, edge, between, below = x + width, 0.08, y + _ROW - 0.28, middle + _ROW
            outside = last + _GAP / 2 + 0.03
            steps = ((last, outside, outside, edge, edge), (middle, middle, between, between, below))
            ax.plot(*steps, color="0.2", lw=0.9)
            _arrow(ax, (edge, below), (left, below), size=5)


def _box(ax: Axes, place: tuple[float, float, float, float], words: str, color: str, ec: str = "0.2") -> None:
    x, y, width, height = place
    style = "round,pad=0,rounding_size=0.05"
    ax.add_patch(FancyBboxPatch((x, y), width, height, style, fc=color, ec=ec, lw=0.8, zorder=1))
    ax.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=_TEXT, linespacing=1.1, zorder=3)


def _arrow(ax: Axes, start: tuple, end: tuple, color: str = "0.2", size: float = 8, ls: str = "-") -> None:
    arrow = {
        "arrowstyle": "-|>",
        "lw": 1.0,
        "color": color,
        "mutation_scale": size,
        "shrinkA": 0,
        "shrinkB": 0,
        "ls": ls,
    }
    ax.annotate("", end, start, arrowprops=arrow, zorder=3)
