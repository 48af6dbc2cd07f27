"""Runs that measure reliance on an artifact: a planted word that goes with a class and means nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.explanations import Corpus, relevance
from lib.finetuning import encode
from lib.models import load_classifier, load_tokenizer
from lib.paper1.runs import HeadTraining, Result, train_on_frozen, tuned
from lib.runs.records import Record
from lib.texts.corpora import ARTIFACT, plant
from lib.texts.generated.grammar import load_grammar
from lib.texts.generated.mini_corpora import CORPORA
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
        A generated corpus has a word of its own for this; real texts get ``lib.texts.corpora.ARTIFACT``.
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


def artifact_run(*, kind: str, **settings: Any) -> Result:
    """Carry out `finetuned_reliance` or `frozen_reliance`, so that one sweep holds runs of both kinds.

    Parameters
    ----------
    kind : str
        ``fine-tuned`` or ``frozen``.
    **settings
        Those of that run.
    """
    return {"fine-tuned": finetuned_reliance, "frozen": frozen_reliance}[kind](**settings)


def finetuned_reliance(
    *,
    seed: int,
    rate: float,
    artifact: str,
    training: Mapping[str, Any],
    corpora: Mapping[str, Corpus],
    planted_texts: Sequence[str],
) -> Result:
    """Fine-tune on texts with a planted artifact, and see what the model makes of it.

    Parameters
    ----------
    seed : int
        Of everything drawn.
    rate : float
        Tells the corpus to train on.
    artifact : str
        The planted word.
    training : mapping
        ``epochs``, ``learning_rate`` and so on of `lib.finetuning.fine_tune`.
    corpora, planted_texts
        As `artifact_corpora` returns them.

    Returns
    -------
    dict
        ``clean`` and ``planted`` (1, test texts), the classes predicted without the artifact and with it;
        ``accuracy`` (1,), without it; ``relevance`` (1, explained texts), the artifact's share of a planted
        text's relevance.
    """
    corpus = corpora[str(rate)]
    tokenizer = load_tokenizer(corpus.model)
    model, _ = tuned(corpus, tokenizer, seed=seed, training=training)
    clean, planted = (
        encode(model, tokenizer, texts, max_length=corpus.max_length).predicted
        for texts in (corpus.test_texts, planted_texts)
    )
    share = _artifact_share(model, tokenizer, corpus, artifact, planted_texts, planted)
    return _result(corpus, clean[None], planted[None], share[None])


def frozen_reliance(
    *,
    seed: int,
    seeds: Sequence[int],
    rate: float,
    artifact: str,
    head: Sequence[Any],
    corpora: Mapping[str, Corpus],
    planted_texts: Sequence[str],
) -> Result:
    """Train the frozen heads of all seeds on texts with a planted artifact; see what each makes of it.

    Parameters
    ----------
    seed : int
        The first of ``seeds``.
    seeds : sequence of int
        Of the heads.
    head : (epochs, learning rate, batch size)
        How a head is trained.
    rate, artifact, corpora, planted_texts
        As in `finetuned_reliance`.

    Returns
    -------
    dict
        As `finetuned_reliance` returns it, with as many rows as there are seeds.
    """
    corpus = corpora[str(rate)]
    tokenizer = load_tokenizer(corpus.model)
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    trained = train_on_frozen(model, tokenizer, corpus, seeds, HeadTraining(*head))
    embeddings = encode(model, tokenizer, planted_texts, max_length=corpus.max_length).embeddings
    planted = trained.heads.predicted(embeddings)  # (seeds, test texts)
    shares = []
    for row, predicted in enumerate(planted):
        trained.heads.install(row, model)
        shares.append(_artifact_share(model, tokenizer, corpus, artifact, planted_texts, predicted))
    return _result(corpus, trained.predicted, planted, np.stack(shares))


def reliance(record: Record) -> list[dict[str, Any]]:
    """Return a row for each seed of a run.

    ``reliance`` is the share of the clean texts predicted as class 0 that the artifact, planted, turns to
    class 1; NaN where none was predicted as class 0.
    """
    rows = []
    for number, seed in enumerate(record.settings.get("seeds", [record.settings["seed"]])):
        turned = record["planted"][number][record["clean"][number] == 0]
        rows.append(
            {
                "rate": record.settings["rate"],
                "seed": seed,
                "model": record.settings["kind"],
                "reliance": float(turned.mean()) if len(turned) else float("nan"),
                "relevance": float(record["relevance"][number].mean()),
                "accuracy": float(record["accuracy"][number]),
            }
        )
    return rows


def _artifact_share(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    artifact: str,
    planted_texts: Sequence[str],
    predicted: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Weigh the artifact among the words of the explained texts, for the classes predicted: (explained,)."""
    tokens = tokenize([planted_texts[index] for index in corpus.explained], tokenizer, corpus.max_length)
    words, values = texts_to_words(tokens, relevance(model, tokens, predicted[corpus.explained]))
    shares = [
        normalise(row, 0)[np.array(text) == artifact].sum() for text, row in zip(words, values, strict=True)
    ]  # a text's relevances sum to 1
    return np.array(shares, np.float32)


def _result(
    corpus: Corpus,
    clean: NDArray[np.integer],
    planted: NDArray[np.integer],
    share: NDArray[np.float32],
) -> Result:
    """Name what a run found: (seeds, test texts) twice, then (seeds, explained texts)."""
    return {
        "clean": clean.astype(np.uint8),
        "planted": planted.astype(np.uint8),
        "accuracy": np.mean(clean == np.array(corpus.test_labels), axis=1),
        "relevance": share,
    }
