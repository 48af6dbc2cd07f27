"""What several test files need: a tiny CamemBERT, pre-trained once a session on a few generated texts."""

from pathlib import Path

import pytest

from lib.mini_corpora import CORPORA, unlabelled
from lib.pretraining import pretrain_tiny_camembert


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text for name in CORPORA for text in unlabelled(name, seed=0, count=1_000)]
    return pretrain_tiny_camembert(texts, seed=0, steps=100, cache_dir=tmp_path_factory.mktemp("models"))
