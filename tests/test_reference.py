"""The networks, losses and metrics against the authors' TensorFlow code, on synthetic pictures and synthetic weights.

``reference/synthetic.npz`` holds what the authors' own functions return (aiff22/DPED at commit ebb0131: ``models.py``,
``utils.py``, ``vgg.py``, ``ssim.py`` and the losses of ``train_model.py``). The authors' photographs and checkpoints
are not needed. In every loss the phone's picture stands for the enhanced one. Networks, losses and metrics are compared in
their plain form and in the quick form that training and evaluation use.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import small
import synthetic
import torch
from torch import Tensor, nn

from dped_lib import losses, metrics, models, speed, vgg
from dped_lib.speed import blur, networks

FILE = Path(__file__).parent / "reference" / "synthetic.npz"
TERMS = ("color", "content", "texture", "tv", "mse", "total")


# ------------------------------------------------------------------------------- what the tests call in the library


def features(network: nn.Module, image: Tensor, layer: str) -> Tensor:
    """Return the activations of one VGG-19 layer, N x C x h x w."""
    return network(image, layer)


def objective_of(network: nn.Module, discriminator: nn.Module, distance: Callable) -> losses.Objective:
    """Return the full loss of the authors' code, with the two frozen networks and a form of the colour distance."""
    objective = losses.Objective("color+content+texture", vgg=network, discriminator=discriminator)
    objective.color_distance = distance
    return objective


def terms_of(objective: losses.Objective, enhanced: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return every unweighted term, and their weighted sum as ``total``. ``mse`` is the mean over all values."""
    terms = objective.generator_terms(enhanced, target)
    # The library sums over the values of an image and divides by two, as the colour loss does.
    mean = losses.mse_loss(enhanced, target) * 2 / enhanced[0].numel()
    return {**terms, "mse": mean, "total": objective.total(terms)}


def discriminator_loss(objective: losses.Objective, enhanced: Tensor, target: Tensor, swaps: Tensor) -> Tensor:
    """Return the loss that the discriminator is trained with; it is shown the DSLR picture where ``swaps`` is 1."""
    return objective.discriminator_terms(enhanced, target, swaps)["discriminator"]


# ------------------------------------------------------------------------------------------------ synthetic weights


def fill(network: nn.Module, arrays: Iterator[np.ndarray], normalised: range) -> nn.Module:
    """Fill a network in TensorFlow's creation order: kernel, bias and, after a normalised layer, shift and scale."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = iter(m for m in network.modules() if m not in layers and list(m.parameters(recurse=False)))
    with torch.no_grad():
        for i, layer in enumerate(layers):
            kernel = next(arrays)
            layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T))
            layer.bias.copy_(torch.tensor(next(arrays)))
            if i in normalised:
                scale, shift = next(norms).parameters()
                shift.copy_(torch.tensor(next(arrays)))
                scale.copy_(torch.tensor(next(arrays)))
    assert not list(norms) and not list(arrays), "every layer and every array is used"
    return network.eval()


def generator_arrays(seed: int = 1703) -> Iterator[np.ndarray]:
    """Yield the synthetic generator: 9x9, eight normalised 3x3 layers, two 3x3 layers, 9x9."""
    rs = np.random.RandomState(seed)
    for i, (size, incoming, outgoing) in enumerate([(9, 3, 64), *[(3, 64, 64)] * 10, (9, 64, 3)]):
        kernel = rs.standard_normal((size, size, incoming, outgoing)).astype(np.float32)
        kernel *= np.float32(np.sqrt(2 / (size * size * incoming)))
        yield kernel * np.float32(0.2) if i == 11 else kernel
        yield rs.standard_normal((outgoing,)).astype(np.float32) * np.float32(0.05)
        if 1 <= i <= 8:
            yield rs.standard_normal((64,)).astype(np.float32) * np.float32(0.1)
            yield 1 + rs.standard_normal((64,)).astype(np.float32) * np.float32(0.1)


