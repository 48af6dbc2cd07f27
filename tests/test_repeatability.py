"""What repeats among trials, exact tests against enumeration, and variance shares of known designs."""

import math
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib import repeatability
from lib.claims import published
from lib.intervals import paired_sd_ratio_interval, sd_interval, sd_ratio_interval


def test_bitwise_distinguishes_the_last_bit():
    value = np.array([0.1, 0.2])
    results = [{"losses": value}, {"losses": value.copy()}, {"losses": np.nextafter(value, 1)}]
    assert repeatability.bitwise(results, ["losses"]) == {"losses": 2}


def test_agreement_by_hand():
    unanimous, pairwise = repeatability.agreement([["a", "b", "c"], ["a", "b", "d"], ["a", "x", "d"]])
    assert unanimous == pytest.approx(1 / 3)
    assert pairwise == pytest.approx((2 / 3 + 1 / 3 + 2 / 3) / 3)


def test_permutation_p_is_the_share_of_splits_as_far_apart():
    first, second = [1.0, 2.5, 4.0], [3.0, 5.0, 6.5]
    pooled = np.array(first + second)
    observed = abs(np.mean(first) - np.mean(second))
    far = []
    for chosen in combinations(range(6), 3):
        rest = [index for index in range(6) if index not in chosen]
        far.append(abs(pooled[list(chosen)].mean() - pooled[rest].mean()) >= observed - 1e-12)
    assert repeatability.permutation_p(first, second) == pytest.approx(np.mean(far))


def test_ties_count_where_values_are_large_against_their_differences():
    random = np.random.default_rng(1)
    for _ in range(20):
        first, second = 1.5 + 1e-4 * random.normal(size=(2, 5))
        second[:2] = first[-2:]  # equal values may be swapped
        pooled = [Fraction(value) for value in (*first, *second)]
        gaps = [
            abs(2 * sum(split) - sum(pooled)) for split in combinations(pooled, 5)
        ]  # the data's own first
        expected = np.mean([gap >= gaps[0] for gap in gaps])
        assert repeatability.permutation_p(first, second) == pytest.approx(expected)


def test_sign_flip_p_is_the_share_of_signs_as_far_from_zero():
    differences = np.array([0.5, -0.1, 0.8, 0.3])
    signs = np.array(list(product([1, -1], repeat=4)))
    means = (signs * differences).mean(1)
    expected = (np.abs(means) >= abs(differences.mean()) - 1e-12).mean()
    assert repeatability.sign_flip_p(differences) == pytest.approx(expected)


def test_seven_pairs_of_one_sign_give_two_in_128():
    assert repeatability.sign_flip_p([1, 2, 3, 4, 5, 6, 7]) == pytest.approx(2 / 128)


@pytest.mark.parametrize("trials", [3, 5, 7])
def test_the_smallest_corrected_p_is_that_of_data_as_extreme_as_can_be(trials):
    first, second = np.arange(trials) + 1.0, np.arange(trials) - 100.0
    smallest = {
        2**trials: repeatability.sign_flip_p(first),
        math.comb(2 * trials, trials): repeatability.permutation_p(first, second),
    }
    for choices, p in smallest.items():
        corrected = repeatability.holm({"extreme": p, "b": 1.0, "c": 1.0, "d": 1.0})["extreme"]
        assert repeatability.smallest_corrected_p(choices, tests=4) == pytest.approx(corrected)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_left_out_of_both_tests(missing):
    first, second = [1.0, 2.5, 4.0], [3.0, 5.0, 6.5]
    p = repeatability.permutation_p(first, second)
    assert repeatability.permutation_p([missing, *first], second) == p
    assert repeatability.permutation_p(first, [*second, missing]) == p
    assert np.isnan(repeatability.permutation_p(first, [3.0, missing, missing]))
    assert repeatability.sign_flip_p([*second, missing]) == repeatability.sign_flip_p(second)
    assert np.isnan(repeatability.sign_flip_p([1.0, missing, missing]))


def test_more_than_100_000_choices_are_drawn_and_always_the_same():
    differences = np.random.default_rng(0).normal(0.3, 1, 50)
    p = repeatability.sign_flip_p(differences)
    assert p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=0.1)
    assert p == repeatability.sign_flip_p(differences)
    first, second = differences[:25], differences[25:] + 0.4
    p = repeatability.permutation_p(first, second)
    assert p == pytest.approx(stats.ttest_ind(first, second).pvalue, rel=0.1)
    assert p == repeatability.permutation_p(first, second)


