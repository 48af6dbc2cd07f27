"""Statistics for a few trials: how far they scatter, whether two groups differ, which source costs what.

Seven trials are few. Tests are exact (every permutation counted), and intervals say how little seven values
tell.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from lib.intervals import sd_interval, sd_ratio_interval


def permutation_p(first: ArrayLike, second: ArrayLike) -> float:
    """Return the exact two-sided p of a difference of means, over every split of the pooled values.

    Two groups of seven have 3,432 splits: p cannot be less than 2 / 3432.
    """
    result = stats.permutation_test(
        (np.asarray(first, float), np.asarray(second, float)),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        permutation_type="independent",
        vectorized=True,
        n_resamples=np.inf,
    )
    return float(result.pvalue)


def sign_flip_p(differences: ArrayLike) -> float:
    """Return the exact two-sided p that paired differences have mean 0, over every choice of signs.

    Seven pairs have 128: p cannot be less than 2 / 128 = 0.016.
    """
    result = stats.permutation_test(
        (np.asarray(differences, float),),
        lambda a, axis: a.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    return float(result.pvalue)


def brown_forsythe_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the p of equal spreads by Brown and Forsythe: Levene's test around the medians.

    Not a number where no group has three values: two lie equally far from their median, whatever they are.
    """
    if max(len(first), len(second)) < 3:
        return math.nan
    return float(stats.levene(first, second, center="median").pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for their number by Holm's step-down method, under the same names."""
    ordered = sorted(p, key=p.__getitem__)
    corrected: dict[str, float] = {}
    floor = 0.0
    for rank, name in enumerate(ordered):
        floor = max(floor, min(1.0, (len(ordered) - rank) * p[name]))
        corrected[name] = floor
    return {name: corrected[name] for name in p}


def with_holm(tests: pd.DataFrame) -> pd.DataFrame:
    """Correct each column of p values, named "p ...", for the number of its values."""
    corrected = {
        name: pd.Series(holm(tests[name].dropna().astype(float).to_dict()), dtype=float)
        for name in tests
        if name.startswith("p ")
    }
    return tests.assign(**corrected)


def compare(first: ArrayLike, second: ArrayLike, *, paired: bool, confidence: float) -> dict[str, object]:
    """Compare the means and the spreads of two groups of trials.

    Parameters
    ----------
    first, second : (trials,)
        Log-perplexities.
    paired : bool
        Whether trials of the same number share their seeds.
    confidence : float
        Of the intervals.

    Returns
    -------
    dict
        The difference of the means, the second group's standard deviation and the ratio of the two with
        their intervals as text, and the p values of a permutation test of the means, a sign-flip test of the
        pairs (None without pairs), and Brown and Forsythe's test of the spreads.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    return {
        "difference": first.mean() - second.mean(),
        "sd of the second": str(sd_interval(second, confidence)),
        "ratio of sds": str(sd_ratio_interval(first, second, confidence)),
        "p permutation": permutation_p(first, second),
        "p sign flip": sign_flip_p(first - second) if paired else None,
        "p spread": brown_forsythe_p(first, second),
    }


def variance_shares(
    runs: pd.DataFrame, factors: Sequence[str], value: str, *, confidence: float = 0.95, draws: int = 4_000
) -> pd.DataFrame:
    """Split the variance of a full factorial design into its sources (crossed random effects).

    Each level of a factor is a draw (a seed), every combination of levels is run once, and a source's
    variance is estimated from the mean squares (analysis of variance); what the factors do only together, all
    interactions pooled, stands as one more source, "interactions". A negative estimate is set to 0.

    Parameters
    ----------
    runs : DataFrame
        One row a run.
    factors : sequence of str
        Columns with the levels, at least two each.
    value : str
        Column with the outcome.
    confidence : float
        Of the intervals: generalised ones, in which each mean square is divided by a draw of chi-squared over
        its degrees of freedom (Weerahandi 1993).
    draws : int
        How many.

    Returns
    -------
    DataFrame
        Index: the factors and "interactions". Columns: ``freedom`` (degrees), ``sd`` (of the outcome, from
        that source alone), ``share`` (of the summed variances), ``low``, ``high`` (of the share).

    Raises
    ------
    ValueError
        If a combination is missing or there twice, or a factor has one level.

    Notes
    -----
    With N runs, a factor of L levels has the expected mean square s² + (N / L) v, v being its variance and s²
    that of the interactions.
    """
    levels = {factor: runs[factor].nunique() for factor in factors}
    size = int(np.prod(list(levels.values())))
    if len(runs) != size or runs.duplicated(list(factors)).any():
        raise ValueError(f"{len(runs)} runs: a full design of {levels} has each of {size} combinations once")
    if min(levels.values()) < 2:
        raise ValueError(f"levels {levels}: every factor wants two or more")
    outcome = runs[value].astype(float)
    squares, freedom = {}, {}
    for factor in factors:
        means = runs.assign(**{value: outcome}).groupby(factor)[value].mean()
        squares[factor] = size / levels[factor] * float(((means - outcome.mean()) ** 2).sum())
        freedom[factor] = levels[factor] - 1
    total = float(((outcome - outcome.mean()) ** 2).sum())
    squares["interactions"] = max(total - sum(squares.values()), 0.0)
    freedom["interactions"] = size - 1 - sum(freedom.values())
    names = [*factors, "interactions"]
    mean_squares = np.array([squares[name] / freedom[name] for name in names])  # (sources,)
    runs_a_level = np.array([size / levels[factor] for factor in factors])
    random = np.random.default_rng(0).chisquare([freedom[name] for name in names], (draws, len(names)))
    pivots = mean_squares * np.array([freedom[name] for name in names]) / random  # (draws, sources)
    estimate = _components(mean_squares[None], runs_a_level)
    shares = _shares(_components(pivots, runs_a_level))  # (draws, sources)
    low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return pd.DataFrame(
        {
            "freedom": [freedom[name] for name in names],
            "sd": np.sqrt(estimate[0]),
            "share": _shares(estimate)[0],
            "low": low,
            "high": high,
        },
        index=names,
    )


def _components(mean_squares: np.ndarray, runs_a_level: np.ndarray) -> np.ndarray:
    """Turn mean squares into variances: (draws, sources) to (draws, sources), the interactions last."""
    residual = mean_squares[:, -1:]
    return np.hstack([np.maximum(mean_squares[:, :-1] - residual, 0) / runs_a_level, residual])


def _shares(variances: np.ndarray) -> np.ndarray:
    total = variances.sum(1, keepdims=True)
    return np.divide(variances, total, out=np.zeros_like(variances), where=total > 0)


def coarsest_grid(values: Sequence[float], decimals: int, finest: int = 10) -> int | None:
    """Return the smallest k for which all printed values can be multiples of 2 ** -k, or None.

    A value printed with some decimals, rounded or cut, can stand for a multiple that lies less than one unit
    of the last decimal away. Grids finer than that unit hold every value and tell nothing.

    Parameters
    ----------
    values : sequence of float
        As printed.
    decimals : int
        How many were printed.
    finest : int
        Largest k that is tried; it is lowered to where the grid is still coarser than the decimals can hide.
    """
    unit = 10.0**-decimals
    for k in range(min(finest, int(np.log2(1 / (2 * unit)))) + 1):
        multiples = np.round(np.asarray(values) * 2**k) / 2**k
        if (np.abs(multiples - values) < unit).all():
            return k
    return None
