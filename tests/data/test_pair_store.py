"""Patch pairs: what is stored is what was read, nothing leaks between splits, and a batch is a function of its number."""

import dataclasses
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dped_lib.alignment import aligner, extraction
from dped_lib.base import presets
from dped_lib.base.errors import DpedError
from dped_lib.data import downloads, opening, pair_store, pairing, readers, rig, splits
from dped_lib.data.batches import Batches, dihedral, to_float
from dped_lib.data.pair_store import PairStore
from dped_lib.data.pairing import Pair
from dped_lib.paper import PATCH_SIZE

CPU = torch.device("cpu")
# Decoded pixels of the 400 pairs, uint8 in order of their numbers, as the authors' own code read them.
IPHONE = "b58af9e50cec280daa587d9b428b6bc0ede64df3ce8a34516e4fa74e76b62ac9"
CANON = "95fb3eee4eb38ebbedba857190df4412e85779d3e367c9fb3e4f749b24d4a6b6"


def noise(seed, height=PATCH_SIZE, width=PATCH_SIZE):
    return small.noise(height, width, seed)


def pair(number, photograph=None, **more):
    """A pair whose dslr image is the negative of the phone's."""
    image = noise(number)
    return Pair(str(number), photograph or str(number), image, 255 - image, **more)


def save(file: Path, image=None, **how):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(sum(file.stem.encode())) if image is None else image).save(file, **how)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """40 pairs of 10 photographs."""
    pairs = (pair(i, f"photo {i // 4}") for i in range(40))
    return pair_store.write_store(
        tmp_path_factory.mktemp("store") / "iphone", pairs, {"dataset": "rig", "phone": "iphone", "report": {}}
    )


@pytest.fixture(scope="module")
def pirm(mirror):
    return opening.open_or_make("pirm", "iphone", "paper")


# the store


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
        from dped_lib.data import pair_store, pairing
        def pairs():
            for i in range(3):
                yield pairing.Pair(str(i), str(i), *np.zeros((2, 100, 100, 3), np.uint8))
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


