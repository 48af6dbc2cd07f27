"""Paper 3's plan of trials, and the tables that are made of their records."""

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lib.paper3.tables import (
    answers,
    as_printed,
    by_trial,
    checked_answers,
    comparisons,
    completions,
    distinct_texts,
    explosion_table,
    factorial_table,
    frame,
    letter,
    letters,
    printed_grids,
    repeats,
    same_twice,
    side_by_side,
)
from lib.paper3.trials import (
    explosion_candidates,
    factorial,
    label_task,
    sweep_parts,
    trials_of,
    with_both_optimizers,
)
from lib.qlora import Recipe, Sources, Trial
from lib.runs import Record

RECIPE = Recipe(epochs=1, learning_rate=2e-3)


def record(run, **result):
    return Record(
        settings=run.settings,
        status="done" if result else "failed",
        reason=None if result else "Boom",
        result=result,
        provenance={},
        device="cpu",
        versions={},
        seconds=1.0,
        peak_memory=0,
        attempts=1,
        run=run,
    )


def trial(seed, repetition=0):
    (run,) = trials_of("m", "t", [RECIPE], [seed], repetition=repetition)
    return run


def test_each_model_has_a_trial_per_optimizer_and_seed():
    trials = with_both_optimizers({"a": RECIPE, "b": RECIPE}, [3, 4], repetition=1)
    kinds = [(run.model, run.task, run.recipe.bits, run.seed, run.repetition) for run in trials]
    assert kinds == [(m, m, bits, s, 1) for m in "ab" for bits in ("8-bit", "32-bit") for s in (3, 4)]
    assert all(run.sources == Sources.same(run.seed) for run in trials)


def test_a_factorial_design_has_every_combination_once():
    design = factorial("m", "t", RECIPE, levels=3, first_seed=5)
    assert len({(run.sources, run.recipe.attention) for run in design}) == len(design) == 54
    assert {run.sources.order for run in design} == {5, 6, 7}
    assert {run.seed for run in design} == {5}


def test_single_changes_come_before_combinations():
    candidates = explosion_candidates(RECIPE)
    changed = [
        sum(value != getattr(RECIPE, name) for name, value in vars(recipe).items())
        for recipe in candidates.values()
    ]
    assert changed[0] == 0
    assert changed == sorted(changed)


def test_a_plan_is_one_sweep_and_its_records_come_back_in_parts():
    class Study:
        sweeps = 0

        def sweep(self, runs, *, material):
            self.sweeps += 1
            return [(run.seed, material) for run in runs]

    study, plan = Study(), {"trials": [trial(1), trial(2)], "repetitions": [trial(1)], "none": []}
    parts = sweep_parts(study, plan, material="m")
    assert parts == {"trials": [(1, "m"), (2, "m")], "repetitions": [(1, "m")], "none": []}
    assert study.sweeps == 1


def test_a_text_is_asked_for_its_class_and_answered_by_name():
    labels = ClassLabel(names=["negative", "positive"])
    rows = {"text": ["bon", "nul"], "label": [1, 0]}
    split = Dataset.from_dict(rows, features=Features({"text": Value("string"), "label": labels}))
    task, true = label_task("llama", DatasetDict(train=split, test=split))
    assert task.train[0] == "<s><INST>bon\nIs this negative or positive?</INST>positive</s>"
    assert task.questions[1] == "<s><INST>nul\nIs this negative or positive?</INST>"
    assert task.options == ["negative", "positive"]
    assert true == ["positive", "negative"]


def test_a_table_of_trials_has_log_perplexities_and_failed_runs():
    table = frame([record(trial(0), perplexity=np.e, perplexity_unmerged=1.0), record(trial(1))])
    assert table["nats"][0] == table["lost"][0] == 1
    assert table["status"].to_list() == ["done", "failed"]
    assert table["bits"].to_list() == ["32-bit"] * 2
    assert table["nats"].isna()[1]


def test_only_records_of_trials_make_a_table():
    with pytest.raises(TypeError, match="the record of a trial is required"):
        frame([Record({}, "done", None, {}, {}, "cpu", {}, 0.0, 0, 1)])


def test_a_design_shows_its_factors_instead_of_the_orders_fingerprint():
    design = factorial("m", "t", RECIPE, levels=2, first_seed=0)
    records = [record(run, order="hash", perplexity=1.0, perplexity_unmerged=1.0) for run in design]
    table = factorial_table(records)
    assert set(table["order"]) == {0, 1}
    assert set(table["kernel"]) == {"sdpa", "eager"}


