"""Intervals over crossed seeds and texts cover at their rate, for the numbers of seeds and texts in use."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from lib.crossed import (
    POWER,
    Crossed,
    Part,
    crossed_difference,
    crossed_gap,
    crossed_mean,
    crossed_proportion_interval,
    crossed_sum,
)
from lib.intervals import Interval

SEEDS, TEXTS, RATES = (3, 5, 6, 7, 20, 30), (40, 100, 200, 300, 1000), (0.6, 0.9, 0.97)
SHARES = ((0.0, 0.8), (0.005, 0.6), (0.03, 0.4))
"""Of the variance of the latent ease with which a model classifies a text: seeds, texts."""


def latent(rng, seeds, texts, shares):
    """Parts of a latent variable of variance 1: (seeds, 1), (1, texts), (seeds, texts)."""
    of_seeds, of_texts = shares
    drawn = rng.standard_normal((seeds, texts), dtype=np.float32)
    return (
        math.sqrt(of_seeds) * rng.standard_normal((seeds, 1), dtype=np.float32),
        math.sqrt(of_texts) * rng.standard_normal((1, texts), dtype=np.float32),
        math.sqrt(1 - of_seeds - of_texts) * drawn,
    )


def classify(rng, seeds, texts, rate, shares=(0.005, 0.6)):
    """Whether each model is right: (seeds, texts), with the given expected accuracy."""
    return sum(latent(rng, seeds, texts, shares)) + stats.norm.ppf(rate) > 0


def covers(interval, truth):
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def means_by(cells, *positions):
    """Average coverage over the cells that agree in some positions of their names."""
    groups = {}
    for name, coverage in cells.items():
        groups.setdefault(tuple(name[position] for position in positions), []).append(coverage)
    return {name: float(np.mean(values)) for name, values in groups.items()}


def assert_covers(groups, low=0.93, high=0.97):
    wrong = {name: round(coverage, 3) for name, coverage in groups.items() if not low <= coverage <= high}
    assert not wrong


def test_a_mean_by_hand():
    # rows 1, 3 and columns 1, 3, 2 differ; residuals are 0
    values = np.array([[0.0, 2.0, 1.0], [2.0, 4.0, 3.0]])
    mean = crossed_mean(values)
    assert mean.estimate == 2.0
    assert mean.seeds == (Part(2.0 / 2, 0.0, 2),)
    assert mean.texts == (Part(1.0 / 3, 0.0, 3),)
    variance, z, t1, t2 = 4 / 3, 1.959964, 12.7062, 4.30265
    squared = variance * z**2 + (1 * (t1**2 - z**2) + (1 / 9) * (t2**2 - z**2)) / variance
    assert mean.interval().high - 2 == pytest.approx(math.sqrt(squared), rel=1e-5)


def test_a_single_seed_or_text_leaves_students_interval_of_the_other():
    values = np.random.default_rng(0).normal(size=7)
    half = stats.t.ppf(0.975, 6) * stats.sem(values)
    for matrix in (values[None], values[:, None]):
        interval = crossed_mean(matrix).interval()
        assert interval.high - interval.estimate == pytest.approx(half)
    for matrix in (values, values[:1, None]):
        with pytest.raises(ValueError, match="values of shape"):
            crossed_mean(matrix)


def test_models_that_agree_on_every_text_leave_the_width_of_the_texts():
    correct = np.tile(np.arange(100) % 10 > 0, (3, 1))
    interval = crossed_mean(correct).interval()
    half = stats.t.ppf(0.975, 99) * stats.sem(correct[0].astype(float))
    assert interval.high - 0.9 == pytest.approx(half)
    # the errors of three models on three texts: no seed is better, and no text harder than chance
    scattered = np.ones((3, 40))
    scattered[[0, 1, 2], [0, 1, 2]] = 0
    assert crossed_mean(scattered).interval().has_width
    perfect = np.ones((3, 300), bool)
    assert not crossed_mean(perfect).interval().has_width
    assert crossed_proportion_interval(perfect).low == pytest.approx(0.985, abs=0.003)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"a has shape \(3, 4\), b \(3, 5\)"):
        crossed_difference(np.zeros((3, 4)), np.zeros((3, 5)), paired=False)
    with pytest.raises(ValueError, match="the same seeds of paired"):
        crossed_difference(np.zeros((3, 4)), np.zeros((2, 4)), paired=True)
    with pytest.raises(ValueError, match="train has 3 seeds, test 2: the same"):
        crossed_gap(np.zeros((3, 4)), np.zeros((2, 4)))


def test_an_accuracy_is_covered():
    rng = np.random.default_rng(1)
    cells = {}
    for seeds, texts, rate, shares in product(SEEDS, TEXTS, RATES, SHARES):
        trials = 100 if seeds * texts < 5_000 else 40
        hits = 0
        for _ in range(trials):
            near = rate + rng.uniform(-1, 1) * (1 - rate) / 4  # one rate alone is too discrete
            interval = crossed_proportion_interval(classify(rng, seeds, texts, near, shares))
            hits += covers(interval, near)
        cells[seeds, texts, rate, shares] = hits / trials
    enough = {name: hit for name, hit in cells.items() if name[1] >= 100}
    for positions in ((0,), (1, 2), (3,), (0, 3)):
        assert_covers(means_by(enough, *positions))
    # on 40 texts, the four that are added make it wider than necessary
    few = {name: hit for name, hit in cells.items() if name not in enough}
    assert_covers(means_by(few, 2), high=0.99)


def test_students_interval_over_seeds_alone_does_not_cover_an_accuracy():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(300):
        means = classify(rng, 7, 300, 0.9).mean(axis=1)
        hits.append(abs(means.mean() - 0.9) <= stats.t.ppf(0.975, 6) * stats.sem(means))
    assert np.mean(hits) < 0.85


@pytest.mark.parametrize("paired", [False, True])
def test_a_difference_of_accuracies_on_the_same_texts_is_covered(paired):
    rng = np.random.default_rng(3)
    cells = {}
    sizes = [(3, 3), (7, 7), (20, 20)] if paired else [(3, 3), (6, 20), (20, 30)]
    rates = ((0.6, 0.6), (0.92, 0.9), (0.97, 0.96))
    for size, texts, pair, shares in product(sizes, TEXTS, rates, SHARES):
        if texts * (1 - pair[0]) < 3:
            continue
        trials = 100 if max(size) * texts < 5_000 else 40
        hits = 0
        for _ in range(trials):
            of_a, easy, rest_a = latent(rng, size[0], texts, shares)
            of_b, own, rest_b = latent(rng, size[1], texts, shares)
            if paired:  # the same model, changed a little
                of_b, own = of_a, easy
                rest_b = 0.95 * rest_a + math.sqrt(1 - 0.95**2) * rest_b
            a = of_a + easy + rest_a + stats.norm.ppf(pair[0]) > 0
            other = 0.9 * easy + math.sqrt(1 - 0.9**2) * own if not paired else easy
            b = of_b + other + rest_b + stats.norm.ppf(pair[1]) > 0
            interval = crossed_difference(a, b, paired=paired).interval()
            hits += covers(interval, pair[0] - pair[1])
        cells[size, texts, pair, shares] = hits / trials
    for positions in ((0,), (1,), (2,), (3,)):
        assert_covers(means_by(cells, *positions))


def test_a_difference_paired_by_seed_is_narrower_than_one_of_independent_seeds():
    rng = np.random.default_rng(4)
    of_seeds, easy, rest = latent(rng, 5, 300, (0.03, 0.4))
    plain = of_seeds + easy + rest + 1 > 0
    quantised = of_seeds + easy + 0.99 * rest + 1 > 0
    widths = [
        interval.high - interval.low
        for interval in (
            crossed_difference(plain, quantised, paired=flag).interval() for flag in (True, False)
        )
    ]
    assert widths[0] < widths[1] / 2
    assert not crossed_difference(plain, plain, paired=True).interval().has_width


def test_a_gap_of_training_and_test_accuracy_is_covered():
    rng = np.random.default_rng(5)
    cells = {}
    for seeds, texts, shares in product((3, 7, 20), (100, 300), SHARES):
        trials, hits = 150, 0
        for _ in range(trials):
            of_seeds, easy, rest = latent(rng, seeds, 5 * texts, shares)
            train = of_seeds + easy + rest + stats.norm.ppf(0.95) > 0
            _, easy, rest = latent(rng, seeds, texts, shares)
            test = of_seeds + easy + rest + stats.norm.ppf(0.9) > 0
            hits += covers(crossed_gap(train, test).interval(), 0.05)
        cells[seeds, texts, shares] = hits / trials
    for positions in ((0,), (1,), (2,)):
        assert_covers(means_by(cells, *positions))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_means_of_normal_values_are_covered_whatever_source_dominates(confidence):
    rng = np.random.default_rng(7)
    cells = {}
    for seeds, texts, of_seeds in product((3, 6, 20), (40, 200), (0.0, 0.03, 0.3, 3.0)):
        hits = 0
        for _ in range(300):
            values = of_seeds * rng.standard_normal((seeds, 1)) + rng.standard_normal(texts)
            values = values + 0.5 * rng.standard_normal((seeds, texts))
            hits += covers(crossed_mean(values).interval(confidence), 0.0)
        cells[seeds, texts, of_seeds] = hits / 300
    for positions in ((0,), (1,), (2,)):
        assert_covers(means_by(cells, *positions), confidence - 0.02, confidence + 0.02)


def test_the_numbers_needed_have_the_power_that_is_meant():
    rng = np.random.default_rng(8)

    def draw(seeds, texts):
        """A difference whose true value is 0: (seeds, texts)."""
        values = 0.02 * rng.standard_normal((seeds, 1)) + 0.3 * rng.standard_normal(texts)
        return values + 0.2 * rng.standard_normal((seeds, texts))

    residual = 0.2**2 / (5 * 300)
    known = Crossed(
        0.01,
        (Part(0.02**2 / 5 + residual, residual, 5),),
        (Part(0.3**2 / 300 + residual, residual, 300),),
    )
    texts = known.texts_needed(above=-0.05, below=0.05, confidence=0.9)
    seeds = known.seeds_needed(above=-0.055, below=0.055, confidence=0.9)
    for border, size in ((0.05, (5, texts)), (0.055, (seeds, 300))):
        inside = 0
        for _ in range(600):
            interval = crossed_mean(draw(*size)).interval(0.9)
            inside += interval.low > -border and interval.high < border
        assert inside / 600 == pytest.approx(POWER, abs=0.06)


def test_no_number_of_texts_makes_up_for_seeds():
    rough = Crossed(0.0, (Part(1.0, 0.0, 3),), (Part(1.0, 0.0, 100),))
    assert rough.texts_needed(above=-0.1, below=0.1) is None
    assert rough.seeds_needed(above=-100.0, below=100.0) == 2
    one_sided = Crossed(0.0, (), (Part(0.3**2 / 100, 0.0, 100),))
    needed = one_sided.texts_needed(below=0.02)  # 0.02 / se = 1.96 + 0.84
    assert needed == pytest.approx((2.8 * 0.3 / 0.02) ** 2, rel=0.01)
    with pytest.raises(ValueError, match=r"truth = 0\.2: allowed are values above -inf and below 0\.1"):
        one_sided.texts_needed(below=0.1, truth=0.2)
    with pytest.raises(ValueError, match="about one seed"):
        one_sided.seeds_needed(below=0.1)


def test_an_interval_is_one_of_lib_intervals():
    assert isinstance(crossed_mean(np.eye(3)).interval(), Interval)


def test_a_mean_about_one_text_needs_no_number_of_texts():
    with pytest.raises(ValueError, match="about one text"):
        Crossed(0.0, (Part(1.0, 0.0, 3),), ()).texts_needed(below=0.1)


def test_no_accuracy_lies_outside_0_and_1():
    correct = np.ones((3, 40), bool)
    correct[0, 0] = False
    interval, opposite = crossed_proportion_interval(correct), crossed_proportion_interval(~correct)
    assert interval.high == 1
    assert opposite.low == 0
    assert interval.low == pytest.approx(1 - opposite.high)


def test_a_gap_has_the_texts_of_both_sides_and_seeds_that_are_paired():
    rng = np.random.default_rng(0)
    train, test = rng.random((4, 30)), rng.random((4, 20))
    gap = crossed_gap(train, test)
    assert gap.estimate == pytest.approx(train.mean() - test.mean())
    assert gap.texts == (*crossed_mean(train).texts, *crossed_mean(test).texts)
    (seeds,) = gap.seeds
    by_seed = train.mean(axis=1) - test.mean(axis=1)
    assert seeds.variance == pytest.approx(by_seed.var(ddof=1) / 4)
    assert seeds.residual == pytest.approx(sum(part.residual for part in gap.texts))


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_what_rounding_leaves_of_a_variance_is_no_interval(seeds):
    right = np.arange(300) % 2 == 0
    one_differs = np.stack([right, *[~right] * (seeds - 1)])
    interval = crossed_difference(np.stack([~right] * seeds), one_differs, paired=False).interval()
    assert interval.estimate == pytest.approx(0)
    assert interval.high > 0.02


def test_samples_of_other_texts_are_not_added():
    with pytest.raises(
        ValueError, match=r"samples of shapes \(3, 4\), \(3, 5\): the same texts are required"
    ):
        crossed_sum(np.zeros((3, 4)), np.zeros((3, 5)))
