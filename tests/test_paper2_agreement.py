"""Agreement between seeds, and between a type and its quantised version."""

import numpy as np
import pytest

from lib import stability
from lib.paper2.agreement import shared_top_words, tau_difference, tau_pseudo_values
from lib.paper2.model_types import ModelType

LENGTHS = [8, 12, 20, 9, 15, 11, 14, 10]


def drawn(noise: float, seed: int, *, seeds: int = 10, signal: int = 0) -> ModelType:
    """Relevance with a signal, which ``signal`` decides, and noise."""
    words = sum(LENGTHS)
    values = np.random.default_rng(100 + signal).standard_normal(words)
    values = values + np.sqrt(noise) * np.random.default_rng(seed).standard_normal((seeds, words))
    return ModelType("type", "type", 1, np.zeros((seeds, 1), np.uint8), {"LRP": values})


def test_the_mean_of_the_pseudo_values_is_kendalls_tau() -> None:
    relevance = drawn(1, 0).relevance["LRP"]
    values = tau_pseudo_values(relevance, LENGTHS)
    texts = stability.split_texts(relevance, LENGTHS)
    assert values.shape == (10, 8)
    assert values.mean(axis=0) == pytest.approx([stability.kendall_tau(text) for text in texts])


def test_a_seed_that_ties_all_words_agrees_with_no_other() -> None:
    relevance = np.array([[1, 2, 3], [1, 2, 3], [5, 5, 5.0]])
    assert tau_pseudo_values(relevance, [3]).mean() == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="pairs of 2: pseudo-values of pairs need at least 3 seeds"):
        tau_pseudo_values(relevance[1:], [3])


def test_seeds_with_less_noise_agree_more() -> None:
    more = tau_difference(drawn(0.1, 1), drawn(5, 2), LENGTHS, "LRP").interval()
    assert 0 < more.low < more.estimate < 1
    same = tau_difference(drawn(1, 1), drawn(1, 2), LENGTHS, "LRP").interval()
    assert same.low < 0 < same.high


@pytest.mark.parametrize("seeds", [4, 8])
def test_the_difference_of_agreements_covers_the_truth(seeds: int) -> None:
    covered = 0
    for trial in range(60):
        kinds = drawn(1, 2 * trial), drawn(1, 2 * trial + 1, seeds=seeds)
        interval = tau_difference(*kinds, LENGTHS, "LRP").interval()
        covered += interval.low <= 0 <= interval.high
    assert covered >= 53


def test_versions_of_the_same_models_share_all_top_words_if_nothing_changes() -> None:
    plain = drawn(1, 0)
    same = shared_top_words(plain, plain, LENGTHS, "LRP", 4).interval()
    assert (same.estimate, same.low, same.high) == (1, 1, 1)
    other = shared_top_words(plain, drawn(0.1, 1, signal=7), LENGTHS, "LRP", 4).interval()
    assert other.high < 0.8


def test_the_share_of_top_words_is_that_of_the_means() -> None:
    one, other = drawn(1, 0), drawn(1, 1)
    means = np.stack([kind.relevance["LRP"].mean(axis=0) for kind in (one, other)])
    expected = np.mean([stability.top_k_overlap(text, 4) for text in stability.split_texts(means, LENGTHS)])
    assert shared_top_words(one, other, LENGTHS, "LRP", 4).estimate == pytest.approx(expected)


def test_a_text_shorter_than_the_list_shares_what_it_has() -> None:
    kind = drawn(1, 0)
    assert shared_top_words(kind, kind, LENGTHS, "LRP", 10).estimate == 1
