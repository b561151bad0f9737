"""Draw the two networks of Figure 7 from their modules. Shapes and parameter counts are computed, not written down."""

from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import nn

from dped_lib import models

_KINDS = {"conv": "#56B4E9", "norm": "#E69F00", "linear": "#CC79A7"}


@dataclass(frozen=True)
class Layer:
    """Describe one layer of a network.

    Attributes:
        name: of the module in the network.
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


def layers(network: nn.Module, image: torch.Tensor) -> list[Layer]:
    """List the convolutions, norms and linear layers of a network, in the order in which they run.

    The network runs once on ``image`` (1 x C x H x W), in evaluation mode. Its mode is restored afterwards.
    """
    listed: list[Layer] = []

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
            listed.append(Layer(name, kind, label, tuple(output.shape[1:]), models.count_parameters(module)))

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


_NORM_OFFSET = 1.02  # from a convolution down to its norm
_ROW_HEIGHT = 2.5


def draw_network(axes: Axes, network_layers: list[Layer], title: str, per_row: int = 12) -> None:
    """Draw layers as boxes in reading order, ``per_row`` convolutions and linear layers a row.

    A norm is below the convolution that it normalises, and a skip connection is above its residual block. A box shows
    kernel and stride, output channels @ height x width, and the number of parameters.
    """
    columns: list[list[Layer]] = []
    for layer in network_layers:
        if layer.kind == "norm" and columns:
            columns[-1].append(layer)
        else:
            columns.append([layer])
    for i, column in enumerate(columns):
        x, y = i % per_row, -(i // per_row) * _ROW_HEIGHT
        for depth, layer in enumerate(column):
            _box(axes, x, y - _NORM_OFFSET * depth, layer)
        if x:
            axes.annotate("", (x - 0.44, y), (x - 0.56, y), arrowprops={"arrowstyle": "-|>", "lw": 0.6, "color": "0.2"})
        if column[0].name.startswith("blocks.") and column[0].name.endswith("conv1"):
            skip = {"arrowstyle": "-|>", "lw": 0.8, "color": "0.2", "connectionstyle": "bar,fraction=-0.06"}
            axes.annotate("", (x + 1.44, y + 0.45), (x - 0.44, y + 0.45), arrowprops=skip)
            axes.text(x + 0.5, y + 0.72, "+ input", ha="center", va="bottom", fontsize=8)
    rows = -(-len(columns) // per_row)
    axes.set(xlim=(-0.55, per_row - 0.45), ylim=(-(rows - 1) * _ROW_HEIGHT - 1.55, 1.0))
    axes.set_title(title, fontsize=10, loc="left")
    axes.axis("off")


def _box(axes: Axes, x: float, y: float, layer: Layer) -> None:
    shape = f"{layer.shape[0]}" + (f"@{layer.shape[1]}x{layer.shape[2]}" if len(layer.shape) == 3 else "")
    words = layer.label.replace(" ", "\n") if layer.kind == "norm" else f"{layer.label}\n{shape}"
    box = FancyBboxPatch(
        (x - 0.44, y - 0.45),
        0.88,
        0.9,
        "round,pad=0,rounding_size=0.06",
        fc=_KINDS[layer.kind],
        ec="0.2",
        lw=0.6,
        alpha=0.55,
    )
    axes.add_patch(box)
    axes.text(x, y, f"{words}\n{layer.parameters:,}", ha="center", va="center", fontsize=8)
