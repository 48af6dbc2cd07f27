"""The surface as a proxy: elasticities and factors between noises, where the truth is known."""

import numpy as np
import pytest

from lib.intervals import Interval
from lib.paper2.model_types import Measured, ModelType
from lib.paper2.proxy import elasticity, factor_apart, farthest_from_1, ratio_of_ratios
from lib.stability import Stability

SEEDS = 20
DRAWN = np.exp(0.1 * np.random.default_rng(0).standard_normal((3, 2_000)))  # relative errors of noises


def kind(name: str, surface: int) -> ModelType:
    return ModelType(name, name, surface, np.zeros((SEEDS, 1), np.uint8), {})


def measured(noise: float, row: int) -> Measured:
    """A type with this noise, known up to 10 %; the same row has the same errors."""
    numbers = Stability(*np.array([1.0, noise, 1.0]))
    resamples = Stability(DRAWN[row], noise * DRAWN[row], DRAWN[row])
    return Measured(numbers, numbers, resamples, SEEDS)


def test_noise_that_falls_by_the_factor_of_the_bits_has_an_elasticity_of_1() -> None:
    kinds = [kind("a", 8), kind("b", 4), kind("c", 1)]
    proportional = {name: measured(noise, 0) for name, noise in {"a": 8, "b": 4, "c": 1}.items()}
    slope = elasticity(proportional, kinds)
    assert slope.estimate == pytest.approx(1)
    assert slope.interval().high - slope.interval().low < 1e-9  # the errors are paired
    constant = {name: measured(2, 0) for name in "abc"}
    assert elasticity(constant, kinds).estimate == pytest.approx(0)
    difference = slope.minus(elasticity(constant, kinds))
    assert difference.estimate == pytest.approx(1)


def test_an_elasticity_of_two_types_is_the_ratio_of_logarithms() -> None:
    by_name = {"a": measured(3, 0), "b": measured(1, 1)}
    slope = elasticity(by_name, [kind("a", 100), kind("b", 10)])
    interval = slope.interval()
    assert slope.estimate == pytest.approx(np.log(3) / np.log(10))
    # The logarithm of the ratio has a standard error of 0.1 times the root of 2.
    assert interval.high - slope.estimate == pytest.approx(2.15 * 0.141 / np.log(10), rel=0.15)


def test_without_noise_there_is_no_elasticity() -> None:
    by_name = {"a": measured(3, 0), "b": measured(0, 1)}
    assert elasticity(by_name, [kind("a", 100), kind("b", 10)]).interval() is None


def test_the_factor_apart_is_the_same_both_ways_and_at_least_1() -> None:
    low, high = measured(1, 0), measured(3, 1)
    factor = factor_apart(low, high)
    assert str(factor) == str(factor_apart(high, low))
    assert factor.estimate == pytest.approx(3)
    assert 1 < factor.low < 3 < factor.high
    near = factor_apart(measured(1, 0), measured(1.05, 1))
    assert near.low == 1
    assert near.high > 1.2


def test_a_ratio_of_ratios() -> None:
    twice, once = (measured(2, 0), measured(1, 0)), (measured(5, 1), measured(5, 1))
    assert ratio_of_ratios(twice, once) == Interval(2, 2, 2)
    assert ratio_of_ratios(twice, (measured(0, 1), measured(5, 1))) is None


def test_of_several_ratios_the_one_that_reaches_farthest_decides() -> None:
    wide, far = Interval(1, 0.5, 1.1), Interval(1.5, 1.4, 1.6)
    assert farthest_from_1([wide, far]) is wide
    assert farthest_from_1([far, Interval(1, 0.9, 1.1)]) is far
    assert farthest_from_1([far, None]) is None
