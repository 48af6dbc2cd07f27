"""A sweep's runs on a Ray cluster: each a task that asks for its threads and its share of a GPU."""

import hashlib
import logging
import math
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

# read by Ray as it is imported: no usage reports leave this machine
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from lib.runs.engines import Outcome, Task, execute


class RayCluster:
    """The cluster that ``RAY_ADDRESS`` names or this process is connected to, else one started here.

    Raises
    ------
    ValueError
        When no machine of the cluster has the threads of a run, or none has the GPU it asks for.
    """

    gone = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError)

    def __init__(self, inputs: Mapping[str, Any], workers: int, threads: int, device: str) -> None:
        self.connected_here = not ray.is_initialized()
        if self.connected_here:
            _connect(workers * threads)
        self.request = {"num_cpus": threads, "num_gpus": 0.0, "max_retries": 0}
        try:
            most = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
            if threads > most:
                raise ValueError(f"threads is {threads}; the cluster's machines have at most {most:.0f} CPUs")
            if device == "cuda":
                self.request["num_gpus"] = share_of_gpu(ray.cluster_resources().get("GPU", 0), workers)
            pickled = pickle.dumps(inputs)
            self.token = hashlib.sha256(pickled).hexdigest()
            self.inputs = ray.put(pickled)
        except BaseException:
            self.close()
            raise

    def submit(self, task: Task) -> "Future[Outcome]":
        """Queue the run on the cluster."""
        remote = _execute_on_node.options(**self.request)
        return remote.remote(dict(task), sys.path, self.token, self.inputs).future()

    def close(self) -> None:
        """Leave the cluster, unless this process was connected before; one started here ends with that."""
        if self.connected_here:
            ray.shutdown()


def share_of_gpu(gpus: float, workers: int) -> float:
    """Return the share of a GPU that lets `workers` runs go at once: 1, 1/2, 1/3, ...

    Raises
    ------
    ValueError
        When there is no GPU.
    """
    if gpus < 1:
        raise ValueError(f"device is 'cuda'; the Ray cluster has {gpus:.0f} GPUs")
    return 1 / math.ceil(workers / gpus)


def _connect(cpus: int) -> None:
    """Connect to the cluster that is named, else start one here with room for the runs."""
    quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address, **quiet)
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's default too, which it warns about
        ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)


_inputs_here: dict[str, Mapping[str, Any]] = {}


@ray.remote
def _execute_on_node(task: Task, path: Sequence[str], token: str, inputs: bytes) -> Outcome:
    """Carry out one run in a worker process, which finds modules where the caller does."""
    sys.path.extend(folder for folder in path if folder not in sys.path)
    if token not in _inputs_here:
        _inputs_here.clear()
        _inputs_here[token] = pickle.loads(inputs)  # noqa: S301 - the caller pickled it a moment ago
    return execute(task, _inputs_here[token])
