"""The user study of section 4.3: which questions there are, in which order a subject sees them, and where answers are kept.

The paper: 9 scenes of each of 3 phones by {original, DSLR, enhanced} (81 questions), 9 iPhone scenes by {automatic, manual,
enhanced} (27); each subject answers all 108, both the pairs and the pictures of a pair shuffled. Answers are a folder:

    study.json              digest of the pictures and the seed that the answers belong to
    people/SUBJECT.jsonl    a line an answer, on the disk before the next question is asked
    model/SUBJECT.jsonl     the same by simulated subjects; nothing reads both

A process killed at any moment loses at most the answer it was writing. Any number of subjects may answer at once.
"""

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

from dped_lib.base import paths
from dped_lib.base.config import build, one_of
from dped_lib.base.errors import DpedError

try:
    import fcntl
except ModuleNotFoundError:  # Windows: there one process a subject is the user's care
    fcntl = None

#: Classes of pictures that are compared with each other. The last pair of a phone, DSLR against enhanced, is the third
#: bar of Figure 10 a-c; the paper does not say the order of the others.
KINDS = MappingProxyType({"phone": ("original", "dslr", "enhanced"), "enhancers": ("automatic", "manual", "enhanced")})
CLASSES = tuple(dict.fromkeys(c for classes in KINDS.values() for c in classes))

#: Figure 10, a to d: its sets of pictures. A set is three classes of pictures of the same scenes.
PAPER_SETS = MappingProxyType({"blackberry": "phone", "iphone": "phone", "sony": "phone", "enhancers": "enhancers"})

#: Who answered: a person, or a simulated subject (``observer``). The folder says it, and every line again.
OBSERVERS = MappingProxyType({"person": "people", "model": "model"})

_SUBJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, order=True)
class Question:
    """Two classes of pictures of one scene. ``first`` and ``second`` are in the order of ``KINDS``, not of the screen."""

    set: str
    scene: str
    first: str
    second: str

    @property
    def key(self) -> str:
        """Name of the question, the same in every study: ``SET/SCENE/FIRST-SECOND``."""
        return f"{self.set}/{self.scene}/{self.first}-{self.second}"


@dataclass(frozen=True)
class Asked:
    """A question as one subject sees it: the classes on the two sides, and its place among ``total``, from 1."""

    question: Question
    left: str
    right: str
    number: int
    total: int


@dataclass(frozen=True)
class Answer:
    """One line of a file.

    Attributes:
        study: digest of the study (:func:`digest`).
        observer: of ``OBSERVERS``.
        question: :attr:`Question.key`; ``left`` and ``right``: the classes that were shown there; ``chosen``: one of them.
        seconds: from the pictures' appearance to the choice.
        at: when, UTC, ISO 8601.
    """

    study: str
    subject: str
    observer: str
    question: str
    left: str
    right: str
    chosen: str
    seconds: float
    at: str


def kind_of(classes: Iterable[str]) -> str | None:
    """The kind of set (``KINDS``) that these classes, at least two, belong to; None where there is none."""
    classes = set(classes)
    return next((k for k, known in KINDS.items() if len(classes) > 1 and classes <= set(known)), None)


def questions(scenes: Mapping[str, Mapping[str, Iterable[str]]]) -> tuple[Question, ...]:
    """Every pair of classes of every scene, once.

    Args:
        scenes: set -> class -> its scenes (``studyphotos.Pictures.scenes``). A class that is missing has no questions.
    """
    found = []
    for name, by_class in scenes.items():
        classes = [c for c in KINDS[kind_of(by_class)] if c in by_class]
        for first, second in combinations(classes, 2):
            found += [Question(name, scene, first, second) for scene in sorted(by_class[first])]
    return tuple(found)


def _lot(*parts) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def order(asked: Iterable[Question], subject: str, seed: int) -> tuple[Asked, ...]:
    """The questions in the order and on the sides that one subject sees: pairs and pictures shuffled (section 4.3).

    A function of question, subject and seed alone, by hashes, so that it is the same after an interruption, in every
    process and with every version of every library. Of each subject's questions half, but one at most, have their
    ``first`` picture on the left.
    """
    check_subject(subject)
    asked = tuple(asked)
    turned = sorted(asked, key=lambda q: _lot(seed, subject, "side", q.key))
    # Which half is turned is drawn too, or the odd question would always be the same way round.
    odd = int(_lot(seed, subject, "half"), 16) % 2
    left = {q for i, q in enumerate(turned) if i % 2 == odd}
    shuffled = sorted(asked, key=lambda q: _lot(seed, subject, "place", q.key))
    return tuple(
        Asked(q, *((q.first, q.second) if q in left else (q.second, q.first)), i, len(asked))
        for i, q in enumerate(shuffled, start=1)
    )


