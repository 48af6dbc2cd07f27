"""Agreement between seeds and between types: the estimates, what they are 0 or 1 for, and their intervals."""

import numpy as np
import pytest

from lib import stability
from lib.paper2.agreement import Agreement, kendall_matrices, mean_over_pairs
from lib.paper2.model_types import ModelType

LENGTHS = [8, 12, 20, 9, 15, 11, 14, 10]
AGREEMENT = Agreement(LENGTHS, "LRP", resamples=500, seed=0)


def drawn(noise: float, seed: int, *, seeds: int = 10, signal: int = 0) -> ModelType:
    """Relevance with a signal, which its seed decides, and noise."""
    words = sum(LENGTHS)
    values = np.random.default_rng(100 + signal).standard_normal(words)
    values = values + np.sqrt(noise) * np.random.default_rng(seed).standard_normal((seeds, words))
    return ModelType("type", "type", 1, np.zeros((seeds, 1), np.uint8), {"LRP": values})


def test_the_mean_over_pairs_is_kendalls_tau() -> None:
    kind = drawn(1, 0)
    matrices = kendall_matrices(kind.relevance["LRP"], LENGTHS)
    texts = stability.split_texts(kind.relevance["LRP"], LENGTHS)
    expected = np.mean([stability.kendall_tau(text) for text in texts])
    (mean,) = mean_over_pairs(matrices, np.ones((1, 10)), np.ones((1, 8)))
    assert mean == pytest.approx(expected)


def test_a_seed_drawn_twice_is_not_paired_with_itself() -> None:
    matrices = np.array([[[1, 0.2, 0.2], [0.2, 1, 0.2], [0.2, 0.2, 1]]])
    counts = np.array([[2.0, 1, 0], [1, 1, 1], [3, 0, 0]])
    means = mean_over_pairs(matrices, counts, np.ones((3, 1)))
    assert means[:2] == pytest.approx([0.2, 0.2])
    assert np.isnan(means[2])


def test_seeds_with_less_noise_agree_more() -> None:
    more = AGREEMENT.tau_difference(drawn(0.1, 1), drawn(5, 2))
    assert 0 < more.low < more.estimate < 1
    same = AGREEMENT.tau_difference(drawn(1, 1), drawn(1, 2))
    assert same.low < 0 < same.high


def test_the_difference_of_agreements_covers_the_truth() -> None:
    covered = 0
    for trial in range(40):
        interval = AGREEMENT.tau_difference(drawn(1, 2 * trial), drawn(1, 2 * trial + 1, seeds=6))
        covered += interval.low <= 0 <= interval.high
    assert covered >= 35


def test_versions_of_the_same_models_share_all_top_words_if_nothing_changes() -> None:
    plain = drawn(1, 0)
    same = AGREEMENT.shared_top_words(plain, plain, 4)
    assert (same.estimate, same.low, same.high) == (1, 1, 1)
    other = AGREEMENT.shared_top_words(plain, drawn(0.1, 1, signal=7), 4)
    assert other.high < 0.8


def test_the_share_of_top_words_is_that_of_the_means() -> None:
    one, other = drawn(1, 0), drawn(1, 1)
    means = np.stack([kind.relevance["LRP"].mean(axis=0) for kind in (one, other)])
    expected = np.mean([stability.top_k_overlap(text, 4) for text in stability.split_texts(means, LENGTHS)])
    assert AGREEMENT.shared_top_words(one, other, 4).estimate == pytest.approx(expected)


def test_a_text_shorter_than_the_list_shares_what_it_has() -> None:
    kind = drawn(1, 0)
    assert AGREEMENT.shared_top_words(kind, kind, 10).estimate == 1


def test_types_with_the_same_words_share_as_many_as_their_halves() -> None:
    """The numbers of seeds differ, but the halves do not."""
    like = AGREEMENT.top_words_across(drawn(1, 0, seeds=20), drawn(1, 1, seeds=10), 4)
    assert like.difference.low <= 0 <= like.difference.high
    assert like.difference.estimate == pytest.approx(like.across.estimate - like.within.estimate)
    unlike = AGREEMENT.top_words_across(drawn(0.5, 0), drawn(0.5, 1, signal=7), 4)
    assert unlike.difference.high < 0


def test_halves_of_one_type_are_rarely_found_to_differ() -> None:
    below = 0
    for trial in range(40):
        kinds = (drawn(1, 2 * trial), drawn(1, 2 * trial + 1))
        below += AGREEMENT.top_words_across(*kinds, 4).difference.high < 0
    assert below <= 4
