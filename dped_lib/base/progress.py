"""Progress bars: widgets in JupyterLab, text in a terminal, sparse lines in the log of a headless run."""

import os
from collections.abc import Iterable

import tqdm as text
import tqdm.auto as auto

#: Set by ``reproduce`` for the kernels it starts: nobody watches, and what is printed is kept in the notebook.
HEADLESS = "DPED_HEADLESS"


def bar(
    iterable: Iterable | None = None,
    *,
    label: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    brief: bool = False,
):
    """A tqdm bar.

    Args:
        brief: work of seconds; its bar disappears when done, and is not shown at all in a headless run.
    """
    if os.environ.get(HEADLESS):
        return text.tqdm(iterable, desc=label, unit=unit, total=total, initial=initial, disable=brief, mininterval=30)
    return auto.tqdm(iterable, desc=label, unit=unit, total=total, initial=initial, leave=not brief, mininterval=0.5)
