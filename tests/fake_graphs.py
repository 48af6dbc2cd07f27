"""A stand-in for CUDA graphs on a CPU: it records closures, and refuses what no graph can record."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from lib.capture import Graphs, Result

# What reads a value from the device or sends one there, or whose result has a size that values decide.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "lift_fresh", "unique")


class WithoutWaiting(TorchDispatchMode):
    """Refuse operations for which the host would wait."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = function.__name__.partition(".")[0]
        if name in WAITING:
            raise AssertionError(f"a captured step calls {name}")
        return function(*args, **(kwargs or {}))


class FakeGraphs:
    """Capture is a closure; a replay calls it and writes its result to where the first one was written."""

    def __init__(self) -> None:
        self.captured = 0
        self.replayed: list[int] = []

    running = staticmethod(nullcontext)

    def capture(self, step: Callable[[], Result]) -> Callable[[], Result]:
        number, results = self.captured, []
        self.captured += 1

        def replay() -> Result:
            self.replayed.append(number)
            with WithoutWaiting():
                results.append(step())
            return tree_map(Tensor.copy_, results[0], results[-1])

        return replay


class NoGraphs(FakeGraphs):
    """Run every step as it stands, but on the batches that are made for graphs."""

    def capture(self, step: Callable[[], Result]) -> Callable[[], Result]:
        return step


def use(monkeypatch: pytest.MonkeyPatch, module: str, graphs: Graphs) -> None:
    """Make a module of lib capture steps with these graphs, on batches of the lengths that CUDA has."""
    # Modules without texts, or with texts of one length, do not ask for the lengths.
    monkeypatch.setattr(f"{module}.has_static_lengths", lambda device: True, raising=False)
    monkeypatch.setattr(f"{module}.graphs_for", lambda device, capture: graphs if capture else None)
