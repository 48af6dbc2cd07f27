"""Fetch the models and texts that a notebook names, before anything slow begins."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from lib.checkpoints import model_folder
from lib.models import check_encoder_files, commit_of, model_fingerprint
from lib.qlora.causal_models import check_weights
from lib.seeding import fingerprint
from lib.settings import ClassifierSettings, FinetuningSurface, NotebookSettings, QloraRepeatability
from lib.texts import fetch_dataset
from lib.tiny import TINY, TINY_CAMEMBERT, check_encoder, check_models

GENERATED = "made here"


def fetch_sources(settings: NotebookSettings) -> pd.DataFrame:
    """Check and fetch the models and data sets of a notebook; return the revision of each.

    Models are checked first, by their configurations: nothing is downloaded in vain. After this nothing asks
    the Hub again.

    Parameters
    ----------
    settings : NotebookSettings
        The notebook's parameters.

    Returns
    -------
    DataFrame, (models and data sets,)
        Columns ``source`` and ``revision``; of a file or folder, its fingerprint takes the revision's place.

    Raises
    ------
    ModelError, CorpusError
        In one line, for the first model or data set that cannot be used.
    """
    if isinstance(settings, QloraRepeatability):
        check_models(
            settings.models.values(),
            device=settings.torch_device,
            dtype=getattr(torch, settings.compute_type),
            max_length=settings.max_length,
        )
    elif isinstance(settings, ClassifierSettings):
        ranks = settings.ranks if isinstance(settings, FinetuningSurface) else []
        for model in settings.models.values():
            check_encoder(model, max_length=settings.max_length, ranks=ranks)
    rows = {}
    check_files = check_weights if isinstance(settings, QloraRepeatability) else check_encoder_files
    for name, model in settings.models.items():
        rows[name] = {"source": model, "revision": _model_revision(model, check_files)}
    for name, dataset in settings.datasets.items():
        rows[name] = {"source": dataset, "revision": _dataset_revision(dataset)}
    return pd.DataFrame(rows).T


def _model_revision(model: str, check_files: Callable[[Path], None]) -> str:
    """Fetch a model, check its files and return its commit on the Hub, or a folder's fingerprint."""
    if model in (TINY_CAMEMBERT, *TINY):
        return GENERATED
    folder = model_folder(model)
    check_files(folder)
    return commit_of(folder) or model_fingerprint(folder)


def _dataset_revision(dataset: str) -> str:
    """Fetch a data set and return its commit on the Hub, or the fingerprint of its files."""
    path = fetch_dataset(dataset)
    if path is None:
        return GENERATED
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return commit_of(path) or fingerprint([hashlib.sha256(file.read_bytes()).digest() for file in files])
