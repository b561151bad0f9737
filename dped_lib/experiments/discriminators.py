"""Test whether the two-image ("bi-channel") discriminator learns faster than the one-image discriminator (3.1.2).

"The considered CNN achieves the result of 99% after 300 iterations when trained to differentiate between phone and DSLR
images, while its single-channel counterpart shows only 86% after 5000 steps." There is no generator here: the
discriminator compares the phone's patches with the DSLR's. Accuracy is measured on held-out photographs.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dped_lib import losses, models, paper, speed
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.base.presets import Preset
from dped_lib.base.progress import bar
from dped_lib.base.validation import one_of
from dped_lib.data import experiment_results, pair_store
from dped_lib.data.batches import Batches, floats
from dped_lib.experiments import statistics

#: The forms of the paper's discriminator that we compare.
FORMS = ("two_image", "one_image")
#: The folder of their results, below ``DATASET-PRESET``.
RESULTS_FOLDER = "discriminators"
#: Bootstrap resamples of the interval of an accuracy. They take an instant, so no preset has fewer.
RESAMPLES = 2000


@dataclass(frozen=True)
class Curve:
    """Hold the accuracy of one discriminator on held-out pairs during its training.

    Attributes:
        iterations, accuracy: the iterations after which it was measured, and its values in [0, 1].
        correct: number of right answers, 0 to 2, on each held-out pair at the end (both orders, or both images).
        photographs: the photograph of each held-out pair.
        origin: who trained it (``experiment_results``).
    """

    dataset: str
    phone: str
    form: str
    seed: int
    batch_size: int
    iterations: list[int]
    accuracy: list[float]
    correct: list[int]
    photographs: list[str]
    origin: str = experiment_results.HERE

    def interval(self) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of the last accuracy over photographs.

        If every answer is right, or every one wrong, resampling would give an interval without width. Then it is Wilson's, of
        independent pairs.
        """
        if set(self.correct) in ({0}, {2}):
            return statistics.wilson(sum(self.correct) // 2, len(self.correct))
        return statistics.bounds_of_mean(np.array(self.correct) / 2, self.photographs, RESAMPLES)


def gain(two: Curve, one: Curve) -> tuple[float, tuple[float, float]]:
    """Return how much higher the last accuracy of ``two`` is than that of ``one``.

    The second value is the 95 % interval. Both answered about the same pairs, so we subtract on
    each pair, and resample photographs. A photograph that is hard for both does not widen it.
    """
    difference = (np.array(two.correct) - np.array(one.correct)) / 2
    interval = statistics.bounds_of_mean(difference, two.photographs, RESAMPLES)
    return float(difference.mean()), interval


def experiment(store: pair_store.PairStore, form: str, preset: Preset, seed: int = 0) -> experiment_results.Experiment:
    """Return the training of one discriminator as an experiment, with what decides its result."""
    one_of("form", form, FORMS)
    store = store.fold(seed)
    dataset, phone = store.meta["dataset"], store.meta["phone"]
    asked = {
        "dataset": dataset,
        "phone": phone,
        "form": form,
        "seed": seed,
        "iterations": preset.discriminator_iterations,
        "batch_size": preset.discriminator_batch,
        "augment": preset.augment,
        "pairs": preset.table_pairs,
    }
    return experiment_results.Experiment(result_name(phone, form, seed), preset.name, store, asked)


def result_name(phone: str, form: str, seed: int = 0) -> str:
    """Return the name of the result of one discriminator (``experiment_results.Experiment.name``)."""
    return f"{RESULTS_FOLDER}/{phone}-{form}-s{seed}"


def curve(store: pair_store.PairStore, form: str, preset: Preset, seed: int = 0) -> Curve:
    """Train a discriminator of one of ``FORMS`` on the training pairs of a store, or load a finished result.

    Optimiser and learning rate are those of section 3.2.3. The preset sets the iterations and the batch size.
    """
    wanted = experiment(store, form, preset, seed)
    if done := _finished(wanted):
        return done
    with experiment_results.alone(wanted):
        if done := _finished(wanted):
            return done
        trained = _train(wanted.store, form, preset, seed)
        experiment_results.keep(wanted, {k: v for k, v in dataclasses.asdict(trained).items() if k != "origin"})
        return trained


def _finished(wanted: experiment_results.Experiment) -> Curve | None:
    done = experiment_results.finished_result(wanted, lambda result: Curve(**result))
    return done and dataclasses.replace(done[0], origin=done[1])


def trained_by(curves: Sequence[Curve]) -> str:
    """Return who trained the discriminators of some curves, in words."""
    return " and ".join(dict.fromkeys(curve.origin for curve in curves))


def _train(store: pair_store.PairStore, form: str, preset: Preset, seed: int) -> Curve:
    device = devices.pick()
    speed.keep_pages()
    index = store.sample("test", preset.table_pairs)
    if not len(index):
        raise DpedError(f"{store.folder}: no pairs in split 'test'. Add photographs: at least three must give patches.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = speed.prepare(models.discriminator(form), device)
    objective = losses.Objective("mse+texture", "paper", discriminator=network)
    optimizer = torch.optim.Adam(network.parameters(), lr=paper.LEARNING_RATE)
    batches = Batches(store, "train", device, seed, preset.augment)
    dtype = speed.precision("auto", device)
    last = preset.discriminator_iterations
    published = (iterations for iterations, _ in paper.DISCRIMINATOR_ACCURACY.values())
    spread = np.geomspace(5, last, 8).round().astype(int).tolist()
    measured_after = sorted({i for i in (*spread, *published, last) if i <= last})
    accuracy = []
    # The names of the random streams ("telling", "settling") are part of the seed, so published results depend on them.
    for i in bar(range(last), label=f"discriminator {form}", unit="it", brief=True):
        network.train()
        phone, dslr = batches.draw(i, preset.discriminator_batch, "telling")
        swaps = devices.put(batches.rng(i, "telling swaps").integers(0, 2, preset.discriminator_batch), device)
        with speed.autocast(device, dtype):
            loss = objective.discriminator_terms(phone, dslr, swaps)["discriminator"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if i + 1 in measured_after:
            _recalibrate(objective, batches, preset.discriminator_batch, device)
            correct = _correct(objective, store, index, device)
            accuracy.append(float(correct.mean() / 2))
    return Curve(
        store.meta["dataset"],
        store.meta["phone"],
        form,
        seed,
        preset.discriminator_batch,
        measured_after,
        accuracy,
        correct.tolist(),
        store.photographs[index].tolist(),
    )


@torch.no_grad()
def _recalibrate(objective: losses.Objective, batches: Batches, size: int, device: torch.device) -> None:
    """Compute the running statistics of batch norm from new training batches.

    Those collected during training belong to earlier weights. Training itself does not use them.
    """
    norms = [m for m in objective.discriminator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    objective.discriminator.train()
    swaps = torch.arange(size, device=device) % 2
    for i in range(4):
        objective.discriminate_permuted(*batches.draw(i, size, "settling"), swaps)


@torch.inference_mode()
def _correct(objective: losses.Objective, store, index: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the number of right answers, 0 to 2, on each pair: DSLR photo first (or alone), and phone photo first."""
    objective.discriminator.eval()
    counts = []
    for first in range(0, len(index), 50):
        chosen = index[first : first + 50]
        pair = [floats(images, chosen).to(device) for images in (store.phone, store.dslr)]
        right = torch.zeros(len(chosen), dtype=torch.int64, device=device)
        for answer in (0, 1):
            swaps = torch.full((len(chosen),), answer, device=device)
            right += losses.predicts_dslr(objective.discriminate_permuted(*pair, swaps)) == bool(answer)
        counts.append(right.cpu().numpy())
    return np.concatenate(counts)
