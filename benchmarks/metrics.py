"""The metrics over 400 pairs, and Figure 6 over all photographs: the quick forms of ``speed`` against the plain ones, in turns.

    python benchmarks/metrics.py [rounds]

Metrics  plain: metrics.pair_statistics, the library's definition; default: speed.pair_statistics. Beside them scikit-image: an image
         at a time, as ssim.py of the authors' code does it (scipy's fftconvolve, five scales), and its own standard SSIM. The pairs
         are the PIRM ones, and the phone's photograph stands for the result.
Figure 6 plain: shift_study.measure with losses.color_distance; default: shift_study.measure. Beside them a loop over patches and
         shifts with scipy (which shifts the photograph's window and blurs both images with each kernel), and the same loop with
         OpenCV (warpAffine, filter2D with the 21x21 kernel).

Photographs and pairs come from DPED_MIRROR, or are fetched. Without either the benchmark prints "not run". Ratios are of medians.
"""

import os
import statistics
import sys
import time
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from scipy import ndimage, signal
from skimage.metrics import structural_similarity

from dped_lib import losses, metrics, speed
from dped_lib.base import device
from dped_lib.base.errors import DpedError
from dped_lib.data import opening, photographs
from dped_lib.experiments import shift_study

PATCHES = 80  # of Figure 6, two or so a photograph


def gaussian(size: int) -> np.ndarray:
    at = np.arange(size) - (size - 1) / 2
    taps = np.exp(-(at**2) / (2 * (1.5 * size / 11) ** 2))
    return np.outer(taps, taps)[..., None] / taps.sum() ** 2


