"""Score texts with a causal language model, complete prompts, and choose the likeliest option."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from lib.padding import pad, token_mask
from lib.seeding import derive

IGNORED = -100  # the label of a position that does not count in any loss
FILLER = 0  # the token that pads a text: any would do, since padding is never seen


def perplexity(
    model: PreTrainedModel,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 16,
    special_tokens: bool = True,
    max_length: int | None = None,
) -> float:
    """Return the perplexity of texts: the exponential of the mean loss per token, given the preceding ones.

    Every token of every text has the same weight, so neither batches nor padding change the result. A text's
    first token is given, not predicted.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model, in evaluation mode.
    texts : sequence of str, (texts,)
        At least one with two tokens or more.
    tokenizer : PreTrainedTokenizerBase
        The model's tokenizer.
    batch_size : int
        Texts per batch.
    special_tokens : bool
        Whether the tokenizer adds its special tokens, for example at the start.
    max_length : int, optional
        Truncate longer texts to this many tokens.

    Returns
    -------
    float
        Infinite if a loss is not finite, or the mean loss is 700 nats or more.

    Raises
    ------
    ValueError
        If a text exceeds the model's context, or there is nothing to predict.

    Notes
    -----
    Paper 3, equation (1).
    """
    losses, counts = text_losses(
        model,
        texts,
        tokenizer,
        batch_size=batch_size,
        special_tokens=special_tokens,
        max_length=max_length,
    )
    return perplexity_of(losses, counts)


def perplexity_of(losses: np.ndarray, counts: np.ndarray) -> float:
    """Return the `perplexity` of texts whose `text_losses` are known: (texts,), (texts,) -> a number."""
    mean_loss = losses.sum() / counts.sum()  # nats per token
    return math.exp(mean_loss) if math.isfinite(mean_loss) and mean_loss < 700 else math.inf


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special_tokens: bool
) -> list[list[int]]:
    """Return whole texts as tokens: (texts,) of (tokens,).

    No warning says that one is beyond a model's context: callers cut texts, or refuse them.
    """
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=special_tokens, verbose=False)["input_ids"]


@torch.no_grad()
def text_losses(
    model: PreTrainedModel | PeftModel,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 16,
    special_tokens: bool = True,
    max_length: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each text's summed loss in nats and the number of tokens in the sum: (texts,), (texts,).

    Parameters and errors are those of `perplexity`.
    """
    encoded = [ids[:max_length] for ids in token_ids(tokenizer, texts, special_tokens=special_tokens)]
    longest = max(map(len, encoded))
    if longest > model.config.max_position_embeddings:
        raise ValueError(
            f"a text of {longest} tokens exceeds the model's context of "
            f"{model.config.max_position_embeddings} tokens"
        )
    if longest < 2:
        raise ValueError("no text has two tokens or more: there is nothing to predict")
    losses, counts = [], []
    for start in range(0, len(encoded), batch_size):
        batch = collate([{"input_ids": ids} for ids in encoded[start : start + batch_size]])
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        targets = batch.pop("labels")[:, 1:]  # (batch, tokens - 1)
        logits = model(**batch).logits[:, :-1].float()  # (batch, tokens - 1, vocabulary)
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )  # (batch, tokens - 1), 0 where padded
        losses.append(each.double().sum(1).cpu().numpy())
        counts.append((targets != IGNORED).sum(1).cpu().numpy())
    return np.concatenate(losses), np.concatenate(counts)


