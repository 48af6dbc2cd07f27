"""Sweeps: each run is carried out once, in order, and found by what decides it, whatever the engine."""

import gc
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import set_seed

from lib.runs import (
    Run,
    engines,
    finished,
    provenance,
    refusal,
    rests_on,
    sweep,
    sweeps,
    tasks,
)
from lib.runs.housekeeping import main as housekeeping
from lib.runs.sweeps import share_finished

ON_A_GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
)


@dataclass(frozen=True)
class Train(Run):
    """Train a small network: its weights after a few steps of AdamW."""

    hidden: Any = 4
    steps: int = 3

    def carry_out(self):
        torch.manual_seed(self.seed)
        model = torch.nn.Sequential(
            torch.nn.Linear(64, self.hidden), torch.nn.Tanh(), torch.nn.Linear(self.hidden, 2)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(self.steps):
            x, y = torch.randn(512, 64), torch.randint(2, (512,))
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights = torch.cat([p.detach().flatten() for p in model.parameters()]).cpu().numpy()
        return {"loss": loss.item(), "weights": weights, "threads": torch.get_num_threads()}


@dataclass(frozen=True)
class Logged(Run):
    """Log that it ran, then fail or return the seed's square."""

    log: str
    fail: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def carry_out(self, **inputs):
        with Path(self.log).open("a") as file:
            file.write(f"{self.seed}\n")
        if self.seed in self.fail:
            raise RuntimeError(f"seed {self.seed} fails\nat length")
        return {"square": self.seed**2}


@dataclass(frozen=True)
class FailBySeed(Run):
    """Fail in the ways that runs fail."""

    def carry_out(self):
        if self.seed == 1:
            np.empty((2**30, 2**20))
        if self.seed == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if self.seed == 3:
            sys.exit("a library gave up")
        if self.seed == 5:
            raise FloatingPointError("the loss is NaN from step 7 on")
        if self.seed == 6:
            return {"words": {"a", "set"}}
        loss = float("nan") if self.seed == 4 else 0.5
        return {"loss": loss, "gaps": np.array([np.nan]), "worst": float("inf")}


@dataclass(frozen=True)
class TellProcess(Run):
    """Return the process it runs in and what it was handed, or fail."""

    fail: bool = False

    def carry_out(self, shared):
        if self.fail:
            raise RuntimeError("as asked")
        time.sleep(0.2)  # long enough that the other process takes part, on a busy machine too
        return {"process": os.getpid(), "shared": shared}


@dataclass(frozen=True)
class TellDeterminism(Run):
    """Return whether kernels are deterministic, and leave behind the opposite or the same."""

    leaves: bool

    def carry_out(self):
        result = {"deterministic": torch.are_deterministic_algorithms_enabled(), "process": os.getpid()}
        torch.use_deterministic_algorithms(self.leaves)
        return result


@dataclass(frozen=True)
class TellNumbers(Run):
    """Return the type of new tensors and how products are rounded, and leave others behind."""

    def carry_out(self):
        result = {"dtype": str(torch.zeros(1).dtype), "precision": torch.get_float32_matmul_precision()}
        torch.set_default_dtype(torch.float16)
        torch.set_float32_matmul_precision("high")
        return result


@dataclass(frozen=True)
class Reseed(Run):
    """Seed all generators of the process."""

    def carry_out(self):
        set_seed(self.seed)
        return {}


@dataclass(frozen=True)
class Group(Run):
    """Return the seed's square, alone or together: seed 2 diverges, seed 7 fails, seed 8 gets no result."""

    variant: str = "a"

    def carry_out(self):
        if self.seed == 7:
            raise RuntimeError("seed 7 fails")
        return {"square": float("nan") if self.seed == 2 else float(self.seed**2), "process": os.getpid()}

    @classmethod
    def carry_out_together(cls, runs):
        return [run.carry_out() for run in runs if run.seed != 8]


def seeds(n):
    return [Train(seed) for seed in range(n)]


def same(a, b):
    """Whether two lists of records are the same to the bit, except times and memory."""
    return len(a) == len(b) and all(
        x.settings == y.settings
        and (x.status, x.reason) == (y.status, y.reason)
        and list(x.result) == list(y.result)
        and all(np.asarray(x[name]).tobytes() == np.asarray(y[name]).tobytes() for name in x.result)
        for x, y in zip(a, b, strict=True)
    )


def test_records_come_in_order_and_are_read_the_second_time(tmp_path):
    log = tmp_path / "log"
    runs = [Logged(seed, str(log)) for seed in (3, 1, 2, 1)]
    first = sweep(runs, name="s", cache_dir=tmp_path)
    second = sweep(runs, name="s", cache_dir=tmp_path, workers=2)
    assert [record["square"] for record in first] == [9, 1, 4, 1]
    assert [record.run for record in first] == [record.run for record in second] == runs
    assert same(first, second)
    assert log.read_text().split() == ["3", "1", "2"]


def test_one_and_two_workers_give_the_same_bits(tmp_path):
    one = sweep(seeds(3), name="s", cache_dir=tmp_path / "1", workers=1)
    two = sweep(seeds(3), name="s", cache_dir=tmp_path / "2", workers=2)
    assert {record.status for record in one} == {"done"}
    assert same(one, two)
    assert one[0]["loss"] != one[1]["loss"]
    assert [record["threads"] for record in one] == [1, 1, 1]
    assert all(record.peak_memory > 2**20 for record in one + two)


def test_a_sweep_takes_over_the_processes_of_the_last_one_unless_they_failed(tmp_path, monkeypatch):
    def processes(name, fail=()):
        runs = [TellProcess(seed, seed in fail) for seed in range(4)]
        how = {"name": name, "cache_dir": tmp_path, "workers": 2}
        records = finished(sweep(runs, {"shared": name}, **how))
        assert {record["shared"] for record in records} == {name}
        return {record["process"] for record in records}

    first = processes("first")
    assert len(first) == 2
    assert processes("second") == first
    monkeypatch.setenv("ANY", "other")
    again = processes("again")
    assert not again & first
    processes("failed", fail=(2, 3))
    assert processes("after") != again


def test_a_process_that_died_between_two_sweeps_is_replaced(tmp_path):
    def processes(name):
        runs = [TellProcess(seed) for seed in range(4)]
        records = sweep(runs, {"shared": name}, name=name, cache_dir=tmp_path, workers=2)
        return {record["process"] for record in records}

    first = processes("first")
    for process in first:
        os.kill(process, signal.SIGKILL)
    second = processes("second")
    assert len(second) == 2
    assert not second & first


def test_a_run_has_one_thread_and_the_caller_as_many_as_before(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        record = sweep(seeds(1), name="s", cache_dir=tmp_path)[0]
        assert record["threads"] == record.provenance["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_run_sees_the_determinism_of_its_sweep_whatever_the_last_run_left(tmp_path, workers):
    before = torch.are_deterministic_algorithms_enabled()
    processes = set()
    for number, deterministic in enumerate((True, False, True)):
        runs = [TellDeterminism(seed, leaves=seed % 4 < 2) for seed in range(8)]
        how = {"name": str(number), "cache_dir": tmp_path, "workers": workers}
        records = sweep(runs, deterministic=deterministic, **how)
        assert [record["deterministic"] for record in records] == [deterministic] * 8
        assert {record.provenance["deterministic"] for record in records} == {deterministic}
        processes |= {record["process"] for record in records}
    assert len(processes) == workers  # the sweeps shared their processes
    assert torch.are_deterministic_algorithms_enabled() == before


def test_a_run_leaves_the_callers_kernels_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        sweep([Logged(1, str(tmp_path / "log"))], name="s", cache_dir=tmp_path)
        assert torch.get_deterministic_debug_mode() == 1  # "warn"
        assert torch.utils.deterministic.fill_uninitialized_memory
        assert torch.backends.cudnn.benchmark
    finally:
        torch.set_deterministic_debug_mode(mode)


def test_a_run_computes_with_torchs_numbers_whatever_the_caller_has_set(tmp_path):
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        told = sweep([TellNumbers(seed) for seed in range(2)], name="s", cache_dir=tmp_path)
        assert [record.result for record in told] == [{"dtype": "torch.float32", "precision": "highest"}] * 2
        assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == (torch.float64, "medium")
    finally:
        torch.set_default_dtype(before[0])
        torch.set_float32_matmul_precision(before[1])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_A_GPU)])
