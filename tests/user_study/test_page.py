"""The page that a subject sees, and the server that shows it."""

from types import SimpleNamespace

import nbclient
import nbformat
import pytest
from studies import PICTURES, QUESTIONS
from synthetic import SCENES

from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import figures as study_figures
from dped_lib.user_study import page as study_page
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions
from dped_lib.user_study import server as study_server


@pytest.fixture
def clock(monkeypatch):
    """The clock of the page. It stands still until a test moves it on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(study_page.time, "monotonic", lambda: clock.now)
    return clock


def test_the_page_of_a_subject(small, monkeypatch, capsys):
    pictures, store = small
    clock = iter(float(i) for i in range(10_000))
    monkeypatch.setattr(study_page.time, "monotonic", lambda: next(clock))
    page = study_page.SubjectPage(pictures, store, "p01")
    assert page.images[0].value == b"" and page.buttons[0].disabled
    page.buttons[0].click()
    assert store.answers("p01") == (), "nothing is asked before Start"
    sequence = study_questions.order(pictures.questions, "p01", 0)
    page.pause_button.click()
    assert (page.images[0].value, page.images[1].value) == study_pictures.shown_png(pictures, sequence[0])
    page.buttons[1].click()
    page.buttons[0].click()
    assert [a.chosen for a in store.answers("p01")] == [sequence[0].right, sequence[1].left]
    assert [a.seconds for a in store.answers("p01")] == [1.0, 1.0]
    page.pause_button.click()
    assert page.images[0].value == b"" and "Paused" in page.message.value and page.progress.value == 2
    assert page.message.value.endswith("close this page, and go on later with the same nickname: p01")
    again = study_page.SubjectPage(pictures, store, "p01")  # the kernel was restarted
    again.resume()
    assert again.trial == sequence[2] and again.count.value == "3 of 36"
    said = again.message.value + again.count.value + str([w.description for w in (*again.buttons, again.pause_button)])
    assert not any(word in said for word in (*study_questions.CLASSES, *SCENES, "sony"))
    while again.trial:
        again.buttons[0].click()
    assert len(store.answers("p01")) == 36 and "Thank you" in again.message.value
    assert again.pause_button.layout.display == "none", "nothing is left to press"


def test_the_size_on_the_screen_is_stored_with_the_answer(small, clock):
    """Pictures of 160 pixels: at 1:1, smaller, on a dense screen; and a size that is not of these pictures is not known."""
    pictures, store = small
    page = study_page.SubjectPage(pictures, store, "p01")
    page.resume()
    told = ("160 160 1", "120.5 160 1", "160 160 3", "", "120 900 1", "nonsense", "nan 160 1", "160 160 inf", "0 160 1")
    for size in told:
        page.size.value = size
        clock.now += 1
        page.buttons[0].click()
    known = [(160.0, 1.0), (120.5, 0.7531), (160.0, 3.0)]
    assert [(a.width, a.scale) for a in store.answers("p01")] == known + 6 * [(None, None)]
    sizes = study_analysis.sizes(store)
    assert (sizes.answers, sizes.known, sizes.width, sizes.below) == (9, 3, 160.0, pytest.approx(1 / 3))
    assert study_figures.describe_sizes(sizes) == (
        "Median width of a picture on the screen: 160 CSS pixels (n = 3 answers, not known of 6 more); "
        "smaller than 1:1 in 33%."
    )


def test_a_key_pressed_twice_answers_once(small, clock):
    pictures, store = small
    page = study_page.SubjectPage(pictures, store, "p01")
    page.resume()
    clock.now = 2.0
    page.buttons[0].click()
    page.buttons[0].click()
    assert len(store.answers("p01")) == 1


def test_the_entrance_lets_a_subject_in_by_name(small, clock):
    pictures, store = small
    door = study_page.Entrance(pictures, store)
    for wrong in ("", "   "):
        door.name.value = wrong
        door.begin.click()
        assert door.page is None and "Please type a nickname" in door.message.value
    door.name.value = " Zoë <3 "
    door.begin.click()
    assert door.widget.children == (door.page.widget, door.accepted) and door.page.count.value == "1 of 36"
    clock.now = 2.0
    door.page.buttons[0].click()
    again = study_page.Entrance(pictures, store)  # the page was reloaded; or somebody else thought of the same name
    again.name.value = "zoë <3"
    again.begin.click()
    assert again.page is None and "begun as zoë &lt;3 and has answered 1 of 36" in again.message.value
    assert again.confirm.layout.display is None and again.confirm.description == "Yes, go on as zoë <3"
    clock.now += 5
    again.begin.click()  # that is no answer to the question
    again.confirm.click()  # nor is a press before anybody can have read it
    assert again.page is None
    clock.now += 1
    again.confirm.click()
    first = again.page
    for button in (again.confirm, again.begin):  # a double click
        button.click()
    assert again.page is first
    assert again.page.count.value == "2 of 36" and again.accepted.value == "zoë <3"
    fresh, twin = study_page.Entrance(pictures, store), study_page.Entrance(pictures, store)
    for page in (fresh, twin):
        page.name.value = "Bo"
        page.begin.click()
    assert (
        fresh.page and not twin.page and "begun as Bo and has not answered a question yet. If" in twin.message.value
    ), "two at once thought of one name"
    assert (fresh.accepted.value, twin.accepted.value) == ("Bo", ""), "only an accepted name is remembered"
    clock.now += 5
    twin.name.value = ""
    twin.begin.click()
    assert twin.confirm.layout.display == "none", "the question is gone"
    twin.confirm.click()
    assert twin.page is None
    shown = study_page.entrance(pictures.folder, store.folder, 9, 0)
    instructions = " ".join(getattr(part, "value", "") for part in shown.children)
    assert "36 pairs of pictures" in instructions and "about 4 minutes" in instructions
    assert "If you see no difference, choose either" in instructions and "cannot go back" in instructions


def test_a_browser_that_knows_a_subject_offers_to_go_on(small, clock):
    """Only with a study that is begun and not finished. The field stays empty for the next subject at this computer.

    A telephone reloads a page by itself, also the last one. It then thanks its subject again."""
    pictures, store = small
    first = study_page.Entrance(pictures, store)
    first.name.value = "Grey  Heron"
    first.begin.click()

    def remembering(name):
        door = study_page.Entrance(pictures, store)
        door.remembered.value = name
        return door

    def offered(name):
        door = remembering(name)
        return door if door.go_on.layout.display is None else None

    door = offered("Grey Heron")
    assert door.go_on.description == "Go on as Grey Heron: nothing answered yet"
    clock.now = 2.0
    first.page.buttons[0].click()
    door = offered(" grey Heron ")
    assert door.go_on.description == "Go on as grey Heron: 1 of 36 answered" and door.name.value == ""
    assert (door.go_on.button_style, door.begin.button_style) == ("primary", ""), "one button is the main one"
    for other in ("", "   ", "\ud800", "somebody else", "<b>"):
        assert not offered(other)
    door.go_on.click()
    assert door.widget.children == (door.page.widget, door.accepted) and door.page.count.value == "2 of 36"
    while first.page.trial:
        clock.now += 2.0
        first.page.buttons[0].click()
    assert not offered("Grey Heron"), "nothing is left to answer"
    assert "Your answers are stored." in first.page.message.value
    door = remembering("Grey Heron")
    assert door.welcome.value.startswith("Grey Heron has answered all 36 questions. Thank you.")
    assert door.instructions.layout.display == "none", "the thanks come first"
    door.somebody_else.click()
    assert door.instructions.layout.display is None and door.somebody_else.layout.display == "none"
    for other in ("", "somebody else"):
        assert not remembering(other).welcome.value
    door = study_page.Entrance(pictures, store)
    door.name.value = "grey heron"
    for _ in range(2):
        door.begin.click()
        assert door.message.value.startswith("grey heron has answered all 36 questions. Thank you.")
    assert door.page is None, "there is nothing to begin again"
    assert study_page.DONE in first.page.widget._dom_classes, "the page no longer needs its connection"


@pytest.mark.parametrize(
    ("questions", "words"), [(1, "a minute"), (14, "a minute"), (16, "2 minutes"), (108, "11 minutes")]
)
def test_the_time_is_told_in_minutes(tmp_path, questions, words):
    store = study_answers.AnswerStore(tmp_path / "answers", PICTURES, QUESTIONS[:questions])
    instructions = study_page.Entrance(PICTURES, store).instructions.value
    assert f"You will see {questions} pairs" in instructions and f"This takes about {words}. " in instructions


def test_the_page_is_sent_nothing_while_it_is_built(small, tmp_path, monkeypatch):
    """A message to the kernel then can hide the reply that the server waits for, and the page never opens (nbclient issue 312)."""
    sent = []
    monkeypatch.setattr(nbclient.output_widget.OutputWidget, "send", lambda self, data: sent.append(data))
    page = nbformat.read(study_server.write_page(tmp_path, *small), as_version=4)
    nbclient.execute(page, timeout=120)
    (cell,) = page.cells
    (shown,) = cell.outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data and not sent


def test_a_headless_run_shows_the_first_question(small):
    pictures, store = small
    fig = study_page.SubjectPage(pictures, store, "p01").static()
    assert sum(bool(ax.images) for ax in fig.axes) == 2
    assert store.answers("p01") == ()


def test_two_pages_of_one_subject_go_on_together(small, clock):
    """A question that the other page has answered is passed over without a word."""
    pictures, store = small
    one, other = (study_page.SubjectPage(pictures, store, "p01") for _ in "12")
    sequence = study_questions.order(pictures.questions, "p01", 0)
    for page in (one, other):
        page.resume()
    clock.now += 1
    one.buttons[0].click()
    other.buttons[1].click()
    assert [a.chosen for a in store.answers("p01")] == [sequence[0].left], "the first answer counts"
    assert other.trial == sequence[1] and other.message.value == one.message.value
    assert other.count.value == one.count.value == "2 of 36"


def test_a_subject_reads_no_error_of_ours(small, clock, caplog):
    """Paths, classes and JSON go to the log of the server. The subject learns whom to tell."""
    pictures, store = small
    page = study_page.SubjectPage(pictures, store, "p01")
    page.resume()
    store.file_of("p01").parent.mkdir()
    store.file_of("p01").write_text("nonsense\n")
    said = []
    clock.now += 1
    page.buttons[0].click()
    assert page.buttons[0].disabled and page.trial is None
    said.append(page.message.value)
    page.resume()
    said.append(page.message.value)
    said.append(study_page.SubjectPage(pictures, store, "p01").message.value)
    door = study_page.Entrance(pictures, store)
    door.name.value = "p01"
    door.begin.click()
    said.append(door.message.value)
    (store.folder / "study.json").write_text("{")
    said.append(study_page.entrance(pictures.folder, store.folder, 9, 0).children[0].value)
    for text in said:
        assert "lease tell the person who runs" in text
        assert not any(word in text for word in ("p01", "json", "line", "damaged", *store.folder.parts[1:]))
    logged = [record.getMessage() for record in caplog.records]
    assert sum("p01.jsonl, line 1: damaged" in text for text in logged) >= 4
    assert any("study.json: does not describe a study" in text for text in logged)
    served = study_server.command(pictures.folder / "study.ipynb", 8866, "127.0.0.1")
    assert "--VoilaConfiguration.show_tracebacks=False" in served, "a traceback names files, too"
