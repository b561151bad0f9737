"""Define the networks of section 3.2.2: the generator and the discriminators, and Dong et al.'s SRCNN.

Where paper and authors' code differ, both forms are here: variant ``paper`` and variant ``code``. Images are float
tensors N x C x H x W. Generators map to (-0.08, 1.08). An unknown name raises a DpedError that lists the allowed ones.
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of

#: Epsilon inside the square root of every normalisation, as in the authors' code. PyTorch's default is 1e-5.
NORM_EPSILON = 1e-3
NORMS = ("instance", "batch")


def scaled_tanh(x: Tensor) -> Tensor:
    """Return the authors' form of the "scaled tanh" of section 3.2.2, in (-0.08, 1.08)."""
    return torch.tanh(x) * 0.58 + 0.5


def initialise(network: nn.Module) -> None:
    """Draw weights from a normal distribution (deviation 0.01, cut at 0.02); set biases to 0.01, as the authors do."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.01)


def normalisation(kind: str, channels: int) -> nn.Module:
    """Return batch norm (section 3.2.2) or instance norm (authors' code), affine per channel."""
    if one_of("norm", kind, NORMS) == "instance":
        return nn.InstanceNorm2d(channels, affine=True, eps=NORM_EPSILON)
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class ResidualBlock(nn.Module):
    """Apply convolution, norm and ReLU twice, then add the input N x ``channels`` x H x W."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = normalisation(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = normalisation(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, in the order of the authors' code."""
        y = F.relu(self.norm1(self.conv1(x)))
        return x + F.relu(self.norm2(self.conv2(y)))


class Generator(nn.Module):
    """Enhance photographs: the fully convolutional network of section 3.2.2 and Figure 7.

    Its 12 layers are one of 9x9, four residual blocks of two 3x3, two more of 3x3 and one of 9x9.
    All but the last have 64 channels and end in ReLU. Zero padding keeps the size.

    Input: RGB N x 3 x H x W in [0, 1]. Output: the same shape, in (-0.08, 1.08).

    Args:
        norm: ``batch`` as the paper says, or ``instance`` as in the authors' code.
        channels, blocks: 32 and 2 give the 8-layer ResNet of the PIRM 2018 challenge.
    """

    def __init__(self, norm: str = "instance", channels: int = 64, blocks: int = 4):
        super().__init__()
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.blocks = nn.ModuleList(ResidualBlock(channels, norm) for _ in range(blocks))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = nn.Conv2d(channels, 3, 9, padding=4)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the enhanced images."""
        x = F.relu(self.head(image))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return scaled_tanh(self.tail(x))


class SRCNN(nn.Module):
    """Enhance photographs with Dong et al.'s layers: 9x9, 5x5, 5x5, and 64 and 32 channels between.

    The form is that of the authors' checkpoint for PIRM 2018. Its last layer has one bias for all
    three channels and the generator's activation. Input and output are those of ``Generator``.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 3, 5, padding=2, bias=False)
        self.shared_bias = nn.Parameter(torch.full((1,), 0.01))
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the enhanced images."""
        x = F.relu(self.conv1(image))
        x = F.relu(self.conv2(x))
        return scaled_tanh(self.conv3(x) + self.shared_bias)


class CodeDiscriminator(nn.Module):
    """Tell DSLR photos from enhanced ones as the authors' code does (``models.py: adversarial``): one image at a time.

    Five convolutions are each followed by LeakyReLU with slope 0.2, and all but the first also by instance norm. Two
    fully connected layers follow, with 1024 and 2 outputs.

    Input: gray N x 1 x 100 x 100 in about [0, 1]. Output: logits N x 2 for (DSLR photo, enhanced photo).
    """

    inputs, outputs = 1, 2

    def __init__(self):
        super().__init__()
        # Channels in and out, kernel, stride.
        shapes = ((1, 48, 11, 4), (48, 128, 5, 2), (128, 192, 3, 1), (192, 192, 3, 1), (192, 128, 3, 2))
        self.convs = nn.ModuleList(nn.Conv2d(*shape) for shape in shapes)
        self.norms = nn.ModuleList(normalisation("instance", shape[1]) for shape in shapes[1:])
        self.fc = nn.Linear(128 * 7 * 7, 1024)
        self.out = nn.Linear(1024, 2)
        initialise(self)

    def forward(self, gray: Tensor) -> Tensor:
        """Return the logits N x 2. Raise a DpedError for images of another shape."""
        check_patch(gray, self.inputs)
        # TensorFlow's SAME padding. In the first layer: three zeros before the image, four after it.
        x = F.leaky_relu(self.convs[0](F.pad(gray, (3, 4, 3, 4))), 0.2)
        for conv, norm, pad in zip(self.convs[1:], self.norms, (2, 1, 1, 1), strict=True):
            x = norm(F.leaky_relu(conv(F.pad(x, [pad] * 4)), 0.2))
        # TensorFlow flattens with the channels last, and the checkpoint's rows are in that order.
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.out(F.leaky_relu(self.fc(x), 0.2))


class PaperDiscriminator(nn.Module):
    """Tell whether the first image of a pair is the DSLR photo (sections 3.1.2 and 3.2.2).

    Six convolutions, each followed by LeakyReLU and batch norm, have 64, 64, 128, 128, 256 and 256
    channels. Each second one has stride 2. A fully connected layer of 1024 neurons and one output
    follow. The loss applies the sigmoid. The paper has no kernel size; ours is 3x3 (DEVIATIONS.md).

    Input: gray N x ``inputs`` x 100 x 100 in about [0, 1].
    Output: logits N x 1 of "the first image is a DSLR photo".

    Args:
        inputs: 2 for the two-image network, which sees both images; 1 for the one-image network.
    """

    outputs = 1

    def __init__(self, inputs: int = 2):
        super().__init__()
        self.inputs = inputs
        layers: list[nn.Module] = []
        previous = inputs
        for width in (64, 128, 256):
            for stride in (1, 2):
                conv = nn.Conv2d(previous, width, 3, stride=stride, padding=1)
                layers += [conv, nn.LeakyReLU(0.2), normalisation("batch", width)]
                previous = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(256 * 13 * 13, 1024)
        self.out = nn.Linear(1024, 1)
        initialise(self)

    def forward(self, gray: Tensor) -> Tensor:
        """Return the logits N x 1."""
        check_patch(gray, self.inputs)
        x = self.features(gray).flatten(1)
        return self.out(F.leaky_relu(self.fc(x), 0.2))


def check_patch(gray: Tensor, inputs: int) -> None:
    """Raise a DpedError unless ``gray`` is a batch of ``inputs`` gray patches of 100 x 100."""
    side = paper.PATCH_SIZE
    if gray.shape[1:] != (inputs, side, side):
        shape = f"N x {inputs} x {side} x {side}"
        raise DpedError(f"the discriminator takes gray patches {shape}, not {tuple(gray.shape)}. Cut the images first.")


#: Networks that enhance, by name. Each function takes the norm; SRCNN has none.
GENERATORS: MappingProxyType[str, Callable[[str], nn.Module]] = MappingProxyType(
    {"dped": Generator, "srcnn": lambda norm: SRCNN(), "resnet_8_32": lambda norm: Generator(norm, 32, 2)}
)
#: The norm of each variant.
NORM_OF = MappingProxyType({"paper": "batch", "code": "instance"})
#: Discriminators by name.
DISCRIMINATORS: MappingProxyType[str, Callable[[], nn.Module]] = MappingProxyType(
    {"code": CodeDiscriminator, "two_image": PaperDiscriminator, "one_image": lambda: PaperDiscriminator(1)}
)


def generator(name: str = "dped", variant: str = "code", norm: str = "") -> nn.Module:
    """Return a new network of ``GENERATORS`` with random weights. The caller seeds PyTorch.

    ``norm`` is ``batch`` or ``instance``; the variant's if it is empty.
    """
    norm = norm or NORM_OF[one_of("variant", variant, NORM_OF)]
    return GENERATORS[one_of("model", name, GENERATORS)](one_of("norm", norm, NORMS))


def discriminator(form: str = "code") -> nn.Module:
    """Return a new network of ``DISCRIMINATORS`` with random weights. The caller seeds PyTorch."""
    return DISCRIMINATORS[one_of("discriminator", form, DISCRIMINATORS)]()


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
