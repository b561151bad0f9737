"""The user study: its questions and their order, answers that survive anything, and an analysis checked on known preferences."""

import collections
import dataclasses
import functools
import io
import itertools
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic import FULL, SCENES, write_study

from dped_lib import models, paper
from dped_lib.base import datasets, paths
from dped_lib.base.errors import DpedError
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import baselines, statistics
from dped_lib.user_study import agreement as study_agreement
from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import figures as study_figures
from dped_lib.user_study import make_pictures
from dped_lib.user_study import observers as study_observers
from dped_lib.user_study import page as study_page
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions
from dped_lib.user_study import server as study_server
from dped_lib.user_study import subjects as study_subjects

EXPECTED_FIRST = [("iphone/scene-2/original-enhanced", "enhanced"), ("iphone/scene-3/dslr-enhanced", "enhanced")]
PICTURES = "0" * 64
QUESTIONS = study_questions.all_questions(FULL)


@pytest.fixture
def store(tmp_path):
    return study_answers.AnswerStore(tmp_path / "answers", PICTURES, QUESTIONS)


# ---------------------------------------------------------------------------------------------- design


def test_the_study_is_the_papers():
    assert len(QUESTIONS) == paper.STUDY_QUESTIONS == 108
    counts = collections.Counter(q.set for q in QUESTIONS)
    assert counts == {"blackberry": 27, "iphone": 27, "sony": 27, "enhancers": 27}
    assert list(dict.fromkeys(q.set for q in QUESTIONS)) == list(study_questions.PAPER_SETS), "the order of Figure 10"


def test_every_pair_of_every_scene_once():
    asked = collections.Counter((q.set, q.scene, frozenset((q.first, q.second))) for q in QUESTIONS)
    assert set(asked.values()) == {1}
    for name, kind in study_questions.PAPER_SETS.items():
        a, b, c = study_questions.KINDS[kind]
        for scene in SCENES:
            assert {p for s, sc, p in asked if (s, sc) == (name, scene)} == {
                frozenset((a, b)),
                frozenset((a, c)),
                frozenset((b, c)),
            }
    assert len({q.key for q in QUESTIONS}) == 108


def test_dslr_against_enhanced_is_the_third_bar_of_a_phone():
    pairs = list(dict.fromkeys((q.first, q.second) for q in QUESTIONS if q.set == "sony"))
    assert pairs[2] == ("dslr", "enhanced")


def test_a_missing_class_leaves_its_questions_out():
    scenes = {**FULL, "enhancers": {c: SCENES for c in ("automatic", "enhanced")}}
    asked = study_questions.all_questions(scenes)
    assert len(asked) == 81 + 9


def test_order_is_a_shuffle_of_its_own_for_every_subject():
    one, again, other = (study_questions.order(QUESTIONS, s, 0) for s in ("p01", "p01", "p02"))
    assert one == again
    assert sorted(a.question for a in one) == sorted(QUESTIONS)
    assert [a.number for a in one] == list(range(1, 109)) and {a.total for a in one} == {108}
    places = [[a.question.key for a in order].index(QUESTIONS[0].key) for order in (one, other)]
    assert places[0] != places[1]
    assert study_questions.order(QUESTIONS, "p01", 1) != one, "the study's seed matters"
    assert study_questions.order(reversed(QUESTIONS), "p01", 0) == one, "the order they come in does not"


def test_order_stays_the_same_forever():
    """A subject who goes on after an update must see the same sides; written down once."""
    first = study_questions.order(QUESTIONS, "p01", 0)[:2]
    assert [(a.question.key, a.left) for a in first] == EXPECTED_FIRST


def test_sides_are_balanced():
    orders = [study_questions.order(QUESTIONS, f"p{i:03}", 0) for i in range(200)]
    for sequence in orders:
        assert sum(a.left == a.question.first for a in sequence) == 54, "half of a subject's questions"
    left = collections.Counter(a.question for o in orders for a in o if a.left == a.question.first)
    # 200 fair coins: five standard deviations are 35.
    assert all(abs(left[q] - 100) < 36 for q in QUESTIONS)
    for cls in study_questions.CLASSES:
        sides = [a.left == cls for o in orders for a in o if cls in (a.left, a.right)]
        assert abs(np.mean(sides) - 0.5) < 0.02
    place = np.mean([[a.number for a in sorted(o, key=lambda a: a.question)] for o in orders], 0)
    assert np.all(np.abs(place - 54.5) < 5 * 31.2 / np.sqrt(200)), "no question comes early for everyone"


def test_neighbours_do_not_tell_the_class():
    """Which class was left before says nothing of which is left now."""
    runs = []
    for i in range(300):
        sides = [a.left == a.question.first for a in study_questions.order(QUESTIONS, f"p{i}", 0)]
        runs.append(np.mean([a == b for a, b in itertools.pairwise(sides)]))
    assert abs(np.mean(runs) - 53 / 107) < 0.012


# ---------------------------------------------------------------------------------------------- pictures


def test_a_folder_of_ones_own(tmp_path):
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine"))
    assert pictures.questions == QUESTIONS
    assert list(pictures.scenes) == list(study_questions.PAPER_SETS)
    assert pictures.digest == study_pictures.open_folder(tmp_path / "mine").digest
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert pictures.digest == study_pictures.open_folder(tmp_path / "moved").digest, "the place does not matter"
    Image.new("RGB", (160, 120)).save(tmp_path / "moved" / "sony" / "dslr" / "scene-3.png")
    assert pictures.digest != study_pictures.open_folder(tmp_path / "moved").digest


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
    assert late.value == "This study cannot be opened now. Please tell the person who runs it."
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


# ---------------------------------------------------------------------------------------------- answers


def test_an_answer_is_on_the_disk_at_once(store):
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 2.25)
    line = json.loads(store.file_of("p01").read_text())
    assert line["subject"] == "p01" and line["observer"] == "person" and line["question"] == asked.question.key
    assert (line["left"], line["right"], line["chosen"]) == (asked.left, asked.right, asked.left)
    assert line["seconds"] == 2.25 and line["at"].endswith("+00:00") and line["study"] == store.study


