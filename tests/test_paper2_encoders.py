"""Further encoders: they differ in the seed of their pre-training, and in nothing else."""

from pathlib import Path

import torch

from lib.models import load_tokenizer
from lib.paper2.encoders import pretrain_encoders
from lib.seeding import fingerprint
from lib.texts.generated.mini_corpora import CORPORA, unlabelled
from lib.tiny import pretrain_tiny_camembert


def test_encoders_of_other_seeds_are_pretrained_in_processes_as_alone(tmp_path: Path) -> None:
    texts = [text for name in CORPORA for text in unlabelled(name, seed=0, count=210)]
    training = {"steps": 2, "device": "cpu"}
    folders = pretrain_encoders(texts, [1, 2], cache_dir=tmp_path, **training)
    assert len(set(folders)) == 2
    vocabularies = {fingerprint(load_tokenizer(str(folder)).get_vocab()) for folder in folders}
    assert len(vocabularies) == 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes
    try:
        assert pretrain_tiny_camembert(texts, seed=2, cache_dir=tmp_path, **training) == folders[1]
    finally:
        torch.set_num_threads(threads)
