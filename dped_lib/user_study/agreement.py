"""Measure whether subjects agree, and test whether they can tell classes of pictures apart (section 4.3's claim).

"The human subjects are unable to distinguish between them - the preferences are equally distributed" is two statements.
This module tests equal preferences with an equivalence test. Equal preferences do not prove that the pictures cannot be
told apart: strong preferences that cancel out between scenes are equal, too. Agreement between subjects reveals that
case.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dped_lib.base.errors import DpedError
from dped_lib.experiments.statistics import draw_counts, finite_bounds, wilson
from dped_lib.user_study.analysis import Choices, Share, share

#: With fewer subjects, intervals of the bootstrap over subjects are too narrow, so we give no verdict.
FEWEST_SUBJECTS = 10


# ---------------------------------------------------------------------------------------------- agreement


@dataclass(frozen=True)
class Agreement:
    """Hold how much subjects agree on the questions about a pair of classes.

    Attributes:
        answer_pairs: number of pairs of answers by two subjects to the same question. If it is 0, there are not enough
            answers yet, and ``agreeing``, ``by_chance``, ``kappa`` and ``interval`` are None.
        agreeing: share of these pairs that agree.
        by_chance: the share that agrees if every answer ignores the scene and has the probability p of all answers:
            p^2 + (1 - p)^2.
        kappa: Fleiss' kappa, (agreeing - by_chance) / (1 - by_chance). At 0, the scene says nothing about the answer.
        interval: 95 % interval of kappa, bootstrap over subjects. A subject drawn twice is not compared with itself.
        by_scene: share of agreeing pairs of each scene.
    """

    set: str
    first: str
    second: str
    answer_pairs: int
    agreeing: float | None
    by_chance: float | None
    kappa: float | None
    interval: tuple[float, float] | None
    by_scene: Mapping[str, float]


def _kappa(sign: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return agreeing share, share by chance, and kappa for each row of weights (resamples, subjects)."""
    answered = np.abs(sign).astype(np.float64)
    signed = sign.astype(np.float64)
    # Both (subjects, subjects): agreements minus disagreements, and the number of questions that both answered.
    balance, shared = signed @ signed.T, answered @ answered.T
    np.fill_diagonal(balance, 0)
    np.fill_diagonal(shared, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        over_pairs = [np.einsum("bi,ij,bj->b", weights, m, weights, optimize=True) for m in (balance, shared)]
        agreeing = (1 + over_pairs[0] / over_pairs[1]) / 2
        p = (weights @ (sign > 0).sum(1)) / (weights @ answered.sum(1))
        chance = p**2 + (1 - p) ** 2
        return agreeing, chance, (agreeing - chance) / (1 - chance)


def agreement(choices: Choices, resamples: int = 400, seed: int = 0) -> list[Agreement]:
    """Return the agreement on every pair of classes that the study asks about."""
    weights = draw_counts(len(choices.subjects), resamples, seed)
    once = np.ones((1, len(choices.subjects)))
    agreements = []
    for name, first, second in choices.pairs:
        of_pair = choices.of(name, (first, second))
        chose_first, answers = (of_pair.sign > 0).sum(0), (of_pair.sign != 0).sum(0)
        pairs = answers * (answers - 1) // 2
        if not pairs.any():
            agreements.append(Agreement(name, first, second, 0, None, None, None, None, {}))
            continue
        chose_second = answers - chose_first
        agreeing_pairs = (chose_first * (chose_first - 1) + chose_second * (chose_second - 1)) // 2
        by_scene = {
            q.scene: float(a / n) for q, a, n in zip(of_pair.questions, agreeing_pairs, pairs, strict=True) if n
        }
        agreeing, chance, kappa = (float(v[0]) for v in _kappa(of_pair.sign, once))
        # If every answer is the same class, both shares are 1 and kappa is 0 / 0. The scene says nothing then.
        kappa = kappa if np.isfinite(kappa) else 0.0
        interval = finite_bounds(_kappa(of_pair.sign, weights)[2], len(of_pair.sign))
        total = int(pairs.sum())
        agreements.append(Agreement(name, first, second, total, agreeing, chance, kappa, interval, by_scene))
    return agreements


# ---------------------------------------------------------------------------------------------- "cannot tell"

CANNOT_TELL, CAN_TELL, UNDECIDED = "cannot tell", "can tell", "not enough answers"


@dataclass(frozen=True)
class Verdict:
    """Hold the result of the test whether two classes are preferred equally within a margin (:func:`equivalence`).

    Attributes:
        share, answers, subjects: as in ``analysis.Share``.
        within: 90 % interval of the share. Preferences are equal, at 5 %, if it lies inside the margin.
        apart: 95 % interval of the share. Preferences differ if it excludes one half.
        word: ``CANNOT_TELL``, ``CAN_TELL`` or ``UNDECIDED``.
        why: the reason in words.
        split_scenes: scenes whose own share differs from one half (Wilson, 5 % for all scenes together). Preferences
            that cancel out between scenes are not a sign that pictures look alike.
    """

    set: str
    first: str
    second: str
    margin: float
    share: float | None
    answers: int
    subjects: int
    within: tuple[float, float] | None
    apart: tuple[float, float] | None
    word: str
    why: str
    split_scenes: tuple[str, ...]

    @property
    def borders(self) -> tuple[float, float, float]:
        """Return the shares that decide: both ends of the margin, and one half."""
        return 0.5 - self.margin, 0.5, 0.5 + self.margin


def _wider(one: Share) -> tuple[float, float]:
    # Wilson's interval is too narrow if answers cluster. The bootstrap's is too narrow if subjects are few or all
    # agree.
    return min(one.wilson[0], one.clustered[0]), max(one.wilson[1], one.clustered[1])


def equivalence(
    choices: Choices,
    name: str,
    first: str,
    second: str,
    margin: float = 0.1,
    resamples: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Test by two one-sided tests (TOST) whether ``first``'s share is within ``margin`` of 0.5.

    The result is ``CANNOT_TELL`` if it is, at 5 %: the whole 90 % interval lies within. Otherwise
    it is ``CAN_TELL`` if the 95 % interval excludes one half. Otherwise, or with fewer than
    ``FEWEST_SUBJECTS`` subjects, it is ``UNDECIDED``. A difference not found may still exist.

    Raises:
        DpedError: ``margin`` is not between 0 and 0.5, or the study has no such pair.
    """
    if not 0 < margin < 0.5:
        example = "0.1: shares from 0.4 to 0.6 count as equal"
        raise DpedError(f"margin is {margin}; it must be between 0 and 0.5 ({example}).")
    at_90 = share(choices, name, first, second, resamples, seed, 0.90)
    at_95 = share(choices, name, first, second, resamples, seed, 0.95)
    counted = (at_90.share, at_90.answers, at_90.subjects)
    if at_90.subjects < FEWEST_SUBJECTS:
        subjects = f"{at_90.subjects} subject{'' if at_90.subjects == 1 else 's'}"
        why = f"{subjects}; a verdict needs {FEWEST_SUBJECTS}"
        return Verdict(name, first, second, margin, *counted, None, None, UNDECIDED, why, ())
    within, apart = _wider(at_90), _wider(at_95)
    equal = f"{0.5 - margin:g} to {0.5 + margin:g}"
    if 0.5 - margin < within[0] and within[1] < 0.5 + margin:
        word, why = CANNOT_TELL, f"90 % interval inside {equal}"
    elif not apart[0] <= 0.5 <= apart[1]:
        word, why = CAN_TELL, "95 % interval excludes one half"
    else:
        word = UNDECIDED
        why = f"90 % interval is not inside {equal}, 95 % interval contains one half"
    of_pair = choices.of(name, (first, second))
    split = tuple(
        q.scene
        for q, column in zip(of_pair.questions, of_pair.sign.T, strict=True)
        if column.any() and not _contains_half(column, 1 - 0.05 / len(of_pair.questions))
    )
    return Verdict(name, first, second, margin, *counted, within, apart, word, why, split)


def _contains_half(column: np.ndarray, level: float) -> bool:
    low, high = wilson(int((column > 0).sum()), int((column != 0).sum()), level)
    return low <= 0.5 <= high


def fewest_answers(margin: float) -> int:
    """Return how many independent answers suffice to show equality if the share is exactly one half (Wilson, 90 %)."""
    return next(n for n in range(2, 10**6, 2) if wilson(n // 2, n, 0.90)[1] < 0.5 + margin)
