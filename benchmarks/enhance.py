"""Whole photographs through the authors' iPhone network: plain PyTorch against `dped_lib.enhance`, in turns.

    python benchmarks/enhance.py [--size 1920x1080 ...] [--rounds N] [--device cpu|cuda]
    python benchmarks/enhance.py --command        whole commands: a JPEG, from the start of the process to the finished file
    python benchmarks/enhance.py --memory         the default and the exact path under --max-memory, against no bound
    python benchmarks/enhance.py --large 20|100   one photograph of that many megapixels under 2 or 4 GiB
    python benchmarks/enhance.py --tried          against what the project does not use: torch.compile, ONNX Runtime and OpenVINO
    python benchmarks/enhance.py ... --beside     each run beside a process that keeps one core busy

plain    the whole image through the network as one would write it: float32, N x C x H x W, nn.InstanceNorm2d, the system's allocator
default  what `dped enhance` does on this machine: bfloat16 where it is native
exact    `dped enhance --precision float32`
compiled torch.compile of the project's network, bfloat16, channels-last; its seconds hold no compiling, which is said beside them
onnx     what `dped export` writes, by ONNX Runtime, float32; its seconds hold no loading
openvino what `dped export` writes, by OpenVINO in bfloat16; openvino-f32 in float32; its seconds hold no loading. Left out, and said,
         where OpenVINO is not installed (pip install openvino; the project does not need it)

Each run is a process of its own (the allocator's habits and the peak memory cannot be taken back), the forms in turns; ratios are of
medians. A form is timed on its process's first photograph, after a thumbnail that loads the libraries; the second photograph is told
beside it. The tried forms prepare themselves with the first photograph's size, so for them the two are the second and third. The floor is the larger of the
multiplications over the measured peak of a matrix product in the type used, and of the bytes over the measured bandwidth of a
copy. The photograph is one of the authors' iPhone photographs, enlarged (DPED_MIRROR, or fetched).
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from processes import busy, peak_mib

WEIGHTS = "authors:iphone"
#: Multiply-adds of the network a pixel: two 9x9 layers between 3 and 64 channels, ten 3x3 layers of 64.
OPERATIONS = 2 * (2 * 81 * 3 * 64 + 10 * 9 * 64 * 64)
#: Features that have to move to and from memory at least when the norm needs the whole layer first: each of eight normed layers
#: written once and read once, each of four skips written and read once.
MOVES = 2 * (8 + 4) * 64
FORMS = ("plain", "default", "exact")
TRIED = ("compiled", "onnx", "openvino", "openvino-f32")
#: What a user would write around the network, in one file.
SCRIPT = """
import sys
import numpy as np
import torch
from PIL import Image
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        self.norm1, self.norm2 = (nn.InstanceNorm2d(64, eps=1e-3, affine=True) for _ in range(2))

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        return x + torch.relu(self.norm2(self.conv2(y)))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 64, 9, padding=4), nn.Conv2d(64, 3, 9, padding=4)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.conv1, self.conv2 = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, image):
        x = self.blocks(torch.relu(self.head(image)))
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return torch.tanh(self.tail(x)) * 0.58 + 0.5


def load(file, device):
    state = torch.load(file, weights_only=True)
    model = Plain()
    model.load_state_dict(state)
    return model.eval().to(device)


@torch.inference_mode()
def enhance(model, pixels, device):
    x = torch.from_numpy(pixels).to(device).permute(2, 0, 1).unsqueeze(0).float() / 255
    y = model(x.contiguous())[0].permute(1, 2, 0)
    return (y.clamp(0, 1) * 255).round().byte().cpu().numpy()


if __name__ == "__main__":
    weights, source, target = sys.argv[1:]
    pixels = np.array(Image.open(source).convert("RGB"))
    Image.fromarray(enhance(load(weights, "cpu"), pixels, "cpu")).save(target, quality=95)
"""


def write_plain(folder: Path) -> None:
    """The user's script and weights, as they would lie on a disk."""
    import torch

    from dped_lib.data import network_files

    torch.save(network_files.resolve(WEIGHTS).state_dict(), folder / "plain.pt")
    (folder / "plain.py").write_text(SCRIPT)


