"""The user study: its questions and their order, answers that survive anything, and an analysis checked on known preferences."""

import collections
import dataclasses
import io
import itertools
import json
import multiprocessing
import os
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
from PIL import Image
from synthetic import FULL, SCENES, write_study

from dped_lib import models, paper
from dped_lib.base import config
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import baselines
from dped_lib.user_study import analysis as study_analysis, figures as study_figures, make_pictures, observers, page as study_page, pictures as study_pictures, server as study_server, study, tell
from dped_lib.base.errors import DpedError

EXPECTED_FIRST = [("iphone/scene-2/original-enhanced", "enhanced"), ("iphone/scene-3/dslr-enhanced", "enhanced")]
PICTURES = "0" * 64
QUESTIONS = study.questions(FULL)


@pytest.fixture
def store(tmp_path):
    return study.AnswerStore(tmp_path / "answers", PICTURES, QUESTIONS)


# ---------------------------------------------------------------------------------------------- design


def test_the_study_is_the_papers():
    assert len(QUESTIONS) == paper.STUDY_QUESTIONS == 108
    counts = collections.Counter(q.set for q in QUESTIONS)
    assert counts == {"blackberry": 27, "iphone": 27, "sony": 27, "enhancers": 27}
    assert list(dict.fromkeys(q.set for q in QUESTIONS)) == list(study.PAPER_SETS), "the order of Figure 10"


def test_every_pair_of_every_scene_once():
    asked = collections.Counter((q.set, q.scene, frozenset((q.first, q.second))) for q in QUESTIONS)
    assert set(asked.values()) == {1}
    for name, kind in study.PAPER_SETS.items():
        a, b, c = study.KINDS[kind]
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
    asked = study.questions(scenes)
    assert len(asked) == 81 + 9


def test_order_is_a_shuffle_of_its_own_for_every_subject():
    one, again, other = (study.order(QUESTIONS, s, 0) for s in ("p01", "p01", "p02"))
    assert one == again
    assert sorted(a.question for a in one) == sorted(QUESTIONS)
    assert [a.number for a in one] == list(range(1, 109)) and {a.total for a in one} == {108}
    places = [[a.question.key for a in order].index(QUESTIONS[0].key) for order in (one, other)]
    assert places[0] != places[1]
    assert study.order(QUESTIONS, "p01", 1) != one, "the study's seed matters"
    assert study.order(reversed(QUESTIONS), "p01", 0) == one, "the order they come in does not"


def test_order_stays_the_same_forever():
    """A subject who goes on after an update must see the same sides; written down once."""
    first = study.order(QUESTIONS, "p01", 0)[:2]
    assert [(a.question.key, a.left) for a in first] == EXPECTED_FIRST


def test_sides_are_balanced():
    orders = [study.order(QUESTIONS, f"p{i:03}", 0) for i in range(200)]
    for sequence in orders:
        assert sum(a.left == a.question.first for a in sequence) == 54, "half of a subject's questions"
    left = collections.Counter(a.question for o in orders for a in o if a.left == a.question.first)
    # 200 fair coins: five standard deviations are 35.
    assert all(abs(left[q] - 100) < 36 for q in QUESTIONS)
    for cls in study.CLASSES:
        sides = [a.left == cls for o in orders for a in o if cls in (a.left, a.right)]
        assert abs(np.mean(sides) - 0.5) < 0.02
    place = np.mean([[a.number for a in sorted(o, key=lambda a: a.question)] for o in orders], 0)
    assert np.all(np.abs(place - 54.5) < 5 * 31.2 / np.sqrt(200)), "no question comes early for everyone"


def test_neighbours_do_not_tell_the_class():
    """Which class was left before says nothing of which is left now."""
    runs = []
    for i in range(300):
        sides = [a.left == a.question.first for a in study.order(QUESTIONS, f"p{i}", 0)]
        runs.append(np.mean([a == b for a, b in itertools.pairwise(sides)]))
    assert abs(np.mean(runs) - 53 / 107) < 0.012


# ---------------------------------------------------------------------------------------------- pictures


def test_a_folder_of_ones_own(tmp_path):
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine"))
    assert pictures.questions == QUESTIONS
    assert list(pictures.scenes) == list(study.PAPER_SETS)
    assert pictures.digest == study_pictures.open_folder(tmp_path / "mine").digest
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert pictures.digest == study_pictures.open_folder(tmp_path / "moved").digest, "the place does not matter"
    Image.new("RGB", (160, 120)).save(tmp_path / "moved" / "sony" / "dslr" / "scene-3.png")
    assert pictures.digest != study_pictures.open_folder(tmp_path / "moved").digest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "sony" / "dslr" / "scene-3.png").unlink(), "sony/dslr: scene 'scene-3' is missing"),
        (lambda f: (f / "sony" / "dslr").rename(f / "sony" / "dslr"), "unknown class of pictures in .*'dslr'"),
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


