"""Whether seeds, and types of models, rank a text's words alike; intervals over seeds and texts jointly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.intervals import Interval, bootstrap_interval
from lib.paper2.model_types import CHUNK, Floats, ModelType
from lib.seeding import derive
from lib.stability import resample, split_texts


class Shared(NamedTuple):
    """Shares of the top words in common, and their difference.

    Attributes
    ----------
    across, within : Interval
        Between halves of the seeds of two types, and between the two halves of one type.
    difference : Interval
        Across minus within, paired by text: below 0, the types differ by more than their seeds do.
    """

    across: Interval
    within: Interval
    difference: Interval


@dataclass(frozen=True)
class Agreement:
    """How agreement is measured: on these texts, with a bootstrap over seeds and texts jointly.

    Attributes
    ----------
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
    resamples : int
        Number of resamples.
    seed : int
        Of the resampling.
    """

    lengths: Sequence[int]
    method: str
    resamples: int
    seed: int

    def tau_difference(self, one: ModelType, other: ModelType) -> Interval:
        """Return by how much more two seeds of ``one`` agree than two of ``other``, by Kendall's tau."""
        matrices = [kendall_matrices(kind.relevance[self.method], self.lengths) for kind in (one, other)]
        estimates = [
            mean_over_pairs(matrix, np.ones((1, matrix.shape[1])), np.ones((1, len(self.lengths))))
            for matrix in matrices
        ]
        drawn = [
            mean_over_pairs(matrix, self._seeds(matrix.shape[1], f"tau {number}"), self._texts())
            for number, matrix in enumerate(matrices)
        ]
        n = min(len(one.predicted), len(other.predicted), len(self.lengths))
        return bootstrap_interval(float((estimates[0] - estimates[1])[0]), drawn[0] - drawn[1], n=n)

    def shared_top_words(self, one: ModelType, other: ModelType, top_words: int) -> Interval:
        """Return the share of the top words that two types with the same seeds have in common.

        Top words are those of highest mean relevance over the seeds; resampled seeds are the same in both
        types, as for a type and its quantised version.
        """
        seeds = len(one.predicted)

        def share(seed_counts: Floats, text_counts: Floats) -> Floats:
            top, other_top = (
                self._top(kind.relevance[self.method], seed_counts, top_words) for kind in (one, other)
            )
            return np.average(self._in_common(top, other_top, top_words), axis=1, weights=text_counts)

        (estimate,) = share(np.ones((1, seeds)), np.ones((1, len(self.lengths))))
        drawn = share(self._seeds(seeds, "top words"), self._texts())
        return bootstrap_interval(float(estimate), drawn, n=min(seeds, len(self.lengths)))

    def top_words_across(self, one: ModelType, other: ModelType, top_words: int) -> Shared:
        """Compare the top words that two types share with those that halves of one type share.

        Each type is divided into two halves of as many seeds as the smaller type allows, every other model in
        the given order. Resampled seeds come from the half itself, so the halves never share a seed.
        """
        size = min(len(one.predicted), len(other.predicted)) // 2
        halves = [
            kind.relevance[self.method][start : 2 * size : 2] for kind in (one, other) for start in (0, 1)
        ]
        text_counts = self._texts()
        once, drawn = (
            self._compared(halves, counts, top_words)
            for counts in (
                [np.ones((1, size))] * 4,
                [self._seeds(size, f"half {number}") for number in range(4)],
            )
        )
        n = min(2 * size, len(self.lengths))
        return Shared(
            *(
                bootstrap_interval(
                    float(estimate.mean()), np.average(by_text, axis=1, weights=text_counts), n=n
                )
                for estimate, by_text in zip(once, drawn, strict=True)
            )
        )

    def _compared(
        self, halves: Sequence[Floats], seed_counts: Sequence[Floats], top_words: int
    ) -> tuple[Floats, Floats, Floats]:
        """Return shares across types, within types and their difference: (resamples, texts) each."""
        top = [self._top(half, counts, top_words) for half, counts in zip(halves, seed_counts, strict=True)]
        pairs = [(0, 2), (0, 3), (1, 2), (1, 3)]
        across = np.mean([self._in_common(top[a], top[b], top_words) for a, b in pairs], axis=0)
        within = np.mean([self._in_common(top[a], top[a + 1], top_words) for a in (0, 2)], axis=0)
        return across, within, across - within

    def _top(self, relevance: Floats, seed_counts: Floats, top_words: int) -> NDArray[np.bool_]:
        """Return whether each word is among its text's top words by mean relevance: (resamples, words)."""
        weights = seed_counts / seed_counts.sum(axis=1, keepdims=True)
        chunks = []
        for start in range(0, len(weights), CHUNK):
            means = weights[start : start + CHUNK] @ relevance
            top = [_largest(text, top_words) for text in split_texts(means, self.lengths)]
            chunks.append(np.concatenate(top, axis=1))
        return np.concatenate(chunks)

    def _in_common(self, one: NDArray[np.bool_], other: NDArray[np.bool_], top_words: int) -> Floats:
        """Return the share of each text's top words that are in both: (resamples, texts)."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        both = np.add.reduceat(one & other, starts, axis=1, dtype=float)
        return both / np.minimum(top_words, self.lengths)

    def _texts(self) -> Floats:
        rng = np.random.default_rng(derive(self.seed, "texts"))
        return resample(len(self.lengths), self.resamples, rng)

    def _seeds(self, seeds: int, name: str) -> Floats:
        return resample(seeds, self.resamples, np.random.default_rng(derive(self.seed, name)))


def _largest(values: Floats, count: int) -> NDArray[np.bool_]:
    """Return which of the words are the ``count`` largest of each row, the earlier one of equals."""
    words = values.shape[1]
    if count >= words:
        return np.ones(values.shape, bool)
    values = values - np.arange(words) * 1e-12 * np.abs(values).max()  # no equals; faster than sorting
    return values >= np.partition(values, words - count, axis=1)[:, words - count, None]


def kendall_matrices(relevance: Floats, lengths: Sequence[int]) -> Floats:
    """Return Kendall's tau-b between the rankings of every two seeds: (texts, seeds, seeds).

    A seed that ties all words of a text agrees with no other on it: 0.

    Parameters
    ----------
    relevance : ndarray, (seeds, words of all texts)
    lengths : sequence of int, (texts,)
        Words of each text.
    """
    return np.stack([_kendall_matrix(text) for text in split_texts(relevance, lengths)])


def _kendall_matrix(relevance: Floats) -> Floats:
    first, second = np.triu_indices(relevance.shape[1], k=1)
    signs = np.sign(relevance[:, first] - relevance[:, second])  # (seeds, pairs of words)
    norms = np.linalg.norm(signs, axis=1, keepdims=True)
    signs = signs / np.where(norms > 0, norms, 1)
    return signs @ signs.T


def mean_over_pairs(matrices: Floats, seed_counts: Floats, text_counts: Floats) -> Floats:
    """Return the mean over texts and over pairs of different seeds, for each resample: (resamples,).

    A resample may draw a seed several times. A seed and itself are no pair, since they always agree: NaN
    where a resample has a single seed.

    Parameters
    ----------
    matrices : ndarray, (texts, seeds, seeds)
        A quantity of every two seeds.
    seed_counts, text_counts : ndarray, (resamples, seeds) and (resamples, texts)
        From `lib.stability.resample`; a row of ones gives the estimate itself.
    """
    weights = seed_counts / seed_counts.sum(axis=1, keepdims=True)
    everything = np.stack([((weights @ matrix) * weights).sum(axis=1) for matrix in matrices], axis=1)
    themselves = weights**2 @ np.diagonal(matrices, axis1=1, axis2=2).T  # (resamples, texts)
    pairs = 1 - (weights**2).sum(axis=1, keepdims=True)
    by_text = (everything - themselves) / np.where(pairs > 1e-12, pairs, np.nan)
    return np.average(by_text, axis=1, weights=text_counts)
