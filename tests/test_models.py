"""The networks against the authors' own outputs, and the properties their design promises."""

import numpy as np
import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib import models, speed
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints

# A float32 port reaches 1e-5 (reference/README.md); the issue asks for 1e-4.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def inputs(load_reference):
    arrays = load_reference("inputs_u8")
    return {"patches": small.nchw(arrays["iphone_u8"], 255), "hd256x320": small.nchw(arrays["hd0_crop_u8"][None], 255)}


@pytest.mark.parametrize("form", ["plain", "swapped"])
@pytest.mark.parametrize("name", ["iphone", "blackberry", "sony", "srcnn", "resnet_8_32"])
@torch.inference_mode()
def test_outputs_equal_the_authors(name, form, inputs, load_reference):
    wanted = load_reference("srcnn_resnet8_outputs" if name in ("srcnn", "resnet_8_32") else "dped_generator_outputs")
    network = authors_checkpoints.load_network(name)
    if form == "swapped":
        network = speed.prepare(network, torch.device("cpu"))
    for key, image in inputs.items():
        reference = wanted[f"{name}_{key}"]
        output = network(image).permute(0, 2, 3, 1).numpy().reshape(reference.shape)
        assert np.abs(output - reference).max() < TOLERANCE, key


@torch.inference_mode()
def test_every_layer_equals_the_authors(inputs, load_reference):
    """Activations after each block, sampled, their corner (padding), and the norms' statistics."""
    wanted = load_reference("activations_iphone_patch42_compact")
    network = authors_checkpoints.load_network("iphone")
    outputs, normalised = {}, []

    def keep(name):
        return lambda _m, _i, output: outputs.__setitem__(name, output[0].permute(1, 2, 0).numpy())

    network.head.register_forward_hook(keep("c1"))
    network.blocks[0].conv1.register_forward_hook(keep("layer2_prenorm"))
    for block, name in zip(network.blocks, ("c3", "c5", "c7", "c9"), strict=True):
        block.register_forward_hook(keep(name))
        for conv in (block.conv1, block.conv2):
            conv.register_forward_hook(lambda _m, _i, output: normalised.append(output[0]))
    network.conv1.register_forward_hook(keep("c10"))
    network.conv2.register_forward_hook(keep("c11"))
    enhanced = network(inputs["patches"][2:3])[0].permute(1, 2, 0).numpy()
    for name in ("c1", "c10", "c11"):
        outputs[name] = np.maximum(outputs[name], 0)  # the reference is after the ReLU
    assert np.abs(enhanced - wanted["enhanced"]).max() < TOLERANCE
    for name, output in outputs.items():
        assert np.abs(output[::5, ::5] - wanted[f"{name}_s5"]).max() < 1e-4, name
        assert np.abs(output[:8, -8:] - wanted[f"{name}_corner"]).max() < 1e-4, name
    mean = torch.stack([x.mean((1, 2)) for x in normalised]).numpy()
    var = torch.stack([x.var((1, 2), correction=0) for x in normalised]).numpy()
    np.testing.assert_allclose(mean, wanted["moments_mean"], atol=1e-4)
    np.testing.assert_allclose(var, wanted["moments_var"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_parameter_counts_follow_from_section_3_2_2(variant):
    """9x9 and 3x3 kernels, 64 channels, ten 3x3 layers, eight norms: countable by hand."""
    convs = 9 * 9 * 3 * 64 + 64 + 10 * (3 * 3 * 64 * 64 + 64) + 9 * 9 * 64 * 3 + 3
    assert models.count_parameters(models.generator("dped", variant)) == convs + 8 * 2 * 64


def test_variants_differ_in_the_norm():
    kinds = {v: {type(m).__name__ for m in models.generator("dped", v).modules()} for v in ("code", "paper")}
    assert "InstanceNorm2d" in kinds["code"] and "BatchNorm2d" not in kinds["code"]
    assert "BatchNorm2d" in kinds["paper"] and "InstanceNorm2d" not in kinds["paper"]


@settings(max_examples=10, deadline=None)
@given(height=st.integers(9, 40), width=st.integers(9, 40), name=st.sampled_from(sorted(models.GENERATORS)))
@torch.inference_mode()
def test_any_size_goes_through_and_stays_in_range(height, width, name):
    output = models.generator(name)(torch.rand(1, 3, height, width))
    assert output.shape == (1, 3, height, width)
    assert output.min() >= -0.08 - 1e-6 and output.max() <= 1.08 + 1e-6


@torch.inference_mode()
def test_images_of_a_batch_do_not_see_each_other():
    """Instance norm: an image's result is its own. (Batch norm in training mode is not: the paper's form.)"""
    images = torch.rand(3, 3, 24, 24)
    network = models.generator().eval()
    assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-6)
    batch = models.generator("dped", "paper").train()
    with torch.no_grad():
        for p in batch.parameters():
            p.copy_(torch.randn_like(p) * 0.1)
    assert not torch.allclose(batch(images)[1:2], batch(images[1:2]), atol=1e-4)


@torch.inference_mode()
def test_a_norm_is_biased_and_has_the_epsilon_of_the_authors_code():
    """Mean and biased variance of each channel of each image, 1e-3 inside the root, then weight and bias."""
    x = torch.randn(2, 8, 11, 13, dtype=torch.float64) * 3 + 1
    norm = models.normalisation("instance", 8).double()
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.uniform_(-1, 1)
    variance, mean = torch.var_mean(x, (2, 3), keepdim=True, correction=0)
    wanted = (x - mean) / torch.sqrt(variance + 1e-3) * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(norm(x), wanted, atol=1e-12)


def test_initial_weights_are_tensorflows_truncated_normal():
    kernels = [m.weight.flatten() for m in models.generator().modules() if isinstance(m, torch.nn.Conv2d)]
    weight = torch.cat(kernels)
    assert weight.abs().max() <= 0.02  # cut at two deviations
    assert abs(weight.std().item() - 0.01 * 0.8796) < 1e-4  # deviation of a normal cut at two
    bias = models.generator().head.bias
    assert torch.equal(bias, torch.full_like(bias, 0.01))


@pytest.mark.parametrize("name", sorted(models.GENERATORS))
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_gradient_reaches_every_parameter(name, variant):
    torch.manual_seed(0)
    network = models.generator(name, variant)
    network(torch.rand(2, 3, 20, 20)).square().sum().backward()
    for key, p in network.named_parameters():
        if key.startswith("blocks.") and key.endswith("bias") and "conv" in key:
            continue  # dead: a norm follows and takes any constant away (FACTS: b2..b9)
        assert p.grad is not None and p.grad.abs().max() > 0, key


@pytest.mark.parametrize("form", sorted(models.DISCRIMINATORS))
def test_discriminators_take_patches_only(form):
    network = models.discriminator(form)
    logits = network(torch.rand(2, network.inputs, 100, 100))
    assert logits.shape == (2, 2 if form == "code" else 1)
    for bad in ((2, network.inputs, 64, 64), (2, network.inputs + 1, 100, 100), (network.inputs, 100, 100)):
        with pytest.raises(DpedError, match="100 x 100"):
            network(torch.rand(*bad))


def test_paper_discriminator_has_the_layers_of_the_text():
    """Six convolutions, 64 to 256 channels doubling after each second one, which has stride 2; FC 1024."""
    with torch.device("meta"):  # the weights play no part, and random ones take seconds
        two, one = (models.discriminator(form) for form in ("two_image", "one_image"))
    convs = [m for m in two.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 64, 128, 128, 256, 256]
    assert [c.stride[0] for c in convs] == [1, 2, 1, 2, 1, 2]
    assert convs[0].in_channels == 2
    assert one.features[0].in_channels == 1
    assert two.fc.out_features == 1024


def test_unknown_names_list_the_allowed_ones():
    with pytest.raises(DpedError, match="dped, srcnn, resnet_8_32"):
        models.generator("unet")
    with pytest.raises(DpedError, match="two_image"):
        models.discriminator("patchgan")
