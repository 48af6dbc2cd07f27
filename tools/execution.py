"""Execute one notebook with papermill and export it to HTML."""

import html
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from page import write_page

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """One executed notebook: the count of its verdicts or solutions, or its error in one line."""

    notebook: str
    seconds: float
    summary: str
    failed: bool
    page: Path


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
