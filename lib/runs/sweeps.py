"""Map runs over seeds and variants, and keep each record as soon as its run ends.

A killed sweep loses only the runs in flight; a sweep that is started again with unchanged runs reads its
records. A record is identified by everything that decides its result: the class of the run and its code, its
fields, the fingerprints of the inputs, versions, the kind of device, and whether kernels are
deterministic. Every run computes on one thread.
"""

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from lib.runs.engines import check_engine, start_engine
from lib.runs.progress import Progress
from lib.runs.provenance import code_fingerprint, input_fingerprints, qualified_name, run_key, versions
from lib.runs.records import NAN, Record, Store, decode, encode
from lib.runs.run import Run, canonical_json
from lib.runs.tasks import Inputs, Outcome, Task, execute

DEVICES = ("cpu", "cuda")

ATTEMPTS = 3
"""How often a failing run is tried, over all calls, before its failed record is final."""

logger = logging.getLogger(__name__)


def sweep(
    runs: Sequence[Run],
    inputs: Mapping[str, Any] | None = None,
    *,
    name: str,
    cache_dir: str | Path,
    engine: str | Executor = "local",
    workers: int = 1,
    device: str = "cpu",
    deterministic: bool = True,
    together: int = 1,
) -> list[Record]:
    """Return one record per run, in the order of `runs`: kept ones are read, the others carried out now.

    A run that raises, returns NaN or loses its process gives a record with status "failed", and the sweep
    goes on. The next call tries it again, since the machine may have been the cause, up to `ATTEMPTS` times;
    a run that was lost with its process is tried again at once. A run that returned NaN or raised
    FloatingPointError is not tried again, since its settings decided that. Neither the engine nor the number
    of workers is part of a record's key.

    Parameters
    ----------
    runs : sequence of Run
        Their classes are defined in modules, which workers import.
    inputs : mapping
        What all runs share: each is called as ``run.carry_out(**inputs)``, which must not change them. A
        change that `lib.runs.provenance.input_fingerprints` does not see finds the old records.
    name : str
        The folder in the cache, and the label of the progress bar.
    cache_dir : str or Path
        Records are kept in ``cache_dir/records/name``.
    engine : str or concurrent.futures.Executor
        "local": this process, or worker processes if there is more than one worker. "ray": a Ray cluster. Or
        any executor, which is left running.
    workers : int
        How many runs (or groups of runs) run at a time. GPUs are shared evenly among them.
    device : {"cpu", "cuda"}
        Where the inputs tell the runs to compute. Records are read without a GPU, too.
    deterministic : bool
        Whether runs use deterministic kernels. It is set when a run is carried out, and nowhere else.
    together : int
        How many runs are carried out as one computation (`Run.carry_out_together`), if they differ only in
        what the class allows: their seeds, unless it says otherwise (`Run.shared`).

    Raises
    ------
    ValueError
        Before anything runs: a run that is not JSON, a class that workers cannot import, an unknown engine or
        device, a name that is not a file name, a number below 1, no GPU where one is required, or a source
        file that was edited while this process ran.
    TypeError
        Before anything runs: an input that cannot be fingerprinted.
    RecordNotKeptError
        If a record cannot be written; what was kept before stays.
    """
    numbers = {"workers": workers, "together": together}
    _refuse(name, device, numbers)
    check_engine(engine)
    inputs = inputs or {}
    # How sums are split depends on the number of threads: always one. More workers use more cores.
    how = {"threads": 1, "device": device, "deterministic": deterministic}
    tasks = _tasks(runs, input_fingerprints(inputs), how)
    store = Store(Path(cache_dir) / "records" / name)
    kept = {task.key: store.read(task.key) for task in tasks}
    known = {key: record for key, record in kept.items() if record is not None and _stands(record)}
    todo = {task.key: task for task in tasks if task.key not in known}
    if todo:
        attempts = {key: record.attempts for key, record in kept.items() if record is not None}
        executor = engine if isinstance(engine, Executor) else start_engine(engine, workers, device)
        progress = Progress(name, total=len(kept), kept=len(known))
        try:
            work = _Work(executor, store, todo, attempts, known, Inputs.of(inputs), progress)
            work.carry_out(_groups(list(todo.values()), together), workers)
        finally:
            progress.close()
            if executor is not engine:
                executor.shutdown()
    _warn_of_given_up(name, known.values())
    return [replace(known[task.key], run=task.run) for task in tasks]


