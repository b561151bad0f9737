"""A scripted newcomer in headless Chromium: answers a whole study, alone and beside others, and enhances a photograph."""

import contextlib
import itertools
import json
import os
import signal
import sys
import time

import browsing
import nbformat
import numpy as np
import psutil
import pytest
import requests
import torch
from browsing import PATIENCE, at_question
from PIL import Image
from playwright.sync_api import Page, expect
from synthetic import write_study

from dped_lib import models
from dped_lib.app import notebook_parameters
from dped_lib.base import paths
from dped_lib.data import network_files
from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import page_script, page_style
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions
from dped_lib.user_study import subjects as study_subjects


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> study_pictures.Pictures:
    """The whole study of the paper, manual enhancement included: 108 questions on drawn pictures."""
    return study_pictures.open_folder(write_study(tmp_path_factory.mktemp("study") / "pictures"))


def side_of(subject: str, number: int) -> int:
    """Which side a scripted subject takes at a question: 0 left, 1 right; without a pattern, and each subject another."""
    return (number * number + len(subject) + ord(subject[0])) // 3 % 2


def expected(pictures: study_pictures.Pictures, subject: str, seed: int) -> dict[str, tuple[str, str, str]]:
    """Question -> left, right, chosen, as the subject's keys say."""
    return {
        a.question.key: (a.left, a.right, (a.left, a.right)[side_of(subject, a.number)])
        for a in study_questions.order(pictures.questions, subject, seed)
    }


def stored(store: study_answers.AnswerStore, subject: str) -> dict[str, tuple[str, str, str]]:
    answers = store.answers(subject)
    assert len({a.question for a in answers}) == len(answers)
    return {a.question: (a.left, a.right, a.chosen) for a in answers}


def answer(page: Page, subject: str, numbers: range, keys: tuple[str, str] = ("1", "2")) -> None:
    """Answers these questions with the keyboard, each once it is on the screen."""
    for number in numbers:
        at_question(page, number)
        page.keyboard.press(keys[side_of(subject, number)])


# ---------------------------------------------------------------------------------------------- in JupyterLab


def test_a_whole_study_in_jupyterlab(browser, pictures, tmp_path):
    """108 questions by the keyboard, the page reloaded in the middle; then the analysis shows exactly these answers."""
    folder, answers = tmp_path / "notebooks", tmp_path / "answers"
    folder.mkdir()
    nb = nbformat.read(paths.notebooks_dir() / "06_user_study.ipynb", as_version=4)
    given = {"folder": str(pictures.folder), "answers": str(answers), "subject": "p01"}
    nb.cells[1].source += "\n" + "\n".join(f"{k} = {v!r}" for k, v in given.items())
    nbformat.write(nb, folder / "study.ipynb")
    own = {"DPED_RUNS": str(tmp_path / "runs"), "DPED_FIGURES": str(tmp_path / "figures")}
    with browsing.jupyterlab(folder, tmp_path / "lab.log", **own) as address:
        lab = browsing.Lab(browser, address, "study.ipynb")
        lab.run_all(240)
        assert not lab.errors()
        page = lab.page
        page.locator(".dped-study").scroll_into_view_if_needed()
        page.get_by_role("button", name="Start", exact=True).click()
        answer(page, "p01", range(1, 50))
        at_question(page, 50)
        lab.save()
        lab.open()  # a reload: the kernel and the page's state live on
        page.locator(".dped-study").scroll_into_view_if_needed()
        at_question(page, 50)
        page.locator(".dped-study img").nth(side_of("p01", 50)).click()  # answers, and gives the page the focus
        answer(page, "p01", range(51, 109), ("ArrowLeft", "ArrowRight"))
        expect(page.get_by_text("That was the last question.")).to_be_visible(timeout=PATIENCE)
        store = study_answers.AnswerStore(answers, pictures.digest, pictures.questions)
        assert stored(store, "p01") == expected(pictures, "p01", 0)
        assert all(a.scale for a in store.answers("p01")), "the size on the screen is known"
        lab.run_all(240)
        assert not lab.errors()
        expect(page.get_by_text("1 person")).not_to_have_count(0)
        page.close()
    assert stored(store, "p01") == expected(pictures, "p01", 0), "running the notebook again answers nothing"
    own = notebook_parameters.suffix_of_own(folder=str(pictures.folder), answers=str(answers))
    numbers = json.loads((tmp_path / "figures" / "own-cpu" / f"fig10_shares{own}.json").read_text())["numbers"]
    assert numbers["observer"] == "person"
    chosen = {q: c for q, (_, _, c) in expected(pictures, "p01", 0).items()}
    for share in numbers["shares"]:
        pair = (share["first"], share["second"])
        mine = [c for q, c in chosen.items() if q.startswith(share["set"] + "/") and q.endswith("/" + "-".join(pair))]
        assert share["answers"] == len(mine) == 9
        assert share["share"] == pytest.approx(mine.count(pair[0]) / 9)
    assert len(numbers["shares"]) == 12


