"""A study on paper, and what processes of a test do with its answers.

A process that a test spawns imports the module of its function. This one imports neither PyTorch nor SciPy, which
takes seconds.
"""

import resource
import sys
from pathlib import Path

import pytest

from dped_lib.base.errors import DpedError
from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import questions as study_questions

SCENES = tuple(f"scene-{i}" for i in range(1, 10))
#: The paper's study: set -> class -> scenes; 108 questions.
FULL = {name: {c: SCENES for c in study_questions.KINDS[kind]} for name, kind in study_questions.PAPER_SETS.items()}
PICTURES = "0" * 64
QUESTIONS = study_questions.all_questions(FULL)


def fill(store, subject, n):
    for _ in range(n):
        asked = store.next(subject)
        store.record(subject, asked, asked.left, 1.0)
    return store.file_of(subject)


def begin(job):
    folder, name = job
    return study_answers.AnswerStore(folder, PICTURES, QUESTIONS).begin(name)


def fill_a_disk(folder, room):
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


def answer_many(folder, subject, n):
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


def answer_to_the_end(folder):
    """Answers all questions, and prints the number of each answer that is recorded."""
    store = study_answers.AnswerStore(folder, PICTURES, QUESTIONS)
    while (trial := store.next("p01")) is not None:
        store.record("p01", trial, trial.left, 0.5)
        print(trial.number, flush=True)


if __name__ == "__main__":
    answer_to_the_end(Path(sys.argv[1]))
