"""A scripted newcomer opens each notebook with a live widget in JupyterLab, runs it, and drags what can be dragged.

The clone's `make figures` has executed all of them at preset cpu. The user study's notebook is answered in
``test_browser``.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import browsing
import nbformat
import pytest
from browsing import PATIENCE, Lab
from filelock import FileLock
from playwright.sync_api import Locator, expect

from dped_lib.base import paths


@pytest.fixture(scope="module")
def lab_of_the_clone(clone, tmp_path_factory):
    log = tmp_path_factory.mktemp("lab") / "lab.log"
    cache = {"DPED_CACHE": str(clone.parent / "cache"), "DPED_MIRROR": "", "DPED_RUNS": "", "DPED_FIGURES": ""}
    with browsing.jupyterlab(clone / "notebooks", log, str(clone / ".venv" / "bin" / "python"), **cache) as address:
        yield address


def widget(lab: Lab, kind: str) -> Locator:
    explorer = lab.page.locator(kind).first
    explorer.scroll_into_view_if_needed()
    return explorer


def slide(lab: Lab, kind: str, label: str, share: float, *, words: bool = True) -> None:
    """Drags a slider of a widget; its picture and, where ``words``, its numbers become others."""
    explorer = widget(lab, kind)
    numbers = explorer.inner_text()
    browsing.drag_to_another(lab, kind, explorer.locator(".widget-slider", has_text=label).first, share)
    if words:
        expect(explorer).not_to_have_text(numbers, timeout=PATIENCE, use_inner_text=True)


def pull(lab: Lab, picture: Locator, *places: tuple[float, float]) -> None:
    """Presses the mouse on a picture at the first place (shares of width and height), and drags it to the others."""
    points, mouse = on_page(picture, places), lab.page.mouse
    mouse.move(*points[0])
    mouse.down()
    for point in points[1:]:
        mouse.move(*point, steps=4)
    mouse.up()


def touch(lab: Lab, picture: Locator, *places: tuple[float, float]) -> None:
    """Puts a finger on a picture at the first place, and moves it over the others."""
    browser = lab.page.context.new_cdp_session(lab.page)
    for number, (x, y) in enumerate(on_page(picture, places)):
        kind = "touchMove" if number else "touchStart"
        browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        lab.page.wait_for_timeout(50)
    browser.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def on_page(picture: Locator, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns places of a picture (shares of its width and height) as pixels of the page."""
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]


def expect_change(lab: Lab, kind: str, act, words: str | None = None) -> None:
    """Calls ``act``, and waits until the text of a widget has changed and contains ``words``."""
    explorer = lab.page.locator(kind).first
    before = explorer.inner_text()
    act()
    expect(explorer).not_to_have_text(before, timeout=PATIENCE, use_inner_text=True)
    if words:
        expect(explorer).to_contain_text(words, timeout=PATIENCE)


def choose_windows(lab: Lab) -> None:
    """Chooses windows on the DSLR's image, and with the keys."""
    explorer, picture = widget(lab, ".dped-alignment"), lab.page.locator(".dped-alignment .dped-picture").first
    number = explorer.locator(".widget-readout").first
    first = number.inner_text()
    pull(lab, picture, (0.25, 0.5), (0.01, 0.02))
    expect(number).to_have_text("0", timeout=PATIENCE)
    lab.page.keyboard.press("ArrowRight")
    expect(number).to_have_text("1", timeout=PATIENCE)
    picture.dblclick()
    expect(number).to_have_text(first, timeout=PATIENCE)


def draw_a_line(lab: Lab) -> None:
    """Draws a line between the aligned images, and shows them in turns with the keys."""
    kind = ".dped-alignment"
    picture = lab.page.locator(f"{kind} .dped-picture").first
    expect_change(lab, kind, lambda: pull(lab, picture, (0.5, 0.5), (0.3, 0.5)), "phone left of the line")
    expect_change(lab, kind, lambda: lab.page.keyboard.press("ArrowLeft"), "Shown: in squares.")
    expect_change(lab, kind, picture.dblclick, "Shown: phone.")


