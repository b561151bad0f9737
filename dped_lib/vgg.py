"""VGG-19 up to relu5_4: the features of the content loss (section 3.1.3). ``vggfile`` reads its weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dped_lib.base.validation import one_of

_BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
#: conv1_1 ... conv5_4, in order.
CONVS = tuple(f"{b}_{c}" for b, widths in enumerate(_BLOCKS, 1) for c, _ in enumerate(widths, 1))
_WIDTHS = tuple(w for widths in _BLOCKS for w in widths)
#: Shape of each layer's kernel: outputs x inputs x 3 x 3.
SHAPES = tuple((o, i, 3, 3) for o, i in zip(_WIDTHS, (3, *_WIDTHS[:-1]), strict=True))

#: RGB means that the Oxford networks subtract from pixels in 0..255.
OXFORD_MEAN = (123.68, 116.779, 103.939)

#: Kernel (out x in x 3 x 3, RGB order) and bias (out) of each layer.
Weights = list[tuple[Tensor, Tensor]]


class VGG19(nn.Module):
    """The convolutional part of VGG-19, frozen, with layers by name (``relu1_1`` ... ``relu5_4``).

    Max pooling is TensorFlow's SAME, as in the released ``vgg.py``: odd sizes are rounded up, and a 100 x 100 patch ends at
    7 x 7. Gradients flow to the input and not to the weights.

    Input: RGB N x 3 x H x W in [0, 1].

    Args:
        weights: of the 16 layers.
        label: what the weights are. Every result that used them names it.
        mean, std, scale: the first layer sees ``(image * scale - mean) / std``.
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
        """Return the activations of several layers (``reluB_C``) from one pass, which ends at the deepest of them."""
        for layer in layers:
            one_of("VGG layer", layer, (f"relu{c}" for c in CONVS))
        found = {}
        x = (image * self.scale - self.mean) / self.std
        for name, conv in self.convs.items():
            if name.endswith("_1") and name != "1_1":
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = F.relu(conv(x))
            if f"relu{name}" in layers:
                found[f"relu{name}"] = x
            if len(found) == len(set(layers)):
                break
        return found