def test_a_page_is_blind(tmp_path):
    """Nothing but pixels reaches a subject's page: same size, same format, no metadata, no names."""
    scenes = {"sony": {c: SCENES for c in study.KINDS["phone"]}}
    folder = write_study(tmp_path / "mine", scenes)
    for scene in SCENES:  # The DSLR's are larger, wider, JPEG and carry a camera's name.
        (folder / "sony" / "dslr" / f"{scene}.png").unlink()
        large = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 450, 3), np.uint8))
        exif = large.getexif()
        exif[0x0110] = "Canon EOS 70D"
        large.save(folder / "sony" / "dslr" / f"{scene}.jpg", exif=exif)
    pictures = study_pictures.open_folder(folder)
    for asked in study.order(pictures.questions, "p01", 0)[:12]:
        pages = study_pictures.page(pictures, asked)
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
    sequence = study.order(QUESTIONS, "p01", 0)
    for asked in sequence[:40]:
        assert store.next("p01") == asked
        store.record("p01", asked, asked.right, 1.0)
    again = study.AnswerStore(store.folder, PICTURES, QUESTIONS)
    assert again.next("p01") == sequence[40]
    for asked in sequence[40:]:
        again.record("p01", asked, asked.left, 1.0)
    assert again.next("p01") is None
    assert len(again.answers("p01")) == 108


def test_a_question_is_answered_once(store):
    asked = store.next("p01")
    store.record("p01", asked, asked.left, 1.0)
    with pytest.raises(DpedError, match="has been answered; each is asked once"):
        study.AnswerStore(store.folder, PICTURES, QUESTIONS).record("p01", asked, asked.right, 1.0)
    assert [a.chosen for a in store.answers("p01")] == [asked.left]


@pytest.mark.parametrize("subject", ["", "Anna", "../p01", "p 1", "p" * 33, "-p", "p.1", "p/1", "é", None, 7, "p1\n"])
def test_subjects_that_cannot_be_file_names(store, subject):
    with pytest.raises(DpedError, match="1 to 32 lower-case letters"):
        store.next(subject)


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
        study.AnswerStore(store.folder, "1" * 64, QUESTIONS)
    with pytest.raises(DpedError, match="other seed 0"):
        study.AnswerStore(store.folder, PICTURES, QUESTIONS, seed=1)
    other = study.AnswerStore(store.folder.with_name("other"), "1" * 64, QUESTIONS)
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
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(store, spoil, message):
    file = fill(store, "p01", 3)
    file.write_text("".join(spoil(file.read_text().splitlines(keepends=True))))
    with pytest.raises(DpedError, match=f"p01.jsonl, .*{message}"):
        store.answers("p01")
    with pytest.raises(DpedError, match="p01.jsonl"):
        store.everyone()


def test_a_damaged_description_is_named(store):
    (store.folder / "study.json").write_text("{")
    with pytest.raises(DpedError, match="study.json: damaged"):
        study.AnswerStore(store.folder, PICTURES, QUESTIONS)


def _answer_many(folder, subject, n):
    store = study.AnswerStore(folder, PICTURES, QUESTIONS)
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
    store = study.AnswerStore(folder, PICTURES, QUESTIONS)
    assert {s: len(store.answers(s)) for s in store.subjects()} == {f"p{i}": 60 for i in range(4)}


def test_two_pages_of_one_subject_lose_nothing_and_double_nothing(tmp_path):
    folder = tmp_path / "answers"
    run_together((folder, "p1", 40), (folder, "p1", 40))
    answers = study.AnswerStore(folder, PICTURES, QUESTIONS).answers("p1")
    assert len(answers) == len({a.question for a in answers}) == 80


