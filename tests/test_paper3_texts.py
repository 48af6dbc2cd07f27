"""How texts of trials are compared, with each other and with samples of one trial, and how sound they are."""

import math

import numpy as np
import pandas as pd
import pytest

from lib.crossed import crossed_mean
from lib.intervals import Interval
from lib.paper3.text_tables import (
    agreement_intervals,
    all_alike,
    answers,
    answers_apart,
    answers_differ,
    checked_answers,
    completions,
    first_draws,
    largest_within,
    letter,
    letters,
    own_draws,
    published_soundness,
    readings,
    same_twice,
    sampling_against_training,
    scored_summaries,
    side_by_side,
    sound_texts,
    sounder,
    surprise,
    training_beyond_sampling,
    training_share,
    trials_that_repeat,
    two_trials_differ,
)
from lib.paper3.texts import (
    between_trials,
    beyond_sampling,
    differ,
    lexicon_of,
    pairs_of_trials,
    pseudo_values,
    share_beyond_sampling,
    share_interval,
    shared_words,
    sound_words,
    soundness,
    unlike,
    within,
    within_trials,
    words,
)
from tests.finished import record


def test_words_are_in_lower_case_without_numbers_and_marks():
    assert words("I don't know 12 things, Élan!") == ["i", "don't", "know", "things", "élan"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("the cat", "The cat.", 1.0),
        ("the cat", "the dog", 0.5),
        ("the the", "the", 2 / 3),
        ("cat", "dog", 0.0),
        ("", "...", 1.0),
        ("cat", "", 0.0),
    ],
)
def test_shared_words_by_hand(first, second, expected):
    assert shared_words(first, second) == pytest.approx(expected)
    assert unlike(second, first) == pytest.approx(1 - expected)


def test_pairs_of_trials_are_symmetric_and_have_no_diagonal():
    pairs = pairs_of_trials([["a", "x"], ["a", "y"], ["b", "x"]], differ)
    assert pairs.shape == (3, 3, 2)
    assert np.isnan(pairs[1, 1]).all()
    assert pairs[0, 1].tolist() == pairs[1, 0].tolist() == [0, 1]
    assert pairs[0, 2].tolist() == [1, 0]


def test_two_trials_are_compared_by_samples_of_different_numbers_only():
    samples = [[["a", "b"]], [["a", "b"]]]  # the same model, drawn with the same random numbers
    assert within_trials(samples, differ).tolist() == [[1], [1]]
    assert between_trials(samples, differ)[0, 1].tolist() == [1]
    assert beyond_sampling(between_trials(samples, differ), within_trials(samples, differ))[0, 1] == [0]


def test_trials_that_always_write_another_text_differ_beyond_sampling():
    samples = [[["a", "a"]], [["b", "b"]]]
    assert beyond_sampling(between_trials(samples, differ), within_trials(samples, differ))[0, 1] == [1]


def test_pseudo_values_have_the_mean_over_pairs_as_their_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 5, 3))
    values += values.transpose(1, 0, 2)
    apart = values[~np.eye(5, dtype=bool)].reshape(-1, 3)
    assert pseudo_values(values).mean(0) == pytest.approx(apart.mean(0))
    # for a sum of effects of the two trials, they are the mean plus twice a trial's deviation
    effects = np.array([1.0, 2.0, 6.0])
    sums = (effects[:, None] + effects[None, :])[:, :, None]
    assert pseudo_values(sums)[:, 0] == pytest.approx(6 + 2 * (effects - 3))


def test_pseudo_values_need_three_trials():
    with pytest.raises(ValueError, match="pairs of 2: pseudo-values of pairs need at least 3 seeds"):
        pseudo_values(np.zeros((2, 2, 1)))


@pytest.mark.parametrize("spread", [(1.0, 1.0, 1.0), (1.0, 0.0, 1.0), (0.3, 1.0, 1.0)])
def test_an_interval_over_pairs_covers_the_truth_at_its_rate(spread):
    """7 trials and 20 prompts; standard deviations of trials, of prompts and of single pairs."""
    rng = np.random.default_rng(0)
    of_trial, of_prompt, of_pair = spread
    hits, repeated = 0, 600
    for _ in range(repeated):
        trial, prompt = rng.normal(0, of_trial, 7), rng.normal(0, of_prompt, 20)
        pair = rng.normal(0, of_pair, (7, 7, 20))
        pairs = (
            0.1 + trial[:, None, None] + trial[None, :, None] + prompt + (pair + pair.transpose(1, 0, 2)) / 2
        )
        interval = crossed_mean(pseudo_values(pairs)).interval(0.95)
        hits += interval.low <= 0.1 <= interval.high
    assert 0.93 - 0.01 <= hits / repeated <= 0.98 + 0.015  # the rate +- 2 points, and what 600 draws allow


