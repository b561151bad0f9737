"""Give each phone, kernel, loss, discriminator and class of pictures one colour in every figure.

The colours are from Okabe and Ito's palette, which people with any common colour blindness can tell apart. A figure
also names what it draws, in words, so that no fact depends on colour alone. ``experiments.claims_matrix`` colours the
verdicts.
"""

from types import MappingProxyType

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PINK = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

#: The order of curves that have no colour of their own.
SERIES = (BLACK, ORANGE, SKY, PINK, GREEN, VERMILION, BLUE)

#: Cameras, as in ``base.datasets``.
PHONE_COLORS = MappingProxyType(
    {"iphone": BLUE, "blackberry": VERMILION, "sony": GREEN, "iphonex": SKY, "phone": PINK, "dslr": BLACK}
)
#: The Gaussians of the colour loss (``losses.KERNELS``), and the MSE that they are compared with.
KERNEL_COLORS = MappingProxyType({"mse": BLACK, "printed": ORANGE, "sigma3": SKY, "code": PINK})
#: The losses of a training (``losses.LOSSES``).
LOSS_COLORS = MappingProxyType(
    {
        "color+content+texture": GREEN,
        "content+texture": ORANGE,
        "mse+texture": PINK,
        "mse": BLACK,
        "dong": SKY,
        "johnson": VERMILION,
    }
)
#: The forms of the discriminator (``models.DISCRIMINATORS``). The two that are drawn have no phone's colour: a phone is named
#: below their picture.
DISCRIMINATOR_COLORS = MappingProxyType({"two_image": BLACK, "one_image": ORANGE, "code": PINK})
#: The classes of pictures in the user study (``user_study.questions.KINDS``). "enhanced" is "ours" and has its colour.
CLASS_COLORS = MappingProxyType(
    {"original": ORANGE, "dslr": BLACK, "enhanced": GREEN, "automatic": SKY, "manual": PINK}
)


def text_on(color: str) -> str:
    """Return ``white`` or ``black``, whichever can be read better on a colour given as ``#RRGGBB``."""
    linear = [(int(color[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The ratio of contrast of WCAG 2 with white, and with black.
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"