def photograph(width: int, height: int) -> np.ndarray:
    """One of the authors' photographs at that size, uint8."""
    import cv2

    from dped_lib.data import downloads, image_decoding

    (file,) = downloads.fetch_all([k for k in downloads.keys("hd") if k.endswith("/0.png")], "a photograph")
    return cv2.resize(image_decoding.read_photograph(file), (width, height), interpolation=cv2.INTER_CUBIC)


def machine(dtype, device) -> tuple[float, float]:
    """Measured operations a second of a matrix product, and bytes a second of a copy (each byte read and written counts)."""
    import torch

    def best(work, times=5):
        seconds = []
        for _ in range(times):
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    size = 4096 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(64 << 20, device=device)
    c = torch.empty_like(b)
    a @ a
    return 2 * size**3 / best(lambda: a @ a), 2 * b.nbytes / best(lambda: c.copy_(b))


def one(form: str, folder: Path, device: str, limit: str) -> dict:
    """Seconds and peak memory of one form on the photograph in ``folder``; the result is left there."""
    pixels = np.load(folder / "photograph.npy")
    small = np.ascontiguousarray(pixels[:64, :96])
    import torch

    from dped_lib.base import device as devices

    target = devices.pick(device)
    if form in TRIED:
        dtype, said, run = tried(form, folder, pixels, target)
    elif form == "plain":
        torch.backends.cudnn.allow_tf32 = True  # PyTorch's own default, which our devices turn off
        sys.path.insert(0, str(folder))
        import plain

        model = plain.load(folder / "plain.pt", target)
        dtype, said = torch.float32, "whole image"

        def run(image):
            return plain.enhance(model, image, target)

    else:
        from dped_lib.data import network_files
        from dped_lib.enhance import enhancement

        bound = {"": None, "none": 1 << 50}.get(limit) if limit in ("", "none") else enhancement.parse_size(limit)
        precision = "auto" if form == "default" else "float32"
        engine = enhancement.engine(network_files.resolve(WEIGHTS), precision, device, bound)
        dtype = engine.dtype
        said = engine.plan(*pixels.shape[:2], held=enhancement.resident() + pixels.nbytes).describe()
        print(said, file=sys.stderr, flush=True)
        run = engine
    if form not in TRIED:  # those take the size that they were prepared for
        run(small)
    if target.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    enhanced = run(pixels)
    first = seconds = time.perf_counter() - start
    if target.type == "cpu":
        start = time.perf_counter()
        run(pixels)
        later = time.perf_counter() - start
    if target.type == "cuda":  # its first photograph of a size also waits for memory and for the choice of kernels
        times = []
        for _ in range(5):
            start = time.perf_counter()
            run(pixels)
            times.append(time.perf_counter() - start)
        seconds = later = statistics.median(times)
    np.save(folder / f"{form}.npy", enhanced)
    memory = torch.cuda.max_memory_allocated() / 2**20 if target.type == "cuda" else peak_mib()
    operations, bandwidth = machine(dtype, target)
    area = pixels.shape[0] * pixels.shape[1]
    floor = max(OPERATIONS * area / operations, MOVES * dtype.itemsize * area / bandwidth)
    return {
        "seconds": seconds,
        "first": first,
        "later": later,
        "memory": memory,
        "plan": said,
        "dtype": str(dtype).removeprefix("torch."),
        "floor": floor,
        "operations": operations,
        "bandwidth": bandwidth,
    }


