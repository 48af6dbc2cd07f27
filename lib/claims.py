"""The papers' claims, their published values, and verdicts that follow a rule stated before the run.

A claim names a quantity and the region in which that quantity must lie for the claim to hold. The notebook
measures the quantity with an interval, and the verdict follows:

- the interval lies inside the region: *reproduced*;
- it lies wholly outside: *not reproduced*;
- it straddles the border, or there is no measurement: *not testable at this scale*, with the reason.

Claims and published values stand in ``published/paper{1,2,3}.yaml``, transcribed from the papers, and nowhere
else.
"""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from lib.intervals import Interval

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable at this scale"

_PUBLISHED = Path(__file__).parent / "published"


class Region(BaseModel):
    """An interval of values, open at a bound that is not given."""

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
        bounds = [f"above {self.above:g}"] * math.isfinite(self.above)
        bounds += [f"below {self.below:g}"] * math.isfinite(self.below)
        return " and ".join(bounds)


class Claim(BaseModel):
    """One claim of a paper, and what would confirm it.

    Attributes
    ----------
    section : str
        Where the paper makes it.
    statement : str
        The claim in our own words.
    published : str
        The published values that it rests on, as printed.
    quantity : str
        What is measured here, with its unit.
    region : Region
        Where that quantity must lie for the claim to hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    section: str
    statement: str
    published: str
    quantity: str
    region: Region


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim, and why."""

    claim: Claim
    measured: str
    verdict: str
    reason: str


def published(paper: int) -> dict[str, Any]:
    """Return a paper's published values: ``values`` of ``published/paper{paper}.yaml``."""
    return _read(paper)["values"]


def load_claims(paper: int) -> dict[str, Claim]:
    """Return a paper's claims by name, in the order in which the paper makes them.

    Raises
    ------
    pydantic.ValidationError
        If a claim lacks a field or its region is empty.
    """
    return {name: Claim.model_validate(claim) for name, claim in _read(paper)["claims"].items()}


@cache
def _read(paper: int) -> dict[str, Any]:
    return yaml.safe_load((_PUBLISHED / f"paper{paper}.yaml").read_text(encoding="utf-8"))


def judge(claim: Claim, measured: Interval | None, reason: str = "") -> Verdict:
    """Compare a measured interval with the claim's region.

    Parameters
    ----------
    claim : Claim
        What is claimed.
    measured : Interval or None
        What was measured; None where this scale cannot measure it.
    reason : str
        Why there is no measurement; it must be given then.

    Raises
    ------
    ValueError
        If there is neither a measurement nor a reason.
    """
    if measured is None:
        if not reason:
            raise ValueError(f"claim {claim.statement!r}: without a measurement a reason is wanted")
        return Verdict(claim, "", NOT_TESTABLE, reason)
    region = claim.region
    if region.above < measured.low and measured.high < region.below:
        return Verdict(claim, str(measured), REPRODUCED, f"the interval lies {region}")
    if measured.high <= region.above or measured.low >= region.below:
        return Verdict(claim, str(measured), NOT_REPRODUCED, f"no part of the interval lies {region}")
    return Verdict(claim, str(measured), NOT_TESTABLE, f"only a part of the interval lies {region}")


def verdict_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """Return the closing table of a notebook: (claims, columns), in the order given."""
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


def count_verdicts(verdicts: list[Verdict]) -> str:
    """Return how many verdicts there are of each kind, in one line."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[kind]} {kind}" for kind in (REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE))
