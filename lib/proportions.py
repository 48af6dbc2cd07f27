"""Tests of whether two accuracies differ: the authors' z, the textbook z, and McNemar's test for paired data.

Accuracies are fractions; p-values are two-sided.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_SAMPLES = {"paper": 1, "pooled": 2}  # whose errors each form of z counts


def z_statistic(a: ArrayLike, b: ArrayLike, n: int, form: Literal["paper", "pooled"] = "paper") -> Any:
    """Return z of the difference of accuracies, each measured on ``n`` texts.

    Parameters
    ----------
    a, b : float or array_like
        Accuracies, 0 to 1; arrays of any shapes that broadcast.
    n : int
        Number of test texts.
    form : {"paper", "pooled"}
        ``paper`` is the authors' code, ``(a - b) / sqrt(P (1 - P) / n)`` with P the mean of both (paper 2
        prints equation 1 with n outside the root). ``pooled`` is the two-proportion z-test, with 2 / n inside
        the root; the authors' z is too large by a factor of sqrt(2).

    Returns
    -------
    float or ndarray
        Of the shape that the accuracies broadcast to; 0 where both are 0 or both are 1.

    Raises
    ------
    ValueError
        If an accuracy lies outside 0 to 1, n is below 1, or the form is unknown.
    """
    if form not in _SAMPLES:
        raise ValueError(f"form = {form!r}: allowed are {', '.join(map(repr, _SAMPLES))}")
    if n < 1:
        raise ValueError(f"n = {n}: at least one text is required")
    a, b = _fractions("a", a), _fractions("b", b)
    mean = (a + b) / 2
    variance = mean * (1 - mean) / n * _SAMPLES[form]
    # Without variance both are 0 or both are 1: their difference, 0, is divided by 1.
    return (a - b) / np.sqrt(np.where(variance > 0, variance, 1))


def _fractions(name: str, accuracies: ArrayLike) -> NDArray[np.float64]:
    accuracies = np.asarray(accuracies, float)
    outside = accuracies[~((accuracies >= 0) & (accuracies <= 1))]
    if outside.size:
        raise ValueError(f"accuracy {name} = {outside[0]}: allowed are fractions from 0 to 1")
    return accuracies


def two_sided_p(z: float) -> float:
    """Return the two-sided p-value of a standard normal statistic."""
    return float(2 * stats.norm.sf(abs(z)))


def mcnemar_p(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test for two models tested on the same texts.

    Parameters
    ----------
    correct_a, correct_b : ndarray of bool, (texts,)
        Whether each model classifies each text correctly, the texts in the same order.
    """
    only_a = int(np.sum(correct_a & ~correct_b))
    only_b = int(np.sum(~correct_a & correct_b))
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
