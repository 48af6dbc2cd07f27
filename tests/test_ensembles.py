"""Seeds fine-tuned together are the seeds fine-tuned alone."""

import copy
import logging

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    CamembertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lib import ensembles
from lib.ensembles import fine_tune_together
from lib.finetuning import fine_tune
from lib.paper2.runs import choose_trained

TRAINING = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 4, "max_length": 16}
SEEDS = (3, 8, 5)
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(40))]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")  # noqa: S106
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[int]]:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 40, rng.integers(3, 13)) for _ in range(18)]  # the last batch is not full
    return [" ".join(f"w{number}" for number in text) for text in drawn], [int(text[0] % 2) for text in drawn]


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained one at a time")

    monkeypatch.setattr(ensembles, "fine_tune", refuse)


def build(kind: str, dropout: float) -> list[PreTrainedModel]:
    shape = {
        "vocab_size": 44,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 24,
        "pad_token_id": 1,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }
    built = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        if kind == "bert":
            built.append(BertForSequenceClassification(BertConfig(**shape)))
        else:
            built.append(CamembertForSequenceClassification(CamembertConfig(**shape)))
    return built


def assert_same_weights(one: PreTrainedModel, other: PreTrainedModel) -> None:
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("kind", ["camembert", "bert"])
def test_without_dropout_together_is_the_trainer_s_one_at_a_time(
    kind: str, tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone = build(kind, 0.0), build(kind, 0.0)
    trainings = fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for index, seed in enumerate(SEEDS):
        expected = fine_tune(alone[index], tokenizer, *corpus, seed=seed, **TRAINING)
        assert trainings[index].initial_weights == expected.initial_weights
        assert trainings[index].data_order == expected.data_order
        np.testing.assert_allclose(trainings[index].losses, expected.losses, atol=1e-4)
        assert_same_weights(together[index], alone[index])
        assert not together[index].training


@pytest.mark.usefixtures("no_fallback")
def test_with_dropout_a_member_is_the_same_alone_and_among_others(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone, without = build("camembert", 0.2), build("camembert", 0.2), build("camembert", 0.0)
    fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    fine_tune_together(without, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for index, seed in enumerate(SEEDS):
        fine_tune_together([alone[index]], tokenizer, *corpus, seeds=[seed], **TRAINING)
        assert_same_weights(together[index], alone[index])
        moved = together[index].classifier.dense.weight - without[index].classifier.dense.weight
        assert moved.abs().max() > 1e-3  # dropout does something


@pytest.mark.usefixtures("no_fallback")
def test_mixed_precision_goes_with_training_side_by_side(
    corpus: tuple[list[str], list[int]],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = build("camembert", dropout=0.1)
    exact, mixed = copy.deepcopy(models), copy.deepcopy(models)
    full = fine_tune_together(exact, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    monkeypatch.setattr(ensembles, "mixed_precision", lambda device: True)
    half = fine_tune_together(mixed, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for one, other, model in zip(full, half, mixed, strict=True):
        assert one.final_weights != other.final_weights
        np.testing.assert_allclose(other.losses, one.losses, atol=0.02)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.usefixtures("no_fallback")
def test_no_step_leaves_a_graph_behind(
    corpus: tuple[list[str], list[int]],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradients that remember where they came from would keep every step's activations."""
    clip, remembered = ensembles._clip, []

    def note(gradients: dict[str, torch.Tensor]) -> None:
        remembered.extend(gradient.requires_grad for gradient in gradients.values())
        clip(gradients)

    monkeypatch.setattr(ensembles, "_clip", note)
    fine_tune_together(build("camembert", dropout=0.1), tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert remembered
    assert not any(remembered)


@pytest.mark.usefixtures("no_fallback")
def test_what_asks_for_no_gradient_stays_each_member_s_own(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone = build("camembert", 0.0), build("camembert", 0.0)
    for model in (*together, *alone):
        model.roberta.requires_grad_(False)
        model.roberta.embeddings.load_state_dict(together[0].roberta.embeddings.state_dict())
    before = [copy.deepcopy(model.roberta.state_dict()) for model in together]
    fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for index, seed in enumerate(SEEDS):
        after = together[index].roberta.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before[index].items())
        fine_tune(alone[index], tokenizer, *corpus, seed=seed, **TRAINING)
        assert_same_weights(together[index], alone[index])


@pytest.mark.usefixtures("no_fallback")
def test_adapters_train_together(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone = (
        [choose_trained(model, "lora:2") for model in build("camembert", 0.0)] for _ in range(2)
    )
    for mine, theirs in zip(together, alone, strict=True):
        theirs.load_state_dict(mine.state_dict())
    fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for index, seed in enumerate(SEEDS):
        fine_tune(alone[index], tokenizer, *corpus, seed=seed, **TRAINING)
        assert_same_weights(together[index], alone[index])


def test_what_cannot_be_batched_is_trained_one_at_a_time_and_the_log_says_so(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("vmap: no batching rule")

    monkeypatch.setattr(ensembles, "vmap", refuse)
    together, alone = build("camembert", 0.1), build("camembert", 0.1)
    with caplog.at_level(logging.WARNING):
        fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert "3 seeds are fine-tuned one at a time instead of together: vmap: no batching rule" in caplog.text
    fine_tune(alone[0], tokenizer, *corpus, seed=SEEDS[0], **TRAINING)
    assert_same_weights(together[0], alone[0])