@pytest.mark.parametrize(
    ("trials", "splits"),
    [(7, 3_432), (9, 48_620), (10, 100_001)],  # of the 184,756 splits of ten and ten, 100,000 are drawn
)
def test_the_smallest_p_of_groups_is_exact_as_long_as_all_splits_are_tried(trials, splits):
    # The groups lie so far apart that hardly any draw is as extreme.
    p = repeatability.permutation_p(np.arange(trials), np.arange(trials) + 100.0)
    smallest = repeatability.smallest_corrected_p(math.comb(2 * trials, trials), tests=1)
    assert smallest == pytest.approx(2 / splits)
    assert smallest <= p * (1 + 1e-9) <= 4 * smallest


def test_two_values_give_no_test_of_spread():
    assert np.isnan(repeatability.brown_forsythe_p([1.0, 2.0], [1.0, 5.0]))
    assert repeatability.brown_forsythe_p([1.0, 2.0, 3.0], [1.0, 5.0, 9.0]) > 0.05


@pytest.mark.parametrize("correlation", [0.0, 0.99])
def test_pitman_morgan_rejects_equal_spreads_at_its_level(correlation):
    rng = np.random.default_rng(0)
    p, other = [], []
    for _ in range(1_000):
        common, own = rng.normal(size=(2, 7))
        paired = correlation * common + np.sqrt(1 - correlation**2) * own
        p.append(repeatability.pitman_morgan_p(common, paired))
        other.append(repeatability.brown_forsythe_p(common, paired))
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)
    if correlation:
        assert np.mean(np.array(other) < 0.05) == 0  # which takes the pairs as independent


def test_pitman_morgan_agrees_with_the_interval_of_the_ratio():
    rng = np.random.default_rng(1)
    for _ in range(100):
        first, second = rng.normal(size=(2, 7)) * [[2], [1]]
        interval = paired_sd_ratio_interval(first, second)
        assert (repeatability.pitman_morgan_p(first, second) < 0.05) == (
            not interval.low <= 1 <= interval.high
        )
    assert np.isnan(repeatability.pitman_morgan_p([1, 2], [3, 4]))
    assert repeatability.pitman_morgan_p([1, 2, 4], [1, 2, 4]) == 1


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.04: times 3, 2, 1 -> 0.03, 0.04, 0.04
    corrected = repeatability.holm({"a": 0.04, "b": 0.01, "c": 0.02})
    assert corrected == pytest.approx({"a": 0.04, "b": 0.03, "c": 0.04})


def test_a_test_without_a_p_value_counts_as_none():
    corrected = repeatability.holm({"a": 0.04, "none": math.nan, "b": 0.01, "c": 0.02})
    assert list(corrected) == ["a", "none", "b", "c"]
    assert math.isnan(corrected.pop("none"))
    assert corrected == repeatability.holm({"a": 0.04, "b": 0.01, "c": 0.02})
    assert math.isnan(repeatability.holm({"none": math.nan})["none"])


def test_holm_corrects_each_column_of_p_values_and_nothing_else():
    tests = pd.DataFrame(
        {"p one": [0.01, 0.04], "p none": [None, None], "mean": [1.0, 2.0]}, index=["a", "b"]
    )
    corrected = repeatability.with_holm(tests)
    assert corrected["p one"].to_list() == [0.02, 0.04]
    assert corrected["p none"].isna().all()
    assert corrected["mean"].to_list() == [1.0, 2.0]


def test_two_groups_are_compared_first_minus_second():
    first, second = [2.0, 4.0, 6.5], [1.0, 3.0, 2.0]
    paired = repeatability.compare(first, second, paired=True, confidence=0.95)
    independent = repeatability.compare(first, second, paired=False, confidence=0.95)
    assert paired["difference"] == independent["difference"] == pytest.approx(6.5 / 3)
    assert paired["p sign flip"] == repeatability.sign_flip_p([1.0, 1.0, 4.5])
    assert independent["p sign flip"] is None
    assert paired["ratio of sds"] == str(paired_sd_ratio_interval(first, second, 0.95))
    assert paired["p spread"] == repeatability.pitman_morgan_p(first, second)
    assert independent["ratio of sds"] == str(sd_ratio_interval(first, second, 0.95))
    assert independent["p spread"] == repeatability.brown_forsythe_p(first, second)


