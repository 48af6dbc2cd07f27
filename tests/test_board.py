"""The board shows every claim with what was measured, where it is judged, and how often runs agree."""

import csv
import re
from dataclasses import replace

import pytest
from board import (
    Agreement,
    Claim,
    Measured,
    bar,
    board_html,
    compared_table,
    counts_table,
    read_agreement,
    read_claims,
)
from bs4 import BeautifulSoup

from lib.claims import load_claims
from lib.settings import PROJECT_ROOT

CLAIM = Claim(
    "1_notebook",
    "better",
    "3.1",
    "Fine-tuned <b>better</b>",
    "97 versus 94 %",
    "difference",
    "above 0",
    above=0.0,
    below=float("inf"),
    measured={"demo": Measured("reproduced", "the interval lies above 0", 0.2, 0.1, 0.3)},
)


def test_the_committed_board_has_every_claim():
    claims = read_claims(PROJECT_ROOT / "figures")
    for paper in (1, 2, 3):
        of_paper = [claim.name for claim in claims if claim.paper == paper]
        assert of_paper == list(load_claims(paper))


@pytest.mark.parametrize("profile", ["demo", "real"])
def test_readme_has_the_counts_of_the_committed_verdicts(profile):
    counts = counts_table(read_claims(PROJECT_ROOT / "figures"), profile)
    assert counts in (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("paper", [1, 2, 3])
def test_the_results_set_the_profiles_beside_the_published_values(paper):
    table = compared_table(read_claims(PROJECT_ROOT / "figures"), paper)
    assert table.startswith("| claim | published | demo | real |")
    assert table in (PROJECT_ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_a_line_leads_to_its_section_and_says_how_many_runs_agree():
    key = ("1_notebook", "better")
    page = BeautifulSoup(
        board_html([CLAIM], {key: Agreement(4, 5)}, {key: "1_notebook.html#accuracy"}), "html.parser"
    )
    [row] = page.tbody.find_all("tr")
    assert row.a["href"] == "1_notebook.html#accuracy"
    assert row.a.get_text() == "Fine-tuned <b>better</b>"  # shown as text
    cells = [cell.get_text() for cell in row.find_all("td")]
    assert [cells[1], *cells[-2:]] == ["reproduced", "97 versus 94 %", "4 of 5"]


def test_a_claim_without_a_measurement_has_no_bar():
    unmeasured = Measured("not testable at this scale", "no GPU", None, None, None)
    assert bar(CLAIM, unmeasured) == ""
    page = board_html([replace(CLAIM, measured={"demo": unmeasured})], {}, {("1_notebook", "better"): "#"})
    assert "no GPU" in page


@pytest.mark.parametrize(("above", "below"), [(0.0, float("inf")), (-0.1, 0.5), (float("-inf"), 0.2)])
def test_a_bar_lies_on_the_picture_and_shows_where_the_interval_is(above, below):
    drawn = bar(replace(CLAIM, above=above, below=below), CLAIM.measured["demo"])
    region = re.search(r'<rect x="([\d.]+)" y="2" width="([\d.]+)"', drawn)
    line = re.search(r'<line x1="([\d.]+)" x2="([\d.]+)"', drawn)
    left, width = map(float, region.groups())
    first, last = map(float, line.groups())
    assert 0 <= left < left + width <= 120
    assert 0 < first < last < 120
    assert (first >= left and last <= left + width) == (above < 0.1 and below > 0.3)


def test_an_interval_without_an_end_reaches_the_end_of_the_picture():
    drawn = bar(CLAIM, replace(CLAIM.measured["demo"], high=float("inf")))
    assert "nan" not in drawn
    first, last = map(float, re.search(r'<line x1="([\d.]+)" x2="([\d.]+)"', drawn).groups())
    assert 0 < first < last == 120


def test_agreement_counts_the_runs_with_the_first_run_s_verdict(tmp_path):
    path = tmp_path / "verdicts.csv"
    assert read_agreement(path) == {}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["notebook", "name", "run", "verdict", "margin"])
        writer.writerow(["1_notebook", "better", "first run", "reproduced", "0.5"])
        writer.writerow(["1_notebook", "better", "seeds 100…", "not reproduced", "0.5"])
        writer.writerow(["1_notebook", "better", "AVX2", "reproduced", "0.5"])
    assert read_agreement(path) == {("1_notebook", "better"): Agreement(2, 3)}