@pytest.mark.parametrize(("a", "b"), [(2, 2), (1, 3), (4, 1)])
def test_the_interval_of_a_share_of_pairs_covers_the_truth_at_its_rate(a, b):
    """7 trials write a prompt's commonest text with a probability that is Beta(a, b) over 20 prompts."""
    rng = np.random.default_rng(1)
    truth = 1 - a * (a + 1) / ((a + b) * (a + b + 1))
    hits, repeated = 0, 600
    for _ in range(repeated):
        commonest = rng.random((7, 20)) < rng.beta(a, b, 20)
        pairs = (~(commonest[:, None] & commonest[None, :])).astype(float)
        interval = share_interval(pairs, 0.95)
        hits += interval.low <= truth <= interval.high
    assert 0.93 - 0.01 <= hits / repeated <= 0.98 + 0.01


def test_an_exception_tells_less_than_none():
    pairs = np.ones((7, 7, 20))
    pairs[0, 1, 0] = pairs[1, 0, 0] = 0
    assert share_interval(pairs, 0.95).low == share_interval(np.ones((7, 7, 20)), 0.95).low
    assert share_interval(1 - pairs, 0.95).high == share_interval(np.zeros((7, 7, 20)), 0.95).high


def test_two_models_that_write_the_same_tell_no_more_than_one():
    table = base_trials(lambda seed, prompt, sample: WORDS[(seed * prompt) % 3])
    one = table[table["model"] == "a"]
    both = pd.concat([one, one.assign(model="b")])
    for column in ("completions", "cold_completions"):
        assert two_trials_differ(both, column, 0.95) == two_trials_differ(one, column, 0.95)
    assert training_beyond_sampling(both, 0.95) == training_beyond_sampling(one, 0.95)
    answers, alone = (of.assign(answers=of["cold_completions"]) for of in (both, one))
    assert answers_differ(answers, str, 0.95) == answers_differ(alone, str, 0.95)


def test_trials_whose_seed_failed_in_another_model_are_left_out():
    table = base_trials(lambda seed, prompt, sample: WORDS[seed * (prompt % 2)])
    without = table[(table["model"] == "a") | (table["seed"] != 1)]
    shared = table[table["seed"] != 1]
    assert two_trials_differ(without, "completions", 0.95) == two_trials_differ(shared, "completions", 0.95)


@pytest.mark.parametrize(
    ("value", "low", "high"), [(1.0, 0.025 ** (1 / 20), 1.0), (0.0, 0.0, 1 - 0.025 ** (1 / 20))]
)
def test_a_share_of_all_or_no_pairs_has_an_exact_interval(value, low, high):
    interval = share_interval(np.full((7, 7, 20), value), 0.95)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((value, low, high))


def test_an_interval_is_cut_to_what_is_possible():
    assert within(Interval(0.9, 0.7, 1.1), 0.0) == Interval(0.9, 0.7, 1.0)
    assert within(Interval(-1e-17, -0.2, 0.3), 0.0) == Interval(0.0, 0.0, 0.3)
    assert within(Interval(0.1, -0.2, 0.3), -1.0) == Interval(0.1, -0.2, 0.3)


def test_sound_words_are_known_and_end_no_repeated_pair():
    measures = sound_words("the cat saw the cat zzz", {"the", "cat", "saw"})
    assert measures == pytest.approx({"known": 5 / 6, "repeated": 1 / 5, "sound": 4 / 6})
    assert sound_words("God God God God", {"god"}) == pytest.approx(
        {"known": 1, "repeated": 2 / 3, "sound": 0.5}
    )
    assert sound_words('.".""', {"the"}) == {"known": 0, "repeated": 0, "sound": 0}
    assert sound_words("the", {"the"}) == {"known": 1, "repeated": 0, "sound": 1}
    assert soundness(["the", "cat"], {"the"})["known"] == 0.5


