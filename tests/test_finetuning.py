"""Fine-tuning learns, repeats to the bit, and reports what it did."""

import numpy as np
import pytest
import torch

from lib.finetuning import data_order, encode, fine_tune
from lib.models import load_classifier, load_tokenizer
from lib.seeding import fingerprint
from lib.texts.generated.mini_corpora import mini_corpus

TRAINING = {"learning_rate": 1e-3, "batch_size": 16, "max_length": 128}


@pytest.fixture(scope="module")
def corpus():
    return mini_corpus("mini-infopinion", seed=0, train=1_000, validation=10, test=300)


def trained(folder, split, seed, **changed):
    model, tokenizer = load_classifier(folder, seed=seed), load_tokenizer(folder)
    texts, labels = list(split["text"]), list(split["label"])
    return model, fine_tune(model, tokenizer, texts, labels, seed=seed, **(TRAINING | changed))


@pytest.mark.slow
def test_a_fine_tuned_tiny_model_clearly_beats_chance(tiny_folder, corpus):
    model, training = trained(tiny_folder, corpus["train"], 0, epochs=3, learning_rate=3e-4)
    test = encode(model, load_tokenizer(tiny_folder), list(corpus["test"]["text"]), max_length=128)
    accuracy = np.mean(test.predicted == np.array(corpus["test"]["label"]))
    assert accuracy > 0.62  # four standard errors above chance on 300 texts
    assert training.losses[-20:].mean() < training.losses[:20].mean() - 0.1


def test_the_same_seed_gives_the_same_run_to_the_bit(tiny_folder, corpus):
    few = corpus["train"].select(range(64))
    (one, first), (two, second) = (trained(tiny_folder, few, 3, epochs=1) for _ in range(2))
    assert first.losses.tolist() == second.losses.tolist()
    assert fingerprint(one) == fingerprint(two) == first.final_weights == second.final_weights
    _, other = trained(tiny_folder, few, 4, epochs=1)
    assert other.initial_weights != first.initial_weights
    assert other.data_order != first.data_order


def test_only_the_head_changes_when_the_encoder_is_frozen(tiny_folder, corpus):
    few = corpus["train"].select(range(32))
    model, tokenizer = load_classifier(tiny_folder, seed=0), load_tokenizer(tiny_folder)
    model.base_model.requires_grad_(False)
    encoder, head = fingerprint(model.base_model), fingerprint(model.classifier)
    fine_tune(model, tokenizer, list(few["text"]), list(few["label"]), seed=0, epochs=1, **TRAINING)
    assert fingerprint(model.base_model) == encoder
    assert fingerprint(model.classifier) != head


def test_a_diverged_run_names_the_step(tiny_folder, corpus):
    few = corpus["train"].select(range(32))
    model, tokenizer = load_classifier(tiny_folder, seed=0), load_tokenizer(tiny_folder)
    model.classifier.out_proj.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the training loss is not finite from step 0 on"):
        fine_tune(model, tokenizer, list(few["text"]), list(few["label"]), seed=0, epochs=1, **TRAINING)


def test_encoding_matches_the_models_own_forward_pass_for_any_batch_size(tiny_folder, corpus):
    model, tokenizer = load_classifier(tiny_folder, seed=0).double(), load_tokenizer(tiny_folder)
    texts = list(corpus["test"]["text"][:7])
    batched = encode(model, tokenizer, texts, max_length=64, batch_size=3)
    for i, text in enumerate(texts):
        batch = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            out = model(**batch, output_hidden_states=True)
        np.testing.assert_allclose(batched.logits[i], out.logits[0], atol=1e-6)
        np.testing.assert_allclose(batched.embeddings[i], out.hidden_states[-1][0, 0], atol=1e-6)


def test_every_epoch_sees_every_text_once():
    lengths = [5, 9, 2, 7, 7, 3, 8, 1, 4]
    order = data_order(lengths, seed=1, epochs=3, batch_size=2)
    assert [sorted(order[i : i + 9]) for i in (0, 9, 18)] == [list(range(9))] * 3
    assert order[:9] != order[9:18]
    assert order == data_order(lengths, seed=1, epochs=3, batch_size=2)
    assert order != data_order(lengths, seed=2, epochs=3, batch_size=2)
