"""Shared fixture: a tiny CamemBERT, pre-trained once per session on a few generated texts."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# huggingface_hub reads this variable once, when it is imported. If it were set, the tests that run without a
# network or against a local server would fail with "offline mode".
os.environ.pop("HF_HUB_OFFLINE", None)

from lib.texts.generated.mini_corpora import CORPORA, unlabelled
from lib.tiny.encoder import pretrain_tiny_camembert


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text for name in CORPORA for text in unlabelled(name, seed=0, count=1_000)]
    return pretrain_tiny_camembert(texts, seed=0, steps=100, cache_dir=tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models that are too small for two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
