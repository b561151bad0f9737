"""Answers survive anything: kills, full disks, damaged files, two pages at once."""

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import answering
import numpy as np
import pytest
from answering import PICTURES, QUESTIONS, fill

from dped_lib.base.errors import DpedError
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import questions as study_questions

#: Not forked: threads of other tests may hold locks, and a forked process would wait for them for ever.
SPAWN = multiprocessing.get_context("spawn")


def test_an_answer_is_on_the_disk_at_once(store):
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 2.25)
    line = json.loads(store.file_of("p01").read_text())
    assert line["subject"] == "p01" and line["observer"] == "person" and line["question"] == asked.question.key
    assert (line["left"], line["right"], line["chosen"]) == (asked.left, asked.right, asked.left)
    assert line["seconds"] == 2.25 and line["at"].endswith("+00:00") and line["study"] == store.study


def test_answers_without_a_size_stay_readable(store):
    """Files from before sizes were stored have neither field; nor has an answer whose browser did not say it."""
    file = fill(store, "p01", 1)
    assert not {"width", "scale"} & set(json.loads(file.read_text()))
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 1.0, (700, 0.5))
    assert [(a.width, a.scale) for a in store.answers("p01")] == [(None, None), (700.0, 0.5)]
    file.write_text(file.read_text().replace('"width": 700.0', '"width": "wide"'))
    with pytest.raises(DpedError, match="line 2: damaged .*must be float"):
        store.answers("p01")


def test_a_nickname_goes_with_its_file(store):
    """It may be personal data. The locks stay, and they do not name anybody."""
    for name in ("anna", "Grey Heron"):
        asked = store.next(name)
        store.record(name, asked, asked.left, 1.0)
        store.file_of(name).unlink()
    left = [file.name for file in store.folder.rglob("*")]
    assert len(left) > 1 and not [name for name in left if "anna" in name or "heron" in name or "a6be57" in name]


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


def test_a_name_is_new_for_one_subject_only(tmp_path):
    folder = tmp_path / "answers"
    with SPAWN.Pool(4) as pool:
        taken = pool.map(answering.begin, [(folder, name) for name in ("ada", "Ada", "ADA", "bo", " ada ")])
    assert sum(taken) == 2
    store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
    assert store.subjects() == ("ada", "bo") and store.everyone() == ()


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
    with pytest.raises(DpedError, match="does not belong to this study"):
        store.record("p01", foreign, asked.left, 1.0)
    assert store.answers("p01") == ()


def test_answers_to_other_pictures_are_not_mixed(store):
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 1.0)
    with pytest.raises(DpedError, match="other pictures"):
        study_answers.AnswerStore(store.folder, "1" * 64, QUESTIONS)
    with pytest.raises(DpedError, match="holds answers to a study with other pictures"):
        study_answers.AnswerStore(store.folder / "no" / ".." / ".." / store.folder.name, "1" * 64, QUESTIONS)
    with pytest.raises(DpedError, match=r"another seed \(0\)"):
        study_answers.AnswerStore(store.folder, PICTURES, QUESTIONS, seed=1)
    description = json.loads((store.folder / "study.json").read_text())
    (store.folder / "study.json").write_text(json.dumps({**description, "study": "of another version"}))
    with pytest.raises(DpedError, match="with the questions of another version of dped. Use that version, or name"):
        study_answers.AnswerStore(store.folder, PICTURES, QUESTIONS)
    other = study_answers.AnswerStore(store.folder.with_name("other"), "1" * 64, QUESTIONS)
    other.file_of("p01").parent.mkdir()
    store.file_of("p01").rename(other.file_of("p01"))
    with pytest.raises(DpedError, match="p01.jsonl, line 1: an answer to another study"):
        other.answers("p01")


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_half_line_is_the_only_loss(store, cut):
    file = fill(store, "p01", 5)
    whole = file.read_bytes()
    file.write_bytes(whole[: -1 - cut])
    assert len(store.answers("p01")) == 4
    fill(store, "p01", 2)
    assert len(store.answers("p01")) == 6 and len(file.read_text().splitlines()) == 6


def test_a_torn_line_is_set_aside(store, caplog):
    file = fill(store, "p01", 2)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"study": "ab')
    assert len(store.answers("p01")) == 2
    fill(store, "p01", 1)
    assert file.read_bytes().startswith(whole) and len(store.answers("p01")) == 3
    assert file.with_suffix(".torn").read_bytes() == b'{"study": "ab\n' and store.subjects() == ("p01",)
    [said] = caplog.messages
    assert said == f"{file}: the last 13 bytes were not a whole answer. They are kept in {file.with_suffix('.torn')}."


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


@pytest.mark.parametrize("room", [0, 50])
def test_a_full_disk_loses_nothing(tmp_path, room):
    job = SPAWN.Process(target=answering.fill_a_disk, args=(tmp_path / "answers", room))
    job.start()
    job.join(300)
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
        with pytest.raises(DpedError, match="p01.jsonl: cannot be (written, because .*people is not a folder|read)"):
            call()
    assert (store.folder / "people").read_text() == "a diary"


def test_a_link_to_a_missing_file_is_no_subject_without_answers(store):
    file = fill(store, "p01", 2)
    file.rename(file.with_suffix(".moved"))
    file.symlink_to("gone.jsonl")
    for call in (store.everyone, lambda: store.begin("p01")):
        with pytest.raises(DpedError, match="p01.jsonl: is a link to a missing file. Bring that file back"):
            call()


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
        (
            lambda lines: [lines[0].replace('"person"', '"model"')],
            "an answer of model 'p01' in the file of person 'p01'",
        ),
        (lambda lines: [lines[0].replace('"seconds": 1.0', '"seconds": "fast"')], "line 1: damaged .*must be float"),
        (
            lambda lines: [lines[0].replace('"seconds": 1.0', '"seconds": 1' + "0" * 400)],
            "line 1: .*number is too large",
        ),
        (lambda lines: [lines[0].replace('"seconds": 1.0', '"seconds": NaN')], "line 1: damaged .'seconds' is nan"),
        (lambda lines: [lines[0].replace('"seconds": 1.0', '"seconds": -5.0')], "line 1: damaged .'seconds' is -5.0"),
        (lambda lines: [lines[0].replace("}", ', "width": NaN}')], "line 1: damaged .'width' is nan"),
        (lambda lines: [lines[0].replace("}", ', "scale": -Infinity}')], "line 1: damaged .'scale' is -inf"),
        (lambda lines: [lines[0].replace('"seconds"', '"secs"')], "line 1: damaged .*unknown parameter 'secs'"),
        (lambda lines: ["\x00" * 30 + "\n", *lines], "line 1: damaged"),
        (lambda lines: [lines[0], "[" * 100_000 + "\n"], "line 2: damaged"),
    ],
)
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


def run_together(*jobs):
    processes = [SPAWN.Process(target=answering.answer_many, args=job) for job in jobs]
    for p in processes:
        p.start()
    for p in processes:
        p.join(300)
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


def test_killed_at_any_moment_at_most_the_question_on_the_screen_is_lost(tmp_path):
    folder, delays = tmp_path / "answers", np.random.default_rng(0).uniform(0.0, 0.03, 4)
    acknowledged, command = 0, [sys.executable, answering.__file__, str(folder)]
    for delay in delays:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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