def test_resume(store):
    sequence = study_questions.order(QUESTIONS, "p01", 0)
    for asked in sequence[:40]:
        assert store.next("p01") == asked
        store.record("p01", asked, asked.right, 1.0)
    again = study_answers.AnswerStore(store.folder, PICTURES, QUESTIONS)
    assert again.next("p01") == sequence[40]
    for asked in sequence[40:]:
        again.record("p01", asked, asked.left, 1.0)
    assert again.next("p01") is None
    assert len(again.answers("p01")) == 108


def test_a_question_is_answered_once(store):
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 1.0)
    with pytest.raises(DpedError, match="has been answered; each is asked once"):
        study_answers.AnswerStore(store.folder, PICTURES, QUESTIONS).record("p01", asked, asked.right, 1.0)
    assert [a.chosen for a in store.answers("p01")] == [asked.left]


# Written down once: a subject who comes back after an update must find the old answers.
IDS = {
    "p01": "p01",
    "Anna": "anna",
    " P01\n": "p01",
    "Anna Müller": "anna-muller.432f35a692ab4ee6",
    "ANNA  MÜLLER": "anna-muller.432f35a692ab4ee6",
    "Anna Mu\u0308ller": "anna-muller.432f35a692ab4ee6",
    "李明": "name.8889b7ba1531a5ea",
    "👩\u200d🚀": "name.b0e8202683618eb0",
    "../p01": "p01.40e95f1cc03f8fea",
    "CON": "con-.acc82a283a2469f6",
}


@pytest.mark.parametrize("name", IDS)
def test_people_type_what_they_like(store, name):
    assert study_subjects.subject_id(name) == IDS[name]
    assert study_subjects.subject_id(IDS[name]) == IDS[name], "an id is its own id"
    asked = store.next(name)
    store.record(name, asked, asked.left, 1.0)
    assert store.subjects() == (IDS[name],)
    (answer,) = store.answers(name)
    assert answer.subject == IDS[name] and store.answers(IDS[name]) == (answer,)
    assert store.file_of(name).parent == store.folder / "people" and store.next(name) != asked


@pytest.mark.parametrize(
    ("one", "other"),
    [("J\u030cana", "\u01f0ana"), ("\u200bAnna", "anna\ufeff"), ("❤", "❤\ufe0f"), ("李\u3000明", "李 明")],
)
def test_what_looks_the_same_is_the_same_name(one, other):
    assert study_subjects.subject_id(one) == study_subjects.subject_id(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Anna", "Ana"), ("Straße", "Strasse"), ("Müller", "Muller"), ("m²", "m2"), ("a b", "a-b"), ("a/b", "a:b"), ("con", "con-"),
     ("👩🚀", "👩\u200d🚀"), ("🏴\U000e0067\U000e0062", "🏴\U000e0075\U000e0073"), ("x" * 5000, "x" * 5001), ("李", "王"), (".", "..")],
)  # fmt: skip
def test_different_names_never_share_a_file(one, other):
    assert study_subjects.subject_id(one) != study_subjects.subject_id(other)


_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_every_id_is_a_safe_file_name(one, other):
    found = []
    for name in (one, other):
        try:
            found.append(study_subjects.subject_id(name))
        except DpedError as error:
            assert "name" in str(error)
            return
    for subject in found:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", subject) and len(subject) <= 40 and not _RESERVED.match(subject)
        assert study_subjects.subject_id(subject) == subject
    if re.fullmatch(r"[\x21-\x7e]+", one + other):
        assert (found[0] == found[1]) == (one.lower() == other.lower())


@pytest.mark.parametrize("name", ["", "  ", "\t\n", "\u3000", "\u200b", "\u3164"])
def test_an_empty_name_is_refused_in_a_subjects_words(store, name):
    with pytest.raises(DpedError, match="^Please type a name. Any word, number or sign will do.$"):
        store.next(name)


def test_names_that_are_no_text(store):
    with pytest.raises(DpedError, match="did not arrive whole"):
        store.next("anna\ud83d")
    for wrong in (None, 7, True):
        with pytest.raises(DpedError, match="a name is text"):
            store.next(wrong)


def test_a_name_is_new_for_one_subject_only(tmp_path):
    folder = tmp_path / "answers"
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        taken = pool.map(_begin, [(folder, name) for name in ("ada", "Ada", "ADA", "bo", " ada ")])
    assert sum(taken) == 2
    store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
    assert store.subjects() == ("ada", "bo") and store.everyone() == ()


def _begin(job):
    folder, name = job
    return study_answers.AnswerStore(folder, PICTURES, QUESTIONS).begin(name)


@pytest.mark.parametrize("stray", ["P01.jsonl", "p01 (copy).jsonl", "Anna Müller.jsonl"])
def test_a_file_that_belongs_to_nobody_is_named(store, stray):
    file = fill(store, "p02", 2)
    file.rename(file.with_name(stray))
    with pytest.raises(DpedError, match=f"{re.escape(stray)}: this name is not the id of a subject"):
        store.everyone()
    (file.parent / stray).rename(file.with_name("._p02.jsonl"))  # as macOS leaves them on other disks
    assert store.everyone() == ()


def test_choices_that_were_not_shown(store):
    asked = store.next("p01")
    for chosen, seconds in (("nothing", 1.0), (asked.left, -1.0), (asked.left, float("nan"))):
        with pytest.raises(DpedError):
            store.record("p01", asked, chosen, seconds)
    foreign = dataclasses.replace(asked, question=dataclasses.replace(asked.question, scene="elsewhere"))
    with pytest.raises(DpedError, match="not of this study"):
        store.record("p01", foreign, asked.left, 1.0)
    assert store.answers("p01") == ()


