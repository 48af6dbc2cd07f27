"""Map a run over seeds and variants, keeping each record the moment it is done.

A sweep that is killed loses the runs in flight and nothing else; one that is started again with unchanged
settings reads its records. A run's record is found by all that decides its result: the function's code, the
run's settings, the fingerprints of what it is handed, versions, threads and the kind of device.

``python -m lib.runs list | verify | prune`` looks after what is kept.
"""

import json
import logging
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lib.runs.engines import Engine, InProcess, LocalProcesses, Outcome, Task
from lib.runs.progress import Progress
from lib.runs.provenance import code_fingerprint, qualified_name, run_key, settings_json, versions
from lib.runs.records import NAN, Lock, Record, Store, decode, encode

ENGINES = ("local", "ray")
DEVICES = ("cpu", "cuda")

ATTEMPTS = 3
"""How often a run that fails is tried, over all calls, before its failed record stands."""

logger = logging.getLogger(__name__)


def run(
    function: Callable[..., Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    *,
    name: str,
    inputs: Mapping[str, Any] | None = None,
    fingerprints: Mapping[str, str] | None = None,
    cache_dir: str | Path,
    engine: str = "local",
    workers: int = 1,
    threads: int = 1,
    device: str = "cpu",
) -> list[Record]:
    """Return one record a run, in the order of `runs`: kept ones read, the others done now.

    A run that raises, returns NaN or loses its process gives a record with status "failed", and the sweep
    goes on. A failed run is tried again by the next call, for the machine may have been the cause, up to
    `ATTEMPTS` times in all; a run that was lost with its process is tried again at once. A run that returned
    NaN, or raised FloatingPointError, is not tried again: its settings decided that. Neither engine nor
    workers decide a result, and so they are no part of what a record is found by.

    Parameters
    ----------
    function
        Called as ``function(**run, **inputs)``. A function of a module, so that workers can import it. It
        seeds itself from ``run["seed"]``, leaves `inputs` unchanged, and returns a flat dict of JSON values
        and numpy arrays of numbers.
    runs
        The settings of each run: JSON values, a "seed" among them.
    name
        The sweep's name: its folder in the cache, and its progress bar's label.
    inputs
        What all runs share and JSON can't hold: texts, arrays, paths.
    fingerprints
        What tells `inputs` apart, by name. A change of `inputs` that these don't show finds old records.
    cache_dir
        Records are kept in ``cache_dir/records/name``.
    engine
        "local": this process, or joblib's processes for more than one worker. "ray": a Ray cluster.
    workers
        How many runs at a time. Where there are GPUs, they are dealt out evenly.
    threads
        Threads of one run. They are part of what decides a result.
    device
        "cpu" or "cuda", as far as workers and records have to know; `function` learns it from its run.

    Raises
    ------
    ValueError
        Before anything runs: a run without seed or not JSON, a function that workers can't import, an unknown
        engine or device, a name that is no file name.
    RecordNotKeptError
        When a record can't be written; what was kept before stays.
    """
    _refuse(name, engine, workers, threads, device)
    tasks = _tasks(function, runs, fingerprints or {}, threads, device)
    store = Store(Path(cache_dir) / "records" / name)
    kept = {task["key"]: store.read(task["key"]) for task in tasks}
    known = {key: record for key, record in kept.items() if record is not None and _stands(record)}
    todo = {task["key"]: task for task in tasks if task["key"] not in known}
    if todo:
        attempts = {key: record.attempts for key, record in kept.items() if record is not None}
        carrier = _start(engine, inputs or {}, workers, threads, device)
        progress = Progress(name, total=len(kept), kept=len(known))
        try:
            _carry_out(carrier, store, todo, attempts, known, workers, progress)
        finally:
            progress.close()
            carrier.close()
    stand = sum(record.status == "failed" and record.attempts >= ATTEMPTS for record in known.values())
    if stand:
        logger.warning(
            "%s: not tried again after %d attempts: %d failed runs; "
            "`python -m lib.runs prune --failed` forgets them",
            name,
            ATTEMPTS,
            stand,
        )
    return [known[task["key"]] for task in tasks]


def finished(records: Sequence[Record]) -> list[Record]:
    """Return the records of the runs that are done."""
    return [record for record in records if record.status == "done"]


def share_finished(records: Sequence[Record]) -> float:
    """Return the share of the runs that are done, 0 to 1 (of no runs: 0)."""
    return len(finished(records)) / len(records) if records else 0.0


def rests_on(records: Sequence[Record]) -> str:
    """Say how many of how many runs a result rests on, and why the others failed."""
    reasons = Counter(str(record.reason).partition(":")[0] for record in records if record.status == "failed")
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{len(finished(records))} of {len(records)} runs" + (f" (failed: {why})" if why else "")


def refusal(records: Sequence[Record], at_least: float) -> str | None:
    """Return why too few runs are done for a verdict, or None when enough are.

    Parameters
    ----------
    records
        All of a sweep's records, failed ones too.
    at_least
        The share of them that must be done, 0 to 1, stated before the sweep.
    """
    if share_finished(records) >= at_least:
        return None
    return f"rests on {rests_on(records)}; a verdict needs {at_least:.0%} of them"


def _refuse(name: str, engine: str, workers: int, threads: int, device: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name is {name!r}; allowed: letters, digits, '_', '-' and '.'")
    for label, value, allowed in (("engine", engine, ENGINES), ("device", device, DEVICES)):
        if value not in allowed:
            raise ValueError(f"{label} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
    if engine == "ray" and find_spec("ray") is None:
        raise ValueError("engine is 'ray', which is not installed: pip install -r requirements-ray.txt")
    for label, number in (("workers", workers), ("threads", threads)):
        if number < 1:
            raise ValueError(f"{label} is {number}; allowed: 1 or more")


def _tasks(
    function: Callable[..., Any],
    runs: Sequence[Mapping[str, Any]],
    fingerprints: Mapping[str, str],
    threads: int,
    device: str,
) -> list[Task]:
    """Describe each run as a worker needs it, under the key of its record."""
    shared = {
        "provenance": {
            "function": qualified_name(function),
            "code": code_fingerprint(function.__module__),
            "fingerprints": dict(fingerprints),
            "threads": threads,
            "device": device,
        },
        "versions": dict(versions()),
    }
    tasks = []
    for settings in runs:
        if "seed" not in settings:
            raise ValueError(f"run {dict(settings)} has no 'seed'")
        try:
            text = settings_json(dict(settings))
        except (TypeError, ValueError) as error:
            raise ValueError(f"run {dict(settings)} is not JSON: {error}") from None
        task = {"settings": json.loads(text), **shared}
        tasks.append({"key": run_key(**task), **task})
    return tasks


def _start(engine: str, inputs: Mapping[str, Any], workers: int, threads: int, device: str) -> Engine:
    if engine == "ray":
        from lib.runs.ray_cluster import RayCluster  # an optional extra, imported by those who ask for it

        return RayCluster(inputs, workers, threads, device)
    return InProcess(inputs) if workers == 1 else LocalProcesses(inputs, workers, threads, device)


def _stands(record: Record) -> bool:
    """Whether a kept record is the last word on its run."""
    diverged = str(record.reason).startswith(NAN)
    return record.status == "done" or diverged or record.attempts >= ATTEMPTS


def _carry_out(
    engine: Engine,
    store: Store,
    todo: Mapping[str, Task],
    attempts: dict[str, int],
    known: dict[str, Record],
    workers: int,
    progress: Progress,
) -> None:
    """Put into `known` the records of `todo`: run here, or read where another process ran them."""
    waiting = deque(todo)
    running: dict[Future[Outcome], str] = {}
    locks: dict[str, Lock] = {}

    def show() -> None:
        failed = sum(record.status == "failed" for record in known.values())
        progress.show(ended=len(known), running=len(locks), failed=failed)

    def start_next() -> None:
        key = waiting.popleft()
        lock = store.lock(key)
        if lock is None:  # another process is doing it: see later
            waiting.append(key)
            return
        locks[key] = lock
        theirs = store.read(key)
        before = attempts.get(key, 0)
        if theirs is not None and (_stands(theirs) or theirs.attempts > before):
            known[key] = theirs
            locks.pop(key).free()
            return
        attempts[key] = before + 1
        show()
        running[engine.submit({**todo[key], "attempt": attempts[key]})] = key

    def end(future: Future[Outcome]) -> None:
        key = running.pop(future)
        data = _record(engine, future, todo[key], attempts[key])
        if data is None:
            waiting.appendleft(key)
        else:
            store.keep(key, data)
            known[key] = decode(key, data)
            if known[key].status == "failed":
                logger.warning("run %s failed: %s", known[key].settings, known[key].reason)
        locks.pop(key).free()

    try:
        while waiting or running:
            for _ in range(len(waiting)):
                if len(running) < workers:
                    start_next()
            for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                end(future)
            if waiting and not running:
                time.sleep(0.1)
            show()
    finally:
        for lock in locks.values():
            lock.free()


def _record(engine: Engine, future: Future[Outcome], task: Task, attempt: int) -> bytes | None:
    """Return a run's record, encoded; None where its process is gone and it is to be tried again."""
    try:
        return future.result()[1]
    except engine.gone as error:
        text = " ".join(str(error).split())[-200:]
        logger.warning("run %s lost its worker, %d of %d times", task["settings"], attempt, ATTEMPTS)
        if attempt < ATTEMPTS:
            return None
        gone = Record(
            settings=task["settings"],
            status="failed",
            reason=f"worker gone: {attempt} times; {text}",
            result={},
            provenance=task["provenance"],
            device=task["provenance"]["device"],
            versions=task["versions"],
            seconds=0.0,
            peak_memory=0,
            attempts=attempt,
        )
        return encode(task["key"], gone)


if __name__ == "__main__":
    from lib.runs.housekeeping import main

    sys.exit(main())
