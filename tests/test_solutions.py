"""The exercises of the notebooks, and their worked solutions: one for each, on the notebook's own runs."""

import json
import re

import execute
import nbformat
import pandas as pd
import pytest

from lib.settings import PROJECT_ROOT

STEMS = [path.stem for path in execute.NOTEBOOKS]
EXECUTED = PROJECT_ROOT / "notebooks" / "executed" / "demo" / "solutions"

each = pytest.mark.parametrize("stem", STEMS)


def cells(*where):
    return nbformat.read(PROJECT_ROOT.joinpath("notebooks", *where), as_version=4).cells


def sections(found, heading):
    """Return each exercise's title and the cells from its heading to the next one."""
    by_title = {}
    title = None
    for cell in found:
        if cell.cell_type == "markdown" and (match := re.match(heading, cell.source)):
            title = match[1]
            by_title[title] = []
        if title:
            by_title[title].append(cell)
    return by_title


def exercises(stem):
    """Return each exercise's text by its title."""
    (cell,) = [cell for cell in cells(f"{stem}.ipynb") if cell.id == "exercises"]
    parts = re.split(r"^### (Exercise \d+: .+)$", cell.source, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@each
def test_every_exercise_has_a_goal_a_time_a_hint_and_a_link(stem):
    found = exercises(stem)
    assert len(found) == {"1": 5, "2": 7, "3": 8}[stem[0]]
    for number, (title, text) in enumerate(found.items(), 1):
        assert title.startswith(f"Exercise {number}: ")
        assert re.search(r"^\*\*Goal:\*\* .{20,}<br>$", text, re.MULTILINE), title
        assert re.search(r"^\*\*Time:\*\* .*(minute|hour)", text, re.MULTILINE), title
        assert re.search(r"<details><summary>Hint</summary>\n\n.{20,}\n\n</details>", text, re.DOTALL), title
        assert f"](solutions/{stem}.ipynb)" in text, title


@each
def test_every_exercise_has_a_solution_and_every_solution_an_exercise(stem):
    solved = sections(cells("solutions", f"{stem}.ipynb"), r"## (Exercise \d+: .+)\n")
    assert list(solved) == list(exercises(stem))
    for title, found in solved.items():
        text = "\n".join(cell.source for cell in found if cell.cell_type == "markdown")
        assert text.count("**Idea.**") == text.count("**What to conclude.**") == 1, title
        assert any(cell.cell_type == "code" for cell in found), title


@each
def test_a_solution_has_the_parameters_of_its_notebook(stem):
    """Its records are found by them, and the profiles' files apply to it."""
    (own,) = [cell.source for cell in cells("solutions", f"{stem}.ipynb") if cell.id == "parameters"]
    (given,) = [
        cell.source for cell in cells(f"{stem}.ipynb") if "parameters" in cell.metadata.get("tags", [])
    ]
    assert own == given.replace(f"figures/demo/{stem}", f"figures/demo/solutions/{stem}")


@each
def test_a_cell_that_a_solution_takes_over_begins_as_in_the_notebook(stem):
    of_notebook = {cell.id: cell.source for cell in cells(f"{stem}.ipynb") if cell.cell_type == "code"}
    taken = [cell for cell in cells("solutions", f"{stem}.ipynb") if cell.id in of_notebook]
    assert len(taken) > 3
    for cell in taken:
        if cell.id != "parameters":
            assert of_notebook[cell.id].startswith(cell.source), cell.id


@each
def test_a_solution_carries_no_outputs_and_describes_its_figures(stem):
    found = [cell for cell in cells("solutions", f"{stem}.ipynb") if cell.cell_type == "code"]
    drawn = 0
    for cell in found:
        assert not cell.outputs
        assert cell.execution_count is None
        drawn += "study.save(" in cell.source
        described = len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 80
        assert described == ("study.save(" in cell.source), cell.id
    assert drawn


@each
def test_a_committed_solution_is_whole_and_comes_from_the_current_source(stem):
    path = EXECUTED / f"{stem}.ipynb"
    found = nbformat.read(path, as_version=4)
    made = [cell for cell in found.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    assert [cell.source for cell in made] == [cell.source for cell in cells("solutions", f"{stem}.ipynb")]
    for cell in found.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert not any(output.output_type == "error" for output in cell.outputs)
    assert str(PROJECT_ROOT) not in json.dumps(found)
    assert path.with_suffix(".html").is_file()


@each
def test_a_committed_solution_counts_the_verdicts_that_are_committed(stem):
    repeated = pd.read_csv(PROJECT_ROOT / "docs" / "verdicts.csv")
    verdicts = repeated[repeated["notebook"] == stem].groupby("name")["verdict"].nunique()
    expected = f"{(verdicts > 1).sum()} of {len(verdicts)} verdicts changed"
    assert expected in (EXECUTED / f"{stem}.ipynb").read_text(encoding="utf-8")


def test_a_solution_has_its_figures_beside_those_of_its_profile():
    given = execute._parameters(execute.SOLUTIONS[0], "smoke", {})
    assert given["figure_dir"] == f"figures/smoke/solutions/{STEMS[0]}"
    assert given["cache_dir"] == ".cache/smoke"
    chosen = execute._parameters(execute.SOLUTIONS[0], "smoke", {"figure_dir": "elsewhere"})
    assert chosen["figure_dir"] == "elsewhere"
