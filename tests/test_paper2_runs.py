"""Runs of paper 2: what is trained and returned, alone and side by side, and what decides a record."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SHAPE
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CamembertConfig, CamembertForSequenceClassification, PreTrainedTokenizerFast

from lib.attribution import LRP
from lib.corpus import Corpus
from lib.ensembles import _Ensemble
from lib.explanations import LABEL_LRP, explain
from lib.finetuning import Training
from lib.frozen import Heads, train_heads
from lib.models import load_classifier
from lib.paper2.runs import HEADS_PER_RUN, ExplainFrozen, FineTune, FrozenHeads, HeadsBySeed, SingleHead
from lib.quantization import PLAIN
from lib.recipes import TrainingRecipe
from lib.runs import sweep

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
HEAD = TrainingRecipe(epochs=3, learning_rate=1e-2, batch_size=4)
ALONE = FineTune(
    1,
    trained="all",
    training=TrainingRecipe(epochs=1, learning_rate=3e-3, batch_size=4),
    together=False,
    quantizations=(PLAIN, "fp4"),
    methods={LRP: 6, LABEL_LRP: 6},
)
FROZEN = ExplainFrozen(5, quantizations=(PLAIN, "nf4"), methods={LRP: 6, "gradient-x-input": 2})


def corpus_in(folder: Path, **settings: Any) -> Corpus:
    """Write a tiny encoder whose tokenizer knows 40 words, and return texts whose first word decides."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(40))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    CamembertForSequenceClassification(CamembertConfig(**SHAPE, **settings)).roberta.save_pretrained(folder)
    rng = np.random.default_rng(0)
    texts = [[int(word) for word in rng.integers(0, 40, rng.integers(4, 12))] for _ in range(60)]
    labels = [text[0] % 2 for text in texts]
    written = [" ".join(f"w{word}" for word in text) for text in texts]
    return Corpus(
        model=str(folder),
        train_texts=written[:40],
        train_labels=labels[:40],
        test_texts=written[40:],
        test_labels=labels[40:],
        explained=list(range(6)),
        max_length=32,
        device="cpu",
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus_in(tmp_path_factory.mktemp("encoder"), **NO_DROPOUT)


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same texts with an encoder that has dropout."""
    return corpus_in(tmp_path_factory.mktemp("dropped"))


def number_of_words(corpus: Corpus, texts: int) -> int:
    return sum(len(corpus.test_texts[index].split()) for index in corpus.explained[:texts])


def test_another_tokenizer_or_length_is_another_corpus(corpus: Corpus, tmp_path: Path) -> None:
    copy = shutil.copytree(corpus.model, tmp_path / "encoder")
    other = replace(corpus, model=str(copy))
    assert other.fingerprints == corpus.fingerprints
    pieces = (copy / "tokenizer.json").read_text().replace('"w3"', '"w03"')
    (copy / "tokenizer.json").write_text(pieces)
    assert other.fingerprints["model"] != corpus.fingerprints["model"]
    assert replace(corpus, max_length=16).fingerprints != corpus.fingerprints


def test_other_precisions_are_another_corpus(corpus: Corpus) -> None:
    for change in ({"precision": "bfloat16"}, {"relevance_precision": "tf32"}):
        assert replace(corpus, **change).fingerprints != corpus.fingerprints


def test_the_precision_is_that_of_the_corpus(corpus: Corpus) -> None:
    rough, exact = (
        ALONE.carry_out(corpus=replace(corpus, precision=name)) for name in ("bfloat16", "float32")
    )
    assert (rough["precision"], exact["precision"]) == ("bfloat16", "float32")
    assert rough["final_weights"] != exact["final_weights"]
    with pytest.raises(ValueError, match="precision = 'tf32' on cpu"):  # which explanations alone were given
        ALONE.carry_out(corpus=replace(corpus, relevance_precision="tf32"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trained": "above"}, "trained = 'above': allowed are all, head, biases, above:K and lora:R"),
        ({"trained": "lora:0"}, "trained = 'lora:0'"),
        ({"quantizations": ("plain", "int8")}, "quantizations = 'int8': allowed are plain, nf4, fp4, fp8"),
        ({"methods": {"gradient-x-input": 2}}, "methods = .*: LRP is required"),
        ({"methods": {LRP: 0}}, "methods has 'LRP': 0 texts; at least 1 is required"),
        ({"methods": {LRP: 2, "lime": 2}}, "methods has 'lime': allowed are LRP"),
    ],
)
def test_a_run_with_a_wrong_field_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ALONE, **change)


def test_a_run_of_heads_is_named_after_its_first_seed() -> None:
    runs = FrozenHeads.in_groups(range(3, 3 + 2 * HEADS_PER_RUN + 1), HEAD)
    assert [run.seed for run in runs] == [3, 3 + HEADS_PER_RUN, 3 + 2 * HEADS_PER_RUN]
    assert [len(run.seeds) for run in runs] == [HEADS_PER_RUN, HEADS_PER_RUN, 1]
    with pytest.raises(ValueError, match=r"seed = 4: the first of the seeds \(3, 4\) is required"):
        FrozenHeads(4, seeds=(3, 4), head=HEAD)


def test_a_run_returns_predictions_and_relevance_and_repeats_to_the_bit(corpus: Corpus) -> None:
    result = ALONE.carry_out(corpus=corpus)
    again = ALONE.carry_out(corpus=corpus)
    other = replace(ALONE, seed=2).carry_out(corpus=corpus)
    words = number_of_words(corpus, 6)
    for quantization in ALONE.quantizations:
        assert result[f"{quantization}/predicted"].shape == (20,)
        assert result[f"{quantization}/{LRP}"].shape == (words,)
        assert result[f"{quantization}/{LABEL_LRP}"].shape == (words,)
    for name, value in result.items():
        assert np.array_equal(value, again[name])
    assert result["fallback"] == ""
    assert result["precision"] == "float32"
    assert result["final_weights"] != other["final_weights"]
    assert result["data_order"] != other["data_order"]
    assert not np.array_equal(result[f"plain/{LRP}"], result[f"fp4/{LRP}"])


@pytest.mark.parametrize("trained", ["all", "lora:2"])
def test_without_dropout_seeds_side_by_side_give_the_results_of_each_alone(
    corpus: Corpus, trained: str
) -> None:
    runs = [replace(ALONE, seed=seed, trained=trained, together=True) for seed in (1, 2)]
    results = FineTune.carry_out_together(runs, corpus=corpus)
    for run, result in zip(runs, results, strict=True):
        alone = replace(run, together=False).carry_out(corpus=corpus)
        assert set(result) == set(alone)
        assert result["initial_weights"] == alone["initial_weights"]
        assert result["data_order"] == alone["data_order"]
        np.testing.assert_allclose(result[f"plain/{LRP}"], alone[f"plain/{LRP}"], atol=1e-4)


def test_dropout_depends_on_training_together_but_not_on_the_other_seeds(dropped: Corpus) -> None:
    together = replace(ALONE, together=True)
    pair = FineTune.carry_out_together([together, replace(together, seed=2)], corpus=dropped)
    single = together.carry_out(corpus=dropped)
    alone = ALONE.carry_out(corpus=dropped)
    assert single["loss"] == pytest.approx(pair[0]["loss"], rel=1e-4)
    assert alone["loss"] != pytest.approx(pair[0]["loss"], rel=1e-4)


def test_training_that_diverges_is_a_failed_run(corpus: Corpus, tmp_path: Path) -> None:
    diverging = replace(ALONE, training=TrainingRecipe(1, 1e30, 4))
    runs = [replace(diverging, seed=seed, together=together) for seed in (1, 2) for together in (True, False)]
    records = sweep(runs, {"corpus": corpus}, name="diverging", cache_dir=tmp_path, together=2)
    for record in records:
        assert record.status == "failed"
        assert record.reason.startswith("NaN: loss" if record.run.together else "NaN: ")
    assert math.isnan(records[0]["loss"])


def test_a_group_that_does_not_fit_into_memory_says_so(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = _Ensemble.train

    def full(ensemble: _Ensemble, *how: Any) -> list[Training]:
        if len(ensemble.seeds) > 1:
            raise torch.OutOfMemoryError("no memory left")
        return train(ensemble, *how)

    monkeypatch.setattr(_Ensemble, "train", full)
    runs = [replace(ALONE, seed=seed, together=True) for seed in (1, 2)]
    for result in FineTune.carry_out_together(runs, corpus=corpus):
        assert "no memory left" in result["fallback"]


def heads_of(corpus: Corpus, folder: Path, seeds: tuple[int, ...], head: TrainingRecipe) -> HeadsBySeed:
    runs = FrozenHeads.in_groups(seeds, head)
    return HeadsBySeed.of(sweep(runs, {"corpus": corpus}, name="heads", cache_dir=folder))


def test_a_frozen_run_explains_the_encoder_under_the_head_of_its_seed(corpus: Corpus, tmp_path: Path) -> None:
    heads = heads_of(corpus, tmp_path, (5, 6), HEAD)
    results = {seed: replace(FROZEN, seed=seed).carry_out(corpus=corpus, heads=heads) for seed in (5, 6)}
    model = load_classifier(corpus.model, seed=0)
    for seed, result in results.items():
        head = heads.heads[seed]
        model.classifier.dense.weight.data = torch.from_numpy(head["dense_weight"])
        model.classifier.dense.bias.data = torch.from_numpy(head["dense_bias"])
        model.classifier.out_proj.weight.data = torch.from_numpy(head["out_weight"])
        model.classifier.out_proj.bias.data = torch.from_numpy(head["out_bias"])
        expected = explain(model, FROZEN.quantizations, FROZEN.methods, corpus)
        assert set(result) == {*expected, "loss"}
        for name, values in expected.items():  # the second seed reuses the embeddings of the first
            np.testing.assert_allclose(result[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
        assert result["plain/gradient-x-input"].shape == (number_of_words(corpus, 2),)
    assert not np.array_equal(results[5][f"plain/{LRP}"], results[6][f"plain/{LRP}"])


def test_more_heads_leave_a_seed_s_record_valid_and_another_recipe_does_not(
    corpus: Corpus, tmp_path: Path
) -> None:
    def explained(heads: HeadsBySeed) -> float:
        inputs = {"corpus": corpus, "heads": heads}
        (record,) = sweep([FROZEN], inputs, name="frozen", cache_dir=tmp_path)
        return record.result["loss"]

    def number_kept() -> int:
        return len(list((tmp_path / "records" / "frozen").glob("*.safetensors")))

    loss = explained(heads_of(corpus, tmp_path, (5,), HEAD))
    assert explained(heads_of(corpus, tmp_path, (5, 6), HEAD)) == loss
    assert number_kept() == 1
    assert explained(heads_of(corpus, tmp_path, (5,), replace(HEAD, epochs=4))) != loss
    assert number_kept() == 2


def test_without_heads_nothing_is_explained(corpus: Corpus, tmp_path: Path) -> None:
    broken = replace(corpus, train_labels=[7] * 40)
    with pytest.raises(RuntimeError, match=r"the heads of seeds \[5, 6\] were not trained: "):
        heads_of(broken, tmp_path, (5, 6), HEAD)


def by_text(corpus: Corpus, values: np.ndarray, texts: int) -> list[np.ndarray]:
    lengths = [len(corpus.test_texts[index].split()) for index in corpus.explained[:texts]]
    return np.split(values, np.cumsum(lengths)[:-1])


def test_the_true_class_is_explained_whatever_a_model_predicts(corpus: Corpus) -> None:
    labels = np.array(corpus.test_labels)
    model = load_classifier(corpus.model, seed=4)
    methods = {LRP: 6, LABEL_LRP: 6}
    result = explain(model, (PLAIN, "fp4"), methods, corpus)
    flipped = explain(model, (PLAIN,), methods, replace(corpus, test_labels=(1 - labels).tolist()))
    assert 0 < np.mean(result["plain/predicted"][:6] == labels[:6]) < 1  # both cases occur
    own, true, false = (
        by_text(corpus, values, 6)
        for values in (result[f"plain/{LRP}"], result[f"plain/{LABEL_LRP}"], flipped[f"plain/{LABEL_LRP}"])
    )
    for text in range(6):
        correct = result["plain/predicted"][text] == labels[text]
        np.testing.assert_array_equal(own[text], true[text] if correct else false[text])
        assert not np.array_equal(true[text], false[text])
    assert f"fp4/{LABEL_LRP}" in result


def test_a_single_head_is_the_frozen_head_of_its_seed(corpus: Corpus, tmp_path: Path) -> None:
    run = SingleHead(5, head=HEAD, labelling=None, methods=FROZEN.methods)
    result = run.carry_out(corpus=corpus)
    expected = FROZEN.carry_out(corpus=corpus, heads=heads_of(corpus, tmp_path, (5, 6), HEAD))
    for name, values in result.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_random_labels_differ_by_their_number_and_from_the_true_ones(corpus: Corpus) -> None:
    long_training = TrainingRecipe(epochs=40, learning_rate=1e-2, batch_size=4)
    taught = SingleHead(5, head=long_training, labelling=None, methods={LRP: 2})
    runs = [replace(taught, labelling=number) for number in (5, 6)]
    first, again, other = (run.carry_out(corpus=corpus) for run in (runs[0], runs[0], runs[1]))
    assert first["loss"] == again["loss"]
    assert first["loss"] != other["loss"]
    assert first["loss"] != taught.carry_out(corpus=corpus)["loss"]
    with pytest.raises(ValueError, match=r"methods = .*: LRP is required"):
        replace(taught, methods={})


def test_a_labelling_is_the_same_for_all_seeds_and_no_other(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = []

    def remember(_: Any, labels: list[int], *others: Any, **recipe: Any) -> Heads:
        taught.append(list(labels))
        return train_heads(_, labels, *others, **recipe)

    monkeypatch.setattr("lib.paper2.runs.train_heads", remember)
    run = SingleHead(5, head=HEAD, labelling=3, methods={LRP: 2})
    losses = [replace(run, seed=seed).carry_out(corpus=corpus)["loss"] for seed in (0, 5)]
    replace(run, labelling=5).carry_out(corpus=corpus)
    first, second, other = taught
    assert first == second
    assert losses[0] != losses[1]  # other initial weights, another order
    assert sorted(first) == sorted(corpus.train_labels)
    assert first != corpus.train_labels
    assert sorted(other) == sorted(first) != other != first
