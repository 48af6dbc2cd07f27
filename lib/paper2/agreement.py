"""Whether seeds rank a text's words alike, and whether quantising keeps the top words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lib.crossed import Crossed, crossed_difference, pair_pseudo_values
from lib.paper2.model_types import Floats, ModelType
from lib.stability import kendall_tau, mean_relevance_statistic, split_texts, top_k_overlap, unit_signs


def agreement_beyond_labellings(
    kind: ModelType, control: ModelType, labellings: Sequence[int], lengths: Sequence[int], method: str
) -> Crossed:
    """Return by how much more two seeds agree than two heads that share a random labelling, by Kendall's tau.

    Parameters
    ----------
    kind : ModelType
        At least three seeds.
    control : ModelType
        Heads that were taught random labels.
    labellings : sequence of int, (heads of the control,)
        Which labels each of them was taught.
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.

    Returns
    -------
    Crossed
        Over seeds, labellings and texts.

    Raises
    ------
    ValueError
        With fewer than three seeds, or fewer than two labellings that two heads share.
    """
    shared = taus_within_labellings(control.relevance[method], labellings, lengths)
    return crossed_difference(tau_pseudo_values(kind.relevance[method], lengths), shared, paired=False)


def taus_within_labellings(relevance: Floats, labellings: Sequence[int], lengths: Sequence[int]) -> Floats:
    """Return the mean of Kendall's tau over pairs of heads that share a labelling: (labellings, texts).

    Two labellings have nothing in common, so each is an independent sample of what any common target does.

    Parameters
    ----------
    relevance : ndarray, (heads, words of all texts)
        Where one head of a labelling ties all words of a text, its heads do not agree on it: 0.
    labellings : sequence of int, (heads,)
        One that only one head was taught, as after a failed run, is left out.
    lengths : sequence of int, (texts,)

    Raises
    ------
    ValueError
        With fewer than two labellings that two heads share: nothing would tell them apart.
    """
    given = np.asarray(labellings)
    numbers, heads = np.unique(given, return_counts=True)
    shared = numbers[heads > 1]
    if len(shared) < 2:
        raise ValueError(f"labellings = {list(labellings)}: at least two that two heads share are required")
    taus = [
        [kendall_tau(text) for text in split_texts(relevance[given == number], lengths)] for number in shared
    ]
    return np.nan_to_num(taus)


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
