"""What a trained classifier predicts, plain and quantised, and how relevant each word is to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib import attribution
from lib.finetuning import encode
from lib.lrp import token_relevance
from lib.models import load_tokenizer, model_fingerprint
from lib.quantization import quantize
from lib.seeding import fingerprint
from lib.words import Tokens, texts_to_words, tokenize

PLAIN = "plain"
LRP, AUTHORS_LRP = "lrp", "lrp_all_tokens"
AUTHORS_LENGTH = 512  # word pieces to which the authors' code pads every text
METHODS = {
    LRP: token_relevance,
    AUTHORS_LRP: partial(token_relevance, head="all_tokens"),
    "gradient_x_input": attribution.gradient_x_input,
    "integrated_gradients": attribution.integrated_gradients,
    "attention_rollout": attribution.attention_rollout,
    "attn_lrp": attribution.attn_lrp,
    "random": attribution.random_scores,
}


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
        """Take the texts of a data set; its first ``explained`` test texts are explained, 0 for all."""
        train, test = splits["train"], splits["test"]
        count = min(explained or len(test), len(test))
        return cls(
            model=model,
            train_texts=list(train["text"]),
            train_labels=list(train["label"]),
            test_texts=list(test["text"]),
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

    def tokens(self, tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Return the explained texts as pieces and the words that fit."""
        texts = [self.test_texts[index] for index in self.explained]
        return tokenize(texts, tokenizer, self.max_length)


def explain(
    model: PreTrainedModel, quantizations: Sequence[str], methods: Sequence[str], corpus: Corpus
) -> dict[str, NDArray]:
    """Test a model, plain and quantised, and measure how relevant each word is to what it predicts.

    Parameters
    ----------
    model : PreTrainedModel
        A trained classifier, not quantised.
    quantizations : sequence of str
        ``plain`` and formats of `lib.quantization.quantize`.
    methods : sequence of str
        Of `METHODS`; a quantised model is explained by the first alone.
    corpus : Corpus

    Returns
    -------
    dict
        For each quantisation q ``q/predicted``, (test texts,) classes, and for each method m ``q/m``,
        (words,), the relevance of all words of the explained texts in a row, as the method gives it.
    """
    tokenizer = load_tokenizer(corpus.model)
    tokens = corpus.tokens(tokenizer)
    result = {}
    for name in quantizations:
        explained = model.eval() if name == PLAIN else quantize(model, name)
        encoded = encode(explained, tokenizer, corpus.test_texts, max_length=corpus.max_length)
        result[f"{name}/predicted"] = encoded.predicted.astype(np.uint8)
        targets = encoded.predicted[corpus.explained]
        for method in methods if name == PLAIN else methods[:1]:
            result[f"{name}/{method}"] = word_relevance(explained, tokens, targets, method)
    return result


def word_relevance(
    model: PreTrainedModel, tokens: Sequence[Tokens], targets: NDArray[np.integer], method: str = LRP
) -> NDArray[np.float32]:
    """Return the relevance of the words of several texts in a row: (words of all texts,).

    Parameters
    ----------
    model : PreTrainedModel
    tokens : sequence of Tokens
        (texts,)
    targets : ndarray
        (texts,): the class that is explained.
    method : str
        Of `METHODS`. The authors' variant depends on the padding: texts are padded to 512 pieces, as in their
        code, or to as many as the model can read.
    """
    ids = [text.input_ids for text in tokens]
    length = min(AUTHORS_LENGTH, _readable(model)) if method == AUTHORS_LRP else None
    relevance = attribution.explain(METHODS[method], model, ids, targets=targets.tolist(), pad_to=length)
    return np.concatenate(texts_to_words(tokens, relevance)[1]).astype(np.float32)


def _readable(model: PreTrainedModel) -> int:
    """Return how many word pieces a model can read; RoBERTa's position numbers start at 2."""
    positions = model.base_model.embeddings.position_embeddings.num_embeddings
    return positions if model.config.model_type == "bert" else positions - model.config.pad_token_id - 1
