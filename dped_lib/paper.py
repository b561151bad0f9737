"""Hold what the paper states: cameras, constants, published tables and claims. This module computes nothing.

Source: arXiv v1 of "DSLR-Quality Photos on Mobile Devices with Deep Convolutional Networks". Values of its later
version have ``LATER_VERSION`` in their name; values of the authors' code have the key ``code``.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

PHONES = ("iphone", "blackberry", "sony")


@dataclass(frozen=True)
class CameraSpec:
    """Hold one row of Table 1: the sensor in megapixels, and the size of a photograph in pixels."""

    name: str
    sensor_mp: int
    width: int
    height: int
    quality: str


#: Table 1. The paper states both 13 MP and 2592 x 1944 for the Sony, although this size is 5 MP; we keep both.
CAMERAS = MappingProxyType(
    {
        "iphone": CameraSpec("iPhone 3GS", 3, 2048, 1536, "Poor"),
        "blackberry": CameraSpec("BlackBerry Passport", 13, 4160, 3120, "Mediocre"),
        "sony": CameraSpec("Sony Xperia Z", 13, 2592, 1944, "Average"),
        "dslr": CameraSpec("Canon 70D DSLR", 20, 3648, 2432, "Excellent"),
    }
)

#: Section 2: height x width of the aligned images in pixels.
ALIGNED_SIZE = (800, 1080)
#: Section 3.2.1: side of a patch in pixels, and the cross-correlation that a patch pair must exceed.
PATCH_SIZE = 100
NCC_THRESHOLD = 0.9

#: Section 3.2.1: thousands of training patches of each phone.
TRAIN_PATCHES_THOUSANDS = MappingProxyType({"sony": 65, "blackberry": 92, "iphone": 97})

#: Section 3.2.3: iterations of training, pairs in a batch, and the learning rate of Adam.
ITERATIONS = 20_000
BATCH_SIZE = 50
LEARNING_RATE = 5e-4

#: Equation 4. Its exponent divides by 2 sigma and not by 2 sigma^2, so 3 is a variance (DEVIATIONS.md).
COLOR_AMPLITUDE = 0.053
COLOR_SIGMA = 3.0

VARIANTS = ("code", "paper")  #: what formulas follow where the two differ: the authors' code, or the paper's text
#: The weights of equation 8 (``paper``), and those of the authors' training code (``code``).
LOSS_WEIGHTS = MappingProxyType(
    {
        "paper": MappingProxyType({"color": 1.0, "texture": 1.0, "content": 0.1, "tv": 100.0}),
        "code": MappingProxyType({"color": 0.5, "texture": 1.0, "content": 10.0, "tv": 2000.0}),
    }
)


class Score(NamedTuple):
    """Hold a published score: PSNR in dB, and SSIM, which the authors' code computes as MS-SSIM (``ssim.py``)."""

    psnr: float
    ssim: float


def _rows(columns, values):
    return MappingProxyType(
        {
            phone: MappingProxyType({c: Score(*v) for c, v in zip(columns, row, strict=True)})
            for phone, row in zip(PHONES, values, strict=True)
        }
    )


#: Table 2: average PSNR and SSIM on the DPED test images. It has no column for the original photographs.
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

#: Table 3: PSNR and SSIM of four loss functions on the validation subset.
TABLE3 = _rows(
    ("color+content+texture", "content+texture", "mse+texture", "mse"),
    (
        ((20.95, 0.9144), (19.54, 0.9039), (20.53, 0.9029), (21.23, 0.9111)),
        ((20.29, 0.9247), (19.03, 0.9192), (19.96, 0.9163), (20.39, 0.9223)),
        ((22.09, 0.9367), (21.64, 0.9388), (21.48, 0.9229), (21.65, 0.9393)),
    ),
)

#: The loss that the paper proposes: the first column of Table 3.
FULL_LOSS = "color+content+texture"

