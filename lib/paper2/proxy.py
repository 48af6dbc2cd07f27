"""Whether the fine-tuning surface is a proxy for noise: elasticities, and noise at an equal surface.

The paper argues by counterexample. If the number of bits determined the noise, the noise would fall whenever
the bits do, by whatever means, and it would be equal where the bits are.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lib.crossed import Crossed, crossed_sum
from lib.intervals import Interval, exponential
from lib.paper2.model_types import Floats, Measured, ModelType

Terms = Sequence[tuple[float, Measured]]
"""A sum of logarithms: a weight for each type."""


def sum_of_logs(terms: Terms) -> Crossed | None:
    """Return a weighted sum of the logarithms of the noise over types, with its error over seeds and texts.

    All types explain the same texts. Types of one training are the same models, and their weighted sum is
    taken seed by seed; seeds of different trainings are independent.

    Parameters
    ----------
    terms : sequence of (float, Measured)
        The weights 1 and -1 give the logarithm of a ratio, for example.

    Returns
    -------
    Crossed or None
        None if a noise is not positive.
    """
    by_training: dict[str, Floats] = {}
    for weight, kind in terms:
        logs = weight * kind.logs.noise  # (seeds, texts)
        if np.isnan(logs).any():
            return None
        by_training[kind.training] = by_training.get(kind.training, 0) + logs
    return crossed_sum(*by_training.values())


def log_ratio(one: Measured, other: Measured) -> list[tuple[float, Measured]]:
    """Return the logarithm of the ratio of two noises, as the terms of `sum_of_logs`."""
    return [(1.0, one), (-1.0, other)]


def elasticity(measured: Mapping[str, Measured], types: Sequence[ModelType]) -> list[tuple[float, Measured]]:
    """Return d log noise / d log bits, by least squares over model types, as the terms of `sum_of_logs`.

    It is 1 if noise falls by the factor of the bits, and 0 if it stays as it is.

    Parameters
    ----------
    measured : mapping of str to Measured
        By the types' names.
    types : sequence of ModelType
        At least two surfaces: one model and its quantised versions, for example.
    """
    bits = np.log([kind.surface for kind in types])
    weights = (bits - bits.mean()) / np.sum((bits - bits.mean()) ** 2)
    return [(float(weight), measured[kind.name]) for weight, kind in zip(weights, types, strict=True)]


def minus(one: Terms, other: Terms) -> list[tuple[float, Measured]]:
    """Return the difference of two sums."""
    return [*one, *((-weight, kind) for weight, kind in other)]


def interval_of(found: Crossed | None, confidence: float = 0.95) -> Interval | None:
    """Return the interval of a measurement, if there is one."""
    return None if found is None else found.interval(confidence)


def factor_of(found: Crossed | None, confidence: float = 0.95) -> Interval | None:
    """Return the interval of a factor from the measurement of its logarithm, if there is one."""
    return None if found is None else exponential(found.interval(confidence))


def factor_apart(one: Measured, other: Measured) -> Interval | None:
    """Return by how many times the larger of two noises exceeds the smaller; None if one is not positive.

    The interval starts at 1 if that of the ratio contains 1.
    """
    logs = interval_of(one.compared(other, "noise"))
    if logs is None:
        return None
    nearest = 0.0 if logs.low <= 0 <= logs.high else min(abs(logs.low), abs(logs.high))
    return exponential(Interval(abs(logs.estimate), nearest, max(abs(logs.low), abs(logs.high))))
