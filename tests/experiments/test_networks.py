"""How far networks see, and beside which of ours the authors' networks stand."""

import pytest
import torch
from small import make_store

from dped_lib import models
from dped_lib.base import datasets
from dped_lib.experiments import networks, table_layout, tables
from dped_lib.report import labels


@pytest.mark.parametrize(("name", "side"), [("dped", 37), ("resnet_8_32", 29), ("srcnn", 17)])
def test_a_receptive_field_ends_where_the_gradient_ends(name, side):
    torch.manual_seed(0)
    network = models.generator(name, norm="batch").double().eval()
    image = torch.rand(1, 3, 41, 41, dtype=torch.float64, requires_grad=True)
    network(image)[..., 20, 20].sum().backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen.min(), seen.max()) == (20 - side // 2, 20 + side // 2)
    assert networks.receptive_field(network) == side


@pytest.fixture
def published(monkeypatch):
    """The name of a network of the authors stands for it."""
    monkeypatch.setattr(networks.authors_checkpoints, "load_network", lambda name: f"authors:{name}")


SIMULATED = "made for real photographs, and these are simulated"
LEFT_OUT = "not shown: pictures of other phones do not depend on the authors' weights"
FOR_IPHONE = "the authors published it for the iPhone only"


@pytest.mark.parametrize(
    ("dataset", "phone", "ours", "dong"),
    [
        ("rig", "sony", SIMULATED, SIMULATED),
        ("city100", "iphonex", LEFT_OUT, LEFT_OUT),
        ("pirm", "iphone", "authors:iphone", "authors:srcnn"),
        ("dped", "sony", "authors:sony", FOR_IPHONE),
        ("own", "phone", "authors:iphone", FOR_IPHONE),
    ],
)
def test_the_authors_networks_stand_beside_ours_on_real_photographs_of_their_phones(
    published, dataset, phone, ours, dong
):
    assert networks.authors_beside_ours(dataset, phone) == ours
    assert networks.authors_beside_ours(dataset, phone, "dong") == dong


def test_table_2_has_their_scores_on_every_real_photograph(published):
    first = {d: networks.authors_beside_ours(d, datasets.first_phone(d), in_table2=True) for d in datasets.DATASETS}
    assert first == {"rig": SIMULATED, **dict.fromkeys(("pirm", "city100", "dped", "own"), "authors:iphone")}
    assert networks.authors_beside_ours("city100", "iphonex", "dong", in_table2=True) == FOR_IPHONE


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
    for dataset, phone in (("rig", "iphone"), ("city100", "iphonex")):
        for method in ("ours", "dong"):
            assert isinstance(networks.authors_beside_ours(dataset, phone, method), str)
    methods = tables.methods2({}, "iphone", make_store(tmp_path / "pairs", dataset="rig", phone="iphone"))
    assert methods["authors"] == methods["dong authors"] == "made for real photographs, and these are simulated"


def test_missing_weights_are_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_MIRROR", str(tmp_path))
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "cache"))
    for phone in ("iphone", "iphonex"):
        reason = networks.authors_network_for(phone)
        assert "mirror lacks" in reason
        note = table_layout.notes_on_methods({phone: {"authors": reason}}, "city100")
        assert note.endswith(f"Not run: {labels.method_name('authors')} (the authors' weights are not here).")
