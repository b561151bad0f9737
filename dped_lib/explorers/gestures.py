"""Let the pictures of an explorer be dragged, zoomed and moved with the mouse, a finger or the keyboard.

The page cannot call the kernel, but a text field reports its value to it. A hidden HTML widget therefore contains a
script that writes each gesture into a hidden field, as JSON. The field holds totals since the page was opened, so
nothing is lost if the page merges two messages. The field's placeholder tells the script which gestures the explorer
takes (:class:`Uses`). The page keeps all others: it scrolls, for example. If a page runs no scripts, the explorer's
controls still work.
"""

import html
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import ipywidgets

#: Keys of :class:`Uses`: left and right make steps, and 0 resets.
STEPS = MappingProxyType({"ArrowLeft": ("step", -1), "ArrowRight": ("step", 1), "0": ("reset", 1)})
_SCRIPT = """
(function (style) {
  const root = style.closest('.dped-gestures-root');
  if (!root || root.dataset.gestures) return;
  root.dataset.gestures = 'on';
  const on = e => e.target.classList && e.target.classList.contains('dped-picture');
  const uses = () => {
    const field = root.querySelector('.dped-gestures input');
    return {keys: {}, ...JSON.parse(field && field.placeholder || '{}')};
  };
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
  let start = null, last = null, pressed = null, told = false, turned = 0;
  const drag = e => {
    const [x, y] = place(e);
    if (e.shiftKey && uses().zooms) say((s, add) => { add('across', last[0] - x); add('down', last[1] - y); });
    else say((s, add) => {
      if (!told) { add('strokes', 1); [s.start_x, s.start_y] = start; }
      told = true;
      [s.split, s.level] = [x, y];
    });
    last = [x, y];
  };
  root.addEventListener('pointerdown', e => {
    if (!on(e) || e.button) return;
    e.target.focus({preventScroll: true});
    if (!uses().cursor) return;
    e.preventDefault();
    e.target.setPointerCapture(e.pointerId);
    start = last = place(e);
    [pressed, told] = [e, false];
    if (e.pointerType !== 'touch') drag(e);
  });
  // A finger that moves up or down scrolls the page. One that moves sideways, or only taps, drags the picture.
  const scrolls = e => e.pointerType === 'touch' && !told
    && Math.abs(e.clientX - pressed.clientX) <= Math.abs(e.clientY - pressed.clientY);
  root.addEventListener('pointermove', e => { if (last && on(e) && !scrolls(e)) drag(e); });
  root.addEventListener('pointerup', e => {
    if (last && !told && on(e) && e.pointerType === 'touch') drag(e);
    last = null;
  });
  root.addEventListener('pointercancel', () => { last = null; });
  root.addEventListener('dblclick', e => { if (on(e)) say((s, add) => add('reset', 1)); });
  root.addEventListener('wheel', e => {
    if (!on(e) || !uses().zooms || e.ctrlKey || (e.deltaY > 0 && !root.classList.contains('dped-zoomed'))) return;
    e.preventDefault();
    turned += e.deltaMode ? 50 * Math.sign(e.deltaY) : e.deltaY;
    const notches = Math.trunc(turned / 50);
    turned -= 50 * notches;
    const [x, y] = place(e);
    if (notches) say((s, add) => { s.x = x; s.y = y; add('zoom', -Math.max(-2, Math.min(2, notches))); });
  }, {passive: false});
  root.addEventListener('keydown', e => {
    if (!on(e) || e.ctrlKey || e.metaKey || e.altKey) return;
    const keys = uses().keys, means = (e.shiftKey && keys['Shift+' + e.key]) || keys[e.key];
    if (!means) return;
    say((s, add) => {
      if (means[0] === 'zoom') s.x = s.y = 0.5;
      add(...means);
    });
    e.preventDefault();
    e.stopPropagation();
  });
  // JupyterLab takes the arrow keys before the picture does, unless this attribute is set. It keeps Ctrl + S.
  const own = e => {
    if (!root.isConnected) window.removeEventListener('keydown', own, true);
    else if (on(e) && root.contains(e.target))
      e.target.toggleAttribute('data-lm-suppress-shortcuts', !(e.ctrlKey || e.metaKey || e.altKey));
  };
  window.addEventListener('keydown', own, true);
  const prepare = () => {
    const {cursor, keys} = uses();
    for (const picture of root.querySelectorAll('.dped-picture')) {
      picture.tabIndex = Object.keys(keys).length ? 0 : -1;
      picture.draggable = false;
      picture.style.cursor = cursor || '';
      picture.style.touchAction = 'pan-y';
    }
  };
  // The page makes pictures later than it runs this script. An explorer may also make others, or take other gestures.
  const changes = {childList: true, subtree: true, attributeFilter: ['class', 'placeholder']};
  new MutationObserver(prepare).observe(root, changes);
  prepare();
})(this)
"""


