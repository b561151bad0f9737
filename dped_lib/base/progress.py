"""Show progress: as a widget in JupyterLab, as text in a terminal, and in few lines in the log of a headless run."""

import os
from collections.abc import Iterable

import tqdm as text
import tqdm.auto as auto

#: Variable of the environment that marks a headless run. ``notebook_runner`` sets it for the kernels that it starts.
HEADLESS = "DPED_HEADLESS"


def bar(
    iterable: Iterable | None = None,
    *,
    label: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    brief: bool = False,
    percent: bool = False,
):
    """Return a tqdm bar.

    Args:
        iterable: what the bar iterates over. None: the caller updates the bar.
        label: the text in front of the bar.
        unit: what is counted.
        total: number of units. None: the length of ``iterable``.
        initial: number of units that are done already.
        brief: whether the work takes only seconds. Such a bar disappears at the end, and a headless run shows none.
        percent: whether to show per cent and time alone, for units that tell a user nothing.
    """
    label = "".join(c if c.isprintable() else "?" for c in label)  # a file name may have a line break
    options = {"desc": label, "unit": unit, "total": total, "initial": initial}
    if percent:
        options["bar_format"] = "{desc}: {percentage:3.0f} % |{bar}| [{elapsed}<{remaining}]"
    if os.environ.get(HEADLESS):
        return text.tqdm(iterable, **options, disable=brief, mininterval=30)
    return auto.tqdm(iterable, **options, leave=not brief, mininterval=0.5)
