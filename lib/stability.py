"""Stability of explanations across training seeds: equivalent models, signal, noise, SNR, and agreement.

Definitions (paper 2, section 2.2), with r[s, w] the relevance of word w of a text for the model of seed s:
the signal is the variance over words of the mean over seeds; the noise is the mean over words of the variance
over seeds; SNR is their ratio. Because texts differ in length, several texts are concatenated into one matrix
(seeds, words of all texts), given with the number of words of each.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib.intervals import percentile_interval
from lib.proportions import z_statistic

Floats = NDArray[np.float64]

SIGNIFICANT = 1.96  # larger |z| means p < 0.05, two-sided (paper 2 prints p < 0.025, which is one-sided)


class Stability(NamedTuple):
    """Signal, noise and their ratio, all of the same shape."""

    signal: Floats
    noise: Floats
    snr: Floats


class Concordance(NamedTuple):
    """Kendall's coefficient of concordance (0: arbitrary rankings, 1: identical ones) and its p-value."""

    w: float
    p: float


def equivalent_subset(
    accuracies: ArrayLike, n: int, z: Literal["paper", "pooled"] = "paper"
) -> NDArray[np.intp]:
    """Return the largest set of top models whose best and worst accuracies do not differ significantly.

    Parameters
    ----------
    accuracies : array_like, (seeds,)
        Accuracies as fractions.
    n : int
        Number of test texts.
    z : {"paper", "pooled"}
        Form of `lib.proportions.z_statistic`; a difference is significant above 1.96.

    Returns
    -------
    ndarray, (models,)
        Indices into ``accuracies``, the best model first; models of equal accuracy in their given order.

    Notes
    -----
    Paper 2, section 2.2. The statistic grows as the lower accuracy falls, so the set is a prefix of the
    ranking.
    """
    accuracies = np.asarray(accuracies, float)
    ranking = np.argsort(-accuracies, kind="stable")
    best = accuracies[ranking[0]]
    differs = [z_statistic(best, accuracy, n, z) > SIGNIFICANT for accuracy in accuracies[ranking]]
    return ranking[~np.array(differs)]


def signal_noise(
    relevance: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    estimate: Literal["plug-in", "unbiased"] = "plug-in",
) -> Stability:
    """Measure signal, noise and SNR of one or several texts (paper 2, section 2.2).

    Parameters
    ----------
    relevance : array_like, (seeds, words)
        The words of one text, or of all texts concatenated.
    lengths : array_like of int, (texts,), optional
        Number of words of each text. Without it, all words belong to one text.
    estimate : {"plug-in", "unbiased"}
        ``plug-in`` is the paper's definition, with variances divided by the number of seeds. ``unbiased``
        divides the noise's sum of squares by the number of seeds minus one, and subtracts from the signal
        what noise alone contributes to it, the variance of a mean over the seeds; the signal can then be
        negative.

    Returns
    -------
    Stability
        Of numbers; with ``lengths``, of arrays (texts,).

    Raises
    ------
    ValueError
        With fewer than two seeds, an unknown estimate, or lengths that do not add up to the number of words.
    """
    relevance = _checked(relevance, lengths)
    seeds = len(relevance)
    once = np.ones((1, seeds))
    moments = _moments(relevance, once, _lengths(relevance, lengths))
    signal, noise, mean_noise = (moment[0] for moment in moments)
    if estimate == "unbiased":
        signal = signal - mean_noise / (seeds - 1)
        noise = noise * seeds / (seeds - 1)
    elif estimate != "plug-in":
        raise ValueError(f"estimate = {estimate!r}: allowed are 'plug-in' and 'unbiased'")
    result = Stability(signal, noise, _ratio(signal, noise))
    return Stability(*(values[0] for values in result)) if lengths is None else result


