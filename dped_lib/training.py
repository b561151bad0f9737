"""One training loop for every network and loss of the paper: generator step, discriminator step, log, evaluate, checkpoint.

Section 3.2.3: Adam, batches of 50, 20 000 iterations. As in the released loop, the discriminator's step draws a batch
of its own. A run is a folder:

    params.json               the parameters (``TrainParams``) and their digest
    log.jsonl                 a line an iteration (every term, unweighted) and a line an evaluation
    checkpoint.safetensors    networks, optimisers and iteration; replaced atomically
    model.safetensors         the finished network
    discriminator.safetensors its opponent, where the loss has a texture term: for looking at that term (``lossui``)

Batches are a function of (seed, iteration), and nothing else in the loop is random: with the checkpoint, a run killed
at any moment resumes to bit-identical weights (on the CPU, with the same number of threads).
"""

import contextlib
import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dped_lib.base import device as devices
from dped_lib import losses, metrics, models, vgg
from dped_lib.base import paths
from dped_lib.data import network_files
from dped_lib.speed import gpu
from dped_lib.base.config import TrainParams, one_of
from dped_lib.base.errors import DpedError
from dped_lib.data.pair_store import Batches, PairStore, to_float
from dped_lib.base.progress import bar
from dped_lib.data.training_log import Log, TrainingDiverged, diverged, read_log  # noqa: F401 (TrainingDiverged: for callers)

_FLUSH_EVERY = 20  # iterations whose numbers may wait on a GPU before they are read; a CPU has nothing to wait for


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, network (evaluation mode), and provenance of the features it was trained with."""

    folder: Path
    params: TrainParams
    model: nn.Module
    vgg_label: str

    def log(self) -> list[dict]:
        """The lines of the log."""
        return read_log(self.folder / "log.jsonl")


def run_folder(params: TrainParams, preset: str) -> Path:
    """Where the run of these parameters lives."""
    return paths.run_dir(params.dataset, preset) / "train" / params.run_name


# ---------------------------------------------------------------------------------------------- evaluation


@torch.inference_mode()
def enhance_pairs(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device, batch: int = 50
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (enhanced, DSLR) batches, float32 in full precision, unclipped, for the pairs at ``index``; ``model`` moves to ``device``."""
    with torch.inference_mode(False):  # weights moved in inference mode could never be trained again
        model = model.to(device)
    for at in range(0, len(index), batch):
        chosen = index[at : at + batch]
        phone, dslr = (to_float(torch.from_numpy(np.array(a[chosen]))).to(device) for a in (store.phone, store.dslr))
        yield model(phone), dslr


def evaluate(
    model: nn.Module, store: PairStore, index: np.ndarray, device: torch.device | None = None
) -> metrics.PairStatistics:
    """Statistics of the enhanced pairs at ``index``; ``nn.Identity()`` evaluates the untouched photographs.

    Raises:
        DpedError: ``index`` is empty.
    """
    device = device or devices.pick()
    devices.keep_pages()
    model.eval()
    if not len(index):
        raise DpedError(f"{store.folder}: no pairs to evaluate in that split. Choose another, or --split all.")
    parts = [metrics.pair_statistics(enhanced, dslr) for enhanced, dslr in enhance_pairs(model, store, index, device)]
    return metrics.PairStatistics(
        *(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(parts[0]))
    )


# ---------------------------------------------------------------------------------------------- the loop


@contextlib.contextmanager
def _stop_between_iterations() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM (Slurm's word before a kill) set, so that a step is never cut in half."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # A shell script's background job is started deaf to Ctrl-C; it stays so.
    heard = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, lambda *_: stop.set()) for s in heard}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