def test_answers_to_other_pictures_are_not_mixed(store):
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 1.0)
    with pytest.raises(DpedError, match="other pictures"):
        study_answers.AnswerStore(store.folder, "1" * 64, QUESTIONS)
    with pytest.raises(DpedError, match="other seed 0"):
        study_answers.AnswerStore(store.folder, PICTURES, QUESTIONS, seed=1)
    other = study_answers.AnswerStore(store.folder.with_name("other"), "1" * 64, QUESTIONS)
    other.file_of("p01").parent.mkdir()
    store.file_of("p01").rename(other.file_of("p01"))
    with pytest.raises(DpedError, match="p01.jsonl, line 1: an answer to another study"):
        other.answers("p01")


def fill(store, subject, n):
    for _ in range(n):
        asked = store.next(subject)
        store.record(subject, asked, asked.left, 1.0)
    return store.file_of(subject)


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_half_line_is_the_only_loss(store, cut):
    file = fill(store, "p01", 5)
    whole = file.read_bytes()
    file.write_bytes(whole[: -1 - cut])
    assert len(store.answers("p01")) == 4
    fill(store, "p01", 2)
    assert len(store.answers("p01")) == 6 and len(file.read_text().splitlines()) == 6


def test_a_torn_line_is_set_aside(store):
    file = fill(store, "p01", 2)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"study": "ab')
    assert len(store.answers("p01")) == 2
    fill(store, "p01", 1)
    assert file.read_bytes().startswith(whole) and len(store.answers("p01")) == 3
    assert file.with_suffix(".torn").read_bytes() == b'{"study": "ab\n' and store.subjects() == ("p01",)


def test_a_whole_last_line_is_never_taken_for_a_torn_one(store):
    """A line of another version, and an editor that drops the last line end."""
    file = fill(store, "p01", 2)
    file.write_bytes(file.read_bytes().rstrip(b"\n").replace(b'"at"', b'"when"'))
    before = file.read_bytes()
    asked = study_questions.order(QUESTIONS, "p01", 0)[2]
    with pytest.raises(DpedError, match="line 1: damaged"):
        store.record("p01", asked, asked.left, 1.0)
    assert file.read_bytes() == before


def test_empty_lines_are_no_damage(store):
    file = fill(store, "p01", 2)
    file.write_bytes(b"\n" + file.read_bytes().replace(b"\n", b"\r\n\n") + b"\n")
    assert len(store.answers("p01")) == 2
    fill(store, "p01", 1)
    assert len(store.answers("p01")) == 3


def _fill_a_disk(folder, room):
    store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
    file = fill(store, "p01", 3)
    before = file.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    asked = store.next("p01")
    with pytest.raises(DpedError, match="p01.jsonl: not written, the disk is full"):
        store.record("p01", asked, asked.left, 1.0)
    assert file.read_bytes() == before and store.next("p01") == asked
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    store.record("p01", asked, asked.left, 1.0)
    assert len(store.answers("p01")) == 4 and file.read_bytes().startswith(before)


@pytest.mark.parametrize("room", [0, 50])
def test_a_full_disk_loses_nothing(tmp_path, room):
    job = multiprocessing.get_context("fork").Process(target=_fill_a_disk, args=(tmp_path / "answers", room))
    job.start()
    job.join(60)
    assert job.exitcode == 0


def test_answers_in_the_way_are_named(tmp_path):
    (tmp_path / "mine.txt").write_text("a diary")
    with pytest.raises(DpedError, match="mine.txt: is not a folder. Name a folder for the answers"):
        study_answers.AnswerStore(tmp_path / "mine.txt", PICTURES, QUESTIONS)
    store = study_answers.AnswerStore(tmp_path / "answers", PICTURES, QUESTIONS)
    (store.folder / "people").write_text("a diary")
    asked = study_questions.order(QUESTIONS, "p01", 0)[0]
    for call in (
        lambda: store.begin("p01"),
        lambda: store.answers("p01"),
        lambda: store.record("p01", asked, asked.left, 1.0),
    ):
        with pytest.raises(DpedError, match="p01.jsonl: cannot be (written|read)"):
            call()
    assert (store.folder / "people").read_text() == "a diary"


def test_a_file_of_the_users_is_not_taken_for_a_study(tmp_path):
    (tmp_path / "study.json").write_text('{"plan": "my studies"}')
    with pytest.raises(DpedError, match="study.json: does not describe a study"):
        study_answers.AnswerStore(tmp_path, PICTURES, QUESTIONS)
    assert (tmp_path / "study.json").read_text() == '{"plan": "my studies"}'


def test_answers_are_kept_where_the_tilde_points(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert study_answers.AnswerStore("~/answers", PICTURES, QUESTIONS).folder == tmp_path / "answers"


def test_another_seed_is_another_study_with_its_own_folder():
    assert len({study_answers.answers_folder("own", "smoke", PICTURES, seed) for seed in (0, 1, 2)}) == 3
    assert study_answers.answers_folder("own", "smoke", PICTURES) == study_answers.answers_folder(
        "own", "smoke", PICTURES, 0
    )


def test_an_editor_that_drops_the_last_line_end(store):
    file = fill(store, "p01", 3)
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    assert len(store.answers("p01")) == 3
    fill(store, "p01", 1)
    assert len(store.answers("p01")) == 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [lines[0][:50] + "\n", *lines[1:]], "line 1: damaged"),
        (lambda lines: [lines[0], lines[0]], "line 2: answers .* a second time"),
        (lambda lines: [lines[0].replace('"p01"', '"p02"')], "an answer of person 'p02' in the file of person 'p01'"),
        (lambda lines: [lines[0].replace('"person"', '"model"')], "an answer of model 'p01' in the file of person 'p01'"),
        (lambda lines: [lines[0].replace('"seconds": 1.0', '"seconds": "fast"')], "line 1: damaged .*must be float"),
        (lambda lines: [lines[0].replace('"seconds"', '"secs"')], "line 1: damaged .*unknown parameter 'secs'"),
        (lambda lines: ["\x00" * 30 + "\n", *lines], "line 1: damaged"),
        (lambda lines: [lines[0], "[" * 100_000 + "\n"], "line 2: damaged"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(store, spoil, message):
    file = fill(store, "p01", 3)
    file.write_text("".join(spoil(file.read_text().splitlines(keepends=True))))
    with pytest.raises(DpedError, match=f"p01.jsonl, .*{message}"):
        store.answers("p01")
    with pytest.raises(DpedError, match="p01.jsonl"):
        store.everyone()


@pytest.mark.parametrize("content", ["{", "[" * 100_000])
def test_a_damaged_description_is_named(store, content):
    (store.folder / "study.json").write_text(content)
    with pytest.raises(DpedError, match="study.json: does not describe a study, or is damaged"):
        study_answers.AnswerStore(store.folder, PICTURES, QUESTIONS)


def _answer_many(folder, subject, n):
    store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
    kept = 0
    while kept < n:
        asked = store.next(subject)
        if asked is None:
            return
        try:
            store.record(subject, asked, asked.left, 0.5)
        except DpedError as error:
            assert "each is asked once" in str(error)
        else:
            kept += 1


def run_together(*jobs):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_answer_many, args=job) for job in jobs]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
    assert [p.exitcode for p in processes] == [0] * len(jobs)


