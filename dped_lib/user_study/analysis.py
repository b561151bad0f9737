"""Analyse the answers of a user study: the bars of Figure 10 with their intervals, and a Bradley-Terry ranking.

The answers of one subject depend on each other, so there are two intervals. Wilson's treats all answers as independent.
The bootstrap draws subjects, each with all their answers. The scenes are fixed, so no interval applies to other scenes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import choix
import numpy as np
from scipy import sparse

from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.experiments.statistics import draw_counts, finite_bounds, wilson
from dped_lib.user_study.answers import OBSERVERS, AnswerStore
from dped_lib.user_study.questions import KINDS, Question, kind_of


@dataclass(frozen=True)
class Choices:
    """Hold all answers as one array.

    Attributes:
        observer: a key of ``answers.OBSERVERS``. People and simulated subjects are never mixed.
        subjects: their ids, one for each row.
        questions: one for each column.
        sign: int8 (subjects, questions): +1 if ``first`` was chosen, -1 if ``second`` was chosen, 0 if there is no
            answer.
        seconds: reaction times (subjects, questions), NaN if there is no answer.
    """

    observer: str
    subjects: tuple[str, ...]
    questions: tuple[Question, ...]
    sign: np.ndarray
    seconds: np.ndarray

    def of(self, name: str, pair: tuple[str, str] | None = None) -> "Choices":
        """Return the choices of one set, or of one pair of classes (in the order of ``KINDS``) of the set.

        Raises:
            DpedError: the study has no such question.
        """
        columns = [
            i for i, q in enumerate(self.questions) if q.set == name and (pair is None or (q.first, q.second) == pair)
        ]
        if not columns:
            raise DpedError(f"no questions about {' and '.join(pair or ('anything',))} in set {name!r} of this study.")
        questions = tuple(self.questions[i] for i in columns)
        return replace(self, questions=questions, sign=self.sign[:, columns], seconds=self.seconds[:, columns])

    @property
    def sets(self) -> tuple[str, ...]:
        """Return the names of the sets, in the order of the questions."""
        return tuple(dict.fromkeys(q.set for q in self.questions))

    @property
    def pairs(self) -> tuple[tuple[str, str, str], ...]:
        """Return every pair of classes that the study asks about: (set, first, second)."""
        return tuple(dict.fromkeys((q.set, q.first, q.second) for q in self.questions))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes of one set (:meth:`of`), in the order of ``KINDS``."""
        present = {cls for q in self.questions for cls in (q.first, q.second)}
        return tuple(cls for cls in KINDS[kind_of(present)] if cls in present)


def collect(store: AnswerStore, observer: str) -> Choices:
    """Return the answers in a store, of people or of simulated subjects. Subjects without an answer are left out.

    Raises:
        DpedError: there are no answers, or a file is damaged.
    """
    one_of("observer", observer, OBSERVERS)
    questions = tuple(store.questions.values())
    columns = {q.key: i for i, q in enumerate(questions)}
    subjects = store.subjects(observer)
    sign = np.zeros((len(subjects), len(questions)), np.int8)
    seconds = np.full(sign.shape, np.nan)
    for row, subject in enumerate(subjects):
        for answer in store.answers(subject, observer):
            column = columns[answer.question]
            sign[row, column] = 1 if answer.chosen == questions[column].first else -1
            seconds[row, column] = answer.seconds
    if not sign.any():
        raise DpedError(f"{store.folder}: no answers of observer {observer!r} yet.")
    answered = sign.any(1)
    names = tuple(subject for subject, has_answer in zip(subjects, answered, strict=True) if has_answer)
    return Choices(observer, names, questions, sign[answered], seconds[answered])


def from_simulation(questions: Iterable[Question], first_chosen: np.ndarray) -> Choices:
    """Return the choices that ``observers.simulate`` made: bool (subjects, questions)."""
    names = tuple(f"model-{i:03}" for i in range(1, len(first_chosen) + 1))
    sign = np.where(first_chosen, 1, -1).astype(np.int8)
    return Choices("model", names, tuple(questions), sign, np.zeros(sign.shape))


# ---------------------------------------------------------------------------------------------- sizes


