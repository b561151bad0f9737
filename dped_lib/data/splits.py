"""Divide a dataset into training, validation and test split.

Whole photographs are assigned, so patches of one photograph share a split. Only the official download (``dped``) is
divided by patches: it has a test split of its own, and :func:`split_official` takes validation pairs from the rest.
"""

import zlib
from collections.abc import Iterable

SPLITS = ("train", "val", "test")


def split_photographs(photographs: Iterable[str], test: float = 0.15, val: float = 0.15) -> dict[str, str]:
    """Return the split of each photograph.

    About the fractions ``test`` and ``val`` of the photographs are held out: at least one each if there are three
    photographs or more. A checksum of the name orders the photographs, so every process finds the same splits, and a
    photograph added later moves few others.
    """
    ordered = _by_checksum(photographs)
    held = [max(1, round(len(ordered) * share)) if len(ordered) >= 3 and share else 0 for share in (test, val)]
    labels = ["test"] * held[0] + ["val"] * held[1]
    return dict(zip(ordered, labels + ["train"] * (len(ordered) - len(labels)), strict=True))


def split_fold(photographs: Iterable[str], folds: int, seed: int) -> dict[str, str]:
    """Return the split of each photograph in the cross-validation of a training with this seed.

    Fold ``seed % folds`` is the test split. A tenth of the other photographs is the validation split.
    """
    ordered = _by_checksum(photographs)
    tested = set(ordered[seed % folds :: folds])
    return split_photographs((p for p in ordered if p not in tested), test=0, val=0.1) | dict.fromkeys(tested, "test")


def assign_splits(photographs: list[str], kinds: list[str], fixed: list[str]) -> list[str]:
    """Return the split of each pair, given its photograph, the photograph's kind, and its fixed split.

    The fixed split is empty if the source of the pair fixes none. The photographs of each kind are split separately, so
    every split has some of each kind that has at least three.
    """
    split_of: dict[str, str] = {}
    for kind in sorted(set(kinds)):
        split_of |= split_photographs(p for p, k in zip(photographs, kinds, strict=True) if k == kind)
    return [f or split_of[p] for p, f in zip(photographs, fixed, strict=True)]


def split_official(train: int, test: int) -> list[str]:
    """Return the split of each pair of the official download, given the numbers of its training and test pairs.

    The last 2 % of the training pairs are the validation split. Patches are numbered photograph by photograph, but
    nothing marks where a photograph ends, so one photograph may lie in both splits.
    """
    held = max(1, round(train * 0.02)) if train > 1 else 0
    return ["train"] * (train - held) + ["val"] * held + ["test"] * test


def _by_checksum(photographs: Iterable[str]) -> list[str]:
    # Names of files need not be UTF-8; Python gives their other bytes as surrogates.
    return sorted(set(photographs), key=lambda p: (zlib.crc32(p.encode("utf-8", "surrogateescape")), p))
