"""Seeds fine-tuned together match the same seeds fine-tuned alone, and a fall-back is visible."""

import copy
import logging
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from fake_graphs import FakeGraphs, NoGraphs, use
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
from lib.memory import training_bytes
from lib.precision import Precision
from lib.quantization import choose_trained
from lib.seeding import fingerprint, set_deterministic

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
@pytest.mark.parametrize(
    ("kind", "schedule", "shuffled", "steps"),
    [
        ("camembert", "described", True, 10),
        ("bert", "described", False, 10),
        ("camembert", "authors", False, 2),
        ("bert", "authors", True, 2),
    ],
)
def test_without_dropout_training_together_matches_the_trainer_one_at_a_time(
    kind: str,
    schedule: str,
    shuffled: bool,
    steps: int,
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
) -> None:
    together, alone = build(kind, 0.0), build(kind, 0.0)
    training = TRAINING | {"schedule": schedule, "shuffled": shuffled}
    trainings = fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **training)
    assert len({training.data_order for training in trainings}) == (3 if shuffled else 1)
    assert [training.fallback for training in trainings] == ["", "", ""]
    for index, seed in enumerate(SEEDS):
        expected = fine_tune(alone[index], tokenizer, *corpus, seed=seed, **training)
        assert trainings[index].losses.shape == (steps,)
        assert trainings[index].initial_weights == expected.initial_weights
        assert trainings[index].data_order == expected.data_order
        np.testing.assert_allclose(trainings[index].losses, expected.losses, atol=1e-4)
        assert_same_weights(together[index], alone[index])
        assert not together[index].training


