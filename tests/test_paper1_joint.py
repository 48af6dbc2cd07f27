"""Intervals over seeds and texts jointly cover at their stated rate, also for what is no mean over texts."""

import math

import numpy as np
import pytest

from lib.claims import Region
from lib.paper1.joint import (
    HALVES,
    half_samples,
    needed_row,
    on_halves,
    over_halves,
)


def crossed(rng, seeds, texts, *, of_seeds, of_texts, of_both):
    """Draw values with a main effect of seeds and of texts, and a rest: (seeds, texts)."""
    main = of_seeds * rng.standard_normal((seeds, 1)) + of_texts * rng.standard_normal((1, texts))
    return main + of_both * rng.standard_normal((seeds, texts))


def means(values):
    return on_halves(lambda chosen: values[:, chosen].mean(axis=1), values.shape[1])


def test_halves_are_random_and_the_same_for_as_many_texts():
    whole, *halves = half_samples(45)
    assert len(halves) == HALVES
    assert whole.tolist() == list(range(45))
    assert all(len(set(half)) == 22 for half in halves)
    assert len({tuple(half) for half in halves}) == HALVES
    np.testing.assert_array_equal(halves, half_samples(45)[1:])
    with pytest.raises(ValueError, match=r"^texts = 1: at least 2 are required"):
        half_samples(1)


def test_halves_vary_as_much_as_samples_of_all_texts():
    values = np.random.default_rng(0).standard_normal((1, 1_000))
    measured = over_halves(means(values))
    assert measured.estimate == pytest.approx(values.mean())
    assert measured.texts[0].variance ** 0.5 == pytest.approx(values.std() / 1_000**0.5, rel=0.2)
    assert measured.seeds == ()