@pytest.mark.parametrize("paired", [True, False])
def test_the_spreads_of_trials_that_all_end_alike_are_not_compared(paired):
    exploded = repeatability.compare([8.0] * 3, [1.0, 3.0, 2.0], paired=paired, confidence=0.95)
    assert exploded["ratio of sds"] is None
    assert exploded["p spread"] is None
    assert exploded["difference"] == 6


def _crossed(rng, levels, sds):
    """A full design of three random factors; standard deviations of A, B, C, AB, AC, BC, ABC."""
    cube = np.zeros((levels,) * 3)
    for sd, source in zip(sds, ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)), strict=True):
        cube = cube + sd * rng.normal(size=[levels if axis in source else 1 for axis in range(3)])
    index = list(product(range(levels), repeat=3))
    return pd.DataFrame(index, columns=list("abc")).assign(y=cube.ravel())


def test_variance_components_split_the_sum_of_squares():
    runs = _crossed(np.random.default_rng(0), 3, (2, 1, 1, 1, 0.5, 0.5, 1)).sample(frac=1, random_state=0)
    found = repeatability.variance_components(runs, ["a", "b", "c"], "y")
    assert list(found.index) == ["a", "b", "c", "a x b", "a x c", "b x c", "a x b x c"]
    assert found["freedom"].tolist() == [2, 2, 2, 4, 4, 4, 8]
    total = ((runs["y"] - runs["y"].mean()) ** 2).sum()
    assert (found["mean square"] * found["freedom"]).sum() == pytest.approx(total)
    assert found["share"].sum() == pytest.approx(1)
    a, ab, ac, abc = found.loc[["a", "a x b", "a x c", "a x b x c"], "mean square"]
    assert found.loc["a", "F"] == pytest.approx((a + abc) / (ab + ac))
    assert found.loc["a x b", "F"] == pytest.approx(ab / abc)
    assert found.loc["a", "sd"] ** 2 == pytest.approx(max(a - ab - ac + abc, 0) / 9)
    assert found.loc["a x b", "sd"] ** 2 == pytest.approx(max(ab - abc, 0) / 3)


@pytest.mark.parametrize("interactions", [(0, 0, 0), (0.5, 0.5, 0), (1, 1, 0), (3, 0, 1)])
def test_a_factor_without_an_effect_is_found_to_have_one_at_the_level_of_the_test(interactions, monkeypatch):
    monkeypatch.setattr(repeatability, "DRAWS", 1)  # no interval is looked at
    rng = np.random.default_rng(2)
    p, pooled = [], []
    for _ in range(400):
        runs = _crossed(rng, 3, (0, 1, 1, *interactions, 1))
        found = repeatability.variance_components(runs, ["a", "b", "c"], "y")
        p.append(found.loc["a", "p"])
        rest = found.iloc[3:]
        error = (rest["mean square"] * rest["freedom"]).sum() / rest["freedom"].sum()
        pooled.append(stats.f.sf(found.loc["a", "mean square"] / error, 2, rest["freedom"].sum()))
    assert 0.015 < np.mean(np.array(p) < 0.05) < 0.075
    if any(interactions):  # what pooling the interactions would do
        assert np.mean(np.array(pooled) < 0.05) > 0.12


@pytest.mark.parametrize("sds", [(1, 1, 1, 0, 0, 0, 1), (3, 1, 0.5, 0.5, 0.5, 0.5, 1), (1, 1, 1, 1, 1, 1, 1)])
def test_intervals_of_the_factors_shares_cover_the_truth(sds, monkeypatch):
    monkeypatch.setattr(repeatability, "DRAWS", 1_000)
    rng = np.random.default_rng(3)
    truth = np.square(sds[:3]) / np.square(sds).sum()
    hits = []
    for _ in range(300):
        found = repeatability.variance_components(_crossed(rng, 3, sds), ["a", "b", "c"], "y")
        factors = found.iloc[:3]
        hits.append((factors["low"] <= truth) & (truth <= factors["high"]))
    assert 0.93 < np.mean(hits) < 0.975


def test_designs_without_three_crossed_factors_are_refused():
    runs = _crossed(np.random.default_rng(4), 2, (1,) * 7)
    with pytest.raises(ValueError, match="three are required"):
        repeatability.variance_components(runs, ["a", "b"], "y")
    with pytest.raises(ValueError, match="7 runs: a full design"):
        repeatability.variance_components(runs.iloc[1:], ["a", "b", "c"], "y")
    with pytest.raises(ValueError, match="at least two"):
        repeatability.variance_components(runs[runs["a"] == 0], ["a", "b", "c"], "y")


