"""Whether subjects choose alike, and whether they can tell one class of pictures from another: the test of section 4.3's claim.

"The human subjects are unable to distinguish between them - the preferences are equally distributed" is two statements.
Equal preferences are tested here as an equivalence, within a margin. That pictures cannot be told apart does not follow from
them: preferences that are strong and cancel out between scenes are equal too, and agreement between subjects shows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dped_lib.base.errors import DpedError
from dped_lib.user_study.analysis import Choices, Share, draw, quantiles, share, wilson

#: With fewer subjects a bootstrap over them is too sure of itself, and no verdict is given.
FEWEST_SUBJECTS = 10


# ---------------------------------------------------------------------------------------------- agreement


@dataclass(frozen=True)
class Agreement:
    """Whether subjects choose alike, on the questions of a pair of classes.

    Attributes:
        agreeing: of all pairs of answers to the same question by two subjects, the share that agree.
        by_chance: the share if everyone tossed a coin as biased as the answers are, whatever the scene: p^2 + (1 - p)^2.
        kappa: Fleiss': (agreeing - by_chance) / (1 - by_chance). 0: knowing the scene tells nothing about the answer.
        interval: 95 % of kappa, bootstrap over subjects (a subject drawn twice is not compared with itself).
        by_question: the share of agreeing pairs of each scene.
    """

    set: str
    first: str
    second: str
    agreeing: float
    by_chance: float
    kappa: float
    interval: tuple[float, float] | None
    by_question: Mapping[str, float]


def _kappa(sign: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Agreeing share, share by chance, and kappa for each row of weights (resamples, subjects)."""
    given = np.abs(sign).astype(np.float64)
    signed = sign.astype(np.float64)
    same, both = (
        signed @ signed.T,
        given @ given.T,
    )  # over two subjects: agreements less disagreements; questions shared
    np.fill_diagonal(same, 0)
    np.fill_diagonal(both, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreeing = (
            1
            + np.einsum("bi,ij,bj->b", weights, same, weights, optimize=True)
            / np.einsum("bi,ij,bj->b", weights, both, weights, optimize=True)
        ) / 2
        p = (weights @ (sign > 0).sum(1)) / (weights @ given.sum(1))
        chance = p**2 + (1 - p) ** 2
        return agreeing, chance, (agreeing - chance) / (1 - chance)


def agreement(choices: Choices, resamples: int = 400, seed: int = 0) -> list[Agreement]:
    """Agreement on every pair of classes that at least two subjects have answered the same question of."""
    weights, found = draw(len(choices.subjects), resamples, seed), []
    once = np.ones((1, len(choices.subjects)))
    for name, first, second in choices.pairs:
        some = choices.of(name, (first, second))
        agreeing, chance, kappa = (float(v[0]) for v in _kappa(some.sign, once))
        if not np.isfinite(agreeing):
            continue
        by_question = {}
        for q, column in zip(some.questions, some.sign.T, strict=True):
            up, n = int((column > 0).sum()), int((column != 0).sum())
            if n > 1:
                by_question[q.scene] = (up * (up - 1) + (n - up) * (n - up - 1)) / (n * (n - 1))
        interval = quantiles(_kappa(some.sign, weights)[2], 0.95)
        # Everyone always chose the same class: agreement is whole, and so is chance.
        kappa = kappa if np.isfinite(kappa) else 0.0
        found.append(Agreement(name, first, second, agreeing, chance, kappa, interval, by_question))
    return found


# ---------------------------------------------------------------------------------------------- "cannot tell"

CANNOT, CAN, OPEN = "cannot tell", "can tell", "not enough answers"


@dataclass(frozen=True)
class Verdict:
    """Whether the preference between two classes is equal within a margin (:func:`equivalence`).

    Attributes:
        within: the 90 % interval of the share, whose being inside the margin is the equivalence test at 5 %.
        apart: the 95 % interval, whose leaving out one half is the test of a difference.
        word: ``CANNOT``, ``CAN`` or ``OPEN``; ``why`` in words.
        split_scenes: scenes whose own share differs from one half (Wilson, 5 % over all scenes together). Preferences
            that cancel out between scenes are no sign that pictures look alike.
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


def _wider(one: Share) -> tuple[float, float]:
    # Wilson's is too narrow where answers cluster, the bootstrap's where there are few subjects or all say the same.
    return min(one.wilson[0], one.clustered[0]), max(one.wilson[1], one.clustered[1])


def equivalence(
    choices: Choices, name: str, first: str, second: str, margin: float = 0.1, resamples: int = 2000, seed: int = 0
) -> Verdict:
    """Two one-sided tests (TOST) that the share of ``first`` lies between 0.5 - margin and 0.5 + margin.

    ``cannot tell``: it does, at 5 % (the whole 90 % interval is inside). ``can tell``: it does not, and the 95 % interval
    leaves out one half. ``not enough answers``: neither is shown, or fewer than ``FEWEST_SUBJECTS`` subjects. That a
    difference is not found is, by itself, no sign that there is none.

    Raises:
        DpedError: ``margin`` is not between 0 and 0.5, or no such pair.
    """
    if not 0 < margin < 0.5:
        raise DpedError(
            f"margin is {margin}; it must be between 0 and 0.5 (0.1: shares from 0.4 to 0.6 count as equal)."
        )
    near = share(choices, name, first, second, resamples, seed, level=0.90)
    far = share(choices, name, first, second, resamples, seed, level=0.95)
    if near.subjects < FEWEST_SUBJECTS:
        why = f"{near.subjects} subjects; a verdict needs {FEWEST_SUBJECTS}"
        return Verdict(name, first, second, margin, near.share, near.answers, near.subjects, None, None, OPEN, why, ())
    within, apart = _wider(near), _wider(far)
    if 0.5 - margin < within[0] and within[1] < 0.5 + margin:
        word, why = CANNOT, f"90 % interval inside {0.5 - margin:g} to {0.5 + margin:g}"
    elif not apart[0] <= 0.5 <= apart[1]:
        word, why = CAN, "95 % interval leaves out one half"
    else:
        word, why = (
            OPEN,
            f"90 % interval reaches beyond {0.5 - margin:g} to {0.5 + margin:g}, 95 % interval holds one half",
        )
    some = choices.of(name, (first, second))
    split = tuple(
        q.scene
        for q, column in zip(some.questions, some.sign.T, strict=True)
        if column.any() and not _holds_half(column, 1 - 0.05 / len(some.questions))
    )
    return Verdict(
        name, first, second, margin, near.share, near.answers, near.subjects, within, apart, word, why, split
    )


def _holds_half(column: np.ndarray, level: float) -> bool:
    low, high = wilson(int((column > 0).sum()), int((column != 0).sum()), level)
    return low <= 0.5 <= high


def fewest_answers(margin: float) -> int:
    """The smallest number of independent answers with which an exactly equal share is shown to be equal (Wilson, 90 %)."""
    return next(n for n in range(2, 10**6, 2) if wilson(n // 2, n, 0.90)[1] < 0.5 + margin)
