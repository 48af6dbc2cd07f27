"""Sweeps: each run once, in order, found by what decides it, whatever the engine."""

import os
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.runs import engines, provenance, sweep
from lib.runs.housekeeping import main as housekeeping
from lib.seeding import set_deterministic


def train(seed, hidden=4, steps=3):
    """Train a small network really: its weights after a few steps of AdamW."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x, y = torch.randn(512, 64), torch.randint(2, (512,))
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).cpu().numpy()
    return {"loss": loss.item(), "weights": weights, "threads": torch.get_num_threads()}


def logged(seed, log, fail=(), **_):
    """Note that it ran, then fail or return the seed's square."""
    with Path(log).open("a") as file:
        file.write(f"{seed}\n")
    if seed in fail:
        raise RuntimeError(f"seed {seed} fails\nat length")
    return {"square": seed**2}


def fail_by_seed(seed):
    """Fail in the ways that runs fail."""
    if seed == 1:
        np.empty((2**30, 2**20))
    if seed == 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if seed == 3:
        sys.exit("a library gave up")
    if seed == 5:
        raise FloatingPointError("the loss is no number from step 7 on")
    return {"loss": float("nan") if seed == 4 else 0.5, "gaps": np.array([np.nan]), "worst": float("inf")}


def process_and(seed, shared, fail=False):
    """Tell the process it runs in and what it was handed, or fail."""
    if fail:
        raise RuntimeError("as asked")
    return {"process": os.getpid(), "shared": shared}


def seeds(n):
    return [{"seed": seed} for seed in range(n)]


def same(a, b):
    """Whether two lists of records say the same to the bit, but for times and memory."""
    return len(a) == len(b) and all(
        x.settings == y.settings
        and (x.status, x.reason) == (y.status, y.reason)
        and list(x.result) == list(y.result)
        and all(np.asarray(x[name]).tobytes() == np.asarray(y[name]).tobytes() for name in x.result)
        for x, y in zip(a, b, strict=True)
    )


def test_records_come_in_order_and_are_read_the_second_time(tmp_path):
    log = tmp_path / "log"
    runs = [{"seed": seed, "log": str(log)} for seed in (3, 1, 2, 1)]
    first = sweep.run(logged, runs, name="s", cache_dir=tmp_path)
    second = sweep.run(logged, runs, name="s", cache_dir=tmp_path, workers=2)
    assert [r["square"] for r in first] == [9, 1, 4, 1]
    assert same(first, second)
    assert log.read_text().split() == ["3", "1", "2"]


def test_one_and_two_workers_give_the_same_bits(tmp_path):
    one = sweep.run(train, seeds(3), name="s", cache_dir=tmp_path / "1", workers=1)
    two = sweep.run(train, seeds(3), name="s", cache_dir=tmp_path / "2", workers=2)
    assert {record.status for record in one} == {"done"}
    assert same(one, two)
    assert one[0]["loss"] != one[1]["loss"]
    assert [record["threads"] for record in one] == [1, 1, 1]


def test_a_sweep_takes_over_the_processes_of_the_one_before_it_unless_they_failed(tmp_path):
    def processes(name, fail=(), threads=1):
        runs = [{"seed": seed, "fail": seed in fail} for seed in range(4)]
        how = {"inputs": {"shared": name}, "cache_dir": tmp_path, "workers": 2, "threads": threads}
        records = sweep.finished(sweep.run(process_and, runs, name=name, **how))
        assert {record["shared"] for record in records} == {name}
        return {record["process"] for record in records}

    first = processes("first")
    assert len(first) == 2
    assert processes("second") == first
    assert not processes("other-threads", threads=2) & first
    again = processes("again")
    assert not again & first
    processes("failed", fail=(2, 3))
    assert processes("after") != again


def test_threads_are_those_of_the_run_and_of_nobody_else(tmp_path):
    before = torch.get_num_threads()
    record = sweep.run(train, seeds(1), name="s", cache_dir=tmp_path, threads=2)[0]
    assert record["threads"] == 2
    assert record.provenance["threads"] == 2
    assert torch.get_num_threads() == before


