"""Stability of explanations across training seeds: equivalent models, signal, noise, SNR, and agreement.

Definitions (paper 2, section 2.2), with r[s, w] the relevance of word w of a text for the model of seed s:
the signal is the variance over words of the mean over seeds; the noise is the mean over words of the variance
over seeds; SNR is their ratio. Because texts differ in length, several texts are concatenated into one matrix
(seeds, words of all texts), given with the number of words of each.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.crossed import Crossed, Part, crossed_difference, crossed_mean
from lib.intervals import Interval, exponential
from lib.proportions import z_statistic

Floats = NDArray[np.float64]

SIGNIFICANT = 1.96  # larger |z| means p < 0.05, two-sided (paper 2 prints p < 0.025, which is one-sided)
SPLITS = 20  # of the seeds into halves, in `overlap_beyond_seeds`


class Stability(NamedTuple):
    """Signal, noise and their ratio, all of the same shape."""

    signal: Floats
    noise: Floats
    snr: Floats


class Overlaps(NamedTuple):
    """How many top words two types share, and how many the seeds of each type share among themselves.

    Attributes
    ----------
    cross, within_a, within_b : ndarray, (texts,)
        Shares of the top words that two halves have in common, one half of each type or both of one type.
    differences : ndarray, (texts,)
        ``cross`` minus the ``within`` of the smaller mean: below 0 where types differ by more than seeds do.
    crossed : Crossed
        The mean of the differences, with its error over seeds and texts.
    """

    cross: Floats
    within_a: Floats
    within_b: Floats
    differences: Floats
    crossed: Crossed


def equivalent_subset(
    accuracies: ArrayLike, n: int, z: Literal["paper", "pooled"] = "paper"
) -> NDArray[np.intp]:
    """Return the largest set of top models whose best and worst accuracies do not differ significantly.

    Parameters
    ----------
    accuracies : array_like, (seeds,)
        Accuracies as fractions.
    n : int
        Number of test texts of the significance test. It sets the width of the band below the best model, and
        need not be the number of texts that the accuracies were measured on: a claim of the paper about its
        models is judged by the paper's band, with n = 1000, whatever the number of texts here.
    z : {"paper", "pooled"}
        Form of `lib.proportions.z_statistic`; a difference is significant above 1.96.

    Returns
    -------
    ndarray, (models,)
        Indices into ``accuracies``, the best model first; models of equal accuracy in their given order.

    Notes
    -----
    Paper 2, section 2.2. The statistic grows as the lower accuracy falls, so the set is a prefix of the
    ranking. With P the mean of the best and the worst accuracy, the band is 1.96 sqrt(P (1 - P) / n): 1.2
    points around the paper's accuracies (P = 0.96, n = 1000), but 4.7 with the demo's 200 texts (P = 0.87),
    which makes nearly all models equivalent. At P = 0.87, n = 1000 gives 2.1 points. If fewer than n texts
    are measured, the accuracies scatter more than the band allows for, and fewer models count as equivalent.
    """
    accuracies = np.asarray(accuracies, float)
    ranking = np.argsort(-accuracies, kind="stable")
    best = accuracies[ranking[0]]
    return ranking[z_statistic(best, accuracies[ranking], n, z) <= SIGNIFICANT]


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
        With fewer than two seeds, an unknown estimate, a text without words, or lengths that do not add up to
        the number of words.
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


def over_texts(stability: Stability) -> Stability:
    """Average signal and noise over texts; SNR is the ratio of the averages.

    Parameters
    ----------
    stability : Stability
        Of arrays (texts,).

    Returns
    -------
    Stability
        Of numbers.
    """
    signal, noise = stability.signal.mean(), stability.noise.mean()
    return Stability(signal, noise, _ratio(signal, noise))


def log_stability(relevance: ArrayLike, lengths: ArrayLike | None = None) -> Stability:
    """Return seed and text contributions to log signal, log noise and log SNR over all texts, for intervals.

    Parameters
    ----------
    relevance : array_like, (seeds, words)
        As in `signal_noise`; at least three seeds.
    lengths : array_like of int, (texts,), optional
        As in `signal_noise`.

    Returns
    -------
    Stability
        Of arrays (seeds, texts), whose mean is the logarithm of the unbiased estimate over all texts. NaN
        where that estimate is not positive, as an unbiased signal may be.

    Raises
    ------
    ValueError
        With fewer than three seeds, or as `signal_noise`.

    Notes
    -----
    Jackknife pseudo-values over the seeds (Tukey): S times the estimate minus (S - 1) times the estimate
    without one seed, for each text; linearised at the mean over texts to give the logarithm (delta method).
    Unbiased signal and noise are U-statistics, so the pseudo-values' mean is exactly the estimate.

    `stability_interval` and `stability_ratio` turn these into intervals; `lib.crossed.crossed_difference` of
    two types also says how many seeds or texts an equivalence would need.

    In simulations with 6 to 30 seeds and 40 texts, 95 % intervals of noise, signal, SNR and ratios of noise
    cover 92 to 97 % (down to 88 % with 6 seeds of which some are far noisier than others), those of ratios of
    signals 97 to 99 %: the jackknife's variance is too large for what is quadratic in the seeds (Efron and
    Stein, Annals of Statistics 9, 1981). Why not the joint bootstrap: see `lib.crossed`.
    """
    relevance = _checked(relevance, lengths)
    seeds = len(relevance)
    if seeds < 3:
        raise ValueError(f"seeds = {seeds}: at least 3 are required, since each is left out in turn")
    sizes = _lengths(relevance, lengths)

    def unbiased(counts: Floats, drawn: int) -> tuple[Floats, Floats]:
        signal, noise, mean_noise = _moments(relevance, counts, sizes)
        return signal - mean_noise / (drawn - 1), noise * drawn / (drawn - 1)

    with_all = unbiased(np.ones((1, seeds)), seeds)
    without_one = unbiased(1 - np.eye(seeds), seeds - 1)
    logs = []
    for all_seeds, without in zip(with_all, without_one, strict=True):
        values = seeds * all_seeds - (seeds - 1) * without  # (seeds, texts)
        mean = all_seeds.mean()
        logs.append(np.log(mean) + values / mean - 1 if mean > 0 else np.full_like(values, np.nan))
    signal, noise = logs
    return Stability(signal, noise, signal - noise)


def stability_interval(logs: Floats) -> Interval | None:
    """Return signal, noise or SNR over all texts, with its 95 % interval over seeds and texts.

    Parameters
    ----------
    logs : ndarray, (seeds, texts)
        A field of `log_stability`.

    Returns
    -------
    Interval or None
        None if the estimate is not positive.
    """
    return None if np.isnan(logs).any() else exponential(crossed_mean(logs).interval())


def stability_ratio(one: Floats, other: Floats, *, paired: bool) -> Interval | None:
    """Return the ratio of a quantity of one type to that of another on the same texts, at 95 %.

    Parameters
    ----------
    one, other : ndarray, (seeds, texts)
        The same field of `log_stability` of two types.
    paired : bool
        Whether the types share their seeds, as a type and its quantised version do.

    Returns
    -------
    Interval or None
        None if an estimate is not positive.
    """
    if np.isnan(one).any() or np.isnan(other).any():
        return None
    return exponential(crossed_difference(one, other, paired=paired).interval())


def split_texts(relevance: ArrayLike, lengths: ArrayLike) -> list[Floats]:
    """Split a matrix of the words of all texts by text: (texts,) of (seeds, words).

    Parameters
    ----------
    relevance : array_like, (seeds, words of all texts)
    lengths : array_like of int, (texts,)
        Number of words of each text.
    """
    return np.split(np.asarray(relevance, float), np.cumsum(lengths)[:-1], axis=1)


def unit_signs(relevance: ArrayLike) -> Floats:
    """Return the signs of all differences between two words, scaled to length 1.

    The dot product of two seeds' signs is Kendall's tau-b between their rankings.

    Parameters
    ----------
    relevance : array_like, (seeds, words)

    Returns
    -------
    ndarray, (seeds, pairs of words)
        All 0 for a seed that ties all words.
    """
    relevance = np.asarray(relevance, float)
    first, second = np.triu_indices(relevance.shape[1], k=1)
    signs = np.sign(relevance[:, first] - relevance[:, second])
    lengths = np.linalg.norm(signs, axis=1, keepdims=True)
    return signs / np.where(lengths > 0, lengths, 1)


def kendall_tau(relevance: ArrayLike) -> float:
    """Return Kendall's tau-b between the rankings of two seeds, averaged over all pairs of seeds.

    Parameters
    ----------
    relevance : array_like, (seeds, words)

    Returns
    -------
    float
        1 if all seeds give the same ranking, 0 on average for random rankings, NaN if a seed ties all words.

    Raises
    ------
    ValueError
        If there are fewer than two seeds.

    Notes
    -----
    Tau-b of two seeds is the dot product of their `unit_signs`, so the sum over all pairs needs only the sum
    of all signs.
    """
    signs = unit_signs(_checked(relevance, None))
    if not signs.any(axis=1).all():
        return float("nan")
    return _mean_over_pairs(signs)


def top_k_overlap(relevance: ArrayLike, k: int) -> float:
    """Return the share of the k most relevant words common to two seeds, averaged over all pairs of seeds.

    Parameters
    ----------
    relevance : array_like, (seeds, words)
    k : int
        All words of a text with fewer are its top words; ties go to the earlier word.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or k is below 1.
    """
    relevance = _checked(relevance, None)
    if k < 1:
        raise ValueError(f"k = {k}: allowed is 1 or more")
    k = min(k, relevance.shape[1])
    top = np.zeros_like(relevance)
    np.put_along_axis(top, np.argsort(-relevance, axis=1, kind="stable")[:, :k], 1 / np.sqrt(k), axis=1)
    return _mean_over_pairs(top)


def deviation_over_seeds(mean: Floats, mean_square: Floats) -> Floats:
    """Return the standard deviation over seeds of each word's relevance, from its two moments: (words,)."""
    return np.sqrt(np.maximum(mean_square - mean**2, 0))


