import math
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import CAUSAL_MODELS, CAUSAL_SHAPE, save_model
from transformers import GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from lib.models import ModelError
from lib.qlora import causal_models
from lib.qlora.causal_models import (
    TAGS,
    check_fits,
    check_weights,
    dialogue,
    load_config,
    load_four_bit,
    load_tokenizer,
)
from lib.qlora.scores import choose, collate, complete, perplexity, text_losses
from lib.seeding import fingerprint
from lib.tiny import causal
from lib.tiny.keeping import read_report

CPU = torch.device("cpu")
TEXTS = ["Your silence will not protect you from fear.", "Hope is a distant shore.", "Be kind."]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return causal.pretrain_tiny(["tiny-neox", "tiny-llama-chat"], seed=0, steps=80, cache_dir=cache)


@pytest.fixture(scope="module", params=["tiny-neox", "tiny-llama-chat"])
def loaded(request, folders):
    folder = folders[request.param]
    model = load_four_bit(folder, device=CPU, dtype=torch.float32)
    return model, load_tokenizer(folder)


def test_tiny_models_beat_the_unigram_loss(folders):
    for folder in folders.values():
        report = read_report(folder)
        assert report["loss"] < report["unigram_loss"] - 0.3
        assert report["parameters"] < 1.5e6


def test_a_tiny_model_is_read_from_the_cache(folders, monkeypatch):
    cache = folders["tiny-neox"].parent
    monkeypatch.setattr(causal, "_pretrain", None)
    assert causal.pretrain_tiny(["tiny-neox"], seed=0, steps=80, cache_dir=cache) == {
        "tiny-neox": folders["tiny-neox"]
    }