# Without the rest of this file: it would bring PyTorch along, four times.
_ENDLESS = """
import sys
from pathlib import Path
from dped_lib.user_study import study
scenes = [f"scene-{i}" for i in range(1, 10)]
asked = study.questions({n: {c: scenes for c in study.KINDS[k]} for n, k in study.PAPER_SETS.items()})
store = study.AnswerStore(Path(sys.argv[1]), "0" * 64, asked)
while (asked := store.next("p01")) is not None:
    store.record("p01", asked, asked.left, 0.5)
    print(asked.number, flush=True)
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
        store = study.AnswerStore(folder, PICTURES, QUESTIONS)
        kept = len(store.answers("p01"))
        # What was acknowledged is there; one more may have been written but not said.
        assert acknowledged <= kept <= acknowledged + 1
        acknowledged = kept
    rest = fill(store, "p01", 108 - kept)
    assert len(rest.read_text().splitlines()) == 108 and store.next("p01") is None


# ---------------------------------------------------------------------------------------------- the model observer


def test_simulated_answers_never_look_like_peoples(store):
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    observers.answer(store, utility, 12, 0, observers.TASTE)
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
    assert (observers.score(sharp) > observers.score(flat)).all()


def test_simulated_again_gives_fewer_not_more(store):
    utility = {(s, c, scene): 0.0 for s, by in FULL.items() for c in by for scene in SCENES}
    observers.answer(store, utility, 5, 0, 0.0)
    observers.answer(store, utility, 3, 0, 0.0)
    assert len(store.subjects("model")) == 3


# ---------------------------------------------------------------------------------------------- analysis

SONY = tuple(q for q in QUESTIONS if q.set == "sony")


def utility_of(**by_class):
    return {(q.set, c, q.scene): by_class.get(c, 0.0) for q in QUESTIONS for c in (q.first, q.second)}


def simulated(subjects, seed=0, taste=0.0, asked=SONY, **by_class):
    return study_analysis.of_array(asked, observers.simulate(asked, utility_of(**by_class), subjects, seed, taste))


def probability(gap):
    return 1 / (1 + np.exp(-gap))


def test_wilson_covers_the_truth_at_its_nominal_rate():
    """10 000 simulated subjects, each an experiment of its own, with known preferences."""
    first = observers.simulate(QUESTIONS, utility_of(original=-1.0, enhanced=0.3), 10_000, 0)
    for pair, gap in ((("original", "dslr"), -1.0), (("original", "enhanced"), -1.3), (("dslr", "enhanced"), -0.3)):
        at = [i for i, q in enumerate(QUESTIONS) if (q.first, q.second) == pair]
        bounds = np.array([study_analysis.wilson(int(k), len(at)) for k in first[:, at].sum(1)])
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


def test_a_class_that_always_wins_has_a_finite_strength():
    choices = simulated(20, original=-50.0, enhanced=50.0)
    found = study_analysis.ranking(choices, resamples=20)
    assert [s.cls for s in found] == ["enhanced", "dslr", "original"]
    assert all(np.isfinite((s.logit, *s.interval)).all() for s in found)
    assert found[0].first == 1


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
    assert found.answers == 6 and found.wilson == study_analysis.wilson(3, 6)
    last = {f.cls: f.share for f in study_analysis.fractions(choices, 50)}
    assert last == {"original": 0.0, "dslr": 0.5, "enhanced": 0.5}
    assert study_analysis.share(choices, "sony", "original", "dslr").share is None, "nobody was asked"
    assert [s.share is None for s in study_analysis.shares(choices, 20)] == [True, True, False]


def test_agreement_has_its_chance_level():
    chance, same = (simulated(60, seed=1), simulated(60, dslr=50.0, original=0.0, enhanced=-50.0))
    for a in tell.agreement(chance, 50):
        assert a.agreeing == pytest.approx(0.5, abs=0.03) and a.by_chance == pytest.approx(0.5, abs=0.01)
        assert abs(a.kappa) < 0.05 and a.interval[0] < 0 < a.interval[1]
        assert np.mean(list(a.by_question.values())) == pytest.approx(a.agreeing)
    assert all(a.agreeing == 1 and a.by_chance == 1 and a.kappa == 0 for a in tell.agreement(same, 50))


def test_kappa_is_fleiss():
    """Against its definition, on complete answers."""
    sign = simulated(30, seed=3, taste=0.5, enhanced=0.7).of("sony", ("dslr", "enhanced")).sign
    up = (sign > 0).sum(0)
    n = len(sign)
    agreeing = ((up * (up - 1) + (n - up) * (n - up - 1)) / (n * (n - 1))).mean()
    p = up.sum() / (n * len(up))
    expected = (agreeing - p**2 - (1 - p) ** 2) / (1 - p**2 - (1 - p) ** 2)
    found = tell.agreement(simulated(30, seed=3, taste=0.5, enhanced=0.7), 20)[2]
    assert found.kappa == pytest.approx(expected)


def test_the_equivalence_test_has_three_outcomes():
    verdict = lambda *a, **k: tell.equivalence(simulated(*a, **k), "sony", "dslr", "enhanced", resamples=300)
    assert verdict(42, seed=1).word == "cannot tell"
    assert verdict(42, seed=1, enhanced=1.0).word == "can tell"
    assert verdict(3, seed=1).word == "not enough answers"
    asked = tuple(q for q in SONY if q.scene == SCENES[0])
    few = study_analysis.of_array(asked, observers.simulate(asked, utility_of(), 20, 5))
    assert tell.equivalence(few, "sony", "dslr", "enhanced").word == "not enough answers"


def test_a_wrong_cannot_tell_is_rare():
    """At the margin's edge (share 0.4) "cannot tell" may come out in 5 % of studies."""
    gap = float(np.log(0.6 / 0.4))
    wrong = sum(
        tell.equivalence(simulated(42, seed, enhanced=gap), "sony", "dslr", "enhanced", resamples=200).word
        == "cannot tell"
        for seed in range(200)
    )
    assert wrong / 200 < 0.09


