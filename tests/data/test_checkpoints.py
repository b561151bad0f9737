"""A checkpoint holds all that training goes on from."""

import pytest
import torch
from small import changed, make_store, settings, state, tiny_vgg

from dped_lib import speed, training, vgg
from dped_lib.data import checkpoints
from dped_lib.data.pair_store import PairStore

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PairStore:
    return make_store(tmp_path_factory.mktemp("store") / "patches")


@pytest.fixture(scope="module")
def features() -> vgg.VGG19:
    return tiny_vgg()


@pytest.mark.parametrize("form", ["plain", "swapped"])
@pytest.mark.parametrize(("loss", "variant"), [("color+content+texture", "code"), ("mse", "paper")])
def test_a_restored_state_is_the_saved_one_in_memory_layout_too(store, features, tmp_path, loss, variant, form):
    """Every tensor of networks (batch norms' running statistics included) and of both optimisers, and what they do next."""
    params = settings(loss, variant=variant, model="")
    one, other = (training.Trainer(params, store, CPU, features) for _ in range(2))
    if form == "swapped":
        speed.accelerate(one)
    one.step()
    checkpoints.save(one, tmp_path / "checkpoint.safetensors")
    checkpoints.restore(other, tmp_path / "checkpoint.safetensors")
    if form == "swapped":
        speed.accelerate(other)
    assert other.iteration == 1
    parts = ("generator", "discriminator") if "texture" in loss else ("generator",)
    for name in parts:
        moments = [t.optimizers[name].state_dict()["state"] for t in (one, other)]
        assert moments[0].keys() == moments[1].keys() == set(range(len(list(getattr(one, name).parameters()))))
        for a, b in zip(*(m.values() for m in moments), strict=True):
            assert set(a) == set(b) == {"step", "exp_avg", "exp_avg_sq"}
            for key in a:
                assert torch.equal(a[key], b[key])
                assert a[key].stride() == b[key].stride()
    terms = [trainer.step() for trainer in (one, other)]
    assert {k: v.item() for k, v in terms[0].items()} == {k: v.item() for k, v in terms[1].items()}
    for name in parts:
        assert changed(state(one, name), state(other, name)) == set()
