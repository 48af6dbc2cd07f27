"""The papers' claims, their published values, and verdicts by a rule fixed before the runs.

A claim names a quantity and the region in which it must lie for the claim to hold. A notebook measures the
quantity with an interval, and the verdict follows:

- the interval lies inside the region: *reproduced*;
- it lies entirely outside: *not reproduced*;
- it crosses the border, has no width although it was estimated, or nothing could be measured: *not testable
  at this scale*, with the reason.

Claims and published values stand in ``published/paper{1,2,3}.yaml``, transcribed from the papers, and nowhere
else.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lib.intervals import Interval

Part = TypeVar("Part")

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable at this scale"

_PUBLISHED = Path(__file__).parent / "published"


class Region(BaseModel):
    """An open interval of values, unbounded on a side without a bound."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    above: float = -math.inf
    below: float = math.inf

    @model_validator(mode="after")
    def _must_not_be_empty_or_everything(self) -> "Region":
        if not self.above < self.below:
            raise ValueError(f"no value lies above {self.above} and below {self.below}")
        if math.isinf(self.above) and math.isinf(self.below):
            raise ValueError("a region needs a bound: above, below or both")
        return self

    def __str__(self) -> str:
        bounds = []
        if math.isfinite(self.above):
            bounds.append(f"above {self.above:.4g}")
        if math.isfinite(self.below):
            bounds.append(f"below {self.below:.4g}")
        return " and ".join(bounds)

    def contains(self, interval: Interval) -> bool:
        """Whether the whole interval lies inside; a border is outside."""
        return self.above < interval.low and interval.high < self.below

    def excludes(self, interval: Interval) -> bool:
        """Whether no part of the interval lies inside."""
        return interval.high <= self.above or interval.low >= self.below


class Claim(BaseModel):
    """One claim of a paper, and what would confirm it.

    Attributes
    ----------
    name : str
        The claim's key in the YAML file.
    section : str
        Where the paper makes the claim.
    statement : str
        The claim in our own words.
    published : str
        The published values behind it, as printed.
    quantity : str
        What is measured here, with its unit.
    region : Region
        Where that quantity must lie for the claim to hold.
    why : str
        Why the region is fair, and where its bounds come from.
    requires : tuple of str
        Conditions without which the claim cannot be tested; see `lib.study.Study.require`.
    confidence : float or None
        Coverage of the interval that the claim is judged by, above 0 and below 1: 0.9 for two one-sided tests
        at 5 %, as of an equality. None: that of the study's other intervals.
    by_construction : str or None
        Why the claim could hardly fail, if so. It is part of the reason of a verdict "reproduced".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    section: str
    statement: str
    published: str
    quantity: str
    region: Region
    why: str
    requires: tuple[str, ...] = ()
    confidence: float | None = Field(default=None, gt=0, lt=1)
    by_construction: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim, and why.

    Attributes
    ----------
    claim : Claim
        The claim that was judged.
    measured : str
        The measured interval as text; empty without a measurement.
    verdict : str
        "reproduced", "not reproduced" or "not testable at this scale".
    reason : str
        Why.
    estimate, low, high : float or None
        The measured interval; None without a measurement.
    counted : bool
        Whether the measurement has no sampling error (`lib.intervals.Interval.counted`).
    """

    claim: Claim
    measured: str
    verdict: str
    reason: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    counted: bool = False


def published(paper: int) -> dict[str, Any]:
    """Return a paper's published values: ``values`` of ``published/paper{paper}.yaml``."""
    return _read(paper)["values"]


def load_claims(paper: int, *, margin: float | None = None) -> dict[str, Claim]:
    """Return a paper's claims by name, in the order of its YAML file.

    Parameters
    ----------
    paper : int
        1, 2 or 3.
    margin : float, optional
        The factor m within which two quantities count as equal, above 1. It sets the regions that the YAML
        file gives by it: ``within_factor: margin`` is above 1 / m and below m, ``not_below_factor: margin``
        above 1 / m, ``above_factor: margin`` above m. ``within_elasticity: f`` and ``above_elasticity: f``
        stand for the elasticity log m / log f, by which a factor f of one quantity goes with a factor m of
        the other: closer to 0 than that, and above it. Default: the file's ``margin``.

    Raises
    ------
    ValueError
        If the margin is not a finite number above 1, or a claim needs one and there is none.
    pydantic.ValidationError
        If a claim lacks a field, its region is empty, or its confidence is not above 0 and below 1.
    """
    document = _read(paper)
    margin = document.get("margin") if margin is None else margin
    if margin is not None and not 1 < margin < math.inf:
        raise ValueError(f"margin = {margin}: allowed are finite factors above 1")
    claims = {}
    for name, fields in document["claims"].items():
        region = _resolved(name, fields.get("region"), margin)
        claims[name] = Claim.model_validate({"name": name, **fields, "region": region})
    return claims