# ---------------------------------------------------------------------------------------------- as a page


@pytest.fixture(scope="module")
def site(pictures, tmp_path_factory):
    """The page of `dped study` on a port of its own: its address, and the store. When the command ends, nothing is left of it."""
    folder = tmp_path_factory.mktemp("site")
    port = browsing.free_port()
    command = [sys.executable, "-m", "dped_lib.app.cli", "study", "--folder", str(pictures.folder), f"--port={port}"]
    command += ["--answers", str(folder / "answers"), "--seed", "3"]
    address = f"http://127.0.0.1:{port}/"
    with browsing.served(command, f"{address}voila/static/voila.js", folder / "voila.log"):
        yield address, study_answers.AnswerStore(folder / "answers", pictures.digest, pictures.questions, seed=3)
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=10)


def enter(browser, address: str, subject: str, again: bool = False) -> Page:
    """A subject in a browser of their own, at their question."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    return name_oneself(page, subject, again)


def name_oneself(page: Page, subject: str, again: bool) -> Page:
    field = page.get_by_placeholder("a nickname")
    field.click()
    page.keyboard.type(subject)  # as fast as can be, and Enter at once
    page.keyboard.press("Enter")
    if again:
        yes = page.get_by_role("button", name=f"Yes, go on as {subject}")
        expect(yes).to_be_visible(timeout=PATIENCE)
        page.wait_for_timeout(page_script.READ + 500)
        yes.click()
    return page


def test_a_pointer_that_rests_raises_no_button(browser, site):
    """After a click on Begin it lies where the button of the right picture appears. A raised button looks chosen."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.goto(site[0], timeout=PATIENCE)
    page.get_by_placeholder("a nickname").fill("resting pointer", timeout=PATIENCE)
    page.get_by_role("button", name="Begin").click()
    at_question(page, 1)
    looks = """(button) => [button.matches(":hover"), getComputedStyle(button).boxShadow]"""
    for place in (page_style.FIRST, page_style.SECOND):
        button = page.locator(f".{place}")
        button.hover()
        assert button.evaluate(looks) == [True, "none"]
    page.close()


def test_two_subjects_at_once(browser, pictures, site):
    address, store = site
    pages = {name: enter(browser, address, name) for name in ("ada", "bo")}
    for number in range(1, 109):
        for page in pages.values():
            at_question(page, number)
        for name, page in pages.items():
            page.keyboard.press("12"[side_of(name, number)])
    for name, page in pages.items():
        expect(page.get_by_text("That was the last question.")).to_be_visible(timeout=PATIENCE)
        assert stored(store, name) == expected(pictures, name, 3)
        assert all(a.subject == name and a.seconds >= 0.2 for a in store.answers(name))
        page.context.close()
    both = [expected(pictures, name, 3) for name in pages]
    assert sum(both[0][q] != both[1][q] for q in both[0]) > 20, "the two differ, so that a swap would be seen"
    assert study_analysis.collect(store, "person").subjects == ("ada", "bo")


def kernels() -> set[int]:
    """Processes of kernels that this test run has started and that live."""
    pids = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that ends at this moment
            if "ipykernel_launcher" in " ".join(process.cmdline()):
                pids.add(process.pid)
    return pids


def test_a_killed_kernel_loses_no_answer(browser, pictures, site):
    """At most the question on the screen is asked again; the name is not taken up without asking."""
    address, store = site
    before = kernels()
    page = enter(browser, address, "cy")
    answer(page, "cy", range(1, 8))
    at_question(page, 8)
    (mine,) = kernels() - before
    os.kill(mine, signal.SIGKILL)
    assert len(store.answers("cy")) == 7
    page.reload()
    name_oneself(page, "cy", again=True)
    answer(page, "cy", range(8, 12))
    at_question(page, 12)
    wanted = itertools.islice(expected(pictures, "cy", 3).items(), 11)
    assert stored(store, "cy") == dict(wanted)
    page.context.close()


