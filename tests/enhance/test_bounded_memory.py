"""Streaming: the whole-image pass, strip by strip on threads; its statistics, its plans, its bounds."""

import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import NETWORKS, noise
from torch import nn

from dped_lib import speed
from dped_lib.base.errors import DpedError
from dped_lib.data import network_files
from dped_lib.enhance import bands, bounded_memory, plans, sweeps


@torch.inference_mode()
def whole(model: nn.Module, image: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    if x.shape[-2:] == (
        1,
        1,
    ):  # nn.InstanceNorm2d refuses a single pixel; the swapped norm returns its bias, as the bands do
        with torch.inference_mode(False):
            model = speed.prepare(copy.deepcopy(model), torch.device("cpu"))
    return model(x)[0].permute(1, 2, 0).numpy()


def streamed(model: nn.Module, image: np.ndarray, buffers: int, rows: int, dtype=torch.float32) -> np.ndarray:
    sweeps = plans.sweeps(model, buffers)
    gone = []
    how = plans.Plan(buffers, rows, sweeps, 1.0, 0)
    enhanced = np.concatenate(list(bounded_memory.stream(model, image, how, dtype, tick=gone.append)))
    assert sum(gone) == sweeps * len(image), "progress ends at its total"
    return enhanced


@pytest.mark.parametrize("name", NETWORKS)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 40)),
    rows=st.integers(1, 70),
    buffers=st.sampled_from((2, 1, 0)),
    seed=st.integers(0, 9),
)
@settings(max_examples=12)
def test_any_size_in_any_bands_is_the_whole_image_pass(name, size, rows, buffers, seed):
    model, image = NETWORKS[name], noise(*size, seed)
    if name in ("srcnn", "batch norm"):
        buffers = 0
    assert np.abs(streamed(model, image, buffers, rows) - whole(model, image)).max() < 1e-4


@pytest.mark.parametrize("buffers", [2, 1, 0])
def test_the_authors_network_on_their_photograph(mirror, buffers):
    """Exact in float32; in bfloat16 at least 55 dB and no 8-bit value off by more than two steps."""
    from dped_lib.data import downloads, image_decoding

    (file,) = downloads.fetch_all(
        [k for k in downloads.keys("demo") if k.endswith("iphone/2_0.jpg")], "a demo photograph"
    )
    image = np.ascontiguousarray(image_decoding.read_photograph(file)[200:460, 300:700])
    model = network_files.resolve("authors:iphone")
    wanted = whole(model, image)
    assert np.abs(streamed(model, image, buffers, 64) - wanted).max() < 1e-4
    rounded = streamed(model, image, buffers, 64, torch.bfloat16).clip(0, 1)
    exact = wanted.clip(0, 1)
    assert -10 * np.log10(np.square(rounded - exact).mean()) >= 55
    assert np.abs(np.rint(rounded * 255) - np.rint(exact * 255)).max() <= 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-50, 50), st.floats(0.01, 10))
def test_merged_statistics_are_those_of_the_whole(heights, mean, deviation):
    torch.manual_seed(0)
    x = torch.randn(1, 5, sum(heights), 7) * deviation + mean
    statistics = bands.Statistics()
    for band in x.split(heights, 2):
        statistics.add(band.contiguous(memory_format=torch.channels_last))
    statistics.add(x[:, :, :0])
    var, centre = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    assert sum(statistics.counts) == 7 * sum(heights)
    merged_mean, merged_variance = statistics.merged()
    assert torch.allclose(merged_mean, centre, atol=1e-5 * (1 + abs(mean)))
    assert torch.allclose(merged_variance, var, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "buffers"), [("dped", 2), ("dped", 1), ("resnet_8_32", 0), ("srcnn", 0), ("batch norm", 0)]
)
def test_the_number_of_threads_changes_no_bit(name, buffers, dtype):
    model, image = NETWORKS[name], noise(97, 33)
    outputs = []
    for count in (1, 2, 5):
        how = plans.Plan(buffers, 8, plans.sweeps(model, buffers), 1.0, 0, count)
        outputs.append(torch.cat(list(bounded_memory.stream(model, image, how, dtype))))
    assert outputs[0].shape == image.shape and outputs[0].std() > 0.01
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_a_thread_computes_alone_and_the_caller_keeps_its_threads():
    before = torch.get_num_threads()
    with sweeps.Sweeper(40, 3, lambda rows: None) as sweeper:
        counts = list(sweeper.sweep(lambda strip: torch.get_num_threads(), 4, 1))
    assert counts == [1] * 10 and torch.get_num_threads() == before


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_strips_hold_the_rows_around_them_as_they_were(height, size, radius):
    """Each strip overwrites its rows. The next ones still see what was there."""
    buffer = torch.arange(height, dtype=torch.float32).view(-1, 1, 1).clone()

    def work(strip):
        (above,), (own,), (below,) = strip.pieces(buffer)
        seen = torch.cat([above, own, below], 2).flatten()
        buffer[strip.start : strip.end] = -1
        return strip.start, strip.end, seen

    with sweeps.Sweeper(height, 3, lambda rows: None) as sweeper:
        strips = list(sweeper.sweep(work, size, radius, buffer))
    assert [start for start, _, _ in strips] == [0, *(end for _, end, _ in strips[:-1])] and strips[-1][1] == height
    for start, end, seen in strips:
        assert torch.equal(seen, torch.arange(max(start - radius, 0), min(end + radius, height), dtype=torch.float32))