def test_each_thing_that_decides_a_result_decides_the_record(tmp_path, monkeypatch):
    log = tmp_path / "log"

    def times_run(settings=None, **kwargs):
        sweep.run(
            logged, [{"seed": 1, "log": str(log), **(settings or {})}], name="s", cache_dir=tmp_path, **kwargs
        )
        return len(log.read_text().split())

    assert times_run() == times_run() == 1
    assert times_run({"lr": 1e-3}) == 2
    assert times_run({"lr": 1e-4}) == 3
    assert times_run({"seed": 2}) == 4
    assert times_run(fingerprints={"texts": "aa"}) == 5
    assert times_run(fingerprints={"texts": "bb"}) == 6
    assert times_run(threads=2) == 7
    assert times_run(device="cuda") == 8
    versions = dict(provenance.versions()) | {"torch": "1.0"}
    with monkeypatch.context() as older:
        for module in (sweep, engines):
            older.setattr(module, "versions", lambda: versions)
        assert times_run() == 9
    with monkeypatch.context() as edited:
        for module in (sweep, engines):
            edited.setattr(module, "code_fingerprint", lambda _: "edited")
        assert times_run() == 10
    assert times_run() == times_run({"lr": 1e-4}) == times_run(inputs={}) == 10


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
    (tmp_path / "edited_code.py").write_text("def run(seed): return {}")
    edited = import_module("edited_code")
    with pytest.raises(ValueError, match=r"edited_code\.py was edited while this process ran"):
        sweep.run(edited.run, seeds(1), name="s", cache_dir=tmp_path)


def test_failed_runs_are_records_with_their_reason(tmp_path):
    records = sweep.run(fail_by_seed, seeds(5), name="s", cache_dir=tmp_path)
    assert [record.status for record in records] == ["done", "failed", "failed", "failed", "failed"]
    reasons = [record.reason for record in records]
    assert reasons[1].startswith("out of memory: Unable to allocate")
    assert reasons[2] == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert reasons[3] == "SystemExit: a library gave up"
    assert reasons[4] == "NaN: loss"
    assert np.isnan(records[4]["loss"])
    assert "fail_by_seed" in records[1].traceback
    assert sweep.share_finished(records) == 0.2
    assert sweep.finished(records) == [records[0]]
    assert sweep.rests_on(records) == "1 of 5 runs (failed: 2 out of memory, 1 SystemExit, 1 NaN)"


def test_a_verdict_is_refused_below_the_stated_share(tmp_path):
    log = str(tmp_path / "log")
    runs = [{"seed": seed, "log": log, "fail": [3]} for seed in range(4)]
    records = sweep.run(logged, runs, name="s", cache_dir=tmp_path)
    assert sweep.refusal(records, at_least=0.75) is None
    assert sweep.refusal(records, at_least=0.76).startswith("rests on 3 of 4 runs (failed: 1 RuntimeError)")
    assert sweep.refusal([], at_least=0.5) is not None


def test_a_failed_run_is_tried_again_but_not_for_ever(tmp_path, caplog):
    log = tmp_path / "log"
    runs = [{"seed": seed, "log": str(log), "fail": [1]} for seed in (0, 1)]
    attempts = [sweep.run(logged, runs, name="s", cache_dir=tmp_path)[1].attempts for _ in range(5)]
    assert attempts == [1, 2, 3, 3, 3]
    assert log.read_text().split() == ["0", "1", "1", "1"]
    assert "not tried again after 3 attempts: 1 failed runs" in caplog.text
    assert housekeeping(["--cache-dir", str(tmp_path), "prune", "--failed"]) == 0
    assert sweep.run(logged, runs, name="s", cache_dir=tmp_path)[1].attempts == 1


def test_a_run_that_diverged_is_not_tried_again(tmp_path):
    for _ in range(2):
        records = sweep.run(fail_by_seed, [{"seed": 4}, {"seed": 5}], name="s", cache_dir=tmp_path)
        assert [record.reason.split(":")[0] for record in records] == ["NaN", "NaN"]
        assert [record.attempts for record in records] == [1, 1]


