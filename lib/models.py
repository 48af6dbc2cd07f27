"""Load encoders and their tokenizers from local folders, without executing remote code.

Causal language models are loaded by `lib.qlora.causal_models`. `lib.checkpoints` finds the folder of a model
on the Hub: runs load models through this module, and never ask the Hub.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars, enable_progress_bars
from datasets.utils import are_progress_bars_disabled
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from lib.architectures import CLASSIFIERS
from lib.errors import InputError, first_line
from lib.seeding import fingerprint

# The files of a model that are used. Others (a model card, weights in other formats) are neither fetched nor
# part of its fingerprint.
CONFIG = "config.json"
MODEL_FILES = (
    CONFIG,
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)

# The weights of a classifier that an encoder need not have: of the new head, and of BERT's pooler, which
# belongs to the head and is missing from a masked language model.
OF_THE_HEAD = ("classifier.*", "*.pooler.*")


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


def load_classifier(model: str | Path, *, seed: int, device: torch.device | str = "cpu") -> PreTrainedModel:
    """Load a pre-trained encoder with a new classification head, in evaluation mode and float32.

    The seed is set before the model is built, so it determines the head's initial weights.

    Parameters
    ----------
    model : str or Path
        A folder saved by transformers.
    seed : int
        Determines the head.
    device : torch.device or str
        Device of the returned model.

    Raises
    ------
    ModelError
        As `encoder_config` and `load_whole`.
    """
    config = encoder_config(model)
    set_seed(seed)
    classifier: Any = _load_encoder(model, config)
    return classifier.to(device).eval()


def check_encoder_files(model: str | Path) -> None:
    """Check that an encoder's weights and its tokenizer can be used, without reading the weights themselves.

    Raises
    ------
    ModelError
        As `load_classifier` and `load_tokenizer`.
    """
    load_tokenizer(model)
    _load_encoder(model, encoder_config(model), device_map="meta")


def load_whole(
    auto_class: Any, model: str | Path, *, may_lack: Sequence[str] = (), **how: Any
) -> PreTrainedModel:
    """Load a model from a folder that has all of its weights, each in the shape that its configuration says.

    transformers gives random values to those that are missing, and only reports it.

    Parameters
    ----------
    auto_class : type
        transformers' class for the task, such as ``AutoModelForCausalLM``.
    model : str or Path
        A folder with weights in safetensors format.
    may_lack : sequence of str
        Patterns of the names of weights that may be missing, such as a new head's.
    **how
        Further arguments of ``from_pretrained``. ``device_map="meta"`` reads nothing of the weights but their
        names and shapes.

    Raises
    ------
    ModelError
        If there are no weights in safetensors format, or some are missing or have another shape.
    """
    name = f"model {name_of(model)!r}"
    try:
        with quiet_libraries():
            # Other shapes are ignored here so that they can be named below.
            loaded, report = auto_class.from_pretrained(
                model, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **how
            )
    except OSError as error:
        raise ModelError(
            f"{name}: no weights in safetensors format ({first_line(error)}); convert them elsewhere with "
            "save_pretrained and give the folder"
        ) from error
    for weight, found, expected in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"{name}: {weight} has shape {tuple(found)}; allowed by its {CONFIG}: {tuple(expected)}"
        )
    missing = sorted(
        weight
        for weight in report["missing_keys"]
        if not any(fnmatchcase(weight, pattern) for pattern in may_lack)
    )
    if missing:
        unknown = sorted(report["unexpected_keys"])
        instead = f", while {unknown[0]} and the like belong to no part of it" if unknown else ""
        raise ModelError(
            f"{name}: {len(missing)} of its weights are missing, such as {missing[0]}{instead}; allowed: a "
            f"folder with all weights of its {CONFIG}"
        )
    return loaded


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Raises
    ------
    ModelError
        If `encoder_config` refuses the model, it has no tokenizer that can map pieces to words, or the
        tokenizer has pieces without an embedding.
    """
    config = encoder_config(model)
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name_of(model)!r}: no tokenizer ({first_line(error)})") from error
    # Without the tokenizer's files transformers builds one that knows only the special tokens.
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(f"model {name_of(model)!r}: no tokenizer (no tokenizer.json with a vocabulary)")
    last = max(tokenizer.get_vocab().values())
    if last >= config.vocab_size:
        raise ModelError(
            f"model {name_of(model)!r}: its tokenizer numbers pieces up to {last}; allowed: below "
            f"vocab_size = {config.vocab_size}, the number of its embeddings"
        )
    return tokenizer


def model_fingerprint(folder: str | Path) -> str:
    """Identify a model, its configuration and its tokenizer by the contents of the files that are used.

    Raises
    ------
    ModelError
        If there is no such folder.
    """
    if not Path(folder).is_dir():
        raise ModelError(f"model {name_of(folder)!r}: no such folder")
    files = {}
    for path in Path(folder).iterdir():
        if is_used(path.name):
            state = path.stat()
            files[path.name] = _digest(path.resolve(), state.st_size, state.st_mtime_ns)
    return fingerprint(files)


def is_used(file: str) -> bool:
    """Whether a file of a model's folder is used when the model is loaded."""
    return any(fnmatchcase(file, pattern) for pattern in MODEL_FILES)


def name_of(folder: str | Path) -> str:
    """Name a model for a reader: one from the Hub as owner/name@commit, any other by its path."""
    commit = commit_of(folder)
    if not commit:
        return str(folder)
    repository = Path(folder).parent.parent.name
    return f"{repository.removeprefix('models--').replace('--', '/')}@{commit}"


def commit_of(folder: str | Path) -> str:
    """Return the commit of a model or data set that lies in huggingface_hub's cache; "" for another path.

    There a model is the folder ``models--owner--name/snapshots/commit``.
    """
    path = Path(folder)
    return path.name if path.parent.name == "snapshots" else ""


def read_config(folder: str | Path) -> PreTrainedConfig:
    """Read a model's configuration, which is small: most problems show before any weights are loaded.

    Raises
    ------
    ModelError
        If there is no such folder, or no configuration in it that transformers knows.
    """
    if not (Path(folder) / CONFIG).is_file():
        raise ModelError(f"model {name_of(folder)!r}: no such folder, or no {CONFIG} in it")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name_of(folder)!r}: no configuration ({first_line(error)})") from error


def encoder_config(folder: str | Path) -> PreTrainedConfig:
    """Read an encoder's configuration.

    Raises
    ------
    ModelError
        As `read_config`, for an architecture that cannot be explained, and for a model that already has a
        classification head: seeds could not determine it.
    """
    config = read_config(folder)
    if config.model_type not in CLASSIFIERS:
        raise ModelError(
            f"model {name_of(folder)!r}: architecture {config.model_type!r} cannot be explained; "
            f"allowed: {', '.join(CLASSIFIERS)}"
        )
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        raise ModelError(
            f"model {name_of(folder)!r}: has a classification head already; allowed: an encoder without one"
        )
    return config


def _load_encoder(model: str | Path, config: PreTrainedConfig, **how: Any) -> PreTrainedModel:
    """Load an encoder with a new head for two classes, in float32."""
    config.num_labels = 2
    return load_whole(
        AutoModelForSequenceClassification,
        model,
        may_lack=OF_THE_HEAD,
        config=config,
        dtype=torch.float32,
        **how,
    )


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """Hash a file; once per process, unless its size or time of change differs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
