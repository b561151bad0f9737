"""Each swap of ``speed`` alone against the plain form that it replaces, in turns, on a CPU.

    python benchmarks/swaps.py [--rounds 5] [--batch 8] [--only NAME ...]

Training swaps compute 100x100 patches, forward and backward: a batch as preset ``cpu`` trains with, or the part of it that one thread
computes. Swaps of enhancement compute a band of 32 rows of a 1920x1080 photograph on one thread. Both forms run in one process, which
keeps freed memory (``memory.keep_pages``). Only ``memory`` itself needs a process for each form, because the allocator cannot be
switched back. Ratios are of medians. In training, ``graphs`` needs a GPU, and ``convolution`` is quicker on a GPU only.
``training_step.py --tried --device cuda`` has a form without graphs. No benchmark has a training without ``convolution``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dped_lib import losses, metrics, models
from dped_lib.base.run_parameters import TrainParams
from dped_lib.enhance import bands
from dped_lib.speed import blur, memory, networks, norm, rectify, threads, training, windows
from dped_lib.training import networks_of, objective_of

#: A form of a computation: a function without arguments.
Form = Callable[[], object]
_ROWS, _WIDTH, _CHANNELS = 32, 1920, 64


def backward(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Form:
    """Return the computation of a function and its gradient with respect to its first input."""

    def both() -> None:
        first = inputs[0].detach().requires_grad_(True)
        result = function(first, *inputs[1:])
        result.backward(torch.ones_like(result))

    return both


def layers() -> dict[str, tuple[Form, Form]]:
    """Return the swaps of a network's layers, on as many images as a thread computes in training, on one thread."""
    x = torch.rand(threads.PART, _CHANNELS, 100, 100)
    x_last = x.contiguous(memory_format=torch.channels_last)
    plain, quick = (kind(_CHANNELS, eps=1e-3, affine=True) for kind in (nn.InstanceNorm2d, norm.InstanceNorm2d))
    block, swapped = models.generator("dped", "code").blocks[0], models.generator("dped", "code")
    swapped = networks.swap(swapped.to(memory_format=torch.channels_last)).blocks[0]
    low = x_last.bfloat16()  # as convolutions return it under autocast

    def rectified(t: torch.Tensor) -> torch.Tensor:
        return F.relu(plain(t))

    forms = {
        "norm and ReLU, float32": (backward(rectified, x), backward(lambda t: quick(t, relu=True), x_last)),
        "norm and ReLU, bfloat16": (backward(rectified, low), backward(lambda t: quick(t, relu=True), low)),
        "norm, residual block": (backward(block, x), backward(swapped, x_last)),
    }
    return {name: tuple(alone(form) for form in both) for name, both in forms.items()}


def steps(batch: int) -> dict[str, tuple[Form, Form]]:
    """Return the swaps of a training step: precision, division among threads, and Adam."""
    params = TrainParams("rig", "iphone", "mse", batch_size=batch)
    generator = networks.swap(networks_of(params)["generator"].to(memory_format=torch.channels_last))
    objective, weights = objective_of(params, None, None), list(generator.parameters())
    phone, dslr = (torch.rand(batch, 3, 100, 100).contiguous(memory_format=torch.channels_last) for _ in range(2))

    def terms(*images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"total": objective.total(objective.generator_terms(generator(images[0]), images[1]))}

    def low_terms(*images: torch.Tensor) -> dict[str, torch.Tensor]:
        with training.autocast(phone.device, torch.bfloat16):
            return terms(*images)

    def gradients(function: Callable) -> Form:
        return lambda: torch.autograd.grad(function(phone, dslr)["total"], weights)

    parts = threads.divided(terms, lambda t: t, (), weights, threads.workers())
    low = threads.divided(low_terms, lambda t: t, (), weights, threads.workers())
    trained = models.generator("dped", "code"), models.discriminator("code")
    optimizers = [torch.optim.Adam(network.parameters()) for network in trained]
    for network, plain in zip(trained, optimizers, strict=True):
        for weight in network.parameters():
            weight.grad = torch.rand_like(weight)
        plain.step()
    fused = [training.adam(network, plain, False) for network, plain in zip(trained, optimizers, strict=True)]
    return {
        "threads, one step": (gradients(terms), gradients(parts)),
        "training, bfloat16": (gradients(parts), gradients(low)),
        "training, Adam": (lambda: [o.step() for o in optimizers], lambda: [o.step() for o in fused]),
    }


