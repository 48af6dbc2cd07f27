"""From the name of a model to the folder that holds its files: checked, and fetched from the Hub if need be.

Whatever is wrong with a model is said from the list of its files and its configuration, before its weights
are fetched. Weights are read from safetensors only: other formats can hold code.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lib import hub
from lib.errors import first_line
from lib.installed import MODELS, installed_folder
from lib.models import CONFIG, MODEL_FILES, ModelError, is_used

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights that are spread over several files
TOKENIZERS = ({"tokenizer.json"}, {"vocab.txt"}, {"vocab.json", "merges.txt"})  # of which one is enough
ADAPTER = "adapter_config.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def config_folder(model: str | Path) -> Path:
    """Return a folder with a model's configuration, once its list of files shows nothing missing.

    Parameters
    ----------
    model : str or Path
        A folder; one of `lib.installed.MODELS`, which is on the Hub where its package is not installed; or a
        Hub id: ``owner/name``, or ``owner/name@revision`` with a branch, a tag or a commit.

    Raises
    ------
    ModelError
        In one line: if there is no such model, the Hub does not answer or refuses, or a file is missing.
    """
    if installed := _installed(model):
        return installed
    if is_path(model):
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise ModelError(f"model {str(model)!r}: no such folder")
        _check_files(str(model), {path.name for path in folder.iterdir()})
        return folder
    return _from_hub(str(model), (CONFIG,))


def model_folder(model: str | Path) -> Path:
    """Return the folder with all files of a model that are used; one from the Hub is fetched first.

    Parameters
    ----------
    model : str or Path
        As for `config_folder`.

    Raises
    ------
    ModelError
        As `config_folder`, and if a download breaks off or a file of weights is not whole.
    """
    here = is_path(model) or _installed(model)
    folder = config_folder(model) if here else _from_hub(str(model), MODEL_FILES)
    _check_weights(str(model), folder)
    return folder


def _installed(model: str | Path) -> Path | None:
    return installed_folder(model) if isinstance(model, str) and model in MODELS else None


def is_path(model: str | Path) -> bool:
    """Whether a model is named by its folder."""
    return isinstance(model, Path) or Path(model).exists() or model.startswith((".", "/", "~"))


def _from_hub(model: str, patterns: Sequence[str]) -> Path:
    """Fetch some files of a model, if its list of files shows nothing missing."""
    model = MODELS[model].hub_id if model in MODELS else model
    try:
        repository = hub.find("model", model)
        if repository.is_offline:
            repository.fetch(MODEL_FILES)  # which says that the copy is incomplete, if it is
        _check_files(model, repository.files)
        return repository.fetch(patterns)
    except hub.NoAnswer as error:
        files = f"{CONFIG}, {WEIGHTS} and tokenizer.json"
        raise ModelError(f"{error}; or download {files} elsewhere and give their folder") from error
    except hub.Unreachable as error:
        raise ModelError(str(error)) from error


def _check_files(model: str, files: Collection[str]) -> None:
    """Check that a model has a configuration, weights in safetensors format and a tokenizer, and no adapter.

    transformers adds an adapter to the weights without a word, while the fingerprint would stay theirs.
    """
    name = f"model {model!r}"
    if ADAPTER in files:
        raise ModelError(
            f"{name}: {ADAPTER} says that it has an adapter; allowed: a model without one: merge it into the "
            "weights (peft's merge_and_unload), or give a folder without the adapter's files"
        )
    if CONFIG not in files:
        raise ModelError(f"{name}: no {CONFIG}; a model is {CONFIG}, {WEIGHTS} and tokenizer.json")
    if WEIGHTS not in files and INDEX not in files:
        pickled = sorted(file for file in files if file.endswith(PICKLED))
        found = f", only pickled ones ({pickled[0]}), which can hold code" if pickled else ""
        raise ModelError(
            f"{name}: no weights in safetensors format{found}; docs/scale.md says how to convert a model "
            "that you trust: give the folder that results"
        )
    if not any(tokenizer <= set(files) for tokenizer in TOKENIZERS):
        raise ModelError(
            f"{name}: no tokenizer.json, nor a vocabulary to make one from; where its own tokenizer can be "
            "loaded, AutoTokenizer.from_pretrained(...).save_pretrained(folder) writes one"
        )


def _check_weights(model: str, folder: Path) -> None:
    """Check that every file of weights is there and whole."""
    present = {path.name for path in folder.iterdir() if is_used(path.name) and path.suffix == ".safetensors"}
    required = {WEIGHTS}
    if WEIGHTS not in present:
        try:
            required = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(f"model {model!r}: {INDEX} cannot be read ({first_line(error)})") from error
    for file in sorted(required):
        if file not in present:
            raise ModelError(f"model {model!r}: {file} is missing, which {INDEX} names")
        try:
            with safe_open(folder / file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"model {model!r}: {file} is not a whole safetensors file ({first_line(error)})"
            ) from error