def test_a_lexicon_has_the_words_of_all_texts():
    assert lexicon_of(["The cat.", "a dog"]) == {"the", "cat", "a", "dog"}


@pytest.fixture
def texts():
    """Return three models' trials with two prompts, two samples of each and two questions."""
    return pd.DataFrame(
        {
            "model": ["m", "m", "other"],
            "bits": ["32-bit", "32-bit", "32-bit"],
            "seed": [8, 7, 7],
            "completions": [
                [["p", "p"], ["x", "second"]],
                [["p", "p"], ["first", "y"]],
                [["p", "p"], ["no", "z"]],
            ],
            "cold_completions": [["a", "b"], ["a", "c"], ["d", "e"]],
            "cold_completions_again": [["a", "b"], ["a", "x"], ["x", "x"]],
            "answers": [["4", "B"], ["4", "?"], ["?", "?"]],
        }
    )


def test_completions_stand_beside_the_published_ones_trial_by_trial(texts):
    shown = side_by_side(texts, "m", 1, {"8-bit": ["x", "y", "z"], "32-bit": ["u", "v", ""]}, own_draws)
    assert shown["here", "32-bit"].to_list()[:2] == ["first", "second"]
    assert shown["here", "32-bit"].isna().to_list() == [False, False, True]
    assert shown["paper", "32-bit"].to_list() == ["u", "v", ""]
    assert shown.index.to_list() == [1, 2, 3]


def test_each_model_is_shown_with_the_texts_that_the_paper_prints_of_it(texts):
    published = {
        "prompts": ["one", "two"],
        "instructions": ["do", "say"],
        "completions": {"M": {"one": {"32-bit": ["a", "b"]}, "two": {"32-bit": ["c", "d"]}}},
        "answers": {"Other": {"32-bit": [["A"], ["D"]]}},
    }
    names = {"m": "M", "other": "Other"}
    shown = completions(texts, published, names)
    assert shown.loc[("m", "two", 1)].to_list() == ["first", "c"]
    answered = answers(texts, published, names)
    assert answered.index.to_list() == [("other", "instruction 1", 1), ("other", "instruction 2", 1)]
    assert letters(answered)["paper", "32-bit"].to_list() == ["A", "D"]
    assert letters(answered)["here", "32-bit"].to_list() == ["—", "—"]


def test_trials_show_samples_of_different_numbers():
    samples = [[["a0", "a1", "a2"]], [["b0", "b1", "b2"]], [["c0", "c1", "c2"]]]
    assert own_draws(samples) == [["a0"], ["b1"], ["c2"]]
    assert own_draws(samples[:2]) == [["a0"], ["b1"]]
    assert own_draws([]) == []
    assert first_draws(samples) == [["a0"], ["b0"], ["c0"]]


def test_trials_do_not_share_their_draws():
    with pytest.raises(ValueError, match="samples = 2: 3 trials need as many, one each"):
        own_draws([[["a0", "a1"]], [["b0", "b1"]], [["c0", "c1"]]])


def test_answers_are_checked_where_there_is_a_reference(texts):
    def parse(text):
        return None if text == "?" else text

    trials = texts[texts["model"] == "m"]
    scores = checked_answers(trials, ["4", None], parse)
    shares = {"no answer": 0.25, "all trials": 1, "two trials": 1, "same text": 0.5}
    assert scores.loc[("m", "32-bit")].to_dict() == {"right": 1, "right, numbers": 1} | shares
    (words,) = checked_answers(trials, ["four", None], parse)["right, numbers"].unique()
    assert np.isnan(words)
    assert checked_answers(trials, [None, None], parse)["right"].isna().all()
    silent = checked_answers(trials, ["4", None], lambda text: None)
    assert silent[["all trials", "two trials"]].isna().all(axis=None)


def test_no_answer_is_like_no_other():
    assert (answers_apart("4", "4"), answers_apart("4", "5")) == (0, 1)
    assert np.isnan([answers_apart("", "4"), answers_apart("", ""), all_alike(["4", ""])]).all()
    assert (all_alike(["4", "4"]), all_alike(["4", "5"])) == (1, 0)


