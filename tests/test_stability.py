"""Stability measures against matrices worked by hand, slow transcriptions and simulated explanations."""

import itertools

import numpy as np
import pytest
from scipy import stats

from lib import stability
from lib.crossed import crossed_mean
from lib.intervals import mean_interval
from lib.proportions import z_statistic
from lib.stability import (
    Stability,
    deviation_over_seeds,
    equivalent_subset,
    kendall_tau,
    log_stability,
    mean_over_deviation,
    mean_relevance_statistic,
    over_texts,
    overlap_beyond_seeds,
    permuted_null,
    signal_noise,
    split_texts,
    stability_interval,
    stability_ratio,
    top_k_overlap,
    unit_signs,
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
    for estimate in ("plug-in", "unbiased"):
        together = signal_noise(relevance, lengths, estimate=estimate)
        alone = [signal_noise(part, estimate=estimate) for part in split_texts(relevance, lengths)]
        assert np.allclose(together, np.transpose(alone))


def test_the_ratio_is_infinite_without_noise_and_nan_without_signal_and_noise() -> None:
    assert signal_noise([[1, 2], [1, 2]]).snr == np.inf
    assert np.isnan(signal_noise([[1, 1], [1, 1]]).snr)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_unbiased_estimates_are_right_on_average(normalised: bool) -> None:
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
    estimates, plug_in = np.zeros(3), np.zeros(3)
    for _ in range(trials):
        relevance = explain(seeds)
        estimates += signal_noise(relevance, estimate="unbiased")
        plug_in += signal_noise(relevance)
    assert np.allclose(estimates / trials, truth, rtol=0.05)
    assert plug_in[0] / trials > truth[0] * 1.02  # the bias that the unbiased estimate removes
    assert plug_in[1] / trials < truth[1] * 0.97


def test_over_texts_is_a_ratio_of_means() -> None:
    stability = Stability(np.array([1.0, 3.0]), np.array([1.0, 1.0]), np.array([1.0, 3.0]))
    assert over_texts(stability) == (2, 1, 2)


def test_relevance_of_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        signal_noise([[1, 2, 3]])
    with pytest.raises(ValueError, match="lengths add up to 4 words, but relevance has 3"):
        signal_noise([[1, 2, 3], [1, 2, 3]], [2, 2])
    with pytest.raises(ValueError, match=r"^text 1 has 0 words; allowed: 1 or more$"):
        signal_noise([[1, 2, 3], [1, 2, 3]], [2, 0, 1])


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


def test_a_text_with_fewer_words_than_k_is_shared_as_a_whole() -> None:
    same = np.array([[0.5, 0.2, 0.1]] * 4)
    assert top_k_overlap(same, 5) == pytest.approx(1)
    assert top_k_overlap(same, 3) == pytest.approx(1)
    rng = np.random.default_rng(16)
    lengths = [3, 8]
    one, other = rng.normal(size=(2, 4, 11))
    found = overlap_beyond_seeds(one, other, lengths, 5, rng)
    for overlaps in (found.cross, found.within_a, found.within_b):
        assert overlaps[0] == pytest.approx(1)
        assert overlaps[1] < 1
    assert found.differences[0] == pytest.approx(0)


def test_unit_signs_by_hand() -> None:
    signs = unit_signs([[1, 3, 2], [4, 4, 4]])  # words 0-1, 0-2, 1-2
    assert signs[0] == pytest.approx(np.array([-1, -1, 1]) / np.sqrt(3))
    assert signs[1].tolist() == [0, 0, 0]


def test_only_shared_explanations_agree_more_than_their_permutations() -> None:
    rng = np.random.default_rng(9)
    arbitrary = rng.dirichlet(np.ones(20), size=10)
    shared = arbitrary + 0.1 * np.linspace(0, 1, 20)
    for relevance, differs in ((arbitrary, False), (shared, True)):
        null = permuted_null(kendall_tau, relevance, 199, rng)
        assert abs(null.mean()) < 0.02
        assert (kendall_tau(relevance) > null.max()) == differs
    assert np.isnan(kendall_tau(np.ones((3, 4))))


def test_agreement_of_one_seed_or_of_no_words_is_refused():
    for agreement in (kendall_tau, lambda relevance: top_k_overlap(relevance, 2)):
        with pytest.raises(
            ValueError, match=r"relevance has shape \(1, 4\); \(seeds, words\) with at least two"
        ):
            agreement(np.ones((1, 4)))
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"^k = {k}: allowed is 1 or more$"):
            top_k_overlap(np.ones((2, 4)), k)


