"""Two folders of photographs become one dataset, whatever stops the work in between and whatever lies in the folders."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from dped_lib.base import workers, writing
from dped_lib.base.errors import DpedError
from dped_lib.data import (
    builder,
    camera_folders,
    image_decoding,
    opening,
    pair_store,
    pairing,
    photo_folders,
    readers,
    rig,
)
from dped_lib.data.pairing import Settings

SCENES = ("astronaut-a", "chelsea-a", "coffee-a", "motorcycle-a", "rocket-a")
SMALL = Settings(size=(200, 270))
LINE = ("--size", "200x270")


def shoot(root: Path, name: str, scenes: tuple[str, str], seed: int = 0) -> None:
    """One pair of photographs, each of a scene of its own."""
    for folder, camera, scene in zip(("phone", "dslr"), ("iphone", "dslr"), scenes, strict=True):
        (root / folder).mkdir(parents=True, exist_ok=True)
        frame = rig.shoot(scene, seed, scale=0.15, cameras=(camera,))[camera]
        (root / folder / f"{name}.{'JPG' if camera == 'dslr' else 'jpeg'}").write_bytes(frame.jpeg)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Folders ``phone`` and ``dslr``: five pairs, and a sixth that shows two scenes."""
    root = tmp_path_factory.mktemp("photographs")
    for scene in SCENES:
        shoot(root, scene, (scene, scene))
    shoot(root, "mistaken", ("astronaut-a", "rocket-a"))
    return root


@pytest.fixture(scope="module")
def built(photographs, tmp_path_factory) -> Path:
    """Their dataset, made undisturbed by two processes."""
    dataset = tmp_path_factory.mktemp("built") / "out"
    builder.build(photographs / "phone", photographs / "dslr", dataset, SMALL, workers=2)
    return dataset


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def made(folder: Path) -> dict[str, int]:
    """When each pair's record was written."""
    return {f.stem: f.stat().st_mtime_ns for f in (folder / "pairs").glob("*.json")}


