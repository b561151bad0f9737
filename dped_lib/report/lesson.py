"""Show the library's own source in a notebook. Show figures and tables, and save them at the same time."""

import inspect
import itertools
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure

import dped_lib
from dped_lib.report import figures, provenance


def show_source(*objects: Callable | type) -> Markdown:
    """Return the source of functions, methods or classes as Markdown. Sources of one file stand under its name.

    A notebook stores this output and nbval compares it, so the shown source is always that of the library.
    """
    parts = []
    for file, of_file in itertools.groupby(map(inspect.unwrap, objects), inspect.getsourcefile):
        name = Path(file).relative_to(Path(dped_lib.__file__).parents[1])
        sources = (textwrap.dedent(inspect.getsource(shown)).rstrip() for shown in of_file)
        code = "\n\n\n".join(sources)
        parts.append(f"`{name.as_posix()}`\n\n```python\n{code}\n```")
    return Markdown("\n\n".join(parts))


@dataclass(frozen=True)
class Record:
    """Save the figures and tables of a notebook while it shows them.

    Attributes:
        dataset, preset, seed: what the notebook was run with.
        facts: further parameters of every figure and table (``provenance.of_run``), for example ``phone``.
    """

    dataset: str
    preset: str
    seed: int = 0
    facts: Mapping[str, object] = field(default_factory=dict)

    def figure(
        self,
        fig: Figure,
        name: str,
        numbers: Mapping,
        photographs: bool = False,
        pixels: int | None = None,
        caption: str = "",
        **facts,
    ) -> None:
        """Save an open pyplot figure (``figures.save_figure``). Jupyter shows it at the end of the cell."""
        figures.save_figure(fig, name, self._origin(facts), numbers, photographs, pixels, caption)

    def table(
        self, frame: pd.DataFrame, name: str, title: str, numbers: Mapping, notes: str = "", show: bool = True, **facts
    ) -> None:
        """Save a table (``figures.save_table``) and show it with its title and its notes.

        ``show=False`` only saves it, for numbers that depend on the machine and that a figure draws.
        """
        figures.save_table(frame, name, self._origin(facts), title, numbers, notes)
        if not show:
            return
        parts = f"**{title}**", figures.to_markdown(frame), notes
        display(Markdown("\n\n".join(filter(None, parts))))

    def _origin(self, facts: Mapping) -> dict:
        return provenance.of_run(self.dataset, self.preset, self.seed, **{**self.facts, **facts})
