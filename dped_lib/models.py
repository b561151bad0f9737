"""The networks: the paper's generator and discriminators, Dong et al.'s SRCNN, and the forms the authors released.

Images are RGB (or gray) float tensors N x C x H x W. Generators map [0, 1] to (-0.08, 1.08): the output is
``tanh * 0.58 + 0.5`` so that 0 and 1 are reachable (``models.py`` of the released code).
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib.speed import gpu, norm as fused_norm
from dped_lib.base.config import one_of
from dped_lib.base.errors import DpedError

#: Inside the square root of every normalisation, as in the released code (PyTorch's default is 1e-5).
NORM_EPSILON = 1e-3


def _wide(x: Tensor) -> Tensor:
    """``x`` in at least float32: what mixed precision must not round (statistics, outputs, logits)."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def scaled_tanh(x: Tensor) -> Tensor:
    """The output activation of every generator: (-0.08, 1.08)."""
    return torch.tanh(x) * 0.58 + 0.5


def _initialise(module: nn.Module) -> None:
    """Truncated normal of deviation 0.01 for weights, 0.01 for biases, as in the released code (both forms)."""
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.trunc_normal_(m.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.constant_(m.bias, 0.01)


class InstanceNorm(nn.Module):
    """Normalises each channel of each image by its own mean and biased variance, then scales and shifts.

    Written as statistics, then one scale and shift: ``nn.InstanceNorm2d`` leaves the channels-last layout and is
    slower there. On a CPU ``fused_norm.norm`` does it in fewer passes. Statistics are float32 whatever the precision of the input.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """``relu``: whether ReLU follows, which is then part of the same pass."""
        if fused_norm.fits(x, self.scale):
            return fused_norm.norm(x, self.scale, self.shift, NORM_EPSILON, relu)
        var, mean = torch.var_mean(_wide(x), dim=(2, 3), keepdim=True, correction=0)
        scale = self.scale[:, None, None] * torch.rsqrt(var + NORM_EPSILON)
        shift = self.shift[:, None, None] - mean * scale
        y = x * scale.to(x.dtype) + shift.to(x.dtype)
        return F.relu(y) if relu else y


def _norm(kind: str, channels: int) -> nn.Module:
    if one_of("norm", kind, ("instance", "batch")) == "instance":
        return InstanceNorm(channels)
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


def _norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x, relu=True) if isinstance(norm, InstanceNorm) else F.relu(norm(x))


class ResidualBlock(nn.Module):
    """conv - norm - ReLU twice; the input is added after the second ReLU and nothing follows the addition."""

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = _norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = _norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = _norm_relu(self.norm1, self.conv1(x))
        return x + _norm_relu(self.norm2, self.conv2(y))


class Generator(nn.Module):
    """The image transformation network of section 3.2.2 and Figure 7: fully convolutional, 12 layers.

    A 9x9 layer, four residual blocks of two 3x3 layers, two 3x3 layers and a 9x9 layer; 64 channels; zero padding
    keeps the size. ``norm="batch"`` is the paper's text, ``norm="instance"`` the released network.
    ``blocks=2, channels=32`` is the 8-layer ResNet of the PIRM 2018 challenge.

    Input N x 3 x H x W in [0, 1]; output the same size in (-0.08, 1.08).
    """

    def __init__(self, norm: str = "instance", channels: int = 64, blocks: int = 4):
        super().__init__()
        self.head = nn.Conv2d(3, channels, 9, padding=4)
        self.blocks = nn.ModuleList(ResidualBlock(channels, norm) for _ in range(blocks))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = nn.Conv2d(channels, 3, 9, padding=4)
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(gpu.convolve(self.head, image))
        for block in self.blocks:
            x = block(x)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return scaled_tanh(_wide(gpu.convolve(self.tail, x)))


class SRCNN(nn.Module):
    """Dong et al.'s three layers (9-5-5, 64 and 32 channels) as the authors trained it for PIRM 2018.

    The last layer has one bias for the three channels, as in the released checkpoint, and the same output
    activation as the generator.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 3, 5, padding=2, bias=False)
        self.shared_bias = nn.Parameter(torch.full((1,), 0.01))
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.trunc_normal_(conv.weight, std=0.01, a=-0.02, b=0.02)
            if conv.bias is not None:
                nn.init.constant_(conv.bias, 0.01)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(gpu.convolve(self.conv1, image))
        x = F.relu(self.conv2(x))
        return scaled_tanh(_wide(gpu.convolve(self.conv3, x)) + self.shared_bias)


