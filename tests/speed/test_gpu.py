"""On a GPU: the same losses, gradients and photographs as on a CPU. The files beside this one need no GPU."""

import copy
import warnings

import numpy as np
import pytest
import torch
from small import NETWORKS, changed, make_store, noise, settings, state, tiny_vgg

from dped_lib import losses, models, speed, training
from dped_lib.base import device as devices
from dped_lib.data import batches, checkpoints, image_decoding, network_files
from dped_lib.enhance import bands, bounded_memory, enhancement, plans
from dped_lib.speed import graphs

CPU = torch.device("cpu")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


def plan_with(buffers: int, height: int, width: int, dtype: torch.dtype) -> plans.Plan:
    """The most generous plan of that many buffers."""
    limits = range(4 << 30, 1 << 30, -(4 << 20))
    candidates = (plans.plan(NETWORKS["dped"], height, width, dtype, limit, on_gpu=True) for limit in limits)
    return next(how for how in candidates if how.buffers == buffers)


def test_bands_for_a_gpu_are_large_and_fit_its_memory():
    for limit in (None, 8 << 30, 4 << 30, 2 << 30):
        how = plans.plan(NETWORKS["dped"], 3000, 4000, torch.bfloat16, limit, on_gpu=True)
        assert limit is None or how.bytes <= limit
    assert plans.plan(NETWORKS["dped"], 1080, 1920, torch.bfloat16, None, on_gpu=True).rows == 1080
    gpu_plans = [plan_with(buffers, 600, 900, torch.float32) for buffers in (2, 1, 0)]
    assert sorted(gpu_plans, key=lambda how: -how.bytes) == gpu_plans


# ---------------------------------------------------------------------------------------------- on a GPU


@on_a_gpu
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("aside", [False, True])
def test_a_band_is_normalised_as_on_a_cpu(dtype, aside):
    """Statistics over bands of a mean far from zero, and the norm with them, into a tensor of its own or between other rows."""
    values = (torch.randn(3, 1, 64, 7, 50, generator=torch.Generator().manual_seed(0)) + 3).to(dtype)
    norm = models.normalisation("instance", 64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    by_device = []
    for target in (CPU, torch.device("cuda")):
        xs = [x.to(target, memory_format=torch.channels_last) for x in values]
        gathered = bands.Statistics()
        for x in xs:
            gathered.add(x)
        known = gathered.of(copy.deepcopy(norm).to(target))
        window = torch.zeros(20, 54, 64, dtype=dtype, device=target)
        destination = bands.as_band(window[5:12, 2:52]) if aside else None
        result = known(xs[0], destination)
        assert destination is None or result.data_ptr() == destination.data_ptr()
        assert not aside or not window[:5].any() and not window[12:].any() and not window[:, :2].any()
        by_device.append([t.detach().cpu().float() for t in (known.mean, known.variance, result)])
    for a, b, tolerance in zip(*by_device, (1e-5, 1e-5, 1e-5 if dtype == torch.float32 else 0.02), strict=True):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@on_a_gpu
@pytest.mark.parametrize(
    ("name", "buffers"),
    [(n, b) for n in ("dped", "resnet_8_32") for b in (2, 1, 0)] + [("srcnn", 0), ("batch norm", 0)],
)
def test_a_photograph_in_bands_is_the_whole_one_of_a_cpu(name, buffers):
    image, target = noise(97, 61), devices.pick("cuda")
    with torch.inference_mode():
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        whole = NETWORKS[name](x)[0].permute(1, 2, 0)
    how = plans.Plan(buffers, 40, plans.sweeps(NETWORKS[name], buffers), 1.0, 0)
    pieces = list(bounded_memory.stream(copy.deepcopy(NETWORKS[name]), image, how, torch.float32, target))
    assert (torch.cat(pieces).cpu() - whole).abs().max() < 1e-4


@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("buffers", [2, 1, 0])
def test_the_memory_announced_is_not_passed(buffers, dtype):
    model, image = copy.deepcopy(NETWORKS["dped"]).cuda(), noise(600, 900)
    how = plan_with(buffers, *image.shape[:2], dtype)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for band in bounded_memory.stream(model, image, how, dtype, torch.device("cuda")):
        del band
    assert torch.cuda.max_memory_allocated() - before <= how.bytes


@on_a_gpu
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_engine_on_a_gpu_returns_what_one_on_a_cpu_does(dtype):
    """Float32, every type of picture: within 1e-4, or where that crosses a rounding, one step."""
    full = np.iinfo(dtype).max if dtype != np.float32 else 1
    image = (np.random.default_rng(0).random((12, 16, 3)).repeat(20, 0).repeat(20, 1) * full).astype(dtype)
    enhanced, expected = (
        enhancement.engine(copy.deepcopy(NETWORKS["dped"]), "float32", where)(image) for where in ("cuda", "cpu")
    )
    error = np.abs(enhanced.astype(np.float64) - expected.astype(np.float64)) / full
    assert enhanced.dtype == dtype and error.max() <= max(1e-4, 1 / full if dtype == np.uint8 else 0)


@on_a_gpu
@pytest.mark.parametrize("phone", ["iphone", "blackberry", "sony"])
def test_half_precision_on_a_gpu_keeps_its_bounds(mirror, phone):
    """The authors' weights on one of their photographs: at least 55 dB from exact, no 8-bit value off by more than two steps."""
    file = mirror / "aiff22/ai-challenge/dped/HD_res/0.png"
    image, model = image_decoding.read_photograph(file), network_files.resolve(f"authors:{phone}")
    fast, exact = (enhancement.engine(model, precision, "cuda")(image) for precision in ("auto", "float32"))
    error = np.abs(fast.astype(np.int16) - exact)
    assert 0 < error.max() <= 2
    assert 10 * np.log10(255**2 / np.square(error.astype(np.float64)).mean()) >= 55


@on_a_gpu
@pytest.mark.parametrize(
    ("loss", "variant", "compiled"),
    [(loss, variant, False) for loss in losses.LOSSES for variant in ("code", "paper")]
    + [("color+content+texture", "code", True), ("mse", "paper", True)],
)
def test_a_recorded_step_does_what_the_steps_of_a_cpu_do(store, loss, variant, compiled):
    """Ten iterations, seven of them replayed, in float32: the terms of each are the CPU's while rounding has not yet told."""
    target = devices.pick("cuda")
    iterations = graphs.COMPILE_FROM if compiled else 10
    params = settings(loss, variant=variant, model="", batch_size=2, precision="float32", iterations=iterations)
    there, here = (speed.accelerate(training.Trainer(params, store, d, tiny_vgg())) for d in (target, CPU))
    assert isinstance(there.generator_losses, graphs.Compiled) == compiled
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="training goes on without")
        logged = [(there.step(), here.step()) for _ in range(10)]
    for step, (terms, expected) in enumerate(logged):
        for term, value in expected.items():
            assert torch.isfinite(terms[term])
            if step < 1 or (step < 5 and loss in ("mse", "dong")):
                assert terms[term].item() == pytest.approx(value.item(), rel=2e-3, abs=1e-5), (step, term)
    for name in there.networks:
        before, after = state(training.Trainer(params, store, CPU, tiny_vgg()), name), state(there, name)
        # A bias before an instance norm has no gradient but rounding's.
        assert len(changed(before, {k: v.cpu() for k, v in after.items()})) > 0.7 * len(before)
    scores = there.validate()
    assert np.isfinite(scores["psnr"])


