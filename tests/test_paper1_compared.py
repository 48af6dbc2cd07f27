"""Paper 1's models, collected from records, and the words that their explanations single out."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from finished import record

from lib.attribution import LRP, RANDOM
from lib.corpus import Corpus
from lib.hiding import Curves
from lib.paper1.compared import (
    CROSS_TASK,
    KINDS,
    Models,
    chain_cues,
    chain_table,
    collect,
    curves_of,
    fine_tuned_models,
    rebuild,
    texts_learned_from,
)
from lib.paper1.runs import Chain, FineTuned, Frozen
from lib.paper1.word_lists import cue_shares, equal_shares, rank_words
from lib.recipes import TrainingRecipe

RECIPE = TrainingRecipe(epochs=1, learning_rate=1e-3, batch_size=8)
WORDS = [["plat", "film", "."], ["un", "plat"], ["film"]]


def done(run, result):
    return replace(record(run.settings, result), run=run)


def fine_tuned(seed, task="a", other_task="b", **more):
    result = {
        "train_predicted": np.array([0, 1], np.uint8),
        "validation_accuracy": [0.5, 0.75],
        "predicted": np.array([0, 1, 0], np.uint8),
        "embeddings": np.full((3, 2), seed, np.float32),
        f"relevance/{LRP}": np.arange(6.0) + seed,
    }
    run = FineTuned(
        seed,
        task=task,
        training=RECIPE,
        other_task=other_task,
        head=None if other_task is None else RECIPE,
        methods={LRP: 3, RANDOM: 2},
    )
    return done(run, result | more)


def test_by_the_authors_schedule_half_of_the_texts_are_learned_from():
    recipe = TrainingRecipe(epochs=1, learning_rate=1e-3, batch_size=2, schedule="authors")
    texts = {"train_predicted": np.zeros(8, np.uint8)}
    trained = [done(FineTuned(seed, task="a", training=recipe), texts) for seed in (1, 2)]
    other = done(FineTuned(3, task="b", training=recipe), texts)
    learned = texts_learned_from([*trained, other], "a")
    assert learned.shape == (2, 8)
    for row, seed in zip(learned, (1, 2), strict=True):
        assert set(np.flatnonzero(row)) == set(recipe.order(8, seed)[:4].tolist())


def frozen(task, result, seeds=(4, 5)):
    run = Frozen(seeds[0], seeds=seeds, task=task, head=RECIPE, methods=len(seeds) * ({LRP: 3},))
    return done(run, result)


@pytest.fixture
def models():
    first = fine_tuned(4, **{f"relevance/{RANDOM}": np.arange(5.0)})
    return Models.fine_tuned([first, fine_tuned(5)])


def test_a_method_may_have_explained_fewer_models_and_fewer_texts(models):
    assert [text.shape for text in models.by_text(WORDS)] == [(2, 3), (2, 2), (2, 1)]
    assert [text.shape for text in models.by_text(WORDS, RANDOM)] == [(1, 3), (1, 2)]
    assert [text.shape for text in models.by_text(WORDS[:2])] == [(2, 3), (2, 2)]
    np.testing.assert_array_equal(models.by_text(WORDS)[1], [[7, 8], [8, 9]])


def test_relevances_take_the_sign_of_the_prediction_and_sum_to_one(models):
    signed = models.signed(WORDS)
    np.testing.assert_allclose([text.sum(axis=1) for text in signed], [[1, 1], [-1, -1], [1, 1]])


def test_one_record_of_all_seeds_and_one_record_per_seed_give_the_same_models(models):
    both = [fine_tuned(4), fine_tuned(5)]
    result = {
        "train_predicted": np.array([[0, 1], [0, 1]], np.uint8),
        "validation_accuracy": np.array([0.5, 0.75]),
        "predicted": np.stack([one["predicted"] for one in both]),
        "embeddings": np.zeros((3, 2), np.float32),
        f"relevance/{LRP}": np.stack([one[f"relevance/{LRP}"] for one in both]),
    }
    together = Models.frozen(frozen("a", result))
    np.testing.assert_array_equal(together.predicted, models.predicted)
    np.testing.assert_array_equal(together.relevance[LRP], models.relevance[LRP])
    np.testing.assert_array_equal(together.train_predicted, models.train_predicted)
    assert (len(together.embeddings), len(models.embeddings)) == (1, 2)
    assert models.validation_accuracy.tolist() == [[0.5, 0.75], [0.5, 0.75]]
    assert together.validation_accuracy.tolist() == [[0.5], [0.75]]


def test_ranking_and_cue_shares_by_hand(monkeypatch):
    monkeypatch.setattr("lib.paper1.word_lists.LIST", 1)
    words = 2 * [["plat", "film", "un"]]
    tuned = 2 * [np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]])]
    cold = 2 * [np.array([[0.2, 0.7, 0.1], [0.4, 0.5, 0.1]])]
    assert rank_words(words, tuned, cold, 1).index.tolist() == ["plat", "un", "film"]
    roles = pd.Series({"plat": "cue", "film": "topic", "un": "filler"})
    shares = cue_shares(words, tuned, cold, roles, 1)
    assert {kind: table[:, 0].tolist() for kind, table in shares.items()} == {
        "fine-tuned": [1, 1],
        "frozen": [0, 0],
    }


def paper_records(seeds):
    """Records of all models of two tasks; a frozen model's classes and relevances are those of its seed."""
    records = []
    for task, other_task in (("a", "b"), ("b", "a")):
        crossed = {
            "cross_train_predicted": np.zeros(2),
            "cross_predicted": np.zeros(3),
            "cross_embeddings": np.ones((3, 2)),
            f"cross_relevance/{LRP}": np.arange(6.0),
        }
        records += [fine_tuned(seed, task, other_task, **crossed) for seed in seeds]
        heads = {
            "train_predicted": np.ones((len(seeds), 2)),
            "validation_accuracy": np.ones(len(seeds)),
            "predicted": np.array([3 * [seed] for seed in seeds]),
            "embeddings": np.ones((3, 2)),
            f"relevance/{LRP}": np.array([6 * [seed] for seed in seeds]),
            f"relevance/{RANDOM}": np.array([6 * [seed] for seed in seeds[:2]]),
        }
        records.append(frozen(task, heads, seeds))
    return records


