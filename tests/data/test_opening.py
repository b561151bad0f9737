"""Stores are found or made: of a user's photographs, of what `dped align` made, of the full dataset, of an earlier version."""

import json
import os
import shutil
from collections import Counter
from itertools import product

import numpy as np
import pytest
from patches import noise, pair, save
from PIL import Image
from small import make_store

from dped_lib.app import doctor
from dped_lib.base import presets
from dped_lib.base.errors import DpedError
from dped_lib.data import builder, opening, pair_store, photographs, readers, rig, splits
from dped_lib.data.pairing import Settings
from dped_lib.paper import PATCH_SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pairs of the rig as anyone's photographs: ``phone`` and ``dslr``."""
    root = tmp_path_factory.mktemp("mine")
    for scene in ("wall-1", "town-2", "market-1"):
        for side, frame in zip(
            ("phone", "dslr"), rig.shoot(scene, scale=0.2, cameras=("sony", "dslr")).values(), strict=True
        ):
            (root / side).mkdir(exist_ok=True)
            Image.fromarray(frame.image).save(root / side / f"{scene}.png", compress_level=1)
    return root


@pytest.fixture(scope="module")
def aligned(folder, tmp_path_factory):
    """What ``dped align`` made of them."""
    dataset = tmp_path_factory.mktemp("aligned") / "out"
    builder.build(folder / "phone", folder / "dslr", dataset, Settings(size=(300, 405)))
    return dataset


def test_own_photographs_become_patches(folder, runs, monkeypatch):
    monkeypatch.setenv("DPED_OWN", str(folder))
    store = opening.open_or_make("own", "phone")
    assert store.meta["dataset"] == "own" and store.meta["origin"].startswith(str(folder.resolve()))
    assert {r["name"] for r in store.records()} == set(store.photographs) == {"wall-1", "town-2", "market-1"}
    assert store.alignment["photographs aligned"] == 3 and not store.skipped
    assert all(store.counts()[s]["photographs"] == 1 for s in splits.SPLITS)
    stamp = (store.folder / "meta.json").stat().st_mtime_ns
    assert (opening.open_or_make("own", "phone").folder / "meta.json").stat().st_mtime_ns == stamp
    assert {p.camera for p in photographs.of_dataset("own")} == {"phone", "dslr"}
    assert set(photographs.scene("own", "town-2")) == {"phone", "dslr"}
    with pytest.raises(DpedError, match="photograph of the phone 'town-9'.*town-2"):
        photographs.scene("own", "town-9")


def test_a_folder_named_store_is_not_always_what_align_made(folder, runs, tmp_path, monkeypatch):
    for side in ("phone", "dslr"):
        shutil.copytree(folder / side, tmp_path / "mine" / side)
    (tmp_path / "mine" / "store").mkdir()
    (tmp_path / "mine" / "store" / "meta.json").write_text('{"shop": "Zurich"}')
    monkeypatch.setenv("DPED_OWN", str(tmp_path / "mine"))
    before = readers.own_origin()
    assert set(opening.open_or_make("own", "phone").photographs) == {"wall-1", "town-2", "market-1"}
    shutil.rmtree(tmp_path / "mine" / "store")
    assert readers.own_origin() == before
    shutil.rmtree(tmp_path / "mine" / "phone")
    (tmp_path / "mine" / "store").mkdir()
    with pytest.raises(DpedError, match="neither a folder with phone/ and dslr/ in it nor one that 'dped align'"):
        readers.own_root()


def test_own_takes_what_align_made(folder, aligned, runs, tmp_path, monkeypatch):
    shutil.copytree(aligned, tmp_path / "out")
    built = pair_store.PairStore(builder.store_of(tmp_path / "out"))
    monkeypatch.setenv("DPED_OWN", str(tmp_path / "out"))
    store = opening.open_or_make("own", "phone")
    assert np.array_equal(store.phone, built.phone) and store.records() == built.records()
    assert store.meta["dataset"] == "own" and "dataset" not in json.loads((built.folder / "meta.json").read_text())
    with pytest.raises(DpedError, match="no photographs"):
        next(photographs.of_dataset("own"))
    # The same folder made again with another threshold is another dataset, and so is another folder.
    stricter = builder.build(
        folder / "phone", folder / "dslr", tmp_path / "out", Settings(size=(300, 405), threshold=0.99)
    )
    assert len(opening.open_or_make("own", "phone")) == len(stricter) < len(store)
    monkeypatch.setenv("DPED_OWN", str(folder))
    assert len(opening.open_or_make("own", "phone")) != len(store)


