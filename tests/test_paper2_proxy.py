"""The surface as a proxy: elasticities and factors between noises, where the truth is known."""

import numpy as np
import pytest

from lib.attribution import LRP
from lib.crossed import crossed_difference
from lib.paper2.model_types import Measured, ModelType, measure
from lib.paper2.proxy import (
    elasticity,
    factor_apart,
    factor_of,
    interval_of,
    log_ratio,
    minus,
    sum_of_logs,
)

LENGTHS = [10] * 12
RNG = np.random.default_rng(0)


def kind(name: str, noise: float, *, surface: int = 1, training: str = "", drawn: int = 0) -> ModelType:
    """Explanations with a given noise; types of the same ``drawn`` have the same errors."""
    errors = np.random.default_rng(drawn).standard_normal((12, sum(LENGTHS)))
    signal = np.resize([1.0, -1.0], sum(LENGTHS))
    relevance = {LRP: signal + np.sqrt(noise) * errors}
    return ModelType(name, training or name, surface, np.zeros((12, 1), np.uint8), relevance)


def measured(*kinds: ModelType) -> dict[str, Measured]:
    return measure({one.name: one for one in kinds}, LENGTHS, scale=lambda values, _: values)


def test_noise_that_falls_by_the_factor_of_the_bits_has_an_elasticity_of_1() -> None:
    kinds = [
        kind("plain", 4, surface=8, training="fine-tuned"),
        kind("half", 2, surface=4, training="fine-tuned"),
        kind("eighth", 0.5, surface=1, training="fine-tuned"),
    ]
    slope = interval_of(sum_of_logs(elasticity(measured(*kinds), kinds)))
    assert slope.estimate == pytest.approx(1)
    assert slope.high - slope.low < 1e-9  # the same errors in all three


def test_noise_that_stays_has_an_elasticity_of_0_and_the_difference_is_exact() -> None:
    kinds = [kind("plain", 2, surface=8, training="a"), kind("quantised", 2, surface=1, training="a")]
    others = [kind("other", 4, surface=8, drawn=1), kind("frozen", 1, surface=1, drawn=2)]
    by_name = measured(*kinds, *others)
    constant, falling = elasticity(by_name, kinds), elasticity(by_name, others)
    assert sum_of_logs(constant).estimate == pytest.approx(0)
    difference = sum_of_logs(minus(falling, constant))
    assert difference.estimate == pytest.approx(np.log(4) / np.log(8), abs=0.1)
    assert difference.interval().low > 0.4


def test_a_sum_of_two_independent_types_is_their_ratio() -> None:
    by_name = measured(kind("a", 3, drawn=1), kind("b", 1, drawn=2))
    logs = sum_of_logs(log_ratio(by_name["a"], by_name["b"]))
    expected = crossed_difference(by_name["a"].logs.noise, by_name["b"].logs.noise, paired=False)
    bounds, expected_bounds = logs.interval(), expected.interval()
    assert (bounds.low, bounds.high) == pytest.approx((expected_bounds.low, expected_bounds.high))
    assert factor_of(logs).high == pytest.approx(by_name["a"].ratio(by_name["b"], "noise").high)


def test_of_one_training_the_sum_is_paired() -> None:
    twice = [kind("a", 2, training="one"), kind("b", 2.2, training="one", drawn=0)]
    apart = [kind("a", 2), kind("b", 2.2, drawn=3)]
    widths = []
    for kinds in (twice, apart):
        by_name = measured(*kinds)
        interval = interval_of(sum_of_logs(log_ratio(by_name["a"], by_name["b"])))
        widths.append(interval.high - interval.low)
    assert widths[0] < 0.1 * widths[1]


def test_the_ratio_of_ratios_covers_the_truth() -> None:
    covered = 0
    for trial in range(60):
        kinds = [kind(name, noise, drawn=4 * trial + i) for i, (name, noise) in enumerate(
            {"a": 2, "b": 1, "c": 3, "d": 1.5}.items()
        )]  # fmt: skip
        by_name = measured(*kinds)
        raised = log_ratio(by_name["a"], by_name["b"]), log_ratio(by_name["c"], by_name["d"])
        interval = interval_of(sum_of_logs(minus(*raised)))
        covered += interval.low <= 0 <= interval.high
    assert covered >= 54


def test_without_noise_there_is_no_elasticity() -> None:
    kinds = [kind("a", 3, surface=8), kind("b", 0, surface=1)]
    assert sum_of_logs(elasticity(measured(*kinds), kinds)) is None
    assert interval_of(None) is None
    assert factor_of(None) is None
    by_name = measured(*kinds)
    assert factor_apart(by_name["a"], by_name["b"]) is None


def test_the_factor_apart_is_the_same_both_ways_and_at_least_1() -> None:
    by_name = measured(kind("low", 1, drawn=1), kind("high", 3, drawn=2), kind("near", 1, drawn=3))
    factor = factor_apart(by_name["low"], by_name["high"])
    assert str(factor) == str(factor_apart(by_name["high"], by_name["low"]))
    assert 1 < factor.low < factor.estimate < factor.high
    assert factor.estimate == pytest.approx(3, rel=0.2)
    assert factor_apart(by_name["low"], by_name["near"]).low == 1
