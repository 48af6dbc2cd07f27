"""Reliance on a planted artifact, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from finished import record

from lib.claims import Region
from lib.paper1.artifact import (
    Group,
    correct_without_artifact,
    deciding_gap,
    gap_on_halves,
    outcomes,
    reliance,
    reliance_table,
)
from lib.paper1.compared import FINE_TUNED, FROZEN
from lib.paper1.joint import HALVES, over_halves
from lib.paper1.runs import FineTunedOnArtifact, FrozenOnArtifact
from lib.recipes import TrainingRecipe

HEAD = TrainingRecipe(epochs=1, learning_rate=1e-3, batch_size=8)


def done(run, clean, planted, accuracy=(0.75, 0.5)):
    result = {
        "clean": np.array(clean),
        "planted": np.array(planted),
        "accuracy": np.array(accuracy),
        "relevance": np.array([[0.25, 0.75], [0.0, 0.0]])[: len(clean)],
    }
    return replace(record(run.settings, result), run=run)


def frozen(rate, clean, planted):
    return done(FrozenOnArtifact(4, seeds=(4, 5), rate=rate, head=HEAD), clean, planted)


def tuned(rate, clean, planted, schedule="authors", seed=4):
    recipe = replace(HEAD, schedule=schedule)
    return done(FineTunedOnArtifact(seed, rate=rate, training=recipe), [clean], [planted])


def test_reliance_is_the_share_of_class_0_that_the_artifact_turns():
    found = outcomes([frozen(0.3, [[0, 0, 0, 1], [1, 1, 1, 1]], [[1, 0, 1, 0], [1, 1, 1, 1]])])
    first, second = reliance_table(found).to_dict("records")
    assert (first["rate"], first["seed"], first["model"], first["schedule"]) == (0.3, 4, FROZEN, "")
    assert first["reliance"] == pytest.approx(2 / 3)
    assert (first["relevance"], first["accuracy"]) == (0.5, 0.75)
    assert np.isnan(second["reliance"])  # no text is predicted as class 0
    model = found[Group(FROZEN, "")][0.3][4]
    assert reliance(model, np.array([1, 2])) == 0.5


def test_models_are_told_apart_by_the_schedule_of_their_training():
    found = outcomes([tuned(0.0, [0, 1], [0, 1]), tuned(0.0, [0, 1], [1, 1], "described")])
    assert set(found) == {Group(FINE_TUNED, "authors"), Group(FINE_TUNED, "described")}
    assert reliance_table(found)["reliance"].tolist() == [0, 1]


def test_a_gap_is_above_what_the_word_does_without_having_been_planted():
    zeros = [0] * 8
    one, half, every = [1, *zeros[1:]], [1] * 4 + [0] * 4, [1] * 8
    found = outcomes(
        [
            tuned(0.0, zeros, one),
            tuned(1.0, zeros, every),
            frozen(0.0, [zeros, every], [zeros, every]),  # the second model never predicts class 0
            frozen(1.0, [zeros, every], [half, every]),
            tuned(0.0, zeros, zeros, seed=5),
            tuned(1.0, zeros, every, seed=5),
            tuned(1.0, zeros, every, seed=6),  # not done at rate 0
        ]
    )
    gaps = gap_on_halves(found[Group(FINE_TUNED, "authors")], found[Group(FROZEN, "")], 1.0)
    assert gaps.shape == (1, 1 + HALVES)
    assert gaps[0, 0] == pytest.approx((1 - 1 / 8) - 0.5)
    correct = correct_without_artifact(found[Group(FINE_TUNED, "authors")], [0] * 6 + [1] * 2)
    assert correct.mean(axis=1).tolist() == [0.75, 0.75]


def test_a_rate_without_a_finished_run_has_no_gap_and_is_named_if_it_is_the_clean_one():
    zeros = [0] * 8
    two = [zeros, zeros]
    found = outcomes([tuned(0.0, zeros, zeros), tuned(1.0, zeros, zeros), frozen(1.0, two, two)])
    assert gap_on_halves(*found.values(), 1.0).shape == (0, 1 + HALVES)
    with pytest.raises(RuntimeError, match=r"^models at rate 0: no run is done; at least one is required$"):
        correct_without_artifact(found[Group(FROZEN, "")], zeros)


def test_where_all_models_of_a_schedule_failed_the_error_says_why():
    zeros = [0] * 8
    failed = replace(tuned(0.0, zeros, zeros, "described"), status="failed", reason="ValueError: no step")
    assert outcomes([failed, tuned(0.0, zeros, zeros, "described", seed=5)])
    with pytest.raises(RuntimeError, match=r"^fine-tuned models .* 'described': no run .*: no step"):
        outcomes([tuned(0.0, zeros, zeros), failed])
    with pytest.raises(RuntimeError, match=r"^models on texts with the artifact: no run is done"):
        reliance_table({})


def gaps_around(mean, seeds=4):
    """Return a table of gaps with a small variance of seeds and halves: (seeds, 1 + halves)."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((seeds, 1 + HALVES))
    return mean + noise - noise[:, 0].mean()


def test_the_rate_with_the_largest_gap_decides():
    region = Region(below=0.05)
    inside = deciding_gap({0.1: gaps_around(-0.1), 0.3: gaps_around(0.0)}, region, 0.95)
    assert inside == over_halves(gaps_around(0.0)).interval(0.95)
    outside = deciding_gap(
        {0.1: gaps_around(-0.3), 0.3: gaps_around(0.2)}, region, 0.95
    )  # their mean is inside
    assert outside == over_halves(gaps_around(0.2)).interval(0.975)
    across = deciding_gap({0.1: gaps_around(0.05), 0.3: gaps_around(-0.1)}, region, 0.95)
    assert across.low < region.below < across.high


def test_no_rate_decides_if_one_of_them_lacks_models_that_predict_both_classes():
    assert (
        deciding_gap({0.1: gaps_around(0.0), 1.0: gaps_around(0.0, seeds=1)}, Region(below=0.05), 0.95)
        is None
    )