def single_pair(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return PSNR, SSIM and MS-SSIM of one pair of float64 H x W x 3 in [0, 1]."""
    scores = {"psnr": -10 * np.log10(np.square(x - y).mean() or 1e-30)}
    scores["ssim"] = structural_similarity(
        x, y, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    product, box = 1.0, np.full((2, 2, 1), 0.25)
    for scale, weight in enumerate(metrics.SCALE_WEIGHTS):
        window = gaussian(min(11, *x.shape[:2]))
        mx, my, xx, yy, xy = (
            signal.fftconvolve(z, window, mode="valid", axes=(0, 1)) for z in (x, y, x * x, y * y, x * y)
        )
        cs = (2 * (xy - mx * my) + 9e-4) / (xx - mx * mx + yy - my * my + 9e-4)
        ssim = cs * (2 * mx * my + 1e-4) / (mx * mx + my * my + 1e-4)
        last = scale + 1 == len(metrics.SCALE_WEIGHTS)
        product *= max((ssim if last else cs).mean(), 0) ** weight
        x, y = (ndimage.convolve(z, box, mode="reflect")[::2, ::2] for z in (x, y))
    return scores | {"ms_ssim": product}


def single_metrics(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    rows = [single_pair(a / 255, b / 255) for a, b in zip(x, y, strict=True)]
    scores = {k: float(np.mean([r[k] for r in rows])) for k in ("ssim", "ms_ssim")}
    return scores | {"psnr": float(np.mean([r["psnr"] for r in rows if r["psnr"] < 200]))}


def library_metrics(form: str, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the metrics by the library's plain or quick form."""
    statistics_ = {"plain": metrics.pair_statistics, "default": speed.pair_statistics}[form](x, y)
    standard, pirm = metrics.score(statistics_, "standard"), metrics.score(statistics_, "pirm_script")
    return {"ssim": standard["ssim"], "ms_ssim": pirm["ms_ssim"], "psnr": pirm["psnr"]}


def looped_figure(pictures: list[photographs.Photograph], opencv: bool) -> dict[str, float]:
    """Return Figure 6's ratios at 3 to 5 px, by kernel."""
    rng, reach, size = np.random.default_rng(0), max(shift_study.SHIFTS) + 6, 100
    kernels = {k: losses.kernel_1d(k) for k in losses.KERNELS}
    squares: dict[str, list[float]] = {k: [] for k in ("mse", *kernels)}
    for at in range(PATCHES):
        image = pictures[at % len(pictures)].image
        y, x = (rng.integers(reach, n - size - reach + 1) for n in image.shape[:2])
        window = image[y - reach : y + size + reach, x - reach : x + size + reach]
        still = window[reach:-reach, reach:-reach].astype(np.float32) / 255
        for shift in shift_study.SHIFTS:
            angle = rng.uniform(0, 2 * np.pi)
            right, down = shift * np.cos(angle), shift * np.sin(angle)
            if opencv:
                matrix = np.array([[1, 0, right + reach], [0, 1, down + reach]])
                flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
                moved = cv2.warpAffine(window, matrix, (size, size), flags=flags).astype(np.float32) / 255
            else:
                moved = ndimage.shift(window.astype(np.float32), (-down, -right, 0))[reach:-reach, reach:-reach] / 255
            losses_ = {"mse": np.square(moved - still).mean()}
            for name, taps in kernels.items():
                if opencv:
                    a, b = (
                        cv2.filter2D(z, -1, np.outer(taps, taps), borderType=cv2.BORDER_CONSTANT)
                        for z in (moved, still)
                    )
                else:
                    a, b = (
                        ndimage.correlate1d(ndimage.correlate1d(z, taps, 0, mode="constant"), taps, 1, mode="constant")
                        for z in (moved, still)
                    )
                losses_[name] = np.square(a - b).mean()
            if shift in (3, 4, 5):
                for name, value in losses_.items():
                    squares[name].append(float(value))
    return {k: np.mean(squares["mse"]) / np.mean(squares[k]) for k in kernels}


def library_figure(form: str, pictures: list[photographs.Photograph]) -> dict[str, float]:
    """Return Figure 6's ratios at 3 to 5 px, by kernel, by the library's plain or quick form."""
    os.environ["DPED_SPEED"] = "0" if form == "plain" else "1"
    mean = shift_study.measure(pictures, PATCHES).mean()
    os.environ["DPED_SPEED"] = "1"
    chosen = [shift_study.SHIFTS.index(s) for s in (3, 4, 5)]
    return {k: mean["mse"][chosen].mean() / mean[k][chosen].mean() for k in losses.KERNELS}


def compare(title: str, forms: dict, rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    results = {}
    for _ in range(rounds):
        for name, work in forms.items():
            start = time.perf_counter()
            results[name] = work()
            seconds[name].append(time.perf_counter() - start)
    print(title)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    for name, median in medians.items():
        said = ", ".join(f"{k} {v:.4f}" for k, v in results[name].items())
        ratio = "" if name == "default" else f"; default is {median / medians['default']:.1f} times as fast"
        print(f"  {name:12} {median:7.3f} s ({said}){ratio}")


def main() -> None:
    import torch

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{device.describe(torch.device('cpu'))}, median of {rounds} rounds in turns")
    try:
        store = opening.open_or_make("pirm", "iphone")
        pictures = [replace(p, read=partial(np.asarray, p.image)) for p in photographs.of_dataset("pirm")]  # read once
    except DpedError as error:
        print(f"not run: {error}")
        return
    phone, dslr = np.array(store.phone), np.array(store.dslr)
    speed.pair_statistics(phone[:4], dslr[:4])
    compare(
        f"metrics of {len(phone)} pairs",
        {
            "scikit-image": lambda: single_metrics(phone, dslr),
            "plain": lambda: library_metrics("plain", phone, dslr),
            "default": lambda: library_metrics("default", phone, dslr),
        },
        rounds,
    )
    compare(
        f"Figure 6, {PATCHES} patches of {len(pictures)} photographs, MSE over colour loss at 3 to 5 px",
        {
            "scipy": lambda: looped_figure(pictures, False),
            "OpenCV": lambda: looped_figure(pictures, True),
            "plain": lambda: library_figure("plain", pictures),
            "default": lambda: library_figure("default", pictures),
        },
        rounds,
    )


if __name__ == "__main__":
    main()
