"""Whether the fine-tuning surface is a proxy for noise: elasticities, and noise at an equal surface.

The paper argues by counterexample. If the number of bits determined the noise, the noise would fall whenever
the bits do, by whatever means, and it would be equal where the bits are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.intervals import Interval, bootstrap_interval
from lib.paper2.model_types import Floats, Measured, ModelType


@dataclass(frozen=True)
class Elasticity:
    """By how many percent noise (or another quantity) changes if the surface changes by one percent.

    Attributes
    ----------
    estimate : float
        d log quantity / d log bits: 1 if both fall by the same factor, 0 if the quantity stays as it is.
    resamples : ndarray, (resamples,)
    drawn : int
        As in `lib.paper2.model_types.Measured`.
    """

    estimate: float
    resamples: Floats
    drawn: int

    def interval(self, level: float = 0.95) -> Interval | None:
        """Return the elasticity with its bootstrap interval; None if a quantity was not positive."""
        if not np.isfinite(self.estimate):
            return None
        return bootstrap_interval(self.estimate, self.resamples, level, n=self.drawn)

    def minus(self, other: "Elasticity") -> "Elasticity":
        """Return the difference of two elasticities, paired where their types are."""
        drawn = min(self.drawn, other.drawn)
        return Elasticity(self.estimate - other.estimate, self.resamples - other.resamples, drawn)


def elasticity(
    measured: Mapping[str, Measured], types: Sequence[ModelType], quantity: str = "noise"
) -> Elasticity:
    """Return the slope of a quantity over the surface, both logarithmic, by least squares over model types.

    Parameters
    ----------
    measured : mapping of str to Measured
        By the types' names.
    types : sequence of ModelType
        At least two surfaces: one model and its quantised versions, for example.
    quantity : str
        ``signal``, ``noise`` or ``snr``.
    """
    bits = np.log([kind.surface for kind in types])
    weights = (bits - bits.mean()) / np.sum((bits - bits.mean()) ** 2)  # (types,)
    estimates = [getattr(measured[kind.name].estimate, quantity) for kind in types]
    resamples = np.stack([getattr(measured[kind.name].resamples, quantity) for kind in types], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # no logarithm, no elasticity
        estimate = float(np.log(estimates) @ weights)
        drawn = np.log(resamples) @ weights
    return Elasticity(estimate, drawn, min(measured[kind.name].drawn for kind in types))


def factor_apart(one: Measured, other: Measured, quantity: str = "noise") -> Interval | None:
    """Return by what factor two types differ, whichever is larger: at least 1; None as `Measured.ratio`.

    The interval starts at 1 if that of the ratio contains 1.
    """
    ratio = one.ratio(other, quantity)
    if ratio is None:
        return None
    with np.errstate(divide="ignore"):
        low, estimate, high = (abs(float(np.log(value))) for value in (ratio.low, ratio.estimate, ratio.high))
    nearest = 0.0 if ratio.low <= 1 <= ratio.high else min(low, high)
    return Interval(*(float(np.exp(value)) for value in (estimate, nearest, max(low, high))))


def ratio_of_ratios(
    first: tuple[Measured, Measured], second: tuple[Measured, Measured], quantity: str = "noise"
) -> Interval | None:
    """Return the ratio of a quantity in one pair of types over that in another; None if it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(_ratio(first, "estimate", quantity) / _ratio(second, "estimate", quantity))
        resamples = _ratio(first, "resamples", quantity) / _ratio(second, "resamples", quantity)
    if not np.isfinite(estimate):
        return None
    drawn = min(kind.drawn for kind in (*first, *second))
    return bootstrap_interval(estimate, resamples, 0.95, n=drawn)


def _ratio(pair: tuple[Measured, Measured], part: str, quantity: str) -> Floats:
    """Return the ratio in one pair of types: () of the estimates or (resamples,) of the resamples."""
    one, other = (getattr(getattr(kind, part), quantity) for kind in pair)
    return np.divide(one, other)


def farthest_from_1(ratios: Sequence[Interval | None]) -> Interval | None:
    """Return the ratio whose interval reaches farthest from 1; None if any ratio is None.

    A claim about several ratios holds if all of them lie in its region, so it is judged by this one: no
    correction for their number is needed (intersection-union test).
    """
    found = [ratio for ratio in ratios if ratio is not None]
    if len(found) < len(ratios):
        return None
    with np.errstate(divide="ignore"):
        return max(found, key=lambda ratio: np.abs(np.log([ratio.low, ratio.high])).max())
