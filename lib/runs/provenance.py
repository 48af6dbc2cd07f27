"""What decides a run's result: its settings, its code, its inputs and the installed versions."""

import ast
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from lib.runs.run import Run, canonical_json
from lib.seeding import fingerprint

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

MACHINERY = "lib.runs"
"""The room that carries runs out and keeps their records; it does not decide what a run computes."""


def run_key(**decides: Any) -> str:
    """Hash everything that decides a result into the 32 hex digits that identify its record."""
    return hashlib.sha256(canonical_json(decides).encode()).hexdigest()[:32]


@lru_cache
def versions() -> Mapping[str, str]:
    """Return the versions of Python and of each of `PACKAGES` that is installed."""
    installed = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def qualified_name(run_class: type[Run]) -> str:
    """Name a run's class: "module:Class".

    Raises
    ------
    ValueError
        If another process could not import it: a class defined in a function, a notebook or a script.
    """
    name = f"{run_class.__module__}:{run_class.__qualname__}"
    if run_class.__module__ == "__main__" or "<" in run_class.__qualname__:
        raise ValueError(f"run class {name} cannot be imported by a worker; allowed: a class of a module")
    return name


def input_fingerprints(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprint what all runs of a sweep share, by name.

    An input may say itself what of it decides a result: a property ``fingerprints``, texts by name. Every
    value of a mapping counts. Anything else is fingerprinted whole (`lib.seeding.fingerprint`).

    Raises
    ------
    TypeError
        For an input that has no ``fingerprints`` and cannot be fingerprinted.
    """
    found: dict[str, str] = {}
    for name, value in inputs.items():
        own = getattr(value, "fingerprints", None)
        if own is None and isinstance(value, Mapping):
            found |= input_fingerprints({f"{name}/{part}": content for part, content in value.items()})
        elif own is None:
            try:
                found[str(name)] = fingerprint(value)
            except TypeError as error:
                raise TypeError(f"input {name!r} cannot be fingerprinted: {error}") from None
        else:
            found |= {f"{name}/{part}": text for part, text in own.items()}
    return found


@lru_cache
def code_fingerprint(module: str) -> str:
    """Fingerprint the code of an imported module and of all that it imports from this project.

    Comments, docstrings and layout do not count, nor does the room `MACHINERY`. Data files that a module
    reads do not count either: they belong in a sweep's inputs. Computed once per process.

    Raises
    ------
    ValueError
        If the module has no source file, or a file was edited after this module was loaded: the process may
        still run the old code, and its records would be found under the new.
    """
    files = imported_files(module, _roots(module))
    if module not in files:
        raise ValueError(f"module {module} has no source file to fingerprint")
    for file in files.values():
        if file.stat().st_mtime > _LOADED_AT:
            raise ValueError(f"{file} was edited while this process ran, which may run the old code: restart")
    return files_fingerprint(files)


def files_fingerprint(files: Mapping[str, Path]) -> str:
    """Fingerprint the code of files, by module name, without comments, docstrings and layout."""
    trees = {
        name: ast.dump(_WithoutDocstrings().visit(ast.parse(file.read_bytes())))
        for name, file in files.items()
    }
    return hashlib.sha256(json.dumps(sorted(trees.items())).encode()).hexdigest()[:16]


def imported_files(module: str, roots: Mapping[str, Path]) -> dict[str, Path]:
    """Return the source files of a module and of all that it imports, directly or not, by module name.

    Parameters
    ----------
    module : str
        Its full name.
    roots : mapping of str to Path
        The top-level packages whose modules are followed, each with the folder that contains it.
    """
    files: dict[str, Path] = {}
    waiting = {module}
    while waiting:
        name = waiting.pop()
        file = _source_file(name, roots)
        if file is None or name in files or f"{name}.".startswith(f"{MACHINERY}."):
            continue
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting.update(_imported_names(ast.parse(file.read_bytes()), package), {package})
        files[name] = file
    return files


def _roots(module: str) -> dict[str, Path]:
    """Return the top-level packages whose imports are followed: this project's, and the module's own."""
    roots = {"lib": Path(__file__).parents[2]}
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
    """Yield every name that an import statement anywhere in the file could mean as a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes texts that stand alone: docstrings of modules, classes, functions and constants."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        stands_alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if stands_alone else node
