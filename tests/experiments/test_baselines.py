"""Sheets of patches, the stand-in, and pictures that a user supplies: right ones, and every kind of wrong one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dped_lib.base.errors import DpedError
from dped_lib.data import pair_store
from dped_lib.data.pair_store import Pair
from dped_lib.experiments import baselines, scores


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(1)
    pairs = [
        Pair(f"p{i}", f"photo{i // 3}", *rng.integers(60, 180, (2, 100, 100, 3)).astype(np.uint8)) for i in range(7)
    ]
    return pair_store.write_store(tmp_path / "store", pairs, {"dataset": "rig", "phone": "iphone", "report": {}})


@pytest.fixture
def root(tmp_path, store, monkeypatch):
    monkeypatch.setenv("DPED_BASELINES", str(tmp_path / "pictures"))
    baselines.write_sheets(store, tmp_path / "pictures")
    return tmp_path / "pictures" / "rig" / "iphone"


def enhance(root, method="ape", suffix="png", change=lambda picture: 255 - picture):
    (root / method).mkdir()
    for file in (root / "input").glob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(file)))).save(root / method / f"{file.stem}.{suffix}")


@given(count=st.integers(1, 40), size=st.sampled_from((4, 7)))
def test_a_sheet_gives_its_patches_back(count, size):
    images = np.random.default_rng(count).integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    picture = baselines.sheet(images)
    assert np.array_equal(baselines.cut_sheet(picture, count, size), images)
    rows, columns = picture.shape[0] // size, picture.shape[1] // size
    assert rows * columns >= count and abs(rows - columns) <= 1 and rows * columns - count < columns


def test_the_stand_in_stretches_each_channel(store):
    index = np.array([4, 0])
    enhanced = baselines.enhance_auto(store, index)
    assert enhanced.shape == (2, 100, 100, 3) and enhanced.dtype == np.uint8
    assert enhanced.min() == 0 and enhanced.max() == 255
    whole = baselines.enhance_auto(store, np.arange(len(store)))
    assert np.array_equal(enhanced, whole[index]), "a sheet has all patches of its photograph, whichever are asked for"
    grey = np.full((10, 10, 3), 77, np.uint8)
    assert np.array_equal(baselines.auto_contrast(grey), grey)


def test_a_method_is_scored_in_parts_as_in_one(store):
    """At the full dataset all pairs at once would take more memory than a computer has."""
    index = np.array([4, 0, 3, 1, 2])
    sizes = []

    def method(store, part):
        sizes.append(len(part))
        return baselines.enhance_auto(store, part)

    in_one, in_parts = (scores.method_statistics(method, store, index, at_once=n) for n in (1000, 2))
    assert sizes == [5, 2, 2, 1]
    for whole, parts in zip(vars(in_one).values(), vars(in_parts).values(), strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-5)  # sums of float32 in another order


def test_pictures_that_were_brought_come_back_patch_by_patch(store, root):
    enhance(root)
    method = baselines.users_method("ape", store)
    index = np.array([6, 2, 3])
    assert np.array_equal(method(store, index), 255 - np.array(store.phone)[index])
    (root / "ape").rename(root / "elsewhere")
    assert baselines.users_method("ape", store) == f"no pictures were brought: no folder {root / 'ape'}"


def test_without_a_folder_it_is_not_run(store, monkeypatch):
    monkeypatch.delenv("DPED_BASELINES", raising=False)
    assert "DPED_BASELINES names no folder" in baselines.users_method("ape", store)
    with pytest.raises(DpedError, match="unknown baseline 'apple'"):
        baselines.users_method("apple", store)


def test_a_missing_picture_is_named(store, root):
    enhance(root)
    (root / "ape" / "0001.png").unlink()
    with pytest.raises(DpedError, match=r"no picture '0001' \(photo1\); all 3"):
        baselines.users_method("ape", store)


def test_a_picture_of_another_size_is_named(store, root):
    enhance(root, change=lambda p: p[:150])
    with pytest.raises(DpedError, match=r"0000.png: 150x200 pixels, the sheet has 200x200"):
        baselines.users_method("ape", store)(store, np.array([0]))


def test_pictures_of_other_patches_are_refused(store, root, tmp_path):
    enhance(root)
    pair = Pair("p0", "photo0", *np.zeros((2, 100, 100, 3), np.uint8))
    other = pair_store.write_store(tmp_path / "other", [pair], {"dataset": "rig", "phone": "iphone", "report": {}})
    with pytest.raises(DpedError, match="sheets of other patches"):
        baselines.users_method("ape", other)
    with pytest.raises(DpedError, match="holds the sheets of other patches"):
        baselines.write_sheets(other, tmp_path / "pictures")
    assert baselines.write_sheets(store, tmp_path / "pictures") == root / "input"


def test_sheets_that_the_user_worked_on_and_foreign_pictures_are_never_overwritten(store, root, tmp_path):
    sheet = root / "input" / "0000.png"
    sheet.write_bytes(b"worked on in place")
    baselines.write_sheets(store, tmp_path / "pictures")
    assert sheet.read_bytes() == b"worked on in place"
    # An interrupted call left a sheet out: the next one makes it.
    sheet.unlink()
    baselines.write_sheets(store, tmp_path / "pictures")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    (root / "input" / "layout.json").unlink()
    before = {f.name: f.read_bytes() for f in (root / "input").iterdir()}
    with pytest.raises(DpedError, match="input: holds 0000.png but no layout.json, so dped did not write its pictures"):
        baselines.write_sheets(store, tmp_path / "pictures")
    assert {f.name: f.read_bytes() for f in (root / "input").iterdir()} == before


def test_a_foreign_layout_is_seen_behind_a_missing_folder(store, root, monkeypatch):
    monkeypatch.chdir(root.parents[2])
    (root / "input" / "layout.json").write_text(json.dumps({"store": "another", "sheets": []}))
    with pytest.raises(DpedError, match="input: holds the sheets of other patches"):
        baselines.write_sheets(store, "no/../pictures")


def test_a_damaged_layout_is_named(store, root):
    enhance(root)
    (root / "input" / "layout.json").write_text(json.dumps({"store": 1}))
    with pytest.raises(DpedError, match=r"layout.json: damaged"):
        baselines.users_method("ape", store)


def test_pairs_are_said_to_show_scenes_and_not_keys(tmp_path):
    """The title of a sheet names scenes as figures do. Both takes of a photograph share a key that no reader knows."""
    image = np.zeros((100, 100, 3), np.uint8)
    named = (("flower-a/0-20", "photo:flower"), ("flower-b/0-20", "photo:flower"), ("flower-a/9-9", "photo:flower"))
    pairs = [
        Pair(name, photograph, image, image)
        for name, photograph in (*named, ("test/17", "test/17"), ("test/18", "test/17"))
    ]
    store = pair_store.write_store(tmp_path / "store", pairs, {"dataset": "rig", "phone": "iphone", "report": {}})
    assert baselines.scenes_of(store, np.arange(3)) == ["flower-a", "flower-b"]
    assert baselines.scenes_of(store, np.array([3, 4])) == ["test/17", "test/18"], "patches that came alone"
