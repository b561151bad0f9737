"""The presets: how much computing a run may spend. Dataset and preset are independent."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.validation import one_of


@dataclass(frozen=True)
class Preset:
    """How much computing. Dataset and preset are independent.

    Attributes:
        iterations, batch_size, learning_rate: section 3.2.3 of the paper.
        eval_every: iterations between evaluations on the validation split.
        checkpoint_every: iterations between checkpoints (interrupted work resumes from the last one).
        eval_pairs: at most so many pairs of the validation split are evaluated during training; 0 means all.
        augment: whether batches are flipped and turned at random. Neither paper nor released code does.
        table_pairs: at most so many pairs of a split are behind a cell of a table; 0 means all.
        shift_patches: patches that Figure 6 is averaged over (50 000 in the paper).
        resamples: bootstrap resamples behind an interval.
        telling_iterations, telling_batch: training of a discriminator that tells phone from DSLR (section 3.1.2).
        variant_iterations: training behind a row of the comparison of paper and released code.
        photographs: whole photographs of each phone that are enhanced for the figures.
        inspected: at most so many of each phone are looked through for flaws (section 4.4).
        seeds: seeds trained for each (phone, loss).
    """

    name: str
    iterations: int
    batch_size: int
    learning_rate: float
    eval_every: int
    checkpoint_every: int
    eval_pairs: int
    augment: bool
    table_pairs: int
    shift_patches: int
    resamples: int
    telling_iterations: int
    telling_batch: int
    variant_iterations: int
    photographs: int
    inspected: int
    seeds: tuple[int, ...]


_SMOKE = Preset(
    # Sized so that the whole reproduction, its trainings included, ends in minutes on two CPU cores.
    # The networks, patches and learning rate are the paper's; only the amount of training is not.
    name="smoke",
    iterations=60,
    batch_size=2,
    learning_rate=paper.LEARNING_RATE,
    eval_every=30,
    checkpoint_every=20,
    eval_pairs=16,
    augment=True,
    table_pairs=30,
    shift_patches=480,
    resamples=400,
    telling_iterations=40,
    telling_batch=6,
    variant_iterations=10,
    photographs=2,
    inspected=3,
    seeds=(0,),
)
_CPU = replace(
    # What two slow cores can do for one phone in an hour or two: five times smoke, a thousandth of the paper, with three seeds.
    _SMOKE,
    name="cpu",
    iterations=200,
    batch_size=4,
    eval_every=100,
    checkpoint_every=50,
    table_pairs=0,
    shift_patches=2000,
    resamples=2000,
    telling_iterations=300,
    telling_batch=16,
    variant_iterations=60,
    photographs=3,
    inspected=100,
    seeds=(0, 1, 2),
)
_PAPER = replace(
    _CPU,
    name="paper",
    iterations=paper.ITERATIONS,
    batch_size=paper.BATCH_SIZE,
    eval_every=1000,
    checkpoint_every=500,
    eval_pairs=0,
    augment=False,
    shift_patches=50_000,
    telling_iterations=5000,
    telling_batch=paper.BATCH_SIZE,
    variant_iterations=paper.ITERATIONS,
    photographs=4,
)
PRESETS = MappingProxyType({p.name: p for p in (_SMOKE, _CPU, _PAPER)})


def preset(name: str) -> Preset:
    return PRESETS[one_of("preset", name, PRESETS)]