def _texts(rng: np.random.Generator, texts: int, words: int) -> dict[str, np.ndarray]:
    """Draw texts from a population with signal (words - 1) / words and noise 1, on average."""
    return {
        "means": rng.standard_normal((texts, words)) * np.sqrt(rng.gamma(2, 0.5, (texts, 1))),
        "noise": rng.gamma(2, 0.5, (texts, 1)),
        "direction": rng.choice([-1, 1], (texts, words)),
    }


def _seed_parts(rng: np.random.Generator, seeds: int, shape: tuple[int, int]) -> list[np.ndarray]:
    sizes = [(seeds, *shape), (seeds, shape[0], 1), (seeds, 1, 1), (seeds, 1, 1)]
    return [rng.standard_normal(size) for size in sizes]


def _explain(
    texts: dict[str, np.ndarray], parts: list[np.ndarray], noise: float, shared: tuple[float, float, float]
) -> np.ndarray:
    """Explanations (seeds, words) whose noise is shared within texts, over all texts, and unequal by seed."""
    in_text, over_texts_, unequal = shared
    of_word, of_text, of_seed, spread = parts
    deviation = np.sqrt(1 - in_text - over_texts_) * of_word
    deviation = deviation + texts["direction"] * (np.sqrt(in_text) * of_text + np.sqrt(over_texts_) * of_seed)
    scale = np.exp(unequal * spread - unequal**2)  # its square has mean 1
    relevance = texts["means"] + np.sqrt(noise * texts["noise"]) * scale * deviation
    return relevance.reshape(len(relevance), -1)


SIZES = [(6, 6, False), (6, 6, True), (6, 20, False), (20, 20, True), (20, 30, False)]
NOISES = [(0.0, 0.0, 0.0), (0.3, 0.05, 0.2)]


@pytest.mark.parametrize(("seeds", "other_seeds", "paired"), SIZES)
def test_signal_noise_snr_and_their_ratios_are_covered(seeds: int, other_seeds: int, paired: bool) -> None:
    rng = np.random.default_rng(seeds + other_seeds)
    count, words, trials, noise = 40, 12, 150, 0.5
    truth = dict(zip(Stability._fields, ((words - 1) / words, 1.0, (words - 1) / words), strict=True))
    ratios = {"signal": 1.0, "noise": noise, "snr": 1 / noise}
    hits: dict[str, list[bool]] = {}
    for shared in NOISES * trials:
        texts = _texts(rng, count, words)
        parts = _seed_parts(rng, seeds, (count, words))
        others = _seed_parts(rng, other_seeds, (count, words))
        if paired:
            others = [0.9 * one + np.sqrt(1 - 0.9**2) * own for one, own in zip(parts, others, strict=True)]
        one = log_stability(_explain(texts, parts, 1.0, shared), [words] * count)
        other = log_stability(_explain(texts, others, noise, shared), [words] * count)
        for quantity in Stability._fields:
            a, b = getattr(one, quantity), getattr(other, quantity)
            interval, ratio = stability_interval(a), stability_ratio(b, a, paired=paired)
            assert interval is not None
            assert ratio is not None
            hits.setdefault(quantity, []).append(interval.low <= truth[quantity] <= interval.high)
            hits.setdefault(f"ratio of {quantity}", []).append(ratio.low <= ratios[quantity] <= ratio.high)
    coverage = {name: float(np.mean(values)) for name, values in hits.items()}
    assert all(0.92 <= value <= 0.99 for value in coverage.values()), coverage
    assert 0.93 <= np.mean(list(coverage.values())) <= 0.97, coverage


