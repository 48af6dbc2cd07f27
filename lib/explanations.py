"""What a trained classifier predicts, plain and quantised, and how relevant each word is to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib import attribution
from lib.attribution import AUTHORS_LRP, LRP, METHODS
from lib.finetuning import classify, encode
from lib.models import load_tokenizer, model_fingerprint
from lib.quantization import PLAIN, quantize
from lib.seeding import fingerprint
from lib.texts.cleaning import cut_to_sentence_end
from lib.texts.corpora import INFOPINION_LABELS
from lib.texts.splits import take
from lib.words import Tokens, texts_to_words, tokenize

AUTHORS_LENGTH = 512  # word pieces to which the authors' code pads every text


@dataclass(frozen=True)
class Corpus:
    """What all runs share.

    Attributes
    ----------
    model : Path or str
        The pre-trained encoder.
    train_texts, train_labels, test_texts, test_labels : list
        (texts,)
    explained : list of int
        The test texts that are explained, by their place.
    max_length : int
        In word pieces.
    device : str
        Where to compute.
    """

    model: Path | str
    train_texts: list[str]
    train_labels: list[int]
    test_texts: list[str]
    test_labels: list[int]
    explained: list[int]
    max_length: int
    device: str

    @classmethod
    def from_splits(
        cls, splits: DatasetDict, *, model: Path | str, explained: int, max_length: int, device: torch.device
    ) -> "Corpus":
        """Take the texts of a data set; its first ``explained`` test texts are explained, 0 for all.

        Texts of InfOpinion that are too long end where a sentence does, as in the authors' code.
        """
        train, test = splits["train"], splits["test"]
        count = min(explained or len(test), len(test))
        return cls(
            model=model,
            train_texts=_fitting(train, model, max_length),
            train_labels=list(train["label"]),
            test_texts=_fitting(test, model, max_length),
            test_labels=list(test["label"]),
            explained=list(range(count)),
            max_length=max_length,
            device=str(device),
        )

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells this corpus from another in a run's key; the device is in the key anyway."""
        texts = [self.train_texts, self.train_labels, self.test_texts, self.test_labels, self.explained]
        return {
            "texts": fingerprint(texts),
            "model": model_fingerprint(self.model),
            "max_length": str(self.max_length),
        }

    def fewer(self, count: int, *, explained: int, seed: int) -> "Corpus":
        """Keep at most so many training texts, the classes in proportion, and explained ones; 0 keeps all."""
        rows = pd.DataFrame({"text": self.train_texts, "label": self.train_labels})
        kept = take(rows, min(count, len(rows)), "training texts", seed)
        texts, labels = kept["text"].tolist(), kept["label"].tolist()
        return replace(
            self, train_texts=texts, train_labels=labels, explained=self.explained[: explained or None]
        )

    def tokens(self, tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Return the explained texts as pieces and the words that fit."""
        texts = [self.test_texts[index] for index in self.explained]
        return tokenize(texts, tokenizer, self.max_length)


def explain(
    model: PreTrainedModel,
    quantizations: Sequence[str],
    methods: Mapping[str, int],
    corpus: Corpus,
    embeddings: dict[str, NDArray[np.float32]] | None = None,
) -> dict[str, NDArray]:
    """Test a model, plain and quantised, and measure how relevant each word is to what it predicts.

    Parameters
    ----------
    model : PreTrainedModel
        A trained classifier, not quantised.
    quantizations : sequence of str
        ``plain`` and formats of `lib.quantization.quantize`.
    methods : mapping of str to int
        Explanations of `lib.attribution.METHODS`, and how many of the explained texts each explains; a
        quantised model is explained by LRP alone.
    corpus : Corpus
    embeddings : dict, optional
        For models that differ in their heads alone: what the encoder makes of the test texts, for each
        quantisation (test texts, dim). What is not in it is computed and put there.

    Returns
    -------
    dict
        For each quantisation q ``q/predicted``, (test texts,) classes, and for each method m ``q/m``,
        (words,), the relevance of all words of the explained texts in a row, as the method gives it.
    """
    tokenizer = load_tokenizer(corpus.model)
    tokens = corpus.tokens(tokenizer)
    embeddings = {} if embeddings is None else embeddings
    result = {}
    for name in quantizations:
        explained = model.eval() if name == PLAIN else quantize(model, name)
        if name not in embeddings:
            encoded = encode(explained, tokenizer, corpus.test_texts, max_length=corpus.max_length)
            embeddings[name] = encoded.embeddings
        predicted = classify(explained, embeddings[name])
        result[f"{name}/predicted"] = predicted.astype(np.uint8)
        for method, texts in methods.items() if name == PLAIN else [(LRP, methods[LRP])]:
            targets = predicted[corpus.explained[:texts]]
            result[f"{name}/{method}"] = word_relevance(explained, tokens[:texts], targets, method)
    return result


def word_relevance(
    model: PreTrainedModel, tokens: Sequence[Tokens], targets: NDArray[np.integer], method: str = LRP
) -> NDArray[np.float32]:
    """Return the relevance of the words of several texts in a row, (words of all texts,): see `relevance`."""
    return flat_words(tokens, relevance(model, tokens, targets, method))


def flat_words(tokens: Sequence[Tokens], values: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Go from pieces to words, (texts,) of (tokens,), and put the words of all texts in a row: (words,)."""
    return np.concatenate(texts_to_words(tokens, values)[1]).astype(np.float32)


def relevance(
    model: PreTrainedModel, tokens: Sequence[Tokens], targets: NDArray[np.integer], method: str = LRP
) -> list[NDArray[np.floating]]:
    """Return the relevance of the pieces of several texts, special tokens included: (texts,) of (tokens,).

    Parameters
    ----------
    model : PreTrainedModel
    tokens : sequence of Tokens
        (texts,)
    targets : ndarray
        (texts,): the class that is explained.
    method : str
        Of `lib.attribution.METHODS`. The authors' fork depends on the padding: texts are padded to 512
        pieces, as in their code, or to as many as the model can read.
    """
    ids = [text.input_ids for text in tokens]
    length = min(AUTHORS_LENGTH, _readable(model)) if method == AUTHORS_LRP else None
    return attribution.explain(METHODS[method], model, ids, targets=targets.tolist(), pad_to=length)


def _fitting(split: Dataset, model: Path | str, max_length: int) -> list[str]:
    """Return a split's texts, those of InfOpinion cut back to the last sentence end that fits."""
    texts = list(split["text"])
    if tuple(split.features["label"].names) != INFOPINION_LABELS:
        return texts
    tokenizer = load_tokenizer(model)
    return [cut_to_sentence_end(text, tokenizer, max_length) for text in texts]


def _readable(model: PreTrainedModel) -> int:
    """Return how many word pieces a model can read; RoBERTa's position numbers start at 2."""
    positions = model.base_model.embeddings.position_embeddings.num_embeddings
    return positions if model.config.model_type == "bert" else positions - model.config.pad_token_id - 1
