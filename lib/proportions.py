"""Are two accuracies different? The authors' z, the textbook's, and tests that know the texts are the same.

Accuracies are fractions; p-values are two-sided.
"""

import math
from typing import Literal

import numpy as np
from scipy import stats


def z_statistic(a: float, b: float, n: int, form: Literal["paper", "pooled"] = "paper") -> float:
    """Return z of the difference of two accuracies, each measured on ``n`` texts.

    Parameters
    ----------
    a, b : float
        Accuracies, 0 to 1.
    n : int
        Texts in the test set.
    form : {"paper", "pooled"}
        ``paper`` is the authors' code: ``(a - b) / sqrt(P (1 - P) / n)`` with P the mean of both (paper 2,
        equation 1, is printed with n outside of the root). ``pooled`` is the two-proportion test, with 2 / n
        inside the root: the authors' z is sqrt(2) too large.

    Raises
    ------
    ValueError
        For an accuracy outside of 0 to 1, or no texts.
    """
    for name, accuracy in (("a", a), ("b", b)):
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy {name} = {accuracy}: a fraction from 0 to 1 is wanted")
    if n < 1:
        raise ValueError(f"n = {n}: at least one text is wanted")
    mean = (a + b) / 2
    variance = mean * (1 - mean) / n * (2 if form == "pooled" else 1)
    if variance == 0:  # both 0 or both 1
        return 0.0
    return (a - b) / math.sqrt(variance)


def two_sided_p(z: float) -> float:
    """Return the two-sided p-value of a standard normal statistic."""
    return float(2 * stats.norm.sf(abs(z)))


def mcnemar_p(correct_a: np.ndarray, correct_b: np.ndarray) -> float:
    """Return the p-value of McNemar's exact test of two models that were given the same texts.

    Parameters
    ----------
    correct_a, correct_b : ndarray of bool, (texts,)
        Whether each model classifies each text rightly, the texts in the same order.
    """
    only_a = int(np.sum(correct_a & ~correct_b))
    only_b = int(np.sum(~correct_a & correct_b))
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
