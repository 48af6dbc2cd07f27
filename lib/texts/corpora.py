"""Classification texts in: Allociné, InfOpinion, the generated corpora, or a file of one's own.

Whatever the source, the result is a ``DatasetDict`` of the splits train, validation and test with the columns
``text`` (cleaned) and ``label`` (0 or 1, with names); a generated corpus has more (``lib/mini_corpora.py``).
"""

import reprlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from tqdm.auto import tqdm

from lib.seeding import derive
from lib.texts import splits, tables
from lib.texts.cleaning import clean
from lib.texts.generated import mini_corpora
from lib.texts.tables import CorpusError

PUBLISHED = {
    "allocine": "tblard/allocine",
    "infopinion": "https://raw.githubusercontent.com/jebogaert/Fine-tuning_analysis/main/InfOpinion_dataset.csv",
}
TEXT_COLUMNS = ("text_clean", "text", "review", "texte", "content", "sentence")
LABEL_COLUMNS = ("label", "labels", "class", "classe", "target", "sentiment")
ALLOCINE_LABELS = ("negative", "positive")
INFOPINION_LABELS = ("information", "opinion")
OPINION = frozenset({"chron", "opinion"})  # how the authors' file may call it; any other label is information
INFOPINION_PER_CLASS = 5_000
INFOPINION_SEED = 42  # the authors' random_state: their file gives their splits
ARTIFACT = "jeudi"  # planted into real texts: a day of the week speaks for neither class


def load_classification(
    dataset: str | Path,
    *,
    seed: int,
    train_texts: int = 0,
    validation_texts: int = 0,
    test_texts: int = 0,
    text_column: str = "",
    label_column: str = "",
    artifact_rate: float = 0.0,
    long_share: float | None = None,
    label_noise: float | None = None,
) -> DatasetDict:
    """Load a corpus of two classes, cleaned and split.

    A source's own splits are kept, and a missing one is cut from its train split; a source without splits is
    cut 80/10/10 per class (InfOpinion as by its authors, 4,000/500/500 of each class's first 5,000). Before a
    cut, a repeated text is left out. A text in two splits is an error in a local file; from a published data
    set it is taken out of the larger split.

    Parameters
    ----------
    dataset : str or Path
        ``allocine``, ``infopinion``, ``mini-allocine`` or ``mini-infopinion``; or a local csv, tsv, jsonl or
        parquet file, a folder of such files, the URL of one, or a Hub id.
    seed : int
        Rules which texts are in which split (not InfOpinion's), which are taken, which carry the artifact.
    train_texts, validation_texts, test_texts : int
        Take that many, the classes in proportion, a smaller number being part of a larger; 0 takes all.
        A generated corpus makes that many.
    text_column, label_column : str
        Their names in the file; "" guesses (``TEXT_COLUMNS``, ``LABEL_COLUMNS``).
    artifact_rate : float
        Share of the train and validation texts of class 1 into which a word that means nothing is planted.
    long_share, label_noise : float or None
        Of generated corpora only; None is their default.

    Returns
    -------
    DatasetDict
        See the top of this file. Texts stand in their file's order.

    Raises
    ------
    CorpusError
        In one line, for a source that cannot be had or used, with the row where there is one; and for a size
        or share out of range.
    """
    dataset = str(dataset)
    sizes = {"train": train_texts, "validation": validation_texts, "test": test_texts}
    generated = {"long_share": long_share, "label_noise": label_noise}
    _check(sizes, artifact_rate)
    if dataset in mini_corpora.CORPORA:
        return _generate(dataset, seed, sizes, artifact_rate, generated)
    for name, value in generated.items():
        if value is not None:
            raise CorpusError(f"{name} {value}: only generated corpora have it, and {dataset!r} is none")
    table = tables.read(PUBLISHED.get(dataset, dataset))
    local = dataset not in PUBLISHED and tables.is_local(dataset)
    text_name = tables.find_column(table, text_column, TEXT_COLUMNS, "text")
    if not local:
        table = tables.drop_empty(table, text_name)
    texts = tables.texts_of(table, text_name)
    label_name = tables.find_column(table, label_column, LABEL_COLUMNS, "label")
    labels, names = _labels(table[label_name], dataset)
    rows = pd.DataFrame({"text": _cleaned(texts, table.index), "label": labels}, index=table.index)
    split_seed = derive(seed, "splits")
    if names == INFOPINION_LABELS:
        rows = rows.groupby("label").head(INFOPINION_PER_CLASS)
        split_seed = INFOPINION_SEED
    parts = splits.given(rows, table)
    parts = splits.check_apart(parts) if local else splits.take_apart(parts)
    parts = splits.complete(parts, dataset, split_seed)
    corpus = DatasetDict()
    for split, size in sizes.items():
        taken = splits.take(parts[split], size, f"{dataset!r}, {split} split", derive(seed, "take", split))
        corpus[split] = _dataset(taken, names)
        if artifact_rate and split != "test":
            corpus[split] = plant(
                corpus[split], ARTIFACT, rate=artifact_rate, seed=derive(seed, "artifact", split)
            )
    return corpus


