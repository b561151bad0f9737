"""Layers of a network swapped for their quick forms."""

import copy

import torch
from torch import Tensor, nn

from dped_lib import models, vgg
from dped_lib.speed import convolution, norm


class VGG19(vgg.VGG19):
    """``vgg.VGG19`` that returns at least float32, whatever the type of its convolutions."""

    def forward(self, image: Tensor, layer: str = "relu5_4") -> Tensor:
        return convolution.wide(super().forward(image, layer))


def quick_form(module: nn.Module) -> type[nn.Module] | None:
    """Return the class that computes what ``module`` does and sooner, or None."""
    kind = type(module)
    if kind is nn.InstanceNorm2d and module.affine and not module.track_running_stats:
        return norm.InstanceNorm2d
    if kind is models.ResidualBlock and isinstance(module.norm1, nn.InstanceNorm2d):
        return norm.ResidualBlock
    if kind is nn.Conv2d and convolution.has_few(module):
        return convolution.Conv2d
    if kind is nn.Linear and convolution.has_few(module):
        return convolution.Linear
    return VGG19 if kind is vgg.VGG19 else None


def swap(network: nn.Module) -> nn.Module:
    """Give each module of a network its quick form and return the network.

    A quick form is a subclass without state of its own, so a module only changes its class. Parameters, hooks, the keys of
    ``state_dict`` and ``isinstance`` stay as they are.
    """
    for module in network.modules():
        if quick := quick_form(module):
            module.__class__ = quick
    return network


def frozen_in(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a frozen network with its convolutions in ``dtype``: a copy, unless they are already.

    Autocast would cast all weights of VGG-19 in every pass. The network's input is still normalised in its own type.
    """
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    if all(c.weight.dtype == dtype for c in convs):
        return network
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    return network
