"""Time the alignment of two photographs, and measure its accuracy, against plain full-size SIFT and RANSAC.

    python benchmarks/alignment.py [repetitions]
    python benchmarks/alignment.py --accuracy

plain    cv2.SIFT_create() with its defaults on the full photographs, FLANN matching with ratio 0.75, RANSAC at 3 px,
         and cv2.warpPerspective of the colour photograph
default  aligner.align, which also compares blocks and fits the lenses

The two forms run in turns, each in its own process on one core, like a worker of `dped align`. Ratios are of medians.
The photographs are JPEG files of the rig: its BlackBerry at the full 4160 x 3120, and its Canon enlarged from 3648 x
2432 to 5472 x 3648 (the 20 MP that Table 1 names). The City100 pairs of DPED_MIRROR are timed too, if they are there.
Errors are distances from the known geometry at the corners of the aligned image, in its pixels.

`--accuracy` aligns every phone on every scene of the rig, and a third of the pairs that show different scenes.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from processes import peak_mib

SCENES = ("china-a", "wall-1", "town-2")
CITY100 = ("001", "005", "009", "013", "017")
_ENLARGED = 1.5


def plain(phone: np.ndarray, dslr: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, dict[str, float]]:
    """Align by plain SIFT and RANSAC: return the DSLR-to-phone homography (3 x 3), and the seconds of each stage."""
    clock = [time.perf_counter()]
    gray = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (phone, dslr)]
    sift = cv2.SIFT_create()
    (ka, da), (kb, db) = (sift.detectAndCompute(g, None) for g in gray)
    clock.append(time.perf_counter())
    near = cv2.FlannBasedMatcher({"algorithm": 1, "trees": 5}, {"checks": 50}).knnMatch(da, db, k=2)
    good = [a for a, b in near if a.distance < 0.75 * b.distance]
    a = np.array([ka[m.queryIdx].pt for m in good])
    b = np.array([kb[m.trainIdx].pt for m in good])
    h = cv2.findHomography(b, a, cv2.RANSAC, 3.0)[0]
    clock.append(time.perf_counter())
    cv2.warpPerspective(phone, h, dslr.shape[1::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    clock.append(time.perf_counter())
    return h, dict(zip(("keypoints", "match", "resample"), np.diff(clock), strict=True))


def timed(phone: np.ndarray, dslr: np.ndarray, size: tuple[int, int]):
    """Align by ``aligner.align``: return the alignment, and the seconds of each stage."""
    from dped_lib.alignment import aligner, keypoints, refinement

    stages = (
        (keypoints, "detect", "keypoints"),
        (aligner._Aligner, "_match_keypoints", "match"),
        (aligner._Aligner, "_estimate_homography", "match"),
        (refinement, "refine", "refine"),
        (aligner._Aligner, "_crop_to_intersection", "resample"),
        (aligner._Aligner, "_resample", "resample"),
    )
    seconds: dict[str, float] = defaultdict(float)
    running: list[str] = []  # the refinement also detects keypoints: that time is its own

    def clocked(function, stage: str):
        def run(*args, **kwargs):
            if running:
                return function(*args, **kwargs)
            running.append(stage)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[running.pop()] += time.perf_counter() - started

        return run

    with contextlib.ExitStack() as patches:
        for owner, name, stage in stages:
            patches.enter_context(mock.patch.object(owner, name, clocked(getattr(owner, name), stage)))
        started = time.perf_counter()
        aligned = aligner.align(phone, dslr, size)
        whole = time.perf_counter() - started
    return aligned, {**seconds, "rest": whole - sum(seconds.values())}


def run(form: str, files: list[str], size: tuple[int, int]) -> dict:
    """Align one pair by one form: return seconds of each stage, errors if the geometry is known, and peak memory."""
    import scipy.optimize  # noqa: F401 - the refinement needs it; a worker imports it once, not for every pair

    from dped_lib.alignment import geometry
    from dped_lib.data import image_decoding, rig

    cv2.setNumThreads(1)
    started = time.perf_counter()
    phone, dslr = (image_decoding.read_photograph(Path(f)) for f in files)
    seconds = {"decode": time.perf_counter() - started}
    # Both forms are judged at the same points: the corners of our aligned image.
    aligned, stages = timed(phone, dslr, size)
    corners = geometry.corners(*aligned.report.size)
    if form == "plain":
        h, stages = plain(phone, dslr, size)
        mapped = geometry.apply_homography(h, aligned.to_dslr(corners))
    else:
        mapped = aligned.to_phone(corners)
    seconds |= stages
    result = {
        "seconds": seconds,
        "total": sum(seconds.values()),
        "peak_mib": peak_mib(),
    }
    truth = Path(files[0]).with_suffix(".json")
    if truth.is_file():
        name = json.loads(truth.read_text())["scene"]
        frames = rig.shoot(name, scale=1.0, cameras=("blackberry", "dslr"))
        dslr_xy = (aligned.to_dslr(corners) + 0.5) / _ENLARGED - 0.5
        true = rig.map_points(frames["dslr"], frames["blackberry"], dslr_xy)
        unit = aligned.step * aligned.map.scale_at(aligned.to_dslr(corners).mean(0))
        result["errors"] = (np.linalg.norm(mapped - true, axis=1) / unit).tolist()
    return result


def make_photographs(folder: Path) -> list[list[str]]:
    """Write full-size rig photographs as JPEG files with the name of their scene: return the pairs of files."""
    from dped_lib.data import rig

    pairs = []
    for name in SCENES:
        frames = rig.shoot(name, scale=1.0, cameras=("blackberry", "dslr"))
        files = [folder / f"{name}-{camera}.jpg" for camera in frames]
        files[0].write_bytes(frames["blackberry"].jpeg)
        large = cv2.resize(frames["dslr"].image, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(files[1]), large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        files[0].with_suffix(".json").write_text(json.dumps({"scene": name}))
        pairs.append([str(f) for f in files])
    return pairs


def time_forms(title: str, pairs: list[list[str]], size: tuple[int, int], repetitions: int) -> None:
    """Run both forms in turns on all pairs, and print their medians."""
    results: dict[str, list[dict]] = {"plain": [], "default": []}
    for _ in range(repetitions):
        for pair in pairs:
            for form, measured in results.items():
                command = [sys.executable, __file__, "--one", form, *map(str, size), *pair]
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                measured.append(json.loads(done.stdout.splitlines()[-1]))
    print(title)
    for form, measured in results.items():
        total = statistics.median(r["total"] for r in measured)
        stages = {k: statistics.median(r["seconds"].get(k, 0.0) for r in measured) for k in measured[0]["seconds"]}
        errors = [e for r in measured for e in r.get("errors", [])]
        accuracy = (
            f"; error median {np.median(errors):.2f} px, 95th percentile {np.percentile(errors, 95):.2f} px"
            if errors
            else ""
        )
        print(f"  {form:8} {total:6.2f} s a pair ({', '.join(f'{k} {v:.2f}' for k, v in stages.items())}){accuracy}")
        if form == "default":
            peak = max(r["peak_mib"] for r in measured)
            print(f"  {'':8} {60 / total * 2:.0f} pairs a minute on two cores; peak memory {peak:.0f} MiB a worker")
    ratio = statistics.median(r["total"] for r in results["plain"]) / statistics.median(
        r["total"] for r in results["default"]
    )
    print(f"  default is {ratio:.1f} times as fast as plain")


def accuracy() -> None:
    """Print the errors against the known geometry, and the verdicts on pairs of different scenes.

    Two takes of one photograph share content, so they are not such a pair.
    """
    from dped_lib import paper
    from dped_lib.alignment import aligner
    from dped_lib.data import rig

    scenes, images = rig.scenes(), {}
    errors: dict[str, list[float]] = {phone: [] for phone in paper.PHONES}
    for scene in scenes:
        frames = rig.shoot(scene.name)
        for phone in paper.PHONES:
            aligned = aligner.align(frames[phone].image, frames["dslr"].image, (400, 540))
            errors[phone] += rig.alignment_error(aligned, frames[phone], frames["dslr"]).tolist()
        for camera, frame in frames.items():
            images[scene.name, camera] = frame.image
    errors["all"] = [e for values in errors.values() for e in values]
    for phone, values in errors.items():
        median, high = np.median(values), np.percentile(values, 95)
        print(
            f"{phone:10} {len(values)} corners: median {median:.3f} px, 95th percentile {high:.3f} px, "
            f"largest {max(values):.2f} px",
            flush=True,
        )
    verdicts: Counter = Counter()
    for i, a in enumerate(scenes):
        for j, b in enumerate(scenes):
            # We take a third of all combinations, with each phone equally often.
            if (a.kind, a.photograph) == (b.kind, b.photograph) or (i + 2 * j) % 3:
                continue
            phone = paper.PHONES[(i + j) // 3 % 3]
            verdicts[aligner.align(images[a.name, phone], images[b.name, "dslr"], (400, 540)).report.verdict] += 1
    print(f"{sum(verdicts.values())} pairs of different scenes: {dict(verdicts)}")


def main() -> None:
    if sys.argv[1:2] == ["--accuracy"]:
        accuracy()
        return
    if sys.argv[1:2] == ["--one"]:
        form, height, width, *files = sys.argv[2:]
        print(json.dumps(run(form, files, (int(height), int(width)))))
        return
    from dped_lib import paper

    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    with tempfile.TemporaryDirectory() as folder:
        time_forms("13 + 20 MP (rig)", make_photographs(Path(folder)), paper.ALIGNED_SIZE, repetitions)
    mirror = os.environ.get("DPED_MIRROR", "")
    city = Path(mirror) / "ngchc" / "CameraSR" / "City100"
    if mirror and city.is_dir():
        names = [[str(city / f"City100_{c}" / f"{n}H.PNG") for c in ("iPhoneX", "NikonD5500")] for n in CITY100]
        time_forms("City100 (840 x 600 and 1218 x 870)", names, (560, 756), repetitions)
    else:
        print("City100: not timed, because DPED_MIRROR does not have it")


if __name__ == "__main__":
    main()
