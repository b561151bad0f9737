"""A batch is a function of its number, and its images are turned alike."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patches import pair

from dped_lib.base.errors import DpedError
from dped_lib.data import pair_store, splits
from dped_lib.data.batches import Batches, dihedral, to_float
from dped_lib.data.pair_store import PairStore
from dped_lib.paper import PATCH_SIZE

CPU = torch.device("cpu")
SQUARE = torch.arange(27.0).reshape(3, 3, 3)


def turned(image: torch.Tensor, code: int) -> torch.Tensor:
    return dihedral(image[None], torch.tensor([code]))[0]


def test_the_codes_are_the_eight_symmetries_of_the_square():
    expected = {
        np.rot90(a, k, (1, 2)).tobytes() for a in (SQUARE.numpy(), SQUARE.numpy()[:, :, ::-1]) for k in range(4)
    }
    images = [turned(SQUARE, code) for code in range(8)]
    assert {np.ascontiguousarray(i).tobytes() for i in images} == expected and len(expected) == 8
    assert torch.equal(images[0], SQUARE)
    assert torch.equal(images[1], torch.rot90(SQUARE, 1, (1, 2))) and torch.equal(images[4], SQUARE.flip(2))


def test_the_codes_are_a_group():
    images = {turned(SQUARE, code).numpy().tobytes(): code for code in range(8)}
    table = [[images[turned(turned(SQUARE, a), b).contiguous().numpy().tobytes()] for b in range(8)] for a in range(8)]
    for row in table:
        assert sorted(row) == list(range(8))  # closed, and each has an inverse


@given(st.lists(st.integers(0, 7), min_size=1, max_size=10))
def test_each_image_of_a_batch_has_its_own_code(codes):
    images = torch.rand(len(codes), 3, 5, 5, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    transformed = dihedral(images, torch.tensor(codes))
    assert torch.equal(images, before)
    for image, code, result in zip(images, codes, transformed, strict=True):
        assert torch.equal(result, turned(image, code))


def batches(store, split="train", seed=0, augment=False):
    return Batches(store, split, CPU, seed, augment)


def test_to_float_is_exact():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(2, 1, 1, 3)
    images = to_float(values)
    assert images.shape == (2, 3, 16, 16) and images.dtype == torch.float32 and images.is_contiguous()
    assert torch.equal(images[1, 2].flatten(), torch.arange(256) / 255)
    assert torch.equal((images * 255).round().byte()[0, 0], values[0, :, :, 0])


@pytest.mark.parametrize("split", splits.SPLITS)
def test_batches_are_pairs_of_their_split_and_reach_all_of_it(store, split):
    drawn, own = set(), {store.phone[i].tobytes() for i in store.index(split)}
    for iteration in range(40):
        phone, dslr = batches(store, split).draw(iteration, 8)
        assert phone.shape == dslr.shape == (8, 3, PATCH_SIZE, PATCH_SIZE) and phone.dtype == torch.float32
        assert phone.min() >= 0 and phone.max() <= 1
        assert torch.allclose(phone + dslr, torch.ones(1))  # the negative of each, so its partner
        drawn |= {i.tobytes() for i in (phone * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()}
    assert drawn == own


def test_augmentation_turns_both_images_of_a_pair_alike(store):
    plain, turning = batches(store), batches(store, augment=True)
    used = set()
    for iteration in range(6):
        (phone, _), (turned_phone, turned_dslr) = plain.draw(iteration, 8), turning.draw(iteration, 8)
        assert torch.allclose(turned_phone + turned_dslr, torch.ones(1))
        for image, augmented in zip(phone, turned_phone, strict=True):
            codes = [c for c in range(8) if torch.equal(turned(image, c), augmented)]
            assert len(codes) == 1
            used.update(codes)
    assert used == set(range(8))


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.integers(0, 20_000), st.sampled_from(("generator", "discriminator")), st.booleans())
def test_a_batch_depends_on_seed_stream_and_iteration_alone(store, seed, iteration, stream, augment):
    one, other = batches(store, seed=seed, augment=augment), batches(store, seed=seed, augment=augment)
    for before in (3, 1, 4):
        other.draw(before, 2, "generator")
    torch.manual_seed(iteration), np.random.seed(1)
    wanted, drawn = one.draw(iteration, 6, stream), other.draw(iteration, 6, stream)
    assert all(torch.equal(a, b) for a, b in zip(wanted, drawn, strict=True))


def test_seed_stream_and_iteration_each_make_another_batch(store):
    draws = [
        batches(store, seed=seed).draw(iteration, 16, stream)[0].numpy().tobytes()
        for seed, iteration, stream in product((0, 1), (0, 1), ("generator", "discriminator"))
    ]
    assert len(set(draws)) == 8


def test_an_empty_split_is_an_error(tmp_path):
    small = pair_store.write_store(tmp_path / "s", [pair(0, "a"), pair(1, "b")], {})
    with pytest.raises(DpedError, match="no pairs in split 'val'"):
        batches(small, "val")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize("contiguous", [True, False])
def test_the_full_dataset_is_not_read_into_memory(tmp_path, contiguous):
    """Neither that of the authors, whose splits follow each other, nor one whose photographs are split at random."""
    count = 97_000
    folder = pair_store.write_store(tmp_path / "s", [pair(0)], {}).folder
    for side in ("phone", "dslr"):
        with open(folder / f"{side}.npy", "r+b") as file:
            pair_store.write_header(file, count)
            file.truncate(128 + count * PATCH_SIZE * PATCH_SIZE * 3)  # a hole: takes no space
    splits = ["train"] * 95_000 + ["val"] * 1_000 + ["test"] * 1_000
    splits = splits if contiguous else splits[1000:] + splits[:1000]
    names = [f"train/{i}" for i in range(count)]
    (folder / "meta.json").write_text(json.dumps({"names": names, "photographs": names, "splits": splits}))

    def own_memory() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    before = own_memory()
    full = PairStore(folder)
    drawing = batches(full)
    for iteration in range(3):
        drawing.draw(iteration, 10)
    assert len(drawing) == 95_000
    assert own_memory() - before < 200e6  # of 5.8 GB