def test_a_run_leaves_the_callers_random_numbers_as_they_were(tmp_path, device):
    def draw():
        numbers = random.random(), np.random.random()  # noqa: NPY002, S311 - those that are seeded
        return *numbers, torch.rand(1).item(), torch.rand(1, device=device).item()

    def seed():
        set_seed(5)
        draw()

    seed()
    expected = draw()
    seed()
    sweep([Reseed(1)], name="s", cache_dir=tmp_path, device=device)
    assert draw() == expected


def test_everything_that_decides_a_result_decides_the_record(tmp_path, monkeypatch):
    log = tmp_path / "log"

    def times_run(seed=1, inputs=None, options=None, **how):
        sweep([Logged(seed, str(log), options=options or {})], inputs, name="s", cache_dir=tmp_path, **how)
        return len(log.read_text().split())

    assert times_run() == times_run() == 1
    assert times_run(options={"lr": 1e-3}) == 2
    assert times_run(options={"lr": 1e-4}) == 3
    assert times_run(seed=2) == 4
    assert times_run(inputs={"texts": "aa"}) == 5
    assert times_run(inputs={"texts": "bb"}) == 6
    # An engine of the caller's own may have GPUs that this machine lacks; this run computes nothing on one.
    assert times_run(device="cuda", engine=engines.InProcess()) == 7
    assert times_run(deterministic=False) == 8
    versions = dict(provenance.versions()) | {"torch": "1.0"}
    with monkeypatch.context() as older:
        for module in (sweeps, tasks):
            older.setattr(module, "versions", lambda: versions)
        assert times_run() == 9
    with monkeypatch.context() as edited:
        for module in (sweeps, tasks):
            edited.setattr(module, "code_fingerprint", lambda _: "edited")
        assert times_run() == 10
    assert times_run() == times_run(options={"lr": 1e-4}) == times_run(inputs={}, together=3) == 10