def resample(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw ``n`` of ``n`` items with replacement; return counts, (resamples, n), each row summing to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def bootstrap_signal_noise(
    relevance: ArrayLike, seed_counts: Floats, lengths: ArrayLike | None = None
) -> Stability:
    """Estimate signal, noise and SNR on each resample of the seeds, corrected for bias.

    Resampled seeds repeat, so their variance is too small, and noise enters a resample's signal twice: once
    through the finite number of seeds and once through the resampling. Both are corrected: the expectation
    over resamples is the unbiased estimate of `signal_noise`.

    Parameters
    ----------
    relevance : array_like, (seeds, words)
        As in `signal_noise`.
    seed_counts : ndarray, (resamples, seeds)
        From `resample`. Passing the same counts for two model types that share seeds gives a paired
        bootstrap.
    lengths : array_like of int, (texts,), optional
        As in `signal_noise`.

    Returns
    -------
    Stability
        Of arrays (resamples, texts); without ``lengths``, (resamples,).
    """
    relevance = _checked(relevance, lengths)
    seeds = len(relevance)
    signal, noise, mean_noise = _moments(relevance, seed_counts, _lengths(relevance, lengths))
    shrunk = (seeds - 1) / seeds  # factor by which resampling reduces a variance, in expectation
    signal = signal - mean_noise / shrunk * (1 / seeds + 1 / (seeds - 1))
    noise = noise / shrunk**2
    result = Stability(signal, noise, _ratio(signal, noise))
    return Stability(*(values[:, 0] for values in result)) if lengths is None else result


def over_texts(stability: Stability, text_counts: Floats | None = None) -> Stability:
    """Average signal and noise over texts; SNR is the ratio of the averages.

    Parameters
    ----------
    stability : Stability
        Of arrays (..., texts).
    text_counts : ndarray, (resamples, texts), optional
        From `resample`. Texts are then resampled too, each row of counts applied to the same row of
        ``stability``: a joint bootstrap over seeds and texts.

    Returns
    -------
    Stability
        Of arrays (...).
    """
    signal = np.average(stability.signal, axis=-1, weights=text_counts)
    noise = np.average(stability.noise, axis=-1, weights=text_counts)
    return Stability(signal, noise, _ratio(signal, noise))


def equivalent(ratios: ArrayLike, margin: float, *, n: int, level: float = 0.95) -> bool:
    """Test whether two positive quantities are equal within a factor, by two one-sided tests (TOST).

    Both tests reject at 1 - ``level`` if and only if the interval at 2 ``level`` - 1 lies between 1 / margin
    and margin. A non-significant difference would not show equality: too few seeds give one as well.

    Parameters
    ----------
    ratios : array_like, (resamples,)
        Bootstrap ratios of the two quantities.
    margin : float
        The factor, above 1, fixed before the measurement.
    n : int
        As in `lib.intervals.percentile_interval`.
    level : float
        Confidence level of each test.

    Raises
    ------
    ValueError
        If the margin is not above 1.
    """
    if not margin > 1:
        raise ValueError(f"margin = {margin}: allowed are factors above 1")
    low, high = percentile_interval(ratios, 2 * level - 1, n=n)
    return 1 / margin < low and high < margin


def split_texts(relevance: ArrayLike, lengths: ArrayLike) -> list[Floats]:
    """Split a matrix of the words of all texts by text: (texts,) of (seeds, words).

    Parameters
    ----------
    relevance : array_like, (seeds, words of all texts)
    lengths : array_like of int, (texts,)
        Number of words of each text.
    """
    return np.split(np.asarray(relevance, float), np.cumsum(lengths)[:-1], axis=1)


def kendall_tau(relevance: ArrayLike) -> float:
    """Return Kendall's tau-b between the rankings of two seeds, averaged over all pairs of seeds.

    Parameters
    ----------
    relevance : array_like, (seeds, words)

    Returns
    -------
    float
        1 if all seeds give the same ranking, 0 on average for random rankings, NaN if a seed ties all words.

    Notes
    -----
    With u[s] the signs of all differences between two words, scaled to length 1, tau-b of two seeds is the
    dot product of their u. The sum over all pairs therefore needs only the sum of all u.
    """
    relevance = np.asarray(relevance, float)
    first, second = np.triu_indices(relevance.shape[1], k=1)
    signs = np.sign(relevance[:, first] - relevance[:, second])  # (seeds, pairs of words)
    lengths = np.linalg.norm(signs, axis=1, keepdims=True)
    if not lengths.all():
        return float("nan")
    return _mean_over_pairs(signs / lengths)


def top_k_overlap(relevance: ArrayLike, k: int) -> float:
    """Return the share of the k most relevant words common to two seeds, averaged over all pairs of seeds.

    Parameters
    ----------
    relevance : array_like, (seeds, words)
    k : int
        At most the number of words; ties go to the earlier word.
    """
    relevance = np.asarray(relevance, float)
    top = np.zeros_like(relevance)
    np.put_along_axis(top, np.argsort(-relevance, axis=1, kind="stable")[:, :k], 1 / np.sqrt(k), axis=1)
    return _mean_over_pairs(top)


def concordance(relevance: ArrayLike) -> Concordance:
    """Test whether the words' ranks differ from uniformly random ones (Friedman's test).

    If explanations were arbitrary, every order of the words would be equally likely for each seed, and the
    expected mean rank over the seeds would be the same for all words (paper 2, section 1).

    Parameters
    ----------
    relevance : array_like, (seeds, words)
        At least three words.
    """
    relevance = np.asarray(relevance, float)
    seeds, words = relevance.shape
    statistic, p = stats.friedmanchisquare(*relevance.T)
    return Concordance(float(statistic) / (seeds * (words - 1)), float(p))


def permuted_null(
    statistic: Callable[[Floats], float], relevance: ArrayLike, permutations: int, rng: np.random.Generator
) -> Floats:
    """Return a statistic's null distribution, each seed's relevances permuted over words: (permutations,).

    Parameters
    ----------
    statistic : callable
        (seeds, words) -> number.
    relevance : array_like, (seeds, words)
    permutations : int
    rng : numpy.random.Generator
    """
    relevance = np.asarray(relevance, float)
    return np.array([statistic(rng.permuted(relevance, axis=1)) for _ in range(permutations)])


def _checked(relevance: ArrayLike, lengths: ArrayLike | None) -> Floats:
    relevance = np.asarray(relevance, float)
    if relevance.ndim != 2 or len(relevance) < 2:
        raise ValueError(
            f"relevance has shape {relevance.shape}; (seeds, words) with at least two seeds is required"
        )
    if lengths is not None and np.sum(lengths) != relevance.shape[1]:
        raise ValueError(f"lengths add up to {np.sum(lengths)} words, but relevance has {relevance.shape[1]}")
    return relevance


def _lengths(relevance: Floats, lengths: ArrayLike | None) -> NDArray[np.intp]:
    return np.array([relevance.shape[1]]) if lengths is None else np.asarray(lengths, int)


def _moments(relevance: Floats, counts: Floats, lengths: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Return the plug-in signal, noise and centred noise: each (resamples, texts).

    The last is the noise of r minus its mean over the text's words. A text's mean adds nothing to the signal,
    so this is what noise contributes to it, even if the words' relevances are correlated (normalised ones
    are, since they sum to 1).
    """
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    def mean_over_words(values: Floats) -> Floats:
        return np.add.reduceat(values, starts, axis=1) / lengths

    weights = counts / counts.sum(axis=1, keepdims=True)  # (resamples, seeds)
    centred = relevance - np.repeat(mean_over_words(relevance), lengths, axis=1)
    signal = mean_over_words((weights @ centred) ** 2)
    return (
        signal,
        mean_over_words(_variance(relevance, weights)),
        mean_over_words(_variance(centred, weights)),
    )


def _variance(values: Floats, weights: Floats) -> Floats:
    """Return the variance over weighted seeds: (seeds, words), (resamples, seeds) -> (resamples, words)."""
    values = values - values.mean(axis=0)  # small numbers to square below: no cancellation
    return np.maximum(weights @ values**2 - (weights @ values) ** 2, 0)


def _ratio(signal: Floats, noise: Floats) -> Floats:
    """Return signal / noise: infinite without noise, NaN without noise and signal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(signal, noise)


def _mean_over_pairs(vectors: Floats) -> float:
    """Return the mean dot product over all pairs of different unit vectors: (seeds, dim) -> number."""
    seeds = len(vectors)
    return float((np.sum(vectors.sum(axis=0) ** 2) - seeds) / (seeds * (seeds - 1)))
