"""Encoders and their tokenizers in, by Hub id or local folder, without running anybody's code.

The built-in ``tiny-camembert`` is made by ``pretraining.py``, which returns its folder.
"""

import hashlib
from pathlib import Path

import huggingface_hub
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lib.hub import first_line
from lib.seeding import fingerprint, seed_everything
from lib.training import quiet_libraries

SUPPORTED = ("bert", "camembert", "roberta")
MODEL_FILES = (".json", ".safetensors", ".model", ".txt")  # weights, configuration, tokenizer


class ModelError(ValueError):
    """A model cannot be had, in one line: its name, what is wrong with it and what would help."""


def load_classifier(
    model: str | Path, *, seed: int, num_labels: int = 2, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load a pre-trained encoder with a new classification head, in evaluation mode and float32.

    The seed is set before the model is built, so that it rules the head's initial weights.

    Parameters
    ----------
    model : str or Path
        A Hub id, or a folder as transformers saves one.
    seed : int
        For the head, unless the weights hold one already.
    num_labels : int
        Number of classes.
    device : torch.device
        Where the model goes.

    Raises
    ------
    ModelError
        If there is no such model, no Hub, no safetensors file, or an architecture that cannot be explained.
    """
    config = _config(model)
    seed_everything(seed)
    try:
        with quiet_libraries():
            config.num_labels = num_labels
            classifier = AutoModelForSequenceClassification.from_pretrained(
                model, config=config, use_safetensors=True, dtype=torch.float32
            )
    except OSError as error:
        raise ModelError(
            f"model {str(model)!r}: no weights in safetensors format ({first_line(error)})"
        ) from error
    return classifier.to(device).eval()


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Raises
    ------
    ModelError
        If there is none, or none that can say which piece belongs to which word.
    """
    _config(model)
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {str(model)!r}: no tokenizer ({first_line(error)})") from error
    if not tokenizer.is_fast:
        raise ModelError(f"model {str(model)!r}: its tokenizer has no tokenizer.json; a fast one is wanted")
    return tokenizer


def model_fingerprint(model: str | Path) -> str:
    """Tell a model that can be loaded, its configuration and its tokenizer from every other.

    A folder is told by what is in its files, wherever it lies, and a model on the Hub by its commit there.
    """
    if not Path(model).is_dir():
        config = Path(huggingface_hub.hf_hub_download(str(model), "config.json"))
        return f"{model}@{config.parent.name}"  # the Hub's cache keeps files in snapshots/<commit>/
    files = {}
    for path in Path(model).iterdir():
        if path.suffix in MODEL_FILES:
            with path.open("rb") as file:
                files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return fingerprint(files)


def _config(model: str | Path) -> AutoConfig:
    """Read a model's configuration: small, so that what is wrong shows before weights are loaded."""
    if _is_path(model) and not (Path(model) / "config.json").is_file():
        raise ModelError(f"model {str(model)!r}: no such folder, or no config.json in it")
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {str(model)!r}: neither a local folder nor found on the Hub ({first_line(error)}); "
            "without a network, download config.json, model.safetensors and tokenizer.json elsewhere "
            "and give the folder that holds them"
        ) from error
    if config.model_type not in SUPPORTED:
        raise ModelError(
            f"model {str(model)!r}: architecture {config.model_type!r} cannot be explained here; "
            f"allowed: {', '.join(SUPPORTED)}"
        )
    return config


def _is_path(model: str | Path) -> bool:
    return isinstance(model, Path) or Path(model).exists() or str(model).startswith((".", "/", "~"))