@pytest.mark.usefixtures("no_fallback")
def test_with_dropout_a_member_does_not_depend_on_the_others(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone, without = build("camembert", 0.2), build("camembert", 0.2), build("camembert", 0.0)
    fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    fine_tune_together(without, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for index, seed in enumerate(SEEDS):
        fine_tune_together([alone[index]], tokenizer, *corpus, seeds=[seed], **TRAINING)
        assert_same_weights(together[index], alone[index])
        moved = together[index].classifier.dense.weight - without[index].classifier.dense.weight
        assert moved.abs().max() > 1e-3  # dropout has an effect


@pytest.mark.usefixtures("no_fallback")
def test_mixed_precision_works_side_by_side(
    corpus: tuple[list[str], list[int]], tokenizer: PreTrainedTokenizerFast
) -> None:
    models = build("camembert", dropout=0.1)
    exact, mixed = copy.deepcopy(models), copy.deepcopy(models)
    full = fine_tune_together(exact, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    half = fine_tune_together(mixed, tokenizer, *corpus, seeds=SEEDS, **TRAINING, precision="bfloat16")
    assert {training.precision for training in half} == {"bfloat16"}
    for one, other, model in zip(full, half, mixed, strict=True):
        assert one.final_weights != other.final_weights
        np.testing.assert_allclose(other.losses, one.losses, atol=0.02)
        losses = torch.from_numpy(other.losses)
        assert (losses.bfloat16().float() != losses).any()  # the loss itself is in 32 bits
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.usefixtures("no_fallback")
def test_no_step_keeps_a_graph(
    corpus: tuple[list[str], list[int]],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradients with a graph would keep every step's activations in memory."""
    clip, with_graph = ensembles.clip_each, []

    def record(gradients: Sequence[torch.Tensor]) -> None:
        with_graph.extend(gradient.requires_grad for gradient in gradients)
        clip(gradients)

    monkeypatch.setattr(ensembles, "clip_each", record)
    fine_tune_together(build("camembert", dropout=0.1), tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert with_graph
    assert not any(with_graph)


@pytest.mark.usefixtures("no_fallback")
def test_untrained_weights_stay_as_they_were_in_each_member(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone = build("camembert", 0.0), build("camembert", 0.0)
    for model in (*together, *alone):
        model.roberta.requires_grad_(False)
        model.roberta.embeddings.load_state_dict(together[0].roberta.embeddings.state_dict())
    for group in (together, alone):  # the first layer is the same in two of the three
        layers = [model.roberta.encoder.layer[0] for model in group]
        layers[1].load_state_dict(layers[0].state_dict())
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


def read_a_value(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    """A forward hook that vmap refuses: it reads a number out of a batched tensor."""
    if not output.is_meta:
        output.sum().item()


def test_models_that_vmap_refuses_are_trained_one_at_a_time_and_say_so(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    together, alone = build("camembert", 0.1), build("camembert", 0.1)
    for model in together:
        model.classifier.dense.register_forward_hook(read_a_value)
    with caplog.at_level(logging.WARNING):
        trainings = fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert "3 seeds are fine-tuned one at a time instead of together: vmap: It looks like" in caplog.text
    for index, seed in enumerate(SEEDS):
        assert "vmap: It looks like" in trainings[index].fallback
        assert "\n" not in trainings[index].fallback
        expected = fine_tune(alone[index], tokenizer, *corpus, seed=seed, **TRAINING)
        assert trainings[index].final_weights == expected.final_weights
        assert expected.fallback == ""


def fail_in_step(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError, at: int
) -> tuple[list[PreTrainedModel], list[PreTrainedModel]]:
    """Make the ensemble's step number ``at`` fail; return models to train, and the same untouched."""
    clip, steps = ensembles.clip_each, []

    def failing(gradients: Sequence[torch.Tensor]) -> None:
        steps.append(len(steps))
        if steps[-1] == at:
            raise error
        clip(gradients)

    monkeypatch.setattr(ensembles, "clip_each", failing)
    return build("camembert", 0.1), build("camembert", 0.1)


@pytest.mark.usefixtures("no_fallback")
def test_seeds_that_do_not_fit_into_memory_are_trained_in_smaller_groups_and_say_so(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")
    together, alone = fail_in_step(monkeypatch, error, at=2)
    with caplog.at_level(logging.INFO):
        trainings = fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert "3 seeds of CamembertForSequenceClassification: about 0.00 GB each" in caplog.text
    assert "3 at a time do not fit into memory, now half of that: CUDA out of memory. Tried" in caplog.text
    for index, seed in enumerate(SEEDS):
        assert trainings[index].fallback == "CUDA out of memory. Tried to allocate 2.00 GiB."
        (expected,) = fine_tune_together([alone[index]], tokenizer, *corpus, seeds=[seed], **TRAINING)
        assert trainings[index].final_weights == expected.final_weights
        assert trainings[index].initial_weights == expected.initial_weights


@pytest.mark.usefixtures("no_fallback")
def test_no_more_seeds_train_at_a_time_than_fit_into_memory(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = []
    whole = ensembles._Ensemble

    def noting(models: Sequence[PreTrainedModel], *given: object) -> object:
        groups.append(len(models))
        return whole(models, *given)

    monkeypatch.setattr(ensembles, "_Ensemble", noting)
    models = build("camembert", 0.0)
    each = training_bytes(models[0], texts=4, tokens=16, copies=2)
    monkeypatch.setattr("lib.memory.free_bytes", lambda device: 2.5 * each)
    trainings = fine_tune_together(models, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert groups == [2, 1]
    assert [training.fallback for training in trainings] == ["", "", ""]  # it was never tried


def test_replayed_steps_change_no_bit(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainings = []
    for graphs in (FakeGraphs(), NoGraphs()):
        use(monkeypatch, "lib.ensembles", graphs)
        models = build("camembert", 0.2)
        trainings.append(fine_tune_together(models, tokenizer, *corpus, seeds=SEEDS, **TRAINING))
        if not isinstance(graphs, NoGraphs):
            assert graphs.captured == 1  # 8 steps of four texts each; 2 of two, which are too few
            assert graphs.replayed == [0] * 5
    for mine, theirs in zip(*trainings, strict=True):
        assert mine.final_weights == theirs.final_weights
        assert mine.losses.tolist() == theirs.losses.tolist()


def test_a_seed_that_diverges_when_trained_alone_leaves_the_others_unaffected(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    together, alone = build("camembert", 0.1), build("camembert", 0.1)
    for model in together:
        model.classifier.dense.register_forward_hook(read_a_value)
    with torch.no_grad():
        next(together[1].parameters()).fill_(float("nan"))
    initial = fingerprint(together[1])
    trainings = fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    assert [bool(np.isfinite(training.losses).all()) for training in trainings] == [True, False, True]
    expected = fine_tune(alone[2], tokenizer, *corpus, seed=SEEDS[2], **TRAINING)
    assert trainings[2].final_weights == expected.final_weights
    assert trainings[1].initial_weights == initial
    assert trainings[1].final_weights == fingerprint(together[1]) != initial


@pytest.mark.usefixtures("no_fallback")
def test_any_other_error_is_raised_and_leaves_the_models_as_they_were(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x16 and 8x16)")
    together, alone = fail_in_step(monkeypatch, error, at=2)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
        fine_tune_together(together, tokenizer, *corpus, seeds=SEEDS, **TRAINING)
    for mine, theirs in zip(together, alone, strict=True):
        assert fingerprint(mine) == fingerprint(theirs)


@pytest.mark.usefixtures("no_fallback")
def test_products_of_a_training_in_tf32_may_be_rounded(
    tokenizer: PreTrainedTokenizerFast,
    corpus: tuple[list[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = set()

    def note(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if not output.is_meta:
            allowed.add(torch.get_float32_matmul_precision())

    models = build("camembert", 0.0)
    for model in models:
        model.classifier.register_forward_hook(note)
    with pytest.raises(ValueError, match="precision = 'tf32' on cpu: only CUDA devices have it"):
        fine_tune_together(models, tokenizer, *corpus, seeds=SEEDS, **TRAINING, precision="tf32")
    monkeypatch.setattr(ensembles, "check_precision", lambda precision, device: None)
    fine_tune_together(models, tokenizer, *corpus, seeds=SEEDS, **TRAINING, precision="tf32")
    assert allowed == {"high"}


def test_models_and_seeds_must_match(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    with pytest.raises(ValueError, match="3 models but 2 seeds: one model per seed is required"):
        fine_tune_together(build("bert", 0.1), tokenizer, *corpus, seeds=SEEDS[:2], **TRAINING)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_cuda_capturing_changes_no_bit(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]], precision: Precision
) -> None:
    set_deterministic(True)
    try:
        trainings = [
            fine_tune_together(
                [model.cuda() for model in build("camembert", 0.2)],
                tokenizer,
                *corpus,
                seeds=SEEDS,
                **TRAINING,
                precision=precision,
                capture=capture,
            )
            for capture in (True, True, False)
        ]
    finally:
        set_deterministic(False)
    for first, again, uncaptured in zip(*trainings, strict=True):
        assert first.losses.tolist() == again.losses.tolist() == uncaptured.losses.tolist()
        assert first.final_weights == again.final_weights == uncaptured.final_weights


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.usefixtures("no_fallback")
def test_cuda_trains_what_a_cpu_trains(
    tokenizer: PreTrainedTokenizerFast, corpus: tuple[list[str], list[int]]
) -> None:
    training = TRAINING | {"precision": "float32", "learning_rate": 1e-4}
    there = [model.cuda() for model in build("camembert", 0.0)]
    on_gpu = fine_tune_together(there, tokenizer, *corpus, seeds=SEEDS, **training)
    here = fine_tune_together(build("camembert", 0.0), tokenizer, *corpus, seeds=SEEDS, **training)
    for mine, theirs in zip(on_gpu, here, strict=True):
        np.testing.assert_allclose(mine.losses, theirs.losses, atol=1e-3)
