"""A swapped network is the plain one: values, gradients, keys of the state."""

import copy

import pytest
import torch

from dped_lib import models, speed
from dped_lib.data import network_files, vgg_files
from dped_lib.speed import convolution, norm

CPU = torch.device("cpu")


def network_of(name, variant="code"):
    """Return a network whose layers all matter: weights, biases and running statistics are moved off their start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = models.discriminator(name) if name in models.DISCRIMINATORS else models.generator(name, variant)
        for p in network.parameters():
            p.data += torch.randn_like(p) * (
                p[0].numel() ** -0.5 if p.ndim > 1 else 0.1
            )  # keeps the size of the features
    return network


NETWORKS = [
    *((n, v) for n in models.GENERATORS for v in ("code", "paper")),
    *((d, "") for d in models.DISCRIMINATORS),
]


@pytest.mark.parametrize(("name", "variant"), NETWORKS)
def test_a_swapped_network_is_the_plain_one(name, variant):
    """Output and every gradient of the plain network, the same parameters under the same names.

    In float64 only the order of sums can differ. In float32 a ReLU near zero may open in one form and not in the other, so we
    compare the lengths of the gradients, as with the authors' own.
    """
    plain = network_of(name, variant)
    swapped = speed.prepare(copy.deepcopy(plain), CPU)
    assert list(swapped.state_dict()) == list(plain.state_dict())
    assert network_files.fingerprint(swapped) == network_files.fingerprint(plain)
    assert isinstance(swapped, type(plain))
    side = 100 if name in models.DISCRIMINATORS else 24
    image = torch.rand(2, getattr(plain, "inputs", 3), side, side, generator=torch.Generator().manual_seed(0))
    names = ["image", *(n for n, _ in plain.named_parameters())]
    for dtype in (torch.float32, torch.float64):
        by_form = []
        for network in (plain.to(dtype), swapped.to(dtype)):
            x = image.to(dtype, copy=True).requires_grad_(True)
            y = network(x)
            by_form.append((y, *torch.autograd.grad(y.square().sum(), (x, *network.parameters()))))
        (expected, *wanted), (output, *gradients) = by_form
        exact = dtype == torch.float64
        assert (output - expected).abs().max() < (1e-10 if exact else 1e-5) * max(1, expected.abs().max())
        for key, a, b in zip(names, gradients, wanted, strict=True):
            if variant and key.startswith("blocks") and "conv" in key and key.endswith("bias"):
                continue  # dead: a norm follows, and the gradient is rounding
            assert (
                (a - b).norm() < 1e-9 * b.norm()
                if exact
                else a.norm().item() == pytest.approx(b.norm().item(), rel=2e-3)
            ), key


def test_the_right_layers_are_swapped():
    """Instance norms, residual blocks and the layers of few channels; on a second call nothing more changes."""
    generator = speed.prepare(models.generator(), CPU)
    kinds = [type(m) for m in generator.modules()]
    assert kinds.count(norm.InstanceNorm2d) == 8 and kinds.count(norm.ResidualBlock) == 4
    assert [n for n, m in generator.named_modules() if type(m) is convolution.Conv2d] == ["head", "tail"]
    assert [type(m) for m in speed.prepare(generator, CPU).modules()] == kinds
    batch = speed.prepare(models.generator("dped", "paper"), CPU)
    assert not any(isinstance(m, (norm.InstanceNorm2d, norm.ResidualBlock)) for m in batch.modules())


def test_a_swapped_network_can_be_copied_and_trained_on():
    """A copy is a network of its own, and a network prepared in inference mode still takes gradients."""
    network = models.generator("resnet_8_32")
    with torch.inference_mode():
        speed.prepare(network, CPU)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.blocks[0].norm1.weight.fill_(7)
    image = torch.rand(1, 3, 16, 16)
    assert not torch.allclose(network(image), other(image))
    network(image).sum().backward()
    assert network.blocks[0].norm1.weight.grad is not None and other.blocks[0].norm1.weight.grad is None


def test_frozen_features_in_bfloat16_are_a_copy():
    """Mixed precision leaves the given network alone; values are those of bfloat16's 8 bits, returned as float32."""
    plain = vgg_files.vgg19()
    quick = speed.prepare(plain, CPU, torch.bfloat16)
    assert plain.convs["1_1"].weight.dtype == torch.float32 and quick.convs["1_1"].weight.dtype == torch.bfloat16
    assert speed.prepare(quick, CPU, torch.bfloat16) is quick
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode(), speed.autocast(CPU, torch.bfloat16):
        features = quick(image)
    with torch.inference_mode():
        expected = plain(image)
    assert features.dtype == torch.float32
    assert 0 < (features - expected).norm() < 0.02 * expected.norm()
