"""Intervals of a mean, a proportion, a standard deviation, a ratio, and of what a bootstrap resampled.

Every function returns an `Interval`: the estimate and the bounds around it, in the unit of the values.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it, in one unit.

    Raises
    ------
    ValueError
        If the estimate lies outside its interval.
    """

    estimate: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.estimate <= self.high:
            raise ValueError(
                f"interval [{self.low}, {self.high}] does not contain its estimate {self.estimate}"
            )

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


def exactly(value: float) -> Interval:
    """Return an interval of no width, for what is counted and not estimated."""
    return Interval(float(value), float(value), float(value))


def mean_and_range(values: ArrayLike) -> Interval:
    """Return a mean with the smallest and the largest value, for a few cases that are not a sample."""
    return Interval(float(np.mean(values)), float(np.min(values)), float(np.max(values)))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return a mean with Student's interval: (seeds,) -> Interval.

    It has no width where all values are equal.

    Raises
    ------
    ValueError
        With fewer than two values: a single one has no spread.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        raise ValueError(f"values = {len(values)}: an interval of a mean needs at least 2")
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return a proportion with Clopper and Pearson's exact interval."""
    bounds = stats.binomtest(successes, trials).proportion_ci(confidence)
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def sd_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return a standard deviation with the interval for normal data, by chi-squared: (trials,) -> Interval.

    From seven values it reaches from 0.64 to 2.2 times the estimate.

    Raises
    ------
    ValueError
        With fewer than two values.
    """
    values = np.asarray(values, float)
    freedom = len(values) - 1
    if freedom < 1:
        raise ValueError(f"values = {len(values)}: a standard deviation needs at least 2")
    sd = values.std(ddof=1)
    low, high = np.sqrt(freedom / stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], freedom))
    return Interval(float(sd), float(sd * low), float(sd * high))


def sd_ratio_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the ratio of two standard deviations with the interval for normal data, by F.

    Parameters
    ----------
    first, second : array_like, (trials,)
        Two independent samples.
    confidence : float
        Of the interval.

    Raises
    ------
    ValueError
        With fewer than two values in either sample, or if the second ones are all equal.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    freedom = len(first) - 1, len(second) - 1
    if min(freedom) < 1 or not second.std() > 0:
        raise ValueError(
            "a ratio of standard deviations needs at least 2 values a sample, the second ones not all equal"
        )
    ratio = first.std(ddof=1) / second.std(ddof=1)
    low, high = ratio / np.sqrt(stats.f.ppf([(1 + confidence) / 2, (1 - confidence) / 2], *freedom))
    return Interval(float(ratio), float(low), float(high))


def percentile_interval(resamples: ArrayLike, level: float = 0.95, *, n: int) -> tuple[float, float]:
    """Return the bounds of the bootstrap's expanded percentile interval.

    With few seeds a plain percentile interval is too narrow, as a normal interval is where Student's is due.
    The quantiles are therefore taken where the normal one is sqrt(n / (n - 1)) times Student's at ``level``
    (Hesterberg, The American Statistician 69, 2015).

    Parameters
    ----------
    resamples : array_like
        (resamples,). NaN, such as an SNR where one seed was drawn throughout, is left out.
    level : float
        Intended coverage.
    n : int
        How many seeds (or texts) were resampled; the smaller number where both were.
    """
    quantile = np.sqrt(n / (n - 1)) * stats.t.isf((1 - level) / 2, n - 1)
    outside = stats.norm.sf(quantile)
    # No interpolation: a ratio may be infinite where a resample has no noise.
    low, high = np.nanquantile(resamples, [outside, 1 - outside], method="inverted_cdf")
    return float(low), float(high)


def bootstrap_interval(estimate: float, resamples: ArrayLike, level: float = 0.95, *, n: int) -> Interval:
    """Return an estimate with its expanded percentile interval (`percentile_interval`).

    The interval contains its estimate, which the bootstrap's own error may leave just outside.
    """
    low, high = percentile_interval(resamples, level, n=n)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def paired_difference(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    confidence: float,
    seed: int,
    resamples: int = 2_000,
) -> Interval:
    """Return mean accuracy of a minus that of b, with a bootstrap interval over seeds and texts jointly.

    A resample draws the seeds of either side independently and the texts once for both, since both sides were
    tested on the same texts.

    Parameters
    ----------
    correct_a, correct_b : ndarray of bool, (seeds, texts)
        Whether each model classifies each text correctly; the numbers of seeds may differ.
    confidence : float
        Of the percentile interval, such as 0.95.
    seed : int
        Of the resampling.
    resamples : int
        How many.
    """
    rng = np.random.default_rng(seed)
    texts = correct_a.shape[1]

    def resampled_mean(correct: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
        seeds = rng.integers(len(correct), size=len(correct))
        return float(correct[seeds].mean(axis=0) @ weights) / texts

    differences = np.empty(resamples)  # (resamples,)
    for i in range(resamples):
        weights = rng.multinomial(texts, np.full(texts, 1 / texts)).astype(float)  # (texts,) drawn how often
        differences[i] = resampled_mean(correct_a, weights) - resampled_mean(correct_b, weights)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    estimate = float(correct_a.mean() - correct_b.mean())
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