@on_a_gpu
def test_replays_go_on_with_the_batches_and_the_weights_of_their_turn(store):
    """Recorded against launched, the same device: the same losses, iteration for iteration, while rounding allows."""
    params = settings("mse", model="", batch_size=4, precision="float32", iterations=30)
    target = devices.pick("cuda")
    recorded, launched = (
        speed.accelerate(training.Trainer(params, store, target, tiny_vgg()), recorded=r) for r in (True, False)
    )
    curves = [[t.step()["total"].item() for _ in range(30)] for t in (recorded, launched)]
    np.testing.assert_allclose(*curves, rtol=2e-2)
    assert len(set(curves[0])) == 30


@on_a_gpu
def test_a_run_stopped_and_resumed_on_a_gpu(store, tmp_path):
    """The checkpoint holds all of it: resumed, the next steps are those of the run that was not stopped."""
    params = settings(batch_size=2, iterations=12, precision="float32")
    target = devices.pick("cuda")
    one, other = (speed.accelerate(training.Trainer(params, store, target, tiny_vgg())) for _ in range(2))
    for _ in range(6):
        one.step()
    checkpoints.save(one, tmp_path / "checkpoint.safetensors")
    for _ in range(5):
        other.step()  # recorded with weights and moments that are about to be replaced
    checkpoints.restore(other, tmp_path / "checkpoint.safetensors")
    speed.accelerate(other)
    assert other.iteration == 6
    for step in range(6):  # the last of them replayed anew
        a, b = one.step(), other.step()
        assert step > 1 or a["total"].item() == pytest.approx(b["total"].item(), rel=2e-2)
    for name in ("generator", "discriminator"):
        counts = [{int(s["step"]) for s in t.optimizers[name].state.values()} for t in (one, other)]
        assert counts == [{12}, {12}]  # a recording with the moments of before would have counted elsewhere


@on_a_gpu
def test_nothing_in_an_iteration_waits_for_the_gpu(store):
    params = settings(batch_size=2, augment=True, iterations=12)
    trainer = speed.accelerate(training.Trainer(params, store, devices.pick("cuda"), tiny_vgg()))
    for _ in range(5):
        trainer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_a_gpu
def test_batches_and_metrics_are_those_of_the_cpu(store):
    drawn = [batches.Batches(store, "train", d, 0, True).draw(3, 6) for d in (CPU, devices.pick("cuda"))]
    for a, b in zip(*drawn, strict=True):
        assert torch.equal(a, b.cpu())
    statistics, expected = (speed.pair_statistics(*pair) for pair in (drawn[1], drawn[0]))
    for name in ("mse", "scale_ssim", "scale_cs", "ssim_clipped"):
        np.testing.assert_allclose(getattr(statistics, name), getattr(expected, name), rtol=1e-9)
