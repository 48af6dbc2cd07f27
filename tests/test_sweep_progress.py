"""Progress of a sweep: one bar where somebody watches, one line per minute elsewhere."""

import sys

import pytest

from lib.runs import progress


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "time", clock := Clock())
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return clock


def test_a_log_gets_one_line_per_minute(clock, capsys):
    shown = progress.Progress("heads", total=3600, kept=600)
    for ended in range(601, 3601):  # one run per second
        clock.now += 1
        shown.show(ended, running=2, failed=1)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 51
    assert lines[0] == "heads: 660 of 3600 runs, 2 running, 1 failed, 01:00 so far, 49:00 left"
    assert lines[-1] == "heads: 3600 of 3600 runs, 2 running, 1 failed, 50:00 so far, 00:00 left"


def test_a_terminal_gets_one_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    shown = progress.Progress("heads", total=4, kept=1)
    for ended in (2, 3, 4):
        shown.show(ended, running=4 - ended, failed=1)
    shown.close()
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "heads: 100%" in output
    assert "4/4" in output
    assert "0 running, 1 failed" in output


def test_jupyterlab_is_watched_and_papermill_is_not(clock, monkeypatch):
    assert not progress._watched()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert progress._watched()
