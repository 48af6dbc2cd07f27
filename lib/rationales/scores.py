"""How well a ranking of a text's words finds those that people marked, with chance and a reference beside it.

Two scores per text. *Average precision*: the mean, over the marked words, of the share of marked words among
all that are ranked at least as high. *Token F1*: as many words are chosen as are marked, the most relevant
first; precision, recall and F1 are then the same number, the share of the chosen words that are marked.
ERASER (DeYoung et al., ACL 2020) scores continuous and discrete rationales by these kinds of measures.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score

Floats = NDArray[np.float64]
Scores = dict[str, Floats]
Words = Sequence[Sequence[str]]
Marks = Sequence[Sequence[bool]]

AVERAGE_PRECISION, TOKEN_F1 = "average precision", "token F1"
MEASURES = (AVERAGE_PRECISION, TOKEN_F1)


def agreement(relevance: Sequence[ArrayLike], marks: Marks, measures: Sequence[str] = MEASURES) -> Scores:
    """Score how well the relevance of every model finds the marked words, text by text.

    Parameters
    ----------
    relevance : sequence of arrays, (texts,) of (models, words)
        Higher for words that speak for the text's class.
    marks : sequence of sequences of bool, (texts,) of (words,)
        Texts beyond those with relevance are ignored.
    measures : sequence of str
        Of `MEASURES`.

    Returns
    -------
    dict of str to array, (models, texts)
        By measure.

    Raises
    ------
    ValueError
        If a text has no marked word or nothing else, or its relevances and marks differ in number.
    """
    by_text = []  # (texts,) of (models, measures)
    for values, text_marks in zip(relevance, marks, strict=False):
        truth = _checked(text_marks)
        rows = np.asarray(values, float)
        if rows.ndim != 2 or rows.shape[1] != len(truth):
            raise ValueError(
                f"relevance of shape {rows.shape} for {len(truth)} words: (models, words) is required"
            )
        by_text.append([[_SCORES[measure](truth, row) for measure in measures] for row in rows])
    scores = np.array(by_text).transpose(2, 1, 0)  # (measures, models, texts)
    return dict(zip(measures, scores, strict=True))


def token_f1(marks: NDArray[np.bool_], relevance: Floats) -> float:
    """Return the share of marked words among as many of the most relevant ones as are marked.

    Parameters
    ----------
    marks, relevance : array, (words,)
        At least one word is marked. Of equally relevant words, as many as are left to choose are chosen at
        random: it is the expected value.
    """
    chosen = int(marks.sum())
    least = np.sort(relevance)[-chosen]  # of the chosen words
    above, equal = relevance > least, relevance == least
    return float((marks[above].sum() + (chosen - above.sum()) * marks[equal].mean()) / chosen)


_SCORES: dict[str, Callable[[NDArray[np.bool_], Floats], float]] = {
    AVERAGE_PRECISION: average_precision_score,
    TOKEN_F1: token_f1,
}


def by_chance(marks: Marks) -> Scores:
    """Return the expected scores of a random ranking of each text's words: (1, texts) each.

    With m of n words marked, token F1 is m / n on average. Before a marked word at rank r there are
    (r - 1) (m - 1) / (n - 1) other marked words on average, and every rank is as likely; so average precision
    is p + (1 - p) H / n, with p = (m - 1) / (n - 1) and H = 1 + 1/2 + ... + 1/n.
    """
    precision, f1 = [], []
    for text in map(_checked, marks):
        count, marked = len(text), int(text.sum())
        others = (marked - 1) / (count - 1)
        harmonic = (1 / np.arange(1, count + 1)).sum()
        precision.append(others + (1 - others) * harmonic / count)
        f1.append(marked / count)
    return {AVERAGE_PRECISION: np.array([precision]), TOKEN_F1: np.array([f1])}


def by_word(words: Words, marks: Marks, further_words: Words = (), further_marks: Marks = ()) -> Scores:
    """Score a ranking that knows people's marks in all other texts, but not the context: (1, texts) each.

    Each word is scored by its rate of being marked in the other texts, plus one appearance at the rate of all
    words, so that a rare word does not count as certain. No ranking of words regardless of context can know
    more without the text's own marks; an explanation, which sees the context, may.

    Parameters
    ----------
    words, marks : sequences, (texts,) of (words,)
        The texts that are scored. Words are compared in lower case.
    further_words, further_marks : sequences, (further texts,) of (words,)
        Others whose marks are known, too.
    """
    appearances, marked = Counter[str](), Counter[str]()
    for text, text_marks in zip([*words, *further_words], [*marks, *further_marks], strict=True):
        _count(appearances, marked, text, text_marks, 1)
    rankings = []
    for text, text_marks in zip(words, marks, strict=True):
        _count(appearances, marked, text, text_marks, -1)
        rate = marked.total() / max(appearances.total(), 1)
        lower = [word.lower() for word in text]
        rankings.append([[(marked[word] + rate) / (appearances[word] + 1) for word in lower]])
        _count(appearances, marked, text, text_marks, 1)
    return agreement(rankings, marks)


def _count(
    appearances: Counter[str], marked: Counter[str], words: Sequence[str], marks: Sequence[bool], by: int
) -> None:
    for word, mark in zip(words, marks, strict=True):
        appearances[word.lower()] += by
        marked[word.lower()] += by * bool(mark)


def _checked(marks: ArrayLike) -> NDArray[np.bool_]:
    marks = np.asarray(marks, bool)
    if marks.all() or not marks.any():
        raise ValueError(
            f"{int(marks.sum())} of {len(marks)} words are marked: some but not all are required"
        )
    return marks
