"""Save figures and tables. Processes of test_provenance.py import this small file in place of that test's own imports."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd

from dped_lib.report import figures

PARAMETERS = {"dataset": "rig", "preset": "smoke", "seed": 3}
MADE = {**PARAMETERS, "commit": "abc", "versions": {"torch": "2"}}


def save(made, name="fig99_test", photographs=False, values=(1, 2)):
    """Save a figure of one line. Return its path."""
    fig, axes = plt.subplots()
    axes.plot(values)
    file = figures.save_figure(fig, name, made, {"values": list(values)}, photographs)
    plt.close(fig)
    return file


def save_tables(made: Mapping, process: int) -> None:
    """Save five tables, each with a name and a provenance of its own."""
    for i in range(5):
        name = f"table_{process}_{i}"
        figures.save_table(pd.DataFrame({"x": [1]}), name, {**made, "time": name}, "A table", {"x": 1})
