"""Turn one pair of photographs into patch pairs: align, extract, and record both.

Worker processes import this module.
"""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from dped_lib import paper
from dped_lib.alignment import aligner, extraction
from dped_lib.base import writing
from dped_lib.base.errors import DpedError, memory_ran_out
from dped_lib.base.validation import one_of
from dped_lib.data import image_decoding
from dped_lib.paper import PATCH_SIZE

_FORMAT = 3  # increased when the same photographs would give another result


@dataclass(frozen=True)
class Settings:
    """Hold the settings of alignment and extraction.

    Attributes:
        size: height x width of the aligned images in pixels.
        threshold: the NCC that patches must exceed.
        flat: ``drop`` or ``keep`` windows without detail (see ``extraction.extract``).
    """

    size: tuple[int, int] = paper.ALIGNED_SIZE
    threshold: float = paper.NCC_THRESHOLD
    flat: str = "drop"

    def __post_init__(self):
        if min(self.size) < PATCH_SIZE:
            raise DpedError(
                f"size {self.size[0]}x{self.size[1]}: an aligned image must hold a patch of {PATCH_SIZE}x{PATCH_SIZE}."
            )
        if not 0 <= self.threshold < 1:
            raise DpedError(f"NCC threshold {self.threshold}: must be at least 0 and below 1.")
        one_of("flat", self.flat, extraction.CHOICES_FOR_FLAT)


def make(phone: np.ndarray, dslr: np.ndarray, settings: Settings) -> tuple[extraction.Extraction | None, dict]:
    """Align two photographs (uint8 H x W x 3, RGB) and cut their patches.

    Return the extraction (None if the photographs cannot be aligned) and a record for JSON: ``report``
    (``aligner.Report``), ``counts`` and ``windows`` (an ``extraction.Window`` each). The same input gives the same
    record.
    """
    aligned = aligner.align(phone, dslr, settings.size)
    if aligned.report.verdict != "aligned":
        return None, {"report": asdict(aligned.report), "counts": {}, "windows": []}
    extracted = extraction.extract(aligned, settings.threshold, flat=settings.flat)
    windows = [{k: _short(v) for k, v in asdict(w).items()} for w in extracted.windows]
    return extracted, {"report": asdict(aligned.report), "counts": extracted.counts(), "windows": windows}


def _short(value):
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 4)
    return value


def count(record: dict, report: Counter, alignment: Counter) -> None:
    """Add one record to the counters.

    Its patches count in ``report``. Its photographs and windows count in ``alignment``, by verdict.
    """
    alignment[f"photographs {record['report']['verdict']}"] += 1
    counts = dict(record["counts"])
    report["read"] += counts.pop("patches", 0)
    for name, number in counts.items():
        alignment[f"windows {name}"] += number


@dataclass(frozen=True)
class PairJob:
    """Hold one pair of files, the folder of its record and patches, and the function that reads a photograph."""

    name: str
    phone: Path
    dslr: Path
    folder: Path
    settings: Settings
    read: Callable[[Path], np.ndarray] = image_decoding.read_photograph

    @property
    def record_file(self) -> Path:
        """Return the file of the record: JSON, with every window."""
        return self.folder / f"{self.name}.json"

    @property
    def patches_file(self) -> Path:
        """Return the file of the patches: uint8 N x 2 x 100 x 100 x 3 (phone, DSLR)."""
        return self.folder / f"{self.name}.npy"

    def digest(self) -> str:
        """Return a checksum of both files and of everything else that changes the result."""
        names = [self.phone.name, self.dslr.name]
        if self.read is not image_decoding.read_photograph:
            names.append(self.read.__qualname__)
        made = hashlib.sha256(json.dumps([_FORMAT, cv2.__version__, asdict(self.settings), names]).encode())
        for file in (self.phone, self.dslr):
            with open(file, "rb") as f:
                made.update(hashlib.file_digest(f, "sha256").digest())
        return made.hexdigest()

    def record(self, digest: str) -> dict | None:
        """Return the stored record if it is complete, has this ``digest``, and its patches are there.

        Otherwise return None.
        """
        try:
            record = json.loads(self.record_file.read_text())
            whole = record["digest"] == digest
            if record["counts"]:
                whole &= len(np.load(self.patches_file, mmap_mode="r")) == record["counts"]["patches"]
        except (OSError, EOFError, ValueError, KeyError, TypeError):  # EOFError: an empty array
            return None
        return record if whole else None


_SPARE_MEMORY = "Free memory, use fewer --workers, or make both photographs smaller."


def work(job: PairJob) -> dict:
    """Make one pair's record and patches, unless current ones are there.

    Return the record without its windows (a hundred for each of thousands of pairs), or ``{"bad": message}``.
    """
    try:
        digest = job.digest()
        if known := job.record(digest):
            return _brief(known)
        images = [job.read(f) for f in (job.phone, job.dslr)]
    except DpedError as error:
        return {"bad": str(error)}
    except OSError as error:
        return {
            "bad": f"{error.filename or job.phone}: cannot be read ({error.strerror}). Bring it back, or remove its partner."
        }
    except MemoryError:
        return {"bad": f"{job.phone} or {job.dslr}: too little memory to read it. {_SPARE_MEMORY}"}
    try:
        extracted, record = make(*images, job.settings)
    except Exception as error:
        if memory_ran_out(error):
            return {"bad": f"{job.phone} and {job.dslr}: too little memory to align them. {_SPARE_MEMORY}"}
        error.add_note(f"while aligning {job.phone} and {job.dslr}")
        raise
    record = {"digest": digest, "phone": job.phone.name, "dslr": job.dslr.name, **record}
    # The old record is deleted first and the new one is written last. A pair with a record is therefore complete.
    job.record_file.unlink(missing_ok=True)
    if extracted is None:
        job.patches_file.unlink(missing_ok=True)
    else:
        patches = [[phone, dslr] for _, phone, dslr in extracted.patches]
        with writing.atomic_path(job.patches_file) as part:
            write_array(part, np.array(patches, np.uint8).reshape(-1, 2, PATCH_SIZE, PATCH_SIZE, 3))
    writing.write_text(job.record_file, json.dumps(record, indent=1))
    return _brief(record)


def write_array(file: Path, array: np.ndarray) -> None:
    """Write what ``np.save`` writes. A full disk is reported as for any other file."""
    # np.save writes to a file itself, and its error has no errno.
    content = io.BytesIO()
    np.save(content, array)
    file.write_bytes(content.getvalue())


def _brief(record: dict) -> dict:
    return {k: v for k, v in record.items() if k != "windows"}


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
