"""Figure 7 shows what the modules are: every layer, every term of the loss, and where the images are used."""

import itertools
import re

import matplotlib.pyplot as plt
import pytest
import torch
from legible import SCREEN, smallest_text
from matplotlib.patches import FancyBboxPatch
from torch import nn

from dped_lib import losses, models
from dped_lib.report import colors, figures, network_diagrams

WEIGHTED, NORMS = (nn.Conv2d, nn.Linear), (nn.BatchNorm2d, nn.InstanceNorm2d)


@pytest.mark.parametrize("form", sorted(models.DISCRIMINATORS))
def test_drawn_layers_add_up_to_the_network(form):
    """Every trainable parameter is in a drawn box, and shapes are those that run."""
    with torch.device("meta"):  # the weights play no part
        pairs = (
            (models.generator(), torch.zeros(1, 3, 100, 100)),
            (d := models.discriminator(form), torch.zeros(1, d.inputs, 100, 100)),
        )
    for network, image in pairs:
        layers = network_diagrams.layers(network, image)
        assert sum(layer.parameters for layer in layers) == models.count_parameters(network)
    assert [layer.kind for layer in layers].count("conv") == (5 if form == "code" else 6)
    generator = network_diagrams.layers(models.generator(), torch.zeros(1, 3, 64, 48))
    assert [layer.kind for layer in generator].count("conv") == 12
    assert generator[-1].shape == (3, 64, 48) and generator[0].label == "9x9"
    assert not any(m._forward_hooks for m in network.modules()), "hooks are taken off again"


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
def test_figure_7_shows_every_term_and_its_weight(variant):
    fig = network_diagrams.system(variant)
    words = [text.get_text() for text in fig.axes[0].texts]
    total = next(w for w in words if w.startswith("loss ="))
    names = {"color": "colour loss", "content": "content loss", "texture": "texture loss", "tv": "total variation"}
    for term, name in names.items():
        assert any(w.startswith(name) for w in words)
        assert f"{losses.weights_of(variant)[term]:g} x {name}" in total
    equations = [w.splitlines()[1] for w in words if w.startswith(tuple(names.values())) and "equation" in w]
    like = "" if variant == "paper" else "like "
    expected = [f"{like}{equation}" for equation in ("equation 5", "equation 6", "equation 7", "equations 2-4")]
    assert sorted(equations) == expected, "each term of the authors' code differs from its equation"
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    assert fig.get_figheight() <= SCREEN
    plt.close(fig)


@pytest.mark.parametrize(
    ("variant", "norm", "discriminator", "content"),
    [
        ("code", "instance norm", ["one gray image:", "5 convolutions,"], ["relu5_4:", "16 convolutions"]),
        ("paper", "batch norm", ["two gray images:", "6 convolutions,"], ["relu5_2:", "14 convolutions"]),
    ],
)
def test_the_boxes_of_the_system_name_the_layers_of_their_networks(variant, norm, discriminator, content):
    """Sections 3.1.3 and 3.2.2; the discriminator of the authors' code has five convolutions."""
    fig = network_diagrams.system(variant)
    words = [text.get_text().splitlines() for text in fig.axes[0].texts]
    generator = ["9x9 to 64 channels", "4 residual blocks:", f"two 3x3, {norm}"]
    assert ["generator: 12 convolutions", *generator, "3x3, 3x3 to 64 channels", "9x9 to 3 channels"] in words
    assert ["discriminator of", *discriminator, "2 fully connected"] in words and ["VGG-19 up to", *content] in words
    plt.close(fig)


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
def test_figure_7_shows_every_layer(variant):
    """Each layer of the networks that the paper's loss trains has its box, and the abbreviations are explained."""
    figures.use_style()
    fig = network_diagrams.networks(variant)
    words = [text.get_text() for text in fig.axes[0].texts]
    with torch.device("meta"):
        drawn = models.generator(), models.discriminator(losses.DISCRIMINATOR_OF[variant])
    convolutions = sum(isinstance(m, nn.Conv2d) for network in drawn for m in network.modules())
    assert sum(bool(re.match(r"\d+x\d+( /\d)?\n", w)) for w in words) == convolutions
    whose = {"code": "of the authors' code", "paper": "of the paper"}[variant]
    for name in ("Generator", "Discriminator"):
        assert any(w.startswith(f"{name} {whose} (variant {variant}): ") for w in words), (
            "it may not pass for the other's"
        )
    (legend,) = (w for w in words if "FC: fully connected" in w)
    drawn_norms = {w for w in words if w in ("IN", "BN")}
    assert set(re.findall(r"\b(IN|BN):", legend)) == drawn_norms, "each abbreviation that is drawn, and no other"
    assert fig.get_figheight() <= SCREEN
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
def test_activations_are_where_the_legend_says(variant):
    """ReLU follows the generator's norms. LeakyReLU comes before the discriminator's norms."""
    with torch.device("meta"):  # random values for 45 million weights take seconds
        generator = models.generator("dped", variant)
        discriminator = models.discriminator(losses.DISCRIMINATOR_OF[variant])
    for network in (generator, discriminator):
        network.to_empty(device="cpu").eval()
        for values in (*network.parameters(), *network.buffers()):
            values.data.fill_(1)
        ran: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        for layer in (m for m in network.modules() if isinstance(m, (*WEIGHTED, *NORMS))):
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.1)

            def record(ran_layer, given, returned, ran=ran):
                ran.append((ran_layer, given[0].clone(), returned.clone()))

            layer.register_forward_hook(record)
        side, channels = (12, 3) if network is generator else (100, discriminator.inputs)
        with torch.no_grad():
            network(torch.rand(1, channels, side, side))
        for (before, _, output), (after, given, _) in itertools.pairwise(ran):
            leaky = nn.functional.leaky_relu(output, 0.2)
            if isinstance(after, NORMS):
                assert torch.equal(given, output if network is generator else leaky)
            elif network is generator:
                assert given.min() >= 0, "a ReLU, or a sum of them"
            elif isinstance(before, WEIGHTED):
                assert torch.isin(leaky, given).all(), "padded or flattened, and otherwise unchanged"
    figures.use_style()
    fig = network_diagrams.networks(variant)
    (legend,) = (text.get_text() for text in fig.axes[0].texts if "FC: fully connected" in text.get_text())
    assert "Generator: ReLU after each convolution (and its norm) but the last, then a scaled tanh." in legend
    assert "Discriminator: LeakyReLU after each layer but the last, before the norm." in legend
    plt.close(fig)


