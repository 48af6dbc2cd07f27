"""Whether seeds rank a text's words alike, and whether quantising keeps the top words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lib.crossed import Crossed, crossed_difference
from lib.paper2.model_types import Floats, ModelType
from lib.stability import mean_relevance_statistic, split_texts, top_k_overlap


def tau_difference(one: ModelType, other: ModelType, lengths: Sequence[int], method: str) -> Crossed:
    """Return by how much more two seeds of ``one`` agree than two of ``other``, by Kendall's tau.

    Parameters
    ----------
    one, other : ModelType
        With independent seeds, at least three each.
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
    """
    values = [tau_pseudo_values(kind.relevance[method], lengths) for kind in (one, other)]
    return crossed_difference(*values, paired=False)


def tau_pseudo_values(relevance: Floats, lengths: Sequence[int]) -> Floats:
    """Return what each seed contributes to the mean of Kendall's tau over pairs of seeds: (seeds, texts).

    Jackknife pseudo-values over the seeds: S times the mean over all pairs minus (S - 1) times that without
    one seed. The mean over pairs is a U-statistic, so their mean is exactly that.

    Parameters
    ----------
    relevance : ndarray, (seeds, words of all texts)
        At least three seeds. A seed that ties all words of a text agrees with no other on it: 0.
    lengths : sequence of int, (texts,)
    """
    seeds = len(relevance)
    by_text = []
    for text in split_texts(relevance, lengths):
        taus = _kendall_matrix(text)
        of_seed = taus.sum(axis=1) - np.diag(taus)  # (seeds,): with all others
        total = of_seed.sum()
        with_all = total / (seeds * (seeds - 1))
        without = (total - 2 * of_seed) / ((seeds - 1) * (seeds - 2))
        by_text.append(seeds * with_all - (seeds - 1) * without)
    return np.stack(by_text, axis=1)


def _kendall_matrix(relevance: Floats) -> Floats:
    """Return Kendall's tau-b between every two rows: (seeds, words) -> (seeds, seeds)."""
    first, second = np.triu_indices(relevance.shape[1], k=1)
    signs = np.sign(relevance[:, first] - relevance[:, second])  # (seeds, pairs of words)
    norms = np.linalg.norm(signs, axis=1, keepdims=True)
    signs = signs / np.where(norms > 0, norms, 1)
    return signs @ signs.T


def shared_top_words(
    one: ModelType, other: ModelType, lengths: Sequence[int], method: str, top_words: int
) -> Crossed:
    """Return the share of the top words of mean relevance that two versions of the same models share.

    Parameters
    ----------
    one, other : ModelType
        With the same seeds: a type and its quantised version.
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
    top_words : int
        At most the words of a text count.
    """

    def share(mean: ArrayLike, other_mean: ArrayLike) -> Floats:
        texts = split_texts(np.stack([np.asarray(mean), np.asarray(other_mean)]), lengths)
        return np.array([top_k_overlap(text, min(top_words, text.shape[1])) for text in texts])

    return mean_relevance_statistic(share, one.relevance[method], other.relevance[method])
