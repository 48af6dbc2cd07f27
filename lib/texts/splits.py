"""Which text is in which split: given splits checked, missing ones cut, and a number of texts sampled."""

import logging
import reprlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.utils import resample

from lib.texts.tables import SPLIT_COLUMN, SPLITS, CorpusError

logger = logging.getLogger(__name__)

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}  # papers 1 and 2
INFOPINION_SEED = 42  # the authors' random_state: their file determines their splits

Parts = dict[str, pd.DataFrame]  # by split, in the order of SHARES; columns text and label


def given(rows: pd.DataFrame, table: pd.DataFrame) -> Parts:
    """Group rows by the split that their source names; without a split column, all are training texts.

    Parameters
    ----------
    rows : DataFrame, (texts,)
        Columns ``text`` and ``label``; some or all rows of the table, matched by index.
    table : DataFrame
        The source, with or without a column ``split``.

    Raises
    ------
    CorpusError
        For an unknown split name, or if there is no train split.
    """
    columns = [name for name in table if str(name).lower() == SPLIT_COLUMN]
    if not columns:
        return {"train": rows}
    column = SPLIT_COLUMN if SPLIT_COLUMN in columns else columns[0]
    names = []
    for where, value in table.loc[rows.index, column].items():
        name = SPLITS.get(str(value).strip().lower())
        if name is None:
            raise CorpusError(f"{where}: split {reprlib.repr(value)}; expected train, validation or test")
        names.append(name)
    if "train" not in names:
        raise CorpusError(f"{rows.index[0]}: neither this row nor any other is in the train split")
    found = dict(iter(rows.groupby(names)))
    return {split: found[split] for split in SHARES if split in found}


def check_apart(parts: Parts) -> Parts:
    """Check that no text is in two splits, and return the splits unchanged.

    Raises
    ------
    CorpusError
        For the first text that is in two splits, with both rows.
    """
    seen: dict[str, tuple[str, str]] = {}
    for split, part in parts.items():
        for where, text in part["text"].items():
            first_split, first = seen.setdefault(text, (split, where))
            if first_split != split:
                raise CorpusError(
                    f"{where}: this text of the {split} split is also in the {first_split} split ({first}); "
                    "expected every text in one split"
                )
    return parts


def take_apart(parts: Parts) -> Parts:
    """Keep a text that is in several splits only in the test split or, failing that, in the validation split.

    For published data sets, which the reader cannot correct: held-out splits stay as published.
    """
    held_out: set[str] = set()
    kept = {}
    for split in reversed(parts):
        part = parts[split]
        kept[split] = part[~part["text"].isin(held_out)]
        held_out.update(part["text"])
        if len(kept[split]) < len(part):
            logger.warning(
                "%d texts of the %s split left out: they are also held out",
                len(part) - len(kept[split]),
                split,
            )
    return {split: kept[split] for split in parts}


def infopinion_splits(rows: pd.DataFrame) -> Parts:
    """Split InfOpinion as its authors do: each class is shuffled by pandas with seed 42, then cut 80/10/10.

    Of the 5,000 texts of a class 4,000 are training, 500 validation and 500 test texts. Repeated texts are
    left out first.
    """
    rows = distinct(rows, "the train split")
    members: dict[str, list[str]] = {split: [] for split in SHARES}  # rows, by index
    for _, texts in rows.groupby("label"):
        shuffled = texts.sample(frac=1, random_state=INFOPINION_SEED).index
        train, held_out = round(SHARES["train"] * len(texts)), round((1 - SHARES["test"]) * len(texts))
        members["train"] += list(shuffled[:train])
        members["validation"] += list(shuffled[train:held_out])
        members["test"] += list(shuffled[held_out:])
    return {split: rows[rows.index.isin(chosen)] for split, chosen in members.items()}


