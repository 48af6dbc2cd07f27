"""A stand-in for CUDA graphs on a CPU: it records closures, and refuses what no graph can record."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lib.capture import Graphs

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

    def capture(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        number, results = self.captured, []
        self.captured += 1

        def replay() -> Tensor:
            self.replayed.append(number)
            with WithoutWaiting():
                result = step()
            results.append(result)
            return results[0].copy_(result)

        return replay


class NoGraphs(FakeGraphs):
    """Run every step as it stands, but on the batches that are made for graphs."""

    def capture(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return step


def use(monkeypatch: pytest.MonkeyPatch, module: str, graphs: Graphs) -> None:
    """Make a module of lib capture steps with these graphs."""

    @contextmanager
    def graphs_for(device: torch.device, capture: bool) -> Iterator[Graphs | None]:
        yield graphs if capture else None

    monkeypatch.setattr(f"{module}.graphs_for", graphs_for)