@pytest.mark.parametrize(("variant", "texture"), [("code", ["enhanced"]), ("paper", ["enhanced", "dslr"])])
def test_arrows_of_figure_7_end_where_the_images_are_used(variant, texture):
    """The code's texture loss sees the enhanced image alone, but both images train its discriminator."""
    fig = network_diagrams.system(variant=variant)
    ax = fig.axes[0]
    place = {text.get_text().split("\n")[0]: text.get_position() for text in ax.texts if text.get_text()}
    inks = {colors.CLASS_COLORS[name]: name for name in ("enhanced", "dslr")}
    arrows = [(*text.xy, inks.get(text.arrowprops["color"])) for text in ax.texts if getattr(text, "arrowprops", None)]

    def reach(box):
        x, y = place[box]
        return [name for at, end, name in arrows if name and abs(at - x) < 0.5 and 0 < y - end < 0.4]

    assert reach("texture loss") == texture
    assert reach("discriminator of") == reach("Gaussian blur") == reach("colour loss") == ["enhanced", "dslr"]
    assert reach("total variation") == ["enhanced"]
    words = [text.get_text() for text in ax.texts]
    assert words.count("trains") == 2 and any("also trains the discriminator" in w for w in words)
    source = next(w for w in words if w.startswith("loss =")).splitlines()[1]
    assert source == {"code": "(form of equation 8, weights of the authors' code)", "paper": "(equation 8)"}[variant]
    plt.close(fig)


@pytest.mark.parametrize("variant", sorted(losses.DISCRIMINATOR_OF))
@pytest.mark.parametrize("part", [network_diagrams.system, network_diagrams.networks])
def test_words_of_figure_7_stay_in_their_boxes_and_arrows_apart(variant, part):
    figures.use_style()
    fig = part(variant=variant)
    fig.draw_without_rendering()
    ax = fig.axes[0]
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    inside = 0
    for words in (text.get_window_extent() for text in ax.texts if text.get_text()):
        for box in (b for b in boxes if b.contains((words.x0 + words.x1) / 2, (words.y0 + words.y1) / 2)):
            assert box.x0 + 2 < words.x0 and words.x1 < box.x1 - 2 and box.y0 < words.y0 and words.y1 < box.y1
            inside += 1
    assert inside == len(boxes)
    around = [line.get_xydata() for line in ax.lines if len(line.get_xydata()) == 3]  # from a block's input to its sum
    assert len(around) == (0 if part is network_diagrams.system else 4)
    for one, other in itertools.permutations(around, 2):
        same_row = one[0][1] == other[0][1]
        assert not same_row or abs(one[0][0] - other[-1][0]) > 0.04, "a sum ends beside the next block's input"
    plt.close(fig)
