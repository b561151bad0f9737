"""What a notebook shows: sources that are the library's own, and results that are saved as they are shown."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image

from dped_lib import losses, models
from dped_lib.report import lesson


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
    assert shown.count("```python") == 4


def test_a_method_is_shown_without_its_indentation():
    shown = lesson.show_source(models.ResidualBlock.forward).data
    assert "\n```python\ndef forward(" in shown


def test_record_saves_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    record = lesson.Record("rig", "smoke", 3, {"phone": "iphone"})
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    record.figure(fig, "fig99_line", {"y": [1, 2]}, n="2 points")
    record.figure(fig, "fig99_wide", {"y": [1, 2]}, photographs=True, pixels=1500)
    record.table(pd.DataFrame({"a": [1.5]}), "numbers", "Numbers", {"a": [1.5]}, "One number.")
    folder = tmp_path / "rig-smoke"
    saved = json.loads((folder / "fig99_line.json").read_text())
    assert saved["parameters"] == {"dataset": "rig", "preset": "smoke", "seed": 3, "phone": "iphone", "n": "2 points"}
    assert (folder / "fig99_line.png").is_file() and "One number." in (folder / "numbers.md").read_text()
    with Image.open(folder / "fig99_wide.jpg") as wide:
        assert wide.width == 1500
    assert "pixels" not in json.loads((folder / "fig99_wide.json").read_text())["parameters"]
    plt.close("all")


def test_a_table_may_be_saved_without_being_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DPED_FIGURES", str(tmp_path))
    record = lesson.Record("rig", "smoke")
    record.table(pd.DataFrame({"a": [1.5]}), "hidden", "Hidden", {"a": [1.5]}, show=False)
    assert not capsys.readouterr().out
    record.table(pd.DataFrame({"a": [1.5]}), "shown", "Shown", {"a": [1.5]})
    assert capsys.readouterr().out
    assert (tmp_path / "rig-smoke" / "hidden.md").is_file()
