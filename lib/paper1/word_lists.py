"""The words that matter most to models, how many are true cues, and where the paper's own words stand.

Punctuation and the placeholders of cleaned texts have relevance, but are not words and appear in no list.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import roc_auc_score

from lib.paper1.compared import FINE_TUNED, FROZEN, Floats, Words
from lib.paper1.joint import Indices, half_samples
from lib.texts.cleaning import NUMBER, URL
from lib.word_tables import discriminant_words, mean_relevance
from lib.words import normalise

LIST = 10  # words in a list, as in the paper
PLACEHOLDERS = frozenset({URL.lower(), NUMBER.lower()})  # what cleaning puts in a word's place


def rank_words(
    words: Words,
    fine_tuned: Sequence[Floats],
    frozen: Sequence[Floats],
    min_count: int,
    roles: pd.Series | None = None,
) -> pd.DataFrame:
    """Rank words by their mean relevance over seeds, as `lib.word_tables.discriminant_words` does.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Of the explained texts.
    fine_tuned, frozen : sequence of arrays, (texts,) of (seeds, words)
        From `lib.paper1.compared.Models.signed`.
    min_count : int
        Words with fewer appearances are left out.
    roles : Series, optional
        From `lib.word_tables.majority_roles`: adds a column ``role``.
    """
    tuned_means = [np.mean(text, axis=0) for text in fine_tuned]
    frozen_means = [np.mean(text, axis=0) for text in frozen]
    ranked = _words_only(discriminant_words(words, tuned_means, frozen_means, min_count))
    return ranked if roles is None else ranked.assign(role=roles)


def is_word(text: str) -> bool:
    """Whether a lower-cased "word" of a cleaned text is one: it has a letter and is no placeholder."""
    return text not in PLACEHOLDERS and any(map(str.isalpha, text))


def equal_shares(words: Words, predicted: NDArray[np.integer]) -> list[Floats]:
    """Return what normalised relevance would be if all words of a text were equally relevant: the control.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Of the explained texts.
    predicted : array of int, (seeds, texts)
        The explained classes.

    Returns
    -------
    list of array, (texts,) of (seeds, words)
        Summing to +1 (class 0) or -1 (class 1), as `lib.words.normalise`.
    """
    return [
        normalise(np.ones((len(predicted), len(text))), predicted[:, number])
        for number, text in enumerate(words)
    ]


def strongest_words(
    words: Words, relevance: Sequence[Floats], min_count: int, roles: pd.Series | None = None
) -> pd.DataFrame:
    """Rank words by the magnitude of their mean relevance to one kind of model, averaged over seeds.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Of the explained texts.
    relevance : sequence of arrays, (texts,) of (seeds, words)
        From `lib.paper1.compared.Models.signed`.
    min_count : int
        Words with fewer appearances are left out.
    roles : Series, optional
        From `lib.word_tables.majority_roles`: adds a column ``role``.

    Returns
    -------
    DataFrame
        One row per word, the strongest first: ``count`` and ``relevance`` (positive for class 0).
    """
    means = _words_only(mean_relevance(words, [np.mean(text, axis=0) for text in relevance], min_count))
    order = means["relevance"].abs().sort_values(ascending=False, kind="stable").index
    ranked = means.loc[order, ["count", "relevance"]]
    return ranked if roles is None else ranked.assign(role=roles)


def recurrence(differences: pd.Series, lists: Mapping[str, Sequence[str]]) -> float:
    """Return how well a ranking tells the paper's two lists of words apart, as ROC-AUC.

    Parameters
    ----------
    differences : Series
        Column ``difference`` of `rank_words`.
    lists : mapping of str to sequence of str
        The words that the paper gives for ``finetuned`` and for ``frozen`` models; those that are not ranked
        here are left out.

    Returns
    -------
    float
        The share of pairs in which the word of the first list has the larger difference; 0.5 if the ranking
        knows nothing of the lists, NaN without a word of either.
    """
    tuned, frozen = (
        differences.reindex([word.lower() for word in lists[name]]).dropna().to_numpy()
        for name in ("finetuned", "frozen")
    )
    if not (tuned.size and frozen.size):
        return float("nan")
    in_first = np.repeat([True, False], [tuned.size, frozen.size])
    return float(roc_auc_score(in_first, np.concatenate([tuned, frozen])))


def published_words(ranked: pd.DataFrame, lists: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return where the paper's words stand in a ranking.

    Parameters
    ----------
    ranked : DataFrame
        From `rank_words`.
    lists : mapping of str to sequence of str
        As in `recurrence`.

    Returns
    -------
    DataFrame
        One row per word of the paper: ``list``, ``place`` (from 1, the most important for the fine-tuned
        model; NaN if it is too rare here to be ranked), ``of`` (ranked words) and ``difference``.
    """
    rows = []
    for name, printed in lists.items():
        for word in (text.lower() for text in printed):
            known = word in ranked.index
            rows.append(
                {
                    "word": word,
                    "list": name,
                    "place": int(ranked.index.get_loc(word)) + 1 if known else np.nan,
                    "of": len(ranked),
                    "difference": ranked.loc[word, "difference"] if known else np.nan,
                }
            )
    return pd.DataFrame(rows).set_index("word")


