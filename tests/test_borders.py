"""Borders between the rooms of lib: imports point down only, and no run imports what brings its inputs."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

import pytest
from run_modules import ROOT, modules, run_modules

from lib.runs.provenance import _imported_names, imported_files

MODULES = modules()
RUN_MODULES = run_modules()
OUTSIDE = {"tools", "tests", "benchmarks", "notebooks"}
NOTEBOOK_PACKAGES = {
    "IPython",
    "ipykernel",
    "jupyter_client",
    "nbclient",
    "nbconvert",
    "nbformat",
    "papermill",
}


def imports(module):
    """Return the names that a module imports, or that its import statements could mean."""
    file = MODULES[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return set(_imported_names(ast.parse(file.read_bytes()), package))


def within(name, room):
    return f"{name}.".startswith(f"{room}.")


def test_the_modules_with_runs_are_found():
    assert {"lib.paper1.runs", "lib.paper2.runs", "lib.qlora.trial"} <= set(RUN_MODULES)


def test_a_module_whose_runs_derive_from_other_runs_is_found(tmp_path):
    (tmp_path / "near.py").write_text("class Near(runs.Run): ...")
    (tmp_path / "far.py").write_text("class Far(Other, Middle): ...\nclass Middle(near.Near): ...")
    (tmp_path / "none.py").write_text("class Runner(Executor): ...")
    found = run_modules({name: tmp_path / f"{name}.py" for name in ("far", "near", "none")})
    assert found == ["far", "near"]


@pytest.mark.parametrize("module", RUN_MODULES)
@pytest.mark.parametrize("room", ["lib.texts", "lib.tiny", "lib.hub", "lib.checkpoints"])
def test_no_run_imports_what_loads_texts_pretrains_or_asks_the_hub(module, room):
    files = imported_files(module, {"lib": ROOT})
    assert module in files
    assert [name for name in files if within(name, room)] == []


@pytest.mark.parametrize("module", MODULES)
def test_lib_knows_no_notebook_profile_or_tool(module):
    tops = {name.partition(".")[0] for name in imports(module)}
    assert tops & (OUTSIDE | NOTEBOOK_PACKAGES) == set()
    tree = ast.parse(MODULES[module].read_bytes())
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = {id(node.value) for node in statements}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    assert [text for text in texts if "notebooks/" in text or "params/" in text] == []


@pytest.mark.parametrize("room", ["lib.paper1", "lib.paper2", "lib.paper3"])
def test_nothing_outside_the_room_of_a_paper_imports_from_it(room):
    assert {module: imports(module) for module in MODULES if within(module, room)}
    others = [module for module in MODULES if not within(module, room)]
    assert [module for module in others if any(within(name, room) for name in imports(module))] == []


def place(module):
    """Return the room of a module, or the module itself at the top level."""
    return ".".join(module.split(".")[:2])


def test_imports_between_rooms_and_modules_form_no_cycle():
    below = defaultdict(set)
    for module in MODULES:
        below[place(module)] |= {place(name) for name in imports(module) if name in MODULES} - {place(module)}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as cycle:
        pytest.fail(" <- ".join(cycle.args[1]))
