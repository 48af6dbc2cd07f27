"""What seven trials can tell, what fifty could, and how many an equivalence would need."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from lib.crossed import POWER, smallest_number
from lib.intervals import sd_factors


def detectable_ratio(trials: int, correlation: float, *, confidence: float) -> float:
    """Return the smallest ratio of two standard deviations that paired trials tell from 1, with `POWER`.

    Pitman's and Morgan's test is that of the correlation between sums and differences, which is
    (F - 1) / sqrt((F + 1)^2 - 4 r^2 F) for a ratio of variances F; its Fisher transform has a standard error
    of 1 / sqrt(n - 3). That is approximate, and cautious below about ten pairs, where a smaller ratio
    suffices. For trials that are not paired, see `detectable_ratio_unpaired`.

    Parameters
    ----------
    trials : int
        Pairs, at least 4.
    correlation : float
        Between the two trials of a pair, r.
    confidence : float
        Of the interval that has to exclude 1.

    Raises
    ------
    ValueError
        With fewer than four trials.
    """
    if trials < 4:
        raise ValueError(f"trials = {trials}: at least 4 pairs are required")
    quantiles = float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(POWER))
    required = math.tanh(quantiles / math.sqrt(trials - 3))
    # (F - 1)^2 = q^2 ((F + 1)^2 - 4 r^2 F): quadratic in F, the larger root
    square = required**2
    half = 1 + square * (1 - 2 * correlation**2)
    variances = (half + math.sqrt(half**2 - (1 - square) ** 2)) / (1 - square)
    return math.sqrt(variances)


def detectable_ratio_unpaired(trials: int, *, confidence: float) -> float:
    """Return the smallest ratio of two standard deviations that unpaired trials tell from 1, with `POWER`.

    The interval is that of the F distribution (`lib.intervals.sd_ratio_interval`), so this is exact for
    normal data.

    Parameters
    ----------
    trials : int
        Of each kind, at least 2.
    confidence : float
        Of the interval that has to exclude 1.

    Raises
    ------
    ValueError
        With fewer than two trials.
    """
    if trials < 2:
        raise ValueError(f"trials = {trials}: at least 2 of each kind are required")
    freedom = trials - 1, trials - 1
    return math.sqrt(stats.f.ppf((1 + confidence) / 2, *freedom) / stats.f.ppf(1 - POWER, *freedom))


def detectable_difference(trials: int, sd: float, *, confidence: float) -> float:
    """Return the smallest difference of means that paired trials tell from 0, with `POWER`.

    Parameters
    ----------
    trials : int
        Pairs, at least 2.
    sd : float
        Standard deviation of the differences within pairs, in whose unit the difference is.
    confidence : float
        Of the interval that has to exclude 0.

    Raises
    ------
    ValueError
        With fewer than two trials.
    """
    if trials < 2:
        raise ValueError(f"trials = {trials}: at least 2 pairs are required")
    freedom = trials - 1
    critical = stats.t.ppf((1 + confidence) / 2, freedom)

    def missing(noncentrality: float) -> float:
        return float(stats.nct.sf(critical, freedom, noncentrality)) - POWER

    # Nine times in ten a normal number is above -1.3, and the root of chi-squared / freedom below 1.65.
    enough = 1.65 * critical + 1.3
    return float(brentq(missing, 0, enough)) * sd / math.sqrt(trials)


def trials_for_equal_means(sd: float, margin: float, *, confidence: float) -> int | None:
    """Return how many pairs put the interval of a mean difference inside a margin, if there is no difference.

    Parameters
    ----------
    sd : float
        Standard deviation of the differences within pairs.
    margin : float
        Largest difference, either way, that counts as none; in the unit of ``sd``.
    confidence : float
        Of the interval.

    Returns
    -------
    int or None
        The smallest number with which it lies inside with `POWER`; None if more than
        `lib.crossed.MOST_NEEDED` would be needed.
    """

    def enough(trials: int) -> bool:
        half = stats.t.ppf((1 + confidence) / 2, trials - 1)
        allowed = margin * math.sqrt(trials) / sd if sd > 0 else math.inf
        return 2 * stats.t.cdf(allowed - half, trials - 1) - 1 >= POWER

    return smallest_number(enough)


def trials_for_equal_spreads(correlation: float, factor: float, *, confidence: float) -> int:
    """Return how many pairs put the interval of a ratio of standard deviations within a factor, if it is 1.

    It lies there with `POWER`.

    Parameters
    ----------
    correlation : float
        Between the two trials of a pair.
    factor : float
        Above 1: ratios from 1 / factor to factor count as equal.
    confidence : float
        Of the interval.
    """
    variances = factor**2
    border = (variances - 1) / math.sqrt((variances + 1) ** 2 - 4 * correlation**2 * variances)
    # two one-sided errors share what the power leaves
    quantile = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf((1 + POWER) / 2)
    return math.ceil((quantile / math.atanh(border)) ** 2) + 3


def trials_for_equal_spreads_unpaired(factor: float, *, confidence: float) -> int | None:
    """Return how many unpaired trials put the F interval of a ratio of spreads within a factor, if it is 1.

    Parameters
    ----------
    factor : float
        Above 1: ratios from 1 / factor to factor count as equal.
    confidence : float
        Of the interval.

    Returns
    -------
    int or None
        The smallest number of each kind with which it lies there with `POWER`; None if more than
        `lib.crossed.MOST_NEEDED` would be needed.
    """

    def enough(trials: int) -> bool:
        freedom = trials - 1, trials - 1
        allowed = factor**2 / stats.f.ppf((1 + confidence) / 2, *freedom)
        return 2 * stats.f.cdf(allowed, *freedom) - 1 >= POWER

    return smallest_number(enough)


def rarest(trials: int, *, confidence: float) -> float:
    """Return the probability of an event that shows at least once in so many trials, with that confidence."""
    return 1 - (1 - confidence) ** (1 / trials)


def by_trials(
    numbers: Sequence[int], *, sd: float, difference_sd: float, correlation: float, confidence: float
) -> pd.DataFrame:
    """Return what different numbers of trials can tell: one row per number.

    Parameters
    ----------
    numbers : sequence of int
        Numbers of trials, at least 4 each.
    sd : float
        Standard deviation of log-perplexities over trials, in nats.
    difference_sd : float
        Standard deviation of the differences within pairs, in nats.
    correlation : float
        Between the two trials of a pair.
    confidence : float
        Of all intervals.

    Returns
    -------
    DataFrame
        Index: the number. Columns: the bounds of a standard deviation as multiples of its estimate
        (``sd_low``, ``sd_high``), the half width of a mean's interval in nats (``mean``), the
        `detectable_difference` in nats (``difference``), the `detectable_ratio` of spreads (``ratio``),
        that of unpaired trials (``ratio_unpaired``, by `detectable_ratio_unpaired`), and the `rarest` event
        (``event``). The mean is that on the texts at hand: its interval is over trials alone.
    """
    rows = {}
    for trials in numbers:
        freedom = trials - 1
        low, high = sd_factors(freedom, confidence)
        rows[trials] = {
            "sd_low": low,
            "sd_high": high,
            "mean": stats.t.ppf((1 + confidence) / 2, freedom) * sd / math.sqrt(trials),
            "difference": detectable_difference(trials, difference_sd, confidence=confidence),
            "ratio": detectable_ratio(trials, correlation, confidence=confidence),
            "ratio_unpaired": detectable_ratio_unpaired(trials, confidence=confidence),
            "event": rarest(trials, confidence=confidence),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trials")


def needed(nats: pd.DataFrame, *, margin: float, factor: float, confidence: float) -> pd.DataFrame:
    """Return how many trials it would take to call the two optimizers equal, by model.

    Parameters
    ----------
    nats : DataFrame, (trials, models x bits)
        Log-perplexities of paired trials.
    margin : float
        Largest difference of means that counts as none, in nats.
    factor : float
        Ratios of standard deviations from 1 / factor to factor count as equal.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        Index: the models. Columns: ``sd`` of the 32-bit trials and ``difference_sd`` within pairs (nats), the
        ``correlation`` within pairs, and the pairs needed for equal means (``means``, by
        `trials_for_equal_means`) and equal spreads (``spreads``), and the trials of each kind needed for
        equal spreads if they were not paired (``spreads_unpaired``, by `trials_for_equal_spreads_unpaired`).
        Where the trials of one kind all end alike, there is no correlation, and no number for ``spreads``.
    """
    rows = {}
    for model in nats.columns.unique("model"):
        eight, thirty_two = nats[model].dropna()["8-bit"], nats[model].dropna()["32-bit"]
        both_vary = np.ptp(eight) > 0 and np.ptp(thirty_two) > 0
        correlation = float(np.corrcoef(eight, thirty_two)[0, 1]) if both_vary else math.nan
        sd = float((eight - thirty_two).std())
        rows[model] = {
            "sd": float(thirty_two.std()),
            "difference_sd": sd,
            "correlation": correlation,
            "means": trials_for_equal_means(sd, margin, confidence=confidence),
            "spreads": trials_for_equal_spreads(correlation, factor, confidence=confidence)
            if both_vary
            else None,
            "spreads_unpaired": trials_for_equal_spreads_unpaired(factor, confidence=confidence),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
