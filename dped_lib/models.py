"""The networks: the paper's generator and discriminators, Dong et al.'s SRCNN, and the forms that the authors released.

Images are RGB (or gray) float tensors N x C x H x W. Every generator maps [0, 1] to (-0.08, 1.08).
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of

#: Epsilon inside the square root of every normalisation, as in the released code. PyTorch's default is 1e-5.
NORM_EPSILON = 1e-3


def scaled_tanh(x: Tensor) -> Tensor:
    """Apply the output activation of every generator: ``tanh(x) * 0.58 + 0.5``, so that 0 and 1 can be reached."""
    return torch.tanh(x) * 0.58 + 0.5


def initialise(network: nn.Module) -> None:
    """Draw the weights from a truncated normal of deviation 0.01 and set the biases to 0.01, as the released code does."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.01)


def normalisation(kind: str, channels: int) -> nn.Module:
    """Return instance norm (the released network) or batch norm (section 3.2.2), each with a weight and a bias a channel."""
    if one_of("norm", kind, ("instance", "batch")) == "instance":
        return nn.InstanceNorm2d(channels, affine=True, eps=NORM_EPSILON)
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class ResidualBlock(nn.Module):
    """Apply convolution, norm and ReLU twice, then add the input. Nothing follows the addition."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = normalisation(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = normalisation(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return x + F.relu(self.norm2(self.conv2(y)))


class Generator(nn.Module):
    """The image transformation network of section 3.2.2 and Figure 7. It is fully convolutional and has 12 layers.

    A 9x9 layer is followed by four residual blocks of two 3x3 layers, two 3x3 layers and a 9x9 layer. Every layer has 64
    channels. Zero padding keeps the size. ``norm="batch"`` is the paper's text, ``norm="instance"`` the released network.
    ``blocks=2, channels=32`` is the 8-layer ResNet of the PIRM 2018 challenge.

    Input: N x 3 x H x W in [0, 1]. Output: the same size, in (-0.08, 1.08).
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
        x = F.relu(self.head(image))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return scaled_tanh(self.tail(x))


class SRCNN(nn.Module):
    """Dong et al.'s three layers (9-5-5, 64 and 32 channels) as the authors trained them for PIRM 2018.

    As in the released checkpoint, the last layer has one bias for all three channels and the generator's output activation.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 3, 5, padding=2, bias=False)
        self.shared_bias = nn.Parameter(torch.full((1,), 0.01))
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.conv1(image))
        x = F.relu(self.conv2(x))
        return scaled_tanh(self.conv3(x) + self.shared_bias)


class SameConv(nn.Conv2d):
    """A strided convolution with TensorFlow's SAME padding, which adds the odd pixel after the image and not before it."""

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for axis in (1, 0):  # F.pad takes the last axis first
            size, kernel, stride = x.shape[axis - 2], self.kernel_size[axis], self.stride[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


class CodeDiscriminator(nn.Module):
    """The discriminator of the released code (``models.py: adversarial``), which sees one gray image of 100 x 100.

    Each of five convolutions is followed by LeakyReLU 0.2 and, from the second on, by instance norm. Two fully connected
    layers of 1024 and 2 outputs end the network.

    Input: N x 1 x 100 x 100 in about [0, 1]. Output: logits N x 2 for (DSLR photo, enhanced photo).
    """

    inputs, outputs = 1, 2

    def __init__(self):
        super().__init__()
        shapes = ((1, 48, 11, 4), (48, 128, 5, 2), (128, 192, 3, 1), (192, 192, 3, 1), (192, 128, 3, 2))
        self.convs = nn.ModuleList(SameConv(i, o, k, stride=s) for i, o, k, s in shapes)
        self.norms = nn.ModuleList(normalisation("instance", o) for _, o, _, _ in shapes[1:])
        self.fc = nn.Linear(128 * 7 * 7, 1024)
        self.out = nn.Linear(1024, 2)
        initialise(self)

    def forward(self, gray: Tensor) -> Tensor:
        check_patch(gray, self.inputs)
        x = F.leaky_relu(self.convs[0](gray), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = norm(F.leaky_relu(conv(x), 0.2))
        # TensorFlow flattens with the channels last, and the rows of the checkpoint's matrix are in that order.
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.out(F.leaky_relu(self.fc(x), 0.2))


class PaperDiscriminator(nn.Module):
    """The discriminator of sections 3.1.2 and 3.2.2: bi-channel (``inputs=2``) or its single-channel counterpart.

    Each of six convolutions is followed by LeakyReLU and batch norm. The channels grow from 64 to 256 and double after each
    second layer, which has stride 2. A fully connected layer of 1024 and one sigmoid output end the network. The paper gives
    no kernel size; this network takes 3x3 (DEVIATIONS.md).

    Input: N x ``inputs`` x 100 x 100, gray, in about [0, 1]. Output: logits N x 1 of "the first image is a DSLR photo".
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
        check_patch(gray, self.inputs)
        x = self.features(gray).flatten(1)
        return self.out(F.leaky_relu(self.fc(x), 0.2))


def check_patch(gray: Tensor, inputs: int) -> None:
    """Raise a DpedError unless ``gray`` is a batch of ``inputs`` gray patches of 100 x 100."""
    if gray.ndim != 4 or tuple(gray.shape[1:]) != (inputs, 100, 100):
        raise DpedError(
            f"the discriminator takes N x {inputs} x 100 x 100 gray patches, not {tuple(gray.shape)}; "
            "cut the images into 100 x 100 patches first."
        )


#: Networks that enhance: name -> function of the norm. SRCNN has no norm.
GENERATORS: MappingProxyType[str, Callable[[str], nn.Module]] = MappingProxyType(
    {
        "dped": Generator,
        "srcnn": lambda norm: SRCNN(),
        "resnet_8_32": lambda norm: Generator(norm, channels=32, blocks=2),
    }
)
#: The norm of each variant.
NORM = MappingProxyType({"paper": "batch", "code": "instance"})

#: Discriminators by name.
DISCRIMINATORS: MappingProxyType[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "code": CodeDiscriminator,
        "two_image": lambda: PaperDiscriminator(2),
        "one_image": lambda: PaperDiscriminator(1),
    }
)


def generator(name: str = "dped", variant: str = "code", norm: str = "") -> nn.Module:
    """Return a freshly initialised network of ``GENERATORS``. ``norm`` replaces the variant's norm. The caller seeds PyTorch."""
    norm = norm or NORM[one_of("variant", variant, NORM)]
    return GENERATORS[one_of("model", name, GENERATORS)](one_of("norm", norm, ("instance", "batch")))


def discriminator(form: str = "code") -> nn.Module:
    """Return a freshly initialised network of ``DISCRIMINATORS``. The caller seeds PyTorch."""
    return DISCRIMINATORS[one_of("discriminator", form, DISCRIMINATORS)]()


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
