"""How stable explanations are over training seeds: equivalent models, signal, noise, SNR, and agreement.

Paper 2, section 2.2, with r[s, w] the relevance of word w in a text for the model of seed s: the signal is
the variance over the words of the means over the seeds, the noise the mean over the words of the variances
over the seeds, SNR their ratio. Texts differ in length, so that several texts stand in a row in one
matrix (seeds, words of all texts), with the number of words of each.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib.intervals import percentile_interval
from lib.proportions import z_statistic

Floats = NDArray[np.float64]

SIGNIFICANT = 1.96  # |z| beyond it: p < 0.05, two-sided (paper 2 prints p < 0.025, which is one-sided)


class Stability(NamedTuple):
    """Signal, noise and their ratio, all of one shape."""

    signal: Floats
    noise: Floats
    snr: Floats


def equivalent_subset(
    accuracies: ArrayLike, n: int, z: Literal["paper", "pooled"] = "paper"
) -> NDArray[np.intp]:
    """Return the largest set of best models whose best and worst accuracy do not differ significantly.

    Parameters
    ----------
    accuracies : array_like
        (seeds,), as fractions.
    n : int
        Number of test texts.
    z : {"paper", "pooled"}
        See `lib.proportions.z_statistic`. A difference is significant beyond 1.96.

    Returns
    -------
    ndarray
        Indices into ``accuracies``, the best first; models of equal accuracy in their order.

    Notes
    -----
    Paper 2, section 2.2. With b falling the statistic rises, so that the set is a prefix of the ranking.
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
    """Measure signal, noise and SNR of one text or of several (paper 2, section 2.2).

    Parameters
    ----------
    relevance : array_like
        (seeds, words): one text's words, or the words of all texts in a row.
    lengths : array_like of int, optional
        (texts,): words of each text. Without it the words are one text's.
    estimate : {"plug-in", "unbiased"}
        ``plug-in`` is the paper's definition with numpy's variance (divided by the number of seeds).
        ``unbiased`` divides the noise's sum of squares by one less, and takes from the signal what noise
        alone would put there: the variance of a mean over the seeds. Its signal can be negative.

    Returns
    -------
    Stability
        Of numbers, or of arrays (texts,).

    Raises
    ------
    ValueError
        With fewer than two seeds, or lengths that do not add up to the words.
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
    """Draw ``n`` of ``n`` things with replacement, and count: (resamples, n), each row summing to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def bootstrap_signal_noise(
    relevance: ArrayLike, seed_counts: Floats, lengths: ArrayLike | None = None
) -> Stability:
    """Resample the seeds and estimate signal, noise and SNR anew, without bias.

    Resampled seeds repeat, so that their variance is too small, and noise enters a resample's signal twice:
    once by the seeds that there are and once by the drawing. Both are corrected: the mean over all resamples
    is the unbiased estimate of `signal_noise`.

    Parameters
    ----------
    relevance : array_like
        (seeds, words).
    seed_counts : ndarray
        (resamples, seeds), from `resample`. Two model types that share seeds share the counts: a paired
        bootstrap.
    lengths : array_like of int, optional
        (texts,), as in `signal_noise`.

    Returns
    -------
    Stability
        Of arrays (resamples, texts); without ``lengths`` (resamples,).
    """
    relevance = _checked(relevance, lengths)
    seeds = len(relevance)
    signal, noise, mean_noise = _moments(relevance, seed_counts, _lengths(relevance, lengths))
    shrunk = (seeds - 1) / seeds  # of a resample's variance, in the mean
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
    text_counts : ndarray, optional
        (resamples, texts), from `resample`: then the texts are resampled as well, a row of counts with the
        same row of ``stability``. That is the bootstrap over seeds and texts jointly.

    Returns
    -------
    Stability
        Of arrays (...).
    """
    signal = np.average(stability.signal, axis=-1, weights=text_counts)
    noise = np.average(stability.noise, axis=-1, weights=text_counts)
    return Stability(signal, noise, _ratio(signal, noise))


def equivalent(ratios: ArrayLike, margin: float, *, n: int, level: float = 0.95) -> bool:
    """Test whether two positive quantities are equal within a factor: two one-sided tests (TOST).

    Both tests reject at 1 - ``level`` exactly if the interval at 2 ``level`` - 1 lies between 1 / margin and
    margin. That two quantities do not differ significantly would show nothing: few seeds give that as well.

    Parameters
    ----------
    ratios : array_like
        (resamples,): the bootstrap's ratios of the two.
    margin : float
        The factor, above 1, declared before the measurement.
    n : int
        As in `lib.intervals.percentile_interval`.
    level : float
        Of each test.

    Raises
    ------
    ValueError
        If the margin is not above 1.
    """
    if not margin > 1:
        raise ValueError(f"margin = {margin}: a factor above 1 is wanted")
    low, high = percentile_interval(ratios, 2 * level - 1, n=n)
    return 1 / margin < low and high < margin


def _checked(relevance: ArrayLike, lengths: ArrayLike | None) -> Floats:
    relevance = np.asarray(relevance, float)
    if relevance.ndim != 2 or len(relevance) < 2:
        raise ValueError(f"relevance has shape {relevance.shape}; (seeds, words) with two seeds is wanted")
    if lengths is not None and np.sum(lengths) != relevance.shape[1]:
        raise ValueError(f"the texts have {np.sum(lengths)} words, relevance {relevance.shape[1]}")
    return relevance


def _lengths(relevance: Floats, lengths: ArrayLike | None) -> NDArray[np.intp]:
    return np.array([relevance.shape[1]]) if lengths is None else np.asarray(lengths, int)


def _moments(relevance: Floats, counts: Floats, lengths: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Return the plug-in signal, noise and noise about a text's mean: each (resamples, texts).

    The last is the noise of r less its mean over the text's words. A text's mean adds nothing to the signal,
    so that this is what noise puts into it, also where the words' relevances are correlated (after a
    normalisation they are: they sum to 1).
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
    values = values - values.mean(axis=0)  # what is squared below is then small: nothing cancels
    return np.maximum(weights @ values**2 - (weights @ values) ** 2, 0)


def _ratio(signal: Floats, noise: Floats) -> Floats:
    """Return signal / noise; without noise infinity, and not a number where there is no signal either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(signal, noise)


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