def tried(form: str, folder: Path, pixels: np.ndarray, device):
    """(type, what is said, function) of a form that the project does not use, ready to run on ``pixels``."""
    import torch

    from dped_lib.data import network_files
    from dped_lib.enhance import onnx_export

    model = network_files.resolve(WEIGHTS).eval().to(device)
    if form == "onnx":
        import onnxruntime

        onnx_export.export(model, folder / "net.onnx", {}, overwrite=True)
        session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])

        def through(x):
            return torch.from_numpy(session.run(None, {"image": x.numpy()})[0])

        dtype = torch.float32
    elif form.startswith("openvino"):
        import openvino

        dtype = torch.float32 if form == "openvino-f32" else torch.bfloat16
        onnx_export.export(model, folder / "net.onnx", {}, overwrite=True)
        network = openvino.Core().read_model(folder / "net.onnx")
        network.reshape({0: [1, 3, *pixels.shape[:2]]})
        hint = {"INFERENCE_PRECISION_HINT": "f32" if dtype == torch.float32 else "bf16"}
        session = openvino.Core().compile_model(network, "CPU", hint)

        def through(x):
            return torch.from_numpy(session(x.numpy())[0])

    else:
        dtype = torch.bfloat16
        compiled = torch.compile(model.to(dtype, memory_format=torch.channels_last))

        def through(x):
            return compiled(x.to(dtype, memory_format=torch.channels_last)).float()

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image).to(device).permute(2, 0, 1).unsqueeze(0).float() / 255
        y = through(x.contiguous())[0].permute(1, 2, 0)
        return (y.clamp(0, 1) * 255).round().byte().cpu().numpy()

    start = time.perf_counter()
    run(pixels)
    return dtype, f"whole image; the first run, compiling included, took {time.perf_counter() - start:.1f} s", run


def measure(form: str, folder: Path, device: str, limit: str = "", beside: bool = False) -> dict:
    if form.startswith("openvino") and not importlib.util.find_spec("openvino"):
        print(f"{form}: left out, because OpenVINO is not installed (pip install openvino)", file=sys.stderr)
        return {}
    command = [sys.executable, __file__, "--one", form, "--folder", str(folder), "--device", device, "--limit", limit]
    with busy(beside):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def difference(a: np.ndarray, b: np.ndarray) -> str:
    """PSNR and largest difference of two 8-bit pictures."""
    steps = np.abs(a.astype(np.int16) - b)
    error = np.square(steps.astype(np.float64)).mean()
    decibels = "equal" if error == 0 else f"{10 * np.log10(255**2 / error):.1f} dB"
    return f"{decibels}, at most {steps.max()} step(s) of 8 bits, {(steps > 0).mean():.1%} of the values differ"


def tell(name: str, runs: list[dict], area: int) -> None:
    runs = [r for r in runs if r]
    if not runs:
        print(f"  {name:8} did not finish")
        return
    seconds, memory = (statistics.median(r[k] for r in runs) for k in ("seconds", "memory"))
    first = runs[0]
    floor = statistics.median(r["floor"] for r in runs)
    print(
        f"  {name:8} {seconds:7.3f} s, peak memory {memory:6.0f} MiB; {OPERATIONS * area / seconds / 1e9:.0f} GFLOP/s; floor {floor:.3f} s "
        f"({first['dtype']}: {first['operations'] / 1e9:.0f} GFLOP/s, {first['bandwidth'] / 1e9:.0f} GB/s): {seconds / floor:.1f} times the floor"
    )
    before = f"; the first photograph {statistics.median(r['first'] for r in runs):.2f} s, "
    before += f"a later one {statistics.median(r['later'] for r in runs):.2f} s"
    print(f"  {'':8} {first['plan']}{before}")


def compare(
    sizes: list[tuple[int, int]], rounds: int, device: str, forms: tuple[str, ...] = FORMS, beside: bool = False
) -> None:
    for width, height in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_plain(folder)
            np.save(folder / "photograph.npy", photograph(width, height))
            by_form: dict[str, list[dict]] = {form: [] for form in forms}
            for _ in range(rounds):
                for form, runs in by_form.items():
                    runs.append(measure(form, folder, device, beside=beside))
            results = {form: np.load(folder / f"{form}.npy") for form, runs in by_form.items() if all(runs)}
        load = ", beside a busy process" if beside else ""
        print(f"{width} x {height}, {device}, median of {rounds} round(s) in turns{load}")
        for form, runs in by_form.items():
            tell(form, runs, width * height)
        seconds = {f: statistics.median(r["seconds"] for r in by_form[f]) for f in results}
        memory = {f: statistics.median(r["memory"] for r in by_form[f]) for f in results}
        for form in forms[1:]:
            if "plain" in seconds and form in seconds:
                print(
                    f"  {form} is {seconds['plain'] / seconds[form]:.2f} times as fast as plain, in {memory[form] / memory['plain']:.2f} of its "
                    f"memory; against plain {difference(results[form], results['plain'])}"
                )
        for peer, ours in (("openvino", "default"), ("openvino-f32", "exact")):
            if peer in seconds and ours in seconds:
                print(f"  {ours} is {seconds[peer] / seconds[ours]:.2f} times as fast as {peer}")
        if "default" in results and "exact" in results:
            print(f"  default against exact: {difference(results['default'], results['exact'])}")


