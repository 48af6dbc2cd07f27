"""What decides a run's result: its settings, its code, the data it is handed, the versions under it."""

import ast
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

_LOADED_AT = time.time()

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "captum",
    "numpy",
    "scipy",
    "scikit-learn",
    "openTSNE",
)
"""The packages whose version can change a number."""

_MACHINERY = ("sweep", "records", "engines", "ray_engine", "provenance", "progress", "housekeeping")
MACHINERY = frozenset(f"{__package__}.{name}" for name in _MACHINERY)
"""Modules that carry runs out and keep them, and so do not decide what a run computes."""


def settings_json(settings: Any) -> str:
    """Write settings the one way that two equal settings are both written.

    Raises
    ------
    TypeError, ValueError
        When they hold something that is not JSON (a tensor, a path, NaN).
    """
    return json.dumps(settings, sort_keys=True, allow_nan=False, separators=(",", ":"))


def run_key(**decides: Any) -> str:
    """Hash everything that decides a result into the 32 hex digits its record is found by."""
    return hashlib.sha256(settings_json(decides).encode()).hexdigest()[:32]


@lru_cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python and of each of `PACKAGES` that is installed."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def qualified_name(function: Callable[..., Any]) -> str:
    """Name a function so that another process can import it: "module:name".

    Raises
    ------
    ValueError
        When another process could not import it: a lambda, a nested function, one of a notebook or a script.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or "<" in function.__qualname__:
        raise ValueError(f"function {name} can't be imported by a worker: allowed is a function of a module")
    return name


def resolve(name: str) -> Callable[..., Any]:
    """Import the function that `qualified_name` named."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


@lru_cache
def code_fingerprint(module: str) -> str:
    """Fingerprint the code of an imported module and of what it imports from its own package and this one.

    Comments, docstrings and layout don't count. Data files that a module reads are not seen: they belong
    among a sweep's `fingerprints`. It is taken once a process, as modules are loaded once a process.

    Raises
    ------
    ValueError
        When the module has no source file, or a file was edited since this module was loaded: the process may
        then run what the file was, and its records would be found under what it is.
    """
    roots = _roots(module)
    trees: dict[str, str] = {}
    waiting = {module}
    while waiting:
        name = waiting.pop()
        file = _source_file(name, roots)
        if file is None or name in trees or name in MACHINERY:
            continue
        if file.stat().st_mtime > _LOADED_AT:
            raise ValueError(
                f"{file} was edited while this process ran, which may run what it was: restart it"
            )
        tree = ast.parse(file.read_bytes())
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting.update(_imported_names(tree, package), {package})
        trees[name] = ast.dump(_without_docstrings(tree))
    if module not in trees:
        raise ValueError(f"module {module} has no source file to fingerprint")
    return hashlib.sha256(json.dumps(sorted(trees.items())).encode()).hexdigest()[:16]


def _roots(module: str) -> dict[str, Path]:
    """Return the top-level packages whose imports are followed, each with the folder it lies in."""
    roots = {str(__package__): Path(__file__).parents[1]}
    origin = getattr(sys.modules[module], "__file__", None)
    if origin is not None:
        levels = module.count(".") + (Path(origin).name == "__init__.py")
        roots.setdefault(module.partition(".")[0], Path(origin).parents[levels])
    return roots


def _source_file(name: str, roots: Mapping[str, Path]) -> Path | None:
    """Find the source of a module below one of the followed packages; None for any other name."""
    root = roots.get(name.partition(".")[0])
    if root is None:
        return None
    path = root.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Every name that an import statement could mean as a module, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Take the docstrings out of a syntax tree, in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
    return tree
