"""Where a sweep's runs are carried out: one run, and the engines of a single machine."""

import gc
import os
import pickle
import platform
import re
import resource
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import joblib.externals.loky.process_executor as loky
import torch
from threadpoolctl import threadpool_limits

from lib.runs.provenance import code_fingerprint, resolve, versions
from lib.runs.records import NAN, Record, checked_result, encode, nan_reason

Task = Mapping[str, Any]
"""A run as a worker gets it: key, settings, provenance (as in its record), versions, attempt."""

Outcome = tuple[str, bytes]
"""A run as a worker hands it back: its status and its record, encoded."""


class Engine(Protocol):
    """Something that carries runs out."""

    gone: tuple[type[BaseException], ...]
    """What a run's future raises when the process it ran in is gone."""

    def submit(self, task: Task) -> "Future[Outcome]":
        """Start a run. At most `workers` are under way at a time."""

    def close(self) -> None:
        """Stop what was started."""


def execute(task: Task, inputs: Mapping[str, Any]) -> Outcome:
    """Carry out one run, whatever becomes of it."""
    on_cuda = task["provenance"]["device"] == "cuda" and torch.cuda.is_available()
    result: Mapping[str, Any] = {}
    where = None
    _reset_peak_memory(on_cuda)
    start = time.perf_counter()
    try:
        with _threads(task["provenance"]["threads"]):
            result = checked_result(_function(task)(**task["settings"], **inputs))
        reason = nan_reason(result)
    except (Exception, SystemExit) as error:
        reason, where = failure(error), traceback.format_exc()
    record = Record(
        settings=task["settings"],
        status="failed" if reason else "done",
        reason=reason,
        result=result,
        provenance=task["provenance"],
        device=_device_name(on_cuda),
        versions=dict(versions()),
        seconds=time.perf_counter() - start,
        peak_memory=_peak_memory(on_cuda),
        attempts=task["attempt"],
        traceback=where,
    )
    if on_cuda:  # what this run leaves behind is not the next one's to go without
        gc.collect()
        torch.cuda.empty_cache()
    return record.status, encode(task["key"], record)


def failure(error: BaseException) -> str:
    """Say in one line why a run failed."""
    text = (str(error).strip() or "no message").splitlines()[0][:300]
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"out of memory: {text}"
    if isinstance(error, FloatingPointError):
        return f"{NAN}: {text}"
    return f"{type(error).__name__}: {text}"


