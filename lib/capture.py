"""Training steps as CUDA graphs: recorded once for each shape of their inputs, then replayed.

A step of a small batch is thousands of kernels of a few microseconds, and Python takes longer to launch them
than the GPU to run them. A graph launches them all at once. It repeats exactly what was recorded, on the same
addresses: inputs are copied into buffers that stay, the learning rate is a tensor, and nothing in the step
may wait for the GPU or depend on values that it computed.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

WARM_UP = 3
"""Steps of each shape before it is captured: libraries choose kernels and workspaces in the first ones."""

Step = Callable[..., Tensor]
"""Takes tensors, changes weights, and returns a tensor."""


class Graphs(Protocol):
    """What records a step, without carrying it out, and returns a function that does."""

    def capture(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record a step."""


class CudaGraphs:
    """CUDA graphs of one stream that share their memory.

    Nothing that a graph leaves in that memory may be read after another one was replayed, except what its
    step returned.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def capture(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record a step, without carrying it out; return a function that replays it.

        PyTorch registers the device's default random generator with every graph, so a replay draws what the
        step would draw.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                result = step()
        except RuntimeError as error:
            # A capture that ran out of memory may fail once more as it ends, which would hide the reason.
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            raise

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


@contextmanager
def graphs_for(device: torch.device, capture: bool) -> Iterator[Graphs | None]:
    """Yield what captures steps on a device, or None on a CPU or if nothing is to be captured.

    While steps are captured, everything within the context runs on one stream beside the default one: a graph
    cannot be recorded on the default stream, and what autograd keeps belongs to the stream of its step.
    """
    if not capture or device.type != "cuda":
        yield None
        return
    graphs, caller = CudaGraphs(device), torch.cuda.current_stream(device)
    graphs.stream.wait_stream(caller)
    try:
        with torch.cuda.stream(graphs.stream):
            yield graphs
    finally:
        caller.wait_stream(graphs.stream)


@dataclass
class _Recorded:
    """The buffers of one shape, how often its step has run, and its replay once it was captured."""

    buffers: tuple[Tensor, ...]
    runs: int = 0
    replay: Callable[[], Tensor] | None = None


class Steps:
    """A step that is called again and again, with inputs of a few shapes.

    The first calls of every shape are carried out as they stand, and count like all others; then the step is
    captured. Without graphs every call is carried out as it stands.

    Parameters
    ----------
    step : callable
        Takes tensors and returns one, which is valid until the next call.
    graphs : Graphs, optional
    """

    def __init__(self, step: Step, graphs: Graphs | None) -> None:
        self.step, self.graphs = step, graphs
        self.recorded: dict[tuple[torch.Size, ...], _Recorded] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Carry out the step."""
        if self.graphs is None:
            return self.step(*inputs)
        shape = tuple(given.shape for given in inputs)
        if shape not in self.recorded:
            self.recorded[shape] = _Recorded(tuple(torch.empty_like(given) for given in inputs))
        recorded = self.recorded[shape]
        for buffer, given in zip(recorded.buffers, inputs, strict=True):
            buffer.copy_(given)
        if recorded.replay is not None:
            return recorded.replay()
        if recorded.runs == WARM_UP:
            recorded.replay = self.graphs.capture(lambda: self.step(*recorded.buffers))
            return recorded.replay()
        recorded.runs += 1
        with warnings.catch_warnings():
            # An optimizer that can be captured warns that so far it is not.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            return self.step(*recorded.buffers)
