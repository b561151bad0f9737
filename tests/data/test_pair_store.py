"""Patch pairs: what is stored is what was read, and nothing leaks between splits."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patches import noise, pair

from dped_lib.base.errors import DpedError
from dped_lib.data import opening, pair_store, splits
from dped_lib.data.pair_store import Pair, PairStore
from dped_lib.paper import PATCH_SIZE


@settings(max_examples=8)
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=12))
def test_what_is_read_from_the_memory_map_is_what_was_written(tmp_path_factory, seeds):
    pairs = [Pair(f"{i}", f"{i}", noise(s), noise(s + 1)) for i, s in enumerate(seeds)]
    made = pair_store.write_store(tmp_path_factory.mktemp("trip") / "s", iter(pairs), {"report": {}})
    for opened in (made, PairStore(made.folder)):
        assert isinstance(opened.phone, np.memmap) and not opened.phone.flags.writeable
        assert opened.names == [p.name for p in pairs]
        assert np.array_equal(opened.phone, [p.phone for p in pairs]) and np.array_equal(
            opened.dslr, [p.dslr for p in pairs]
        )


def test_a_store_can_be_read_by_numpy_alone(store):
    for side in ("phone", "dslr"):
        array = np.load(store.folder / f"{side}.npy")
        assert array.dtype == np.uint8 and array.shape == (40, PATCH_SIZE, PATCH_SIZE, 3)
        assert (store.folder / f"{side}.npy").stat().st_size == array.nbytes + 128
    assert sorted(os.listdir(store.folder)) == ["dslr.npy", "meta.json", "phone.npy"]


def test_writing_takes_constant_memory(tmp_path):
    tracemalloc.start()
    pair_store.write_store(tmp_path / "s", (pair(i) for i in range(150)), {})  # 9 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


@pytest.mark.parametrize(
    "image", [noise(0, 100, 99), noise(0)[..., 0], noise(0).astype(np.float32), noise(0)[..., [0, 1, 2, 0]]]
)
def test_a_patch_of_another_kind_is_refused_by_name(tmp_path, image):
    with pytest.raises(DpedError, match="odd one: a patch must be 100 x 100 RGB uint8"):
        pair_store.write_store(tmp_path / "s", [pair(0), Pair("odd one", "x", noise(0), image)], {})
    assert os.listdir(tmp_path) == []


def test_no_pairs_are_no_store(tmp_path):
    with pytest.raises(DpedError, match="no pairs"):
        pair_store.write_store(tmp_path / "s", [], {})
    assert os.listdir(tmp_path) == []


def test_killed_while_writing_leaves_no_store(tmp_path):
    code = """if True:
        import os, signal, sys
        import numpy as np
        from dped_lib.data import pair_store
        def pairs():
            for i in range(3):
                yield pair_store.Pair(str(i), str(i), *np.zeros((2, 100, 100, 3), np.uint8))
            os.kill(os.getpid(), signal.SIGKILL)
        pair_store.write_store(sys.argv[1], pairs(), {})
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "iphone")], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "iphone").exists()
    with pytest.raises(DpedError, match="no patch pairs there"):
        PairStore(tmp_path / "iphone")
    assert len(pair_store.write_store(tmp_path / "iphone", [pair(0)], {})) == 1


def test_a_full_disk_is_explained_and_keeps_the_old_store(small_disk):
    pair_store.write_store(small_disk / "s", [pair(0)], {})
    with pytest.raises(DpedError, match="disk is full"):
        pair_store.write_store(small_disk / "s", (pair(i) for i in range(40)), {})
    assert len(PairStore(small_disk / "s")) == 1 and os.listdir(small_disk) == ["s"]


def test_writers_of_the_same_store_do_not_disturb_each_other(tmp_path):
    errors = []

    def write():
        try:
            for _ in range(5):
                pair_store.write_store(tmp_path / "s", [pair(i) for i in range(4)], {})
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A reader that comes at the instant of exchange may see none; a writer must not, nor may anything be left over.
    assert not [e for e in errors if not isinstance(e, DpedError)]
    assert len(PairStore(tmp_path / "s")) == 4 and os.listdir(tmp_path) == ["s"]


def rewritten(**entries):
    """Return a function that replaces entries of a store's meta.json."""
    return lambda f: (f / "meta.json").write_text(json.dumps(json.loads((f / "meta.json").read_text()) | entries))


