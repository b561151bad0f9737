"""Train a network, resume an interrupted run, or load a finished one. ``data.checkpoints`` describes a run's folder."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from dped_lib import losses, speed, training
from dped_lib.base import device as devices
from dped_lib.base import interrupt, paths, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.base.run_parameters import TrainParams
from dped_lib.data import checkpoints, network_files, shipped_runs, shipping
from dped_lib.data.pair_store import PairStore
from dped_lib.data.training_log import HOLD, Log, read_log
from dped_lib.vgg import VGG19

#: Patch pairs that are trained on within a minute, such as those of preset smoke.
_BRIEF = 120


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

    def scores(self) -> dict[str, float]:
        """Return the validation scores after the last iteration.

        Raises:
            DpedError: the log lacks them.
        """
        try:
            last = [line["validation"] for line in self.log() if "validation" in line][-1]
            return {metric: float(last[metric]) for metric in ("psnr", "ms_ssim")}
        except (IndexError, KeyError, TypeError) as error:
            raise DpedError(
                f"{self.folder / checkpoints.LOG}: lacks the scores of the last evaluation. The network {self.file} is whole. "
                f"Restore the log, or delete {self.folder} and train again."
            ) from error

    @property
    def origin(self) -> str:
        """Return whose network it is: ``trained here``, or ``shipped:NAME`` if it came with the package."""
        shipped = checkpoints.shipped_name(self.folder)
        return f"{shipped_runs.PREFIX}{shipped}" if shipped else shipped_runs.HERE

    @property
    def is_shipped(self) -> bool:
        """Return whether the network came with the package."""
        return self.origin != shipped_runs.HERE

    @property
    def file(self) -> Path:
        """Return the file of the network."""
        return self.folder / checkpoints.MODEL


def run_folder(params: TrainParams, preset: str) -> Path:
    """Return the folder of the run with these parameters."""
    return paths.run_dir(params.dataset, preset) / "train" / params.run_name


def finished_run(params: TrainParams, store: PairStore, folder: Path) -> TrainResult | None:
    """Return a finished run, or None if the network has yet to be trained. A run that ships is a finished one.

    Raises:
        DpedError: the folder holds a run with other parameters, a run on other pairs or a damaged file.
    """
    shipping.provide(folder, params, store)
    label, model = checkpoints.vgg_label_of(folder, params, store), folder / checkpoints.MODEL
    if label is None or not model.is_file():
        return None
    return TrainResult(folder, params, network_files.load_model(model), label)


def train(
    params: TrainParams,
    store: PairStore,
    folder: Path,
    device: str = "auto",
    vgg_net: VGG19 | None = None,
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
    target = devices.pick(device)
    if result := finished_run(params, store, folder):
        return result
    with writing.alone(
        folder.with_name(f".{folder.name}.lock"), f"{folder}: another process is training this network; waiting for it."
    ):
        return finished_run(params, store, folder) or _train(params, store, folder, target, vgg_net)


def _train(
    params: TrainParams, store: PairStore, folder: Path, device: torch.device, vgg_net: VGG19 | None
) -> TrainResult:
    trainer, checkpoint = training.Trainer(params, store, device, vgg_net), folder / checkpoints.CHECKPOINT
    if checkpoint.is_file():
        checkpoints.restore(trainer, checkpoint)
    with speed.accelerated(trainer):
        checkpoints.write_description(folder, params, store, trainer.vgg_label)
        with Log(folder / checkpoints.LOG, trainer.iteration, HOLD if device.type == "cuda" else 1) as log:
            _loop(trainer, log, checkpoint)
    name = params.model or losses.LOSSES[params.loss].model
    checkpoints.finish(trainer, folder, name, trainer.vgg_label)
    return TrainResult(folder, params, network_files.load_model(folder / checkpoints.MODEL), trainer.vgg_label)


def _loop(trainer: training.Trainer, log: Log, checkpoint: Path) -> None:
    params = trainer.params
    # A run that goes on says so, however short it is.
    brief = trainer.iteration == 0 and params.iterations * params.batch_size <= _BRIEF
    shown = bar(
        label=f"train {params.run_name}" + (f", resumed at {trainer.iteration}" if trainer.iteration else ""),
        unit="it",
        total=params.iterations,
        initial=trainer.iteration,
        brief=brief,
    )
    with interrupt.stop_between_steps() as stop, shown:
        for scores in training.iterate(trainer, log):
            done = trainer.iteration
            shown.update()
            if scores:
                shown.set_postfix_str(f"{scores['psnr']:.2f} dB, {scores['ms_ssim']:.4f}")
            if done % params.checkpoint_every == 0 or stop.is_set():
                log.sync()  # the log never lags behind a checkpoint
                checkpoints.save(trainer, checkpoint)
            if stop.is_set():
                raise KeyboardInterrupt(f"stopped at iteration {done}; run the same command again to go on from there")
        log.sync()
