"""How repeatable a verdict is: what the report says of verdicts that stood, flipped or are missing."""

import os
from pathlib import Path

import execute
import pandas as pd
import pytest
import repeat
from execution import Outcome


def verdicts(**rows):
    """Verdicts by claim: (verdict, low, high), the region above 0."""
    table = pd.DataFrame(rows, index=["verdict", "low", "high"]).T
    return table.assign(claim=[f"{name} | holds." for name in table.index], above=0.0, below=float("inf"))


def test_the_report_says_which_verdicts_stood():
    first = verdicts(better=("reproduced", 0.1, 0.3), same=("not reproduced", -0.4, -0.2))
    other = verdicts(better=("not testable at this scale", -0.1, 0.3), same=("not reproduced", -0.5, -0.1))
    report = repeat.report({"1_notebook": {"first run": first, "seeds 100…": other}}, "demo")
    assert "1 of 2 verdicts stood in 2 runs." in report
    assert "| better / holds. | yes | open | 0.25 | **no** |" in report
    assert "| same / holds. | no | no | 0.25 | yes |" in report


def test_every_verdict_is_kept_with_the_first_run_first():
    first = verdicts(better=("reproduced", 0.1, 0.3))
    other = verdicts(better=("not testable at this scale", -0.1, 0.3))
    kept = repeat.every_verdict({"1_notebook": {"first run": first, "AVX2": other}})
    assert kept[["notebook", "name", "run"]].to_numpy().tolist() == [
        ["1_notebook", "better", "first run"],
        ["1_notebook", "better", "AVX2"],
    ]
    assert kept["verdict"].tolist() == ["reproduced", "not testable at this scale"]
    assert kept["margin"].tolist() == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 0.3, 0.5), (None, None, None), (1.0, 1.0, float("inf")), (-0.1, 0.3, 0.25)],
)
def test_a_margin_is_in_widths_of_the_interval(low, high, expected):
    row = verdicts(claim=("reproduced", low, high)).loc["claim"]
    margin = repeat.margin(row)
    assert margin == (expected if expected is None else pytest.approx(expected))


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """A repository whose two notebooks have verdicts of an earlier run; what is executed instead of them.

    A notebook writes that its claim was reproduced; "2_broken" fails, and writes nothing.
    """
    seen = []

    def execute_falsely(notebook, folder, parameters):
        seen.append((notebook.stem, parameters, os.environ.get("ATEN_CPU_CAPABILITY")))
        if notebook.stem != "2_broken":
            write_verdicts(
                tmp_path / parameters.get("figure_dir", f"figures/demo/{notebook.stem}"), "reproduced"
            )
        return Outcome(notebook.stem, 1.0, "", notebook.stem == "2_broken", tmp_path / "page.html")

    for name in ("1_whole", "2_broken"):
        write_verdicts(tmp_path / "figures" / "demo" / name, "not reproduced")
    (tmp_path / "docs").mkdir()
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setattr(repeat, "ROOT", tmp_path)
    for module in (repeat, execute):
        monkeypatch.setattr(module, "execute", execute_falsely)
    monkeypatch.setattr(execute, "NOTEBOOKS", [Path("1_whole.ipynb"), Path("2_broken.ipynb")])
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "_parameters", lambda notebook, profile, overrides: dict(overrides))
    monkeypatch.setattr(execute, "_refuse_unknown", lambda overrides, notebooks: None)
    monkeypatch.setattr(execute, "_most_seeds", lambda profile, overrides: 16)
    return seen


def write_verdicts(figures, verdict):
    figures.mkdir(parents=True, exist_ok=True)
    verdicts(better=(verdict, 0.1, 0.3)).to_csv(figures / "verdicts.csv", index_label="name")


def test_each_repetition_changes_seeds_or_instructions_and_writes_elsewhere(executed, tmp_path):
    assert execute.main(["--repeat", "3", "--only", "1"]) == 0
    first, other_seeds, other_instructions = executed
    assert first == ("1_whole", {}, None)
    folder = tmp_path / ".cache" / "repetitions" / "demo"
    assert other_seeds == ("1_whole", {"first_seed": 100, "figure_dir": f"{folder}/1/1_whole"}, None)
    changed = {"cache_dir": ".cache/demo-AVX2", "figure_dir": f"{folder}/AVX2/1_whole"}
    assert other_instructions == ("1_whole", changed, "avx2")
    assert "ATEN_CPU_CAPABILITY" not in os.environ
    kept = pd.read_csv(tmp_path / "docs" / "verdicts.csv")
    assert kept["run"].tolist() == ["first run", "seeds 100…", "AVX2"]


@pytest.mark.parametrize(
    ("profile", "overrides", "seeds", "apart"),
    [
        ("demo", {}, 16, 100),
        ("demo", {"trials": 50}, 50, 100),
        ("demo", {"random_label_seeds": 60}, 120, 200),
        ("gpu", {}, 200, 200),
        ("paper", {}, 200, 200),
    ],
)
def test_no_two_runs_share_a_seed(profile, overrides, seeds, apart):
    most_seeds = execute._most_seeds(profile, overrides)
    assert most_seeds == seeds
    repeated = repeat.repetitions(4, profile, most_seeds)
    assert [repetition.parameters.get("first_seed") for repetition in repeated] == [apart, 2 * apart, None]


def test_a_first_run_that_failed_is_not_repeated_nor_counted(executed, tmp_path):
    assert execute.main(["--repeat", "2"]) == 1
    assert [name for name, _, _ in executed] == ["1_whole", "2_broken", "1_whole"]
    kept = pd.read_csv(tmp_path / "docs" / "verdicts.csv")
    assert kept["notebook"].tolist() == ["1_whole", "1_whole"]
    assert set(kept["verdict"]) == {"reproduced"}


def test_if_every_first_run_fails_the_report_stays_as_it_was(executed, tmp_path):
    assert execute.main(["--repeat", "2", "--only", "2"]) == 1
    assert [name for name, _, _ in executed] == ["2_broken"]
    assert list((tmp_path / "docs").iterdir()) == []


def test_the_first_run_s_verdicts_are_read_where_its_figures_are(executed, tmp_path):
    assert execute.main(["--repeat", "2", "--only", "1", "-p", "figure_dir", "elsewhere"]) == 0
    assert set(pd.read_csv(tmp_path / "docs" / "verdicts.csv")["verdict"]) == {"reproduced"}
    earlier = pd.read_csv(tmp_path / "figures" / "demo" / "1_whole" / "verdicts.csv")
    assert earlier["verdict"].tolist() == ["not reproduced"]
