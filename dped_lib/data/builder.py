"""Build a dataset from two folders of photographs: pair them, align them in parallel, and cut patches.

A build that was stopped can be resumed. The folder that is made contains::

    store/              the patch pairs (``pair_store.PairStore``), split by photograph
    summary.json        settings, which pairs were left out and why, and how many windows were kept
    pairs/NAME.json     the report of one pair: alignment, and every window with its NCC
    pairs/NAME.npy      its patches
    dped_align.json     marks the folder as ours: which pairs, from which photographs

Once the store is there, pairs/ may be deleted. The next ``dped align`` into this folder then makes every pair again.

A folder without ``dped_align.json`` must be empty, and one that was made from other photographs is refused. Files that
are not listed above are never replaced or deleted.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from dped_lib.alignment import extraction
from dped_lib.base import paths, writing
from dped_lib.base import workers as processes
from dped_lib.base.errors import DpedError, first_few
from dped_lib.base.progress import bar
from dped_lib.base.validation import one_of
from dped_lib.data import camera_folders, image_decoding, pair_store, pairing, readers
from dped_lib.data.pair_store import Pair, store_of
from dped_lib.data.pairing import PairJob, Settings

_SIGN = "dped_align.json"  # marks a folder that we made
_LOCK = ".dped_align.lock"
_LONGEST_NAME = 255  # bytes that a file system gives the name of a file


def build(
    phone_dir: Path,
    dslr_dir: Path,
    out: Path,
    settings: Settings | None = None,
    *,
    by: str = "name",
    on_bad: str = "error",
    workers: int | None = None,
    only: Container[str] | None = None,
    meta: dict | None = None,
    store: Path | None = None,
    label: str = "align",
    read: Callable[[Path], np.ndarray] = image_decoding.read_photograph,
) -> pair_store.PairStore:
    """Build the dataset, or the missing part of it. The same photographs and settings give the same store.

    Args:
        phone_dir, dslr_dir: photographs of the phone and of the DSLR.
        by: ``name``: equal names (without suffix) are a pair. ``order``: the first names of both folders are a pair, then
            the second names, and so on. A pair has the name of the phone's photograph.
        on_bad: ``error`` stops at a file that cannot be used or has no partner. All headers are checked before any
            other work. ``skip`` leaves the pair out; the summary counts and lists it.
        settings: how to align and cut; None: the paper's settings.
        workers: number of processes; None: one for each core. Each holds one pair of photographs: half a GiB at 13 + 20
            MP.
        only: names of the files (with suffix) to use; None: all photographs.
        meta: more entries for the store's ``meta.json`` (dataset, phone and the like).
        store: the folder of the store; None: ``store_of(out)``. With a folder named here, ``out`` is only working space
            and may change to other photographs.
        label: the text of the progress bar.
        read: reads a photograph. Workers import it by name, so it must be a function of a module.

    Raises:
        DpedError: files in ``out`` that are not ours, a dataset of other photographs in it, a folder without
            photographs, a bad file, nothing aligned, a full disk, or a worker that was killed.
        KeyboardInterrupt: finished pairs are kept, and the same call continues from there.
    """
    one_of("on_bad", on_bad, readers.ON_BAD)
    if workers is not None and workers < 1:
        raise DpedError(f"workers must be at least 1, not {workers}.")
    settings = settings or Settings()
    phone_dir, dslr_dir, out = map(paths.collapsed, (phone_dir, dslr_dir, out))
    only_work = store is not None
    store = paths.collapsed(store) if store else store_of(out)
    pair_store.check_replaceable(store)
    if out.exists() and not out.is_dir():
        raise DpedError(f"{out}: is a file. Name a folder for the result.")
    _names_made(out)
    bad: dict[str, str] = {}
    files = camera_folders.pairs(phone_dir, dslr_dir, by, only, on_bad, bad)
    jobs = [PairJob(name, *both, out / "pairs", settings, read) for name, both in files.items()]
    if long := [job.phone for job in jobs if len(os.fsencode(job.record_file.name)) > _LONGEST_NAME]:
        raise DpedError(
            f"{long[0]}: the name is too long for a file of its results. Give both photographs a shorter one."
        )
    source = _source(phone_dir, dslr_dir, jobs)
    if not only_work:
        _check_source(out, source)
    with writing.alone(out / _LOCK, f"{out}: another process is making this dataset; waiting for it."):
        _take(out, jobs, source)
        _say_settings(out, settings)
        records = _work(jobs, min(workers or pairing.cores(), len(jobs)), out, on_bad, bad, label)
        finished = [job for job in jobs if job.name in records]
        _remove_others(out, finished, source)
        return _finish(out, store, finished, records, bad, settings, {"on_bad": on_bad, **(meta or {})})


def _names_made(out: Path) -> set[str]:
    """Return the names of the pairs whose files in ``out`` are ours.

    Raises:
        DpedError: the folder is neither empty nor marked as ours. The message names files in it.
    """
    try:
        return {Path(name).name for name in json.loads((out / _SIGN).read_text(encoding="utf-8"))["pairs"]}
    except (OSError, ValueError, KeyError, TypeError):  # missing, or a file of the user's
        ours = {_LOCK, *(f.name for f in writing.left_by_killed(out / _SIGN))}
        foreign = sorted({f.name for f in out.iterdir()} - ours - paths.OF_DESKTOPS) if out.is_dir() else []
        if foreign:
            raise DpedError(
                f"{out}: was not made by dped align and holds {first_few(foreign)}. Name a new or an empty folder for the result."
            ) from None
        return set()


def _source(phone_dir: Path, dslr_dir: Path, jobs: list[PairJob]) -> dict:
    """Return what ``dped_align.json`` records of the photographs: their folders, and both file sizes of each pair."""
    folders = [str(Path(folder).resolve()) for folder in (phone_dir, dslr_dir)]
    return {"folders": folders, "bytes": {j.name: [f.stat().st_size for f in (j.phone, j.dslr)] for j in jobs}}


def _check_source(out: Path, source: dict) -> None:
    """Raise DpedError if ``out`` holds a dataset that was made from other photographs.

    Photographs may be added to a folder, changed and removed. A folder that was moved or copied is recognised by the
    sizes of its files: at least half of them must agree.
    """
    try:
        sign = json.loads((out / _SIGN).read_text(encoding="utf-8"))["source"]
        folders, sizes = [str(f) for f in sign["folders"]], dict(sign["bytes"])
    except (OSError, ValueError, KeyError, TypeError):  # nothing there, or a folder that an earlier version made
        return
    same = sum(source["bytes"].get(name) == size for name, size in sizes.items())
    if folders != source["folders"] and 2 * same < len(sizes):
        raise DpedError(
            f"{out}: holds the dataset of other photographs ({' and '.join(folders)}), not of "
            f"{' and '.join(source['folders'])}. Name another folder for the result, or delete {out}."
        )


def _say_settings(out: Path, settings: Settings) -> None:
    """Print on standard error which settings differ from those of the dataset in ``out``. That dataset is made again."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # no summary, or a damaged one
        old = json.loads((out / "summary.json").read_text(encoding="utf-8"))["settings"]
        new = json.loads(json.dumps(asdict(settings)))
        if differing := ", ".join(f"{k}: {old.get(k)} there, {v} asked" for k, v in new.items() if old.get(k) != v):
            print(f"{out}: made with other settings ({differing}); every pair is made again.", file=sys.stderr)


