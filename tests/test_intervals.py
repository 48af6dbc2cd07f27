"""Interval estimates against cases worked by hand, tables and simulated coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from lib.intervals import (
    Interval,
    bootstrap_interval,
    exactly,
    exponential,
    mean_and_range,
    mean_interval,
    paired_sd_ratio_interval,
    proportion_interval,
    sd_factors,
    sd_interval,
    sd_ratio_interval,
)


def test_an_interval_must_contain_its_estimate():
    with pytest.raises(ValueError, match="does not contain"):
        Interval(2.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="does not contain"):
        Interval(float("nan"), float("nan"), float("nan"))


def test_counts_and_ranges_by_hand():
    assert exactly(3) == Interval(3.0, 3.0, 3.0, counted=True)
    assert mean_and_range([1, 2, 6]) == Interval(3.0, 1.0, 6.0, counted=True)


def test_only_bounds_that_differ_by_more_than_rounding_are_a_width():
    assert Interval(0.0, -1e-6, 0.0).has_width
    assert Interval(1.0, 0.0, math.inf).has_width
    assert not Interval(0.3, 0.3, 0.1 + 0.2).has_width
    assert not exactly(3).has_width


def test_exponential_by_hand():
    assert exponential(Interval(0.0, -math.inf, 1.0)) == Interval(1.0, 0.0, math.e)
    assert exponential(Interval(0.0, -1.0, 1e4)).high == math.inf


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


@pytest.mark.parametrize("values", [3, 5, 6, 7, 20, 30])
def test_mean_interval_covers_the_truth_at_its_rate(values):
    rng = np.random.default_rng(values)
    intervals = [mean_interval(rng.normal(1, 2, values)) for _ in range(1_500)]
    assert 0.935 < np.mean([interval.low < 1 < interval.high for interval in intervals]) < 0.965


@pytest.mark.parametrize("trials", [40, 100, 200, 300, 1000])
@pytest.mark.parametrize("rate", [0.6, 0.9, 0.97])
def test_proportion_interval_covers_the_truth_at_least_at_its_rate(trials, rate):
    # Clopper and Pearson guarantee 95 %; the fewer errors are expected, the more they exceed it.
    counts = np.arange(*stats.binom.interval(1 - 1e-9, trials, rate) + np.array([-40, 40])).astype(int)
    counts = counts[(counts >= 0) & (counts <= trials)]
    intervals = [proportion_interval(int(count), trials) for count in counts]
    coverage = []
    for near in rate + np.linspace(-1, 1, 21) * (1 - rate) / 4:
        inside = [interval.low <= near <= interval.high for interval in intervals]
        coverage.append(stats.binom.pmf(counts, trials, near) @ inside)
    assert min(coverage) >= 0.95 - 1e-9
    assert np.mean(coverage) < (0.97 if trials * (1 - rate) >= 20 else 0.99)


def test_sd_factors_are_as_far_apart_as_the_docstring_says():
    low, high = sd_factors(6)
    assert (round(low, 2), round(high, 1)) == (0.64, 2.2)
    assert low < sd_factors(6, 0.9)[0] < 1 < sd_factors(6, 0.9)[1] < high


def test_sd_interval_of_seven_values_by_hand():
    interval = sd_interval([1, 2, 3, 4, 5, 6, 7])
    # chi-squared of 6 degrees of freedom: 1.237 and 14.449 (tables)
    assert interval.estimate == pytest.approx(np.sqrt(28 / 6))
    assert interval.low / interval.estimate == pytest.approx(np.sqrt(6 / 14.449), rel=1e-3)
    assert interval.high / interval.estimate == pytest.approx(np.sqrt(6 / 1.237), rel=1e-3)


def test_sd_interval_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    intervals = [sd_interval(rng.normal(0, 2, 7)) for _ in range(2_000)]
    assert 0.935 < np.mean([interval.low < 2 < interval.high for interval in intervals]) < 0.965


def test_sd_ratio_interval_by_hand():
    # variances 9 and 5 / 2; F with 2 and n degrees of freedom exceeds x with (1 + 2 x / n) ** (-n / 2)
    interval = sd_ratio_interval([0, 3, 6], [-2, -1, 0, 1, 2])
    ratio = 3 / math.sqrt(2.5)
    assert interval.estimate == pytest.approx(ratio)
    assert interval.low == pytest.approx(ratio / math.sqrt(2 * (0.025**-0.5 - 1)))
    assert interval.high == pytest.approx(ratio / math.sqrt(2 * (0.975**-0.5 - 1)))


def test_sd_ratio_interval_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    intervals = [sd_ratio_interval(rng.normal(0, 3, 7), rng.normal(0, 2, 7)) for _ in range(2_000)]
    assert 0.935 < np.mean([interval.low < 1.5 < interval.high for interval in intervals]) < 0.965


@pytest.mark.parametrize("correlation", [0, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("pairs", [5, 7, 50])
def test_paired_sd_ratio_interval_covers_the_truth_at_its_rate(correlation, pairs):
    rng = np.random.default_rng(pairs)
    hits, widths = [], []
    for _ in range(1_500):
        common, own = rng.normal(size=(2, pairs))
        other = correlation * common + math.sqrt(1 - correlation**2) * own
        interval = paired_sd_ratio_interval(3 * common, 2 * other)
        hits.append(interval.low < 1.5 < interval.high)
        widths.append(math.log(interval.high / interval.low))
    assert 0.935 < np.mean(hits) < 0.965
    if correlation > 0.9:  # far narrower than for independent samples
        assert np.median(widths) < 2 * math.log(sd_ratio_interval(3 * common, 2 * other).high / 1.5)


def test_the_f_interval_is_far_too_wide_for_trials_paired_by_seed():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(500):
        common = rng.normal(size=7)
        interval = sd_ratio_interval(common, common + 0.1 * rng.normal(size=7))
        hits.append(interval.low < 1 / math.sqrt(1.01) < interval.high)
    assert np.mean(hits) == 1


def test_paired_sd_ratio_interval_by_hand():
    # variances 1 and 4, r = 0.5, t(1; 0.975) = 12.7062: K = 1 + 2 * 0.75 * 161.447 = 243.17
    interval = paired_sd_ratio_interval([1, 2, 3], [2, 6, 4])
    k = 1 + 2 * 0.75 * 12.7062**2
    assert interval.estimate == pytest.approx(0.5)
    assert interval.high == pytest.approx(math.sqrt(0.25 * (k + math.sqrt(k**2 - 1))), rel=1e-5)
    assert interval.low == pytest.approx(0.25 / interval.high)
    assert not paired_sd_ratio_interval([1, 2, 4], [2, 4, 8]).has_width  # proportional


@pytest.mark.parametrize(("first", "second"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, 3], [4, 4, 4])])
def test_pairs_without_a_ratio_of_deviations_are_refused(first, second):
    with pytest.raises(ValueError, match=f"samples of 3 and {len(second)}|samples of 2 and 2"):
        paired_sd_ratio_interval(first, second)


@pytest.mark.parametrize(
    ("first", "second"), [([1], [1, 2]), ([1, 2], [1]), ([1, 2], [3, 3]), ([1, 2, 3], [0.1, 0.1, 0.1])]
)
def test_standard_deviations_that_do_not_exist_are_refused(first, second):
    with pytest.raises(ValueError, match=f"samples of {len(first)} and {len(second)} values"):
        sd_ratio_interval(first, second)
    with pytest.raises(ValueError, match="values = 1"):
        sd_interval([1])


@pytest.mark.parametrize("values", [15, 30])
def test_bootstrap_interval_covers_the_truth_at_its_rate(values):
    rng = np.random.default_rng(values)
    hits = []
    for _ in range(1_000):
        sample = rng.normal(1, 2, values)
        means = rng.choice(sample, (400, values)).mean(axis=1)
        interval = bootstrap_interval(float(sample.mean()), means, n=values)
        hits.append(interval.low < 1 < interval.high)
    assert 0.93 < np.mean(hits) < 0.97


def test_bootstrap_interval_is_expanded_and_contains_its_estimate():
    resamples = np.append(np.arange(1_000.0), np.nan)
    within = bootstrap_interval(500.0, resamples, n=30)
    assert 0 < within.low < 25  # wider than the plain quantiles 2.5 % and 97.5 %
    assert 975 < within.high < 999
    assert bootstrap_interval(2_000.0, resamples, n=30) == Interval(2_000.0, within.low, 2_000.0)
