"""Small things that several test files share: a store of mosaics, a run of seconds, networks whose layers all matter."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from dped_lib import models, training, vgg
from dped_lib.base.run_parameters import TrainParams
from dped_lib.data.pair_store import Pair, PairStore, write_store


def pair(name: str, split: str, rng: np.random.Generator) -> Pair:
    """A mosaic, and a darker, duller copy of it."""
    dslr = rng.integers(0, 256, (10, 10, 3)).repeat(10, 0).repeat(10, 1)
    return Pair(name, name, (dslr // 2 + 20).astype(np.uint8), dslr.astype(np.uint8), split)


#: The splits of four pairs in a row. Without a test split, or with one.
NO_TEST, WITH_TEST = ("val", "train", "train", "train"), ("val", "test", "train", "train")


def make_store(folder: Path, pairs: int = 12, splits: tuple[str, ...] = NO_TEST, **meta: str) -> PairStore:
    """A store of mosaics. ``splits`` are those of the first pairs, and repeat."""
    rng = np.random.default_rng(0)
    mosaics = (pair(f"mosaic{i}", splits[i % len(splits)], rng) for i in range(pairs))
    return write_store(folder, mosaics, {"report": {}, **meta})


def tiny_vgg(width: int = 8) -> vgg.VGG19:
    """Sixteen layers like VGG-19's, of few channels."""
    rng = torch.Generator().manual_seed(1)
    shapes = [(width, width if i else 3, 3, 3) for i in range(16)]
    kernels = [torch.randn(s, generator=rng) * (2 / (9 * s[1])) ** 0.5 for s in shapes]
    return vgg.VGG19([(k, torch.zeros(width)) for k in kernels], "tiny synthetic network")


def settings(loss: str = "color+content+texture", **changes) -> TrainParams:
    """A run of seconds: the 8-layer network, where the loss lets one choose."""
    small = {
        "model": "resnet_8_32",
        "batch_size": 1,
        "iterations": 6,
        "eval_every": 3,
        "checkpoint_every": 2,
        "eval_pairs": 2,
    }
    return TrainParams("rig", "iphone", loss, **{**small, "augment": True, **changes})


def state(trainer: training.Trainer, part: str) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in getattr(trainer, part).state_dict().items()}


def changed(before: dict, after: dict) -> set[str]:
    return {k for k in before if not torch.equal(before[k], after[k])}


def network(name: str) -> nn.Module:
    """A network whose layers all matter: weights, biases, scales, shifts and running statistics are moved off their start."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = models.generator("dped", "paper") if name == "batch norm" else models.generator(name)
        for p in model.parameters():
            p.data += 0.05 * torch.randn_like(p)
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_()
                m.running_var.uniform_(0.5, 2)
    return model.eval()


NETWORKS = {name: network(name) for name in ("dped", "resnet_8_32", "srcnn", "batch norm")}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def nchw(array: np.ndarray, scale: float = 1.0) -> torch.Tensor:
    """Pictures N x H x W x C as the networks' input, N x C x H x W, divided by ``scale`` (255 for 8 bits)."""
    return torch.tensor(array).permute(0, 3, 1, 2).float() / scale
