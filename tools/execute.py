"""Execute the notebooks with papermill, export each to HTML, and print a table of the outcomes."""

import argparse
import ast
import html
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from page import write_page

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9]_*.ipynb"))
PROFILES = sorted(folder.name for folder in (ROOT / "params").iterdir() if folder.is_dir())


@dataclass(frozen=True)
class Outcome:
    """One executed notebook: the count of its verdicts or solutions, or its error in one line."""

    notebook: str
    seconds: float
    summary: str
    failed: bool
    page: Path


def main(arguments: list[str]) -> int:
    """Execute the notebooks chosen on the command line; return the exit status."""
    chosen = _parse(arguments)
    sources = SOLUTIONS if chosen.solutions else NOTEBOOKS
    notebooks = [path for path in sources if not chosen.only or int(path.name[0]) in chosen.only]
    overrides = {name: _value(value) for name, value in chosen.p}
    try:
        parameters = {path: _parameters(path, chosen.profile, overrides) for path in notebooks}
        _refuse_unknown(overrides, notebooks)
    except ValueError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    folder = executed_folder(chosen.profile)
    if chosen.solutions:
        folder /= "solutions"
    outcomes = [execute(path, folder, parameters[path]) for path in notebooks]
    if chosen.repeat:
        import repeat  # which imports this module

        outcomes += repeat.repeat(chosen.repeat, chosen.profile, parameters)
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


def _refuse_unknown(overrides: dict[str, Any], notebooks: list[Path]) -> None:
    known = set().union(*(_names(path) for path in notebooks))
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"-p {name} {value}: no such parameter; allowed: {', '.join(sorted(known))}")


def executed_folder(profile: str) -> Path:
    """Return where a profile's executed notebooks go."""
    return ROOT / "notebooks" / "executed" / profile


def execute(notebook: Path, folder: Path, parameters: dict[str, Any]) -> Outcome:
    """Execute a notebook into a folder and write its HTML; a failure is an outcome, too."""
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / notebook.name
    print(f"{notebook.name} ({folder.name}) ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    error = ""
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters,
            cwd=ROOT,
            progress_bar=sys.stderr.isatty(),
            kernel_name="python3",
            # Otherwise the kernel warns at every start that it uses TCP, which never leaves this machine.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except Exception as problem:  # no failure of one notebook may stop the others
        error = f"{getattr(problem, 'ename', type(problem).__name__)}: {getattr(problem, 'evalue', problem)}"
    page = executed
    if executed.is_file():
        _strip_machine(executed)
        page = write_page(executed)
    summary = f"FAILED: {error}" if error else _counted(executed)
    return Outcome(notebook.stem, time.monotonic() - start, summary, bool(error), page)


def _strip_machine(executed: Path) -> None:
    """Make the paths that papermill recorded relative: executed notebooks are published."""
    notebook = nbformat.read(executed, as_version=4)
    recorded = notebook.metadata.get("papermill", {})
    for name in ("input_path", "output_path"):
        if name in recorded:
            recorded[name] = os.path.relpath(recorded[name], ROOT)
    nbformat.write(notebook, executed)


def _counted(executed: Path) -> str:
    """Return the count of verdicts, the last line of the cell tagged ``verdicts``, or that of solutions."""
    cells = nbformat.read(executed, as_version=4).cells
    for cell in reversed(cells):
        if "verdicts" in cell.metadata.get("tags", []):
            text = "".join(output.get("text", "") for output in cell.outputs)
            return html.unescape(text).strip().splitlines()[-1]
    return f"{sum(cell.source.startswith('## Exercise') for cell in cells)} exercises solved"


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
