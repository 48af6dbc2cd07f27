"""The study that a notebook holds: verdicts by name, figures and verdicts where the settings say."""

import errno
import os
import stat
import tempfile
from dataclasses import dataclass

import pandas as pd
import papermill
import pytest

from lib import study as studies
from lib.claims import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED
from lib.intervals import Interval
from lib.runs import Run
from lib.settings import PROJECT_ROOT, FinetunedVsFrozen, SettingsError
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


def settings(folder, **changed):
    folders = {"cache_dir": str(folder / "cache"), "figure_dir": str(folder / "figures")}
    return FinetunedVsFrozen.from_namespace(DEFAULTS | folders | {"workers": 1, "device": "cpu"} | changed)


@pytest.fixture
def study(tmp_path):
    study = Study(paper=1, settings=settings(tmp_path))
    for claim in study.claims.values():
        for condition in claim.requires:
            study.require(condition, True, "")
    return study


def test_a_cache_is_its_owners_alone(study, tmp_path):
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["cache_dir", "figure_dir"])
@pytest.mark.parametrize("below", ["", "/folder"])
def test_a_file_in_a_folders_place_is_one_line_at_once(tmp_path, name, below):
    file = tmp_path / "file"
    file.touch()
    reason = "(File exists|Not a directory); allowed: a folder that can be made and written"
    with pytest.raises(SettingsError, match=f"^{name} = '{file}{below}': {reason}$"):
        Study(paper=1, settings=settings(tmp_path, **{name: f"{file}{below}"}))


@pytest.mark.parametrize("name", ["cache_dir", "figure_dir"])
def test_a_folder_that_cannot_be_written_is_one_line_at_once(tmp_path, monkeypatch, name):
    read_only = tmp_path / "read-only"

    def temporary_file(dir):
        if dir == read_only:  # whoever may do everything may write there, too: the system's answer is made up
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open(os.devnull, "rb")

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    with pytest.raises(SettingsError, match=f"^{name} = '{read_only}': Permission denied; allowed: a folder"):
        Study(paper=1, settings=settings(tmp_path, **{name: str(read_only)}))


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


def test_a_sweep_with_too_few_finished_runs_is_not_hidden_by_a_whole_one(study):
    failing = study.sweep([Square(seed) for seed in (0, 1, 2, 4)], add=1)
    whole = study.sweep([Square(2 * number) for number in range(10)], add=1)
    assert study.rest_on(whole, failing) == "13 of 14 runs (failed: 1 RuntimeError)"
    assert study.judge(CLAIM, BETTER).reason.startswith("rests on 3 of 4 runs")
    study.rest_on(whole, [])  # what was not asked for cannot have failed
    assert study.judge(CLAIM, BETTER).verdict == REPRODUCED
    study.rest_on([])
    assert study.judge(CLAIM, BETTER).verdict == NOT_TESTABLE


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
