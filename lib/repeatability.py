"""Statistics for a few trials: what repeats, how far trials scatter, whether groups differ, and why.

Seven trials are few: tests enumerate all rearrangements up to 100,000; of more, 100,000 are drawn.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from lib.intervals import paired_sd_ratio_interval, sd_interval, sd_ratio_interval
from lib.seeding import fingerprint

MOST_CHOICES = 100_000
"""Splits or choices of signs up to which a test is exact; of more, as many are drawn at random."""

DRAWS = 4_000
"""Draws of the mean squares for the intervals of `variance_components`."""


def bitwise(results: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, int]:
    """Count the distinct values of results, by name: 1 means that all are equal to the bit.

    Parameters
    ----------
    results : sequence of mapping, (trials,)
        What each trial returned.
    names : iterable of str
        Which results to compare, by their fingerprints.
    """
    return {name: len({fingerprint(result[name]) for result in results}) for name in names}


def agreement(answers: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Return how far trials agree on the answers to the same questions.

    Parameters
    ----------
    answers : sequence of sequences of str, (trials, questions)
        At least two trials.

    Returns
    -------
    unanimous : float
        Share of the questions that all trials answer identically.
    pairwise : float
        Share of the questions that two trials answer identically, mean over all pairs of trials.
    """
    table = np.array(answers)  # (trials, questions)
    unanimous = (table == table[0]).all(0).mean()
    pairs = [(first == second).mean() for first, second in combinations(table, 2)]
    return float(unanimous), float(np.mean(pairs))


