"""Relevance against the truth: in a generated corpus the role that each word plays in its text is known."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score


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
