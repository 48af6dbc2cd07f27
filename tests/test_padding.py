"""Texts in one tensor: padded on the right, to the longest or to a given length."""

import torch

from lib.padding import pad, token_mask

ROWS = [[5, 9, 6], [7], []]


def test_texts_are_padded_on_the_right() -> None:
    assert pad(ROWS, 1).tolist() == [[5, 9, 6], [7, 1, 1], [1, 1, 1]]
    assert pad(ROWS[:2], -100, 4).tolist() == [[5, 9, 6, -100], [7, -100, -100, -100]]
    assert pad(ROWS[2:], 1).dtype == torch.long  # even where there is no token to tell the type


def test_the_mask_tells_tokens_from_padding() -> None:
    assert token_mask(ROWS).tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert token_mask(ROWS[:2], 4).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
