"""Load classification texts: Allociné, InfOpinion, the generated corpora, or a user's own file.

Every source becomes a ``DatasetDict`` with the splits train, validation and test and the columns ``text``
(cleaned) and ``label`` (0 or 1, with names); generated corpora have further columns
(`lib.texts.generated.mini_corpora`).
"""

import logging
import reprlib
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from tqdm.auto import tqdm

from lib.seeding import derive
from lib.texts import splits, tables
from lib.texts.cleaning import Language, clean
from lib.texts.generated import mini_corpora
from lib.texts.tables import CorpusError

logger = logging.getLogger(__name__)

PUBLISHED = {
    "allocine": "tblard/allocine",
    "infopinion": "https://raw.githubusercontent.com/jebogaert/Fine-tuning_analysis/main/InfOpinion_dataset.csv",
}
GENERATED = "mini-"  # begins the names of generated data sets
TEXT_COLUMNS = ("text_clean", "text", "review", "texte", "content", "sentence")
LABEL_COLUMNS = ("label", "labels", "class", "classe", "target", "sentiment")
ALLOCINE_LABELS = ("negative", "positive")
INFOPINION_LABELS = ("information", "opinion")
INFOPINION_COLUMN = "text_clean"  # of the texts in the authors' file
OPINION = frozenset({"chron", "opinion"})  # its names in the authors' file; any other label is information
INFOPINION_PER_CLASS = 5_000


def load_classification(
    dataset: str | Path,
    *,
    seed: int,
    train_texts: int = 0,
    validation_texts: int = 0,
    test_texts: int = 0,
    language: Language = "French",
    apart_from: str = "",
) -> DatasetDict:
    """Load a corpus of two classes, cleaned and split.

    Given splits are kept, and a missing one is cut from the train split; a source without splits is cut
    80/10/10, stratified by class (InfOpinion as its authors do: 4,000/500/500 of each class's first 5,000
    texts; see `is_infopinion`). Repeated texts are left out before a cut, and a line says how many, and how
    many of them have another label than the first, which is kept. A text in two splits is an error in a local
    file; in a published data set it is removed from the larger split.

    Texts stay in file order, with one exception: if a validation or test split is sorted by class (all texts
    of one class, then all of the other), its texts are shuffled, and a line says so. Otherwise the first of
    them, which are explained and drawn, would all be of one class.

    Parameters
    ----------
    dataset : str or Path
        ``allocine``, ``infopinion``, ``mini-allocine`` or ``mini-infopinion``; or a local csv, tsv, jsonl or
        parquet file, a folder of such files, the URL of one, or a Hub id.
    seed : int
        Determines which texts are in which split (except InfOpinion's), which are sampled, and the order of
        a split that is shuffled.
    train_texts, validation_texts, test_texts : int
        Sample this many texts, stratified by class; 0 takes all. A generated corpus generates this many.
    language : {"French", "English"}
        Of a file or a Hub data set; the named ones are French, also by their Hub id or URL.
    apart_from : str
        Another data set; texts that stand there, too, are left out here before the split, and a line says how
        many. Upper and lower case, and the amount of white space, make no difference.

    Returns
    -------
    DatasetDict
        As described at the top of this module.

    Raises
    ------
    CorpusError
        In one line, with the row where there is one: for a source that is unavailable or unusable, for a
        size out of range, and for a train or test split of a size that leaves it without one of the classes
        (of validation texts nothing but the accuracy is used).
    """
    dataset = str(dataset)
    sizes = {"train": train_texts, "validation": validation_texts, "test": test_texts}
    for split, size in sizes.items():
        if size < 0:
            raise CorpusError(f"{split}_texts = {size}; allowed: a number of texts, or 0 for all")
    if dataset in mini_corpora.CORPORA:
        return _generate(dataset, seed, sizes)
    if dataset.partition("@")[0] in {*PUBLISHED, *PUBLISHED.values()}:
        language = "French"
    table, texts = read_texts(dataset)
    if apart_from and apart_from not in mini_corpora.CORPORA:
        kept = _not_in(apart_from, texts)
        if not any(kept):
            raise CorpusError(
                f"{dataset!r}: all {len(texts)} texts are in {apart_from!r}, too; expected other texts"
            )
        if not all(kept):
            logger.warning(
                "%s: %d texts left out that are in %s, too", dataset, kept.count(False), apart_from
            )
        table, texts = table[kept], list(compress(texts, kept))
    labels, names = labels_of(table, dataset)
    rows = pd.DataFrame({"text": _cleaned(texts, table.index, language), "label": labels}, index=table.index)
    parts = splits.given(rows, table)
    parts = splits.check_apart(parts) if is_local(dataset) else splits.take_apart(parts)
    sorted_by_class = splits.sorted_by_class(parts)
    if list(parts) == ["train"] and is_infopinion(table, dataset):
        parts = splits.infopinion_splits(parts["train"].groupby("label").head(INFOPINION_PER_CLASS))
    parts = splits.complete(parts, dataset, derive(seed, "splits"))
    corpus = DatasetDict()
    for split, size in sizes.items():
        taken = splits.take(parts[split], size, f"{dataset!r}, {split} split", derive(seed, "take", split))
        if split != "validation":
            splits.check_classes(taken, f"{dataset!r}, {split} split", names)
        if split != "train" and split in sorted_by_class:
            logger.warning("%s: the %s split is sorted by class, so its texts are shuffled", dataset, split)
            taken = taken.sample(frac=1, random_state=derive(seed, "order", split))
        corpus[split] = _dataset(taken, names)
    return corpus