class Texts:
    """An input that says itself what of it decides a result."""

    def __init__(self, text, folder="here"):
        self.text, self.folder = text, folder

    @property
    def fingerprints(self):
        return {"text": self.text.upper()}


@dataclass(frozen=True)
class ReadsOneLanguage(Logged):
    language: str = "fr"

    def depends_on(self, part):
        return part == f"corpora/{self.language}/text"


def test_a_change_of_what_a_run_does_not_read_finds_its_record(tmp_path):
    log = tmp_path / "log"
    runs = [ReadsOneLanguage(1, str(log), language=language) for language in ("fr", "en")]

    def times(french, english):
        corpora = {"fr": Texts(french), "en": Texts(english)}
        sweep(runs, {"corpora": corpora}, name="s", cache_dir=tmp_path)
        return len(log.read_text().split())

    assert times("a", "b") == 2
    assert times("a", "c") == 3
    assert times("d", "c") == 4


def test_inputs_may_fingerprint_themselves(tmp_path):
    log = tmp_path / "log"

    def run(**inputs):
        record = sweep([Logged(1, str(log))], inputs, name="s", cache_dir=tmp_path)[0]
        return record.provenance["fingerprints"], len(log.read_text().split())

    assert run(corpus=Texts("a")) == ({"corpus/text": "A"}, 1)
    assert run(corpus=Texts("a", folder="there")) == ({"corpus/text": "A"}, 1)
    assert run(corpus=Texts("b")) == ({"corpus/text": "B"}, 2)
    several = {"fr": Texts("a"), "en": Texts("b"), "number": 3}
    told, times = run(corpora=several)
    assert times == 3
    assert told.pop("corpora/number")
    assert told == {"corpora/fr/text": "A", "corpora/en/text": "B"}
    assert run(corpora=several)[1] == 3
    assert run(corpora=several | {"number": 4})[1] == 4


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"folder": Path("x")}, "input 'folder' cannot be fingerprinted: .*PosixPath"),
        (
            {"corpora": {"fr": Texts("a"), "en": object()}},
            "input 'corpora/en' cannot be fingerprinted: .*object",
        ),
    ],
)
def test_an_input_without_fingerprint_is_refused_before_anything_runs(tmp_path, inputs, message):
    runs = [Logged(1, str(tmp_path / "log"))]
    with pytest.raises(TypeError, match=message) as refused:
        sweep(runs, inputs, name="s", cache_dir=tmp_path / "cache")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_runs_cannot_change_the_inputs_of_their_caller(tmp_path):
    texts = ["a"]
    sweep([ChangeInput(1)], {"texts": texts}, name="s", cache_dir=tmp_path)
    assert texts == ["a"]


@dataclass(frozen=True)
class ChangeInput(Run):
    def carry_out(self, texts):
        texts.append("b")
        return {}


CODE = {
    "__init__": "",
    "runs": "from . import steps\nfrom othercode.data import load\ndef run(seed): return steps.step(seed)",
    "steps": "def step(seed):\n    import othercode.deep as deep\n    return deep.DEEP + seed",
    "deep": "DEEP = 1",
    "data": "def load(): return 1",
    "unused": "X = 1",
}


