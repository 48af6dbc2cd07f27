"""Fine-tuning learns, equals a plain loop, repeats to the bit, and reports what it did."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, get_linear_schedule_with_warmup

from lib.finetuning import encode, fine_tune
from lib.models import load_classifier, load_tokenizer
from lib.recipes import TrainingRecipe
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


def literal_loop(model, tokenizer, split, order, *, epochs, learning_rate, batch_size, schedule):
    """Train as the authors' notebook does, to the last step; return the losses and the weights at rate 0."""
    rows = [
        {"input_ids": tokenizer(split[index]["text"])["input_ids"], "labels": split[index]["label"]}
        for index in order
    ]
    loader = DataLoader(rows, batch_size, shuffle=False, collate_fn=DataCollatorWithPadding(tokenizer))
    batches_per_epoch = len(loader) // batch_size if schedule == "authors" else len(loader)
    total = batches_per_epoch * epochs
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, eps=1e-8)
    scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=total)
    losses, stopped = [], None
    model.train()
    for _ in range(epochs):
        for batch in loader:
            if len(losses) == total:
                stopped = copy.deepcopy(model.state_dict())
            model.zero_grad()
            loss = model(**batch).loss
            losses.append(loss.item())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
    return losses, stopped


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize(("schedule", "steps"), [("described", 32), ("authors", 8)])
def test_fine_tuning_equals_a_plain_loop(tiny_folder, corpus, schedule, steps, shuffled):
    few, seed = corpus["train"].select(range(61)), 5  # 16 batches, the last of a single text
    how = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "schedule": schedule}
    tokenizer = load_tokenizer(tiny_folder)
    # In float64: a key's bias has no gradient but rounding, which Adam would scale up to the learning rate.
    models = [load_classifier(tiny_folder, seed=seed).double() for _ in range(2)]
    for model in models:
        model.classifier.dropout.p = 0.0
    order = TrainingRecipe(**how, shuffled=shuffled).order(61, seed).tolist()
    losses, stopped = literal_loop(models[0], tokenizer, few, order, **how)
    how |= {"shuffled": shuffled, "max_length": 512}
    training = fine_tune(models[1], tokenizer, few["text"], few["label"], seed=seed, **how)
    np.testing.assert_allclose(training.losses, losses[:steps], atol=1e-5)
    assert len(losses) == 32
    assert training.data_order == fingerprint(order)
    for mine, literal in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(mine, literal, atol=1e-9, rtol=1e-7)
    if schedule == "authors":  # what follows the stop changes no bit of the plain loop either
        assert all(torch.equal(value, stopped[name]) for name, value in models[0].state_dict().items())


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
