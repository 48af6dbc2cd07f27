"""Models of either kind as rows a seed, and the words that their explanations single out."""

import numpy as np
import pandas as pd
import pytest
from finished import record

from lib.attribution import LRP, RANDOM
from lib.paper1.compared import KINDS, Models, collect, cue_shares, rank_words

WORDS = [["plat", "film", "."], ["un", "plat"], ["film"]]


def fine_tuned(seed, **more):
    result = {
        "train_accuracy": 0.5,
        "predicted": np.array([0, 1, 0], np.uint8),
        "embeddings": np.full((3, 2), seed, np.float32),
        f"relevance/{LRP}": np.arange(6.0) + seed,
    }
    return record({"seed": seed}, result | more)


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


def test_one_record_of_all_frozen_heads_and_one_each_are_the_same_models(models):
    both = [fine_tuned(4), fine_tuned(5)]
    result = {
        "train_accuracy": np.array([0.5, 0.5]),
        "predicted": np.stack([one["predicted"] for one in both]),
        "embeddings": np.zeros((3, 2), np.float32),
        f"relevance/{LRP}": np.stack([one[f"relevance/{LRP}"] for one in both]),
    }
    frozen = Models.frozen(record({"seed": 4, "seeds": [4, 5]}, result))
    np.testing.assert_array_equal(frozen.predicted, models.predicted)
    np.testing.assert_array_equal(frozen.relevance[LRP], models.relevance[LRP])
    assert (len(frozen.embeddings), len(models.embeddings)) == (1, 2)


def test_ranking_and_cue_shares_by_hand():
    words = [["plat", "film", "un"]]
    tuned = [np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]])]
    frozen = [np.array([[0.2, 0.7, 0.1], [0.4, 0.5, 0.1]])]
    assert rank_words(words, tuned, frozen, 1).index.tolist() == ["plat", "un", "film"]
    roles = pd.Series({"plat": "cue", "film": "topic", "un": "filler"})
    shares = cue_shares(words, tuned, frozen, roles, 1, first=1)
    assert shares.to_dict("list") == {"fine-tuned": [1, 1], "frozen": [0, 0]}


def test_models_are_collected_by_kind_and_task_and_a_missing_one_is_named():
    records = []
    for task, other in (("a", "b"), ("b", "a")):
        crossed = {
            "cross_train_accuracy": 0.9,
            "cross_predicted": np.zeros(3),
            "cross_embeddings": np.ones((3, 2)),
        }
        for seed in (0, 1):
            tuned = {"kind": "fine-tuned", "seed": seed, "task": task, "other": other}
            records.append(record(tuned, fine_tuned(seed, **crossed).result))
        heads = {"train_accuracy": np.ones(2), "predicted": np.zeros((2, 3)), "embeddings": np.ones((3, 2))}
        records.append(record({"kind": "frozen", "seed": 0, "task": task}, heads))
    models = collect(records, ["a", "b"])
    assert set(models) == {(kind, task) for kind in (*KINDS, "cross-task") for task in ("a", "b")}
    assert [len(of.predicted) for of in models.values()] == [2] * 6
    assert models["cross-task", "a"].first.settings["task"] == "b"
    with pytest.raises(RuntimeError, match="frozen models on 'b': no run is done"):
        collect(records[:-1], ["a", "b"])
