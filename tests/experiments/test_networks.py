"""Networks: how far they see, whose stands for a phone that the authors have none of, and what captions call it."""

import pytest
import torch
from small import make_store

from dped_lib import models
from dped_lib.base import datasets
from dped_lib.experiments import networks, tables


@pytest.mark.parametrize(("name", "side"), [("dped", 37), ("resnet_8_32", 29), ("srcnn", 17)])
def test_a_receptive_field_ends_where_the_gradient_ends(name, side):
    torch.manual_seed(0)
    network = models.generator(name, norm="batch").double().eval()
    image = torch.rand(1, 3, 41, 41, dtype=torch.float64, requires_grad=True)
    network(image)[..., 20, 20].sum().backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen.min(), seen.max()) == (20 - side // 2, 20 + side // 2)
    assert networks.receptive_field(network) == side


def test_captions_say_for_which_phone_the_authors_network_is():
    assert networks.authors_words(["iphone", "sony"]) == "the authors' network for this phone"
    assert "iPhone 3GS, another phone" in networks.authors_words(["iphonex"])


def test_the_authors_weights_for_other_phones(monkeypatch):
    """Nobody's iPhone X has weights of its own: those of the iPhone 3GS stand in, and tables say so."""
    asked = []
    monkeypatch.setattr(networks.authors_checkpoints, "load_network", asked.append)
    for phone in ("iphonex", "phone", "sony"):
        networks.authors_network_for(phone)
    assert asked == ["iphone", "iphone", "sony"]


def test_pictures_of_other_phones_do_not_depend_on_the_authors_weights(tmp_path, monkeypatch):
    """A run of the rig finds the same with and without the internet."""
    monkeypatch.setattr(networks.authors_checkpoints, "load_network", lambda name: pytest.fail(f"{name} was asked for"))
    assert {d for d in datasets.DATASETS if networks.shows_authors(d)} == {"pirm", "dped", "own"}
    methods = tables.methods2({}, "iphone", make_store(tmp_path / "pairs", dataset="rig", phone="iphone"))
    assert methods["authors"] == methods["dong authors"] == "made for real photographs, and these are simulated"
