"""A verdict follows from the interval and the region alone; claims and published values are complete."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from lib import claims
from lib.claims import Claim, Region, decisive, decisive_part, judge
from lib.intervals import Interval, exactly, mean_and_range, mean_interval

CLAIM = Claim(
    name="n",
    section="1",
    statement="s",
    published="p",
    quantity="q",
    region=Region(above=-0.02, below=0.02),
    why="w",
)


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
    judged = judge(CLAIM, Interval((low + high) / 2, low, high))
    assert judged.verdict == verdict
    assert (judged.estimate, judged.low, judged.high) == ((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("low", "high", "contained", "excluded"),
    [
        (1, 2, True, False),
        (0, 1, False, False),
        (-1, 0, False, True),
        (-1, 4, False, False),
        (3, 4, False, True),
    ],
)
def test_a_region_contains_or_excludes_whole_intervals(low, high, contained, excluded):
    region, interval = Region(above=0, below=3), Interval((low + high) / 2, low, high)
    assert region.contains(interval) == contained
    assert region.excludes(interval) == excluded


def test_a_region_names_the_bounds_it_has():
    assert str(Region(above=0.8)) == "above 0.8"
    assert str(Region(below=1.25)) == "below 1.25"
    assert str(Region(above=0.8, below=1.25)) == "above 0.8 and below 1.25"


def test_an_interval_of_no_width_settles_nothing_unless_it_is_a_count():
    judged = judge(CLAIM, Interval(0.0, 0.0, 0.0))
    assert judged.verdict == claims.NOT_TESTABLE
    assert judged.reason == "the interval has no width: nothing varied in this sample"
    assert judge(CLAIM, exactly(0)).verdict == claims.REPRODUCED
    assert judge(CLAIM, exactly(1)).verdict == claims.NOT_REPRODUCED


def test_without_a_measurement_a_reason_is_required():
    assert judge(CLAIM, None, "too small").verdict == claims.NOT_TESTABLE
    with pytest.raises(ValueError, match="claim 'n' has no measurement: a reason is required"):
        judge(CLAIM, None)


@pytest.mark.parametrize("bounds", [{}, {"above": 1.0, "below": 1.0}, {"above": 2.0, "below": 1.0}])
def test_a_region_that_decides_nothing_is_refused(bounds):
    with pytest.raises(ValidationError):
        Region(**bounds)


@pytest.mark.parametrize("confidence", [0, 1, 90, "high"])
def test_a_confidence_that_no_interval_has_is_refused(confidence):
    with pytest.raises(ValidationError, match="confidence"):
        Claim.model_validate(CLAIM.model_dump() | {"confidence": confidence})


@pytest.mark.parametrize("paper", [1, 2, 3])
def test_a_claim_names_an_interval_of_its_own_in_words_too(paper):
    for claim in claims.load_claims(paper).values():
        in_words = re.findall(r"(\d+) % interval", claim.quantity)
        assert in_words == ([f"{100 * claim.confidence:g}"] if claim.confidence else []), claim.name


@pytest.mark.parametrize("paper", [1, 2, 3])
def test_every_claim_of_the_papers_is_complete(paper):
    loaded = claims.load_claims(paper)
    assert len(loaded) >= 5
    assert all(claim.name == name for name, claim in loaded.items())
    assert all(c.statement and c.published and c.quantity and c.why for c in loaded.values())
    assert claims.published(paper)


def test_a_margin_sets_the_regions_given_by_it_and_no_others():
    default, wide = claims.load_claims(2), claims.load_claims(2, margin=2)
    assert default["signal_same_frozen"].region == Region(above=0.8, below=1.25)
    assert wide["signal_same_frozen"].region == Region(above=0.5, below=2)
    assert default["noise_not_reduced_by_quantising"].region == Region(above=0.8)
    assert wide["noise_not_reduced_by_quantising"].region == Region(above=0.5)
    assert default["equal_bits_other_noise"].region == Region(above=1.25)
    assert wide["equal_bits_other_noise"].region == Region(above=2)
    elasticity = math.log(2) / math.log(4.76)
    assert wide["bits_fall_without_noise"].region == Region(above=-elasticity, below=elasticity)
    assert wide["reductions_differ"].region == Region(above=elasticity)
    changed = {name for name in default if default[name] != wide[name]}
    assert changed == {
        "signal_same_quantised",
        "signal_same_frozen",
        "noise_not_reduced_by_quantising",
        "nf4_like_fp4",
        "bits_fall_without_noise",
        "reductions_differ",
        "equal_bits_other_noise",
        "freezing_hides_noise",
    }


def test_an_elasticity_is_what_quantising_camembert_would_change_by_the_margin():
    values = claims.published(2)
    full, quantised = (values["table_1"][name]["surface"] for name in ("fine-tuned", "fine-tuned fp4"))
    # the paper prints 7.4e7 where 7.4e8 is counted (notebook 2 shows the arithmetic)
    assert full / (10 * quantised) == pytest.approx(4.76, abs=0.05)


@pytest.mark.parametrize("margin", [1, 0.8, -2.0, math.inf, math.nan])
def test_a_margin_that_allows_no_difference_or_every_difference_is_refused(margin):
    with pytest.raises(ValueError, match=r"margin = .*: allowed are finite factors above 1"):
        claims.load_claims(2, margin=margin)


def test_a_claim_without_the_margin_it_needs_is_refused(tmp_path, monkeypatch):
    fields = {"section": "1", "statement": "s", "published": "p", "quantity": "q", "why": "w"}
    document = {"claims": {"same": fields | {"region": {"within_factor": "margin"}}}}
    (tmp_path / "paper9.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setattr(claims, "_PUBLISHED", tmp_path)
    with pytest.raises(ValueError, match=r"^claim 'same' needs a margin: [^\n]*$"):
        claims.load_claims(9)
    assert claims.load_claims(9, margin=1.5)["same"].region == Region(above=1 / 1.5, below=1.5)


def test_published_values_that_the_paper_prints_twice_agree():
    published = claims.published(1)
    for task in ("allocine", "infopinion"):
        table_1, table_3 = published["accuracy"][task], published["cross_task"][task]
        assert table_1["finetuned"]["test"] == table_3[task]
        assert table_1["frozen"]["test"] == table_3["frozen"]


def test_the_published_tables_have_seven_trials_everywhere():
    values = claims.published(3)
    for name in ("perplexity", "train_seconds", "test_seconds"):
        assert {len(column) for model in values[name].values() for column in model.values()} == {7}
    for printed in (values["completions"], values["answers"]):
        assert set(printed) <= set(values["models"])
    answers = [column for model in values["answers"].values() for bits in model.values() for column in bits]
    prompts = [prompt for model in values["completions"].values() for prompt in model.values()]
    completions = [column for prompt in prompts for column in prompt.values()]
    assert {len(column) for column in answers + completions} == {7}


def test_the_closing_table_and_its_counts():
    verdicts = [judge(CLAIM, Interval(0.0, -0.01, 0.01)), judge(CLAIM, None, "too small")]
    table = claims.verdict_table(verdicts)
    assert table["verdict"].tolist() == [claims.REPRODUCED, claims.NOT_TESTABLE]
    assert table["measured here"].tolist() == ["0 [-0.01, 0.01]", "—"]
    assert claims.count_verdicts(verdicts) == "1 reproduced, 0 not reproduced, 1 not testable at this scale"


def test_a_reproduced_claim_says_why_it_could_hardly_fail():
    easy = CLAIM.model_copy(update={"by_construction": "it is defined so"})
    held, failed = judge(easy, Interval(0.0, -0.01, 0.01)), judge(easy, Interval(0.5, 0.4, 0.6))
    assert held.reason.endswith("; could hardly fail: it is defined so")
    assert "hardly" not in failed.reason
    counts = claims.count_verdicts([held, failed, judge(CLAIM, Interval(0.0, -0.01, 0.01))])
    expected = "2 reproduced (1 of them could hardly fail), 1 not reproduced, 0 not testable at this scale"
    assert counts == expected


def test_the_csv_table_keeps_every_digit(tmp_path):
    third = 1 / 3
    verdicts = [judge(CLAIM, Interval(third, -third, 0.5)), judge(CLAIM, None, "too small")]
    claims.verdict_csv_table(verdicts).to_csv(tmp_path / "verdicts.csv", index=False)
    first, second = pd.read_csv(tmp_path / "verdicts.csv").to_dict("records")
    assert first == {
        "name": "n",
        "section": 1,
        "claim": "s",
        "published": "p",
        "quantity": "q",
        "region": "above -0.02 and below 0.02",
        "above": -0.02,
        "below": 0.02,
        "estimate": third,
        "low": -third,
        "high": 0.5,
        "verdict": claims.NOT_TESTABLE,
        "why": "only part of the interval lies above -0.02 and below 0.02",
    }
    assert second["why"] == "too small"
    assert all(math.isnan(second[bound]) for bound in ("estimate", "low", "high"))


def test_false_verdicts_are_expected_of_intervals_only():
    measured = [Interval(1, 0, 2), exactly(2), None, Interval(3, 1, 5), mean_and_range([1, 3])]
    verdicts = [judge(CLAIM, interval, "too small") for interval in measured]
    text = claims.false_verdicts(verdicts, 0.95)
    assert text.startswith("4 of 5 claims were measured, 2 of them by an interval. If all of these")
    assert "0.05 would be expected to be found reproduced by chance" in text
    assert "at least one with a probability of 5 % if" in text  # 1 - 0.975 ** 2 = 0.049


def test_claims_judged_at_90_percent_pass_twice_as_often_by_chance():
    equal = CLAIM.model_copy(update={"confidence": 0.9})
    verdicts = [judge(claim, Interval(1, 0, 2)) for claim in (CLAIM, equal, equal)]
    text = claims.false_verdicts(verdicts, 0.95)
    assert "3 of them by an interval (2 of these at 90 %)" in text
    assert "cover as stated, 0.12 would" in text  # 0.025 + 2 x 0.05
    assert "a probability of 12 % if" in text  # 1 - 0.975 x 0.95 ** 2


@pytest.mark.parametrize(
    ("intervals", "region", "chosen"),
    [
        ([Interval(2, 1, 3), Interval(1.5, 1.2, 2)], Region(above=0), 1),  # both inside: the nearer one
        ([Interval(2, -1, 5), Interval(1, 0.5, 2)], Region(above=0), 0),  # across comes before inside
        ([Interval(2, -1, 5), Interval(-1, -2, -0.5)], Region(above=0), 1),  # outside comes first
        ([Interval(1.1, 1.05, 1.2), Interval(1.8, 1.7, 1.9)], Region(above=1, below=1.25), 1),
    ],
)
def test_the_most_contrary_model_decides(intervals, region, chosen):
    models = dict(zip("ab", intervals, strict=True))
    asked = lambda model, _: models[model], list(models), region, 0.95
    assert decisive_part(*asked) == ("ab"[chosen], intervals[chosen])
    assert decisive(*asked) == intervals[chosen]


def test_a_model_that_speaks_against_a_claim_needs_the_corrected_interval():
    asked = []

    def measure(model, confidence):
        asked.append((model, round(confidence, 4)))
        return Interval(1, 0.5, 2) if model == "a" else Interval(-1, -2, 0.5 if confidence > 0.95 else -0.5)

    assert decisive(measure, ["a", "b"], Region(above=0), 0.95) == Interval(-1, -2, 0.5)
    assert asked == [("a", 0.95), ("b", 0.95), ("b", 0.975)]


def test_a_claim_on_the_border_for_all_models_is_rarely_decided():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        samples = {model: rng.normal(0, 1, 7) for model in "abcd"}

        def measure(model, confidence, samples=samples):
            return mean_interval(samples[model], confidence)

        interval = decisive(measure, list("abcd"), Region(above=0), 0.95)
        wrong += interval.high <= 0
    assert wrong <= 16  # at most 2.5 %; binomial(300, 0.025) exceeds 16 with a probability of 0.2 %