def continuation_losses(
    model: PreTrainedModel,
    prompts: Sequence[str],
    continuations: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    special_tokens: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss in nats of each continuation after its prompt, and its number of tokens: (texts,) each.

    It is the loss of prompt and continuation, minus that of the prompt alone. A continuation without text
    has neither loss nor tokens.

    Parameters
    ----------
    model, tokenizer
        A causal language model and its tokenizer.
    prompts, continuations : sequence of str, (texts,)
        Put together with a blank between them.
    special_tokens : bool
        Whether the tokenizer adds its special tokens.
    """
    losses, counts = np.zeros(len(prompts)), np.zeros(len(prompts), int)
    written = [number for number, text in enumerate(continuations) if text]
    if not written:
        return losses, counts
    whole = [f"{prompts[number]} {continuations[number]}" for number in written]
    whole_losses, whole_counts = text_losses(
        model, whole, tokenizer, batch_size=64, special_tokens=special_tokens
    )
    asked = sorted({prompts[number] for number in written})
    asked_losses, asked_counts = text_losses(
        model, asked, tokenizer, batch_size=64, special_tokens=special_tokens
    )
    position = np.array([asked.index(prompts[number]) for number in written])
    losses[written] = whole_losses - asked_losses[position]
    counts[written] = whole_counts - asked_counts[position]
    return losses, counts


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad token lists on the right; padding is masked in the attention and in the loss.

    Parameters
    ----------
    rows : sequence of dict
        ``input_ids`` (tokens,), and ``labels`` (tokens,) if not every token is learned.

    Returns
    -------
    dict of Tensor, (batch, tokens)
        ``input_ids``, ``attention_mask`` and ``labels``.
    """
    tokens = [row["input_ids"] for row in rows]
    labels = [row.get("labels", row["input_ids"]) for row in rows]
    return {
        "input_ids": pad(tokens, FILLER),
        "attention_mask": token_mask(tokens),
        "labels": pad(labels, IGNORED),
    }


def complete(
    model: PreTrainedModel,
    prompts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    new_tokens: int,
    seed: int,
    samples: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    special_tokens: bool = True,
) -> list[list[str]]:
    """Complete each prompt by sampling, and return the new texts without special tokens: (prompts, samples).

    Prompts of the same number of tokens are completed as one batch, so none is ever padded.

    Parameters
    ----------
    model, tokenizer
        A causal language model and its tokenizer.
    prompts : sequence of str, (prompts,)
        What to complete.
    new_tokens : int
        At most this many; fewer if the model ends its text.
    seed : int
        Determines every draw: models that are given the same prompts and seed draw the same random numbers
        for the same prompt and sample.
    samples : int
        Completions of each prompt, drawn independently of each other.
    temperature, top_p : float
        Of the sampling. Paper 3: 1, which it lowers to 0.1 (section VII), and 0.1 and 0.1 (section IX).
    special_tokens : bool
        Whether the tokenizer adds its special tokens to a prompt.
    """
    encoded = token_ids(tokenizer, prompts, special_tokens=special_tokens)
    texts: dict[int, list[str]] = {}
    for length in sorted({len(ids) for ids in encoded}):
        alike = [number for number, ids in enumerate(encoded) if len(ids) == length]
        batch = torch.tensor([encoded[number] for number in alike], device=model.device)
        set_seed(derive(seed, length))
        tokens = cast(Any, model).generate(
            input_ids=batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=new_tokens,
            do_sample=True,
            num_return_sequences=samples,
            temperature=temperature,
            top_p=top_p,
            top_k=0,
            pad_token_id=tokenizer.pad_token_id,
        )  # (prompts * samples, tokens)
        new = tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)
        for position, number in enumerate(alike):
            own = new[position * samples : (position + 1) * samples]
            texts[number] = [text.strip() for text in own]
    return [texts[number] for number in range(len(prompts))]


def choose(
    model: PreTrainedModel,
    prompts: Sequence[str],
    options: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    special_tokens: bool = True,
) -> np.ndarray:
    """Return the index of the likeliest option after each prompt: (prompts,).

    The prompt's own loss is the same for every option, so the losses of whole texts can be compared.
    """
    texts = [prompt + option for prompt in prompts for option in options]
    losses, _ = text_losses(model, texts, tokenizer, batch_size=64, special_tokens=special_tokens)
    return losses.reshape(len(prompts), len(options)).argmin(1)