def distances(batch: int) -> dict[str, tuple[Form, Form]]:
    """Return the swaps of the colour loss, with and without a gradient, and of the metrics."""
    x, y = (torch.rand(batch, 3, 100, 100) for _ in range(2))
    return {
        "blur, gradient": (backward(losses.color_distance, x, y), backward(blur.color_distance, x, y)),
        "blur, value": (lambda: losses.color_distance(x, y), lambda: blur.filtered_distance(x, y)),
        "windows": (
            lambda: metrics.batch_statistics(x.double(), y.double()),
            lambda: windows.batch_statistics(x.double(), y.double()),
        ),
    }


def photographs() -> dict[str, tuple[Form, Form]]:
    """Return the swaps of enhancement on one band of a photograph, each on one thread, as enhancement calls them."""
    rows = torch.rand(_ROWS + 2, _WIDTH, _CHANNELS)
    layer = bands.Layer(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), torch.float32)
    x = bands.as_band(rows)
    signed = torch.randn(_ROWS, _WIDTH, _CHANNELS).bfloat16()
    out = torch.empty_like(signed)
    last = nn.Conv2d(_CHANNELS, 3, 9, padding=4).requires_grad_(False)
    tails = []
    for enabled in ("0", "1"):
        os.environ["DPED_SPEED"] = enabled
        tails.append(bands.Tail(last, torch.bfloat16, last.bias))
    wide = bands.as_band(torch.rand(_ROWS + 8, _WIDTH + 8, _CHANNELS).bfloat16())
    forms = {
        "winograd": (lambda: F.conv2d(x, layer.weight, layer.bias, padding=(0, 1)), lambda: layer.convolve(x)),
        "rectify, bfloat16": (lambda: torch.clamp_min(signed, 0, out=out), lambda: rectify.relu(signed, out)),
        "convolution, last layer": (lambda: tails[0].convolve(wide), lambda: tails[1].convolve(wide)),
    }
    return {name: tuple(alone(frozen(form)) for form in both) for name, both in forms.items()}


def alone(form: Form) -> Form:
    """Return the form on one thread."""

    def computed() -> None:
        count = torch.get_num_threads()
        torch.set_num_threads(1)
        form()
        torch.set_num_threads(count)

    return computed


def frozen(form: Form) -> Form:
    """Return the form without gradients."""
    return torch.inference_mode()(form)


def allocate(kept: bool) -> float:
    """Return the seconds that a new process needs to allocate, fill and free feature maps of 100 MB forty times."""
    lines = (
        "import sys, time, torch",
        "from dped_lib.speed import memory",
        "if sys.argv[1] == 'kept': memory.keep_pages()",
        "fill = lambda: torch.full((25_000_000,), 1.0)",
        "fill()",
        "start = time.perf_counter()",
        "for _ in range(40): fill()",
        "print(time.perf_counter() - start)",
    )
    command = [sys.executable, "-c", "\n".join(lines), "kept" if kept else "returned"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seconds(form: Form) -> float:
    """Return how long a form takes."""
    start = time.perf_counter()
    form()
    return time.perf_counter() - start


def main() -> None:
    """Time the forms in turns and print their medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of names")
    asked = parser.parse_args()
    chosen = tuple(asked.only) or ("",)
    if "memory".startswith(chosen):
        times = [(allocate(kept=False), allocate(kept=True)) for _ in range(asked.rounds)]
        report("memory", times)
    memory.keep_pages()
    every = {**layers(), **steps(asked.batch), **distances(asked.batch), **photographs()}
    for name, forms in every.items():
        if name.startswith(chosen):
            for form in forms:
                form()  # not counted: it fills caches
            report(name, [tuple(seconds(form) for form in forms) for _ in range(asked.rounds)])


def report(name: str, times: Sequence[tuple[float, float]]) -> None:
    """Print the medians of the plain and the quick form, and their ratio."""
    plain, quick = (1000 * statistics.median(of_form) for of_form in zip(*times, strict=True))
    print(f"{name:26} plain {plain:8.1f} ms, quick {quick:8.1f} ms: {plain / quick:5.1f} times as fast", flush=True)


if __name__ == "__main__":
    main()
