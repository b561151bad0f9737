"""Losses compiled by ``torch.compile``, and a training step launched as a whole.

The thousand kernels of an iteration run for microseconds each. Launched one by one from Python, they take longer to launch than
to run, and composed norms and activations move every feature map several times. So the losses are compiled, and the whole
step is recorded once as a CUDA graph and replayed.
"""

import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

#: Iterations that a run must still have before it waits for a compiler, which takes 20 to 60 s and saves milliseconds each.
COMPILE_FROM = 2000


def compiling_pays(device: torch.device, iterations: int) -> bool:
    """Return whether so many iterations are worth a compiler, and whether it has what it needs: a GPU, Triton, a C compiler.

    On a CPU the fused norm and oneDNN are as quick without it (benchmarks/README.md).
    """
    if device.type != "cuda" or iterations < COMPILE_FROM:
        return False
    return find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


class Compiled:
    """A function compiled for the shapes that it is called with. If the compiler fails, it warns and calls the function as it is.

    The gradient is compiled in the first backward pass. A failure there is not caught (``TORCH_COMPILE_DISABLE=1`` helps).
    """

    def __init__(self, function: Callable, **options):
        self._function, self._ran = function, False
        torch.compiler.reset()  # code compiled for earlier trainings holds their memory and counts against a limit of eight
        self._compiled = torch.compile(function, dynamic=False, fullgraph=True, **options)

    def __call__(self, *arguments):
        if self._ran:
            return self._compiled(*arguments)
        try:
            found = self._compiled(*arguments)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler fails in many ways, and training needs none of it
            reason = " ".join(str(error).split()[:60]) or type(error).__name__
            warnings.warn(f"training goes on without torch.compile, which failed: {reason}", stacklevel=2)
            self._compiled = self._function
            found = self._function(*arguments)
        self._ran = True
        return found


class Recorded:
    """A training step as a CUDA graph: its first calls run it as it is, the next records it, and all later ones replay it.

    Each call passes the work, always the same, and its tensors, always of the same shapes and types. The work returns scalars
    by name. The other memory that it reads and writes (weights, gradients, moments) must stay in its place.

    Every call does the step once and returns scalars that belong to the caller.
    """

    #: Calls before recording. In them libraries choose their kernels, and optimisers create their state.
    WARM = 3

    def __init__(self):
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    # Each call passes the work: if we kept it, a trainer and its recording would keep each other, and all their memory, alive.
    def __call__(self, work: Callable[..., dict[str, Tensor]], *inputs: Tensor) -> dict[str, Tensor]:
        with torch.cuda.device(inputs[0].device):  # streams and recordings belong to the current device
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
        # The next replay overwrites the graph's own memory, so we return copies.
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def _apart(self, work: Callable[..., dict[str, Tensor]], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        # On the default stream autograd would leave work that a recording may not contain.
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
