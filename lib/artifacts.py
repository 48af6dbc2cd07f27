"""Runs that measure reliance on an artifact: a planted word that goes with a class and means nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.comparison import HeadTraining, Result, train_on_frozen, tuned
from lib.corpora import ARTIFACT, plant
from lib.explanations import Corpus, relevance
from lib.finetuning import encode
from lib.grammar import load_grammar
from lib.mini_corpora import CORPORA
from lib.models import load_classifier, load_tokenizer
from lib.records import Record
from lib.words import normalise, texts_to_words, tokenize


def artifact_corpora(
    corpus: Corpus, dataset: str, rates: Sequence[float], *, seed: int
) -> tuple[dict[str, Corpus], str, list[str]]:
    """Plant a word that means nothing into the training texts of class 1, at each of several rates.

    Parameters
    ----------
    corpus : Corpus
        The clean texts.
    dataset : str
        A generated corpus has a word of its own for this; real texts get ``lib.corpora.ARTIFACT``.
    rates : sequence of float
        Shares of the training texts of class 1 that carry the word.
    seed : int
        Rules which texts carry it, and where.

    Returns
    -------
    dict of str to Corpus
        By rate, ``str(rate)``; the test texts stay clean.
    str
        The word.
    list of str, (test texts,)
        The test texts, each with the word planted.
    """
    word = load_grammar(dataset).artifact if dataset in CORPORA else ARTIFACT
    train, test = (
        Dataset.from_dict({"text": texts, "label": labels})
        for texts, labels in (
            (corpus.train_texts, corpus.train_labels),
            (corpus.test_texts, corpus.test_labels),
        )
    )
    planted = {
        str(rate): replace(corpus, train_texts=list(plant(train, word, rate=rate, seed=seed)["text"]))
        for rate in rates
    }
    return planted, word, list(plant(test, word, rate=1.0, seed=seed, label=None)["text"])


def artifact_run(
    *,
    seed: int,
    rate: float,
    artifact: str,
    head: Sequence[Any],
    training: Mapping[str, Any],
    corpora: Mapping[str, Corpus],
    planted_texts: Sequence[str],
) -> Result:
    """Fine-tune, and train a frozen head, on texts with a planted artifact; see what both make of it.

    Parameters
    ----------
    seed : int
        Of everything drawn.
    rate : float
        Tells the corpus to train on.
    artifact : str
        The planted word.
    head : (epochs, learning rate, batch size)
        How the frozen head is trained.
    training : mapping
        ``epochs``, ``learning_rate`` and so on of `lib.finetuning.fine_tune`.
    corpora, planted_texts
        As `artifact_corpora` returns them.

    Returns
    -------
    dict
        For each kind, ``finetuned`` and ``frozen``: ``<kind>/clean`` and ``<kind>/planted`` (test texts,),
        the predicted classes, ``<kind>/accuracy`` on the clean texts, and ``<kind>/relevance`` (explained
        texts,), the artifact's share of a planted text's relevance.
    """
    corpus = corpora[str(rate)]
    tokenizer = load_tokenizer(corpus.model)
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    train_on_frozen(model, tokenizer, corpus, [seed], HeadTraining(*head)).heads.install(0, model)
    frozen = _reliance(model, tokenizer, corpus, artifact, planted_texts)
    model, _ = tuned(corpus, tokenizer, seed=seed, training=training)
    finetuned = _reliance(model, tokenizer, corpus, artifact, planted_texts)
    return {f"frozen/{name}": value for name, value in frozen.items()} | {
        f"finetuned/{name}": value for name, value in finetuned.items()
    }


def reliance(record: Record) -> list[dict[str, Any]]:
    """Return a run's two rows, one a kind of model.

    ``reliance`` is the share of the clean texts predicted as class 0 that the artifact, planted, turns to
    class 1; NaN where none was predicted as class 0.
    """
    rows = []
    for model, kind in (("fine-tuned", "finetuned"), ("frozen", "frozen")):
        clean, planted = record[f"{kind}/clean"], record[f"{kind}/planted"]
        turned = planted[clean == 0]
        rows.append(
            {
                "rate": record.settings["rate"],
                "seed": record.settings["seed"],
                "model": model,
                "reliance": float(turned.mean()) if len(turned) else float("nan"),
                "relevance": float(record[f"{kind}/relevance"].mean()),
                "accuracy": record[f"{kind}/accuracy"],
            }
        )
    return rows


def _reliance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    artifact: str,
    planted_texts: Sequence[str],
) -> dict[str, Any]:
    """Compare the texts with and without the artifact, and weigh it among the words."""
    clean = encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length).predicted
    planted = encode(model, tokenizer, planted_texts, max_length=corpus.max_length).predicted
    tokens = tokenize([planted_texts[index] for index in corpus.explained], tokenizer, corpus.max_length)
    words, values = texts_to_words(tokens, relevance(model, tokens, planted[corpus.explained]))
    shares = [
        normalise(row, 0)[np.array(text) == artifact].sum() for text, row in zip(words, values, strict=True)
    ]  # a text's relevances sum to 1
    return {
        "accuracy": float(np.mean(clean == np.array(corpus.test_labels))),
        "clean": clean.astype(np.uint8),
        "planted": planted.astype(np.uint8),
        "relevance": np.array(shares, np.float32),
    }