def test_a_seed_of_which_a_run_failed_is_left_out_of_all_models_so_that_rows_are_pairs():
    failed = {("a", 1), ("b", 3)}
    records = [
        replace(record, status="failed", result={})
        if (record.run.task, record.run.seed) in failed and isinstance(record.run, FineTuned)
        else record
        for record in paper_records((0, 1, 2, 3, 4))
    ]
    models = collect(records, ["a", "b"])
    assert {group.seeds for group in models.values()} == {(0, 2, 4)}
    for task in ("a", "b"):
        tuned, cold, crossed = (models[kind, task] for kind in (*KINDS, CROSS_TASK))
        assert tuned.relevance[LRP][:, 0].tolist() == [0, 2, 4]
        assert [embeddings[0, 0] for embeddings in tuned.embeddings] == [0, 2, 4]
        assert cold.predicted[:, 0].tolist() == cold.relevance[LRP][:, 0].tolist() == [0, 2, 4]
        assert cold.relevance[RANDOM][:, 0].tolist() == [0]
        assert (len(cold.embeddings), len(crossed.embeddings)) == (1, 3)
        assert len(tuned.train_predicted) == len(cold.validation_accuracy) == len(crossed.predicted) == 3
    alone = [record for record in records if record.run.task == "b" or record.run.seed == 3]
    heads = [record for record in records if isinstance(record.run, Frozen)]
    with pytest.raises(RuntimeError, match="one seed: no run is done; at least one is required"):
        collect([*alone, *heads], ["a", "b"])


