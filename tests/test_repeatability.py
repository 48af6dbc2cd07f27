"""What repeats among trials, exact tests against enumeration, and variance shares of known designs."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from lib import repeatability
from lib.claims import published


def test_bitwise_distinguishes_the_last_bit():
    value = np.array([0.1, 0.2])
    results = [{"losses": value}, {"losses": value.copy()}, {"losses": np.nextafter(value, 1)}]
    assert repeatability.bitwise(results, ["losses"]) == {"losses": 2}


def test_different_texts_are_counted_per_prompt():
    assert repeatability.different_texts([["a", "x"], ["a", "y"]]) == [0.5, 1.0]


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


def test_sign_flip_p_is_the_share_of_signs_as_far_from_zero():
    differences = np.array([0.5, -0.1, 0.8, 0.3])
    signs = np.array(list(product([1, -1], repeat=4)))
    means = (signs * differences).mean(1)
    expected = (np.abs(means) >= abs(differences.mean()) - 1e-12).mean()
    assert repeatability.sign_flip_p(differences) == pytest.approx(expected)


def test_seven_pairs_of_one_sign_give_two_in_128():
    assert repeatability.sign_flip_p([1, 2, 3, 4, 5, 6, 7]) == pytest.approx(2 / 128)


def test_two_values_give_no_test_of_spread():
    assert np.isnan(repeatability.brown_forsythe_p([1.0, 2.0], [1.0, 5.0]))
    assert repeatability.brown_forsythe_p([1.0, 2.0, 3.0], [1.0, 5.0, 9.0]) > 0.05


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.04: times 3, 2, 1 -> 0.03, 0.04, 0.04
    corrected = repeatability.holm({"a": 0.04, "b": 0.01, "c": 0.02})
    assert corrected == pytest.approx({"a": 0.04, "b": 0.03, "c": 0.04})


def test_holm_corrects_each_column_of_p_values_and_nothing_else():
    tests = pd.DataFrame(
        {"p one": [0.01, 0.04], "p none": [None, None], "mean": [1.0, 2.0]}, index=["a", "b"]
    )
    corrected = repeatability.with_holm(tests)
    assert corrected["p one"].to_list() == [0.02, 0.04]
    assert corrected["p none"].isna().all()
    assert corrected["mean"].to_list() == [1.0, 2.0]


def test_two_groups_are_compared_first_minus_second():
    first, second = [2.0, 4.0, 6.0], [1.0, 2.0, 3.0]
    compared = repeatability.compare(first, second, paired=True, confidence=0.95)
    assert compared["difference"] == 2
    assert compared["ratio of sds"].startswith("2 [")
    assert compared["p sign flip"] == repeatability.sign_flip_p([1.0, 2.0, 3.0])
    assert repeatability.compare(first, second, paired=False, confidence=0.95)["p sign flip"] is None


def _design(levels, effects, noise=0.0):
    rng = np.random.default_rng(1)
    drawn = [rng.normal(0, sd, levels) for sd in effects]
    rows = [
        {"a": a, "b": b, "c": c, "y": drawn[0][a] + drawn[1][b] + drawn[2][c] + rng.normal(0, noise)}
        for a, b, c in product(range(levels), repeat=3)
    ]
    return pd.DataFrame(rows)


def test_variance_shares_of_a_sum_are_the_variances_of_its_terms():
    runs = _design(4, (3.0, 1.0, 0.0))
    shares = repeatability.variance_shares(runs, ["a", "b", "c"], "y")
    by_hand = {name: runs.groupby(name)["y"].mean().var(ddof=1) for name in "abc"}
    assert (shares["sd"] ** 2).to_dict() == pytest.approx(by_hand | {"interactions": 0}, abs=1e-9)
    assert shares.loc["interactions", "share"] == pytest.approx(0, abs=1e-9)
    assert shares["share"].sum() == pytest.approx(1)
    assert shares["freedom"].to_dict() == {"a": 3, "b": 3, "c": 3, "interactions": 54}


def test_variance_shares_find_a_known_source_in_noise():
    shares = repeatability.variance_shares(_design(7, (2.0, 0.0, 0.0), noise=1.0), ["a", "b", "c"], "y")
    assert shares.loc["interactions", "sd"] == pytest.approx(1, rel=0.1)
    assert shares.loc["a", "low"] > shares.loc["b", "high"]


def test_an_incomplete_design_is_refused():
    with pytest.raises(ValueError, match="7 runs: a full design"):
        repeatability.variance_shares(_design(2, (1, 1, 1)).iloc[1:], ["a", "b", "c"], "y")
    with pytest.raises(ValueError, match="at least two are required of each factor"):
        repeatability.variance_shares(_design(1, (1, 1, 1)), ["a", "b", "c"], "y")


def test_the_published_perplexities_lie_on_the_grids_of_16_bit_floats():
    values = published(3)["perplexity"]
    assert repeatability.coarsest_grid(values["GPT-NeoXT-chat-20B"]["32-bit"], 3) == 5  # bfloat16, 4 to 8
    assert repeatability.coarsest_grid(values["GPT-NeoX-20B"]["32-bit"], 3) == 7  # float16, 8 to 16
    assert repeatability.coarsest_grid(values["Llama2-7B"]["32-bit"], 3) is None


def test_random_values_lie_on_no_grid():
    rng = np.random.default_rng(0)
    found = [repeatability.coarsest_grid(rng.uniform(8, 9, 7).round(3).tolist(), 3) for _ in range(200)]
    assert sum(k is not None for k in found) < 10