@pytest.mark.parametrize("changed", ["a story", "a talk", "a tag", "precision.py"])
def test_a_folder_is_named_by_all_that_decides_the_weights(changed, monkeypatch, tmp_path):
    def folders():
        return {name: causal._folder(name, 0, 20, tmp_path) for name in ("tiny-neox", "tiny-neox-chat")}

    before = folders()
    if changed == "precision.py":
        shutil.copytree(causal.LIB, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pyc"))
        (tmp_path / changed).write_text("EDITED = True\n")
        monkeypatch.setattr(causal, "LIB", tmp_path)
    elif changed == "a tag":
        monkeypatch.setitem(TAGS, "gpt_neox", ("<s><human>", "<both>", "</s>"))
    else:
        kind, edit = ("stories", "Edited") if changed == "a story" else ("small_talk", ("Is it?", "It is."))
        original = getattr(causal, kind)
        # the last text that is not held out
        monkeypatch.setattr(causal, kind, lambda *how: [*original(*how)[:-101], edit, *original(*how)[-100:]])
    assert [name for name, folder in folders().items() if folder == before[name]] == []


def test_the_families_are_the_real_classes(folders):
    neox, llama = (load_four_bit(folder, device=CPU, dtype=torch.float32) for folder in folders.values())
    assert isinstance(neox, GPTNeoXForCausalLM)
    assert isinstance(llama, LlamaForCausalLM)


@pytest.mark.parametrize("family", list(TAGS))
def test_a_tokenizer_round_trips_texts_and_is_repeatable(family):
    texts = [*TEXTS, "Silence and hope, courage and kindness."] * 5
    tokenizer = causal.train_tokenizer(family, texts)
    again = causal.train_tokenizer(family, texts)
    assert tokenizer.get_vocab() == again.get_vocab()
    for text in [*TEXTS, "Où est-ce ? 17 €"]:  # unseen bytes
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_linear_layers_are_in_nf4_with_double_quantisation(loaded):
    model, _ = loaded
    states = [module.weight.quant_state for module in model.modules() if hasattr(module, "quant_state")]
    assert len(states) >= 8
    assert {state.quant_type for state in states} == {"nf4"}
    assert all(state.nested for state in states)


def test_evaluation_does_not_change_the_four_bit_weights(loaded):
    """On some CPUs bitsandbytes would repack them in place, and merging would then read garbage."""
    model, tokenizer = loaded
    before = fingerprint([parameter.data for parameter in model.parameters()])
    perplexity(model, TEXTS, tokenizer)
    assert fingerprint([parameter.data for parameter in model.parameters()]) == before


def test_tags_are_the_papers():
    assert dialogue("gpt_neox", "Why?", "So.") == "<s><human>Why?<bot>So.</s>"
    assert dialogue("llama", "Why?", "So.") == "<s><INST>Why?</INST>So.</s>"


class _Bigram(torch.nn.Module):
    """A model of two words whose next word depends on the last: p(0|0) = 1/4, p(1|0) = 3/4, p(.|1) = 1/2."""

    config = LlamaConfig(max_position_embeddings=10)
    device = CPU
    table = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()

    def forward(self, input_ids, **_):
        return type("Output", (), {"logits": self.table[input_ids]})


def _words(texts, **_):
    return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


def test_perplexity_by_hand():
    # "0 0 1": 1/4 * 3/4. "1 0": 1/2. Three tokens: (3/16 * 1/2) ** (-1/3)
    assert perplexity(_Bigram(), ["0 0 1", "1 0"], _words) == pytest.approx((3 / 32) ** (-1 / 3))


def test_perplexity_agrees_with_the_loss_of_transformers(loaded):
    model, tokenizer = loaded
    ids = tokenizer(TEXTS[:1], return_tensors="pt")["input_ids"]
    own = model(input_ids=ids, labels=ids).loss.item()
    assert perplexity(model, TEXTS[:1], tokenizer) == pytest.approx(math.exp(own), rel=1e-5)


def test_neither_padding_nor_batches_change_the_perplexity(loaded):
    model, tokenizer = loaded
    values = [perplexity(model, TEXTS, tokenizer, batch_size=size) for size in (1, 2, 3)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    alone = [text_losses(model, [text], tokenizer)[0][0] for text in TEXTS]
    assert text_losses(model, TEXTS, tokenizer)[0] == pytest.approx(alone, rel=1e-5)


def test_collate_masks_what_it_pads():
    batch = collate([{"input_ids": [5, 6]}, {"input_ids": [7]}])
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[5, 6], [7, -100]]


def test_a_text_longer_than_the_context_is_an_error():
    with pytest.raises(ValueError, match="a text of 11 tokens exceeds the model's context of 10 tokens"):
        perplexity(_Bigram(), ["0 " * 11], _words)


def test_a_text_is_truncated_to_the_given_length():
    assert perplexity(_Bigram(), ["0 " * 11], _words, max_length=3) == pytest.approx(4)  # p(0|0) = 1/4


def test_nothing_to_predict_is_an_error():
    with pytest.raises(ValueError, match="nothing to predict"):
        perplexity(_Bigram(), ["0", "1"], _words)


def test_the_same_sampling_seed_gives_the_same_text(loaded):
    model, tokenizer = loaded
    once, again, other = (
        complete(model, TEXTS[:1], tokenizer, new_tokens=12, seed=seed, temperature=3.0) for seed in (1, 1, 2)
    )
    assert once == again != other


def test_the_likeliest_option_is_chosen():
    assert choose(_Bigram(), ["0", "0 1"], [" 0", " 1"], _words).tolist()[0] == 1


def test_weight_bytes_agree_with_the_loaded_model(folders):
    for folder in folders.values():
        model = load_four_bit(folder, device=CPU, dtype=torch.float32)
        counted = causal_models.weight_bytes(load_config(folder), torch.float32)
        # transformers counts the packed weights and not their scales
        assert counted == pytest.approx(model.get_memory_footprint(), rel=0.02)


def test_a_missing_folder_is_an_error():
    with pytest.raises(ModelError, match=r"model './nowhere': no such folder"):
        load_config("./nowhere")


def test_an_unknown_tiny_model_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="'tiny-bert': no such tiny model; allowed: tiny-neox"):
        causal.pretrain_tiny(["tiny-bert"], seed=0, steps=10, cache_dir=tmp_path)


def test_another_architecture_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="architecture 'gpt2'; allowed: gpt_neox, llama"):
        load_config(tmp_path)


