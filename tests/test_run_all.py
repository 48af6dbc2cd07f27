"""The options of run_all.sh: what is set up, what is started, and what is refused."""

import os
import shutil
import subprocess

import pytest

from lib.settings import PROJECT_ROOT

PROFILES = sorted(folder.name for folder in (PROJECT_ROOT / "params").iterdir() if folder.is_dir())
PINNED = "tools/environment.py --quiet requirements.txt"


@pytest.fixture
def started(tmp_path):
    """Return a function that calls a copy of the script, with Pythons that do nothing but tell how.

    It returns the exit status, the lines of errors, and what the Pythons were started with.
    """
    log = tmp_path / "log"
    for place in ("bin/python3", ".venv-site/bin/python"):
        python = tmp_path / place
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n')
        python.chmod(0o700)
    for place in (".", ".venv-site"):  # so that the site's environment is there
        (tmp_path / place / "requirements-site.lock").touch()
    for folder in PROFILES:
        (tmp_path / "params" / folder).mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "notebooks" / f"{number}_a_paper.ipynb").touch()
    script = shutil.copy(PROJECT_ROOT / "run_all.sh", tmp_path)

    def call(*options):
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(
            [script, *options], env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr.splitlines(), log.read_text().splitlines() if log.exists() else []

    return call


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [PINNED, "tools/execute.py"]),
        (
            ["--profile", "smoke", "--only", "1", "--only", "2", "-p", "curve", "layers"],
            [PINNED, "tools/execute.py --profile smoke --only 1 --only 2 -p curve layers"],
        ),
        (["--solutions", "-p", "curve", ""], [PINNED, "tools/execute.py --solutions -p curve "]),
        (
            ["--profile", "real", "--repeat", "2"],
            [
                PINNED,
                "tools/environment.py --quiet requirements-real.txt",
                "tools/execute.py --profile real --repeat 2",
            ],
        ),
        (["--tests"], [f"{PINNED} requirements-ray.txt", "tools/check.py"]),
        (["--site"], ["tools/website.py"]),
        (["--setup-only"], [PINNED]),
        (["--tests", "--setup-only"], [f"{PINNED} requirements-ray.txt"]),
        (["--setup-only", "--tests"], [f"{PINNED} requirements-ray.txt"]),
        (["--site", "--setup-only"], []),
        (
            ["--setup-only", "--profile", "real"],
            [PINNED, "tools/environment.py --quiet requirements-real.txt"],
        ),
    ],
)
def test_options_decide_what_is_set_up_and_started(started, options, expected):
    assert started(*options) == (0, [], expected)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--tests", "--only", "2"], "--only: not allowed with --tests; allowed: --setup-only"),
        (["--only", "2", "--tests"], "--only: not allowed with --tests; allowed: --setup-only"),
        (["--site", "--profile", "real"], "--profile: not allowed with --site; allowed: --setup-only"),
        (["--tests", "--solutions"], "--solutions: not allowed with --tests; allowed: --setup-only"),
        (["--tests", "--site"], "--site: not allowed with --tests"),
        (["--setup-only", "-p", "seeds", "3"], "-p: not allowed with --setup-only; allowed: --profile"),
        (["--only"], "--only: a value is missing"),
        (["-p", "seeds"], "-p seeds: a value is missing"),
        (["--test"], "--test: no such option"),
        (["--profile", "smok"], f"--profile smok: not allowed; allowed: {' '.join(PROFILES)}"),
        (["--profile", ""], f"--profile : not allowed; allowed: {' '.join(PROFILES)}"),
        (["--profile", "../lib"], f"--profile ../lib: not allowed; allowed: {' '.join(PROFILES)}"),
        (
            ["--setup-only", "--profile", "rea"],
            f"--profile rea: not allowed; allowed: {' '.join(PROFILES)}",
        ),
        (["--only", "1", "--only", "4"], "--only 4: not allowed; allowed: 1 2 3"),
        (["--repeat", "x"], "--repeat x: not allowed; allowed: 2 to 99"),
        (["--repeat", "1"], "--repeat 1: not allowed; allowed: 2 to 99"),
        (["--repeat", "100"], "--repeat 100: not allowed; allowed: 2 to 99"),
        (["--repeat", "2", "--solutions"], "--repeat: not allowed with --solutions"),
    ],
)
def test_an_option_without_effect_is_refused_in_one_line(started, options, line):
    assert started(*options) == (2, [f"run_all.sh: {line}; see --help"], [])
