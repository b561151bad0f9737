"""Steps of a swapped trainer are those of a plain one."""

import copy

import pytest
import torch
from small import settings as run_of
from small import tiny_vgg

from dped_lib import speed, training

CPU = torch.device("cpu")


@pytest.mark.parametrize("loss", ["color+content+texture", "mse", "dong"])
def test_steps_of_a_swapped_trainer_are_those_of_a_plain_one(store, loss):
    """Terms of the first steps in float32, and the way that the weights go: fused Adam is Adam.

    At the start every pixel is nearly alike, and the norms blow rounding up: single gradients of the full loss differ by up to 7 %
    of the largest one. Adam's first step is the learning rate, whatever the size of a gradient. So it is the same where gradients
    are larger than that, and elsewhere rounding may decide its sign. From the second step on, the full loss is not compared.
    """
    params = run_of(loss, model="", batch_size=2, precision="float32")
    plain, quick = (training.Trainer(params, store, CPU, tiny_vgg()) for _ in range(2))
    start = copy.deepcopy(plain.generator.state_dict())
    speed.accelerate(quick)
    for step in range(2):
        expected, terms = plain.step(), quick.step()
        assert list(terms) == list(expected)
        for term, value in expected.items():
            if step == 0 or loss != "color+content+texture":
                assert terms[term].item() == pytest.approx(value.item(), rel=1e-3 if step else 1e-5, abs=1e-6), (
                    step,
                    term,
                )
        for key, weight in plain.generator.named_parameters():
            if "blocks" in key and "conv" in key and key.endswith("bias"):
                continue  # dead: a norm follows
            expected, way = (t.generator.state_dict()[key] - start[key] for t in (plain, quick))
            steep = weight.grad.abs() > 0.1 * weight.grad.abs().max()
            if step == 0:
                torch.testing.assert_close(way[steep], expected[steep], rtol=2e-3, atol=0, msg=key)
            elif loss != "color+content+texture":
                assert way.norm().item() == pytest.approx(expected.norm().item(), rel=0.02), key


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
