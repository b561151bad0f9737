"""What processes of test_figures.py run. They import this file, and not all that the tests there import."""

from collections.abc import Mapping

import pandas as pd

from dped_lib.report import figures


def save_tables(made: Mapping, process: int) -> None:
    """Save five tables, each with a name and a provenance of its own."""
    for i in range(5):
        name = f"table_{process}_{i}"
        figures.save_table(pd.DataFrame({"x": [1]}), name, {**made, "time": name}, "A table", {"x": 1})
