"""z, McNemar and the intervals against cases worked by hand."""

import math

import numpy as np
import pytest

from lib.proportions import mcnemar_p, mean_interval, paired_difference, two_sided_p, z_statistic


def test_the_papers_z_gives_the_papers_p():
    # paper 1: InfOpinion, 95.60 against 96.20 % on 1,000 texts, "p = 0.34"
    z = z_statistic(0.956, 0.962, 1000)
    assert z == pytest.approx(-0.957, abs=5e-4)
    assert round(two_sided_p(z), 2) == 0.34


def test_the_pooled_z_is_smaller_by_the_root_of_two():
    pooled = z_statistic(0.956, 0.962, 1000, "pooled")
    assert pooled == pytest.approx(-0.677, abs=5e-4)
    assert round(two_sided_p(pooled), 2) == 0.50
    assert z_statistic(0.956, 0.962, 1000) == pytest.approx(math.sqrt(2) * pooled)


def test_equal_perfect_accuracies_do_not_differ():
    assert z_statistic(1.0, 1.0, 10) == 0.0


@pytest.mark.parametrize(("a", "b", "n"), [(95.6, 0.9, 10), (0.9, -0.1, 10), (0.9, 0.9, 0)])
def test_what_is_no_accuracy_is_refused(a, b, n):
    with pytest.raises(ValueError, match="="):
        z_statistic(a, b, n)


def test_mcnemar_by_hand():
    # 10 texts that differ, 8 of them right under a alone: 2 * P(X >= 8), X ~ Bin(10, 1/2) = 2 * 56 / 1024
    a = np.array([True] * 8 + [False] * 2 + [True] * 5)
    b = np.array([False] * 8 + [True] * 2 + [True] * 5)
    assert mcnemar_p(a, b) == pytest.approx(112 / 1024)
    assert mcnemar_p(a, a) == 1.0


def test_mean_interval_by_hand():
    # mean 2, standard error 1/sqrt(3), t(2; 0.975) = 4.3027
    interval = mean_interval(np.array([1.0, 2.0, 3.0]), 0.95)
    assert interval.estimate == 2.0
    assert interval.high - 2.0 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    with pytest.raises(ValueError, match="seeds = 1"):
        mean_interval(np.array([1.0]), 0.95)


def test_paired_difference_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        hard = rng.random(300) < 0.2  # texts that both sides tend to miss: the pairing matters
        right_a = rng.random((8, 300)) < np.where(hard, 0.55, 0.95)
        right_b = rng.random((8, 300)) < np.where(hard, 0.50, 0.90)
        truth = 0.05
        interval = paired_difference(right_a, right_b, confidence=0.95, seed=trial, resamples=300)
        hits += interval.low <= truth <= interval.high
    assert 53 <= hits <= 60  # binomial(60, 0.95): below 53 has probability 0.3 %


def test_paired_difference_of_a_model_with_itself_is_zero():
    correct = np.random.default_rng(1).random((3, 50)) < 0.9
    interval = paired_difference(correct, correct, confidence=0.9, seed=0)
    assert interval.estimate == 0.0
    assert interval.low < 0 < interval.high
