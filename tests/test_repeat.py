"""How repeatable a verdict is: what the report says of verdicts that stood, flipped or are missing."""

import os

import pandas as pd
import pytest
import repeat


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


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    with repeat._environment(repeat.OTHER_INSTRUCTIONS):
        assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2"
    assert "ATEN_CPU_CAPABILITY" not in os.environ