def memory(rounds: int, device: str) -> None:
    width, height = 4000, 3000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "photograph.npy", photograph(width, height))
        print(f"{width} x {height}, {device}, median of {rounds} round(s) in turns")
        by_limit: dict[str, list[dict]] = {"none": [], "4GiB": [], "2GiB": [], "1GiB": []}
        for _ in range(rounds):
            for limit, runs in by_limit.items():
                runs.append(measure("default", folder, device, limit))
        for limit, runs in by_limit.items():
            tell(limit, runs, width * height)


def large(megapixels: int, device: str, form: str) -> None:
    width, height, limit = {20: (5472, 3648, "2GiB"), 100: (11648, 8736, "4GiB")}[megapixels]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "photograph.npy", photograph(width, height))
        print(f"{width} x {height}, {device}, {form}, --max-memory {limit}", flush=True)
        tell(form, [measure(form, folder, device, limit)], width * height)


def commands(rounds: int) -> None:
    """One 1920x1080 JPEG to a finished JPEG, whole processes. The first round is as after installation: no bytecode of ours."""
    from PIL import Image

    import dped_lib

    dped = str(Path(sys.executable).with_name("dped"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_plain(folder)
        Image.fromarray(photograph(1920, 1080)).save(folder / "photograph.jpg", quality=95)
        forms = {
            "plain": [sys.executable, "plain.py", "plain.pt", "photograph.jpg", "plain.jpg"],
            "default": [dped, "enhance", "photograph.jpg", "default.jpg", "--weights", WEIGHTS, "--overwrite"],
        }
        by_form: dict[str, list[float]] = {form: [] for form in forms}
        for at in range(rounds):
            for form, command in forms.items():
                if at == 0:  # pip compiles what it installs to bytecode, but not a checkout
                    shutil.rmtree(Path(dped_lib.__file__).parent / "__pycache__", ignore_errors=True)
                start = time.perf_counter()
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
                by_form[form].append(time.perf_counter() - start)
        print("a 1920 x 1080 JPEG, start to finished file")
        for form, seconds in by_form.items():
            rest = f", then {statistics.median(seconds[1:]):.2f} s" if seconds[1:] else ""
            print(f"  {form:8} first run {seconds[0]:.2f} s{rest}")
        ratios = [p / d for p, d in zip(by_form["plain"], by_form["default"], strict=True)]
        rest = f", then {statistics.median(ratios[1:]):.2f}" if ratios[1:] else ""
        print(f"  default is {ratios[0]:.2f} times as fast in the first run{rest}")


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size, action="append", help="width x height; several times for several")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--large", type=int, choices=(20, 100))
    parser.add_argument("--tried", action="store_true")
    parser.add_argument("--beside", action="store_true", help="beside a process that keeps one core busy")
    parser.add_argument("--forms", nargs="+", choices=FORMS + TRIED, help="only these, in turns")
    parser.add_argument("--one", choices=FORMS + TRIED, help=argparse.SUPPRESS)
    parser.add_argument("--form", choices=FORMS[1:], default="default", help="of --large")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", default="", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        print(json.dumps(one(wanted.one, wanted.folder, wanted.device, wanted.limit)))
        return
    from dped_lib.base import device as devices

    print(devices.describe(devices.pick(wanted.device)))
    if wanted.command:
        commands(wanted.rounds)
    elif wanted.memory:
        memory(wanted.rounds, wanted.device)
    elif wanted.large:
        large(wanted.large, wanted.device, wanted.form)
    else:
        forms = wanted.forms or ((*FORMS, *TRIED) if wanted.tried else FORMS)
        sizes = wanted.size or ([(1920, 1080)] if wanted.tried else [(1920, 1080), (4000, 3000)])
        compare(sizes, wanted.rounds, wanted.device, tuple(forms), wanted.beside)


if __name__ == "__main__":
    main()
