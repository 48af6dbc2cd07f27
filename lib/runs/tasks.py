"""One unit of work of a sweep, in whichever process: a run, or several as one computation."""

import gc
import hashlib
import pickle
import platform
import random
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from lib.runs.memory import PeakMemory
from lib.runs.provenance import code_fingerprint, versions
from lib.runs.records import NAN, Record, checked_result, encode, nan_reason
from lib.runs.run import Run
from lib.seeding import set_deterministic

_TURN = threading.RLock()
"""Runs of one process take turns: random generators, threads and determinism belong to the process."""


@dataclass(frozen=True)
class Task:
    """A run, and how it is carried out.

    Attributes
    ----------
    key : str
        Identifies its record.
    run : Run
    provenance : mapping
        As in its record.
    versions : mapping
        Versions of the caller's packages.
    attempt : int
        How often it has been tried, this time included.
    """

    key: str
    run: Run
    provenance: Mapping[str, Any]
    versions: Mapping[str, str]
    attempt: int = 0


@dataclass(frozen=True)
class Inputs:
    """What all runs of a sweep share: pickled once by the caller, unpickled once per process."""

    token: str
    pickled: bytes = field(repr=False, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Inputs":
        """Pickle the inputs of a sweep."""
        pickled = pickle.dumps(dict(values))
        return cls(hashlib.sha256(pickled).hexdigest(), pickled)


@lru_cache(maxsize=1)
def _unpickled(inputs: Inputs) -> Mapping[str, Any]:
    return pickle.loads(inputs.pickled)  # noqa: S301 - the caller pickled it a moment ago


class Outcome(NamedTuple):
    """What a worker returns for a run: its status and its encoded record."""

    status: str
    record: bytes


class Ending(NamedTuple):
    """How a run ended: its result, or why it failed (in one line) and where."""

    result: Mapping[str, Any]
    reason: str | None
    traceback: str | None


def execute(tasks: Sequence[Task], inputs: Inputs) -> list[Outcome]:
    """Carry out one run, or several together: one outcome per task, whether it succeeds or fails."""
    on_cuda = tasks[0].provenance["device"] == "cuda" and torch.cuda.is_available()
    with _TURN:
        start = time.perf_counter()
        with PeakMemory(on_cuda=on_cuda) as memory, _callers_generators(on_cuda=on_cuda):
            endings = _endings(tasks, inputs)
        seconds = (time.perf_counter() - start) / len(tasks)
        if on_cuda:  # free what these runs leave behind
            gc.collect()
            with suppress(RuntimeError):  # a GPU that an illegal access broke: these runs failed, and say so
                torch.cuda.empty_cache()
    outcomes = []
    for task, ending in zip(tasks, endings, strict=True):
        status = "failed" if ending.reason else "done"
        record = Record(
            settings=task.run.settings,
            status=status,
            reason=ending.reason,
            result=ending.result,
            provenance=task.provenance,
            device=_device_name(on_cuda),
            versions=dict(versions()),
            seconds=seconds,
            peak_memory=memory.bytes,
            attempts=task.attempt,
            traceback=ending.traceback,
        )
        outcomes.append(Outcome(status, encode(task.key, record)))
    return outcomes


def failure(error: BaseException) -> str:
    """Say in one line why a run failed."""
    text = (str(error).strip() or "no message").splitlines()[0][:300]
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"out of memory: {text}"
    if isinstance(error, FloatingPointError):
        return f"{NAN}: {text}"
    return f"{type(error).__name__}: {text}"


def _endings(tasks: Sequence[Task], inputs: Inputs) -> list[Ending]:
    how = tasks[0].provenance
    try:
        _refuse_other_code(tasks[0])
        with _one_thread(), _numbers(), _kernels(deterministic=how["deterministic"]):
            results = _results([task.run for task in tasks], _unpickled(inputs))
    except (Exception, SystemExit) as error:
        return [_failed(error)] * len(tasks)
    return [_ended(result) for result in results]


def _results(runs: Sequence[Run], inputs: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if len(runs) == 1:
        return [runs[0].carry_out(**inputs)]
    results = type(runs[0]).carry_out_together(runs, **inputs)
    if len(results) != len(runs):
        raise ValueError(f"carry_out_together gave {len(results)} results for {len(runs)} runs")
    return results


def _ended(result: Mapping[str, Any]) -> Ending:
    try:
        values = checked_result(result)
    except TypeError as error:
        return _failed(error)
    return Ending(values, nan_reason(values), None)


def _failed(error: BaseException) -> Ending:
    return Ending({}, failure(error), "".join(traceback.format_exception(error)))


def _refuse_other_code(task: Task) -> None:
    """Raise unless code and versions here are the caller's: the machines of a cluster may differ."""
    name, callers = task.provenance["run"], task.provenance["code"]
    code = code_fingerprint(type(task.run).__module__)
    if code != callers:
        raise RuntimeError(f"the code of {name} is {code} in the worker, {callers} at the caller")
    here, theirs = versions(), task.versions
    differ = [
        f"{package} {here.get(package)} (caller: {theirs.get(package)})"
        for package in {**theirs, **here}
        if here.get(package) != theirs.get(package)
    ]
    if differ:
        raise RuntimeError(f"versions in the worker differ: {', '.join(differ)}")


@contextmanager
def _callers_generators(*, on_cuda: bool) -> Iterator[None]:
    """Give the caller back its random generators as they were; runs seed those of the process."""
    of_python, of_torch = random.getstate(), torch.get_rng_state()
    of_numpy = np.random.get_state()  # noqa: NPY002 - the old generator, from which libraries draw
    of_gpus = torch.cuda.get_rng_state_all() if on_cuda or torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        torch.set_rng_state(of_torch)
        with suppress(RuntimeError):  # a GPU that an illegal access broke
            torch.cuda.set_rng_state_all(of_gpus)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch and the linear algebra libraries to one thread: how sums are split changes bits."""
    before = torch.get_num_threads()
    try:
        with threadpool_limits(1):
            torch.set_num_threads(1)
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _numbers() -> Iterator[None]:
    """Give runs torch's own type of numbers and rounding of products, whatever the caller has set."""
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)


@contextmanager
def _kernels(*, deterministic: bool) -> Iterator[None]:
    """Choose deterministic kernels or not: the only place that does, for every run."""
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    set_deterministic(deterministic)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def _device_name(on_cuda: bool) -> str:
    """Name what can change a number: the model of the GPU, or the vector instructions of the CPU."""
    if on_cuda:
        return torch.cuda.get_device_name()
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
