"""Loading models and tokenizers: one clear line for whatever cannot be loaded or explained."""

import json
import os
import pickle
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file

from lib import hub
from lib.models import ModelError, load_classifier, load_tokenizer, model_fingerprint
from lib.seeding import fingerprint


def test_the_seed_determines_the_head_and_nothing_else(tiny_folder):
    one, two, other = (load_classifier(tiny_folder, seed=seed) for seed in (1, 1, 2))
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one.base_model) == fingerprint(other.base_model)
    assert fingerprint(one.classifier) != fingerprint(other.classifier)
    assert not one.training
    assert load_classifier(tiny_folder, seed=0, num_labels=3).config.num_labels == 3


def test_the_encoder_has_the_pre_trained_weights(tiny_folder):
    kept = load_file(tiny_folder / "model.safetensors")
    embeddings = load_classifier(tiny_folder, seed=0).roberta.embeddings.word_embeddings.weight
    torch.testing.assert_close(embeddings, kept["roberta.embeddings.word_embeddings.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("load", [lambda model: load_classifier(model, seed=0), load_tokenizer])
def test_a_missing_model_raises_one_clear_line(load, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"no such folder, or no config\.json") as caught:
        load(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(hub, "reachable", lambda: False)
    for offline in (False, True):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(ModelError, match=r"download config\.json, model\.safetensors and tok") as caught:
            load("nobody/no-such-model")
        assert "\n" not in str(caught.value)


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


def test_a_folder_is_identified_by_its_contents(tiny_folder, tmp_path):
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    assert model_fingerprint(copy) == model_fingerprint(str(tiny_folder))
    seen = {model_fingerprint(copy)}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        with (copy / name).open("ab") as file:
            file.write(b" ")
        seen.add(model_fingerprint(copy))
    assert len(seen) == 4


def test_a_hub_model_is_identified_by_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--an--encoder"
    for commit in ("a" * 40, "b" * 40):
        (cached / "snapshots" / commit).mkdir(parents=True)
        (cached / "snapshots" / commit / "config.json").write_text("{}")
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / "main").write_text(commit)
        assert model_fingerprint("an/encoder") == f"an/encoder@{commit}"


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
