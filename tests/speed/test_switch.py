"""``DPED_SPEED=0`` leaves every swap out."""

import pytest
import torch
import torch.nn.functional as F
from small import settings as run_of

from dped_lib import losses, models, speed, training
from dped_lib.base.errors import DpedError
from dped_lib.enhance import bands
from dped_lib.speed import convolution, windows

CPU = torch.device("cpu")


@pytest.mark.parametrize("swaps", ["1", "0"])
def test_a_band_on_a_gpu_is_convolved_in_the_quick_order_only_with_swaps(monkeypatch, swaps):
    class OnGpu(torch.Tensor):
        is_cuda = True

    monkeypatch.setenv("DPED_SPEED", swaps)
    calls, quick = [], convolution.from_few
    monkeypatch.setattr(convolution, "from_few", lambda *a, **more: calls.append(1) or quick(*a, **more))
    head = models.generator().head
    x = torch.rand(1, 3, 20, 30)
    output = bands.Layer(head, torch.float32).convolve(x.as_subclass(OnGpu))
    assert torch.allclose(output, F.conv2d(x, head.weight, head.bias, padding=(0, 4)), atol=1e-5)
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
