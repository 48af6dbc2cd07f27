"""Sweeps under faults: killed, on a full disk, with damaged records, two at a time."""

import multiprocessing
import os
import random
import resource
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_records import record
from test_sweep import same

from lib.runs import Run, sweep
from lib.runs.housekeeping import kept_files, prune
from lib.runs.housekeeping import main as housekeeping
from lib.runs.records import RecordNotKeptError, Store, encode
from lib.runs.sweeps import ATTEMPTS, share_finished

RUNS = 30
SECONDS = 0.03

# The sweeps to be killed run in processes forked from one that has loaded torch, which saves loading it.
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["lib.runs"])


@dataclass(frozen=True)
class NoteAndWait(Run):
    """Note the start in a log that survives, wait, return some numbers."""

    log: str
    seconds: float
    size: int = 8

    def carry_out(self):
        with Path(self.log).open("a") as file:
            file.write(f"{self.seed}\n")
        time.sleep(self.seconds)
        return {"square": self.seed**2, "noise": np.random.default_rng(self.seed).normal(size=self.size)}


@dataclass(frozen=True)
class DieTheFirstTime(Run):
    """Kill the worker's process: seed 1 the first time, `deadly` seeds every time."""

    folder: str
    deadly: tuple[int, ...] = ()

    def carry_out(self):
        if self.seed in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        died = Path(self.folder) / "died"
        if self.seed == 1 and not died.exists():
            died.touch()
            os._exit(3)
        return {"square": self.seed**2}


@dataclass(frozen=True)
class NoteProcessAndStay(Run):
    folder: str

    def carry_out(self):
        (Path(self.folder) / str(os.getpid())).touch()
        time.sleep(60)
        return {}


def runs(folder, seconds=SECONDS, n=RUNS):
    return [NoteAndWait(seed, str(folder / "log"), seconds) for seed in range(n)]


def starts(folder):
    log = folder / "log"
    return Counter(log.read_text().split()) if log.exists() else Counter()


def sweep_in_a_group(folder, workers, break_at=None):
    """Sweep as the leader of a process group; `break_at` kills it while it writes its second record."""
    os.setsid()
    if break_at is not None:
        kill_at(break_at)
    sweep(runs(folder), name="s", cache_dir=folder, workers=workers)


