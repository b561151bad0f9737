"""A compiled step equals the plain one. If compiling fails or does not pay, the plain function runs."""

import warnings

import pytest
import torch
from small import settings as run_of
from small import tiny_vgg

from dped_lib import speed, training
from dped_lib.speed import graphs

CPU = torch.device("cpu")


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
    by_form = []
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
        by_form.append((terms, [torch.cat([g.flatten() for g in gs]) for gs in gradients]))
    (expected, wanted), (terms, gradients) = by_form
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
