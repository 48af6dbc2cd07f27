"""Fine-tuning learns, equals a plain loop and a Trainer, repeats to the bit, captured or not."""

import copy
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset
from fake_graphs import FakeGraphs, NoGraphs, use
from torch.func import functional_call
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, Trainer, get_linear_schedule_with_warmup

from lib import finetuning
from lib.capture import static_lengths
from lib.finetuning import classify, encode, fine_tune
from lib.memory import training_bytes
from lib.models import load_classifier, load_tokenizer
from lib.quantization import choose_trained
from lib.recipes import TrainingRecipe
from lib.seeding import derive, fingerprint, set_deterministic
from lib.texts.generated.mini_corpora import mini_corpus
from lib.trainer import run_trainer

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


def without_dropout(model):
    """Draw nothing: a plain loop and a Trainer draw dropout from another stream."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


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
        without_dropout(model)
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


def test_fine_tuning_equals_a_transformers_trainer(tiny_folder, corpus):
    few, seed = corpus["train"].select(range(30)), 5
    tokenizer = load_tokenizer(tiny_folder)
    models = [load_classifier(tiny_folder, seed=seed).double() for _ in range(2)]
    for model in models:
        without_dropout(model)
    recipe = TrainingRecipe(epochs=2, learning_rate=1e-3, batch_size=4)
    pieces = tokenizer(list(few["text"]), truncation=True, max_length=128)["input_ids"]
    rows = Dataset.from_dict({"input_ids": pieces, "labels": few["label"]})
    # Its own optimizer would decay neither biases nor layer norms, the authors' decays everything.
    optimizer = torch.optim.AdamW(models[0].parameters(), lr=1e-3, eps=1e-8, weight_decay=0.01)
    trainer = run_trainer(
        Trainer,
        model=models[0],
        train_dataset=rows.select(recipe.order(30, seed).tolist()),
        data_collator=DataCollatorWithPadding(tokenizer),
        seed=seed,
        device=models[0].device,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        optimizers=(optimizer, get_linear_schedule_with_warmup(optimizer, 0, recipe.steps(30))),
        max_grad_norm=1.0,
        logging_strategy="steps",
        logging_steps=1,
    )
    how = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "max_length": 128}
    training = fine_tune(models[1], tokenizer, few["text"], few["label"], seed=seed, **how)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    np.testing.assert_allclose(training.losses, losses, atol=1e-5)
    for mine, theirs in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-7)


def test_the_same_seed_gives_the_same_run_to_the_bit(tiny_folder, corpus):
    few = corpus["train"].select(range(64))
    (one, first), (two, second) = (trained(tiny_folder, few, 3, epochs=1) for _ in range(2))
    assert first.losses.tolist() == second.losses.tolist()
    assert fingerprint(one) == fingerprint(two) == first.final_weights == second.final_weights
    _, other = trained(tiny_folder, few, 4, epochs=1)
    assert other.initial_weights != first.initial_weights
    assert other.data_order != first.data_order


def captured(folder, split, monkeypatch, graphs, model):
    use(monkeypatch, "lib.finetuning", graphs)
    training = TRAINING | {"batch_size": 4, "epochs": 3}
    texts, labels = list(split["text"]), list(split["label"])
    return fine_tune(model, load_tokenizer(folder), texts, labels, seed=3, **training)


def test_replayed_steps_change_no_bit(tiny_folder, corpus, monkeypatch):
    few = corpus["train"].select(range(30))
    models = [load_classifier(tiny_folder, seed=3) for _ in range(2)]
    graphs = FakeGraphs()
    replayed = captured(tiny_folder, few, monkeypatch, graphs, models[0])
    plain = captured(tiny_folder, few, monkeypatch, NoGraphs(), models[1])
    assert 1 < graphs.captured <= 4
    assert set(graphs.replayed) == set(range(graphs.captured))
    assert replayed.losses.tolist() == plain.losses.tolist()
    assert replayed.final_weights == plain.final_weights
    assert len(replayed.losses) == 24


def test_a_few_static_lengths_change_nothing_but_rounding(tiny_folder, corpus, monkeypatch):
    few = corpus["train"].select(range(30))
    models = [load_classifier(tiny_folder, seed=3).double() for _ in range(2)]
    for model in models:
        without_dropout(model)
    texts, labels = list(few["text"]), list(few["label"])
    how = TRAINING | {"batch_size": 4, "epochs": 3}
    alone = fine_tune(models[1], load_tokenizer(tiny_folder), texts, labels, seed=3, **how)
    padded = captured(tiny_folder, few, monkeypatch, FakeGraphs(), models[0])
    np.testing.assert_allclose(padded.losses, alone.losses, atol=1e-6)
    for mine, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("trained", ["head", "biases", "lora:2"])
def test_parts_of_a_model_are_captured_too(tiny_folder, corpus, monkeypatch, trained):
    few = corpus["train"].select(range(30))
    models = [choose_trained(load_classifier(tiny_folder, seed=3), trained) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    replayed = captured(tiny_folder, few, monkeypatch, FakeGraphs(), models[0])
    plain = captured(tiny_folder, few, monkeypatch, NoGraphs(), models[1])
    assert replayed.final_weights == plain.final_weights != plain.initial_weights


@pytest.mark.parametrize(
    ("longest", "most", "expected"),
    [
        ([10, 12, 30, 31, 50, 90, 91, 100], 512, [16, 16, 32, 32, 96, 96, 96, 104]),
        ([10, 12, 30, 31, 50, 90, 91, 100], 100, [16, 16, 32, 32, 96, 96, 96, 100]),
        ([7], 512, [8]),
        ([512] * 9, 512, [512] * 9),
        ([20, 9], 512, [24, 16]),
    ],
)
def test_batches_are_padded_to_at_most_four_lengths(longest, most, expected):
    assert static_lengths(longest, most) == expected


def test_dropout_is_the_seeds_own_and_leaves_the_default_stream_alone(tiny_folder, corpus):
    few = corpus["train"].select(range(16))
    how = TRAINING | {"batch_size": 4, "epochs": 1}
    fingerprints = []
    for state in (1, 2):
        model = load_classifier(tiny_folder, seed=0)
        torch.manual_seed(state)
        expected = torch.rand(3, generator=torch.Generator().manual_seed(state))
        training = fine_tune(model, load_tokenizer(tiny_folder), few["text"], few["label"], seed=0, **how)
        fingerprints.append(training.final_weights)
        assert torch.equal(torch.rand(3), expected)
    assert fingerprints[0] == fingerprints[1]


def test_the_first_step_drops_what_the_seeds_own_stream_draws_first(tiny_folder, corpus):
    few, tokenizer = corpus["train"].select(range(4)), load_tokenizer(tiny_folder)
    batch = tokenizer(list(few["text"]), padding=True, return_tensors="pt")
    model, losses = load_classifier(tiny_folder, seed=0).train(), []
    for seed in (5, 6):
        with torch.random.fork_rng([]):
            torch.manual_seed(derive(seed, "dropout"))
            expected = model(**batch, labels=torch.tensor(few["label"])).loss.item()
        how = TRAINING | {"batch_size": 4, "epochs": 1, "shuffled": False}
        tuned = load_classifier(tiny_folder, seed=0)
        training = fine_tune(tuned, tokenizer, few["text"], few["label"], seed=seed, **how)
        assert training.losses == pytest.approx([expected], rel=1e-5)
        losses.append(expected)
    assert abs(losses[1] - losses[0]) > 1e-3


def test_by_default_texts_are_shuffled_and_the_schedule_is_the_described_one(tiny_folder, corpus):
    few = corpus["train"].select(range(20))
    how = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "max_length": 32}
    _, plain = trained(tiny_folder, few, 3, **how)
    _, said = trained(tiny_folder, few, 3, **how, schedule="described", shuffled=True)
    assert len(plain.losses) == 5
    assert plain.data_order == said.data_order != fingerprint(list(range(20)))
    assert plain.final_weights == said.final_weights


def test_what_follows_an_epoch_may_leave_the_model_in_evaluation_mode(tiny_folder, corpus):
    few, tokenizer = corpus["train"].select(range(16)), load_tokenizer(tiny_folder)
    how = TRAINING | {"batch_size": 4, "epochs": 2}
    models = [load_classifier(tiny_folder, seed=0) for _ in range(2)]
    evaluated = []

    def evaluate():
        evaluated.append(models[1].eval())

    for model, action in zip(models, (None, evaluate), strict=True):
        fine_tune(model, tokenizer, few["text"], few["label"], seed=0, **how, after_epoch=action)
    assert len(evaluated) == 2
    assert fingerprint(models[0]) == fingerprint(models[1])


def test_the_precision_is_chosen_and_kept(tiny_folder, corpus):
    few = corpus["train"].select(range(16))
    before = torch.get_float32_matmul_precision()
    _, full = trained(tiny_folder, few, 3, epochs=1)
    rounded, half = trained(tiny_folder, few, 3, epochs=1, precision="bfloat16")
    assert (full.precision, half.precision) == ("float32", "bfloat16")
    np.testing.assert_allclose(full.losses, half.losses, atol=0.05)
    assert full.final_weights != half.final_weights
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.float32}
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError, match="precision = 'tf32' on cpu: only CUDA devices have it"):
        trained(tiny_folder, few, 3, epochs=1, precision="tf32")
    with pytest.raises(ValueError, match="precision = 'half': allowed are float32, tf32, bfloat16"):
        trained(tiny_folder, few, 3, epochs=1, precision="half")


@pytest.mark.parametrize("part", ["all", "above:1", "biases", "lora:2"])
def test_casting_all_weights_at_once_changes_no_bit(tiny_folder, corpus, monkeypatch, part):
    few, trainings = corpus["train"].select(range(40)), []

    def counted(model, weights, kwargs):
        cast.append(len(weights))
        return functional_call(model, weights, kwargs=kwargs)

    def by_autocast(model, _, kwargs):
        return model(**kwargs)

    for call in (counted, by_autocast):
        monkeypatch.setattr(finetuning, "functional_call", call)
        cast = []
        model = choose_trained(load_classifier(tiny_folder, seed=3), part)
        how = TRAINING | {"batch_size": 4, "epochs": 1, "precision": "bfloat16"}
        texts, labels = list(few["text"]), list(few["label"])
        trainings.append(fine_tune(model, load_tokenizer(tiny_folder), texts, labels, seed=3, **how))
        assert (len(set(cast)) == 1) == (call is counted)
    assert trainings[0].losses.tolist() == trainings[1].losses.tolist()
    assert trainings[0].final_weights == trainings[1].final_weights != trainings[0].initial_weights


def test_the_log_tells_what_memory_a_training_needs(tiny_folder, corpus, caplog):
    with caplog.at_level(logging.INFO, "lib.memory"):
        trained(tiny_folder, corpus["train"].select(range(16)), 3, epochs=1)
    assert "seed 3 of CamembertForSequenceClassification: about 0.0" in caplog.text
    assert "GB are free on cpu: 1 of 1 at a time" in caplog.text


def test_memory_is_estimated_for_full_batches_of_the_longest_text(tiny_folder, corpus, monkeypatch):
    few, estimated = corpus["train"].select(range(30)), []
    monkeypatch.setattr(finetuning, "fitting", lambda needed, *_: estimated.append(needed))
    model, _ = trained(tiny_folder, few, 3, epochs=1, batch_size=4)
    pieces = load_tokenizer(tiny_folder)(list(few["text"]), truncation=True, max_length=128)["input_ids"]
    assert estimated == [training_bytes(model, texts=4, tokens=max(map(len, pieces)))]


def test_products_of_a_training_in_tf32_may_be_rounded(tiny_folder, corpus, monkeypatch):
    few, allowed = corpus["train"].select(range(8)), []
    monkeypatch.setattr(finetuning, "check_precision", lambda precision, device: None)
    model, tokenizer = load_classifier(tiny_folder, seed=0), load_tokenizer(tiny_folder)
    model.classifier.register_forward_hook(lambda *_: allowed.append(torch.get_float32_matmul_precision()))
    how = TRAINING | {"batch_size": 4, "epochs": 1}
    for precision in ("tf32", "float32"):
        fine_tune(model, tokenizer, few["text"], few["label"], seed=0, precision=precision, **how)
    assert allowed == ["high", "high", "highest", "highest"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_on_cuda_capturing_changes_no_bit_and_a_seed_repeats_to_the_bit(tiny_folder, corpus, precision):
    few = corpus["train"].select(range(61))
    set_deterministic(True)
    try:
        trainings = []
        for capture in (True, True, False):
            model = load_classifier(tiny_folder, seed=3).cuda()
            how = TRAINING | {"batch_size": 4, "epochs": 3, "precision": precision, "capture": capture}
            texts, labels = list(few["text"]), list(few["label"])
            trainings.append(fine_tune(model, load_tokenizer(tiny_folder), texts, labels, seed=3, **how))
    finally:
        set_deterministic(False)
    first, again, uncaptured = trainings
    assert first.losses.tolist() == again.losses.tolist() == uncaptured.losses.tolist()
    assert first.final_weights == again.final_weights == uncaptured.final_weights


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_trains_what_a_cpu_trains(tiny_folder, corpus):
    few = corpus["train"].select(range(61))
    trainings = []
    for device in ("cpu", "cuda"):
        model = load_classifier(tiny_folder, seed=3, device=device)
        without_dropout(model)
        how = TRAINING | {"batch_size": 4, "epochs": 1, "precision": "float32", "learning_rate": 1e-4}
        texts, labels = list(few["text"]), list(few["label"])
        trainings.append(fine_tune(model, load_tokenizer(tiny_folder), texts, labels, seed=3, **how))
    np.testing.assert_allclose(trainings[0].losses, trainings[1].losses, atol=1e-3)


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


def test_the_first_step_whose_loss_is_not_finite_is_named_although_later_ones_are(tiny_folder, corpus):
    few = corpus["train"].select(range(20))
    model, tokenizer = load_classifier(tiny_folder, seed=0), load_tokenizer(tiny_folder)
    steps = []

    def overflow(module, inputs, logits):
        steps.append(len(steps))
        if steps[-1] in (2, 3):  # infinite, not NaN, and without a gradient, so the next steps are finite
            return 0 * logits + torch.tensor([3e38, -3e38])
        return logits

    model.classifier.register_forward_hook(overflow)
    how = TRAINING | {"batch_size": 4, "epochs": 1}
    with pytest.raises(FloatingPointError, match="the training loss is not finite from step 2 on"):
        fine_tune(model, tokenizer, few["text"], [1] * 20, seed=0, **how)
    assert len(steps) == 5


def test_a_trained_model_is_in_evaluation_mode_and_keeps_no_gradient(tiny_folder, corpus):
    model, _ = trained(tiny_folder, corpus["train"].select(range(16)), 0, epochs=1)
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_all_fingerprints_are_those_of_the_whole_model(tiny_folder, corpus):
    model, tokenizer = load_classifier(tiny_folder, seed=0), load_tokenizer(tiny_folder)
    few, initial = corpus["train"].select(range(16)), fingerprint(model)
    training = fine_tune(model, tokenizer, few["text"], few["label"], seed=0, epochs=1, **TRAINING)
    assert training.initial_weights == initial
    assert training.final_weights == fingerprint(model) != initial


@pytest.mark.parametrize("max_length", [64, 12])
def test_encoding_matches_the_models_own_forward_pass_for_any_batch_size(
    tiny_folder, corpus, monkeypatch, max_length
):
    monkeypatch.setattr("lib.finetuning.ENCODED_TOGETHER", 3)
    model, tokenizer = load_classifier(tiny_folder, seed=0).double(), load_tokenizer(tiny_folder)
    texts = list(corpus["test"]["text"][:7])
    batched = encode(model, tokenizer, texts, max_length=max_length)
    for i, text in enumerate(texts):
        batch = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            out = model(**batch, output_hidden_states=True)
        np.testing.assert_allclose(batched.logits[i], out.logits[0], atol=1e-6)
        np.testing.assert_allclose(batched.embeddings[i], out.hidden_states[-1][0, 0], atol=1e-6)


def test_embeddings_are_classified_by_the_two_layers_of_the_head(tiny_folder):
    model = load_classifier(tiny_folder, seed=0)
    dense, last = model.classifier.dense, model.classifier.out_proj
    with torch.no_grad():
        last.weight.normal_(generator=torch.Generator().manual_seed(0))
        embeddings = torch.randn(200, dense.in_features, generator=torch.Generator().manual_seed(1))
        hidden = np.tanh(embeddings.numpy() @ dense.weight.numpy().T + dense.bias.numpy())
        expected = (hidden @ last.weight.numpy().T + last.bias.numpy()).argmax(axis=1)
    assert classify(model, embeddings.numpy()).tolist() == expected.tolist()
    assert 0 < expected.sum() < 200