def working(before: set[threading.Thread]) -> list[str]:
    """Return the names of the workers that are not in ``before``. Other tests may have left some in a pool."""
    return [t.name for t in set(threading.enumerate()) - before if t.name.startswith("dped-worker")]


def test_threads_end_when_the_reader_stops():
    """An error or Ctrl-C in the thread that reads the results, a caller that wants no more, an error in a thread."""
    model, image = NETWORKS["resnet_8_32"], noise(300, 200)
    how = plans.Plan(2, 4, plans.sweeps(model, 2), 1.0, 0, 2)
    before = set(threading.enumerate())

    def interrupted(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(bounded_memory.stream(model, image, how, tick=interrupted))
    assert not working(before)

    reading = bounded_memory.stream(model, image, how)
    next(reading)
    assert working(before)
    reading.close()
    assert not working(before)

    def broken(rows):
        raise ValueError("no result")

    with pytest.raises(ValueError, match="no result"):
        list(bounded_memory.stream(model, image, how, finish=broken))
    assert not working(before)


def test_the_plan_counts_the_memory_of_each_thread(monkeypatch):
    model, needs = NETWORKS["dped"], []
    for count in (1, 2, 4):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        how = plans.plan(model, 1080, 1920, torch.float32)
        assert (how.threads, how.buffers) == (count, 2)
        needs.append(how.bytes)
    assert needs[1] - needs[0] == (needs[2] - needs[1]) / 2 > 0
    # With less memory there are fewer threads before anything is computed twice.
    how = plans.plan(model, 1080, 1920, torch.float32, needs[0] - 1)
    assert how.buffers == 2 and (how.threads < 4 or how.rows < 8)


def test_plans_get_by_with_less_by_working_more():
    model = NETWORKS["dped"]
    chosen = [plans.plan(model, 3000, 4000, torch.float32, limit) for limit in (None, 4 << 30, 1 << 30)]
    assert [p.buffers for p in chosen] == [2, 1, 0]
    assert [round(p.work, 1) for p in chosen] == [1.0, 2.1, 4.6]
    assert chosen[0].bytes > chosen[1].bytes > chosen[2].bytes and chosen[2].bytes <= 1 << 30
    assert "4.6 times the work" in chosen[2].describe() and "once" in chosen[0].describe()
    assert plans.plan(model, 3000, 4000, torch.bfloat16, 4 << 30).buffers == 2
    # The work is counted: multiplications of each sweep's layers over those of one pass.
    head, conv = 3 * 64 * 81, 64 * 64 * 9
    once = 2 * head + 10 * conv
    assert chosen[2].work == pytest.approx((8 * head + 36 * conv + once) / once)
    assert chosen[1].work == pytest.approx((2 * head + 22 * conv) / once)


def test_without_statistics_one_sweep_is_enough():
    for name in ("srcnn", "batch norm"):
        how = plans.plan(NETWORKS[name], 3000, 4000, torch.float32)
        assert (how.buffers, how.sweeps, how.work) == (0, 1, 1.0)


def test_too_little_memory_is_said_with_what_would_do():
    with pytest.raises(
        DpedError, match=r"4000 x 3000 needs at least \d+ MiB .* 10 MiB are left. Allow more with --max-memory"
    ):
        plans.plan(NETWORKS["dped"], 3000, 4000, torch.float32, 10 << 20)
    with pytest.raises(DpedError, match="Identity cannot be streamed"):
        plans.plan(nn.Identity(), 100, 100, torch.float32)