@pytest.mark.parametrize(
    ("module", "code", "counts"),
    [
        ("runs", CODE["runs"] + "  # a comment", False),
        ("steps", CODE["steps"].replace("\n", "\n    'A docstring.'\n", 1), False),
        ("unused", "X = 2", False),
        ("runs", CODE["runs"].replace("step(seed)", "step(seed + 1)"), True),
        ("steps", CODE["steps"].replace("+", "-"), True),
        ("deep", "DEEP = 2", True),
        ("data", "def load(): return 2", True),
        ("__init__", "import sys", True),
    ],
)
def test_the_code_that_counts_is_what_the_run_imports(tmp_path, monkeypatch, module, code, counts):
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("othercode")]:
        monkeypatch.delitem(sys.modules, name)
    fingerprints = []
    for sources in (CODE, CODE | {module: code}):
        folder = tmp_path / "othercode"
        folder.mkdir(exist_ok=True)
        for name, text in sources.items():
            (folder / f"{name}.py").write_text(text)
            os.utime(folder / f"{name}.py", (0, 0))
        import_module("othercode.runs")
        provenance.code_fingerprint.cache_clear()
        fingerprints.append(provenance.code_fingerprint("othercode.runs"))
    assert (fingerprints[0] != fingerprints[1]) == counts


def test_code_that_was_edited_while_the_process_ran_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_code.py").write_text("from lib.runs import Run\nclass Edited(Run): pass")
    edited = import_module("edited_code")
    with pytest.raises(ValueError, match=r"edited_code\.py was edited while this process ran"):
        sweep([edited.Edited(1)], name="s", cache_dir=tmp_path)


def test_failed_runs_are_records_with_their_reason(tmp_path):
    runs = [FailBySeed(seed) for seed in (0, 1, 2, 3, 4, 6)]
    records = sweep(runs, name="s", cache_dir=tmp_path)
    assert [record.status for record in records] == ["done"] + ["failed"] * 5
    reasons = [record.reason for record in records]
    assert reasons[1].startswith("out of memory: Unable to allocate")
    assert reasons[2] == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert reasons[3] == "SystemExit: a library gave up"
    assert reasons[4] == "NaN: loss"
    assert reasons[5] == "TypeError: result 'words' is set; allowed: JSON values and numpy arrays"
    assert np.isnan(records[4]["loss"])
    assert "in carry_out" in records[1].traceback
    assert finished(records) == [records[0]]
    assert share_finished(records) == 1 / 6
    assert rests_on(records) == "1 of 6 runs (failed: 2 out of memory, 1 SystemExit, 1 NaN, 1 TypeError)"


def test_a_verdict_is_refused_below_the_stated_share(tmp_path):
    runs = [Logged(seed, str(tmp_path / "log"), fail=(3,)) for seed in range(4)]
    records = sweep(runs, name="s", cache_dir=tmp_path)
    assert refusal(records, at_least=0.75) is None
    assert refusal(records, at_least=0.76).startswith("rests on 3 of 4 runs (failed: 1 RuntimeError)")
    assert refusal([], at_least=0.5) is not None


def test_a_failed_run_is_tried_again_but_not_forever(tmp_path, caplog):
    log = tmp_path / "log"
    runs = [Logged(seed, str(log), fail=(1,)) for seed in (0, 1)]
    attempts = [sweep(runs, name="s", cache_dir=tmp_path)[1].attempts for _ in range(5)]
    assert attempts == [1, 2, 3, 3, 3]
    assert log.read_text().split() == ["0", "1", "1", "1"]
    assert "not tried again after 3 attempts: 1 failed runs" in caplog.text
    assert housekeeping(["--cache-dir", str(tmp_path), "prune", "--failed"]) == 0
    assert sweep(runs, name="s", cache_dir=tmp_path)[1].attempts == 1


def test_a_run_that_diverged_is_not_tried_again(tmp_path):
    for _ in range(2):
        records = sweep([FailBySeed(4), FailBySeed(5)], name="s", cache_dir=tmp_path)
        assert [record.reason.split(":")[0] for record in records] == ["NaN", "NaN"]
        assert [record.attempts for record in records] == [1, 1]


