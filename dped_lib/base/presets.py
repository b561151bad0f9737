"""Define the presets, which set the amount of computing. Dataset and preset are independent."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of


@dataclass(frozen=True)
class Preset:
    """Set the amount of computing of a run.

    Attributes:
        iterations, batch_size, learning_rate: section 3.2.3 of the paper.
        dong_iterations: iterations of Dong et al.'s network, which is small and needs more of them.
        eval_every: iterations between evaluations on the validation split.
        checkpoint_every: iterations between checkpoints (an interrupted training resumes from the last one).
        eval_pairs: largest number of validation pairs that are evaluated during training; 0 means all.
        augment: whether batches are flipped and rotated at random. Neither the paper nor the authors' code does this.
        table_pairs: largest number of pairs that one cell of a table is measured on; 0 means all.
        shift_patches: number of patches that Figure 6 averages (50 000 in the paper).
        resamples: number of bootstrap resamples for an interval. The accuracy of a discriminator always gets 2000.
        discriminator_iterations, discriminator_batch: iterations and batch size of the training in which a discriminator
            learns to distinguish phone from DSLR patches (section 3.1.2).
        variant_iterations: iterations for each row of the comparison of paper and authors' code.
        photographs: number of whole photographs of each phone that are enhanced for the figures.
        inspected: largest number of photographs of each phone that are searched for flaws (section 4.4).
        seeds: the seeds that are trained for each phone and loss. :func:`seeds_of` returns those of a dataset.
    """

    name: str
    iterations: int
    dong_iterations: int
    batch_size: int
    learning_rate: float
    eval_every: int
    checkpoint_every: int
    eval_pairs: int
    augment: bool
    table_pairs: int
    shift_patches: int
    resamples: int
    discriminator_iterations: int
    discriminator_batch: int
    variant_iterations: int
    photographs: int
    inspected: int
    seeds: tuple[int, ...]


_SMOKE = Preset(
    # At this size the whole reproduction with its trainings takes minutes on two CPU cores.
    # Patch size, learning rate and size of the networks are those of the paper. The trainings are shorter, and their
    # patches are flipped and rotated at random.
    name="smoke",
    iterations=60,
    dong_iterations=60,
    batch_size=2,
    learning_rate=paper.LEARNING_RATE,
    eval_every=30,
    checkpoint_every=20,
    eval_pairs=16,
    augment=True,
    table_pairs=30,
    shift_patches=480,
    resamples=400,
    discriminator_iterations=40,
    discriminator_batch=6,
    variant_iterations=10,
    photographs=4,
    inspected=3,
    seeds=(0,),
)
_CPU = replace(
    # A training draws 16 000 patches (Dong's network 80 000); the paper's draws a million. On city100 the validation of MSE, MSE +
    # texture and Dong's network has levelled off by then; that of the other losses still rises. Seconds an iteration on two
    # cores: full loss 0.66, MSE + texture 0.43, Johnson 0.36, MSE 0.29, Dong 0.05. The full loss takes 22 minutes, and the
    # six losses of a phone and seed take an hour and a half.
    # Networks of this preset ship with the package (``data.shipped_runs``).
    _SMOKE,
    name="cpu",
    iterations=2000,
    dong_iterations=10_000,
    batch_size=8,
    eval_every=100,
    eval_pairs=100,
    checkpoint_every=50,
    table_pairs=0,
    shift_patches=2000,
    resamples=2000,
    discriminator_iterations=300,
    discriminator_batch=paper.BATCH_SIZE,
    variant_iterations=60,
    photographs=8,
    inspected=100,
    seeds=(0, 1, 2),
)
_PAPER = replace(
    _CPU,
    name="paper",
    iterations=paper.ITERATIONS,
    dong_iterations=paper.ITERATIONS,
    batch_size=paper.BATCH_SIZE,
    eval_every=1000,
    checkpoint_every=500,
    eval_pairs=0,
    augment=False,
    shift_patches=50_000,
    discriminator_iterations=5000,
    variant_iterations=paper.ITERATIONS,
)
PRESETS = MappingProxyType({p.name: p for p in (_SMOKE, _CPU, _PAPER)})
#: The preset of commands, notebooks and the workflow if none is named. Its networks of ``rig`` and ``city100`` ship.
DEFAULT = "cpu"


#: The datasets that are trained with one seed. The rig is simulated and decides no claim about photographs. The networks
#: of ``city100`` ship with the package (``data.shipped_runs``), so that a run takes minutes. With photographs of their own,
#: users want a network and not a verdict on the paper.
_ONE_SEED = ("rig", "city100", "own")
#: With more seeds the workflow would plan its jobs for hours, and a mistyped number would fill the memory.
MOST_SEEDS = 100


def seeds_of(dataset: str, preset: Preset, number: int = 0) -> tuple[int, ...]:
    """Return the seeds that are trained for each phone and loss of a dataset.

    On ``pirm`` the seeds are also the folds (``datasets.FOLDS``).

    Args:
        dataset, preset: a name of ``datasets.DATASETS``, and the amount of computing.
        number: how many seeds the user asks for, at most ``MOST_SEEDS``; 0 leaves the choice to dataset and preset.

    Raises:
        DpedError: ``number`` is negative or too large.
    """
    if not 0 <= number <= MOST_SEEDS:
        raise DpedError(
            f"seeds={number}: give the number of seeds to train, 1 to {MOST_SEEDS}, or 0 for those of the preset."
        )
    return tuple(range(number)) if number else preset.seeds[: 1 if dataset in _ONE_SEED else None]


def preset(name: str) -> Preset:
    """Return the preset of a name, or raise a DpedError that lists the presets."""
    return PRESETS[one_of("preset", name, PRESETS)]
