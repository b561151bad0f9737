"""Readers: real pairs bit for bit, windows of the simulated rig, and folders of patches with bad files among them."""

import hashlib
import io
import os
import subprocess
import sys
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patches import noise, save
from PIL import Image

from dped_lib.alignment import aligner, extraction
from dped_lib.base.errors import DpedError
from dped_lib.data import downloads, opening, pairing, readers, rig, splits
from dped_lib.paper import PATCH_SIZE

# Decoded pixels of the 400 pairs, uint8 in order of their numbers, as the authors' own code read them.
IPHONE = "b58af9e50cec280daa587d9b428b6bc0ede64df3ce8a34516e4fa74e76b62ac9"
CANON = "95fb3eee4eb38ebbedba857190df4412e85779d3e367c9fb3e4f749b24d4a6b6"


@pytest.fixture(scope="module")
def pirm(mirror):
    return opening.open_or_make("pirm", "iphone", "paper")


def test_the_400_real_pairs_are_read_bit_for_bit(pirm):
    assert pirm.names == [str(i) for i in range(400)]
    assert hashlib.sha256(pirm.phone.tobytes()).hexdigest() == IPHONE
    assert hashlib.sha256(pirm.dslr.tobytes()).hexdigest() == CANON
    assert pirm.meta["report"] == {"read": 400}


def test_identical_real_pairs_lie_in_one_split(pirm):
    white = [103, 177, 221, 308]
    assert (pirm.dslr[white] == 255).all() and (pirm.phone[white] == 255).all()
    assert sum(all(i in pirm.index(s) for i in white) for s in splits.SPLITS) == 1
    seen = {}
    for split, least in {"train": 200, "val": 20, "test": 120}.items():
        assert len(pirm.index(split)) >= least
        for i in pirm.index(split):
            for image in (pirm.phone[i], pirm.dslr[i]):
                assert seen.setdefault(image.tobytes(), split) == split


def test_other_files_in_the_cache_do_not_become_pairs(mirror, pirm, runs):
    # A fetch that was killed leaves a file of this kind.
    stray = downloads.fetch("aiff22/ai-challenge/dped/patches/iphone/7.jpg").parent / "tmpqx3"
    stray.write_bytes(b"half")
    try:
        assert len(opening.open_or_make("pirm", "iphone")) == 400
    finally:
        stray.unlink()


@pytest.fixture
def blank_rig(monkeypatch):
    """The rig with cameras that take no time, and photographs that match by themselves."""
    frame = rig.Frame("", "", noise(0), b"", None)
    monkeypatch.setattr(rig, "shoot", lambda name, cameras: dict.fromkeys(cameras, frame))
    patch = [
        (extraction.Window(y, x, "kept", 1, 1, 0, 0, 0, 9, 1), noise(1), noise(2))
        for y, x in extraction.windows(400, 540)
    ]
    cut = extraction.Extraction(tuple(w for w, *_ in patch), tuple(patch))
    record = {"report": {"verdict": "aligned"}, "counts": cut.counts(), "windows": []}
    monkeypatch.setattr(pairing, "make", lambda phone, dslr, settings: (cut, record))


def test_every_split_of_the_rig_has_photographs_and_dead_leaves(blank_rig, runs):
    store = opening.open_or_make("rig", "blackberry")
    assert len(store) == 20 * len(rig.scenes())
    for split in splits.SPLITS:
        assert {p.split(":")[0] for p in store.photographs[store.index(split)]} == {"photo", "leaves"}
    split_of = {}
    for scene in rig.scenes():
        own = {s for s in splits.SPLITS for i in store.index(s) if store.names[i].startswith(f"{scene.name}/")}
        assert split_of.setdefault(scene.photograph, own) == own and len(own) == 1


def test_patches_of_the_rig_are_windows_of_the_aligned_pair(monkeypatch):
    scene = rig.scenes()[0]
    monkeypatch.setattr(rig, "scenes", lambda: (scene,))
    frames = rig.shoot(scene.name, cameras=("sony", "dslr"))
    aligned = aligner.align(frames["sony"].image, frames["dslr"].image, (400, 540))
    report, counts = Counter(), Counter()
    record, *pairs = readers.read_rig("sony", report, counts)
    read = {p.name: p for p in pairs}
    assert read.keys() <= {f"{scene.name}/{y}-{x}" for y, x in extraction.windows(400, 540)}
    assert counts["windows tried"] == 20 and counts["windows kept"] == report["read"] == len(read) > 15
    assert counts["photographs aligned"] == 1 and record["name"] == scene.name
    for window in record["windows"]:
        if window["verdict"] == "kept":
            y, x = window["y"], window["x"]
            pair = read[f"{scene.name}/{y}-{x}"]
            assert extraction.ncc(pair.phone.mean(2), pair.dslr.mean(2)) > 0.89
            assert np.array_equal(pair.dslr, aligned.dslr[y : y + PATCH_SIZE, x : x + PATCH_SIZE])
            still = np.array_equal(pair.phone, aligned.phone[y : y + PATCH_SIZE, x : x + PATCH_SIZE])
            assert still == (window["dx"] == window["dy"] == window["angle"] == 0)