def test_preferences_that_cancel_out_are_seen():
    """Equal on average and yet told apart in every scene: the paper's conclusion would be wrong here."""
    utility = utility_of()
    for i, scene in enumerate(SCENES[:8]):
        utility["sony", "enhanced", scene] = 4.0 if i % 2 else -4.0
    choices = study_analysis.of_array(SONY, observers.simulate(SONY, utility, 42, 0))
    found = tell.equivalence(choices, "sony", "dslr", "enhanced", resamples=300)
    assert found.word == "cannot tell" and set(found.split_scenes) == set(SCENES[:8])
    kappa = tell.agreement(choices, 100)[2]
    assert kappa.kappa > 0.5 and kappa.interval[0] > 0


@pytest.mark.parametrize("margin", [0, 0.5, -0.1, 1])
def test_margins_that_mean_nothing(margin):
    with pytest.raises(DpedError, match="between 0 and 0.5"):
        tell.equivalence(simulated(20), "sony", "dslr", "enhanced", margin)


def test_fewest_answers_is_the_power_of_the_paper():
    assert tell.fewest_answers(0.1) == 66
    assert paper.STUDY_SUBJECTS * paper.STUDY_SCENES > tell.fewest_answers(0.05)


def test_questions_that_do_not_exist_are_named():
    with pytest.raises(DpedError, match="dslr and manual in set 'sony'"):
        tell.equivalence(simulated(20), "sony", "dslr", "manual")


# ---------------------------------------------------------------------------------------------- pages and figures


@pytest.fixture
def small(tmp_path):
    scenes = {
        "sony": {c: SCENES for c in study.KINDS["phone"]},
        "enhancers": {c: SCENES for c in ("automatic", "enhanced")},
    }
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine", scenes))
    return pictures, study.AnswerStore(tmp_path / "answers", pictures.digest, pictures.questions)


def test_the_page_of_a_subject(small, monkeypatch, capsys):
    pictures, store = small
    clock = iter(float(i) for i in range(10_000))
    monkeypatch.setattr(study_page.time, "monotonic", lambda: next(clock))
    page = study_page.Study(pictures, store, "p01")
    assert page.images[0].value == b"" and page.buttons[0].disabled
    page.buttons[0].click()
    assert store.answers("p01") == (), "nothing is asked before Start"
    sequence = study.order(pictures.questions, "p01", 0)
    page.pause_button.click()
    assert (page.images[0].value, page.images[1].value) == study_pictures.page(pictures, sequence[0])
    page.buttons[1].click()
    page.buttons[0].click()
    assert [a.chosen for a in store.answers("p01")] == [sequence[0].right, sequence[1].left]
    assert [a.seconds for a in store.answers("p01")] == [1.0, 1.0]
    page.pause_button.click()
    assert page.images[0].value == b"" and "Paused" in page.message.value and page.progress.value == 2
    again = study_page.Study(pictures, store, "p01")  # the kernel was restarted
    again.resume()
    assert again.asked == sequence[2] and "Question 3 of 36" in again.message.value
    said = again.message.value + str([w.description for w in (*again.buttons, again.pause_button)])
    assert not any(word in said for word in (*study.CLASSES, *SCENES, "sony"))
    while again.asked:
        again.buttons[0].click()
    assert len(store.answers("p01")) == 36 and "Thank you" in again.message.value