def test_candidates_are_named_and_measured_from_the_pre_trained_model():
    candidates = {"none": RECIPE, "faster": Recipe(learning_rate=0.1)}
    result = {"perplexity": np.e, "perplexity_unmerged": 1.0, "state_dtypes": ["uint8"]}
    runs = trials_of("m", "t", candidates.values(), [0, 1])
    table = explosion_table([record(run, **result) for run in runs], candidates, pretrained_nats=0.25)
    assert table["changed"].to_list() == ["none", "none", "faster", "faster"]
    assert set(table["above"]) == {0.75}
    assert set(table["states"]) == {"uint8"}


def test_same_seeds_and_different_seeds_are_counted_separately():
    trials = [record(trial(0)), *(record(trial(n), adapter=a) for n, a in ((1, "a"), (2, "b"), (3, "b")))]
    counts = repeats(trials, [record(trial(1, repetition=1), adapter="a")], ["adapter"])
    assert counts.loc[("same seeds, twice", "m", "32-bit"), "adapter"] == 1
    assert counts.loc[("different seeds", "m", "32-bit"), "adapter"] == 2


def test_measured_and_published_values_have_one_form():
    table = pd.DataFrame(
        {
            "model": ["m"] * 4,
            "bits": ["8-bit"] * 2 + ["32-bit"] * 2,
            "seed": [8, 7, 7, 8],
            "x": [2.0, 1, 3, 4],
        }
    )
    measured = by_trial(table, "x")
    assert measured["m", "8-bit"].to_list() == [1, 2]
    assert measured.equals(as_printed({"M": {"8-bit": [1.0, 2], "32-bit": [3.0, 4]}}, {"m": "M"}))


def test_optimizers_are_compared_on_the_trials_that_both_have():
    columns = pd.MultiIndex.from_product([["m"], ["8-bit", "32-bit"]], names=["model", "bits"])
    values = pd.DataFrame(np.exp([[1.0, 0.5], [2.0, 1.0], [3.0, 2.5], [9.0, np.nan]]), columns=columns)
    compared = comparisons(values, paired=True, confidence=0.95)
    assert compared.loc["m", "difference"] == pytest.approx(2 / 3)


def test_grids_of_printed_values():
    grids = printed_grids({"coarse": [0.25, 0.75, 0.25], "none": [0.123, 0.456, 0.789]}, decimals=3)
    assert grids["grid"].to_list() == ["1/4", "none"]
    assert grids["multiples of it"].to_list() == ["1, 3, 1", ""]
    assert grids.loc["coarse", "chance that all fit"] == pytest.approx(0.008**3)
    assert grids["equal values"].to_list() == [1, 0]


@pytest.fixture
def texts():
    return pd.DataFrame(
        {
            "model": ["m", "m", "other"],
            "bits": ["32-bit", "32-bit", "32-bit"],
            "seed": [8, 7, 7],
            "completions": [["p", "second"], ["p", "first"], ["p", "no"]],
            "cold_completions": [["a", "b"], ["a", "c"], ["d", "e"]],
            "cold_completions_again": [["a", "b"], ["a", "x"], ["x", "x"]],
            "answers": [["4", "B"], ["4", "?"], ["?", "?"]],
        }
    )


def test_completions_stand_beside_the_published_ones_trial_by_trial(texts):
    shown = side_by_side(texts, "m", 1, {"8-bit": ["x", "y", "z"], "32-bit": ["u", "v", ""]})
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


def test_answers_are_checked_where_there_is_a_reference(texts):
    trials = texts[texts["model"] == "m"]
    scores = checked_answers(trials, ["4", None], parse=lambda text: None if text == "?" else text)
    shares = {"right": 1, "no answer": 0.25, "all trials": 0.5, "two trials": 0.5}
    assert scores.loc[("m", "32-bit")].to_dict() == shares
    assert checked_answers(trials, [None, None], parse=str)["right"].isna().all()


def test_texts_are_counted_per_prompt(texts):
    assert same_twice(texts).to_list() == [1, 0.5, 0]
    counts = distinct_texts(texts, "completions")
    assert counts.loc[("m", "32-bit")].to_list() == [0.5, 1]
    assert counts.columns.to_list() == ["prompt 1", "prompt 2"]


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


def test_trials_with_the_same_fields_are_equal():
    assert trial(1) == Trial(1, model="m", task="t", recipe=RECIPE, sources=Sources(1, 1, 1))
