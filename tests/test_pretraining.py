"""tiny-camembert: its tokenizer, what it learns, and that pre-training is repeatable."""

import math
import shutil
import stat

import numpy as np
import pytest
import torch
from torch.nn import Dropout
from transformers import AutoModelForMaskedLM

from lib.models import load_classifier, load_tokenizer
from lib.texts.generated.mini_corpora import CORPORA, unlabelled
from lib.tiny import encoder
from lib.tiny.cooccurrence import piece_vectors
from lib.tiny.encoder import (
    data_order,
    encoder_folder,
    pretrain_tiny_camembert,
    pretraining_losses,
)
from lib.tiny.keeping import read_report
from lib.tiny.vocabulary import train_tokenizer


@pytest.fixture(scope="module")
def texts():
    return unlabelled("mini-allocine", seed=0, count=600)


def test_the_tokenizer_is_of_camemberts_kind(texts):
    tokenizer = train_tokenizer(texts, 8_000, max_length=256)
    pieces = tokenizer.tokenize("Ce film est zygomatique .")
    assert pieces[:3] == ["▁Ce", "▁film", "▁est"]
    assert "".join(pieces).replace("▁", " ").strip() == "Ce film est zygomatique ."
    assert tokenizer.pad_token_id == 1  # CamemBERT's position ids start after it
    assert tokenizer("film")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer("film")["input_ids"][-1] == tokenizer.eos_token_id
    # frequent words are single pieces
    lengths = [len(tokenizer.tokenize(text)) / len(text.split()) for text in texts[:50]]
    assert np.mean(lengths) < 1.5


def test_the_tokenizer_does_not_depend_on_the_order_of_the_texts(texts):
    one, two = (train_tokenizer(given, 8_000, max_length=256) for given in (texts, texts[::-1]))
    assert one.get_vocab() == two.get_vocab()


def test_pretraining_beats_the_unigram_loss_is_cached_and_repeats_to_the_bit(tiny_folder, tmp_path):
    report = read_report(tiny_folder)
    assert report["masked_loss"] < report["unigram_loss"] - 0.1
    assert report["unigram_loss"] < math.log(8_000)
    texts = [text for name in CORPORA for text in unlabelled(name, seed=0, count=1_000)]
    started = (tiny_folder / "model.safetensors").stat().st_mtime_ns
    kept = pretrain_tiny_camembert(texts, seed=0, steps=100, cache_dir=tiny_folder.parent)
    assert kept == tiny_folder
    assert (tiny_folder / "model.safetensors").stat().st_mtime_ns == started
    dropout = [
        layer.p for layer in load_classifier(tiny_folder, seed=0).modules() if isinstance(layer, Dropout)
    ]
    assert set(dropout) == {0.1}  # everywhere, for fine-tuning
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    weights = []
    for place in ("one", "two"):
        folder = pretrain_tiny_camembert(texts[:450], seed=1, steps=2, cache_dir=tmp_path / place)
        assert stat.S_IMODE((tmp_path / place).stat().st_mode) == 0o700
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("changed", ["sentencepiece", "precision.py", "seeding.py"])
def test_the_folder_is_named_by_all_that_decides_the_weights(changed, texts, tmp_path, monkeypatch):
    def folder():
        return encoder._folder(texts, 0, 1, tmp_path, torch.device("cpu"))

    before = folder()
    if changed == "sentencepiece":
        monkeypatch.setattr(encoder, "version", {"sentencepiece": "0.0.1"}.get)
    else:
        shutil.copytree(encoder.LIB, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pyc"))
        (tmp_path / changed).write_text("EDITED = True\n")
        monkeypatch.setattr(encoder, "LIB", tmp_path)
    assert folder() != before


def test_masked_pieces_and_all_pieces_of_a_text_are_predicted(tiny_folder):
    model = AutoModelForMaskedLM.from_pretrained(tiny_folder).eval()
    batch = load_tokenizer(tiny_folder)(
        ["Ce film est une merveille .", "Quel navet !"], padding=True, return_tensors="pt"
    )
    true = batch["input_ids"].clone()
    labels = torch.full_like(true, -100)
    labels[0, 2], labels[1, 1] = true[0, 2], true[1, 1]
    batch["input_ids"][0, 2] = batch["input_ids"][1, 1] = model.config.vocab_size - 1  # masked by some piece
    with torch.no_grad():
        masked, held = pretraining_losses(model, batch["input_ids"], batch["attention_mask"], labels)
        out = model(**batch, labels=labels, output_hidden_states=True)
        first = out.hidden_states[-1][:, 0] @ model.roberta.embeddings.word_embeddings.weight.T
        scores = (first + model.lm_head.bias).log_softmax(-1)
    assert masked.item() == pytest.approx(out.loss.item(), rel=1e-5)
    pieces = [
        set(row[mask.bool()][1:-1].tolist()) for row, mask in zip(true, batch["attention_mask"], strict=True)
    ]
    expected = [-scores[text, piece].item() for text, held_here in enumerate(pieces) for piece in held_here]
    assert held.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_too_few_texts_are_an_error_and_folders_pass_through(texts, tiny_folder, tmp_path):
    training = {"seed": 0, "steps": 1, "cache_dir": tmp_path}
    with pytest.raises(ValueError, match="pre-training texts = 100"):
        pretrain_tiny_camembert(texts[:100], **training)
    folder = str(tiny_folder)
    assert encoder_folder(folder, [], **training, device=torch.device("cpu")) == folder
    assert read_report(tmp_path) is None


def test_cooccurrence_vectors_put_interchangeable_pieces_together():
    # pieces 0 and 1 occur in the same positions of one kind of text, 2 and 3 in those of another
    rng = np.random.default_rng(0)
    texts = [
        [int(piece) for filler in rng.integers(4, 9, 6) for piece in (rng.choice(kind), filler)]
        for kind in ([0, 1], [2, 3])
        for _ in range(200)
    ]
    vectors = piece_vectors(texts, 9, 4, seed=0)  # (pieces, dim)
    assert vectors.shape == (9, 4)
    assert vectors.std() == pytest.approx(1, rel=1e-5)

    def cosine(a: int, b: int) -> float:
        return vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])

    assert min(cosine(0, 1), cosine(2, 3)) > 0.8
    assert max(cosine(0, 2), cosine(1, 3)) < 0.3


def test_every_epoch_of_pretraining_sees_every_text_once():
    lengths = [5, 9, 2, 7, 7, 3, 8, 1, 4]
    order = data_order(lengths, seed=1, epochs=3, batch_size=2)
    assert [sorted(order[i : i + 9]) for i in (0, 9, 18)] == [list(range(9))] * 3
    assert order[:9] != order[9:18]
    assert order == data_order(lengths, seed=1, epochs=3, batch_size=2)
    assert order != data_order(lengths, seed=2, epochs=3, batch_size=2)
