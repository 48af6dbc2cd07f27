"""How the trained part of a classifier is named.

``all`` or ``head``; ``biases``; ``above:K``, the layers above the lowest K; ``lora:R``, adapters of rank R.
The head is trained in every case. `lib.quantization.choose_trained` applies a name to a model.
"""

import re
from typing import NamedTuple

ABOVE, LORA = "above", "lora"  # a colon and a number follow

_ADAPTERS = f"{LORA}:[1-9][0-9]*"
_ANY = re.compile(f"all|head|biases|{ABOVE}:[0-9]+|{_ADAPTERS}")

CURVE = re.compile(f"layers|biases|{_ADAPTERS}")
"""What a curve over the surface may be given as; ``layers`` stands for freezing the lowest k, for every k."""

CURVE_ALLOWED = f"layers, biases, {LORA}:1, {LORA}:4 and so on"


class TrainedPart(NamedTuple):
    """A part of a classifier: its kind, and the number of frozen layers or the rank; 0 for other kinds."""

    kind: str
    number: int


def part_of(trained: str) -> TrainedPart:
    """Read the name of a part.

    Raises
    ------
    ValueError
        If no part has this name.
    """
    if not _ANY.fullmatch(trained):
        raise ValueError(f"trained = {trained!r}: allowed are all, head, biases, {ABOVE}:K and {LORA}:R")
    kind, _, number = trained.partition(":")
    return TrainedPart(kind, int(number or 0))