def permutation_p(first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sided p-value of a difference of means, over all splits of the pooled values.

    Exact up to 100,000 splits, drawn beyond. Two groups of seven have 3,432 splits, so p is at least
    2 / 3432. Values that are not finite are left out; NaN if fewer than two of a group are left.
    """
    first, second = _finite(first), _finite(second)
    # SciPy counts a split as a tie within a tolerance relative to the difference of means, which rounding
    # exceeds where values are large against their differences.
    centre = np.concatenate([first, second]).mean() if len(first) else 0.0
    return _p_of(
        lambda a, b, axis: a.mean(axis) - b.mean(axis), "independent", first - centre, second - centre
    )


def sign_flip_p(differences: ArrayLike) -> float:
    """Return the two-sided p-value of paired differences having mean 0, over all choices of signs.

    Exact up to 100,000 choices, drawn beyond. Seven pairs have 128 choices, so p is at least 2 / 128 = 0.016.
    Differences that are not finite are left out; NaN if fewer than two are left.
    """
    return _p_of(lambda a, axis: a.mean(axis), "samples", _finite(differences))


def _p_of(statistic: Callable[..., np.ndarray], rearranged: str, *groups: np.ndarray) -> float:
    """Return the p-value of a statistic of finite groups; ``rearranged`` is SciPy's ``permutation_type``."""
    if min(map(len, groups)) < 2:
        return math.nan
    result = stats.permutation_test(
        groups,
        statistic,
        permutation_type=rearranged,
        vectorized=True,
        n_resamples=MOST_CHOICES,
        batch=1_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


def smallest_corrected_p(rearrangements: int, tests: int) -> float:
    """Return the smallest two-sided p-value of a permutation test that Holm's correction leaves.

    A rearrangement and its mirror image are equally extreme, so at least two of them count. The test is exact
    up to 100,000 rearrangements; beyond, so many are drawn, and the data's own counts as one more.

    Parameters
    ----------
    rearrangements : int
        Splits of the pooled values (`permutation_p`), or choices of signs (`sign_flip_p`).
    tests : int
        P-values that are corrected together.
    """
    counted = rearrangements if rearrangements <= MOST_CHOICES else MOST_CHOICES + 1
    return min(1.0, tests * 2 / counted)


def brown_forsythe_p(first: ArrayLike, second: ArrayLike) -> float:
    """Return the p-value of Brown and Forsythe's test of equal spreads (Levene's test around medians).

    NaN if no group has three values: any two values lie equally far from their median.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if max(len(first), len(second)) < 3:
        return math.nan
    return float(stats.levene(first, second, center="median").pvalue)


def pitman_morgan_p(first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sided p-value of Pitman and Morgan's test of equal spreads of paired, normal values.

    The spreads are equal if and only if the sums and differences of the pairs are uncorrelated. NaN with
    fewer than three pairs, or if all values of a sample are equal.

    Parameters
    ----------
    first, second : array_like, (pairs,)
        Values at the same position belong together, such as trials that share their seed.

    Notes
    -----
    Biometrika 31, 1939, 9-12 and 13-19. p is below 1 - confidence if and only if 1 lies outside
    `lib.intervals.paired_sd_ratio_interval`.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if len(first) < 3 or not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return math.nan
    sums, differences = first + second, first - second
    rounding = 1e-12 * np.ptp(first)
    if min(np.ptp(sums), np.ptp(differences)) <= rounding:  # equal or opposite pairs: the spreads are equal
        return 1.0
    return float(stats.pearsonr(sums, differences).pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for multiple testing by Holm's step-down method, by name.

    A p-value that is NaN stays NaN, and counts as no test.
    """
    ordered = sorted((name for name in p if not math.isnan(p[name])), key=p.__getitem__)
    corrected = dict.fromkeys(p, math.nan)
    floor = 0.0
    for rank, name in enumerate(ordered):
        floor = max(floor, min(1.0, (len(ordered) - rank) * p[name]))
        corrected[name] = floor
    return corrected


def with_holm(tests: pd.DataFrame) -> pd.DataFrame:
    """Apply `holm` to each column of p-values (named "p ..."), ignoring missing values."""
    corrected = {
        name: pd.Series(holm(tests[name].astype(float).to_dict()), dtype=float)
        for name in tests
        if name.startswith("p ")
    }
    return tests.assign(**corrected)


def compare(first: ArrayLike, second: ArrayLike, *, paired: bool, confidence: float) -> dict[str, object]:
    """Compare the means and the spreads of two groups of trials.

    Parameters
    ----------
    first, second : array_like, (trials,)
        Log-perplexities.
    paired : bool
        Whether trials at the same position share their seeds.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    dict
        The difference of the means (first minus second); the second group's standard deviation and the ratio
        of the two standard deviations, with their intervals, as text; and the p-values of a permutation test
        of the means, a sign-flip test of the pairs (None if unpaired) and a test of the spreads. Spreads of
        pairs are compared by Pitman and Morgan's interval and test, those of independent trials by the F
        interval and Brown and Forsythe's test; None if all trials of a group are equal.

    Raises
    ------
    ValueError
        With fewer than two trials, or three pairs.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    ratio_interval = paired_sd_ratio_interval if paired else sd_ratio_interval
    spread_p = pitman_morgan_p if paired else brown_forsythe_p
    both_vary = np.ptp(first) > 0 and np.ptp(second) > 0
    return {
        "difference": first.mean() - second.mean(),
        "sd of the second": str(sd_interval(second, confidence)),
        "ratio of sds": str(ratio_interval(first, second, confidence)) if both_vary else None,
        "p permutation": permutation_p(first, second),
        "p sign flip": sign_flip_p(first - second) if paired else None,
        "p spread": spread_p(first, second) if both_vary else None,
    }


def _shares(variances: np.ndarray) -> np.ndarray:
    total = variances.sum(1, keepdims=True)
    return np.divide(variances, total, out=np.zeros_like(variances), where=total > 0)


def variance_components(
    runs: pd.DataFrame, factors: Sequence[str], value: str, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Split the variance of a full design of three crossed random factors, each interaction by itself.

    Each level of a factor is a random draw (a seed), and each combination of levels is run once, so the
    interaction of all three cannot be told from what does not repeat. Runs that merely repeat the arithmetic
    of others, such as another attention kernel, are not replicates: use one of them.

    Parameters
    ----------
    runs : DataFrame
        One row per run.
    factors : sequence of str, (3,)
        Columns with the levels, at least two each.
    value : str
        Column with the outcome.
    confidence : float
        Coverage of the generalised confidence intervals (Weerahandi 1993), for which each mean square is
        divided by `DRAWS` draws of chi-squared over its degrees of freedom.

    Returns
    -------
    DataFrame
        Index: the factors, their pairs ("a x b"), and "a x b x c". Columns: ``freedom`` and ``mean square``;
        ``F`` and ``p`` (NaN for the last, against which the pairs are tested); ``sd`` of the outcome from
        that source alone; ``share`` of the summed variances; ``low`` and ``high``, bounds of the share.

    Raises
    ------
    ValueError
        If there are not three factors, a combination is missing or repeated, or a factor has fewer than two
        levels.

    Notes
    -----
    No mean square has the expectation of MS_A under the hypothesis that factor A has no effect, but
    MS_AB + MS_AC - MS_ABC has (Satterthwaite, Biometrics Bulletin 2, 1946). That difference can be negative
    and is then no denominator, so MS_ABC is moved to the other side: F is (MS_A + MS_ABC) / (MS_AB + MS_AC),
    with Satterthwaite's degrees of freedom for both sums (Cochran, Biometrics 7, 1951). With three levels it
    rejects a true hypothesis in 3 to 6 % of the cases at p < 0.05; the difference as denominator in 1 to 4 %,
    and a denominator that pools all interactions in up to 48 %, if there are any.

    The intervals of the factors' shares cover at 93 to 97 %, or more where a factor has no effect. With three
    levels they span most of the range from 0 to 1 all the same: a variance on 2 degrees of freedom is
    known to a factor of 12.
    """
    if len(factors) != 3:
        raise ValueError(f"factors = {list(factors)}: three are required")
    levels = [runs[factor].nunique() for factor in factors]
    size = math.prod(levels)
    if len(runs) != size or runs.duplicated(list(factors)).any():
        named = dict(zip(factors, levels, strict=True))
        raise ValueError(
            f"{len(runs)} runs: a full design of {named} has each of its {size} combinations once"
        )
    if min(levels) < 2:
        raise ValueError(f"levels = {levels}: at least two are required of each factor")
    cube = runs.sort_values(list(factors))[value].to_numpy(float).reshape(levels)
    sources = [subset for number in (1, 2, 3) for subset in combinations(range(3), number)]
    freedom = np.array([math.prod(levels[axis] - 1 for axis in source) for source in sources])
    mean_squares = np.array([_sum_of_squares(cube, source) for source in sources]) / freedom
    estimate = _components_of_three(mean_squares[None], levels)
    random = np.random.default_rng(0).chisquare(freedom, (DRAWS, len(sources)))
    shares = _shares(_components_of_three(mean_squares * freedom / random, levels))
    low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    ratios, p = _quasi_f_tests(mean_squares, freedom)
    return pd.DataFrame(
        {
            "freedom": freedom,
            "mean square": mean_squares,
            "F": ratios,
            "p": p,
            "sd": np.sqrt(estimate[0]),
            "share": _shares(estimate)[0],
            "low": low,
            "high": high,
        },
        index=[" x ".join(factors[axis] for axis in source) for source in sources],
    )


# The sources of three factors, in order: A, B, C, AB, AC, BC, ABC; and each factor's two interactions.
_PAIRS_OF = ((3, 4), (3, 5), (4, 5))


def _sum_of_squares(cube: np.ndarray, source: tuple[int, ...]) -> float:
    """Return the sum of squares of an effect or interaction, named by its axes, in a full design."""
    effect = cube
    for axis in range(cube.ndim):
        mean = effect.mean(axis=axis, keepdims=True)
        effect = effect - mean if axis in source else np.broadcast_to(mean, effect.shape)
    return float((effect**2).sum())


def _components_of_three(mean_squares: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Turn mean squares into variances, negative ones set to 0: (draws, sources) -> (draws, sources)."""
    rest = mean_squares[:, 6]
    variances = np.empty_like(mean_squares)
    variances[:, 6] = rest
    size = math.prod(levels)
    for factor, (one, other) in enumerate(_PAIRS_OF):
        effect = mean_squares[:, factor] - mean_squares[:, one] - mean_squares[:, other] + rest
        variances[:, factor] = effect * levels[factor] / size
    for pair, (one, other) in zip((3, 4, 5), ((0, 1), (0, 2), (1, 2)), strict=True):
        variances[:, pair] = (mean_squares[:, pair] - rest) * levels[one] * levels[other] / size
    return np.maximum(variances, 0)


def _quasi_f_tests(mean_squares: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F and p of each source but the last, which has none: (sources,) each."""

    def total(*sources: int) -> tuple[float, float]:
        chosen = list(sources)
        squares = mean_squares[chosen]
        return squares.sum(), squares.sum() ** 2 / (squares**2 / freedom[chosen]).sum()

    ratios, p = np.full(7, np.nan), np.full(7, np.nan)
    if not mean_squares[6] > 0:
        return ratios, p
    for source in range(6):
        over = total(source, 6) if source < 3 else total(source)
        under = total(*_PAIRS_OF[source]) if source < 3 else total(6)
        ratios[source] = over[0] / under[0]
        p[source] = stats.f.sf(ratios[source], over[1], under[1])
    return ratios, p


def coarsest_grid(values: Sequence[float], decimals: int) -> int | None:
    """Return the smallest k for which all printed values can be multiples of 2 ** -k, or None.

    A printed value, rounded or truncated, may stand for any multiple less than one unit of the last decimal
    away. A grid whose spacing is at most two units fits every value and is not tried, nor one with a k
    above 10.

    Parameters
    ----------
    values : sequence of float
        The values as printed.
    decimals : int
        Number of printed decimals.
    """
    unit = 10.0**-decimals
    for k in range(min(10, int(np.log2(1 / (2 * unit)))) + 1):
        multiples = np.round(np.asarray(values) * 2**k) / 2**k
        if (np.abs(multiples - values) < unit).all():
            return k
    return None
