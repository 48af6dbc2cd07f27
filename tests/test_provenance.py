"""A record's key covers the code that decides its numbers, and nothing else."""

import re
import shutil

import pytest
from run_modules import ROOT, run_modules

from lib.runs.provenance import files_fingerprint, imported_files

RUN_MODULES = run_modules()
MESSAGE = r'(raise \w+\(\s*f?")'
LABEL = r'([xy]label(?:=|\()f?")'


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def fingerprints(root):
    """Return the fingerprint of the code of each module with runs."""
    return {module: files_fingerprint(imported_files(module, {"lib": root})) for module in RUN_MODULES}


def edit(path, pattern, replacement):
    text, times = re.subn(pattern, replacement, path.read_text(), count=1)
    assert times == 1, f"{path} has no {pattern}"
    path.write_text(text)


def test_a_copy_has_the_same_fingerprints(copy):
    assert fingerprints(copy) == fingerprints(ROOT)


@pytest.mark.parametrize(
    ("path", "pattern", "replacement"),
    [
        ("lib/lrp/rules.py", r"\Z", "# A comment."),
        ("lib/lrp/rules.py", r'(""")', r"\1Edited. "),
        ("lib/precision.py", "Of the products of a training", "Edited"),
        ("lib/texts/tables.py", MESSAGE, r"\1Edited: "),
        ("lib/paper1/figures.py", LABEL, r"\1Edited: "),
        ("lib/paper2/figures.py", LABEL, r"\1Edited: "),
        ("lib/paper3/figures.py", LABEL, r"\1Edited: "),
        ("lib/faithfulness.py", MESSAGE, r"\1Edited: "),
        ("lib/word_tables.py", "ascending=False", "ascending=True"),
        ("lib/runs/progress.py", " so far", " elapsed"),
    ],
)
def test_what_decides_no_number_changes_no_key(copy, path, pattern, replacement):
    before = fingerprints(copy)
    edit(copy / path, pattern, replacement)
    assert fingerprints(copy) == before


def test_an_lrp_rule_changes_the_keys_of_the_runs_that_use_it(copy):
    before = fingerprints(copy)
    edit(copy / "lib/lrp/rules.py", "EPSILON = 1e-9", "EPSILON = 1e-8")
    after = fingerprints(copy)
    changed = {module for module in RUN_MODULES if after[module] != before[module]}
    assert {"lib.paper1.runs", "lib.paper2.runs"} <= changed
    assert "lib.qlora.trial" not in changed