def explore_alignment(lab: Lab) -> None:
    kind = ".dped-alignment"
    expect(widget(lab, kind)).to_contain_text("matches. Blue", timeout=PATIENCE)
    slide(lab, kind, "matches drawn", 0.9, words=True)
    for view, words in (("overlap", "intersection"), ("blink", "median NCC"), ("patch", "NCC in place")):
        before = lab.source(kind)
        widget(lab, kind).get_by_role("button", name=view).click()
        expect(widget(lab, kind)).to_contain_text(words, timeout=PATIENCE)
        browsing.changed(lab, kind, before)
    choose_windows(lab)
    slide(lab, kind, "patch", 0.1)
    widget(lab, kind).get_by_role("button", name="blink").click()
    expect(widget(lab, kind)).to_contain_text("Shown: phone.", timeout=PATIENCE)
    draw_a_line(lab)
    before = lab.source(kind)
    widget(lab, kind).locator(".widget-play button").first.click()
    browsing.changed(lab, kind, before)


def explore_color(lab: Lab) -> None:
    kind = ".dped-color-loss"
    slide(lab, kind, "shift", 0.6)
    slide(lab, kind, "sigma", 0.2)
    expect(widget(lab, kind)).to_contain_text("colour loss (sigma")
    picture = widget(lab, kind).locator(".dped-picture")
    expect_change(lab, kind, picture.dblclick, "Shift 3 px")
    expect_change(lab, kind, lambda: pull(lab, picture, (0.5, 0.5), (0.55, 0.5)), "Shift 9 px: MSE")
    expect_change(lab, kind, lambda: lab.page.keyboard.press("ArrowLeft"), "Shift 8.5 px")
    expect_change(lab, kind, lambda: lab.page.keyboard.press("ArrowUp"), "colour loss (sigma 4.44 px)")
    top = picture.bounding_box()["y"]
    lab.page.mouse.wheel(0, 40)
    lab.page.wait_for_timeout(1000)
    assert picture.bounding_box()["y"] < top, "the wheel scrolls the page"
    expect_change(lab, kind, picture.dblclick, "Shift 3 px")


def explore_loss(lab: Lab) -> None:
    kind = ".dped-loss-terms"
    slide(lab, kind, "patch", 0.7)
    explorer, pictures = widget(lab, kind), lab.page.locator(f"{kind} .dped-picture")
    expect_change(lab, kind, lambda: pull(lab, pictures.nth(1), (0.9, 0.1), (0.305, 0.605)), "Marked: pixel (30, 60)")
    expect(explorer.get_by_text("here: ")).to_have_count(pictures.count(), timeout=PATIENCE)
    top = pictures.first.bounding_box()["y"]
    touch(lab, pictures.first, *((0.5, 0.9 - 0.1 * n) for n in range(8)))
    lab.page.wait_for_timeout(1000)
    assert pictures.first.bounding_box()["y"] < top, "a finger that moves up scrolls the page"
    expect(explorer).to_contain_text("Marked: pixel (30, 60)")
    expect_change(lab, kind, lambda: touch(lab, pictures.first, (0.755, 0.505)), "Marked: pixel (75, 50)")
    patch = explorer.locator(".widget-readout").first
    number = int(patch.inner_text())
    lab.page.keyboard.press("ArrowLeft")
    expect(patch).to_have_text(str(number - 1), timeout=PATIENCE)
    expect_change(lab, kind, pictures.last.dblclick)
    expect(explorer).not_to_contain_text("Marked", timeout=PATIENCE)
    lab.page.keyboard.press("Shift+Tab")
    assert pictures.nth(-2).evaluate("e => e === document.activeElement"), "the pictures are reached by Tab"
    explorer.locator("select").first.select_option("iteration 0, before training")
    expect(explorer).to_contain_text("before training: weighted sum", timeout=PATIENCE)


def explore_before_after(lab: Lab) -> None:
    slide(lab, ".dped-before-after", "before | after", 0.1, words=False)
    slide(lab, ".dped-before-after", "zoom", 0.3)
    slide(lab, ".dped-before-after", "pan across", 0.9)
    explore_picture(lab)


