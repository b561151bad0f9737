"""How far networks see."""

import pytest
import torch

from dped_lib import models
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
