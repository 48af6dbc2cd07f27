"""Steps are captured once for each shape and replayed on the right buffers; CUDA graphs do the same."""

import pytest
import torch
from fake_graphs import FakeGraphs, WithoutWaiting

from lib import capture
from lib.capture import WARM_UP, CudaGraphs, Steps, graphs_for, has_static_lengths

CPU = torch.device("cpu")


class Sum:
    """Adds up its inputs in a tensor, as training changes weights."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.total = torch.zeros(3, device=device)
        self.called = 0

    def __call__(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        self.called += 1
        self.total += x.sum(0) * factor
        return x.sum()


def inputs(device: torch.device = CPU) -> list[tuple[torch.Tensor, torch.Tensor]]:
    stream = torch.Generator().manual_seed(0)
    rows = [2, 2, 5, 2, 2, 5, 2, 5, 2, 5, 5, 1, 2, 5]
    return [
        (torch.rand(count, 3, generator=stream).to(device), torch.rand((), generator=stream).to(device))
        for count in rows
    ]


def test_every_step_counts_whether_it_warms_up_or_is_captured_or_replayed() -> None:
    plain, captured, graphs = Sum(), Sum(), FakeGraphs()
    steps, alike = Steps(captured, graphs), Steps(plain, None)
    for given in inputs():
        assert torch.equal(steps(*given), alike(*given))
        assert torch.equal(captured.total, plain.total)
    # Of seven steps of two rows, and six of five, the first three are not captured; the single row never is.
    assert WARM_UP == 3
    assert graphs.captured == 2
    assert graphs.replayed == [0, 0, 0, 1, 1, 0, 1]


def test_a_capture_carries_nothing_out() -> None:
    graphs, step = FakeGraphs(), Sum()
    replay = graphs.capture(lambda: step(torch.ones(2, 3), torch.ones(())))
    assert step.called == 0
    replay()
    assert step.total.tolist() == [2, 2, 2]


def test_a_step_that_waits_for_the_device_is_noticed() -> None:
    def waiting(x: torch.Tensor) -> torch.Tensor:
        return x * x.sum().item()

    steps = Steps(waiting, FakeGraphs())
    for _ in range(WARM_UP):
        steps(torch.ones(2))
    with pytest.raises(AssertionError, match="a captured step calls _local_scalar_dense"):
        steps(torch.ones(2))
    with pytest.raises(AssertionError, match="lift_fresh"), WithoutWaiting():
        torch.tensor([1.0])


def test_an_optimizer_that_is_not_captured_yet_does_not_warn() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        import warnings

        warnings.warn("This instance was constructed with capturable=True or some of all ...", stacklevel=2)
        return x

    Steps(step, FakeGraphs())(torch.ones(1))
    with pytest.raises(UserWarning, match="capturable"):
        Steps(step, None)(torch.ones(1))


def test_on_a_cpu_and_on_request_nothing_is_captured() -> None:
    for device, wanted in ((CPU, True), (CPU, False), (torch.device("cuda"), False)):
        assert graphs_for(device, wanted) is None


def test_lengths_depend_on_the_device_alone() -> None:
    assert has_static_lengths(torch.device("cuda"))
    assert not has_static_lengths(CPU)


class Ending:
    """A capture that fails once more as it ends."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def test_a_capture_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "graph_pool_handle", "CUDAGraph"):
        monkeypatch.setattr(capture.torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(capture.torch.cuda, "graph", Ending)

    def full() -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    graphs = CudaGraphs(torch.device("cuda"))
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        graphs.capture(full)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        graphs.capture(lambda: torch.ones(()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_graphs_replay_to_the_bit() -> None:
    device = torch.device("cuda")
    plain, captured = Sum(device), Sum(device)
    steps = Steps(captured, graphs_for(device, True))
    results = [steps(*given).clone() for given in inputs(device)]
    expected = [plain(*given) for given in inputs(device)]
    assert torch.equal(torch.stack(results), torch.stack(expected))
    assert torch.equal(captured.total, plain.total)
    assert captured.called == 2 * (WARM_UP + 1) + 1