def _take(out: Path, jobs: list[PairJob], source: dict) -> None:
    """Mark ``out`` and the files of the pairs that will be made as ours.

    Delete half-written files of a killed process.
    """
    made = _names_made(out)
    for file in (f for job in jobs if job.name not in made for f in (job.record_file, job.patches_file)):
        if file.exists():
            raise DpedError(f"{file}: is there already and was not made by dped align. Move it away.")
    known = made | {job.name for job in jobs}
    _mark(out, known, source)
    (out / "pairs").mkdir(exist_ok=True)
    writing.clear_killed(store_of(out), out / "summary.json", out / _SIGN)
    writing.clear_killed(*(out / "pairs" / f"{name}{suffix}" for name in known for suffix in (".json", ".npy")))


def _mark(out: Path, names: Iterable[str], source: dict) -> None:
    sign = {"made by": "dped align", "pairs": sorted(names), "source": source}
    writing.write_text(out / _SIGN, json.dumps(sign, indent=1))


def _work(jobs, count, out, on_bad, bad, label) -> dict[str, dict]:
    """Return the record of each job by its name, without windows.

    A job with a bad file is added to ``bad`` or raises an error.
    """
    records: dict[str, dict] = {}
    try:
        with contextlib.closing(processes.run(pairing.work, jobs, count)) as finished:
            for number, record in bar(finished, total=len(jobs), label=label, unit="pair"):
                name = jobs[number].name
                if "bad" not in record:
                    records[name] = record
                elif on_bad == "error":
                    raise readers.or_skip(DpedError(record["bad"]))
                else:
                    bad[name] = record["bad"]
        return records
    except processes.WorkerLost as error:
        raise DpedError(
            f"{out}: a worker process ended of itself; most likely the system killed it because memory ran out. {len(records)} of "
            f"{len(jobs)} pairs are finished and kept: run the same command again, with fewer --workers."
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
    writing.write_text(out / "summary.json", json.dumps(summary, indent=1))
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
    if (old := pair_store.current_store(store)) and {k: old.meta.get(k) for k in content} == json.loads(
        json.dumps(content)
    ):
        return old
    return pair_store.write_store(store, _pairs(jobs, records), content)


def _remove_others(out: Path, jobs: list[PairJob], source: dict) -> None:
    """Delete our records of photographs that no longer exist. A reader of the whole folder would count them."""
    names = {job.name for job in jobs}
    for name in _names_made(out) - names:
        for suffix in (".json", ".npy"):
            (out / "pairs" / f"{name}{suffix}").unlink(missing_ok=True)
    _mark(out, names, source)


def _pairs(jobs: list[PairJob], records: dict[str, dict]) -> Iterator[Pair | dict]:
    """Yield the record of each job with all its windows, then its pairs."""
    for job in jobs:
        record = job.record(records[job.name]["digest"])
        yield {"name": job.name, **record}
        if not record["counts"]:
            continue
        stored = (extraction.KEPT, extraction.FLAT) if job.settings.flat == "keep" else (extraction.KEPT,)
        kept = [w for w in record["windows"] if w["verdict"] in stored]
        for window, (phone, dslr) in zip(kept, np.load(job.patches_file, mmap_mode="r"), strict=True):
            yield Pair(f"{job.name}/{window['y']}-{window['x']}", job.name, np.array(phone), np.array(dslr))


def summary_text(store: pair_store.PairStore, summary: dict) -> str:
    """Return a description of the dataset in lines of text. ``summary`` is the content of ``summary.json``."""
    counts = Counter(summary["alignment"])
    rejected: dict[str, list[str]] = {}
    for name, reason in summary["rejected"].items():
        rejected.setdefault(reason.partition(":")[0], []).append(name)
    pairs = len(summary["pairs"]) + len(summary["bad"])
    lines = [f"photographs: {pairs} pairs, {counts['photographs aligned']} aligned"]
    lines += [f"  {len(names)} rejected: {verdict} ({first_few(names)})" for verdict, names in sorted(rejected.items())]
    if summary["bad"]:
        lines.append(f"  {len(summary['bad'])} skipped: bad files ({first_few(list(summary['bad']))})")
    windows = {k.removeprefix("windows "): v for k, v in counts.items() if k.startswith("windows ")}
    tried, kept, moved = (windows.pop(k) for k in ("tried", extraction.KEPT, "moved"))
    lost = "".join(f", {number} {why}" for why, number in sorted(windows.items()) if number)
    lines.append(f"windows: {tried} tried, {kept} kept ({moved} of them moved){lost}")
    lines.append(f"{store.folder}: {store.in_words()}")
    held_out = sorted(set(store.photographs[store.index("test")].tolist()), key=readers.natural)
    if held_out:
        lines.append(f"photographs of the test, which no training sees: {first_few(held_out, 9)}")
    text = "\n".join(lines)
    return text.encode("utf-8", "backslashreplace").decode()  # names that are not UTF-8 cannot be printed


def _first(reasons: dict[str, str]) -> str:
    return f"The first: {next(iter(reasons.values()))}" if reasons else ""


def _words(report: Counter) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(report.items()) if number)