def test_a_worker_with_other_code_or_versions_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "code_fingerprint", lambda _: "the caller's")
    record = sweep.run(train, seeds(1), name="s", cache_dir=tmp_path)[0]
    assert "in the worker, the caller's at the caller" in record.reason
    monkeypatch.undo()
    monkeypatch.setattr(sweep, "versions", lambda: {"torch": "1.0"})
    record = sweep.run(train, seeds(1), name="s", cache_dir=tmp_path)[0]
    assert "versions in the worker differ" in record.reason
    assert "(caller: 1.0)" in record.reason


@pytest.mark.parametrize(
    ("runs", "kwargs", "message"),
    [
        ([{"hidden": 1}], {}, "has no 'seed'"),
        ([{"seed": 1, "hidden": Path("x")}], {}, "is not JSON"),
        ([{"seed": 1, "lr": float("nan")}], {}, "is not JSON"),
        ([{"seed": 1}], {"engine": "spark"}, "engine is 'spark'; allowed: 'local', 'ray'"),
        ([{"seed": 1}], {"device": "auto"}, "device is 'auto'; allowed: 'cpu', 'cuda'"),
        ([{"seed": 1}], {"workers": 0}, "workers is 0; allowed: 1 or more"),
        ([{"seed": 1}], {"name": "../../etc"}, "name is '../../etc'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(tmp_path, runs, kwargs, message):
    with pytest.raises(ValueError, match=message):
        sweep.run(train, runs, **({"name": "s", "cache_dir": tmp_path / "cache"} | kwargs))
    assert not (tmp_path / "cache").exists()


def test_a_function_that_no_worker_can_import_is_refused(tmp_path):
    with pytest.raises(ValueError, match="can't be imported by a worker"):
        sweep.run(lambda seed: {}, seeds(1), name="s", cache_dir=tmp_path)


def test_each_process_sees_one_of_several_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    seen = [engines.worker_environment(slot, 1, "cuda")["CUDA_VISIBLE_DEVICES"] for slot in range(5)]
    assert seen == ["4", "5", "7", "4", "5"]
    assert "CUDA_VISIBLE_DEVICES" not in engines.worker_environment(0, 1, "cpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="no GPU that torch can use"):
        engines.worker_environment(0, 1, "cuda")


def test_ray_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-ray\.txt"):
        sweep.run(train, seeds(1), name="s", cache_dir=tmp_path, engine="ray")


def test_hostile_text_stays_text(tmp_path):
    hostile = "'; rm -rf ~ #<script>alert(1)</script>\0\ud800../../$(id)"
    runs = [{"seed": 1, "log": str(tmp_path / "log"), hostile: hostile}]
    for _ in range(2):
        record = sweep.run(logged, runs, name="s", cache_dir=tmp_path / "cache")[0]
        assert record.settings[hostile] == hostile
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "log"]


def use_gpu(seed, mebibytes):
    """Hold some of the GPU's memory for a moment, and train there."""
    torch.empty(mebibytes * 2**20, dtype=torch.uint8, device="cuda")
    set_deterministic(True)
    with torch.device("cuda"):
        return train(seed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_that_is_full_is_a_failed_run_and_its_bits_do_not_depend_on_workers(tmp_path):
    runs = [{"seed": seed, "mebibytes": 2**30 if seed == 1 else 256} for seed in range(3)]
    records = sweep.run(use_gpu, runs, name="s", cache_dir=tmp_path / "1", device="cuda")
    again = sweep.run(use_gpu, runs, name="s", cache_dir=tmp_path / "2", device="cuda", workers=2)
    assert [record.status for record in records] == ["done", "failed", "done"]
    assert records[1].reason.startswith("out of memory: CUDA out of memory")
    assert records[0].device == torch.cuda.get_device_name()
    assert 256 * 2**20 <= records[0].peak_memory < 512 * 2**20
    assert same(finished := sweep.finished(records), sweep.finished(again))
    assert len(finished) == 2
