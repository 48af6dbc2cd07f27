"""Which text is in which split: kept as given, checked, cut where one is missing, and taken in proportion."""

import logging
import reprlib

import numpy as np
import pandas as pd

from lib.texts.tables import SPLIT_COLUMN, SPLITS, CorpusError

logger = logging.getLogger(__name__)

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}  # papers 1 and 2

Parts = dict[str, pd.DataFrame]  # by split, in the order of SHARES; columns text and label


def given(rows: pd.DataFrame, table: pd.DataFrame) -> Parts:
    """Sort rows into the splits that their source names; where it names none, all are of the train split.

    Parameters
    ----------
    rows : DataFrame, (texts,)
        With columns ``text`` and ``label``; some or all rows of the table, by its index.
    table : DataFrame
        The source, with or without a column ``split``.

    Raises
    ------
    CorpusError
        For an unknown split, or without a train split.
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
    """Return the splits as they are, after making sure that no text is in two of them.

    Raises
    ------
    CorpusError
        For the first text that is, with both its rows.
    """
    seen: dict[str, tuple[str, str]] = {}
    for split, part in parts.items():
        for where, text in part["text"].items():
            first_split, first = seen.setdefault(text, (split, where))
            if first_split != split:
                raise CorpusError(
                    f"{where}: this text of the {split} split is in the {first_split} split too ({first}); "
                    "expected every text in one split"
                )
    return parts


def take_apart(parts: Parts) -> Parts:
    """Leave a text that is in two splits in the test split, else in the validation split, only.

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
                "%d texts left out of the %s split: held out too", len(part) - len(kept[split]), split
            )
    return {split: kept[split] for split in parts}


def complete(parts: Parts, source: str, seed: int) -> Parts:
    """Cut the splits that are missing from the train split, each class in the proportions of ``SHARES``.

    Before a cut, repeated texts are left out, so that none ends in two splits.

    Parameters
    ----------
    parts : dict of DataFrame
        With a train split at least.
    source : str
        What an error calls the data set.
    seed : int
        Rules which texts go where.

    Raises
    ------
    CorpusError
        If a split would not have texts of both classes.
    """
    cut = [split for split in SHARES if split == "train" or split not in parts]
    if len(cut) > 1:
        pool = parts["train"]
        distinct = pool[~pool["text"].duplicated()]
        if len(distinct) < len(pool):
            logger.warning("%d repeated texts left out of the train split", len(pool) - len(distinct))
        order = stratified_order(distinct["label"].to_numpy(), seed)
        shares = np.array([SHARES[split] for split in cut])
        ends = np.rint(np.cumsum(shares / shares.sum()) * len(order)).astype(int)
        pieces = np.split(order, ends[:-1])
        parts = parts | {
            split: distinct.iloc[np.sort(piece)] for split, piece in zip(cut, pieces, strict=True)
        }
    for split in SHARES:
        if parts[split]["label"].nunique() < 2:
            raise CorpusError(
                f"{source!r}: its {split} split has {len(parts[split])} texts and not both classes; "
                "expected texts of both classes in every split"
            )
    return parts


def take(part: pd.DataFrame, size: int, what: str, seed: int) -> pd.DataFrame:
    """Take a number of texts, the classes in proportion and in the file's order; 0 takes all.

    Raises
    ------
    CorpusError
        If there are fewer.
    """
    if size > len(part):
        raise CorpusError(f"{what}: {size} texts are asked for and it has {len(part)}; 0 takes all")
    if size == 0:
        return part
    return part.iloc[np.sort(stratified_order(part["label"].to_numpy(), seed)[:size])]


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Shuffle rows so that every beginning of the order has the classes in proportion, to within a text.

    Parameters
    ----------
    labels : ndarray, (rows,)
        Class of each row.
    seed : int
        Rules the order within each class: that of ``DataFrame.sample(frac=1, random_state=seed)``, as the
        authors of paper 1 shuffle.

    Returns
    -------
    ndarray, (rows,)
        A permutation of the rows' positions.
    """
    draw = np.random.default_rng(seed)
    place = np.empty(
        len(labels)
    )  # in (0, 1): the i-th of n shuffled members of a class stands at (i + 1/2) / n
    for label in np.unique(labels):
        draw = np.random.RandomState(seed)  # pandas' own, and the same for each class
        members = np.flatnonzero(labels == label)
        place[draw.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")
