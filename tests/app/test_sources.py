"""The library files that a notebook or module depends on."""

import pytest

from dped_lib.app import sources
from dped_lib.base import paths

ROOT = paths.project_root()


def names(files) -> set[str]:
    return {str(f.relative_to(ROOT / "dped_lib")) for f in files}


def test_a_notebook_depends_on_what_it_imports_directly_or_not():
    limitations = names(sources.of_notebook(ROOT / "notebooks" / "07_limitations.ipynb"))
    assert {"experiments/limitations.py", "enhance/enhancement.py", "report/figures.py", "__init__.py"} <= limitations
    assert {"experiments/appearance.py", "models.py", "base/paths.py", "data/registry.txt"} <= limitations, (
        "not directly"
    )
    assert not {"explorers/enhancer.py", "user_study/analysis.py", "experiments/claims.py", "app/cli.py"} & limitations


def test_a_training_depends_on_no_alignment_explorer_report_notebook_or_command():
    training = names(sources.of_modules("dped_lib.training"))
    assert {
        "losses.py",
        "models.py",
        "metrics.py",
        "vgg.py",
        "training.py",
        "data/batches.py",
        "data/pair_store.py",
    } <= training
    assert "data/builder.py" not in training, "pairs are made by a job of their own"
    assert "data/builder.py" in names(sources.of_modules("dped_lib.data.opening"))
    assert {name for name in training if name.startswith("enhance/")} == {
        "enhance/__init__.py",
        "enhance/evaluation.py",
    }
    assert not {name.split("/")[0] for name in training} & {
        "alignment",
        "app",
        "explorers",
        "report",
        "experiments",
        "user_study",
    }


@pytest.mark.parametrize("module", ["discriminators", "ablation"])
def test_an_experiment_that_trains_depends_on_no_drawing(module):
    """A changed colour or label trains nothing anew."""
    assert not [n for n in names(sources.of_modules(f"dped_lib.experiments.{module}")) if n.startswith("report/")]


def test_imports_are_found_wherever_they_stand(tmp_path):
    package = tmp_path / "dped_lib"
    files = {
        "__init__.py": "",
        "room/__init__.py": "",
        "room/first.py": "from typing import TYPE_CHECKING\nimport numpy\nif TYPE_CHECKING:\n    from dped_lib.room import typed\n"
        "def f():\n    if True:\n        from dped_lib.room.second import g\n    return 'table.txt'",
        "room/second.py": "import dped_lib.room.third as t\nfrom dped_lib.room import first  # a cycle",
        "room/third.py": "CONSTANT = 1",
        "room/typed.py": "",
        "room/other.py": "",
        "room/table.txt": "",
        "room/unread.txt": "",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    read = {str(f.relative_to(package)) for f in sources.of_modules("dped_lib.room.first", package=package)}
    assert read == files.keys() - {"room/typed.py", "room/other.py", "room/unread.txt"}