#: Section 4.3, the user study: scenes in each of the four parts of Figure 10, number of questions, number of subjects.
#: The paper prints no numbers of its results. It states only how the classes of pictures compare.
STUDY_SCENES, STUDY_QUESTIONS, STUDY_SUBJECTS = 9, 108, 42

#: Section 3.1.2: after how many iterations a discriminator tells phone from DSLR images, and with what accuracy.
DISCRIMINATOR_ACCURACY = MappingProxyType({"two_image": (300, 0.99), "one_image": (5000, 0.86)})


@dataclass(frozen=True)
class Claim:
    """Hold a sentence of the paper that can be tested.

    Attributes:
        key: the name of the claim, and of its judge in ``experiments``, if it has one.
        where: section, figure, table or equation.
        sentence: the quotation; [...] marks what is left out.
    """

    key: str
    where: str
    sentence: str


#: The statements that ``experiments.claims`` judges, in the order of its report.
CLAIMS = (
    Claim("cameras", "Table 1", "Sony Xperia Z: 13 MP, 2592 x 1944"),
    Claim("patches", "3.2.1",
          "65K, 92K and 97K training [...] patches for Sony-Canon, BlackBerry-Canon and iPhone-Canon pairs"),
    Claim("shift_small", "3.1.1, Figure 6", "color loss is almost not sensitive to small distortions (1-2 pixels)"),
    Claim("shift_middle", "3.1.1, Figure 6",
          "For higher shifts (3-5px), it is still about 5-10 times smaller compared to the MSE"),
    Claim("shift_large", "3.1.1, Figure 6", "for larger displacements it demonstrates similar magnitude and behavior"),
    Claim("amplitude", "3.1.1, equation 4", "A = 0.053, mu = 0, and sigma = 3"),
    Claim("two_or_one", "3.1.2",
          "it is easier to learn tiny differences when observing samples from both distributions"),
    Claim("two_image", "3.1.2", "the considered CNN achieves the result of 99% after 300 iterations when "
          "trained to differentiate between phone and DSLR images"),
    Claim("one_image", "3.1.2", "while its single-channel counterpart shows only 86% after 5000 steps"),
    Claim("best_ssim", "4.2, Table 2", "our method is the best in terms of SSIM"),
    Claim("psnr_dong", "4.2, Table 2", "On PSNR terms, [...] we consider Dong et al.'s method [...] and ours equivalent"),
    Claim("outperforms", "4.2, Table 2", "while outperforming other methods [in PSNR]"),
    Claim("ours_iphone", "Table 2", "Ours, iPhone: 19.16 dB, 0.9114"),
    Claim("improves", "1.2", "the advantage of the enhanced photos over the originals"),
    Claim("study_originals", "4.3, Figure 10", "both pictures taken with a DSLR as well as pictures enhanced [...] are "
          "picked much more often than the original ones"),
    Claim("study_equal", "4.3, Figure 10", "The human subjects are unable to distinguish between them"),
    Claim("study_manual", "4.3, Figure 10", "the images enhanced by the proposed CNN are picked the most often, "
          "outperforming even the results of manual retouching"),
    Claim("noise", "4.4", "this noise issue occurred only on photos from the poor iPhone 3Gs camera and not on "
          "the photos from the better Sony and BlackBerry cameras"),
    Claim("texture_color", "Appendix, Table 3", "the adversarial network that stands behind the texture loss can "
          "cause significant color deviations, and the additional MSE term cannot effectively suppress them"),
    Claim("content_color", "Appendix, Table 3", "Content loss shows better results in this case [than MSE + texture]"),
    Claim("color_term", "Appendix, Table 3", "Adding an extra color term further improves the resulting images, "
          "making the colors [...] closer to the target"),
    Claim("mse_blur", "Appendix, Table 3", "Single MSE demonstrates high PSNR and SSIM values [...] while [...] "
          "slightly degrading image sharpness"),
    Claim("top_scores", "Appendix, Table 3",
          "[color + content + texture] loss [...] achieves both top PSNR and SSIM scores"),
)  # fmt: skip
