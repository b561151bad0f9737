"""One training iteration (full loss, both networks) with all swaps of ``speed``, against the library's plain form, in turns.

    python benchmarks/training_step.py [--batch 50] [--rounds 3] [--device cpu|cuda]
    python benchmarks/training_step.py ... --beside     each form alone, and beside a process that keeps one core busy
    python benchmarks/training_step.py --agree [--dataset pirm] [--iterations 100] [--rounds 3] [--device cpu|cuda]
    python benchmarks/training_step.py --tried --device cuda
    python benchmarks/training_step.py --profile --device cuda

plain    ``training.Trainer`` as it is written: ``nn.InstanceNorm2d``, a depthwise blur of both images, float32, contiguous layout,
         the system's allocator, ``torch.optim.Adam`` with its defaults, numbers read every iteration
default  the trainer that ``training_runs.train`` uses on this machine: ``speed.accelerate(trainer)``

Each form runs in a process of its own, because the allocator cannot be switched back. The two run in turns, after two iterations
that are not counted (default on a GPU: ten). Ratios are of medians. The floor is the iteration's arithmetic over the measured peak
of a matrix product in the type used. On a GPU it is also the bytes of every feature map, each moved as often as it must be, over
the measured bandwidth. ``--tried`` runs forms that leave one thing out. ``--profile`` lists the kernels of an iteration. ``--agree``
compares the two instead: every loss term and the gradient of one iteration, and a short training on the rig.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from processes import busy

from dped_lib import metrics, speed, training
from dped_lib.base import datasets, device, run_parameters
from dped_lib.data import authors_checkpoints, opening, pair_store
from dped_lib.enhance import evaluation
from dped_lib.speed import graphs

#: Operations (multiply and add are two) for one 100x100 pair: three passes of the generator for its step, one for the
#: discriminator's, VGG-19 to relu5_4 forward for the target, and forward and back to the image for the enhanced one;
#: the discriminator's own share is under 2 %.
_GENERATOR, _VGG = 8.0e9, 8.2e9
OPERATIONS = 4 * _GENERATOR + 3 * _VGG
#: Values of the feature maps of one pair (generator: 19 of 64 x 100 x 100, each norm's input and output; VGG-19), and how often each moves:
#: written and read in every forward pass; where there is a gradient, read again, and the gradient written and read.
VALUES = (5 + 2) * 19 * 64 * 100**2 + (5 + 2) * 3.0e6


# ------------------------------------------------------------------------------------------ timing


def peak(dtype: torch.dtype, target: torch.device, size: int = 4096) -> float:
    """Return the measured operations a second of a square matrix product."""
    a = torch.randn(size, size, device=target).to(dtype)
    best = min(_timed(lambda: a @ a, target) for _ in range(6))
    return 2 * size**3 / best


def bandwidth(target: torch.device) -> float:
    """Return the measured bytes a second of a copy on a GPU. A byte that is read and written counts twice."""
    a = torch.randn(1 << 28, device=target)
    b = torch.empty_like(a)
    return 2 * a.nbytes / min(_timed(lambda: b.copy_(a), target) for _ in range(6))


def _timed(work, target: torch.device) -> float:
    if target.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if target.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def random_store(folder: Path, count: int) -> pair_store.PairStore:
    rng = np.random.default_rng(0)
    pairs = (
        pair_store.Pair(
            str(i), str(i), *rng.integers(0, 256, (2, 100, 100, 3), dtype=np.uint8), "train" if i else "val"
        )
        for i in range(count)
    )
    return pair_store.write_store(folder / "store", pairs, {"dataset": "rig", "phone": "iphone", "report": {}})


#: The form that the project takes on a GPU, and forms that leave something out or add something.
TRIED = ("default", "launched", "not compiled", "neither", "searching")


def trainer_of(
    form: str, store: pair_store.PairStore, params: run_parameters.TrainParams, target: torch.device
) -> training.Trainer:
    """Return the trainer of a form, ready to step."""
    trainer = training.Trainer(params, store, target)
    if form != "plain":
        compiled = False if form in ("not compiled", "neither") else None
        speed.accelerate(trainer, compiled, recorded=False if form in ("launched", "neither") else None)
    if target.type == "cuda":
        torch.backends.cudnn.benchmark = form == "searching"
    return trainer


def step(form: str, trainer: training.Trainer) -> None:
    """Take one step. The plain loop reads its numbers in every iteration."""
    terms = trainer.step()
    if form == "plain":
        torch.stack(list(terms.values())).tolist()


def one(form: str, batch: int, target: torch.device, iterations: int) -> dict:
    """Return the median seconds of an iteration of one form, on random pairs."""
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder), 64)
        params = run_parameters.TrainParams("rig", "iphone", "color+content+texture", batch_size=batch)
        start = time.perf_counter()
        trainer = trainer_of(form, store, params, target)
        for _ in range(2 if target.type == "cpu" or form == "plain" else 10):
            step(form, trainer)
        if target.type == "cuda":
            torch.cuda.synchronize()
        before = time.perf_counter() - start
        # A GPU runs ahead of Python: iterations are timed together there.
        each = 1 if target.type == "cpu" else 10 if form == "plain" else 50
        timings = [_timed(lambda: [step(form, trainer) for _ in range(each)], target) / each for _ in range(iterations)]
        memory = torch.cuda.max_memory_allocated() / 2**30 if target.type == "cuda" else 0
    dtype = torch.float32 if form == "plain" else speed.precision(params.precision, target)
    # What cuDNN convolves float32 in by default, and the plain loop with it.
    tf32 = target.type == "cuda" and form == "plain"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return {
        "seconds": statistics.median(timings),
        "before": before,
        "memory": memory,
        "peak": peak(dtype, target, 4096 if target.type == "cpu" else 8192),
        "bandwidth": bandwidth(target) if target.type == "cuda" else 0,
        "dtype": "TF32" if tf32 else str(dtype).removeprefix("torch."),
        "bytes": VALUES * batch * dtype.itemsize,
    }


def measure(form: str, batch: int, name: str, iterations: int, beside: bool = False) -> dict:
    """Return what :func:`one` returns in a process of its own, alone or beside a busy process."""
    command = [sys.executable, __file__, "--form", form, "--batch", str(batch), "--device", name]
    with busy(beside):
        done = subprocess.run(
            [*command, "--iterations", str(iterations)], stdout=subprocess.PIPE, text=True, check=True
        )
    measured = json.loads(done.stdout.splitlines()[-1])
    print(form, "beside a busy process" if beside else "alone", measured, file=sys.stderr, flush=True)
    return measured


def heading(batch: int, rounds: int, name: str) -> str:
    """Return what was timed, and where."""
    where = f"{device.describe(torch.device(name))}, torch {torch.__version__}"
    return f"{where}, batch {batch}, full loss, median of {rounds} rounds in turns"


def compare(forms: tuple[str, ...], batch: int, rounds: int, name: str, iterations: int) -> None:
    by_form: dict[str, list[dict]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form, runs in by_form.items():
            runs.append(measure(form, batch, name, iterations))
    print(heading(batch, rounds, name))
    medians = {}
    for form, runs in by_form.items():
        medians[form] = statistics.median(r["seconds"] for r in runs)
        best, first = max(r["peak"] for r in runs), runs[0]
        floor = OPERATIONS * batch / best
        print(
            f"{form:12} {medians[form] * 1000:9.2f} ms an iteration; floor {floor * 1000:7.2f} ms ({first['dtype']} peak {best / 1e12:.2f} TFLOP/s): "
            f"{medians[form] / floor:.1f} times the floor, {floor / medians[form]:.0%} of the peak"
        )
        if first["bandwidth"]:
            moved = max(r["bandwidth"] for r in runs)
            print(
                f"{'':12} feature maps alone {first['bytes'] / 1e9:.1f} GB, {first['bytes'] / moved * 1000:.2f} ms at {moved / 1e12:.2f} TB/s; "
                f"peak memory {first['memory']:.1f} GiB; {first['before']:.0f} s before the first timed iteration, compiling included"
            )
    for form in forms[1:]:
        print(f"{form} is {medians[forms[0]] / medians[form]:.2f} times as fast as {forms[0]}")
    print(f"20 000 iterations of default: {20000 * medians['default'] / 60:.1f} minutes")


def compare_beside(forms: tuple[str, ...], batch: int, rounds: int, name: str, iterations: int) -> None:
    """Print how much longer an iteration of each form takes beside a process that keeps one core busy."""
    times: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form, both in times.items():
            both.append(tuple(measure(form, batch, name, iterations, beside)["seconds"] for beside in (False, True)))
    print(heading(batch, rounds, name))
    for form, both in times.items():
        alone, beside = (statistics.median(of_load) for of_load in zip(*both, strict=True))
        print(
            f"{form:12} alone {alone:7.3f} s an iteration, beside a busy process {beside:7.3f} s: {beside / alone:.2f} times as long"
        )


def profile(form: str, batch: int, target: torch.device) -> None:
    """Print the kernels of an iteration. On a GPU it is launched and not replayed, so that each kernel keeps its name."""
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder), 64)
        params = run_parameters.TrainParams("rig", "iphone", "color+content+texture", batch_size=batch)
        trainer = trainer_of(form, store, params, target)
        for _ in range(2):
            trainer.step()
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if target.type == "cuda":
            kinds = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as seen:
            for _ in range(3):
                trainer.step()
            if target.type == "cuda":
                torch.cuda.synchronize()
    by = "self_device_time_total" if target.type == "cuda" else "self_cpu_time_total"
    rows = sorted(seen.key_averages(), key=lambda e: -getattr(e, by))
    total = sum(getattr(e, by) for e in rows)
    print(f"{device.describe(target)}, {form}, batch {batch}: {total / 3e3:.2f} ms an iteration in kernels")
    for e in rows[:45]:
        print(f"{getattr(e, by) / 3e3:8.3f} ms {getattr(e, by) / total:6.1%} {e.count // 3:5d} x  {e.key[:150]}")


# ------------------------------------------------------------------------------------------ agreement


def agree(target: torch.device, dataset: str, iterations: int, seeds: int) -> None:
    """Print loss terms and gradient of one iteration, and the validation PSNR of short trainings, in both forms."""
    device.pick(str(target))  # float32 is float32 in both
    graphs.COMPILE_FROM = 0  # what long trainings do
    phone_name = datasets.first_phone(dataset)
    store = opening.open_or_make(dataset, phone_name)
    settings = {"iterations": iterations, "batch_size": 8, "eval_pairs": 0}

    def both(seed: int) -> dict[str, training.Trainer]:
        params = run_parameters.train_params(
            dataset, phone_name, "color+content+texture", "smoke", seed=seed, **settings
        )
        return {form: trainer_of(form, store, params, target) for form in ("default", "plain")}

    trainers = both(0)
    dtype = speed.precision(trainers["default"].params.precision, target)
    terms, gradients = {}, {}
    for form, trainer in trainers.items():
        # The authors' network: at the start of a training every pixel is alike.
        trainer.generator.load_state_dict(authors_checkpoints.load_network("iphone").state_dict())
        trainer.discriminator.requires_grad_(False)
        terms[form] = trainer.generator_losses(*trainer.batches.draw(0, 8, "generator"))
        terms[form].pop("total").backward()
        # Without the biases in the blocks: a norm follows them, and their gradient is rounding noise in any precision.
        gradients[form] = torch.cat(
            [
                p.grad.flatten()
                for n, p in trainer.generator.named_parameters()
                if not (n.startswith("blocks") and "conv" in n and n.endswith("bias"))
            ]
        )
    print(f"one batch, the authors' iPhone network, {dtype} against float32:")
    for name in terms["plain"]:
        a, b = (float(terms[form][name].detach()) for form in ("default", "plain"))
        print(f"  {name:8} {a:12.6g} against {b:12.6g}: off by {abs(a - b) / abs(b):.1e}")
    a, b = gradients["default"], gradients["plain"]
    relative_error = float((a - b).norm() / b.norm())
    print(
        f"  gradient: cosine {float(F.cosine_similarity(a, b, 0)):.6f}; norm of the difference {relative_error:.1e} of its own"
    )
    by_form: dict[str, list[float]] = {form: [] for form in trainers}
    for seed in range(seeds):
        for form, trainer in both(seed).items():
            for _ in range(iterations):
                trainer.step()
            scores = metrics.score(
                evaluation.evaluate(trainer.generator, store, store.index("val"), target), "train_script"
            )
            by_form[form].append(scores["psnr"])
    print(f"{iterations} iterations of batch 8 on {dataset}, validation PSNR (dB) of seeds 0 to {seeds - 1}:")
    for name, values in by_form.items():
        spread = f", deviation {statistics.stdev(values):.2f}" if seeds > 1 else ""
        print(f"  {name:8} {', '.join(f'{v:.2f}' for v in values)}: mean {statistics.mean(values):.2f}{spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3, help="timed in each process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--agree", action="store_true", help="compare results; --iterations of training, --rounds seeds"
    )
    parser.add_argument("--dataset", default="rig", help="whose pairs --agree trains on")
    parser.add_argument("--tried", action="store_true", help="forms that the project does not take")
    parser.add_argument("--beside", action="store_true", help="also beside a process that keeps one core busy")
    parser.add_argument("--profile", action="store_true", help="where an iteration goes")
    parser.add_argument("--form", choices=("plain", *TRIED), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.form and not a.profile:
        print(json.dumps(one(a.form, a.batch, torch.device(a.device), a.iterations)))
    elif a.agree:
        agree(torch.device(a.device), a.dataset, a.iterations, a.rounds)
    elif a.profile:
        profile(a.form or ("launched" if a.device != "cpu" else "default"), a.batch, torch.device(a.device))
    else:
        forms = TRIED if a.tried else ("plain", "default")
        (compare_beside if a.beside else compare)(forms, a.batch, a.rounds, a.device, a.iterations)


if __name__ == "__main__":
    main()
