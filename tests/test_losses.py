"""Every loss term against the authors' values, closed forms, and where its gradient goes."""

import copy
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small import nchw
from synthetic import discriminator, vgg_kernels

from dped_lib import losses, models, paper, vgg
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints, vgg_files
from dped_lib.speed import blur, prepare

RELATIVE = 1e-5


@pytest.fixture(scope="module")
def wanted(load_reference):
    return load_reference("loss_reference")


@pytest.fixture(scope="module")
def images(load_reference):
    inputs = load_reference("inputs_u8")
    enhanced = nchw(load_reference("dped_generator_outputs")["iphone_patches"])
    return {"phone": nchw(inputs["iphone_u8"], 255), "dslr": nchw(inputs["canon_u8"], 255), "enhanced": enhanced}


@pytest.fixture(scope="module")
def networks():
    weights = [(torch.tensor(k.transpose(3, 2, 1, 0).copy()), torch.tensor(b)) for k, b in vgg_kernels()]
    return vgg.VGG19(weights, "synthetic"), discriminator()


@pytest.fixture(scope="module", params=["plain", "swapped"])
def prepared(request):
    """Leave a network as it is, or prepare it as trainings do."""
    return (lambda network: network) if request.param == "plain" else partial(prepare, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def objective(networks, prepared):
    full_loss = losses.Objective("color+content+texture", "code", *(prepared(copy.deepcopy(n)) for n in networks))
    if type(full_loss.vgg) is not vgg.VGG19:  # swapped
        full_loss.color_distance = blur.color_distance
    return full_loss


# ------------------------------------------------------------------------------------ the authors' values


@pytest.mark.parametrize(("image", "prefix"), [("enhanced", "loss_"), ("phone", "phone_loss_")])
@torch.inference_mode()
def test_every_term_and_their_sum_equal_the_authors(objective, images, wanted, image, prefix):
    terms = objective.generator_terms(images[image], images["dslr"])
    for name, value in terms.items():
        assert value.item() == pytest.approx(wanted[f"{prefix}{name}"].item(), rel=RELATIVE), name
    assert objective.total(terms).item() == pytest.approx(wanted[f"{prefix}total"].item(), rel=RELATIVE)


@torch.inference_mode()
def test_discriminator_equals_the_authors(objective, images, wanted):
    for key, name in (("enhanced", "enhanced"), ("dslr", "canon")):  # "canon" in the names of the authors' arrays
        probability = torch.softmax(objective.discriminator(losses.gray(images[key])), 1)
        np.testing.assert_allclose(probability.numpy(), wanted[f"disc_prob_{name}"], atol=1e-5)
    swaps = torch.tensor(wanted["swaps"][:, 0])
    terms = objective.discriminator_terms(images["enhanced"], images["dslr"], swaps)
    assert terms["discriminator"].item() == pytest.approx(wanted["loss_discrim_swaps"].item(), rel=RELATIVE)
    nothing = objective.discriminator_terms(images["enhanced"], images["dslr"], torch.zeros(16))
    assert nothing["discriminator"].item() == pytest.approx(wanted["loss_discrim"].item(), rel=RELATIVE)


@torch.inference_mode()
def test_each_pair_alone_equals_the_authors(images, wanted):
    for i in range(16):
        phone, dslr = images["phone"][i : i + 1], images["dslr"][i : i + 1]
        assert losses.color_loss(phone, dslr).item() == pytest.approx(
            wanted["phone_color_per_pair_b1"][i], rel=RELATIVE, abs=1e-6
        )
        assert losses.tv_loss(phone).item() == pytest.approx(wanted["phone_tv_per_pair_b1"][i], rel=RELATIVE, abs=1e-9)


@torch.inference_mode()
def test_oxford_content_loss_equals_the_authors(images, load_reference):
    wanted, network = load_reference("content_oxford_vgg19"), vgg_files.vgg19()
    for layer in ("relu5_2", "relu5_4"):
        target = network(images["dslr"], layer)
        for image, key in (("phone", "phone"), ("enhanced", "enhanced_iphone")):
            loss = losses.content_loss(network(images[image], layer), target)
            assert loss.item() == pytest.approx(wanted[f"content_{layer}_{key}_vs_canon"].item(), rel=RELATIVE)


@torch.inference_mode()
def test_blur_and_gray_equal_the_authors(images, wanted):
    for camera, name in (("phone", "phone"), ("dslr", "canon")):
        blurred = losses.blur(images[camera][2:3])[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(blurred, wanted[f"{name}_blur_patch42"], atol=1e-6)
    np.testing.assert_allclose(losses.gray(images["dslr"][2:3])[0, 0].numpy(), wanted["dslr_gray_patch42"], atol=1e-6)


@pytest.fixture(scope="module")
def sides(networks, images):
    """On which side of its kink each value of the discriminator lies, in float64: a mask for each LeakyReLU."""
    masks, leaky_relu = [], F.leaky_relu
    generator, judge = (copy.deepcopy(n).double() for n in (authors_checkpoints.load_network("iphone"), networks[1]))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(F, "leaky_relu", lambda x, slope: masks.append(x > 0) or leaky_relu(x, slope))
        judge(losses.gray(generator(images["phone"].double())))
    return [mask.clone() for mask in masks]


def test_gradients_equal_the_authors(objective, prepared, images, wanted, sides, monkeypatch):
    """L2 norm of the gradient of every term with respect to every variable of the generator, and one full array.

    Biases b2..b9 are dead (a norm follows): their gradients are rounding noise. Some values of the discriminator lie within 2e-6
    of the kink of a LeakyReLU. On which side float32 puts them depends on the processor, and each changes the gradient of the
    texture term by up to 1 %. So the sides are those of float64, whose gradients are within 2e-5 of the authors'.
    """
    left = iter(sides)
    monkeypatch.setattr(F, "leaky_relu", lambda x, slope: torch.where(next(left), x, slope * x))
    network = prepared(authors_checkpoints.load_network("iphone"))
    by_name = dict(network.named_parameters())
    order = ["head.weight", "head.bias"]
    for b in range(4):
        for c in (1, 2):
            order += [
                f"blocks.{b}.conv{c}.weight",
                f"blocks.{b}.conv{c}.bias",
                f"blocks.{b}.norm{c}.bias",
                f"blocks.{b}.norm{c}.weight",
            ]
    order += [f"{n}.{p}" for n in ("conv1", "conv2", "tail") for p in ("weight", "bias")]
    assert len(order) == len(wanted["gen_var_names"]) == len(by_name)
    terms = objective.generator_terms(network(images["phone"]), images["dslr"])
    assert not list(left), "every side was taken"
    parameters = [by_name[n] for n in order]
    values = {**terms, "total": objective.total(terms)}
    for name, value in values.items():
        gradients = torch.autograd.grad(value, parameters, retain_graph=True)
        for key, gradient, norm in zip(order, gradients, wanted[f"grad_l2_{name}"], strict=True):
            if "blocks" in key and "conv" in key and key.endswith("bias"):
                continue
            assert gradient.norm().item() == pytest.approx(norm, rel=2e-3), f"{name}: {key}"
        if name == "total":
            reference = wanted["grad_total_W12"].transpose(3, 2, 0, 1)
            tail_gradient = gradients[order.index("tail.weight")].numpy()
            assert np.abs(tail_gradient - reference).max() < 1e-3 * np.abs(reference).max()


# ------------------------------------------------------------------------------------ closed forms


def test_kernels_are_what_they_are_called(load_reference):
    offsets = np.arange(-10, 11)
    for kernel, deviation in (("printed", np.sqrt(3)), ("sigma3", 3.0), ("code", 4.34)):
        taps = losses.kernel_1d(kernel)
        np.testing.assert_allclose(taps, taps[::-1], rtol=1e-12)
        assert np.outer(taps, taps).sum() == pytest.approx(1, abs=2e-3)
        assert np.sqrt((taps * offsets**2).sum() / taps.sum()) == pytest.approx(deviation, abs=0.02)
    # Equation 4 at its centre is A itself.
    assert np.outer(losses.kernel_1d("printed"), losses.kernel_1d("printed"))[10, 10] == pytest.approx(
        paper.COLOR_AMPLITUDE
    )
    taps = losses.kernel_1d("code")
    np.testing.assert_allclose(
        np.outer(taps, taps), load_reference("loss_reference")["gauss_kernel_21_3"][:, :, 0, 0], atol=1e-8
    )


def test_a_kernel_may_be_a_standard_deviation():
    """In pixels: against a normal density; the named kernels of a known deviation are the same ones."""
    taps = losses.kernel_1d(1.3)
    np.testing.assert_allclose(taps, scipy.stats.norm.pdf(np.arange(-10, 11), scale=1.3), rtol=1e-6)
    np.testing.assert_array_equal(losses.kernel_1d(3.0), losses.kernel_1d("sigma3"))
    printed = losses.kernel_1d("printed")
    np.testing.assert_allclose(losses.kernel_1d(3**0.5), printed / printed.sum(), rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(5, 40),
    width=st.integers(5, 40),
    kernel=st.sampled_from([*sorted(losses.KERNELS), 0.5, 6.0]),
    seed=st.integers(0, 99),
)
def test_blur_is_the_zero_padded_convolution(height, width, kernel, seed):
    image = torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    taps = torch.tensor(losses.kernel_1d(kernel))
    weight = torch.outer(taps, taps).expand(3, 1, -1, -1)
    wanted = F.conv2d(image, weight, padding=losses.KERNEL_RADIUS, groups=3)
    assert torch.allclose(losses.blur(image, kernel), wanted, atol=1e-12)


def test_constant_difference_has_a_known_loss():
    """Two flat images that differ by d: MSE and, away from the border, colour loss are d^2; no texture, no variation."""
    one, other = torch.full((2, 3, 100, 100), 0.3), torch.full((2, 3, 100, 100), 0.5)
    assert losses.mse_loss(one, other).item() == pytest.approx(0.2**2 * 30_000 / 2, rel=1e-5)
    assert losses.mse_loss(one, other, "paper").item() == pytest.approx(0.2**2 * 30_000, rel=1e-5)
    inner = losses.blur(one - other)[..., 20:-20, 20:-20]
    assert torch.allclose(inner, torch.full_like(inner, -0.2), atol=1e-6)
    for variant in ("code", "paper"):
        assert losses.tv_loss(one, variant).item() == 0


def test_ramp_has_a_known_total_variation():
    """An image that rises by a a pixel to the right and b downwards."""
    a, b = 0.002, 0.003
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    image = (a * x + b * y).expand(2, 3, 20, 30)
    assert losses.tv_loss(image).item() == pytest.approx(a * a + b * b, rel=1e-4)
    # Equation 7: the norm of the SUM of the gradients over both, divided by C H W.
    assert losses.tv_loss(image, "paper").item() == pytest.approx(
        (a + b) * np.sqrt(3 * 19 * 29) / (3 * 20 * 30), rel=1e-4
    )
    # What rises to the right as much as it falls downwards has none of it, but much of the form of the authors' code.
    saddle = (a * x - a * y).expand(2, 3, 20, 30)
    assert losses.tv_loss(saddle, "paper").item() == pytest.approx(0, abs=1e-8)
    assert losses.tv_loss(saddle).item() == pytest.approx(2 * a * a, rel=1e-4)


def test_content_loss_forms():
    x, y = torch.randn(4, 8, 3, 3), torch.randn(4, 8, 3, 3)
    assert losses.content_loss(x, y).item() == pytest.approx(F.mse_loss(x, y).item())
    norms = [(x[i] - y[i]).norm().item() / 72 for i in range(4)]
    assert losses.content_loss(x, y, "paper").item() == pytest.approx(np.mean(norms), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), variant=st.sampled_from(["paper", "code"]))
def test_terms_are_symmetric_zero_on_equals_and_means_over_the_batch(seed, variant):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(3, 3, 24, 24, generator=g, dtype=torch.float64) for _ in range(2))
    for term in (losses.color_loss, losses.mse_loss, losses.content_loss):
        assert term(x, y, variant).item() == pytest.approx(term(y, x, variant).item())
        assert term(x, x, variant).item() == 0
        alone = [term(x[i : i + 1], y[i : i + 1], variant).item() for i in range(3)]
        assert term(x, y, variant).item() == pytest.approx(np.mean(alone))


