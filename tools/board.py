"""The board: one line per claim, made from the verdicts.csv files that the notebooks write."""

import csv
import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROFILES = ("demo", "real", "gpu")  # whose verdicts are shown, if they are there
KINDS = ("reproduced", "not reproduced", "not testable at this scale")
PAPERS = {
    1: "Fine-Tuning is not (Always) Overfitting Artifacts",
    2: "Does a Reduced Fine-Tuning Surface Impact the Stability of the Explanations of LLMs?",
    3: "Repeatability of Fine-Tuning LLMs Illustrated Using QLoRA",
}
WIDTH, HEIGHT = 120, 18  # of a bar, in pixels


@dataclass(frozen=True)
class Measured:
    """What one profile says about a claim.

    Attributes
    ----------
    verdict, why : str
        As in verdicts.csv.
    estimate, low, high : float or None
        The interval; None without a measurement.
    """

    verdict: str
    why: str
    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Claim:
    """One claim of a paper with what every profile measured.

    Attributes
    ----------
    notebook : str
        The stem of the notebook that judges it.
    name, section, statement, published, quantity, region : str
        As in verdicts.csv.
    above, below : float
        The region's bounds, infinite where it has none.
    measured : dict of str to Measured
        By profile.
    """

    notebook: str
    name: str
    section: str
    statement: str
    published: str
    quantity: str
    region: str
    above: float
    below: float
    measured: dict[str, Measured] = field(default_factory=dict)

    @property
    def paper(self) -> int:
        """The number that the notebook's name begins with."""
        return int(self.notebook[0])


@dataclass(frozen=True)
class Agreement:
    """How many of the runs of `tools/repeat.py` gave the verdict of the first one."""

    agreeing: int
    runs: int


def read_claims(figures: Path) -> list[Claim]:
    """Return all claims of all papers in the order of the notebooks, with the verdict of each profile.

    Parameters
    ----------
    figures : Path
        Holds ``<profile>/<notebook>/verdicts.csv``.
    """
    claims: dict[tuple[str, str], Claim] = {}
    for profile in PROFILES:
        for path in sorted(figures.glob(f"{profile}/[0-9]_*/verdicts.csv")):
            for row in _rows(path):
                key = path.parent.name, row["name"]
                if key not in claims:
                    claims[key] = Claim(
                        path.parent.name,
                        row["name"],
                        row["section"],
                        row["claim"],
                        row["published"],
                        row["quantity"],
                        row["region"],
                        float(row["above"]),
                        float(row["below"]),
                    )
                interval = (_number(row[name]) for name in ("estimate", "low", "high"))
                claims[key].measured[profile] = Measured(row["verdict"], row["why"], *interval)
    return sorted(claims.values(), key=lambda claim: claim.paper)


def read_agreement(path: Path) -> dict[tuple[str, str], Agreement]:
    """Return, by notebook and claim, how many repeated runs agree with the first one; empty without the file.

    Parameters
    ----------
    path : Path
        ``docs/verdicts.csv``, written by ``run_all.sh --repeat``.
    """
    verdicts: dict[tuple[str, str], list[str]] = {}
    for row in _rows(path) if path.is_file() else []:
        verdicts.setdefault((row["notebook"], row["name"]), []).append(row["verdict"])
    return {key: Agreement(found.count(found[0]), len(found)) for key, found in verdicts.items()}


def counts_table(claims: Sequence[Claim], profile: str) -> str:
    """Return the number of verdicts of each kind per paper as a Markdown table: README's short board."""
    lines = [f"| at `{profile}` | {' | '.join(KINDS)} |", "| --- |" + " --- |" * len(KINDS)]
    for paper in PAPERS:
        if not any(claim.paper == paper and profile in claim.measured for claim in claims):
            continue
        found = Counter(
            claim.measured[profile].verdict
            for claim in claims
            if claim.paper == paper and profile in claim.measured
        )
        lines.append(f"| paper {paper} | {' | '.join(str(found[kind]) for kind in KINDS)} |")
    return "\n".join(lines) + "\n"


