"""How repeatable is a verdict? Execute the notebooks again, and write ``docs/verdicts.md`` and ``.csv``.

Every repetition but the last has other training seeds (``first_seed`` 100, 200, ..., or more hundreds apart
if a notebook has more seeds: no two runs share one). The last has the seeds of the first run and other vector
instructions (AVX2): like another machine, it rounds differently.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from execution import ROOT, Outcome, execute

from lib.environment import changed_environment

FIRST_RUN = "first run"
SEEDS_APART = 100
"""A repetition's first seed is a multiple of this."""
OTHER_INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SHORT = {"reproduced": "yes", "not reproduced": "no", "not testable at this scale": "open"}


@dataclass(frozen=True)
class Repetition:
    """How a run differs from the first one.

    Attributes
    ----------
    label : str
        What the report calls it.
    folder : Path
        For the executed notebooks and, in a folder for each, their figures and verdicts.
    parameters : dict
        Of every notebook, in place of those of the first run.
    environment : dict of str to str
        Environment variables of the notebooks' kernels.
    """

    label: str
    folder: Path
    parameters: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)


def repetitions(runs_in_all: int, profile: str, most_seeds: int) -> list[Repetition]:
    """Return what follows the first run: other seeds, and at last other vector instructions.

    Parameters
    ----------
    runs_in_all : int
        At least 2: the first run, and the one with other vector instructions, are two of them.
    profile : str
        Its name is part of the folders.
    most_seeds : int
        The largest number of consecutive seeds that a notebook of the profile has.
    """
    apart = -(-most_seeds // SEEDS_APART) * SEEDS_APART
    folder = ROOT / ".cache" / "repetitions" / profile
    other_seeds = []
    for number in range(1, runs_in_all - 1):
        first_seed = apart * number
        repetition = Repetition(f"seeds {first_seed}…", folder / str(number), {"first_seed": first_seed})
        other_seeds.append(repetition)
    # A cache of its own: a record's key does not tell one CPU from another.
    other_cache = {"cache_dir": f".cache/{profile}-AVX2"}
    return [*other_seeds, Repetition("AVX2", folder / "AVX2", other_cache, OTHER_INSTRUCTIONS)]


def repeat(
    runs_in_all: int, profile: str, most_seeds: int, parameters: Mapping[Path, dict[str, Any]]
) -> list[Outcome]:
    """Execute notebooks again, and write ``docs/verdicts.md`` and ``.csv`` anew, for these notebooks alone.

    Without any notebook, nothing is written.

    Parameters
    ----------
    runs_in_all, most_seeds : int
        As for `repetitions`.
    profile : str
        Of the first run.
    parameters : mapping of Path to dict
        Of each notebook whose first run, just done, did not fail.
    """
    outcomes: list[Outcome] = []
    runs: dict[str, dict[str, pd.DataFrame]] = {}
    for notebook, given in parameters.items():
        figures = ROOT / given.get("figure_dir", f"figures/{profile}/{notebook.stem}")
        runs[notebook.stem] = {FIRST_RUN: _read_verdicts(figures)}
    for repetition in repetitions(runs_in_all, profile, most_seeds):
        for notebook, given in parameters.items():
            figures = repetition.folder / notebook.stem
            changed = repetition.parameters | {"figure_dir": str(figures)}
            with changed_environment(repetition.environment):
                outcome = execute(notebook, repetition.folder, given | changed)
            outcomes.append(outcome)
            if not outcome.failed:
                runs[notebook.stem][repetition.label] = _read_verdicts(figures)
    if runs:
        (ROOT / "docs" / "verdicts.md").write_text(report(runs, profile), encoding="utf-8")
        every_verdict(runs).to_csv(ROOT / "docs" / "verdicts.csv", index=False)
    return outcomes


def _read_verdicts(figures: Path) -> pd.DataFrame:
    return pd.read_csv(figures / "verdicts.csv", index_col="name")


def every_verdict(runs: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """Return one line per notebook, claim and run, the first run first: its verdict and its margin.

    Parameters
    ----------
    runs : mapping of str to mapping of str to DataFrame
        As for `report`.
    """
    rows = [
        {
            "notebook": notebook,
            "name": name,
            "run": label,
            "verdict": table.loc[name, "verdict"],
            "margin": margin(table.loc[name]),
        }
        for notebook, tables in runs.items()
        for name in tables[FIRST_RUN].index
        for label, table in tables.items()
        if name in table.index
    ]
    return pd.DataFrame(rows)


def report(runs: Mapping[str, Mapping[str, pd.DataFrame]], profile: str) -> str:
    """Return the report in Markdown.

    Parameters
    ----------
    runs : mapping of str to mapping of str to DataFrame
        For each notebook and run the verdicts (`lib.claims.verdict_csv_table`), indexed by the claim's name.
    profile : str
        Named in the heading.
    """
    lines = [
        f"# How repeatable is a verdict? (profile `{profile}`)",
        "",
        "Written by `./run_all.sh --repeat N`. Runs have other training seeds; one that is called AVX2 has "
        "the first run's seeds and other vector instructions, like another machine. *yes*: reproduced; "
        "*no*: not reproduced; *open*: not testable at this scale. *Margin*: the smallest distance, over the "
        "runs, between an end of the interval and a border of the claim's region, in widths of the interval: "
        "the smaller, the closer the verdict was to another one.",
    ]
    for notebook, tables in runs.items():
        stood = [name for name in tables[FIRST_RUN].index if _stood(tables, name)]
        claims = len(tables[FIRST_RUN])
        lines += [
            "",
            f"## {notebook}",
            "",
            f"{len(stood)} of {claims} verdicts stood in {len(tables)} runs.",
            "",
        ]
        lines += _table(tables)
    return "\n".join(lines) + "\n"


def _table(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    lines = [
        f"| claim | {' | '.join(tables)} | margin | stood |",
        f"| --- |{' --- |' * len(tables)} --- | --- |",
    ]
    for name, claim in tables[FIRST_RUN]["claim"].items():
        verdicts = [
            SHORT[table.loc[name, "verdict"]] if name in table.index else "—" for table in tables.values()
        ]
        margins = [margin(table.loc[name]) for table in tables.values() if name in table.index]
        known = [value for value in margins if value is not None]
        shown = f"{min(known):.2g}" if known else "—"
        text = str(claim).replace("|", "/")
        stood = "yes" if _stood(tables, name) else "**no**"
        lines.append(f"| {text} | {' | '.join(verdicts)} | {shown} | {stood} |")
    return lines


def _stood(tables: Mapping[str, pd.DataFrame], name: str) -> bool:
    return len({table.loc[name, "verdict"] for table in tables.values() if name in table.index}) == 1


def margin(verdict: pd.Series) -> float | None:
    """Return the distance of a verdict's interval from its region's border, in widths of the interval.

    None without a measurement; infinite for a count, whose interval has no width.
    """
    ends, borders = verdict[["low", "high"]].astype(float), verdict[["above", "below"]].astype(float)
    if ends.isna().any():
        return None
    distance = min(abs(end - border) for end in ends for border in borders)
    width = ends["high"] - ends["low"]
    return distance / width if width > 0 else float("inf")
