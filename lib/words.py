"""From the relevance of word pieces to that of words: normalised, averaged over a corpus, ranked, drawn."""

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.floating]

_WORD = re.compile(r"\S+")  # what str.split() finds, with its place in the text
_FOR, _AGAINST = "0, 114, 178", "213, 94, 0"  # blue and vermilion: as dark as each other on a grey print


@dataclass(frozen=True)
class Tokens:
    """A text as a tokenizer cut it, and which pieces make up which word.

    Attributes
    ----------
    input_ids : list of int, (tokens,)
        The pieces' numbers, special tokens included, no padding.
    words : list of str, (words,)
        The words of the text that fit, as they stand in the text.
    pieces : array of int, (links,)
        Places in ``input_ids``, special tokens left out.
    owners : array of int, (links,)
        For each of these pieces the word that it is a part of.
    """

    input_ids: list[int]
    words: list[str]
    pieces: NDArray[np.int64]
    owners: NDArray[np.int64]


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Tokens]:
    """Cut texts into pieces and find each piece's word by its place in the text.

    Words are what white space sets apart in the text itself, whatever the tokenizer's own idea of a word, so
    an unknown piece keeps its word. Of a text that is too long they are the words all of whose pieces fit.

    Parameters
    ----------
    texts : sequence of str, (texts,)
        For a text that `lib.texts.cleaning` cleaned the words are ``text.split()``.
    tokenizer : PreTrainedTokenizerBase
        A fast one, of any kind: SentencePiece, WordPiece or byte-level.
    max_length : int
        The most pieces of a text, special tokens included.

    Returns
    -------
    list of Tokens, (texts,)

    Raises
    ------
    ValueError
        If the tokenizer does not say where in the text a piece stands.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer is a {type(tokenizer).__name__} without offsets; a fast one is wanted")
    encodings = tokenizer(list(texts), truncation=True, max_length=max_length).encodings
    return [_tokens(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]


def to_words(tokens: Tokens, relevance: ArrayLike) -> tuple[list[str], Floats]:
    """Give each word the mean relevance of its pieces (as in paper 1's code).

    Parameters
    ----------
    tokens : Tokens
        Of one text.
    relevance : array, (..., tokens)
        Of its pieces, padding on the right allowed; a row a seed, for instance.

    Returns
    -------
    list of str, (words,)
    array, (..., words)
        A word that the tokenizer made no piece of (one of control characters only) gets 0: no model saw it.

    Raises
    ------
    ValueError
        If there are fewer relevances than pieces.
    """
    relevance = np.asarray(relevance)
    if relevance.shape[-1] < len(tokens.input_ids):
        raise ValueError(f"{relevance.shape[-1]} relevances for a text of {len(tokens.input_ids)} pieces")
    sums = np.zeros((*relevance.shape[:-1], len(tokens.words)), dtype=np.result_type(relevance, np.float32))
    np.add.at(sums, (..., tokens.owners), relevance[..., tokens.pieces])
    parts = np.bincount(tokens.owners, minlength=len(tokens.words))  # (words,)
    return tokens.words, sums / np.maximum(parts, 1)


def texts_to_words(
    tokens: Sequence[Tokens], relevance: Sequence[ArrayLike]
) -> tuple[list[list[str]], list[Floats]]:
    """Do as ``to_words`` for every text of a data set: (texts,) words and (texts,) relevances."""
    pairs = [to_words(text, row) for text, row in zip(tokens, relevance, strict=True)]
    return [words for words, _ in pairs], [values for _, values in pairs]


def normalise(relevance: ArrayLike, predicted: ArrayLike) -> Floats:
    """Bring a text's word relevances to paper 1's scale: they sum to +1 (class 0) or -1 (class 1).

    Parameters
    ----------
    relevance : array, (..., words)
        For the predicted class, of one text.
    predicted : int or array, (...)
        The predicted class, 0 or 1.

    Returns
    -------
    array, (..., words)
        0 for the least relevant word. Words that are all equally relevant (a single word, for one) single out
        none and share the sum equally.

    Raises
    ------
    ValueError
        If a relevance is not finite or a class is not 0 or 1.

    Notes
    -----
    Paper 1's code takes more steps: the first token gets the row's minimum; min-max; negated for
    class 1; the sign against the prediction set to 0; min-max again, of the magnitudes; divided by the sum.
    Special tokens go before words are compared, min-max undoes the scale and the origin of an earlier
    min-max, and after it no sign is left that could contradict: what remains is one min-max over the words,
    the sum, and the sign. The tests hold this against all the steps.
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


def mean_relevance(
    words: Sequence[Sequence[str]], relevance: Sequence[ArrayLike], min_count: int = 100
) -> pd.DataFrame:
    """Average each lower-cased word's relevance over all its appearances.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
    relevance : sequence of arrays, (texts,) of (words,)
        As ``normalise`` gives it.
    min_count : int
        Rarer words are left out; 100 in paper 1.

    Returns
    -------
    DataFrame
        One row a word, in alphabetical order: ``relevance`` (the mean) and ``count``.
    """
    appearances = pd.DataFrame(
        {
            "word": [word.lower() for text in words for word in text],
            "relevance": np.concatenate([np.zeros(0), *map(np.asarray, relevance)]),
        }
    )
    means = appearances.groupby("word")["relevance"].agg(relevance="mean", count="size")
    return means[means["count"] >= min_count]


def discriminant_words(
    words: Sequence[Sequence[str]],
    fine_tuned: Sequence[ArrayLike],
    frozen: Sequence[ArrayLike],
    min_count: int = 100,
) -> pd.DataFrame:
    """Rank words by how much more they weigh for the fine-tuned model than for the frozen one (paper 1, 3.2).

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Of the test texts.
    fine_tuned, frozen : sequence of arrays, (texts,) of (words,)
        Each model's relevance of them, as ``normalise`` gives it.
    min_count : int
        Rarer words are left out; 100 in paper 1.

    Returns
    -------
    DataFrame
        One row a word, the most fine-tuned first: ``count``, the means ``fine_tuned`` and ``frozen``
        (positive for class 0) and ``difference``, abs(fine_tuned) - abs(frozen). ``head(10)`` and
        ``tail(10)`` are the paper's two lists.
    """
    tuned, cold = (mean_relevance(words, values, min_count) for values in (fine_tuned, frozen))
    table = tuned.rename(columns={"relevance": "fine_tuned"}).assign(frozen=cold["relevance"])
    table["difference"] = table["fine_tuned"].abs() - table["frozen"].abs()
    ranked = table.sort_values("difference", ascending=False, kind="stable")
    return ranked[["count", "fine_tuned", "frozen", "difference"]]


def heatmap_html(words: Sequence[str], relevance: ArrayLike, title: str = "") -> str:
    """Draw a text with its words' relevances as an HTML fragment, everything in it escaped.

    The darker a word, the more it weighs, so it reads in grey too; a negative relevance is dotted below.

    Parameters
    ----------
    words : sequence of str, (words,)
    relevance : array, (words,)
        Shown relative to the text's largest magnitude; the value itself is the word's tooltip.
    title : str
        Stands before the text in bold.

    Raises
    ------
    ValueError
        If there are not as many relevances as words, or one is not finite.
    """
    relevance = np.asarray(relevance, dtype=float)
    if relevance.shape != (len(words),) or not np.isfinite(relevance).all():
        raise ValueError(
            f"relevance of shape {relevance.shape}: {len(words)} finite numbers are wanted, one a word"
        )
    largest = np.abs(relevance).max(initial=0) or 1.0
    spans = [_span(word, value, abs(value) / largest) for word, value in zip(words, relevance, strict=True)]
    heading = f"<b>{html.escape(title)}</b> " if title else ""
    style = "background: white; color: black; line-height: 1.8; padding: 0.3em"
    return f'<p style="{style}">{heading}{" ".join(spans)}</p>'


def _span(word: str, value: float, share: float) -> str:
    colour = _AGAINST if value < 0 else _FOR
    line = "; border-bottom: 2px dotted black" if value < 0 else ""
    # Never quite the full colour: black letters stay readable on it.
    style = f"background: rgba({colour}, {0.75 * share:.2f}); padding: 0.1em{line}"
    return f'<span style="{style}" title="{value:+.4f}">{html.escape(word)}</span>'


def _tokens(text: str, encoding: Encoding) -> Tokens:
    spans = np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)
    # What was cut off a text stays with its encoding: a word with a piece in there does not fit.
    cut = {word for part in encoding.overflowing for _, word in _links(part, spans)}
    kept = [word for word in range(len(spans)) if word not in cut]
    place = {word: place for place, word in enumerate(kept)}
    links = [(piece, place[word]) for piece, word in _links(encoding, spans) if word in place]
    pieces, owners = np.array(links, dtype=np.int64).reshape(-1, 2).T
    return Tokens(encoding.ids, [text[slice(*spans[word])] for word in kept], pieces, owners)