def compared_table(claims: Sequence[Claim], paper: int) -> str:
    """Return a paper's claims with what was published and what every profile measured, in Markdown."""
    of_paper = [claim for claim in claims if claim.paper == paper]
    profiles = [name for name in PROFILES if any(name in claim.measured for claim in of_paper)]
    lines = [f"| claim | published | {' | '.join(profiles)} |", "| --- |" + " --- |" * (1 + len(profiles))]
    for claim in of_paper:
        cells = [f"`{claim.name}`: {claim.statement}", claim.published]
        for profile in profiles:
            measured = claim.measured.get(profile)
            cells.append(f"{measured.verdict} {_interval(measured)}".strip() if measured else "—")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def board_html(
    claims: Sequence[Claim], agreement: dict[tuple[str, str], Agreement], links: dict[tuple[str, str], str]
) -> str:
    """Return the whole board as HTML: a table for each paper.

    Parameters
    ----------
    claims : sequence of Claim
    agreement : dict
        See `read_agreement`.
    links : dict
        By notebook and claim, the address of the section that judges it.
    """
    profiles = [name for name in PROFILES if any(name in claim.measured for claim in claims)]
    parts = []
    for paper, title in PAPERS.items():
        of_paper = [claim for claim in claims if claim.paper == paper]
        rows = "\n".join(
            _row(
                claim,
                profiles,
                agreement.get((claim.notebook, claim.name)),
                links[claim.notebook, claim.name],
            )
            for claim in of_paper
        )
        shown = "".join(f"<th>verdict, {profile}</th><th>measured, {profile}</th>" for profile in profiles)
        parts.append(
            f'<h3 id="paper-{paper}">Paper {paper}: {html.escape(title)}</h3>\n<div class="wide">'
            f'<table class="board"><thead><tr><th>claim</th>{shown}<th>published</th><th>agree</th></tr>'
            f"</thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        )
    return "\n".join(parts) + "\n"


def _row(claim: Claim, profiles: Sequence[str], agreement: Agreement | None, link: str) -> str:
    cells = [f'<td><a href="{html.escape(link)}">{html.escape(claim.statement)}</a></td>']
    for profile in profiles:
        measured = claim.measured.get(profile)
        if measured is None:
            cells.append("<td>—</td><td>—</td>")
            continue
        shown = _interval(measured)
        numbers = bar(claim, measured) + f"<br>{shown}" if shown else "—"
        kind, why = KINDS.index(measured.verdict), html.escape(measured.why)
        cells.append(f'<td class="verdict-{kind}" title="{why}">{html.escape(measured.verdict)}</td>')
        cells.append(f'<td title="{html.escape(claim.quantity)}">{numbers}</td>')
    cells.append(f"<td>{html.escape(claim.published)}</td>")
    cells.append(f"<td>{agreement.agreeing} of {agreement.runs}</td>" if agreement else "<td>—</td>")
    return "<tr>" + "".join(cells) + "</tr>"


def bar(claim: Claim, measured: Measured) -> str:
    """Return an interval on its claim's region (shaded) as an SVG element; empty without a measurement."""
    if measured.estimate is None or measured.low is None or measured.high is None:
        return ""
    ends = measured.estimate, measured.low, measured.high, claim.above, claim.below
    marks = [end for end in ends if math.isfinite(end)]
    span = max(marks) - min(marks) or 1.0
    first, last = min(marks) - 0.15 * span, max(marks) + 0.15 * span

    def place(value: float) -> float:
        return round(WIDTH * (min(max(value, first), last) - first) / (last - first), 1)

    left, right = place(claim.above), place(claim.below)
    low, high, centre = place(measured.low), place(measured.high), place(measured.estimate)
    middle = HEIGHT / 2
    told = f"{claim.quantity}: {_interval(measured)}; the claim holds {claim.region}"
    return (
        f'<svg class="bar" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{html.escape(told)}">'
        f'<rect x="{left}" y="2" width="{right - left:.1f}" height="{HEIGHT - 4}" class="region"/>'
        f'<line x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>'
        f'<circle cx="{centre}" cy="{middle}" r="3"/></svg>'
    )


def _interval(measured: Measured) -> str:
    if measured.estimate is None:
        return ""
    return f"{measured.estimate:.3g} [{measured.low:.3g}, {measured.high:.3g}]"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float | None:
    return float(text) if text else None
