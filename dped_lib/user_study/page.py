"""The page of one subject in a notebook: two pictures side by side, and a button or a key for each.

Keys: 1 or the left arrow for the left picture, 2 or the right arrow for the right one, while the page has the focus (a click into it
gives it); Tab and Enter work on the buttons where a browser runs no scripts of a notebook. Nothing of what the page gets names a class, a
scene or a file. :class:`Entrance` stands before it where there is no notebook to name the subject in (``studyserve``).
"""

import html
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets

from dped_lib.user_study import pictures as study_pictures, study
from dped_lib.base.errors import DpedError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Seconds; nobody looks at two pictures and chooses in less.
_FASTEST = 0.2

_LEFT, _RIGHT = "dped-study-left", "dped-study-right"

# Keys press the buttons; nothing else goes from the page to the kernel. One listener, however often the cell is run.
# On the window and first of all listeners: in JupyterLab these keys would otherwise turn the cell into a heading.
_KEYS = """
(() => {
  if (window.dpedStudyKeys) return;
  window.dpedStudyKeys = true;
  const side = {"1": "LEFT", "ArrowLeft": "LEFT", "2": "RIGHT", "ArrowRight": "RIGHT"};
  window.addEventListener("keydown", event => {
    const entrance = event.key === "Enter" && event.target.closest && event.target.closest(".dped-study-entrance");
    if (entrance && event.target.matches("input")) entrance.querySelector("button").click();
    if (!side[event.key] || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const button = document.querySelector("." + side[event.key] + ":not([disabled])");
    const page = button && button.closest(".dped-study");
    const focus = document.activeElement;
    if (!page || (focus && focus !== document.body && !page.contains(focus))) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    button.click();
  }, true);
  window.addEventListener("click", event => {
    const page = event.target.closest && event.target.closest(".dped-study");
    if (!page || page.contains(document.activeElement)) return;
    page.tabIndex = -1;
    page.style.outline = "none";
    page.focus({preventScroll: true});
  });
})();
""".replace('"LEFT"', f'"{_LEFT}"').replace('"RIGHT"', f'"{_RIGHT}"')


def _keys() -> ipywidgets.Output:
    # Given whole. Filled with a `with` block it would send a message while the cell runs, and now and then Voila (and whatever else runs
    # notebooks by nbclient) waits for that cell's end forever: one page in twenty never opened. github.com/jupyter/nbclient/issues/312
    script = {"output_type": "display_data", "data": {"application/javascript": _KEYS}, "metadata": {}}
    return ipywidgets.Output(outputs=(script,))


