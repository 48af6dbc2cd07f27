import numpy as np
import pandas as pd
import pytest

from lib.paper3 import repeats
from lib.paper3.tables import as_printed, by_trial, side_by_side
from lib.paper3.trials import in_parts
from lib.qlora.recipes import Recipe, run_of
from lib.runs.records import Record


def record(seed, adapter, repetition=0, status="done"):
    settings = run_of(seed, "m", "t", Recipe(), device="cpu", deterministic=True, repetition=repetition)
    done = status == "done"
    return Record(
        settings=settings,
        status=status,
        reason=None if done else "Boom",
        result={"adapter": adapter} if done else {},
        provenance={},
        device="cpu",
        versions={},
        seconds=1.0,
        peak_memory=0,
        attempts=1,
    )


def test_agreement_by_hand():
    unanimous, pairwise = repeats.agreement([["a", "b", "c"], ["a", "b", "d"], ["a", "x", "d"]])
    assert unanimous == pytest.approx(1 / 3)
    assert pairwise == pytest.approx((2 / 3 + 1 / 3 + 2 / 3) / 3)


def test_bitwise_tells_the_last_bit():
    value = np.array([0.1, 0.2])
    records = [{"losses": value}, {"losses": value.copy()}, {"losses": np.nextafter(value, 1)}]
    assert repeats.bitwise(records, ["losses"]) == {"losses": 2}


def test_same_seeds_and_different_seeds_are_counted_apart():
    trials = [record(0, "x", status="failed"), record(1, "a"), record(2, "b"), record(3, "b")]
    counts = repeats.repeats(trials, [record(1, "a", repetition=1)], ["adapter"])
    assert counts.loc[("same seeds, twice", "m", "32-bit"), "adapter"] == 1
    assert counts.loc[("different seeds", "m", "32-bit"), "adapter"] == 2


def test_different_texts_are_counted_by_prompt():
    assert repeats.different_texts([["a", "x"], ["a", "y"]]) == [0.5, 1.0]


def test_a_plan_is_one_sweep_and_its_records_come_back_in_parts():
    asked = []

    def sweep(runs):
        asked.append(runs)
        return [run["seed"] for run in runs]

    plan = {"trials": [{"seed": 1}, {"seed": 2}], "again": [{"seed": 1}], "none": []}
    assert in_parts(plan, sweep) == {"trials": [1, 2], "again": [1], "none": []}
    assert len(asked) == 1


def test_own_and_published_values_have_one_form():
    table = pd.DataFrame(
        {
            "model": ["m"] * 4,
            "bits": ["8-bit"] * 2 + ["32-bit"] * 2,
            "seed": [8, 7, 7, 8],
            "x": [2.0, 1, 3, 4],
        }
    )
    own = by_trial(table, "x")
    assert own["m", "8-bit"].to_list() == [1, 2]
    assert own.equals(as_printed({"M": {"8-bit": [1.0, 2], "32-bit": [3.0, 4]}}, {"m": "M"}))


def test_completions_stand_beside_the_published_ones_trial_by_trial():
    table = pd.DataFrame(
        {
            "model": ["m", "m", "other"],
            "bits": ["32-bit", "32-bit", "32-bit"],
            "seed": [8, 7, 7],
            "completions": [["p", "second"], ["p", "first"], ["p", "no"]],
        }
    )
    shown = side_by_side(table, "m", 1, {"8-bit": ["x", "y", "z"], "32-bit": ["u", "v", ""]})
    assert shown["here", "32-bit"].to_list()[:2] == ["first", "second"]
    assert shown["here", "32-bit"].isna().to_list() == [False, False, True]
    assert shown["paper", "32-bit"].to_list() == ["u", "v", ""]
    assert shown.index.to_list() == [1, 2, 3]