def command(photographs: Path, dataset: Path, *more: str) -> subprocess.Popen:
    """``dped align``, in a process group of its own."""
    folders = photographs / "phone", photographs / "dslr", dataset
    line = [sys.executable, "-m", "dped_lib.app.cli", "align", *folders, *LINE]
    return subprocess.Popen(
        [*map(str, line), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a test run in the background of a script starts is deaf to Ctrl-C, unless told otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def workers_of(parent: subprocess.Popen) -> list[psutil.Process]:
    """Its worker processes, as they are at this instant."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [c for c in psutil.Process(parent.pid).children() if _is_worker(c)]
    return []


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "dped_lib.base.workers" in " ".join(process.cmdline())
    return False


def first_worker_of(parent: subprocess.Popen) -> psutil.Process:
    """A worker process, in the first instant that there is one: it has not yet read its task."""
    for _ in range(30_000):
        if started := workers_of(parent):
            return started[0]
        time.sleep(0.001)
    raise AssertionError("no worker was started")


# ---------------------------------------------------------------------------------------------- what is made


def test_what_is_in_the_folder(built):
    store = pair_store.PairStore(builder.store_of(built))
    summary = json.loads((built / "summary.json").read_text())
    assert summary["alignment"] == store.alignment
    assert store.alignment["photographs aligned"] == 5 and store.alignment["photographs different scene"] == 1
    assert list(summary["rejected"]) == ["mistaken"] and summary["rejected"]["mistaken"].startswith("different scene: ")
    assert len(store) == store.alignment["windows kept"] == summary["counts"]["read"] > 10
    assert set(store.photographs) == set(SCENES)
    assert [v["photographs"] for v in store.counts().values()] == [3, 1, 1]
    for name in (*SCENES, "mistaken"):
        record = json.loads((built / "pairs" / f"{name}.json").read_text())
        assert record["digest"] == summary["pairs"][name]
        assert (record["phone"], record["dslr"]) == (f"{name}.jpeg", f"{name}.JPG")
        assert bool(record["windows"]) == (built / "pairs" / f"{name}.npy").exists() == (name != "mistaken")
    assert [r["name"] for r in store.records()] == [*sorted(SCENES[:3]), "mistaken", *SCENES[3:]]
    assert {r["name"] for r in store.records() if r["report"]["verdict"] == "aligned"} == set(SCENES)
    rejected = next(r for r in store.records() if r["name"] == "mistaken")
    assert rejected["windows"] == [] and rejected["report"]["size"] is None


def test_a_pair_that_does_not_fit_into_memory_is_a_bad_pair(tmp_path):
    """The other pairs go on, and the message names both files."""

    def read(file):
        raise MemoryError

    files = tmp_path / "phone.jpg", tmp_path / "dslr.jpg"
    for file in files:
        file.write_bytes(b"large")
    bad = pairing.work(pairing.PairJob("one", *files, tmp_path, SMALL, read))["bad"]
    assert all(str(file) in bad for file in files) and "too little memory" in bad


@pytest.mark.parametrize("code", [cv2.Error.StsNoMem, None], ids=["opencv", "python"])
def test_memory_that_runs_out_in_the_alignment_makes_a_bad_pair_too(tmp_path, monkeypatch, code):
    """Aligning takes more memory than reading. OpenCV has an exception of its own for it."""

    def align(*_):
        error = MemoryError() if code is None else cv2.error("Failed to allocate")
        error.code = code
        raise error

    monkeypatch.setattr(pairing.aligner, "align", align)
    files = tmp_path / "phone.jpg", tmp_path / "dslr.jpg"
    for file in files:
        file.write_bytes(b"large")
    bad = pairing.work(pairing.PairJob("one", *files, tmp_path, SMALL, lambda _: np.zeros((300, 400, 3), np.uint8)))[
        "bad"
    ]
    assert all(str(file) in bad for file in files) and "too little memory to align" in bad and "--workers" in bad


def test_patches_are_those_of_the_pair_in_memory(built, photographs):
    store = pair_store.PairStore(builder.store_of(built))
    images = [image_decoding.read_photograph(photographs / f) for f in ("phone/coffee-a.jpeg", "dslr/coffee-a.JPG")]
    extracted, _ = pairing.make(*images, SMALL)
    index = np.flatnonzero(store.photographs == "coffee-a")
    for i, (window, phone, dslr) in zip(index, extracted.patches, strict=True):
        assert store.names[i] == f"coffee-a/{window.y}-{window.x}"
        assert (store.phone[i] == phone).all() and (store.dslr[i] == dslr).all()


def test_a_second_run_by_one_process_changes_nothing(built, photographs):
    before = tree(built), {f: f.stat().st_mtime_ns for f in built.rglob("*.npy")}
    builder.build(photographs / "phone", photographs / "dslr", built, SMALL, workers=1)
    assert before == (tree(built), {f: f.stat().st_mtime_ns for f in built.rglob("*.npy")})


def test_one_process_makes_the_same_bytes(built, photographs, tmp_path):
    builder.build(photographs / "phone", photographs / "dslr", tmp_path / "out", SMALL, workers=1)
    assert tree(tmp_path / "out") == tree(built)


def test_only_what_changed_is_made_again(built, photographs, tmp_path):
    root, dataset = tmp_path / "photographs", tmp_path / "out"
    shutil.copytree(photographs, root)
    shutil.copytree(built, dataset)
    before = made(dataset)
    shoot(root, "coffee-a", ("coffee-a", "coffee-a"), seed=1)
    for folder in ("phone", "dslr"):
        next((root / folder).glob("rocket-a.*")).unlink()
    store = builder.build(root / "phone", root / "dslr", dataset, SMALL)
    assert {k for k, v in made(dataset).items() if v != before[k]} == {"coffee-a"}
    assert "rocket-a" not in {*made(dataset), *store.photographs} and not (dataset / "pairs" / "rocket-a.npy").exists()

    before = made(dataset)
    store = builder.build(root / "phone", root / "dslr", dataset, Settings(SMALL.size, threshold=0.97))
    assert all(v != before[k] for k, v in made(dataset).items())
    assert store.meta["settings"]["threshold"] == 0.97


# ---------------------------------------------------------------------------------------------- stopped in between


def test_killed_at_random_and_restarted_it_ends_with_the_same_bytes(built, photographs, tmp_path):
    """Workers end with their parent, whether they are killed too or not, and say nothing: nobody is there to hear."""
    dataset = tmp_path / "out"
    # A kill comes when so many of the six pairs are finished, however fast the machine is, and a random moment later.
    waits = np.random.default_rng(3).uniform(0, 0.1, 4)
    for kill, number, wait in zip((os.kill, os.killpg, os.kill, os.killpg), (0, 1, 2, 4), waits, strict=True):
        process = command(photographs, dataset, "--workers", "2")
        first_worker_of(process)
        while process.poll() is None and len(made(dataset)) < number:
            time.sleep(0.002)
        time.sleep(wait)
        workers = workers_of(process)
        kill(process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)  # until the last of them has closed the pipe
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert process.returncode == -signal.SIGKILL and not alive and "Traceback" not in errors
    output, errors = (process := command(photographs, dataset, "--workers", "2")).communicate()
    assert process.returncode == 0, errors
    assert tree(dataset) == tree(built)
    assert "photographs: 6 pairs, 5 aligned\n  1 rejected: different scene (mistaken)\n" in output
    assert f"next: DPED_OWN={dataset} dped train --dataset own" in output
    assert "photographs of the test, which no training sees: " in output


@pytest.mark.parametrize(("number", "wait"), [("SIGINT", 0), ("SIGTERM", 0.003), ("SIGINT", 0.8), ("SIGTERM", 0.1)])
def test_ctrl_c_and_sigterm_say_how_to_go_on(photographs, tmp_path, number, wait):
    process = command(photographs, tmp_path / "out", "--workers", "2")
    first_worker_of(process)
    time.sleep(wait)
    workers = workers_of(process)
    os.killpg(process.pid, signal.Signals[number])  # a terminal and a batch system reach the workers, too
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "of 6 pairs are finished and kept; run the same command again to go on from there" in errors
    assert not psutil.wait_procs(workers, timeout=5)[1]


@pytest.mark.parametrize("wait", [0, 0.3])
def test_a_killed_worker_is_an_error_not_a_hang(photographs, tmp_path, wait):
    process = command(photographs, tmp_path / "out", "--workers", "2")
    worker = first_worker_of(process)
    time.sleep(wait)
    worker.kill()
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2 and "Traceback" not in errors
    assert "the system killed it because memory ran out" in errors and "with fewer --workers" in errors


def test_stopped_between_patches_and_record(built, photographs, tmp_path, monkeypatch):
    """What has a record has the patches it tells of, even where other settings left theirs."""
    files = photographs / "phone/coffee-a.jpeg", photographs / "dslr/coffee-a.JPG"
    wanted = pairing.PairJob("coffee-a", *files, tmp_path / "pairs", SMALL)
    other = pairing.PairJob("coffee-a", *files, tmp_path / "pairs", Settings((210, 270)))
    pairing.work(wanted)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(pairing.writing, "write_text", stop)
        pairing.work(other)
    pairing.work(wanted)
    for name in ("coffee-a.json", "coffee-a.npy"):
        assert (tmp_path / "pairs" / name).read_bytes() == (built / "pairs" / name).read_bytes()


def test_two_at_once_wait_for_each_other(tmp_path, capfd):
    entered = threading.Event()

    def second():
        with writing.alone(tmp_path / ".lock", "waiting for another"):
            entered.set()

    thread = threading.Thread(target=second)
    with writing.alone(tmp_path / ".lock", ""):
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join()
    assert "waiting for another" in capfd.readouterr().err


# ---------------------------------------------------------------------------------------------- bad input


@pytest.fixture
def two(photographs, tmp_path) -> Path:
    """A copy of two of the pairs, to be spoilt."""
    for folder in ("phone", "dslr"):
        (tmp_path / folder).mkdir()
        for file in (photographs / folder).glob("c*"):
            shutil.copy(file, tmp_path / folder)
    return tmp_path


def rename(folder: Path, stem: str) -> None:
    """Number the photographs of a folder, in the order of their names, as a camera does: 8, 9, 10."""
    for number, file in enumerate(sorted(folder.iterdir()), 8):
        file.rename(folder / f"{stem}{number}{file.suffix}")


def test_a_photograph_under_two_names_is_said(two, capsys):
    """Such a photograph could be in the training and in the test."""
    shutil.copy(two / "phone" / "coffee-a.jpeg", two / "phone" / "again.jpeg")
    shutil.copy(two / "dslr" / "coffee-a.JPG", two / "dslr" / "again.JPG")
    builder.build(two / "phone", two / "dslr", two / "out", SMALL, workers=1)
    said = capsys.readouterr().err
    for side, names in (("phone", "again.jpeg = coffee-a.jpeg"), ("dslr", "again.JPG = coffee-a.JPG")):
        assert f"note: {two / side} holds the same photograph under two names ({names})" in said


def test_what_cannot_be_written_is_said_before_the_work(two, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(DpedError, match="taken: is a file. Name a folder"):
        builder.build(two / "phone", two / "dslr", tmp_path / "taken", SMALL, workers=1)
    assert (tmp_path / "taken").read_text() == "mine"
    for side, suffix in (("phone", ".jpeg"), ("dslr", ".JPG")):
        (two / side / f"coffee-a{suffix}").rename(two / side / f"{'x' * 251}.jpg")
    with pytest.raises(DpedError, match="x.jpg: the name is too long"):
        builder.build(two / "phone", two / "dslr", tmp_path / "out", SMALL, workers=1)
    assert not (tmp_path / "out").exists()


def test_two_photographs_are_too_few_to_train(two, tmp_path):
    done = command(two, tmp_path / "out")
    output, errors = done.communicate()
    assert done.returncode == 0, errors
    assert "next: " not in output and "photographs of the test" not in output
    assert "no pairs for val and test: a training needs patches of at least three photographs" in output


def test_photographs_of_two_cameras_are_paired_by_order(photographs, built, tmp_path, capsys):
    """The numbers that cameras give differ. 9 comes before 10."""
    for folder in ("phone", "dslr"):
        shutil.copytree(photographs / folder, tmp_path / folder)
    rename(tmp_path / "phone", "IMG_")
    rename(tmp_path / "dslr", "DSC_40")
    store = builder.build(tmp_path / "phone", tmp_path / "dslr", tmp_path / "out", SMALL, by="order", workers=2)
    assert (
        "first pair is IMG_8.jpeg with DSC_408.JPG, the last IMG_13.jpeg with DSC_4013.JPG" in capsys.readouterr().err
    )
    of_names = pair_store.PairStore(builder.store_of(built))
    expected = dict(zip(sorted({*SCENES, "mistaken"}), (f"IMG_{n}" for n in range(8, 14)), strict=True))
    for name in SCENES:
        for side in ("phone", "dslr"):
            patches = getattr(of_names, side)[of_names.photographs == name]
            assert np.array_equal(getattr(store, side)[store.photographs == expected[name]], patches)


def test_pairing_by_order_needs_as_many_photographs(two):
    (two / "dslr/coffee-a.JPG").unlink()
    with pytest.raises(DpedError, match="phone has 2 photographs and .*dslr has 1, so they cannot be paired by order"):
        builder.build(two / "phone", two / "dslr", two / "out", SMALL, by="order")


def test_a_link_to_a_missing_photograph_has_its_place_in_the_order(two):
    """Otherwise each photograph behind it would be paired with that of another scene."""
    (two / "phone/0.jpeg").symlink_to(two / "gone.jpeg")
    with pytest.raises(DpedError, match="phone has 3 photographs and .*dslr has 2"):
        builder.build(two / "phone", two / "dslr", two / "out", SMALL, by="order")
    shutil.copy(two / "dslr/coffee-a.JPG", two / "dslr/0.JPG")
    with pytest.raises(DpedError, match="phone/0.jpeg: a link to a file that is not there .* Add --on-bad skip"):
        builder.build(two / "phone", two / "dslr", two / "out", SMALL, by="order")
    bad = {}
    pairs = camera_folders.pairs(two / "phone", two / "dslr", "order", None, "skip", bad)
    assert (
        list(bad) == ["0"]
        and not (two / "out").exists()
        and {name: pair[1].stem for name, pair in pairs.items()}
        == {
            "chelsea-a": "chelsea-a",
            "coffee-a": "coffee-a",
        }
    )


def test_many_names_are_compared_in_an_instant(tmp_path, monkeypatch):
    """Five thousand names took 14 seconds when each was compared with each."""
    photographs = {}
    for camera in ("IMG", "DSC"):
        (tmp_path / camera).mkdir()
        photographs[tmp_path / camera] = {f"{camera}_{i}": Path(f"{camera}_{i}.jpg") for i in range(20_000)}
    monkeypatch.setattr(photo_folders, "list_photographs", lambda folder, *_, **__: photographs[folder])
    start = time.process_time()
    with pytest.raises(DpedError, match="no name in it"):
        camera_folders.pairs(*photographs, "name", None, "error", {})
    assert time.process_time() - start < 5


@pytest.mark.parametrize("swapped", [True, False])
def test_a_phone_with_more_pixels_than_the_camera_is_noted(two, capsys, monkeypatch, swapped):
    monkeypatch.setattr(workers, "run", lambda *_: pytest.fail("enough"))
    folders = [two / "dslr", two / "phone"] if swapped else [two / "phone", two / "dslr"]
    with pytest.raises(pytest.fail.Exception):
        builder.build(*folders, two / "out", SMALL)
    noted = f"note: the photographs in {two / 'dslr'} have more pixels than those in {two / 'phone'}"
    said = capsys.readouterr().err
    assert (noted in said) is swapped and said.count("have more pixels") == swapped


SPOILT = {
    "no name in common": (
        lambda r: (rename(r / "phone", "IMG_"), rename(r / "dslr", "DSC_40")),
        r"phone: no name in it \('IMG_8' ...\) occurs in .*dslr \('DSC_408' ...\). .* add --by order to dped align",
    ),
    "two are bad": (
        lambda r: ((r / "phone/chelsea-a.jpeg").write_text("x"), (r / "dslr/coffee-a.JPG").write_text("x")),
        "chelsea-a.jpeg: no image .* Bad, too: coffee-a. Add --on-bad skip",
    ),
    "no partner": (lambda r: (r / "dslr/coffee-a.JPG").unlink(), "dslr: no photograph 'coffee-a'"),
    "not an image": (lambda r: (r / "phone/coffee-a.jpeg").write_text("x"), "phone/coffee-a.jpeg: no image"),
    "two of a name": (
        lambda r: (r / "phone/coffee-a.png").touch(),
        "coffee-a.jpeg and coffee-a.png have the same name",
    ),
    "another case": (
        lambda r: (r / "dslr/coffee-a.JPG").rename(r / "dslr/Coffee-A.JPG"),
        "phone: no photograph 'Coffee-A', .* 'coffee-a' differs only in upper and lower case. Rename one",
    ),
    "accents": (
        lambda r: (
            (r / "phone/coffee-a.jpeg").rename(r / "phone/caf\u00e9.jpeg"),
            (r / "dslr/coffee-a.JPG").rename(r / "dslr/cafe\u0301.JPG"),
        ),
        "differs only in how its accents are stored",
    ),
    "one folder twice": (
        lambda r: (shutil.rmtree(r / "dslr"), (r / "dslr").symlink_to(r / "phone")),
        "phone and .*dslr: the same folder for both cameras",
    ),
    "the same photograph": (
        lambda r: shutil.copy(r / "phone/coffee-a.jpeg", r / "dslr/coffee-a.JPG"),
        "phone/coffee-a.jpeg and .*dslr/coffee-a.JPG: the same photograph twice",
    ),
    "tiny": (lambda r: Image.new("RGB", (90, 200)).save(r / "dslr/coffee-a.JPG"), "dslr/coffee-a.JPG: 200 x 90 pixels"),
    "no folder": (lambda r: shutil.rmtree(r / "dslr"), "dslr: no such folder"),
    "out is a file": (lambda r: (r / "out").touch(), "out: is a file. Name a folder"),
    "store is not ours": (
        lambda r: ((r / "out/store").mkdir(parents=True), (r / "out/store/x.jpg").touch()),
        "out/store: is there already and holds x.jpg, which dped did not make",
    ),
    "a summary of the user's": (
        lambda r: ((r / "out").mkdir(), (r / "out/summary.json").write_text("{}")),
        "out: was not made by dped align and holds summary.json",
    ),
    "a note of the user's": (
        lambda r: ((r / "out/pairs").mkdir(parents=True), (r / "out/pairs/notes.json").write_text('{"digest": 1}')),
        "out: was not made by dped align and holds pairs",
    ),
    "out is a folder of photographs": (
        lambda r: (r / "phone").rename(r / "out") and (r / "phone").symlink_to(r / "out"),
        "out: was not made by dped align and holds chelsea-a.jpeg, coffee-a.jpeg",
    ),
    "out is the folder above": (
        lambda r: (r / "out").symlink_to(r),
        "out: was not made by dped align and holds dslr, out, phone",
    ),
    "a sign that is none": (
        lambda r: ((r / "out").mkdir(), (r / "out/dped_align.json").write_text("[]")),
        "out: was not made by dped align and holds dped_align.json",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_bad_input_is_named_before_anything_is_done(two, what):
    spoil, message = SPOILT[what]
    spoil(two)
    before = tree(two)
    with pytest.raises(DpedError, match=message):
        builder.build(two / "phone", two / "dslr", two / "out", SMALL)
    assert tree(two) == before


def test_a_missing_folder_before_two_dots_hides_nothing(two):
    """The library is called with paths from which no command has removed the dots."""
    (two / "out").mkdir()
    (two / "out" / "summary.json").write_text("the user's")
    with_dots = [two / "no" / ".." / name for name in ("phone", "dslr", "out")]
    with pytest.raises(DpedError, match="was not made by dped align and holds summary.json"):
        builder.build(*with_dots, SMALL)
    (two / "data" / "iphone").mkdir(parents=True)
    (two / "data" / "iphone" / "mine.txt").write_text("the user's")
    with pytest.raises(DpedError, match="was not made by dped align"):
        builder.check_official(two / "no" / ".." / "data", "iphone")
    assert not (two / "no").exists() and (two / "out" / "summary.json").read_text() == "the user's"


#: What a user may put into a folder that ``dped align`` made; names that resemble ours among it.
KEPT = (
    "notes.txt", ".hidden/x", "pairs/notes.json", "pairs/notes.npy", "pairs/.git/config", "pairs/.ipynb_checkpoints/coffee-a.json",
    ".store.original/x", ".store.original.part/x", "pairs/.coffee-a.npy.download.part/x", ".summary.json.mine", "pairs/.coffee-a.json.backup12/x", "pairs/coffee-a.json.bak", "pairs/rocket-a.txt",
)  # fmt: skip


def test_nothing_of_the_users_is_deleted(built, photographs, tmp_path):
    """Photographs are added, changed and removed; what killed runs left goes, and nothing else does."""
    root, dataset = tmp_path / "photographs", tmp_path / "out"
    shutil.copytree(photographs, root)
    shutil.copytree(built, dataset)
    for name in KEPT:
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_text('{"digest": "of the user"}')
    for name in (".store.ab12cd34.part", "pairs/.coffee-a.npy.ab12cd34.part"):
        (dataset / name).mkdir()
        (dataset / name / "half").touch()
        (dataset / name / ".dped-is-writing").touch()
    for folder in ("phone", "dslr"):
        next((root / folder).glob("rocket-a.*")).unlink()
    builder.build(root / "phone", root / "dslr", dataset, SMALL)
    for name in KEPT:
        assert (dataset / name).read_text() == '{"digest": "of the user"}'
    assert not list(dataset.rglob("*.ab12cd34.part")) and not (dataset / "pairs/rocket-a.json").exists()

    # A photograph whose record would take the place of such a file is refused, and nothing is changed.
    shoot(root, "notes", ("coffee-a", "coffee-a"))
    before = tree(dataset)
    with pytest.raises(DpedError, match=r"pairs/notes\.json: is there already and was not made by dped align"):
        builder.build(root / "phone", root / "dslr", dataset, SMALL)
    assert tree(dataset) == before
    (dataset / "store/keep.txt").write_text("mine")
    with pytest.raises(DpedError, match="store: is there already and holds keep.txt"):
        builder.build(photographs / "phone", photographs / "dslr", dataset, SMALL)
    assert (dataset / "store/keep.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "there", [".DS_Store", "Thumbs.db", "desktop.ini", ".dped_align.json.ab12cd34.part/.dped-is-writing", ""]
)
def test_a_folder_as_a_desktop_or_a_killed_run_leaves_it_is_taken(two, there):
    (two / "out" / there).parent.mkdir(parents=True, exist_ok=True)
    if there:
        (two / "out" / there).write_text("x")
    assert len(builder.build(two / "phone", two / "dslr", two / "out", SMALL, workers=1)) > 0


def test_out_may_lie_in_a_folder_of_photographs(two):
    before = tree(two)
    builder.build(two / "phone", two / "dslr", two / "phone" / "out", SMALL)
    builder.build(two / "phone", two / "dslr", two / "phone" / "out", SMALL)
    assert before.items() <= tree(two).items()


def test_stray_files_among_photographs_change_nothing(two):
    for side in ("phone", "dslr"):
        for name in ("Thumbs.db", ".DS_Store", "._coffee-a.jpg", "desktop.ini", "coffee-a.txt"):
            (two / side / name).write_bytes(b"\0\5\x16\7 stray")
    store = builder.build(two / "phone", two / "dslr", two / "out", SMALL)
    assert set(store.photographs) == {"chelsea-a", "coffee-a"} and not store.skipped


def test_a_truncated_photograph_stops_or_is_counted(two):
    file = two / "phone/coffee-a.jpeg"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (two / "dslr/alone.png").touch()
    with pytest.raises(DpedError, match="no photograph 'alone'"):
        builder.build(two / "phone", two / "dslr", two / "out", SMALL)
    (two / "dslr/alone.png").unlink()
    with pytest.raises(DpedError, match=f"{file}: cannot be read to its end .*truncated.*--on-bad skip"):
        builder.build(two / "phone", two / "dslr", two / "out", SMALL)
    (two / "dslr/alone.png").touch()
    store = builder.build(two / "phone", two / "dslr", two / "out", SMALL, on_bad="skip")
    assert set(store.photographs) == {"chelsea-a"} and store.skipped == {"bad": 2}
    bad = json.loads((two / "out/summary.json").read_text())["bad"]
    assert list(bad) == ["alone", "coffee-a"] and str(file) in bad["coffee-a"]


def test_nothing_left_says_why(photographs, tmp_path):
    for folder in ("phone", "dslr"):
        (tmp_path / folder).mkdir()
        shutil.copy(next((photographs / folder).glob("mistaken.*")), tmp_path / folder)
    with pytest.raises(
        DpedError, match="not one patch came out of 1 pairs .*1 photographs different scene.*The first: "
    ):
        builder.build(tmp_path / "phone", tmp_path / "dslr", tmp_path / "out", SMALL)
    assert not builder.store_of(tmp_path / "out").exists()


def test_a_full_disk_is_explained(two, small_disk):
    """Room for the folder and its records, not for the patches of a pair."""
    (small_disk / "filler").write_bytes(bytes(2**20 - 80_000))
    with pytest.raises(DpedError, match=r"out/pairs/.*npy: not written, the disk is full .*No space left"):
        builder.build(two / "phone", two / "dslr", small_disk / "out", SMALL, workers=1)
    (small_disk / "filler").unlink()
    assert not list((small_disk / "out/pairs").glob("*.npy"))


def test_an_empty_file_of_patches_is_made_again(built, photographs, tmp_path):
    """A machine that lost its power may leave files of no bytes."""
    dataset = shutil.copytree(built, tmp_path / "out")
    (dataset / "pairs/coffee-a.npy").write_bytes(b"")
    (dataset / "store/phone.npy").write_bytes(b"")
    builder.build(photographs / "phone", photographs / "dslr", dataset, SMALL, workers=1)
    assert tree(dataset) == tree(built)


def test_names_that_are_not_utf_8(photographs, tmp_path, runs, monkeypatch):
    """Old disks and archives have them; Python shows such a byte as half of a character."""
    names = dict(zip(SCENES, ("b\udcffd", "caf\udce9", "c", "d", "e"), strict=True))
    for folder in ("phone", "dslr"):
        (tmp_path / "own" / folder).mkdir(parents=True)
        for scene, name in names.items():
            file = next((photographs / folder).glob(f"{scene}.*"))
            shutil.copy(file, tmp_path / "own" / folder / f"{name}{file.suffix}")
    scenes = (tmp_path / "own" / "phone", tmp_path / "own" / "dslr")
    shoot(tmp_path / "own", "z\udcff", ("astronaut-a", "rocket-a"))
    store = builder.build(*scenes, tmp_path / "out", SMALL, workers=1)
    assert set(store.photographs) == set(names.values()) and {r["name"] for r in store.records()} > set(names.values())
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    shown = builder.summary_text(store, summary)
    assert "1 rejected: different scene (z\\udcff)" in shown
    train = store.counts()["train"]
    assert f"{len(store)} patch pairs (photographs): {train['pairs']} ({train['photographs']}) train, " in shown
    before = tree(tmp_path / "out")
    assert builder.build(*scenes, tmp_path / "out", SMALL, workers=1).digest == store.digest
    assert tree(tmp_path / "out") == before
    monkeypatch.setenv("DPED_OWN", str(tmp_path / "own"))
    assert readers.own_origin().startswith(f"{tmp_path / 'own'} ")


def test_portrait_against_landscape(photographs, tmp_path):
    """The phone was held upright and says so, or says nothing: the pair is aligned either way."""
    for name, exif in (("says", 8), ("silent", 1)):
        for folder in ("phone", "dslr"):
            (tmp_path / folder).mkdir(exist_ok=True)
        tag = Image.Exif()
        tag[0x0112] = exif
        turned = Image.open(photographs / "phone/coffee-a.jpeg").transpose(Image.Transpose.ROTATE_270)
        turned.save(tmp_path / f"phone/{name}.jpg", exif=tag, quality=95)
        shutil.copy(photographs / "dslr/coffee-a.JPG", tmp_path / f"dslr/{name}.jpg")
    builder.build(tmp_path / "phone", tmp_path / "dslr", tmp_path / "out", SMALL)
    turns = [
        json.loads((tmp_path / f"out/pairs/{n}.json").read_text())["report"]["rotation"] for n in ("says", "silent")
    ]
    assert abs(turns[0]) < 5 and abs(abs(turns[1]) - 90) < 5


# ---------------------------------------------------------------------------------------------- the official layout


def test_the_official_layout_is_read_back(built, tmp_path, runs, monkeypatch):
    store = pair_store.PairStore(builder.store_of(built))
    assert builder.write_official(store, tmp_path / "data", "iphone") == tmp_path / "data" / "iphone"
    monkeypatch.setenv("DPED_DATA", str(tmp_path / "data"))
    read = opening.open_or_make("dped", "iphone")
    order = np.array([*store.index("train"), *store.index("val"), *store.index("test")])
    for back, stored in ((read.phone, store.phone), (read.dslr, store.dslr)):
        assert back.shape == stored.shape and np.abs(back.astype(int) - stored[order]).max() <= 4
    held = set(order[read.index("val")])
    assert held and held <= set(store.index("val"))
    assert set(order[read.index("test")]) == set(store.index("test"))

    before = tree(tmp_path / "data")
    left = tmp_path / "data" / ".iphone.ab12cd34.part"  # by an earlier call that was killed
    left.mkdir()
    (left / ".dped-is-writing").touch()
    builder.write_official(store, tmp_path / "data", "iphone")
    assert tree(tmp_path / "data") == before and not left.exists()

    (tmp_path / "data/iphone/Thumbs.db").touch()
    builder.check_official(tmp_path / "data", "iphone")
    mine = tmp_path / "data/iphone/test_data/full_size_test_images/1.jpg"
    mine.parent.mkdir()
    mine.write_text("the user's")
    with pytest.raises(DpedError, match="iphone: is there already .*test_data/full_size_test_images/1.jpg"):
        builder.write_official(store, tmp_path / "data", "iphone")
    assert mine.read_text() == "the user's"


def test_a_dataset_of_other_photographs_is_not_replaced(two, photographs, built, tmp_path, capfd):
    """Other folders of equal names, too; photographs that are added, and folders that are moved, go on."""
    dataset = shutil.copytree(built, tmp_path / "built")
    other = tmp_path / "other"
    for scene in SCENES[:3]:
        shoot(other, scene, (scene, scene), seed=2)
    before = tree(dataset)
    with pytest.raises(
        DpedError, match=rf"built: holds the dataset of other photographs \({photographs}/phone and .*{other}"
    ):
        builder.build(other / "phone", other / "dslr", dataset, SMALL, workers=1)
    assert tree(dataset) == before

    first = builder.build(two / "phone", two / "dslr", two / "out", SMALL, workers=1)
    (two / "moved").mkdir()
    for folder in ("phone", "dslr"):
        (two / folder).rename(two / "moved" / folder)
    shoot(two / "moved", "rocket-a", ("rocket-a", "rocket-a"))
    capfd.readouterr()
    more = builder.build(two / "moved/phone", two / "moved/dslr", two / "out", SMALL, workers=1)
    assert set(more.photographs) == {*first.photographs, "rocket-a"}
    assert "other settings" not in capfd.readouterr().err
    builder.build(two / "moved/phone", two / "moved/dslr", two / "out", Settings((200, 280)), workers=1)
    assert "other settings (size: [200, 270] there, [200, 280] asked)" in capfd.readouterr().err


def test_the_official_layout_of_another_store_is_not_replaced(built, tmp_path):
    store = pair_store.PairStore(builder.store_of(built))
    other = pair_store.adopt_store(store.folder, tmp_path / "other", {})
    builder.write_official(store, tmp_path / "data", "iphone")
    before = tree(tmp_path / "data")
    with pytest.raises(DpedError, match=f"data/iphone: holds the pairs of {store.folder}, not of {other.folder}"):
        builder.write_official(other, tmp_path / "data", "iphone")
    assert tree(tmp_path / "data") == before
    builder.write_official(other, tmp_path / "data", "sony")


def test_an_official_folder_of_another_store_is_found_before_any_work(built, photographs, tmp_path):
    builder.write_official(pair_store.PairStore(builder.store_of(built)), tmp_path / "data", "iphone")
    official = ("--official", str(tmp_path / "data"), "--phone", "iphone")
    process = command(photographs, tmp_path / "out", *official)
    _, errors = process.communicate()
    assert process.returncode == 2 and "data/iphone: holds the pairs of" in errors
    assert not (tmp_path / "out").exists()


def test_an_official_folder_that_cannot_be_written_is_found_first(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DpedError, match="data: cannot be made|is not a folder"):
        builder.check_official(tmp_path / "data", "iphone")
    builder.check_official(tmp_path / "new", "iphone")
    assert os.listdir(tmp_path) == ["data"]


def test_a_real_dataset_is_never_replaced(built, tmp_path):
    (tmp_path / "iphone/training_data").mkdir(parents=True)
    (tmp_path / "sony").write_text("a file")
    store = pair_store.PairStore(builder.store_of(built))
    with pytest.raises(DpedError, match="iphone: is there already and was not made by dped align"):
        builder.write_official(store, tmp_path, "iphone")
    (tmp_path / "iphone/.DS_Store").touch()
    with pytest.raises(DpedError, match="iphone: is there already and was not made by dped align"):
        builder.write_official(store, tmp_path, "iphone")
    (tmp_path / "blackberry").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):  # a desktop system has displayed an empty folder
        (tmp_path / "blackberry" / name).touch()
    assert builder.write_official(store, tmp_path, "blackberry").is_dir()
    with pytest.raises(DpedError, match="sony: is a file"):
        builder.write_official(store, tmp_path, "sony")
    for name in ("canon", "", "..", "a/b"):
        with pytest.raises(DpedError, match="must be a name for a folder"):
            builder.write_official(store, tmp_path, name)