def test_a_worker_with_other_code_or_versions_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "code_fingerprint", lambda _: "the caller's")
    record = sweep(seeds(1), name="s", cache_dir=tmp_path)[0]
    assert "in the worker, the caller's at the caller" in record.reason
    monkeypatch.undo()
    monkeypatch.setattr(sweeps, "versions", lambda: {"torch": "1.0", "made-up": "2"})
    record = sweep(seeds(1), name="s", cache_dir=tmp_path)[0]
    assert "versions in the worker differ" in record.reason
    assert "(caller: 1.0)" in record.reason
    assert "made-up None (caller: 2)" in record.reason


def test_runs_together_are_one_record_each_and_a_diverged_one_fails_alone(tmp_path):
    runs = [Group(seed) for seed in range(4)]
    records = sweep(runs, name="s", cache_dir=tmp_path / "together", together=4)
    assert [record.run for record in records] == runs
    assert [record.status for record in records] == ["done", "done", "failed", "done"]
    assert [record.reason for record in records] == [None, None, "NaN: square", None]
    assert [record["square"] for record in finished(records)] == [0, 1, 9]
    assert [record.provenance["beside"] for record in records] == [[0, 1, 2, 3]] * 4
    alone = sweep(runs, name="s", cache_dir=tmp_path / "alone")
    assert same(alone, records)
    assert all("beside" not in record.provenance for record in alone)
    assert same(sweep(runs, name="s", cache_dir=tmp_path / "together"), records)  # kept under the same keys


@pytest.mark.parametrize(
    ("seed", "reason"),
    [
        (7, "RuntimeError: seed 7 fails"),
        (8, "ValueError: carry_out_together gave 1 results for 2 runs"),
    ],
)
def test_a_group_that_fails_fails_each_of_its_runs(tmp_path, seed, reason):
    runs = [Group(seed), Group(0), Group(1), Group(3)]
    records = sweep(runs, name="s", cache_dir=tmp_path, together=2)
    assert [record.reason for record in records] == [reason, reason, None, None]
    assert [record.provenance["beside"] for record in records] == [[seed, 0], [seed, 0], [1, 3], [1, 3]]
    assert all("carry_out_together" in record.traceback for record in records[:2])


def test_a_run_that_cannot_be_carried_out_together_says_so(tmp_path):
    records = sweep(seeds(2), name="s", cache_dir=tmp_path, together=2)
    assert {record.reason for record in records} == {"NotImplementedError: Train has no carry_out_together"}


def test_groups_differ_only_in_seeds_and_are_spread_over_workers(tmp_path):
    runs = [Group(seed, variant) for seed in (0, 1, 3) for variant in "ab"]
    records = sweep(runs, name="s", cache_dir=tmp_path, workers=2, together=2)
    assert [record["square"] for record in records] == [0, 0, 1, 1, 9, 9]
    assert [record.provenance.get("beside") for record in records] == [[0, 1]] * 4 + [None] * 2
    for variant in "ab":
        assert len({r["process"] for r in records if r.run.variant == variant and r.run.seed < 2}) == 1


def test_a_group_carries_out_what_is_not_kept_yet(tmp_path):
    sweep([Group(1)], name="s", cache_dir=tmp_path)
    records = sweep([Group(0), Group(1), Group(3), Group(4)], name="s", cache_dir=tmp_path, together=3)
    assert [record.provenance.get("beside") for record in records] == [[0, 3, 4], None, [0, 3, 4], [0, 3, 4]]


class Dying(Executor):
    """An engine whose process dies in every call."""

    def submit(self, function, /, *arguments, **named):
        future = Future()
        future.set_exception(BrokenExecutor("it died"))
        return future


def test_a_group_that_loses_its_process_is_tried_again_and_then_fails(tmp_path, caplog):
    runs = [Group(0), Group(1)]
    records = sweep(runs, name="s", cache_dir=tmp_path, engine=Dying(), together=2)
    assert [record.reason for record in records] == ["worker gone: 3 times; it died"] * 2
    assert [record.attempts for record in records] == [3, 3]
    assert [record.provenance["beside"] for record in records] == [[0, 1]] * 2
    assert caplog.text.count("lost its worker") == 6


def test_any_executor_is_an_engine_and_is_left_running(tmp_path):
    here = sweep(seeds(4), name="s", cache_dir=tmp_path / "here")
    with ThreadPoolExecutor(2) as threads:
        there = sweep(seeds(4), name="s", cache_dir=tmp_path / "threads", engine=threads, workers=2)
        assert threads.submit(os.getpid).result() == os.getpid()
    assert same(here, there)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        run = TellProcess(1)
        how = {"name": "s", "cache_dir": tmp_path / "processes", "engine": processes, "workers": 2}
        record = sweep([run], {"shared": 3}, **how)[0]
        assert record["process"] == processes.submit(os.getpid).result() != os.getpid()
        assert record["shared"] == 3


