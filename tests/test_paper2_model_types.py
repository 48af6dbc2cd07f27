"""Comparisons of model types: paired where they share seeds and texts, correct where the truth is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from finished import record
from scipy import stats

from lib.attribution import LRP
from lib.intervals import Interval, percentile_interval
from lib.paper2.model_types import (
    Bootstrap,
    Measured,
    ModelType,
    accuracy_loss,
    equally_accurate,
    equivalent_share,
    model_type,
    mostly_correct,
    rank_correlation,
    shares,
    type_name,
    unit_scale,
)

LENGTHS = [8, 12, 20, 9, 15, 11, 14, 10]
BOOTSTRAP = Bootstrap(LENGTHS, resamples=300, seed=0)


def simulated(name: str, noise: float, seed: int, *, seeds: int = 25, surface: int = 1) -> ModelType:
    """Explanations with a signal of 1 and a given noise, one row per seed."""
    words = sum(LENGTHS)
    signal = np.concatenate([np.resize([1.0, -1.0], length) for length in LENGTHS])
    drawn = np.random.default_rng(seed).standard_normal((seeds, words))
    relevance = {LRP: signal + np.sqrt(noise) * drawn}
    return ModelType(name, name.split()[0], surface, np.zeros((seeds, 4), np.uint8), relevance)


def identity(relevance: np.ndarray, lengths: list[int]) -> np.ndarray:
    return relevance


def measured_by_name(*types: ModelType, **settings: Any) -> dict[str, Measured]:
    return BOOTSTRAP.measure({kind.name: kind for kind in types}, **{"scale": unit_scale, **settings})


def test_a_type_is_collected_from_finished_records() -> None:
    results = [{"fp4/predicted": np.array([0, 1], np.uint8), f"fp4/{LRP}": np.ones(3, np.float32)}] * 2
    records = [record({"seed": seed}, result) for seed, result in enumerate(results)]
    name = type_name("frozen", "fp4")
    kind = model_type(name, records, quantization="fp4", training="frozen", surface=1)
    assert (kind.name, kind.predicted.shape, kind.relevance[LRP].shape) == ("frozen fp4", (2, 2), (2, 3))
    assert kind.accuracy([0, 0]).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="model type 'frozen fp4': 1 finished runs; at least 2 are required"):
        model_type(name, records[:1], quantization="fp4", training="frozen", surface=1)


def test_models_that_are_as_accurate_as_others() -> None:
    kind = simulated("75 texts", 1, 0, seeds=4)
    predicted = np.zeros((4, 100), np.uint8)
    for row, wrong in enumerate((5, 20, 23, 60)):
        predicted[row, :wrong] = 1
    kind = replace(kind, predicted=predicted)
    assert equally_accurate(kind, 0.8, np.zeros(100)).tolist() == [1, 2]


def test_loss_of_accuracy_and_texts_that_most_models_classify_correctly() -> None:
    good, bad = simulated("good", 1, 0, seeds=3), simulated("bad", 1, 1, seeds=2)
    bad.predicted[:, 2:] = 1
    assert accuracy_loss(good, bad, [0, 0, 0, 0], seed=0).estimate == 0.5
    assert mostly_correct([good, bad], [0, 0, 0, 1]).tolist() == [True, True, True, False]


def test_shares_have_mean_1_in_every_text_and_no_sign() -> None:
    values = shares(simulated("a", 1, 0).relevance[LRP], LENGTHS)
    assert values.min() == 0
    for text in np.split(values, np.cumsum(LENGTHS)[:-1], axis=1):
        np.testing.assert_allclose(text.mean(axis=1), 1)


def test_the_ratio_of_a_type_to_itself_is_exactly_1() -> None:
    one = simulated("fine-tuned", 1, 1)
    same = ModelType("fine-tuned copy", "fine-tuned", 1, one.predicted, one.relevance)
    measured = measured_by_name(one, same)
    for quantity in ("signal", "noise", "snr"):
        ratio = measured["fine-tuned copy"].ratio(measured["fine-tuned"], quantity)
        assert (ratio.estimate, ratio.low, ratio.high) == (1, 1, 1)
        assert measured["fine-tuned copy"].equivalent(measured["fine-tuned"], quantity, 1.01)


def test_the_ratio_of_independent_types_covers_the_truth() -> None:
    covered = 0
    for trial in range(60):
        kinds = [simulated("frozen", 0.5, 2 * trial), simulated("fine-tuned", 1, 2 * trial + 1)]
        measured = measured_by_name(*kinds, scale=identity)
        noise = measured["frozen"].ratio(measured["fine-tuned"], "noise")
        covered += noise.low <= 0.5 <= noise.high
        assert measured["frozen"].estimate.signal == pytest.approx(8 / 8, abs=0.2)
    assert covered >= 54


def test_a_ratio_to_a_signal_that_may_be_zero_has_no_upper_bound() -> None:
    nothing = simulated("nothing", 1, 3, seeds=6)
    nothing.relevance[LRP][:] = np.random.default_rng(3).standard_normal(nothing.relevance[LRP].shape)
    measured = measured_by_name(simulated("much", 1, 4, seeds=6), nothing)
    ratio = measured["much"].ratio(measured["nothing"], "signal")
    assert ratio is None or ratio.high == np.inf


def test_surface_as_a_proxy_of_noise() -> None:
    perfect = [simulated(f"type{i}", 0.2 * 2**i, 10 + i, surface=10**i) for i in range(5)]
    measured = measured_by_name(*perfect)
    tau = rank_correlation(measured, perfect, "noise")
    assert tau.estimate == pytest.approx(1)
    assert tau.low > 0.5


def test_tau_with_ties_and_its_resamples_match_scipy() -> None:
    surfaces = [4, 4, 1, 2, 9]
    kinds = [simulated(f"type{i}", 1 + i % 2, 20 + i, surface=surface) for i, surface in enumerate(surfaces)]
    measured = measured_by_name(*kinds)
    drawn = [measured[kind.name].resamples.noise for kind in kinds]
    taus = [stats.kendalltau(surfaces, row).statistic for row in zip(*drawn, strict=True)]
    tau = rank_correlation(measured, kinds, "noise")
    assert (tau.low, tau.high) == pytest.approx(percentile_interval(taus, n=min(25, len(LENGTHS))))


def test_the_likeness_of_two_types() -> None:
    kinds = [simulated("fine-tuned", 1, 1), simulated("frozen", 0.05, 2), simulated("few", 1, 3, seeds=4)]
    measured = measured_by_name(*kinds)
    assert measured["frozen"].likeness(measured["fine-tuned"], "noise", 1.25) == "lower"
    assert measured["fine-tuned"].likeness(measured["frozen"], "noise", 1.25) == "higher"
    assert measured["few"].likeness(measured["fine-tuned"], "noise", 1.25) == "open"
    assert measured["fine-tuned"].likeness(measured["fine-tuned"], "noise", 1.25) == "same"


def test_chosen_texts_are_measured_as_if_there_were_no_others() -> None:
    kind = simulated("fine-tuned", 1, 1)
    cut = replace(kind, relevance={LRP: kind.relevance[LRP][:, : sum(LENGTHS[:3])]})
    some = measured_by_name(kind, texts=[2, 0, 1])["fine-tuned"]
    same = measured_by_name(cut, texts=[0, 1, 2])["fine-tuned"]
    of_three = Bootstrap(LENGTHS[:3], resamples=300, seed=0)
    alone = of_three.measure({"fine-tuned": cut}, scale=unit_scale)["fine-tuned"]
    for quantity in ("signal", "noise", "snr"):
        assert some.interval(quantity) == alone.interval(quantity) == same.interval(quantity)


def accuracies(*values: float, texts: int = 1000) -> np.ndarray:
    """Whether each model classifies each text correctly; all err on the same texts first."""
    errors = np.round((1 - np.array(values)) * texts)
    return np.arange(texts) >= errors[:, None]


def test_the_share_of_equivalent_models_depends_on_the_texts_in_z() -> None:
    half = equivalent_share(accuracies(*[0.9] * 10, *[0.5] * 10), 1000, seed=0)
    assert half.estimate == 0.5
    assert 0.2 < half.low < 0.5 < half.high < 0.8
    near = accuracies(*[0.9] * 10, *[0.87] * 10)
    assert equivalent_share(near, 100, seed=0).estimate == 1
    assert equivalent_share(near, 1000, seed=0).estimate == 0.5
    assert equivalent_share(np.ones((5, 100), bool), 100, seed=0) == Interval(1, 1, 1)


def test_a_type_and_its_quantised_version_are_compared_model_by_model() -> None:
    def loss(training: str) -> Interval:
        correct = np.random.default_rng(0).random((10, 100)) < np.linspace(0.5, 1, 10)[:, None]
        plain = replace(simulated("fine-tuned", 1, 0, seeds=10), predicted=correct.astype(np.uint8))
        worse = correct.copy()
        worse[:, :3] = False
        quantised = replace(plain, training=training, predicted=worse.astype(np.uint8))
        return accuracy_loss(plain, quantised, np.ones(100), seed=0)

    paired, unpaired = loss("fine-tuned"), loss("other")
    assert paired.estimate == unpaired.estimate > 0
    assert paired.high - paired.low < 0.3 * (unpaired.high - unpaired.low)


def test_resamples_are_centred_on_the_unbiased_estimates() -> None:
    kind = simulated("few", 2, 5, seeds=5)
    many = Bootstrap(LENGTHS, resamples=20_000, seed=0)
    (measured,) = many.measure({"few": kind}, scale=identity).values()
    assert np.nanmean(measured.resamples.signal) == pytest.approx(measured.estimate.signal, rel=0.02)
    assert np.nanmean(measured.resamples.noise) == pytest.approx(measured.estimate.noise, rel=0.02)


@pytest.mark.parametrize(("few", "shared"), [(4, 0.0), (4, 0.5), (6, 1.0)])
def test_the_noise_of_few_models_is_covered(few: int, shared: float) -> None:
    """The words' noise is independent, or what two numbers per model decide for all words."""
    rng = np.random.default_rng(0)
    words = sum(LENGTHS)

    def drawn(name: str, seeds: int, noise: float, loadings: np.ndarray) -> ModelType:
        common = rng.standard_normal((seeds, 2)) @ loadings / np.sqrt(2)
        own = rng.standard_normal((seeds, words))
        relevance = np.sqrt(noise) * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
        return ModelType(name, name, 1, np.zeros((seeds, 1), np.uint8), {LRP: relevance})

    covered = 0
    for _ in range(100):
        loadings = np.resize([[1.0, -1.0], [1.0, 1.0]], (2, words))  # every text has the same noise
        kinds = [drawn("few", few, 0.5, loadings), drawn("many", 15, 1, loadings)]
        measured = measured_by_name(*kinds, scale=identity)
        ratio = measured["few"].ratio(measured["many"], "noise")
        covered += ratio.low <= 0.5 <= ratio.high
    assert covered >= 91  # fewer in one of 100 such tests if the rate is 95 %