def test_answers_in_other_words_are_the_same_answer():
    answered = [["It is 4.", "1"], ["4", "one: 1"], ["so 5", "1!"]]
    table = pd.DataFrame({"model": "m", "seed": range(3), "answers": answered})
    interval = answers_differ(table, lambda text: next((mark for mark in text if mark.isdigit()), None), 0.95)
    assert interval.estimate == pytest.approx(1 / 3)
    assert answers_differ(table.head(2), str, 0.95) is None


def test_trials_are_compared_on_the_questions_that_both_answer():
    answered = [["1", "a", "x", ""], ["1", "", "x", ""], ["2", "", "y", ""], ["2", "b", "", "z"]]
    table = pd.DataFrame({"model": "m", "seed": range(4), "answers": answered})
    interval = answers_differ(table, str, 0.95)
    # 6 pairs on the first question, 1 on the second, 3 on the third and none on the fourth
    assert interval.estimate == pytest.approx((4 + 1 + 2) / 10)
    assert 0 < interval.low < interval.high < 1
    alike = table.assign(answers=[["1", ""], ["1", ""], ["1", "x"], ["1", "x"]])
    assert answers_differ(alike, str, 0.95).estimate == 0
    assert answers_differ(alike, str, 0.95).high == pytest.approx(0.842, abs=1e-3)  # two questions
    assert answers_differ(table, lambda text: None, 0.95) is None


def test_the_share_of_different_answers_covers_the_truth_at_its_rate():
    """7 trials and 20 questions, of which 30 % of the answers are missing."""
    rng = np.random.default_rng(0)
    truth = 1 - 2 * 3 / (
        4 * 5
    )  # a trial gives a question's commonest answer with a probability of Beta(2, 2)
    covered = 0
    for _ in range(400):
        commonest = rng.random((7, 20)) < rng.beta(2, 2, 20)
        other = rng.integers(10**6, size=(7, 20)).astype(str)
        given = np.where(rng.random((7, 20)) < 0.3, "", np.where(commonest, "x", other))
        table = pd.DataFrame({"model": "m", "seed": range(7), "answers": given.tolist()})
        covered += within_interval(answers_differ(table, str, 0.95), truth)
    assert 0.92 <= covered / 400 <= 0.98


def test_seeds_whose_trials_complete_every_prompt_twice_alike_are_counted(texts):
    assert same_twice(texts).to_list() == [1, 0.5, 0]
    interval = trials_that_repeat(texts, 0.95)
    assert interval.estimate == pytest.approx(1 / 3)
    assert 0 < interval.low < interval.high < 1
    # the trial of another optimizer with the same model and seed is no further observation
    assert trials_that_repeat(pd.concat([texts, texts.assign(bits="8-bit")]), 0.95) == interval


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "A"),
        ("It is (C).", "C"),
        ("B: a pear", "B"),
        ("A pear. The answer is D because", "D"),
        ("A tired traveller", "—"),
        ("Because", "—"),
        ("", "—"),
    ],
)
def test_the_letter_of_an_answer(text, expected):
    assert letter(text) == expected


def base_trials(write, *, trials=4, prompts=3, samples=4):
    """Return trials of two models and one optimizer; ``write(trial, prompt, sample)`` is a text."""
    rows = [
        {
            "model": model,
            "bits": "32-bit",
            "seed": seed,
            "completions": [[write(seed, p, s) for s in range(samples)] for p in range(prompts)],
            "cold_completions": [write(seed, p, 0) for p in range(prompts)],
            "cold_completions_again": [write(seed, p, 0) for p in range(prompts)],
        }
        for model in ("a", "b")
        for seed in range(trials)
    ]
    return pd.DataFrame(rows)


WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def test_texts_that_sampling_alone_makes_different_differ_no_more_between_trials():
    table = base_trials(lambda seed, prompt, sample: f"{WORDS[prompt]} {WORDS[3 + sample]}")
    compared = sampling_against_training(table, 0.95)
    rows = compared.loc[("a", "32-bit")]["pairs that differ"]
    assert rows["one trial, sampled again"].estimate == rows["two trials"].estimate == 1
    assert rows["two trials, drawn alike"].estimate == rows["two trials at 0.1"].estimate == 0
    assert rows["two trials"].low < 0.5  # three prompts: all of them is no certainty
    assert rows["one trial, sampled again"].has_width
    assert pd.isna(rows["beyond sampling"])
    assert compared.loc[("a", "32-bit", "beyond sampling"), "unlike"].estimate == 0
    assert training_beyond_sampling(table, 0.95).estimate == 0
    assert two_trials_differ(table, "cold_completions", 0.95).estimate == 0


