"""What every test shares: folders of its own, few threads, and the real photographs where they are there."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

# Before anything starts threads: where tests run side by side, each has its share of the cores, and so have its
# children. A thread that waits sleeps: spinning, it would take the core that the other worker computes on.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
_THREADS = max(1, min(2, (os.cpu_count() or 1) // _WORKERS))
if _WORKERS > 1:
    os.environ["OMP_NUM_THREADS"] = str(_THREADS)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import browsing
import numpy as np
import pytest
import stranger
import torch
from filelock import FileLock
from hypothesis import settings
from lacking import lacking

_STUDY_IN_A_BROWSER = "test_browser.py", "test_study_troubles.py"
#: These compute for minutes. They run beside `make setup` of the clone, which takes one core.
_COMPUTES = "test_aligner.py", "test_extraction.py"
_CLONE, _LAB = "test_fresh_clone.py", "test_jupyterlab.py"
#: Notebooks that one worker opens in JupyterLab, one after another. The others take as long, and another worker has them.
_LAB_TOGETHER = "04_baselines", "03_training"
#: What a test asks for that is left out of `make check`.
_SLOW_FIXTURES = {"clone", "browser", "mirror", "reference"}
#: Seconds that a test of the clone may take: it may have to wait for `make figures`, which stranger.py limits to less.
_CLONE_SECONDS = 4800
#: Names of tests that take more than a second or two, without their parameters; `make check` leaves them out.
SLOW = Path(__file__).with_name("slow.txt").read_text().split()

# The same examples on every machine, however slow it is: a test that fails here fails everywhere.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.hookimpl(optionalhook=True)  # one of pytest-xdist's
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file together, but share out those of the clone one by one: the last ones are short.

    Those in JupyterLab are two units. pytest-xdist gives a worker with at most two tests another unit, and one by one the
    last three of these, which take minutes, would come to one worker.
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            if Path(file).name == _LAB:
                return f"{file} {any(f'[{name}]' in nodeid for name in _LAB_TOGETHER)}"
            return nodeid if Path(file).name == _CLONE else file

    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    """Mark what is slow, and choose the order.

    The study in a browser mostly waits, for pages and between answers. It comes while the jobs of `make figures`, which
    give way to it, use all cores. The tests of the clone come last, except for those that :func:`_start_with_the_clone`
    puts first.
    """
    for item in items:
        if _SLOW_FIXTURES & set(item.fixturenames) or item.originalname in SLOW:
            item.add_marker(pytest.mark.slow)
        if "clone" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(_CLONE_SECONDS))
    place = {**dict.fromkeys(_COMPUTES, 0), **dict.fromkeys(_STUDY_IN_A_BROWSER, 1), _CLONE: 3, _LAB: 4}
    items.sort(key=lambda item: place.get(item.path.name, 2))
    if _WORKERS > 1:
        _start_with_the_clone(items)


def _start_with_the_clone(items):
    """Let one worker wait for `make figures` while the others go on with everything else.

    The first test of the clone waits for `make figures`. pytest-xdist gives each worker one unit and a second one to
    a worker with at most two tests. The second unit of the worker that waits would wait, too, so it is another test of
    the clone.
    """
    clone = [item for item in items if item.path.name == _CLONE][:2]
    others = [item for item in items if item not in clone]
    files = list(dict.fromkeys(item.path for item in others))[: _WORKERS - 1]  # the first unit of each other worker
    early = [item for item in others if item.path in files]
    items[:] = [*clone[:1], *early, *clone[1:], *(item for item in others if item.path not in files)]


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Caches, runs and figures of the tests go to a temporary folder, never to the user's."""
    base = tmp_path_factory.mktemp("dped")
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in (("DPED_CACHE", "cache"), ("DPED_RUNS", "runs"), ("DPED_FIGURES", "figures")):
            patch.setenv(variable, str(base / folder))
        torch.set_num_threads(_THREADS)
        yield base


@pytest.fixture(scope="module")
def one_thread():
    """Sums of floats are the same from run to run only with the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs of the test's own."""
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with the public sources (DPED_MIRROR)."""
    named = os.environ.get("DPED_MIRROR")
    if not named:
        lacking("DPED_MIRROR is not set: it names a folder with the authors' public files, and this test needs them")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        lacking(f"DPED_MIRROR={named} is no folder: this test needs the authors' public files in one")
    return folder


@pytest.fixture(scope="session")
def reference(mirror: Path) -> Path:
    """The authors' own outputs (``reference`` beside the mirror): in development and CI only."""
    folder = mirror.parent / "reference"
    if not folder.is_dir():
        lacking(
            f"{folder} is not there: this test compares with outputs of the authors' own code, kept beside DPED_MIRROR"
        )
    return folder


@pytest.fixture(scope="session")
def load_reference(reference: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """``load_reference("losses.npz")``: every array of one file of the reference, by name."""

    def load(name: str) -> dict[str, np.ndarray]:
        file = reference / (name if name.endswith(".npz") else f"{name}.npz")
        if not file.is_file():
            lacking(f"{file} is not there: this test compares with outputs of the authors' own code")
        with np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the user may mount one (root, in most containers)."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
        )
    except OSError as error:
        lacking(f"needs mount: {error}")
    if mounted.returncode:
        lacking(f"needs a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """The committed state as a stranger has it after `make figures`: every network trained.

    The first test that asks makes it, which takes many minutes.
    """
    everybody = tmp_path_factory.getbasetemp()
    folder = (everybody.parent if _WORKERS > 1 else everybody) / "stranger"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            assert not folder.exists(), "`make figures` on a fresh clone has failed; the first test that asked says how"
            stranger.make_figures(folder)
            (folder / "made").touch()
    return folder / stranger.CLONE


# Of a module, not of the session: while it is open its event loop runs in this thread, where other tests run notebooks.
@pytest.fixture(scope="module")
def browser():
    """Headless Chromium. Where there is none the test is skipped; in CI it fails."""
    with browsing.opened() as chromium:
        yield chromium
