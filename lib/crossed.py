"""Means over crossed seeds and texts: every model of a type sees every text, and both are random samples.

The models of a few seeds are tested on, or explain, the same texts. A claim is about other seeds and other
texts, so the error of a mean has three sources: seeds, texts, and what is particular to one model on one text
(the residual). A two-way analysis of variance separates them::

    variance of the mean = seeds / S + texts / T + residual / (S T)

and its estimate is the sum of the mean squares of seeds and texts, each divided by S T, minus that of the
residual, which both contain (Searle, Casella and McCulloch, Variance Components, 1992, section 4.3). The
residual is subtracted from the texts' mean square, and only as far as the difference stays positive.

With three seeds, a normal quantile is far too small if seeds dominate, and Student's t with 2 degrees of
freedom far too large if texts do. The squared half-width is therefore::

    V (z² + sum of w² (t² - z²))

with V the variance, z the normal quantile, and, for seeds and for texts, w their share of V and t Student's
quantile for their own degrees of freedom (Satterthwaite's, if two types have independent seeds). It is
Student's interval if one source is all there is. In between it agrees, to first order in 1 / freedom, with
Student's interval for Satterthwaite's degrees of freedom of V (Biometrics Bulletin 2, 1946), which itself
covers only 92 % with three seeds.

Why not the joint bootstrap: drawing seeds and texts with replacement counts the residual three times (Owen,
Annals of Applied Statistics 1, 2007, 386-411), and its percentiles must still be expanded, by an amount that
depends on the shares above. Simulations in ``tests/test_crossed.py`` show that these intervals cover at
95 % +- 2 for 3 to 30 seeds and 40 to 1,000 texts.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib.intervals import Interval

Floats = NDArray[np.float64]

PSEUDO_TEXTS = 2
"""Texts that every model classifies correctly, and as many that none does, added to estimate a proportion."""

POWER = 0.8
"""How often an interval shall show what is there, or that nothing is."""

MOST_NEEDED = 10**7
"""Larger numbers of texts or seeds are not searched."""

ROUNDING = 1e-12
"""What is smaller, relative to the variances that were subtracted, is rounding."""

_DRAWS = 4_000


@dataclass(frozen=True)
class Part:
    """The variance of a mean that one sample of seeds or of texts accounts for.

    Attributes
    ----------
    variance : float
        Mean square divided by the number of values, the residual's share included.
    residual : float
        The share of the residual.
    count : int
        How many seeds or texts.
    """

    variance: float
    residual: float
    count: int

    @property
    def net(self) -> float:
        """The variance without the residual's share, at least 0."""
        return max(self.variance - self.residual, 0.0)