def test_norms_have_a_finite_gradient_where_images_are_equal():
    """A norm's derivative at zero does not exist; training must not see NaN there."""
    x = torch.rand(2, 3, 12, 12, requires_grad=True)
    (losses.content_loss(x, x.detach(), "paper") + losses.tv_loss(torch.ones_like(x) * x.mean(), "paper")).backward()
    assert torch.isfinite(x.grad).all()


# ------------------------------------------------------------------------------------ where gradients go


def small_objective(loss, variant):
    torch.manual_seed(0)
    net = models.discriminator(losses.DISCRIMINATOR_OF[variant])
    # From the initial weights of 0.01 hardly anything gets through; scale them up so that the test sees it.
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(4)
    return losses.Objective(loss, variant, vgg_files.vgg19(), net)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_each_term_reaches_every_parameter_of_the_generator_and_no_other(variant):
    objective = small_objective("color+content+texture", variant)
    torch.manual_seed(1)
    network = models.generator("dped", variant)
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(4)
    phone, dslr = torch.rand(2, 3, 100, 100), torch.rand(2, 3, 100, 100)
    live = {n: p for n, p in network.named_parameters() if not ("blocks" in n and n.endswith("bias") and "conv" in n)}
    objective.discriminator.requires_grad_(False)
    terms = objective.generator_terms(network(phone), dslr) | {"mse": losses.mse_loss(network(phone), dslr, variant)}
    assert set(terms) == {"color", "content", "texture", "tv", "mse"}
    for name, value in terms.items():
        network.zero_grad()
        value.backward(retain_graph=True)
        still = [n for n, p in live.items() if p.grad is None or not p.grad.abs().max() > 0]
        assert not still, f"{name} does not move {still}"
    for other in (objective.vgg, objective.discriminator):
        assert all(p.grad is None for p in other.parameters())


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_discriminator_loss_moves_the_discriminator_only(variant):
    objective = small_objective("mse+texture", variant)
    phone, dslr = torch.rand(4, 3, 100, 100), torch.rand(4, 3, 100, 100)
    network = models.generator("dped", variant)
    objective.discriminator_terms(network(phone), dslr, torch.tensor([0, 1, 0, 1]))["discriminator"].backward()
    assert all(p.grad is None for p in network.parameters())
    # A bias before batch norm is dead, as in the generator; here the norm comes after the leaky ReLU, so none is.
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in objective.discriminator.parameters())