def test_subjects_at_the_same_time_lose_nothing(tmp_path):
    folder = tmp_path / "answers"
    run_together(*((folder, f"p{i}", 60) for i in range(4)))
    store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
    assert {s: len(store.answers(s)) for s in store.subjects()} == {f"p{i}": 60 for i in range(4)}


def test_two_pages_of_one_subject_lose_nothing_and_double_nothing(tmp_path):
    folder = tmp_path / "answers"
    run_together((folder, "p1", 40), (folder, "p1", 40))
    answers = study_answers.AnswerStore(folder, PICTURES, QUESTIONS).answers("p1")
    assert len(answers) == len({a.question for a in answers}) == 80


# Without the rest of this file: it would bring PyTorch along, four times.
_ENDLESS = """
import sys
from pathlib import Path
from dped_lib.user_study import answers as study_answers, questions as study_questions
scenes = [f"scene-{i}" for i in range(1, 10)]
asked = study_questions.all_questions({n: {c: scenes for c in study_questions.KINDS[k]} for n, k in study_questions.PAPER_SETS.items()})
store = study_answers.AnswerStore(Path(sys.argv[1]), "0" * 64, asked)
while (trial := store.next("p01")) is not None:
    store.record("p01", trial, trial.left, 0.5)
    print(trial.number, flush=True)
"""


def test_killed_at_any_moment_at_most_the_question_on_the_screen_is_lost(tmp_path):
    folder, delays = tmp_path / "answers", np.random.default_rng(0).uniform(0.0, 0.03, 4)
    acknowledged = 0
    for delay in delays:
        process = subprocess.Popen([sys.executable, "-c", _ENDLESS, folder], stdout=subprocess.PIPE, text=True)
        said = [process.stdout.readline()]
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.readlines()
        process.wait()
        acknowledged += len([line for line in said if line.endswith("\n")])
        store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
        kept = len(store.answers("p01"))
        # What was acknowledged is there; one more may have been written but not said.
        assert acknowledged <= kept <= acknowledged + 1
        acknowledged = kept
    rest = fill(store, "p01", 108 - kept)
    assert len(rest.read_text().splitlines()) == 108 and store.next("p01") is None


# ---------------------------------------------------------------------------------------------- the model observer


def test_simulated_answers_never_look_like_peoples(store):
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    study_observers.write_answers(store, utility, 12, 0, study_observers.TASTE)
    fill(store, "p01", 4)
    assert len(store.everyone("model")) == 12 * 108 and len(store.everyone("person")) == 4
    assert {a.observer for a in store.everyone("model")} == {"model"}
    assert {a.seconds for a in store.everyone("model")} == {0.0}
    assert study_analysis.collect(store, "person").subjects == ("p01",)
    assert len(study_analysis.collect(store, "model").subjects) == 12
    moved = store.file_of("model-001")
    store.file_of("model-001", "model").rename(moved)
    with pytest.raises(DpedError, match="an answer of model 'model-001' in the file of person 'model-001'"):
        store.everyone("person")


