"""The modules of lib that define runs, for tests of what decides a record's key."""

import ast
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules() -> dict[str, Path]:
    """Return the source file of every module of lib, by its full name."""
    found = {}
    for file in sorted((ROOT / "lib").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def run_modules(files: Mapping[str, Path] | None = None) -> list[str]:
    """Return the names of the modules that define a class derived from Run, whatever lies between them."""
    files = modules() if files is None else files
    bases = {module: _bases(file) for module, file in files.items()}
    runs = {"Run"}
    while more := {
        name for classes in bases.values() for name, own in classes.items() if own & runs and name not in runs
    }:
        runs |= more
    return [module for module, classes in bases.items() if classes.keys() & (runs - {"Run"})]


def _bases(file: Path) -> dict[str, set[str]]:
    """Return the names of the base classes of each class in a file."""
    classes = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ClassDef)]
    return {
        c.name: {getattr(base, "id", None) or getattr(base, "attr", "") for base in c.bases} for c in classes
    }
