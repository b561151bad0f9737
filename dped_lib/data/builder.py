"""A dataset from two folders of photographs: paired by name, aligned and cut in parallel, resumable, one report a pair.

What is in the folder that is made:

    store/              the patch pairs (``pair_store.PairStore``), split by photograph
    summary.json        settings, what became of every pair of photographs, and how many windows were kept
    pairs/NAME.json     the report of one pair: alignment, and every window with its NCC
    pairs/NAME.npy      its patches; pairs/ may be deleted when all is done, but then a change makes every pair again
"""

import contextlib
import fcntl
import json
import shutil
import sys
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from dped_lib.alignment import extraction
from dped_lib.base import paths, workers
from dped_lib.data import pair_store, pairing, photofile
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError
from dped_lib.data.pairing import Job, Pair, Settings
from dped_lib.base.progress import bar
from dped_lib.data.readers import natural


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
) -> pair_store.PairStore:
    """Builds the dataset, or what is missing of it. The same photographs and settings give the same bytes.

    Args:
        phone_dir, canon_dir: photographs of the phone and of the DSLR; equal names (without suffix) are a pair.
        on_bad: ``error`` stops at a file that cannot be used or has no partner, before anything else is done where its
            header tells; ``skip`` leaves the pair out, counted and listed in the summary.
        workers: processes; as a rule one for each core. Each holds one pair of photographs: half a GiB at 13 + 20 MP.
        only: names of files (with suffix) to look at; None: all photographs.
        meta: more entries for the store's ``meta.json`` (dataset, phone and the like).
        store: where the store goes, if not to ``store_of(out)``.

    Raises:
        DpedError: a folder without photographs, a bad file, nothing aligned, a full disk, a worker that was killed.
        KeyboardInterrupt: what is finished is kept, and the same call goes on from there.
    """
    one_of("on_bad", on_bad, ("error", "skip"))
    if workers is not None and workers < 1:
        raise DpedError(f"workers must be at least 1, not {workers}.")
    settings = settings or Settings()
    out = Path(out)
    store = store or store_of(out)
    _refuse_to_replace(store, "meta.json")
    bad: dict[str, str] = {}
    jobs = _jobs(Path(phone_dir), Path(canon_dir), out, settings, only, on_bad, bad)
    with _alone(out):
        records = _work(jobs, min(workers or pairing.cores(), len(jobs)), out, on_bad, bad, label)
        finished = [job for job in jobs if job.name in records]
        return _finish(out, store, finished, records, bad, settings, {"on_bad": on_bad, **(meta or {})})


def _refuse_to_replace(folder: Path, sign: str) -> None:
    """A folder that is replaced as a whole must be ours: one that we made has the file ``sign`` in it."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / sign).is_file()):
        raise DpedError(f"{folder}: is there already and was not made by dped align. Move it away, or write elsewhere.")


def _jobs(phone_dir, canon_dir, out, settings, only, on_bad, bad) -> list[Job]:
    """The pairs to be made, in natural order of their names; the rest goes to ``bad`` or is an error."""
    sides = [photofile.list_photographs(folder, only) for folder in (phone_dir, canon_dir)]
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


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Only one process at a time works in ``out``; the lock ends with the process, however that ends."""
    try:
        (out / "pairs").mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "w")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise DpedError(f"{out}: cannot be written ({error}). Name another folder for the result.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{out}: another process is making this dataset; waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # What a killed process was writing.
        for litter in (*out.glob(".store.*"), *out.glob(".summary.json.*"), *(out / "pairs").glob(".*")):
            shutil.rmtree(litter, ignore_errors=True)
        yield


def _work(jobs, count, out, on_bad, bad, label) -> dict[str, dict]:
    """The record of each job by its name, without windows; a job with a bad file goes to ``bad`` or is an error."""
    records: dict[str, dict] = {}
    try:
        with contextlib.closing(workers.run(pairing.work, jobs, count)) as finished:
            for number, record in bar(finished, total=len(jobs), label=label, unit="pair"):
                name = jobs[number].name
                if "bad" not in record:
                    records[name] = record
                elif on_bad == "error":
                    raise DpedError(record["bad"])
                else:
                    bad[name] = record["bad"]
        return records
    except workers.WorkerLost as error:
        raise DpedError(
            f"{out}: a worker process ended of itself, as a rule killed for want of memory. {len(records)} of {len(jobs)} pairs "
            "are finished and kept: run the same command again, with fewer --workers."
        ) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(records)} of {len(jobs)} pairs are finished and kept; run the same command again to go on from there"
        ) from None


def _finish(out, store, jobs, records, bad, settings, meta) -> pair_store.PairStore:
    report, alignment = Counter(), Counter()
    for job in jobs:
        pairing.count(records[job.name], report, alignment)
    if bad:
        report["bad"] = len(bad)
    rejected = {j.name: r["report"] for j in jobs if (r := records[j.name])["report"]["verdict"] != "aligned"}
    summary = {
        "settings": asdict(settings),
        "counts": dict(sorted(report.items())),
        "alignment": dict(sorted(alignment.items())),
        "rejected": {name: f"{r['verdict']}: {r['reason']}" for name, r in rejected.items()},
        "bad": dict(sorted(bad.items())),
        "pairs": {j.name: records[j.name]["digest"] for j in jobs},
    }
    _remove_others(out / "pairs", jobs)
    paths.write_text(out / "summary.json", json.dumps(summary, indent=1))
    if not report["read"]:
        raise DpedError(
            f"{out}: not one patch came out of {len(jobs) + len(bad)} pairs of photographs ({_words(report + alignment)}). "
            f"{out / 'summary.json'} says why. {_first(summary['rejected'] | bad)}".rstrip()
        )
    content = {
        **meta,
        "settings": asdict(settings),
        "pairs": summary["pairs"],
        "report": report,
        "alignment": alignment,
    }
    if (old := pair_store.current(store)) and {k: old.meta.get(k) for k in content} == json.loads(json.dumps(content)):
        return old
    return pair_store.write_store(store, _pairs(jobs, records), content)


