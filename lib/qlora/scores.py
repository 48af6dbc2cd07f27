"""Score texts with a causal language model, complete prompts, and choose the likeliest option."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.seeding import seed_everything

IGNORED = -100  # the label of a position that does not count in any loss


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
        Infinite if a loss is not finite.

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
    return exponentiated(losses.sum() / counts.sum())


def exponentiated(mean_loss: float) -> float:
    """Return the perplexity for a mean loss in nats per token; infinite if the loss is not finite."""
    return math.exp(mean_loss) if math.isfinite(mean_loss) and mean_loss < 700 else math.inf


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
    encoded = tokenizer(list(texts), add_special_tokens=special_tokens)["input_ids"]
    encoded = [ids[:max_length] for ids in encoded]
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


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad token lists on the right; padding is masked in the attention and in the loss.

    Returns
    -------
    dict of Tensor, (batch, tokens)
        ``input_ids``, ``attention_mask`` and ``labels``.
    """
    tokens = [torch.tensor(row["input_ids"]) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(tokens, batch_first=True),
        "attention_mask": pad([torch.ones_like(ids) for ids in tokens], batch_first=True),
        "labels": pad(tokens, batch_first=True, padding_value=IGNORED),
    }


def complete(
    model: PreTrainedModel,
    prompts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    new_tokens: int,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    special_tokens: bool = True,
) -> list[str]:
    """Complete each prompt by sampling, and return the new text without special tokens: (prompts,).

    Parameters
    ----------
    model, tokenizer
        A causal language model and its tokenizer.
    prompts : sequence of str, (prompts,)
        Completed one at a time, so none depends on another's padding.
    new_tokens : int
        At most this many; fewer if the model ends its text.
    seed : int
        Set before each prompt.
    temperature, top_p : float
        Of the sampling: 1 and 1 in paper 3, 0.1 and 0.1 in its ablation.
    special_tokens : bool
        Whether the tokenizer adds its special tokens to a prompt.
    """
    texts: list[str] = []
    for prompt in prompts:
        batch = tokenizer(
            [prompt], add_special_tokens=special_tokens, return_tensors="pt", return_token_type_ids=False
        )
        seed_everything(seed)
        tokens = cast(Any, model).generate(
            **batch.to(model.device),
            max_new_tokens=new_tokens,
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            top_k=0,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = tokens[:, batch["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.strip() for text in texts]


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
