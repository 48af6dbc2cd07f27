"""What numbers of trials can tell, against simulation and cases worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.intervals import mean_interval, paired_sd_ratio_interval, sd_ratio_interval
from lib.paper3.power import (
    by_trials,
    detectable_difference,
    detectable_ratio,
    detectable_ratio_unpaired,
    needed,
    rarest,
    trials_for_equal_means,
    trials_for_equal_spreads,
    trials_for_equal_spreads_unpaired,
)


def paired(rng, trials, ratio, correlation):
    """Return correlated pairs with a ratio of standard deviations."""
    first, other = rng.normal(size=(2, trials))
    return ratio * first, correlation * first + np.sqrt(1 - correlation**2) * other


@pytest.mark.parametrize(("trials", "correlation"), [(20, 0.9), (50, 0.0)])
def test_a_detectable_ratio_shows_in_four_of_five_simulations(trials, correlation):
    rng = np.random.default_rng(0)
    ratio = detectable_ratio(trials, correlation, confidence=0.95)
    shown = [
        paired_sd_ratio_interval(*paired(rng, trials, ratio, correlation), 0.95).low > 1 for _ in range(500)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("trials", [4, 7, 50])
def test_a_detectable_ratio_of_unpaired_trials_shows_in_four_of_five_simulations(trials):
    rng = np.random.default_rng(0)
    ratio = detectable_ratio_unpaired(trials, confidence=0.95)
    shown = [
        sd_ratio_interval(rng.normal(0, ratio, trials), rng.normal(size=trials), 0.95).low > 1
        for _ in range(1_000)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.04)
    with pytest.raises(ValueError, match="trials = 1: at least 2 of each kind are required"):
        detectable_ratio_unpaired(1, confidence=0.95)


def test_few_pairs_show_a_detectable_ratio_at_least_as_often_as_promised():
    rng = np.random.default_rng(0)
    ratio = detectable_ratio(7, 0.9, confidence=0.95)
    shown = [paired_sd_ratio_interval(*paired(rng, 7, ratio, 0.9), 0.95).low > 1 for _ in range(1_000)]
    assert np.mean(shown) > 0.8


def test_pairing_and_more_trials_make_smaller_ratios_detectable():
    ratios = [
        detectable_ratio(n, r, confidence=0.95) for n, r in ((7, 0.0), (7, 0.99), (50, 0.0), (50, 0.99))
    ]
    assert ratios[0] > ratios[2] > ratios[1] > ratios[3] > 1
    with pytest.raises(ValueError, match="trials = 3: at least 4 pairs are required"):
        detectable_ratio(3, 0.0, confidence=0.95)


def test_a_detectable_difference_shows_in_four_of_five_simulations():
    rng = np.random.default_rng(0)
    difference = detectable_difference(7, 2.0, confidence=0.95)
    shown = [mean_interval(rng.normal(difference, 2, 7)).low > 0 for _ in range(1_000)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("trials", [2, 3, 7, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_a_difference_is_detectable_whatever_the_trials_and_the_confidence(trials, confidence):
    difference = detectable_difference(trials, 1.0, confidence=confidence)
    critical = stats.t.ppf((1 + confidence) / 2, trials - 1)
    power = stats.nct.sf(critical, trials - 1, difference * np.sqrt(trials))
    assert power == pytest.approx(0.8, abs=1e-6)


def test_a_difference_needs_two_trials():
    with pytest.raises(ValueError, match="trials = 1: at least 2 pairs are required"):
        detectable_difference(1, 1.0, confidence=0.95)


def test_equal_means_are_shown_by_the_number_of_trials_in_four_of_five_simulations():
    rng = np.random.default_rng(0)
    trials = trials_for_equal_means(0.2, 0.1, confidence=0.95)
    intervals = [mean_interval(rng.normal(0, 0.2, trials)) for _ in range(1_000)]
    shown = np.mean([interval.low > -0.1 and interval.high < 0.1 for interval in intervals])
    assert shown == pytest.approx(0.8, abs=0.05)
    assert trials_for_equal_means(0.0, 0.1, confidence=0.95) == 2


def test_trials_that_all_end_alike_have_no_number_for_spreads():
    columns = pd.MultiIndex.from_product([["m"], ["8-bit", "32-bit"]], names=["model", "bits"])
    nats = pd.DataFrame([[5.0, 1.0], [5.0, 1.1], [5.0, 1.3]], columns=columns)
    row = needed(nats, margin=0.05, factor=1.25, confidence=0.95).loc["m"]
    assert row[["correlation", "spreads"]].isna().all()
    assert row["means"] > 3


def test_the_number_of_trials_for_equal_means_is_the_smallest_one_and_has_an_end():
    trials = trials_for_equal_means(1.0, 0.05, confidence=0.95)
    assert trials > 1_000
    for number, enough in ((trials - 1, False), (trials, True)):
        half = stats.t.ppf(0.975, number - 1)
        inside = 2 * stats.t.cdf(0.05 * np.sqrt(number) - half, number - 1) - 1
        assert (inside >= 0.8) == enough
    assert trials_for_equal_means(1.0, 1e-6, confidence=0.95) is None


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_equal_spreads_are_shown_by_the_number_of_trials_in_four_of_five_simulations(correlation):
    rng = np.random.default_rng(0)
    trials = trials_for_equal_spreads(correlation, 1.25, confidence=0.95)
    intervals = [paired_sd_ratio_interval(*paired(rng, trials, 1.0, correlation), 0.95) for _ in range(500)]
    shown = np.mean([interval.low > 0.8 and interval.high < 1.25 for interval in intervals])
    assert shown == pytest.approx(0.8, abs=0.07)


def test_equal_spreads_of_unpaired_trials_are_shown_in_four_of_five_simulations():
    rng = np.random.default_rng(0)
    trials = trials_for_equal_spreads_unpaired(1.25, confidence=0.95)
    intervals = [sd_ratio_interval(*rng.normal(size=(2, trials)), 0.95) for _ in range(1_000)]
    shown = np.mean([interval.low > 0.8 and interval.high < 1.25 for interval in intervals])
    assert shown == pytest.approx(0.8, abs=0.04)


def test_the_rarest_event_that_shows():
    assert rarest(7, confidence=0.95) == pytest.approx(0.348, abs=1e-3)
    assert rarest(50, confidence=0.95) == pytest.approx(0.058, abs=1e-3)


def test_a_row_per_number_of_trials():
    table = by_trials([7, 50], sd=1.0, difference_sd=0.5, correlation=0.9, confidence=0.95)
    assert table.index.to_list() == [7, 50]
    assert table.loc[7, ["sd_low", "sd_high"]].to_list() == pytest.approx([0.644, 2.202], abs=1e-3)
    smaller = ["mean", "difference", "ratio", "event"]
    assert (table.loc[50, smaller] < table.loc[7, smaller]).all()
    assert (table["ratio"] < table["ratio_unpaired"]).all()


def test_what_equality_would_take_follows_from_the_pairs():
    rng = np.random.default_rng(0)
    first, second = paired(rng, 30, 1.0, 0.99)
    columns = pd.MultiIndex.from_product([["m"], ["8-bit", "32-bit"]], names=["model", "bits"])
    table = needed(
        pd.DataFrame(np.array([first, second]).T, columns=columns), margin=0.5, factor=1.25, confidence=0.95
    )
    row = table.loc["m"]
    assert row["correlation"] == pytest.approx(0.99, abs=0.01)
    assert row["spreads"] < 20 < row["spreads_unpaired"]
    assert row["means"] == trials_for_equal_means(row["difference_sd"], 0.5, confidence=0.95)


def test_pairs_are_described_by_their_differences_and_the_32_bit_trials():
    columns = pd.MultiIndex.from_product([["m"], ["8-bit", "32-bit"]], names=["model", "bits"])
    nats = pd.DataFrame([[0.11, 0.1], [0.24, 0.2], [0.29, 0.3], [0.9, np.nan]], columns=columns)
    row = needed(nats, margin=0.05, factor=1.25, confidence=0.9).loc["m"]
    assert row["difference_sd"] == pytest.approx(np.std([0.01, 0.04, -0.01], ddof=1))
    assert row["sd"] == pytest.approx(0.1)
    assert row["spreads"] == trials_for_equal_spreads(row["correlation"], 1.25, confidence=0.9)
    assert row["spreads_unpaired"] == trials_for_equal_spreads_unpaired(1.25, confidence=0.9)


@pytest.mark.parametrize("trials", [2, 7, 50])
def test_a_detectable_ratio_of_unpaired_trials_has_exactly_the_power(trials):
    freedom = trials - 1, trials - 1
    ratio = detectable_ratio_unpaired(trials, confidence=0.95)
    assert stats.f.sf(stats.f.ppf(0.975, *freedom) / ratio**2, *freedom) == pytest.approx(0.8)


def test_the_number_of_unpaired_trials_is_the_smallest_one():
    trials = trials_for_equal_spreads_unpaired(1.25, confidence=0.95)
    for number, enough in ((trials - 1, False), (trials, True)):
        freedom = number - 1, number - 1
        allowed = 1.25**2 / stats.f.ppf(0.975, *freedom)
        assert (2 * stats.f.cdf(allowed, *freedom) - 1 >= 0.8) == enough


def test_a_row_is_what_its_columns_are_called():
    row = by_trials([7], sd=1.0, difference_sd=0.5, correlation=0.9, confidence=0.9).loc[7]
    assert row["mean"] == pytest.approx(stats.t.ppf(0.95, 6) / np.sqrt(7))
    assert row["difference"] == detectable_difference(7, 0.5, confidence=0.9)
    assert row["event"] == pytest.approx(1 - 0.1 ** (1 / 7))
