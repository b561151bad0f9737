"""The checkpoint reader: what it reads, and that no damaged file gets through."""

import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints

PREFIX = "aiff22/ai-challenge/models_pretrained/dped_srcnn"


@pytest.fixture
def checkpoint(mirror, tmp_path):
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(mirror / f"{PREFIX}{suffix}", tmp_path / f"dped_srcnn{suffix}")
    return tmp_path / "dped_srcnn"


def test_reads_every_variable_in_tensorflows_layout(checkpoint):
    shapes = {k: v.shape for k, v in authors_checkpoints.read_checkpoint(checkpoint).items()}
    assert shapes == {
        "generator/b1": (64,),
        "generator/b2": (32,),
        "generator/b3": (1,),
        "generator/w1": (9, 9, 3, 64),
        "generator/w2": (5, 5, 64, 32),
        "generator/w3": (5, 5, 32, 3),
    }


def test_variables_cover_the_shard_exactly(mirror):
    """Every byte of the data file belongs to one variable."""
    for entry in authors_checkpoints.AUTHORS_NETWORKS.values():
        variables = authors_checkpoints.read_checkpoint(mirror / entry.prefix)
        size = (mirror / f"{entry.prefix}.data-00000-of-00001").stat().st_size
        assert sum(v.nbytes for v in variables.values()) == size
        assert all(np.isfinite(v).all() and v.dtype == np.float32 for v in variables.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.booleans())
def test_no_flipped_bit_is_read(checkpoint, where, bit, data):
    """One flipped bit anywhere is refused, or (in unused padding) changes nothing that is read."""
    suffix = ".data-00000-of-00001" if data else ".index"
    file = checkpoint.with_name(checkpoint.name + suffix)
    good = file.read_bytes()
    wanted = authors_checkpoints.read_checkpoint(checkpoint)
    bad = bytearray(good)
    bad[int(where * len(bad))] ^= 1 << bit
    file.write_bytes(bad)
    try:
        variables = authors_checkpoints.read_checkpoint(checkpoint)
    except DpedError as error:
        assert "damaged" in str(error) and checkpoint.name in str(error)
    else:
        assert not data, "every byte of the data file is covered by a checksum"
        assert variables.keys() == wanted.keys() and all(np.array_equal(variables[k], wanted[k]) for k in wanted)
    finally:
        file.write_bytes(good)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), data=st.booleans())
def test_no_truncated_file_is_read(checkpoint, share, data):
    file = checkpoint.with_name(checkpoint.name + (".data-00000-of-00001" if data else ".index"))
    good = file.read_bytes()
    file.write_bytes(good[: int(share * len(good))])
    try:
        with pytest.raises(DpedError, match="damaged"):
            authors_checkpoints.read_checkpoint(checkpoint)
    finally:
        file.write_bytes(good)


def test_missing_half_is_named(checkpoint):
    checkpoint.with_name("dped_srcnn.index").unlink()
    with pytest.raises(DpedError, match=r"dped_srcnn\.index: not found"):
        authors_checkpoints.read_checkpoint(checkpoint)


def test_other_files_are_refused(tmp_path):
    for suffix in (".index", ".data-00000-of-00001"):
        (tmp_path / f"x{suffix}").write_bytes(b"not a checkpoint " * 10)
    with pytest.raises(DpedError, match="damaged checkpoint"):
        authors_checkpoints.read_checkpoint(tmp_path / "x")


def test_checkpoint_of_another_network_is_refused(mirror):
    variables = authors_checkpoints.read_checkpoint(mirror / authors_checkpoints.AUTHORS_NETWORKS["resnet_8_32"].prefix)
    with pytest.raises(KeyError):
        authors_checkpoints.state_dict(variables, "dped")


def test_unknown_name_lists_the_authors_ones():
    with pytest.raises(DpedError, match="iphone, blackberry, sony, srcnn, resnet_8_32"):
        authors_checkpoints.load_network("iphone_7")
