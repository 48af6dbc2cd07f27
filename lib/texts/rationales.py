"""Texts in which people marked the reasons: read, cleaned by word and mark, and cut to windows.

Marked reviews have hundreds of words, and an encoder reads few. A review is therefore represented by one
window: consecutive whole sentences around its marks.
"""

import logging
import reprlib
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import List as ListOf
from sklearn.model_selection import train_test_split
from transformers import PreTrainedTokenizerBase

from lib.models import load_tokenizer
from lib.seeding import derive
from lib.texts import splits, tables
from lib.texts.cleaning import QUOTE, SENTENCE_ENDS, Language, clean
from lib.texts.corpora import is_local, labels_of, read_texts
from lib.texts.tables import CorpusError

logger = logging.getLogger(__name__)

EVIDENCE_COLUMNS = ("evidence", "evidences", "rationale", "rationales")


class Marked(NamedTuple):
    """A text's words, and whether people marked each as a reason for its class: (words,) both."""

    words: list[str]
    marks: list[bool]


def load_rationales(
    source: str, *, seed: int, train_texts: int, explained_texts: int, language: Language = "French"
) -> DatasetDict:
    """Load texts of two classes with the words that people marked, cleaned and split.

    The marks stand in a column ``evidence`` (or ``evidences``, ``rationale``, ``rationales``) as a list: of
    pairs [first, last), positions of words between blanks; or of strings, each marked wherever it occurs in
    its text (ERASER's movie reviews on the Hub, DeYoung et al. 2020). Strings that are not found are left out
    of a published data set, with a line, and are an error in a local file. Of repeated texts the first is
    kept, and a line says how many are left out.

    Parameters
    ----------
    source : str
        A local jsonl or parquet file, a folder of such files, the URL of one, or a Hub id.
    seed : int
        Determines which texts are taken, and their order.
    train_texts, explained_texts : int
        How many. Both classes are sampled in proportion. If the source has a test split, the explained texts
        are from it, otherwise from the training split like the others; no text is in both.
    language : {"French", "English"}
        Of the texts.

    Returns
    -------
    DatasetDict
        Splits ``train`` and ``test`` (the explained texts), in random order; columns ``text`` (cleaned),
        ``label`` and ``marks``, one truth value for each of ``text.split()``.

    Raises
    ------
    CorpusError
        In one line, with the row where there is one.
    """
    table, raw = read_texts(source)
    local = is_local(source)
    evidence_name = tables.find_column(table, EVIDENCE_COLUMNS, "evidence")
    labels, names = labels_of(table, source)
    texts, marks, missing = [], [], 0
    for where, text, evidence in zip(table.index, raw, table[evidence_name], strict=True):
        words = text.split()
        marked, lost = _marks(words, evidence, where)
        if lost and local:
            raise CorpusError(f"{where}: evidence {reprlib.repr(lost[0])} does not occur in the text")
        missing += len(lost)
        cleaned = clean_marked(words, marked, language)
        if not cleaned.words:
            raise CorpusError(f"{where}: the text is empty after cleaning; expected at least one word")
        texts.append(" ".join(cleaned.words))
        marks.append(cleaned.marks)
    if missing:
        logger.warning(
            "%s: %d strings of evidence left out: they do not occur in their texts", source, missing
        )
    rows = pd.DataFrame({"text": texts, "label": labels, "marks": marks}, index=table.index)
    parts = splits.given(splits.distinct(rows, source), table)
    parts = splits.check_apart(parts) if local else splits.take_apart(parts)
    if "test" not in parts:
        parts = _cut(parts["train"], source, train_texts, explained_texts, seed)
    sizes = {"train": train_texts, "test": explained_texts}
    taken = {}
    for split, size in sizes.items():
        what = f"{source!r}, {split} split"
        part = splits.take(parts[split], size, what, derive(seed, "take", split))
        splits.check_classes(part, what, names)
        taken[split] = part.sample(frac=1, random_state=derive(seed, "order", split))
    return DatasetDict({split: _dataset(part, names) for split, part in taken.items()})


def clean_marked(words: Sequence[str], marks: Sequence[bool], language: Language = "French") -> Marked:
    """Clean words such that every cleaned word has the mark of the words that it comes from.

    Marked and unmarked stretches are cleaned separately: no cleaned word consists of words with different
    marks. The result differs from cleaning the whole text only where a number or an address with blanks in it
    is marked in part.

    Parameters
    ----------
    words, marks : sequence, (words,)
    language : {"French", "English"}
        Of the words.
    """
    cleaned, kept = [], []
    for marked, stretch in groupby(zip(words, marks, strict=True), key=lambda pair: bool(pair[1])):
        parts = clean(" ".join(word for word, _ in stretch), language).split()
        cleaned += parts
        kept += len(parts) * [marked]
    return Marked(cleaned, kept)


