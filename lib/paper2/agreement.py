"""Whether seeds rank a text's words alike, and whether quantising keeps the top words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lib.crossed import Crossed, crossed_difference, pair_pseudo_values
from lib.paper2.model_types import Floats, ModelType
from lib.stability import mean_relevance_statistic, split_texts, top_k_overlap, unit_signs


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

    See `lib.crossed.pair_pseudo_values`: their mean over the seeds is the mean over pairs.

    Parameters
    ----------
    relevance : ndarray, (seeds, words of all texts)
        At least three seeds. A seed that ties all words of a text agrees with no other on it: 0.
    lengths : sequence of int, (texts,)

    Raises
    ------
    ValueError
        With fewer than three seeds.
    """
    by_text = []
    for text in split_texts(relevance, lengths):
        signs = unit_signs(text)
        taus = signs @ signs.T  # (seeds, seeds): Kendall's tau-b
        by_text.append(pair_pseudo_values(taus.sum(axis=1) - np.diag(taus)))
    return np.stack(by_text, axis=1)


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
        Number of top words: all words of a text with fewer.
    """

    def share(mean: ArrayLike, other_mean: ArrayLike) -> Floats:
        texts = split_texts(np.stack([np.asarray(mean), np.asarray(other_mean)]), lengths)
        return np.array([top_k_overlap(text, top_words) for text in texts])

    return mean_relevance_statistic(share, one.relevance[method], other.relevance[method])
