"""Write and read the log of a training run: a line of JSON for each iteration (every term, unweighted) and one for each evaluation."""

import contextlib
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from dped_lib.base import paths
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
        DpedError: a line before the last is damaged.
    """
    if not file.is_file():
        return []
    lines = []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise DpedError(
                f"{file}, line {number}: damaged ({error}). Delete {file.parent} and train again."
            ) from error
    return lines


class Log:
    """Append to the log of a run. Numbers are read from a GPU in groups, so that no iteration waits for them.

    Args:
        after: the iteration from which the run goes on. Later lines are cut off: those iterations are done again.
        hold: the number of iterations in a group.
    """

    def __init__(self, file: Path, after: int, hold: int):
        # A run that starts anew also logs its first evaluation (iteration 0) again.
        kept = [line for line in read_log(file) if line["iteration"] <= after] if after else []
        paths.write_text(file, "".join(json.dumps(line) + "\n" for line in kept))
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
        with paths.explain_full_disk(self._path):
            self._file.write(json.dumps(line) + "\n")

    def sync(self) -> None:
        """Write everything to the disk."""
        self.flush()
        with paths.explain_full_disk(self._path):
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