def test_models_are_collected_by_kind_and_task_and_a_missing_one_is_named():
    records = paper_records((0, 1))
    models = collect(records, ["a", "b"])
    assert set(models) == {(kind, task) for kind in (*KINDS, CROSS_TASK) for task in ("a", "b")}
    assert [len(group.predicted) for group in models.values()] == [2] * 6
    assert models[CROSS_TASK, "a"].first.settings["task"] == "b"
    assert [text.shape for text in models[CROSS_TASK, "a"].signed(WORDS)] == [(2, 3), (2, 2), (2, 1)]
    with pytest.raises(RuntimeError, match="frozen models on 'b': no run is done; at least one is required"):
        collect(records[:-1], ["a", "b"])


def test_why_no_run_is_done_is_said_in_the_same_line():
    reasons = ["IndexError: index out of range in self", "out of memory: 3 GiB"]
    failed = [
        replace(record, status="failed", reason=reasons[number == 0], result={})
        for number, record in enumerate(fine_tuned(seed, "a", None) for seed in (0, 1, 2))
    ]
    why = rf"no run is done; at least one is required \(2 of 3 failed runs: {reasons[0]}\)$"
    with pytest.raises(RuntimeError, match=f"^fine-tuned models on 'a': {why}"):
        fine_tuned_models(failed, "a")
    with pytest.raises(RuntimeError, match=f"^fine-tuned models on 'a': {why}"):
        texts_learned_from(failed, "a")
    with pytest.raises(RuntimeError, match=f"^fine-tuned models on 'a': {why}"):
        collect(failed, ["a", "b"])


def test_models_of_one_task_are_collected_from_runs_that_reuse_nothing():
    records = [fine_tuned(seed, task, None) for task in ("a", "b") for seed in (0, 1)]
    assert [run.other_task for run in (record.run for record in records)] == [None] * 4
    assert len(fine_tuned_models(records, "b").predicted) == 2
    with pytest.raises(RuntimeError, match="fine-tuned models on 'c': no run is done"):
        fine_tuned_models(records, "c")


def test_the_curves_of_a_record_are_those_of_its_methods():
    result = {f"{LRP}/{field.name}": np.ones((2, 3)) for field in fields(Curves)}
    assert list(curves_of(fine_tuned(0, **result))) == [LRP]


@pytest.mark.parametrize("what", ["curves", "weights"])
def test_what_only_the_first_seed_keeps_is_named_where_its_run_is_not_done(what):
    corpus = Corpus("no model is read", [], [], [], [], [], max_length=8, device="cpu")
    later = fine_tuned_models([fine_tuned(1), fine_tuned(2)], "a").first
    line = f"^the record of seed 1 has no {what}: the run of the first seed, which keeps them, is not done$"
    with pytest.raises(RuntimeError, match=line):
        curves_of(later) if what == "curves" else rebuild(later, corpus)


def test_a_chain_has_a_row_per_round_and_task_and_a_score_per_round():
    recipes = {"a": RECIPE, "b": RECIPE}
    run = Chain(7, tasks=("a", "b"), training=recipes, heads=recipes)
    result = {"relevance/1": np.array([0.9, 0.1, -0.2]), "relevance/2": np.array([0.2, 0.9])}
    result |= {"predicted/1": np.array([1]), "predicted/2": np.array([0])}
    for task, accuracy in (("a", 0.75), ("b", 0.5)):
        result[f"accuracy/{task}"] = np.array([0.5, accuracy, 0.5])
        result[f"components/{task}"] = np.array([9, 2, 3])
    records = [done(run, result)]
    table = chain_table(records)
    assert len(table) == 2 * 3
    assert table.iloc[1].tolist() == [7, 1, "a", 0.75, 2]
    signs = {"a": [[1, 0, -1]], "b": [[-1, 0]]}
    words = {"a": [["plat", "film", "un"]], "b": [["plat", "film"]]}
    assert chain_cues(records, words, signs).to_dict() == {7: {1: 1.0, 2: 0.0}}


def test_equal_shares_say_nothing_but_the_predicted_class():
    shares = equal_shares([["a", "b"], ["c", "d", "e"]], np.array([[0, 1], [1, 1]]))
    np.testing.assert_allclose(shares[0], [[0.5, 0.5], [-0.5, -0.5]])
    np.testing.assert_allclose(shares[1], [[-1 / 3] * 3] * 2)
