"""What keeps a GPU busy: nothing waits for the host, kernels are fused, a training step is launched as a whole.

The thousand kernels of an iteration run for microseconds each; launched one by one from Python they take longer to launch
than to run, and composed norms and activations move every feature map several times. So the losses are compiled
(``torch.compile``), and the whole step is recorded once as a CUDA graph and replayed. On a CPU nothing here changes anything.
"""

import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels that are few: the matrix units take them by so many.
FEW = 8
#: Iterations that a run must still have before it waits for a compiler: that takes 20 to 60 s, and saves milliseconds each.
COMPILE_FROM = 2000


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``conv(x)`` for a layer of stride 1 whose padding keeps the size: on a GPU in a quicker order where channels are few."""
    if x.is_cuda and conv.in_channels < FEW:
        return from_few(x, conv.weight, conv.bias, conv.padding[0])
    return to_few(x, conv.weight, conv.bias) if x.is_cuda and conv.out_channels < FEW else conv(x)


def from_few(x: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=(rows, k // 2))`` for few channels of input.

    A GPU's matrix units take channels by eight: of a 9x9 layer with three they use a third, slowly. The image shifted by each of nine
    horizontal offsets is 27 channels of a 9x1 layer: the same sums.
    """
    k, width = weight.shape[3], x.shape[3]
    wide = F.pad(x, (k // 2, k // 2))
    shifted = torch.cat([wide[..., d : d + width] for d in range(k)], 1)
    weight = weight.permute(0, 3, 1, 2).flatten(1, 2).unsqueeze(3)  # channel c at offset d is channel d * C + c
    more = -shifted.shape[1] % FEW
    shifted, weight = (F.pad(t, (0, 0, 0, 0, 0, more)) for t in (shifted, weight))
    shifted, weight = (t.contiguous(memory_format=torch.channels_last) for t in (shifted, weight))
    return F.conv2d(shifted, weight, bias, padding=(rows, 0))


def to_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.conv2d(x, weight, bias, padding=k // 2)`` for few channels of output, in at least float32.

    A column of taps to a channel of its own for each (horizontal offset, output), summed shifted, as ``bands.Tail`` has it on a CPU.
    """
    out, _, k, _ = weight.shape
    weight = weight.permute(3, 0, 1, 2).flatten(0, 1).unsqueeze(3)
    weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -k * out % FEW)).contiguous(memory_format=torch.channels_last)
    planes = F.pad(F.conv2d(x, weight, padding=(k // 2, 0)), (k // 2, k // 2))
    planes = planes.float() if planes.dtype in (torch.bfloat16, torch.float16) else planes
    found = sum(planes[:, d * out : (d + 1) * out, :, d : d + x.shape[3]] for d in range(k))
    return found if bias is None else found + bias.view(-1, 1, 1)


def put(array: np.ndarray, device: torch.device) -> Tensor:
    """``array`` on the device; the host does not wait for a GPU to take it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def compiling_pays(device: torch.device, iterations: int) -> bool:
    """Whether so many iterations are worth a compiler, and it has what it needs: a GPU, Triton, a C compiler.

    On a CPU the fused norm (``fused``) and oneDNN are as quick without (benchmarks/README.md).
    """
    if device.type != "cuda" or iterations < COMPILE_FROM:
        return False
    return find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


class Compiled:
    """A function compiled for the shapes it is called with; where the compiler fails on it, the function as it is, with a warning.

    Its gradient is compiled in the first backward pass; a failure there is not caught (``TORCH_COMPILE_DISABLE=1`` helps).
    """

    def __init__(self, function: Callable, **options):
        self._function, self._ran = function, False
        torch.compiler.reset()  # what was compiled for earlier trainings counts against a limit of eight, and holds their memory
        self._compiled = torch.compile(function, dynamic=False, fullgraph=True, **options)

    def __call__(self, *arguments):
        if self._ran:
            return self._compiled(*arguments)
        try:
            found = self._compiled(*arguments)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler fails in many ways, and none of them is a reason not to train
            reason = " ".join(str(error).split()[:60]) or type(error).__name__
            warnings.warn(f"training goes on without torch.compile, which failed: {reason}", stacklevel=2)
            self._compiled = self._function
            found = self._function(*arguments)
        self._ran = True
        return found


class Recorded:
    """A step as a CUDA graph: run as it is at first, then recorded, then replayed.

    It is called with the step's work, always the same, and tensors for it, always of the same shapes and types. The work returns
    scalars by name; what else it reads and writes (weights, gradients, moments) stays where it is in memory.

    Every call does the step once; the returned scalars are the caller's to keep.
    """

    #: Calls before recording: libraries choose their kernels in them, optimisers make their state.
    WARM = 3

    def __init__(self):
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    # The work comes with each call: kept, a method of the object that keeps this one would keep both, and all their memory.
    def __call__(self, work: Callable[..., dict[str, Tensor]], *inputs: Tensor) -> dict[str, Tensor]:
        with torch.cuda.device(inputs[0].device):  # streams and recordings are the current device's
            return self._step(work, inputs)

    def _step(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if self._graph is None and self._calls < self.WARM:
            self._calls += 1
            return self._apart(work, inputs)
        if self._graph is None:
            self._record(work, inputs)
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given)
        self._graph.replay()
        # The next replay writes over the graph's own memory.
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _apart(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        # Not on the default stream, where autograd would leave work that a recording may not contain.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = work(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return found

    def _record(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [i.clone() for i in inputs]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
            found = work(*self._inputs)
            self._names, self._values = tuple(found), torch.stack([v.float() for v in found.values()])
        self._graph = graph
