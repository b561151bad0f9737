"""benchmarks/gpu_paper.sh: its commands exist; with a stand-in for dped it keeps its limits and continues. No GPU has run it."""

import os
import shlex
import subprocess

from typer.main import get_command

from dped_lib.app import cli, notebook_runner
from dped_lib.base import paths, presets
from dped_lib.losses import TRAINED

SCRIPT = paths.project_root() / "benchmarks" / "gpu_paper.sh"
#: Writes down its arguments. Its training with loss "mse" takes too long until there is a file "quick".
STAND_IN = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >>"$here/calls"
case " $* " in *" train "*" mse "*) [ -e "$here/quick" ] || { trap 'exit 130' TERM; sleep 20 & wait; } ;; esac
"""


def run(folder, **environment) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "DPED": str(folder / "dped"), **environment}
    return subprocess.run(["bash", SCRIPT, folder / "logs"], env=environment, capture_output=True, text=True)


def test_its_commands_and_options_exist(tmp_path):
    done = run(tmp_path, DRY_RUN="1", DPED="dped")
    assert done.returncode == 0 and not done.stderr and not list(tmp_path.iterdir())
    commands, losses = get_command(cli.app).commands, []
    for line in done.stdout.splitlines():
        timeout, seconds, dped, name, *rest = shlex.split(line)
        assert (timeout, dped) == ("timeout", "dped") and int(seconds) > 0
        given = {w for w in rest if w.startswith("--")}
        assert given <= {o for p in commands[name].params for o in p.opts}, line
        if name == "run":
            keys = {w.removeprefix("--") for w in given} - {"dataset", "preset"}
            assert keys <= notebook_runner.parameters_of(rest[0]).keys(), line
        if name == "train":
            losses.append((rest[rest.index("--dataset") + 1], rest[rest.index("--loss") + 1]))
        assert rest[rest.index("--preset") + 1] == "paper" and "paper" in presets.PRESETS
    assert losses[0] == ("city100", "color+content+texture")
    assert {loss for dataset, loss in losses[1:] if dataset == "pirm"} == set(TRAINED) and len(losses) == 7


def test_a_training_has_a_limit_and_the_same_command_goes_on(tmp_path):
    for name, text in (("dped", STAND_IN), ("nvidia-smi", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    done = run(tmp_path, LIMIT="1")
    assert done.returncode == 1 and "stopped after 1 s" in done.stdout
    assert "Tables 2 and 3 are not run: 1 of 6 networks are missing." in done.stdout
    assert "--loss johnson" in calls.read_text() and "05_tables" not in calls.read_text()
    assert "pirm-paper/train/iphone-mse-s0" not in calls.read_text(), "no score without a network"
    (tmp_path / "quick").touch()
    assert run(tmp_path, LIMIT="1").returncode == 0
    assert "05_tables" in calls.read_text() and "pirm-paper/train/iphone-mse-s0" in calls.read_text()


def test_it_needs_a_gpu(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert run(tmp_path).returncode == 1 and not (tmp_path / "calls").exists()


def test_a_killed_command_is_not_taken_for_one_that_reached_its_limit(tmp_path):
    """The system may kill it because memory ran out. The same command would then fail again."""
    for name, text in (
        ("dped", '#!/bin/sh\ncase " $* " in *" train "*) kill -KILL $$ ;; esac\n'),
        ("nvidia-smi", "#!/bin/sh\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = run(tmp_path)
    assert done.returncode == 1 and "memory ran out" in done.stdout and "to continue" not in done.stdout
