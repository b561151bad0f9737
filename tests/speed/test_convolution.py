"""The quick forms of layers with few channels equal the plain layers."""

import copy

import pytest
import torch

from dped_lib import speed
from dped_lib.speed import convolution

CPU = torch.device("cpu")


@pytest.mark.parametrize(("inputs", "outputs", "k"), [(3, 64, 9), (3, 64, 3), (64, 3, 9), (32, 3, 5), (1, 5, 5)])
def test_convolutions_of_few_channels_in_their_other_order(inputs, outputs, k):
    """Value and every gradient are those of the layer as it stands; in float64, so that only the order of sums can differ."""
    conv = torch.nn.Conv2d(inputs, outputs, k, padding=k // 2).double()
    x = torch.rand(2, inputs, 21, 17, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(2, outputs, 21, 17, dtype=torch.float64)
    forms = [conv(x)]
    if inputs < convolution.FEW:
        forms.append(convolution.from_few(x, conv.weight, conv.bias, k // 2))
        inside = convolution.from_few(x, conv.weight, conv.bias, 0)
        assert torch.allclose(inside, conv(x)[:, :, k // 2 : -(k // 2)], rtol=1e-12, atol=1e-12)
    if outputs < convolution.FEW:
        forms.append(convolution.to_few(x, conv.weight, conv.bias))
    expected, *others = ((y, *torch.autograd.grad((y * weight).sum(), (x, *conv.parameters()))) for y in forms)
    assert others
    for other in others:
        for a, b in zip(expected, other, strict=True):
            assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layer", [torch.nn.Conv2d(16, 3, 9, padding=4), torch.nn.Linear(16, 2)])
def test_few_outputs_are_at_least_float32(layer):
    """They end a network: in mixed precision the loss must not see them rounded again."""
    x = torch.rand(1, 16, 12, 12) if isinstance(layer, torch.nn.Conv2d) else torch.rand(4, 16)
    quick = speed.prepare(copy.deepcopy(layer), CPU)
    network = speed.prepare(torch.nn.Sequential(copy.deepcopy(layer)), CPU)
    with speed.autocast(CPU, torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16 and network(x).dtype == quick(x).dtype == torch.float32
    assert torch.allclose(network(x), layer(x), atol=1e-6)
    double = speed.prepare(copy.deepcopy(layer).double(), CPU)
    assert double(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "kind", [{"stride": 2, "padding": 4}, {"padding": 0}, {"padding": 4, "padding_mode": "reflect"}]
)
def test_other_layers_of_few_channels_stay(kind):
    assert not convolution.has_few(torch.nn.Conv2d(3, 16, 9, **kind))
    assert not convolution.has_few(torch.nn.Conv2d(16, 16, 9, padding=4))
