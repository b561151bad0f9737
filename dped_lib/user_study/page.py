"""Show a subject two pictures of equal size, and take the answer by a click, a tap or a key.

A click or tap on a picture chooses it. The key 1 or the left arrow chooses the first picture, the key 2 or the right
arrow the second one. The page must have the focus; a click into it gives it the focus. If a browser does not run a
notebook's scripts, Tab and Enter work on the buttons below the pictures. The browser receives no name of a class, a
scene or a file. :class:`Entrance` asks for the subject's name on the page that ``server`` serves. ``page_style`` lays
the page out, and ``page_script`` runs in the browser.
"""

import html
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets

from dped_lib.base.errors import DpedError
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study.answers import AnsweredError, AnswerStore
from dped_lib.user_study.page_script import LOOK, READ, SCRIPT
from dped_lib.user_study.page_style import (
    ACCEPTED,
    ASKING,
    BEGIN,
    CONFIRM,
    DONE,
    FIRST,
    GO_ON,
    REMEMBERED,
    SECOND,
    SHOWN,
    STYLE,
)
from dped_lib.user_study.questions import Trial, order
from dped_lib.user_study.subjects import subject_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Seconds. Nobody looks at two pictures and chooses in less.
_FASTEST = LOOK / 1000

#: Seconds. Nobody reads in less whether a name is theirs.
_READ = READ / 1000

#: Seconds for two pictures, from which the page tells how long the study takes. Nobody has measured it.
_USUAL = 6

#: Number of letters of a name that a message shows.
_LONGEST = 40

#: What a subject is asked, and what to do where the two cameras do not show quite the same.
_QUESTION = "Which picture looks better?"
_EDGES = "Please ignore small differences at the edges of the pictures."

#: What a subject reads in place of an error, which may name files and classes of pictures.
_WRONG = "Something is wrong with this study. Please tell the person who runs it."


def _minutes(questions: int) -> str:
    minutes = max(1, round(questions * _USUAL / 60))
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def _style() -> ipywidgets.HTML:
    style = ipywidgets.HTML(STYLE)
    style.add_class("dped-study-style")
    return style


def _keys() -> ipywidgets.Output:
    # We pass the script as a value. A `with` block would send a message while the cell runs, and then Voila and other
    # users of nbclient sometimes wait forever: one page in twenty never opened. See
    # github.com/jupyter/nbclient/issues/312
    script = {"output_type": "display_data", "data": {"application/javascript": SCRIPT}, "metadata": {}}
    return ipywidgets.Output(outputs=(script,))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


def _log(widget: ipywidgets.Widget, error: DpedError) -> None:
    # In a kernel, this log goes to the server's terminal. What we write to sys.stderr would also go to the browser.
    widget.log.error("user study: %s", error)


