"""Train the networks (section 3.2.3): Adam, batches of 50, 20 000 iterations. One loop serves every loss of the paper.

An iteration draws one batch for a step of the generator and another for a step of the discriminator, as the authors'
code does (``train_model.py``). ``experiments.training_runs`` trains whole runs. An unknown name raises a DpedError.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dped_lib import losses, metrics, models, vgg
from dped_lib.base import device as devices
from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import TrainParams
from dped_lib.base.validation import one_of
from dped_lib.data import vgg_files
from dped_lib.data.batches import Batches
from dped_lib.data.pair_store import PairStore
from dped_lib.data.training_log import Log, diverged
from dped_lib.enhance import evaluation


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
    return losses.Objective(params.loss, params.variant, vgg_net, discriminator, params.kernel, params.content_layer)


class Trainer:
    """Hold the networks, optimisers and data of one run, and take its steps.

    Args:
        params, store, device: the parameters of the run, its patch pairs, and the device that computes.
        vgg_net: VGG-19 to use; by default ``params.vgg`` is loaded.

    Attributes:
        iteration: number of steps done.
        networks, optimizers: ``generator``, and ``discriminator`` if the loss has a texture term; an Adam for each.
        objective, batches, validation, vgg_label: loss functions, training batches, validation pairs, the VGG's label.

    Raises:
        DpedError: a parameter is unknown, or the store has no validation pairs.
    """

    def __init__(self, params: TrainParams, store: PairStore, device: torch.device, vgg_net: vgg.VGG19 | None = None):
        one_of("VGG source", params.vgg, vgg_files.SOURCES)
        if params.content_layer:
            one_of("VGG layer", params.content_layer, vgg.LAYERS)
        self.params, self.store, self.device, self.iteration = params, store, device, 0
        self.networks = {name: network.to(device) for name, network in networks_of(params).items()}
        self.generator, self.discriminator = self.networks["generator"], self.networks.get("discriminator")
        needs_vgg = "content" in losses.LOSSES[params.loss].terms
        vgg_net = (vgg_net or vgg_files.vgg19(params.vgg)).to(device) if needs_vgg else None
        self.vgg_label = vgg_net.label if needs_vgg else "no VGG features"
        self.objective = objective_of(params, vgg_net, self.discriminator)
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), lr=params.learning_rate)
            for name, network in self.networks.items()
        }
        self.validation = store.sample("val", params.eval_pairs)
        if not len(self.validation):
            raise DpedError(
                f"{store.folder}: no pairs in split 'val'. Add photographs: at least three must give patches."
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

    def update(self, phone: Tensor, dslr: Tensor, *for_discriminator: Tensor) -> dict[str, Tensor]:
        """Take one step of each network on batches N x 3 x 100 x 100 and return every term.

        ``for_discriminator`` is its batch: phone, DSLR and swaps (``losses.permute_pairs``).
        """
        for network in self.networks.values():
            network.train()
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        terms = self.generator_losses(phone, dslr)
        self.descend("generator", terms["total"])
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            terms |= self.discriminator_losses(*for_discriminator)
            self.descend("discriminator", terms["discriminator"])
        return {name: value.detach() for name, value in terms.items()}

    def generator_losses(self, phone: Tensor, dslr: Tensor) -> dict[str, Tensor]:
        """Return every term of the loss on a batch, and their weighted sum ``total`` (equation 8)."""
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
        """Return PSNR (dB) and MS-SSIM of the generator on its validation pairs, under protocol ``train_script``."""
        statistics = evaluation.evaluate(self.generator, self.store, self.validation, self.device)
        scores = metrics.score(statistics, "train_script")
        return {metric: scores[metric] for metric in ("psnr", "ms_ssim")}


def iterate(trainer: Trainer, log: Log) -> Iterator[dict[str, float]]:
    """Train to the last iteration. Log every term, and the scores of the validations.

    Validate before the first iteration, after every ``eval_every`` iterations, and after the last. Yield after each
    iteration: the scores of its validation, or an empty dictionary.

    Raises:
        TrainingDiverged: a term or an enhanced picture became NaN or infinite.
    """
    params = trainer.params
    if trainer.iteration == 0:
        log_validation(trainer, log)
    while trainer.iteration < params.iterations:
        log.terms(trainer.iteration + 1, trainer.step())
        due = trainer.iteration % params.eval_every == 0 or trainer.iteration == params.iterations
        yield log_validation(trainer, log) if due else {}


def log_validation(trainer: Trainer, log: Log) -> dict[str, float]:
    """Log and return the scores of the validation split. Raise TrainingDiverged if an enhanced pair is not finite."""
    log.flush()  # report a non-finite loss before the validation error that it causes
    try:
        scores = trainer.validate()
    except DpedError as error:
        raise diverged(log.folder, f"an enhanced validation pair is broken ({error})", trainer.iteration) from error
    log.validation(trainer.iteration, scores)
    return scores
