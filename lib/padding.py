"""Texts of different lengths in one tensor: padded on the right."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(rows: Sequence[Sequence[int]], padding: int, length: int | None = None) -> Tensor:
    """Pad rows to the longest, or to a length that none exceeds: (rows,) of (tokens,) -> (rows, tokens)."""
    width = max(map(len, rows)) if length is None else length
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows], dtype=torch.long)


def token_mask(rows: Sequence[Sequence[int]], length: int | None = None) -> Tensor:
    """Return 1 where `pad` leaves a token and 0 where it pads: (rows,) of (tokens,) -> (rows, tokens)."""
    return pad([[1] * len(row) for row in rows], 0, length)
