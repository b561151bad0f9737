"""requirements.lock is the one environment: pyproject.toml, environment.yml, make, CI and the machine agree with it."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from dped_lib.base import paths

ROOT = paths.project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK_LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LOCK = [Requirement(line) for line in LOCK_LINES]
LOCKED = {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in LOCK}
# What other systems need is locked behind a marker.
HERE = [r for r in LOCK if r.marker is None or r.marker.evaluate()]


def declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"]
    everything = (*PROJECT["project"]["dependencies"], *extras["test"], *extras["site"])
    return [Requirement(r) for r in (*everything, *PROJECT["build-system"]["requires"])]


@pytest.mark.parametrize("line", LOCK_LINES)
def test_lock_lines_are_one_exact_version_and_no_address(line):
    assert re.fullmatch(r'[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*( ; [a-z_]+ (==|<|>|<=|>=|!=) "[A-Za-z0-9.]+")?', line)


def test_lock_names_each_package_once():
    assert len(LOCKED) == len(LOCK_LINES)


@pytest.mark.parametrize("requirement", declared(), ids=lambda r: r.name)
def test_declared_dependency_is_locked_within_its_bounds(requirement):
    assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])


def test_every_package_that_the_library_imports_is_declared():
    """Not only required by another dependency, which may stop requiring it."""
    imported = set()
    for file in (ROOT / "dped_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    named = {canonicalize_name(requirement.name) for requirement in declared()}
    distributions = importlib.metadata.packages_distributions()
    foreign = imported - set(sys.stdlib_module_names) - {"dped_lib"}
    assert "tornado" in foreign
    assert not {name for name in foreign if not named & {canonicalize_name(d) for d in distributions[name]}}


def test_lock_is_complete():
    """Whatever an installed, locked package requires here is locked too, at a version it accepts."""
    wrong = []
    for locked in HERE:
        for text in importlib.metadata.requires(locked.name) or []:
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            # The CUDA builds of torch pin their own libraries; other builds have none (see workflow/lock.py).
            if locked.name == "torch" and re.match(r"nvidia-|cuda-|triton", needed.name):
                continue
            version = LOCKED.get(canonicalize_name(needed.name))
            if version is None or not needed.specifier.contains(version, prereleases=True):
                wrong.append(f"{locked.name} requires {needed}, locked: {version}")
    assert not wrong


@pytest.mark.parametrize("requirement", HERE, ids=lambda r: r.name)
def test_installed_version_is_the_locked_one(requirement):
    # +cpu, +cu130: which build of a version is this machine's choice.
    installed = importlib.metadata.version(requirement.name).split("+")[0]
    assert Version(installed) == LOCKED[canonicalize_name(requirement.name)]


def test_no_second_torch():
    for name in ("torchvision", "torchaudio"):
        assert name not in LOCKED
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)


def test_opencv_needs_no_display():
    assert "opencv-python" not in LOCKED


def test_conda_environment_reads_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "dped"
    *conda, pip = environment["dependencies"]
    # Nothing but the interpreter comes from conda, so nothing can differ from the lock.
    assert [re.split("[=<>]", c)[0] for c in conda] == ["python", "pip"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    python = Version(conda[0].removeprefix("python="))
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(python)


def test_make_and_ci_install_from_the_lock_alone():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in makefile.splitlines() if "$(PIP_INSTALL)" in line]
    assert [line.split("$(PIP_INSTALL) ")[1] for line in installs] == [
        "\"$$(grep '^torch==' requirements.lock)\"",
        "-r requirements.lock",
        "--no-deps --no-build-isolation -e .",
    ]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nmake setup\n" in ci
    assert "\nmake test\n" in ci
    assert "pip install" not in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def make(folder, *arguments) -> str:
    """What make would do, without doing it."""
    # A make above this one passes its own flags on.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("MFLAGS", "PYTHON", "ARGS")}
    return subprocess.run(
        ["make", "--dry-run", *arguments], cwd=folder, env=clean, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a space in its path whose environment is this one's, and finished."""
    folder = tmp_path / "a checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / ".venv" / "bin" / "python").write_text("#!/bin/sh\necho 3.11.99\n")
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    (folder / ".venv" / ".ready").write_text(f"{folder.resolve()} 3.11.99\n")
    return folder


def test_make_reuses_a_finished_environment(checkout):
    assert "pip install" not in make(checkout, "check")
    assert "pip install" not in make(checkout, "test")
    assert "pip install" not in make(checkout, "figures")
    assert "pip install" not in make(checkout, "lab")
    assert "pip install" not in make(checkout, "study")
    assert "pip install" not in make(checkout, "book")


@pytest.mark.parametrize(
    "change", ["unfinished", "moved", "other Python", "gone Python", "newer lock", "newer project"]
)
def test_make_does_not_take_a_stale_environment_for_a_current_one(checkout, change):
    ready, arguments = checkout / ".venv" / ".ready", []
    match change:
        case "unfinished":
            ready.unlink()
        case "moved":
            ready.write_text("/another/checkout 3.11.99\n")
        case "other Python":
            # Asked for by name, and not the version that is in .venv.
            arguments = ["PYTHON=python3"]
        case "gone Python":
            (checkout / ".venv" / "bin" / "python").unlink()
        case "newer lock":
            os.utime(checkout / "requirements.lock", (2e9, 2e9))
        case "newer project":
            os.utime(checkout / "pyproject.toml", (2e9, 2e9))
    for target in ("setup", "check", "test", "figures", "lab", "study", "book"):
        assert "pip install" in make(checkout, target, *arguments)


