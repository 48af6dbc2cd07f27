"""Model types compared: paired where they share seeds and texts, and right where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lib.attribution import LRP
from lib.paper2.model_types import (
    ModelType,
    equivalent_share,
    measure,
    rank_correlation,
    shares,
    unit_scale,
)
from lib.stability import percentile_interval

LENGTHS = [8, 12, 20, 9, 15, 11, 14, 10]
HOW = {"resamples": 300, "seed": 0, "scale": unit_scale}


def simulated(name: str, noise: float, seed: int, *, seeds: int = 25, surface: int = 1) -> ModelType:
    """Explanations with a signal of 1 and a given noise, a row a seed."""
    words = sum(LENGTHS)
    signal = np.concatenate([np.resize([1.0, -1.0], length) for length in LENGTHS])
    drawn = np.random.default_rng(seed).standard_normal((seeds, words))
    relevance = {LRP: signal + np.sqrt(noise) * drawn}
    return ModelType(name, name.split()[0], surface, np.zeros((seeds, 4), np.uint8), relevance)


def identity(relevance: np.ndarray, lengths: list[int]) -> np.ndarray:
    return relevance


def test_shares_have_mean_one_in_every_text_and_no_sign() -> None:
    values = shares(simulated("a", 1, 0).relevance[LRP], LENGTHS)
    assert values.min() == 0
    for text in np.split(values, np.cumsum(LENGTHS)[:-1], axis=1):
        np.testing.assert_allclose(text.mean(axis=1), 1)


def test_the_ratio_of_a_type_to_itself_is_one_without_doubt() -> None:
    one = simulated("fine-tuned", 1, 1)
    same = ModelType("fine-tuned copy", "fine-tuned", 1, one.predicted, one.relevance)
    measured = measure([one, same], LENGTHS, **HOW)
    for quantity in ("signal", "noise", "snr"):
        ratio = measured["fine-tuned copy"].ratio(measured["fine-tuned"], quantity)
        assert (ratio.estimate, ratio.low, ratio.high) == (1, 1, 1)
        assert measured["fine-tuned copy"].equivalent(measured["fine-tuned"], quantity, 1.01)


def test_the_ratio_of_independent_types_covers_the_truth() -> None:
    how = {**HOW, "scale": identity}
    covered = 0
    for trial in range(60):
        kinds = [simulated("frozen", 0.5, 2 * trial), simulated("fine-tuned", 1, 2 * trial + 1)]
        measured = measure(kinds, LENGTHS, **how)
        noise = measured["frozen"].ratio(measured["fine-tuned"], "noise")
        covered += noise.low <= 0.5 <= noise.high
        assert measured["frozen"].estimate.signal == pytest.approx(8 / 8, abs=0.2)
    assert covered >= 54


def test_a_signal_that_may_be_nothing_has_no_upper_bound_as_a_denominator() -> None:
    nothing = simulated("nothing", 1, 3, seeds=6)
    nothing.relevance[LRP][:] = np.random.default_rng(3).standard_normal(nothing.relevance[LRP].shape)
    measured = measure([simulated("much", 1, 4, seeds=6), nothing], LENGTHS, **HOW)
    ratio = measured["much"].ratio(measured["nothing"], "signal")
    assert ratio is None or ratio.high == np.inf


def test_surface_as_a_proxy_of_noise() -> None:
    perfect = [simulated(f"type{i}", 0.2 * 2**i, 10 + i, surface=10**i) for i in range(5)]
    measured = measure(perfect, LENGTHS, **HOW)
    tau = rank_correlation(measured, perfect, "noise")
    assert tau.estimate == pytest.approx(1)
    assert tau.low > 0.5


def test_tau_with_ties_and_its_resamples_are_scipy_s() -> None:
    surfaces = [4, 4, 1, 2, 9]
    kinds = [simulated(f"type{i}", 1 + i % 2, 20 + i, surface=surface) for i, surface in enumerate(surfaces)]
    measured = measure(kinds, LENGTHS, **HOW)
    drawn = [measured[kind.name].resamples.noise for kind in kinds]
    taus = [stats.kendalltau(surfaces, row).statistic for row in zip(*drawn, strict=True)]
    tau = rank_correlation(measured, kinds, "noise")
    assert (tau.low, tau.high) == pytest.approx(percentile_interval(taus, n=min(25, len(LENGTHS))))


def test_what_is_known_of_a_ratio() -> None:
    kinds = [simulated("fine-tuned", 1, 1), simulated("frozen", 0.05, 2), simulated("few", 1, 3, seeds=4)]
    measured = measure(kinds, LENGTHS, **HOW)
    assert measured["frozen"].likeness(measured["fine-tuned"], "noise", 1.25) == "lower"
    assert measured["fine-tuned"].likeness(measured["frozen"], "noise", 1.25) == "higher"
    assert measured["few"].likeness(measured["fine-tuned"], "noise", 1.25) == "open"
    assert measured["fine-tuned"].likeness(measured["fine-tuned"], "noise", 1.25) == "same"


def test_some_texts_are_measured_as_if_there_were_no_others() -> None:
    kind = simulated("fine-tuned", 1, 1)
    cut = replace(kind, relevance={LRP: kind.relevance[LRP][:, : sum(LENGTHS[:3])]})
    some = measure([kind], LENGTHS, texts=np.array([2, 0, 1]), **HOW)["fine-tuned"]
    alone = measure([cut], LENGTHS[:3], **HOW)["fine-tuned"]
    same = measure([cut], LENGTHS, texts=np.array([0, 1, 2]), **HOW)["fine-tuned"]
    for quantity in ("signal", "noise", "snr"):
        assert some.interval(quantity) == alone.interval(quantity) == same.interval(quantity)


def test_share_of_equivalent_models() -> None:
    assert equivalent_share(np.full(10, 0.9), 100, seed=0).low == 1
    half = equivalent_share(np.array([0.9] * 10 + [0.5] * 10), 1000, seed=0)
    assert half.estimate == 0.5
    assert 0.2 < half.low < 0.5 < half.high < 0.8