def test_log_stability_is_the_logarithm_of_the_unbiased_estimate() -> None:
    rng = np.random.default_rng(10)
    relevance, lengths = rng.normal(size=(5, 18)) + 3 * rng.normal(size=18), [5, 3, 10]
    logs = log_stability(relevance, lengths)
    estimate = over_texts(signal_noise(relevance, lengths, estimate="unbiased"))
    assert [values.shape for values in logs] == [(5, 3)] * 3
    assert np.exp([values.mean() for values in logs]) == pytest.approx(estimate)
    without = signal_noise(relevance[1:], lengths, estimate="unbiased").noise  # the first seed left out
    everyone = signal_noise(relevance, lengths, estimate="unbiased").noise
    pseudo = 5 * everyone - 4 * without
    assert logs.noise[0] == pytest.approx(np.log(everyone.mean()) + pseudo / everyone.mean() - 1)
    with pytest.raises(ValueError, match="seeds = 2: at least 3"):
        log_stability(relevance[:2], lengths)


def test_a_type_against_itself_has_ratio_one_and_no_width() -> None:
    rng = np.random.default_rng(11)
    logs = log_stability(rng.normal(size=(6, 20)) + 2 * rng.normal(size=20), [10, 10])
    ratio = stability_ratio(logs.noise, logs.noise, paired=True)
    assert ratio is not None
    assert ratio.estimate == 1
    assert not ratio.has_width


def test_a_signal_whose_estimate_is_not_positive_has_no_interval() -> None:
    relevance = np.array([[1.0, -1.0], [-1.0, 1.0], [0.1, -0.1]])
    logs = log_stability(relevance)
    assert np.isnan(logs.signal).all()
    assert np.isnan(logs.snr).all()
    assert stability_interval(logs.signal) is None
    assert stability_ratio(logs.noise, logs.snr, paired=True) is None
    assert stability_interval(logs.noise) is not None  # of one text: over seeds alone


@pytest.mark.parametrize("seeds", [6, 20])
def test_noise_of_a_single_text_is_covered(seeds: int) -> None:
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(400):
        spreads = np.full(30, 0.5)
        interval = stability_interval(log_stability(3 + spreads * rng.standard_normal((seeds, 30))).noise)
        assert interval is not None
        hits.append(interval.low <= 0.25 <= interval.high)
    assert 0.92 < np.mean(hits) < 0.98


def test_overlap_beyond_seeds_by_hand() -> None:
    lengths, k = [4, 3], 1
    a = np.tile([9.0, 1, 1, 1, 9, 1, 1], (4, 1))
    b = np.tile([9.0, 1, 1, 1, 1, 9, 1], (6, 1))
    found = overlap_beyond_seeds(a, b, lengths, k, np.random.default_rng(0))
    assert found.cross == pytest.approx([1, 0])
    assert found.within_a == pytest.approx([1, 1])
    assert found.within_b == pytest.approx([1, 1])
    assert found.differences == pytest.approx([0, -1])
    assert found.crossed.estimate == pytest.approx(-0.5)
    assert [part.count for part in found.crossed.seeds] == [4, 6]
    with pytest.raises(ValueError, match="types of 3 and 6 seeds"):
        overlap_beyond_seeds(a[:3], b, lengths, k, np.random.default_rng(0))


