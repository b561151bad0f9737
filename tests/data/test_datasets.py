"""The datasets whose photographs are aligned here: where they come from, how they become stores, and what is said when they lack."""

import json
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from small import make_store
from torch import nn

from dped_lib.app import doctor
from dped_lib.base import datasets, presets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import builder, downloads, opening, pair_store, pairing, photographs, readers, rig, splits
from dped_lib.data.pairing import Settings
from dped_lib.experiments import networks, scores, tables, training_runs


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


# own


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


# city100


def test_city100_goes_through_the_whole_pipeline(mirror, runs, monkeypatch):
    """Fetched, aligned, cut, split; scored. Ten scenes, for time."""
    few = [k for k in downloads.keys("city100") if "/00" in k or "/010" in k]
    monkeypatch.setattr(downloads, "keys", lambda group: few if group == "city100" else ())
    store = opening.open_or_make("city100", "iphonex")
    assert store.alignment["photographs aligned"] == 10 and not store.skipped
    tried = store.alignment["windows tried"]
    assert tried == 10 * 35 and len(store) > 0.85 * tried
    assert [n["photographs"] for n in store.counts().values()] == [6, 2, 2]
    seen = photographs.scene("city100", "001H")
    assert seen["iphonex"].shape == (600, 840, 3) and seen["dslr"].shape == (870, 1218, 3)
    found, _ = scores.score_methods("2", store, {"original": nn.Identity()}, "test", presets.preset("smoke"), {})
    params = run_parameters.train_params(
        "city100", "iphonex", "dong", "smoke", iterations=4, eval_every=4, eval_pairs=4
    )
    trained = training_runs.train(params, store, training_runs.run_folder(params, "smoke"), "cpu")
    assert [line["iteration"] for line in trained.log() if "validation" in line] == [0, 4]
    assert found[0].published is None and 10 < found[0].psnr < 25
    assert "paper" not in found[0].text("psnr")


def test_city100_is_what_can_be_verified():
    keys = downloads.keys("city100")
    assert len(keys) == 140 and all(len(downloads.sha256_of(k)) == 64 for k in keys)
    scenes = {f"{number:03}H.PNG" for number in range(1, 71)}  # 071 to 100 are a final test that no run reads
    for camera in ("City100_iPhoneX", "City100_NikonD5500"):
        assert {k.split("/")[4] for k in keys if k.split("/")[3] == camera} == scenes


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


def test_scene_065_is_the_same_way_up_by_both_cameras(mirror, runs):
    """The phone took it upside down. By sight: small gray pictures of both cameras agree only when it is turned."""
    seen = photographs.scene("city100", "065H")
    small = {
        c: np.asarray(Image.fromarray(image).convert("L").resize((42, 30), Image.Resampling.BOX), float).ravel()
        for c, image in seen.items()
    }
    assert np.corrcoef(small["iphonex"], small["dslr"])[0, 1] > 0.9
    assert np.corrcoef(small["iphonex"][::-1], small["dslr"])[0, 1] < 0.5
    raw = np.asarray(Image.open(downloads.fetch("ngchc/CameraSR/City100/City100_iPhoneX/065H.PNG")).convert("RGB"))
    assert np.array_equal(seen["iphonex"], raw[::-1, ::-1])


# names


def test_a_dataset_has_its_own_cameras():
    assert datasets.first_phone("city100") == "iphonex" and datasets.first_phone("pirm") == "iphone"
    assert datasets.camera_name("city100", "dslr") == "Nikon D5500"
    assert datasets.camera_name("rig", "dslr") == "Canon 70D DSLR" and datasets.camera_name("own", "dslr") == "DSLR"
    for dataset, phones in datasets.DATASET_PHONES.items():
        for phone in phones:
            assert datasets.camera_name(dataset, phone)
    assert datasets.photograph_name("rig", "town-1/sony") == "town-1, Sony Xperia Z"
    assert datasets.photograph_name("pirm", "demo/iphone/2_0") == "demo/2_0, iPhone 3GS"
    assert datasets.photograph_name("city100", "056/dslr") == "056, Nikon D5500"
    assert datasets.photograph_name("own", "sony/phone") == "sony, phone"  # a user's photograph that is called sony
    assert datasets.photograph_name("pirm", "a name without a camera") == "a name without a camera"
    with pytest.raises(DpedError, match=r"dataset 'city100' has no iphone photographs, only iphonex"):
        datasets.check_phone("city100", "iphone")
    with pytest.raises(DpedError, match="dataset with photographs to align 'pirm'"):
        photographs.scene("pirm", "1")


def test_the_authors_weights_for_other_phones(monkeypatch):
    """Nobody's iPhone X has weights of its own: those of the iPhone 3GS stand in, and tables say so."""
    asked = []
    monkeypatch.setattr(networks.authors_checkpoints, "load_network", asked.append)
    for phone in ("iphonex", "phone", "sony"):
        networks.authors_network_for(phone)
    assert asked == ["iphone", "iphone", "sony"]


def test_pictures_of_other_phones_do_not_depend_on_the_authors_weights(tmp_path, monkeypatch):
    """A run of the rig finds the same with and without the internet."""
    monkeypatch.setattr(networks.authors_checkpoints, "load_network", lambda name: pytest.fail(f"{name} was asked for"))
    assert {d for d in datasets.DATASETS if networks.shows_authors(d)} == {"pirm", "dped", "own"}
    methods = tables.methods2({}, "iphone", make_store(tmp_path / "pairs", dataset="rig", phone="iphone"))
    assert methods["authors"] == methods["dong authors"] == "made for real photographs, and these are simulated"


def test_adopted_stores_survive_their_source(aligned, tmp_path):
    """Shared or copied, a store does not go when the folder it came from is deleted."""
    shutil.copytree(aligned, tmp_path / "out")
    store = pair_store.adopt_store(builder.store_of(tmp_path / "out"), tmp_path / "here", {"dataset": "own"})
    before = np.array(store.phone)
    shutil.rmtree(tmp_path / "out")
    assert np.array_equal(pair_store.PairStore(tmp_path / "here").phone, before)
    assert sorted(os.listdir(tmp_path / "here")) == ["dslr.npy", "meta.json", "phone.npy", "records.jsonl"]


def test_the_rig_is_aligned_not_told(monkeypatch):
    """Known geometry judges the rig's alignment; it must not make it."""
    scene = rig.scenes()[0]
    monkeypatch.setattr(rig, "scenes", lambda: (scene,))
    frames = rig.shoot(scene.name, cameras=("iphone", "dslr"))
    blind = {c: rig.Frame(f.camera, f.scene, f.image, f.jpeg, None) for c, f in frames.items()}
    monkeypatch.setattr(rig, "shoot", lambda name, cameras: blind)
    assert len(list(readers.read_rig("iphone", Counter(), Counter()))) > 10
