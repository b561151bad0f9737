"""Swap the layers of a network for their quick forms."""

import copy

import torch
from torch import Tensor, nn

from dped_lib import models, vgg
from dped_lib.speed import convolution, norm


class VGG19(vgg.VGG19):
    """Compute ``vgg.VGG19`` with convolutions of any type."""

    def forward(self, image: Tensor, layer: str = "relu5_4") -> Tensor:
        """Return the activations of one layer in at least float32."""
        return convolution.wide(super().forward(image, layer))


def quick_form(module: nn.Module) -> type[nn.Module] | None:
    """Return the class that computes the same as ``module`` but faster, or None if there is none."""
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
    """Give each module of a network its quick form, in place, and return the network.

    A quick form is a subclass without state of its own, so a module only changes its class. Its parameters, hooks and
    keys in ``state_dict`` stay as they are, and ``isinstance`` still holds.
    """
    for module in network.modules():
        if quick := quick_form(module):
            module.__class__ = quick
    return network


def frozen_in(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a frozen network with convolutions in ``dtype``, or the network itself if they have that type.

    Without this copy, autocast would convert all weights of VGG-19 in every pass. The input is still normalised in its own
    type.
    """
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    if all(c.weight.dtype == dtype for c in convs):
        return network
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    return network
