"""Let a picture of an explorer be dragged, zoomed and moved with the mouse, a finger or the keyboard.

The page cannot call the kernel, but a text field reports its value to it. A hidden HTML widget therefore contains a
script that writes each gesture into a hidden field, as JSON. The field holds totals since the page was opened, so
nothing is lost if the page merges two messages. If a page runs no scripts, the sliders do the same.
"""

import html
import json
from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets

#: What a reader can do, for the page.
HELP = (
    "On the picture: drag the line; turn the wheel to zoom; hold shift and drag to move; double-click to reset. "
    "Keys: left and right move the line, up and down (with shift also left and right) move the picture, + and - zoom, "
    "0 resets."
)
_SCRIPT = """
(function (style) {
  const root = style.closest('.dped-gestures-root');
  if (!root || root.dataset.gestures) return;
  root.dataset.gestures = 'on';
  const on = e => e.target.classList && e.target.classList.contains('dped-picture');
  const say = change => {
    const field = root.querySelector('.dped-gestures input');
    const said = JSON.parse(field.value || '{}');
    change(said, (key, more) => { said[key] = (said[key] || 0) + more; });
    field.value = JSON.stringify(said);
    field.dispatchEvent(new Event('input', {bubbles: true}));
    field.dispatchEvent(new Event('change', {bubbles: true}));
  };
  const place = e => {
    const box = e.target.getBoundingClientRect();
    const share = (at, from, length) => Math.min(1, Math.max(0, (at - from) / length));
    return [share(e.clientX, box.left, box.width), share(e.clientY, box.top, box.height)];
  };
  let last = null, turned = 0;
  const drag = e => {
    const [x, y] = place(e);
    if (e.shiftKey) say((s, add) => { add('across', last[0] - x); add('down', last[1] - y); });
    else say(s => { s.split = x; });
    last = [x, y];
  };
  root.addEventListener('pointerdown', e => {
    if (!on(e) || e.button) return;
    e.preventDefault();
    e.target.focus({preventScroll: true});
    e.target.setPointerCapture(e.pointerId);
    last = place(e);
    drag(e);
  });
  root.addEventListener('pointermove', e => { if (last && on(e)) drag(e); });
  for (const end of ['pointerup', 'pointercancel']) root.addEventListener(end, () => { last = null; });
  root.addEventListener('dblclick', e => { if (on(e)) say((s, add) => add('reset', 1)); });
  root.addEventListener('wheel', e => {
    if (!on(e) || e.ctrlKey || (e.deltaY > 0 && !root.classList.contains('dped-zoomed'))) return;
    e.preventDefault();
    turned += e.deltaMode ? 50 * Math.sign(e.deltaY) : e.deltaY;
    const notches = Math.trunc(turned / 50);
    turned -= 50 * notches;
    const [x, y] = place(e);
    if (notches) say((s, add) => { s.x = x; s.y = y; add('zoom', -Math.max(-2, Math.min(2, notches))); });
  }, {passive: false});
  root.addEventListener('keydown', e => {
    if (!on(e) || e.ctrlKey || e.metaKey || e.altKey) return;
    const side = {ArrowLeft: -1, ArrowRight: 1}[e.key], up = {ArrowUp: -1, ArrowDown: 1}[e.key];
    const zoom = {'+': 1, '=': 1, '-': -1}[e.key];
    if (side && e.shiftKey) say((s, add) => add('across', side / 10));
    else if (side) say((s, add) => add('step', side));
    else if (up) say((s, add) => add('down', up / 10));
    else if (zoom) say((s, add) => { s.x = s.y = 0.5; add('zoom', zoom); });
    else if (e.key === '0') say((s, add) => add('reset', 1));
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  const ready = tries => {
    const picture = root.querySelector('.dped-picture');
    if (!picture) { if (tries) setTimeout(ready, 100, tries - 1); return; }
    picture.tabIndex = 0;
    picture.draggable = false;
    picture.style.cursor = 'ew-resize';
    picture.style.touchAction = 'pan-y';
    picture.dataset.lmSuppressShortcuts = 'true';  // else JupyterLab takes the arrow keys
  };
  ready(100);
})(this)
"""


@dataclass(frozen=True)
class Gesture:
    """Hold what the user did to a picture since the last report.

    Attributes:
        split: place to which the line was dragged, as a share of the picture's width; None if it was not dragged.
        step: number of steps by which the keys moved the line to the right.
        zoom: number of notches by which the wheel or the keys zoomed in.
        at: place of the pointer when the wheel turned, as shares of the picture's width and height.
        across, down: movement of the picture, as shares of its width and height.
        reset: whether to return to the whole picture.
    """

    split: float | None
    step: float
    zoom: float
    at: tuple[float, float]
    across: float
    down: float
    reset: bool


def attach(
    widget: ipywidgets.Box, picture: ipywidgets.Image, report: Callable[[Gesture], None]
) -> tuple[ipywidgets.Text, ipywidgets.HTML]:
    """Add gestures to a picture inside a box, and return the two hidden widgets that were added to the box.

    Args:
        widget: the box, which holds nothing else that can be dragged. If it has the class ``dped-zoomed``, the wheel also
            zooms out. Otherwise turning the wheel in that direction scrolls the page.
        picture: the picture.
        report: is called with each gesture.
    """
    field = ipywidgets.Text(layout=ipywidgets.Layout(display="none"))
    field.add_class("dped-gestures")
    picture.add_class("dped-picture")
    widget.add_class("dped-gestures-root")
    # The page does not run a <script> of a widget, but it fires the load event of a <style>.
    script = ipywidgets.HTML(f'<style onload="{html.escape(_SCRIPT)}">.dped-none{{}}</style>')
    script.layout = ipywidgets.Layout(height="0", margin="0", overflow="hidden")
    seen: dict[str, float] = {}

    def read(change) -> None:
        said = _totals(change["new"])
        if said is None:
            return
        more = {k: said.get(k, 0.0) - seen.get(k, 0.0) for k in ("step", "zoom", "across", "down", "reset")}
        split = said["split"] if said.get("split") != seen.get("split") else None
        seen.clear()
        seen.update(said)
        at = said.get("x", 0.5), said.get("y", 0.5)
        report(Gesture(split, more["step"], more["zoom"], at, more["across"], more["down"], more["reset"] > 0))

    field.observe(read, "value")
    widget.children = (*widget.children, field, script)
    return field, script


def _totals(text: str) -> dict[str, float] | None:
    """Return the numbers of a report, or None if it is damaged."""
    try:
        return {str(k): float(v) for k, v in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return None