def test_a_key_pressed_twice_answers_once(small, monkeypatch):
    pictures, store = small
    now = [0.0]
    monkeypatch.setattr(study_page.time, "monotonic", lambda: now[0])
    page = study_page.Study(pictures, store, "p01")
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
    for wrong in ("", "Ada Lovelace", "../p01"):
        door.name.value = wrong
        door.begin.click()
        assert door.study is None and "must be 1 to 32" in door.message.value
    door.name.value = " p01 "
    door.begin.click()
    assert door.widget.children == (door.study.widget,) and "Question 1 of 36" in door.study.message.value
    now[0] = 2.0
    door.study.buttons[0].click()
    again = study_page.Entrance(pictures, store)  # the page was reloaded; or somebody else thought of the same name
    again.name.value = "p01"
    again.begin.click()
    assert again.study is None and "p01 has answered 1 of 36" in again.message.value
    again.begin.click()
    assert "Question 2 of 36" in again.study.message.value
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
    fig = study_page.Study(pictures, store, "p01").static()
    assert sum(bool(ax.images) for ax in fig.axes) == 2
    assert store.answers("p01") == ()


def test_the_page_says_what_is_wrong(small):
    pictures, store = small
    page = study_page.Study(pictures, store, "p01")
    page.resume()
    store.file_of("p01").parent.mkdir()
    store.file_of("p01").write_text("nonsense\n")
    page._since -= 1
    page.buttons[0].click()
    assert "p01.jsonl, line 1: damaged" in page.message.value and page.buttons[0].disabled


def test_figures_and_tables(small):
    pictures, store = small
    liked = observers.utilities(pictures)
    observers.answer(store, liked, 12, 0, 0.2)
    choices = study_analysis.collect(store, "model")
    shares, last = study_analysis.shares(choices, 20), study_analysis.fractions(choices, 20)
    fig = study_figures.figure10(shares, last, "rig", {(s.set, s.first, s.second): 0.5 for s in shares})
    words = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert words.count("not run") == 2, "the two pairs with a manual enhancement"
    assert [ax.get_title() for ax in fig.axes] == ["(a) Sony Xperia Z", "(b) enhancers"]
    assert len(study_figures.figure11(pictures, "sony", "enhanced", "rig").axes) == 9
    assert len(study_figures.scene_classes(pictures, SCENES[0], "rig").axes) == 6
    asked = study.order(pictures.questions, "p01", 0)[0]
    study_figures.question(*study_pictures.shown(pictures, asked), asked)
    assert len(study_figures.share_table(shares, "rig")) == 4
    assert len(study_figures.ranking_table(study_analysis.ranking(choices, 20), "rig")) == 5
    assert len(study_figures.agreement_table(tell.agreement(choices, 20), "rig")) == 4
    verdict = tell.equivalence(choices, "sony", "dslr", "enhanced", resamples=20)
    assert study_figures.verdict_table([verdict], "rig").shape == (1, 8)
    assert study_figures.progress_table(choices)["answers"].tolist() == [36] * 12
    assert "no people" in study_figures.of_observer("model", 12)
    with pytest.raises(DpedError, match="no pictures of class 'manual'"):
        study_figures.figure11(pictures, "sony", "manual", "rig")
    plt.close("all")


def test_one_subject_gives_no_interval_over_subjects(small):
    _, store = small
    fill(store, "p01", 36)
    choices = study_analysis.collect(store, "person")
    assert all(s.clustered is None for s in study_analysis.shares(choices, 20))
    assert all(s.interval is None for s in study_analysis.ranking(choices, 20))
    assert tell.agreement(choices, 20) == []
    assert tell.equivalence(choices, "sony", "dslr", "enhanced", resamples=20).word == "not enough answers"
    with pytest.raises(DpedError, match="no answers of observer 'model'"):
        study_analysis.collect(store, "model")


def test_pictures_of_the_rig_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    networks = {"iphone": models.generator("srcnn").eval()}
    monkeypatch.setattr(make_pictures, "held_out", lambda *_: ("chelsea-a",))
    monkeypatch.setattr(make_pictures, "enhancing_network", lambda *_, **__: networks["iphone"])
    monkeypatch.setattr(config, "DATASET_PHONES", {"rig": ("iphone",)})

    def make(manual=""):
        return make_pictures.open_or_make("rig", "smoke", manual=manual)

    pictures = make()
    assert pictures.count == 1
    assert {(s, c) for s, c, _ in pictures.files} == {
        *(("iphone", c) for c in study.KINDS["phone"]),
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
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    with pytest.raises(DpedError, match="no photographs in it"):
        make(by_hand)
    Image.new("RGB", (540, 400)).save(by_hand / "chelsea-a.png")
    full = make(by_hand)
    assert len(full.questions) == 6 and full.digest != pictures.digest
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
    monkeypatch.setattr(make_pictures.pair_store, "open_or_make", lambda *_: store)
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
