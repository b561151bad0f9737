"""Stores are found or made: of a user's photographs, of what `dped align` made, of an earlier version."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from small import make_store

from dped_lib.app import doctor
from dped_lib.base.errors import DpedError
from dped_lib.data import builder, opening, pair_store, pairing, photographs, readers, rig, splits
from dped_lib.data.pairing import Settings


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
    out = tmp_path_factory.mktemp("aligned") / "out"
    builder.build(folder / "phone", folder / "dslr", out, Settings(size=(300, 405)))
    return out


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
    pair = pairing.Pair("1", "1", *np.zeros((2, 100, 100, 3), np.uint8))

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