def digest(pictures: str, seed: int) -> str:
    """Name of a study: 16 hex digits over the digest of its pictures and its seed."""
    return _lot("study", pictures, seed)[:16]


def folder_of(source: str, preset: str, pictures: str) -> Path:
    """Where answers to a study are kept unless another folder is named.

    ``source``: dataset of the pictures, or ``own`` for a folder of one's own. ``pictures``: their digest.
    """
    return paths.run_dir(source, preset) / "study" / f"answers-{pictures[:8]}"


def check_subject(subject: str) -> str:
    """``subject`` if it can name a subject: it becomes a file name, the same on every system.

    Raises:
        DpedError: empty, longer than 32, or other than lower-case letters, digits, ``-`` and ``_``.
    """
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise DpedError(
            f"subject {subject!r}: must be 1 to 32 lower-case letters, digits, '-' or '_', and begin with a letter or digit. "
            "Take a number or a made-up word, not the person's name."
        )
    return subject


class AnswerStore:
    """The answers to one study, in a folder (see the module).

    Args:
        folder: made if it is not there.
        pictures: digest of the pictures (``studyphotos.Pictures.digest``).
        asked: the questions.
        seed: of the order.

    Raises:
        DpedError: the folder holds answers to other pictures or another seed, or cannot be written.
    """

    def __init__(self, folder: Path, pictures: str, asked: Iterable[Question], seed: int = 0):
        self.folder, self.seed = Path(folder), seed
        self.study = digest(pictures, seed)
        self.questions = {q.key: q for q in asked}
        self._claim({"study": self.study, "pictures": pictures, "seed": seed, "questions": len(self.questions)})

    def _claim(self, description: dict) -> None:
        file = self.folder / "study.json"
        if not file.exists():
            # Two processes that begin with different pictures at one instant: the lines' own digests tell them apart.
            paths.write_text(file, json.dumps(description, indent=1) + "\n")
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            study, digest_of_pictures, seed = known["study"], known["pictures"], known["seed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DpedError(
                f"{file}: damaged ({error}). Restore it from a backup; or name a new folder for answers."
            ) from error
        if study != self.study:
            what = "pictures" if digest_of_pictures != description["pictures"] else f"seed {seed}"
            raise DpedError(
                f"{self.folder}: holds answers to a study with other {what}. Put those back, or keep the new answers in "
                "another folder: answers to different pictures cannot be mixed."
            )

    def file_of(self, subject: str, observer: str = "person") -> Path:
        """Where a subject's answers are."""
        return self.folder / OBSERVERS[one_of("observer", observer, OBSERVERS)] / f"{check_subject(subject)}.jsonl"

    def subjects(self, observer: str = "person") -> tuple[str, ...]:
        """Everyone of a kind who has a file."""
        folder = self.folder / OBSERVERS[one_of("observer", observer, OBSERVERS)]
        return tuple(sorted(f.stem for f in folder.glob("*.jsonl"))) if folder.is_dir() else ()

    def answers(self, subject: str, observer: str = "person") -> tuple[Answer, ...]:
        """One subject's answers, in the order they were given. A last line cut by a kill is not one.

        Raises:
            DpedError: a line that is damaged, of another study, subject or kind of observer, or given twice.
        """
        file = self.file_of(subject, observer)
        try:
            return self._parse(file, subject, observer, file.read_bytes())[0]
        except FileNotFoundError:
            return ()

    def everyone(self, observer: str = "person") -> tuple[Answer, ...]:
        """The answers of all people, or of all simulated subjects; never both.

        Raises:
            DpedError: as :meth:`answers`.
        """
        return tuple(a for s in self.subjects(observer) for a in self.answers(s, observer))

    def next(self, subject: str, observer: str = "person") -> Asked | None:
        """The question a subject is at: the first without an answer; None at the end."""
        done = {a.question for a in self.answers(subject, observer)}
        sequence = order(self.questions.values(), subject, self.seed)
        return next((asked for asked in sequence if asked.question.key not in done), None)

    def record(self, subject: str, asked: Asked, chosen: str, seconds: float) -> Answer:
        """Puts one answer of a person on the disk; when this returns, it is there.

        Raises:
            DpedError: no such question, answered already, a choice that was not shown, a full disk.
        """
        answer = self._answer(subject, "person", asked, chosen, seconds)
        file = self.file_of(subject)
        with _locked(file) as handle, paths.explain_full_disk(file):
            raw = handle.read()
            known, end = self._parse(file, subject, "person", raw)
            if any(a.question == answer.question for a in known):
                raise DpedError(f"{file}: question {answer.question!r} has been answered; each is asked once.")
            # What a killed process left of a line goes; what an editor left without its line's end stays.
            handle.truncate(end)
            handle.seek(end)
            before = b"" if raw[end - 1 : end] in (b"", b"\n") else b"\n"
            handle.write(before + _line(answer))
            handle.flush()
            os.fsync(handle.fileno())
        return answer

    def record_model(self, subject: str, choices: Iterable[tuple[Asked, str, float]]) -> None:
        """Writes all answers of one simulated subject at once, over earlier ones: (asked, chosen, seconds)."""
        file = self.file_of(subject, "model")
        lines = b"".join(_line(self._answer(subject, "model", *choice)) for choice in choices)
        with paths.atomic_path(file) as part:
            part.write_bytes(lines)

    def _answer(self, subject: str, observer: str, asked: Asked, chosen: str, seconds: float) -> Answer:
        key = asked.question.key
        if key not in self.questions:
            raise DpedError(f"{self.folder}: question {key!r} is not of this study.")
        one_of(f"choice at {key}", chosen, (asked.left, asked.right))
        if not 0 <= seconds < math.inf:
            raise DpedError(f"reaction time at {key!r}: {seconds} s. A clock that runs backwards? Nothing was stored.")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Answer(
            self.study, subject, observer, key, asked.left, asked.right, chosen, round(float(seconds), 3), now
        )

    def _parse(self, file: Path, subject: str, observer: str, raw: bytes) -> tuple[tuple[Answer, ...], int]:
        """The answers in the bytes of a file, and where the last whole line ends."""
        found: dict[str, Answer] = {}
        end = 0
        for number, line in enumerate(raw.splitlines(keepends=True), start=1):
            try:
                answer = build(Answer, json.loads(line))
            except (ValueError, TypeError, AttributeError, DpedError) as error:
                if not line.endswith(b"\n"):
                    break  # cut by a kill: a whole object never reads as a part of one
                raise DpedError(
                    f"{file}, line {number}: damaged ({error}). Restore the file from a backup, or remove that line."
                ) from error
            self._check(answer, f"{file}, line {number}", subject, observer)
            if answer.question in found:
                raise DpedError(
                    f"{file}, line {number}: answers {answer.question!r} a second time. Remove one of them."
                )
            found[answer.question] = answer
            end += len(line)
        return tuple(found.values()), end

    def _check(self, answer: Answer, where: str, subject: str, observer: str) -> None:
        if answer.study != self.study:
            raise DpedError(
                f"{where}: an answer to another study ({answer.study}, not {self.study}). Move the file away."
            )
        if (answer.subject, answer.observer) != (subject, observer):
            raise DpedError(
                f"{where}: an answer of {answer.observer} {answer.subject!r} in the file of {observer} {subject!r}. "
                "Files are named by the subject, and people's are not mixed with simulated ones; move it back."
            )
        question = self.questions.get(answer.question)
        sides = {answer.left, answer.right}
        if question is None or sides != {question.first, question.second} or answer.chosen not in sides:
            raise DpedError(f"{where}: not an answer to a question of this study ({asdict(answer)}). Remove that line.")


def _line(answer: Answer) -> bytes:
    return json.dumps(asdict(answer)).encode() + b"\n"


@contextlib.contextmanager
def _locked(file: Path) -> Iterator:
    """The file, open to read and write, its subject's alone: two pages of one subject wait for each other."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    except OSError as error:
        raise DpedError(f"{file}: cannot be written ({error}). Make its folder writable, or name another.") from error
    with handle:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
