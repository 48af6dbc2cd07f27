"""Tables of words: their mean relevance, those that one model finds more relevant, agreement with roles.

Their own module, not `lib.words`, which every run imports: they are made from records, and no record's key
depends on them.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score

from lib.words import Floats


def mean_relevance(
    words: Sequence[Sequence[str]], relevance: Sequence[ArrayLike], min_count: int = 100
) -> pd.DataFrame:
    """Average each lower-cased word's relevance over all its appearances.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
    relevance : sequence of arrays, (texts,) of (words,)
        From `lib.words.normalise`.
    min_count : int
        Words with fewer appearances are left out; 100 in paper 1.

    Returns
    -------
    DataFrame
        One row per word, in alphabetical order: ``relevance`` (the mean) and ``count``.
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
    """Rank words by how much more they matter to the fine-tuned model than to the frozen one (paper 1, 3.2).

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Words of the test texts.
    fine_tuned, frozen : sequence of arrays, (texts,) of (words,)
        Relevance of these words to each model, from `lib.words.normalise`.
    min_count : int
        Words with fewer appearances are left out; 100 in paper 1.

    Returns
    -------
    DataFrame
        One row per word, by descending difference: ``count``, the means ``fine_tuned`` and ``frozen``
        (positive for class 0) and ``difference``, abs(fine_tuned) - abs(frozen). ``head(10)`` and
        ``tail(10)`` are the paper's two lists.
    """
    tuned, cold = (mean_relevance(words, values, min_count) for values in (fine_tuned, frozen))
    table = tuned.rename(columns={"relevance": "fine_tuned"}).assign(frozen=cold["relevance"])
    table["difference"] = table["fine_tuned"].abs() - table["frozen"].abs()
    ranked = table.sort_values("difference", ascending=False, kind="stable")
    return ranked[["count", "fine_tuned", "frozen", "difference"]]


def role_agreement(
    relevance: Sequence[Floats], roles: Sequence[Sequence[str]], wanted: Collection[str]
) -> pd.DataFrame:
    """Score how well relevance finds the words with given roles, text by text.

    Parameters
    ----------
    relevance : sequence of arrays, (texts,) of (words,)
        From `lib.words.to_words`: higher for more relevant words, whatever the predicted class.
    roles : sequence of sequences of str, (texts,) of (words,)
        A truncated text has more roles than words.
    wanted : collection of str
        The roles to find, such as ``{"cue"}``.

    Returns
    -------
    DataFrame
        One row per text: ``average_precision`` and ``share``, the share of words with such a role, which is
        about the average precision expected by chance. NaN if no word or every word has such a role:
        ``mean()`` skips these texts.
    """
    rows = []
    for values, text_roles in zip(relevance, roles, strict=True):
        truth = np.isin(text_roles[: len(values)], list(wanted))  # (words,)
        decided = 0 < truth.sum() < len(truth)
        rows.append(
            {
                "average_precision": average_precision_score(truth, values) if decided else np.nan,
                "share": truth.mean() if decided else np.nan,
            }
        )
    return pd.DataFrame(rows)


def majority_roles(words: Sequence[Sequence[str]], roles: Sequence[Sequence[str]]) -> pd.Series:
    """Return the most frequent role of each lower-cased word of a generated corpus.

    ``majority_roles(words, roles)[table.index[:10]].value_counts()`` counts the true cues and the planted
    artifacts among the first ten words of `discriminant_words`.

    Parameters
    ----------
    words, roles : sequence of sequences of str, (texts,) of (words,)
        A truncated text has more roles than words.

    Returns
    -------
    Series
        One role per word; ties go to the first role in alphabetical order.
    """
    plays = [
        (word.lower(), role)
        for text, text_roles in zip(words, roles, strict=True)
        for word, role in zip(text, text_roles, strict=False)
    ]
    table = pd.DataFrame(plays, columns=["word", "role"])
    return pd.crosstab(table["word"], table["role"]).idxmax(axis="columns").rename("role")
