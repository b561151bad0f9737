"""What the tests of several swaps share."""

import pytest
from small import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))
