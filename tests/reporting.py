"""Report gestures to an explorer as a page does."""

import json


def gesture(explorer, **said) -> None:
    """Report gestures as the page does: totals of all that was done so far."""
    totals = json.loads(explorer.gestures.value or "{}")
    placed = {k: said.pop(k) for k in ("split", "level", "start_x", "start_y", "x", "y") if k in said}
    totals |= placed | {k: totals.get(k, 0) + v for k, v in said.items()}
    explorer.gestures.value = json.dumps(totals)


def drag(explorer, *places: tuple[float, float]) -> None:
    """Press on a picture at the first place, and drag to the others: shares of its width and height."""
    (x, y), *_ = places
    for number, (to_x, to_y) in enumerate(places):
        gesture(explorer, strokes=not number, start_x=x, start_y=y, split=to_x, level=to_y)


def damaged(explorer) -> None:
    """Make reports that cannot be read."""
    for text in ("{", "[1]", '{"step": "x"}', '{"split": NaN, "strokes": 99}', '{"step": Infinity}', "3", ""):
        explorer.gestures.value = text


def taken(explorer) -> dict:
    """Return what the page is told to report."""
    return json.loads(explorer.gestures.placeholder)