def test_the_model_observer_likes_edges_and_contrast():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (100, 100, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    flat = (sharp // 2 + 64).astype(np.uint8)
    assert (study_observers.edges_and_contrast(sharp) > study_observers.edges_and_contrast(flat)).all()


def test_simulated_again_gives_fewer_not_more(store):
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    study_observers.write_answers(store, utility, 5, 0, 0.0)
    study_observers.write_answers(store, utility, 3, 0, 0.0)
    assert len(store.subjects("model")) == 3


def test_simulated_answers_replace_nothing_else(store):
    """Only files of simulated subjects go: what a user put beside them stays."""
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    study_observers.write_answers(store, utility, 5, 0, 0.0)
    kept = [
        store.folder / "model" / name for name in ("notes.txt", "mine.jsonl", "model-1.jsonl", "model-004.jsonl.bak")
    ]
    for file in kept:
        file.write_text("precious")
    study_observers.write_answers(store, utility, 3, 0, 0.0)
    assert all(file.read_text() == "precious" for file in kept)
    assert not store.file_of("model-004", "model").exists()


# ---------------------------------------------------------------------------------------------- analysis

SONY = tuple(q for q in QUESTIONS if q.set == "sony")


def utility_of(**by_class):
    return {(q.set, c, q.scene): by_class.get(c, 0.0) for q in QUESTIONS for c in (q.first, q.second)}


def simulated(subjects, seed=0, taste=0.0, asked=SONY, **by_class):
    return study_analysis.from_simulation(
        asked, study_observers.simulate(asked, utility_of(**by_class), subjects, seed, taste)
    )


def probability(gap):
    return 1 / (1 + np.exp(-gap))


def test_wilson_covers_the_truth_at_its_nominal_rate():
    """10 000 simulated subjects, each an experiment of its own, with known preferences."""
    first = study_observers.simulate(QUESTIONS, utility_of(original=-1.0, enhanced=0.3), 10_000, 0)
    for pair, gap in ((("original", "dslr"), -1.0), (("original", "enhanced"), -1.3), (("dslr", "enhanced"), -0.3)):
        at = [i for i, q in enumerate(QUESTIONS) if (q.first, q.second) == pair]
        bounds = np.array([statistics.wilson(int(k), len(at)) for k in first[:, at].sum(1)])
        covered = np.mean((bounds[:, 0] <= probability(gap)) & (probability(gap) <= bounds[:, 1]))
        assert 0.93 < covered < 0.97, (pair, covered)


def test_bradley_terry_finds_the_strengths_of_10_000_subjects():
    truth = {"original": -0.9, "dslr": 0.5, "enhanced": 0.4}
    choices = simulated(10_000, **truth)
    found = study_analysis.ranking(choices, resamples=20)
    assert [s.cls for s in found] == ["dslr", "enhanced", "original"]
    assert {s.cls: s.logit for s in found} == pytest.approx(truth, abs=0.02)
    assert all(s.interval[0] <= s.logit <= s.interval[1] for s in found)
    assert sum(s.first for s in found) == pytest.approx(1)


def test_a_class_that_always_won_or_always_lost_has_no_strength_yet():
    """Its strength of maximum likelihood is infinite: no number would be true."""
    for leaning in ({"enhanced": 50.0}, {"original": -50.0}, {"original": -50.0, "enhanced": 50.0}):
        found = study_analysis.ranking(simulated(20, **leaning), resamples=20)
        assert [s.cls for s in found] == ["original", "dslr", "enhanced"]
        assert {(s.logit, s.interval, s.first, s.answers) for s in found} == {(None, None, None, 540)}
        assert set(study_figures.ranking_table(found, "rig")["strength (logit)"]) == {"not enough answers yet"}


def test_a_single_loss_decides_and_resamples_without_it_stay_finite():
    choices = simulated(20, original=-50.0, enhanced=50.0)
    for i, (worse, better) in enumerate((("dslr", "enhanced"), ("original", "dslr"))):
        at = next(j for j, q in enumerate(SONY) if {q.first, q.second} == {worse, better})
        choices.sign[i, at] *= -1
    found = study_analysis.ranking(choices, resamples=50)
    assert [s.cls for s in found] == ["enhanced", "dslr", "original"]
    assert all(np.isfinite((s.logit, *s.interval)).all() for s in found) and found[0].first == 1


@pytest.mark.parametrize(
    ("wins", "decided"),
    [
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], False),  # the third was never compared
        ([[0, 1, 1], [0, 0, 1], [0, 0, 0]], False),  # the first never lost
        ([[0, 1, 1], [1, 0, 1], [0, 0, 0]], False),  # the third never won
        ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], True),  # a circle
        ([[0, 2, 0], [1, 0, 3], [0, 1, 0]], True),  # two classes that were never compared, by way of the third
        ([[0, 0], [0, 0]], False),
    ],
)
def test_answers_that_decide_a_ranking(wins, decided):
    assert study_analysis.is_decided(np.array(wins)) is decided


@functools.cache
def analysis_of_the_notebook() -> list[str]:
    """Return the code of 06_user_study: its set-up, and everything from the answers to the end."""
    nb = nbformat.read(paths.notebooks_dir() / "06_user_study.ipynb", as_version=4)
    code = [c.source for c in nb.cells[2:] if c.cell_type == "code"]
    start = next(i for i, source in enumerate(code) if "store.everyone" in source)
    return [code[0], *code[start:]]


@st.composite
def unfinished(draw):
    """What 1 to 3 subjects have answered of a study: 1 to 20 answers in all, to their first questions, as it happens."""
    asked = draw(st.sampled_from((QUESTIONS, SONY, tuple(q for q in QUESTIONS if q.set == "enhancers"))))
    answers = draw(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=20))
    return asked, answers


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(unfinished())
def test_notebook_06_takes_a_study_that_has_just_begun(monkeypatch_module, tmp_path_factory, study_so_far):
    asked, answers = study_so_far
    folder = tmp_path_factory.mktemp("begun")
    monkeypatch_module.setenv("DPED_FIGURES", str(folder / "figures"))
    store = study_answers.AnswerStore(folder / "answers", PICTURES, asked)
    for who, left in answers:
        at = store.next(f"Subject {who}")
        store.record(f"Subject {who}", at, at.left if left else at.right, 1.0)
    values = {
        "dataset": "rig",
        "preset": "smoke",
        "network": "trained",
        "folder": "pictures",
        "subject": "",
        "margin": 0.1,
        "seed": 0,
    }
    values |= {
        "store": store,
        "asked": asked,
        "pictures": None,
        "told": {},
    }
    for source in analysis_of_the_notebook():
        exec(source, values)  # noqa: S102
    assert values["kind"] == "person" and (values["choices"].sign != 0).sum() == len(answers)
    counts = [t.get_text() for ax in values["fig"].axes for t in ax.texts if t.get_text().startswith("n = ")]
    assert len(counts) == 4 * len(values["choices"].sets), "n stands at every bar"
    assert sum(int(c[4:]) for c in counts) == 2 * len(answers), "the bars of pairs, and once more all choices"
    assert sum(s.answers for s in values["shares"]) == len(answers)
    plt.close("all")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@settings(max_examples=150, deadline=None)