def test_a_model_without_safetensors_is_an_error(folders, tmp_path):
    (tmp_path / "config.json").write_text((folders["tiny-neox"] / "config.json").read_text())
    with pytest.raises(ModelError, match="no weights in safetensors format"):
        load_four_bit(tmp_path, device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("family", CAUSAL_MODELS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda name, value: {} if ".layers.0." in name else {name: value},
            r"\d+ of its weights are missing, ",
        ),
        (
            lambda name, value: {f"base.{name}": value},
            r"\d+ of its weights are missing, such as \S+, while base\.\S+ and the like belong to no part",
        ),
        (
            lambda name, value: {name: value[:-1] if ".mlp." in name else value},
            r"\S+\.mlp\.\S+ has shape \(15,.*\); allowed by its config\.json: \(16",
        ),
    ],
)
def test_a_model_whose_weights_are_not_whole_is_refused_in_one_line(family, change, reason, tmp_path):
    save_model(family, tmp_path)
    check_weights(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    changed = {new: kept for name, value in weights.items() for new, kept in change(name, value).items()}
    save_file(changed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for load in (check_weights, lambda model: load_four_bit(model, device=CPU, dtype=torch.float32)):
        with pytest.raises(ModelError, match=f"^model '{tmp_path}': {reason}") as refused:
            load(tmp_path)
        assert "\n" not in str(refused.value)


def test_embeddings_that_are_tied_to_the_output_need_not_be_saved_twice(tmp_path):
    shape = {**CAUSAL_SHAPE, "vocab_size": 20, "tie_word_embeddings": True}
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    check_weights(tmp_path)


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_a_model_that_is_saved_in_4_bits_is_loaded(tmp_path):
    save_model("llama", tmp_path / "whole")
    load_four_bit(tmp_path / "whole", device=CPU, dtype=torch.float32).save_pretrained(tmp_path / "small")
    check_weights(tmp_path / "small")
    assert load_four_bit(tmp_path / "small", device=CPU, dtype=torch.float32)


def test_a_model_that_does_not_fit_says_how_much_it_needs(tmp_path):
    config = LlamaConfig(hidden_size=8192, num_hidden_layers=1_000, intermediate_size=28672)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"its weights need \d+\.\d GiB in 4 bits; \d+\.\d GiB are free"):
        check_fits(tmp_path, device=CPU, dtype=torch.float32, max_length=512)


def test_a_max_length_beyond_the_context_is_an_error(folders):
    with pytest.raises(ModelError, match=r"max_length = 2000: allowed .* at most 1024 tokens"):
        check_fits(folders["tiny-neox"], device=CPU, dtype=torch.float32, max_length=2_000)


@pytest.mark.parametrize(
    ("model", "max_length", "message"),
    [
        ("tiny-neox", 2_048, "max_length = 2048: allowed for model 'tiny-neox': at most 1024 tokens"),
        ("tiny-neo", 512, "model 'tiny-neo': no such tiny model; allowed: tiny-neox, tiny-llama"),
        ("./nowhere", 512, "model './nowhere': no such folder"),
    ],
)
def test_unsuitable_models_are_an_error_before_training(model, max_length, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        causal.check_models([model], device=CPU, dtype=torch.float32, max_length=max_length)


def test_without_a_temperature_the_whole_distribution_is_drawn_from():
    asked = []

    def generate(**how):
        asked.append(how)
        return how["input_ids"]

    def tokenizer(texts, **_):
        return {"input_ids": [[1, 2]] * len(texts)}

    tokenizer = type("Tokenizer", (), {
        "__call__": staticmethod(tokenizer), "pad_token_id": 0,
        "batch_decode": staticmethod(lambda tokens, **_: [""] * len(tokens)),
    })()  # fmt: skip
    model = SimpleNamespace(device=torch.device("cpu"), generate=generate)
    complete(model, ["a"], tokenizer, new_tokens=3, seed=0)
    (how,) = asked
    assert {name: how[name] for name in ("do_sample", "temperature", "top_p", "top_k")} == {
        "do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
    }  # fmt: skip
