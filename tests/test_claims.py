"""A verdict follows from the interval and the region alone."""

import pytest
from pydantic import ValidationError

from lib import claims
from lib.claims import Claim, Interval, Region, judge

CLAIM = Claim(section="1", statement="s", published="p", quantity="q", region=Region(above=-0.02, below=0.02))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.01, claims.REPRODUCED),
        (0.03, 0.05, claims.NOT_REPRODUCED),
        (-0.05, -0.02, claims.NOT_REPRODUCED),
        (0.01, 0.03, claims.NOT_TESTABLE),
        (-0.02, 0.01, claims.NOT_TESTABLE),  # the border itself is outside
        (-0.5, 0.5, claims.NOT_TESTABLE),
    ],
)
def test_the_three_verdicts(low, high, verdict):
    assert judge(CLAIM, Interval((low + high) / 2, low, high)).verdict == verdict


def test_without_a_measurement_there_must_be_a_reason():
    assert judge(CLAIM, None, "too small").verdict == claims.NOT_TESTABLE
    with pytest.raises(ValueError, match="a reason is wanted"):
        judge(CLAIM, None)


@pytest.mark.parametrize("bounds", [{}, {"above": 1.0, "below": 1.0}, {"above": 2.0, "below": 1.0}])
def test_a_region_that_decides_nothing_is_refused(bounds):
    with pytest.raises(ValidationError):
        Region(**bounds)


def test_an_interval_must_hold_its_estimate():
    with pytest.raises(ValueError, match="does not hold"):
        Interval(2.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="does not hold"):
        Interval(float("nan"), float("nan"), float("nan"))


@pytest.mark.parametrize("paper", [1, 2, 3])
def test_every_claim_of_the_papers_is_complete(paper):
    loaded = claims.load_claims(paper)
    assert len(loaded) >= 5
    assert all(claim.statement and claim.published and claim.quantity for claim in loaded.values())
    assert claims.published(paper)


def test_published_values_that_the_paper_prints_twice_agree():
    published = claims.published(1)
    for task in ("allocine", "infopinion"):
        table_1, table_3 = published["accuracy"][task], published["cross_task"][task]
        assert table_1["finetuned"]["test"] == table_3[task]
        assert table_1["frozen"]["test"] == table_3["frozen"]


def test_the_closing_table_and_its_count():
    verdicts = [judge(CLAIM, Interval(0.0, -0.01, 0.01)), judge(CLAIM, None, "too small")]
    table = claims.verdict_table(verdicts)
    assert table["verdict"].tolist() == [claims.REPRODUCED, claims.NOT_TESTABLE]
    assert table["measured here"].tolist() == ["0 [-0.01, 0.01]", "—"]
    counted = claims.count_verdicts(verdicts)
    assert counted == "1 reproduced, 0 not reproduced, 1 not testable at this scale"
