"""Paper 3's plan of trials, and the tables that are made of their records."""

import math
import shutil
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from scipy import stats
from small import save_model
from transformers import LlamaConfig

from lib.claims import load_claims, published
from lib.errors import InputError
from lib.intervals import proportion_interval, sd_factors
from lib.paper3.chats import Chat
from lib.paper3.own_numbers import (
    ARCHITECTURES,
    VOCABULARY,
    expected_memory,
    judged_by_itself,
    lora_parameters,
    own_measurements,
    time_ratios,
)
from lib.paper3.tables import (
    as_printed,
    by_text,
    by_trial,
    comparisons,
    departures,
    difference_interval,
    explosion_table,
    factorial_table,
    frame,
    memory_table,
    paired_table,
    printed_grids,
    printed_values,
    published_excess,
    reached,
    repeats,
    repetitions_alike,
    signature,
    single_source,
    times,
)
from lib.paper3.trials import (
    beginnings,
    explosion_candidates,
    factorial,
    instruction_task,
    label_task,
    summary_task,
    sweep_parts,
    trials_of,
    with_both_optimizers,
)
from lib.qlora import Material, Recipe, Sources, Task, Trial
from lib.qlora.causal_models import load_tokenizer
from lib.repeatability import compare, holm
from lib.runs import Record
from lib.study import Study

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


def result(perplexity=1.0, **others):
    """Return a trial's result of which a test needs only some values."""
    return {
        "perplexity": perplexity,
        "perplexity_unmerged": 1.0,
        "vocabulary": 100,
        "model_bytes": 1_000,
        "adapter_bytes": 10,
        "state_bytes": 20,
        **others,
    }


def trial(seed, repetition=0):
    (run,) = trials_of("m", "t", [RECIPE], [seed], repetition=repetition)
    return run


def test_each_model_has_a_trial_per_optimizer_and_seed():
    trials = with_both_optimizers({"a": RECIPE, "b": RECIPE}, [3, 4])
    kinds = [(run.model, run.task, run.recipe.bits, run.seed) for run in trials]
    assert kinds == [(m, m, bits, s) for m in "ab" for bits in ("8-bit", "32-bit") for s in (3, 4)]
    assert all(run.sources == Sources.same(run.seed) for run in trials)


def test_repetitions_differ_in_their_number_alone_and_none_is_a_trial_that_had_company():
    (once, *_) = with_both_optimizers({"a": RECIPE}, [3])
    twice = with_both_optimizers({"a": RECIPE}, [3], repetitions=2)
    assert [run.repetition for run in (once, *twice)] == [0, 1, 1, 2, 2]
    assert [replace(run, repetition=0) for run in twice[::2]] == [once, once]


def test_a_factorial_design_has_every_combination_once():
    design = factorial("m", "t", RECIPE, levels=3, first_seed=5)
    assert len({run.sources for run in design}) == len(design) == 27
    assert {run.recipe for run in design} == {RECIPE}
    assert {run.sources.order for run in design} == {5, 6, 7}
    assert {run.seed for run in design} == {5}


def test_prompts_are_distinct_beginnings_of_test_quotes():
    quotes = Dataset.from_dict({"quote": ["a b c d", "a b c e", "f g", "h i j"]})
    assert beginnings(DatasetDict(train=quotes, test=quotes), 2) == ["a b c", "f g"]


