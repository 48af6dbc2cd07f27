"""Shared fixtures: a Hub of our own, and a tiny CamemBERT, pre-trained once per session on a few texts."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loopback_hub import HUB, Hub

# huggingface_hub reads these variables once, when it is imported: no test can reach the real Hub, nor use or
# change what the user has downloaded.
os.environ.pop("HF_HUB_OFFLINE", None)
os.environ.pop("HF_TOKEN", None)
os.environ.update(HF_ENDPOINT=HUB.url, HF_HOME=tempfile.mkdtemp(), HF_HUB_DISABLE_XET="1")

import datasets
from huggingface_hub import constants

from lib import hub
from lib.texts.generated.mini_corpora import CORPORA, unlabelled
from lib.tiny.encoder import pretrain_tiny_camembert


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu``, leave out files without such tests: a machine with a GPU may lack what they import."""
    if config.getoption("markexpr") != "gpu" or collection_path.suffix != ".py":
        return None
    return None if "mark.gpu" in collection_path.read_text(encoding="utf-8") else True


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    yield
    shutil.rmtree(os.environ["HF_HOME"])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text for name in CORPORA for text in unlabelled(name, seed=0, count=1_000)]
    return pretrain_tiny_camembert(texts, seed=0, steps=100, cache_dir=tmp_path_factory.mktemp("models"))


@pytest.fixture
def small_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub, and nothing downloaded from it yet."""
    HUB.reset()
    hub.find.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    yield HUB
    HUB.reset()
    hub.find.cache_clear()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models that are too small for two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
