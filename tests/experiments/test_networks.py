"""How far networks see, and beside which of ours the authors' networks stand."""

import pytest
import torch

from dped_lib import models
from dped_lib.base import datasets
from dped_lib.experiments import networks


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
