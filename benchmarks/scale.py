"""How time and memory grow with the dataset: aligning pairs of photographs, and the store of patch pairs.

    python benchmarks/scale.py align 100 300 1000     pairs of photographs (linked copies of eight pairs of the rig)
    python benchmarks/scale.py store 10000 40000 160000    patch pairs (random pixels), written, opened, and drawn from

Each size runs in a process of its own. Printed are seconds, processor seconds of all processes, the peak memory of the
main process (of `align` the one that collects what the workers find), and seconds for 1000 pairs: they are constant if
time grows linearly. Pages of files that are mapped into memory, which the system takes back when it needs room, are not
counted. Needs Linux (/proc).
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from dped_lib.data import batches, builder, pair_store, rig

SCENES = 8
#: Width of the linked photographs in pixels: so small that a pair takes a fraction of a second.
WIDTHS = {"iphone": 480, "dslr": 560}


def link_photographs(folder: Path, pairs: int) -> None:
    """Write eight scenes by the iPhone and the DSLR as JPEG, and link them until there are ``pairs`` of them."""
    for camera in WIDTHS:
        (folder / camera).mkdir(parents=True)
    for number, scene in enumerate(rig.scenes()[:SCENES]):
        for camera, frame in rig.shoot(scene.name, cameras=tuple(WIDTHS)).items():
            height, width = frame.image.shape[:2]
            size = WIDTHS[camera], round(WIDTHS[camera] * height / width)
            small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            first = folder / camera / f"{number:06d}.jpg"
            cv2.imwrite(str(first), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            for copy in range(number + SCENES, pairs, SCENES):
                os.link(first, folder / camera / f"{copy:06d}.jpg")


def align(folder: Path, pairs: int) -> float:
    """Align ``pairs`` pairs, and return the seconds that it took."""
    link_photographs(folder / "photographs", pairs)
    settings = builder.Settings(size=(200, 270))
    began = time.perf_counter()
    builder.build(folder / "photographs" / "iphone", folder / "photographs" / "dslr", folder / "out", settings)
    return time.perf_counter() - began


def store(folder: Path, pairs: int) -> float:
    """Write a store, open it, and draw 20 batches of 50; return the seconds that it took."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 100, 100, 3), np.uint8)
    began = time.perf_counter()
    made = (pair_store.Pair(f"p{i}", f"photo{i // 35}", pixels[0, i % 64], pixels[1, i % 64]) for i in range(pairs))
    pair_store.write_store(folder / "store", made, {"dataset": "own", "phone": "phone", "report": {}})
    opened = pair_store.PairStore(folder / "store")
    assert len(opened) == pairs
    draw = batches.Batches(opened, "train", torch.device("cpu"), 0, augment=True)
    for i in range(20):
        draw.draw(i, 50)
    return time.perf_counter() - began


class PeakMemory(threading.Thread):
    """Watch the anonymous memory of this process, in MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = 0.0
        self.start()

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))
            self.peak = max(self.peak, int(kilobytes) / 1024)
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("align", "store"))
    parser.add_argument("pairs", type=int, nargs="+")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        memory = PeakMemory()
        with tempfile.TemporaryDirectory() as folder:
            seconds = {"align": align, "store": store}[given.what](Path(folder), given.pairs[0])
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        processor = sum(u.ru_utime + u.ru_stime for u in used)
        print(seconds, processor, memory.peak)
        return
    print(f"{given.what:>8} {'s':>9} {'processor s':>12} {'peak MiB':>9}   for 1000 pairs: s, processor s")
    for pairs in given.pairs:
        command = [sys.executable, __file__, given.what, str(pairs), "--one"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds, processor, memory = map(float, done.stdout.split())
        each = f"{1000 * seconds / pairs:9.2f} {1000 * processor / pairs:9.2f}"
        print(f"{pairs:8} {seconds:9.1f} {processor:12.1f} {memory:9.0f}   {each}", flush=True)


if __name__ == "__main__":
    main()
