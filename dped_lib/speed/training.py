"""Swap the parts of a trainer: layers, losses, precision, Adam, and the launch of a step."""

import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from dped_lib.speed import blur, graphs, threads

#: Methods of a trainer that :func:`accelerate` replaces.
_METHODS = ("generator_losses", "discriminator_losses", "update")


def autocast(device: torch.device, dtype: torch.dtype):
    """Return a context in which layers compute in ``dtype``. For float32 it changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def adam(network: nn.Module, plain: torch.optim.Optimizer, capturable: bool) -> torch.optim.Adam:
    """Return an Adam that updates all weights in one pass, with the learning rate and state of ``plain``.

    Its moments get the memory layout of their weights, because the fused kernel requires it.
    """
    weights = list(network.parameters())
    quick = torch.optim.Adam(weights, lr=plain.param_groups[0]["lr"], fused=True, capturable=capturable)
    state = {
        j: {k: torch.empty_like(weights[j]).copy_(v) if v.shape == weights[j].shape else v for k, v in values.items()}
        for j, values in plain.state_dict()["state"].items()
    }
    quick.load_state_dict({"state": state, "param_groups": quick.state_dict()["param_groups"]})
    return quick


def accelerate(
    trainer, prepare: Callable, dtype: torch.dtype, compiled: bool | dict | None, recorded: bool | None
) -> None:
    """Replace parts of a ``training.Trainer`` by quick forms (see :func:`dped_lib.speed.accelerate`)."""
    device, objective = trainer.device, trainer.objective
    release(trainer)
    objective.color_distance = blur.color_distance
    if objective.vgg is not None:
        objective.vgg = prepare(objective.vgg, device, dtype)
    for name, network in trainer.networks.items():
        prepare(network, device)
        trainer.optimizers[name] = adam(network, trainer.optimizers[name], capturable=device.type == "cuda")
    if compiled is None:
        compiled = graphs.compiling_pays(device, trainer.params.iterations - trainer.iteration)

    def in_precision(function: Callable) -> Callable:
        def quick(*images: Tensor):
            with autocast(device, dtype):
                return function(*images)

        return quick

    if device.type == "cpu" and compiled is False and threads.independent(trainer.networks.values()):
        trainer.generator_losses, trainer.discriminator_losses = _divided(trainer, in_precision)
        names = ()
    else:
        names = _METHODS[:2]
    for name in names:
        quick = in_precision(getattr(trainer, name))
        if compiled is not False:
            # This line imports the compiler. It stands here because ``blur`` is imported in every process.
            torch.compiler.assume_constant_result(blur.blur_matrix)
            quick = graphs.Compiled(quick, **(compiled if isinstance(compiled, dict) else {}))
        setattr(trainer, name, quick)
    record = device.type == "cuda" if recorded is None else recorded
    trainer.update = _update(trainer.update, graphs.Recorded() if record else None)


def _divided(trainer, in_precision: Callable) -> tuple[Callable, Callable]:
    """Return the losses of the generator and of the discriminator, divided among threads."""
    objective, pool = trainer.objective, threads.workers()
    texture_is_sum = objective.discriminator is not None and objective.discriminator.outputs == 2

    def total(terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {"total": objective.total({name: terms[name] for name in objective.terms})}

    def judged(terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {"discriminator": terms["discriminator"]}

    weights = list(trainer.generator.parameters())
    losses = in_precision(trainer.generator_losses)
    of_generator = threads.divided(losses, total, ("texture",) if texture_is_sum else (), weights, pool)
    if trainer.discriminator is None:
        return of_generator, trainer.discriminator_losses
    # The discriminator is small. One thread computes it, so its seven million gradients need not be added.
    weights = list(trainer.discriminator.parameters())
    judge = threads.divided(in_precision(objective.discriminator_terms), judged, (), weights, pool, size=sys.maxsize)
    enhance = threads.in_parts(in_precision(trainer.generator), pool)
    return of_generator, lambda phone, dslr, swaps: judge(enhance(phone), dslr, swaps)


def _update(plain: Callable, recorded: graphs.Recorded | None) -> Callable:
    def update(*drawn: Tensor) -> dict[str, Tensor]:
        drawn = [t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for t in drawn]
        return recorded(plain, *drawn) if recorded else plain(*drawn)

    return update


def release(trainer) -> None:
    """Restore the plain methods of a trainer. Compiled losses and a recording would keep its memory alive."""
    for name in _METHODS:
        vars(trainer).pop(name, None)