class SubjectPage:
    """Show the pictures and buttons of one subject. Display ``widget``.

    The clock of a trial starts when the page is sent both pictures. After a pause, the trial on the screen is shown again.
    Each answer is on the disk before the next trial appears.

    Args:
        pictures, store: of the same study.
        subject: the name that the subject typed, or its id (``subjects.subject_id``).

    Raises:
        DpedError: the name is empty.
    """

    def __init__(self, pictures: study_pictures.Pictures, store: AnswerStore, subject: str):
        self.pictures, self.store, self.subject = pictures, store, subject_id(subject)
        self._typed = _short(" ".join(subject.split()))
        self.trial: Trial | None = None
        self._since = 0.0
        self.images = [ipywidgets.Image(format="png") for _ in "12"]
        self.buttons = [
            ipywidgets.Button(description="This one", tooltip=f"key {key}")
            for key in ("1 or left arrow", "2 or right arrow")
        ]
        for button, name, place in zip(self.buttons, (FIRST, SECOND), (0, 1), strict=True):
            button.add_class(name)
            button.on_click(lambda _, place=place: self.choose(place))
        self.pause_button = ipywidgets.Button(description="Start")
        self.pause_button.on_click(lambda _: self.pause() if self.trial else self.resume())
        self.count = ipywidgets.HTML()
        self.progress = ipywidgets.IntProgress(max=len(store.questions))
        self.message = ipywidgets.HTML()
        # The script writes here how large the pictures are on the subject's screen.
        self.size = ipywidgets.Text()
        self.size.add_class(SHOWN)
        columns = [ipywidgets.VBox([image, button]) for image, button in zip(self.images, self.buttons, strict=True)]
        self._pair = ipywidgets.HBox(columns)
        self._pair.add_class("dped-study-pair")
        top = ipywidgets.HBox([self.count, self.progress, self.pause_button])
        top.add_class("dped-study-top")
        self.message.add_class("dped-study-message")
        self.widget = ipywidgets.VBox([_style(), top, self.message, self._pair, self.size, _keys()])
        self.widget.add_class("dped-study")
        self._hide(f"{_QUESTION} {_EDGES}")

    def static(self) -> "Figure":
        """Return a figure of the first trial. A run without a browser shows it in place of the page."""
        # It loads matplotlib, which a subject's page does not need.
        from dped_lib.user_study import figures as study_figures

        first = order(self.store.questions.values(), self.subject, self.store.seed)[0]
        return study_figures.trial_figure(*study_pictures.shown_pair(self.pictures, first), first)

    def resume(self) -> None:
        """Show the subject's next trial, or say that there is none."""
        try:
            trial = self.store.next(self.subject)
            if trial is None:
                self._hide(
                    "That was the last question. Thank you. Your answers are stored. You can close this page now."
                )
                self.pause_button.layout.display = "none"
                self.widget.add_class(DONE)
                return
            done = self._answered()
        except DpedError as error:
            _log(self.widget, error)
            self._hide(_WRONG)
            return
        try:
            left, right = study_pictures.shown_png(self.pictures, trial)
        except DpedError as error:
            _log(self.widget, error)
            self._hide("A picture of this study is missing or has changed. Please tell the person who runs the study.")
            return
        # The clock starts before the browser can have the pictures, so it never refuses a press that the browser lets pass.
        self.trial, self._since = trial, time.monotonic()
        self.images[0].value, self.images[1].value = left, right
        self._pair.layout.display = None
        self.widget.add_class(ASKING)
        self.pause_button.description = "Pause"
        for button in self.buttons:
            button.disabled = False
        self.progress.value = done
        self.count.value = f"{done + 1} of {len(self.store.questions)}"
        self.message.value = _QUESTION

    def pause(self) -> None:
        """Hide the pictures. The trial on the screen will be shown again."""
        self._hide(
            "Paused. Your answers are stored. You can close this page, and go on later with the same nickname: "
            f"{self._typed}"
        )

    def choose(self, place: int) -> None:
        """Store the choice of the left picture (0) or the right one (1), and show the next trial."""
        trial, seconds = self.trial, time.monotonic() - self._since
        if trial is None or seconds < _FASTEST:
            return  # The key was pressed twice. The second press belongs to pictures that are gone.
        self.trial = None
        try:
            self.store.record(self.subject, trial, (trial.left, trial.right)[place], seconds, self._shown())
        except AnsweredError:
            pass  # The subject has a second page open and has answered there.
        except DpedError as error:
            _log(self.widget, error)
            self._hide("This answer was not stored. Please tell the person who runs the study.")
            return
        self.resume()

    def _shown(self) -> tuple[float, float] | None:
        """Return the width of a picture in CSS pixels and its scale (``answers.Answer``), or None if they are not known.

        The browser says "WIDTH NATURAL DENSITY": the width on the screen, the width of the file, and pixels of the
        screen for each CSS pixel.
        """
        try:
            width, natural, density = map(float, self.size.value.split())
        except ValueError:
            return None
        # The size may be that of the pictures before. A PNG file has its width in bytes 16 to 19.
        if natural <= 0 or natural != int.from_bytes(self.images[0].value[16:20], "big"):
            return None
        scale = width * density / natural
        return (width, scale) if width > 0 and 0 < scale < math.inf else None

    def _answered(self) -> int:
        return len(self.store.answers(self.subject))

    def _hide(self, message: str) -> None:
        self.trial = None
        self._pair.layout.display = "none"
        self.widget.remove_class(ASKING)
        for image, button in zip(self.images, self.buttons, strict=True):
            image.value, button.disabled = b"", True
        try:
            self.progress.value = self._answered()
        except DpedError as error:
            _log(self.widget, error)
            message = _WRONG
        done, total = self.progress.value, len(self.store.questions)
        self.count.value = f"{done} of {total} answered" if done else f"{total} questions"
        self.pause_button.description = "Go on" if done else "Start"
        self.message.value = html.escape(message)