def test_texture_term_falls_as_the_discriminator_is_fooled():
    """Minus log of the probability that the enhanced photo is the DSLR's, in both variants: sign and direction."""

    class Says(torch.nn.Module):
        def __init__(self, logits, inputs):
            super().__init__()
            self.logits, self.inputs, self.outputs = logits, inputs, logits.shape[-1]

        def forward(self, gray):
            return self.logits.expand(len(gray), -1)

    image = torch.rand(5, 3, 100, 100)
    for variant, inputs, columns in (("code", 1, 2), ("paper", 2, 1)):
        terms = []
        for dslr in (-2.0, 0.0, 2.0):
            logits = torch.tensor([dslr, 0.0][:columns])
            objective = losses.Objective("mse+texture", variant, discriminator=Says(logits, inputs))
            terms.append(objective.generator_terms(image, image)["texture"].item())
        assert terms == sorted(terms, reverse=True)
    assert terms[1] == pytest.approx(np.log(2))  # paper, a mean
    even = losses.Objective("mse+texture", "code", discriminator=Says(torch.zeros(2), 1)).generator_terms(image, image)
    assert even["texture"].item() == pytest.approx(
        5 * np.log(0.5), rel=1e-5
    )  # variant code: minus the batch SUM of cross-entropies


# ------------------------------------------------------------------------------------ the table of losses


