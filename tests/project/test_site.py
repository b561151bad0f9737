"""The site builds without a warning and without the internet, and its links and sliders work."""

import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from dped_lib.base import paths

ROOT = paths.project_root()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site: the folder of its first page."""
    book = tmp_path_factory.mktemp("book")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py"), str(book)], cwd=book, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return book / "html"


class _Page(HTMLParser):
    def __init__(self, file: Path):
        super().__init__()
        self.anchors, self.links, self.loaded, self.alternatives = set(), [], [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img" and given.get("class") != "toggler":  # a sign of Sphinx's index of modules
            self.alternatives.append(given.get("alt") or "")
        if given.get("src") or tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon"):
            self.loaded.append(given.get("src") or given["href"])


def test_links_hold_and_nothing_is_loaded_from_elsewhere(site):
    # The theme leaves templates of its own among the static files.
    pages = {file: _Page(file) for file in site.rglob("*.html") if "_static" not in file.parts}
    assert len(pages) > 40
    wrong = []
    for file, page in pages.items():
        for target in page.links + page.loaded:
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                wrong += [(file, target)] if target in page.loaded and not target.startswith("data:") else []
                continue
            to = (file.parent / unquote(path.partition("?")[0])).resolve() if path else file
            if not to.exists() or (anchor and to in pages and unquote(anchor) not in pages[to].anchors):
                wrong.append((file, target))
    assert not wrong


def test_a_screen_reader_gets_a_text_for_every_picture(site):
    """A picture without one gets its file's path from Sphinx, which a screen reader would read out."""
    for file in (f for f in site.rglob("*.html") if "_static" not in f.parts):
        for text in _Page(file).alternatives:
            assert len(text) >= 10 and not re.search(r"^\.\.?/|^_images|\.(png|jpe?g|svg)$", text), (file.name, text)
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        stored = []
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            shown = [o for o in cell.get("outputs", []) if {"image/png", "image/jpeg"} & o.get("data", {}).keys()]
            stored += [cell["metadata"]["mystnb"]["image"]["alt"] for _ in shown]
        assert _Page(site / "notebooks" / f"{file.stem}.html").alternatives == stored


def test_every_notebook_command_and_module_has_its_place(site):
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        text = (site / "notebooks" / f"{file.stem}.html").read_text(encoding="utf-8")
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        tags = [set(cell["metadata"].get("tags", [])) for cell in cells]
        assert sum("parameters" in t for t in tags) == sum("setup" in t for t in tags) == 1
        folded = sum(bool({"parameters", "setup", "hide-input", "hide-cell"} & t) for t in tags)
        assert text.count('<details class="admonition hide') == folded, "parameters, set-up cell and solutions"
        assert text.count(">Show the solution<") == sum("solution" in t for t in tags) > 0
        assert "<img" in text
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "--max-memory" in commands and "dped align" in commands
    assert not re.search(r"\u2013[a-z]", commands), "an option in a help text has become a dash"
    library = "".join(f.read_text(encoding="utf-8") for f in (site / "reference" / "api").glob("*.html"))
    for name in (
        "dped_lib.losses.color_loss",
        "dped_lib.alignment.aligner.align",
        "dped_lib.data.opening.open_or_make",
    ):
        assert f'id="{name}"' in library