@given(unfinished())
def test_unfinished_answers_have_an_analysis(study_so_far):
    """Every number is finite and in its range, or is said to be unknown."""
    asked, answers = study_so_far
    sign = np.zeros((3, len(asked)), np.int8)
    for who, left in answers:
        at = [a for a in study_questions.order(asked, f"p{who}", 0) if not sign[who, asked.index(a.question)]]
        if at:
            sign[who, asked.index(at[0].question)] = 1 if (at[0].left == at[0].question.first) == left else -1
    sign = sign[sign.any(1)]
    choices = study_analysis.Choices("person", tuple("abc"[: len(sign)]), asked, sign, np.zeros(sign.shape))
    for s in study_analysis.shares(choices, 30):
        assert (s.share is None) == (s.answers == 0) == (s.wilson is None)
        for low, high in filter(None, (s.wilson, s.clustered)):
            assert 0 <= low <= high <= 1
    for name in choices.sets:
        parts = [f for f in study_analysis.fractions(choices, 30) if f.set == name]
        assert not parts or sum(f.share for f in parts) == pytest.approx(1)
        ranks = [s for s in study_analysis.ranking(choices, 30) if s.set == name]
        wins = collections.Counter()
        for q, column in zip(asked, sign.T, strict=True):
            if q.set == name:
                wins[q.first, q.second] += int((column > 0).sum())
                wins[q.second, q.first] += int((column < 0).sum())
        classes = {s.cls for s in ranks}
        parted = any(
            not any(wins[a, b] for a in group for b in classes - set(group))
            for size in range(1, len(classes))
            for group in itertools.combinations(classes, size)
        )
        assert parted == all(s.logit is None for s in ranks) == any(s.logit is None for s in ranks)
        assert parted or np.isfinite([s.logit for s in ranks]).all()
        assert all(s.answers == sum(wins.values()) for s in ranks)
    for a in study_agreement.agreement(choices, 30):
        assert (a.agreeing is None) == (a.answer_pairs == 0)
        assert a.agreeing is None or (0 <= a.agreeing <= 1 and np.isfinite(a.kappa))
    for pair in choices.pairs:
        assert study_agreement.equivalence(choices, *pair, resamples=30).word == "not enough answers"


def test_the_bootstrap_over_subjects_covers_where_wilson_does_not():
    """Subjects with tastes of their own, 42 as in the paper: their answers are not independent."""
    truth = simulated(100_000, seed=99, taste=1.0, enhanced=0.3)
    value = study_analysis.share(truth, "sony", "dslr", "enhanced", resamples=2).share
    covered = {"wilson": 0, "clustered": 0}
    for seed in range(200):
        found = study_analysis.share(simulated(42, seed, 1.0, enhanced=0.3), "sony", "dslr", "enhanced", 300)
        for name in covered:
            low, high = getattr(found, name)
            covered[name] += low <= value <= high
    assert covered["clustered"] / 200 > 0.89
    assert covered["wilson"] / 200 < 0.85


def test_figure_10_is_an_average_over_scenes_and_a_share_of_all_answers():
    asked = tuple(q for q in SONY if q.scene in SCENES[:2])
    order = {(q.scene, q.first, q.second): i for i, q in enumerate(asked)}
    sign = np.zeros((4, len(asked)), np.int8)
    sign[:, order[SCENES[0], "dslr", "enhanced"]] = (1, 1, 1, -1)
    sign[:2, order[SCENES[1], "dslr", "enhanced"]] = (-1, -1)
    choices = study_analysis.Choices("model", tuple("abcd"), asked, sign, np.zeros(sign.shape))
    found = study_analysis.share(choices, "sony", "dslr", "enhanced", 50)
    assert found.by_scene == {SCENES[0]: 0.75, SCENES[1]: 0.0}
    assert found.share == 0.375, "not 3 of 6: scenes count alike"
    assert found.answers == 6 and found.wilson == statistics.wilson(3, 6)
    last = {f.cls: f.share for f in study_analysis.fractions(choices, 50)}
    assert last == {"original": 0.0, "dslr": 0.5, "enhanced": 0.5}
    assert study_analysis.share(choices, "sony", "original", "dslr").share is None, "nobody was asked"
    assert [s.share is None for s in study_analysis.shares(choices, 20)] == [True, True, False]


def test_agreement_has_its_chance_level():
    chance, same = (simulated(60, seed=1), simulated(60, dslr=50.0, original=0.0, enhanced=-50.0))
    for a in study_agreement.agreement(chance, 50):
        assert a.agreeing == pytest.approx(0.5, abs=0.03) and a.by_chance == pytest.approx(0.5, abs=0.01)
        assert abs(a.kappa) < 0.05 and a.interval[0] < 0 < a.interval[1]
        assert np.mean(list(a.by_scene.values())) == pytest.approx(a.agreeing)
    assert all(a.agreeing == 1 and a.by_chance == 1 and a.kappa == 0 for a in study_agreement.agreement(same, 50))


def test_kappa_is_fleiss():
    """Against its definition, on complete answers."""
    sign = simulated(30, seed=3, taste=0.5, enhanced=0.7).of("sony", ("dslr", "enhanced")).sign
    up = (sign > 0).sum(0)
    n = len(sign)
    agreeing = ((up * (up - 1) + (n - up) * (n - up - 1)) / (n * (n - 1))).mean()
    p = up.sum() / (n * len(up))
    expected = (agreeing - p**2 - (1 - p) ** 2) / (1 - p**2 - (1 - p) ** 2)
    found = study_agreement.agreement(simulated(30, seed=3, taste=0.5, enhanced=0.7), 20)[2]
    assert found.kappa == pytest.approx(expected)


def test_the_equivalence_test_has_three_outcomes():
    def verdict(*a, **k):
        return study_agreement.equivalence(simulated(*a, **k), "sony", "dslr", "enhanced", resamples=300)

    assert verdict(42, seed=1).word == "cannot tell"
    assert verdict(42, seed=1, enhanced=1.0).word == "can tell"
    assert verdict(3, seed=1).word == "not enough answers"
    asked = tuple(q for q in SONY if q.scene == SCENES[0])
    few = study_analysis.from_simulation(asked, study_observers.simulate(asked, utility_of(), 20, 5))
    assert study_agreement.equivalence(few, "sony", "dslr", "enhanced").word == "not enough answers"


def test_a_wrong_cannot_tell_is_rare():
    """At the margin's edge (share 0.4) "cannot tell" may come out in 5 % of studies."""
    gap = float(np.log(0.6 / 0.4))
    wrong = sum(
        study_agreement.equivalence(simulated(42, seed, enhanced=gap), "sony", "dslr", "enhanced", resamples=200).word
        == "cannot tell"
        for seed in range(200)
    )
    assert wrong / 200 < 0.09


def test_preferences_that_cancel_out_are_seen():
    """Equal on average and yet told apart in every scene: the paper's conclusion would be wrong here."""
    utility = utility_of()
    for i, scene in enumerate(SCENES[:8]):
        utility["sony", "enhanced", scene] = 4.0 if i % 2 else -4.0
    choices = study_analysis.from_simulation(SONY, study_observers.simulate(SONY, utility, 42, 0))
    found = study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=300)
    assert found.word == "cannot tell" and set(found.split_scenes) == set(SCENES[:8])
    kappa = study_agreement.agreement(choices, 100)[2]
    assert kappa.kappa > 0.5 and kappa.interval[0] > 0