def explore_picture(lab: Lab) -> None:
    """Drags, zooms, moves and resets the picture itself, with the mouse and the keyboard."""
    kind = ".dped-before-after"
    explorer, picture = widget(lab, kind), lab.page.locator(f"{kind} .dped-picture").first
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box["height"] < 460, "it fits a screen of 1366 x 768 with its controls"
    middle, mouse = box["y"] + box["height"] / 2, lab.page.mouse
    before = lab.source(kind)
    mouse.move(box["x"] + 0.5 * box["width"], middle)
    mouse.down()
    mouse.move(box["x"] + 0.3 * box["width"], middle, steps=4)
    mouse.up()
    browsing.changed(lab, kind, before)
    for act in (lambda: mouse.wheel(0, -200), lambda: lab.page.keyboard.press("ArrowDown"), picture.dblclick):
        numbers = explorer.inner_text()
        act()
        expect(explorer).not_to_have_text(numbers, timeout=PATIENCE, use_inner_text=True)
    expect(explorer).to_contain_text("from (0, 0)", timeout=PATIENCE)


def explore_start(lab: Lab) -> None:
    explore_before_after(lab)
    explorer = widget(lab, ".dped-enhancer")
    explorer.get_by_role("button", name="enhance", exact=True).click()
    expect(explorer).to_contain_text("pixels enhanced by", timeout=2 * PATIENCE)
    slide(lab, ".dped-enhancer .dped-before-after", "before | after", 0.2, words=False)


#: What is done with the widget of each notebook. conftest.py deals them out to two workers.
EXPLORE = {
    "01_dataset": explore_alignment,
    "02_color_loss": explore_color,
    "00_start": explore_start,
    "04_baselines": explore_before_after,
    "03_training": explore_loss,
}

#: What is added to the parameters of notebooks that are small here; `make figures` has executed them whole. No network
#: ships for smoke, so 03 trains one. 04 shows two photographs of each phone, as many as Figure 9 needs.
SMALL = {
    "02_color_loss": 'preset = "smoke"',
    "03_training": 'preset, loss = "smoke", "mse"',
    "04_baselines": (
        "from dataclasses import replace\n"
        "from dped_lib.base import presets\n"
        "presets.PRESETS = {**presets.PRESETS, preset: replace(presets.preset(preset), photographs=1)}"
    ),
}


def small_copy(clone: Path, name: str) -> str:
    """The file name of a small copy of a notebook, on the pairs that `make figures` has made."""
    pairs = clone / "runs" / "rig-smoke" / "patches" / "iphone"
    with FileLock(clone.parent / "pairs.lock"):  # another worker may copy them for another notebook
        if not pairs.exists():
            shutil.copytree(clone / "runs" / "rig-cpu" / "patches" / "iphone", pairs)
    nb = nbformat.read(clone / "notebooks" / f"{name}.ipynb", as_version=4)
    given = next(cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", []))
    given.source += f"\n{SMALL[name]}"
    copy = f"{name}-small.ipynb"
    nbformat.write(nb, clone / "notebooks" / copy)
    return copy


@pytest.mark.parametrize("name", EXPLORE)
def test_the_notebook_runs_and_its_explorer_answers(browser, clone, lab_of_the_clone, name):
    lab = Lab(browser, lab_of_the_clone, small_copy(clone, name) if name in SMALL else f"{name}.ipynb")
    try:
        lab.run_all(1500)
        assert not lab.errors()
        EXPLORE[name](lab)
        assert not lab.errors()
    finally:
        lab.close()
    if name == "03_training":
        saved = clone / "runs" / "rig-smoke" / "figures" / "training_scores-iphone-mse-s0.json"
        made = json.loads(saved.read_text())["parameters"]
        assert (made["network"], made["iterations"]) == ("trained here", "60 of batch 2")


def test_every_explorer_is_dragged_somewhere():
    shown = {f.stem for f in paths.notebooks_dir().glob("*.ipynb") if "widgets.show(" in f.read_text()}
    assert shown - {"06_user_study"} == set(EXPLORE), "the study is answered in test_browser"
