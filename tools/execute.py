"""Execute the notebooks chosen on the command line, and print a table of the outcomes."""

import argparse
import ast
import sys
from pathlib import Path
from typing import Any

import papermill
import yaml
from execution import ROOT, Outcome, execute, executed_folder
from repeat import repeat

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]_*.ipynb"))
PROFILES = sorted(folder.name for folder in (ROOT / "params").iterdir() if folder.is_dir())


def main(arguments: list[str]) -> int:
    """Execute the notebooks chosen on the command line; return the exit status."""
    chosen = _parse(arguments)
    sources = SOLUTIONS if chosen.solutions else NOTEBOOKS
    notebooks = [path for path in sources if not chosen.only or int(path.name[0]) in chosen.only]
    overrides = {name: _value(value) for name, value in chosen.p}
    try:
        parameters = {path: _parameters(path, chosen.profile, overrides) for path in notebooks}
        _refuse_unknown(overrides, notebooks)
        most_seeds = _most_seeds(chosen.profile, overrides) if chosen.repeat else 0
        if chosen.repeat and "first_seed" in overrides:
            raise ValueError(f"-p first_seed {overrides['first_seed']}: not allowed with --repeat")
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    folder = executed_folder(chosen.profile)
    if chosen.solutions:
        folder /= "solutions"
    first = {path: execute(path, folder, parameters[path]) for path in notebooks}
    outcomes = list(first.values())
    if chosen.repeat:
        # The verdicts.csv of a notebook that has failed is that of an earlier run, if there is one.
        done = {path: parameters[path] for path, outcome in first.items() if not outcome.failed}
        outcomes += repeat(chosen.repeat, chosen.profile, most_seeds, done)
    print_table(outcomes)
    return int(any(outcome.failed for outcome in outcomes))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_all.sh", allow_abbrev=False)
    parser.add_argument("--profile", choices=PROFILES, default="demo")
    parser.add_argument(
        "--only", type=int, action="append", choices=[int(path.name[0]) for path in NOTEBOOKS]
    )
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--repeat", type=int, choices=range(2, 100), metavar="N")
    what.add_argument("--solutions", action="store_true")
    return parser.parse_args(arguments)


def _value(text: str) -> bool | int | float | str | list | None:
    """Parse a parameter as a Python literal (3, 2e-4, True, [1, 2]); anything else is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _names(notebook: Path) -> set[str]:
    return set(papermill.inspect_notebook(str(notebook)))


def _parameters(notebook: Path, profile: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Read a notebook's parameters from its profile; those from the command line take precedence.

    A solution has the parameters of its notebook, which it shares its records with, and figures of its own.
    """
    path = ROOT / "params" / profile / f"{notebook.stem}.yaml"
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    known = _names(notebook)
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(
            f"{path.relative_to(ROOT)}: {unknown[0]}: no such parameter; allowed: {', '.join(sorted(known))}"
        )
    if notebook in SOLUTIONS:
        given["figure_dir"] = f"figures/{profile}/solutions/{notebook.stem}"
    return given | {name: value for name, value in overrides.items() if name in known}


def _most_seeds(profile: str, overrides: dict[str, Any]) -> int:
    """Return the largest number of consecutive seeds in a profile, whichever notebooks are executed."""
    counts = [0]
    for notebook in NOTEBOOKS:
        known = papermill.inspect_notebook(str(notebook))
        defaults = {name: _value(about["default"]) for name, about in known.items()}
        for name, value in (defaults | _parameters(notebook, profile, overrides)).items():
            if isinstance(value, int) and (name == "trials" or name.endswith("seeds")):
                # Each of the random labels is learned under two seeds.
                counts.append(2 * value if name == "random_label_seeds" else value)
    return max(counts)


def _refuse_unknown(overrides: dict[str, Any], notebooks: list[Path]) -> None:
    known = set().union(*(_names(path) for path in notebooks))
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"-p {name} {value}: no such parameter; allowed: {', '.join(sorted(known))}")


def print_table(outcomes: list[Outcome]) -> None:
    """Print one line per notebook: seconds, verdicts, and where to look."""
    width = max(len(outcome.notebook) for outcome in outcomes)
    print(f"\n{'notebook':<{width}}  seconds  outcome")
    for outcome in outcomes:
        lines = outcome.summary.splitlines() or [""]
        print(f"{outcome.notebook:<{width}}  {outcome.seconds:7.0f}  {lines[0]}")
        for line in lines[1:]:
            print(f"{'':<{width}}           {line}")
        print(f"{'':<{width}}           {outcome.page.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
