"""Load encoders and their tokenizers by Hub id or local folder, without executing remote code.

Causal language models are loaded by `lib.qlora.causal_models`.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import torch
from datasets import disable_progress_bars, enable_progress_bars
from datasets.utils import are_progress_bars_disabled
from huggingface_hub.errors import GatedRepoError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lib import hub
from lib.architectures import CLASSIFIERS
from lib.errors import InputError
from lib.hub import first_line
from lib.seeding import fingerprint, seed_everything

MODEL_FILES = (".json", ".safetensors", ".model", ".txt")  # weights, configuration, tokenizer


class ModelError(InputError):
    """A model cannot be loaded: one line with its name, what is wrong and what would help."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the messages and progress bars of transformers and datasets, except errors."""
    verbosity = transformers_logging.get_verbosity()
    transformers_bars = transformers_logging.is_progress_bar_enabled()
    datasets_bars = not are_progress_bars_disabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if transformers_bars:
            transformers_logging.enable_progress_bar()
        if datasets_bars:
            enable_progress_bars()


def load_classifier(
    model: str | Path, *, seed: int, num_labels: int = 2, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load a pre-trained encoder with a new classification head, in evaluation mode and float32.

    The seed is set before the model is built, so it determines the head's initial weights.

    Parameters
    ----------
    model : str or Path
        A Hub id, or a folder saved by transformers.
    seed : int
        Seeds the head, unless the weights already include one.
    num_labels : int
        Number of classes.
    device : torch.device
        Device of the returned model.

    Raises
    ------
    ModelError
        If the model does not exist, the Hub does not answer, there is no safetensors file, or the
        architecture cannot be explained.
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
        If the model has no tokenizer that can map pieces to words.
    """
    _config(model)
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {str(model)!r}: no tokenizer ({first_line(error)})") from error
    # Without the tokenizer's files transformers builds one that knows only the special tokens.
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(f"model {str(model)!r}: no tokenizer (no tokenizer.json with a vocabulary)")
    return tokenizer


def model_fingerprint(model: str | Path) -> str:
    """Identify a model, its configuration and its tokenizer by their content.

    A folder is identified by the contents of its files, whatever its path; a model on the Hub by its commit.
    """
    if not Path(model).is_dir():
        config = Path(huggingface_hub.hf_hub_download(str(model), "config.json"))
        return f"{model}@{config.parent.name}"  # the Hub's cache stores files in snapshots/<commit>/
    files = {}
    for path in Path(model).iterdir():
        if path.suffix in MODEL_FILES:
            with path.open("rb") as file:
                files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return fingerprint(files)


def read_config(model: str | Path) -> PreTrainedConfig:
    """Read a model's configuration, which is small: most problems show before any weights are loaded.

    Raises
    ------
    ModelError
        If the model does not exist, the Hub does not answer, or the model is gated.
    """
    name = f"model {str(model)!r}"
    files = "config.json, model.safetensors and tokenizer.json"
    elsewhere = f"download {files} elsewhere and give the folder that holds them"
    if _is_path(model):
        if not (Path(model) / "config.json").is_file():
            raise ModelError(f"{name}: no such folder, or no config.json in it")
    elif not huggingface_hub.constants.HF_HUB_OFFLINE and not hub.reachable():
        raise ModelError(
            f"{name}: no such folder, and no answer from the Hub within {hub.SECONDS:.0f} s; {elsewhere}, "
            "or set HF_HUB_OFFLINE=1 if it has been loaded on this machine before"
        )
    try:
        return AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if isinstance(error, GatedRepoError) or "gated" in str(error).lower():
            raise ModelError(
                f"{name} is gated: ask for access on its Hub page, "
                "then create a read token in your Hub settings and run `hf auth login` (or set HF_TOKEN)"
            ) from error
        raise ModelError(f"{name}: no configuration ({first_line(error)}); {elsewhere}") from error


def _config(model: str | Path) -> PreTrainedConfig:
    """Read a configuration and check that the architecture can be explained."""
    config = read_config(model)
    if config.model_type not in CLASSIFIERS:
        raise ModelError(
            f"model {str(model)!r}: architecture {config.model_type!r} cannot be explained; "
            f"allowed: {', '.join(CLASSIFIERS)}"
        )
    return config


def _is_path(model: str | Path) -> bool:
    return isinstance(model, Path) or Path(model).exists() or str(model).startswith((".", "/", "~"))
