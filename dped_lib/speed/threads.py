"""Give each thread work of its own: a few images of a training step, or a batch of an evaluation.

PyTorch divides every *operation* among its threads, and they wait for each other after each of a thousand operations.
If another process keeps one core busy, each of these waits is long. Here a thread computes the generator's losses
and gradients for a few images alone, from the networks' input on, and then takes the next few. A step has
up to three parts: the generator's losses, the images for the discriminator, and the discriminator's loss, which one
thread computes alone. The threads wait for each other only at the end of a part. In an evaluation (:func:`in_order`)
they never wait.

The images of a batch are independent, because instance norm normalises each by itself. The gradient of a batch is
therefore the sum of the gradients of its parts. We add the parts in the order of the images, so the sum depends neither
on the number of threads nor on their speed.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

#: Number of images that a thread takes at a time. With fewer, threads wait less beside a busy process, but oneDNN
#: computes small batches more slowly (benchmarks/README.md).
PART = 4

Scalars = dict[str, Tensor]
Item, Result = TypeVar("Item"), TypeVar("Result")


def independent(networks: Iterable[nn.Module]) -> bool:
    """Return whether the networks treat the images of a batch independently. Batch norm does not."""
    return not any(isinstance(m, nn.BatchNorm2d) for network in networks for m in network.modules())


def workers(count: int | None = None) -> ThreadPoolExecutor:
    """Return threads that each compute their operations alone. By default they are as many as PyTorch uses now."""
    before = torch.get_num_threads()
    count = count or before
    started = threading.Barrier(count)

    def start(_) -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread reads the common number at its first call, and never again
        started.wait()

    threads = ThreadPoolExecutor(count, "dped-worker")
    try:
        list(threads.map(start, range(count)))
    except BaseException:  # the system starts no more threads, or Ctrl-C
        # At its exit Python waits for every thread. Those that have started wait here for the others.
        started.abort()
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        torch.set_num_threads(before)  # for threads that are started later
    return threads


def divided(
    losses: Callable[..., Scalars],
    differentiated: Callable[[Mapping[str, Tensor]], Scalars],
    summed: Iterable[str],
    weights: Sequence[nn.Parameter],
    threads: ThreadPoolExecutor,
    size: int = PART,
) -> Callable[..., Scalars]:
    """Return a function that computes the losses of a batch in parts, on threads.

    Args:
        losses: takes tensors of N images and returns scalars by name.
        differentiated: returns the one scalar, by name, whose gradient is wanted; it takes the scalars of ``losses``.
        summed: names of the scalars of ``losses`` that are sums over the images. The others are means.
        weights: the parameters to differentiate by.
        threads: from :func:`workers`.
        size: number of images of a part.

    Only the differentiated scalar of the result has a gradient, and only with respect to ``weights``.
    """
    summed = frozenset(summed)

    def part(images: Sequence[Tensor], share: float) -> tuple[Scalars, Scalars, Sequence[Tensor]]:
        scalars = {k: v if k in summed else v * share for k, v in losses(*images).items()}
        goal = differentiated(scalars)
        gradients = torch.autograd.grad(next(iter(goal.values())), weights)
        return {k: v.detach() for k, v in scalars.items()}, {k: v.detach() for k, v in goal.items()}, gradients

    def whole(*images: Tensor) -> Scalars:
        parts = list(zip(*(t.split(size) for t in images), strict=True))
        shares = [len(p[0]) / len(images[0]) for p in parts]
        done = list(threads.map(part, parts, shares))
        scalars, goals = ({k: sum(p[i][k] for p in done) for k in done[0][i]} for i in (0, 1))
        gradients = [
            functools.reduce(torch.Tensor.add_, of_parts) for of_parts in zip(*(p[2] for p in done), strict=True)
        ]
        return {**scalars, **{k: _Goal.apply(v, gradients, *weights) for k, v in goals.items()}}

    return whole


def in_parts(function: Callable[[Tensor], Tensor], threads: ThreadPoolExecutor) -> Callable[[Tensor], Tensor]:
    """Return a function of N images that computes ``function`` in parts, on threads, without a gradient."""

    def part(images: Tensor) -> Tensor:
        with torch.no_grad():
            return function(images)

    return lambda images: torch.cat(list(threads.map(part, images.split(PART))))


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in their order. Each item is computed by one thread.

    At most one finished result a thread waits for the caller.
    """
    count = torch.get_num_threads()
    with workers(count) as threads:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(threads.submit(function, item))
            if len(ahead) > count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _Goal(torch.autograd.Function):
    """Hold a scalar whose gradients with respect to the weights are known."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: Sequence[Tensor], *weights: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, outer: Tensor):
        return None, None, *(g * outer for g in ctx.gradients)