@pytest.fixture
def python(checkout):
    """A Python that makes environments with a copy of itself, but not in a link, and notes what is installed."""
    file = checkout / "python"
    file.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        '"-m venv") for folder; do :; done; [ -L "$folder" ] && exit 1; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python";;\n'
        '"-m pip") echo "$@" >> installed;;\n'
        "*) echo 3.11.99;;\n"
        "esac\n"
    )
    file.chmod(0o755)
    return file


def setup(checkout) -> subprocess.CompletedProcess:
    """Runs make setup with the Python above."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("MFLAGS", "ARGS")}
    return subprocess.run(["make", "setup", "PYTHON=./python"], cwd=checkout, env=clean, capture_output=True, text=True)


@pytest.mark.parametrize("there", ["folder", "link", "file", "broken link"])
def test_an_environment_that_make_did_not_make_stays(checkout, python, there):
    """Editors and package managers make a folder of this name, too."""
    own = checkout / ".venv"
    (own / ".ready").unlink()
    (own / "pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv {own}\n")
    if there != "folder":
        own.rename(checkout / "mine")
        own.symlink_to("gone" if there == "broken link" else "mine")
    if there == "file":
        own.unlink()
        own.write_text("the user's")
    before = [(f, f.is_symlink()) for f in sorted(checkout.rglob("*"))]
    done = setup(checkout)
    assert done.returncode != 0
    assert (
        ".venv was not made by make, so it stays as it is. Move it away or delete it, and run make again."
        in done.stderr
    )
    assert [(f, f.is_symlink()) for f in sorted(checkout.rglob("*"))] == before


@pytest.mark.parametrize("began", ["now", "before", "empty", "linked", "nothing"])
def test_make_finishes_what_it_began(checkout, python, began):
    """The earlier Makefile left no mark of its own."""
    environment = checkout / ".venv"
    (environment / ".ready").unlink()
    (environment / "lib").mkdir()
    (environment / "lib" / "half").touch()
    match began:
        case "now" | "linked":
            (environment / ".made-by-make").touch()
        case "before":
            (environment / "pyvenv.cfg").write_text(
                f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv --clear {environment}\n"
            )
        case "empty" | "nothing":
            shutil.rmtree(environment)
    if began == "linked":  # to a larger disk
        environment.rename(checkout / "large")
        environment.symlink_to("large")
    if began == "empty":
        environment.mkdir()
    done = setup(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ready: 3.11.99 in .venv" in done.stdout and (environment / ".ready").is_file()
    assert not (environment / "lib").exists() and environment.is_symlink() == (began == "linked")
    assert len((checkout / "installed").read_text().splitlines()) == 3
    assert "pip install" not in make(checkout, "check")


def test_an_update_that_was_interrupted_goes_on(checkout, python):
    """Of an environment that the earlier Makefile has made."""
    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\n[ \"$1 $2\" != '-m pip' ] && echo 3.11.99\n")
    os.utime(checkout / "requirements.lock", (2e9, 2e9))
    done = setup(checkout)
    assert done.returncode != 0 and "Bringing .venv up to date" in done.stdout
    done = setup(checkout)
    assert done.returncode == 0 and "Making .venv" in done.stdout, done.stdout + done.stderr


def test_make_leaves_the_choice_of_a_profile_to_the_command(checkout):
    for preset in ("cpu", "paper"):
        assert "--profile" not in make(checkout, "figures", f"PRESET={preset}")
    assert "--profile 'slurm'" in make(checkout, "figures", "PROFILE=slurm")


def test_make_says_which_python_it_needs(checkout):
    old = checkout / "old python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(["make", "setup", "PYTHON=./old\\ python"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer; ./old\\ python is Python 3.9.2" in done.stderr
    assert "PYTHON=python3.12" in done.stderr


@pytest.mark.parametrize("user", [0, 1000])
def test_make_lab_allows_root_only_to_root(checkout, tmp_path, monkeypatch, user):
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (tmp_path / "id").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ("--allow-root" in make(checkout, "lab")) == (user == 0)


def test_every_module_can_be_imported_where_unix_ends():
    """Windows has neither fcntl nor resource; and no file of ours asks for them at the top."""
    files = sorted((ROOT / "dped_lib").rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    assert "dped_lib.user_study.answers" in names and "dped_lib.data.builder" in names
    code = (
        "import importlib, sys\n"
        "sys.modules['fcntl'] = sys.modules['resource'] = None\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "from dped_lib.base import paths\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for f in files for line in f.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if re.match(r"(import|from) (fcntl|resource|termios|pwd|grp)\b", line)]


def test_every_name_in_the_list_of_slow_tests_is_a_test():
    """A test that is renamed or removed leaves the list, too; else it would slow `make check` down unseen."""
    listed = (ROOT / "tests" / "slow.txt").read_text().split()
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert listed == sorted(set(listed))
    assert not set(listed) - defined
