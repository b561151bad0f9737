"""What the paper states: cameras, constants and published tables. Data only, nothing computed.

Source: arXiv v1 of "DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks". Where the later
version or the released code says otherwise, the name says so (``LATER_VERSION``, ``RELEASED``).
"""

from dataclasses import dataclass
from types import MappingProxyType

PHONES = ("iphone", "blackberry", "sony")


@dataclass(frozen=True)
class CameraSpec:
    """One row of Table 1. ``width`` and ``height`` are the full image size in pixels."""

    name: str
    sensor_mp: int
    width: int
    height: int
    quality: str


#: Table 1. (13 MP stands beside the Sony's 2592 x 1944, which is 5 MP: the table's own inconsistency, kept.)
CAMERAS = MappingProxyType(
    {
        "iphone": CameraSpec("iPhone 3GS", 3, 2048, 1536, "Poor"),
        "blackberry": CameraSpec("BlackBerry Passport", 13, 4160, 3120, "Mediocre"),
        "sony": CameraSpec("Sony Xperia Z", 13, 2592, 1944, "Average"),
        "canon": CameraSpec("Canon 70D DSLR", 20, 3648, 2432, "Excellent"),
    }
)

#: Section 2: size of the aligned images, height x width, and section 3.2.1: size of a patch.
ALIGNED_SIZE = (800, 1080)
PATCH_SIZE = 100
NCC_THRESHOLD = 0.9

#: Section 3.2.1: training patches per phone, in thousands, and held-out photographs of each kind.
TRAIN_PATCHES_THOUSANDS = MappingProxyType({"sony": 65, "blackberry": 92, "iphone": 97})
HELD_OUT_PHOTOGRAPHS = 100

#: Section 3.2.3.
ITERATIONS = 20_000
BATCH_SIZE = 50
LEARNING_RATE = 5e-4

#: Equation 4. The exponent divides by 2*sigma (not 2*sigma^2): 3 is a variance, see DEVIATIONS.md.
COLOR_AMPLITUDE = 0.053
COLOR_SIGMA = 3.0

#: Equation 8 (``paper``) and the defaults of the released training code (``released``).
LOSS_WEIGHTS = MappingProxyType(
    {
        "paper": MappingProxyType({"color": 1.0, "texture": 1.0, "content": 0.1, "tv": 100.0}),
        "released": MappingProxyType({"color": 0.5, "texture": 1.0, "content": 10.0, "tv": 2000.0}),
    }
)


@dataclass(frozen=True)
class Score:
    """A published pair of numbers. ``ssim`` is MS-SSIM in the released code (``ssim.py``)."""

    psnr: float
    ssim: float


def _rows(columns, values):
    return MappingProxyType(
        {
            phone: MappingProxyType({c: Score(*v) for c, v in zip(columns, row, strict=True)})
            for phone, row in zip(PHONES, values, strict=True)
        }
    )


#: Table 2: average PSNR/SSIM on the DPED test images. The paper has no column for the untouched photographs.
TABLE2 = _rows(
    ("ape", "dong", "johnson", "ours"),
    (
        ((17.28, 0.8631), (19.90, 0.8813), (19.65, 0.9003), (19.16, 0.9114)),
        ((18.91, 0.8922), (19.34, 0.8998), (19.31, 0.9229), (19.51, 0.9259)),
        ((19.45, 0.9168), (22.00, 0.9291), (21.07, 0.9378), (21.97, 0.9400)),
    ),
)

#: "Ours" of Table 2 for the iPhone in the later version of the paper.
TABLE2_LATER_VERSION = MappingProxyType({"iphone": Score(20.08, 0.9201)})

#: Table 3: PSNR/SSIM for the four loss functions, on the validation subset.
TABLE3 = _rows(
    ("color+content+texture", "content+texture", "mse+texture", "mse"),
    (
        ((20.95, 0.9144), (19.54, 0.9039), (20.53, 0.9029), (21.23, 0.9111)),
        ((20.29, 0.9247), (19.03, 0.9192), (19.96, 0.9163), (20.39, 0.9223)),
        ((22.09, 0.9367), (21.64, 0.9388), (21.48, 0.9229), (21.65, 0.9393)),
    ),
)

#: Section 4.3, the user study: scenes of each of Figure 10's four experiments, questions in all, subjects. Figure 10 is a
#: drawing without numbers: what the paper states of its results is the order of the classes.
STUDY_SCENES = 9
STUDY_QUESTIONS = 108
STUDY_SUBJECTS = 42
