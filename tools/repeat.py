"""How repeatable is a verdict? Execute the notebooks again, and write ``docs/verdicts.md`` and ``.csv``.

Every repetition but the last has other training seeds (``first_seed`` 100, 200, ...). The last has the seeds
of the first run and other vector instructions (AVX2): like another machine, it rounds differently.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from execute import ROOT, Outcome, execute

FIRST_SEEDS_APART = 100
OTHER_INSTRUCTIONS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
OTHER_MACHINE = "AVX2"
SHORT = {"reproduced": "yes", "not reproduced": "no", "not testable at this scale": "open"}


def repeat(runs_in_all: int, profile: str, parameters: Mapping[Path, dict[str, Any]]) -> list[Outcome]:
    """Execute notebooks again, and write the table of verdicts.

    Parameters
    ----------
    runs_in_all : int
        At least 2: the first run, and the one with other vector instructions, are two of them.
    profile : str
        Whose verdicts.csv files, just written, are the first run.
    parameters : mapping of Path to dict
        Of each notebook in the first run.
    """
    labels = [f"seeds {FIRST_SEEDS_APART * number}…" for number in range(1, runs_in_all - 1)] + [
        OTHER_MACHINE
    ]
    outcomes: list[Outcome] = []
    runs: dict[str, dict[str, pd.DataFrame]] = {notebook.stem: {} for notebook in parameters}
    for notebook in parameters:
        first = ROOT / "figures" / profile / notebook.stem / "verdicts.csv"
        runs[notebook.stem]["first run"] = pd.read_csv(first, index_col="name")
    for number, label in enumerate(labels, 1):
        other_machine = label == OTHER_MACHINE
        folder = ROOT / ".cache" / "repetitions" / profile / (OTHER_MACHINE if other_machine else str(number))
        for notebook, given in parameters.items():
            figures = folder / notebook.stem
            changed: dict[str, Any] = {"figure_dir": str(figures)}
            if other_machine:
                changed["cache_dir"] = f".cache/{profile}-{OTHER_MACHINE}"  # a key does not tell CPUs apart
            else:
                changed["first_seed"] = FIRST_SEEDS_APART * number
            with _environment(OTHER_INSTRUCTIONS if other_machine else {}):
                outcome = execute(notebook, folder, given | changed)
            outcomes.append(outcome)
            if not outcome.failed:
                runs[notebook.stem][label] = pd.read_csv(figures / "verdicts.csv", index_col="name")
    (ROOT / "docs" / "verdicts.md").write_text(report(runs, profile), encoding="utf-8")
    every_verdict(runs).to_csv(ROOT / "docs" / "verdicts.csv", index=False)
    return outcomes


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
        for name in tables["first run"].index
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
        stood = [name for name in tables["first run"].index if _stood(tables, name)]
        claims = len(tables["first run"])
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
    for name, claim in tables["first run"]["claim"].items():
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


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change the environment that kernels inherit, for a moment."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