@pytest.mark.parametrize("margin", [0, 0.5, -0.1, 1])
def test_margins_that_mean_nothing(margin):
    with pytest.raises(DpedError, match="between 0 and 0.5"):
        study_agreement.equivalence(simulated(20), "sony", "dslr", "enhanced", margin)


def test_fewest_answers_is_the_power_of_the_paper():
    assert study_agreement.fewest_answers(0.1) == 66
    assert study_agreement.fewest_answers(0.05) < paper.STUDY_SUBJECTS * paper.STUDY_SCENES


def test_questions_that_do_not_exist_are_named():
    with pytest.raises(DpedError, match="dslr and manual in set 'sony'"):
        study_agreement.equivalence(simulated(20), "sony", "dslr", "manual")


# ---------------------------------------------------------------------------------------------- pages and figures


@pytest.fixture
def small(tmp_path):
    scenes = {
        "sony": {c: SCENES for c in study_questions.KINDS["phone"]},
        "enhancers": {c: SCENES for c in ("automatic", "enhanced")},
    }
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine", scenes))
    return pictures, study_answers.AnswerStore(tmp_path / "answers", pictures.digest, pictures.questions)


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
    again = study_page.SubjectPage(pictures, store, "p01")  # the kernel was restarted
    again.resume()
    assert again.trial == sequence[2] and "Question 3 of 36" in again.message.value
    said = again.message.value + str([w.description for w in (*again.buttons, again.pause_button)])
    assert not any(word in said for word in (*study_questions.CLASSES, *SCENES, "sony"))
    while again.trial:
        again.buttons[0].click()
    assert len(store.answers("p01")) == 36 and "Thank you" in again.message.value


def test_a_key_pressed_twice_answers_once(small, monkeypatch):
    pictures, store = small
    now = [0.0]
    monkeypatch.setattr(study_page.time, "monotonic", lambda: now[0])
    page = study_page.SubjectPage(pictures, store, "p01")
    page.resume()
    now[0] = 2.0
    page.buttons[0].click()
    page.buttons[0].click()
    assert len(store.answers("p01")) == 1


def test_the_entrance_lets_a_subject_in_by_name(small, monkeypatch):
    pictures, store = small
    now = [0.0]
    monkeypatch.setattr(study_page.time, "monotonic", lambda: now[0])
    door = study_page.Entrance(pictures, store)
    for wrong in ("", "   "):
        door.name.value = wrong
        door.begin.click()
        assert door.page is None and "Please type a name" in door.message.value
    door.name.value = " Zoë <3 "
    door.begin.click()
    assert door.widget.children == (door.page.widget,) and "Question 1 of 36" in door.page.message.value
    now[0] = 2.0
    door.page.buttons[0].click()
    again = study_page.Entrance(pictures, store)  # the page was reloaded; or somebody else thought of the same name
    again.name.value = "zoë <3"
    again.begin.click()
    assert again.page is None and "zoë &lt;3 has answered 1 of 36" in again.message.value
    again.begin.click()
    assert "Question 2 of 36" in again.page.message.value
    fresh, twin = study_page.Entrance(pictures, store), study_page.Entrance(pictures, store)
    for page in (fresh, twin):
        page.name.value = "Bo"
        page.begin.click()
    assert fresh.page and not twin.page and "Bo has answered 0 of 36" in twin.message.value, (
        "two at once thought of one name"
    )
    shown = study_page.entrance(pictures.folder, store.folder, 9, 0)
    assert "36 pairs of pictures" in shown.children[0].value


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


def test_two_pages_of_one_subject_go_on_together(small):
    """A question that the other page has answered is passed over without a word."""
    pictures, store = small
    one, other = (study_page.SubjectPage(pictures, store, "p01") for _ in "12")
    sequence = study_questions.order(pictures.questions, "p01", 0)
    for page in (one, other):
        page.resume()
        page._since -= 1
    one.buttons[0].click()
    other.buttons[1].click()
    assert [a.chosen for a in store.answers("p01")] == [sequence[0].left], "the first answer counts"
    assert other.trial == sequence[1] and other.message.value == one.message.value
    assert "Question 2 of 36" in other.message.value


def test_a_subject_reads_no_error_of_ours(small, caplog):
    """Paths, classes and JSON go to the log of the server. The subject learns whom to tell."""
    pictures, store = small
    page = study_page.SubjectPage(pictures, store, "p01")
    page.resume()
    store.file_of("p01").parent.mkdir()
    store.file_of("p01").write_text("nonsense\n")
    said = []
    page._since -= 1
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
    said.append(study_page.entrance(pictures.folder, store.folder, 9, 0).value)
    for text in said:
        assert "lease tell the person who runs" in text
        assert not any(word in text for word in ("p01", "json", "line", "damaged", *store.folder.parts[1:]))
    logged = [record.getMessage() for record in caplog.records]
    assert sum("p01.jsonl, line 1: damaged" in text for text in logged) >= 4
    assert any("study.json: does not describe a study" in text for text in logged)
    served = study_server.command(pictures.folder / "study.ipynb", 8866, "127.0.0.1")
    assert "--VoilaConfiguration.show_tracebacks=False" in served, "a traceback names files, too"


