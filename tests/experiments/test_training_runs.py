"""Runs of the training: nothing is lost by a kill, a folder holds one run, and what goes wrong is said."""

import dataclasses
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from small import make_store, pair, settings, tiny_vgg

from dped_lib import models, training
from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import TrainParams
from dped_lib.data import checkpoints, network_files, training_log
from dped_lib.data.pair_store import PairStore, write_store
from dped_lib.experiments import training_runs

#: A finished run with a texture term.
FINISHED = ["discriminator.safetensors", "log.jsonl", "model.safetensors", "params.json"]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> PairStore:
    return make_store(tmp_path_factory.mktemp("store") / "patches")


def assert_equal_bits(one: Path, other: Path) -> None:
    """Two safetensors files hold the same tensors, bit by bit, and the same metadata."""
    (a, about_a), (b, about_b) = (network_files.load_tensors(file) for file in (one, other))
    assert about_a == about_b
    assert list(a) == list(b)
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


# ---------------------------------------------------------------------------------------------- kills


FORKSERVER = multiprocessing.get_context("forkserver")


FORKSERVER.set_forkserver_preload(["dped_lib.experiments.training_runs"])


def _child(params: TrainParams, store: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["DPED_HEADLESS"] = "1"
    # A test run in the background of a script is deaf to Ctrl-C, and what it starts would be, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        training_runs.train(params, PairStore(store), folder, "cpu", tiny_vgg())
    except KeyboardInterrupt as stop:
        folder.with_suffix(".said").write_text(str(stop))
        raise SystemExit(30) from stop


def start(params: TrainParams, store: PairStore, folder: Path):
    process = FORKSERVER.Process(target=_child, args=(params, store.folder, folder))
    process.start()
    return process


def train_in_child(params: TrainParams, store: PairStore, folder: Path) -> None:
    process = start(params, store, folder)
    process.join(300)
    assert process.exitcode == 0


def wait_for(process, happened) -> None:
    while not happened():
        assert process.is_alive(), "ended before it could be stopped"
        time.sleep(0.002)


def test_twenty_kills_lose_nothing(store, tmp_path):
    """The finished network is equal bit by bit to one trained undisturbed, and the log byte by byte.

    A checkpoint (89 MB) follows every iteration. Three of four kills come within an iteration and a half after one that
    the process has written, so that there is progress to lose, and writes (about half of the time) to be cut in two;
    the others come anywhere in the first second: while it starts, reads the checkpoint or cuts the log.
    """
    kills = 20
    params = settings(iterations=48, checkpoint_every=1, eval_every=7)
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    began = time.monotonic()
    train_in_child(params, store, quiet)
    iteration = (time.monotonic() - began) / params.iterations
    rng = random.Random(0)
    checkpoint = killed / "checkpoint.safetensors"
    torn, reached = 0, []
    for kill in range(kills):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = start(params, store, killed)
        if kill % 4:
            wait_for(process, lambda before=before: checkpoint.exists() and checkpoint.stat().st_mtime_ns != before)
        time.sleep(rng.uniform(0, 1.5 * iteration if kill % 4 else 1.0))
        assert process.is_alive(), "finished before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        torn += any(killed.glob(".checkpoint.safetensors.*"))
        # At any moment: none, or a whole one; and the log is not behind it.
        if checkpoint.exists():
            reached.append(int(network_files.load_tensors(checkpoint)[1]["iteration"]))
            assert training_log.read_log(killed / "log.jsonl")[-1]["iteration"] >= reached[-1]
    print(f"{iteration:.2f} s an iteration; {torn} of {kills} kills cut a checkpoint; reached {reached}")
    assert torn > 0
    assert reached == sorted(reached)
    assert 15 <= reached[-1] < params.iterations
    train_in_child(params, store, killed)
    assert_equal_bits(quiet / "model.safetensors", killed / "model.safetensors")
    assert (quiet / "log.jsonl").read_bytes() == (killed / "log.jsonl").read_bytes()
    # What the kills left half written is swept up.
    assert sorted(f.name for f in killed.iterdir()) == FINISHED


@pytest.mark.parametrize(("word", "precision"), [(signal.SIGTERM, "float32"), (signal.SIGINT, "bfloat16")])
def test_a_polite_stop_saves_the_iteration_it_was_in(store, tmp_path, word, precision):
    params = settings(iterations=8, eval_every=2, checkpoint_every=1000, precision=precision)
    quiet, stopped = tmp_path / "quiet", tmp_path / "stopped"
    train_in_child(params, store, quiet)
    log = stopped / "log.jsonl"
    process = start(params, store, stopped)
    # The handlers are in place once the log is there.
    wait_for(process, log.exists)
    time.sleep(0.3)
    os.kill(process.pid, word)
    process.join(60)
    assert process.exitcode == 30
    done = int(network_files.load_tensors(stopped / "checkpoint.safetensors")[1]["iteration"])
    assert 1 <= done < 8
    assert (
        stopped.with_suffix(".said").read_text()
        == f"stopped at iteration {done}; run the same command again to go on from there"
    )
    assert training_log.read_log(log)[-1]["iteration"] == done
    train_in_child(params, store, stopped)
    assert_equal_bits(quiet / "model.safetensors", stopped / "model.safetensors")
    assert (quiet / "log.jsonl").read_bytes() == log.read_bytes()


# ---------------------------------------------------------------------------------------------- the folder of a run


def test_a_run_folder(store, tmp_path):
    """What the documentation says is in it, with a log that has every iteration and evaluation once."""
    params = settings("mse+texture", iterations=5, eval_every=2)
    result = training_runs.train(params, store, tmp_path / "run", "cpu")
    assert sorted(f.name for f in result.folder.iterdir()) == FINISHED
    described = json.loads((result.folder / "params.json").read_text())
    assert described["params"] == dataclasses.asdict(params) and described["digest"] == params.digest()
    log = result.log()
    assert [line["iteration"] for line in log if "validation" not in line] == [1, 2, 3, 4, 5]
    assert [line["iteration"] for line in log if "validation" in line] == [0, 2, 4, 5]
    assert set(log[1]) == {"iteration", "total", "mse", "texture", "tv", "discriminator", "accuracy"}
    assert not result.model.training
    assert isinstance(result.model, models.Generator)


def test_where_a_run_lives():
    folder = training_runs.run_folder(settings("mse", variant="paper", seed=2), "smoke")
    assert folder == paths.run_dir("rig", "smoke") / "train" / "iphone-mse-resnet_8_32-paper-s2"


def test_a_finished_run_returns_at_once_and_touches_nothing(store, tmp_path, monkeypatch):
    first = training_runs.train(settings("dong", model="", iterations=2), store, tmp_path / "run", "cpu")
    stamps = {f.name: (f.stat().st_mtime_ns, f.stat().st_ino) for f in first.folder.iterdir()}
    monkeypatch.setattr(training, "Trainer", None)  # not even looked at
    again = training_runs.train(first.params, store, first.folder, "cpu")
    assert {f.name: (f.stat().st_mtime_ns, f.stat().st_ino) for f in first.folder.iterdir()} == stamps
    assert network_files.fingerprint(again.model) == network_files.fingerprint(first.model)
    assert again.vgg_label == first.vgg_label == "no VGG features"


def test_two_processes_do_not_train_one_run(store, tmp_path, capsys):
    """The second waits for the first, and then finds its run. Else both would write one log and one checkpoint."""
    params, folder = settings("dong", model="", iterations=3), tmp_path / "run"
    held = filelock.FileLock(tmp_path / ".run.lock", thread_local=False)
    held.acquire()
    second = threading.Thread(target=lambda: results.append(training_runs.train(params, store, folder, "cpu")))
    results: list[training_runs.TrainResult] = []
    second.start()
    time.sleep(0.5)
    assert not folder.exists() and not results
    shutil.copytree(training_runs.train(params, store, tmp_path / "first", "cpu").folder, folder)
    before = {f.name: (f.stat().st_mtime_ns, f.stat().st_ino) for f in folder.iterdir()}
    held.release()
    second.join(60)
    assert {f.name: (f.stat().st_mtime_ns, f.stat().st_ino) for f in folder.iterdir()} == before
    assert [result.folder for result in results] == [folder]
    assert f"{folder}: another process is training this network; waiting for it." in capsys.readouterr().err


def test_a_folder_with_another_run_is_refused(store, tmp_path):
    training_runs.train(settings("dong", model="", iterations=1), store, tmp_path / "run", "cpu")
    model = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(DpedError, match=r"other parameters \(iterations: 1 there, 2 asked\)"):
        training_runs.train(settings("dong", model="", iterations=2), store, tmp_path / "run", "cpu")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == model


def test_a_run_on_other_pairs_is_refused(store, tmp_path, interrupted):
    """The same parameters on another dataset of the user's: neither its network nor its checkpoint is taken for this one."""
    params = settings("dong", model="", iterations=1)
    training_runs.train(params, store, tmp_path / "finished", "cpu")
    rng = np.random.default_rng(1)  # mosaics of the same names and splits
    pairs = (pair(n, s, rng) for n, s in zip(store.names, store.meta["splits"], strict=True))
    other = write_store(tmp_path / "other", pairs, {"report": {}})
    for folder, of in ((tmp_path / "finished", params), (interrupted[1], interrupted[0])):
        before = {f.name: f.read_bytes() for f in folder.iterdir()}
        with pytest.raises(DpedError, match=rf"{folder}: holds a run on other pairs .*{other.folder}"):
            training_runs.train(of, other, folder, "cpu")
        assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    (interrupted[1] / "params.json").unlink()
    with pytest.raises(DpedError, match=r"checkpoint\.safetensors: holds a run on other pairs"):
        training_runs.train(interrupted[0], other, interrupted[1], "cpu")
    # The same pairs made again are the same run, wherever they lie; and a run of an earlier version goes on.
    again = make_store(tmp_path / "again")
    assert training_runs.train(interrupted[0], again, interrupted[1], "cpu").log()[-1]["iteration"] == 3
    described = json.loads((tmp_path / "finished" / "params.json").read_text())
    del described["pairs"]
    (tmp_path / "finished" / "params.json").write_text(json.dumps(described))
    training_runs.train(params, again, tmp_path / "finished", "cpu")


@pytest.mark.parametrize("text", ["", '{"params": {}', "[]", '{"params": {}, "digest": "0"}'])
def test_damaged_parameters_are_said(store, tmp_path, text):
    (tmp_path / "params.json").write_text(text)
    with pytest.raises(DpedError, match=r"params\.json: damaged .* Delete"):
        training_runs.train(settings("mse"), store, tmp_path, "cpu")


@pytest.fixture
def interrupted(store, tmp_path, monkeypatch) -> tuple[TrainParams, Path]:
    """A run of three iterations that stopped after two, with a checkpoint."""
    params = settings("dong", model="", iterations=3, checkpoint_every=1)
    with monkeypatch.context() as patch:
        step = training.Trainer.step
        patch.setattr(
            training.Trainer,
            "step",
            lambda t: step(t) if t.iteration < 2 else (_ for _ in ()).throw(RuntimeError("pulled plug")),
        )
        with pytest.raises(RuntimeError, match="pulled plug"):
            training_runs.train(params, store, tmp_path / "run", "cpu")
    return params, tmp_path / "run"


def test_a_damaged_checkpoint_is_said(store, interrupted):
    params, folder = interrupted
    whole = (folder / "checkpoint.safetensors").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        (folder / "checkpoint.safetensors").write_bytes(damaged)
        with pytest.raises(DpedError, match=r"checkpoint\.safetensors: damaged"):
            training_runs.train(params, store, folder, "cpu")
    # It stays as it was, and nothing was trained over it.
    assert (folder / "checkpoint.safetensors").read_bytes() == b"\xff" * 100
    assert not (folder / "model.safetensors").exists()


def test_a_checkpoint_of_another_run_is_refused(store, interrupted):
    params, folder = interrupted
    (folder / "params.json").unlink()
    with pytest.raises(DpedError, match="checkpoint of a run with other parameters"):
        training_runs.train(replace(params, seed=1), store, folder, "cpu")


def test_a_log_cut_in_a_line_goes_on_from_the_checkpoint(store, interrupted, tmp_path, capsys):
    params, folder = interrupted
    quiet = training_runs.train(params, store, tmp_path / "quiet", "cpu")
    assert "resumed" not in capsys.readouterr().err
    for ahead in ('{"iteration": 3, "total": 1.0}\n', "", '{"iteration": 3, "to'):
        with open(folder / "log.jsonl", "a") as log:
            log.write(ahead)
    resumed = training_runs.train(params, store, folder, "cpu")
    assert f"train {params.run_name}, resumed at 2" in capsys.readouterr().err
    assert (resumed.folder / "log.jsonl").read_bytes() == (quiet.folder / "log.jsonl").read_bytes()


def test_a_damaged_log_is_said(interrupted, store):
    params, folder = interrupted
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "log.jsonl").write_bytes(b"".join([lines[0], b"\0\0\0\n", *lines[1:]]))
    with pytest.raises(DpedError, match=r"log\.jsonl, line 2: damaged"):
        training_runs.train(params, store, folder, "cpu")