def _links(encoding: Encoding, spans: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return every pair of a piece (its place) and a word that it is a part of.

    A piece belongs to each word that it overlaps; one of white space only (a SentencePiece "▁" that stands
    alone) to the word that follows.
    """
    begins, ends = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
    first = np.searchsorted(
        spans[:, 1], begins, side="right"
    )  # the first word that ends after the piece begins
    last = (
        np.searchsorted(spans[:, 0], ends, side="left") - 1
    )  # the last word that begins before the piece ends
    return [
        (piece, word)
        for piece, special in enumerate(encoding.special_tokens_mask)
        if not special
        for word in range(first[piece], max(first[piece], last[piece]) + 1)
    ]


def majority_roles(words: Sequence[Sequence[str]], roles: Sequence[Sequence[str]]) -> pd.Series:
    """Return the role that each lower-cased word of a generated corpus plays most often.

    ``majority_roles(words, roles)[table.index[:10]].value_counts()`` counts the true cues and the planted
    artifacts among the first ten words of ``discriminant_words``.

    Parameters
    ----------
    words, roles : sequence of sequences of str, (texts,) of (words,)
        A text may have more roles than words, where it was cut.

    Returns
    -------
    Series
        One role a word; of two that are as frequent, the first in alphabetical order.
    """
    plays = [
        (word.lower(), role)
        for text, text_roles in zip(words, roles, strict=True)
        for word, role in zip(text, text_roles, strict=False)
    ]
    table = pd.DataFrame(plays, columns=["word", "role"])
    return pd.crosstab(table["word"], table["role"]).idxmax(axis="columns").rename("role")


def role_agreement(
    relevance: Sequence[ArrayLike], roles: Sequence[Sequence[str]], wanted: Collection[str]
) -> pd.DataFrame:
    """Score, text by text, how well relevance finds the words that play a role.

    Parameters
    ----------
    relevance : sequence of arrays, (texts,) of (words,)
        Higher for a more relevant word, whatever the predicted class: as ``to_words`` gives it.
    roles : sequence of sequences of str, (texts,) of (words,)
        A text may have more roles than words, where it was cut.
    wanted : collection of str
        The roles to be found, such as ``{"cue"}``.

    Returns
    -------
    DataFrame
        One row a text: ``average_precision``, ``roc_auc`` and ``share``, the share of words that play such a
        role, which is about what chance gives for average precision (0.5 for ROC-AUC). NaN where no word
        plays one, or every word does: ``mean()`` leaves such texts out.
    """
    rows = []
    for values, text_roles in zip(relevance, roles, strict=True):
        truth = np.isin(text_roles[: len(values)], list(wanted))  # (words,)
        decided = 0 < truth.sum() < len(truth)
        rows.append(
            {
                "average_precision": average_precision_score(truth, values) if decided else np.nan,
                "roc_auc": roc_auc_score(truth, values) if decided else np.nan,
                "share": truth.mean() if decided else np.nan,
            }
        )
    return pd.DataFrame(rows)


def cue_auc(relevance: Sequence[ArrayLike], roles: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return how well each model's relevance finds the true cues, the mean over texts of ROC-AUC: (seeds,).

    Parameters
    ----------
    relevance : sequence of arrays, (texts,) of (seeds, words)
    roles : sequence of sequences of str, (texts,) of (words,)
        As in `role_agreement`; of texts beyond those explained none is looked at.
    """
    models = range(len(relevance[0]))
    by_model = ([text[model] for text in relevance] for model in models)
    scores = (role_agreement(texts, roles[: len(texts)], {"cue"}) for texts in by_model)
    return np.array([score["roc_auc"].mean() for score in scores])