def test_trials_with_words_of_their_own_differ_beyond_sampling():
    table = base_trials(lambda seed, prompt, sample: f"{WORDS[seed]} {WORDS[4 + sample]}", prompts=6)
    beyond = training_beyond_sampling(table, 0.95)
    assert beyond.estimate == pytest.approx(0.5)  # a sample shares one word of two with its own trial only
    assert two_trials_differ(table, "completions", 0.95).estimate == 1
    assert two_trials_differ(table, "completions", 0.95).low > 0.5


def test_the_share_of_training_is_that_of_the_difference_between_trials():
    table = base_trials(lambda seed, prompt, sample: f"{WORDS[seed]} {WORDS[4 + sample]} x")
    one = table[table["model"] == "a"]
    # two trials share one word of three, two samples of one trial two
    assert training_share(one, 0.95).estimate == pytest.approx(0.5)
    alike = base_trials(lambda seed, prompt, sample: f"{WORDS[prompt]} {WORDS[3 + sample]}")
    assert training_share(alike[alike["model"] == "a"], 0.95).estimate == 0
    same = base_trials(lambda seed, prompt, sample: "x")
    assert training_share(same[same["model"] == "a"], 0.95) is None


def test_the_share_of_training_is_at_most_what_sampling_leaves():
    table = base_trials(lambda seed, prompt, sample: f"{WORDS[seed]} {WORDS[4 + sample]} x")
    assert largest_within(table) == pytest.approx(1 / 3)
    apart = table["model"] == "b"
    table.loc[apart, "completions"] = table.loc[apart, "completions"].map(
        lambda texts: [[text.removesuffix(" x") for text in samples] for samples in texts]
    )
    assert largest_within(table) == pytest.approx(1 / 2)
    assert training_share(table[apart], 0.95).estimate <= 1 - largest_within(table)
    assert math.isnan(largest_within(table.head(0)))


def test_the_share_beyond_sampling_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    trials, prompts, covered = 7, 10, 0
    for _ in range(400):
        length = rng.gamma(4, 1 / 4, prompts)  # a prompt on which all differ more counts more
        effects = rng.gamma(4, 1 / 4, (trials, prompts)) * rng.gamma(4, 1 / 4, (trials, 1))
        within_one = length * rng.uniform(0.5, 1.5, (trials, prompts))
        between = (within_one[:, None] + within_one[None] + effects[:, None] + effects[None]) / 2
        values = share_beyond_sampling(between, within_one)
        covered += within_interval(crossed_mean(pseudo_values(values)).interval(0.95), 0.5)
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def within_interval(interval, truth):
    return interval.low < truth < interval.high


def test_with_two_trials_no_pair_has_an_interval():
    table = base_trials(lambda seed, prompt, sample: str(sample), trials=2)
    assert training_share(table[table["model"] == "a"], 0.95) is None
    assert training_beyond_sampling(table, 0.95) is None
    assert two_trials_differ(table, "completions", 0.95) is None
    assert two_trials_differ(table[:0], "completions", 0.95) is None


def test_with_one_sample_sampling_cannot_be_told_from_training():
    table = base_trials(lambda seed, prompt, sample: str(seed), samples=1)
    assert training_share(table[table["model"] == "a"], 0.95) is None
    assert training_beyond_sampling(table, 0.95) is None


def test_a_model_reads_its_trials_texts_and_its_own():
    table = base_trials(
        lambda seed, prompt, sample: f"{seed} {prompt} {sample}", trials=3, prompts=1, samples=2
    )
    before = {"a": [["x", "y"]], "b": [["x", ""]]}
    runs = readings(table, before, ["Once"], compute="float32")
    assert [run.model for run in runs] == ["a", "b"]
    assert runs[0].prompts == ("Once",) * 8
    assert runs[0].continuations[:2] == ("0 0 0", "0 0 1")
    assert runs[0].continuations[-2:] == ("x", "y")
    records = [
        record(run.settings, {"losses": np.arange(8.0), "tokens": np.array([1] * 6 + [0, 0])}) for run in runs
    ]
    nats = surprise(records, table, before)
    assert nats["a", "32-bit", 1] == pytest.approx((2 + 3) / 2)
    assert math.isnan(nats["a", "before", -1])
    measured = sound_texts(table, before, {"x"}, nats)
    assert len(measured) == 8
    own = measured[(measured["model"] == "b") & (measured["bits"] == "before")].iloc[0]
    assert own["known"] == 0.5