def is_local(dataset: str) -> bool:
    """Whether a data set is a local file or folder, in which a faulty row is an error, not left out."""
    return dataset not in PUBLISHED and tables.is_local(dataset)


def read_texts(dataset: str) -> tuple[pd.DataFrame, list[str]]:
    """Read a data set that is not generated: its rows, and the text of each as it stands there, (rows,).

    Parameters
    ----------
    dataset : str
        As for `load_classification`. Rows without a text are left out unless the data set is local.

    Raises
    ------
    CorpusError
        In one line, for a source that is unavailable, or a row or a column that is missing.
    """
    table = tables.read(PUBLISHED.get(dataset, dataset))
    text_name = tables.find_column(table, TEXT_COLUMNS, "text")
    if not is_local(dataset):
        table = tables.drop_empty(table, text_name)
    return table, tables.texts_of(table, text_name)


def fetch_dataset(dataset: str) -> Path | None:
    """Return the file or folder of a data set, fetched if necessary; None for one that is generated.

    Raises
    ------
    CorpusError
        In one line, for a source that is unavailable.
    """
    if dataset.startswith(GENERATED) and "/" not in dataset and not tables.is_local(dataset):
        return None
    return tables.locate(PUBLISHED.get(dataset, dataset))


def pretraining_texts(
    datasets: Sequence[str], corpora: Mapping[str, DatasetDict], *, seed: int, count: int
) -> list[str]:
    """Collect unlabelled texts to pre-train an encoder on, shuffled.

    Parameters
    ----------
    datasets : sequence of str
        Generated corpora each give ``count`` texts that are in none of their labelled splits; any other data
        set gives its training texts.
    corpora : mapping of str to DatasetDict
        The loaded data sets, by name; generated ones may be missing.
    seed : int
        Determines the generated texts and the order.
    count : int
        Texts of each generated corpus.
    """
    texts: list[str] = []
    for dataset in datasets:
        if dataset in mini_corpora.CORPORA:
            texts += mini_corpora.unlabelled(dataset, seed=seed, count=count)
        else:
            texts += corpora[dataset]["train"]["text"]
    return [texts[index] for index in np.random.default_rng(seed).permutation(len(texts))]


def _generate(name: str, seed: int, sizes: Mapping[str, int]) -> DatasetDict:
    """Generate a corpus."""
    for split, size in sizes.items():
        if size == 0:
            raise CorpusError(f"{split}_texts = 0: {name!r} is endless; give the number of texts to generate")
    return mini_corpora.mini_corpus(
        name, seed=seed, train=sizes["train"], validation=sizes["validation"], test=sizes["test"]
    )


def _not_in(dataset: str, texts: Sequence[str]) -> list[bool]:
    """Return which texts, (texts,), are not in another data set."""
    _, found = read_texts(dataset)
    others = set(map(_compared, found))
    return [_compared(text) not in others for text in texts]


def _compared(text: str) -> str:
    return " ".join(text.casefold().split())


def _cleaned(texts: list[str], where: pd.Index, language: Language) -> list[str]:
    """Clean every text and check that something is left of it."""
    shown = tqdm(texts, desc="cleaning", unit="text", delay=2, mininterval=5, leave=False)
    cleaned = [clean(text, language) for text in shown]
    for row, text in zip(where, cleaned, strict=True):
        if not text:
            raise CorpusError(f"{row}: the text is empty after cleaning; expected at least one word")
    return cleaned


def is_infopinion(table: pd.DataFrame, dataset: str) -> bool:
    """Whether a data set is InfOpinion: by its name, or by the columns and the label of the authors' file.

    A label ``chron`` or ``opinion`` alone does not make a file InfOpinion: its texts must stand in a column
    ``text_clean``.
    """
    if dataset == "infopinion":
        return True
    labels = table[tables.find_column(table, LABEL_COLUMNS, "label")]
    return INFOPINION_COLUMN in table and any(str(label).strip().lower() in OPINION for label in labels)


def labels_of(table: pd.DataFrame, dataset: str) -> tuple[list[int], tuple[str, str]]:
    """Return the labels as 0 or 1, (rows,), and the names of the two classes."""
    column = table[tables.find_column(table, LABEL_COLUMNS, "label")]
    values = [_label(value, where) for where, value in column.items()]
    found = dict.fromkeys(values)
    if is_infopinion(table, dataset):
        opinion = {value for value in found if value.lower() in OPINION}
        if opinion and len(found) > 1:
            return [int(value in opinion) for value in values], INFOPINION_LABELS
    if len(found) == 1:
        raise CorpusError(
            f"{column.index[0]}: every label is {reprlib.repr(values[0])}; expected two classes"
        )
    if len(found) > 2:
        third = list(found)[2]
        raise CorpusError(
            f"{column.index[values.index(third)]}: label {reprlib.repr(third)} is the third of {len(found)} "
            f"classes, after {', '.join(map(reprlib.repr, list(found)[:2]))}; expected two"
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        order = [_label(name, dataset) for name in column.cat.categories]
        first, second = sorted(found, key=order.index)
    else:
        first, second = sorted(found, key=_by_number)
    names = {"allocine": ALLOCINE_LABELS, "infopinion": INFOPINION_LABELS}.get(dataset, (first, second))
    return [int(value == second) for value in values], names


def _label(value: object, where: str) -> str:
    """Return a label as text: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or value != value else str(value).strip()
    if not text:
        raise CorpusError(f"{where}: no label; expected one of two classes")
    return text


def _by_number(label: str) -> tuple[float, str]:
    """Sort numbers by value and other labels alphabetically, after the numbers."""
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
