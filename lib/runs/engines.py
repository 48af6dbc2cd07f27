"""Engines: where the runs of a sweep are carried out. An engine is a `concurrent.futures.Executor`."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing import active_children, get_context
from typing import Any, ClassVar

import torch

from lib.environment import changed_environment

ENGINES = ("local", "ray")
NO_GPU = "device is 'cuda'; this machine has no GPU that torch can use"


def check_engine(engine: str | Executor) -> None:
    """Refuse an engine that `start_engine` does not know or that is not installed.

    Raises
    ------
    ValueError
        For an unknown engine, or Ray where it is not installed.
    """
    if isinstance(engine, Executor):
        return
    if engine not in ENGINES:
        allowed = ", ".join(map(repr, ENGINES))
        raise ValueError(f"engine is {engine!r}; allowed: {allowed}, a concurrent.futures.Executor")
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("engine is 'ray', which is not installed: pip install -r requirements-ray.txt")


def start_engine(engine: str, workers: int, device: str) -> Executor:
    """Start an engine by its name.

    Parameters
    ----------
    engine : str
        "local": this process, or worker processes if there is more than one worker. "ray": a Ray cluster.
    workers : int
        How many runs (or groups of runs) run at a time. GPUs are shared evenly among them.
    device : str
        "cpu" or "cuda".

    Raises
    ------
    ValueError
        If a GPU is required and there is none.
    """
    if engine == "ray":
        from lib.runs.ray_cluster import RayCluster  # an optional extra

        return RayCluster(workers, device)
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(NO_GPU)
    return InProcess() if workers == 1 else LocalProcesses(workers, device)


class InProcess(Executor):
    """Runs one after another in the caller's process: nothing to start, and a debugger can step in."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        """Carry out the call before returning."""
        future: Future = Future()
        future.set_result(function(*arguments, **named))
        return future


class LocalProcesses(Executor):
    """Worker processes on this machine, each in a pool of its own: if one dies, only its run is lost.

    With several GPUs, each process sees one of them. A new engine takes over the idle processes of the last
    one if they were started in the same way. Calls return what `lib.runs.tasks.execute` returns. Processes
    are spawned, so a script needs the guard ``if __name__ == "__main__":``.
    """

    def __init__(self, workers: int, device: str) -> None:
        environments = [worker_environment(slot, device) for slot in range(workers)]
        self.slots = [_Slot(number, environment) for number, environment in enumerate(environments)]
        _Slot.end_idle()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        """Hand the call to a free process. At most ``workers`` calls may be under way."""
        return next(slot for slot in self.slots if slot.is_free()).submit(function, *arguments, **named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave idle processes to the next engine, and kill the others."""
        for slot in self.slots:
            slot.leave()


Started = tuple[int, str, tuple[str, ...], frozenset[tuple[str, str]]]
"""How a worker process was started: its slot, working directory, import path and environment."""


class _Worker:
    """A process in a pool of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=get_context("spawn"),
            initializer=_leave_with_caller,
            initargs=(os.getpid(),),
        )
        with changed_environment(environment):  # inherited by the process, which starts at the first call
            self.pid = self.pool.submit(os.getpid)

    def end(self) -> None:
        """Kill the process if it is still alive."""
        with suppress(BrokenExecutor):  # it died before it could tell its number
            pid = self.pid.result()
            for process in active_children():  # not by number alone, which the system may have given anew
                if process.pid == pid:
                    process.kill()
        self.pool.shutdown(wait=True)


class _Slot:
    """A place for one worker process, which is replaced if it dies."""

    idle: ClassVar[dict[Started, _Worker]] = {}  # kept between sweeps: a start costs seconds of imports

    def __init__(self, number: int, environment: Mapping[str, str]) -> None:
        self.environment = environment
        whole = frozenset({**os.environ, **environment}.items())
        self.started: Started = (number, os.getcwd(), tuple(sys.path), whole)
        self.worker = self.idle.pop(self.started, None)
        self.last: Future | None = None

    @classmethod
    def end_idle(cls) -> None:
        """Kill the processes that no engine took over."""
        while cls.idle:
            cls.idle.popitem()[1].end()

    def is_free(self) -> bool:
        return self.last is None or self.last.done()

    def is_usable(self) -> bool:
        """Whether the process is idle and its last run did not fail.

        After a CUDA error it cannot go on, and after running out of memory it may still hold some.
        """
        if self.last is None:
            return True
        if not self.last.done() or self.last.exception() is not None:
            return False
        return all(outcome.status != "failed" for outcome in self.last.result())

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        if not self.is_usable():
            self.end()
        self.worker = self.worker or _Worker(self.environment)
        try:
            self.last = self.worker.pool.submit(function, *arguments, **named)
        except BrokenExecutor:  # its process died while it was idle
            self.end()
            self.worker = _Worker(self.environment)
            self.last = self.worker.pool.submit(function, *arguments, **named)
        return self.last

    def leave(self) -> None:
        if self.worker is not None and self.is_usable():
            self.idle[self.started] = self.worker
        else:
            self.end()

    def end(self) -> None:
        worker, self.worker, self.last = self.worker, None, None
        if worker is not None:
            worker.end()


def worker_environment(slot: int, device: str) -> dict[str, str]:
    """Return the environment variables that a worker process needs before it loads any library.

    Raises
    ------
    ValueError
        If a GPU is required and there is none.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
    environment = dict.fromkeys(names, "1")
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment["TQDM_DISABLE"] = "1"  # a sweep has one bar: the caller's
    if device == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
        if not gpus:
            raise ValueError(NO_GPU)
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def _leave_with_caller(caller: int) -> None:
    """Make a worker process end with its caller, since nobody would keep its records."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller handles it and ends its workers

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