class Study:
    """What one subject sees and presses. ``widget`` is to be displayed.

    A question's clock starts when both pictures are handed to the page, and stands still in a pause. Pausing forgets the
    question on the screen: it is asked again. Each answer is on the disk before the next question appears.

    Args:
        pictures, store: of the same study.
        subject: see ``study.check_subject``.
    """

    def __init__(self, pictures: study_pictures.Pictures, store: study.AnswerStore, subject: str):
        self.pictures, self.store, self.subject = pictures, store, study.check_subject(subject)
        self.asked: study.Asked | None = None
        self._since = 0.0
        side = ipywidgets.Layout(width="49%")
        self.images = [ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="100%")) for _ in "12"]
        self.buttons = [
            ipywidgets.Button(description=words, tooltip=f"key {key}", layout=ipywidgets.Layout(width="100%"))
            for key, words in (("1 or left arrow", "1 · this one"), ("2 or right arrow", "2 · this one"))
        ]
        for button, name, place in zip(self.buttons, (_LEFT, _RIGHT), (0, 1), strict=True):
            button.add_class(name)
            button.on_click(lambda _, place=place: self.choose(place))
        self.pause_button = ipywidgets.Button(description="Start")
        self.pause_button.on_click(lambda _: self.pause() if self.asked else self.resume())
        self.progress = ipywidgets.IntProgress(max=len(store.questions), layout=ipywidgets.Layout(width="40%"))
        self.message = ipywidgets.HTML()
        columns = [
            ipywidgets.VBox([image, button], layout=side)
            for image, button in zip(self.images, self.buttons, strict=True)
        ]
        self._pair = ipywidgets.HBox(columns, layout=ipywidgets.Layout(justify_content="space-between"))
        top = ipywidgets.HBox([self.progress, self.message, self.pause_button])
        top.layout = ipywidgets.Layout(flex_flow="row wrap", align_items="center")
        self.widget = ipywidgets.VBox([top, self._pair, _keys()])
        self.widget.add_class("dped-study")
        self._hide("Which of two pictures looks better? Overlook what is cut off at the edges.")

    def static(self) -> "Figure":
        """The first question, which a headless run shows in the page's place: nobody can answer there."""
        from dped_lib.user_study import figures as study_figures  # it draws, which a subject's page does not need

        first = study.order(self.store.questions.values(), self.subject, self.store.seed)[0]
        return study_figures.question(*study_pictures.shown(self.pictures, first), first)

    def resume(self) -> None:
        """Asks the question that the subject is at."""
        try:
            asked = self.store.next(self.subject)
            if asked is None:
                self._hide("That was the last question. Thank you.")
                self.pause_button.disabled = True
                return
            left, right = study_pictures.page(self.pictures, asked)
        except DpedError as error:
            self._hide(str(error))
            return
        self.images[0].value, self.images[1].value = left, right
        self._pair.layout.visibility = "visible"
        self.pause_button.description = "Pause"
        for button in self.buttons:
            button.disabled = False
        self.progress.value = done = self._answered()
        self.message.value = f"Question {done + 1} of {len(self.store.questions)}: which looks better?"
        self.asked, self._since = asked, time.monotonic()

    def pause(self) -> None:
        """Takes the pictures away; the question on the screen will be asked again."""
        self._hide("Paused. Everything that was answered is kept.")

    def choose(self, place: int) -> None:
        """0: the left picture, 1: the right one."""
        asked, seconds = self.asked, time.monotonic() - self._since
        if asked is None or seconds < _FASTEST:
            return  # a key pressed twice: the second press was not meant for pictures that nobody has seen
        self.asked = None
        try:
            self.store.record(self.subject, asked, (asked.left, asked.right)[place], seconds)
        except DpedError as error:
            self._hide(str(error))
            return
        self.resume()

    def _answered(self) -> int:
        return len(self.store.answers(self.subject))

    def _hide(self, words: str) -> None:
        self.asked = None
        self._pair.layout.visibility = "hidden"
        for image, button in zip(self.images, self.buttons, strict=True):
            image.value, button.disabled = b"", True
        try:
            self.progress.value = self._answered()
        except DpedError as error:
            words = str(error)
        self.pause_button.description = "Go on" if self.progress.value else "Start"
        self.message.value = html.escape(words)


class Entrance:
    """The first thing a subject sees on a page without code: a field for a made-up name, then :class:`Study`.

    A name that has answers already is not taken up before it is pressed a second time: two subjects may think of the same.
    """

    def __init__(self, pictures: study_pictures.Pictures, store: study.AnswerStore):
        self.pictures, self.store = pictures, store
        self.study: Study | None = None
        self.name = ipywidgets.Text(placeholder="a made-up name", continuous_update=True)
        self.begin = ipywidgets.Button(description="Begin", button_style="primary")
        self.message = ipywidgets.HTML()
        self._asked_about = ""
        self.begin.on_click(lambda _: self.enter())
        words = ipywidgets.HTML(
            f"<div style='max-width:46em'><h2>Which picture looks better?</h2><p>You will see {len(store.questions)} pairs of pictures. Choose the better "
            "looking one of each: press 1 or the left arrow for the left one, 2 or the right arrow for the right one, or the button below "
            "it. There is no right answer. You may pause at any time and go on later under the same name.</p>"
            "<p>Take a made-up name (lower-case letters and digits), not your own:</p></div>"
        )
        row = ipywidgets.HBox([self.name, self.begin])
        self.widget = ipywidgets.VBox([words, row, self.message, _keys()])
        self.widget.add_class("dped-study-entrance")

    def enter(self) -> None:
        """Lets the subject in under the name in the field, or says why not."""
        try:
            name = study.check_subject(self.name.value.strip())
            done = len(self.store.answers(name))
        except DpedError as error:
            self.message.value = html.escape(str(error))
            return
        if done and self._asked_about != name:
            self._asked_about = name
            self.message.value = html.escape(
                f"{name} has answered {done} of {len(self.store.questions)} questions. If that was you, press Begin again to go "
                "on; if not, take another name."
            )
            return
        self.study = Study(self.pictures, self.store, name)
        self.widget.children = (self.study.widget,)
        self.study.resume()


def entrance(pictures: str | Path, answers: str | Path, scenes: int, seed: int) -> ipywidgets.Widget:
    """The page of one subject, from the two folders that all subjects share.

    Raises:
        DpedError: see ``study_pictures.open_folder`` and ``study.AnswerStore``.
    """
    found = study_pictures.open_folder(Path(pictures), scenes)
    store = study.AnswerStore(Path(answers), found.digest, found.questions, seed)
    return Entrance(found, store).widget
