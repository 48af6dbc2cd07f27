"""z and McNemar's test against the paper and cases worked by hand."""

import math

import numpy as np
import pytest

from lib.proportions import mcnemar_p, two_sided_p, z_statistic


def test_the_papers_z_gives_the_papers_p():
    # paper 1: InfOpinion, 95.60 versus 96.20 % on 1,000 texts, "p = 0.34"
    z = z_statistic(0.956, 0.962, 1000)
    assert z == pytest.approx(-0.957, abs=5e-4)
    assert round(two_sided_p(z), 2) == 0.34


def test_the_pooled_z_is_smaller_by_a_factor_of_root_two():
    pooled = z_statistic(0.956, 0.962, 1000, "pooled")
    assert pooled == pytest.approx(-0.677, abs=5e-4)
    assert round(two_sided_p(pooled), 2) == 0.50
    assert z_statistic(0.956, 0.962, 1000) == pytest.approx(math.sqrt(2) * pooled)


def test_equal_perfect_accuracies_do_not_differ():
    assert z_statistic(1.0, 1.0, 10) == 0.0
    assert z_statistic([0.0, 1.0], [0.0, 1.0], 10).tolist() == [0, 0]


@pytest.mark.parametrize("form", ["paper", "pooled"])
def test_arrays_of_accuracies_give_what_numbers_give(form):
    a, b = np.array([[0.5], [0.9]]), np.array([0.4, 0.9, 1.0])
    found = z_statistic(a, b, 50, form)
    assert found.tolist() == [[z_statistic(x, y, 50, form) for y in b] for x in a[:, 0]]


def test_an_unknown_form_of_z_is_refused():
    with pytest.raises(ValueError, match=r"^form = 'poled': allowed are 'paper', 'pooled'$"):
        z_statistic(0.9, 0.8, 100, "poled")


@pytest.mark.parametrize(
    ("a", "b", "n", "message"),
    [
        (95.6, 0.9, 10, "accuracy a = 95.6: allowed are fractions"),
        (0.9, -0.1, 10, "accuracy b = -0.1: allowed are fractions"),
        ([0.9, 1.5], 0.9, 10, "accuracy a = 1.5: allowed are fractions"),
        (0.9, float("nan"), 10, "accuracy b = nan: allowed are fractions"),
        (0.9, 0.9, 0, "n = 0: at least one text"),
    ],
)
def test_invalid_accuracies_and_counts_are_refused(a, b, n, message):
    with pytest.raises(ValueError, match=message):
        z_statistic(a, b, n)


def test_mcnemar_by_hand():
    # 10 texts differ, 8 of them correct under a only: 2 * P(X >= 8), X ~ Bin(10, 1/2) = 2 * 56 / 1024
    a = np.array([True] * 8 + [False] * 2 + [True] * 5)
    b = np.array([False] * 8 + [True] * 2 + [True] * 5)
    assert mcnemar_p(a, b) == pytest.approx(112 / 1024)
    assert mcnemar_p(a, a) == 1.0
