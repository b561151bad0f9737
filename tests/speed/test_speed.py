"""Every swap against the plain form that it stands for: values, gradients, keys of the state."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small import make_store, tiny_vgg
from small import settings as run_of

from dped_lib import losses, metrics, models, speed, training
from dped_lib.base.errors import DpedError
from dped_lib.data import network_files, vgg_files
from dped_lib.enhance import bands
from dped_lib.speed import blur, convolution, graphs, norm, windows

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


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


# ---------------------------------------------------------------------------------------------- whole networks

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
        found = []
        for network in (plain.to(dtype), swapped.to(dtype)):
            x = image.to(dtype, copy=True).requires_grad_(True)
            y = network(x)
            found.append((y, *torch.autograd.grad(y.square().sum(), (x, *network.parameters()))))
        (expected, *wanted), (output, *gradients) = found
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
        found = quick(image)
    with torch.inference_mode():
        expected = plain(image)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.02 * expected.norm()


# ---------------------------------------------------------------------------------------------- norm


def exact(x, weight, bias, relu):
    """Return PyTorch's instance norm in float64."""
    y = F.instance_norm(x.double(), weight=weight.double(), bias=bias.double(), eps=models.NORM_EPSILON)
    return F.relu(y) if relu else y


def case(seed, n, c, h, w, level):
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=make) + level * torch.randn(1, c, 1, 1, generator=make)
    return x, torch.rand(c, generator=make) + 0.5, torch.randn(c, generator=make), torch.randn(x.shape, generator=make)


@settings(max_examples=30)
@given(
    st.integers(0, 99),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(2, 19),
    st.integers(2, 9),
    st.booleans(),
    st.sampled_from([0.0, 3.0]),
    st.booleans(),
)
def test_the_norm_has_the_values_and_gradients_of_instance_norm(seed, n, c, h, w, relu, level, channels_last):
    x, weight, bias, toward = case(seed, n, c, h, w, level)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    wanted = exact(*leaves, relu)
    # Where ReLU bends, float32 and float64 may stand on either side of it.
    toward = toward.double() * (exact(*leaves, False).abs() > 1e-4) if relu else toward.double()
    found = norm.norm(*leaves, models.NORM_EPSILON, relu)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=2e-5, rtol=1e-5)
    by_hand = torch.autograd.grad((wanted * toward).sum(), leaves)
    for a, b in zip(torch.autograd.grad((found * toward.float()).sum(), leaves), by_hand, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3 * float(b.abs().max() + 1), rtol=1e-3)


@pytest.mark.parametrize("relu", [False, True])
def test_the_norm_in_bfloat16_is_rounded_once(relu):
    """Statistics and arithmetic are float32: the result is the exact one of the rounded input, rounded."""
    x, weight, bias, _ = case(1, 2, 64, 50, 50, 2.0)
    x = x.bfloat16()
    found = norm.norm(x, weight, bias, models.NORM_EPSILON, relu)
    assert found.dtype == torch.bfloat16
    wanted = exact(x, weight, bias, relu)
    assert ((found.double() - wanted).abs() <= wanted.abs() * 2**-8 + 1e-4).all()


def test_statistics_of_the_norm_do_not_drift_with_size():
    """A large image far from zero, where sums in float32 lose digits."""
    x, weight, bias, _ = case(2, 1, 4, 300, 400, 30.0)
    found = norm.norm(x, weight, bias, models.NORM_EPSILON, False)
    assert (found.double() - exact(x, weight, bias, False)).abs().max() < 2e-5


