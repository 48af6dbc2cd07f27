"""The words and frames of the generated texts, which are data: ``lexicons/*.yaml``."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def lexicon(name: str) -> dict[str, Any]:
    """Read ``lexicons/{name}.yaml``."""
    path = Path(__file__).parent / "lexicons" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))
