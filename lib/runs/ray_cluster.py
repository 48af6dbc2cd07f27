"""A Ray cluster as an engine: each call is a task that requests one CPU and its share of a GPU."""

import logging
import math
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

# Ray reads it when it is imported: no usage reports leave this machine
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

PROCESS_GONE = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)


class RayCluster(Executor):
    """The cluster that this process is connected to or ``RAY_ADDRESS`` names; otherwise one started here.

    Raises
    ------
    ValueError
        If a GPU is required and no machine of the cluster has one.
    """

    def __init__(self, workers: int, device: str) -> None:
        self.connected_here = not ray.is_initialized()
        if self.connected_here:
            _connect(workers)
        self.request = {"num_cpus": 1, "num_gpus": 0.0, "max_retries": 0}
        try:
            if device == "cuda":
                self.request["num_gpus"] = share_of_gpu(ray.cluster_resources().get("GPU", 0), workers)
        except BaseException:
            self.shutdown()
            raise

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        """Queue the call on the cluster. If its process dies, the future raises ``BrokenExecutor``."""
        call = pickle.dumps((function, arguments, named))
        remote = _call_on_node.options(**self.request).remote(sys.path, call)
        future: Future = Future()

        def hand_over(done: Future) -> None:
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            elif isinstance(error, PROCESS_GONE):
                future.set_exception(BrokenExecutor(str(error)))
            else:
                future.set_exception(error)

        remote.future().add_done_callback(hand_over)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Disconnect, unless this process was connected before; a cluster started here ends with that."""
        if self.connected_here:
            ray.shutdown()


def share_of_gpu(gpus: float, workers: int) -> float:
    """Return the share of a GPU that lets `workers` runs run at a time: 1, 1/2, 1/3, ...

    Raises
    ------
    ValueError
        If there is no GPU.
    """
    if gpus < 1:
        raise ValueError(f"device is 'cuda'; the Ray cluster has {gpus:.0f} GPUs")
    return 1 / math.ceil(workers / gpus)


def _connect(cpus: int) -> None:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start one here with this many CPUs."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address, **quiet)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's default too; unless set, Ray warns about it
        ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)


@ray.remote
def _call_on_node(path: Sequence[str], call: bytes) -> Any:
    """Carry out one call in a worker process, which then finds modules where the caller does."""
    sys.path.extend(folder for folder in path if folder not in sys.path)
    function, arguments, named = pickle.loads(call)  # noqa: S301 - the caller pickled it a moment ago
    return function(*arguments, **named)