def _remove_others(folder: Path, jobs: list[Job]) -> None:
    """Records of photographs that are no longer there go: who reads all of the folder would count them."""
    known = {job.record_file for job in jobs}
    for file in folder.glob("*.json"):
        if file not in known and '"digest"' in file.read_text(errors="replace"):
            file.unlink()
            file.with_suffix(".npy").unlink(missing_ok=True)


def _pairs(jobs: list[Job], records: dict[str, dict]) -> Iterator[Pair | dict]:
    """Of each job its record with all windows, then its pairs."""
    for job in jobs:
        record = job.record(records[job.name]["digest"])
        yield {"name": job.name, **record}
        if not record["counts"]:
            continue
        stored = (extraction.KEPT, extraction.FLAT) if job.settings.flat == "keep" else (extraction.KEPT,)
        kept = [w for w in record["windows"] if w["verdict"] in stored]
        for window, (phone, dslr) in zip(kept, np.load(job.patches_file, mmap_mode="r"), strict=True):
            yield Pair(f"{job.name}/{window['y']}-{window['x']}", job.name, np.array(phone), np.array(dslr))


def render(store: pair_store.PairStore, summary: dict) -> str:
    """What was made, in lines for a reader; ``summary`` is the content of ``summary.json``."""
    counts = Counter(summary["alignment"])
    rejected: dict[str, list[str]] = {}
    for name, reason in summary["rejected"].items():
        rejected.setdefault(reason.partition(":")[0], []).append(name)
    pairs = len(summary["pairs"]) + len(summary["bad"])
    lines = [f"photographs: {pairs} pairs, {counts['photographs aligned']} aligned"]
    lines += [f"  {len(names)} rejected: {verdict} ({_some(names)})" for verdict, names in sorted(rejected.items())]
    if summary["bad"]:
        lines.append(f"  {len(summary['bad'])} skipped: bad files ({_some(list(summary['bad']))})")
    windows = {k.removeprefix("windows "): v for k, v in counts.items() if k.startswith("windows ")}
    tried, kept, moved = (windows.pop(k) for k in ("tried", extraction.KEPT, "moved"))
    lost = "".join(f", {number} {why}" for why, number in sorted(windows.items()) if number)
    lines.append(f"windows: {tried} tried, {kept} kept ({moved} of them moved){lost}")
    splits = ", ".join(f"{v['pairs']} {s} ({v['photographs']} photographs)" for s, v in store.counts().items())
    return "\n".join([*lines, f"{store.folder}: {len(store)} patch pairs: {splits}"])


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _first(reasons: dict[str, str]) -> str:
    return f"The first: {next(iter(reasons.values()))}" if reasons else ""


def _words(report: Counter) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(report.items()) if number)


# ---------------------------------------------------------------------------------------------- the official layout


_SIGN = "dped_align.json"  # in what write_official made, beside the folders of the layout


def check_official(folder: Path, phone: str) -> Path:
    """Where ``write_official`` will put the phone, if it may: a real dataset there is never replaced."""
    if phone in ("", "canon", ".", "..") or "/" in phone:
        raise DpedError(f"phone {phone!r}: must be a name for a folder, other than 'canon', for instance 'iphone'.")
    target = Path(folder) / phone
    _refuse_to_replace(target, _SIGN)
    return target


def write_official(store: pair_store.PairStore, folder: Path, phone: str) -> Path:
    """Writes a store in the folder layout of the official download, for other code; returns ``folder/PHONE``.

    ``PHONE/training_data/{PHONE,canon}/N.jpg`` and ``PHONE/test_data/patches/{PHONE,canon}/N.jpg``, numbered photograph by
    photograph. That layout has no validation split: ours goes to the end of the training data, where
    ``readers.read_official`` takes the last 2 % for it: photographs of our validation split, but not all of them; the
    rest, to that reader and others, is training data. JPEG of quality 100 without chroma subsampling: most values
    are those of the store or one beside them.
    """
    target = check_official(folder, phone)
    order = {
        "training_data": np.concatenate([store.index("train"), store.index("val")]),
        "test_data/patches": store.index("test"),
    }
    jpeg = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    with paths.atomic_path(target) as part:
        for place, index in order.items():
            for camera, images in ((phone, store.phone), ("canon", store.dslr)):
                (part / place / camera).mkdir(parents=True)
                for number, i in enumerate(bar(index, label=f"write {place}/{camera}", unit="patch", brief=True)):
                    data = cv2.imencode(".jpg", images[i][..., ::-1], jpeg)[1]
                    (part / place / camera / f"{number}.jpg").write_bytes(data.tobytes())
        names = {place: [store.names[i] for i in index] for place, index in order.items()}
        (part / _SIGN).write_text(json.dumps({"validation": len(store.index("val")), "names": names}))
    return target
