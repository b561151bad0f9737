"""A dataset from two folders of photographs: paired by name, aligned and cut in parallel, resumable, one report a pair.

What is in the folder that is made:

    store/              the patch pairs (``patches.PairStore``), split by photograph
    summary.json        settings, what became of every pair of photographs, and how many windows were kept
    pairs/NAME.json     the report of one pair: alignment, and every window with its NCC
    pairs/NAME.npy      its patches; may be deleted with the others when all is done (then a change makes every pair again)
"""

import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Container, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from dped_lib import pairing, patches, paths, photofile
from dped_lib.config import one_of
from dped_lib.errors import DpedError
from dped_lib.pairing import Job, Pair, Settings
from dped_lib.progress import bar
from dped_lib.readers import natural


def store_of(out: Path) -> Path:
    """Where ``build`` puts the store of patch pairs."""
    return Path(out) / "store"


def build(
    phone_dir: Path,
    canon_dir: Path,
    out: Path,
    settings: Settings | None = None,
    *,
    on_bad: str = "error",
    workers: int | None = None,
    only: Container[str] | None = None,
    meta: dict | None = None,
    store: Path | None = None,
    label: str = "align",
) -> patches.PairStore:
    """Builds the dataset, or what is missing of it. The same photographs and settings give the same bytes.

    Args:
        phone_dir, canon_dir: photographs of the phone and of the DSLR; equal names (without suffix) are a pair.
        on_bad: ``error`` stops at a file that cannot be used or has no partner, before anything else is done where its
            header tells; ``skip`` leaves the pair out, counted and listed in the summary.
        workers: processes; as a rule one for each core. Each holds one pair of photographs: about 1 GiB at 13 + 20 MP.
        only: names of files (with suffix) to look at; None: all photographs.
        meta: more entries for the store's ``meta.json`` (tier, phone and the like).
        store: where the store goes, if not to ``store_of(out)``.

    Raises:
        DpedError: a folder without photographs, a bad file, nothing aligned, a full disk, a worker that was killed.
        KeyboardInterrupt: what is finished is kept, and the same call goes on from there.
    """
    one_of("on_bad", on_bad, ("error", "skip"))
    settings = settings or Settings()
    out = Path(out)
    bad: dict[str, str] = {}
    jobs = _jobs(Path(phone_dir), Path(canon_dir), out, settings, only, on_bad, bad)
    records: dict[str, dict] = {}
    with _workers(workers, len(jobs)) as pool:
        futures = {pool.submit(pairing.work, job): job for job in jobs}
        try:
            for done in bar(as_completed(futures), total=len(futures), label=label, unit="pair"):
                job, record = futures[done], done.result()
                if "bad" not in record:
                    records[job.name] = record
                elif on_bad == "error":
                    raise DpedError(record["bad"])
                else:
                    bad[job.name] = record["bad"]
        except BrokenProcessPool as error:
            raise DpedError(
                f"{out}: a worker process was killed, as a rule for want of memory. What is finished is kept: run the same "
                "command again, with fewer --workers."
            ) from error
    ordered = [job for job in jobs if job.name in records]
    return _finish(out, store or store_of(out), ordered, records, bad, settings, {"on_bad": on_bad, **(meta or {})})


def _jobs(phone_dir, canon_dir, out, settings, only, on_bad, bad) -> list[Job]:
    """The pairs to be made, in natural order of their names; the rest goes to ``bad`` or is an error."""
    sides = []
    for folder in (phone_dir, canon_dir):
        found = photofile.list_photographs(folder)
        sides.append({k: v for k, v in found.items() if only is None or v.name in only})
    jobs = []
    for name in sorted(sides[0].keys() | sides[1].keys(), key=natural):
        try:
            for folder, side in zip((phone_dir, canon_dir), sides, strict=True):
                if name not in side:
                    raise DpedError(
                        f"{folder}: no photograph {name!r}, but its partner is there. Add it, or skip the pair with on_bad='skip'."
                    )
                photofile.check(side[name])
        except DpedError as error:
            if on_bad == "error":
                raise
            bad[name] = str(error)
            continue
        jobs.append(Job(name, sides[0][name], sides[1][name], out / "pairs", settings))
    if not jobs:
        raise DpedError(f"{phone_dir}, {canon_dir}: no pair of photographs. {_first(bad)}".rstrip())
    return jobs