def test_figures_and_tables(small):
    pictures, store = small
    liked = study_observers.utilities(pictures)
    study_observers.write_answers(store, liked, 12, 0, 0.2)
    choices = study_analysis.collect(store, "model")
    shares, last = study_analysis.shares(choices, 20), study_analysis.fractions(choices, 20)
    fig = study_figures.figure10(shares, last, "rig", {(s.set, s.first, s.second): 0.5 for s in shares})
    words = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert words.count("not run") == 2, "the two pairs with a manual enhancement"
    assert [ax.get_title() for ax in fig.axes] == ["(a) Sony Xperia Z", "(b) enhancers"]
    assert len(study_figures.figure11(pictures, "sony", "enhanced", "rig").axes) == 9
    assert len(study_figures.scene_figure(pictures, SCENES[0], "rig").axes) == 6
    asked = study_questions.order(pictures.questions, "p01", 0)[0]
    study_figures.trial_figure(*study_pictures.shown_pair(pictures, asked), asked)
    assert len(study_figures.share_table(shares, "rig")) == 4
    assert len(study_figures.ranking_table(study_analysis.ranking(choices, 20), "rig")) == 5
    assert len(study_figures.agreement_table(study_agreement.agreement(choices, 20), "rig")) == 4
    verdict = study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=20)
    assert study_figures.verdict_table([verdict], "rig")["answers"].tolist() == [108]
    counts = [[t.get_text() for t in ax.texts if t.get_text().startswith("n = ")] for ax in fig.axes]
    assert counts == [["n = 108"] * 3 + ["n = 324"], ["n = 0", "n = 108", "n = 0", "n = 108"]], "two are not run"
    assert study_figures.progress_table(choices)["answers"].tolist() == [36] * 12
    assert "no people" in study_figures.describe_subjects("model", 12)
    with pytest.raises(DpedError, match="no pictures of class 'manual'"):
        study_figures.figure11(pictures, "sony", "manual", "rig")
    plt.close("all")


def test_one_subject_gives_no_interval_over_subjects(small):
    _, store = small
    fill(store, "p01", 36)
    choices = study_analysis.collect(store, "person")
    assert all(s.clustered is None for s in study_analysis.shares(choices, 20))
    assert all(s.interval is None for s in study_analysis.ranking(choices, 20))
    assert {(a.answer_pairs, a.agreeing, a.kappa) for a in study_agreement.agreement(choices, 20)} == {(0, None, None)}
    assert study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=20).word == "not enough answers"
    with pytest.raises(DpedError, match="no answers of observer 'model'"):
        study_analysis.collect(store, "model")


def test_pictures_of_the_rig_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    networks = {"iphone": models.generator("srcnn").eval()}
    monkeypatch.setattr(make_pictures, "held_out", lambda *_: ("chelsea-a",))
    monkeypatch.setattr(make_pictures, "enhancing_network", lambda *_, **__: networks["iphone"])
    monkeypatch.setattr(datasets, "DATASET_PHONES", {"rig": ("iphone",)})

    def make(manual=""):
        return make_pictures.open_or_make("rig", "smoke", manual=manual)

    pictures = make()
    assert pictures.count == 1
    assert {(s, c) for s, c, _ in pictures.files} == {
        *(("iphone", c) for c in study_questions.KINDS["phone"]),
        ("enhancers", "automatic"),
        ("enhancers", "enhanced"),
    }
    images = {(s, c): np.asarray(Image.open(f)) for (s, c, _), f in pictures.files.items()}
    original = images["iphone", "original"]
    assert {i.shape for i in images.values()} == {(400, 540, 3)}
    assert (images["iphone", "enhanced"] == enhancement.engine(networks["iphone"], "float32", "cpu")(original)).all()
    assert (images["enhancers", "automatic"] == baselines.auto_contrast(original)).all(), "the stand-in of Table 2"
    before = (pictures.folder / "made.json").stat().st_mtime_ns
    assert make().digest == pictures.digest
    assert (pictures.folder / "made.json").stat().st_mtime_ns == before
    old = {f: f.read_bytes() for f in pictures.files.values()}
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    with pytest.raises(DpedError, match="no photographs in it"):
        make(by_hand)
    Image.new("RGB", (540, 400)).save(by_hand / "chelsea-a.png")
    full = make(by_hand)
    assert len(full.questions) == 6 and full.digest != pictures.digest
    assert {f: f.read_bytes() for f in pictures.files.values()} == old, (
        "pictures that people may have answered about stay"
    )
    assert make().digest == pictures.digest
    (pictures.folder / "made.json").write_text("{}")
    with pytest.raises(DpedError, match="is not the study's folder of pictures"):
        make()
    Image.new("RGB", (540, 400)).save(by_hand / "other.png")
    (by_hand / "chelsea-a.png").unlink()
    with pytest.raises(DpedError, match="no retouched picture of chelsea-a"):
        make(by_hand)


@pytest.fixture
def eight_held_out(monkeypatch):
    """A dataset whose store holds out eight scenes, one of them photographed twice: six to test, two to validate."""
    names = [f"shot-{i}/0" for i in range(9)] + ["shot-8-again/0"]
    store = SimpleNamespace(
        names=names,
        photographs=np.array([*(f"shot-{i}" for i in range(9)), "shot-8"]),
        index=lambda split: {"test": range(1, 7), "val": range(7, 9)}[split],
    )
    monkeypatch.setattr(make_pictures.opening, "open_or_make", lambda *_: store)
    return store


def test_a_dataset_asks_about_nine_scenes_or_as_many_as_it_holds_out(eight_held_out):
    held = tuple(f"shot-{i}" for i in range(1, 9))
    assert make_pictures.held_out("city100", "smoke") == held
    assert make_pictures.held_out("city100", "smoke", 3) == held[:3]
    with pytest.raises(DpedError, match="holds out 8 scenes, the study needs 9; set scenes=8"):
        make_pictures.held_out("city100", "smoke", 9)
    eight_held_out.index = lambda split: []
    with pytest.raises(DpedError, match="holds out no scene"):
        make_pictures.held_out("city100", "smoke")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dataset": "pirm"}, "dataset 'pirm' has no whole aligned photographs"),
        ({"preset": "large"}, "unknown preset 'large'"),
        ({"scenes": 9}, "set scenes=8"),
        ({"scenes": -1}, "must not be negative"),
        ({"manual": "nowhere"}, "nowhere"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_before_anything_is_trained(eight_held_out, monkeypatch, asked, message):
    monkeypatch.setattr(make_pictures, "enhancing_network", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(DpedError, match=message):
        make_pictures.open_or_make(**{"dataset": "city100", "preset": "smoke", **asked})
