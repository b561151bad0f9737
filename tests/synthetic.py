"""What tests make up: the VGG-19 and discriminator of reference/README.md, regenerated from their seeds; pictures of a study."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from answering import FULL as FULL
from answering import SCENES as SCENES
from PIL import Image

from dped_lib import models

Array = np.ndarray


def write_study(folder: Path, scenes: Mapping = FULL, size: tuple[int, int] = (120, 160)) -> Path:
    """Pictures of noise in the layout of ``study_pictures``, each another."""
    rng = np.random.default_rng(0)
    for name, by_class in scenes.items():
        for cls, of_class in by_class.items():
            (folder / name / cls).mkdir(parents=True)
            for scene in of_class:
                image = Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8))
                image.save(folder / name / cls / f"{scene}.png")
    return folder


def vgg_kernels(seed: int = 1704) -> list[tuple[Array, Array]]:
    """Kernel (as stored in the .mat) and bias of the sixteen layers."""
    rs = np.random.RandomState(seed)
    incoming, layers = 3, []
    for width in [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8:
        kernel = rs.standard_normal((3, 3, incoming, width)).astype(np.float32) * np.float32(
            np.sqrt(2 / (9 * incoming))
        )
        layers.append((kernel, rs.standard_normal((width,)).astype(np.float32) * np.float32(0.05)))
        incoming = width
    return layers


def discriminator(seed: int = 1705) -> models.CodeDiscriminator:
    """The discriminator of the authors' code with the reference's weights, drawn in TensorFlow's creation order."""
    rs = np.random.RandomState(seed)

    def normal(shape, scale):
        return rs.standard_normal(shape).astype(np.float32) * np.float32(scale)

    net = models.CodeDiscriminator()
    with torch.no_grad():
        for i, conv in enumerate(net.convs):
            outgoing, incoming, size, _ = conv.weight.shape
            kernel = normal((size, size, incoming, outgoing), np.sqrt(2 / (size * size * incoming)))
            conv.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
            conv.bias.copy_(torch.tensor(normal((outgoing,), 0.05)))
            if i:
                net.norms[i - 1].bias.copy_(torch.tensor(normal((outgoing,), 0.1)))
                net.norms[i - 1].weight.copy_(torch.tensor(1 + normal((outgoing,), 0.1)))
        for layer, deviation in ((net.fc, 0.01), (net.out, 0.03)):
            layer.weight.copy_(torch.tensor(normal(layer.weight.shape[::-1], deviation).T.copy()))
            layer.bias.copy_(torch.tensor(normal(layer.bias.shape, 0.05)))
    return net