def test_the_rig_is_aligned_without_its_known_geometry(monkeypatch):
    """Known geometry judges the rig's alignment; it must not make it."""
    scene = rig.scenes()[0]
    monkeypatch.setattr(rig, "scenes", lambda: (scene,))
    frames = rig.shoot(scene.name, cameras=("iphone", "dslr"))
    blind = {c: rig.Frame(f.camera, f.scene, f.image, f.jpeg, None) for c, f in frames.items()}
    monkeypatch.setattr(rig, "shoot", lambda name, cameras: blind)
    assert len(list(readers.read_rig("iphone", Counter(), Counter()))) > 10


@pytest.fixture
def folders(tmp_path):
    """Twelve JPEG pairs, 0.jpg to 11.jpg."""
    phone, dslr = tmp_path / "set" / "phone", tmp_path / "set" / "dslr"
    for i, folder in product(range(12), (phone, dslr)):
        save(folder / f"{i}.jpg", noise(i + (folder == dslr) * 100), quality=90)
    return phone, dslr


def test_pairs_are_read_in_natural_order(folders):
    read = list(readers.read_folders(*folders))
    assert [p.name for p in read] == [str(i) for i in range(12)]
    for p in read:
        for image, folder in zip((p.phone, p.dslr), folders, strict=True):
            assert np.array_equal(image, np.asarray(Image.open(folder / f"{p.name}.jpg")))


def test_the_order_does_not_depend_on_the_process(tmp_path):
    for name, side in product(("1", "01", "001", "²", "a1", "a01"), ("phone", "dslr")):
        save(tmp_path / side / f"{name}.png", np.zeros((PATCH_SIZE, PATCH_SIZE, 3), np.uint8))
    code = (
        "import sys; from pathlib import Path; from dped_lib.data import readers;"
        "print([p.name for p in readers.read_folders(Path(sys.argv[1], 'phone'), Path(sys.argv[1], 'dslr'))])"
    )
    orders = set()
    for seed in "123":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "DPED_HEADLESS": "1", "PYTHONUTF8": "1"}
        orders.add(
            subprocess.run(
                [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, check=True
            ).stdout
        )
    assert len(orders) == 1


def jpeg() -> bytes:
    data = io.BytesIO()
    Image.fromarray(noise(5)).save(data, "JPEG", quality=90)
    return data.getvalue()


BAD = {
    "missing partner": lambda f: f.unlink(),
    "truncated": lambda f: f.write_bytes(f.read_bytes()[:2000]),
    "empty": lambda f: f.write_bytes(b""),
    "text": lambda f: f.write_text("not an image"),
    "small": lambda f: save(f, noise(0, 99, 100)),
    "large": lambda f: save(f, noise(0, 200, 100)),
    "gray": lambda f: save(f, noise(0)[..., 0]),
    "RGBA": lambda f: Image.fromarray(noise(0)).convert("RGBA").save(f, "PNG"),
    "CMYK": lambda f: Image.fromarray(noise(0)).convert("CMYK").save(f),
    "palette": lambda f: Image.fromarray(noise(0)).convert("P").save(f, "PNG"),
    "bomb": lambda f: f.write_bytes(
        b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + b"\xff\xff\0\0" * 2 + b"\1\0\x18\0" + bytes(24)
    ),
}


REASON = {"missing partner": "missing partner", "small": "wrong size", "large": "wrong size"}


@pytest.mark.parametrize("side", [0, 1], ids=["phone", "dslr"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_an_error_that_names_it_or_a_counted_skip(folders, kind, side):
    bad = folders[side] / "10.jpg"
    BAD[kind](bad)
    with pytest.raises(DpedError) as error:
        list(readers.read_folders(*folders))
    assert str(error.value).startswith(f"{bad}: ") and "--on-bad skip" in str(error.value)
    report = Counter()
    read = list(readers.read_folders(*folders, on_bad="skip", report=report))
    assert [p.name for p in read] == [str(i) for i in range(12) if i != 10]
    assert report == {"read": 11, REASON.get(kind, "unreadable"): 1}


@given(st.data())
def test_damaged_bytes_are_refused_or_read_but_never_crash(tmp_path_factory, data):
    content = bytearray(jpeg())
    content = content[: data.draw(st.integers(0, len(content)))]
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4)):
        if at < len(content):
            content[at] = byte
    file = tmp_path_factory.getbasetemp() / "damaged.jpg"
    file.write_bytes(content)
    try:
        image = readers.read_image(file)
    except DpedError as error:
        assert str(error).startswith(str(file))
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def test_hidden_files_and_folders_are_not_pairs(folders):
    (folders[0] / ".DS_Store").write_bytes(b"x")
    (folders[1] / "thumbnails").mkdir()
    assert len(list(readers.read_folders(*folders))) == 12


def test_missing_folders_and_files_are_named(tmp_path, folders):
    with pytest.raises(DpedError, match=f"{tmp_path}/nowhere: no such folder"):
        list(readers.read_folders(tmp_path / "nowhere", folders[1]))
    with pytest.raises(DpedError, match=f"{tmp_path}/no.jpg: not found"):
        readers.read_image(tmp_path / "no.jpg")