def _resolved(name: str, region: Any, margin: float | None) -> Any:
    """Replace a region that is given by the margin with its bounds; return any other unchanged."""
    if not isinstance(region, dict) or len(region) != 1 or not region.keys() <= _BY_MARGIN.keys():
        return region
    if margin is None:
        raise ValueError(f"claim {name!r} needs a margin: none was given, and its file has no default")
    [(kind, given)] = region.items()
    return _BY_MARGIN[kind](margin, given)


# The ways in which the YAML files give a region by the margin; see `load_claims`.
_BY_MARGIN: dict[str, Callable[[float, float], dict[str, float]]] = {
    "within_factor": lambda margin, _: {"above": 1 / margin, "below": margin},
    "not_below_factor": lambda margin, _: {"above": 1 / margin},
    "above_factor": lambda margin, _: {"above": margin},
    "within_elasticity": lambda margin, bits: {
        "above": -math.log(margin) / math.log(bits),
        "below": math.log(margin) / math.log(bits),
    },
    "above_elasticity": lambda margin, bits: {"above": math.log(margin) / math.log(bits)},
}


@cache
def _read(paper: int) -> dict[str, Any]:
    return yaml.safe_load((_PUBLISHED / f"paper{paper}.yaml").read_text(encoding="utf-8"))


def judge(claim: Claim, measured: Interval | None, reason: str = "") -> Verdict:
    """Compare a measured interval with the claim's region.

    The reason of a reproduced claim also says why it could hardly fail, if so (`Claim.by_construction`).

    Parameters
    ----------
    claim : Claim
        The claim to judge.
    measured : Interval or None
        The measurement; None if the quantity cannot be measured at this scale. An interval of no width
        settles nothing, unless all there is was counted (`lib.intervals.exactly`): all values of a sample
        were equal, and their spread is unknown.
    reason : str
        Why there is no measurement; required without one, ignored otherwise.

    Raises
    ------
    ValueError
        If there is neither a measurement nor a reason.
    """
    if measured is None:
        if not reason:
            raise ValueError(f"claim {claim.name!r} has no measurement: a reason is required")
        return Verdict(claim, "", NOT_TESTABLE, reason)
    region = claim.region
    if not (measured.counted or measured.has_width):
        verdict, why = NOT_TESTABLE, "the interval has no width: nothing varied in this sample"
    elif region.contains(measured):
        verdict, why = REPRODUCED, f"the interval lies {region}"
        if claim.by_construction:
            why += f"; could hardly fail: {claim.by_construction}"
    elif region.excludes(measured):
        verdict, why = NOT_REPRODUCED, f"no part of the interval lies {region}"
    else:
        verdict, why = NOT_TESTABLE, f"only part of the interval lies {region}"
    bounds = measured.estimate, measured.low, measured.high
    return Verdict(claim, str(measured), verdict, why, *bounds, counted=measured.counted)


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return verdicts as a notebook shows them: (claims, columns), in the order given."""
    return pd.DataFrame(
        [
            {
                "section": verdict.claim.section,
                "claim": verdict.claim.statement,
                "published": verdict.claim.published,
                "measured here": verdict.measured or "—",
                "criterion": f"{verdict.claim.quantity}: {verdict.claim.region}",
                "verdict": verdict.verdict,
                "why": verdict.reason,
            }
            for verdict in verdicts
        ]
    )


def verdict_csv_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return verdicts as a program reads them: (claims, columns), in the order given.

    Returns
    -------
    DataFrame
        Columns ``name``, ``section``, ``claim``, ``published``, ``quantity``, ``region`` (as text),
        ``above``, ``below`` (its bounds, infinite where it has none), ``estimate``, ``low``, ``high`` (None
        without a measurement), ``verdict`` and ``why``.
    """
    return pd.DataFrame(
        [
            {
                "name": verdict.claim.name,
                "section": verdict.claim.section,
                "claim": verdict.claim.statement,
                "published": verdict.claim.published,
                "quantity": verdict.claim.quantity,
                "region": str(verdict.claim.region),
                "above": verdict.claim.region.above,
                "below": verdict.claim.region.below,
                "estimate": verdict.estimate,
                "low": verdict.low,
                "high": verdict.high,
                "verdict": verdict.verdict,
                "why": verdict.reason,
            }
            for verdict in verdicts
        ]
    )