class WordMeans:
    """The mean relevance of each word to each model, on all texts and on halves of them.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Of the explained texts.
    min_count : int
        Words with fewer appearances are left out; half as many are enough in half of the texts.

    Attributes
    ----------
    names : ndarray of str, (names,)
        The lower-cased words, in alphabetical order.
    """

    def __init__(self, words: Words, min_count: int) -> None:
        lowered = [word.lower() for text in words for word in text]
        self.names, self._codes = np.unique(np.array(lowered, dtype=object), return_inverse=True)
        self._texts = len(words)
        # (words of all texts,)
        self._owners = np.repeat(np.arange(len(words)), [len(text) for text in words])
        chosen = half_samples(len(words))
        self._members = np.zeros((len(chosen), len(words)))  # (1 + halves, texts)
        for row, texts in zip(self._members, chosen, strict=True):
            row[texts] = 1
        self._counts = self._sums(np.ones(len(lowered)))  # (1 + halves, names)
        enough = min_count * self._members.mean(axis=1, keepdims=True)
        self._listed = (self._counts >= np.maximum(enough, 1)) & [is_word(name) for name in self.names]

    def magnitudes(self, relevance: Sequence[Floats]) -> list[Floats]:
        """Return abs(mean relevance) of each word to each model, NaN for rare words.

        Parameters
        ----------
        relevance : sequence of arrays, (texts,) of (seeds, words)
            From `lib.paper1.compared.Models.signed`.

        Returns
        -------
        list of array, (seeds,) of (1 + halves, names)
        """
        return [
            np.where(self._listed, np.abs(self._sums(row)) / np.maximum(self._counts, 1), np.nan)
            for row in np.concatenate(relevance, axis=1)
        ]

    def _sums(self, values: Floats) -> Floats:
        """Sum over the appearances of each word: (words of all texts,) -> (1 + halves, names)."""
        shape = (self._texts, len(self.names))
        table = sparse.csr_array((values, (self._owners, self._codes)), shape=shape)
        return np.asarray((table.T @ self._members.T).T)


def cue_shares(
    words: Words, fine_tuned: Sequence[Floats], frozen: Sequence[Floats], roles: pd.Series, min_count: int
) -> dict[str, Floats]:
    """Return the share of true cues among each model's ten words, as `lib.paper1.joint.on_halves`.

    Parameters
    ----------
    words, fine_tuned, frozen, min_count
        As in `rank_words`, with the same seeds of both kinds.
    roles : Series
        From `lib.word_tables.majority_roles`.

    Returns
    -------
    dict of str to array, (seeds, 1 + halves)
        ``fine-tuned``, of the first words of `rank_words` for each seed's two models, and ``frozen``, of the
        last.
    """
    means = WordMeans(words, min_count)
    is_cue = (roles[means.names] == "cue").to_numpy()
    pairs = zip(means.magnitudes(fine_tuned), means.magnitudes(frozen), strict=True)
    orders = [[_descending(row) for row in tuned - cold] for tuned, cold in pairs]
    return {
        FINE_TUNED: np.array([[is_cue[order[:LIST]].mean() for order in model] for model in orders]),
        FROZEN: np.array([[is_cue[order[-LIST:]].mean() for order in model] for model in orders]),
    }


def strongest_cues_on_halves(
    words: Words, relevance: Sequence[Floats], roles: pd.Series, min_count: int
) -> Floats:
    """Return the share of true cues among each model's ten strongest words, as `lib.paper1.joint.on_halves`.

    Parameters
    ----------
    words, relevance, min_count
        As in `strongest_words`.
    roles : Series
        From `lib.word_tables.majority_roles`.

    Returns
    -------
    array, (seeds, 1 + halves)
    """
    means = WordMeans(words, min_count)
    is_cue = (roles[means.names] == "cue").to_numpy()
    magnitudes = means.magnitudes(relevance)
    return np.array([[is_cue[_descending(row)[:LIST]].mean() for row in model] for model in magnitudes])


def recurrence_on_halves(
    words: Words,
    fine_tuned: Sequence[Floats],
    frozen: Sequence[Floats],
    min_count: int,
    lists: Mapping[str, Sequence[str]],
) -> Floats:
    """Return `recurrence` of each pair of models with the same seed, as `lib.paper1.joint.on_halves`.

    Parameters
    ----------
    words, fine_tuned, frozen, min_count
        As in `rank_words`.
    lists : mapping of str to sequence of str
        As in `recurrence`.

    Returns
    -------
    array, (seeds, 1 + halves)
    """
    means = WordMeans(words, min_count)
    return np.array(
        [
            [recurrence(pd.Series(row, means.names).dropna(), lists) for row in tuned - cold]
            for tuned, cold in zip(means.magnitudes(fine_tuned), means.magnitudes(frozen), strict=True)
        ]
    )


def _words_only(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table, indexed by word, whose index is a word."""
    return table.loc[[is_word(text) for text in table.index]]


def _descending(values: Floats) -> Indices:
    """Return the indices of the values that are not NaN, the largest first; of equal ones the first first."""
    order = np.argsort(-values, kind="stable")  # NaN last
    return order[: np.isfinite(values).sum()]
