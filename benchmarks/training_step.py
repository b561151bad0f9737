"""One training iteration (full loss, both networks) as the project runs it, against the plain form, in turns.

    python benchmarks/training_step.py [batch] [rounds]

plain    float32, contiguous layout, the system's allocator
default  what `training.train` does on this machine: bfloat16 where native, channels-last, pages kept

Each form runs in a process of its own (the allocator cannot be switched back), the two in turns; ratios are of medians.
The floor is the iteration's arithmetic over the measured peak of a matrix product in the type used.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dped_lib import config, device, patches, training

#: Multiply-adds counted twice, for one 100x100 pair: three passes of the generator for its step, one for the
#: discriminator's, VGG-19 to relu5_4 forward for the target, and forward and back to the image for the enhanced one;
#: the discriminator's own share is under 2 %.
_GENERATOR, _VGG = 8.0e9, 8.2e9
OPERATIONS = 4 * _GENERATOR + 3 * _VGG


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Measured operations a second of a square matrix product."""
    a = torch.randn(size, size).to(dtype)
    a @ a
    best = min(_timed(lambda: a @ a) for _ in range(5))
    return 2 * size**3 / best


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one(form: str, batch: int, iterations: int = 3) -> dict:
    """Median seconds an iteration of one form, on random pairs."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        pairs = (
            patches.Pair(
                str(i), str(i), *rng.integers(0, 256, (2, 100, 100, 3), dtype=np.uint8), "train" if i else "val"
            )
            for i in range(8)
        )
        store = patches.write_store(Path(folder) / "store", pairs, {"tier": "rig", "phone": "iphone", "report": {}})
        precision = "float32" if form == "plain" else "auto"
        params = config.TrainParams("rig", "iphone", "color+content+texture", batch_size=batch, precision=precision)
        if form == "default":
            device.keep_pages()
        trainer = training.Trainer(params, store, torch.device("cpu"))
        if form == "plain":
            for net in (trainer.generator, trainer.discriminator, trainer.objective.vgg):
                net.to(memory_format=torch.contiguous_format)
            trainer._draw = lambda iteration, size, stream: list(trainer.batches.draw(iteration, size, stream))
        trainer.step()
        seconds = statistics.median(_timed(trainer.step) for _ in range(iterations))
    return {"seconds": seconds, "peak": peak(trainer.dtype), "dtype": str(trainer.dtype)}


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ("plain", "default"):
        print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
        return
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found: dict[str, list[dict]] = {"plain": [], "default": []}
    for _ in range(rounds):
        for form, runs in found.items():
            out = subprocess.run(
                [sys.executable, __file__, form, str(batch)], capture_output=True, text=True, check=True
            ).stdout
            runs.append(json.loads(out.splitlines()[-1]))
    print(f"{device.describe(torch.device('cpu'))}, batch {batch}, full loss, median of {rounds} rounds in turns")
    medians = {}
    for form, runs in found.items():
        medians[form] = statistics.median(r["seconds"] for r in runs)
        floor = OPERATIONS * batch / statistics.median(r["peak"] for r in runs)
        print(
            f"{form:8} {medians[form]:6.2f} s an iteration; floor {floor:5.2f} s ({runs[0]['dtype']} peak {runs[0]['peak'] / 1e9:.0f} GFLOP/s): {medians[form] / floor:.1f} times the floor"
        )
    print(f"default is {medians['plain'] / medians['default']:.2f} times as fast as plain")


if __name__ == "__main__":
    main()