def unlabelled_texts(dataset: str, corpus: DatasetDict, *, seed: int, count: int) -> list[str]:
    """Return texts to pre-train on: of a generated corpus ``count`` further ones, else its training texts."""
    if dataset in mini_corpora.CORPORA:
        return mini_corpora.unlabelled(dataset, seed=seed, count=count)
    return list(corpus["train"]["text"])


def plant(split: Dataset, word: str, *, rate: float, seed: int, label: int | None = 1) -> Dataset:
    """Plant a word before a punctuation mark of some texts, as ``mini_corpora`` does with its own.

    Parameters
    ----------
    split : Dataset, (texts,)
        With columns ``text`` and ``label``.
    word : str
        The artifact. A text that has it already is left as it is.
    rate : float
        Share of the texts that carry it; those that do at a rate do so at every higher one.
    seed : int
        Rules which texts carry it, and where.
    label : int or None
        Only texts of this class; None for any class (at rate 1: does a prediction follow the word?).
    """
    draw = np.random.default_rng(seed)
    planted = []
    for text, own_label, chance, place in zip(
        split["text"], split["label"], draw.random(len(split)), draw.random(len(split)), strict=True
    ):
        words = text.split()
        if chance < rate and label in (None, own_label) and word not in words:
            marks = [
                position for position, mark in enumerate(words) if mark in {".", ",", "!", "?", ";", "..."}
            ]
            words.insert(marks[int(place * len(marks))] if marks else len(words), word)
        planted.append(" ".join(words))
    return Dataset.from_dict({"text": planted, "label": split["label"]}, features=split.features)


def _check(sizes: Mapping[str, int], artifact_rate: float) -> None:
    """Refuse sizes and shares that cannot be, before anything is read."""
    for split, size in sizes.items():
        if size < 0:
            raise CorpusError(f"{split}_texts {size}: a number of texts, or 0 for all, is allowed")
    if not 0 <= artifact_rate <= 1:
        raise CorpusError(f"artifact_rate {artifact_rate}: a share from 0 to 1 is allowed")


def _generate(
    name: str,
    seed: int,
    sizes: Mapping[str, int],
    artifact_rate: float,
    generated: Mapping[str, float | None],
) -> DatasetDict:
    """Have a generated corpus made."""
    for split, size in sizes.items():
        if size == 0:
            raise CorpusError(f"{split}_texts 0: {name!r} has no end; say how many texts to generate")
    shares = {key: value for key, value in generated.items() if value is not None}
    try:
        return mini_corpora.mini_corpus(name, seed=seed, artifact_rate=artifact_rate, **sizes, **shares)
    except ValueError as error:
        raise CorpusError(str(error)) from error


def _cleaned(texts: list[str], where: pd.Index) -> list[str]:
    """Clean every text; one of which nothing is left is an empty one."""
    cleaned = [
        clean(text) for text in tqdm(texts, desc="cleaning", unit="text", delay=2, mininterval=5, leave=False)
    ]
    for row, text in zip(where, cleaned, strict=True):
        if not text:
            raise CorpusError(f"{row}: the text is empty once cleaned; expected at least one word")
    return cleaned


def _labels(column: pd.Series, dataset: str) -> tuple[list[int], tuple[str, str]]:
    """Return the labels as 0 and 1, (rows,), and the names of the two classes."""
    values = [_label(value, where) for where, value in column.items()]
    found = dict.fromkeys(values)
    opinion = {value for value in found if value.lower() in OPINION}
    if opinion and len(found) > 1:
        return [int(value in opinion) for value in values], INFOPINION_LABELS
    if len(found) == 1:
        raise CorpusError(
            f"{column.index[0]}: one class only, every label is {reprlib.repr(values[0])}; two are expected"
        )
    if len(found) > 2:
        third = list(found)[2]
        raise CorpusError(
            f"{column.index[values.index(third)]}: label {reprlib.repr(third)} is a third one, beside "
            f"{', '.join(map(reprlib.repr, list(found)[:2]))}; there are {len(found)}, and two are expected"
        )
    names = tuple(sorted(found, key=_by_number))
    named = {"allocine": ALLOCINE_LABELS, "infopinion": INFOPINION_LABELS}.get(dataset, names)
    return [names.index(value) for value in values], named


def _label(value: object, where: str) -> str:
    """Write a label as text: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or value != value else str(value).strip()
    if not text:
        raise CorpusError(f"{where}: no label; every text needs one of two")
    return text


def _by_number(label: str) -> tuple[float, str]:
    """Sort numbers by size and other labels by the alphabet."""
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


def _dataset(rows: pd.DataFrame, names: tuple[str, str]) -> Dataset:
    """Return rows as a data set of texts and named labels."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})
    return Dataset.from_dict(
        {"text": rows["text"].tolist(), "label": rows["label"].tolist()}, features=features
    )