# ---------------------------------------------------------------------------------------------- the official layout


def check_official(folder: Path, phone: str, source: Path | None = None) -> Path:
    """Return the folder that ``write_official`` will write. A dataset that we did not write is never replaced.

    With the folder of a store as ``source``, one that we wrote from another store is not replaced either.

    Raises:
        DpedError: ``phone`` is no name for a folder, the folder holds files that are not ours, or it cannot be written.
    """
    if phone in ("", "canon", ".", "..") or "/" in phone:
        raise DpedError(f"phone {phone!r}: must be a name for a folder, other than 'canon', for instance 'iphone'.")
    target = paths.collapsed(folder) / phone
    if target.is_dir() and any(f.name not in paths.OF_DESKTOPS for f in target.iterdir()):
        try:
            sign = json.loads((target / _SIGN).read_text(encoding="utf-8"))
            numbers = {p: len(n) for p, n in sign["names"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            sign, numbers = {}, {}
        ours = {f"{place}/{c}/{i}.jpg" for place, n in numbers.items() for c in (phone, "canon") for i in range(n)}
        there = (f.relative_to(target).as_posix() for f in target.rglob("*") if not f.is_dir() or f.is_symlink())
        ours |= {_SIGN} if numbers else set()
        foreign = sorted(f for f in there if f not in ours and Path(f).name not in paths.OF_DESKTOPS)
        if foreign or not numbers:
            raise DpedError(
                f"{target}: is there already and was not made by dped align{f' ({first_few(foreign)})' if foreign else ''}. Move it "
                "away, or write elsewhere."
            )
        written = sign.get("store")  # earlier versions did not name it
        if source and written and written != str(Path(source).resolve()):
            raise DpedError(
                f"{target}: holds the pairs of {written}, not of {source}. Delete it, or name another folder or --phone."
            )
    elif target.exists() and not target.is_dir():
        raise DpedError(f"{target}: is a file. Move it away, or write elsewhere.")
    writing.probe_folder(target.parent, "name another folder for the official layout")
    return target


def write_official(store: pair_store.PairStore, folder: Path, phone: str) -> Path:
    """Write a store in the folder layout of the official download, for other code. Return ``folder/PHONE``.

    ``PHONE/training_data/{PHONE,canon}/N.jpg`` and ``PHONE/test_data/patches/{PHONE,canon}/N.jpg``, numbered photograph
    by photograph. That layout has no validation split, so ours is written at the end of the training data. There
    ``official_layout.make_store`` takes the last 2 % for validation, and it reads the rest of our validation split as
    training data. The files are JPEG of quality 100 without chroma subsampling: most values differ from the store's by
    at most one.
    """
    target = check_official(folder, phone, store.folder)
    writing.clear_killed(target)
    order = {
        "training_data": np.concatenate([store.index("train"), store.index("val")]),
        "test_data/patches": store.index("test"),
    }
    # OpenCV and not ``picture.write``: the same store gives the same bytes as before.
    jpeg = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    with writing.atomic_path(target) as part:
        for place, index in order.items():
            for camera, images in ((phone, store.phone), ("canon", store.dslr)):
                (part / place / camera).mkdir(parents=True)
                for number, i in enumerate(bar(index, label=f"write {place}/{camera}", unit="patch", brief=True)):
                    data = cv2.imencode(".jpg", images[i][..., ::-1], jpeg)[1]
                    (part / place / camera / f"{number}.jpg").write_bytes(data.tobytes())
        names = {place: [store.names[i] for i in index] for place, index in order.items()}
        sign = {"validation": len(store.index("val")), "store": str(store.folder.resolve()), "names": names}
        (part / _SIGN).write_text(json.dumps(sign))
    return target
