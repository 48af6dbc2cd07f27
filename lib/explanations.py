"""What a trained classifier predicts, plain and quantised, and how relevant each word is to it."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lib import attribution
from lib.architectures import readable_pieces
from lib.attribution import AUTHORS_LRP, LRP, METHODS
from lib.corpus import Corpus
from lib.finetuning import classify, encode
from lib.models import load_tokenizer
from lib.precision import RelevancePrecision
from lib.quantization import PLAIN, quantize
from lib.words import Tokens, texts_to_words

AUTHORS_LENGTH = 512  # word pieces; the authors' code pads every text to this length

LABEL_LRP = "LRP-label"
"""LRP of a text's true class instead of the predicted one: the same target whatever a model predicts."""

EXPLANATIONS = (*METHODS, LABEL_LRP)
"""The names of what `explain` measures."""


def check_methods(methods: Mapping[str, int], allowed: Collection[str]) -> None:
    """Check which explanations a run asks for, and for how many texts each.

    Raises
    ------
    ValueError
        For a name that is not among the allowed ones, or for less than one text.
    """
    for name, texts in methods.items():
        if name not in allowed:
            raise ValueError(f"methods has {name!r}: allowed are {', '.join(allowed)}")
        if texts < 1:
            raise ValueError(f"methods has {name!r}: {texts} texts; at least 1 is required")


def explain(
    model: PreTrainedModel,
    quantizations: Sequence[str],
    methods: Mapping[str, int],
    corpus: Corpus,
    embeddings: dict[str, NDArray[np.float32]] | None = None,
) -> dict[str, NDArray]:
    """Test a model, plain and quantised, and measure how relevant each word is to each prediction.

    Parameters
    ----------
    model : PreTrainedModel
        A trained classifier, not quantised.
    quantizations : sequence of str
        ``plain`` and formats of `lib.quantization.quantize`.
    methods : mapping of str to int
        Names of `EXPLANATIONS`, and how many of the explained texts each explains. A quantised model is
        explained by LRP only, of the predicted and of the true class.
    corpus : Corpus
    embeddings : dict, optional
        For models that differ only in their heads: the encoder's embeddings of the test texts for each
        quantisation, (test texts, dim). Missing ones are computed and added.

    Returns
    -------
    dict
        For each quantisation q ``q/predicted``, (test texts,) classes; and for each method m ``q/m``,
        (words,), the method's relevance of all words of the explained texts, concatenated.
    """
    tokenizer = load_tokenizer(corpus.model)
    tokens, precision = corpus.tokens(tokenizer), corpus.relevance_precision
    labels = np.array(corpus.test_labels)
    embeddings = {} if embeddings is None else embeddings
    result: dict[str, NDArray] = {}
    for name in quantizations:
        explained = model.eval() if name == PLAIN else quantize(model, name)
        if name not in embeddings:
            encoded = encode(explained, tokenizer, corpus.test_texts, max_length=corpus.max_length)
            embeddings[name] = encoded.embeddings
        predicted = classify(explained, embeddings[name])
        result[f"{name}/predicted"] = predicted.astype(np.uint8)
        for method, texts in methods.items():
            if name != PLAIN and method not in (LRP, LABEL_LRP):
                continue
            targets = (labels if method == LABEL_LRP else predicted)[corpus.explained[:texts]]
            rule = LRP if method == LABEL_LRP else method
            result[f"{name}/{method}"] = word_relevance(explained, tokens[:texts], targets, rule, precision)
    return result


def word_relevance(
    model: PreTrainedModel,
    tokens: Sequence[Tokens],
    targets: NDArray[np.integer],
    method: str = LRP,
    precision: RelevancePrecision = "float32",
) -> NDArray[np.float32]:
    """Return the relevance of the words of several texts, concatenated: (words of all texts,)."""
    return flat_words(tokens, relevance(model, tokens, targets, method, precision))


def flat_words(tokens: Sequence[Tokens], values: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Average relevance over each word's pieces, texts concatenated: (texts,) of (tokens,) -> (words,)."""
    return np.concatenate(texts_to_words(tokens, values)).astype(np.float32)


def relevance(
    model: PreTrainedModel,
    tokens: Sequence[Tokens],
    targets: NDArray[np.integer],
    method: str = LRP,
    precision: RelevancePrecision = "float32",
) -> list[NDArray[np.floating]]:
    """Return the relevance of the word pieces of several texts: (texts,) of (tokens,), special ones included.

    Parameters
    ----------
    model : PreTrainedModel
    tokens : sequence of Tokens
        (texts,)
    targets : ndarray
        (texts,): the class explained for each text.
    method : str
        One of `lib.attribution.METHODS`. The authors' fork depends on the padding: texts are padded to 512
        pieces, as in their code, or to the model's maximum if that is less.
    precision : {"float32", "tf32"}
        Of the products of relevance in LRP (`lib.lrp.token_relevance`); other methods are always in float32.
    """
    ids = [text.input_ids for text in tokens]
    length = min(AUTHORS_LENGTH, readable_pieces(model.config)) if method == AUTHORS_LRP else None
    rule = partial(METHODS[method], precision=precision) if method in (LRP, AUTHORS_LRP) else METHODS[method]
    return attribution.explain(rule, model, ids, targets=targets.tolist(), pad_to=length)
