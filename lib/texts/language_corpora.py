"""Load texts for language models: quotes and instructions, split 80/20 (paper 3, section III)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from datasets import Dataset, DatasetDict

from lib.seeding import derive
from lib.texts import tables
from lib.texts.generated.mini_platypus import mini_platypus
from lib.texts.generated.mini_quotes import mini_quotes
from lib.texts.tables import CorpusError

logger = logging.getLogger(__name__)

QUOTES = "Abirate/english_quotes"
INSTRUCTIONS = "garage-bAInd/Open-Platypus"
TEST_SHARE = 0.2


def load_quotes(dataset: str | Path, *, seed: int, limit: int = 0) -> DatasetDict:
    """Load quotes for text generation.

    Parameters
    ----------
    dataset : str or Path
        A Hub id (the paper's is ``QUOTES``), a local file or folder with the column ``quote``, or
        ``mini-quotes``.
    seed : int
        Determines which quotes are sampled and which are held out.
    limit : int
        Sample at most this many quotes before the split; 0 takes all. ``mini-quotes`` generates this many.

    Returns
    -------
    DatasetDict
        Splits train and test, column ``quote``; no quote occurs twice.

    Raises
    ------
    CorpusError
        In one line, with the row where there is one, for a source that is unavailable or unusable.
    """
    return _load(str(dataset), ("quote",), {"mini-quotes": mini_quotes}, seed=seed, limit=limit)


def load_instructions(dataset: str | Path, *, seed: int, limit: int = 0) -> DatasetDict:
    """Load instructions and their answers for question answering.

    Parameters
    ----------
    dataset : str or Path
        A Hub id (the paper's is ``INSTRUCTIONS``), a local file or folder with the columns ``instruction``
        and ``output``, or ``mini-platypus``.
    seed, limit
        As in `load_quotes`.

    Returns
    -------
    DatasetDict
        Splits train and test, columns ``instruction`` and ``output``; no instruction occurs twice.

    Raises
    ------
    CorpusError
        In one line, with the row where there is one, for a source that is unavailable or unusable.
    """
    return _load(
        str(dataset),
        ("instruction", "output"),
        {"mini-platypus": mini_platypus},
        seed=seed,
        limit=limit,
    )


def _load(
    dataset: str,
    columns: Sequence[str],
    generators: Mapping[str, Callable[[int, int], Dataset]],
    *,
    seed: int,
    limit: int,
) -> DatasetDict:
    """Load the columns, drop rows whose first column repeats an earlier one, sample and split."""
    if limit < 0:
        raise CorpusError(f"limit = {limit}; allowed: a number of texts, or 0 for all")
    if dataset in generators:
        if limit == 0:
            raise CorpusError(f"limit = 0: {dataset!r} is endless; give the number of texts to generate")
        rows = generators[dataset](seed, limit).select_columns(list(columns))
    else:
        rows = _distinct(dataset, columns)
    rows = rows.shuffle(seed=derive(seed, "take"))
    rows = rows.select(range(min(limit or len(rows), len(rows))))
    if TEST_SHARE * len(rows) < 1:
        raise CorpusError(f"{dataset!r}: too few texts ({len(rows)}) to hold out a share of {TEST_SHARE}")
    return rows.train_test_split(test_size=TEST_SHARE, seed=derive(seed, "splits"))


def _distinct(dataset: str, columns: Sequence[str]) -> Dataset:
    """Read the columns; keep only the first row with the same first column, so splits never share one."""
    table = tables.read(dataset)
    names = [tables.find_column(table, [column], column) for column in columns]
    if not tables.is_local(dataset):
        for name in names:
            table = tables.drop_empty(table, name)
    texts = {column: tables.texts_of(table, name) for column, name in zip(columns, names, strict=True)}
    distinct = pd.DataFrame(texts).drop_duplicates(columns[0])
    if len(distinct) < len(table):
        logger.warning("%s: %d repeated texts left out", dataset, len(table) - len(distinct))
    return Dataset.from_dict(distinct.to_dict("list"))
