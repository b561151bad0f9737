"""A scripted subject whom a slow or lost connection, an impatient finger or a reload disturbs."""

import functools
import sys
import time

import browsing
import pytest
from browsing import PATIENCE
from playwright.sync_api import Page, expect
from synthetic import write_study

from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import page_script, page_style
from dped_lib.user_study import pictures as study_pictures

_TELEPHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "has_touch": True,
    "is_mobile": True,
}


class Server:
    """The page of `dped study` on one port, which can end and come back."""

    def __init__(self, folder):
        scenes = {"sony": {c: ("scene-1", "scene-2") for c in ("original", "dslr", "enhanced")}}
        self.pictures = study_pictures.open_folder(write_study(folder / "pictures", scenes), 2)
        self.store = study_answers.AnswerStore(folder / "answers", self.pictures.digest, self.pictures.questions)
        self.folder, self.port = folder, browsing.free_port()
        self.address = f"http://127.0.0.1:{self.port}/"

    def served(self):
        command = [sys.executable, "-m", "dped_lib.app.cli", "study", "--folder", str(self.pictures.folder)]
        command += [f"--port={self.port}", "--answers", str(self.store.folder), "--scenes", "2"]
        return browsing.served(command, f"{self.address}voila/static/voila.js", self.folder / "voila.log")

    def chosen(self, subject: str) -> int:
        return len(self.store.answers(subject))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    return Server(tmp_path_factory.mktemp("troubles"))


@pytest.fixture(scope="module")
def address(server):
    with server.served() as _:
        yield server.address


@pytest.fixture
def telephone(browser):
    """What a telephone's browser keeps: pages that are opened in it share it."""
    context = browser.new_context(**_TELEPHONE)
    yield context
    context.close()


at_question = functools.partial(browsing.at_question, total=6)


def picture(page: Page, place: int):
    return page.locator(".dped-study-pair img").nth(place)


def enter(page: Page, address: str, subject: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.get_by_placeholder("a nickname").tap()
    page.keyboard.type(subject)
    page.get_by_role("button", name="Begin").tap()
    at_question(page, 1)


def test_no_tap_counts_for_pictures_that_are_still_on_their_way(telephone, server, address):
    """The next question is asked at once, and its pictures take two seconds. A second tap meanwhile is for the old ones."""
    page, slow = telephone.new_page(), []

    def delay(socket):
        there = socket.connect_to_server()

        def pass_on(message):
            if slow:
                page.wait_for_timeout(2000)
            socket.send(message)

        there.on_message(pass_on)

    page.route_web_socket("**/channels*", delay)
    enter(page, address, "slow")
    slow.append(True)
    picture(page, 0).tap()
    for _ in range(3):
        page.wait_for_timeout(400)
        assert page.locator(f".{page_style.OPEN}").count() == 0
        picture(page, 1).tap()
    assert page.locator(f".{page_style.CHOSEN} img").count() == 1, "the subject sees what is chosen"
    slow.clear()
    at_question(page, 2)
    assert page.locator(f".{page_style.CHOSEN}").count() == 0
    (answer,) = server.store.answers("slow")
    assert answer.chosen == answer.left


def test_no_picture_of_the_next_pair_looks_chosen(telephone, server, address):
    """After a tap or Enter on a button, the focus and its ring do not stay there."""
    page = telephone.new_page()
    enter(page, address, "ring")
    buttons = page.locator(".dped-study-pair button")
    buttons.nth(1).tap()
    at_question(page, 2)
    buttons.nth(0).focus()
    page.keyboard.press("Enter")
    at_question(page, 3)
    page.keyboard.press("Enter")  # a second one chooses nothing
    assert not page.evaluate("document.activeElement.closest('.dped-study-pair')")
    page.wait_for_timeout(1000)
    assert server.chosen("ring") == 2


def test_in_a_low_window_the_question_shares_a_line_with_the_count(browser, server, address):
    """A telephone on its side: the pictures get the height that the line would take, and nothing overlaps."""
    context = browser.new_context(**{**_TELEPHONE, "viewport": {"width": 844, "height": 340}})
    page = context.new_page()
    enter(page, address, "low")
    box = {name: page.get_by_text(text, exact=True).bounding_box() for name, text in _TOP.items()}
    middle = {name: b["y"] + b["height"] / 2 for name, b in box.items()}
    assert middle["question"] == pytest.approx(middle["count"], abs=4) == pytest.approx(middle["pause"], abs=4)
    assert box["count"]["x"] + box["count"]["width"] < box["question"]["x"]
    assert box["question"]["x"] + box["question"]["width"] < box["pause"]["x"]
    assert picture(page, 0).bounding_box()["y"] >= max(b["y"] + b["height"] for b in box.values()) - 1
    context.close()


def test_in_a_low_window_a_question_about_the_name_comes_into_view(browser, server, address):
    """Besides, the help for the keys speaks of the two pictures as they will lie."""
    server.store.begin("stork")
    page = browser.new_page(viewport={"width": 844, "height": 390})
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.get_by_placeholder("a nickname").fill("stork")
    page.keyboard.press("Enter")
    yes = page.get_by_role("button", name="Yes, go on as stork")
    expect(yes).to_be_in_viewport(ratio=0.95, timeout=PATIENCE)
    left, upper = page.get_by_text("left picture, 2 for"), page.get_by_text("upper picture, 2 for")
    assert left.is_visible() and not upper.is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert upper.is_visible() and not left.is_visible()
    page.close()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (667, 375), (640, 360), (320, 568)])