def windows(reviews: DatasetDict, *, model: Path | str, max_length: int) -> DatasetDict:
    """Cut every text to one window of consecutive whole sentences that fits and holds marks.

    Of all windows that fit, are as long as possible, and hold both marked and unmarked words, the one with
    the most marked words is taken; of several such, the first. A text without such a window is left out.

    Parameters
    ----------
    reviews : DatasetDict
        From `load_rationales`.
    model : str or Path
        The folder of the encoder, whose tokenizer decides what fits.
    max_length : int
        Word pieces, special ones included.

    Returns
    -------
    DatasetDict
        As given, with the windows in place of the texts.

    Raises
    ------
    CorpusError
        If a split is left with fewer than two texts, or with one class.
    """
    tokenizer = load_tokenizer(model)
    cut = DatasetDict()
    for split, texts in reviews.items():
        rows = []
        for text, label, marks in zip(texts["text"], texts["label"], texts["marks"], strict=True):
            window = _window(Marked(text.split(), list(marks)), tokenizer, max_length)
            if window is not None:
                rows.append({"text": " ".join(window.words), "label": label, "marks": window.marks})
        if len({row["label"] for row in rows}) < 2:
            raise CorpusError(
                f"rationales, {split} split: {len(rows)} of {len(texts)} texts have whole sentences with "
                f"marked and unmarked words within max_length = {max_length} pieces; both classes are "
                "required"
            )
        cut[split] = Dataset.from_list(rows, features=texts.features)
    return cut


def _marks(words: Sequence[str], evidence: object, where: str) -> tuple[list[bool], list[str]]:
    """Return which words are marked, (words,), and the strings of evidence that do not occur."""
    marks = np.zeros(len(words), dtype=bool)
    lost = []
    if not isinstance(evidence, list):
        raise CorpusError(
            f"{where}: evidence {reprlib.repr(evidence)}; expected a list of spans or of strings"
        )
    for item in evidence:
        if isinstance(item, str):
            found = _occurrences(words, item.split())
            if not found:
                lost.append(item)
        else:
            found = [_span(item, len(words), where)]
        for first, last in found:
            marks[first:last] = True
    return marks.tolist(), lost


def _occurrences(words: Sequence[str], sought: Sequence[str]) -> list[tuple[int, int]]:
    """Return every [first, last) at which a sequence of words occurs; none for an empty sequence."""
    length = len(sought)
    starts = range(len(words) - length + 1) if length else range(0)
    return [
        (start, start + length) for start in starts if list(words[start : start + length]) == list(sought)
    ]


def _span(item: object, words: int, where: str) -> tuple[int, int]:
    """Return a span of words once it is clear that it lies in the text."""
    if isinstance(item, list) and len(item) == 2 and all(type(place) is int for place in item):
        first, last = item
        if 0 <= first < last <= words:
            return first, last
    raise CorpusError(
        f"{where}: evidence {reprlib.repr(item)}; expected a string, or [first, last) within {words} words"
    )


def _cut(pool: pd.DataFrame, source: str, train_texts: int, explained_texts: int, seed: int) -> splits.Parts:
    """Take training texts and explained texts from one pool, stratified by class."""
    if train_texts + explained_texts > len(pool):
        raise CorpusError(
            f"{source!r}: {train_texts} texts to train on and {explained_texts} to explain requested, but "
            f"there are only {len(pool)}"
        )
    try:
        train, test = train_test_split(
            pool,
            train_size=train_texts,
            test_size=explained_texts,
            stratify=pool["label"],
            random_state=derive(seed, "splits"),
        )
    except ValueError as error:
        raise CorpusError(
            f"{source!r}: {train_texts} texts to train on and {explained_texts} to explain cannot both hold "
            "both classes"
        ) from error
    return {"train": train, "test": test}


def _dataset(rows: pd.DataFrame, names: tuple[str, str]) -> Dataset:
    """Return rows as a data set of texts, named labels and marks."""
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=list(names)), "marks": ListOf(Value("bool"))}
    )
    return Dataset.from_dict({name: rows[name].tolist() for name in features}, features=features)


def _window(text: Marked, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Marked | None:
    """Return the window of a text, or None if there is none: see `windows`."""
    bounds = _sentence_bounds(text.words)
    sentences = [" ".join(text.words[first:last]) for first, last in pairwise(bounds)]
    pieces = tokenizer(sentences, add_special_tokens=False, verbose=False)["input_ids"]
    room = max_length - tokenizer.num_special_tokens_to_add()
    reached = np.cumsum([0, *map(len, pieces)])  # pieces before each bound
    best, most = None, 0
    for start, first in enumerate(bounds[:-1]):
        end = int(np.searchsorted(reached, reached[start] + room, side="right")) - 1
        marks = text.marks[first : bounds[end]]
        if most < sum(marks) < len(marks):
            best, most = Marked(text.words[first : bounds[end]], marks), sum(marks)
    # A tokenizer may need another piece where sentences meet.
    if best is None or len(tokenizer(" ".join(best.words))["input_ids"]) > max_length:
        return None
    return best


def _sentence_bounds(words: Sequence[str]) -> list[int]:
    """Return where sentences begin and the last one ends: (sentences + 1,)."""
    ends = []
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        closed = word in SENTENCE_ENDS and following != QUOTE
        quoted = word == QUOTE and place > 0 and words[place - 1] in SENTENCE_ENDS
        if closed or quoted:
            ends.append(place + 1)
    return [0, *ends] if ends[-1:] == [len(words)] else [0, *ends, len(words)]