@pytest.mark.parametrize(("seeds", "other_seeds"), [(6, 6), (20, 30)])
@pytest.mark.parametrize("alike", [True, False])
def test_overlap_beyond_seeds_is_covered(
    seeds: int, other_seeds: int, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(13)
    count, words, k, shared = 40, 12, 5, (0.3, 0.1, 0.2)
    half = min(seeds, other_seeds) // 2

    def draw(number: int, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        texts = _texts(rng, number, words)
        other = (
            texts
            if alike
            else texts | {"means": 0.8 * texts["means"] + 0.6 * _texts(rng, number, words)["means"]}
        )
        return tuple(
            _explain(kind, _seed_parts(rng, size, (number, words)), 1.0, shared)
            for kind, size in ((texts, first), (other, second))
        )

    monkeypatch.setattr("lib.stability.SPLITS", 1)
    many = [overlap_beyond_seeds(*draw(200, 2 * half, 2 * half), [words] * 200, k, rng) for _ in range(60)]
    truth = 0.0 if alike else np.mean([found.crossed.estimate for found in many])
    covered, by_texts_alone, below = [], [], []
    monkeypatch.setattr("lib.stability.SPLITS", 5)
    for _ in range(100):
        found = overlap_beyond_seeds(*draw(count, seeds, other_seeds), [words] * count, k, rng)
        for hits, interval in (
            (covered, found.crossed.interval()),
            (by_texts_alone, mean_interval(found.differences)),
        ):
            hits.append(interval.low <= truth <= interval.high)
        below.append(found.crossed.interval().high < 0)
    if alike:  # the noisier of two equals is the one that looks so: a bias against the claim, whose end is 0
        assert np.mean(covered) > 0.9
        assert np.mean(below) < 0.04
    else:
        assert 0.93 <= np.mean(covered) <= 0.98
    assert np.mean(by_texts_alone) < np.mean(covered)


def test_noise_alone_does_not_tell_the_words_of_two_types_apart() -> None:
    rng = np.random.default_rng(17)
    texts, words, k = 40, 12, 5
    means = rng.gamma(1, size=texts * words)  # the same words matter to both types

    def draw(seeds: int, noise: float) -> np.ndarray:
        return means + noise * rng.normal(size=(seeds, texts * words))

    passed, by_the_mean = [], []
    for _ in range(60):
        found = overlap_beyond_seeds(draw(16, 0.3), draw(9, 2), [words] * texts, k, rng)
        passed.append(found.crossed.interval().high < 0)
        by_the_mean.append(mean_interval(found.cross - (found.within_a + found.within_b) / 2).high < 0)
    assert np.mean(passed) < 0.05
    assert np.mean(by_the_mean) > 0.5


@pytest.mark.parametrize("seeds", [6, 20])
def test_the_overlap_of_a_type_and_its_quantised_version_is_covered(seeds: int) -> None:
    rng = np.random.default_rng(14)
    count, words, k, shared = 40, 12, 5, (0.3, 0.1, 0.2)

    def overlap(one: np.ndarray, other: np.ndarray) -> list[float]:
        pairs = np.stack([one, other])
        return [top_k_overlap(pairs[:, start : start + words], k) for start in range(0, len(one), words)]

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        texts = _texts(rng, number, words)
        shifted = texts | {"means": texts["means"] + 0.2 * rng.standard_normal((number, words))}
        parts = _seed_parts(rng, seeds, (number, words))
        changed = [0.9 * part + np.sqrt(1 - 0.9**2) * rng.standard_normal(part.shape) for part in parts]
        return _explain(texts, parts, 1.0, shared), _explain(shifted, changed, 1.0, shared)

    truth = np.mean([np.mean(overlap(*(one.mean(axis=0) for one in draw(200)))) for _ in range(150)])
    covered = []
    for _ in range(100):
        interval = mean_relevance_statistic(overlap, *draw(count)).interval()
        covered.append(interval.low <= truth <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.99


def test_texts_without_a_value_are_left_out_of_a_mean_relevance_statistic() -> None:
    relevance = np.random.default_rng(15).normal(size=(5, 4))

    def of_texts(mean: np.ndarray) -> np.ndarray:
        return np.where([True, False, True, True], mean, np.nan)

    found = mean_relevance_statistic(of_texts, relevance)
    assert found.estimate == pytest.approx(relevance[:, [0, 2, 3]].mean())
    seeds, texts = crossed_mean(relevance[:, [0, 2, 3]]).seeds[0], found.texts[0]
    assert found.seeds[0].variance == pytest.approx(seeds.net)
    assert texts.variance == pytest.approx(relevance[:, [0, 2, 3]].mean(axis=0).var(ddof=1) / 3)
    with pytest.raises(ValueError, match="seeds = 1"):
        mean_relevance_statistic(of_texts, relevance[:1])


def test_types_with_other_seeds_have_no_mean_relevance_statistic() -> None:
    with pytest.raises(ValueError, match="types of 3, 2 seeds: allowed is one number"):
        mean_relevance_statistic(np.add, np.ones((3, 4)), np.ones((2, 4)))


def test_a_difference_is_significant_above_1_96() -> None:
    # accuracies around 1/2 on 10,000 texts: z is 2 * difference * 100
    best = 0.5
    assert equivalent_subset([best, best - 1.955 / 200, best - 1.965 / 200], 10_000).tolist() == [0, 1]


def test_ties_between_many_words_go_to_the_earlier_one() -> None:
    a, b = np.zeros((2, 4, 60))
    a[:, 30] = b[:, 50] = 1  # of the others the first 19 are among the top 20
    found = overlap_beyond_seeds(a, b, [60], 20, np.random.default_rng(0))
    assert found.cross.tolist() == pytest.approx([19 / 20])
    assert top_k_overlap(np.stack([a[0], b[0]]), 20) == pytest.approx(19 / 20)


@pytest.mark.parametrize("noises", [(1.0, 0.5), (0.5, 1.0)])
def test_the_seeds_error_of_an_overlap_is_the_jackknifes(
    noises: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One split, written out: what leaving a seed out of its half changes."""
    monkeypatch.setattr(stability, "SPLITS", 1)
    rng = np.random.default_rng(1)
    lengths, k, seeds, half = [7, 9, 8] * 6, 3, 6, 3
    signal, drawn = rng.normal(size=sum(lengths)), rng.normal(size=(2, seeds, sum(lengths)))
    drawn[:, 0] -= 4 * signal  # a seed of each type that says the opposite: leaving it out changes all texts
    types = signal + np.reshape(noises, (2, 1, 1)) * drawn
    noisier = int(np.argmax(noises))
    found = overlap_beyond_seeds(*types, lengths, k, np.random.default_rng(5))
    again = np.random.default_rng(5)
    rows = [part for _ in range(2) for part in np.split(again.permutation(seeds)[: 2 * half], 2)]

    def difference(means: list[np.ndarray]) -> np.ndarray:
        cuts = np.cumsum(lengths)[:-1]
        tops = [[set(np.argsort(-text)[:k]) for text in np.split(mean, cuts)] for mean in means]

        def shared(one: int, other: int) -> np.ndarray:
            return np.array([len(x & y) / k for x, y in zip(tops[one], tops[other], strict=True)])

        cross = (shared(0, 2) + shared(0, 3) + shared(1, 2) + shared(1, 3)) / 4
        return cross - shared(2 * noisier, 2 * noisier + 1)

    means = [types[index // 2][part].mean(axis=0) for index, part in enumerate(rows)]
    together = difference(means)
    assert found.differences == pytest.approx(together)
    for kind in range(2):
        pseudo = np.tile(together, (seeds, 1))
        for index in (2 * kind, 2 * kind + 1):
            for seed in rows[index]:
                others = [row for row in rows[index] if row != seed]
                left = [*means[:index], types[kind][others].mean(axis=0), *means[index + 1 :]]
                pseudo[seed] += seeds * (half - 1) / half * (together - difference(left))
        expected = crossed_mean(pseudo).seeds[0].net
        assert expected > 0
        assert found.crossed.seeds[kind].variance == pytest.approx(expected)


def test_of_one_text_the_error_is_that_of_the_seeds_alone() -> None:
    found = mean_relevance_statistic(lambda mean: mean[:1], np.random.default_rng(0).normal(size=(5, 3)))
    assert found.texts == ()
    assert found.interval().has_width


def test_a_deviation_follows_from_the_moments() -> None:
    values = np.random.default_rng(0).normal(2, 1, (6, 3))
    moments = values.mean(axis=0), (values**2).mean(axis=0)
    assert deviation_over_seeds(*moments) == pytest.approx(values.std(axis=0))
    assert mean_over_deviation(*moments) == pytest.approx(values.mean(axis=0) / values.std(axis=0))


def test_the_mean_over_twenty_splits_hardly_depends_on_which_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 4, 12))

    def variance(draws: int) -> float:
        rngs = map(np.random.default_rng, range(draws))
        return float(np.var([overlap_beyond_seeds(a, b, [12], 4, rng).cross[0] for rng in rngs], ddof=1))

    of_the_mean = variance(40)
    monkeypatch.setattr(stability, "SPLITS", 1)
    assert variance(200) / of_the_mean == pytest.approx(20, rel=0.4)  # splits are independent
