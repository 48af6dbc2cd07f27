"""Training steps as CUDA graphs: recorded once for each shape of their inputs, then replayed.

A step of a small batch is thousands of kernels of a few microseconds, and Python takes longer to launch them
than the GPU to run them. A graph launches them all at once. It repeats exactly what was recorded, on the same
addresses: inputs are copied into buffers that stay, the learning rate is a tensor, and nothing in the step
may wait for the GPU or depend on values that it computed.
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

WARM_UP = 3
"""Steps of each shape before it is captured: libraries choose kernels and workspaces in the first ones."""

STATIC_LENGTHS = 4
"""Number of lengths to which batches are padded on CUDA; each is captured once."""

MULTIPLE = 8
"""What static lengths are multiples of: fast kernels require it."""

Result = TypeVar("Result")


class Graphs(Protocol):
    """What records a step, without carrying it out, and returns a function that does."""

    def capture(self, step: Callable[[], Result]) -> Callable[[], Result]:
        """Record a step."""

    def running(self) -> AbstractContextManager[None]:
        """Return the context in which steps are carried out, captured and replayed."""


class CudaGraphs:
    """CUDA graphs that share their memory, on a stream beside the default one.

    A graph cannot be recorded on the default stream, and what autograd keeps belongs to the stream of its
    step. Nothing that a graph leaves in the shared memory may be read after another one was replayed, except
    what its step returned.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = _stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run on the graphs' stream, after what was launched before and before what is launched later."""
        caller = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(caller)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            caller.wait_stream(self.stream)

    def capture(self, step: Callable[[], Result]) -> Callable[[], Result]:
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

        def replay() -> Result:
            graph.replay()
            return result

        return replay


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of a device's graphs: cuBLAS keeps a workspace of 32 MiB for each that it has met."""
    return torch.cuda.Stream(device)


def graphs_for(device: torch.device, capture: bool) -> Graphs | None:
    """Return what captures steps on a device, or None on a CPU or if nothing is to be captured."""
    return CudaGraphs(device) if capture and device.type == "cuda" else None


def has_static_lengths(device: torch.device) -> bool:
    """Whether batches are padded to a few lengths: on CUDA, captured or not, so results are the same."""
    return device.type == "cuda"


@dataclass
class _Recorded(Generic[Result]):
    """The buffers of one shape, how often its step has run, and its replay once it was captured."""

    buffers: tuple[Tensor, ...]
    runs: int = 0
    replay: Callable[[], Result] | None = None


class Steps(Generic[Result]):
    """A step that is called again and again, with inputs of a few shapes.

    The first calls of every shape are carried out as they stand, and count like all others; then the step is
    captured. Without graphs every call is carried out as it stands.

    Parameters
    ----------
    step : callable
        Takes tensors, changes weights or leaves them, and returns a tensor or several, which are valid until
        the next call.
    graphs : Graphs, optional
    """

    def __init__(self, step: Callable[..., Result], graphs: Graphs | None) -> None:
        self.step, self.graphs = step, graphs
        self.recorded: dict[tuple[torch.Size, ...], _Recorded[Result]] = {}

    def __call__(self, *inputs: Tensor) -> Result:
        """Carry out the step."""
        if self.graphs is None:
            return self.step(*inputs)
        with self.graphs.running():
            return self._carried_out(self.graphs, inputs)

    def _carried_out(self, graphs: Graphs, inputs: tuple[Tensor, ...]) -> Result:
        shape = tuple(given.shape for given in inputs)
        if shape not in self.recorded:
            self.recorded[shape] = _Recorded(tuple(torch.empty_like(given) for given in inputs))
        recorded = self.recorded[shape]
        for buffer, given in zip(recorded.buffers, inputs, strict=True):
            buffer.copy_(given)
        if recorded.replay is not None:
            return recorded.replay()
        if recorded.runs == WARM_UP:
            recorded.replay = graphs.capture(lambda: self.step(*recorded.buffers))
            return recorded.replay()
        recorded.runs += 1
        with warnings.catch_warnings():
            # An optimizer that can be captured warns that so far it is not.
            warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
            return self.step(*recorded.buffers)


def static_lengths(longest: Sequence[int], most: int) -> list[int]:
    """Return to which length each batch is padded if only a few lengths are allowed.

    The allowed ones are the quartiles of the batches' own lengths, rounded up to a multiple of 8.

    Parameters
    ----------
    longest : sequence of int, (batches,)
        Tokens of each batch's longest text.
    most : int
        Tokens that the model can read: nothing is padded beyond it.
    """
    ascending = sorted(longest)
    ends = [len(ascending) * part // STATIC_LENGTHS for part in range(1, STATIC_LENGTHS + 1)]
    allowed = [-(-ascending[max(end, 1) - 1] // MULTIPLE) * MULTIPLE for end in ends]
    return [max(own, min(next(length for length in allowed if length >= own), most)) for own in longest]