@dataclass(frozen=True)
class Uses:
    """Describe the gestures that an explorer takes.

    Attributes:
        help: what a reader can do, for the page.
        keys: key -> the number of a :class:`Gesture` that it changes ("step", ...), and by how much. Keys have the names
            that they have in a page's events. "Shift+" may stand in front.
        cursor: the CSS cursor over a picture that can be dragged. Empty: it cannot be dragged.
        zooms: whether the wheel zooms a picture, and dragging it with shift moves it.
    """

    help: str = ""
    keys: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    cursor: str = ""
    zooms: bool = False


@dataclass(frozen=True)
class Drag:
    """Hold where a picture is dragged to. A click is a drag that ends where it begins.

    Attributes:
        x, y: place of the pointer, as shares of the picture's width and height.
        start: place where this drag began: x, y.
        begun: whether it began since the last report.
    """

    x: float
    y: float
    start: tuple[float, float]
    begun: bool


@dataclass(frozen=True)
class Gesture:
    """Hold what the user did to a picture since the last report.

    Attributes:
        drag: where the picture was dragged; None if it was not.
        step: number of steps to the right, by the keys.
        rise: number of steps upwards, by the keys.
        zoom: number of notches by which the wheel or the keys zoomed in.
        at: place of the pointer when the wheel turned, as shares of the picture's width and height.
        across, down: movement of the picture, as shares of its width and height.
        reset: whether to return to the start.
    """

    drag: Drag | None
    step: float
    rise: float
    zoom: float
    at: tuple[float, float]
    across: float
    down: float
    reset: bool


def attach(widget: ipywidgets.Box, uses: Uses, report: Callable[[Gesture], None]) -> ipywidgets.Text:
    """Let the pictures of a box report gestures (:func:`listen` prepares them). Return the hidden field for the reports.

    Args:
        widget: the box. If it has the class ``dped-zoomed``, the wheel also zooms out. Otherwise turning the wheel in
            that direction scrolls the page.
        uses: the gestures that the explorer takes. :func:`take` changes them.
        report: is called with each gesture.
    """
    hidden_field = ipywidgets.Text(layout=ipywidgets.Layout(display="none"))
    hidden_field.add_class("dped-gestures")
    take(hidden_field, uses)
    widget.add_class("dped-gestures-root")
    # The page does not run a <script> of a widget, but it fires the load event of a <style>.
    script = ipywidgets.HTML(f'<style onload="{html.escape(_SCRIPT)}">.dped-none{{}}</style>')
    script.layout = ipywidgets.Layout(height="0", margin="0", overflow="hidden")
    seen: dict[str, float] = {}

    def read(change) -> None:
        said = _totals(change["new"])
        if said is None:
            return
        names = ("step", "rise", "zoom", "across", "down", "reset")
        more = {k: said.get(k, 0.0) - seen.get(k, 0.0) for k in names}
        drag = _drag(said, seen)
        seen.clear()
        seen.update(said)
        reset = more.pop("reset") > 0
        report(Gesture(drag=drag, at=(said.get("x", 0.5), said.get("y", 0.5)), reset=reset, **more))

    hidden_field.observe(read, "value")
    widget.children = (*widget.children, hidden_field, script)
    return hidden_field


def take(hidden_field: ipywidgets.Text, uses: Uses) -> None:
    """Change the gestures that an explorer takes. ``hidden_field`` is the field that :func:`attach` returned."""
    hidden_field.placeholder = json.dumps({"keys": dict(uses.keys), "cursor": uses.cursor, "zooms": uses.zooms})


def listen(picture: ipywidgets.Image) -> ipywidgets.Image:
    """Let a picture report gestures to the box around it (:func:`attach`), and return it."""
    return picture.add_class("dped-picture")


def _drag(said: Mapping[str, float], seen: Mapping[str, float]) -> Drag | None:
    """Return the drag in a report, or None if nothing was dragged since the report before."""
    if "split" not in said or all(said.get(k) == seen.get(k) for k in ("split", "level", "strokes")):
        return None
    x, y = said["split"], said.get("level", 0.5)
    start = said.get("start_x", x), said.get("start_y", y)
    return Drag(x, y, start, said.get("strokes") != seen.get("strokes"))


def _totals(text: str) -> dict[str, float] | None:
    """Return the numbers of a report, or None if it is damaged."""
    try:
        said = {str(k): float(v) for k, v in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return None
    return said if all(map(math.isfinite, said.values())) else None
