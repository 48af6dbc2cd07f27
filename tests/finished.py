"""Records of finished runs, for tests of what is computed from them."""

from typing import Any

from lib.runs import Record


def record(settings: dict[str, Any], result: dict[str, Any]) -> Record:
    """Return the record of a run with these settings and this result."""
    return Record(
        settings=settings,
        provenance={},
        status="done",
        reason=None,
        result=result,
        device="cpu",
        versions={},
        seconds=0.0,
        peak_memory=0,
        attempts=1,
    )