class Entrance:
    """Ask for a subject's name, and then show :class:`SubjectPage`.

    If the name is taken, the page asks whether the subject is the same person, because two subjects can choose the same
    name. Another button says yes, and only after a moment: an impatient finger presses "Begin" twice. The browser
    remembers the last name that was accepted. If its study is not finished, a button offers to go on with it. If it is
    finished, the page thanks the subject. The field stays empty, because the next subject may sit at the same computer.
    """

    def __init__(self, pictures: study_pictures.Pictures, store: AnswerStore):
        self.pictures, self.store = pictures, store
        self.page: SubjectPage | None = None
        # The script sends the whole name just before the click. The widget's own updates can arrive after it.
        self.name = ipywidgets.Text(placeholder="a nickname", continuous_update=False)
        self.begin = ipywidgets.Button(description="Begin", button_style="primary")
        self.begin.add_class(BEGIN)
        self.remembered = ipywidgets.Text()
        self.remembered.add_class(REMEMBERED)
        self.remembered.observe(lambda _: self._offer(), "value")
        self.go_on = ipywidgets.Button(button_style="primary", layout={"display": "none"})
        self.go_on.add_class(GO_ON)
        self.go_on.on_click(lambda _: self._open(self.remembered.value))
        self.welcome = ipywidgets.HTML()  # above all else, to a subject whom the browser remembers
        self.somebody_else = ipywidgets.Button(layout={"display": "none"})
        self.somebody_else.on_click(lambda _: self._show_start(True))
        self.message = ipywidgets.HTML()
        self.begin.on_click(lambda _: self.enter())
        self.accepted = ipywidgets.Text()  # The browser remembers this name.
        self.accepted.add_class(ACCEPTED)
        self.confirm = ipywidgets.Button(layout={"display": "none"})
        self.confirm.add_class(CONFIRM)
        self.confirm.on_click(lambda _: self._confirmed())
        self._asked, self._since = "", 0.0  # the taken name about which the page asks, and since when
        self.instructions = ipywidgets.HTML(
            f"<h2>{_QUESTION}</h2><p>You will see {len(store.questions)} pairs of pictures. In each pair, tap or click "
            "the picture that looks better to you. <span class='dped-study-keyboard'>On a keyboard, press 1 for the "
            "<span class='dped-study-beside'>left picture, 2 for the right one. The left and right arrows do the same."
            "</span><span class='dped-study-stacked'>upper picture, 2 for the lower one.</span></span></p>"
            f"<p>There is no right answer: go by your first impression. If you see no difference, choose either. "
            f"{_EDGES} You cannot go back to a pair.</p>"
            f"<p>This takes about {_minutes(len(store.questions))}. You can pause at any time, and go on later with the "
            "same nickname.</p><p>Please choose a nickname. It is stored with your answers, so do not use your real "
            "name.</p>"
        )
        row = ipywidgets.HBox([self.name, self.begin])
        self._start = [self.instructions, self.message, row]
        first = [self.go_on, self.welcome, self.somebody_else]
        self.widget = ipywidgets.VBox([*first, *self._start, self.confirm, self.remembered, _style(), _keys()])
        self.widget.add_class("dped-study-entrance")

    def enter(self) -> None:
        """Open the page of the subject with the name in the field, or say why that is not possible."""
        if self.page:
            return  # The button was pressed twice.
        typed = " ".join(self.name.value.split())
        try:
            subject = subject_id(typed)
        except DpedError as error:  # Its message addresses the subject.
            self._say(str(error))
            return
        try:
            done = len(self.store.answers(subject))
            new = self.store.begin(subject)
        except DpedError as error:
            _log(self.widget, error)
            self._say(_WRONG)
            return
        if done == len(self.store.questions):
            self._say(f"{self._thanks(typed)} If that was not you, choose another nickname.")
            return
        if new:
            self._open(typed)
        else:
            self._ask(typed, done)

    def _ask(self, name: str, done: int) -> None:
        yes = f"Yes, go on as {_short(name)}"
        answered = (
            f"answered {done} of {len(self.store.questions)} questions" if done else "not answered a question yet"
        )
        self._say(
            f"Somebody has already begun as {_short(name)} and has {answered}. "
            f"If that was you, press “{yes}”. If not, choose another nickname."
        )
        self._asked, self._since = name, time.monotonic()
        self.confirm.description = yes
        self.confirm.layout.display = None

    def _confirmed(self) -> None:
        if self._asked and not self.page and time.monotonic() - self._since >= _READ:
            self._open(self._asked)

    def _say(self, message: str) -> None:
        self.message.value, self._asked = html.escape(message), ""
        self.confirm.layout.display = "none"

    def _offer(self) -> None:
        name, total = " ".join(self.remembered.value.split()), len(self.store.questions)
        try:
            subject = subject_id(name)
            done = len(self.store.answers(subject))
        except DpedError as error:
            _log(self.widget, error)
            return
        if done == total:
            self.welcome.value = html.escape(f"{self._thanks(name)} You can close this page now.")
            # Sooner, it would be seen for a moment while the page opens.
            self.somebody_else.description = "Somebody else wants to answer"
            self._show_start(False)
        elif self.store.file_of(subject).is_file():  # The browser may remember a name of another study.
            answered = f"{done} of {total} answered" if done else "nothing answered yet"
            self.go_on.description = f"Go on as {_short(name)}: {answered}"
            self.go_on.layout.display = None
            self.begin.button_style = ""
            self.welcome.value = "Or begin as somebody else:"

    def _show_start(self, shown: bool) -> None:
        for part in self._start:
            part.layout.display = None if shown else "none"
        self.somebody_else.layout.display = "none" if shown else None

    def _thanks(self, name: str) -> str:
        return f"{_short(name)} has answered all {len(self.store.questions)} questions. Thank you."

    def _open(self, name: str) -> None:
        self.page = SubjectPage(self.pictures, self.store, name)
        self.page.resume()  # before it is shown, so that the first thing to see is a question
        self.widget.remove_class("dped-study-entrance")
        self.accepted.value = " ".join(name.split())
        self.widget.children = (self.page.widget, self.accepted)


def entrance(folder: str | Path, answers: str | Path, scenes: int, seed: int) -> ipywidgets.Widget:
    """Return the page of one subject, from the folders of pictures and answers that all subjects share.

    If the study cannot be opened, the page says so without the reason, because the reason may name a class of pictures.
    The command ``dped study`` opens the same folders first and shows the reason.
    """
    try:
        pictures = study_pictures.open_folder(folder, scenes)
        store = AnswerStore(answers, pictures.digest, pictures.questions, seed)
    except DpedError as error:
        closed = ipywidgets.HTML("This study cannot be opened now. Please tell the person who runs it.")
        _log(closed, error)
        page = ipywidgets.VBox([closed, _style()])
        page.add_class("dped-study-entrance")
        return page
    return Entrance(pictures, store).widget
