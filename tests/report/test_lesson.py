"""What a notebook shows: sources that are the library's own, and results that are saved as they are shown."""

import ast
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from dped_lib import losses, models
from dped_lib.base import paths
from dped_lib.report import lesson

NOTEBOOKS = sorted(paths.notebooks_dir().glob("*.ipynb"))


def quotations(notebook: Path) -> list[tuple[dict, str]]:
    """Return the cells of a notebook that quote the library, each with what ``show_source`` shows now."""
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    trees = [ast.parse("".join(c["source"]).replace("%matplotlib", "#")) for c in cells]
    origins = {
        alias.asname or alias.name: ast.unparse(ast.ImportFrom(node.module, [alias], 0))
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    quoted = []
    for cell, tree in zip(cells, trees, strict=True):
        for call in (c for c in ast.walk(tree) if isinstance(c, ast.Call) and ast.unparse(c.func) == "show_source"):
            names = {}
            for name in (n.id for n in ast.walk(call) if isinstance(n, ast.Name)):
                exec(origins[name], names)
            quoted.append((cell, eval(ast.unparse(call), names).data))
    return quoted


def test_source_is_the_librarys_own_text():
    shown = lesson.show_source(losses.tv_loss, models.ResidualBlock).data
    text = Path(losses.__file__).read_text()
    body = shown.split("```python\n")[1].split("\n```")[0]
    assert body.startswith("def tv_loss(") and body in text
    assert "`dped_lib/losses.py`" in shown and "`dped_lib/models.py`" in shown and "class ResidualBlock" in shown


def test_a_file_is_named_where_it_differs_from_the_one_before():
    shown = lesson.show_source(losses.tv_loss, losses.mse_loss, models.Generator, losses.tv_loss).data
    names = [line for line in shown.splitlines() if line.startswith("`dped_lib")]
    assert names == ["`dped_lib/losses.py`", "`dped_lib/models.py`", "`dped_lib/losses.py`"]
    assert shown.count("```python") == 3, "two functions of one file stand in one block"


def test_a_method_is_shown_without_its_indentation():
    shown = lesson.show_source(models.ResidualBlock.forward).data
    assert "\n```python\ndef forward(" in shown


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda f: f.stem)
def test_no_quoted_line_is_too_long_for_the_screen(notebook):
    """JupyterLab on a laptop (1366 px) breaks an output's lines after 101 characters, in the middle of a word."""
    quoted = quotations(notebook)
    assert quoted or notebook.stem == "00_start"
    long = [f"cell {cell['id']}: {line}" for cell, text in quoted for line in text.splitlines() if len(line) > 100]
    assert not long, f"{notebook.name}: wrap these lines in the library at 100 characters:\n" + "\n".join(long)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda f: f.stem)
def test_a_notebook_stores_the_source_that_the_library_has(notebook):
    """nbval compares this, too, but only when it runs the notebook."""
    stale = []
    for cell, text in quotations(notebook):
        stored = ["".join(o.get("data", {}).get("text/markdown", ())) for o in cell["outputs"]]
        stale += [] if text in stored else [cell["id"]]
    assert not stale, f"{notebook.name}: the library's source has changed since cells {stale}: run the notebook again"


def test_record_saves_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    record = lesson.Record("rig", "smoke", 3, {"phone": "iphone"})
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    record.figure(fig, "fig99_line", {"y": [1, 2]}, n="2 points")
    record.figure(fig, "fig99_wide", {"y": [1, 2]}, photographs=True, pixels=1500)
    record.figure(fig, "fig99_diagram", {}, caption="any dataset")
    assert fig.get_supxlabel() == "any dataset"
    record.table(pd.DataFrame({"a": [1.5]}), "numbers", "Numbers", {"a": [1.5]}, "One number.")
    folder = tmp_path / "rig-smoke"
    saved = json.loads((folder / "fig99_line.json").read_text())
    assert saved["parameters"] == {"dataset": "rig", "preset": "smoke", "seed": 3, "phone": "iphone", "n": "2 points"}
    assert (folder / "fig99_line.png").is_file() and "One number." in (folder / "numbers.md").read_text()
    with Image.open(folder / "fig99_wide.jpg") as wide:
        assert wide.width == 1500
    for name in ("fig99_wide", "fig99_diagram"):
        parameters = json.loads((folder / f"{name}.json").read_text())["parameters"]
        assert parameters.keys() == {"dataset", "preset", "seed", "phone"}
    plt.close("all")


def test_a_table_has_its_title_and_breaks_no_interval(tmp_path, monkeypatch):
    """A line may end between words, and never within a value with its interval. The CSV file has plain spaces."""
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    shown = []
    monkeypatch.setattr(lesson, "display", lambda markdown: shown.append(markdown.data))
    frame = pd.DataFrame(
        {
            "method": ["Dong et al."],
            "PSNR (dB)": ["25.61 [23.58, 29.05]"],
            "Wilson": ["[0.13, 0.20]"],
            "rise": ["+0.8 [-0.1, +1.7]"],
        }
    )
    lesson.Record("rig", "smoke").table(frame, "scores", "Table 2", {}, "Value [95 % interval].")
    (text,) = shown
    assert text.startswith("**Table 2**\n\n|") and text.endswith("\n\nValue [95 % interval].")
    values = [cell.strip(" ") for cell in text.splitlines()[-3].strip("|").split("|")]
    assert values == [v.replace(" ", "\N{NO-BREAK SPACE}") if "[" in v else v for v in frame.iloc[0]]
    folder = tmp_path / "rig-smoke"
    assert "25.61 [23.58, 29.05]" in (folder / "scores.csv").read_text()
    assert "25.61\N{NO-BREAK SPACE}[23.58,\N{NO-BREAK SPACE}29.05]" in (folder / "scores.md").read_text()


def test_a_table_may_be_saved_without_being_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    record = lesson.Record("rig", "smoke")
    record.table(pd.DataFrame({"a": [1.5]}), "hidden", "Hidden", {"a": [1.5]}, show=False)
    assert not capsys.readouterr().out
    record.table(pd.DataFrame({"a": [1.5]}), "shown", "Shown", {"a": [1.5]})
    assert capsys.readouterr().out
    assert (tmp_path / "rig-smoke" / "hidden.md").is_file()
