"""Compile the losses with ``torch.compile``, and replay a whole training step as a CUDA graph.

An iteration runs about a thousand kernels of a few microseconds each. Python takes longer to launch them than they run.
Norms and activations that are composed of several kernels also move every feature map several times. So the losses are
compiled, and the whole step is recorded once and then replayed.
"""

import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

#: The losses are compiled if a run still has this many iterations: it takes 20 to 60 s, and each iteration saves only
#: milliseconds.
COMPILE_FROM = 2000


def compiling_pays(device: torch.device, iterations: int) -> bool:
    """Return whether compiling pays for this many iterations, and whether Triton and a C compiler are installed.

    On a CPU, the fused norm and oneDNN are as fast without compiling (benchmarks/README.md).
    """
    if device.type != "cuda" or iterations < COMPILE_FROM:
        return False
    return find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


class Compiled:
    """Compile a function at its first call. If the compiler fails, warn and call the plain function instead.

    The gradient is compiled in the first backward pass. A failure there is raised; ``TORCH_COMPILE_DISABLE=1`` avoids
    it.
    """

    def __init__(self, function: Callable, **options):
        self._function, self._ran = function, False
        # Code that was compiled for earlier trainings keeps their memory, and counts towards a limit of eight.
        torch.compiler.reset()
        self._compiled = torch.compile(function, dynamic=False, fullgraph=True, **options)

    def __call__(self, *arguments):
        """Return what the function returns."""
        if self._ran:
            return self._compiled(*arguments)
        try:
            result = self._compiled(*arguments)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler fails in many ways, and training does not need it
            reason = " ".join(str(error).split()[:60]) or type(error).__name__
            warnings.warn(
                f"training goes on without torch.compile, which failed: {reason}. TORCH_COMPILE_DISABLE=1 skips the attempt",
                stacklevel=2,
            )
            self._compiled = self._function
            result = self._function(*arguments)
        self._ran = True
        return result


class Recorded:
    """Run a training step as a CUDA graph: the first calls run it plainly, the next records it, later ones replay it.

    Each call passes the same work, and tensors of the same shapes and types. The work returns scalars by name. All
    other memory that it reads and writes (weights, gradients, moments) must keep its address.
    """

    #: Number of calls before recording. During these calls, libraries choose kernels and optimisers create their state.
    WARM = 3

    def __init__(self):
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    # The work is an argument. If we stored it, a trainer and its recording would keep each other's memory alive.
    def __call__(self, work: Callable[..., dict[str, Tensor]], *inputs: Tensor) -> dict[str, Tensor]:
        """Do the step once and return its scalars. They belong to the caller."""
        with torch.cuda.device(inputs[0].device):  # streams and recordings belong to the current device
            return self._step(work, inputs)

    def _step(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if self._graph is None and self._calls < self.WARM:
            self._calls += 1
            return self._apart(work, inputs)
        if self._graph is None:
            self._record(work, inputs)
        for recorded, new in zip(self._inputs, inputs, strict=True):
            recorded.copy_(new)
        self._graph.replay()
        # The next replay overwrites the graph's own memory, so we return copies.
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _apart(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        # On the default stream, autograd would leave work behind that a recording must not contain.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            scalars = work(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return scalars

    def _record(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [i.clone() for i in inputs]
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
            scalars = work(*self._inputs)
            self._names, self._values = tuple(scalars), torch.stack([v.float() for v in scalars.values()])
        self._graph = graph