def test_what_an_earlier_version_of_align_made_is_adopted_once(runs, tmp_path, monkeypatch):
    """It cannot be made again here. Made again by `dped align`, it is adopted anew."""
    source = make_store(builder.store_of(tmp_path / "out"), 4).folder / "meta.json"
    known = json.loads(source.read_text())
    source.write_text(json.dumps({**known, "format": known["format"] - 1}))
    monkeypatch.setenv("DPED_OWN", str(tmp_path / "out"))

    def adopted():
        return os.stat(opening.open_or_make("own", "phone").folder).st_ino

    first = adopted()
    assert adopted() == first
    source.write_text(json.dumps(known))
    assert adopted() != first


def test_adopted_stores_survive_their_source(aligned, tmp_path):
    """Shared or copied, a store does not go when the folder it came from is deleted."""
    shutil.copytree(aligned, tmp_path / "out")
    store = pair_store.adopt_store(builder.store_of(tmp_path / "out"), tmp_path / "here", {"dataset": "own"})
    before = np.array(store.phone)
    shutil.rmtree(tmp_path / "out")
    assert np.array_equal(pair_store.PairStore(tmp_path / "here").phone, before)
    assert sorted(os.listdir(tmp_path / "here")) == ["dslr.npy", "meta.json", "phone.npy", "records.jsonl"]


@pytest.mark.parametrize("named", [None, "empty"])
def test_own_without_photographs_is_explained(runs, tmp_path, monkeypatch, named):
    monkeypatch.delenv("DPED_OWN", raising=False)
    if named:
        (tmp_path / named).mkdir()
        monkeypatch.setenv("DPED_OWN", str(tmp_path / named))
    with pytest.raises(DpedError, match=r"DPED_OWN.*phone/ and dslr/"):
        opening.open_or_make("own", "phone")
    finding = next(f for f in doctor.examine() if f.topic == "dataset own")
    assert finding.state == ("broken" if named else "optional") and finding.remedy


def test_a_store_of_fewer_scenes_is_made_again(runs, monkeypatch):
    """An earlier version knew thirty."""
    made = []
    pair = pair_store.Pair("1", "1", *np.zeros((2, 100, 100, 3), np.uint8))

    def build(*folders, store, meta, **how):
        made.append(meta["origin"])
        return pair_store.write_store(store, [pair], meta)

    monkeypatch.setattr(opening, "city100_folders", lambda: ("iphonex", "dslr", ()))
    monkeypatch.setattr(builder, "build", build)
    folder = opening.folder_of("city100", "smoke", "iphonex")
    pair_store.write_store(folder, [pair], {"dataset": "city100", "origin": ""})
    for _ in range(2):
        assert opening.open_or_make("city100", "iphonex", "smoke").meta["origin"] == "City100, 70 scenes"
    assert made == ["City100, 70 scenes"]


def test_a_store_that_is_there_and_current_is_not_made_again(runs, monkeypatch):
    made = Counter()

    def read(phone, *_):
        made[phone] += 1
        yield pair(0)

    monkeypatch.setattr(opening, "read_rig", read)
    for _ in range(3):
        file = opening.open_or_make("rig", "sony").folder / "meta.json"
    assert made == {"sony": 1}
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "format": meta["format"] - 1}))  # as an earlier version wrote it
    opening.open_or_make("rig", "sony")
    opening.open_or_make("rig", "iphone")
    assert made == {"sony": 2, "iphone": 1}


def test_wrong_requests_are_refused(store, runs):
    with pytest.raises(DpedError, match="'pirm' has no sony photographs"):
        opening.open_or_make("pirm", "sony")
    with pytest.raises(DpedError, match="unknown on_bad 'Skip'.*Did you mean 'skip'"):
        opening.open_or_make("rig", "sony", on_bad="Skip")
    with pytest.raises(DpedError, match="unknown split 'tests'.*Did you mean 'test'"):
        store.index("tests")


@pytest.fixture
def official(tmp_path, monkeypatch):
    """The official layout with 110 training and 3 test pairs of the Sony; DPED_DATA names the folder above it."""
    root = tmp_path / "data" / "dped"
    for folder, count in (("training_data", 110), ("test_data/patches", 3)):
        for i, side in product(range(count), ("sony", "canon")):
            save(
                root / "sony" / folder / side / f"{i}.jpg",
                np.full((PATCH_SIZE, PATCH_SIZE, 3), i + (side == "canon"), np.uint8),
                quality=95,
            )
    monkeypatch.setenv("DPED_DATA", str(root.parent))
    return root