def test_the_published_perplexities_lie_on_the_grids_of_16_bit_floats():
    values = published(3)["perplexity"]
    assert repeatability.coarsest_grid(values["GPT-NeoXT-chat-20B"]["32-bit"], 3) == 5  # bfloat16, 4 to 8
    assert repeatability.coarsest_grid(values["GPT-NeoX-20B"]["32-bit"], 3) == 7  # float16, 8 to 16
    assert repeatability.coarsest_grid(values["Llama2-7B"]["32-bit"], 3) is None


def test_random_values_lie_on_no_grid():
    rng = np.random.default_rng(0)
    found = [repeatability.coarsest_grid(rng.uniform(8, 9, 7).round(3).tolist(), 3) for _ in range(200)]
    assert sum(k is not None for k in found) < 10


def test_opposite_pairs_have_equal_spreads():
    assert repeatability.pitman_morgan_p([1, 2, 4], [-1, -2, -4]) == 1


def test_pairs_are_tested_by_their_differences():
    first, second = [2.0, 3.0, 6.5, 1.0], [1.0, 4.0, 2.0, 3.5]
    paired = repeatability.compare(first, second, paired=True, confidence=0.95)
    assert paired["p sign flip"] == repeatability.sign_flip_p([1.0, -1.0, 4.5, -2.5])
    assert paired["p sign flip"] > 0.2  # all of them are positive, and their sums would give 2 in 16
    assert paired["sd of the second"] == str(sd_interval(second, 0.95))
    wide = repeatability.compare(first, second, paired=True, confidence=0.99)
    assert wide["ratio of sds"] == str(paired_sd_ratio_interval(first, second, 0.99))
    assert wide["sd of the second"] == str(sd_interval(second, 0.99))


def test_no_corrected_p_exceeds_1():
    assert repeatability.smallest_corrected_p(4, tests=4) == 1


def test_each_source_but_the_last_is_tested_against_what_its_mean_square_contains():
    index = list(product(range(3), repeat=3))
    runs = pd.DataFrame(index, columns=list("abc")).assign(y=np.random.default_rng(0).normal(size=27))
    found = repeatability.variance_components(runs, ["a", "b", "c"], "y")
    ms, freedom = found["mean square"], found["freedom"]
    rest = "a x b x c"
    for factor, (one, other) in {
        "a": ("a x b", "a x c"),
        "b": ("a x b", "b x c"),
        "c": ("a x c", "b x c"),
    }.items():
        over, under = ms[factor] + ms[rest], ms[one] + ms[other]
        down = under**2 / (ms[one] ** 2 / freedom[one] + ms[other] ** 2 / freedom[other])
        up = over**2 / (ms[factor] ** 2 / freedom[factor] + ms[rest] ** 2 / freedom[rest])
        assert found.loc[factor, "F"] == pytest.approx(over / under)
        assert found.loc[factor, "p"] == pytest.approx(stats.f.sf(over / under, up, down))
        assert found.loc[factor, "sd"] ** 2 == pytest.approx(max(over - under, 0) / 9)
    for pair in ("a x b", "a x c", "b x c"):
        assert found.loc[pair, "F"] == pytest.approx(ms[pair] / ms[rest])
        assert found.loc[pair, "p"] == pytest.approx(stats.f.sf(ms[pair] / ms[rest], 4, 8))
        assert found.loc[pair, "sd"] ** 2 == pytest.approx(max(ms[pair] - ms[rest], 0) / 3)
    assert np.isnan(found.loc[rest, ["F", "p"]].astype(float)).all()


def test_the_order_of_the_runs_changes_no_component():
    index = list(product(range(3), repeat=3))
    runs = pd.DataFrame(index, columns=list("abc")).assign(y=np.random.default_rng(0).normal(size=27))
    found = repeatability.variance_components(runs, ["a", "b", "c"], "y")
    shuffled = repeatability.variance_components(runs.sample(frac=1, random_state=0), ["a", "b", "c"], "y")
    pd.testing.assert_frame_equal(found, shuffled)
    assert found.loc["a", "mean square"] == pytest.approx(9 * runs.groupby("a")["y"].mean().var())


def test_pairs_that_differ_by_a_constant_spread_alike():
    assert repeatability.pitman_morgan_p([0.1, 0.2, 0.4], [1.1, 1.2, 1.4]) == 1.0
    assert np.isnan(repeatability.pitman_morgan_p([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]))