DAMAGE = {
    "too few splits": rewritten(splits=["train"]),
    "too few photographs": rewritten(photographs=["a", "b"]),
    "an unknown split": rewritten(splits=["train", "val", "exam"]),
    "a report of another kind": rewritten(report=[1]),
    "no meta": lambda f: (f / "meta.json").unlink(),
    "half meta": lambda f: (f / "meta.json").write_text((f / "meta.json").read_text()[:40]),
    "old meta": lambda f: (f / "meta.json").write_text('{"names": []}'),
    "no array": lambda f: (f / "dslr.npy").unlink(),
    "half array": lambda f: os.truncate(f / "phone.npy", 50_000),
    "empty array": lambda f: (f / "phone.npy").write_bytes(b""),
    "a list": lambda f: (f / "meta.json").write_text("[]"),
    "no header": lambda f: (f / "phone.npy").write_bytes(b"?" * 128),
    "fewer": lambda f: np.save(f / "dslr.npy", np.zeros((2, PATCH_SIZE, PATCH_SIZE, 3), np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_store_is_refused_and_made_again(tmp_path, runs, monkeypatch, damage):
    monkeypatch.setattr(opening, "read_rig", lambda *_: (pair(i) for i in range(3)))
    folder = opening.open_or_make("rig", "sony").folder
    damage(folder)
    with pytest.raises(DpedError, match=f"{folder}.*[Dd]elete the folder"):
        PairStore(folder)
    assert len(opening.open_or_make("rig", "sony")) == 3


def test_the_digest_is_that_of_the_pairs(tmp_path):
    """Names, splits and pixels; neither the folder, nor the source, nor the fold that a seed selects."""
    one = [pair(i, f"photo{i}") for i in range(4)]
    known = pair_store.write_store(tmp_path / "1", one, {"origin": "here"}).digest
    assert known == "68d0ab2ce5bab242"  # as on every machine
    assert pair_store.write_store(tmp_path / "2", one, {"origin": "there"}).digest == known
    others = [one[::-1], one[:3], [*one[:3], pair(9, "photo3")], [*one[:3], pair(3, "photo4")]]
    others.append([*one[:3], dataclasses.replace(one[3], split="test")])
    others.append([*one[:3], dataclasses.replace(one[3], dslr=one[3].dslr ^ 1)])
    digests = {pair_store.write_store(tmp_path / str(i), pairs, {}).digest for i, pairs in enumerate(others, 3)}
    assert len(digests | {known}) == 1 + len(others)
    folded = pair_store.write_store(tmp_path / "folded", one, {"dataset": "pirm"})
    assert list(folded.fold(1).index("test")) != list(folded.fold(2).index("test"))
    assert folded.fold(1).digest == folded.fold(2).digest == known


def test_a_store_of_an_earlier_version_does_not_become_current_by_moving(tmp_path):
    """It may lack what this version writes, so it is made again."""
    source = pair_store.write_store(tmp_path / "source", [pair(0)], {}).folder
    assert pair_store.current_store(pair_store.adopt_store(source, tmp_path / "same", {}).folder)
    meta = json.loads((source / "meta.json").read_text())
    (source / "meta.json").write_text(json.dumps({**meta, "format": meta["format"] - 1}))
    assert pair_store.current_store(pair_store.adopt_store(source, tmp_path / "old", {}).folder) is None


def test_indices_of_the_splits_are_a_partition_by_photograph(store):
    parts = {s: store.index(s) for s in splits.SPLITS}
    assert sorted(np.concatenate(list(parts.values()))) == list(store.index("all")) == list(range(40))
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(store.photographs[parts[a]]) & set(store.photographs[parts[b]])
    assert store.counts() == {
        s: {"pairs": len(i), "photographs": len(set(store.photographs[i]))} for s, i in parts.items()
    }


@given(st.integers(0, 50))
def test_sampled_indices_are_distinct_ordered_and_spread(store, most):
    index, sample = store.index("train"), store.sample("train", most)
    assert len(sample) == (min(most, len(index)) if most else len(index))
    assert set(sample) <= set(index) and (np.diff(sample) > 0).all()
    if most > 1:
        assert sample[0] == index[0] and sample[-1] == index[-1]