@dataclass(frozen=True)
class Crossed:
    """A mean over seeds and texts, or a difference of means, and where its error comes from.

    Attributes
    ----------
    estimate : float
    seeds : tuple of Part
        One per independent sample of seeds; empty if there is one seed, and the mean is about that model.
    texts : tuple of Part
        One per independent sample of texts; empty if there is one text.
    """

    estimate: float
    seeds: tuple[Part, ...]
    texts: tuple[Part, ...]

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the mean with its interval over seeds and texts."""
        half = float(
            _half_width(
                [(np.asarray(part.variance), part.count) for part in self.seeds],
                [(part.variance, part.net, part.count) for part in self.texts],
                confidence,
            )
        )
        return Interval(self.estimate, self.estimate - half, self.estimate + half)

    def texts_needed(
        self,
        *,
        above: float = -math.inf,
        below: float = math.inf,
        truth: float = 0.0,
        confidence: float = 0.95,
    ) -> int | None:
        """Return how many texts, with as many seeds as here, would settle a claim of equivalence.

        The interval then lies inside the region with the probability `POWER`.

        Parameters
        ----------
        above, below : float
            The claim's region, in the unit of the estimate (of its logarithm, if that is what was estimated).
        truth : float
            The value that is assumed to be true, inside the region: 0 for no difference.
        confidence : float
            Of the interval that the claim is judged by. Two one-sided tests at 5 % are an interval at 0.9.

        Returns
        -------
        int or None
            The number of texts; with several samples of texts, that of the smallest, if all grow in
            proportion. None if no number is enough: the seeds' variance alone is too large.

        Raises
        ------
        ValueError
            If the assumed truth lies outside the region, or texts are not a source of the error.
        """
        if not self.texts:
            raise ValueError("texts needed: the mean is about one text")
        region = _checked_region(above, below, truth)
        smallest = min(part.count for part in self.texts)
        return smallest_number(lambda n: self._power(1.0, n / smallest, *region, confidence) >= POWER)

    def seeds_needed(
        self,
        *,
        above: float = -math.inf,
        below: float = math.inf,
        truth: float = 0.0,
        confidence: float = 0.95,
    ) -> int | None:
        """Return how many seeds, with as many texts as here, would settle a claim; see `texts_needed`."""
        if not self.seeds:
            raise ValueError("seeds needed: the mean is about one seed")
        region = _checked_region(above, below, truth)
        smallest = min(part.count for part in self.seeds)
        return smallest_number(lambda n: self._power(n / smallest, 1.0, *region, confidence) >= POWER)

    def _power(
        self,
        more_seeds: float,
        more_texts: float,
        above: float,
        below: float,
        truth: float,
        confidence: float,
    ) -> float:
        """Return the probability that an interval from so many times the seeds and texts lies in a region."""
        rng = np.random.default_rng(0)
        both = more_seeds * more_texts
        true_variance, seeds, texts = 0.0, [], []
        for part in self.seeds:
            count = max(round(part.count * more_seeds), 2)
            expected = part.net / more_seeds + part.residual / both
            true_variance += expected
            seeds.append((expected * rng.chisquare(count - 1, _DRAWS) / (count - 1), count))
        for part in self.texts:
            net = part.net / more_texts
            true_variance += net
            texts.append((net + part.residual / both, net, max(round(part.count * more_texts), 2)))
        half = _half_width(seeds, texts, confidence)  # (draws,), or a number without seeds
        se = math.sqrt(true_variance)
        if se == 0:
            return 1.0
        inside = stats.norm.cdf((below - truth - half) / se) - stats.norm.cdf((above - truth + half) / se)
        return float(np.maximum(inside, 0).mean())


def crossed_mean(values: ArrayLike) -> Crossed:
    """Return a mean over seeds and texts: (seeds, texts) -> Crossed.

    For accuracies of one type, `crossed_proportion_interval` covers better near 0 and 1.

    Raises
    ------
    ValueError
        If the values are not a matrix with at least two seeds or two texts.
    """
    matrix = _matrix(values)
    seeds, texts, residual = _sources(matrix)
    return Crossed(
        float(matrix.mean()),
        (Part(seeds, residual, matrix.shape[0]),) if matrix.shape[0] > 1 else (),
        (Part(texts, residual, matrix.shape[1]),) if matrix.shape[1] > 1 else (),
    )


def crossed_difference(a: ArrayLike, b: ArrayLike, *, paired: bool) -> Crossed:
    """Return the mean of a minus that of b, measured on the same texts.

    Of accuracies, the interval covers too little where fewer than three errors are expected (such as on 40
    texts at 97 %).

    Parameters
    ----------
    a, b : array_like, (seeds, texts)
        Such as whether each model classifies each text correctly.
    paired : bool
        Whether row i of both has the same seed and shares its randomness, as a model and its quantised
        version do. Otherwise the seeds of a and b are independent, and their numbers may differ.

    Raises
    ------
    ValueError
        If the numbers of texts differ, or the numbers of seeds of paired matrices.
    """
    first, second = _matrix(a), _matrix(b)
    if first.shape[1] != second.shape[1] or (paired and len(first) != len(second)):
        raise ValueError(
            f"a has shape {first.shape}, b {second.shape}: the same texts are required"
            + (", and the same seeds of paired matrices" if paired else "")
        )
    if paired:
        return crossed_mean(first - second)
    return crossed_sum(first, -second)


def crossed_sum(*samples: ArrayLike) -> Crossed:
    """Return the sum of means over the same texts but independent seeds.

    Parameters
    ----------
    *samples : array_like, (seeds, texts)
        The numbers of seeds may differ.

    Raises
    ------
    ValueError
        If the numbers of texts differ.
    """
    parts, total = [], 0.0
    matrices = [_matrix(sample) for sample in samples]
    if len({matrix.shape[1] for matrix in matrices}) != 1:
        shapes = ", ".join(str(matrix.shape) for matrix in matrices)
        raise ValueError(f"samples of shapes {shapes}: the same texts are required")
    for matrix in matrices:
        seeds, _, residual = _sources(matrix)
        if len(matrix) > 1:
            parts.append(Part(seeds, residual, len(matrix)))
            total += residual
    by_text = np.sum([matrix.mean(axis=0) for matrix in matrices], axis=0)  # (texts,)
    count = len(by_text)
    texts = (Part(float(by_text.var(ddof=1)) / count, total, count),) if count > 1 else ()
    return Crossed(float(sum(matrix.mean() for matrix in matrices)), tuple(parts), texts)


def crossed_gap(train: ArrayLike, test: ArrayLike) -> Crossed:
    """Return the mean of training texts minus that of test texts, over the same seeds.

    Parameters
    ----------
    train : array_like, (seeds, training texts)
        Such as whether each model classifies each training text correctly.
    test : array_like, (seeds, test texts)
        The same for test texts, the seeds in the same order.

    Raises
    ------
    ValueError
        If the numbers of seeds differ.
    """
    train, test = _matrix(train), _matrix(test)
    if len(train) != len(test):
        raise ValueError(f"train has {len(train)} seeds, test {len(test)}: the same seeds are required")
    texts = []
    for matrix in (train, test):
        _, by_text, residual = _sources(matrix)
        if matrix.shape[1] > 1:
            texts.append(Part(by_text, residual, matrix.shape[1]))
    by_seed = train.mean(axis=1) - test.mean(axis=1)  # (seeds,)
    count = len(by_seed)
    total = sum(part.residual for part in texts)
    seeds = (Part(float(by_seed.var(ddof=1)) / count, total, count),) if count > 1 else ()
    return Crossed(float(by_seed.mean()), seeds, tuple(texts))


def crossed_proportion_interval(correct: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the accuracy of a type of models, with its interval over seeds and texts.

    Two texts that all models classify correctly and two that none does are added before the variances are
    estimated (Agresti and Coull, The American Statistician 52, 1998), so the interval covers near 0 and 1
    too, and has a width even if no model errs. The estimate is the accuracy itself.

    Parameters
    ----------
    correct : array_like of bool, (seeds, texts)
        Whether each model classifies each text correctly.
    confidence : float
        Coverage of the interval.
    """
    matrix = _matrix(correct)
    added = np.repeat([1.0, 0.0], PSEUDO_TEXTS)[None].repeat(len(matrix), axis=0)
    interval = crossed_mean(np.hstack([matrix, added])).interval(confidence)
    estimate = float(matrix.mean())
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def smallest_number(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number from 2 that is enough.

    Parameters
    ----------
    enough : callable
        If a number is enough, all larger ones have to be.

    Returns
    -------
    int or None
        None if no power of 2 up to `MOST_NEEDED` is enough.
    """
    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_NEEDED:
            return None
    fewest = high // 2 + 1
    return fewest + bisect_left(range(fewest, high), True, key=enough)


def pair_pseudo_values(sums: Floats) -> Floats:
    """Turn a quantity of pairs of seeds into one value per seed, for intervals over seeds and texts.

    Two pairs with a common seed are not independent, so a mean over pairs cannot have the interval of a mean.
    The jackknife's pseudo-values can: n U - (n - 1) U_i, where U is the mean over the pairs of n seeds and
    U_i the mean without seed i (Arvesen 1969). Their mean is U.

    Parameters
    ----------
    sums : ndarray, (seeds,) or (seeds, texts)
        The quantity, which is symmetric, summed over each seed's pairs with all others.

    Returns
    -------
    ndarray
        Of the same shape.

    Raises
    ------
    ValueError
        With fewer than three seeds.
    """
    seeds = len(sums)
    if seeds < 3:
        raise ValueError(f"pairs of {seeds}: pseudo-values of pairs need at least 3 seeds or trials")
    total = sums.sum(0)  # counts every pair twice
    mean = total / (seeds * (seeds - 1))
    without = (total - 2 * sums) / ((seeds - 1) * (seeds - 2))
    return seeds * mean - (seeds - 1) * without


def _matrix(values: ArrayLike) -> Floats:
    matrix = np.asarray(values, float)
    if matrix.ndim != 2 or matrix.size < 2:
        raise ValueError(
            f"values of shape {matrix.shape}: (seeds, texts) with at least two of one is required"
        )
    return matrix


def _sources(matrix: Floats) -> tuple[float, float, float]:
    """Return the mean squares of seeds, texts and residual, each divided by the number of values."""
    seeds, texts = matrix.shape
    by_seed, by_text = matrix.mean(axis=1), matrix.mean(axis=0)
    residual = matrix - by_seed[:, None] - by_text + matrix.mean()
    return (
        float(by_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0,
        float(by_text.var(ddof=1)) / texts if texts > 1 else 0.0,
        float((residual**2).sum()) / ((seeds - 1) * (texts - 1)) / matrix.size
        if min(matrix.shape) > 1
        else 0.0,
    )


def _half_width(
    seeds: Sequence[tuple[Floats, int]], texts: Sequence[tuple[float, float, int]], confidence: float
) -> Floats:
    """Return half the interval's width: see the head of this file.

    Parameters
    ----------
    seeds : sequence of (variance, count)
        The variance a number or an array of draws.
    texts : sequence of (variance, variance without the residual, count)
    confidence : float
    """
    tail = (1 - confidence) / 2
    z = stats.norm.isf(tail) ** 2
    of_seeds, seed_freedom = _sum_and_freedom(seeds)
    of_texts, text_freedom = _sum_and_freedom([(np.asarray(variance), count) for variance, _, count in texts])
    total = of_seeds + sum(net for _, net, _ in texts)
    # No seed differs and the texts' variance is at most the residual's, up to rounding: rest on the texts.
    total = np.where(total > ROUNDING * (of_seeds + of_texts), total, of_texts)
    excess = of_seeds**2 * (stats.t.isf(tail, seed_freedom) ** 2 - z)
    excess = excess + np.minimum(of_texts, total) ** 2 * (stats.t.isf(tail, text_freedom) ** 2 - z)
    return np.sqrt(total * z + np.divide(excess, total, out=np.zeros_like(total), where=total > 0))


def _sum_and_freedom(variances: Sequence[tuple[Floats, int]]) -> tuple[Floats, Floats]:
    """Return the sum of variances, and its degrees of freedom by Welch and Satterthwaite."""
    total, squares = np.zeros(()), np.zeros(())
    for variance, count in variances:
        total, squares = total + variance, squares + variance**2 / (count - 1)
    return total, np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)


def _checked_region(above: float, below: float, truth: float) -> tuple[float, float, float]:
    if not above < truth < below:
        raise ValueError(f"truth = {truth}: allowed are values above {above} and below {below}")
    return above, below, truth
