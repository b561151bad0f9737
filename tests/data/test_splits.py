"""Splits: every photograph has one, every split has some of every kind, and later photographs move few."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from patches import pair

from dped_lib.data import pair_store, splits

names = st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=60, unique=True)


@given(names, st.randoms())
def test_every_photograph_has_one_split_and_every_split_a_photograph(photographs, random):
    table = splits.split_photographs(photographs)
    assert table.keys() == set(photographs)
    counts = Counter(table.values())
    assert set(counts) == set(splits.SPLITS)
    for held in ("val", "test"):
        assert abs(counts[held] - 0.15 * len(photographs)) <= 1
    again = photographs * 2
    random.shuffle(again)
    assert splits.split_photographs(again) == table


@settings(max_examples=50)
@given(names, st.text(min_size=9, max_size=12))
def test_a_photograph_added_later_moves_at_most_three_others(photographs, new):
    before, after = splits.split_photographs(photographs), splits.split_photographs([*photographs, new])
    assert sum(before[p] != after[p] for p in photographs) <= 3


def test_every_split_has_photographs_of_every_kind(tmp_path):
    kinds = {f"{kind} {i}": kind for kind, count in (("photo", 3), ("leaves", 17), ("", 4)) for i in range(count)}
    pairs = [pair(i, photograph, kind=kind) for i, (photograph, kind) in enumerate(kinds.items())]
    store = pair_store.write_store(tmp_path / "s", pairs, {})
    for split in splits.SPLITS:
        assert {kinds[p] for p in store.photographs[store.index(split)]} == {"photo", "leaves", ""}


def test_the_split_is_the_same_in_every_process():
    # Written down once: a store made on another machine, or last year, held out the same photographs.
    split_of = splits.split_photographs(f"photo {i}" for i in range(12))
    assert {k for k, v in split_of.items() if v == "test"} == {"photo 3", "photo 7"}
    assert {k for k, v in split_of.items() if v == "val"} == {"photo 10", "photo 11"}
