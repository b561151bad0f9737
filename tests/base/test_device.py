"""The device that a command computes on."""

import pytest

from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "tpu", "", "cuda:64"])
def test_a_device_that_is_not_there_is_said(name):
    with pytest.raises(DpedError, match=r"unknown device|PyTorch sees .* here; allowed: auto, cpu"):
        devices.pick(name)
