"""Turn a data set's splits into the corpus that runs receive: whole, reduced, or with an artifact planted."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from lib.corpus import Corpus, Planted
from lib.models import load_tokenizer
from lib.precision import Precision, RelevancePrecision
from lib.texts.cleaning import Language, cut_to_sentence_end
from lib.texts.corpora import INFOPINION_LABELS
from lib.texts.generated.grammar import load_grammar
from lib.texts.generated.mini_corpora import CORPORA
from lib.texts.splits import check_classes, take
from lib.texts.tables import CorpusError
from lib.words import tokenize

ARTIFACTS: dict[Language, str] = {"French": "jeudi", "English": "thursday"}
"""Planted into real texts: a weekday is evidence for neither class."""

MARKS = frozenset({".", ",", "!", "?", ";", "..."})
"""An artifact is planted before one of these."""


def corpus_of(
    splits: DatasetDict,
    *,
    model: Path | str,
    explained: int,
    max_length: int,
    device: torch.device | str,
    precision: Precision = "float32",
    relevance_precision: RelevancePrecision = "float32",
) -> Corpus:
    """Return the corpus of a data set.

    Texts of the classes information and opinion (InfOpinion's) are cut back to the last sentence end that
    fits, as in the authors' code.

    Parameters
    ----------
    splits : DatasetDict
        Splits train and test, columns ``text`` and ``label``.
    model : str or Path
        The folder of the pre-trained encoder.
    explained : int
        The first this many test texts are explained; 0 explains all.
    max_length : int
        Word pieces per text.
    device : torch.device or str
        Where to compute.
    precision, relevance_precision : str
        How precisely: see `lib.corpus.Corpus`.

    Raises
    ------
    CorpusError
        For a text of which not even the first word fits: an explained one, or any of information and opinion.
    """
    train, test = splits["train"], splits["test"]
    count = min(explained or len(test), len(test))
    corpus = Corpus(
        model=str(model),
        train_texts=_fitting(train, model, max_length),
        train_labels=list(train["label"]),
        test_texts=_fitting(test, model, max_length),
        test_labels=list(test["label"]),
        explained=list(range(count)),
        max_length=max_length,
        device=str(device),
        precision=precision,
        relevance_precision=relevance_precision,
    )
    for index, tokens in zip(corpus.explained, corpus.tokens(load_tokenizer(model)), strict=True):
        if not tokens.words:
            raise CorpusError(
                f"test text {index} has no word to explain: the first one does not fit into "
                f"max_length = {max_length}: {corpus.test_texts[index][:60]!r}"
            )
    return corpus


def smaller(corpus: Corpus, count: int, *, explained: int, seed: int) -> Corpus:
    """Return a corpus with at most ``count`` training texts, sampled by class.

    Parameters
    ----------
    corpus : Corpus
        The whole corpus.
    count : int
        Training texts to keep; 0 keeps all.
    explained : int
        Explained texts to keep; 0 keeps all.
    seed : int
        Determines which training texts are kept.

    Raises
    ------
    CorpusError
        If ``count`` is too small to hold both classes.
    """
    rows = pd.DataFrame({"text": corpus.train_texts, "label": corpus.train_labels})
    kept = take(rows, min(count, len(rows)), "training texts", seed)
    check_classes(kept, "training texts", ("0", "1"))
    return replace(
        corpus,
        train_texts=kept["text"].tolist(),
        train_labels=kept["label"].tolist(),
        explained=corpus.explained[: explained or None],
    )


def plant_artifact(
    corpus: Corpus, dataset: str, rates: Sequence[float], *, seed: int, language: Language = "French"
) -> Planted:
    """Plant a meaningless word into the training texts of class 1, at each of several rates.

    In a text that is longer than what the encoder reads, the word stands where it is read.

    Parameters
    ----------
    corpus : Corpus
        The clean texts.
    dataset : str
        Determines the word: a generated corpus has its own, real texts get that of their language
        (``ARTIFACTS``).
    rates : sequence of float
        Shares of the training texts of class 1 that carry the word.
    seed : int
        Determines which texts carry it, and where.
    language : {"French", "English"}
        Of real texts.
    """
    word = load_grammar(dataset).artifact if dataset in CORPORA else ARTIFACTS[language]
    read = _words_before(corpus.train_texts, word, corpus)
    corpora = {}
    for rate in rates:
        texts = plant(corpus.train_texts, corpus.train_labels, word, read=read, rate=rate, seed=seed)
        corpora[rate] = replace(corpus, train_texts=texts)
    read = _words_before(corpus.test_texts, word, corpus)
    planted_tests = plant(
        corpus.test_texts, corpus.test_labels, word, read=read, rate=1.0, seed=seed, label=None
    )
    return Planted(word, corpora, planted_tests)


def plant(
    texts: Sequence[str],
    labels: Sequence[int],
    word: str,
    *,
    read: Sequence[int],
    rate: float,
    seed: int,
    label: int | None = 1,
) -> list[str]:
    """Return texts, (texts,), some of which have a word planted before a punctuation mark.

    Parameters
    ----------
    texts, labels : sequence, (texts,)
        Words separated by single spaces, and the classes.
    word : str
        The artifact. A text that already contains it is left unchanged.
    read : sequence of int, (texts,)
        The most words of each text that can stand before the artifact.
    rate : float
        Share of the texts that carry it; texts that carry it at one rate do so at every higher rate.
    seed : int
        Determines which texts carry it, and where.
    label : int or None
        Only texts of this class; None for any class (at rate 1: does a prediction follow the word?).
    """
    draw = np.random.default_rng(seed)
    planted = []
    chances, places = draw.random(len(texts)), draw.random(len(texts))
    for text, own_label, most, chance, place in zip(texts, labels, read, chances, places, strict=True):
        words = text.split()
        if chance < rate and label in (None, own_label) and word not in words:
            marks = [position for position, mark in enumerate(words[: most + 1]) if mark in MARKS]
            words.insert(marks[int(place * len(marks))] if marks else most, word)
        planted.append(" ".join(words))
    return planted


def longer_texts(splits: Iterable[DatasetDict], *, model: Path | str, max_length: int) -> str:
    """Say which share of the training and test texts is longer than what an encoder reads.

    Parameters
    ----------
    splits : iterable of DatasetDict
        Data sets with the splits train and test, column ``text``.
    model : str or Path
        The folder of the encoder, whose tokenizer makes the pieces.
    max_length : int
        Word pieces that are read of a text.

    Returns
    -------
    str
        Such as "1.2 % of the texts are longer", or "no text is longer".
    """
    tokenizer = load_tokenizer(model)
    longer: list[bool] = []
    for data in splits:
        for split in ("train", "test"):
            longer += _is_longer(list(data[split]["text"]), tokenizer, max_length)
    return f"{100 * np.mean(longer):.3g} % of the texts are longer" if any(longer) else "no text is longer"


def _words_before(texts: Sequence[str], word: str, corpus: Corpus) -> list[int]:
    """Return how many words of each text can stand before a word that the encoder is to read, (texts,).

    All words of a text that fits.
    """
    tokenizer = load_tokenizer(corpus.model)
    most = [len(text.split()) for text in texts]
    is_longer = _is_longer(texts, tokenizer, corpus.max_length)
    long = [index for index, longer in enumerate(is_longer) if longer]
    if long:
        pieces = len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"])
        room = max(corpus.max_length - pieces, tokenizer.num_special_tokens_to_add())
        before = tokenize([texts[index] for index in long], tokenizer, room)
        for index, tokens in zip(long, before, strict=True):
            most[index] = len(tokens.words)
    return most


def _is_longer(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[bool]:
    """Return whether each text has more pieces than are read, (texts,)."""
    longer: list[bool] = []
    for first in range(0, len(texts), 1_000):  # at a time: the pieces of all texts would need much memory
        pieces = tokenizer(list(texts[first : first + 1_000]), verbose=False)["input_ids"]
        longer += [len(of_text) > max_length for of_text in pieces]
    return longer


def _fitting(split: Dataset, model: Path | str, max_length: int) -> list[str]:
    """Return a split's texts; those of information and opinion end with the last sentence that fits."""
    texts = list(split["text"])
    if tuple(split.features["label"].names) != INFOPINION_LABELS:
        return texts
    tokenizer = load_tokenizer(model)
    try:
        return [cut_to_sentence_end(text, tokenizer, max_length) for text in texts]
    except ValueError as error:
        raise CorpusError(str(error)) from None
