"""How hiding the tokens that an explanation calls most relevant, or all others, changes a prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.attribution import evaluating
from lib.padding import pad, token_mask

STEPS = 10
"""Shares of a text's tokens are 0, 1 / STEPS, ..., 1."""

BATCH_SIZE = 256
"""Versions of texts, with different tokens hidden, per batch; it affects the speed only."""


@dataclass(frozen=True)
class Curves:
    """The probability of the class predicted for the whole text, as tokens are hidden or shown.

    Attributes
    ----------
    shares : array, (points,)
        Shares of a text's tokens, from 0 to 1; rounded to whole tokens in each text.
    deletion : array, (texts, points)
        With this share of the tokens hidden, the most relevant first.
    insertion : array, (texts, points)
        With only this share of the tokens shown, the most relevant first.
    """

    shares: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]


def curves(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    input_ids: Sequence[Sequence[int]],
    relevance: Mapping[str, Sequence[ArrayLike]],
    *,
    seed: int = 0,
) -> dict[str, Curves]:
    """Hide tokens in the order of each explanation and record the predicted class's probability.

    A hidden token is replaced by the mask token, so the text keeps its length and the other tokens their
    positions. The encoder knows masks from its pre-training, but has never seen a text with tokens removed or
    padding inside; the fall in probability would then measure that as well. Special tokens are never hidden,
    since the head reads the first of them. Each text is classified
    2 (STEPS - 1) times per explanation, and twice more.

    Parameters
    ----------
    model : PreTrainedModel
        On the device where to compute.
    tokenizer : PreTrainedTokenizerBase
        Provides the mask token and the special tokens.
    input_ids : sequence of sequences of int, (texts,) of (tokens,)
        Without padding, special tokens included.
    relevance : mapping of str to sequence of arrays, (texts,) of (tokens,)
        Explanations by name, as returned by `lib.attribution.explain`. ``random_scores`` gives the random
        order to compare with.
    seed : int
        Determines the order of equally relevant tokens, which is random.

    Returns
    -------
    dict of str to Curves
        By the explanations' names.

    Raises
    ------
    ValueError
        If the tokenizer has no mask token, or relevance is missing or not finite.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError("tokenizer has no mask token, which is required to replace hidden tokens")
    _check(input_ids, relevance)
    specials = _special_ids(tokenizer)
    inner = np.arange(1, STEPS) / STEPS
    versions = 2 + len(relevance) * 2 * len(inner)
    by_length = np.argsort([len(ids) for ids in input_ids], kind="stable")
    at_a_time = max(1, BATCH_SIZE // versions)
    probability = np.empty((len(input_ids), versions))
    with evaluating(model), torch.no_grad():
        for begin in tqdm(range(0, len(by_length), at_a_time), desc="faithfulness", leave=False):
            group = by_length[begin : begin + at_a_time]
            rows = []
            for text in group:
                ids, values = (
                    np.asarray(input_ids[text]),
                    [np.asarray(each[text]) for each in relevance.values()],
                )
                hidden = _hidden(np.isin(ids, specials), values, inner, np.random.default_rng((seed, text)))
                rows += np.where(hidden, tokenizer.mask_token_id, ids).tolist()
            outputs = _probabilities(model, rows).reshape(len(group), versions, -1)
            predicted = outputs[:, :1].argmax(-1, keepdims=True)  # (group, 1, 1): for the whole text
            probability[group] = np.take_along_axis(outputs, predicted, axis=-1).squeeze(-1)
    whole, nothing = probability[:, :1], probability[:, 1:2]
    between = probability[:, 2:].reshape(len(input_ids), len(relevance), 2, len(inner))
    return {
        name: Curves(
            shares=np.array([0, *inner, 1]),
            deletion=np.concatenate([whole, between[:, place, 0], nothing], axis=1),
            insertion=np.concatenate([nothing, between[:, place, 1], whole], axis=1),
        )
        for place, name in enumerate(relevance)
    }


def _hidden(
    special: NDArray[np.bool_], relevance: Sequence[NDArray], shares: NDArray, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which tokens are hidden in each version of a text: (versions, tokens).

    The versions are: nothing hidden; everything hidden; then for each explanation the most relevant tokens
    hidden, one row per share, and the others hidden, one row per share.
    """
    free = np.flatnonzero(~special)
    counts = np.rint(shares * len(free))[:, None]  # (shares, 1)
    tie_breaker = rng.random(len(free))
    versions = [np.zeros_like(special)[None], ~special[None]]
    for values in relevance:
        rank = np.full(len(special), -1)  # 0: the most relevant; -1: a special token
        rank[free[np.lexsort((tie_breaker, -values[free]))]] = np.arange(len(free))
        versions += [(rank >= 0) & (rank < counts), rank >= counts]
    return np.concatenate(versions)


def _probabilities(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> NDArray:
    """Classify texts, (rows,) of (tokens,): (rows, classes)."""
    ids = pad(rows, model.config.pad_token_id or 0).to(model.device)
    mask = token_mask(rows).to(model.device)
    batches = zip(ids.split(BATCH_SIZE), mask.split(BATCH_SIZE), strict=True)
    logits = torch.cat([model(input_ids=part, attention_mask=seen).logits for part, seen in batches])
    return logits.double().softmax(-1).cpu().numpy()


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that a tokenizer adds around a text; the unknown piece is not one of them."""
    names = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id")
    return [token for token in (getattr(tokenizer, name) for name in names) if token is not None]


def _check(input_ids: Sequence[Sequence[int]], relevance: Mapping[str, Sequence[ArrayLike]]) -> None:
    for name, values in relevance.items():
        if len(values) != len(input_ids):
            raise ValueError(
                f"{name}: relevance of {len(values)} texts, but there are {len(input_ids)} texts"
            )
        for text, (row, ids) in enumerate(zip(values, input_ids, strict=True)):
            if np.shape(row) != (len(ids),) or not np.isfinite(row).all():
                raise ValueError(
                    f"{name}: text {text} has relevance of shape {np.shape(row)}; "
                    f"{len(ids)} finite numbers are required, one per token"
                )