def test_the_page_gives_no_method_away(browser, pictures, site):
    """Nothing that a subject's browser receives names a class, a scene or a file."""
    address, _ = site
    context = browser.new_context()
    page, received = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(data)))
    page.goto(address)
    name_oneself(page, "dee", False)
    answer(page, "dee", range(1, 4))
    at_question(page, 4)
    # The page's own HTML holds all of JupyterLab's styles and scripts, and IPython's greeting an "enhanced": words not of ours.
    frames = [d if isinstance(d, str) else d.decode("latin-1") for d in received]
    text = page.locator("body").inner_text() + " ".join(f for f in frames if '"banner"' not in f)
    assert "3 of 108" in text, "the messages were seen"
    for word in (*study_questions.CLASSES, *pictures.scenes["sony"]["dslr"], "blackberry", str(pictures.folder)):
        at = text.find(word)
        assert at < 0, text[max(0, at - 150) : at + 60]
    for path in ("study.ipynb", "voila/files/study.ipynb", f"voila/files/{pictures.folder}/sony/dslr/scene-1.png"):
        answered = page.request.get(address + path)
        assert (
            answered.status >= 400
            or "study_page" not in answered.text()
            and "image" not in answered.headers["content-type"]
        )
    context.close()


def test_a_name_as_people_type_it(browser, pictures, site):
    address, store = site
    page = enter(browser, address, "   ")
    expect(page.get_by_text("Please type a nickname.")).to_be_visible(timeout=PATIENCE)
    name_oneself(page, "Zoë 李", again=False)
    subject = study_subjects.subject_id("zoë 李")
    answer(page, subject, range(1, 3))
    at_question(page, 3)
    assert stored(store, subject) == dict(itertools.islice(expected(pictures, subject, 3).items(), 2))
    page.context.close()


@pytest.fixture(scope="module")
def large_site(tmp_path_factory):
    """A study whose pictures have 900 x 675 pixels, and one scene upright."""
    folder = tmp_path_factory.mktemp("large")
    scenes = {
        "sony": {c: ["wide"] for c in ("original", "dslr")},
        "iphone": {c: ["tall"] for c in ("original", "dslr")},
    }
    write_study(folder / "pictures", {"sony": scenes["sony"]}, (675, 900))
    write_study(folder / "pictures", {"iphone": scenes["iphone"]}, (900, 600))
    pictures = study_pictures.open_folder(folder / "pictures", 1)
    port = browsing.free_port()
    command = [sys.executable, "-m", "dped_lib.app.cli", "study", "--folder", str(pictures.folder), f"--port={port}"]
    command += ["--answers", str(folder / "answers"), "--scenes", "1"]
    address = f"http://127.0.0.1:{port}/"
    with browsing.served(command, f"{address}voila/static/voila.js", folder / "voila.log"):
        yield address, study_answers.AnswerStore(folder / "answers", pictures.digest, pictures.questions)


#: Subject -> CSS width and height of the window, pixels of the screen for each CSS pixel, and whether it has a keyboard.
_SCREENS = {
    "telephone": (390, 844, 3, False),
    "window": (600, 800, 1, True),
    "laptop": (1366, 768, 1, True),
    "desk": (2560, 1440, 1, True),
}
_LAID_OUT = """() => {
  const box = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
  const texts = [...document.querySelectorAll(".dped-study .widget-html-content, .dped-study button")];
  return {
    page: box(document.querySelector(".dped-study")),
    pictures: [...document.querySelectorAll(".dped-study img")].map(box),
    buttons: [...document.querySelectorAll(".dped-study-pair button")].map(box),
    natural: [...document.querySelectorAll(".dped-study img")].map(i => i.naturalWidth),
    letters: texts.filter(e => e.offsetParent && e.innerText).map(e => parseFloat(getComputedStyle(e).fontSize)),
  };
}"""


@pytest.mark.parametrize("subject", _SCREENS)
def test_pictures_are_as_large_as_the_window_allows(browser, large_site, subject):
    """Equal, centred, whole in the window, never above 1:1 in CSS pixels; a tap or click on one answers, and its size is stored."""
    address, store = large_site
    width, height, density, keyboard = _SCREENS[subject]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=density,
        has_touch=not keyboard,
        is_mobile=not keyboard,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address, wait_until="commit")
    page.get_by_placeholder("a nickname").wait_for()
    name_oneself(page, subject, again=False)
    shown = []
    for number in (1, 2):
        at_question(page, number, 2)
        page.wait_for_timeout(500)
        at = page.evaluate(_LAID_OUT)
        (l1, t1, r1, b1), (l2, t2, r2, b2) = at["pictures"]
        natural = at["natural"][0]
        assert (r1 - l1, b1 - t1) == pytest.approx((r2 - l2, b2 - t2)) and at["natural"] == [natural] * 2
        assert r1 - l1 <= natural + 0.01
        assert min(l1, t1) >= 0 and max(r1, r2) <= width and max(b[3] for b in at["buttons"]) <= height
        assert l1 + r2 == pytest.approx(width, abs=2), "centred"
        assert at["page"][1] + at["page"][3] == pytest.approx(height, abs=2), "also from top to bottom"
        assert (t2 > b1) if width < 700 else (l2 > r1 and t1 == t2)
        fills_width = r2 - l1 > width - 40
        fills_height = at["buttons"][1][3] > height - 40
        assert fills_width or fills_height or r1 - l1 == natural
        assert min(at["letters"]) >= 18
        hints = page.evaluate("getComputedStyle(document.querySelector('.dped-study-first'), '::after').content")
        assert ("key 1" in hints) == keyboard
        assert ("\u2190" in hints) == (keyboard and width >= 700), "no picture is to the left where they are stacked"
        shown.append((r1 - l1, (r1 - l1) * density / natural))
        picture = page.locator(".dped-study img").nth(number - 1)
        picture.click() if keyboard else picture.tap()
    expect(page.get_by_text("That was the last question.")).to_be_visible(timeout=PATIENCE)
    given = store.answers(subject)
    assert [a.chosen for a in given] == [given[0].left, given[1].right]
    assert [(a.width, a.scale) for a in given] == [pytest.approx(s, abs=1e-3) for s in shown]
    context.close()


