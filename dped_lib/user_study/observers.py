"""Simulate subjects of the user study with known preferences: the model observer.

They test the study and its analysis without people: whether intervals contain the true value, and whether a ranking is
correct. They say nothing about pictures. Their answers are in a folder of their own, and every line has
``observer="model"``.
"""

import re
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions
from dped_lib.user_study.answers import AnswerStore

#: Standard deviation, in logits, of a simulated subject's own preference for each class of pictures.
TASTE = 0.4


def edges_and_contrast(image: np.ndarray) -> np.ndarray:
    """Return edge strength and contrast of a picture (uint8 H x W x 3, RGB): natural logarithms, shape (2,).

    Edge strength is the mean gradient of the luma at half size, which averages most of the noise away. Contrast is the
    standard deviation of the luma.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    gy, gx = np.gradient(half)
    return np.log([np.hypot(gx, gy).mean() + 1e-3, luma.std() + 1e-3])


def utilities(pictures: study_pictures.Pictures) -> dict[tuple[str, str, str], float]:
    """Return the model observer's utility of each picture in logits: (set, class, scene) -> utility.

    Both values of :func:`edges_and_contrast` are taken relative to the mean of the scene, divided by their standard
    deviation over the study, and averaged.
    """
    keys = list(pictures.files)
    values = np.array([edges_and_contrast(pictures.read(key)) for key in keys])
    for group in {(name, scene) for name, _, scene in keys}:
        rows = [i for i, (name, _, scene) in enumerate(keys) if (name, scene) == group]
        values[rows] -= values[rows].mean(0)
    values /= np.maximum(values.std(0), 1e-9)
    return dict(zip(keys, values.mean(1).tolist(), strict=True))


def simulate(
    questions: Sequence[study_questions.Question],
    utility: Mapping[tuple[str, str, str], float],
    subjects: int,
    seed: int,
    taste: float = 0.0,
) -> np.ndarray:
    """Return the choices of simulated subjects: bool (subjects, questions), True for ``first``.

    The model is Bradley and Terry's: P(first) = 1 / (1 + exp(u(second) - u(first))).

    Args:
        utility: (set, class, scene) -> logits.
        taste: standard deviation, in logits, of a subject's own preference for each class. It makes
            the answers of one subject depend on each other, as those of people do.
    """
    rng = np.random.default_rng(seed)
    of_first = np.array([utility[q.set, q.first, q.scene] for q in questions])
    of_second = np.array([utility[q.set, q.second, q.scene] for q in questions])
    own = taste * rng.standard_normal((subjects, len(study_questions.CLASSES)))
    first = [study_questions.CLASSES.index(q.first) for q in questions]
    second = [study_questions.CLASSES.index(q.second) for q in questions]
    logits = of_first - of_second + own[:, first] - own[:, second]
    return rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


def write_answers(
    store: AnswerStore, utility: Mapping[tuple[str, str, str], float], subjects: int, seed: int, taste: float
) -> None:
    """Write the answers of simulated subjects ``model-001`` ... into a store, in place of those of earlier ones.

    Files with other names are kept. The reaction time is 0 s, because no person reacted.
    """
    questions = tuple(store.questions.values())
    written = set()
    for i, row in enumerate(simulate(questions, utility, subjects, seed, taste), start=1):
        first_chosen = dict(zip(questions, row, strict=True))
        name = f"model-{i:03}"
        store.record_model(
            name,
            (
                (trial, trial.question.first if first_chosen[trial.question] else trial.question.second, 0.0)
                for trial in study_questions.order(questions, name, store.seed)
            ),
        )
        written.add(name)
    for old in store.subjects("model"):
        if re.fullmatch(r"model-\d{3,}", old) and old not in written:
            store.file_of(old, "model").unlink(missing_ok=True)