def mean_over_deviation(mean: Floats, mean_square: Floats) -> Floats:
    """Return each word's mean relevance over seeds divided by its standard deviation over seeds: (words,)."""
    return mean / (deviation_over_seeds(mean, mean_square) + 1e-9)


def mean_relevance_statistic(statistic: Callable[..., ArrayLike], *relevance: ArrayLike) -> Crossed:
    """Return the mean over texts of a statistic of relevances averaged over seeds, with its error over both.

    Examples are the overlap of the top words of two types and the average precision of finding cues. An
    interval over texts alone leaves out that other seeds have another mean relevance, in many texts at once.

    Parameters
    ----------
    statistic : callable
        Takes one mean relevance (words,) per type and returns one value per text, (texts,). Texts without a
        value (NaN) are left out.
    *relevance : array_like, (seeds, words)
        Of one type, or of several that share their seeds (a type and its quantised version); at least two
        seeds.

    Raises
    ------
    ValueError
        With fewer than two seeds, or types of different numbers of them.

    Notes
    -----
    Each seed is left out in turn, from all types at once. Counts of top words jump when a seed is left out,
    which inflates the pseudo-values' scatter within a text; what seeds contribute is therefore their mean
    square without the residual, and the texts' variance is that of the statistic itself.
    """
    matrices = [np.asarray(values, float) for values in relevance]
    seeds = len(matrices[0])
    if seeds < 2:
        raise ValueError(f"seeds = {seeds}: at least 2 are required")
    if any(len(matrix) != seeds for matrix in matrices):
        raise ValueError(f"types of {', '.join(str(len(m)) for m in matrices)} seeds: allowed is one number")
    means = [matrix.mean(axis=0) for matrix in matrices]
    values = np.asarray(statistic(*means), float)
    known = ~np.isnan(values)
    values = values[known]
    without = np.empty((seeds, len(values)))
    for seed in range(seeds):
        left = [
            (seeds * mean - matrix[seed]) / (seeds - 1) for mean, matrix in zip(means, matrices, strict=True)
        ]
        without[seed] = np.asarray(statistic(*left), float)[known]
    return _with_texts(values, [_seeds_alone(seeds * values - (seeds - 1) * without)])