def _function(task: Task) -> Any:
    """Import a run's function, and make sure that it is the caller's: a cluster's machines may differ."""
    name, callers = task["provenance"]["function"], task["provenance"]["code"]
    function = resolve(name)
    code = code_fingerprint(function.__module__)
    if code != callers:
        raise RuntimeError(f"the code of {name} is {code} in the worker, {callers} at the caller")
    theirs = task["versions"]
    differ = [f"{n} {v} (caller: {theirs.get(n)})" for n, v in versions().items() if v != theirs.get(n)]
    if differ:
        raise RuntimeError(f"versions in the worker differ: {', '.join(differ)}")
    return function


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let torch and the linear algebra libraries use this many threads: sums depend on how they are split."""
    before = torch.get_num_threads()
    try:
        with threadpool_limits(number):
            torch.set_num_threads(number)
            yield
    finally:
        torch.set_num_threads(before)


def _device_name(on_cuda: bool) -> str:
    """Name the device as far as it can decide a number: the GPU's model, or the CPU's vector instructions."""
    if on_cuda:
        return torch.cuda.get_device_name()
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _reset_peak_memory(on_cuda: bool) -> None:
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: largest resident set := resident set
    except OSError:
        return


def _peak_memory(on_cuda: bool) -> int:
    if on_cuda:
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # macOS, in bytes, since the process began
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


class InProcess:
    """Runs one after another in this very process: no start-up, and a debugger sees them."""

    gone: tuple[type[BaseException], ...] = ()

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs

    def submit(self, task: Task) -> "Future[Outcome]":
        """Carry the run out before returning."""
        future: Future[Outcome] = Future()
        future.set_result(execute(task, self.inputs))
        return future

    def close(self) -> None:
        """Nothing was started."""


Started = tuple[int, str, tuple[str, ...], frozenset[tuple[str, str]]]
"""What a worker process was started with: its slot, folder, import path and environment."""

_idle: dict[Started, loky.ProcessPoolExecutor] = {}
"""Processes that the last sweep left: one that starts spends seconds importing what they have imported."""


class LocalProcesses:
    """joblib's worker processes, each a pool of its own, so that one that dies takes no other's run with it.

    Where there are several GPUs, each process sees one of them. A sweep takes over the processes that the one
    before it left, if they were started with what it would start them with.
    """

    gone = (loky.BrokenProcessPool,)

    def __init__(self, inputs: Mapping[str, Any], workers: int, threads: int, device: str) -> None:
        self.inputs = pickle.dumps(inputs)
        self.environments = [worker_environment(slot, threads, device) for slot in range(workers)]
        self.started = [_started(slot, environment) for slot, environment in enumerate(self.environments)]
        self.pools = [_idle.pop(started, None) for started in self.started]
        self.futures: list[Future[Outcome] | None] = [None] * workers
        while _idle:
            _end(_idle.popitem()[1])

    def submit(self, task: Task) -> "Future[Outcome]":
        """Hand the run to a process that is free."""
        slot = next(i for i, future in enumerate(self.futures) if future is None or future.done())
        if not self._is_usable(slot):
            self._end(slot)
        try:
            self.futures[slot] = self._submit(slot, task)
        except loky.BrokenProcessPool:  # its process was killed while it had nothing to do
            self._end(slot)
            self.futures[slot] = self._submit(slot, task)
        return self.futures[slot]

    def close(self) -> None:
        """Leave the processes that have nothing to do to the next sweep, and end the others."""
        for slot, pool in enumerate(self.pools):
            if pool is not None and self._is_usable(slot):
                _idle[self.started[slot]] = pool
            else:
                self._end(slot)

    def _is_usable(self, slot: int) -> bool:
        """Whether a slot has nothing to do, and its last run left a process that can do more.

        After a CUDA error it can't, and after one of memory it may still hold some.
        """
        last = self.futures[slot]
        return last is None or (last.done() and last.exception() is None and last.result()[0] != "failed")

    def _submit(self, slot: int, task: Task) -> "Future[Outcome]":
        """Hand a run to a slot's process, and with the first one what all runs share."""
        pool = self.pools[slot]
        if pool is None:
            pool = self.pools[slot] = loky.ProcessPoolExecutor(
                max_workers=1,
                env=self.environments[slot],
                initializer=_start_worker,
                initargs=(os.getpid(),),
            )
        first = self.futures[slot] is None
        return pool.submit(_execute_in_worker, dict(task), self.inputs if first else None)

    def _end(self, slot: int) -> None:
        pool, self.pools[slot], self.futures[slot] = self.pools[slot], None, None
        if pool is not None:
            _end(pool)


def _started(slot: int, environment: Mapping[str, str]) -> Started:
    return slot, os.getcwd(), tuple(sys.path), frozenset({**os.environ, **environment}.items())


def _end(pool: loky.ProcessPoolExecutor) -> None:
    """End a process, whatever it is doing."""
    pool.shutdown(wait=True, kill_workers=True)


def worker_environment(slot: int, threads: int, device: str) -> dict[str, str]:
    """Return what a worker process has in its environment before it loads any library.

    Raises
    ------
    ValueError
        When a GPU is asked for and there is none.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = dict.fromkeys(names, str(threads))
    environment |= {
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }  # a sweep has one bar, the caller's
    if device == "cuda":
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = seen.split(",") if seen else [str(i) for i in range(torch.cuda.device_count())]
        if not gpus:
            raise ValueError("device is 'cuda'; this machine has no GPU that torch can use")
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


_worker_inputs: Mapping[str, Any] = {}


def _start_worker(caller: int) -> None:
    """Leave when the caller is gone, for nobody would keep the record of what goes on."""
    # loky takes a model that stays loaded for a leak beyond 300 MB, and would end the process over it
    loky._MAX_MEMORY_LEAK_SIZE = float("inf")

    def leave_with_caller() -> None:
        while os.getppid() == caller:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=leave_with_caller, daemon=True).start()


def _execute_in_worker(task: Task, inputs: bytes | None) -> Outcome:
    """Carry out one run with these inputs, or else with those of the run before it."""
    global _worker_inputs
    if inputs is not None:
        _worker_inputs = pickle.loads(inputs)  # noqa: S301 - the caller pickled it a moment ago
    return execute(task, _worker_inputs)