class _SameConv(nn.Conv2d):
    """Strided convolution with TensorFlow's SAME padding: the odd pixel is added after, not before."""

    def forward(self, x: Tensor) -> Tensor:
        pad = []
        for size, kernel, stride in zip(
            reversed(x.shape[-2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad))


class ReleasedDiscriminator(nn.Module):
    """The discriminator of the released code (``models.py: adversarial``): one gray 100x100 image.

    Five convolutions, LeakyReLU 0.2, then (from the second) instance norm; FC 1024; two outputs.
    Input N x 1 x 100 x 100 in about [0, 1]. Output: logits N x 2 for (DSLR photo, enhanced photo).
    """

    inputs, outputs = 1, 2

    def __init__(self):
        super().__init__()
        shapes = ((1, 48, 11, 4), (48, 128, 5, 2), (128, 192, 3, 1), (192, 192, 3, 1), (192, 128, 3, 2))
        self.convs = nn.ModuleList(_SameConv(i, o, k, stride=s) for i, o, k, s in shapes)
        self.norms = nn.ModuleList(InstanceNorm(o) for _, o, _, _ in shapes[1:])
        self.fc = nn.Linear(128 * 7 * 7, 1024)
        self.out = nn.Linear(1024, 2)
        _initialise(self)

    def forward(self, gray: Tensor) -> Tensor:
        _check_patch(gray, self.inputs)
        x = F.leaky_relu(self.convs[0](gray), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = norm(F.leaky_relu(conv(x), 0.2))
        # TensorFlow flattens channels last; the checkpoint's rows are in that order.
        x = x.permute(0, 2, 3, 1).flatten(1)
        return _wide(self.out(F.leaky_relu(self.fc(x), 0.2)))


class PaperDiscriminator(nn.Module):
    """The discriminator of sections 3.1.2 and 3.2.2: bi-channel (``inputs=2``) or its single-channel counterpart.

    Six convolutions, LeakyReLU then batch norm, 64 to 256 channels doubling after each second layer, which has
    stride 2; FC 1024; sigmoid. The paper gives no kernel size: 3x3 here, see DEVIATIONS.md.
    Input N x ``inputs`` x 100 x 100, gray, in about [0, 1]. Output: logits N x 1 of "the first image is a DSLR photo".
    """

    outputs = 1

    def __init__(self, inputs: int = 2):
        super().__init__()
        self.inputs = inputs
        layers: list[nn.Module] = []
        previous = inputs
        for width in (64, 128, 256):
            for stride in (1, 2):
                layers += [
                    nn.Conv2d(previous, width, 3, stride=stride, padding=1),
                    nn.LeakyReLU(0.2),
                    nn.BatchNorm2d(width, eps=NORM_EPSILON),
                ]
                previous = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(256 * 13 * 13, 1024)
        self.out = nn.Linear(1024, 1)
        _initialise(self)

    def forward(self, gray: Tensor) -> Tensor:
        _check_patch(gray, self.inputs)
        x = self.features(gray).flatten(1)
        return _wide(self.out(F.leaky_relu(self.fc(x), 0.2)))


def _check_patch(gray: Tensor, inputs: int) -> None:
    if gray.ndim != 4 or tuple(gray.shape[1:]) != (inputs, 100, 100):
        raise DpedError(
            f"the discriminator takes N x {inputs} x 100 x 100 gray patches, not {tuple(gray.shape)}; "
            "cut the images into 100 x 100 patches first."
        )


#: Networks that enhance, by name, of a norm (``NORM`` has each variant's). SRCNN has none.
GENERATORS: MappingProxyType[str, Callable[[str], nn.Module]] = MappingProxyType(
    {
        "dped": Generator,
        "srcnn": lambda norm: SRCNN(),
        "resnet_8_32": lambda norm: Generator(norm, channels=32, blocks=2),
    }
)
NORM = MappingProxyType({"paper": "batch", "released": "instance"})

#: Discriminators by name.
DISCRIMINATORS: MappingProxyType[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "released": ReleasedDiscriminator,
        "bichannel": lambda: PaperDiscriminator(2),
        "single": lambda: PaperDiscriminator(1),
    }
)


def generator(name: str = "dped", variant: str = "released", norm: str = "") -> nn.Module:
    """A freshly initialised enhancing network (``GENERATORS``) with the variant's norm, or another; random state is the caller's."""
    norm = norm or NORM[one_of("variant", variant, NORM)]
    return GENERATORS[one_of("model", name, GENERATORS)](one_of("norm", norm, ("instance", "batch")))


def discriminator(form: str = "released") -> nn.Module:
    """A freshly initialised discriminator (``DISCRIMINATORS``)."""
    return DISCRIMINATORS[one_of("discriminator", form, DISCRIMINATORS)]()


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
