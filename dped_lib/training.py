"""Section 3.2.3: Adam, batches of 50, 20 000 iterations. One loop trains every network and loss of the paper.

An iteration is a generator step, then a discriminator step on a batch of its own, as in the released code (``train_model.py``).
``checkpoints`` describes the folder of a run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib import losses, metrics, models, speed, vgg
from dped_lib.base import device as devices
from dped_lib.base import interrupt, paths
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.base.run_parameters import TrainParams
from dped_lib.base.validation import one_of
from dped_lib.data import checkpoints, network_files, vgg_files
from dped_lib.data.batches import Batches, to_float
from dped_lib.data.pair_store import PairStore
from dped_lib.data.training_log import HOLD, Log, TrainingDiverged, diverged, read_log  # noqa: F401 (TrainingDiverged: for callers)


def networks_of(params: TrainParams) -> dict[str, nn.Module]:
    """Return the freshly initialised networks of a run: ``generator`` and, where the loss has a texture term, ``discriminator``."""
    spec = losses.LOSSES[one_of("loss", params.loss, losses.LOSSES)]
    form = params.discriminator or losses.DISCRIMINATOR[params.variant]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        networks = {"generator": models.generator(params.model or spec.model, params.variant, params.norm)}
        if "texture" in spec.terms:
            networks["discriminator"] = models.discriminator(form)
    return networks


def objective_of(params: TrainParams, vgg_net: vgg.VGG19 | None, discriminator: nn.Module | None) -> losses.Objective:
    """Return the objective of a run. It asks the networks that its loss needs."""
    choices = {"kernel": params.kernel, "content_layer": params.content_layer}
    return losses.Objective(params.loss, params.variant, vgg_net, discriminator, **choices)


class Trainer:
    """Networks, optimisers and data of one run, and a step. Use :func:`train` unless the steps themselves matter.

    Args:
        params: the run.
        store: its patch pairs.
        device: where it computes.
        vgg_net: features to use instead of loading ``params.vgg``.

    Attributes:
        iteration: number of steps done.
        networks: ``generator`` and, where the loss has a texture term, ``discriminator``.
        optimizers: an Adam for each network, under the same name.
    """

    def __init__(self, params: TrainParams, store: PairStore, device: torch.device, vgg_net: vgg.VGG19 | None = None):
        one_of("VGG source", params.vgg, vgg_files.SOURCES)
        one_of("VGG layer", params.content_layer or "relu5_4", (f"relu{c}" for c in vgg.CONVS))
        self.params, self.store, self.device, self.iteration = params, store, device, 0
        self.networks = {name: network.to(device) for name, network in networks_of(params).items()}
        self.generator, self.discriminator = self.networks["generator"], self.networks.get("discriminator")
        features = None
        if "content" in losses.LOSSES[params.loss].terms:
            features = (vgg_net or vgg_files.vgg19(params.vgg)).to(device)
        self.vgg_label = features.label if features is not None else "no VGG features"
        self.objective = objective_of(params, features, self.discriminator)
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), lr=params.learning_rate)
            for name, network in self.networks.items()
        }
        self.validation = store.sample("val", params.eval_pairs)
        if not len(self.validation):
            raise DpedError(
                f"{store.folder}: no pairs in split 'val' to watch the training by; the dataset has too few photographs."
            )
        self.batches = Batches(store, "train", device, params.seed, params.augment)

    def step(self) -> dict[str, Tensor]:
        """Draw batches and take one step of each network. Return every term as a scalar on the device."""
        i, size = self.iteration, self.params.batch_size
        drawn = [*self.batches.draw(i, size, "generator")]
        if self.discriminator is not None:
            drawn += self.batches.draw(i, size, "discriminator")
            drawn.append(devices.put(self.batches.rng(i, "swaps").integers(0, 2, size), self.device))
        terms = self.update(*drawn)
        self.iteration += 1
        return terms

    def update(self, phone: Tensor, dslr: Tensor, *opponents: Tensor) -> dict[str, Tensor]:
        """Take the generator's step on (phone, DSLR) and the discriminator's on ``opponents`` (phone, DSLR, swaps)."""
        for network in self.networks.values():
            network.train()
        terms = self.generator_step(phone, dslr)
        if self.discriminator is not None:
            terms |= self.discriminator_step(*opponents)
        return {name: value.detach() for name, value in terms.items()}

    def generator_step(self, phone: Tensor, dslr: Tensor) -> dict[str, Tensor]:
        """Take one step of the generator and return its terms. The discriminator stands still."""
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        terms = self.generator_losses(phone, dslr)
        self.descend("generator", terms["total"])
        return terms

    def discriminator_step(self, phone: Tensor, dslr: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator and return its terms. The generator stands still."""
        self.discriminator.requires_grad_(True)
        terms = self.discriminator_losses(phone, dslr, swaps)
        self.descend("discriminator", terms["discriminator"])
        return terms

    def generator_losses(self, phone: Tensor, dslr: Tensor) -> dict[str, Tensor]:
        """Return every term of the generator's loss, and equation 8 (``total``), on a batch."""
        terms = self.objective.generator_terms(self.generator(phone), dslr)
        return {"total": self.objective.total(terms), **terms}

    def discriminator_losses(self, phone: Tensor, dslr: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Return the discriminator's loss and accuracy on a batch."""
        with torch.no_grad():
            enhanced = self.generator(phone)
        return self.objective.discriminator_terms(enhanced, dslr, swaps)

    def descend(self, name: str, loss: Tensor) -> None:
        """Take one step of Adam with one of the networks."""
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[name].step()

    def validate(self) -> dict[str, float]:
        """Return PSNR and MS-SSIM (protocol ``train_script``) of the generator on the validation split."""
        found = metrics.score(evaluate(self.generator, self.store, self.validation, self.device), "train_script")
        return {k: found[k] for k in ("psnr", "ms_ssim")}


# ---------------------------------------------------------------------------------------------- evaluation


@torch.inference_mode()
def enhance_pairs(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device, batch: int = 50
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (enhanced, DSLR) batches for the pairs at ``index``: float32, unclipped. ``model`` moves to ``device``."""
    model = speed.prepare(model, device)
    for at in range(0, len(index), batch):
        chosen = index[at : at + batch]
        phone, dslr = (to_float(torch.from_numpy(np.array(a[chosen]))).to(device) for a in (store.phone, store.dslr))
        yield model(phone), dslr


def evaluate(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device | None = None
) -> metrics.PairStatistics:
    """Return the statistics of the enhanced pairs at ``index``. ``nn.Identity()`` evaluates the untouched photographs.

    Raises:
        DpedError: ``index`` is empty.
    """
    if not len(index):
        raise DpedError(f"{store.folder}: no pairs to evaluate in that split. Choose another, or --split all.")
    pairs = enhance_pairs(model.eval(), store, index, device or devices.pick())
    return metrics.joined([speed.pair_statistics(enhanced, dslr) for enhanced, dslr in pairs])


# ---------------------------------------------------------------------------------------------- a whole run


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, its network (in evaluation mode), and the VGG features that it was trained with."""

    folder: Path
    params: TrainParams
    model: nn.Module
    vgg_label: str

    def log(self) -> list[dict]:
        """Return the lines of the log."""
        return read_log(self.folder / checkpoints.LOG)


def run_folder(params: TrainParams, preset: str) -> Path:
    """Return where the run of these parameters lives."""
    return paths.run_dir(params.dataset, preset) / "train" / params.run_name


def train(
    params: TrainParams,
    store: PairStore,
    folder: Path,
    device: str = "auto",
    vgg_net: vgg.VGG19 | None = None,
) -> TrainResult:
    """Train, or resume a run that was interrupted, or return at once one that is finished.

    Args:
        params: the run.
        store: its patch pairs.
        folder: where it lives (:func:`run_folder`).
        device: see ``device.pick``.
        vgg_net: features to use instead of loading ``params.vgg``.

    Raises:
        TrainingDiverged: a term, a weight or an enhanced picture became NaN or infinite.
        DpedError: the folder holds a run with other parameters or a damaged file, or the disk is full.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is saved.
    """
    target, checkpoint, finished = devices.pick(device), folder / checkpoints.CHECKPOINT, folder / checkpoints.MODEL
    label = checkpoints.vgg_label_of(folder, params)
    if label is not None and finished.is_file():
        return TrainResult(folder, params, network_files.load_model(finished), label)
    trainer = Trainer(params, store, target, vgg_net)
    if checkpoint.is_file():
        checkpoints.restore(trainer, checkpoint)
    with speed.accelerated(trainer):
        checkpoints.describe(folder, params, trainer.vgg_label)
        with Log(folder / checkpoints.LOG, trainer.iteration, HOLD if target.type == "cuda" else 1) as log:
            _loop(trainer, log, checkpoint)
    name = params.model or losses.LOSSES[params.loss].model
    checkpoints.finish(trainer, folder, name, trainer.vgg_label)
    return TrainResult(folder, params, network_files.load_model(finished), trainer.vgg_label)


def _loop(trainer: Trainer, log: Log, checkpoint: Path) -> None:
    params = trainer.params
    shown = bar(label=f"train {params.run_name}", unit="it", total=params.iterations, initial=trainer.iteration)
    with interrupt.stop_between_steps() as stop, shown:
        if trainer.iteration == 0:
            _validate(trainer, log)
        while trainer.iteration < params.iterations:
            log.terms(trainer.iteration + 1, trainer.step())
            done = trainer.iteration
            shown.update()
            if done % params.eval_every == 0 or done == params.iterations:
                scores = _validate(trainer, log)
                shown.set_postfix(psnr=f"{scores['psnr']:.2f}", ms_ssim=f"{scores['ms_ssim']:.4f}")
            if done % params.checkpoint_every == 0 or stop.is_set():
                log.sync()  # the log never lags behind a checkpoint
                checkpoints.save(trainer, checkpoint)
            if stop.is_set():
                raise KeyboardInterrupt(f"stopped at iteration {done}; run the same command again to go on from there")
        log.sync()


def _validate(trainer: Trainer, log: Log) -> dict[str, float]:
    log.flush()  # report a non-finite loss before the validation error that it causes
    try:
        scores = trainer.validate()
    except DpedError as error:
        raise diverged(log.folder, f"an enhanced validation pair is broken ({error})", trainer.iteration) from error
    log.validation(trainer.iteration, scores)
    return scores