@pytest.mark.parametrize(
    ("run", "how", "message"),
    [
        (Train(1, hidden=Path("x")), {}, "is not JSON"),
        (Train(1, hidden=float("nan")), {}, "is not JSON"),
        (Train(1, hidden=torch.zeros(2)), {}, "is not JSON"),
        (Train(1, hidden=np.float32(1)), {}, "is not JSON"),
        (Train(1), {"engine": "spark"}, "engine is 'spark'; allowed: 'local', 'ray', a concurrent.*Executor"),
        (Train(1), {"engine": None}, "engine is None; allowed: 'local', 'ray'"),
        (Train(1), {"device": "auto"}, "device is 'auto'; allowed: 'cpu', 'cuda'"),
        (Train(1), {"workers": 0}, "workers is 0; allowed: 1 or more"),
        (Train(1), {"together": 0}, "together is 0; allowed: 1 or more"),
        (Train(1), {"name": "../../etc"}, r"name is '\.\./\.\./etc'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path, run, how, message):
    with pytest.raises(ValueError, match=message):
        sweep([run], **({"name": "s", "cache_dir": tmp_path / "cache"} | how))
    assert not (tmp_path / "cache").exists()


def test_a_class_that_no_worker_can_import_is_refused(tmp_path):
    class Local(Run):
        pass

    with pytest.raises(ValueError, match="cannot be imported by a worker"):
        sweep([Local(1)], name="s", cache_dir=tmp_path)


def test_each_process_sees_one_of_several_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    seen = [engines.worker_environment(slot, "cuda")["CUDA_VISIBLE_DEVICES"] for slot in range(5)]
    assert seen == ["4", "5", "7", "4", "5"]
    assert "CUDA_VISIBLE_DEVICES" not in engines.worker_environment(0, "cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="no GPU that torch can use"):
        engines.worker_environment(0, "cuda")


@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_gpu_no_run_is_carried_out_there_but_records_are_read(tmp_path, monkeypatch, workers):
    how = {"name": "s", "cache_dir": tmp_path, "device": "cuda", "workers": workers}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^device is 'cuda'; this machine has no GPU that torch can use$"):
        sweep(seeds(1), **how)
    assert not list(tmp_path.rglob("*.safetensors"))
    kept = sweep(seeds(1), **how, engine=engines.InProcess())
    assert rests_on(sweep(seeds(1), **how)) == rests_on(kept) == "1 of 1 runs"


def test_ray_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-ray\.txt"):
        sweep(seeds(1), name="s", cache_dir=tmp_path, engine="ray")


def test_hostile_text_stays_text(tmp_path):
    hostile = "'; rm -rf ~ #<script>alert(1)</script>\0\ud800../../$(id)"
    runs = [Logged(1, str(tmp_path / "log"), options={hostile: hostile})]
    for _ in range(2):
        record = sweep(runs, name="s", cache_dir=tmp_path / "cache")[0]
        assert record.settings["options"][hostile] == hostile
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "log"]


@dataclass(frozen=True)
class UseGPU(Run):
    """Hold some of the GPU's memory for a moment, and train there."""

    mebibytes: int

    def carry_out(self):
        torch.empty(self.mebibytes * 2**20, dtype=torch.uint8, device="cuda")
        with torch.device("cuda"):
            return Train(self.seed).carry_out()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_full_gpu_is_a_failed_run_and_bits_do_not_depend_on_workers(tmp_path):
    runs = [UseGPU(seed, mebibytes=2**30 if seed == 1 else 256) for seed in range(3)]
    gc.collect()
    held = torch.cuda.memory_allocated()  # by what other tests left in this process
    records = sweep(runs, name="s", cache_dir=tmp_path / "1", device="cuda")
    again = sweep(runs, name="s", cache_dir=tmp_path / "2", device="cuda", workers=2)
    assert [record.status for record in records] == ["done", "failed", "done"]
    assert records[1].reason.startswith("out of memory: CUDA out of memory")
    assert records[0].device == torch.cuda.get_device_name()
    assert 256 * 2**20 <= records[0].peak_memory - held < 512 * 2**20
    assert same(done := finished(records), finished(again))
    assert len(done) == 2
