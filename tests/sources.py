"""Small files with texts of two classes, for the tests of the loaders."""

from typing import Any


def review(number: int) -> str:
    """One of many distinct reviews, not yet cleaned."""
    letters = "".join("abcdefghij"[int(digit)] for digit in str(number))
    return f"L'avis {letters}, « sobre » !"


def two_classes(count: int, labels: tuple[Any, Any] = (0, 1)) -> list[tuple[str, Any]]:
    """Rows of a text and a label, alternating between both classes."""
    return [(review(number), labels[number % 2]) for number in range(count)]


def csv_of(rows: list[tuple[Any, ...]], header: str, separator: str = ",") -> str:
    """Write rows below a header."""
    return "\n".join([header, *(separator.join(f'"{value}"' for value in row) for row in rows)]) + "\n"
