"""A store that the tests of several modules read."""

import pytest
from patches import pair

from dped_lib.data import pair_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """40 pairs of 10 photographs."""
    pairs = (pair(i, f"photo {i // 4}") for i in range(40))
    return pair_store.write_store(
        tmp_path_factory.mktemp("store") / "iphone", pairs, {"dataset": "rig", "phone": "iphone", "report": {}}
    )