@pytest.mark.parametrize("left", [(), (0, 2)], ids=["no log", "a line is gone"])
def test_a_log_that_lost_iterations_is_not_continued(interrupted, store, left):
    params, folder = interrupted
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").write_text("".join(lines[i] for i in left))
    before = (folder / "checkpoint.safetensors").read_bytes()
    with pytest.raises(DpedError, match=r"log\.jsonl: lacks iteration 1, although the training has reached 2"):
        training_runs.train(params, store, folder, "cpu")
    assert (folder / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("line", ["", "5\n", '{"iteration": 3, "validation": null}\n', '{"total": 1}\n'])
def test_a_finished_run_without_its_scores_is_said(interrupted, store, line):
    params, folder = interrupted
    result = training_runs.train(params, store, folder, "cpu")
    assert set(result.scores()) == {"psnr", "ms_ssim"}
    (folder / "log.jsonl").write_text(line)
    with pytest.raises(DpedError, match=r"log\.jsonl.* (lacks the scores|damaged)"):
        result.scores()


def test_a_finished_network_without_its_description_is_not_trained_over(interrupted, store):
    params, folder = interrupted
    training_runs.train(params, store, folder, "cpu")
    network = (folder / "model.safetensors").read_bytes()
    (folder / "params.json").unlink()
    for asked in (params, replace(params, iterations=4)):
        with pytest.raises(DpedError, match=r"model\.safetensors: a finished network, but its params\.json is missing"):
            training_runs.train(asked, store, folder, "cpu")
    assert (folder / "model.safetensors").read_bytes() == network


@pytest.mark.parametrize("iteration", [None, "x", "-1", "9"])
def test_a_checkpoint_of_no_iteration_of_the_run_is_refused(interrupted, store, iteration):
    params, folder = interrupted
    tensors, metadata = network_files.load_tensors(folder / "checkpoint.safetensors")
    metadata = {k: v for k, v in (metadata | {"iteration": iteration}).items() if v is not None}
    network_files.save_tensors(tensors, folder / "checkpoint.safetensors", metadata)
    with pytest.raises(DpedError, match=r"checkpoint\.safetensors: damaged \(iteration .* of 3\)"):
        training_runs.train(params, store, folder, "cpu")


def test_a_run_without_a_checkpoint_begins_its_log_anew(store, tmp_path):
    """Killed before the first checkpoint, with the first evaluation already in the log."""
    params = settings("dong", model="", iterations=2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text(
        '{"iteration": 0, "validation": {"psnr": 1.0}}\n{"iteration": 1, "total": 1.0}\n'
    )
    log = training_runs.train(params, store, tmp_path / "run", "cpu").log()
    assert [line["iteration"] for line in log] == [0, 1, 2, 2]


# ---------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(("loss", "term", "at"), [("mse", "mse", 2), ("mse+texture", "discriminator", 1)])
def test_a_term_that_is_not_finite_stops_the_run(store, tmp_path, loss, term, at):
    """An absurd learning rate: the step is taken, and the next term that is computed (where there is a discriminator,
    its own, of the same iteration) is broken."""
    params = settings(loss, learning_rate=1e30, checkpoint_every=1, precision="float32")
    folder = tmp_path / "run"
    with pytest.raises(
        training_log.TrainingDiverged, match=f"loss term '{term}' is (nan|inf) at iteration {at}. What was saved"
    ) as error:
        training_runs.train(params, store, folder, "cpu")
    assert str(folder) in str(error.value)
    assert not (folder / "model.safetensors").exists()
    assert (folder / "checkpoint.safetensors").exists() == (at > 1)
    if at > 1:
        trainer = training.Trainer(params, store, CPU)
        checkpoints.restore(trainer, folder / "checkpoint.safetensors")
        assert trainer.iteration == at - 1
    assert [line["iteration"] for line in training_log.read_log(folder / "log.jsonl")] == list(range(at))


def test_a_network_that_breaks_before_an_evaluation_stops_the_run(store, tmp_path):
    params = settings("mse", learning_rate=1e30, eval_every=1)
    with pytest.raises(training_log.TrainingDiverged, match="an enhanced validation pair is broken .* at iteration 1"):
        training_runs.train(params, store, tmp_path / "run", "cpu")


@pytest.mark.parametrize("at", [2, 3])
def test_a_broken_weight_is_neither_saved_nor_called_finished(store, tmp_path, monkeypatch, at):
    """A step that breaks a weight has a finite loss itself; the checkpoint before it must survive it."""
    params = settings("mse", iterations=4, checkpoint_every=1, eval_every=3)
    step = training.Trainer.step

    def breaking(trainer):
        terms = step(trainer)
        if trainer.iteration == at:
            with torch.no_grad():
                trainer.generator.head.weight[0, 0, 0, 0] = torch.nan
        return terms

    monkeypatch.setattr(training.Trainer, "step", breaking)
    with pytest.raises(training_log.TrainingDiverged, match=f"at iteration {at}"):
        training_runs.train(params, store, tmp_path / "run", "cpu")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    tensors, about = network_files.load_tensors(tmp_path / "run" / "checkpoint.safetensors")
    assert about["iteration"] == str(at - 1)
    assert all(t.isfinite().all() for t in tensors.values())


def _limited_child(params: TrainParams, store: Path, folder: Path, limit: int, said) -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        training_runs.train(params, PairStore(store), folder, "cpu")
    except DpedError as error:
        said.put(str(error))


@pytest.mark.parametrize(("limit", "file"), [(100_000, "checkpoint.safetensors"), (1_000, "log.jsonl")])
def test_a_full_disk_is_said_and_harms_nothing(store, interrupted, limit, file):
    """A limit on the size of files stands for it: the operating system refuses a write in the same way."""
    params, folder = interrupted
    if file == "log.jsonl":  # as long as the limit already
        with open(folder / "log.jsonl", "a") as log:
            log.write(json.dumps({"iteration": 2, "note": "x" * limit}) + "\n")
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    said = FORKSERVER.SimpleQueue()
    process = FORKSERVER.Process(target=_limited_child, args=(params, store.folder, folder, limit, said))
    process.start()
    message = said.get()
    process.join()
    assert message.startswith(f"{folder / file}: not written, the disk is full")
    assert "run the same command again" in message
    for name in ("checkpoint.safetensors", "params.json"):
        assert (folder / name).read_bytes() == before[name]
    # With room again it goes on as if nothing had been.
    assert training_runs.train(params, store, folder, "cpu").log()[-1]["iteration"] == 3