def sorted_by_class(parts: Parts) -> set[str]:
    """Return the splits whose texts are sorted by class: all texts of one class, then all of the other.

    A split that has yet to be cut from the train split will have that one's order.

    Parameters
    ----------
    parts : dict of DataFrame
        At least a train split, in file order.
    """
    changes = {split: int((part["label"].diff().iloc[1:] != 0).sum()) for split, part in parts.items()}
    return {split for split in SHARES if changes.get(split, changes["train"]) == 1}


def complete(parts: Parts, source: str, seed: int) -> Parts:
    """Cut missing splits from the train split, stratified by class and in the proportions of ``SHARES``.

    Repeated texts are left out before a cut, so no text ends up in two splits. Texts stay in file order.

    Parameters
    ----------
    parts : dict of DataFrame
        At least a train split.
    source : str
        What an error calls the data set.
    seed : int
        Determines which texts go where.

    Raises
    ------
    CorpusError
        If a split would not have texts of both classes.
    """
    missing = [split for split in SHARES if split not in parts]
    if missing:
        pool = distinct(parts["train"], "the train split")
        unit = len(pool) / (SHARES["train"] + sum(SHARES[split] for split in missing))  # texts per share of 1
        for split in missing:
            try:
                kept, cut = train_test_split(
                    np.arange(len(pool)),
                    test_size=round(SHARES[split] * unit),
                    stratify=pool["label"],
                    random_state=seed,
                )
            except ValueError as error:
                raise CorpusError(
                    f"{source!r}: too few texts ({len(pool)}) to cut a {split} split from; "
                    "expected texts of both classes in every split"
                ) from error
            parts = parts | {split: pool.iloc[np.sort(cut)]}
            pool = pool.iloc[np.sort(kept)]
        parts = parts | {"train": pool}
    for split in SHARES:
        if parts[split]["label"].nunique() < 2:
            raise CorpusError(
                f"{source!r}: the {split} split lacks a class (number of texts: {len(parts[split])}); "
                "expected texts of both classes in every split"
            )
    return parts


def take(part: pd.DataFrame, size: int, what: str, seed: int) -> pd.DataFrame:
    """Sample a number of texts, stratified by class and kept in file order; 0 takes all.

    (`sklearn.utils.resample` rather than `train_test_split`, which cannot leave a single text behind.)

    Raises
    ------
    CorpusError
        If there are fewer texts, or fewer are asked for than there are classes.
    """
    if size > len(part):
        raise CorpusError(f"{what}: {size} texts requested, but there are only {len(part)}; 0 takes all")
    if size in (0, len(part)):
        return part
    if size < part["label"].nunique():
        raise CorpusError(f"{what}: {size} text requested; allowed: 2 or more, or 0 for all")
    rows = resample(
        np.arange(len(part)), replace=False, n_samples=size, stratify=part["label"], random_state=seed
    )
    return part.iloc[np.sort(rows)]


def check_classes(part: pd.DataFrame, what: str, names: Sequence[str]) -> None:
    """Check that sampled texts are of both classes: a rare one can be rounded away.

    Parameters
    ----------
    part : DataFrame, (texts,)
        From `take`.
    what : str
        What an error calls the texts.
    names : sequence of str, (2,)
        The classes' names.

    Raises
    ------
    CorpusError
        With the number of texts and the class that is missing.
    """
    for label, name in enumerate(names):
        if label not in part["label"].to_numpy():
            raise CorpusError(
                f"{what}: {len(part)} texts requested, none of them of the class {reprlib.repr(name)}; "
                "expected enough for texts of both classes"
            )


def distinct(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    """Keep the first of rows with the same text.

    A line says how many are left out ``where``, and how many of them have another label than the first.
    """
    repeated = rows.duplicated("text")
    if repeated.any():
        first_label = rows[~repeated].set_index("text")["label"]
        left_out = rows[repeated]
        logger.warning(
            "%d repeated texts left out of %s, %d of them with another label than the first",
            len(left_out),
            where,
            (left_out["label"] != left_out["text"].map(first_label)).sum(),
        )
    return rows[~repeated]
