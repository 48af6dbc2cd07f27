"""Check that this Python has the versions that requirements files pin; runs before anything is installed.

    python tools/environment.py [--quiet] requirements.txt ...

The exit status is 0 if it has, 1 if not. ``--quiet`` prints nothing.
"""

import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)


def missing(files: list[str]) -> list[str]:
    """Return one line per problem: Python too old, a package missing or at another version."""
    if sys.version_info < OLDEST_PYTHON:
        return [f"Python {sys.version.split()[0]}: {'.'.join(map(str, OLDEST_PYTHON))} or newer is required"]
    lines = []
    pinned = [line for file in files for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    for line in pinned:
        name, _, required = line.removesuffix(" \\").partition("==")
        if line and line[0] not in "#- ":
            found = _version(name)
            if found is None or found.partition("+")[0] != required:  # 2.13.0+cpu is a build of 2.13.0
                lines.append(f"{name}: {required} is required, {found or 'none'} is installed")
    if not _installed_from_here():
        lines.append(f"finetuning-companion: not installed from {ROOT}")
    return lines


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _installed_from_here() -> bool:
    """Tell whether ``lib`` is imported from this checkout, wherever a notebook is started."""
    try:
        origin = metadata.distribution("finetuning-companion").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return False
    return origin is not None and f'"{ROOT.as_uri()}"' in origin


if __name__ == "__main__":
    problems = missing([argument for argument in sys.argv[1:] if argument != "--quiet"])
    if problems and "--quiet" not in sys.argv:
        print("\n".join(problems), file=sys.stderr)
    sys.exit(bool(problems))
