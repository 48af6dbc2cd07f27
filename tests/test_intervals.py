"""Interval estimates against cases worked by hand, tables and simulated coverage."""

import math

import numpy as np
import pytest

from lib.intervals import (
    Interval,
    bootstrap_interval,
    exactly,
    mean_and_range,
    mean_interval,
    paired_difference,
    percentile_interval,
    proportion_interval,
    sd_interval,
    sd_ratio_interval,
)


def test_an_interval_must_contain_its_estimate():
    with pytest.raises(ValueError, match="does not contain"):
        Interval(2.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="does not contain"):
        Interval(float("nan"), float("nan"), float("nan"))


def test_counts_and_ranges_by_hand():
    assert exactly(3) == Interval(3.0, 3.0, 3.0)
    assert mean_and_range([1, 2, 6]) == Interval(3.0, 1.0, 6.0)


def test_mean_interval_by_hand():
    # mean 2, standard error 1/sqrt(3), t(2; 0.975) = 4.3027
    interval = mean_interval([1, 2, 3])
    assert interval.estimate == 2.0
    assert interval.high - 2.0 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert mean_interval([2, 2]) == Interval(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="values = 1"):
        mean_interval([1.0])


def test_proportion_interval_by_hand():
    # Clopper and Pearson for 0 of n: the upper bound solves (1 - p)^n = 0.025
    interval = proportion_interval(0, 10)
    assert (interval.estimate, interval.low) == (0.0, 0.0)
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_sd_interval_of_seven_values_is_as_wide_as_the_docstring_says():
    interval = sd_interval([1, 2, 3, 4, 5, 6, 7])
    # chi-squared of 6 degrees of freedom: 1.237 and 14.449 (tables)
    assert interval.estimate == pytest.approx(np.sqrt(28 / 6))
    assert interval.low / interval.estimate == pytest.approx(np.sqrt(6 / 14.449), rel=1e-3)
    assert interval.high / interval.estimate == pytest.approx(np.sqrt(6 / 1.237), rel=1e-3)


def test_sd_interval_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    intervals = [sd_interval(rng.normal(0, 2, 7)) for _ in range(2_000)]
    assert 0.935 < np.mean([interval.low < 2 < interval.high for interval in intervals]) < 0.965


def test_sd_ratio_interval_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    intervals = [sd_ratio_interval(rng.normal(0, 3, 7), rng.normal(0, 2, 7)) for _ in range(2_000)]
    assert 0.935 < np.mean([interval.low < 1.5 < interval.high for interval in intervals]) < 0.965


@pytest.mark.parametrize(("first", "second"), [([1], [1, 2]), ([1, 2], [1]), ([1, 2], [3, 3])])
def test_standard_deviations_that_do_not_exist_are_refused(first, second):
    with pytest.raises(ValueError, match=f"samples of {len(first)} and {len(second)} values"):
        sd_ratio_interval(first, second)
    with pytest.raises(ValueError, match="values = 1"):
        sd_interval([1])


def test_bootstrap_interval_is_the_percentile_interval_widened_to_its_estimate():
    resamples = np.append(np.arange(1_000.0), np.nan)
    low, high = percentile_interval(resamples, n=30)
    assert low < 25  # wider than the plain quantiles 2.5 % and 97.5 %
    assert high > 975
    assert bootstrap_interval(500.0, resamples, n=30) == Interval(500.0, low, high)
    assert bootstrap_interval(2_000.0, resamples, n=30) == Interval(2_000.0, low, 2_000.0)


def test_paired_difference_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        hard = rng.random(300) < 0.2  # texts that both sides tend to miss: the pairing matters
        correct_a = rng.random((8, 300)) < np.where(hard, 0.55, 0.95)
        correct_b = rng.random((8, 300)) < np.where(hard, 0.50, 0.90)
        interval = paired_difference(correct_a, correct_b, confidence=0.95, seed=trial, resamples=300)
        hits += interval.low <= 0.05 <= interval.high
    assert 53 <= hits <= 60  # binomial(60, 0.95): below 53 has probability 0.3 %


def test_paired_difference_of_a_model_with_itself_is_zero():
    correct = np.random.default_rng(1).random((3, 50)) < 0.9
    interval = paired_difference(correct, correct, confidence=0.9, seed=0)
    assert interval.estimate == 0.0
    assert interval.low < 0 < interval.high
