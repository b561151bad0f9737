"""What tests of several explorers share."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dped_lib.data import rig


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    return rig.shoot("chelsea-a", cameras=("iphone",))["iphone"].image
