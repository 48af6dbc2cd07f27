"""The study that a notebook holds: verdicts by name, figures and verdicts where the settings say."""

from dataclasses import dataclass

import pandas as pd
import papermill
import pytest

from lib import study as studies
from lib.claims import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED
from lib.intervals import Interval
from lib.runs import Run
from lib.settings import PROJECT_ROOT, FinetunedVsFrozen
from lib.study import Study

PARAMETERS = papermill.inspect_notebook(str(PROJECT_ROOT / "notebooks" / "1_finetuned_vs_frozen.ipynb"))
DEFAULTS = {name: eval(text["default"], {"__builtins__": {}}) for name, text in PARAMETERS.items()}  # noqa: S307
CLAIM = "finetuning_concentrates"  # its region: above 0
BETTER, WORSE = Interval(0.1, 0.05, 0.15), Interval(-0.1, -0.15, -0.05)


@dataclass(frozen=True)
class Square(Run):
    """A seed's square; an odd seed fails."""

    def carry_out(self, *, add):
        if self.seed % 2:
            raise RuntimeError("odd")
        return {"square": self.seed**2 + add}


@pytest.fixture
def study(tmp_path):
    folders = {"cache_dir": str(tmp_path / "cache"), "figure_dir": str(tmp_path / "figures")}
    settings = FinetunedVsFrozen.from_namespace(DEFAULTS | folders | {"workers": 1, "device": "cpu"})
    study = Study(paper=1, settings=settings)
    for claim in study.claims.values():
        for condition in claim.requires:
            study.require(condition, True, "")
    return study


def test_a_claim_judged_again_has_one_verdict_and_it_is_the_last(study):
    study.judge(CLAIM, WORSE)
    study.judge("no_overfitting_frozen", None, "no reason but this")
    first = study.count()
    assert study.judge(CLAIM, WORSE).verdict == NOT_REPRODUCED
    assert study.count() == first
    assert study.judge(CLAIM, BETTER).verdict == REPRODUCED
    study.verdicts()
    saved = pd.read_csv(study.settings.figure_dir / "verdicts.csv")
    assert saved["name"].tolist() == ["no_overfitting_frozen", CLAIM]
    assert saved["verdict"].tolist() == [NOT_TESTABLE, REPRODUCED]
    assert saved.loc[1, ["estimate", "low", "high"]].tolist() == [0.1, 0.05, 0.15]


def test_the_order_of_judging_does_not_matter_to_the_closing_table(study, tmp_path):
    names = list(study.claims)
    for name in reversed(names):
        study.judge(name, None, "not measured")
    study.verdicts()
    assert pd.read_csv(study.settings.figure_dir / "verdicts.csv")["name"].tolist() == names


def test_a_claim_whose_requirement_does_not_hold_is_not_testable(study):
    qlora = Study(paper=3, settings=study.settings)
    ratio = Interval(1.1, 1.05, 1.15)
    with pytest.raises(
        ValueError, match="claim 'slower_32_bit' requires 'a_gpu', which has not been checked"
    ):
        qlora.judge("slower_32_bit", ratio)
    qlora.require("a_gpu", False, "there is no GPU here")
    refused = qlora.judge("slower_32_bit", ratio)
    assert (refused.verdict, refused.reason) == (NOT_TESTABLE, "there is no GPU here")
    qlora.require("a_gpu", True, "there is no GPU here")
    assert qlora.judge("slower_32_bit", ratio).verdict == REPRODUCED
    with pytest.raises(KeyError, match="condition 'a_gpus' of paper 3; allowed: a_dozen_texts, a_gpu, "):
        qlora.require("a_gpus", True, "")


def test_an_unknown_claim_is_refused(study):
    with pytest.raises(KeyError, match=r"claim 'better' of paper 1; allowed: finetuned_better_on_reviews, "):
        study.judge("better", BETTER)


def test_too_few_finished_runs_take_every_verdict_away(study):
    records = study.sweep([Square(seed) for seed in (0, 1, 2, 4)], add=1)
    assert [record.status for record in records] == ["done", "failed", "done", "done"]
    assert [records[number]["square"] for number in (0, 2, 3)] == [1, 5, 17]
    assert study.rest_on(records) == "3 of 4 runs (failed: 1 RuntimeError)"
    verdict = study.judge(CLAIM, BETTER)
    assert verdict.verdict == NOT_TESTABLE
    assert verdict.reason.startswith("rests on 3 of 4 runs")
    study.rest_on(records[2:])
    assert study.judge(CLAIM, BETTER).verdict == REPRODUCED


def test_a_sweep_is_carried_out_as_the_settings_say(study, monkeypatch):
    asked = {}
    monkeypatch.setattr(studies, "sweep", lambda runs, inputs, **how: asked.update(how, inputs=inputs) or [])
    study.sweep([Square(0)], together=3, add=2)
    assert asked["inputs"] == {"add": 2}
    assert {name: asked[name] for name in ("name", "workers", "device", "deterministic", "together")} == {
        "name": "paper1",
        "workers": 1,
        "device": "cpu",
        "deterministic": True,
        "together": 3,
    }
    assert asked["cache_dir"] == study.settings.cache_dir
