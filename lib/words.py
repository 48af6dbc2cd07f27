"""Relevance of words from that of word pieces, and normalised as in paper 1."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.floating]

_WORD = re.compile(r"\S+")  # the words of str.split(), with their positions


@dataclass(frozen=True)
class Tokens:
    """A tokenized text, and which pieces make up which word.

    Attributes
    ----------
    input_ids : list of int, (tokens,)
        Ids of the pieces, special tokens included, without padding.
    words : list of str, (words,)
        The words of the text that fit, as they appear in the text.
    pieces : array of int, (links,)
        Positions in ``input_ids``, special tokens excluded.
    owners : array of int, (links,)
        For each of these pieces, the index of the word it belongs to.
    """

    input_ids: list[int]
    words: list[str]
    pieces: NDArray[np.int64]
    owners: NDArray[np.int64]


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Tokens]:
    """Tokenize texts and assign each piece to its word by its position in the text.

    Words are separated by white space in the text itself, whatever the tokenizer considers a word, so unknown
    pieces keep their words. Of a text that is too long, only the words whose pieces all fit are kept.

    Parameters
    ----------
    texts : sequence of str, (texts,)
        The words of a text are those of ``text.split()``.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer of any kind: SentencePiece, WordPiece or byte-level.
    max_length : int
        Largest number of pieces of a text, special tokens included.

    Returns
    -------
    list of Tokens, (texts,)

    Raises
    ------
    ValueError
        If the tokenizer is not a fast one and gives no offsets.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer is a {type(tokenizer).__name__} without offsets: a fast tokenizer is required"
        )
    encodings = tokenizer(list(texts), truncation=True, max_length=max_length).encodings
    return [_tokens(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]


def to_words(tokens: Tokens, relevance: ArrayLike) -> Floats:
    """Give each word the mean relevance of its pieces (as in paper 1's code).

    Parameters
    ----------
    tokens : Tokens
        One text.
    relevance : array, (..., tokens)
        Relevance of its pieces, for example one row per seed; padding on the right is ignored.

    Returns
    -------
    array, (..., words)
        0 for a word without pieces (control characters only), which no model saw.

    Raises
    ------
    ValueError
        If there are fewer relevances than pieces.
    """
    relevance = np.asarray(relevance)
    if relevance.shape[-1] < len(tokens.input_ids):
        raise ValueError(f"{relevance.shape[-1]} relevances for a text of {len(tokens.input_ids)} pieces")
    sums = np.zeros((*relevance.shape[:-1], len(tokens.words)), dtype=np.result_type(relevance, np.float32))
    np.add.at(sums, (..., tokens.owners), relevance[..., tokens.pieces])  # type: ignore[arg-type]  # stubs lack "..."
    parts = np.bincount(tokens.owners, minlength=len(tokens.words))  # (words,)
    return sums / np.maximum(parts, 1)


def texts_to_words(tokens: Sequence[Tokens], relevance: Sequence[ArrayLike]) -> list[Floats]:
    """Apply `to_words` to every text of a data set: (texts,) of (..., words)."""
    return [to_words(text, row) for text, row in zip(tokens, relevance, strict=True)]


def normalise(relevance: ArrayLike, predicted: ArrayLike) -> Floats:
    """Scale a text's word relevances as in paper 1, to sum to +1 (class 0) or -1 (class 1).

    Parameters
    ----------
    relevance : array, (..., words)
        Relevance of one text's words to the predicted class.
    predicted : int or array, (...)
        The predicted class, 0 or 1.

    Returns
    -------
    array, (..., words)
        0 for the least relevant word. If all words are equally relevant (a single word, for example), they
        share the sum equally.

    Raises
    ------
    ValueError
        If a relevance is not finite or a class is not 0 or 1.

    Notes
    -----
    Paper 1's code takes more steps: set the first token to the row's minimum; min-max; negate for class 1;
    set values that contradict the prediction to 0; min-max the magnitudes; divide by their sum. These reduce
    to one min-max over the words, the sum and the sign, because special tokens are dropped before words are
    compared, min-max cancels the scale and offset of an earlier min-max, and no value contradicts the
    prediction after it. The tests compare this function with the full sequence of steps.
    """
    relevance, predicted = np.asarray(relevance), np.asarray(predicted)
    if not np.isfinite(relevance).all():
        raise ValueError(f"{int((~np.isfinite(relevance)).sum())} relevances of the text are not finite")
    if not np.isin(predicted, (0, 1)).all():
        raise ValueError(f"predicted = {predicted.tolist()}: allowed are the classes 0 and 1")
    if relevance.shape[-1] == 0:
        return relevance
    above = relevance - relevance.min(axis=-1, keepdims=True)  # (..., words)
    equal = ~above.any(axis=-1, keepdims=True)
    shares = np.where(equal, 1, above)
    sign = np.where(predicted == 1, -1, 1)[..., None]
    return sign * shares / shares.sum(axis=-1, keepdims=True)


def _tokens(text: str, encoding: Encoding) -> Tokens:
    spans = np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)
    # `overflowing` holds what was truncated: a word with a piece there does not fit.
    cut = {word for part in encoding.overflowing for _, word in _links(part, spans)}
    kept = [word for word in range(len(spans)) if word not in cut]
    place = {word: place for place, word in enumerate(kept)}
    links = [(piece, place[word]) for piece, word in _links(encoding, spans) if word in place]
    pieces, owners = np.array(links, dtype=np.int64).reshape(-1, 2).T
    return Tokens(encoding.ids, [text[slice(*spans[word])] for word in kept], pieces, owners)


def _links(encoding: Encoding, spans: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return all pairs of a piece (its position) and a word that it belongs to.

    A piece belongs to each word that it overlaps; a piece of white space only (a lone SentencePiece "▁")
    belongs to the following word.
    """
    begins, ends = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
    # From the first word that ends after the piece begins to the last that begins before it ends.
    first = np.searchsorted(spans[:, 1], begins, side="right")
    last = np.searchsorted(spans[:, 0], ends, side="left") - 1
    return [
        (piece, word)
        for piece, special in enumerate(encoding.special_tokens_mask)
        if not special
        for word in range(first[piece], max(first[piece], last[piece]) + 1)
    ]