def test_docstrings_of_constants_and_properties_stay_whole(site):
    """The words before their first colon are not a type."""
    pages = {f.stem: f.read_text(encoding="utf-8") for f in (site / "reference" / "api").glob("*.html")}
    shown = {name: re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", text))) for name, text in pages.items()}
    assert "Section 3.2.1: side of a patch in pixels" in shown["core"]
    assert "phone, dslr \u2013 uint8" in shown["alignment"] and "\u200b" not in "".join(pages.values())
    assert not [name for name, text in shown.items() if re.search(r"\bType ?:", text)]


def test_a_signature_is_no_longer_than_a_screen(site):
    """Style sheets, scripts and long tables are constants, too."""
    for file in (site / "reference" / "api").glob("*.html"):
        for signature in re.findall(r'<dt class="sig.*?</dt>', file.read_text(encoding="utf-8"), re.DOTALL):
            words = unescape(re.sub(r"<[^>]+>", "", signature))
            assert len(words) < 700, words[:200]


def test_tables_and_equations_are_not_left_as_text(site):
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"<p>\s*\|.*\|\s*$", text, re.MULTILINE), f"{file}: a table stands there as text"
        assert not re.search(r"<p>[^<]*\$\$", text), f"{file}: an equation stands there as text"
    shown = {}
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        outputs = [o for c in json.loads(file.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", [])]
        shown[file.stem] = sum("|:--" in "".join(o.get("data", {}).get("text/markdown", "")) for o in outputs)
        page = (site / "notebooks" / f"{file.stem}.html").read_text(encoding="utf-8")
        assert page.count("<table") >= shown[file.stem]
    assert sum(shown.values()) >= 8, "tables that cells show as Markdown"


def test_photographs_keep_their_colours_where_the_system_is_dark(site, browser):
    page = browser.new_page(color_scheme="dark")
    try:
        page.goto(site.joinpath("index.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        filters = page.evaluate("[...document.querySelectorAll('article img')].map(i => getComputedStyle(i).filter)")
        assert filters and set(filters) == {"none"}
    finally:
        page.close()


def test_no_module_is_wider_than_a_telephone(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    try:
        for file in (site / "reference" / "api").glob("*.html"):
            page.goto(file.as_uri())
            assert page.evaluate("document.querySelector('.bd-article-container').scrollWidth <= innerWidth"), file.stem
    finally:
        page.close()


_BROKEN_WORDS = """() => [...document.querySelectorAll(".bd-article code .pre")].filter(
  word => word.getClientRects().length > 1 && (word.closest(".option") || !word.closest("td, .long"))
).map(word => word.innerText)"""
_TORN_SIGNS = """() => {
  const torn = [];
  for (const code of document.querySelectorAll(".bd-article :is(p, li) code:not(td code, .long)")) {
    const words = [...code.querySelectorAll(".pre")], next = code.nextSibling;
    if (!words.length || next?.nodeType !== Node.TEXT_NODE || !/^[),.;:]/.test(next.data)) continue;
    const sign = document.createRange();
    sign.setStart(next, 0);
    sign.setEnd(next, 1);
    if (sign.getBoundingClientRect().top > words.at(-1).getBoundingClientRect().bottom - 2) torn.push(code.innerText);
  }
  return torn;
}"""


@pytest.mark.parametrize("width", [390, 1366, 2560])
def test_code_in_sentences_and_options_in_tables_stay_whole(site, browser, width):
    """`--by` never becomes `--` and `by`, and no line begins with the comma after a word of code."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    try:
        for name in (
            "howto/datasets",
            "howto/enhancers",
            "explanation/deviations",
            "reference/commands",
            "contributing",
        ):
            page.goto((site / f"{name}.html").as_uri())
            assert not page.evaluate(_BROKEN_WORDS) and not page.evaluate(_TORN_SIGNS), name
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    finally:
        page.close()


#: Texts that break inside a word, after another character than those given.
_BROKEN_INSIDE = """([places, after]) => [...document.querySelectorAll(places)].filter(place => {
  const texts = document.createTreeWalker(place, NodeFilter.SHOW_TEXT), letter = document.createRange();
  let before = null, text;
  while ((text = texts.nextNode())) for (let i = 0; i < text.length; i++) {
    letter.setStart(text, i);
    letter.setEnd(text, i + 1);
    const box = letter.getBoundingClientRect(), sign = text.data[i];
    if (before && box.top > before.bottom - 3 && !after.includes(before.sign) && sign.trim()) return true;
    before = {bottom: box.bottom, sign};
  }
  return false;
}).map(place => place.innerText)"""


@pytest.mark.parametrize("width", [390, 1366, 2560])
def test_names_break_only_where_their_parts_end(site, browser, width):
    """Names in tables break after _ / . and -, so a reader sees where a name ends. Titles of the next page break at spaces."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    try:
        for file in sorted(f for f in site.rglob("*.html") if "_static" not in f.parts):
            page.goto(file.as_uri())
            assert not page.evaluate(_BROKEN_INSIDE, [".bd-article td code.name", "_/.- "]), file.stem
            assert not page.evaluate(_BROKEN_INSIDE, [".prev-next-title", " -/"]), file.stem
    finally:
        page.close()


def test_a_telephone_shows_commands_scores_and_deviations_whole(site, browser):
    """A listing that is cut may read as complete without its option; a column out of sight is not missed."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    cut = "places => [...document.querySelectorAll(places)].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    try:
        for name, places in (
            ("index", ".highlight-none pre"),
            ("howto/enhance", ".highlight-none pre"),
            ("model_zoo", "table"),
            ("explanation/deviations", "table.stacked"),
        ):
            page.goto((site / f"{name}.html").as_uri())
            assert page.locator(places).count() and not page.evaluate(cut, places), name
        assert page.get_by_text("checked:").first.is_visible(), "a cell names its column"
        page.set_viewport_size({"width": 1366, "height": 844})
        assert not page.get_by_text("checked:").first.is_visible(), "the column has a heading"
    finally:
        page.close()


def test_no_page_has_an_empty_navigation_beside_it(site):
    for file in (f for f in site.rglob("*.html") if "_static" not in f.parts):
        text = file.read_text(encoding="utf-8")
        beside = re.search(r'<nav class="bd-docs-nav bd-links".*?</nav>', text, re.DOTALL)
        assert not beside or "href" in beside[0], file.stem


def test_the_front_page_shows_the_result_before_the_commands(site):
    """And the command that made it is among them."""
    text = (site / "index.html").read_text(encoding="utf-8")
    assert text.index('class="before-after"') < text.index("make setup") < text.index("sd-card")


def test_tables_begin_where_the_text_does_and_show_names_whole(site, browser):
    page = browser.new_page(viewport={"width": 1366, "height": 844})
    try:
        page.goto((site / "howto" / "enhance.html").as_uri())
        lefts = "[...document.querySelectorAll('.bd-article :is(table, section > p)')].map(e => e.getBoundingClientRect().left)"
        assert len({round(left) for left in page.evaluate(lefts)}) == 1
        page.goto((site / "model_zoo.html").as_uri())
        assert not page.evaluate(
            "[...document.querySelectorAll('td:first-child .pre')].filter(e => e.getClientRects().length > 1).length"
        )
        assert page.evaluate("[...document.querySelectorAll('table')].every(e => e.scrollWidth <= e.clientWidth)")
    finally:
        page.close()


def test_a_slider_moves_without_a_kernel(site, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    try:
        page.goto(site.joinpath("index.html").as_uri())
        slider = page.locator(".before-after input").first
        slider.focus()
        before = page.locator(".before-after").first.screenshot()
        for _ in range(20):
            slider.press("ArrowRight")
        assert page.locator(".before-after").first.evaluate("e => e.style.getPropertyValue('--cut')") == "60%"
        assert page.locator(".before-after").first.screenshot() != before
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    finally:
        page.close()
