"""Whether the seeds rank the words of a text alike: agreement, its null, and a test against arbitrariness."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


class Concordance(NamedTuple):
    """Kendall's coefficient of concordance (0: every ranking arbitrary, 1: all the same) and its p-value."""

    w: float
    p: float


def split_texts(relevance: ArrayLike, lengths: ArrayLike) -> list[Floats]:
    """Cut a matrix of the words of all texts into texts: (texts,) of (seeds, words).

    Parameters
    ----------
    relevance : array_like
        (seeds, words of all texts).
    lengths : array_like of int
        (texts,): words of each.
    """
    return np.split(np.asarray(relevance, float), np.cumsum(lengths)[:-1], axis=1)


def kendall_tau(relevance: ArrayLike) -> float:
    """Return Kendall's tau-b between the rankings of two seeds, averaged over all pairs of seeds.

    Parameters
    ----------
    relevance : array_like
        (seeds, words).

    Returns
    -------
    float
        1 if all seeds rank alike, 0 in the mean if they rank at random; NaN if a seed ranks nothing.

    Notes
    -----
    With u[s] the signs of all differences between two words, scaled to length 1, tau-b of two seeds is the
    product of their u. The sum over all pairs then needs only the sum of all u.
    """
    relevance = np.asarray(relevance, float)
    one, other = np.triu_indices(relevance.shape[1], k=1)
    signs = np.sign(relevance[:, one] - relevance[:, other])  # (seeds, pairs of words)
    lengths = np.linalg.norm(signs, axis=1, keepdims=True)
    if not lengths.all():
        return float("nan")
    return _mean_over_pairs(signs / lengths)


def top_k_overlap(relevance: ArrayLike, k: int) -> float:
    """Return the share of the k most relevant words that two seeds have in common, averaged over all pairs.

    Parameters
    ----------
    relevance : array_like
        (seeds, words).
    k : int
        At most the number of words; of equally relevant words the first counts.
    """
    relevance = np.asarray(relevance, float)
    top = np.zeros_like(relevance)
    np.put_along_axis(top, np.argsort(-relevance, axis=1, kind="stable")[:, :k], 1 / np.sqrt(k), axis=1)
    return _mean_over_pairs(top)


def concordance(relevance: ArrayLike) -> Concordance:
    """Test whether the words' ranks differ from uniformly random ones (Friedman's test).

    If a seed's explanation were arbitrary, every order of the words would be equally likely and no word would
    rank higher than another in the mean over the seeds (paper 2, section 1).

    Parameters
    ----------
    relevance : array_like
        (seeds, words), at least three words.
    """
    relevance = np.asarray(relevance, float)
    seeds, words = relevance.shape
    statistic, p = stats.friedmanchisquare(*relevance.T)
    return Concordance(float(statistic) / (seeds * (words - 1)), float(p))


def permuted_null(
    statistic: Callable[[Floats], float], relevance: ArrayLike, permutations: int, rng: np.random.Generator
) -> Floats:
    """Return what a statistic is if every seed's relevances fall on the words at random: (permutations,).

    Parameters
    ----------
    statistic : callable
        (seeds, words) -> number.
    relevance : array_like
        (seeds, words).
    permutations : int
    rng : numpy.random.Generator
    """
    relevance = np.asarray(relevance, float)
    return np.array([statistic(rng.permuted(relevance, axis=1)) for _ in range(permutations)])


def _mean_over_pairs(vectors: Floats) -> float:
    """Return the mean product of two different vectors of length 1: (seeds, dim)."""
    seeds = len(vectors)
    return float((np.sum(vectors.sum(axis=0) ** 2) - seeds) / (seeds * (seeds - 1)))
