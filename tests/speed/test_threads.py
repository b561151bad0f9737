"""A training step divided among threads is the step of the whole batch; an evaluation gives the plain scores."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from small import make_store, tiny_vgg
from small import settings as run_of

from dped_lib import models, speed, training
from dped_lib.enhance import evaluation
from dped_lib.speed import threads

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradients_of(trainer, drawn) -> tuple[dict, torch.Tensor]:
    terms = trainer.generator_losses(*drawn[:2])
    gradients = list(torch.autograd.grad(terms["total"], trainer.generator.parameters()))
    if trainer.discriminator is not None:
        more = trainer.discriminator_losses(*drawn[2:])
        gradients += torch.autograd.grad(more["discriminator"], trainer.discriminator.parameters())
        terms |= more
    return terms, torch.cat([g.flatten() for g in gradients])


# Six images are parts of four and of two, so shares that are equal by mistake would show.
@pytest.mark.parametrize("loss", ["color+content+texture", "johnson", "dong"])
def test_parts_add_up_to_the_batch(store, two_threads, loss):
    assert 3 <= threads.PART <= 5, "six images are two parts that differ"
    params = run_of(loss, model="", batch_size=6, precision="float32")
    plain, quick = (training.Trainer(params, store, CPU, tiny_vgg()) for _ in range(2))
    for trainer in (plain, quick):
        # At the start every pixel is nearly alike, and norms amplify rounding. A wider first layer keeps them apart.
        with torch.no_grad():
            for weight in trainer.generator.parameters():
                weight.mul_(3 if weight.ndim == 4 else 1)
    drawn = [*plain.batches.draw(0, 6, "generator"), *plain.batches.draw(0, 6, "discriminator"), torch.arange(6) % 2]
    speed.accelerate(quick)
    (expected, wanted), (terms, gradients) = (gradients_of(t, drawn) for t in (plain, quick))
    assert list(terms) == list(expected)
    for term, value in expected.items():
        assert terms[term].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), term
    assert (gradients - wanted).norm() < 2e-3 * wanted.norm()


def test_the_number_of_threads_changes_no_bit(store, two_threads):
    results = []
    for count in (2, 1):
        torch.set_num_threads(count)
        trainer = speed.accelerate(
            training.Trainer(run_of("color+content+texture", model="", batch_size=6), store, CPU, tiny_vgg())
        )
        terms = [trainer.step() for _ in range(2)]
        results.append([t.clone() for step in terms for t in step.values()] + list(trainer.generator.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_threads_of_a_step_leave_the_number_of_threads_alone(two_threads):
    with threads.workers() as pool:
        assert list(pool.map(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
    assert torch.get_num_threads() == 2


NO_THREADS = """
import itertools, threading, torch
from dped_lib.speed import threads
start, before = threading.Thread.start, torch.get_num_threads()
def fails(thread):
    if next(numbers) == 1:
        raise kind("can't start new thread")
    start(thread)
threading.Thread.start = fails
for kind in (RuntimeError, KeyboardInterrupt):
    numbers = itertools.count()
    try:
        threads.workers(3)
    except kind:
        print(torch.get_num_threads() == before)
"""


def test_a_process_ends_if_a_thread_cannot_be_started():
    """The thread that did start waits for the others. At its exit Python would wait for that thread."""
    done = subprocess.run([sys.executable, "-c", NO_THREADS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr


def test_a_part_that_fails_fails_the_step(two_threads):
    def broken(images):
        raise ValueError("no loss")

    with threads.workers() as pool, pytest.raises(ValueError, match="no loss"):
        threads.divided(broken, dict, (), [], pool)(torch.zeros(6, 1))


def test_batch_norm_is_not_divided(store):
    assert threads.independent([models.generator(), models.discriminator("code")])
    assert not threads.independent([models.generator(variant="paper")])
    with torch.device("meta"):  # random weights take seconds
        paper = models.discriminator("two_image")
    assert not threads.independent([paper])
    trainer = training.Trainer(run_of("color+content+texture", variant="paper", batch_size=6), store, CPU, tiny_vgg())
    assert torch.isfinite(speed.accelerate(trainer).step()["total"])


# ---------------------------------------------------------------------------------------------- evaluation


def test_results_come_in_order_whichever_is_done_first(two_threads):
    def slow(item):
        time.sleep(0.05 * (item % 2 == 0))
        return item, torch.get_num_threads()

    assert list(threads.in_order(slow, range(7))) == [(i, 1) for i in range(7)]
    assert list(threads.in_order(slow, [])) == [] and torch.get_num_threads() == 2


def test_few_results_wait_for_the_caller(two_threads):
    begun = []
    results = threads.in_order(begun.append, range(50))
    next(results), time.sleep(0.1)
    assert len(begun) == 3
    results.close()
    assert len(begun) <= 3


def test_a_failure_reaches_the_caller(two_threads):
    def broken(item):
        raise ValueError(f"no {item}")

    with pytest.raises(ValueError, match="no 0"):
        list(threads.in_order(broken, range(4)))


def test_an_evaluation_by_threads_gives_the_plain_scores(store, two_threads, monkeypatch):
    """The same bits with any number of threads; without the swaps the same to rounding."""
    monkeypatch.setattr(evaluation, "CPU_BATCH", 5)  # three batches
    torch.manual_seed(0)
    index, scores = np.arange(len(store)), []
    state = models.generator("resnet_8_32").state_dict()
    for count, on in ((2, "1"), (1, "1"), (2, "0")):
        monkeypatch.setenv("DPED_SPEED", on)
        torch.set_num_threads(count)
        network = models.generator("resnet_8_32")
        network.load_state_dict(state)
        scores.append(dataclasses.asdict(evaluation.evaluate(network, store, index, CPU)))
    for name, values in scores[0].items():
        assert len(values) == len(store)
        np.testing.assert_array_equal(values, scores[1][name])
        np.testing.assert_allclose(values, scores[2][name], rtol=1e-4, atol=1e-6)
