"""List the questions of the user study (section 4.3), and put them in the order in which a subject sees them.

The paper compares {original, DSLR, enhanced} on 9 scenes of each of 3 phones (81 questions), and {automatic, manual,
enhanced} on 9 iPhone scenes (27 questions). Each subject answers all 108. The pairs are shuffled, and so are the two
pictures of a pair.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

from dped_lib.user_study.subjects import subject_id

#: Classes of pictures that are compared with each other. The last pair of a phone, DSLR and enhanced, is the third bar
#: of Figure 10 a to c. The paper does not state the order of the other pairs.
KINDS = MappingProxyType({"phone": ("original", "dslr", "enhanced"), "enhancers": ("automatic", "manual", "enhanced")})
CLASSES = tuple(dict.fromkeys(cls for classes in KINDS.values() for cls in classes))

#: The sets of pictures of Figure 10, a to d, and the kind of each. A set has three classes of pictures of the same
#: scenes.
PAPER_SETS = MappingProxyType({"blackberry": "phone", "iphone": "phone", "sony": "phone", "enhancers": "enhancers"})


@dataclass(frozen=True, order=True)
class Question:
    """Hold two classes of pictures of a scene. ``first`` and ``second`` are in the order of ``KINDS``."""

    set: str
    scene: str
    first: str
    second: str

    @property
    def key(self) -> str:
        """Return the name of the question, the same in every study: ``SET/SCENE/FIRST-SECOND``."""
        return f"{self.set}/{self.scene}/{self.first}-{self.second}"


@dataclass(frozen=True)
class Trial:
    """Hold a question as a subject sees it: the classes on both sides, and its number, 1 to ``total``."""

    question: Question
    left: str
    right: str
    number: int
    total: int


def kind_of(classes: Iterable[str]) -> str | None:
    """Return the kind of set (``KINDS``) of these classes, or None if there is none or fewer than two classes."""
    classes = set(classes)
    return next((kind for kind, known in KINDS.items() if len(classes) > 1 and classes <= set(known)), None)


def all_questions(scenes: Mapping[str, Mapping[str, Iterable[str]]]) -> tuple[Question, ...]:
    """Return every pair of classes of every scene, once.

    Args:
        scenes: set -> class -> its scenes (``pictures.Pictures.scenes``). A missing class has no questions.
    """
    questions = []
    for name, by_class in scenes.items():
        classes = [cls for cls in KINDS[kind_of(by_class)] if cls in by_class]
        for first, second in combinations(classes, 2):
            questions += [Question(name, scene, first, second) for scene in sorted(by_class[first])]
    return tuple(questions)


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def order(questions: Iterable[Question], subject: str, seed: int) -> tuple[Trial, ...]:
    """Return a subject's trials, with pairs and the pictures of each pair shuffled (section 4.3).

    The order is computed with hashes from the questions, the subject and the seed. So it stays the
    same after an interruption, in every process and with every version of every library. In half of
    the trials ``first`` is on the left. If their number is odd, a hash decides which side has more.

    Args:
        subject: name or id (``subjects.subject_id``).
    """
    subject = subject_id(subject)
    questions = tuple(questions)
    by_side = sorted(questions, key=lambda q: _hash(seed, subject, "side", q.key))
    parity = int(_hash(seed, subject, "half"), 16) % 2
    first_on_left = {q for i, q in enumerate(by_side) if i % 2 == parity}
    shuffled = sorted(questions, key=lambda q: _hash(seed, subject, "place", q.key))
    return tuple(
        Trial(
            q,
            *((q.first, q.second) if q in first_on_left else (q.second, q.first)),
            number,
            len(questions),
        )
        for number, q in enumerate(shuffled, start=1)
    )


def study_digest(pictures: str, seed: int) -> str:
    """Return the name of a study: 16 hex digits from the digest of its pictures and its seed."""
    return _hash("study", pictures, seed)[:16]
