"""From a model's name to its folder: what is wrong is said in one line, before any weights are fetched."""

import json
import shutil
from pathlib import Path

import loopback_hub
import pytest
import torch
from loopback_hub import Hub
from small import classifier, roberta_tokenizer

from lib import hub
from lib.checkpoints import config_folder, model_folder
from lib.models import ModelError, load_classifier, load_tokenizer, model_fingerprint, name_of
from lib.tiny import check_encoder, check_models, encoder_folder

ID = "acme/roberta"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = roberta_tokenizer()
    classifier("roberta", vocab_size=len(tokenizer)).float().base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def files(saved: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in saved.iterdir()}


def encoder(model: str) -> str:
    """The folder of an encoder, as notebooks ask for it."""
    nothing = {"seed": 0, "steps": 1, "cache_dir": Path("unused"), "device": torch.device("cpu")}
    return encoder_folder(model, [], **nothing)


def line(model: str | Path) -> str:
    with pytest.raises(ModelError) as raised:
        model_folder(model)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"model {str(model)!r}: ")
    return str(raised.value).partition(": ")[2]


def test_a_model_of_the_hub_becomes_a_folder_that_the_libraries_load(small_hub: Hub, files):
    commit = small_hub.add(
        "model", ID, files | {"README.md": b"", "flax_model.msgpack": b"", "onnx/model.onnx": b""}
    )
    check_encoder(ID, max_length=78)
    folder = encoder(ID)
    assert name_of(folder) == f"{ID}@{commit}"
    with small_hub.watch() as requests:
        assert load_classifier(folder, seed=0).config.model_type == "roberta"
        assert load_tokenizer(folder)("bon").input_ids
    assert requests == []
    assert not {path.name for path in Path(folder).iterdir()} & {"README.md", "flax_model.msgpack", "onnx"}


def test_the_weights_are_fetched_last(small_hub: Hub, files):
    small_hub.add("model", ID, files)
    check_encoder(ID, max_length=78)
    config = config_folder(ID)
    assert [path.name for path in config.iterdir()] == ["config.json"]
    assert not any(request.path.startswith("/large/") for request in small_hub.requests)
    assert (model_folder(ID) / "model.safetensors").is_file()


@pytest.mark.parametrize(("family", "readable"), [("bert", 80), ("roberta", 78)])
def test_texts_that_an_encoder_cannot_read_are_refused_before_the_weights(
    small_hub: Hub, files, family, readable
):
    config = classifier(family).config.to_json_string().encode()
    small_hub.add("model", ID, files | {"config.json": config})
    check_encoder(ID, max_length=readable)
    with pytest.raises(
        ModelError,
        match=f"^max_length = {readable + 1}: allowed for model '{ID}': at most {readable} word pieces$",
    ):
        check_encoder(ID, max_length=readable + 1)
    assert not any(request.path.startswith("/large/") for request in small_hub.requests)


def test_a_commit_that_changes_no_file_in_use_keeps_the_fingerprint(small_hub: Hub, files, saved):
    small_hub.add("model", ID, files | {"README.md": b"one"})
    second = small_hub.add("model", ID, files | {"README.md": b"two"})
    third = small_hub.add("model", ID, files | {"config.json": files["config.json"] + b" "})
    one, two = (model_folder(f"{ID}@{commit}") for commit in (second, third))
    assert one != two
    assert model_fingerprint(one) == model_fingerprint(saved)
    assert model_fingerprint(two) != model_fingerprint(saved)


def test_an_architecture_that_cannot_be_used_is_refused_before_the_weights(small_hub: Hub, files):
    small_hub.add("model", ID, files | {"config.json": b'{"model_type": "gpt2"}'})
    with pytest.raises(
        ModelError, match=f"model '{ID}@[0-9a-f]{{40}}': architecture 'gpt2' cannot be explained"
    ):
        check_encoder(ID, max_length=78)
    with pytest.raises(
        ModelError, match=f"model '{ID}@[0-9a-f]{{40}}': architecture 'gpt2'; allowed: gpt_neox"
    ):
        check_models([ID], device=torch.device("cpu"), dtype=torch.float32, max_length=8)
    assert not any(request.path.startswith("/large/") for request in small_hub.requests)


@pytest.mark.parametrize("where", ["hub", "folder"])
@pytest.mark.parametrize(
    ("without", "instead", "reason"),
    [
        ("config.json", {}, "no config.json; a model is"),
        ("model.safetensors", {}, "no weights in safetensors format; docs/scale.md"),
        (
            "model.safetensors",
            {"pytorch_model.bin": b"pickle"},
            "no weights in safetensors format, only pickled ones (pytorch_model.bin), which can hold code; ",
        ),
        (
            "tokenizer.json",
            {"tokenizer.model": b"sentencepiece"},
            "no tokenizer.json, nor a vocabulary to make",
        ),
    ],
)
def test_a_missing_file_is_said_first(small_hub: Hub, files, tmp_path, where, without, instead, reason):
    del files[without]
    files |= instead
    if where == "folder":
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        assert line(tmp_path).startswith(reason)
        return
    small_hub.add("model", ID, files)
    small_hub.add_pull_request(ID, {"model.safetensors": b"by a bot"})
    assert line(ID).startswith(reason)
    asked = [request.path for request in small_hub.requests]
    assert not any("resolve" in path or "refs/pr" in path or "discussions" in path for path in asked)


@pytest.mark.parametrize("where", ["hub", "folder"])
def test_a_model_with_an_adapter_is_refused(small_hub: Hub, files, saved, tmp_path, where):
    """transformers would load the adapter, which the fingerprint does not cover."""
    model = ID
    if where == "hub":
        small_hub.add("model", ID, files | {"adapter_config.json": b"{}"})
    else:
        model = str(shutil.copytree(saved, tmp_path / "adapted"))
        (tmp_path / "adapted" / "adapter_config.json").write_text("{}")
    assert line(model).startswith("adapter_config.json says that it has an adapter; allowed: ")
    for check in (
        lambda: check_encoder(model, max_length=78),
        lambda: encoder(model),
        lambda: check_models([model], device=torch.device("cpu"), dtype=torch.float32, max_length=8),
    ):
        with pytest.raises(ModelError, match=r"adapter_config\.json"):
            check()
    assert not any(request.path.startswith("/large/") for request in small_hub.requests)


def test_weights_in_several_files_are_checked_one_by_one(saved, files, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert (
        line(folder)
        == "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"
    )
    (folder / shards["b"]).write_bytes(files["model.safetensors"][:-1])
    assert line(folder).startswith("model-00002-of-00002.safetensors is not a whole safetensors file (")
    (folder / "model.safetensors.index.json").write_text("{}")
    assert line(folder).startswith("model.safetensors.index.json cannot be read (")


def test_a_folder_that_does_not_exist_is_not_asked_for_on_the_hub(small_hub: Hub):
    for model in ("./nowhere", "~/nowhere", "/nowhere", Path("acme/nowhere")):
        assert line(model) == "no such folder"
    assert small_hub.requests == []


def test_without_an_answer_it_says_what_to_download(small_hub: Hub):
    small_hub.faults = [("", loopback_hub.status(502))]
    assert "fails with status 502: try again later; or download config.json, model.safetensors and" in line(
        ID
    )


def test_an_incomplete_copy_does_not_look_like_a_model_without_weights(small_hub: Hub, files):
    small_hub.add("model", ID, files)
    config_folder(ID)
    small_hub.faults = [("", loopback_hub.status(502))]
    hub.find.cache_clear()
    assert "is incomplete" in line(ID)
