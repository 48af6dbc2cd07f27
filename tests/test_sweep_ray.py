"""Sweeps on a real Ray cluster of two local nodes: the same bits, and a killed worker loses no run."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_sweep import same, seeds

from lib.runs import Run, sweep

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")


@dataclass(frozen=True)
class NoteNodeAndProcess(Run):
    """Note which process runs this; seed 2 takes long enough to be killed, the first time."""

    folder: str

    def carry_out(self):
        first_time = not list(Path(self.folder).glob(f"{self.seed}-*"))
        node = ray.get_runtime_context().get_node_id()
        (Path(self.folder) / f"{self.seed}-{os.getpid()}-{node}").touch()
        time.sleep(60 if self.seed == 2 and first_time else 0.2)
        return {"square": self.seed**2}


@pytest.fixture
def two_nodes(monkeypatch):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def kill_process_of(seed, folder):
    while not (started := list(folder.glob(f"{seed}-*"))):
        time.sleep(0.05)
    os.kill(int(started[0].name.split("-")[1]), signal.SIGKILL)


def test_two_nodes_give_the_same_bits_and_a_killed_worker_is_replaced(tmp_path, two_nodes):
    here = sweep(seeds(4), name="s", cache_dir=tmp_path / "local")
    there = sweep(seeds(4), name="s", cache_dir=tmp_path / "ray", engine="ray", workers=2)
    assert same(here, there)

    notes = tmp_path / "notes"
    notes.mkdir()
    killer = threading.Thread(target=kill_process_of, args=(2, notes), daemon=True)
    killer.start()
    runs = [NoteNodeAndProcess(seed, str(notes)) for seed in range(6)]
    records = sweep(runs, name="s", cache_dir=tmp_path, engine="ray", workers=2)
    killer.join()
    assert [record["square"] for record in records] == [0, 1, 4, 9, 16, 25]
    assert [record.attempts for record in records] == [1, 1, 2, 1, 1, 1]
    assert len({path.name.split("-")[2] for path in notes.iterdir()}) == 2
    assert not ray.is_initialized()

    with pytest.raises(ValueError, match="the Ray cluster has 0 GPUs"):
        sweep(seeds(1), name="t", cache_dir=tmp_path, engine="ray", device="cuda")


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [(4, 4, 1), (4, 2, 1), (4, 8, 0.5), (4, 6, 0.5), (1, 3, 1 / 3)]
)
def test_a_run_asks_for_its_share_of_a_gpu(gpus, workers, share):
    from lib.runs.ray_cluster import share_of_gpu

    assert share_of_gpu(gpus, workers) == share