def test_the_official_layout(official, runs):
    store = opening.open_or_make("dped", "sony")
    assert store.meta["report"] == {"read": 113}
    assert {s: v["pairs"] for s, v in store.counts().items()} == {"train": 108, "val": 2, "test": 3}
    assert store.in_words() == "113 patch pairs: 108 train, 2 val, 3 test"
    # The last ones by number, not by letter.
    assert [store.names[i] for i in store.index("val")] == ["train/108", "train/109"]
    for i, name in enumerate(store.names):
        number = int(name.split("/")[1])
        assert (store.phone[i] == number).all() and (store.dslr[i] == number + 1).all()


def test_the_folder_itself_and_a_folder_called_phone_are_understood(official, runs, monkeypatch):
    monkeypatch.setenv("DPED_DATA", str(official))
    for part in ("training_data", "test_data/patches"):
        (official / "sony" / part / "sony").rename(official / "sony" / part / "phone")
    assert len(opening.open_or_make("dped", "sony")) == 113


@pytest.mark.parametrize("count", [3, 10, 49])
def test_every_split_of_a_small_set_has_pairs(official, runs, count):
    for side in ("sony", "canon"):
        for i in range(count, 110):
            (official / "sony" / "training_data" / side / f"{i}.jpg").unlink()
    assert all(v["pairs"] for v in opening.open_or_make("dped", "sony").counts().values())


def test_skipped_pairs_are_reported_and_do_not_empty_the_validation_split(official, runs):
    """The split is made among the usable pairs: damaged last patches do not take it with them."""
    damaged = (*range(5), *range(95, 110))
    for i in damaged:
        (official / "sony" / "training_data" / "sony" / f"{i}.jpg").write_bytes(b"damaged")
    with pytest.raises(DpedError, match="training_data/sony/0.jpg: no image of a kind that can be read"):
        opening.open_or_make("dped", "sony")
    assert not opening.folder_of("dped", presets.DEFAULT, "sony").exists()
    store = opening.open_or_make("dped", "sony", on_bad="skip")
    assert store.meta["report"] == {"read": 93, "unreadable": 20}
    assert [store.names[i] for i in store.index("val")] == ["train/93", "train/94"]
    assert {s: v["pairs"] for s, v in store.counts().items()} == {"train": 88, "val": 2, "test": 3}
    for i, name in enumerate(store.names):  # rows are those of their names, also behind rows that were left out
        assert (store.phone[i] == int(name.split("/")[1])).all()
    # The next to ask, a notebook for instance, gets the same pairs and the same report.
    assert opening.open_or_make("dped", "sony").meta["report"] == {"read": 93, "unreadable": 20}


STRAYS = ("Thumbs.db", ".DS_Store", "._109.jpg", "desktop.ini", "zzz.txt", "999", "checksums.md5")


@pytest.mark.parametrize("side", ["sony", "canon"])
def test_stray_files_change_nothing(official, runs, side):
    for place in ("training_data", "test_data/patches"):
        for name in STRAYS:
            (official / "sony" / place / side / name).write_bytes(b"\0\5\x16\7 stray")
        (official / "sony" / place / side / "110.jpg").mkdir()
    store = opening.open_or_make("dped", "sony")
    assert store.meta["report"] == {"read": 113}
    assert {s: v["pairs"] for s, v in store.counts().items()} == {"train": 108, "val": 2, "test": 3}


def test_another_dataset_is_another_store(official, runs, monkeypatch, tmp_path, capfd):
    assert len(opening.open_or_make("dped", "sony")) == 113
    monkeypatch.delenv("DPED_DATA")
    assert len(opening.open_or_make("dped", "sony")) == 113
    other = tmp_path / "other"
    for part, side, i in product(("training_data", "test_data/patches"), ("sony", "canon"), range(2)):
        save(other / "sony" / part / side / f"{i}.jpg", noise(i))
    monkeypatch.setenv("DPED_DATA", str(other))
    assert "replaced" not in capfd.readouterr().err
    assert len(opening.open_or_make("dped", "sony")) == 4
    said = capfd.readouterr().err
    assert f"its 113 pairs (official layout in {official.parent}" in said and f"official layout in {other}" in said


def test_without_the_dataset_the_message_says_what_to_set(runs, monkeypatch, tmp_path):
    monkeypatch.delenv("DPED_DATA", raising=False)
    with pytest.raises(
        DpedError, match="Set DPED_DATA to the folder or archive.*'rig', 'pirm' and 'city100' do not need it"
    ):
        opening.open_or_make("dped", "sony")
    monkeypatch.setenv("DPED_DATA", str(tmp_path / "typo"))
    with pytest.raises(DpedError, match=f"{tmp_path}/typo: nothing is there. Correct --from or DPED_DATA"):
        opening.open_or_make("dped", "sony")
