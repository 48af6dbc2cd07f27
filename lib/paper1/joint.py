"""Intervals over seeds and texts jointly, also for what is no mean, and how many of either it would take.

`lib.crossed` gives intervals of means. Paper 1 also has lists of ten words, and components of a set of
embeddings. Such a statistic is computed on all texts and on random halves of them, which gives a table
(seeds, 1 + halves). A table of differences is the difference of two tables with the same seeds (the frozen
encoder's single row counts for all of them), and `over_halves` makes a crossed value of either.

A statistic varies between random halves of the texts as much as between samples of as many texts
(half-sampling; Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 8). The usual
jackknife, which leaves out few texts at a time, fails for a list of ten words: the list stays the same.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.claims import Region
from lib.crossed import Crossed, Part

Floats = NDArray[np.floating]
Indices = NDArray[np.intp]

HALVES = 50
"""Random halves of the texts. They are the same whenever there are as many texts, so tables are paired."""

DECIMALS = 12  # values are of the order of 1: seeds that agree must agree exactly


def half_samples(texts: int) -> list[Indices]:
    """Return the indices of all texts, (texts,), and of random halves, (texts // 2,), each ascending.

    Raises
    ------
    ValueError
        With fewer than two texts.
    """
    if texts < 2:
        raise ValueError(f"texts = {texts}: at least 2 are required")
    rng = np.random.default_rng(0)
    halves = [np.sort(rng.permutation(texts)[: texts // 2]) for _ in range(HALVES)]
    return [np.arange(texts), *halves]


def on_halves(statistic: Callable[[Indices], ArrayLike], texts: int) -> Floats:
    """Return a statistic on all texts, and on each half of them: (seeds, 1 + halves).

    Parameters
    ----------
    statistic : callable
        Takes the indices of the texts to use and returns (seeds,).
    texts : int
        Number of texts.
    """
    return np.stack([np.asarray(statistic(chosen), float) for chosen in half_samples(texts)], axis=1)


def over_halves(table: Floats) -> Crossed:
    """Return a statistic's mean over seeds, with the variances that seeds and texts account for.

    Parameters
    ----------
    table : array, (seeds, 1 + halves)
        From `on_halves`, or made of such tables. With one row (the frozen encoder, which has no seed), texts
        are the only source of variance. A half that is NaN for any seed (none of its texts holds a cue, say)
        is left out.

    Raises
    ------
    ValueError
        If the statistic has no value on the whole set of texts, or has one on fewer than two halves.

    Notes
    -----
    As `lib.crossed.crossed_mean`, with halves in place of texts: the variance between halves of a mean over
    seeds is the texts' part of its variance.
    """
    table = np.round(table, DECIMALS)
    known = np.isnan(table).sum(axis=0) == 0  # (1 + halves,)
    if not known[0] or known.sum() < 3:
        raise ValueError(
            f"{known[1:].sum()} of {table.shape[1] - 1} halves of the texts have a value: at least 2 are "
            "required, and a value on all texts"
        )
    whole, halves = table[:, 0], table[:, 1:][:, known[1:]]  # (seeds,), (seeds, halves)
    seeds, columns = halves.shape
    of_texts = halves - halves.mean(axis=1, keepdims=True)
    by_half = of_texts.mean(axis=0)
    if seeds == 1:
        return Crossed(float(whole[0]), (), (Part(float(by_half.var(ddof=1)), 0.0, columns),))
    residual = float(((of_texts - by_half) ** 2).sum()) / ((seeds - 1) * (columns - 1) * seeds)
    return Crossed(
        float(whole.mean()),
        (Part(float(whole.var(ddof=1)) / seeds, residual, seeds),),
        (Part(float(by_half.var(ddof=1)), residual, columns),),
    )


def needed_row(
    measured: Crossed, region: Region, confidence: float, *, texts: int | None = None
) -> dict[str, str]:
    """Return how wide an interval is, and how many seeds or texts would show that a true 0 lies in a region.

    The numbers assume that there is no difference. If the interval does not contain 0, none is given: a true
    difference must be assumed then, which may still lie in the region. Nor is one if the interval has no
    width: nothing varied, so nothing says how much data would settle the claim.

    Parameters
    ----------
    measured : Crossed
        The quantity.
    region : Region
        The claim's; 0 lies inside.
    confidence : float
        Coverage of the interval.
    texts : int, optional
        For `over_halves`: the number of texts behind the table.

    Returns
    -------
    dict of str to str
        A row of a table for reading; numbers are for a power of 80 %.
    """
    interval = measured.interval(confidence)
    contains_0 = interval.low <= 0 <= interval.high
    row = {
        "region": str(region),
        "interval now": f"±{(interval.high - interval.low) / 2:.2g}",
        "contains 0": "yes" if contains_0 else "no",
        "seeds, with as many texts": "—",
        "texts, with as many seeds": "—",
    }
    if contains_0 and interval.has_width:
        needs = {"above": region.above, "below": region.below, "confidence": confidence}
        more_texts = measured.texts_needed(**needs)
        if texts is not None and more_texts is not None:
            # (texts of the table,): halves without a value are left out of it
            more_texts = math.ceil(more_texts * texts / measured.texts[0].count)
        row["seeds, with as many texts"] = _count(measured.seeds_needed(**needs))
        row["texts, with as many seeds"] = _count(more_texts)
    return row


def _count(number: int | None) -> str:
    return "no number" if number is None else f"{number:,}"