#: Keeps every text that is visible at any time.
_READ = """window.read = []; new MutationObserver(() => {
  const words = document.body ? document.body.innerText : "";
  if (words !== window.read.at(-1)) window.read.push(words);
}).observe(document, {childList: true, subtree: true, characterData: true});"""


def test_a_subject_waits_without_words_of_developers(browser, large_site):
    """While its kernel starts, the page says neither 'Executing 1 of 1' nor the name of a notebook. It loads nothing from elsewhere."""
    address, _ = large_site
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(_READ)
    page.goto(address, wait_until="commit")
    page.locator("#loading").wait_for(timeout=PATIENCE)
    assert page.locator("body").inner_text().strip() == ""
    assert "One moment" in page.evaluate("getComputedStyle(document.querySelector('#loading'), '::after').content")
    page.get_by_placeholder("a nickname").wait_for(timeout=PATIENCE)
    words = [words.strip() for words in page.evaluate("window.read")]
    assert words[-1] and all(not text or text.startswith("Which picture looks better?") for text in words)
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert len(asked) > 10 and not elsewhere, "the study works without the internet"
    page.close()


# ---------------------------------------------------------------------------------------------- enhancing


def test_a_photograph_is_uploaded_enhanced_and_stopped(browser, tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    torch.manual_seed(0)
    file = tmp_path / "small.safetensors"
    network_files.save_tensors(models.generator("srcnn").state_dict(), file, {"model": "srcnn"})
    slow = tmp_path / "slow.safetensors"
    network_files.save_tensors(models.generator("dped").state_dict(), slow, {"model": "dped", "variant": "code"})
    code = (
        "import numpy as np\nfrom dped_lib.explorers import enhancer, widgets\n\n"
        f"widgets.show(enhancer.Enhancer(('gray', np.full((200, 300, 3), 99, np.uint8)), [{str(file)!r}, {str(slow)!r}]))"
    )
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, folder / "mine.ipynb")
    # 12 MB: more than the 10 that a Jupyter server takes unless told otherwise, as `make lab` does.
    photo = np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "mine.png", compress_level=1)
    assert (tmp_path / "mine.png").stat().st_size > 11e6
    with browsing.jupyterlab(folder, tmp_path / "lab.log") as address:
        lab = browsing.Lab(browser, address, "mine.ipynb")
        lab.run_all(120)
        page, widget = lab.page, lab.page.locator(".dped-enhancer")
        expect(widget.get_by_text("gray: 300 x 200 pixels")).to_be_visible()
        widget.get_by_role("button", name="enhance", exact=True).click()
        expect(widget.get_by_text("300 x 200 pixels enhanced by")).to_be_visible(timeout=PATIENCE)
        browsing.drag_to_another(
            lab, ".dped-before-after", widget.locator(".widget-slider", has_text="before | after"), 0.1
        )
        with page.expect_file_chooser() as chooser:
            widget.get_by_role("button", name="upload a photograph").click()
        chooser.value.set_files(tmp_path / "mine.png")
        expect(widget.get_by_text("mine.png: 2000 x 2000 pixels")).to_be_visible(timeout=PATIENCE)
        widget.locator("select").first.select_option(label=str(slow))
        widget.get_by_role("button", name="enhance", exact=True).click()
        expect(widget.get_by_role("button", name="stop")).to_be_enabled()
        time.sleep(1)
        widget.get_by_role("button", name="stop").click()
        expect(widget.get_by_text("stopped, and no result was kept.")).to_be_visible(timeout=PATIENCE)
        assert not lab.errors()
        page.close()