def test_the_norm_keeps_images_of_a_batch_apart():
    x, weight, bias, _ = case(3, 3, 8, 20, 20, 1.0)
    together = norm.norm(x, weight, bias, models.NORM_EPSILON, True)
    alone = torch.cat([norm.norm(x[i : i + 1], weight, bias, models.NORM_EPSILON, True) for i in range(3)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("relu", [False, True])
def test_other_types_take_the_composed_form(relu):
    layer = norm.InstanceNorm2d(3, affine=True, eps=models.NORM_EPSILON).double()
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert not norm.fits(x, layer.weight)
    assert torch.allclose(layer(x, relu), exact(x, layer.weight, layer.bias, relu), atol=1e-12)
    assert torch.autograd.gradcheck(lambda t: layer(t), (x,))


# ---------------------------------------------------------------------------------------------- convolutions of few channels


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


# ---------------------------------------------------------------------------------------------- blur


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kernel=st.sampled_from(sorted(losses.KERNELS)),
    seed=st.integers(0, 99),
)
def test_the_colour_distance_has_the_values_and_gradients_of_equation_2(height, width, kernel, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(2, 3, height, width, dtype=torch.float64, generator=g, requires_grad=True) for _ in range(2))
    assert torch.allclose(blur.blur(x, kernel), losses.blur(x, kernel), atol=1e-12)
    found, expected = (form.color_distance(x, y, kernel) for form in (blur, losses))
    assert found.shape == (2,) and torch.allclose(found, expected, rtol=1e-10)
    assert torch.allclose(blur.filtered_distance(x.detach(), y.detach(), kernel), expected, rtol=1e-10)
    for a, b in zip(*(torch.autograd.grad(d.sum(), (x, y)) for d in (found, expected)), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_blur_stays_float32_in_mixed_precision():
    x, y = torch.rand(2, 3, 30, 30), torch.rand(2, 3, 30, 30)
    with speed.autocast(CPU, torch.bfloat16):
        found = blur.color_distance(x, y)
    assert found.dtype == torch.float32 and torch.allclose(found, losses.color_distance(x, y), rtol=1e-4)


# ---------------------------------------------------------------------------------------------- metrics


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(2, 60),
    width=st.integers(2, 60),
    channels=st.sampled_from((1, 3)),
    seed=st.integers(0, 99),
    spread=st.sampled_from((1.0, 1.3)),
)
def test_statistics_are_those_of_the_definition(height, width, channels, seed, spread):
    """Every field, on any size, whether clipping changes some pairs or none."""
    rng = np.random.default_rng(seed)
    x, y = (torch.from_numpy(rng.random((3, channels, height, width))) for _ in range(2))
    x[1] = (x[1] - 0.5) * spread + 0.5
    y[2] = x[2]
    for field, found, expected in zip(
        metrics.PairStatistics.__annotations__,
        windows.batch_statistics(x, y),
        metrics.batch_statistics(x, y),
        strict=True,
    ):
        assert torch.allclose(found, expected, rtol=0, atol=1e-11, equal_nan=True), field


def test_statistics_of_large_images_have_five_scales():
    x, y = (torch.rand(2, 3, 163, 178, dtype=torch.float64) * 1.1 for _ in range(2))
    for found, expected in zip(windows.batch_statistics(x, y), metrics.batch_statistics(x, y), strict=True):
        assert torch.isfinite(found).all() and torch.allclose(found, expected, rtol=0, atol=1e-11)


# ---------------------------------------------------------------------------------------------- training


# Every term and every network is in these.
@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("loss", ["color+content+texture", "mse", "johnson", "dong"])
def test_every_loss_is_one_graph_with_the_same_gradient(store, loss, variant):
    """Each loss can be traced as a whole (nothing falls back to Python), and has the plain form's values and gradients."""
    params = run_of(loss, variant=variant, model="", batch_size=2, precision="float32")
    plain, traced = (training.Trainer(params, store, CPU, tiny_vgg()) for _ in range(2))
    drawn = [t.double() for stream in ("generator", "discriminator") for t in plain.batches.draw(0, 2, stream)]
    swaps = torch.tensor([0, 1])
    speed.accelerate(traced, compiled={"backend": "aot_eager"})
    found = []
    for trainer in (plain, traced):
        # In float64: at the start every pixel is nearly alike, and norms blow rounding up.
        for net in (*trainer.networks.values(), trainer.objective.vgg):
            if net is not None:
                net.double()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # that it went on without
            terms = trainer.generator_losses(*drawn[:2])
            gradients = [torch.autograd.grad(terms["total"], trainer.generator.parameters())]
            if trainer.discriminator is not None:
                more = trainer.discriminator_losses(*drawn[2:], swaps)
                gradients.append(torch.autograd.grad(more["discriminator"], trainer.discriminator.parameters()))
                terms |= more
        found.append((terms, [torch.cat([g.flatten() for g in gs]) for gs in gradients]))
    (expected, wanted), (terms, gradients) = found
    assert list(terms) == list(expected)
    for term, value in expected.items():
        assert terms[term].item() == pytest.approx(value.item(), rel=1e-5), term
    for a, b in zip(gradients, wanted, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_where_the_compiler_fails_the_function_runs_as_it_is():
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    twice = graphs.Compiled(lambda x: 2 * x, backend=broken)
    with pytest.warns(UserWarning, match="goes on without torch.compile, which failed: .*no compiler here"):
        assert twice(torch.tensor(3)) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert twice(torch.tensor(4)) == 8


def test_a_cpu_and_a_short_run_are_not_compiled():
    assert not graphs.compiling_pays(CPU, 10**6)
    assert not graphs.compiling_pays(torch.device("cuda"), graphs.COMPILE_FROM - 1)


@pytest.mark.parametrize("loss", ["color+content+texture", "mse", "dong"])
def test_steps_of_a_swapped_trainer_are_those_of_a_plain_one(store, loss):
    """Terms of the first steps in float32, and the way that the weights go: fused Adam is Adam."""
    params = run_of(loss, model="", batch_size=2, precision="float32")
    plain, quick = (training.Trainer(params, store, CPU, tiny_vgg()) for _ in range(2))
    start = copy.deepcopy(plain.generator.state_dict())
    speed.accelerate(quick)
    for step in range(2):
        expected, found = plain.step(), quick.step()
        assert list(found) == list(expected)
        for term, value in expected.items():
            # Adam's first step is the learning rate whatever the size of a gradient, and near zero rounding decides its sign.
            if step == 0 or loss != "color+content+texture":
                assert found[term].item() == pytest.approx(value.item(), rel=1e-3 if step else 1e-5, abs=1e-6), (
                    step,
                    term,
                )
    for key, begin in start.items():
        ways = [(t.generator.state_dict()[key] - begin).norm().item() for t in (plain, quick)]
        if not ("blocks" in key and "conv" in key and key.endswith("bias")):  # dead: a norm follows
            assert ways[1] == pytest.approx(ways[0], rel=0.02), key


def test_a_trainer_gets_its_own_methods_back(store):
    trainer = training.Trainer(run_of("mse", model=""), store, CPU)
    with speed.accelerated(trainer):
        assert set(vars(trainer)) >= {"update", "generator_losses", "discriminator_losses"}
    assert not set(vars(trainer)) & {"update", "generator_losses", "discriminator_losses"}
    assert torch.isfinite(trainer.step()["total"])


def test_an_accelerated_trainer_takes_its_moments_along(store):
    """Accelerated anew in the middle of a run, it goes on as it would have."""
    params = run_of("mse", batch_size=2, precision="float32")
    one, other = (speed.accelerate(training.Trainer(params, store, CPU)) for _ in range(2))
    for trainer in (one, other):
        trainer.step()
    speed.accelerate(other)
    for _ in range(2):
        assert one.step()["total"].item() == other.step()["total"].item()


# ---------------------------------------------------------------------------------------------- DPED_SPEED=0


@pytest.mark.parametrize("swaps", ["1", "0"])
def test_a_band_on_a_gpu_is_convolved_in_the_quick_order_only_with_swaps(monkeypatch, swaps):
    class OnGpu(torch.Tensor):
        is_cuda = True

    monkeypatch.setenv("DPED_SPEED", swaps)
    calls, quick = [], convolution.from_few
    monkeypatch.setattr(convolution, "from_few", lambda *a, **more: calls.append(1) or quick(*a, **more))
    head = models.generator().head
    x = torch.rand(1, 3, 20, 30)
    found = bands.Layer(head, torch.float32).convolve(x.as_subclass(OnGpu))
    assert torch.allclose(found, F.conv2d(x, head.weight, head.bias, padding=(0, 4)), atol=1e-5)
    assert bool(calls) == (swaps == "1")


def test_without_swaps_everything_is_plain(store, monkeypatch):
    monkeypatch.setenv("DPED_SPEED", "0")
    assert type(speed.prepare(models.generator(), CPU).blocks[0].norm1) is torch.nn.InstanceNorm2d
    trainer = speed.accelerate(training.Trainer(run_of("mse", batch_size=2), store, CPU))
    assert not set(vars(trainer)) & {"update", "generator_losses", "discriminator_losses"}
    assert trainer.objective.color_distance is losses.color_distance
    assert not trainer.optimizers["generator"].param_groups[0]["fused"]
    assert speed.precision("auto", CPU) == torch.float32
    calls = []
    monkeypatch.setattr(windows, "batch_statistics", lambda *_: calls.append("quick"))
    trainer.step()
    assert set(trainer.validate()) == {"psnr", "ms_ssim"} and not calls
    with pytest.raises(DpedError, match="precision bfloat16 is a swap, and DPED_SPEED=0 leaves all swaps out"):
        speed.accelerate(training.Trainer(run_of("mse", precision="bfloat16"), store, CPU))


def test_another_value_of_dped_speed_is_refused(monkeypatch):
    monkeypatch.setenv("DPED_SPEED", "slow")
    with pytest.raises(DpedError, match="unknown DPED_SPEED 'slow'; allowed: 0, 1"):
        speed.enabled()