def count_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Return the number of verdicts of each kind, and of those that could hardly fail, in one line."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    easy = sum(
        verdict.verdict == REPRODUCED and verdict.claim.by_construction is not None for verdict in verdicts
    )
    reproduced = f"{counts[REPRODUCED]} {REPRODUCED}"
    if easy > 0:
        reproduced += f" ({easy} of them could hardly fail)"
    others = (f"{counts[kind]} {kind}" for kind in (NOT_REPRODUCED, NOT_TESTABLE))
    return ", ".join([reproduced, *others])


def decisive(
    measure: Callable[[Part, float], Interval], parts: Sequence[Part], region: Region, confidence: float
) -> Interval:
    """Return the interval of the part that decides a claim about all parts: see `decisive_part`."""
    return decisive_part(measure, parts, region, confidence)[1]


def decisive_part(
    measure: Callable[[Part, float], Interval], parts: Sequence[Part], region: Region, confidence: float
) -> tuple[Part, Interval]:
    """Return the part that decides a claim about all parts, such as models or rates, and its interval.

    The claim holds if it holds of each part, and fails if it fails for one. For the first, each part's
    interval has the nominal coverage (an intersection-union test needs no correction); for the second,
    Bonferroni's correction, since one of several parts is singled out.

    Parameters
    ----------
    measure : callable
        Returns a part's interval, given the part and the coverage.
    parts : sequence
        At least one.
    region : Region
        Where the claim holds.
    confidence : float
        Coverage.

    Returns
    -------
    part
        The one that contradicts the claim most: the first of those outside the region, or else across its
        border, or else inside; among equals, the one whose estimate has the smallest distance inward.
    Interval
        Of that part.
    """
    corrected = 1 - (1 - confidence) / len(parts)
    ranked = []
    for part in parts:
        interval = measure(part, confidence)
        if not region.contains(interval):
            interval = measure(part, corrected)
        if region.excludes(interval):
            rank = 0
        elif region.contains(interval):
            rank = 2
        else:
            rank = 1
        distance = min(interval.estimate - region.above, region.below - interval.estimate)
        ranked.append((rank, distance, part, interval))
    return min(ranked, key=lambda entry: entry[:2])[2:]


def false_verdicts(verdicts: Sequence[Verdict], confidence: float) -> str:
    """Say how many claims were measured, and how many would be found reproduced by chance if all were false.

    A claim is false if the true value lies outside its region. It passes if the interval lies inside, so it
    passes most often when the true value lies on the region's border; then the interval misses it on that
    side with probability (1 - confidence) / 2. The sum over the claims is an upper bound of the expectation,
    for dependent claims too. A count, or a range over all there is, has no sampling error and cannot pass by
    chance.

    Parameters
    ----------
    verdicts : sequence of Verdict
    confidence : float
        Coverage of the intervals, except of claims that have their own (`Claim.confidence`).
    """
    measured = [verdict for verdict in verdicts if verdict.estimate is not None]
    intervals = [verdict for verdict in measured if verdict.low != verdict.high and not verdict.counted]
    coverages = [verdict.claim.confidence or confidence for verdict in intervals]
    misses = [(1 - coverage) / 2 for coverage in coverages]
    any_of_them = 1 - math.prod(1 - miss for miss in misses)
    narrower = f" ({coverages.count(0.9)} of these at 90 %)" if 0.9 in coverages else ""
    return (
        f"{len(measured)} of {len(verdicts)} claims were measured, {len(intervals)} of them by an interval"
        f"{narrower}. If all of these were false, with true values on the borders of "
        f"their regions, and if the intervals cover as stated, {sum(misses):.2f} would be expected to be "
        f"found reproduced by chance, and at least one with a probability of {100 * any_of_them:.0f} % if "
        "they were independent."
    )