def test_single_changes_come_before_combinations():
    candidates = explosion_candidates(RECIPE)
    changed = [
        sum(value != getattr(RECIPE, name) for name, value in vars(recipe).items())
        for recipe in candidates.values()
    ]
    assert changed[0] == 0
    assert changed == sorted(changed)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The folder of a small Llama with a context of 1,024 tokens."""
    folder = tmp_path_factory.mktemp("llama")
    save_model("llama", folder)
    return folder


class Sweeps:
    """Stands for a study: counts sweeps and carries nothing out."""

    def __init__(self):
        self.number = 0

    def sweep(self, runs, *, material, together):
        self.number += 1
        return [(run.seed, material, together) for run in runs]


def test_a_plan_is_one_sweep_and_its_records_come_back_in_parts(llama, tmp_path):
    material = Material({"m": str(llama)}, {"t": Task(["one two"], ["three four"])}, tmp_path, "cpu")
    study, plan = Sweeps(), {"trials": [trial(1), trial(2)], "repetitions": [trial(1)], "none": []}
    parts = sweep_parts(study, plan, material=material, together=7)
    first, second = (1, material, 7), (2, material, 7)
    assert parts == {"trials": [first, second], "repetitions": [first], "none": []}
    assert study.number == 1


def test_a_plan_with_a_prompt_beyond_a_models_context_is_refused_before_its_sweep(llama, tmp_path):
    tasks = {
        "t": Task(["one two"], ["three four"]),
        "long": Task(["one two"], ["three four"], questions=["a " * 1_000], answer_tokens=30),
    }
    material = Material({"m": str(llama)}, tasks, tmp_path, "cpu")
    study, plan = Sweeps(), {"trials": [trial(1)], "others": trials_of("m", "long", [RECIPE], [1])}
    with pytest.raises(InputError, match=r"^model '.*': a prompt of \d+ tokens, to be continued by 30, .*$"):
        sweep_parts(study, plan, material=material)
    assert study.number == 0
    sweep_parts(study, {"trials": [trial(1)]}, material=material)  # the long task is of no run here


def test_a_plan_with_a_piece_without_an_embedding_is_refused_before_its_sweep(llama, tmp_path):
    folder = tmp_path / "llama"
    shutil.copytree(llama, folder)
    tokenizer, config = load_tokenizer(folder), LlamaConfig.from_pretrained(folder)
    config.vocab_size = len(tokenizer)
    config.save_pretrained(folder)
    tokenizer.add_tokens(["<pad>"])  # the only piece beyond the embeddings
    tokenizer.save_pretrained(folder)
    task = Task(["one two"], ["three four"], prompts=["one"])
    tasks = {"t": task, "padded": replace(task, prompts=["<pad>"])}
    material = Material({"m": str(folder)}, tasks, tmp_path, "cpu")
    study = Sweeps()
    sweep_parts(study, {"trials": [trial(1)]}, material=material)  # no text has it
    line = rf"^model '.*': its tokenizer numbers a piece of '<pad>' {config.vocab_size}; allowed: below "
    with pytest.raises(InputError, match=line):
        sweep_parts(study, {"trials": trials_of("m", "padded", [RECIPE], [1])}, material=material)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})  # read after completions that end before others
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match=line):
        sweep_parts(study, {"trials": [trial(1)]}, material=material)
    learned = Material({"m": str(folder)}, {"t": replace(task, prompts=[])}, tmp_path, "cpu")
    sweep_parts(study, {"trials": [trial(1)]}, material=learned)
    assert study.number == 2


def test_a_training_text_whose_answer_would_be_cut_is_refused_before_its_sweep(llama, tmp_path):
    task = Task(["one two", "three four five six"], ["three four"], given=["one", "three four five"])
    material = Material({"m": str(llama)}, {"t": task}, tmp_path, "cpu")
    study = Sweeps()
    plan = {"trials": trials_of("m", "t", [replace(RECIPE, max_length=8)], [1])}
    with pytest.raises(InputError, match=r"^training text 1 has \d+ tokens, allowed is max_length = 8: "):
        sweep_parts(study, plan, material=material)
    assert study.number == 0


def test_a_chat_models_task_beyond_its_context_is_refused_when_it_is_made(llama):
    chat, beyond = Chat.of(llama, "paper"), "a " * 1_100
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    labelled = Dataset.from_dict({"text": [beyond, "b"], "label": [1, 0]}, features=features)
    documents = Dataset.from_dict({"document": [beyond], "summary": ["a"]})
    rows = Dataset.from_dict({"instruction": ["a", beyond], "output": ["b", "b"]})
    splits = [DatasetDict(train=split, test=split) for split in (labelled, documents, rows)]
    for make in (
        lambda: label_task(chat, splits[0]),
        lambda: summary_task(chat, splits[1], new_tokens=5),
        lambda: instruction_task(chat, splits[2], [], answered=2, new_tokens=5),
    ):
        with pytest.raises(InputError, match="exceeds its context of 1024 tokens"):
            make()
    assert len(instruction_task(chat, splits[2], ["c"], answered=1, new_tokens=5).questions) == 1


@pytest.mark.parametrize(("asked", "expected"), [(None, True), (False, False), (True, True)])
def test_a_study_sweeps_with_the_kernels_asked_for(monkeypatch, tmp_path, asked, expected):
    class Settings:
        cache_dir = figure_dir = tmp_path
        engine, workers, deterministic = "local", 1, True
        torch_device = torch.device("cpu")

    given = {}
    monkeypatch.setattr("lib.study.sweep", lambda runs, inputs, **how: given.update(how))
    Study(paper=3, settings=Settings()).sweep([], deterministic=asked)
    assert given["deterministic"] is expected


def test_a_text_is_asked_for_its_class_and_answered_by_name(llama):
    labels = ClassLabel(names=["negative", "positive"])
    rows = {"text": ["bon", "nul"], "label": [1, 0]}
    split = Dataset.from_dict(rows, features=Features({"text": Value("string"), "label": labels}))
    task, true = label_task(Chat.of(llama, "paper"), DatasetDict(train=split, test=split))
    assert task.train[0] == "<s><INST>bon\nIs this negative or positive?</INST>positive</s>"
    assert task.questions[1] == "<s><INST>nul\nIs this negative or positive?</INST>"
    assert task.given[0] == "<s><INST>bon\nIs this negative or positive?</INST>"
    assert task.options == ["negative", "positive"]
    assert true == ["positive", "negative"]


def test_a_chat_model_is_asked_as_its_own_template_says(tmp_path):
    save_model("llama", tmp_path)
    without = Chat(tmp_path, "llama")
    assert Chat.of(tmp_path, "template") == Chat.of(tmp_path, "paper") == without  # it has none
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.chat_template = (
        "{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}[end]{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    own = Chat.of(tmp_path, "template")
    assert own.asked("Why?") == "[user]Why?[end][assistant]"
    assert own.answered("Why?", "So.") == "[user]Why?[end][assistant]So.[end]"
    assert Chat.of(tmp_path, "paper").answered("Why?", "So.") == "<s><INST>Why?</INST>So.</s>"


def test_a_summary_is_learned_and_its_document_only_read(llama):
    split = Dataset.from_dict({"document": ["It rained all day."], "summary": ["Rain."]})
    task, true = summary_task(Chat.of(llama, "paper"), DatasetDict(train=split, test=split), new_tokens=7)
    assert task.given == task.questions == ["<s><INST>Summarise: It rained all day.</INST>"]
    assert task.train == ["<s><INST>Summarise: It rained all day.</INST>Rain.</s>"]
    assert (true, task.answer_tokens) == (["Rain."], 7)


def test_a_table_of_trials_has_log_perplexities_and_failed_runs():
    table = frame([record(trial(0), **result(np.e)), record(trial(1))])
    assert table["nats"][0] == table["lost"][0] == 1
    assert table["status"].to_list() == ["done", "failed"]
    assert table["bits"].to_list() == ["32-bit"] * 2
    assert table[["nats", "scored_nats"]].isna().all(axis="columns").to_list() == [False, True]
    assert table["total_bytes"][0] == 1_030


@pytest.mark.parametrize("failed", [[0, 1], []])
def test_trials_that_all_failed_make_tables_without_results(failed):
    records = [record(trial(seed)) for seed in failed]
    table = frame(records)
    assert table["status"].to_list() == ["failed"] * len(failed)
    assert table[["nats", "lost", "scored_nats", "total_bytes", "train_seconds"]].isna().all(axis=None)
    assert table["company"].str.len().isna().all()
    assert paired_table(records).empty
    outcomes = explosion_table(records, {"none": RECIPE}, 1.0)
    assert outcomes["above"].isna().all()
    assert len(by_trial(table, "perplexity")) == len(failed)


def test_outputs_that_are_not_finite_are_scored_as_a_uniform_guess():
    table = frame([record(trial(0), **result(np.inf)), record(trial(1), **result(np.e))])
    assert table["nats"][0] == np.inf
    assert table["scored_nats"].to_list() == pytest.approx([np.log(100), 1])


def test_only_records_of_trials_make_a_table():
    with pytest.raises(TypeError, match="the record of a trial is required"):
        frame([Record({}, "done", None, {}, {}, "cpu", {}, 0.0, 0, 1)])


def test_a_design_shows_its_factors_instead_of_the_orders_fingerprint():
    design = factorial("m", "t", RECIPE, levels=2, first_seed=0)
    table = factorial_table([record(run, **result(2.0, order="hash")) for run in design])
    assert set(table["order"]) == {0, 1}
    assert set(table["kernel"]) == {"sdpa"}
    assert table["printed"].to_list() == pytest.approx([2_000.0] * 8)
    assert set(table["printed_unmerged"]) == {1_000.0}


def test_a_pair_of_kernels_shows_whether_the_adapters_are_the_same():
    values = [("a", 1.0), ("a", 1.0), ("b", 1.0), ("c", np.e)]
    records = [
        record(run, **result(adapter=adapter, perplexity_unmerged=perplexity, perplexity=perplexity**2))
        for run, (adapter, perplexity) in zip(2 * [trial(0)] + 2 * [trial(1)], values, strict=True)
    ]
    table = paired_table([*records, record(trial(2)), record(trial(2), **result(adapter="d"))])
    assert table["same adapter"].to_list() == [True, False]
    assert table["unmerged"].to_list() == pytest.approx([0, 1])
    assert table["merged"].to_list() == pytest.approx([0, 2])


def test_one_source_alone_is_reseeded_with_the_others_fixed():
    design = pd.DataFrame([(a, b, 10 * a + b) for a in (0, 1) for b in (0, 1)], columns=["a", "b", "printed"])
    # the levels of a differ by 10, whatever b: standard deviation 10 / sqrt(2)
    assert single_source(design, "a", ["b"], 0.95).estimate == pytest.approx(10 / np.sqrt(2))
    assert single_source(design, "b", ["a"], 0.95).estimate == pytest.approx(1 / np.sqrt(2))


def test_the_interval_of_a_single_source_covers_the_truth_at_least_at_its_rate():
    rng = np.random.default_rng(0)
    levels = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    design = pd.DataFrame(levels, columns=["a", "b", "c"])
    hits = 0
    for _ in range(200):
        effects = {name: rng.normal(0, 2.0, 3) for name in "abc"}
        values = sum(effects[name][design[name]] for name in "abc") + rng.normal(0, 1, len(design))
        interval = single_source(design.assign(printed=values), "a", ["b", "c"], 0.95)
        hits += interval.low <= np.sqrt(5) <= interval.high
    assert hits >= 184  # 92 %: binomial(200, 0.95) is below that with a probability of 2 %


EXCESS = pd.DataFrame(
    {
        "model": ["one"] * 3 + ["two"] * 3,
        "above": [4.0, 5.0, 7.0, 0.5, 0.7, 10.0],
        "of_guess": [0.4, 0.5, 0.7, 0.05, 0.07, 1.0],
    }
)


def test_published_trials_are_measured_from_the_pre_trained_model_and_a_uniform_guess():
    excess = published_excess({"m": {"8-bit": [10.0, 1_000.0]}}, {"m": 10.0}, {"m": 100})
    assert excess["above"].to_list() == pytest.approx([0, np.log(100)])
    assert excess["of_guess"].to_list() == pytest.approx([0, 2])


def test_a_gap_within_a_model_separates_two_modes():
    modes = signature(EXCESS).set_index(["model", "mode"])
    assert modes.index.to_list() == [("one", "only"), ("two", "low"), ("two", "high")]
    assert modes["trials"].to_list() == [3, 2, 1]
    assert modes.loc[("two", "low"), ["low", "high", "of_guess_high"]].to_list() == [0.5, 0.7, 0.07]


def test_the_published_explosion_is_that_of_the_paper():
    values = published(3)
    excess = published_excess(values["perplexity"], values["pretrained_perplexity"], VOCABULARY)
    modes = signature(excess).set_index(["model", "mode"])
    assert modes.loc[("GPT-NeoX-20B", "only"), ["low", "high"]].to_list() == pytest.approx(
        [4.0, 7.3], abs=0.02
    )
    low, high = (modes.loc[("Llama2-7B", mode)] for mode in ("low", "high"))
    assert [low["low"], low["high"]] == pytest.approx([0.57, 0.74], abs=0.01)
    assert high["of_guess_low"] > 1  # worse than a uniform guess


def test_candidates_are_named_and_measured_from_the_pre_trained_model():
    candidates = {"none": RECIPE, "faster": Recipe(learning_rate=0.1)}
    runs = trials_of("m", "t", candidates.values(), [0, 1])
    own = {"state_dtypes": ["uint8"], "losses": np.full(10, 2.25)}
    records = [record(run, **result(np.e, **own)) for run in runs[:3]] + [record(runs[3])]
    table = explosion_table(records, candidates, pretrained_nats=0.25)
    assert table["changed"].to_list() == ["none", "none", "faster", "faster"]
    assert table["above"].to_list()[:3] == [0.75] * 3
    assert table["of_guess"][0] == pytest.approx(0.75 / (np.log(100) - 0.25))
    assert table["training"].to_list()[:3] == [2.25] * 3  # of other texts: nothing is subtracted
    assert table["states"][0] == "uint8"
    assert table.loc[3, ["above", "training"]].isna().all()  # the failed one


def test_runs_are_counted_within_the_modes_they_reach():
    outcomes = pd.DataFrame(
        {
            "changed": ["a", "a", "a", "b", "b"],
            "above": [3.0, 0.6, np.inf, 30.0, np.nan],
            "of_guess": [0.45, 0.06, np.inf, 3.0, np.nan],
        }
    )
    counts = reached(outcomes, signature(EXCESS))
    assert counts.columns.to_list() == [
        "one",
        "two, low",
        "two, high",
        "beyond a uniform guess",
        "not finite",
    ]
    assert counts.loc["a"].to_list() == [1, 1, 0, 0, 1]
    assert counts.loc["b"].to_list() == [0, 0, 0, 1, 0]


def test_distinct_results_are_counted_by_group_model_and_optimizer():
    groups = {
        "same seeds": [record(trial(0), adapter="a"), record(trial(0, repetition=1), adapter="a")],
        "different seeds": [record(trial(n), adapter=a) for n, a in ((0, "a"), (1, "b"))]
        + [record(trial(2))],
    }
    counts = repeats(groups, ["adapter"])
    assert counts.loc[("same seeds", "m", "32-bit")].to_list() == [2, 1]
    assert counts.loc[("different seeds", "m", "32-bit")].to_list() == [2, 2]  # the failed run is left out


@pytest.mark.parametrize("first", [["a", "a", "b"], ["b", "a", "a"]])
def test_repetitions_are_compared_with_the_commonest_result_of_their_setting(first):
    runs = [trial(seed, repetition) for seed in (0, 1) for repetition in (1, 2, 3)]
    adapters = [*first, "c", "c", "c"]
    records = [record(run, **result(adapter=own)) for run, own in zip(runs, adapters, strict=True)]
    share = repetitions_alike([*records, record(trial(1, 4))], "adapter", 0.95)  # the last one failed
    assert share == proportion_interval(3, 4)
    assert repetitions_alike([records[0], records[3]], "adapter", 0.95) is None


def test_values_by_text_have_the_difference_of_the_log_perplexities_as_their_mean():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 50, 12)
    losses, other = rng.normal(3, 1, (4, 12)) * tokens, rng.normal(2, 1, (4, 12)) * tokens
    values = by_text(losses, other, tokens)
    expected = (losses.sum() - other.sum()) / (4 * tokens.sum())
    assert values.mean() == pytest.approx(expected)
    constant = by_text([0.5 * tokens] * 4, [0 * tokens] * 4, tokens)
    assert np.allclose(constant, 0.5)  # the same for every text: lengths add no variance


def trials_with_losses(losses, tokens, seeds):
    return pd.DataFrame(
        {
            "seed": seeds,
            "merged_losses": list(losses),
            "text_tokens": [tokens] * len(losses),
            "vocabulary": [100] * len(losses),
        }
    )


def test_a_difference_of_perplexities_pairs_seeds_and_scores_a_diverged_model_as_a_guess():
    tokens = np.array([10, 20])
    first = trials_with_losses([[20.0, 50.0], [np.inf, np.inf]], tokens, [1, 2])
    second = trials_with_losses([[0.0, 0.0], [10.0, 20.0], [10.0, 20.0]], tokens, [3, 2, 1])
    first["merged_losses"] = [np.array(value) for value in first["merged_losses"]]
    second["merged_losses"] = [np.array(value) for value in second["merged_losses"]]
    expected = ((70 - 30) / 30 + np.log(100) - 1) / 2
    assert difference_interval(first, second, 0.95).estimate == pytest.approx(expected)
    against = difference_interval(first, np.array([10.0, 20.0]), 0.95)
    assert against.estimate == pytest.approx(expected)


def test_a_difference_of_perplexities_covers_the_truth_at_its_rate():
    rng = np.random.default_rng(0)
    hits, repeated = 0, 400
    for _ in range(repeated):
        tokens = rng.integers(10, 40, 40)
        by_seed, of_text = rng.normal(0.3, 0.05, (7, 1)), rng.normal(0, 0.1, 40)
        noise = rng.normal(0, 0.05, (7, 40))
        losses = (by_seed + of_text + noise) * tokens
        trials = trials_with_losses(losses, tokens, range(7))
        interval = difference_interval(trials, np.zeros(40), 0.95)
        hits += interval.low <= 0.3 <= interval.high
    assert 0.93 <= hits / repeated <= 0.98


def test_perplexities_are_compared_as_printed():
    columns = pd.MultiIndex.from_product([["m"], ["8-bit", "32-bit"]])
    values = pd.DataFrame([[1.0, 2.0], [1.0004, 2.001], [1.5, np.nan]], columns=columns)
    counts = printed_values(values)
    assert counts.loc[("m", "8-bit"), ["different", "trials"]].to_list() == [2, 3]
    assert counts.loc[("m", "8-bit"), "pairs that differ"] == pytest.approx(2 / 3)
    assert counts.loc[("m", "32-bit"), "sd"] == pytest.approx(1 / np.sqrt(2))


def test_memory_is_that_of_model_adapters_and_states():
    table = frame([record(trial(0), **result(trained_parameters=5))])
    memory = memory_table(table, {"M": {"32-bit": 17.0}}, {"m": "M"})
    parts = ["weights", "adapters", "states", "total", "trained", "paper"]
    assert memory.loc[("m", "32-bit"), parts].to_list() == [1_000, 10, 20, 1_030, 5, 17.0]


def test_the_papers_times_are_not_what_it_says_of_them():
    ratios = time_ratios(published(3), 0.95)
    assert ratios.loc["Llama2-7B", "training"].estimate == pytest.approx(0.9991, abs=5e-5)
    assert ratios.loc["GPT-NeoX-20B", "training"].estimate == pytest.approx(1.77, abs=5e-3)
    assert sum(ratio.estimate < 1 for ratio in ratios["testing"]) == 3
    assert (ratios["p training"] < 0.05).to_list() == [True, False, True, True]
    assert (ratios["p testing"] > 0.05).all()


def test_a_ratio_of_times_has_one_published_value():
    ratios, claims = time_ratios(published(3), 0.95), load_claims(3)
    for name, column in (("slower_32_bit", "training"), ("slower_testing_32_bit", "testing")):
        *first, last = (f"{ratio.estimate:.3g}" for ratio in ratios[column])
        assert claims[name].published.startswith(f"{', '.join(first)} and {last} times"), name


def test_what_is_published_of_the_8_bit_trials_is_what_the_tables_have():
    values = published(3)
    said = load_claims(3)["eight_bit_worse"].published
    llama, chat = (sorted(values["perplexity"][f"Llama2-{kind}"]["8-bit"]) for kind in ("7B", "chat-7B"))
    assert f"in four trials and {llama[0]:.1f} to {llama[2]:.1f} in three" in said
    assert llama[3] > 100_000
    assert f"{chat[2]:.0f} to {chat[-1]:,.0f} in five and {chat[0]:.1f} and {chat[1]:.1f} in two" in said
    assert chat[1] < values["pretrained_perplexity"]["Llama2-chat-7B"] < chat[2]


def test_a_departure_has_a_reason_only_where_there_is_one():
    rows = [("rate", 2e-4, 0.002, "few steps"), ("trials", 7, 7, "time"), ("type", "float16", "float32", "")]
    table = departures(rows)
    assert table["why, where they differ"].to_list() == ["few steps", "", ""]
    assert table.loc[0, ["paper", "here"]].to_list() == ["0.0002", "0.002"]


def test_published_times_are_compared_by_welch_and_corrected_by_holm():
    seconds = {"8-bit": [1.0, 1.0, math.e, math.e], "32-bit": [1.0, math.e, math.e**2, math.e]}
    same = {"8-bit": [1.0, 2.0, 3.0, 4.0], "32-bit": [1.0, 2.0, 3.0, 4.0]}
    values = {"m": seconds, "same": same}
    ratios = time_ratios({"models": values, "train_seconds": values, "test_seconds": values}, 0.95)
    # logarithms of means 1/2 and 1, variances 1/3 and 2/3: Welch's degrees of freedom are 27/5
    half = stats.t.ppf(0.975, 27 / 5) * 0.5
    assert ratios.loc["m", "training"] == ratios.loc["m", "testing"]
    assert ratios.loc["m", "training"].estimate == pytest.approx(math.exp(0.5))
    assert ratios.loc["m", "training"].low == pytest.approx(math.exp(0.5 - half))
    assert ratios.loc["m", "p training"] == pytest.approx(2 * 2 * stats.t.sf(1, 27 / 5))
    assert ratios.loc["same", "p testing"] == 1


def test_the_order_of_published_trials_decides_nothing():
    values, claims = deepcopy(published(3)), load_claims(3)
    before = own_measurements(claims, values, 0.95)
    for table in ("perplexity", "train_seconds", "test_seconds"):
        for columns in values[table].values():
            columns["8-bit"] = columns["8-bit"][::-1]
    after = own_measurements(claims, values, 0.95)
    for name in ("eight_bit_worse", "slower_32_bit", "slower_testing_32_bit"):
        ends = [(interval.low, interval.high) for interval in (before[name], after[name])]
        assert ends[0] == pytest.approx(ends[1]), name


def test_the_papers_own_numbers_are_judged_by_its_own_claims():
    claims, values = load_claims(3), published(3)
    judged = judged_by_itself(claims, values, 0.95).set_index("claim")["verdict"]
    assert judged[claims["slower_32_bit"].statement] == "not reproduced"
    assert judged[claims["eight_bit_worse"].statement] == "reproduced"
    measured = own_measurements(claims, values, 0.95)
    assert measured["completions_differ"].estimate == pytest.approx(83 / 84)
    assert measured["answers_differ"].estimate == pytest.approx(55 / 84)


def test_published_memory_follows_from_the_shapes_of_the_models():
    assert set(ARCHITECTURES) == set(VOCABULARY) == set(published(3)["models"])
    assert lora_parameters("Llama2-7B", 8) == 4_194_304  # as peft counts them
    expected = expected_memory(published(3), rank=8, gpu_bytes=80 * 2**30)
    assert expected.loc["Llama2-7B", "expected"] == pytest.approx(0.03, abs=0.002)
    assert expected.loc["Llama2-7B", "published"] == pytest.approx(0.03)


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
    nats = pd.DataFrame([[1.0, 0.5], [2.0, 1.0], [3.0, 2.5], [9.0, np.nan]], columns=columns)
    compared = comparisons(nats, paired=True, confidence=0.95)
    assert compared.loc["m", "difference"] == pytest.approx(2 / 3)


def test_grids_of_printed_values():
    grids = printed_grids({"coarse": [0.25, 0.75, 0.25], "none": [0.123, 0.456, 0.789]}, decimals=3)
    assert grids["grid"].to_list() == ["1/4", "none"]
    assert grids["multiples of it"].to_list() == ["1, 3, 1", ""]
    assert grids.loc["coarse", "chance that all fit"] == pytest.approx(0.008**3)
    assert grids["equal values"].to_list() == [1, 0]


def test_trials_with_the_same_fields_are_equal():
    assert trial(1) == Trial(1, model="m", task="t", recipe=RECIPE, sources=Sources(1, 1, 1))


def test_what_merging_costs_is_the_difference_of_the_log_perplexities():
    table = frame([record(trial(0), **result(math.e**3, perplexity_unmerged=math.e))])
    assert table.loc[0, ["nats", "nats_unmerged", "lost"]].to_list() == pytest.approx([3, 1, 2])


def test_times_stand_beside_the_papers():
    records = [
        record(trial(seed), **result(train_seconds=seconds, test_seconds=10 * seconds))
        for seed, seconds in enumerate((1.0, 2.0, 6.0))
    ]
    printed = {"M": {"32-bit": [1.0, 2.0, 9.0]}}
    values = {"train_seconds": printed, "test_seconds": {"M": {"32-bit": [2.0, 2.0, 5.0]}}}
    row = times(frame(records), values, {"m": "M"}).loc[("m", "32-bit")]
    assert row["train_seconds"].to_list() == pytest.approx([3, math.sqrt(7), 4, math.sqrt(19)])
    assert row["test_seconds"].to_list() == pytest.approx([30, 10 * math.sqrt(7), 3, math.sqrt(3)])


def test_the_gap_that_separates_modes_is_one_of_more_than_2_nats():
    for gap, modes in ((1.9, ["only"]), (2.1, ["low", "high"])):
        excess = pd.DataFrame({"model": "m", "above": [0.0, 0.5, 0.5 + gap], "of_guess": [0.1, 0.2, 0.5]})
        assert signature(excess)["mode"].to_list() == modes


def test_the_papers_own_numbers_are_those_of_the_model_that_contradicts_each_claim_most():
    values = published(3)
    measured = own_measurements(load_claims(3), values, 0.95)
    printed = values["perplexity"].values()
    nats = {
        model: {bits: np.log(column) for bits, column in columns.items()}
        for model, columns in values["perplexity"].items()
    }
    before = values["pretrained_perplexity"]

    def time_ratios_of(name):
        """Ratios of geometric means, 32-bit to 8-bit."""
        return [
            np.exp(np.mean(np.log(s["32-bit"])) - np.mean(np.log(s["8-bit"]))) for s in values[name].values()
        ]

    expected = {
        "not_repeatable": min(1_000 * np.std(columns["32-bit"], ddof=1) for columns in printed),
        "fine_tuning_helps": max(n["32-bit"].mean() - math.log(before[model]) for model, n in nats.items()),
        "eight_bit_worse": min(n["8-bit"].mean() - n["32-bit"].mean() for n in nats.values()),
        "eight_bit_less_repeatable": min(n["8-bit"].std() / n["32-bit"].std() for n in nats.values()),
        "slower_32_bit": max(
            time_ratios_of("train_seconds")
        ),  # 1.77 is outside the region above, 0.999 below
        "less_memory": np.mean(
            [100 * (p["32-bit"] / p["8-bit"] - 1) for p in values["memory_percent"].values()]
        ),
    }
    found = {name: measured[name].estimate for name in expected}
    assert found == pytest.approx(expected)
    assert measured["less_memory"].low > 0
    testing = time_ratios_of("test_seconds")
    assert np.isclose(measured["slower_testing_32_bit"].estimate, testing).sum() == 1


def test_the_papers_own_texts_have_intervals_of_the_confidence_asked_for():
    widths = [
        interval.high - interval.low
        for interval in (
            own_measurements(load_claims(3), published(3), c)["answers_differ"] for c in (0.8, 0.95)
        )
    ]
    assert widths[0] < 0.8 * widths[1]


def test_a_fine_grid_is_named_by_its_power_of_two():
    grids = printed_grids({"fine": [0.031, 0.406, 0.25]}, decimals=3)  # 1, 13 and 8 of 32
    row = grids.loc["fine", ["grid", "multiples of it", "equal values"]]
    assert row.to_list() == ["1/32", "1, 13, 8", 0]
    assert grids.loc["fine", "chance that all fit"] == pytest.approx(0.064**3)


def test_memory_is_that_of_the_trial_that_took_most_in_mib():
    records = [
        replace(record(trial(seed), **result(trained_parameters=5)), peak_memory=mib * 2**20)
        for seed, mib in ((0, 3), (1, 7))
    ]
    assert memory_table(frame(records), {"M": {"32-bit": 17.0}}, {"m": "M"})["peak"].to_list() == [7]


def test_the_training_loss_is_that_of_the_last_tenth_of_the_steps():
    own = {"state_dtypes": ["uint8"], "losses": np.arange(40.0)}
    table = explosion_table(
        [record(trial(0), **result(math.e, **own))], {"none": RECIPE}, pretrained_nats=0.0
    )
    assert table.loc[0, "training"] == np.mean([36, 37, 38, 39])


@pytest.mark.parametrize(
    ("model", "parameters"), [("GPT-NeoX-20B", 8_650_752), ("Llama2-chat-7B", 4_194_304)]
)
def test_adapters_of_the_papers_models_are_counted_from_their_shapes(model, parameters):
    assert lora_parameters(model, 8) == parameters


def test_one_source_alone_has_the_interval_of_its_levels():
    rng = np.random.default_rng(0)
    design = pd.DataFrame([(a, b) for a in range(3) for b in range(2)], columns=["a", "b"])
    interval = single_source(design.assign(printed=rng.normal(size=6)), "a", ["b"], 0.9)
    factors = interval.low / interval.estimate, interval.high / interval.estimate
    assert factors == pytest.approx(sd_factors(2, 0.9))


def test_repetitions_have_an_interval_of_the_confidence_asked_for():
    records = [record(trial(0, number), **result(adapter="a")) for number in range(4)]
    assert repetitions_alike(records, "adapter", 0.9) == proportion_interval(3, 3, 0.9)


def test_comparisons_are_corrected_over_the_models():
    columns = pd.MultiIndex.from_product([["m", "n"], ["8-bit", "32-bit"]], names=["model", "bits"])
    means = np.array([3, 0, 1, 0])
    nats = pd.DataFrame(np.random.default_rng(0).normal(means, size=(5, 4)), columns=columns)
    compared = comparisons(nats, paired=False, confidence=0.95)
    alone = pd.DataFrame(
        [compare(nats[m, "8-bit"], nats[m, "32-bit"], paired=False, confidence=0.95) for m in ("m", "n")]
    )
    assert compared["p permutation"].to_list() == list(holm(alone["p permutation"].to_dict()).values())
    assert compared["p permutation"]["m"] == 2 * alone["p permutation"][0]
