"""Measure whether trainings have levelled off: in their last quarter, validation moves less than it may by chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dped_lib.data import training_log
from dped_lib.experiments import training_runs


@dataclass(frozen=True)
class Levelling:
    """Hold how far the validation PSNR moved in the last quarter of trainings that differ in their seeds alone.

    Attributes:
        moved: the rise of a straight line through that quarter (``training_log.last_quarter``), in dB: mean over seeds.
        spread: how far chance moves a final score, in dB. It is the range of the final scores. For a single training it
            is twice the standard deviation of its own curve about the line.
        seeds: the number of trainings.
    """

    moved: float
    spread: float
    seeds: int

    @property
    def levelled_off(self) -> bool:
        """Return whether validation moved less than it may by chance.

        That does not show that a longer training would score the same, above all if the curve jumps up and down.
        """
        return abs(self.moved) < self.spread


def of_logs(logs: Sequence[Sequence[Mapping]]) -> Levelling:
    """Return how far trainings had levelled off, given the lines of the log of each seed."""
    curves = [training_log.validation_curve(lines) for lines in logs]
    quarters = [training_log.last_quarter(curve) for curve in curves]
    finals = [curve[-1, 1] for curve in curves]
    spread = np.ptp(finals) if len(finals) > 1 else quarters[0].chance
    return Levelling(float(np.mean([q.moved for q in quarters])), float(spread), len(finals))


def by_phone(results: Iterable[training_runs.TrainResult]) -> dict[str, dict[str, Levelling]]:
    """Return how far trainings had levelled off, by phone and loss. Tables record it, and judges of claims read it."""
    logs: dict[str, dict[str, list]] = {}
    for r in results:
        logs.setdefault(r.params.phone, {}).setdefault(r.params.loss, []).append(r.log())
    return {phone: {loss: of_logs(of_loss) for loss, of_loss in by_loss.items()} for phone, by_loss in logs.items()}
