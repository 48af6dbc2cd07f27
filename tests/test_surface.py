"""Runs of paper 2: what is trained, what a run returns, and that a killed sweep goes on where it stopped."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    CamembertConfig,
    CamembertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from lib.attribution import LRP
from lib.explanations import PLAIN, Corpus, explain
from lib.models import load_classifier
from lib.paper2 import model_types
from lib.paper2.runs import fine_tuned, frozen, frozen_heads, heads_by_seed, side_by_side
from lib.quantization import choose_trained, curve_points, surface_bits
from lib.runs import sweep
from lib.stability import signal_noise

SHAPE = {
    "vocab_size": 44,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
    "pad_token_id": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TUNING = {
    "trained": "all",
    "epochs": 1,
    "learning_rate": 1e-2,
    "batch_size": 4,
    "together": False,
    "deterministic": True,
    "quantizations": [PLAIN, "fp4"],
    "methods": {LRP: 6},
}
HEADS = {"epochs": 3, "learning_rate": 1e-2, "batch_size": 4}
EXPLAINED = {"quantizations": [PLAIN, "nf4"], "methods": {LRP: 6, "gradient-x-input": 2}}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("encoder")
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
    CamembertForSequenceClassification(CamembertConfig(**SHAPE)).roberta.save_pretrained(folder)
    rng = np.random.default_rng(0)
    texts = [[int(word) for word in rng.integers(0, 40, rng.integers(4, 12))] for _ in range(60)]
    labels = [text[0] % 2 for text in texts]
    written = [" ".join(f"w{word}" for word in text) for text in texts]
    return Corpus(
        str(folder), written[:40], labels[:40], written[40:], labels[40:], list(range(6)), 32, "cpu"
    )


@pytest.mark.parametrize(("config", "kind"), [(CamembertConfig, "camembert"), (BertConfig, "bert")])
def test_the_surface_of_each_point_is_counted_by_hand(config: type, kind: str) -> None:
    config = config(**SHAPE)
    head = 16 * 16 + 16 + 16 * 2 + 2
    layer = 4 * (16 * 16 + 16) + 2 * (16 * 32) + 32 + 16 + 4 * 16  # attention, feed-forward, two layer norms
    embeddings = 44 * 16 + 34 * 16 + 2 * 16 + 2 * 16  # words, places, types, layer norm
    assert surface_bits(config) == 32 * (embeddings + 2 * layer + head)
    assert surface_bits(config, "above:0") == 32 * (2 * layer + head)
    assert surface_bits(config, "above:1") == 32 * (layer + head)
    assert surface_bits(config, "above:2") == surface_bits(config, "head") == 32 * head
    biases = 16 + 2 * (4 * 16 + 32 + 16 + 2 * 16)  # of the embeddings' layer norm, and of the layers
    assert surface_bits(config, "biases") == 32 * (biases + head)
    assert surface_bits(config, "lora:3") == 32 * (2 * 2 * 2 * 3 * 16 + head)
    assert surface_bits(config, "head", "nf4") == 4 * head


def test_another_tokenizer_makes_other_fingerprints(corpus: Corpus, tmp_path: Path) -> None:
    copy = shutil.copytree(corpus.model, tmp_path / "encoder")
    other = replace(corpus, model=str(copy))
    assert other.fingerprints == corpus.fingerprints
    pieces = (copy / "tokenizer.json").read_text().replace('"w3"', '"w03"')
    (copy / "tokenizer.json").write_text(pieces)
    assert other.fingerprints["model"] != corpus.fingerprints["model"]
    assert {"max_length": "16"}.items() <= replace(corpus, max_length=16).fingerprints.items()


def test_only_what_is_chosen_learns(corpus: Corpus) -> None:
    before = load_classifier(corpus.model, seed=3)
    model = choose_trained(load_classifier(corpus.model, seed=3), "above:1")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith(("roberta.encoder.layer.1.", "classifier.")) for name in trained)
    adapted = choose_trained(load_classifier(corpus.model, seed=3), "lora:2").merge_and_unload()
    ids = torch.tensor([[0, 7, 9, 2]])
    torch.testing.assert_close(adapted(ids).logits, before(ids).logits)  # an adapter starts as nothing
    with pytest.raises(ValueError, match=r"trained = 'above:3': allowed are .*above:0 to above:2, lora:1"):
        choose_trained(before, "above:3")


def test_seeds_in_groups() -> None:
    assert side_by_side([5, 6, 7, 8, 9], 2) == [[5, 6], [7, 8], [9]]


def test_points_of_the_curve() -> None:
    assert curve_points("biases layers lora:2", 2) == ["biases", "above:0", "above:1", "above:2", "lora:2"]


def test_a_run_says_what_the_model_predicts_and_repeats_to_the_bit(corpus: Corpus) -> None:
    result = fine_tuned(seed=1, corpus=corpus, **TUNING)
    again = fine_tuned(seed=1, corpus=corpus, **TUNING)
    other = fine_tuned(seed=2, corpus=corpus, **TUNING)
    words = sum(len(corpus.test_texts[index].split()) for index in corpus.explained)
    assert set(result) >= {f"{q}/{what}" for q in (PLAIN, "fp4") for what in ("predicted", LRP)}
    for name, value in result.items():
        if isinstance(value, np.ndarray):
            assert value.shape == ((20,) if name.endswith("predicted") else (words,))
            assert np.array_equal(value, again[name])
    assert result["final_weights"] == again["final_weights"] != other["final_weights"]
    assert result["data_order"] != other["data_order"]
    assert not np.array_equal(result[f"plain/{LRP}"], result[f"fp4/{LRP}"])


def test_seeds_side_by_side_give_each_seed_s_result(corpus: Corpus) -> None:
    side_by_side = {**TUNING, "together": True}
    for seed in (1, 2, 3):
        result = fine_tuned(seed=seed, corpus=corpus, groups=[(1, 2), (3,)], **side_by_side)
        alone = fine_tuned(seed=seed, corpus=corpus, **TUNING)
        np.testing.assert_allclose(result[f"plain/{LRP}"], alone[f"plain/{LRP}"], atol=1e-4)
        assert result["initial_weights"] == alone["initial_weights"]


def test_a_frozen_run_explains_the_encoder_under_its_seed_s_head(corpus: Corpus, tmp_path: Path) -> None:
    runs = [{"seed": 5, "seeds": [5, 6], **HEADS}]
    records = sweep.run(frozen_heads, runs, name="heads", inputs={"corpus": corpus}, cache_dir=tmp_path)
    heads = heads_by_seed(records)
    results = {seed: frozen(seed=seed, corpus=corpus, heads=heads, **HEADS, **EXPLAINED) for seed in (5, 6)}
    model = load_classifier(corpus.model, seed=0)
    for seed, result in results.items():
        model.classifier.dense.weight.data = torch.from_numpy(heads[seed]["dense_weight"])
        model.classifier.dense.bias.data = torch.from_numpy(heads[seed]["dense_bias"])
        model.classifier.out_proj.weight.data = torch.from_numpy(heads[seed]["out_weight"])
        model.classifier.out_proj.bias.data = torch.from_numpy(heads[seed]["out_bias"])
        expected = explain(model, corpus=corpus, **EXPLAINED)
        assert set(expected) < set(result)
        for name, values in expected.items():  # also the second seed's, whose texts are not read again
            np.testing.assert_allclose(result[name], values, rtol=1e-5, atol=1e-7, err_msg=name)
        words = sum(len(corpus.test_texts[index].split()) for index in corpus.explained[:2])
        assert result["plain/gradient-x-input"].shape == (words,)
    assert not np.array_equal(results[5][f"plain/{LRP}"], results[6][f"plain/{LRP}"])


def final_table(records: list[sweep.Record]) -> str:
    """What the notebook would print: signal and noise over all seeds."""
    kind = model_types.model_type("all", records, quantization="fp4", training="all", surface=1)
    return json.dumps([float(value).hex() for value in signal_noise(kind.relevance[LRP])])


SCRIPT = """
import json, sys
from lib import sweep
from lib.explanations import Corpus
from lib.surface import fine_tuned
corpus, runs, cache = json.loads(sys.stdin.read())
sweep.run(fine_tuned, runs, name="curve", inputs={"corpus": Corpus(**corpus)}, cache_dir=cache)
"""


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_table(corpus: Corpus, tmp_path: Path) -> None:
    runs = [{"seed": seed, **TUNING} for seed in range(6)]
    sweep_it = {"name": "curve", "inputs": {"corpus": corpus}}
    kept = tmp_path / "killed" / "records" / "curve"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, text=True)
    process.stdin.write(json.dumps([vars(corpus), runs, str(tmp_path / "killed")]))
    process.stdin.close()
    while len(list(kept.glob("*.safetensors"))) < 2:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survivors = {file: file.stat().st_mtime_ns for file in kept.glob("*.safetensors")}
    assert 2 <= len(survivors) < len(runs)
    threads = {"threads": 1}
    resumed = sweep.run(fine_tuned, runs, cache_dir=tmp_path / "killed", **sweep_it, **threads)
    assert {file: file.stat().st_mtime_ns for file in survivors} == survivors  # none of them was done again
    assert len(list(kept.glob("*.safetensors"))) == len(runs)
    undisturbed = sweep.run(fine_tuned, runs, cache_dir=tmp_path / "undisturbed", **sweep_it, **threads)
    assert final_table(resumed) == final_table(undisturbed)