def test_table3_columns_are_the_papers():
    assert all(set(row) == set(losses.TABLE3_LOSSES) for row in paper.TABLE3.values())
    for name in losses.TABLE3_LOSSES:
        assert [t for t in name.split("+")] == [t for t in losses.LOSSES[name].terms if t != "tv"]


def test_a_misspelt_variant_is_not_taken_for_the_papers():
    image = torch.rand(1, 3, 9, 9)
    for term in (losses.color_loss, losses.mse_loss, losses.content_loss):
        with pytest.raises(DpedError, match="code"):
            term(image, image, "relased")
    with pytest.raises(DpedError, match="code"):
        losses.tv_loss(image, "relased")


def test_missing_networks_and_unknown_names_are_errors():
    with pytest.raises(DpedError, match=r"vgg=vgg_files.vgg19\(\)"):
        losses.Objective("content+texture", discriminator=torch.nn.Identity())
    with pytest.raises(DpedError, match=r"models.discriminator\(\)"):
        losses.Objective("mse+texture")
    with pytest.raises(DpedError, match="dong, johnson|johnson, dong"):
        losses.Objective("ssim")
    with pytest.raises(DpedError, match="allowed: printed, sigma3, code"):
        losses.blur(torch.rand(1, 3, 9, 9), "box")
