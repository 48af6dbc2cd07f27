"""Loading models and tokenizers: one clear line for whatever cannot be loaded or explained."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import MODELS, SHAPE, save_model
from transformers import AutoModel, AutoModelForMaskedLM

from lib.models import (
    ModelError,
    check_encoder_files,
    commit_of,
    load_classifier,
    load_tokenizer,
    model_fingerprint,
    name_of,
)
from lib.seeding import fingerprint


def test_the_seed_determines_the_head_and_nothing_else(tiny_folder):
    one, two, other = (load_classifier(tiny_folder, seed=seed) for seed in (1, 1, 2))
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one.base_model) == fingerprint(other.base_model)
    assert fingerprint(one.classifier) != fingerprint(other.classifier)
    assert not one.training
    assert one.config.num_labels == 2


def test_a_model_that_has_a_head_already_is_refused(tiny_folder, tmp_path):
    load_classifier(tiny_folder, seed=0).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has a classification head already"):
        load_classifier(tmp_path, seed=0)


def test_the_encoder_has_the_pre_trained_weights(tiny_folder):
    kept = load_file(tiny_folder / "model.safetensors")
    embeddings = load_classifier(tiny_folder, seed=0).roberta.embeddings.word_embeddings.weight
    torch.testing.assert_close(embeddings, kept["roberta.embeddings.word_embeddings.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("load", [lambda model: load_classifier(model, seed=0), load_tokenizer])
@pytest.mark.parametrize("model", ["./nowhere", "almanach/camembert-base"])
def test_only_folders_are_loaded(small_hub, load, model):
    with pytest.raises(ModelError, match=rf"model '{model}': no such folder, or no config\.json in it$"):
        load(model)
    with pytest.raises(ModelError, match=f"model '{model}': no such folder"):
        model_fingerprint(model)
    assert small_hub.requests == []


def test_an_unsupported_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(
        ModelError, match="architecture 'gpt2' cannot be explained; allowed: bert, camembert, roberta"
    ):
        load_classifier(tmp_path, seed=0)


def test_pickled_weights_are_refused(tiny_folder, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    torch.save(load_file(tiny_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no weights in safetensors format"):
        load_classifier(tmp_path, seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("saved_from", [AutoModel, AutoModelForMaskedLM])
@pytest.mark.parametrize("family", MODELS)
def test_an_encoder_may_be_saved_with_or_without_a_language_models_head(family, saved_from, dtype, tmp_path):
    torch.manual_seed(0)
    saved = saved_from.from_config(MODELS[family][0](**SHAPE)).to(dtype)
    saved.save_pretrained(tmp_path)
    encoder = load_classifier(tmp_path, seed=0).base_model
    for name, weights in saved.base_model.named_parameters():
        if not name.startswith("pooler."):
            torch.testing.assert_close(encoder.get_parameter(name), weights.float(), rtol=0, atol=0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    save_model("bert", folder)
    return folder


def _prefixed(weights):
    return {f"model.{name}": value for name, value in weights.items()}


def _without_a_layer(weights):
    return {name: value for name, value in weights.items() if "layer.1." not in name}


def _with_fewer_embeddings(weights):
    return {name: value[:-1] if "word_embeddings" in name else value for name, value in weights.items()}


@pytest.mark.parametrize("check", [check_encoder_files, lambda model: load_classifier(model, seed=0)])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            _prefixed,
            r"37 of its weights are missing, such as bert\.embeddings\.LayerNorm\.bias, while "
            r"model\.embeddings\.LayerNorm\.bias and the like belong to no part of it; allowed: a folder ",
        ),
        (_without_a_layer, r"16 of its weights are missing, such as bert\.encoder\.layer\.1\.\S+; allowed: "),
        (
            _with_fewer_embeddings,
            r"bert\.embeddings\.word_embeddings\.weight has shape \(\d+, 16\); allowed by its config\.json: ",
        ),
    ],
)
def test_an_encoder_whose_weights_would_be_random_is_refused_in_one_line(
    bert, tmp_path, change, reason, check
):
    folder = Path(shutil.copytree(bert, tmp_path / "copy"))
    check(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"^model '{folder}': {reason}") as refused:
        check(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("check", [check_encoder_files, load_tokenizer])
def test_a_tokenizer_with_more_pieces_than_embeddings_is_refused_in_one_line(bert, tmp_path, check):
    folder = Path(shutil.copytree(bert, tmp_path / "copy"))
    tokenizer = load_tokenizer(folder)
    last = len(tokenizer) - 1
    tokenizer.add_tokens(["cinématographique"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ModelError,
        match=f"its tokenizer numbers pieces up to {last + 1}; allowed: below vocab_size = {last + 1},",
    ):
        check(folder)


def test_a_folder_is_identified_by_its_contents(tiny_folder, tmp_path):
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    assert model_fingerprint(copy) == model_fingerprint(str(tiny_folder))
    seen = {model_fingerprint(copy)}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        with (copy / name).open("ab") as file:
            file.write(b" ")
        seen.add(model_fingerprint(copy))
    assert len(seen) == 4


def test_files_that_are_not_used_do_not_identify_a_model(tiny_folder, tmp_path):
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    for name in ("README.md", "pytorch_model.bin", "training_args.json"):
        (copy / name).write_bytes(b"other")
    assert model_fingerprint(copy) == model_fingerprint(tiny_folder)


def test_a_model_of_the_hub_is_named_by_its_id_and_commit():
    assert name_of("/cache/hub/models--acme--a-model/snapshots/0123abc") == "acme/a-model@0123abc"
    assert name_of("models/mine") == "models/mine"
    assert name_of("mine") == "mine"


def test_what_is_not_in_the_cache_of_the_hub_has_no_commit():
    assert commit_of("/cache/hub/datasets--acme--reviews/snapshots/0123abc") == "0123abc"
    assert commit_of("models/mine") == commit_of("mine") == commit_of("") == ""


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("load", [lambda model: load_classifier(model, seed=0), load_tokenizer])
def test_a_models_own_code_is_not_executed(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes = ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
    own = {"auto_map": dict.fromkeys(classes, "own.Own")}
    (tmp_path / "own.py").write_text("import os; os.system('touch pwned')\nclass Own: ...\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb()))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", **own}))
    with pytest.raises(ModelError, match="no configuration"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "camembert", **own}))
    with pytest.raises(ModelError, match=r"no weights in safetensors|no tokenizer \(no tokenizer.json with"):
        load(tmp_path)
    assert not (tmp_path / "pwned").exists()
