"""The modules of lib that define runs, for tests of what decides a record's key."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules() -> dict[str, Path]:
    """Return the source file of every module of lib, by its full name."""
    found = {}
    for file in sorted((ROOT / "lib").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def run_modules() -> list[str]:
    """Return the names of the modules that define a subclass of Run."""
    return [name for name, file in modules().items() if _defines_run(file)]


def _defines_run(file: Path) -> bool:
    classes = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ClassDef)]
    return any(
        "Run" in {getattr(base, "id", None), getattr(base, "attr", None)} for c in classes for base in c.bases
    )