class Trainer:
    """Networks, optimisers and data of one run, and a step. Use :func:`train` unless the steps themselves matter.

    Attributes:
        iteration: steps done.
        generator, discriminator: the networks; the second is None where the loss has no texture term.
    """

    def __init__(self, params: TrainParams, store: PairStore, device: torch.device, vgg_net: vgg.VGG19 | None = None):
        self.params, self.store, self.device = params, store, device
        spec = losses.LOSSES[one_of("loss", params.loss, losses.LOSSES)]
        one_of("VGG source", params.vgg, vgg.SOURCES)
        one_of("VGG layer", params.content_layer or "relu5_4", (f"relu{c}" for c in vgg.CONVS))
        self.model_name = params.model or spec.model
        form = params.discriminator or losses.DISCRIMINATOR[params.variant]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self.generator = models.generator(self.model_name, params.variant, params.norm)
            self.discriminator = models.discriminator(form) if "texture" in spec.terms else None
        self.dtype = devices.precision(params.precision, device)
        vgg_net = (vgg_net or vgg.vgg19(params.vgg)).in_precision(self.dtype) if "content" in spec.terms else None
        self.vgg_label = vgg_net.label if vgg_net is not None else "no VGG features"
        for net in (self.generator, self.discriminator, vgg_net):
            if net is not None:
                net.to(device=device, memory_format=torch.channels_last)
        self.objective = losses.Objective(
            params.loss,
            params.variant,
            vgg_net,
            self.discriminator,
            kernel=params.kernel,
            content_layer=params.content_layer,
        )
        recorded = device.type == "cuda"
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), lr=params.learning_rate, fused=True, capturable=recorded)
            for name, net in self._networks().items()
        }
        self._validation = store.some("val", params.eval_pairs)
        if not len(self._validation):
            raise DpedError(
                f"{store.folder}: no pairs in split 'val' to watch the training by; the dataset has too few photographs."
            )
        self.batches = Batches(store, "train", device, params.seed, params.augment)
        self.iteration = 0
        self._start()

    def _start(self) -> None:
        # A recording knows weights and moments by their place in memory: where these are replaced, it is made again.
        self.close()
        if gpu.compiling_pays(self.device, self.params.iterations - self.iteration):
            self.compile()
        self._recorded = gpu.Recorded() if self.device.type == "cuda" else None

    def compile(self, **options) -> None:
        """Compiles the losses from the next step on (options of ``torch.compile``)."""
        torch.compiler.assume_constant_result(losses.blur_matrix)  # not where it is defined: that imports the compiler
        for name in ("_generator_losses", "_discriminator_losses"):
            setattr(self, name, gpu.Compiled(getattr(self, name), **options))

    def close(self) -> None:
        """Lets go of compiled losses and of the recording, which would keep this trainer and its memory."""
        for name in ("_generator_losses", "_discriminator_losses"):
            vars(self).pop(name, None)
        self._recorded = None

    def _networks(self) -> dict[str, nn.Module]:
        nets = {"generator": self.generator, "discriminator": self.discriminator}
        return {k: v for k, v in nets.items() if v is not None}

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def step(self) -> dict[str, Tensor]:
        """One generator step and, with a texture term, one discriminator step. Returns every term, on the device."""
        i, size = self.iteration, self.params.batch_size
        drawn = self._draw(i, size, "generator")
        if self.discriminator is not None:
            drawn += self._draw(i, size, "discriminator")
            drawn.append(gpu.put(self.batches.rng(i, "swaps").integers(0, 2, size), self.device))
        work = self._descend_both
        terms = self._recorded(work, *drawn) if self._recorded else work(*drawn)
        self.iteration += 1
        return terms

    def _descend_both(self, phone: Tensor, dslr: Tensor, *opponents: Tensor) -> dict[str, Tensor]:
        self.generator.train()
        if self.discriminator is not None:
            self.discriminator.train().requires_grad_(False)
        terms = self._generator_losses(phone, dslr)
        self._descend("generator", terms["total"])
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
            found = self._discriminator_losses(*opponents)
            self._descend("discriminator", found["discriminator"])
            terms |= found
        return {k: v.detach() for k, v in terms.items()}

    def _generator_losses(self, phone: Tensor, dslr: Tensor) -> dict[str, Tensor]:
        with self._autocast():
            terms = self.objective.generator_terms(self.generator(phone), dslr)
        return {"total": self.objective.total(terms), **terms}

    def _discriminator_losses(self, phone: Tensor, dslr: Tensor, swaps: Tensor) -> dict[str, Tensor]:
        with self._autocast():
            with torch.no_grad():
                enhanced = self.generator(phone)
            return self.objective.discriminator_terms(enhanced, dslr, swaps)

    def _draw(self, iteration: int, size: int, stream: str) -> list[Tensor]:
        return [t.contiguous(memory_format=torch.channels_last) for t in self.batches.draw(iteration, size, stream)]

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def validate(self) -> dict[str, float]:
        """PSNR and MS-SSIM (protocol ``train_script``) of the generator on the validation split."""
        found = metrics.score(evaluate(self.generator, self.store, self._validation, self.device), "train_script")
        return {k: found[k] for k in ("psnr", "ms_ssim")}

    # ------------------------------------------------------------------------------------------ checkpoints

    def check_weights(self, folder: Path) -> None:
        """Stops a run whose last step broke a weight: its loss would only show that in the next."""
        for name, net in self._networks().items():
            for key, value in net.state_dict().items():
                if not value.isfinite().all():
                    raise diverged(folder, f"the {name}'s {key} has values that are not finite", self.iteration)

    def save(self, file: Path) -> None:
        """Writes everything the next step depends on, atomically.

        Raises:
            TrainingDiverged: a weight is not finite; nothing is written.
        """
        self.check_weights(file.parent)
        tensors: dict[str, Tensor] = {}
        for name, net in self._networks().items():
            tensors |= {f"{name}/{k}": v for k, v in net.state_dict().items()}
            for j, state in self.optimizers[name].state_dict()["state"].items():
                tensors |= {f"{name}.adam/{j}/{k}": v for k, v in state.items()}
        network_files.save_tensors(tensors, file, {"iteration": str(self.iteration), "digest": self.params.digest()})

    def restore(self, file: Path) -> None:
        """Takes up the state that :meth:`save` wrote.

        Raises:
            DpedError: the file is damaged, or of a run with other parameters.
        """
        tensors, metadata = network_files.load_tensors(file)
        if metadata.get("digest") != self.params.digest():
            raise DpedError(
                f"{file}: checkpoint of a run with other parameters. Delete {file.parent} or choose another seed."
            )
        for name, net in self._networks().items():
            try:
                net.load_state_dict(
                    {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
                )
            except RuntimeError as error:
                raise DpedError(
                    f"{file}: checkpoint of another version of the {name}: {error}. Delete {file.parent} and train again."
                ) from error
            state: dict[int, dict[str, Tensor]] = {}
            for j, weight in enumerate(net.parameters()):
                prefix = f"{name}.adam/{j}/"
                found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                # Moments in their weight's memory layout, as Adam itself makes them: another order may round otherwise.
                state[j] = {
                    k: torch.empty_like(weight).copy_(v) if v.shape == weight.shape else v for k, v in found.items()
                }
            groups = self.optimizers[name].state_dict()["param_groups"]
            self.optimizers[name].load_state_dict({"state": state, "param_groups": groups})
        self.iteration = int(metadata["iteration"])
        self._start()


def train(
    params: TrainParams,
    store: PairStore,
    folder: Path,
    device: str = "auto",
    vgg_net: vgg.VGG19 | None = None,
) -> TrainResult:
    """Trains, or resumes, or returns at once what is finished with these parameters.

    Args:
        params: what to train.
        store: its patch pairs.
        folder: where the run lives (:func:`run_folder`).
        vgg_net: features to use instead of loading ``params.vgg``.

    Raises:
        TrainingDiverged: a term became NaN or infinite.
        DpedError: the folder holds a run with other parameters, a damaged file, or the disk is full.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is saved.
    """
    target = devices.pick(device)
    devices.keep_pages()
    described = folder / "params.json"
    if described.is_file():
        known = _read_description(described)
        if known["digest"] != params.digest():
            raise DpedError(
                f"{folder}: holds a run with other parameters ({_differences(known['params'], params)}). "
                "Delete that folder, or ask for those parameters."
            )
        if (folder / "model.safetensors").is_file():
            return TrainResult(folder, params, network_files.load_model(folder / "model.safetensors"), known["vgg_label"])
    trainer = Trainer(params, store, target, vgg_net)
    names = ("params.json", "log.jsonl", *(f"{n}.safetensors" for n in ("checkpoint", "discriminator", "model")))
    paths.clear_killed(*(folder / name for name in names))  # up to a whole checkpoint each
    paths.write_text(
        described,
        json.dumps(
            {"params": dataclasses.asdict(params), "digest": params.digest(), "vgg_label": trainer.vgg_label}, indent=1
        ),
    )
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file():
        trainer.restore(checkpoint)
    log = Log(folder / "log.jsonl", trainer.iteration, 1 if target.type == "cpu" else _FLUSH_EVERY)
    try:
        _loop(trainer, log, checkpoint)
    finally:
        log.close()
        trainer.close()
    trainer.check_weights(folder)
    finished = folder / "model.safetensors"
    if trainer.discriminator is not None:  # first: where the model is, the run is over
        network_files.save_tensors(trainer.discriminator.state_dict(), folder / "discriminator.safetensors", {})
    network_files.save_tensors(
        trainer.generator.state_dict(),
        finished,
        {
            "model": trainer.model_name,
            "variant": params.variant,
            "norm": params.norm,
            "vgg": trainer.vgg_label,
            "params": json.dumps(dataclasses.asdict(params)),
        },
    )
    checkpoint.unlink(missing_ok=True)
    return TrainResult(folder, params, network_files.load_model(finished), trainer.vgg_label)


def _loop(trainer: Trainer, log: Log, checkpoint: Path) -> None:
    params = trainer.params
    with (
        _stop_between_iterations() as stop,
        bar(label=f"train {params.run_name}", unit="it", total=params.iterations, initial=trainer.iteration) as shown,
    ):
        if trainer.iteration == 0:
            _validate(trainer, log)
        while trainer.iteration < params.iterations:
            log.terms(trainer.iteration + 1, trainer.step())
            done = trainer.iteration
            shown.update()
            if done % params.eval_every == 0 or done == params.iterations:
                found = _validate(trainer, log)
                shown.set_postfix(psnr=f"{found['psnr']:.2f}", ms_ssim=f"{found['ms_ssim']:.4f}")
            if done % params.checkpoint_every == 0 or stop.is_set():
                log.sync()  # the log never lags behind a checkpoint
                trainer.save(checkpoint)
            if stop.is_set():
                raise KeyboardInterrupt(f"stopped at iteration {done}; run the same command again to go on from there")
        log.sync()


def _validate(trainer: Trainer, log: Log) -> dict[str, float]:
    log.flush()  # a term that is not finite has the first word
    try:
        found = trainer.validate()
    except DpedError as error:
        raise diverged(log.folder, f"an enhanced validation pair is broken ({error})", trainer.iteration) from error
    log.validation(trainer.iteration, found)
    return found


def _read_description(file: Path) -> dict:
    try:
        known = json.loads(file.read_text())
        return {key: known[key] for key in ("params", "digest", "vgg_label")}
    except (ValueError, KeyError, TypeError) as error:
        raise DpedError(f"{file}: damaged ({error!r}). Delete {file.parent} and train again.") from error


def _differences(known: dict, params: TrainParams) -> str:
    now = dataclasses.asdict(params)
    return ", ".join(f"{k}: {known.get(k)!r} there, {now[k]!r} asked" for k in now if known.get(k) != now[k])