def kill_at(step):
    """Kill this process before the second call of os.fsync or os.replace, or after it ("replace, then")."""
    name, _, after = step.partition(", ")
    original, calls = getattr(os, name), []

    def deadly(*arguments):
        calls.append(arguments)
        # every second flush is of a record; the one after it is of the folder
        if len(calls) == (3 if name == "fsync" else 2):
            if after:
                original(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(os, name, deadly)


def start(function, *arguments):
    process = server.Process(target=function, args=arguments)
    process.start()
    return process


def kill_group(process):
    """Kill a sweep and its workers at once, as when the machine goes down."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or does not lead a group yet
        process.kill()
    process.join()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return sweep(runs(folder, seconds=0), name="s", cache_dir=folder)


def kept_and_starts(folder):
    """Return the seeds of the kept runs, and how often each run was started."""
    store = Store(folder / "records" / "s")
    return {str(store.read(key).settings["seed"]) for key in store}, starts(folder)


def equal_except_paths(records, others):
    return same(*([replace(r, settings={"seed": r.run.seed}) for r in some] for some in (records, others)))


def test_killed_at_ten_random_moments(tmp_path, undisturbed):
    moments = random.Random()  # noqa: S311 - not a secret
    finished, started = set(), Counter()
    for moment in range(10):
        workers = 2 if moment % 5 == 4 else 1
        process = start(sweep_in_a_group, tmp_path, workers)
        process.join(moments.uniform(0.1, 0.5) if workers == 1 else moments.uniform(1, 4))
        kill_group(process)
        assert all(starts(tmp_path)[seed] == started[seed] for seed in finished)
        finished, started = kept_and_starts(tmp_path)
    records = sweep(runs(tmp_path), name="s", cache_dir=tmp_path, workers=1)
    assert equal_except_paths(records, undisturbed)
    assert all(starts(tmp_path)[seed] == started[seed] for seed in finished)
    assert sum(starts(tmp_path).values()) <= RUNS + 12  # a kill costs the runs in flight: one per worker


@pytest.mark.parametrize("step", ["fsync", "replace", "replace, then"])
def test_killed_while_a_record_is_written(tmp_path, undisturbed, step):
    process = start(sweep_in_a_group, tmp_path, 1, step)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    finished, _ = kept_and_starts(tmp_path)
    assert len(finished) == (2 if step == "replace, then" else 1)
    for left_over in tmp_path.rglob("*.tmp"):
        os.utime(left_over, (0, 0))  # long ago: nobody is writing it any more
    records = sweep(runs(tmp_path, n=3), name="s", cache_dir=tmp_path)
    assert equal_except_paths(records, undisturbed[:3])
    assert all(starts(tmp_path)[seed] == 1 for seed in finished)
    assert not list(tmp_path.rglob("*.tmp")) or step == "replace, then"


def test_workers_leave_when_their_sweep_is_killed(tmp_path):
    process = start(stay_in_a_group, tmp_path)
    while len(list(tmp_path.glob("[0-9]*"))) < 2:
        assert process.is_alive()
        time.sleep(0.05)
    process.kill()
    process.join()
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(int(path.name)) for path in tmp_path.glob("[0-9]*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def stay_in_a_group(folder):
    stay = [NoteProcessAndStay(seed, str(folder)) for seed in (1, 2)]
    sweep(stay, name="s", cache_dir=folder, workers=2)


def test_a_worker_that_dies_is_replaced_and_its_run_done_again(tmp_path):
    some = [DieTheFirstTime(seed, str(tmp_path), deadly=(2,)) for seed in range(5)]
    records = sweep(some, name="s", cache_dir=tmp_path, workers=2)
    assert [record.status for record in records] == ["done", "done", "failed", "done", "done"]
    assert [record.attempts for record in records] == [1, 2, ATTEMPTS, 1, 1]
    assert records[2].reason.startswith("worker gone: 3 times;")


def test_two_sweeps_of_the_same_runs_share_them(tmp_path, undisturbed):
    both = [start(sweep_in_a_group, tmp_path, 1) for _ in range(2)]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert set(starts(tmp_path).values()) == {1}
    records = sweep(runs(tmp_path), name="s", cache_dir=tmp_path)
    assert equal_except_paths(records, undisturbed)
    folder = tmp_path / "records" / "s"
    assert len(list(folder.glob("*.safetensors"))) == RUNS
    assert [path.name for path in folder.iterdir() if path.suffix != ".safetensors"] == ["locks"]


def flip(path, other):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path, other):
    os.truncate(path, path.stat().st_size // 2)


def empty(path, other):
    path.write_bytes(b"")


def swap(path, other):
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [flip, cut, empty, swap])
def test_damage_of_every_kept_file_in_turn(tmp_path, undisturbed, caplog, damage):
    few = runs(tmp_path, seconds=0, n=6)
    sweep(few, name="s", cache_dir=tmp_path)
    store = Store(tmp_path / "records" / "s")
    files = [store.file(key) for key in store]
    for number, path in enumerate(files):
        caplog.clear()
        damage(path, other=files[number - 1])
        records = sweep(few, name="s", cache_dir=tmp_path)
        assert equal_except_paths(records, undisturbed[:6])
        assert sum(starts(tmp_path).values()) == 6 + number + 1
        assert f"{path.name}: its" in caplog.text or "another run" in caplog.text
        assert "set aside" in caplog.text
    assert len(list((store.folder / "set_aside").iterdir())) == 6
    assert set(starts(tmp_path).values()) == {2}


def different_sizes(folder):
    return [replace(run, size=20_000 if run.seed == 2 else 8) for run in runs(folder, seconds=0, n=4)]


def too_large_for_the_disk(folder, connection):
    """Sweep where files beyond 64 KiB cannot be written, and send the error."""
    limit = 64 * 1024
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        sweep(different_sizes(folder), name="s", cache_dir=folder)
    except RecordNotKeptError as error:
        connection.send(str(error))


def test_a_full_disk_stops_with_one_error_and_keeps_what_was_done(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    start(too_large_for_the_disk, tmp_path, theirs).join()
    assert "File too large; the 2 records kept there are whole" in ours.recv()
    assert not list(tmp_path.rglob("*.tmp"))
    records = sweep(different_sizes(tmp_path), name="s", cache_dir=tmp_path)
    assert share_finished(records) == 1
    assert starts(tmp_path) == {"0": 1, "1": 1, "2": 2, "3": 1}


def test_what_is_kept_can_be_listed_verified_and_pruned(tmp_path, capsys):
    def command(*arguments):
        status = housekeeping(["--cache-dir", str(tmp_path), *arguments])
        return status, capsys.readouterr().out

    for profile, n in (("demo", 3), ("paper", 2)):
        sweep(runs(tmp_path, 0, n), name="heads", cache_dir=tmp_path / profile)
    assert command("verify") == (0, "5 of 5 files are whole records\n")
    listed = command("list")[1].splitlines()
    assert [line.split()[0] for line in listed] == ["done", "3", "2"]
    assert [line.split()[-1] for line in listed[1:]] == ["demo/records/heads", "paper/records/heads"]

    old, broken = sorted((tmp_path / "demo").rglob("*.safetensors"))[:2]
    os.utime(old, (0, 0))
    cut(broken, None)
    status, output = command("verify")
    assert status == 1
    assert f"{broken}: its checksum does not match" in output or f"{broken}: its header" in output
    assert str(old) in command("prune", "--older-than", "30", "--dry-run")[1]
    assert old.exists()
    command("prune", "--older-than", "30")
    assert not old.exists()
    assert broken.exists()
    command("prune", "--damaged")
    assert command("verify") == (0, "3 of 3 files are whole records\n")
    command("prune", "--profile", "paper")
    assert [path.parts[-4] for path in tmp_path.rglob("*.safetensors")] == ["demo"]
    for arguments, message in (
        ([], "a condition is needed"),
        (["--profile", "dmeo"], "allowed: demo"),
        (["--older-than", "-3"], "--older-than -3: allowed are 0 days or more"),
        (["--older-than", "nan"], "--older-than nan: allowed are 0 days or more"),
    ):
        with pytest.raises(SystemExit):
            housekeeping(["--cache-dir", str(tmp_path), "prune", *arguments])
        assert message in capsys.readouterr().err
    assert [path.parts[-4] for path in tmp_path.rglob("*.safetensors")] == ["demo"]


def test_a_run_that_succeeds_while_failed_ones_are_pruned_stays(tmp_path, capsys):
    store = Store(tmp_path / "records" / "s")
    for key in ("first", "second"):
        store.keep(key, encode(key, record(status="failed", reason="out of memory", result={})))
    failed = list(kept_files(tmp_path))
    store.keep("first", encode("first", record(attempts=2)))
    assert prune(failed, dry_run=False) == 0
    assert list(store) == ["first"]
    assert str(store.file("first")) not in capsys.readouterr().out
    assert store.lock("first") is not None
