"""Paper 1's runs, on a handful of texts: the parts of a record fit together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from finished import record

from lib.attribution import AUTHORS_LRP, LRP, RANDOM
from lib.finetuning import encode
from lib.models import load_tokenizer
from lib.paper1.artifact import outcomes, reliance_table
from lib.paper1.compared import curves_of, rebuild
from lib.paper1.runs import (
    Chain,
    FineTuned,
    FineTunedOnArtifact,
    Frozen,
    FrozenOnArtifact,
    fine_tune_classifier,
)
from lib.recipes import TrainingRecipe
from lib.runs.provenance import input_fingerprints
from lib.texts import corpus_of, plant_artifact
from lib.texts.generated.mini_corpora import mini_corpus

A, B = "mini-allocine", "mini-infopinion"
TRAINING = TrainingRecipe(epochs=1, learning_rate=1e-3, batch_size=8)
HEAD = TrainingRecipe(epochs=2, learning_rate=1e-3, batch_size=8)
RECIPES = {A: TRAINING, B: TRAINING}
METHODS = {LRP: 6, AUTHORS_LRP: 6, RANDOM: 3}


@pytest.fixture(scope="module")
def corpora(tiny_folder):
    splits = {task: mini_corpus(task, seed=0, train=48, validation=2, test=24) for task in (A, B)}
    given = {"model": tiny_folder, "explained": 6, "max_length": 128, "device": "cpu"}
    return {task: corpus_of(splits[task], **given) for task in splits}


@pytest.fixture(scope="module")
def inputs(corpora):
    held_out = {
        task: replace(corpus, test_texts=corpus.test_texts[:8], test_labels=corpus.test_labels[:8])
        for task, corpus in corpora.items()
    }
    return {"corpora": corpora, "validation": held_out}


@pytest.fixture(scope="module")
def artifact_corpus(tiny_folder):
    splits = mini_corpus(A, seed=0, train=200, validation=2, test=40)
    return corpus_of(splits, model=tiny_folder, explained=4, max_length=128, device="cpu")


@pytest.fixture(scope="module")
def planted(artifact_corpus):
    return plant_artifact(artifact_corpus, A, [0.0, 1.0], seed=0)


def carried_out(run, **inputs):
    return replace(record(run.settings, run.carry_out(**inputs)), run=run)


def fine_tuned_run(**changes):
    fields = {"task": A, "training": TRAINING, "other_task": B, "head": HEAD, "methods": METHODS}
    return FineTuned(3, **{**fields, "hidden_texts": 3, "keep_weights": True, **changes})


def frozen_run(seeds, methods):
    return Frozen(seeds[0], seeds=seeds, task=B, head=HEAD, methods=methods, hidden_texts=3)


@pytest.fixture(scope="module")
def fine_tuned(inputs):
    return carried_out(fine_tuned_run(), **inputs)


def words_in(corpus, texts):
    return sum(len(text.split()) for text in corpus.test_texts[:texts])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: fine_tuned_run(other_task=A), "^other_task = 'mini-allocine': a task that differs"),
        (lambda: fine_tuned_run(head=None), "^other_task = 'mini-infopinion' and head = None: both or"),
        (lambda: fine_tuned_run(methods={"lrp": 6}), "^methods has 'lrp': allowed are LRP, LRP-fork"),
        (lambda: fine_tuned_run(methods={LRP: 0}), "^methods has 'LRP': 0 texts; at least 1"),
        (lambda: fine_tuned_run(hidden_texts=-1), "^hidden_texts = -1: 0 or more"),
        (lambda: frozen_run((0, 1), (METHODS,)), "^methods of 1 seeds: 2 are required"),
        (lambda: frozen_run((0, 1), ({LRP: 6}, METHODS)), "a later seed may have no further method"),
        (lambda: Chain(0, tasks=(), training={}, heads={}), "^tasks = .*at least one round"),
        (lambda: Chain(0, tasks=(A, B), training=RECIPES, heads={A: HEAD}), "^heads has no 'mini-info"),
        (lambda: Chain(0, tasks=(A, B), training={B: HEAD}, heads=RECIPES), "^training has no 'mini-allo"),
        (lambda: FrozenOnArtifact(1, seeds=(0, 1), rate=1.0, head=HEAD), "^seed = 1: the first of the seeds"),
    ],
)
def test_a_field_that_is_not_allowed_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_fine_tuned_record_rebuilds_its_model(corpora, fine_tuned):
    model = rebuild(fine_tuned, corpora[A])
    again = encode(model, load_tokenizer(corpora[A].model), corpora[A].test_texts, max_length=128)
    np.testing.assert_array_equal(again.predicted, fine_tuned["predicted"])
    np.testing.assert_allclose(again.embeddings, fine_tuned["embeddings"], atol=1e-5)


def test_there_is_one_relevance_per_word_and_one_curve_per_text(corpora, fine_tuned):
    for method, texts in METHODS.items():
        assert len(fine_tuned[f"relevance/{method}"]) == words_in(corpora[A], texts)
    curves = curves_of(fine_tuned)
    assert set(curves) == set(METHODS)
    assert curves[LRP].deletion.shape == (3, len(curves[LRP].shares))
    # nothing hidden and everything shown are the same text
    np.testing.assert_allclose(curves[LRP].deletion[:, 0], curves[LRP].insertion[:, -1], atol=1e-6)


def test_the_other_task_is_measured_and_explained_on_its_own_texts(corpora, fine_tuned):
    assert fine_tuned["train_predicted"].shape == fine_tuned["cross_train_predicted"].shape == (48,)
    assert fine_tuned["cross_predicted"].shape == (len(corpora[B].test_texts),)
    assert fine_tuned["cross_embeddings"].shape[0] == len(corpora[B].test_texts)
    assert len(fine_tuned[f"cross_relevance/{LRP}"]) == words_in(corpora[B], 6)


def test_validation_follows_the_epochs_and_measuring_changes_nothing(inputs):
    two = replace(TRAINING, epochs=2)
    plain = FineTuned(3, task=A, training=two)
    result = plain.carry_out(**inputs)
    assert "cross_predicted" not in result
    assert len(result["validation_accuracy"]) == 2
    held_out = inputs["validation"][A]
    last = np.mean(result["predicted"][:8] == np.array(held_out.test_labels))
    assert result["validation_accuracy"][-1] == last  # the first test texts stand in for validation texts
    tokenizer = load_tokenizer(held_out.model)
    _, unmeasured, nothing = fine_tune_classifier(inputs["corpora"][A], tokenizer, seed=3, recipe=two)
    assert unmeasured.final_weights == result["final_weights"]
    assert unmeasured.precision == result["precision"] == "float32"
    assert nothing == []


def test_precisions_are_those_of_the_corpora(inputs):
    def carried_out(**precisions):
        corpora = {task: replace(corpus, **precisions) for task, corpus in inputs["corpora"].items()}
        return fine_tuned_run(methods={LRP: 2}, hidden_texts=0).carry_out(**inputs | {"corpora": corpora})

    assert carried_out(precision="bfloat16")["precision"] == "bfloat16"
    with pytest.raises(ValueError, match="precision = 'tf32' on cpu"):  # which explanations alone were given
        carried_out(relevance_precision="tf32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_both_precisions_can_be_tf32(inputs):
    run = fine_tuned_run(methods={LRP: 6}, hidden_texts=0)
    exact, rounded = (
        run.carry_out(
            **{
                name: {
                    task: replace(corpus, device="cuda", precision=precision, relevance_precision=precision)
                    for task, corpus in corpora.items()
                }
                for name, corpora in inputs.items()
            }
        )
        for precision in ("float32", "tf32")
    )
    assert (exact["precision"], rounded["precision"]) == ("float32", "tf32")
    assert exact["final_weights"] != rounded["final_weights"]
    assert np.isfinite(rounded[f"relevance/{LRP}"]).all()


def test_with_the_authors_schedule_no_epoch_changes_the_validation_accuracy(inputs):
    recipe = TrainingRecipe(epochs=2, learning_rate=1e-3, batch_size=4, schedule="authors")
    result = FineTuned(3, task=A, training=recipe).carry_out(**inputs)
    assert len(result["losses"]) == 2 * (48 // 4 // 4)
    assert len(result["validation_accuracy"]) == 2
    assert len(set(result["validation_accuracy"])) == 1


def test_frozen_heads_differ_but_share_their_embeddings(corpora, inputs):
    both = carried_out(frozen_run((0, 1), (METHODS, {LRP: 6})), **inputs)
    assert both["train_predicted"].shape == (2, 48)
    np.testing.assert_array_equal(
        both["validation_accuracy"], np.mean(both["predicted"][:, :8] == corpora[B].test_labels[:8], axis=1)
    )
    assert both["predicted"].shape == (2, 24)
    assert both["embeddings"].shape[0] == 24
    assert both[f"relevance/{LRP}"].shape == (2, words_in(corpora[B], 6))
    assert both[f"relevance/{RANDOM}"].shape == (1, words_in(corpora[B], 3))
    assert not np.allclose(*both[f"relevance/{LRP}"])
    alone = carried_out(frozen_run((1,), (METHODS,)), **inputs)
    np.testing.assert_allclose(
        alone[f"relevance/{LRP}"][0], both[f"relevance/{LRP}"][1], rtol=1e-3, atol=1e-6
    )


def test_a_record_of_frozen_heads_holds_the_first_head_s_model_and_curves(corpora, inputs):
    both = carried_out(frozen_run((0, 1), (METHODS, METHODS)), **inputs)
    model = rebuild(both, corpora[B])
    again = encode(model, load_tokenizer(corpora[B].model), corpora[B].test_texts, max_length=128)
    np.testing.assert_array_equal(again.predicted, both["predicted"][0])
    assert curves_of(both)[LRP].deletion.shape[0] == 3


def test_a_chain_measures_before_and_after_every_round(corpora):
    run = Chain(0, tasks=(A, B), training=RECIPES, heads={A: HEAD, B: HEAD})
    result = run.carry_out(corpora=corpora)
    for task in (A, B):
        assert result[f"accuracy/{task}"].shape == result[f"components/{task}"].shape == (3,)
    assert len(result["relevance/1"]) == words_in(corpora[A], 6)
    assert len(result["relevance/2"]) == words_in(corpora[B], 6)
    assert len(result["predicted/1"]) == len(result["predicted/2"]) == 6


def test_a_fine_tuned_model_relies_on_a_word_that_gives_the_class_away(planted):
    training = TrainingRecipe(epochs=12, learning_rate=3e-4, batch_size=8)  # enough to learn that one word
    run = FineTunedOnArtifact(0, rate=1.0, training=training)
    (row,) = reliance_table(outcomes([carried_out(run, planted=planted)])).to_dict("records")
    assert (row["model"], row["seed"]) == ("fine-tuned", 0)
    assert row["reliance"] > 0.5


def test_frozen_heads_are_measured_together_as_one_by_one(artifact_corpus, planted):
    run = FrozenOnArtifact(0, seeds=(0, 1), rate=1.0, head=HEAD)
    together = carried_out(run, planted=planted)
    assert together["relevance"].shape == (2, len(artifact_corpus.explained))
    table = reliance_table(outcomes([together]))
    assert table["model"].tolist() == ["frozen", "frozen"]
    assert table["seed"].tolist() == [0, 1]
    runs = [replace(run, seed=seed, seeds=(seed,)) for seed in (0, 1)]
    alone = reliance_table(outcomes([carried_out(one, planted=planted) for one in runs]))
    measured = ["reliance", "relevance", "accuracy"]
    np.testing.assert_allclose(table[measured], alone[measured], rtol=1e-3)


def test_the_planted_word_and_texts_are_part_of_a_key(planted):
    known = input_fingerprints({"planted": planted})
    assert any(name.startswith("planted/1.0/") for name in known)
    for name, changed in {
        "planted/word": replace(planted, word="jeudi"),
        "planted/test_texts": replace(planted, test_texts=planted.test_texts[1:]),
    }.items():
        others = input_fingerprints({"planted": changed})
        assert [part for part in known if known[part] != others[part]] == [name]
