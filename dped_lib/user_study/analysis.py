"""What the answers of a user study say: the bars of Figure 10 with their intervals, and a ranking.

One subject gives many answers, and they depend on each other. Intervals are therefore two, both shown: Wilson's, which
takes every answer for an independent one, and a bootstrap over subjects, who are drawn with all their answers. Verdicts
take the wider of the two at each end. The scenes are taken as they are: nothing here speaks of other scenes.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import choix
import numpy as np
from scipy import stats

from dped_lib.user_study import study
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError


@dataclass(frozen=True)
class Choices:
    """All answers as one array.

    Attributes:
        observer: of ``study.OBSERVERS``; people and simulated subjects are never together.
        subjects: their names; ``questions``: in a fixed order.
        sign: int8 (subjects, questions): +1 the question's ``first`` was chosen, -1 its ``second``, 0 not answered.
        seconds: reaction times, NaN where not answered; (subjects, questions).
    """

    observer: str
    subjects: tuple[str, ...]
    questions: tuple[study.Question, ...]
    sign: np.ndarray
    seconds: np.ndarray

    def of(self, name: str, pair: tuple[str, str] | None = None) -> "Choices":
        """The questions of one set; of one pair of classes (in the order of ``study.KINDS``) if named."""
        at = [
            i for i, q in enumerate(self.questions) if q.set == name and (pair is None or (q.first, q.second) == pair)
        ]
        if not at:
            raise DpedError(f"no questions about {' and '.join(pair or ('anything',))} in set {name!r} of this study.")
        asked = tuple(self.questions[i] for i in at)
        return replace(self, questions=asked, sign=self.sign[:, at], seconds=self.seconds[:, at])

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(q.set for q in self.questions))

    @property
    def pairs(self) -> tuple[tuple[str, str, str], ...]:
        """(set, first, second) of every pair of classes that was asked."""
        return tuple(dict.fromkeys((q.set, q.first, q.second) for q in self.questions))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of one set (:meth:`of`), in the order of ``study.KINDS``."""
        found = {c for q in self.questions for c in (q.first, q.second)}
        return tuple(c for c in study.KINDS[study.kind_of(found)] if c in found)


def collect(store: study.AnswerStore, observer: str) -> Choices:
    """The answers in a store, of people or of simulated subjects.

    Raises:
        DpedError: there are none, or a file is damaged.
    """
    one_of("observer", observer, study.OBSERVERS)
    asked = tuple(store.questions.values())
    place = {q.key: i for i, q in enumerate(asked)}
    subjects = store.subjects(observer)
    sign = np.zeros((len(subjects), len(asked)), np.int8)
    seconds = np.full(sign.shape, np.nan)
    for row, subject in enumerate(subjects):
        for a in store.answers(subject, observer):
            at = place[a.question]
            sign[row, at] = 1 if a.chosen == asked[at].first else -1
            seconds[row, at] = a.seconds
    if not sign.any():
        raise DpedError(f"{store.folder}: no answers of observer {observer!r} yet.")
    there = sign.any(1)  # someone who has only begun
    names = tuple(s for s, t in zip(subjects, there, strict=True) if t)
    return Choices(observer, names, asked, sign[there], seconds[there])


def of_array(asked: Iterable[study.Question], first: np.ndarray, observer: str = "model") -> Choices:
    """Choices from ``observer.simulate``: bool (subjects, questions)."""
    names = tuple(f"model-{i:03}" for i in range(1, len(first) + 1))
    return Choices(observer, names, tuple(asked), np.where(first, 1, -1).astype(np.int8), np.zeros(first.shape))


# ---------------------------------------------------------------------------------------------- shares


@functools.cache
def wilson(chosen: int, answers: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share, of independent answers."""
    found = stats.binomtest(chosen, answers).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def draw(subjects: int, resamples: int, seed: int) -> np.ndarray:
    """How often each subject is drawn: (resamples, subjects)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=resamples).astype(np.float64)


def quantiles(samples: np.ndarray, level: float) -> tuple[float, float] | None:
    """Percentile interval; None where a resample has no answers at all or there is nobody to draw from."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None
    low, high = np.percentile(samples, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


def _scene_mean(sign: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of ``first``, averaged over the scenes that have answers, for each row of weights."""
    first, answers = weights @ (sign > 0), weights @ (sign != 0)
    known = answers > 0
    share = np.divide(first, answers, out=np.zeros_like(first), where=known)
    scenes = known.sum(1)
    return np.divide(share.sum(1), scenes, out=np.full(len(share), np.nan), where=scenes > 0)


