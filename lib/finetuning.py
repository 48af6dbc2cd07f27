"""Fine-tune a classifier under one seed, and encode texts with it.

`fine_tune` trains for the epochs that papers 1 and 2 describe, or for as long as their authors' code does
(`lib.recipes`). It is one loop for every device: on CUDA its steps are captured in graphs and replayed
(`lib.capture`), on a CPU they are carried out one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.architectures import head_layers, head_logits, position_ids, readable_pieces
from lib.capture import Steps, graphs_for, has_static_lengths, static_lengths
from lib.memory import fitting, training_bytes
from lib.padding import pad
from lib.precision import (
    Precision,
    check_precision,
    default_precision,
    float32_products,
    in_bfloat16,
    mixed,
)
from lib.recipes import MAX_GRADIENT_NORM, Schedule, TrainingRecipe
from lib.seeding import derive, fingerprint

ENCODED_TOGETHER = 64  # texts per batch of `encode`; affects the speed only


@dataclass(frozen=True)
class Training:
    """What a training run did, besides changing the model's weights.

    Attributes
    ----------
    losses : ndarray, (steps,)
        Training loss at each trained step, in nats; a single NaN for a model that had to be trained alone and
        diverged (`lib.ensembles.fine_tune_together`).
    initial_weights, data_order, final_weights : str
        Fingerprints.
    precision : str
        How products were rounded (`lib.precision`).
    fallback : str
        Why the model was trained alone, or beside fewer others than requested
        (`lib.ensembles.fine_tune_together`); empty if it was trained as requested.
    """

    losses: np.ndarray
    initial_weights: str
    data_order: str
    final_weights: str
    precision: Precision
    fallback: str = ""


@dataclass(frozen=True)
class Encoded:
    """A classifier's embeddings and logits of several texts.

    Attributes
    ----------
    embeddings : ndarray, (texts, dim)
        The first token's vector after the last layer, float32.
    logits : ndarray, (texts, classes)
        Before the softmax, float32.
    """

    embeddings: np.ndarray
    logits: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The class with the highest logit: (texts,)."""
        return self.logits.argmax(axis=1)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    seed: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    max_length: int,
    schedule: Schedule = "described",
    shuffled: bool = True,
    after_epoch: Callable[[], None] | None = None,
    precision: Precision | None = None,
    capture: bool = True,
) -> Training:
    """Fine-tune every weight of ``model`` that requires a gradient, in place, as the authors' code does.

    AdamW with eps 1e-8 and a weight decay of 0.01, a learning rate that decays linearly to zero without
    warm-up, gradients clipped at norm 1, and one order of the texts for all epochs. Training stops where the
    rate reaches 0: nothing would change a weight from there on. Training runs on the model's device. On CUDA,
    batches are padded to one of a few lengths, whether or not steps are captured. Losses change by rounding
    only, but dropout masks differ, since they are drawn for the padding too.

    Parameters
    ----------
    model : PreTrainedModel
        A sequence classifier, built under the same seed; left in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    texts : sequence of str, (texts,)
        Training texts.
    labels : sequence of int, (texts,)
        Their classes.
    seed : int
        Determines the order of the texts and dropout, which are separate streams.
    epochs, learning_rate, batch_size, schedule, shuffled
        See `lib.recipes.TrainingRecipe`; ``authors`` is the schedule of the authors' code.
    max_length : int
        Texts are truncated to this many word pieces.
    after_epoch : callable, optional
        Called after each epoch that is trained to its end, such as to measure ``model``, which it may leave
        in evaluation mode. The authors' schedule usually ends before the first epoch does.
    precision : {"float32", "tf32", "bfloat16"}, optional
        Of the products; by default `lib.precision.default_precision`.
    capture : bool
        Whether steps are captured and replayed on CUDA. It does not change the result.

    Raises
    ------
    FloatingPointError
        If the loss is not finite at some step; names the first such step.
    ValueError
        If the recipe is invalid, or trains no step on so few texts, or the device lacks the precision.
    """
    recipe = TrainingRecipe(epochs, learning_rate, batch_size, schedule, shuffled)
    precision = precision or default_precision(model.device)
    check_precision(precision, model.device)
    steps = recipe.steps(len(texts))
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order, initial = recipe.order(len(texts), seed), fingerprint(model)
    graphs = graphs_for(model.device, capture)
    with float32_products(precision), _dropout_of(seed, model.device):
        epoch = [rows.tolist() for rows in order.split(batch_size)]
        lengths = [max(len(pieces[row]) for row in rows) for rows in epoch]
        if has_static_lengths(model.device):
            lengths = static_lengths(lengths, readable_pieces(model.config))
        batches = [
            batch_of(
                [pieces[row] for row in rows],
                [labels[row] for row in rows],
                length,
                tokenizer.pad_token_id,
                model.device,
            )
            for rows, length in zip(epoch[:steps], lengths, strict=False)
        ]
        needed = training_bytes(model, batch_size, max(lengths))
        fitting(needed, 1, model.device, f"seed {seed} of {type(model).__name__}")
        rates, rate = recipe.rate_tensors(len(texts), model.device)
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = recipe.optimizer(weights, rate, capturable=graphs is not None)
        step = Steps(partial(_step, model, weights, optimizer, precision), graphs)
        losses = torch.empty(steps, device=model.device)
        model.train()
        for number in range(steps):
            rate.copy_(rates[number])
            losses[number] = step(*batches[number % len(epoch)])
            if after_epoch is not None and (number + 1) % len(epoch) == 0:
                after_epoch()
                model.train()
        model.eval().zero_grad()
    finite = losses.isfinite().tolist()
    if not all(finite):
        raise FloatingPointError(f"the training loss is not finite from step {finite.index(False)} on")
    data_order, final = fingerprint(order.tolist()), fingerprint(model)
    return Training(losses.cpu().numpy(), initial, data_order, final, precision)


class Batch(NamedTuple):
    """Texts that are read together, padded to one length."""

    input_ids: Tensor  # (texts, tokens)
    lengths: Tensor  # (texts,): tokens of each text, without padding
    labels: Tensor  # (texts,)


def batch_of(
    pieces: Sequence[Sequence[int]], labels: Sequence[int], length: int, padding: int, device: torch.device
) -> Batch:
    """Pad texts, (texts,) of (tokens,), to a length, and put them on a device."""
    lengths = torch.tensor([len(text) for text in pieces])
    parts = pad(pieces, padding, length), lengths, torch.tensor(list(labels))
    return Batch(*(part.to(device) for part in parts))


def _step(
    model: PreTrainedModel,
    weights: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *batch: Tensor,
) -> Tensor:
    """Train on a batch, without waiting for the device, and return the loss: ()."""
    input_ids, lengths, labels = batch
    for weight in weights:
        weight.grad = None
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask(lengths, input_ids.shape[1], model.dtype),
        "position_ids": position_ids(model, input_ids),
    }
    with mixed(model.device, precision):
        if precision == "bfloat16":
            logits = functional_call(model, in_bfloat16(model), kwargs=inputs).logits
        else:
            logits = model(**inputs).logits
        loss = F.cross_entropy(logits, labels)
    loss.backward()
    clip_grad_norm_(weights, MAX_GRADIENT_NORM)
    optimizer.step()
    return loss.detach()


def attention_mask(lengths: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to its scores: (batch,) -> (batch, 1, tokens, tokens).

    Given a mask of shape (batch, tokens), transformers would make none where nothing is padded. To find that
    out, it would wait for the device, and a captured step with a mask could not be replayed for one without.
    """
    padding = torch.arange(tokens, device=lengths.device) >= lengths[:, None]  # (batch, tokens)
    mask = torch.zeros(padding.shape, dtype=dtype, device=lengths.device)
    mask = mask.masked_fill(padding, torch.finfo(dtype).min)
    return mask[:, None, None, :].expand(-1, 1, tokens, -1)


@contextmanager
def _dropout_of(seed: int, device: torch.device) -> Iterator[None]:
    """Let the default generator be the seed's dropout stream for a while.

    A model's dropout layers draw from the default generator and from no other, and PyTorch registers it with
    every CUDA graph.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, "dropout"))
        yield


@torch.no_grad()
def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int,
) -> Encoded:
    """Return the first token's embedding and the logits of every text, in the given order.

    Parameters
    ----------
    model : PreTrainedModel
        A sequence classifier, in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    texts : sequence of str, (texts,)
        Any texts.
    max_length : int
        Texts are truncated to this many word pieces.
    """
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    by_length = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))  # saves padding
    embeddings = np.empty((len(pieces), model.config.hidden_size), np.float32)  # (texts, dim)
    labels = head_layers(model)[1].out_features
    logits = np.empty((len(pieces), labels), np.float32)  # (texts, classes)
    for start in range(0, len(pieces), ENCODED_TOGETHER):
        chosen = by_length[start : start + ENCODED_TOGETHER]
        batch = tokenizer.pad({"input_ids": [pieces[index] for index in chosen]}, return_tensors="pt")
        hidden = model.base_model(**batch.to(model.device)).last_hidden_state  # (batch, tokens, dim)
        embeddings[chosen] = hidden[:, 0].float().cpu().numpy()
        logits[chosen] = head_logits(model, hidden).float().cpu().numpy()
    return Encoded(embeddings, logits)


@torch.no_grad()
def classify(model: PreTrainedModel, embeddings: np.ndarray) -> np.ndarray:
    """Return the class that a classifier predicts from `encode`'s embeddings: (texts, dim) -> (texts,)."""
    states = torch.from_numpy(embeddings).to(model.device)[:, None]  # the head reads only the first token
    return head_logits(model, states).argmax(dim=1).cpu().numpy()