@contextmanager
def _workers(workers: int | None, jobs: int) -> Iterator[Executor]:
    if workers is not None and workers < 1:
        raise DpedError(f"workers must be at least 1, not {workers}.")
    before = {k: os.environ.get(k) for k in pairing.WORKER_ENVIRONMENT}
    os.environ.update(pairing.WORKER_ENVIRONMENT)
    # Started afresh, not forked: the libraries' threads do not survive a fork.
    pool = ProcessPoolExecutor(
        min(workers or pairing.cores(), jobs), multiprocessing.get_context("spawn"), pairing.prepare_worker
    )
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        # Nothing of a pair in hand is lost but its time: artifacts are put in place whole.
        processes = list(pool._processes.values()) if pool._processes else []
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise
    finally:
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})


def _finish(out, store, jobs, records, bad, settings, meta) -> patches.PairStore:
    report: Counter = Counter()
    for job in jobs:
        pairing.count(records[job.name], report)
    if bad:
        report["bad"] = len(bad)
    rejected = {j.name: r["report"] for j in jobs if (r := records[j.name])["report"]["verdict"] != "aligned"}
    summary = {
        "settings": asdict(settings),
        "counts": dict(sorted(report.items())),
        "rejected": {name: f"{r['verdict']}: {r['reason']}" for name, r in rejected.items()},
        "bad": dict(sorted(bad.items())),
        "pairs": {j.name: records[j.name]["digest"] for j in jobs},
    }
    paths.write_text(out / "summary.json", json.dumps(summary, indent=1))
    for file in (out / "pairs").glob(".*"):  # what a killed worker was writing
        shutil.rmtree(file, ignore_errors=True)
    if not report["read"]:
        raise DpedError(
            f"{out}: not one patch came out of {len(jobs) + len(bad)} pairs of photographs ({_words(report)}). "
            f"{out / 'summary.json'} says why. {_first(summary['rejected'] | bad)}".rstrip()
        )
    content = {**meta, "settings": asdict(settings), "pairs": summary["pairs"], "report": dict(report)}
    if (old := _stored(store)) is not None and {k: old.meta.get(k) for k in content} == json.loads(json.dumps(content)):
        return old
    known = ({"name": j.name, **records[j.name]} for j in jobs)
    return patches.write_store(store, _pairs(jobs, records), content, known)


def _stored(store: Path) -> patches.PairStore | None:
    try:
        return patches.PairStore(store)
    except DpedError:
        return None


def _pairs(jobs: list[Job], records: dict[str, dict]) -> Iterator[Pair]:
    for job in jobs:
        if not records[job.name]["counts"]:
            continue
        kept = [w for w in records[job.name]["windows"] if w["verdict"] in _stored_verdicts(job.settings)]
        for window, (phone, canon) in zip(kept, np.load(job.patches_file, mmap_mode="r"), strict=True):
            yield Pair(f"{job.name}/{window['y']}-{window['x']}", job.name, np.array(phone), np.array(canon))


def _stored_verdicts(settings: Settings) -> tuple[str, ...]:
    from dped_lib import extraction

    return (extraction.KEPT, extraction.FLAT) if settings.flat == "keep" else (extraction.KEPT,)


def _first(reasons: dict[str, str]) -> str:
    return f"The first: {next(iter(reasons.values()))}" if reasons else ""


def _words(report: Counter) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(report.items()) if number)


# ---------------------------------------------------------------------------------------------- the official layout


def write_official(store: patches.PairStore, folder: Path, phone: str) -> int:
    """Writes a store in the folder layout of the official download, for other code; returns the number of pairs.

    ``folder/PHONE/training_data/{PHONE,canon}/N.jpg`` and ``folder/PHONE/test_data/patches/{PHONE,canon}/N.jpg``, numbered
    photograph by photograph. That layout has no validation split: ours goes to the end of the training data, where
    ``readers.read_official`` takes the last 2 % for it. JPEG at quality 100 without chroma subsampling: within a level or
    two of the store, as the official files are of theirs.
    """
    target = Path(folder) / phone
    order = {"train": np.concatenate([store.index("train"), store.index("val")]), "test": store.index("test")}
    with paths.atomic_path(target) as part:
        for split, index in order.items():
            place = part / ("training_data" if split == "train" else "test_data/patches")
            for camera, images in ((phone, store.phone), ("canon", store.canon)):
                (place / camera).mkdir(parents=True)
                for number, i in enumerate(bar(index, label=f"write {split} {camera}", unit="patch", brief=True)):
                    options = [
                        cv2.IMWRITE_JPEG_QUALITY,
                        100,
                        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
                    ]
                    done, data = cv2.imencode(".jpg", images[i][..., ::-1], options)
                    if not done:
                        raise DpedError(f"{place / camera}: OpenCV could not encode patch {number}.")
                    (place / camera / f"{number}.jpg").write_bytes(data.tobytes())
    return len(store)
