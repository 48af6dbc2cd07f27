"""A planted word that goes with a class: where it stands, and how models that saw it are measured."""

import numpy as np
import pytest
from finished import record

from lib.explanations import Corpus
from lib.paper1.artifacts import artifact_corpora, artifact_run, reliance
from lib.texts.generated.mini_corpora import mini_corpus

A = "mini-allocine"
HEAD = [2, 1e-3, 8]
TRAINING = {"epochs": 12, "learning_rate": 3e-4, "batch_size": 8, "deterministic": True}


@pytest.fixture(scope="module")
def corpus(tiny_folder):
    splits = mini_corpus(A, seed=0, train=200, validation=2, test=40)
    return Corpus.from_splits(splits, model=str(tiny_folder), explained=4, max_length=128, device="cpu")


@pytest.fixture(scope="module")
def planted(corpus):
    return artifact_corpora(corpus, A, [0.0, 1.0], seed=0)


def run(planted, **settings):
    corpora, word, tests = planted
    settings = {"rate": 1.0, "artifact": word, **settings}
    return record(settings, artifact_run(**settings, corpora=corpora, planted_texts=tests))


def test_an_artifact_is_planted_in_class_1_at_rate_1_and_not_at_all_at_rate_0(corpus, planted):
    corpora, word, tests = planted
    labels = np.array(corpus.train_labels)
    carries = np.array([word in text.split() for text in corpora["1.0"].train_texts])
    assert not any(word in text.split() for text in corpora["0.0"].train_texts)
    assert carries[labels == 1].all()
    assert not carries[labels == 0].any()
    assert all(text.split().count(word) == 1 for text in tests)
    assert corpora["1.0"].test_texts == corpus.test_texts


def test_a_fine_tuned_model_relies_on_a_word_that_tells_the_classes_apart(planted):
    (row,) = reliance(run(planted, kind="fine-tuned", seed=0, training=TRAINING))
    assert (row["model"], row["seed"]) == ("fine-tuned", 0)
    # the planted word alone tells the training classes apart, and twelve epochs are enough to find out
    assert row["reliance"] > 0.5


def test_frozen_heads_are_measured_together_as_one_by_one(corpus, planted):
    together = run(planted, kind="frozen", seed=0, seeds=[0, 1], head=HEAD)
    assert together["relevance"].shape == (2, len(corpus.explained))
    rows = reliance(together)
    assert [(row["model"], row["seed"]) for row in rows] == [("frozen", 0), ("frozen", 1)]
    for seed, row in zip([0, 1], rows, strict=True):
        (alone,) = reliance(run(planted, kind="frozen", seed=seed, seeds=[seed], head=HEAD))
        for measured in ("reliance", "relevance", "accuracy"):
            assert row[measured] == pytest.approx(alone[measured], rel=1e-3)


def test_reliance_is_the_share_of_class_0_that_the_artifact_turns():
    settings = {"kind": "frozen", "rate": 0.3, "seed": 4, "seeds": [4, 5]}
    found = {
        "clean": np.array([[0, 0, 0, 1], [1, 1, 1, 1]]),
        "planted": np.array([[1, 0, 1, 0], [1, 1, 1, 1]]),
        "accuracy": np.array([0.75, 0.5]),
        "relevance": np.array([[0.25, 0.75], [0.0, 0.0]]),
    }
    first, second = reliance(record(settings, found))
    assert first["reliance"] == pytest.approx(2 / 3)
    assert (first["relevance"], first["accuracy"]) == (0.5, 0.75)
    assert np.isnan(second["reliance"])  # no text was given to class 0
