"""Interval estimates: of a mean, a proportion, a standard deviation, a ratio, and from bootstrap resamples.

Every function returns an `Interval`, an estimate and its bounds in the unit of the values, except
`sd_factors`, which returns multiples of an estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it, in one unit.

    Attributes
    ----------
    estimate, low, high : float
    counted : bool
        Whether all there is was counted, so nothing is estimated from a sample and no width is needed
        (`exactly`, `mean_and_range`).

    Raises
    ------
    ValueError
        If the estimate lies outside its interval.
    """

    estimate: float
    low: float
    high: float
    counted: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.estimate <= self.high:
            raise ValueError(
                f"interval [{self.low}, {self.high}] does not contain its estimate {self.estimate}"
            )

    @property
    def has_width(self) -> bool:
        """Whether the bounds differ by more than rounding.

        An estimate from a sample that happens not to vary has no width, but is no more certain for that.
        """
        return not math.isclose(self.low, self.high, rel_tol=1e-12, abs_tol=1e-14)

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"


def exactly(value: float) -> Interval:
    """Return an interval of width zero, for a quantity that is counted rather than estimated."""
    return Interval(float(value), float(value), float(value), counted=True)


def exponential(interval: Interval) -> Interval:
    """Return the interval of a quantity from that of its logarithm."""
    with np.errstate(over="ignore"):  # a bound may be infinite
        estimate, low, high = np.exp([interval.estimate, interval.low, interval.high])
    return Interval(float(estimate), float(low), float(high))


def mean_and_range(values: Sequence[float] | NDArray[np.float64]) -> Interval:
    """Return a mean with the smallest and the largest value, for a few cases that are not a sample."""
    return Interval(float(np.mean(values)), float(np.min(values)), float(np.max(values)), counted=True)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return a mean with Student's t interval: (seeds,) -> Interval.

    The interval has width zero if all values are equal.

    Raises
    ------
    ValueError
        With fewer than two values.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        raise ValueError(f"values = {len(values)}: an interval of a mean needs at least 2")
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return a proportion of one trial or more with the exact interval of Clopper and Pearson."""
    bounds = stats.binomtest(successes, trials).proportion_ci(confidence)
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def sd_factors(freedom: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the bounds of a standard deviation as multiples of its estimate, by chi-squared for normal data.

    Parameters
    ----------
    freedom : int
        Degrees of freedom of the estimate, at least 1. With six, the 95 % interval reaches from 0.64 to 2.2
        times the estimate.
    confidence : float
        Coverage of the interval.
    """
    low, high = np.sqrt(freedom / stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], freedom))
    return float(low), float(high)


def sd_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return a standard deviation with its chi-squared interval for normal data: (trials,) -> Interval.

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
    low, high = sd_factors(freedom, confidence)
    return Interval(float(sd), float(sd * low), float(sd * high))


def sd_ratio_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the ratio of two standard deviations, first over second, with its F interval for normal data.

    Parameters
    ----------
    first, second : array_like, (trials,)
        Two independent samples.
    confidence : float
        Coverage of the interval.

    Raises
    ------
    ValueError
        If a sample has fewer than two values, or all values of the second are equal.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    freedom = len(first) - 1, len(second) - 1
    if min(freedom) < 1 or not np.ptp(second) > 0:
        raise ValueError(
            f"samples of {len(first)} and {len(second)} values: a ratio of standard deviations needs "
            "at least 2 in each, and a second sample whose values are not all equal"
        )
    ratio = first.std(ddof=1) / second.std(ddof=1)
    low, high = ratio / np.sqrt(stats.f.ppf([(1 + confidence) / 2, (1 - confidence) / 2], *freedom))
    return Interval(float(ratio), float(low), float(high))


def paired_sd_ratio_interval(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the ratio of two standard deviations, first over second, of paired normal data.

    Parameters
    ----------
    first, second : array_like, (pairs,)
        Values at the same position belong together, such as trials that share their seed.
    confidence : float
        Coverage of the interval.

    Raises
    ------
    ValueError
        With fewer than three pairs, with samples of different lengths, or if all values of one are equal.

    Notes
    -----
    With F the ratio of variances, r the correlation, n pairs and t Student's quantile for n - 2 degrees of
    freedom, the bounds are sqrt(F (K -+ sqrt(K^2 - 1))) with K = 1 + 2 (1 - r^2) t^2 / (n - 2): the ratios
    that the test of Pitman and of Morgan does not reject (Biometrika 31, 1939, 9-12 and 13-19). The more the
    pairs correlate, the narrower it is than the F interval of independent samples (`sd_ratio_interval`).
    """
    a, b, unexplained = _pairs(first, second)
    ratio = float(a.std(ddof=1) / b.std(ddof=1))
    freedom = len(a) - 2
    t = float(stats.t.ppf((1 + confidence) / 2, freedom))
    excess = 2 * unexplained * t**2 / freedom  # K - 1
    # K - sqrt(K^2 - 1) and K + sqrt(K^2 - 1) are reciprocals: no difference of large numbers.
    factor = math.sqrt(1 + excess + math.sqrt(excess * (excess + 2)))
    return Interval(ratio, ratio / factor, ratio * factor)


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats, float]:
    """Return two paired samples and 1 - r^2, with r their correlation."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if len(a) != len(b) or len(a) < 3 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        raise ValueError(
            f"samples of {len(a)} and {len(b)} paired values: a ratio of standard deviations needs the same "
            "number in both, at least 3, and values that are not all equal"
        )
    x, y = ((values - values.mean()) / np.linalg.norm(values - values.mean()) for values in (a, b))
    # 1 - r^2 = (1 - r)(1 + r), each from a sum of squares, so that r near 1 loses no digits.
    return a, b, float(np.sum((x - y) ** 2) * np.sum((x + y) ** 2)) / 4


def bootstrap_interval(estimate: float, resamples: ArrayLike, *, n: int) -> Interval:
    """Return an estimate with the bootstrap's expanded percentile interval of 95 %.

    With few seeds, a plain percentile interval is too narrow, as a normal interval is where Student's t is
    required. The quantiles are therefore taken at sqrt(n / (n - 1)) times Student's t quantile for 95 %,
    read on the normal scale (Hesterberg, The American Statistician 69, 2015). The interval is widened to
    contain the estimate where the bootstrap's own error leaves it just outside.

    Parameters
    ----------
    estimate : float
        From the sample itself.
    resamples : array_like, (resamples,)
        The same from each resample; NaN is ignored.
    n : int
        Number of seeds (or texts) that were resampled; the smaller of the two if both were.
    """
    quantile = np.sqrt(n / (n - 1)) * stats.t.isf(0.025, n - 1)
    outside = stats.norm.sf(quantile)
    # No interpolation: a ratio is infinite where a resample has no noise.
    values = np.asarray(resamples, float)
    low, high = np.nanquantile(values, [outside, 1 - outside], method="inverted_cdf")
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))