@pytest.mark.parametrize(
    ("seeds", "texts", "of_seeds", "of_texts", "of_both"),
    [
        (3, 300, 0.0, 1.0, 0.5),  # texts alone
        (5, 300, 0.1, 1.0, 1.0),  # seeds as much as texts and the rest
        (3, 300, 0.2, 0.5, 1.0),  # seeds alone, and few
    ],
)
def test_the_interval_of_a_mean_covers_at_its_rate(seeds, texts, of_seeds, of_texts, of_both):
    rng = np.random.default_rng(0)
    effects = {"of_seeds": of_seeds, "of_texts": of_texts, "of_both": of_both}
    covered = []
    for _ in range(1_000):
        measured = over_halves(means(crossed(rng, seeds, texts, **effects))).interval()
        covered.append(measured.low < 0 < measured.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_interval_of_a_ratio_covers_at_its_rate():
    """As reliance is one: a share of the texts that a model assigns to class 0, which differ by model."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1_000):
        level = crossed(rng, 6, 400, of_seeds=0.2, of_texts=1.0, of_both=0.5)
        base = rng.random((6, 400)) < 0.4 + 0.2 * rng.random((1, 400))
        turned = base & (level > 0.5)
        table = on_halves(lambda chosen, t=turned, b=base: t[:, chosen].sum(1) / b[:, chosen].sum(1), 400)
        measured = over_halves(table).interval()
        truth = 0.5 * math.erfc(0.5 / math.sqrt(2 * 1.29))
        covered.append(measured.low < truth < measured.high)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("of_seeds", [0.02, 0.1])
def test_the_interval_of_a_list_of_ten_words_covers_at_its_rate(of_seeds):
    """The share of cues among the ten words with the largest means: no smooth function of the texts."""
    rng = np.random.default_rng(0)
    words, cues = 60, 15
    true_means = np.where(np.arange(words) < cues, 0.6, 0.3) + 0.2 * rng.standard_normal(words)

    def shares(values):
        top = np.argsort(-values.mean(axis=1), axis=1)[:, :10]  # values: (seeds, texts, words)
        return (top < cues).mean(axis=1)

    def draw():
        of_seed = of_seeds * rng.standard_normal((5, 1, words))
        return true_means + of_seed + rng.standard_normal((1, 300, words))

    truth = np.mean([shares(draw()).mean() for _ in range(400)])
    covered = []
    for _ in range(400):
        values = draw()
        measured = over_halves(on_halves(lambda chosen, v=values: shares(v[:, chosen]), 300)).interval()
        covered.append(measured.low <= truth <= measured.high)
    assert 0.92 <= np.mean(covered) <= 0.98  # give or take 2 for 400 draws and a truth that is drawn itself


def test_models_that_agree_exactly_have_an_interval_of_no_width():
    table = means((np.random.default_rng(0).random((1, 90)) < 0.7).repeat(3, axis=0))
    measured = over_halves(100 * (table - table / 3 * 3)).interval()
    assert measured.low == measured.high == 0


def test_seeds_that_agree_on_all_texts_still_leave_the_variance_of_texts():
    halves = np.random.default_rng(0).choice([0.1, 0.2, 0.3], (2, HALVES))  # as shares of ten words
    table = np.hstack([[[0.3 - 0.1], [0.2]], halves])  # equal but for rounding
    measured = over_halves(table).interval()
    assert measured.high - measured.low > 0.1
    assert measured.estimate == pytest.approx(0.2)


def test_halves_without_a_value_are_left_out():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 1 + HALVES))
    table[2, 5] = np.nan
    assert over_halves(table) == over_halves(np.delete(table, 5, axis=1))


def test_two_halves_with_a_value_are_enough():
    table = np.full((1, 1 + HALVES), np.nan)
    table[0, :3] = 0.5, 0.4, 0.7
    measured = over_halves(table)
    assert measured.estimate == 0.5
    assert measured.texts[0].variance == pytest.approx(0.3**2 / 2)


@pytest.mark.parametrize("missing", [0, slice(1, HALVES)])
def test_a_statistic_without_a_value_is_named(missing):
    table = np.ones((4, 1 + HALVES))
    table[:, missing] = np.nan
    with pytest.raises(ValueError, match=r"have a value: at least 2 are required, and a value on all texts$"):
        over_halves(table)


def test_the_needed_number_of_texts_gives_the_power_it_promises():
    rng = np.random.default_rng(0)
    effects = {"of_seeds": 0.0, "of_texts": 1.0, "of_both": 0.5}
    region = Region(above=-0.15, below=0.15)
    numbers = []
    for _ in range(21):
        pilot = over_halves(means(crossed(rng, 5, 200, **effects)))
        row = needed_row(pilot, region, 0.95, texts=200)
        numbers.append(row["texts, with as many seeds"])
    texts = int(np.median([int(number.replace(",", "")) for number in numbers if number[0].isdigit()]))
    shown = []
    for _ in range(300):
        measured = over_halves(means(crossed(rng, 5, texts, **effects))).interval()
        shown.append(region.above < measured.low and measured.high < region.below)
    assert 0.65 <= np.mean(shown) <= 0.95


def test_no_number_of_texts_makes_up_for_seeds_that_differ_too_much():
    table = means(crossed(np.random.default_rng(0), 5, 400, of_seeds=1.0, of_texts=0.1, of_both=0.1))
    row = needed_row(over_halves(table), Region(below=0.1), 0.95, texts=400)
    assert row["region"] == "below 0.1"
    assert row["contains 0"] == "yes"
    assert row["texts, with as many seeds"] == "no number"
    assert int(row["seeds, with as many texts"].replace(",", "")) > 100


def test_halves_without_a_value_need_no_other_number_of_texts():
    table = means(crossed(np.random.default_rng(0), 5, 400, of_seeds=0.0, of_texts=0.1, of_both=0.1))
    table -= table[:, 0].mean()
    gaps = table.copy()
    gaps[:, 2::2] = np.nan
    whole, half = (
        needed_row(over_halves(values), Region(below=0.1), 0.95, texts=400)["texts, with as many seeds"]
        for values in (table, gaps)
    )
    assert int(half) == pytest.approx(int(whole), rel=0.5)  # other halves, the same variance of texts


def test_models_that_agree_exactly_say_nothing_about_the_data_needed():
    row = needed_row(over_halves(np.zeros((3, 1 + HALVES))), Region(above=-0.02, below=0.02), 0.95)
    assert row["contains 0"] == "yes"
    assert row["seeds, with as many texts"] == row["texts, with as many seeds"] == "—"


@pytest.mark.parametrize("difference", [-0.05, 0.05])
def test_no_numbers_are_given_where_the_interval_excludes_no_difference(difference):
    table = means(crossed(np.random.default_rng(0), 5, 400, of_seeds=0.0, of_texts=0.1, of_both=0.1))
    table -= table[:, 0].mean()
    equal = needed_row(over_halves(table), Region(below=0.1), 0.95, texts=400)
    different = needed_row(over_halves(table + difference), Region(below=0.1), 0.95, texts=400)
    numbers = ["seeds, with as many texts", "texts, with as many seeds"]
    assert equal["contains 0"] == "yes"
    assert all(equal[name][0].isdigit() for name in numbers)
    assert different["contains 0"] == "no"
    assert [different[name] for name in numbers] == ["—", "—"]
    assert different["interval now"] == equal["interval now"]