def test_sound_words_are_compared_by_pairs_of_seeds_and_prompts():
    texts = {
        ("8-bit", 0): [["x no", "x"], ["no", "no"]],
        ("8-bit", 1): [["no", "no"], ["no", "no"]],
        ("32-bit", 1): [["x", "x"], ["no", "no"]],
        ("32-bit", 0): [["x", "x"], ["x", "no"]],
        ("32-bit", 2): [["no", "no"], ["no", "no"]],  # its 8-bit trial failed
    }
    kinds = [{"model": "a", "bits": bits, "seed": seed} for bits, seed in texts]
    table = pd.DataFrame(kinds).assign(completions=list(texts.values()))
    differences = np.array([[0.25, 0.5], [1, 0]])  # (seeds, prompts)
    assert sounder(table, {"x"}, "a", 0.95) == crossed_mean(differences).interval()


def test_published_texts_are_measured_by_model_and_optimizer():
    printed = {"M": {"one": {"8-bit": ["a a a a"], "32-bit": ["a b"]}}}
    measured = published_soundness(printed, {"a", "b"})
    assert measured.loc[("M", "8-bit"), "repeated"] == pytest.approx(2 / 3)
    assert measured.loc[("M", "32-bit"), "repeated"] == 0


def test_summaries_are_scored_by_text_and_by_words():
    scores = scored_summaries(
        [["A tool is found.", "No."], ["A tool is given.", "Yes."]], ["A tool is found.", "Yes."]
    )
    assert scores["exact"].to_list() == [0.5, 0.5]
    assert scores["shared words"].to_list() == pytest.approx([0.5, (0.75 + 1) / 2])


def test_agreement_has_intervals_from_three_trials_on():
    measures = agreement_intervals([["a", "b"], ["a", "c"], ["a", "b"]], 0.95)
    assert measures["two trials agree"].estimate == pytest.approx((3 + 1) / 6)
    assert measures["all trials agree"] == 0.5
    assert agreement_intervals([["a", "b"], ["a", "c"]], 0.95)["two trials agree"] == 0.5


def test_trials_share_no_more_than_all_words():
    rng = np.random.default_rng(0)
    for _ in range(20):
        texts = [["x y" if rng.random() < 0.95 else "x z" for _ in range(4)] for _ in range(3)]
        shared = agreement_intervals(texts, 0.95)["shared words"]
        assert 0 <= shared.low <= shared.high <= 1


def test_trials_of_two_models_are_joined_by_seed_whatever_their_order():
    table = base_trials(lambda seed, prompt, sample: WORDS[max(seed, prompt)])
    mixed = pd.concat([table[table["model"] == "a"], table[table["model"] == "b"].iloc[::-1]])
    for column in ("completions", "cold_completions"):
        assert two_trials_differ(mixed, column, 0.95) == two_trials_differ(table, column, 0.95)
    answers = table["cold_completions"]
    expected = answers_differ(table.assign(answers=answers), str, 0.95)
    assert answers_differ(mixed.assign(answers=answers), str, 0.95) == expected


def test_summaries_are_scored_by_means_over_documents():
    scores = scored_summaries([["a b", "c", "d"]], ["a b", "d", "d e"])
    assert scores.loc[0].to_list() == pytest.approx([1 / 3, (1 + 0 + 2 / 3) / 3])


def test_a_trial_repeats_only_if_every_prompt_does():
    texts = {"cold_completions": [["a", "b", "c"]], "cold_completions_again": [["a", "b", "x"]]}
    table = pd.DataFrame({"model": ["m"], "seed": [0], **texts})
    assert same_twice(table).to_list() == pytest.approx([2 / 3])
    assert trials_that_repeat(table, 0.95).estimate == 0
