"""The model observer: simulated subjects of the user study, whose preferences are known.

They let the study run and be examined without people: whether intervals cover the truth and rankings are found. They say
nothing about pictures. Their answers lie in a folder of their own and carry ``observer="model"`` in every line.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from dped_lib.data import photofile
from dped_lib.user_study import pictures as study_pictures, study

#: What the model observer likes, for captions.
RULE = "model observer: likes edges and contrast, with a personal taste and logistic noise"

#: Spread, in logits, of a simulated subject's own leaning for each class of pictures.
TASTE = 0.4


def score(image: np.ndarray) -> np.ndarray:
    """Edge strength and contrast of a picture (uint8 H x W x 3, RGB): natural logarithms, shape (2,).

    Edges are the mean gradient of the luma at half size, where most of the noise is averaged away; contrast is the luma's
    standard deviation.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    half = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    gy, gx = np.gradient(half)
    return np.log([np.hypot(gx, gy).mean() + 1e-3, luma.std() + 1e-3])


def utilities(pictures: study_pictures.Pictures) -> dict[tuple[str, str, str], float]:
    """How much the model observer likes each picture, in logits: both scores of :func:`score`, relative to the scene's
    mean, in standard deviations over the study, and averaged."""
    keys = list(pictures.files)
    values = np.array([score(photofile.read_photograph(f)) for f in pictures.files.values()])
    for group in {(name, scene) for name, _, scene in keys}:
        rows = [i for i, (name, _, scene) in enumerate(keys) if (name, scene) == group]
        values[rows] -= values[rows].mean(0)
    values /= np.maximum(values.std(0), 1e-9)
    return dict(zip(keys, values.mean(1).tolist(), strict=True))


def simulate(
    asked: Sequence[study.Question],
    utility: Mapping[tuple[str, str, str], float],
    subjects: int,
    seed: int,
    taste: float = 0.0,
) -> np.ndarray:
    """Choices of simulated subjects: bool (subjects, questions), True where the question's ``first`` was chosen.

    P(first) = 1 / (1 + exp(u(second) - u(first))): Bradley and Terry's model, and Luce's.

    Args:
        utility: (set, class, scene) -> logits.
        taste: standard deviation, in logits, of what a subject adds to all pictures of a class: it makes the answers of
            one subject depend on each other, as people's do.
    """
    rng = np.random.default_rng(seed)
    gap = np.array([utility[q.set, q.first, q.scene] - utility[q.set, q.second, q.scene] for q in asked])
    own = taste * rng.standard_normal((subjects, len(study.CLASSES)))
    first, second = ([study.CLASSES.index(getattr(q, side)) for q in asked] for side in ("first", "second"))
    logits = gap + own[:, first] - own[:, second]
    return rng.random(logits.shape) < 1 / (1 + np.exp(-logits))


def answer(
    store: study.AnswerStore, utility: Mapping[tuple[str, str, str], float], subjects: int, seed: int, taste: float
) -> None:
    """Writes the answers of simulated subjects ``model-001`` ... into a store, over those that are there.

    Their reaction time is 0: nobody reacted.
    """
    asked = tuple(store.questions.values())
    choices = simulate(asked, utility, subjects, seed, taste)
    for old in store.subjects("model"):
        store.file_of(old, "model").unlink()
    for i, row in enumerate(choices, start=1):
        first = dict(zip(asked, row, strict=True))
        name = f"model-{i:03}"
        store.record_model(
            name,
            (
                (a, a.question.first if first[a.question] else a.question.second, 0.0)
                for a in study.order(asked, name, store.seed)
            ),
        )
