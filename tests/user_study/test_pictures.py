"""The study's pictures: the folder they lie in, and what reaches a subject's page."""

import io

import numpy as np
import pytest
from PIL import Image
from studies import QUESTIONS, fill
from synthetic import FULL, SCENES, write_study

from dped_lib.base.errors import DpedError
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import observers as study_observers
from dped_lib.user_study import page as study_page
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions


def test_a_folder_of_ones_own(tmp_path):
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine"))
    assert pictures.questions == QUESTIONS
    assert list(pictures.scenes) == list(study_questions.PAPER_SETS)
    assert pictures.digest == study_pictures.open_folder(tmp_path / "mine").digest
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert pictures.digest == study_pictures.open_folder(tmp_path / "moved").digest, "the place does not matter"
    Image.new("RGB", (160, 120)).save(tmp_path / "moved" / "sony" / "dslr" / "scene-3.png")
    assert pictures.digest != study_pictures.open_folder(tmp_path / "moved").digest


def test_a_phone_that_the_paper_has_not_comes_before_the_enhancers(tmp_path):
    """As in Figure 10, whose last part is that of the enhancers."""
    scenes = {"iphonex": FULL["iphone"], "enhancers": FULL["enhancers"], "sony": FULL["sony"]}
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine", scenes))
    assert list(pictures.scenes) == ["sony", "iphonex", "enhancers"]
    assert study_pictures.enhancers_phone(["sony", "iphone"]) == "iphone"
    assert study_pictures.enhancers_phone(["sony", "blackberry"]) == "sony"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "sony" / "dslr" / "scene-3.png").unlink(), "sony/dslr: scene 'scene-3' is missing"),
        (lambda f: (f / "sony" / "dslr").rename(f / "sony" / "canon"), "unknown class of pictures in .*'canon'"),
        (lambda f: (f / "sony" / "dslr").rename(f / "sony" / "manual"), "a set holds at least two of"),
        (lambda f: (f / "sony" / "dslr" / "scene-3.png").write_bytes(b"no"), "scene-3.png: no image"),
        (lambda f: [g.unlink() for g in f.glob("sony/*/scene-9.png")], "8 scenes, the study has 9"),
        (lambda f: f.rename(f.with_name("away")), "no such folder"),
        (lambda f: [g.rename(f.with_name(g.name)) for g in f.iterdir()], "no set of pictures"),
    ],
)
def test_a_wrong_folder_is_refused_by_name(tmp_path, spoil, message):
    folder = write_study(tmp_path / "mine")
    spoil(folder)
    with pytest.raises(DpedError, match=message):
        study_pictures.open_folder(folder)


def test_a_picture_that_changes_during_a_study_is_not_shown(tmp_path):
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine"))
    store = study_answers.AnswerStore(tmp_path / "answers", pictures.digest, pictures.questions)
    page = study_page.SubjectPage(pictures, store, "p01")
    asked = store.next("p01")
    file = pictures.files[asked.question.set, asked.left, asked.question.scene]
    old = file.read_bytes()
    Image.new("RGB", (160, 120)).save(file)
    with pytest.raises(DpedError, match=f"{file}: changed since this study began"):
        study_pictures.shown_pair(pictures, asked)
    page.resume()
    assert page.trial is None and "missing or has changed" in page.message.value
    assert not any(word in page.message.value for word in (*study_questions.CLASSES, asked.question.scene, "mine"))
    late = study_page.entrance(pictures.folder, store.folder, 9, 0)
    assert late.children[0].value == "This study cannot be opened now. Please tell the person who runs it."
    file.unlink()
    with pytest.raises(DpedError, match=f"{file}: cannot be read"):
        study_pictures.shown_pair(pictures, asked)
    file.write_bytes(old)
    page.resume()
    assert page.trial == asked


@pytest.mark.parametrize(
    "place",
    ["answers", "", "iphone", "iphone/answers", "iphone/dslr", "iphone/manual", "manual", "people", "iphone/dslr/a"],
)
@pytest.mark.parametrize("name", ["iphone", "people"])
def test_answers_may_lie_among_the_pictures(tmp_path, name, place):
    """Start, answer, start again: the study is the same wherever its answers lie, even for a set called "people"."""
    folder = write_study(tmp_path / "mine", {name: FULL["iphone"], "sony": FULL["sony"]})
    place = place.replace("iphone", name)
    for done in range(3):
        pictures = study_pictures.open_folder(folder)
        assert set(pictures.scenes) == {name, "sony"} and len(pictures.questions) == 54
        store = study_answers.AnswerStore(folder / place, pictures.digest, pictures.questions)
        assert len(store.answers("p01")) == done
        fill(store, "p01", 1)
        liked = {(q.set, c, q.scene): 0.0 for q in pictures.questions for c in (q.first, q.second)}
        study_observers.write_answers(store, liked, 2, 0, 0.0)


def test_a_page_is_blind(tmp_path):
    """Nothing but pixels reaches a subject's page: same size, same format, no metadata, no names."""
    scenes = {"sony": {c: SCENES for c in study_questions.KINDS["phone"]}}
    folder = write_study(tmp_path / "mine", scenes)
    for scene in SCENES:  # The DSLR's are larger, wider, JPEG and carry a camera's name.
        (folder / "sony" / "dslr" / f"{scene}.png").unlink()
        large = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 450, 3), np.uint8))
        exif = large.getexif()
        exif[0x0110] = "Canon EOS 70D"
        large.save(folder / "sony" / "dslr" / f"{scene}.jpg", exif=exif)
    pictures = study_pictures.open_folder(folder)
    for asked in study_questions.order(pictures.questions, "p01", 0)[:12]:
        pages = study_pictures.shown_png(pictures, asked)
        opened = [Image.open(io.BytesIO(p)) for p in pages]
        assert {im.size for im in opened} == {(160, 120)} and {im.format for im in opened} == {"PNG"}
        assert all(not im.info and not im.getexif() for im in opened)
        assert not any(word in p for p in pages for word in (b"Canon", b"dslr", b"sony", b"scene"))
