"""Train the networks (section 3.2.3): Adam, batches of 50, 20 000 iterations. One loop serves every loss of the paper.

An iteration draws one batch for a step of the generator and another for a step of the discriminator, as the authors'
code does (``train_model.py``). ``data.checkpoints`` describes the folder of a run.
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
from dped_lib.data import checkpoints, network_files, shipping, vgg_files
from dped_lib.data.batches import Batches, to_float
from dped_lib.data.pair_store import PairStore
from dped_lib.data.training_log import HOLD, Log, TrainingDiverged, diverged, read_log  # noqa: F401 (TrainingDiverged: for callers)


def networks_of(params: TrainParams) -> dict[str, nn.Module]:
    """Return the untrained networks of a run: ``generator``, and ``discriminator`` if the loss has a texture term."""
    spec = losses.LOSSES[one_of("loss", params.loss, losses.LOSSES)]
    form = params.discriminator or losses.DISCRIMINATOR_OF[params.variant]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        networks = {"generator": models.generator(params.model or spec.model, params.variant, params.norm)}
        if "texture" in spec.terms:
            networks["discriminator"] = models.discriminator(form)
    return networks


def objective_of(params: TrainParams, vgg_net: vgg.VGG19 | None, discriminator: nn.Module | None) -> losses.Objective:
    """Return the loss functions of a run, combined with the networks that they need."""
    choices = {"kernel": params.kernel, "content_layer": params.content_layer}
    return losses.Objective(params.loss, params.variant, vgg_net, discriminator, **choices)


class Trainer:
    """Hold the networks, optimisers and data of one run, and take its steps. Use :func:`train` for a whole run.

    Args:
        params, store, device: the parameters of the run, its patch pairs, and the device that computes.
        vgg_net: VGG-19 to use; by default ``params.vgg`` is loaded.

    Attributes:
        iteration: number of steps done.
        networks: ``generator``, and ``discriminator`` if the loss has a texture term.
        optimizers: an Adam for each network, under the same name.

    Raises:
        DpedError: a parameter is unknown, or the store has no validation pairs.
    """

    def __init__(self, params: TrainParams, store: PairStore, device: torch.device, vgg_net: vgg.VGG19 | None = None):
        one_of("VGG source", params.vgg, vgg_files.SOURCES)
        one_of("VGG layer", params.content_layer or "relu5_4", (f"relu{c}" for c in vgg.CONVS))
        self.params, self.store, self.device, self.iteration = params, store, device, 0
        self.networks = {name: network.to(device) for name, network in networks_of(params).items()}
        self.generator, self.discriminator = self.networks["generator"], self.networks.get("discriminator")
        if "content" in losses.LOSSES[params.loss].terms:
            vgg_net = (vgg_net or vgg_files.vgg19(params.vgg)).to(device)
        else:
            vgg_net = None
        self.vgg_label = vgg_net.label if vgg_net is not None else "no VGG features"
        self.objective = objective_of(params, vgg_net, self.discriminator)
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), lr=params.learning_rate)
            for name, network in self.networks.items()
        }
        self.validation = store.sample("val", params.eval_pairs)
        if not len(self.validation):
            raise DpedError(
                f"{store.folder}: no pairs in split 'val' to validate on; the dataset has too few photographs."
            )
        self.batches = Batches(store, "train", device, params.seed, params.augment)

    def step(self) -> dict[str, Tensor]:
        """Draw batches, take one step of each network, and return every term: scalars on the device."""
        i, size = self.iteration, self.params.batch_size
        drawn = [*self.batches.draw(i, size, "generator")]
        if self.discriminator is not None:
            drawn += self.batches.draw(i, size, "discriminator")
            drawn.append(devices.put(self.batches.rng(i, "swaps").integers(0, 2, size), self.device))
        terms = self.update(*drawn)
        self.iteration += 1
        return terms

    def update(self, phone: Tensor, dslr: Tensor, *opponents: Tensor) -> dict[str, Tensor]:
        """Take one step of each network on batches N x 3 x 100 x 100 and return every term.

        ``opponents`` is the discriminator's batch: phone, DSLR and swaps (``losses.permute_pairs``).
        """
        for network in self.networks.values():
            network.train()
        terms = self.generator_step(phone, dslr)
        if self.discriminator is not None:
            terms |= self.discriminator_step(*opponents)
        return {name: value.detach() for name, value in terms.items()}

    def generator_step(self, phone: Tensor, dslr: Tensor) -> dict[str, Tensor]:
        """Take one step of the generator and return its terms. The discriminator's weights stay as they are."""
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        terms = self.generator_losses(phone, dslr)
        self.descend("generator", terms["total"])
        return terms

    def discriminator_step(self, phone: Tensor, dslr: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Take one step of the discriminator and return its terms. The generator's weights stay as they are."""
        self.discriminator.requires_grad_(True)
        terms = self.discriminator_losses(phone, dslr, swaps)
        self.descend("discriminator", terms["discriminator"])
        return terms

    def generator_losses(self, phone: Tensor, dslr: Tensor) -> dict[str, Tensor]:
        """Return every term of the generator's loss on a batch, and their weighted sum ``total`` (equation 8)."""
        terms = self.objective.generator_terms(self.generator(phone), dslr)
        return {"total": self.objective.total(terms), **terms}

    def discriminator_losses(self, phone: Tensor, dslr: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        """Return the discriminator's loss and accuracy on a batch."""
        with torch.no_grad():
            enhanced = self.generator(phone)
        return self.objective.discriminator_terms(enhanced, dslr, swaps)

    def descend(self, name: str, loss: Tensor) -> None:
        """Take one step of Adam with the network of this name."""
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[name].step()

    def validate(self) -> dict[str, float]:
        """Return PSNR (dB) and MS-SSIM of the generator on the validation split, under protocol ``train_script``."""
        scores = metrics.score(evaluate(self.generator, self.store, self.validation, self.device), "train_script")
        return {metric: scores[metric] for metric in ("psnr", "ms_ssim")}


# ---------------------------------------------------------------------------------------------- evaluation


@torch.inference_mode()
def enhance_pairs(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device, batch: int = 50
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches (enhanced, DSLR) of the pairs at ``index``: float32 N x 3 x 100 x 100, not clipped.

    ``model`` is moved to ``device``.
    """
    model = speed.prepare(model, device)
    for first in range(0, len(index), batch):
        chosen = index[first : first + batch]
        phone, dslr = (to_float(torch.from_numpy(np.array(a[chosen]))).to(device) for a in (store.phone, store.dslr))
        yield model(phone), dslr


def evaluate(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device | None = None
) -> metrics.PairStatistics:
    """Return the statistics of the pairs at ``index``: enhanced against DSLR. ``nn.Identity()`` enhances nothing.

    Raises:
        DpedError: ``index`` is empty.
    """
    if not len(index):
        raise DpedError(f"{store.folder}: no pairs to evaluate in that split. Choose another, or --split all.")
    pairs = enhance_pairs(model.eval(), store, index, device or devices.pick())
    return metrics.concatenate([speed.pair_statistics(enhanced, dslr) for enhanced, dslr in pairs])


# ---------------------------------------------------------------------------------------------- a whole run


@dataclass(frozen=True)
class TrainResult:
    """Hold a finished run: its folder, its network in evaluation mode, and the name of the VGG weights of its loss."""

    folder: Path
    params: TrainParams
    model: nn.Module
    vgg_label: str

    def log(self) -> list[dict]:
        """Return the lines of the log, in order."""
        return read_log(self.folder / checkpoints.LOG)

    @property
    def whose(self) -> str:
        """Return whose network it is: ``trained here``, or ``shipped:NAME`` if it came with the package."""
        shipped = checkpoints.shipped_name(self.folder)
        return f"shipped:{shipped}" if shipped else "trained here"


def run_folder(params: TrainParams, preset: str) -> Path:
    """Return the folder of the run with these parameters."""
    return paths.run_dir(params.dataset, preset) / "train" / params.run_name


def train(
    params: TrainParams,
    store: PairStore,
    folder: Path,
    device: str = "auto",
    vgg_net: vgg.VGG19 | None = None,
) -> TrainResult:
    """Train a network, resume an interrupted run, or load a finished one. A run that ships is a finished one.

    Args:
        params, store: the parameters of the run, and its patch pairs.
        folder: the folder of the run (:func:`run_folder`).
        device: the name of a device (``device.pick``).
        vgg_net: VGG-19 to use; by default ``params.vgg`` is loaded.

    Raises:
        TrainingDiverged: a term, a weight or an enhanced picture became NaN or infinite.
        DpedError: the folder holds a run with other parameters, a run on other pairs or a damaged file, or the disk is full.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the state is saved.
    """
    target, checkpoint, finished = devices.pick(device), folder / checkpoints.CHECKPOINT, folder / checkpoints.MODEL
    shipping.provide(folder, params, store)
    label = checkpoints.vgg_label_of(folder, params, store)
    if label is not None and finished.is_file():
        return TrainResult(folder, params, network_files.load_model(finished), label)
    trainer = Trainer(params, store, target, vgg_net)
    if checkpoint.is_file():
        checkpoints.restore(trainer, checkpoint)
    with speed.accelerated(trainer):
        checkpoints.describe(folder, params, store, trainer.vgg_label)
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