def nhwc(images: Tensor) -> np.ndarray:
    """Return N x C x H x W as the authors' order, N x H x W x C."""
    return images.detach().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def wanted() -> dict[str, np.ndarray]:
    """What the authors' code returned."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def phone(wanted) -> Tensor:
    return small.nchw(wanted["phone_u8"], 255)


@pytest.fixture(scope="module")
def dslr(wanted) -> Tensor:
    return small.nchw(wanted["dslr_u8"], 255)


@pytest.fixture(scope="module", params=["plain", "swapped"])
def form(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def prepare(form) -> Callable[[nn.Module], nn.Module]:
    """Return a function that leaves a network as it is, or swaps its layers. ``test_losses`` says why the layout stays."""
    return networks.swap if form == "swapped" else lambda network: network


@pytest.fixture(scope="module")
def vgg19(prepare) -> nn.Module:
    kernels = [(torch.tensor(k.transpose(3, 2, 1, 0).copy()), torch.tensor(b)) for k, b in synthetic.vgg_kernels()]
    return prepare(vgg.VGG19(kernels, "synthetic"))


@pytest.fixture(scope="module")
def discriminator(prepare) -> nn.Module:
    return prepare(synthetic.discriminator().eval())


@pytest.fixture(scope="module")
def objective(form, vgg19, discriminator) -> losses.Objective:
    return objective_of(vgg19, discriminator, {"plain": losses, "swapped": blur}[form].color_distance)


@pytest.fixture(scope="module")
def statistics(form, wanted) -> metrics.PairStatistics:
    """The statistics of the phone's pictures against the DSLR's."""
    compute = {"plain": metrics, "swapped": speed}[form].pair_statistics
    return compute(wanted["phone_u8"], wanted["dslr_u8"])


# --------------------------------------------------------------------------------------------------------- networks


@torch.inference_mode()
def test_generator(wanted, phone, prepare):
    network = prepare(fill(models.generator(), generator_arrays(), range(1, 9)))
    assert np.abs(nhwc(network(phone)) - wanted["generator_output"]).max() < 1e-5


@torch.inference_mode()
def test_discriminator(wanted, phone, dslr, discriminator):
    for name, image in (("phone", phone), ("dslr", dslr)):
        probability = torch.softmax(discriminator(losses.gray(image)), dim=1).numpy()
        assert np.abs(probability - wanted[f"prob_{name}"]).max() < 1e-5


@torch.inference_mode()
def test_vgg(wanted, dslr, vgg19):
    """The features reach the hundreds, so that they are compared as a share of the largest."""
    for layer, key, step in (("relu2_2", "relu2_2_dslr0_every5", 5), ("relu5_4", "relu5_4_dslr0", 1)):
        feature_map = nhwc(features(vgg19, dslr[:1], layer))[0, ::step, ::step]
        assert feature_map.shape == wanted[key].shape
        assert np.abs(feature_map - wanted[key]).max() < 1e-5 * np.abs(wanted[key]).max(), layer


# ----------------------------------------------------------------------------------------------------------- losses


def test_color_kernel_and_blur(wanted, dslr):
    taps = losses.kernel_1d("code")
    np.testing.assert_allclose(np.outer(taps, taps), wanted["gauss_kernel_21_3"], atol=1e-8)
    blurred = nhwc(losses.blur(dslr))
    assert np.abs(blurred[:, ::5, ::5] - wanted["blur_dslr_every5"]).max() < 1e-5
    assert np.abs(blurred[:, :12, :12] - wanted["blur_dslr_corner"]).max() < 1e-5, "the border is padded with zeros"


def test_gray(wanted, dslr):
    assert np.abs(nhwc(losses.gray(dslr))[:, ::5, ::5, 0] - wanted["gray_dslr_every5"]).max() < 1e-5


@pytest.fixture(scope="module")
def terms_and_gradients(objective, phone, dslr) -> dict[str, tuple[float, np.ndarray]]:
    """Every term and its gradient with respect to the enhanced picture."""
    enhanced = phone.clone().requires_grad_()
    terms = terms_of(objective, enhanced, dslr)
    return {
        name: (value.item(), nhwc(*torch.autograd.grad(value, enhanced, retain_graph=True)))
        for name, value in terms.items()
    }


@pytest.mark.parametrize("name", TERMS)
def test_loss(wanted, terms_and_gradients, name):
    assert set(terms_and_gradients) == set(TERMS)
    value, _ = terms_and_gradients[name]
    assert value == pytest.approx(wanted[f"loss_{name}"].item(), rel=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_gradient_of_a_loss(wanted, terms_and_gradients, name):
    _, gradient = terms_and_gradients[name]
    assert np.linalg.norm(gradient) == pytest.approx(wanted[f"grad_{name}_norm"].item(), rel=2e-3)
    sample = wanted[f"grad_{name}_every5"]
    assert np.abs(gradient[:, ::5, ::5] - sample).max() < 2e-3 * np.abs(sample).max()


@torch.inference_mode()
def test_discriminator_loss(wanted, objective, phone, dslr):
    for swaps, key in (
        (np.zeros(4, np.float32), "loss_discriminator"),
        (wanted["swaps"][:, 0], "loss_discriminator_swaps"),
    ):
        loss = discriminator_loss(objective, phone, dslr, torch.tensor(swaps))
        assert loss.item() == pytest.approx(wanted[key].item(), rel=1e-5)


# ---------------------------------------------------------------------------------------------------------- metrics


def test_ms_ssim(wanted, statistics):
    scale_ssim, scale_cs = statistics.scale_ssim, statistics.scale_cs
    np.testing.assert_allclose(scale_ssim, wanted["msssim_scales"][..., 0], atol=1e-6)
    np.testing.assert_allclose(scale_cs, wanted["msssim_scales"][..., 1], atol=1e-6)
    np.testing.assert_allclose(metrics.ms_ssim(scale_ssim, scale_cs), wanted["msssim"], atol=1e-6)
    assert metrics.score(statistics, "train_script")["ms_ssim"] == pytest.approx(
        wanted["msssim_batch"].item(), abs=1e-6
    )


def test_mean_squared_error(wanted, statistics):
    """Every pair has as many values, so that the mean over the pairs is the authors' mean over the batch."""
    assert statistics.mse.mean() == pytest.approx(wanted["loss_mse"].item(), rel=1e-5)
