"""The scores of a network on pairs of a store."""

import numpy as np
import pytest
import torch
from small import make_store, pair, settings

from dped_lib import metrics
from dped_lib.base.errors import DpedError
from dped_lib.data.batches import to_float
from dped_lib.data.pair_store import PairStore, write_store
from dped_lib.enhance import evaluation
from dped_lib.experiments import training_runs

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PairStore:
    return make_store(tmp_path_factory.mktemp("store") / "patches")


def test_evaluation_in_parts_is_the_whole(store):
    """More pairs than a batch of 50: 120, against the metrics of all of them at once."""
    rng = np.random.default_rng(3)
    index = rng.integers(0, len(store), 120)
    statistics = evaluation.evaluate(torch.nn.Identity(), store, index, CPU)
    images = (to_float(torch.from_numpy(a[index])) for a in (store.phone, store.dslr))
    whole = metrics.pair_statistics(*images)
    np.testing.assert_allclose(statistics.mse_clipped, whole.mse_clipped, rtol=1e-12)
    assert len(statistics.mse_clipped) == 120


def test_no_pairs_to_evaluate_is_said(tmp_path):
    rng = np.random.default_rng(0)
    store = write_store(tmp_path / "few", (pair(f"{i}", "train", rng) for i in range(2)), {"report": {}})
    with pytest.raises(DpedError, match="few: no pairs in split 'val'"):
        training_runs.train(settings("mse"), store, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
    with pytest.raises(DpedError, match="few: no pairs to evaluate"):
        evaluation.evaluate(torch.nn.Identity(), store, store.index("test"), CPU)
