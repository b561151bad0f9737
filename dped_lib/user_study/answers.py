"""Store the answers of the user study in a folder, so that no interruption loses one.

    study.json              digest of the pictures, and the seed of the order
    people/SUBJECT.jsonl    one line for each answer, on the disk before the next question is asked
    model/SUBJECT.jsonl     the same by simulated subjects; no function mixes the two

A process that is killed loses at most the answer that it was writing. Any number of subjects can answer at once.
"""

import contextlib
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from traitlets import log

from dped_lib.base import paths, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import build_dataclass, one_of
from dped_lib.user_study.questions import Question, Trial, order, study_digest
from dped_lib.user_study.subjects import is_subject_id, subject_id

#: The folder of the answers by people, and of those by simulated subjects (``observers``). Every line has the key.
OBSERVERS = MappingProxyType({"person": "people", "model": "model"})

#: The file that describes the study whose answers a folder holds.
DESCRIPTION = "study.json"


class AnsweredError(DpedError):
    """Report that the subject has already answered this question, for example on a second page."""


@dataclass(frozen=True)
class Answer:
    """Hold one answer: a line of a file of answers.

    Attributes:
        study: name of the study (``questions.study_digest``).
        subject: id of the subject.
        observer: a key of ``OBSERVERS``.
        question: ``Question.key``.
        left, right: the classes that were shown on the two sides.
        chosen: one of the two.
        seconds: time from the appearance of the pictures to the choice.
        at: time of the answer: UTC, ISO 8601.
        width: width of each picture on the subject's screen, in CSS pixels; None if the browser did not say it.
        scale: pixels of the screen for each pixel of the picture; None if the browser did not say it.
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
    width: float | None = None
    scale: float | None = None


def answers_folder(source: str, preset: str, pictures: str, seed: int = 0) -> Path:
    """Return the folder where answers are kept if the user names no other.

    Args:
        source: dataset of the pictures, or ``own`` for a folder of the user's own.
        pictures: digest of the pictures.
        seed: the seed of the order. A study with another seed is another study and has its own folder.
    """
    name = f"answers-{pictures[:8]}" + (f"-seed{seed}" if seed else "")
    return paths.run_dir(source, preset) / "study" / name


class AnswerStore:
    """Store the answers to one study in a folder (layout: see the module). Every ``subject`` may be a name or an id.

    Args:
        folder: the folder, which is created if it does not exist. ``~`` is the home folder.
        pictures: the digest of the pictures (``pictures.Pictures.digest``).
        questions: all questions of the study.
        seed: the seed of the order.

    Raises:
        DpedError: the folder holds answers to other pictures or another seed, or cannot be written.
    """

    def __init__(self, folder: Path | str, pictures: str, questions: Iterable[Question], seed: int = 0):
        self.folder, self.seed = paths.collapsed(paths.expanded(folder)), seed
        self.study = study_digest(pictures, seed)
        self.questions = {q.key: q for q in questions}
        self._describe({"study": self.study, "pictures": pictures, "seed": seed, "questions": len(self.questions)})

    def _describe(self, description: dict) -> None:
        file = self.folder / DESCRIPTION
        if self.folder.exists() and not self.folder.is_dir():
            raise DpedError(f"{self.folder}: is not a folder. Name a folder for the answers; it is created if needed.")
        if not file.exists():
            # Two processes may start with different pictures at the same moment. The digest in every line distinguishes
            # them.
            writing.write_text(file, json.dumps(description, indent=1) + "\n")
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            study, pictures, seed = known["study"], known["pictures"], known["seed"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise DpedError(
                f"{file}: does not describe a study, or is damaged ({error}). Restore it from a backup, or name a new "
                "folder for answers."
            ) from error
        if study != self.study:
            difference, earlier = f"another seed ({seed})", "the earlier pictures and seed"
            if pictures != description["pictures"]:
                difference = "other pictures"
            elif seed == description["seed"]:
                difference, earlier = "the questions of another version of dped", "that version"
            raise DpedError(
                f"{self.folder}: holds answers to a study with {difference}. Use {earlier}, or "
                "name another folder for the answers. Answers to two studies cannot be mixed."
            )

    def file_of(self, subject: str, observer: str = "person") -> Path:
        """Return the file of a subject's answers."""
        return self.folder / OBSERVERS[one_of("observer", observer, OBSERVERS)] / f"{subject_id(subject)}.jsonl"

    def subjects(self, observer: str = "person") -> tuple[str, ...]:
        """Return the ids of all people, or of all simulated subjects, who have a file.

        Raises:
            DpedError: the name of a file is not an id. Ignoring the file would lose its answers.
        """
        folder = self.folder / OBSERVERS[one_of("observer", observer, OBSERVERS)]
        files = [f for f in sorted(folder.glob("*.jsonl")) if not f.name.startswith(".")]
        for file in files:
            if not is_subject_id(file.stem):
                raise DpedError(
                    f"{file}: this name is not the id of a subject. Rename the file to SUBJECT.jsonl, with the "
                    f"'subject' of its lines, or move it out of {folder}."
                )
        return tuple(f.stem for f in files)

    def begin(self, subject: str) -> bool:
        """Reserve a name for a new subject. Return False if the name is taken.

        If two subjects ask for the same name at the same time, only one of them gets True.

        Raises:
            DpedError: the folder cannot be written, or the disk is full.
        """
        file = self.file_of(subject)
        try:
            with writing.explain_full_disk(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(exist_ok=False)
        except OSError as error:
            if file.is_file():
                return False
            raise _unwritable(file, error) from error
        return True

    def answers(self, subject: str, observer: str = "person") -> tuple[Answer, ...]:
        """Return the answers of one subject in the order they were given. A last line cut by a kill is left out.

        Raises:
            DpedError: the file cannot be read, or a line is damaged, belongs to another study, subject or observer, or
                answers a question a second time.
        """
        file = self.file_of(subject, observer)
        try:
            return self._parse(file, subject, observer, file.read_bytes())[0]
        except FileNotFoundError as error:
            if file.is_symlink():  # its answers would be missing in the analysis
                raise _unwritable(file, error) from error
            return ()
        except OSError as error:
            raise DpedError(
                f"{file}: cannot be read ({error}). Make it readable, or restore it from a backup."
            ) from error

    def everyone(self, observer: str = "person") -> tuple[Answer, ...]:
        """Return the answers of all people, or of all simulated subjects, but never both.

        Raises:
            DpedError: as :meth:`subjects` and :meth:`answers`.
        """
        return tuple(answer for subject in self.subjects(observer) for answer in self.answers(subject, observer))

    def next(self, subject: str, observer: str = "person") -> Trial | None:
        """Return the subject's first trial without an answer, or None if all have one."""
        answered = {a.question for a in self.answers(subject, observer)}
        trials = order(self.questions.values(), subject, self.seed)
        return next((trial for trial in trials if trial.question.key not in answered), None)

    def record(
        self, subject: str, trial: Trial, chosen: str, seconds: float, shown: tuple[float, float] | None = None
    ) -> Answer:
        """Write one answer of a person. When the method returns, the answer is on the disk.

        If it raises an error, the file is unchanged. ``shown`` holds width and scale of the pictures (:class:`Answer`),
        or is None if they are not known.

        Raises:
            AnsweredError: the question has an answer.
            DpedError: the question does not exist; ``chosen`` was not shown; the folder cannot be written; or the disk
                is full.
        """
        subject = subject_id(subject)
        answer = self._answer(subject, "person", trial, chosen, seconds, shown)
        file = self.file_of(subject)
        with _open_locked(file) as handle:
            content = handle.read()
            known, end = self._parse(file, subject, "person", content)
            if any(a.question == answer.question for a in known):
                raise AnsweredError(f"{file}: question {answer.question!r} has been answered; each is asked once.")
            if torn := content[end:]:
                # A killed process left a part of a line. No subject was told that it is stored, but we delete nothing.
                kept = file.with_suffix(".torn")
                with open(kept, "ab") as aside:
                    aside.write(torn + b"\n")
                # The log of a kernel goes to the server's terminal, and not to the browser.
                log.get_logger().warning(
                    "%s: the last %d bytes were not a whole answer. They are kept in %s.", file, len(torn), kept
                )
                handle.truncate(end)
            # An editor may have removed the line end of the last answer.
            line_end = b"" if content[end - 1 : end] in (b"", b"\n") else b"\n"
            try:
                _append(handle, line_end + _line(answer))
            except OSError:
                with contextlib.suppress(OSError):
                    handle.truncate(end)
                raise
        return answer

    def record_model(self, subject: str, choices: Iterable[tuple[Trial, str, float]]) -> None:
        """Replace the answers of one simulated subject. ``choices`` holds (trial, chosen, seconds) for each answer."""
        subject = subject_id(subject)
        file = self.file_of(subject, "model")
        lines = b"".join(_line(self._answer(subject, "model", *choice)) for choice in choices)
        with writing.atomic_path(file) as part:
            part.write_bytes(lines)

    def _answer(
        self,
        subject: str,
        observer: str,
        trial: Trial,
        chosen: str,
        seconds: float,
        shown: tuple[float, float] | None = None,
    ) -> Answer:
        key = trial.question.key
        if key not in self.questions:
            raise DpedError(f"{self.folder}: question {key!r} does not belong to this study.")
        one_of(f"choice at {key}", chosen, (trial.left, trial.right))
        if not 0 <= seconds < math.inf:
            raise DpedError(
                f"reaction time at {key!r}: {seconds} s. Check the computer's clock. The answer was not stored."
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        width, scale = (None, None) if shown is None else (round(float(value), 4) for value in shown)
        return Answer(
            self.study,
            subject,
            observer,
            key,
            trial.left,
            trial.right,
            chosen,
            round(float(seconds), 3),
            now,
            width,
            scale,
        )

    def _parse(self, file: Path, subject: str, observer: str, content: bytes) -> tuple[tuple[Answer, ...], int]:
        """Return the answers in the content of a file, and the position where its last whole line ends."""
        subject = subject_id(subject)
        answers: dict[str, Answer] = {}
        end = 0
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            where = f"{file}, line {number}"
            if line.strip():
                try:
                    fields = json.loads(line)
                except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets
                    if not line.endswith(b"\n"):
                        break  # A kill cut it short: the beginning of a line is never valid JSON.
                    raise _damaged(where, error) from error
                try:
                    answer = build_dataclass(Answer, fields)
                except (TypeError, AttributeError, DpedError) as error:
                    raise _damaged(where, error) from error
                self._check(answer, where, subject, observer)
                if answer.question in answers:
                    raise DpedError(f"{where}: answers {answer.question!r} a second time. Remove one of them.")
                answers[answer.question] = answer
            end += len(line)
        return tuple(answers.values()), end

    def _check(self, answer: Answer, where: str, subject: str, observer: str) -> None:
        # Python reads NaN and Infinity as numbers. No answer is written with them.
        numbers = {"seconds": answer.seconds, "width": answer.width, "scale": answer.scale}
        for name, number in numbers.items():
            if number is not None and not 0 <= number < math.inf:
                raise _damaged(where, f"{name!r} is {number}")
        if answer.study != self.study:
            raise DpedError(
                f"{where}: an answer to another study ({answer.study}, not {self.study}). Move the file away."
            )
        if (answer.subject, answer.observer) != (subject, observer):
            raise DpedError(
                f"{where}: an answer of {answer.observer} {answer.subject!r} in the file of {observer} {subject!r}. "
                "Each subject has a file, and people's files are apart from those of simulated subjects. Move it back."
            )
        question = self.questions.get(answer.question)
        sides = {answer.left, answer.right}
        if question is None or sides != {question.first, question.second} or answer.chosen not in sides:
            raise DpedError(f"{where}: not an answer to a question of this study ({asdict(answer)}). Remove that line.")


def _damaged(where: str, why: object) -> DpedError:
    return DpedError(f"{where}: damaged ({why}). Restore the file from a backup, or remove that line.")


def _unwritable(file: Path, why: object) -> DpedError:
    if blocked := paths.obstacle(file.parent, "name another folder for the answers"):
        return DpedError(f"{file}: cannot be written, because {blocked}")
    if file.is_symlink() and not file.exists():
        return DpedError(f"{file}: is a link to a missing file. Bring that file back, or move the link away.")
    return DpedError(f"{file}: cannot be written ({why}). Make its folder writable, or name another.")


def _line(answer: Answer) -> bytes:
    known = {name: value for name, value in asdict(answer).items() if value is not None}
    return json.dumps(known).encode() + b"\n"


@contextlib.contextmanager
def _open_locked(file: Path) -> Iterator[io.FileIO]:
    """Open a subject's file to read and append. A second page of the same subject waits until it is closed.

    Raises:
        DpedError: the file cannot be opened or written, or the disk is full.
    """
    try:
        with writing.explain_full_disk(file), contextlib.ExitStack() as stack:
            file.parent.mkdir(parents=True, exist_ok=True)
            # We use no buffer: if the disk is full, closing a file with a buffer raises a second error.
            handle = stack.enter_context(open(file, "a+b", buffering=0))
            with contextlib.suppress(NotImplementedError, OSError):  # Some network file systems have no locks.
                stack.enter_context(writing.lock_of(_lock_beside(file)))
            handle.seek(0)
            yield handle
    except OSError as error:
        raise _unwritable(file, error) from error


def _lock_beside(file: Path) -> Path:
    # A nickname may be personal data, and the lock stays when the subject's file is deleted. So 256 locks without names
    # serve all subjects. Those who share one wait until an answer of the other is written.
    return file.with_name(f".{hashlib.sha256(file.stem.encode()).hexdigest()[:2]}.lock")


def _append(handle: io.FileIO, content: bytes) -> None:
    """Append the bytes, and return when the disk has them."""
    while content:
        content = content[handle.write(content) :]
    os.fsync(handle.fileno())