def finished(records: Sequence[Record]) -> list[Record]:
    """Return the records of the runs that are done."""
    return [record for record in records if record.status == "done"]


def share_finished(records: Sequence[Record]) -> float:
    """Return the share of the runs that are done, 0 to 1 (of no runs: 0)."""
    return len(finished(records)) / len(records) if records else 0.0


def rests_on(records: Sequence[Record]) -> str:
    """Say how many of the runs are done, and why the others failed."""
    reasons = Counter(str(record.reason).partition(":")[0] for record in records if record.status == "failed")
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{len(finished(records))} of {len(records)} runs" + (f" (failed: {why})" if why else "")


def refusal(records: Sequence[Record], at_least: float) -> str | None:
    """Return why too few runs are done for a verdict, or None if enough are.

    Parameters
    ----------
    records : sequence of Record
        All of a sweep's records, failed ones too.
    at_least : float
        The share of them that must be done, 0 to 1, chosen before the sweep.
    """
    if share_finished(records) >= at_least:
        return None
    return f"rests on {rests_on(records)}; a verdict needs {at_least:.0%} of them"


def _refuse(name: str, device: str, numbers: Mapping[str, int]) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name is {name!r}; allowed: letters, digits, '_', '-' and '.'")
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}; allowed: {', '.join(map(repr, DEVICES))}")
    for label, number in numbers.items():
        if number < 1:
            raise ValueError(f"{label} is {number}; allowed: 1 or more")


def _tasks(runs: Sequence[Run], fingerprints: Mapping[str, str], how: Mapping[str, Any]) -> list[Task]:
    """Return each run with its provenance and the key of its record."""
    installed = dict(versions())
    tasks = []
    for run in runs:
        code = code_fingerprint(type(run).__module__)
        read = {part: text for part, text in fingerprints.items() if run.depends_on(part)}
        provenance = {"run": qualified_name(type(run)), "code": code, "fingerprints": read, **how}
        key = run_key(settings=run.settings, provenance=provenance, versions=installed)
        tasks.append(Task(key, run, provenance, installed))
    return tasks


def _groups(tasks: Sequence[Task], together: int) -> list[list[str]]:
    """Return the keys of the tasks in groups of runs that can be carried out together (`Run.shared`)."""
    if together == 1:
        return [[task.key] for task in tasks]
    alike: dict[tuple[type[Run], str], list[str]] = {}
    for task in tasks:
        alike.setdefault((type(task.run), canonical_json(task.run.shared)), []).append(task.key)
    return [
        keys[start : start + together] for keys in alike.values() for start in range(0, len(keys), together)
    ]


def _stands(record: Record) -> bool:
    """Whether a kept record is final."""
    diverged = str(record.reason).startswith(NAN)
    return record.status == "done" or diverged or record.attempts >= ATTEMPTS


