"""Compute the features of the content loss (section 3.1.3): VGG-19 up to relu5_4. ``data.vgg_files`` reads weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib.base.validation import one_of

_BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
#: Names of the 16 convolutions in order, from ``1_1`` to ``5_4``.
CONVS = tuple(f"{b}_{c}" for b, widths in enumerate(_BLOCKS, 1) for c, _ in enumerate(widths, 1))
#: Names of the layers whose features can be compared: the ReLU after each convolution.
LAYERS = tuple(f"relu{name}" for name in CONVS)
_WIDTHS = tuple(w for widths in _BLOCKS for w in widths)
#: Shape of the kernel of each convolution: outputs x inputs x 3 x 3.
SHAPES = tuple((o, i, 3, 3) for o, i in zip(_WIDTHS, (3, *_WIDTHS[:-1]), strict=True))

#: RGB means that the Oxford networks subtract from values in [0, 255].
OXFORD_MEAN = (123.68, 116.779, 103.939)

#: Kernel (outputs x inputs x 3 x 3, RGB order) and bias (outputs) of each convolution.
Weights = list[tuple[Tensor, Tensor]]


class VGG19(nn.Module):
    """Compute the activations of VGG-19's convolutional layers, ``relu1_1`` to ``relu5_4``. The weights are frozen.

    Max pooling rounds odd sizes up, like TensorFlow's SAME padding in the authors' ``vgg.py``: a patch of 100 x 100 has
    7 x 7 activations in the last block. Gradients reach the image, but not the weights.

    Input: RGB N x 3 x H x W in [0, 1]. An unknown layer raises a DpedError that lists the allowed ones.

    Args:
        weights: kernels and biases of the 16 convolutions.
        label: names the weights in every result that used them.
        mean, std, scale: the first layer gets ``(image * scale - mean) / std``.
    """

    def __init__(self, weights: Weights, label: str, mean=OXFORD_MEAN, std=(1.0, 1.0, 1.0), scale: float = 255.0):
        super().__init__()
        self.label = label
        self.convs = nn.ModuleDict()
        for name, (kernel, bias) in zip(CONVS, weights, strict=True):
            conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
            conv.weight.data, conv.bias.data = kernel.float(), bias.float()
            self.convs[name] = conv
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor, layer: str = "relu5_4") -> Tensor:
        """Return the activations of one layer: N x C x h x w."""
        return self.features(image, (layer,))[layer]

    def features(self, image: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the activations of several layers (``reluB_C``) from one pass, up to the deepest."""
        for layer in layers:
            one_of("VGG layer", layer, LAYERS)
        activations = {}
        x = (image * self.scale - self.mean) / self.std
        for name, conv in self.convs.items():
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = F.relu(conv(x))
            if f"relu{name}" in layers:
                activations[f"relu{name}"] = x
            if len(activations) == len(set(layers)):
                break
        return activations