def overlap_beyond_seeds(
    a: ArrayLike, b: ArrayLike, lengths: ArrayLike, k: int, rng: np.random.Generator
) -> Overlaps:
    """Compare the top words shared by two types with those shared by halves of the same type.

    Means over few seeds share fewer top words than means over many, even within a type. All overlaps are
    therefore between halves of the same number of seeds: min(seeds) // 2.

    Parameters
    ----------
    a, b : array_like, (seeds, words)
        Relevances of two types with independent seeds, at least four each.
    lengths : array_like of int, (texts,)
        Number of words of each text.
    k : int
        Number of top words: all words of a text with fewer.
    rng : numpy.random.Generator
        Draws the halves of `SPLITS` random splits, over which the overlaps are averaged.

    Raises
    ------
    ValueError
        With fewer than four seeds of a type.

    Notes
    -----
    A half of each type shares more words than two halves of the noisier type, even if both types have the
    same words, and fewer than the halves of both types on average. So the yardstick is the noisier type:
    with the mean of both, noise alone would tell types of the same words apart (a test shows it).

    The error over seeds is a jackknife: each seed is left out of its half, in every split. The expectation of
    the difference when the types have one distribution is 0 with a quadratic error, for which the jackknife
    is conservative: there the interval covers more than it says.
    """
    types = [np.asarray(a, float), np.asarray(b, float)]
    if min(map(len, types)) < 4:
        raise ValueError(f"types of {len(types[0])} and {len(types[1])} seeds: at least 4 each are required")
    sizes = np.asarray(lengths, int)
    half = min(map(len, types)) // 2
    overlaps = np.zeros((3, len(sizes)))  # cross, within a, within b
    # Of leaving a seed out, on cross minus within a and on cross minus within b.
    effects = [np.zeros((2, len(one), len(sizes))) for one in types]

    def differences_of(tops: list[NDArray[np.bool_]]) -> Floats:
        cross, within_a, within_b = _half_overlaps(tops, sizes, k)
        return np.array([cross - within_a, cross - within_b])  # (2, rows, texts)

    for _ in range(SPLITS):
        rows = [part for one in types for part in np.split(rng.permutation(len(one))[: 2 * half], 2)]
        halves = [types[index // 2][part] for index, part in enumerate(rows)]  # (half, words) each
        tops = [_top_words(values.mean(axis=0, keepdims=True), sizes, k) for values in halves]
        overlaps += np.concatenate(_half_overlaps(tops, sizes, k)) / SPLITS
        together = differences_of(tops)
        for index, values in enumerate(halves):
            without = (values.sum(axis=0) - values) / (half - 1)
            changed = [*tops[:index], _top_words(without, sizes, k), *tops[index + 1 :]]
            effects[index // 2][:, rows[index]] += (together - differences_of(changed)) / SPLITS
    cross, within_a, within_b = overlaps
    noisier = int(within_b.mean() < within_a.mean())
    differences = cross - (within_a, within_b)[noisier]
    # A seed is in a half in 2 half / seeds of the splits, and weighs 1 / half there.
    parts = [
        _seeds_alone(differences + len(effect) * (half - 1) / half * effect)
        for effect in (both[noisier] for both in effects)
    ]
    return Overlaps(cross, within_a, within_b, differences, _with_texts(differences, parts))


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


def _seeds_alone(pseudo_values: Floats) -> Part:
    """Return what seeds add to the variance of a mean, without the residual: (seeds, texts) -> Part."""
    (seeds,) = crossed_mean(pseudo_values).seeds
    return Part(seeds.net, 0.0, seeds.count)


def _with_texts(values: Floats, seeds: list[Part]) -> Crossed:
    """Return the mean of values of texts, (texts,), which contain the residual."""
    count = len(values)
    texts = (Part(float(values.var(ddof=1)) / count, 0.0, count),) if count > 1 else ()
    return Crossed(float(values.mean()), tuple(seeds), texts)


def _top_words(relevance: Floats, lengths: NDArray[np.intp], k: int) -> NDArray[np.bool_]:
    """Return whether each word is among the top k of its text: (rows, words) -> (rows, words)."""
    top = np.zeros(relevance.shape, bool)
    for start, text in zip(_starts(lengths), split_texts(relevance, lengths), strict=True):
        best = np.argsort(-text, axis=1, kind="stable")[:, :k]
        np.put_along_axis(top, start + best, True, axis=1)
    return top


def _half_overlaps(
    tops: Sequence[NDArray[np.bool_]], lengths: NDArray[np.intp], k: int
) -> tuple[Floats, Floats, Floats]:
    """Return overlaps of the halves (a, a, b, b): across types, within a, within b, each (rows, texts)."""
    starts = _starts(lengths)
    sizes = np.minimum(k, lengths)  # (texts,)

    def shared(one: int, other: int) -> Floats:
        return np.add.reduceat(tops[one] & tops[other], starts, axis=1, dtype=float) / sizes

    cross = (shared(0, 2) + shared(0, 3) + shared(1, 2) + shared(1, 3)) / 4
    return cross, shared(0, 1), shared(2, 3)


def _checked(relevance: ArrayLike, lengths: ArrayLike | None) -> Floats:
    relevance = np.asarray(relevance, float)
    if relevance.ndim != 2 or len(relevance) < 2:
        raise ValueError(
            f"relevance has shape {relevance.shape}; (seeds, words) with at least two seeds is required"
        )
    if lengths is not None and np.sum(lengths) != relevance.shape[1]:
        raise ValueError(f"lengths add up to {np.sum(lengths)} words, but relevance has {relevance.shape[1]}")
    if lengths is not None and np.any(np.asarray(lengths) < 1):
        raise ValueError(f"text {np.argmin(lengths)} has {np.min(lengths)} words; allowed: 1 or more")
    return relevance


def _lengths(relevance: Floats, lengths: ArrayLike | None) -> NDArray[np.intp]:
    return np.array([relevance.shape[1]]) if lengths is None else np.asarray(lengths, int)


def _starts(lengths: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where each text begins among the words of all texts: (texts,) -> (texts,)."""
    return np.cumsum(lengths) - lengths


def _moments(relevance: Floats, counts: Floats, lengths: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """Return the plug-in signal, noise and centred noise: each (resamples, texts).

    The last is the noise of r minus its mean over the text's words. A text's mean adds nothing to the signal,
    so this is what noise contributes to it, even if the words' relevances are correlated (normalised ones
    are, since they sum to 1).
    """
    starts = _starts(lengths)

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