class _Work:
    """What a sweep still has to do, and what it knows already."""

    def __init__(
        self,
        executor: Executor,
        store: Store,
        todo: Mapping[str, Task],
        attempts: dict[str, int],
        known: dict[str, Record],
        inputs: Inputs,
        progress: Progress,
    ) -> None:
        self.executor, self.store, self.todo, self.attempts = executor, store, todo, attempts
        self.known, self.inputs, self.progress = known, inputs, progress
        self.running: dict[Future[list[Outcome]], list[str]] = {}
        self.locks: dict[str, BaseFileLock] = {}

    def carry_out(self, groups: Sequence[list[str]], workers: int) -> None:
        """Add the records of `todo` to `known`: carried out here, or read if another process did so."""
        waiting = deque(groups)
        try:
            while waiting or self.running:
                for _ in range(len(waiting)):
                    if len(self.running) < workers:
                        waiting.extend(self._start(waiting.popleft()))
                for future in wait(self.running, timeout=1, return_when=FIRST_COMPLETED).done:
                    waiting.extendleft(self._end(future))
                if waiting and not self.running:
                    time.sleep(0.1)
                self._show()
        finally:
            for lock in self.locks.values():
                lock.release()

    def _start(self, group: list[str]) -> list[list[str]]:
        """Start the runs of a group that no other process is doing; return the others, for another look."""
        mine, elsewhere = [], []
        for key in group:
            lock = self.store.lock(key)
            if lock is None:
                elsewhere.append(key)
                continue
            theirs = self.store.read(key)
            before = self.attempts.get(key, 0)
            if theirs is not None and (_stands(theirs) or theirs.attempts > before):
                self.known[key] = theirs
                lock.release()
                continue
            self.locks[key] = lock
            self.attempts[key] = before + 1
            mine.append(key)
        if mine:
            self._show()
            self.running[self.executor.submit(execute, self._tasks(mine), self.inputs)] = mine
        return [elsewhere] if elsewhere else []

    def _end(self, future: Future[list[Outcome]]) -> list[list[str]]:
        """Keep the records of a group; return the runs to try again, since their process is gone."""
        group = self.running.pop(future)
        try:
            records = dict(zip(group, [outcome.record for outcome in future.result()], strict=True))
        except BrokenExecutor as error:
            records = self._lost(group, " ".join(str(error).split())[-200:])
        for key, data in records.items():
            self.store.keep(key, data)
            self.known[key] = decode(key, data)
            if self.known[key].status == "failed":
                logger.warning("run %s failed: %s", self.known[key].settings, self.known[key].reason)
        for key in group:
            self.locks.pop(key).release()
        again = [key for key in group if key not in records]
        return [again] if again else []

    def _tasks(self, group: list[str]) -> list[Task]:
        """Return the tasks of a group as they are tried now: which attempt, and beside which seeds."""
        tasks = [self.todo[key] for key in group]
        beside = {"beside": [task.run.seed for task in tasks]} if len(tasks) > 1 else {}
        return [
            replace(task, provenance={**task.provenance, **beside}, attempt=self.attempts[task.key])
            for task in tasks
        ]

    def _lost(self, group: list[str], error: str) -> dict[str, bytes]:
        """Return failed records of the runs that lost their process for the last time."""
        given_up = {}
        for task in self._tasks(group):
            attempt = task.attempt
            logger.warning("run %s lost its worker, %d of %d times", task.run.settings, attempt, ATTEMPTS)
            if attempt < ATTEMPTS:
                continue
            record = Record(
                settings=task.run.settings,
                status="failed",
                reason=f"worker gone: {attempt} times; {error}",
                result={},
                provenance=task.provenance,
                device=task.provenance["device"],
                versions=task.versions,
                seconds=0.0,
                peak_memory=0,
                attempts=attempt,
            )
            given_up[task.key] = encode(task.key, record)
        return given_up

    def _show(self) -> None:
        failed = sum(record.status == "failed" for record in self.known.values())
        self.progress.show(ended=len(self.known), running=len(self.locks), failed=failed)


def _warn_of_given_up(name: str, records: Collection[Record]) -> None:
    count = sum(record.status == "failed" and record.attempts >= ATTEMPTS for record in records)
    if count:
        logger.warning(
            "%s: not tried again after %d attempts: %d failed runs; "
            "`python -m lib.runs prune --failed` forgets them",
            name,
            ATTEMPTS,
            count,
        )