DAMAGE = {
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


# splits


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
    found = pair_store.write_store(tmp_path / "s", pairs, {})
    for split in splits.SPLITS:
        assert {kinds[p] for p in found.photographs[found.index(split)]} == {"photo", "leaves", ""}


def test_the_split_is_the_same_in_every_process():
    # Written down once: a store made on another machine, or last year, held out the same photographs.
    found = splits.split_photographs(f"photo {i}" for i in range(12))
    assert {k for k, v in found.items() if v == "test"} == {"photo 3", "photo 7"}
    assert {k for k, v in found.items() if v == "val"} == {"photo 10", "photo 11"}


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


# dataset pirm


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


# dataset rig


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
    found = opening.open_or_make("rig", "blackberry")
    assert len(found) == 20 * len(rig.scenes())
    for split in splits.SPLITS:
        assert {p.split(":")[0] for p in found.photographs[found.index(split)]} == {"photo", "leaves"}
    split_of = {}
    for scene in rig.scenes():
        own = {s for s in splits.SPLITS for i in found.index(s) if found.names[i].startswith(f"{scene.name}/")}
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
            found = read[f"{scene.name}/{y}-{x}"]
            assert extraction.ncc(found.phone.mean(2), found.dslr.mean(2)) > 0.89
            assert np.array_equal(found.dslr, aligned.dslr[y : y + PATCH_SIZE, x : x + PATCH_SIZE])
            still = np.array_equal(found.phone, aligned.phone[y : y + PATCH_SIZE, x : x + PATCH_SIZE])
            assert still == (window["dx"] == window["dy"] == window["angle"] == 0)


@settings(max_examples=50)
@given(st.integers(1, 250), st.integers(1, 250), st.integers(1, 60))
def test_windows_tile_the_middle_of_the_image(height, width, size):
    corners = extraction.windows(height, width, size)
    assert len(corners) == (height // size) * (width // size)
    covered = np.zeros((height, width), int)
    for y, x in corners:
        assert covered[y : y + size, x : x + size].shape == (size, size)
        covered[y : y + size, x : x + size] += 1
    assert covered.max() <= 1
    if corners:
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        assert 0 <= (height - 1 - rows[-1]) - rows[0] <= 1 and 0 <= (width - 1 - columns[-1]) - columns[0] <= 1


# folders of files


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


# dataset dped


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
    found = opening.open_or_make("dped", "sony")
    assert found.meta["report"] == {"read": 113}
    assert {s: v["pairs"] for s, v in found.counts().items()} == {"train": 108, "val": 2, "test": 3}
    # The last ones by number, not by letter.
    assert [found.names[i] for i in found.index("val")] == ["train/108", "train/109"]
    for i, name in enumerate(found.names):
        number = int(name.split("/")[1])
        assert (found.phone[i] == number).all() and (found.dslr[i] == number + 1).all()


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
    with pytest.raises(DpedError, match="training_data/sony/0.jpg: no image that can be read"):
        opening.open_or_make("dped", "sony")
    assert not opening.folder_of("dped", presets.DEFAULT, "sony").exists()
    found = opening.open_or_make("dped", "sony", on_bad="skip")
    assert found.meta["report"] == {"read": 93, "unreadable": 20}
    assert [found.names[i] for i in found.index("val")] == ["train/93", "train/94"]
    assert {s: v["pairs"] for s, v in found.counts().items()} == {"train": 88, "val": 2, "test": 3}
    for i, name in enumerate(found.names):  # rows are those of their names, also behind rows that were left out
        assert (found.phone[i] == int(name.split("/")[1])).all()
    # The next to ask, a notebook for instance, gets the same pairs and the same report.
    assert opening.open_or_make("dped", "sony").meta["report"] == {"read": 93, "unreadable": 20}


STRAYS = ("Thumbs.db", ".DS_Store", "._109.jpg", "desktop.ini", "zzz.txt", "999", "checksums.md5")


@pytest.mark.parametrize("side", ["sony", "canon"])
def test_stray_files_change_nothing(official, runs, side):
    for place in ("training_data", "test_data/patches"):
        for name in STRAYS:
            (official / "sony" / place / side / name).write_bytes(b"\0\5\x16\7 stray")
        (official / "sony" / place / side / "110.jpg").mkdir()
    found = opening.open_or_make("dped", "sony")
    assert found.meta["report"] == {"read": 113}
    assert {s: v["pairs"] for s, v in found.counts().items()} == {"train": 108, "val": 2, "test": 3}


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
    with pytest.raises(DpedError, match="set DPED_DATA to the folder or archive.*datasets 'rig' and 'pirm' need none"):
        opening.open_or_make("dped", "sony")
    monkeypatch.setenv("DPED_DATA", str(tmp_path / "typo"))
    with pytest.raises(DpedError, match=f"{tmp_path}/typo: nothing is there. Correct --from or DPED_DATA"):
        opening.open_or_make("dped", "sony")


# augmentation


SQUARE = torch.arange(27.0).reshape(3, 3, 3)


def turned(image: torch.Tensor, code: int) -> torch.Tensor:
    return dihedral(image[None], torch.tensor([code]))[0]


def test_the_codes_are_the_eight_symmetries_of_the_square():
    expected = {
        np.rot90(a, k, (1, 2)).tobytes() for a in (SQUARE.numpy(), SQUARE.numpy()[:, :, ::-1]) for k in range(4)
    }
    images = [turned(SQUARE, code) for code in range(8)]
    assert {np.ascontiguousarray(i).tobytes() for i in images} == expected and len(expected) == 8
    assert torch.equal(images[0], SQUARE)
    assert torch.equal(images[1], torch.rot90(SQUARE, 1, (1, 2))) and torch.equal(images[4], SQUARE.flip(2))


def test_the_codes_are_a_group():
    images = {turned(SQUARE, code).numpy().tobytes(): code for code in range(8)}
    table = [[images[turned(turned(SQUARE, a), b).contiguous().numpy().tobytes()] for b in range(8)] for a in range(8)]
    for row in table:
        assert sorted(row) == list(range(8))  # closed, and each has an inverse


@given(st.lists(st.integers(0, 7), min_size=1, max_size=10))
def test_each_image_of_a_batch_has_its_own_code(codes):
    images = torch.rand(len(codes), 3, 5, 5, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    found = dihedral(images, torch.tensor(codes))
    assert torch.equal(images, before)
    for image, code, out in zip(images, codes, found, strict=True):
        assert torch.equal(out, turned(image, code))


# batches


def batches(store, split="train", seed=0, augment=False):
    return Batches(store, split, CPU, seed, augment)


def test_to_float_is_exact():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(2, 1, 1, 3)
    found = to_float(values)
    assert found.shape == (2, 3, 16, 16) and found.dtype == torch.float32 and found.is_contiguous()
    assert torch.equal(found[1, 2].flatten(), torch.arange(256) / 255)
    assert torch.equal((found * 255).round().byte()[0, 0], values[0, :, :, 0])


@pytest.mark.parametrize("split", splits.SPLITS)
def test_batches_are_pairs_of_their_split_and_reach_all_of_it(store, split):
    drawn, own = set(), {store.phone[i].tobytes() for i in store.index(split)}
    for iteration in range(40):
        phone, dslr = batches(store, split).draw(iteration, 8)
        assert phone.shape == dslr.shape == (8, 3, PATCH_SIZE, PATCH_SIZE) and phone.dtype == torch.float32
        assert phone.min() >= 0 and phone.max() <= 1
        assert torch.allclose(phone + dslr, torch.ones(1))  # the negative of each, so its partner
        drawn |= {i.tobytes() for i in (phone * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()}
    assert drawn == own


def test_augmentation_turns_both_images_of_a_pair_alike(store):
    plain, turning = batches(store), batches(store, augment=True)
    used = set()
    for iteration in range(6):
        (phone, _), (turned_phone, turned_dslr) = plain.draw(iteration, 8), turning.draw(iteration, 8)
        assert torch.allclose(turned_phone + turned_dslr, torch.ones(1))
        for image, out in zip(phone, turned_phone, strict=True):
            codes = [c for c in range(8) if torch.equal(turned(image, c), out)]
            assert len(codes) == 1
            used.update(codes)
    assert used == set(range(8))


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.integers(0, 20_000), st.sampled_from(("generator", "discriminator")), st.booleans())
def test_a_batch_depends_on_seed_stream_and_iteration_alone(store, seed, iteration, stream, augment):
    one, other = batches(store, seed=seed, augment=augment), batches(store, seed=seed, augment=augment)
    for before in (3, 1, 4):
        other.draw(before, 2, "generator")
    torch.manual_seed(iteration), np.random.seed(1)
    wanted, found = one.draw(iteration, 6, stream), other.draw(iteration, 6, stream)
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_seed_stream_and_iteration_each_make_another_batch(store):
    draws = [
        batches(store, seed=seed).draw(iteration, 16, stream)[0].numpy().tobytes()
        for seed, iteration, stream in product((0, 1), (0, 1), ("generator", "discriminator"))
    ]
    assert len(set(draws)) == 8


def test_an_empty_split_is_an_error(tmp_path):
    small = pair_store.write_store(tmp_path / "s", [pair(0, "a"), pair(1, "b")], {})
    with pytest.raises(DpedError, match="no pairs in split 'val'"):
        batches(small, "val")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_full_dataset_is_not_read_into_memory(tmp_path, contiguous):
    """Neither that of the authors, whose splits follow each other, nor one whose photographs are split at random."""
    count = 97_000
    folder = pair_store.write_store(tmp_path / "s", [pair(0)], {}).folder
    for side in ("phone", "dslr"):
        with open(folder / f"{side}.npy", "r+b") as file:
            pair_store.write_header(file, count)
            file.truncate(128 + count * PATCH_SIZE * PATCH_SIZE * 3)  # a hole: takes no space
    splits = ["train"] * 95_000 + ["val"] * 1_000 + ["test"] * 1_000
    splits = splits if contiguous else splits[1000:] + splits[:1000]
    names = [f"train/{i}" for i in range(count)]
    (folder / "meta.json").write_text(json.dumps({"names": names, "photographs": names, "splits": splits}))

    def own_memory() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    before = own_memory()
    full = PairStore(folder)
    drawing = batches(full)
    for iteration in range(3):
        drawing.draw(iteration, 10)
    assert len(drawing) == 95_000
    assert own_memory() - before < 200e6  # of 5.8 GB
