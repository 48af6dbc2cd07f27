"""Agreement between seeds, and between a type and its quantised version."""

from dataclasses import replace

import numpy as np
import pytest

from lib import stability
from lib.paper2.agreement import (
    agreement_beyond_labellings,
    shared_top_words,
    tau_pseudo_values,
    taus_within_labellings,
)
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


def labelled(noise: float, seed: int, *, labellings: int, shared: float = 0) -> tuple[ModelType, list[int]]:
    """Two heads of each labelling: a common signal, what a labelling adds to it (``shared``), and noise."""
    kind = drawn(noise, seed, seeds=2 * labellings)
    rng = np.random.default_rng(10_000 + seed)
    added = rng.standard_normal((labellings, sum(LENGTHS))) * rng.uniform(0, 2 * shared, (labellings, 1))
    relevance = kind.relevance["LRP"] + np.repeat(added, 2, axis=0)
    return replace(kind, relevance={"LRP": relevance}), np.repeat(np.arange(labellings), 2).tolist()


def test_taus_within_labellings_are_those_of_their_pairs() -> None:
    relevance = drawn(1, 0, seeds=6).relevance["LRP"]
    values = taus_within_labellings(relevance, [3, 7, 3, 5, 7, 3], LENGTHS)  # one head alone has the labels 5
    assert values.shape == (2, 8)
    for row, heads in zip(values, ([0, 2, 5], [1, 4]), strict=True):
        texts = stability.split_texts(relevance[heads], LENGTHS)
        assert row == pytest.approx([stability.kendall_tau(text) for text in texts])
    relevance[0, : LENGTHS[0]] = 1
    assert taus_within_labellings(relevance, [3, 7, 3, 5, 7, 7], LENGTHS)[0, 0] == 0
    with pytest.raises(ValueError, match=r"labellings = \[0, 0, 1\]: at least two that two heads share"):
        taus_within_labellings(relevance[:3], [0, 0, 1], LENGTHS)


def test_seeds_with_less_noise_agree_more() -> None:
    control, labellings = labelled(5, 2, labellings=6)
    more = agreement_beyond_labellings(drawn(0.1, 1), control, labellings, LENGTHS, "LRP").interval()
    assert 0 < more.low < more.estimate < 1
    control, labellings = labelled(1, 2, labellings=6)
    same = agreement_beyond_labellings(drawn(1, 1), control, labellings, LENGTHS, "LRP").interval()
    assert same.low < 0 < same.high


@pytest.mark.parametrize("labellings", [4, 8])
def test_the_difference_of_agreements_covers_the_truth(labellings: int) -> None:
    covered = 0
    for trial in range(60):
        control = labelled(1, 2 * trial + 1, labellings=labellings)
        interval = agreement_beyond_labellings(drawn(1, 2 * trial), *control, LENGTHS, "LRP").interval()
        covered += interval.low <= 0 <= interval.high
    assert covered >= 53


def test_labellings_that_differ_widen_the_interval() -> None:
    def width(shared: float) -> float:
        control = labelled(1, 3, labellings=6, shared=shared)
        interval = agreement_beyond_labellings(drawn(1, 1), *control, LENGTHS, "LRP").interval()
        return interval.high - interval.low

    assert width(2) > 1.3 * width(0)


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