def test_a_telephone_shows_which_button_is_of_which_picture(browser, server, address, width, height):
    """Upright the pictures are stacked, and sideways they are larger side by side. No finger takes one for the other."""
    context = browser.new_context(**{**_TELEPHONE, "viewport": {"width": width, "height": height}})
    page = context.new_page()
    enter(page, address, f"size {width}")
    page.wait_for_timeout(500)
    (first, second) = (picture(page, place).bounding_box() for place in (0, 1))
    buttons = [page.locator(".dped-study-pair button").nth(place).bounding_box() for place in (0, 1)]
    assert first["width"] == second["width"] and first["height"] == second["height"]
    assert all(button["height"] >= 44 for button in buttons)
    below = [b["y"] - p["y"] - p["height"] for b, p in zip(buttons, (first, second), strict=True)]
    assert all(0 <= gap <= 4.5 for gap in below)
    assert buttons[1]["y"] + buttons[1]["height"] <= height
    if width < height:
        assert second["y"] - buttons[0]["y"] - buttons[0]["height"] >= 4 * max(below)
    else:
        assert first["y"] == second["y"] and first["width"] == 160, "pictures of 160 pixels have room at 1:1"
        pause = page.get_by_role("button", name="Pause").bounding_box()
        assert first["y"] - pause["y"] - pause["height"] >= 8
    context.close()


_TOP = {"count": "1 of 6", "question": "Which picture looks better?", "pause": "Pause"}


@pytest.mark.parametrize("press", ["enter", "tap"])
def test_begin_pressed_twice_joins_nobody(telephone, server, address, press):
    """A nickname that somebody else has, and an impatient hand: it answers no question that it has not read."""
    server.store.begin("egret")
    page = telephone.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    yes = page.get_by_role("button", name="Yes, go on as Egret")
    for name in ("", "Egret"):  # with a message on the page, Begin stays nearly where it was
        page.get_by_placeholder("a nickname").fill(name)
        box = page.get_by_role("button", name="Begin").bounding_box()
        for _ in range(4):
            if press == "tap":
                page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            else:
                page.keyboard.press("Enter")
            page.wait_for_timeout(120)
        page.get_by_text("Somebody has already" if name else "Please type").wait_for()
    assert page.evaluate("localStorage.length") == 0, "a name that was only tried is not remembered"
    yes.evaluate("button => { button.click(); button.click(); }")  # sooner than anybody reads
    page.wait_for_timeout(page_script.READ + 500)
    assert page.locator(".dped-study").count() == 0
    yes.tap()
    at_question(page, 1)