@dataclass(frozen=True)
class Sizes:
    """Hold how large people saw the pictures.

    Attributes:
        answers: number of answers.
        known: number of answers that say the size.
        width: median width of a picture on the screen, CSS pixels; None if no answer says the size.
        below: share of the known answers whose picture had fewer pixels on the screen than in its file; None if no
            answer says the size.
    """

    answers: int
    known: int
    width: float | None
    below: float | None


def sizes(store: AnswerStore) -> Sizes:
    """Return how large people saw the pictures. Simulated subjects see none.

    Raises:
        DpedError: a file of answers is damaged.
    """
    answers = store.everyone("person")
    known = [a for a in answers if a.width is not None and a.scale is not None]
    if not known:
        return Sizes(len(answers), 0, None, None)
    # The browser rounds to parts of a pixel, so a picture at 1:1 may seem smaller by less than one in a thousand.
    below = float(np.mean([a.scale < 0.999 for a in known]))
    return Sizes(len(answers), len(known), float(np.median([a.width for a in known])), below)


# ---------------------------------------------------------------------------------------------- shares


def _scene_mean(sign: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the share of ``first``, averaged over scenes with answers, by row of weights (resamples, subjects)."""
    first, answers = weights @ (sign > 0), weights @ (sign != 0)
    known = answers > 0
    share = np.divide(first, answers, out=np.zeros_like(first), where=known)
    scenes = known.sum(1)
    return np.divide(share.sum(1), scenes, out=np.full(len(share), np.nan), where=scenes > 0)


@dataclass(frozen=True)
class Share:
    """Hold how often ``first`` was preferred to ``second``: one of the first three bars of Figure 10.

    Attributes:
        share: averaged over scenes, as in the paper; None if there are no answers.
        answers, subjects: number of answers, and of subjects who gave them.
        wilson: Wilson's 95 % interval; None if there are no answers.
        clustered: 95 % interval of the bootstrap over subjects; None with fewer than two subjects.
        by_scene: the share of each scene that has answers.
    """

    set: str
    first: str
    second: str
    share: float | None
    answers: int
    subjects: int
    wilson: tuple[float, float] | None
    clustered: tuple[float, float] | None
    by_scene: Mapping[str, float]


def share(
    choices: Choices, name: str, first: str, second: str, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Share:
    """Return one bar of Figure 10, with its intervals at ``level``, the probability that they cover the share.

    Raises:
        DpedError: the study has no question about this pair.
    """
    of_pair = choices.of(name, (first, second))
    wins, answers = (of_pair.sign > 0).sum(0), (of_pair.sign != 0).sum(0)
    total, subjects = int(answers.sum()), int(of_pair.sign.any(1).sum())
    if not total:
        return Share(name, first, second, None, 0, 0, None, None, {})
    clustered = None
    if subjects > 1:
        weights = draw_counts(len(of_pair.sign), resamples, seed)
        clustered = finite_bounds(_scene_mean(of_pair.sign, weights), subjects, level)
    by_scene = {q.scene: float(w / n) for q, w, n in zip(of_pair.questions, wins, answers, strict=True) if n}
    value = float(np.mean(list(by_scene.values())))
    interval = wilson(int(wins.sum()), total, level)
    return Share(name, first, second, value, total, subjects, interval, clustered, by_scene)


def shares(choices: Choices, resamples: int = 2000, seed: int = 0) -> list[Share]:
    """Return the share of every pair of every set: the first three bars of each part of Figure 10."""
    return [share(choices, *pair, resamples, seed) for pair in choices.pairs]


@dataclass(frozen=True)
class Fraction:
    """Hold the share of a class in all answers of a set: a part of the last bar of Figure 10. The parts sum to 1."""

    set: str
    cls: str
    share: float
    answers: int
    wilson: tuple[float, float]
    clustered: tuple[float, float] | None


def _chosen(choices: Choices, cls: str) -> np.ndarray:
    """Return how often each subject chose a class: (subjects,)."""
    first = np.array([q.first == cls for q in choices.questions])
    second = np.array([q.second == cls for q in choices.questions])
    return ((choices.sign > 0) & first).sum(1) + ((choices.sign < 0) & second).sum(1)


def fractions(choices: Choices, resamples: int = 2000, seed: int = 0) -> list[Fraction]:
    """Return the last bar of each part of Figure 10. A set without answers has none.

    A class is in two of three questions, so in a finished study its share is at most 2/3.
    """
    weights, parts = draw_counts(len(choices.subjects), resamples, seed), []
    for name in choices.sets:
        of_set = choices.of(name)
        answers = (of_set.sign != 0).sum(1)
        total = int(answers.sum())
        for cls in of_set.classes if total else ():
            chosen = _chosen(of_set, cls)
            with np.errstate(invalid="ignore"):
                resampled = (weights @ chosen) / (weights @ answers)
            subjects = int((answers > 0).sum())
            clustered = finite_bounds(resampled, subjects) if subjects > 1 else None
            wins = int(chosen.sum())
            parts.append(Fraction(name, cls, wins / total, total, wilson(wins, total), clustered))
    return parts


# ---------------------------------------------------------------------------------------------- ranking


@dataclass(frozen=True)
class Strength:
    """Hold the strength of a class in Bradley and Terry's model: P(a before b) = 1 / (1 + exp(b - a)).

    Attributes:
        logit: strength; the classes of a set sum to zero. None while there are not enough answers (:func:`is_decided`).
        interval: 95 %, bootstrap over subjects; None with fewer than two subjects.
        first: share of resamples in which the class is the strongest of its set.
        answers: number of answers in the set.
    """

    set: str
    cls: str
    logit: float | None
    interval: tuple[float, float] | None
    first: float | None
    answers: int


def is_decided(wins: np.ndarray) -> bool:
    """Return whether the likelihood of Bradley and Terry's model has a finite maximum (Ford 1957).

    It has one if, for every division of the classes into two groups, each group has won against the
    other. It has none if answers do not connect all classes, or a class never won or never lost.

    Args:
        wins: (classes, classes); how often the row was preferred to the column.
    """
    parts = sparse.csgraph.connected_components(wins > 0, connection="strong", return_labels=False)
    return parts == 1


def bradley_terry(wins: np.ndarray, asked: np.ndarray | None = None) -> np.ndarray:
    """Return the strengths, sum zero, of maximum likelihood (``choix``).

    Half an answer is added in each direction to each pair that was asked. It keeps strengths finite
    in resamples where a class won always.

    Args:
        wins: (classes, classes); how often the row was preferred to the column.
        asked: bool (classes, classes): the pairs that were asked, which must connect all classes.
            None: the pairs with answers.
    """
    asked = (wins + wins.T) > 0 if asked is None else asked
    return choix.ilsr_pairwise_dense(wins + 0.5 * asked, max_iter=1000)


def ranking(choices: Choices, resamples: int = 400, seed: int = 0) -> list[Strength]:
    """Return the classes of each set by strength, the strongest first.

    A set whose answers do not decide the strengths (:func:`is_decided`) has its classes without numbers, in the order
    of ``KINDS``.
    """
    weights, strengths = draw_counts(len(choices.subjects), resamples, seed), []
    for name in choices.sets:
        of_set = choices.of(name)
        classes, wins = of_set.classes, _wins(of_set)
        answers = int(wins.sum())
        if not is_decided(wins.sum(0)):
            strengths += [Strength(name, cls, None, None, None, answers) for cls in classes]
            continue
        asked = (wins + wins.transpose(0, 2, 1)).any(0)
        logits = bradley_terry(wins.sum(0), asked)
        # We skip a resample whose subjects have no answers in this set.
        sums = (np.tensordot(w, wins, 1) for w in weights) if wins.any((1, 2)).sum() > 1 else ()
        resampled = np.array([bradley_terry(total, asked) for total in sums if total.any()])
        for i in np.argsort(-logits):
            interval = first = None
            if len(resampled):
                interval = finite_bounds(resampled[:, i], len(wins))
                first = float((resampled.argmax(1) == i).mean())
            strengths.append(Strength(name, classes[i], float(logits[i]), interval, first, answers))
    return strengths


def _wins(choices: Choices) -> np.ndarray:
    """Return how often each subject preferred the row to the column: (subjects, classes, classes), of one set."""
    place = {cls: i for i, cls in enumerate(choices.classes)}
    wins = np.zeros((len(choices.sign), len(place), len(place)))
    for column, q in enumerate(choices.questions):
        first, second = place[q.first], place[q.second]
        wins[:, first, second] += choices.sign[:, column] > 0
        wins[:, second, first] += choices.sign[:, column] < 0
    return wins
