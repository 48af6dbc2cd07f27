"""Progress of a sweep: a bar where somebody watches, one line per minute in a log."""

import os
import sys
import time

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Runs done, failed and running, and the time left: one bar per sweep.

    A bar is shown in a terminal and in JupyterLab. Elsewhere (papermill, a batch system's log) it would
    leave thousands of lines or none, so a line is written at most once per minute, and one at the end.

    Parameters
    ----------
    name : str
        Label.
    total : int
        Number of runs.
    kept : int
        Runs whose records existed already: they count as ended, but not towards the time per run.
    """

    def __init__(self, name: str, total: int, kept: int) -> None:
        self.name = name
        self.total = total
        self.kept = kept
        self.ended, self.state = kept, ""
        self.start = self.last_line = time.monotonic()
        self.bar = tqdm(total=total, initial=kept, desc=name, unit="run") if _watched() else None

    def show(self, ended: int, running: int, failed: int) -> None:
        """Show how many runs have ended, kept ones included, how many of them failed, and how many run."""
        self.ended, self.state = ended, f"{running} running, {failed} failed"
        if self.bar is not None:
            self.bar.n = ended
            self.bar.set_postfix_str(self.state)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._write_line()

    def close(self) -> None:
        """Leave the bar as it is, or write the last line."""
        if self.bar is not None:
            self.bar.close()
        else:
            self._write_line()

    def _write_line(self) -> None:
        self.last_line = time.monotonic()
        line = tqdm.format_meter(
            n=self.ended,
            total=self.total,
            elapsed=self.last_line - self.start,
            initial=self.kept,
            prefix=self.name,
            postfix=self.state,
            bar_format="{desc}: {n_fmt} of {total_fmt} runs{postfix}, {elapsed} so far, {remaining} left",
        )
        tqdm.write(line, file=sys.stderr)


def _watched() -> bool:
    """Whether somebody sees a bar move: a terminal, or a kernel that JupyterLab (not papermill) started."""
    return sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ
