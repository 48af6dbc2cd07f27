"""What a causal language model makes of texts: perplexity, continuations, the likeliest option."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.seeding import seed_everything

IGNORED = -100  # the label of a position that no loss counts


def perplexity(
    model: PreTrainedModel,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 16,
    special_tokens: bool = True,
    max_length: int | None = None,
) -> float:
    """Return the perplexity of texts: the exponential of the mean loss of a token, given the ones before it.

    Every token of every text counts the same, so that neither batches nor padding change it. A text's first
    token is given, not predicted.

    Parameters
    ----------
    model, tokenizer
        A causal language model, in evaluation mode, and its tokenizer.
    texts : sequence of str
        At least one of two tokens or more.
    batch_size : int
        Texts at a time.
    special_tokens : bool
        Whether the tokenizer adds its own, for example at the start.
    max_length : int, optional
        Cut longer texts to that many tokens.

    Returns
    -------
    float
        Infinite where a loss is.

    Raises
    ------
    ValueError
        If a text is longer than the model's context, or there is nothing to predict.

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
    """Return the perplexity of a mean loss in nats per token; infinite for one that is not finite."""
    return math.exp(mean_loss) if math.isfinite(mean_loss) and mean_loss < 700 else math.inf


@torch.no_grad()
def text_losses(
    model: PreTrainedModel,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 16,
    special_tokens: bool = True,
    max_length: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each text's summed loss in nats, and how many tokens it sums over: (texts,), (texts,).

    Parameters and errors are those of `perplexity`.
    """
    encoded = tokenizer(list(texts), add_special_tokens=special_tokens)["input_ids"]
    encoded = [ids[:max_length] for ids in encoded]
    longest = max(map(len, encoded))
    if longest > model.config.max_position_embeddings:
        raise ValueError(
            f"a text has {longest} tokens: the model reads at most {model.config.max_position_embeddings}"
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
    """Pad token lists on the right; padding is masked from the attention and from the loss.

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
    """Continue each prompt by sampling, and return what was added, without the special tokens.

    Parameters
    ----------
    model, tokenizer
        A causal language model and its tokenizer.
    prompts : sequence of str
        One at a time, so that none depends on another's padding.
    new_tokens : int
        At most that many; fewer where the model ends its text.
    seed : int
        Set before each prompt.
    temperature, top_p : float
        Of the sampling; paper 3 takes 1 and 1, and 0.1 and 0.1 in its ablation.
    special_tokens : bool
        Whether the tokenizer adds its own to a prompt.
    """
    texts = []
    for prompt in prompts:
        batch = tokenizer(
            [prompt], add_special_tokens=special_tokens, return_tensors="pt", return_token_type_ids=False
        )
        seed_everything(seed)
        tokens = model.generate(
            **batch.to(model.device),
            max_new_tokens=new_tokens,
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            top_k=0,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = tokens[0, batch["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True).strip())
    return texts


def choose(
    model: PreTrainedModel,
    prompts: Sequence[str],
    options: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    special_tokens: bool = True,
) -> np.ndarray:
    """Return which option the model finds likeliest after each prompt: (prompts,), indices.

    The prompt's own loss is the same in front of every option, so that whole texts can be compared.
    """
    texts = [prompt + option for prompt in prompts for option in options]
    losses, _ = text_losses(model, texts, tokenizer, batch_size=64, special_tokens=special_tokens)
    return losses.reshape(len(prompts), len(options)).argmin(1)
