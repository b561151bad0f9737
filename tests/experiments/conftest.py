"""A store and a shelf of results that the tests of several experiments share."""

import json

import numpy as np
import pytest

from dped_lib.data import pair_store
from dped_lib.data.pair_store import Pair


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """DSLR patches are sharp noise, the phone's the same smoothed: what a discriminator is for."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(24):
        dslr = rng.integers(60, 190, (100, 100, 3)).astype(np.uint8)
        phone = ((dslr.astype(int) + np.roll(dslr, 1, 0) + np.roll(dslr, 1, 1)) // 3).astype(np.uint8)
        pairs.append(Pair(f"p{i}", f"photo{i}", phone, dslr))
    return pair_store.write_store(
        tmp_path_factory.mktemp("s") / "rig", pairs, {"dataset": "rig", "phone": "iphone", "report": {}}
    )


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """``shelf(name, numbers)`` saves a result as the notebooks do; the default is dataset pirm at preset paper."""
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))

    def save(name, numbers, dataset="pirm", preset="paper", iterations="20000 of batch 50", **more):
        folder = tmp_path / f"{dataset}-{preset}"
        folder.mkdir(exist_ok=True)
        parameters = {"dataset": dataset, "preset": preset, "iterations": iterations, **more}
        (folder / f"{name}.json").write_text(json.dumps({"parameters": parameters, "numbers": numbers}))

    return save