def test_a_browser_remembers_its_subject(telephone, server, address):
    """After a reload, or the next day, one tap goes on. Another subject in the same browser gets an empty field."""
    page = telephone.new_page()
    enter(page, address, "Grey Heron")
    picture(page, 0).tap()
    at_question(page, 2)
    page.close()
    page = telephone.new_page()
    page.goto(address)
    page.get_by_role("button", name="Go on as Grey Heron: 1 of 6 answered").tap(timeout=PATIENCE)
    at_question(page, 2)
    page.reload()
    offer = page.get_by_role("button", name="Go on as Grey Heron: 1 of 6 answered")
    expect(offer).to_be_focused(timeout=PATIENCE)
    assert offer.bounding_box()["height"] >= 44
    field = page.get_by_placeholder("a nickname")
    assert field.input_value() == ""
    field.focus()
    expect(field).to_have_css("outline-style", "solid")
    page.get_by_role("button", name="Begin").tap()  # an empty field wipes nothing
    page.get_by_text("Please type a nickname.").wait_for()
    page.reload()
    offer.wait_for()
    enter(page, address, "another")
    assert server.chosen("another") == 0


def test_a_lost_connection_is_told_and_the_study_goes_on(telephone, tmp_path):
    """The server ends and comes back: the page says so, takes no answer, and goes on by itself with one tap."""
    server = Server(tmp_path)
    page = telephone.new_page()
    with server.served():
        enter(page, server.address, "tern")
        picture(page, 0).tap()
        at_question(page, 2)
    lost = page.get_by_text(page_script.LOST_TEXT)
    expect(lost).to_be_visible(timeout=30_000)
    page.keyboard.press("1")
    box = picture(page, 0).bounding_box()
    page.touchscreen.tap(box["x"] + 50, box["y"] + 50)
    time.sleep(1)
    assert server.chosen("tern") == 1
    with server.served():
        page.get_by_role("button", name="Go on as tern: 1 of 6 answered").tap(timeout=PATIENCE)
        at_question(page, 2)
        expect(lost).to_have_count(0)
        picture(page, 1).tap()
        at_question(page, 3)
        assert [a.chosen == a.left for a in server.store.answers("tern")] == [True, False]


def test_a_server_that_answers_slowly_gets_one_request(telephone):
    """After a restart the server does not know the page's process, and takes long for a new page. A second request would
    cancel the first and start one more process."""
    page, asked = telephone.new_page(), []
    config = '{"baseUrl": "/", "kernelId": "gone"}'
    head = f'<script id="jupyter-config-data" type="application/json">{config}</script>'

    def answer(route):
        asked.append(route)
        if len(asked) == 1:  # the page before the restart. Later requests wait.
            text = f"{head}<body data-voila=''><script>{page_script.SCRIPT}</script></body>"
            route.fulfill(body=text, content_type="text/html")

    page.route("http://study.test/", answer)
    page.route("http://study.test/api/kernels/gone", lambda route: route.fulfill(status=404))
    page.goto("http://study.test/")
    page.evaluate("setInterval(() => dispatchEvent(new Event('online')), 200)")  # each one is a check of the connection
    with page.expect_request("http://study.test/", timeout=PATIENCE):
        pass
    page.wait_for_timeout(2000)
    assert len(asked) == 2


def test_a_finished_subject_needs_no_connection(telephone, tmp_path):
    """The last page stays when the study ends, and nothing frightens the subject."""
    server = Server(tmp_path)
    page = telephone.new_page()
    with server.served():
        enter(page, server.address, "swift")
        for number in range(1, 7):
            at_question(page, number)
            picture(page, number % 2).tap()
        expect(page.get_by_text("That was the last question.")).to_be_visible(timeout=PATIENCE)
    page.wait_for_timeout(4 * page_script.CHECK)
    expect(page.get_by_text("That was the last question.")).to_be_visible()
    expect(page.get_by_text(page_script.LOST_TEXT)).to_have_count(0)
