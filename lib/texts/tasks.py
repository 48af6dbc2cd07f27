"""Turn a data set's splits into the corpus that runs receive: whole, reduced, or with an artifact planted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset, DatasetDict

from lib.corpus import Corpus, Planted
from lib.models import load_tokenizer
from lib.precision import Precision, RelevancePrecision
from lib.texts.cleaning import Language, cut_to_sentence_end
from lib.texts.corpora import ARTIFACTS, INFOPINION_LABELS, plant
from lib.texts.generated.grammar import load_grammar
from lib.texts.generated.mini_corpora import CORPORA
from lib.texts.splits import take


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

    InfOpinion's texts are cut back to the last sentence end that fits, as in the authors' code.

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
    """
    train, test = splits["train"], splits["test"]
    count = min(explained or len(test), len(test))
    return Corpus(
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
        If ``count`` is 1, which cannot hold both classes.
    """
    rows = pd.DataFrame({"text": corpus.train_texts, "label": corpus.train_labels})
    kept = take(rows, min(count, len(rows)), "training texts", seed)
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

    Parameters
    ----------
    corpus : Corpus
        The clean texts.
    dataset : str
        Determines the word: a generated corpus has its own, real texts get that of their language
        (`lib.texts.corpora.ARTIFACTS`).
    rates : sequence of float
        Shares of the training texts of class 1 that carry the word.
    seed : int
        Determines which texts carry it, and where.
    language : {"French", "English"}
        Of real texts.
    """
    word = load_grammar(dataset).artifact if dataset in CORPORA else ARTIFACTS[language]
    train = Dataset.from_dict({"text": corpus.train_texts, "label": corpus.train_labels})
    test = Dataset.from_dict({"text": corpus.test_texts, "label": corpus.test_labels})
    corpora = {}
    for rate in rates:
        texts = list(plant(train, word, rate=rate, seed=seed)["text"])
        corpora[rate] = replace(corpus, train_texts=texts)
    planted_tests = list(plant(test, word, rate=1.0, seed=seed, label=None)["text"])
    return Planted(word, corpora, planted_tests)


def _fitting(split: Dataset, model: Path | str, max_length: int) -> list[str]:
    """Return a split's texts; those of InfOpinion are cut back to the last sentence end that fits."""
    texts = list(split["text"])
    if tuple(split.features["label"].names) != INFOPINION_LABELS:
        return texts
    tokenizer = load_tokenizer(model)
    return [cut_to_sentence_end(text, tokenizer, max_length) for text in texts]
