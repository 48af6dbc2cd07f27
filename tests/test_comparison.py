"""Paper 1's runs, on a handful of texts: what a record holds fits together."""

import numpy as np
import pytest
from finished import record

from lib.attribution import AUTHORS_LRP, LRP, RANDOM
from lib.explanations import Corpus
from lib.finetuning import encode
from lib.models import load_tokenizer
from lib.paper1 import compared as compared_models
from lib.paper1 import runs as comparison
from lib.texts.generated.mini_corpora import mini_corpus

A, B = "mini-allocine", "mini-infopinion"
TRAINING = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 8, "deterministic": True}
HEADS = {A: [2, 1e-3, 8], B: [2, 1e-3, 8]}
METHODS = {LRP: 6, AUTHORS_LRP: 6, RANDOM: 3}


@pytest.fixture(scope="module")
def splits():
    return {task: mini_corpus(task, seed=0, train=48, validation=2, test=24) for task in (A, B)}


@pytest.fixture(scope="module")
def corpora(tiny_folder, splits):
    given = {"model": str(tiny_folder), "explained": 6, "max_length": 128, "device": "cpu"}
    return {task: Corpus.from_splits(split, **given) for task, split in splits.items()}


def words_in(corpus, texts):
    return sum(len(text.split()) for text in corpus.test_texts[:texts])


@pytest.fixture(scope="module")
def finetuned(corpora):
    settings = {"seed": 3, "task": A, "other": B, "training": TRAINING, "heads": HEADS, "methods": METHODS}
    result = comparison.finetuned_run(**settings, hidden_texts=3, keep_weights=True, corpora=corpora)
    return record(settings, result)


@pytest.mark.parametrize(("task", "cut"), [(A, False), (B, True)])
def test_a_text_of_infopinion_that_is_too_long_ends_where_a_sentence_does(tiny_folder, splits, task, cut):
    corpus = Corpus.from_splits(
        splits[task], model=str(tiny_folder), explained=0, max_length=64, device="cpu"
    )
    pieces = [len(ids) for ids in load_tokenizer(tiny_folder)(corpus.train_texts)["input_ids"]]
    assert (max(pieces) <= 64) is cut
    assert all(
        text.startswith(kept)
        for text, kept in zip(splits[task]["train"]["text"], corpus.train_texts, strict=True)
    )
    assert all(text.endswith((".", "!", "?", '"')) for text in corpus.train_texts)


def test_fewer_training_texts_keep_the_classes_in_proportion_and_the_test_texts(corpora):
    few = corpora[A].fewer(12, explained=2, seed=0)
    share = np.mean(corpora[A].train_labels)
    assert abs(np.mean(few.train_labels) - share) <= 1 / 12
    assert set(few.train_texts) < set(corpora[A].train_texts)
    assert few.test_texts == corpora[A].test_texts
    assert few.explained == corpora[A].explained[:2]
    assert (
        corpora[A].fewer(0, explained=0, seed=0)
        == corpora[A].fewer(1000, explained=1000, seed=0)
        == corpora[A]
    )


def test_a_fine_tuned_record_rebuilds_its_model(corpora, finetuned):
    model = compared_models.rebuild(finetuned, corpora[A], 3)
    again = encode(model, load_tokenizer(corpora[A].model), corpora[A].test_texts, max_length=128)
    np.testing.assert_array_equal(again.predicted, finetuned["predicted"])
    np.testing.assert_allclose(again.embeddings, finetuned["embeddings"], atol=1e-5)


def test_relevances_are_one_a_word_and_curves_one_a_text(corpora, finetuned):
    for method, texts in METHODS.items():
        assert len(finetuned[f"relevance/{method}"]) == words_in(corpora[A], texts)
    curves = compared_models.curves_of(finetuned)
    assert set(curves) == set(METHODS)
    assert curves[LRP].deletion.shape == (3, len(curves[LRP].shares))
    # nothing hidden and everything shown are the same text
    np.testing.assert_allclose(curves[LRP].deletion[:, 0], curves[LRP].insertion[:, -1], atol=1e-6)


def test_the_other_task_is_measured_on_the_other_texts(corpora, finetuned):
    assert finetuned["cross_predicted"].shape == (len(corpora[B].test_texts),)
    assert finetuned["cross_embeddings"].shape[0] == len(corpora[B].test_texts)


def frozen_record(corpora, seeds, methods):
    settings = {"kind": "frozen", "seed": seeds[0], "seeds": seeds, "task": B, "heads": HEADS}
    settings |= {"methods": methods, "hidden_texts": 3}
    return record(settings, comparison.run(**settings, corpora=corpora))


def test_frozen_heads_differ_and_their_embeddings_do_not(corpora):
    result = frozen_record(corpora, [0, 1], [METHODS, {LRP: 6}])
    assert result["predicted"].shape == (2, 24)
    assert result["embeddings"].shape[0] == 24
    assert result[f"relevance/{LRP}"].shape == (2, words_in(corpora[B], 6))
    assert result[f"relevance/{RANDOM}"].shape == (1, words_in(corpora[B], 3))
    assert not np.allclose(*result[f"relevance/{LRP}"])
    alone = frozen_record(corpora, [1], [METHODS])
    np.testing.assert_allclose(
        alone[f"relevance/{LRP}"][0], result[f"relevance/{LRP}"][1], rtol=1e-3, atol=1e-6
    )


def test_a_record_of_frozen_heads_holds_the_first_ones_model_and_curves(corpora):
    result = frozen_record(corpora, [0, 1], [METHODS, METHODS])
    model = compared_models.rebuild(result, corpora[B], 0)
    again = encode(model, load_tokenizer(corpora[B].model), corpora[B].test_texts, max_length=128)
    np.testing.assert_array_equal(again.predicted, result["predicted"][0])
    assert compared_models.curves_of(result)[LRP].deletion.shape[0] == 3


def test_a_chain_measures_before_and_after_every_round(corpora):
    result = comparison.chain_run(seed=0, tasks=[A, B], training=TRAINING, heads=HEADS, corpora=corpora)
    for task in (A, B):
        assert result[f"accuracy/{task}"].shape == result[f"components/{task}"].shape == (3,)
    assert len(result["relevance/1"]) == words_in(corpora[A], 6)
    assert len(result["relevance/2"]) == words_in(corpora[B], 6)
