"""Write and read the log of a training run: a line of JSON for each iteration (every term, unweighted) and one for each evaluation."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dped_lib.base import writing
from dped_lib.base.errors import DpedError

#: Number of iterations after which the loss terms are read from a GPU. Reading makes the GPU wait.
HOLD = 20


class TrainingDiverged(DpedError):
    """Report a loss term, a weight or an enhanced picture that is not finite. The message names it and the iteration."""


def diverged(folder: Path, what: str, iteration: int) -> TrainingDiverged:
    """Return the error to raise when ``what`` (a thing and its value, in words) has occurred at an iteration."""
    return TrainingDiverged(
        f"{folder}: {what} at iteration {iteration}. What was saved before is intact. Lower learning_rate, or try precision=float32."
    )


def read_log(file: Path) -> list[dict]:
    """Return the complete lines of a log. A last line that a kill cut short is left out.

    Raises:
        DpedError: a complete line is damaged, or has no number of an iteration.
    """
    if not file.is_file():
        return []
    lines = []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            lines.append(json.loads(line))
            lines[-1]["iteration"] + 0  # a number
        except (ValueError, TypeError, KeyError) as error:
            raise DpedError(
                f"{file}, line {number}: damaged ({error}). Delete {file.parent} and train again."
            ) from error
    return lines


def validation_curve(lines: Iterable[Mapping], metric: str = "psnr") -> np.ndarray:
    """Return a validation score over the iterations of a log: N x 2, iteration and score."""
    scored = (line for line in lines if "validation" in line)
    return np.array([(line["iteration"], line["validation"][metric]) for line in scored], dtype=float)


@dataclass(frozen=True)
class LastQuarter:
    """Hold the straight line through the last quarter of a validation curve.

    Attributes:
        iterations: the first and the last iteration of the quarter.
        line: the value of the line at each of them.
        scatter: the standard deviation of the curve about the line; 0 where the quarter has but two values.
    """

    iterations: tuple[float, float]
    line: tuple[float, float]
    scatter: float

    @property
    def moved(self) -> float:
        """Return by how much the line rises; negative if it falls."""
        return self.line[1] - self.line[0]

    @property
    def chance(self) -> float:
        """Return how far chance alone may move the curve: twice the scatter."""
        return 2 * self.scatter


def last_quarter(curve: np.ndarray) -> LastQuarter:
    """Fit a straight line to the last quarter of a curve N x 2 by least squares.

    The value at its start is interpolated. A line is fitted because single scores jump up and down.
    """
    iterations, scores = curve.T
    start = iterations[0] + 0.75 * (iterations[-1] - iterations[0])
    x = np.array([start, *iterations[iterations > start]])
    y = np.interp(x, iterations, scores)
    line = np.polynomial.Polynomial.fit(x, y, min(1, len(x) - 1))(x)
    scatter = math.sqrt(((y - line) ** 2).sum() / (len(x) - 2)) if len(x) > 2 else 0.0
    return LastQuarter((float(x[0]), float(x[-1])), (float(line[0]), float(line[-1])), scatter)


class Log:
    """Append to the log of a run. Numbers are read from a GPU in groups, so that no iteration waits for them.

    Args:
        after: the iteration from which the run goes on. Later lines are cut off: those iterations are done again.
        hold: the number of iterations in a group.

    Raises:
        DpedError: the file lacks an iteration up to ``after``.
    """

    def __init__(self, file: Path, after: int, hold: int):
        # A run that starts anew also logs its first evaluation (iteration 0) again.
        kept = [line for line in read_log(file) if line["iteration"] <= after] if after else []
        if missing := set(range(1, after + 1)) - {line["iteration"] for line in kept if "validation" not in line}:
            raise DpedError(
                f"{file}: lacks iteration {min(missing)}, although the training has reached {after}. Restore the file, or "
                f"delete {file.parent} and train again."
            )
        writing.write_text(file, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = file.open("a", encoding="utf-8")
        self._path, self._hold = file, hold
        self.folder = file.parent
        self._held: list[tuple[int, dict[str, Tensor]]] = []

    def terms(self, iteration: int, terms: dict[str, Tensor]) -> None:
        """Add the terms of an iteration, which may be on any device."""
        self._held.append((iteration, terms))
        if len(self._held) >= self._hold:
            self.flush()

    def flush(self) -> None:
        """Write the lines that are held back. Raise TrainingDiverged at the first number that is not finite."""
        held, self._held = self._held, []
        if not held:
            return
        names = list(held[0][1])
        values = torch.stack([torch.stack([t[n].float() for n in names]) for _, t in held]).cpu().tolist()
        for (iteration, _), row in zip(held, values, strict=True):
            by_name = dict(zip(names, row, strict=True))
            # The terms come before their sum, which is not finite because one of them is not.
            for name in sorted(names, key=lambda n: n == "total"):
                if not math.isfinite(by_name[name]):
                    raise diverged(self.folder, f"loss term {name!r} is {by_name[name]}", iteration)
            self._write({"iteration": iteration, **by_name})

    def validation(self, iteration: int, scores: dict[str, float]) -> None:
        """Add the scores of an evaluation."""
        self.flush()
        self._write({"iteration": iteration, "validation": scores})

    def _write(self, line: dict) -> None:
        with writing.explain_full_disk(self._path):
            self._file.write(json.dumps(line) + "\n")

    def sync(self) -> None:
        """Write everything to the disk."""
        self.flush()
        with writing.explain_full_disk(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # an earlier write has reported the full disk
            self._file.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        self.close()
