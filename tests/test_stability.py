"""Stability measures against matrices worked by hand, slow transcriptions and simulated explanations."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lib.proportions import z_statistic
from lib.stability import (
    Stability,
    bootstrap_signal_noise,
    concordance,
    equivalent,
    equivalent_subset,
    kendall_tau,
    over_texts,
    percentile_interval,
    permuted_null,
    resample,
    signal_noise,
    split_texts,
    top_k_overlap,
)


def test_equivalent_subset_by_hand() -> None:
    # n = 100, best 0.95: z(paper) to 0.91 is 1.56, to 0.90 is 1.889, to 0.89 is 2.214, to 0.85 is 3.333;
    # pooled: 2.214 / sqrt(2) = 1.565, 3.333 / sqrt(2) = 2.357
    accuracies = [0.90, 0.85, 0.95, 0.89, 0.91, 0.95]
    assert equivalent_subset(accuracies, 100).tolist() == [2, 5, 4, 0]
    assert equivalent_subset(accuracies, 100, "pooled").tolist() == [2, 5, 4, 0, 3]


def test_the_subset_is_as_large_as_possible() -> None:
    accuracies = np.random.default_rng(0).binomial(200, 0.9, 12) / 200
    kept = equivalent_subset(accuracies, 200)
    ranked = np.sort(accuracies)[::-1]
    sizes = [m for m in range(1, 13) if z_statistic(ranked[0], ranked[m - 1], 200) <= 1.96]
    assert len(kept) == max(sizes)
    assert np.allclose(np.sort(accuracies[kept])[::-1], ranked[: len(kept)])


def test_signal_noise_by_hand() -> None:
    # means over the seeds 2, 4, 6: their variance 8/3; variances over the seeds 1, 4, 0: their mean 5/3
    relevance = [[1, 2, 6], [3, 6, 6]]
    assert signal_noise(relevance) == pytest.approx((8 / 3, 5 / 3, 8 / 5))
    # unbiased: the noise doubles (2 seeds); minus the text's means (3, 5) the rows are -2 -1 3 and -2 1 1,
    # their variances over the seeds 0, 1, 1, unbiased 0, 2, 2: mean 4/3; over 2 seeds it adds 2/3
    unbiased = signal_noise(relevance, estimate="unbiased")
    assert unbiased == pytest.approx((2.0, 10 / 3, 0.6))


def test_several_texts_give_what_they_give_one_by_one() -> None:
    rng = np.random.default_rng(1)
    relevance, lengths = rng.normal(size=(7, 18)), [5, 3, 10]
    counts = resample(7, 4, rng)
    for estimate in ("plug-in", "unbiased"):
        together = signal_noise(relevance, lengths, estimate=estimate)
        alone = [signal_noise(part, estimate=estimate) for part in split_texts(relevance, lengths)]
        assert np.allclose(together, np.transpose(alone))
    together = bootstrap_signal_noise(relevance, counts, lengths)
    alone = bootstrap_signal_noise(relevance[:, 5:8], counts)
    assert np.allclose([values[:, 1] for values in together], alone)


def test_a_resample_is_the_estimate_on_the_drawn_rows_with_the_stated_corrections() -> None:
    rng = np.random.default_rng(2)
    relevance = rng.normal(size=(6, 9))
    counts = resample(6, 1, rng)
    drawn = np.repeat(relevance, counts[0].astype(int), axis=0)
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    noise = drawn.var(axis=0).mean() * (6 / 5) ** 2
    signal = drawn.mean(axis=0).var() - centred.var(axis=0).mean() * 6 / 5 * (1 / 6 + 1 / 5)
    boot = bootstrap_signal_noise(relevance, counts)
    assert np.allclose([boot.signal[0], boot.noise[0]], [signal, noise])


def test_the_resamples_mean_is_the_unbiased_estimate() -> None:
    rng = np.random.default_rng(3)
    relevance = rng.dirichlet(np.ones(12), size=5)  # rows sum to 1: the words are correlated
    boot = bootstrap_signal_noise(relevance, resample(5, 200_000, rng))
    estimate = signal_noise(relevance, estimate="unbiased")
    assert boot.signal.mean() == pytest.approx(estimate.signal, rel=0.02)
    assert boot.noise.mean() == pytest.approx(estimate.noise, rel=0.01)


def test_the_ratio_is_infinite_without_noise_and_nan_without_signal_and_noise() -> None:
    assert signal_noise([[1, 2], [1, 2]]).snr == np.inf
    assert np.isnan(signal_noise([[1, 1], [1, 1]]).snr)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_estimates_cover_the_truth_at_their_rate(normalised: bool) -> None:
    rng = np.random.default_rng(4)
    seeds, words, trials = 20, 30, 400
    means = rng.exponential(1, words)
    spreads = means * rng.uniform(0.2, 1.5, words)

    def explain(count: int) -> np.ndarray:
        relevance = means + spreads * rng.standard_normal((count, words))
        if not normalised:
            return relevance
        return np.abs(relevance) / np.abs(relevance).sum(axis=1, keepdims=True)

    if normalised:  # no formula: use a sample so large that its own error is negligible
        many = explain(300_000)
        truth = (many.mean(axis=0).var(), many.var(axis=0).mean())
    else:
        truth = (means.var(), (spreads**2).mean())
    truth = np.array([*truth, truth[0] / truth[1]])
    covered, estimates, plug_in = np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(trials):
        relevance = explain(seeds)
        estimates += signal_noise(relevance, estimate="unbiased")
        plug_in += signal_noise(relevance)
        boot = bootstrap_signal_noise(relevance, resample(seeds, 400, rng))
        bounds = np.array([percentile_interval(values, 0.95, n=seeds) for values in boot])
        covered += (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
    # the standard error of a coverage of 0.95 in 400 trials is 0.011
    assert (covered / trials > 0.915).all()
    assert (covered / trials < 0.99).all()
    assert np.allclose(estimates / trials, truth, rtol=0.05)
    assert plug_in[0] / trials > truth[0] * 1.02  # the bias that the unbiased estimate removes
    assert plug_in[1] / trials < truth[1] * 0.97


def test_the_joint_bootstrap_covers_the_mean_over_all_possible_texts() -> None:
    rng = np.random.default_rng(5)
    seeds, texts, words, trials = 15, 25, 10, 300
    covered = 0
    for _ in range(trials):
        levels = rng.gamma(2, 1, texts)  # noise of each text; the mean over all possible texts is 2
        spreads = np.repeat(np.sqrt(levels), words)
        relevance = rng.standard_normal((seeds, texts * words)) * spreads
        boot = bootstrap_signal_noise(relevance, resample(seeds, 300, rng), [words] * texts)
        mean = over_texts(boot, resample(texts, 300, rng))
        low, high = percentile_interval(mean.noise, 0.95, n=seeds)
        covered += low <= 2 <= high
    assert 0.91 < covered / trials < 0.99


def test_over_texts_is_a_ratio_of_means() -> None:
    stability = Stability(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]), np.array([[1.0, 3.0]]))
    assert over_texts(stability).snr.tolist() == [2.0]
    assert over_texts(stability, np.array([[2.0, 0.0]])).snr.tolist() == [1.0]


def test_equivalence_needs_precision_as_well_as_similarity() -> None:
    rng = np.random.default_rng(6)
    precise, vague = np.exp(rng.normal(0, 0.05, 2000)), np.exp(rng.normal(0, 0.5, 2000))
    assert equivalent(precise, 1.25, n=30)
    assert not equivalent(vague, 1.25, n=30)
    assert not equivalent(1.5 * precise, 1.25, n=30)
    with pytest.raises(ValueError, match="margin = 1"):
        equivalent(precise, 1, n=30)


def test_equivalence_errs_at_its_level_at_the_margin() -> None:
    rng = np.random.default_rng(7)
    n, trials, wrong = 25, 500, 0
    for _ in range(trials):  # the true ratio lies on the margin: calling it equivalent is the error
        sample = rng.normal(np.log(1.25), 0.2, n)
        means = resample(n, 400, rng) @ sample / n
        wrong += equivalent(np.exp(means), 1.25, n=n)
    assert 0.02 < wrong / trials < 0.08


def test_relevance_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        signal_noise([[1, 2, 3]])
    with pytest.raises(ValueError, match="lengths add up to 4 words, but relevance has 3"):
        signal_noise([[1, 2, 3], [1, 2, 3]], [2, 2])


def test_agreement_is_scipys_tau_and_the_counted_overlap_of_all_pairs() -> None:
    rng = np.random.default_rng(8)
    relevance = rng.normal(size=(6, 15)).round(1)  # with ties
    relevance[:, :3] += 2
    pairs = list(itertools.combinations(relevance, 2))
    tau = np.mean([stats.kendalltau(first, second).statistic for first, second in pairs])
    assert kendall_tau(relevance) == pytest.approx(tau)
    tops = [set(np.argsort(-row, kind="stable")[:4]) for row in relevance]
    overlap = np.mean([len(first & second) / 4 for first, second in itertools.combinations(tops, 2)])
    assert top_k_overlap(relevance, 4) == pytest.approx(overlap)


def test_only_shared_explanations_agree_more_than_their_permutations() -> None:
    rng = np.random.default_rng(9)
    arbitrary = rng.dirichlet(np.ones(20), size=10)
    shared = arbitrary + 0.1 * np.linspace(0, 1, 20)
    for relevance, differs in ((arbitrary, False), (shared, True)):
        null = permuted_null(kendall_tau, relevance, 199, rng)
        assert abs(null.mean()) < 0.02
        assert (kendall_tau(relevance) > null.max()) == differs
        assert (concordance(relevance).p < 0.001) == differs
    assert np.isnan(kendall_tau(np.ones((3, 4))))


def test_concordance_by_hand() -> None:
    # three seeds rank four words 1234, 1234, 2134: rank sums 4, 5, 9, 12;
    # deviations from 7.5 squared sum to 41
    relevance = [[1, 2, 3, 4], [1, 2, 3, 4], [2, 1, 3, 4]]
    assert concordance(relevance).w == pytest.approx(12 * 41 / (9 * (4**3 - 4)))