@dataclass(frozen=True)
class Share:
    """How often ``first`` was preferred to ``second``: one of the first three bars of Figure 10.

    Attributes:
        share: averaged over scenes, as in the paper; None without answers. ``answers``: how many there are.
        wilson, clustered: 95 % intervals (see the module); ``clustered`` is None with fewer than two subjects.
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
    choices: Choices, name: str, first: str, second: str, resamples: int = 2000, seed: int = 0, level=0.95
) -> Share:
    """One bar of Figure 10, with its intervals at a level."""
    some = choices.of(name, (first, second))
    wins, answers = (some.sign > 0).sum(0), (some.sign != 0).sum(0)
    total, subjects = int(answers.sum()), int(some.sign.any(1).sum())
    if not total:
        return Share(name, first, second, None, 0, 0, None, None, {})
    clustered = None
    if subjects > 1:
        weights = draw(len(some.sign), resamples, seed)
        clustered = quantiles(_scene_mean(some.sign, weights), level)
    by_scene = {q.scene: float(w / n) for q, w, n in zip(some.questions, wins, answers, strict=True) if n}
    value = float(np.mean(list(by_scene.values())))
    interval = wilson(int(wins.sum()), total, level)
    return Share(name, first, second, value, total, subjects, interval, clustered, by_scene)


def shares(choices: Choices, resamples: int = 2000, seed: int = 0) -> list[Share]:
    """Every pair of every set: the first three bars of each part of Figure 10."""
    return [share(choices, *pair, resamples, seed) for pair in choices.pairs]


@dataclass(frozen=True)
class Fraction:
    """How often a class was chosen among all answers of a set: a part of the last bar of Figure 10; they sum to one."""

    set: str
    cls: str
    share: float
    answers: int
    wilson: tuple[float, float]
    clustered: tuple[float, float] | None


def _chosen(some: Choices, cls: str) -> np.ndarray:
    """How often each subject chose a class: (subjects,)."""
    first = np.array([q.first == cls for q in some.questions])
    second = np.array([q.second == cls for q in some.questions])
    return ((some.sign > 0) & first).sum(1) + ((some.sign < 0) & second).sum(1)


def fractions(choices: Choices, resamples: int = 2000, seed: int = 0) -> list[Fraction]:
    """The last bar of each part of Figure 10. A class is in two questions of three, so that 2/3 is the most it can have."""
    weights, found = draw(len(choices.subjects), resamples, seed), []
    for name in choices.sets:
        some = choices.of(name)
        answers = (some.sign != 0).sum(1)
        total = int(answers.sum())
        for cls in some.classes if total else ():
            chosen = _chosen(some, cls)
            with np.errstate(invalid="ignore"):
                drawn = (weights @ chosen) / (weights @ answers)
            clustered = quantiles(drawn, 0.95) if len(chosen) > 1 else None
            wins = int(chosen.sum())
            found.append(Fraction(name, cls, wins / total, total, wilson(wins, total), clustered))
    return found


# ---------------------------------------------------------------------------------------------- ranking


@dataclass(frozen=True)
class Strength:
    """A class in Bradley and Terry's model: P(a before b) = 1 / (1 + exp(b - a)).

    Attributes:
        logit: strength; the classes of a set sum to zero.
        interval: 95 %, bootstrap over subjects; None with fewer than two.
        first: share of resamples in which the class is the strongest of its set.
    """

    set: str
    cls: str
    logit: float
    interval: tuple[float, float] | None
    first: float | None


def bradley_terry(wins: np.ndarray, asked: np.ndarray | None = None) -> np.ndarray:
    """Strengths, sum zero, of maximum likelihood (``choix``), for a matrix of how often row was preferred to column.

    Half an answer is added each way to each pair that was asked (``asked``, bool; None: those with answers): a class that
    always won has a finite strength then.
    """
    asked = (wins + wins.T) > 0 if asked is None else asked
    return choix.ilsr_pairwise_dense(wins + 0.5 * asked, max_iter=1000)


def ranking(choices: Choices, resamples: int = 400, seed: int = 0) -> list[Strength]:
    """The classes of each set by strength, the strongest first."""
    weights, found = draw(len(choices.subjects), resamples, seed), []
    for name in choices.sets:
        some = choices.of(name)
        classes = some.classes
        place = {c: i for i, c in enumerate(classes)}
        # (subjects, row, column): each subject's own matrix, so that a resample is a weighted sum.
        own = np.zeros((len(some.sign), len(classes), len(classes)))
        for column, q in enumerate(some.questions):
            a, b = place[q.first], place[q.second]
            own[:, a, b] += some.sign[:, column] > 0
            own[:, b, a] += some.sign[:, column] < 0
        if not own.any():
            continue
        asked = (own + own.transpose(0, 2, 1)).any(0)
        value = bradley_terry(own.sum(0), asked)
        drawn = np.array([bradley_terry(np.tensordot(w, own, 1), asked) for w in weights]) if len(own) > 1 else None
        for i in np.argsort(-value):
            interval = first = None
            if drawn is not None:
                interval = quantiles(drawn[:, i], 0.95)
                first = float((drawn.argmax(1) == i).mean())
            found.append(Strength(name, classes[i], float(value[i]), interval, first))
    return found
