"""Train the adapters of one or several QLoRA trials on one 4-bit base, side by side.

A step holds the next texts of every trial. The base's products run once over all of them, since the base is
the same and frozen; the low-rank products are batched over the trials. Nothing else is shared: every trial
has its own initial weights, order, dropout, clipping, optimizer and rate. So a trial beside others differs
from the same trial alone only as far as products of another shape round otherwise.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import bitsandbytes as bnb
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, get_scheduler

from lib.qlora.adapters import BLOCK, PREFIX, optimizer_states
from lib.qlora.recipes import Recipe
from lib.qlora.scores import IGNORED, collate
from lib.seeding import derive, seed_everything

logger = logging.getLogger(__name__)

Adapter = Mapping[str, Tensor]
"""Matrices by peft's names: ``<layer>.lora_A.weight`` (rank, in), ``<layer>.lora_B.weight`` (out, rank)."""

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
FILLING = {"input_ids": [0], "labels": [IGNORED]}  # a row for a trial whose last batch is short


class Learner:
    """One trial in training.

    The matrices of its adapter lie in one flat tensor, so its optimizer is called once a step instead of once
    a matrix. Each matrix begins a new block of 256 entries, so an 8-bit optimizer has the same blocks as it
    would have over separate tensors.

    Parameters
    ----------
    adapter : mapping of str to Tensor
        The initial matrices, of the type and on the device of the training.
    recipe : Recipe
        How to train.
    encoded : sequence of sequences of int, (texts, tokens)
        The texts' tokens, of different lengths.
    given : sequence of int, (texts,)
        How many tokens at the beginning of each text are read but not learned; at least one token is learned.
    order : sequence of int, (epochs * texts,)
        In which the texts are seen.
    seed : int
        Determines dropout.

    Raises
    ------
    ValueError
        If an 8-bit optimizer would keep the states of a matrix in 32 bits.
    """

    def __init__(
        self,
        adapter: Adapter,
        recipe: Recipe,
        encoded: Sequence[Sequence[int]],
        given: Sequence[int],
        order: Sequence[int],
        seed: int,
    ) -> None:
        smallest = min(matrix.numel() for matrix in adapter.values())
        if recipe.bits == "8-bit" and smallest < recipe.min_8bit_size:
            raise ValueError(
                f"optimizer {recipe.optimizer!r} keeps float32 states, not uint8: min_8bit_size = "
                f"{recipe.min_8bit_size} exempts tensors with fewer elements, such as one with {smallest}"
            )
        self.recipe, self.seed = recipe, seed
        self.shapes = {name: matrix.shape for name, matrix in adapter.items()}
        self.weights = nn.Parameter(_flat(adapter))
        self.device = self.weights.device
        self.stream = torch.Generator(self.device)
        self.losses: list[float] = []
        self.seconds = 0.0
        rows = []
        for ids, count in zip(encoded, given, strict=True):
            ignored = min(count, len(ids) - 1)
            rows.append({"input_ids": list(ids), "labels": [IGNORED] * ignored + list(ids[ignored:])})
        size = recipe.batch_size
        seen = [rows[index] for index in order]
        self.batches = [seen[start : start + size] for start in range(0, len(seen), size)]
        self.optimizer = _optimizer(self.weights, recipe)
        self.schedule = get_scheduler(
            recipe.schedule, self.optimizer, num_warmup_steps=0, num_training_steps=len(self.batches)
        )
        # A norm of at most 1 before the loss was scaled. In float16 the trial also has a scale of its own,
        # which moves with its overflows.
        overflows = mixed_type(recipe, self.device) is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=overflows)

    @property
    def learning(self) -> bool:
        """Whether steps are left; after a loss that is not finite, every loss is NaN."""
        return len(self.losses) < len(self.batches) and (not self.losses or math.isfinite(self.losses[-1]))

    @property
    def texts(self) -> list[dict[str, list[int]]]:
        """The rows of the next step."""
        return self.batches[len(self.losses)]

    def mask(self, layer: str, size: int, dtype: torch.dtype) -> Tensor:
        """Draw the next step's dropout of a layer's input: (texts, tokens, size), 0 or 1 / (1 - p).

        It is drawn anew from seed, step and layer at each call, so a layer that is computed again (gradient
        checkpointing) drops the same entries, and other trials make no difference.
        """
        shape = len(self.texts), max(len(row["input_ids"]) for row in self.texts), size
        kept = 1 - self.recipe.dropout
        self.stream.manual_seed(derive(self.seed, len(self.losses), layer))
        drawn = torch.empty(shape, dtype=dtype, device=self.device)
        return drawn.bernoulli_(kept, generator=self.stream).div_(kept)

    def update(self, loss: float) -> None:
        """Take a step along the gradient of ``weights``, which belongs to this loss."""
        self.losses.append(loss)
        self.scaler.unscale_(self.optimizer)
        clip_grad_norm_([self.weights], self.recipe.loss_scale)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # otherwise the gradient overflowed and no step was taken
            self.schedule.step()
        self.optimizer.zero_grad()

    def adapter(self) -> dict[str, Tensor]:
        """Return the matrices by name."""
        matrices = _matrices(self.weights.detach(), self.shapes)
        return {name: matrix.clone() for name, matrix in matrices.items()}

    def result(self) -> dict[str, Any]:
        """Return ``losses`` (steps,) in nats per token, ``train_seconds``, and the optimizer's states."""
        return {
            "losses": np.array(self.losses),
            "train_seconds": self.seconds,
            **optimizer_states(self.optimizer),
        }


def train_side_by_side(base: PreTrainedModel, learners: Sequence[Learner], *, at_a_time: int) -> int:
    """Train adapters until every trial has taken its steps or has diverged.

    Trials may differ in everything but the base, the shapes of their matrices, and the types in which they
    are stored and multiplied. One with fewer steps leaves the batch when it has taken them.

    Parameters
    ----------
    base : PreTrainedModel
        From `lib.qlora.adapters.load_base`; unchanged afterwards.
    learners : sequence of Learner
        On the device of the base.
    at_a_time : int
        Trials in one step; more are taken in several. If memory runs out, half as many are, from that step
        on, and the log says so.

    Returns
    -------
    int
        How many trials were in a step at the end.

    Raises
    ------
    torch.OutOfMemoryError
        If there is no room for a single trial.
    """
    # Dropout of the base itself, which the paper's models do not have, would be drawn from this.
    seed_everything(learners[0].seed)
    base.train()
    layers = [name.removesuffix(DOWN) for name in learners[0].shapes if name.endswith(DOWN)]
    added = _Added()
    hooks = [
        base.get_submodule(layer.removeprefix(PREFIX)).register_forward_hook(partial(added.add, layer))
        for layer in layers
    ]
    try:
        while learning := deque(learner for learner in learners if learner.learning):
            while learning:
                group = [learning.popleft() for _ in range(min(at_a_time, len(learning)))]
                if not _stepped(base, added, group):
                    at_a_time = len(group) // 2
                    learning.extendleft(reversed(group))
                    logger.warning(
                        "out of memory with %d trials side by side: %d at a time from step %d on",
                        len(group),
                        at_a_time,
                        1 + len(group[0].losses),
                    )
    finally:
        for hook in hooks:
            hook.remove()
    base.eval()
    return at_a_time


class _Added:
    """What the adapters of the trials in a step add to the outputs of the base's layers."""

    def __init__(self) -> None:
        self.group: Sequence[Learner] = ()
        self.matrices: dict[str, Tensor] = {}
        self.scales = torch.empty(0)

    def take(self, group: Sequence[Learner]) -> None:
        """Stack the adapters of a group: (trials, rank, in) and (trials, out, rank) of every layer."""
        self.group = group
        self.matrices = _matrices(torch.stack([learner.weights for learner in group]), group[0].shapes)
        scales = [learner.recipe.alpha / learner.recipe.rank for learner in group]
        self.scales = torch.tensor(scales, device=group[0].device)[:, None, None]

    def add(self, layer: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Return a layer's output with what the adapters add: (trials * batch, tokens, out)."""
        down, up = self.matrices[layer + DOWN], self.matrices[layer + UP]
        given = inputs[0] if torch.is_autocast_enabled(output.device.type) else inputs[0].to(down.dtype)
        states = given.unflatten(0, (len(self.group), -1))  # (trials, batch, tokens, in)
        if any(learner.recipe.dropout for learner in self.group):
            states = states * self._masks(layer, states)
        low = states.flatten(1, 2) @ down.mT  # (trials, batch * tokens, rank)
        high = (low @ up.mT) * self.scales.to(low.dtype)
        return output + high.view(output.shape).to(output.dtype)

    def _masks(self, layer: str, states: Tensor) -> Tensor:
        """Draw every trial's dropout; what is padded beyond its own longest text is dropped altogether."""
        _, batch, tokens, size = states.shape
        masks = []
        for learner in self.group:
            own = learner.mask(layer, size, states.dtype)
            masks.append(F.pad(own, (0, 0, 0, tokens - own.shape[1], 0, batch - own.shape[0])))
        return torch.stack(masks)


def mixed_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type of automatic mixed precision: that of the products, on a GPU with 32-bit adapters.

    16-bit adapters are trained without it, as it requires 32-bit ones.
    """
    mixed = device.type == "cuda" and recipe.adapter == "float32" and recipe.compute != "float32"
    return getattr(torch, recipe.compute) if mixed else None


def _stepped(base: PreTrainedModel, added: _Added, group: Sequence[Learner]) -> bool:
    """Take one step of every trial of a group; if memory runs out for several, take none and return False."""
    start = time.perf_counter()
    try:
        losses = _differentiated(base, added, group)
    except torch.OutOfMemoryError:
        if len(group) == 1:
            raise
        losses = []
    if not losses:  # outside the handler, which keeps the step's tensors alive
        added.matrices = {}
        for learner in group:
            learner.optimizer.zero_grad()
        if group[0].device.type == "cuda":
            torch.cuda.empty_cache()
        return False
    for learner, loss in zip(group, losses, strict=True):
        learner.update(loss)
    for learner in group:
        learner.seconds += (time.perf_counter() - start) / len(group)
    return True


def _differentiated(base: PreTrainedModel, added: _Added, group: Sequence[Learner]) -> list[float]:
    """Compute every trial's loss and the gradient of its adapter: (trials,) in nats per token."""
    most = max(len(learner.texts) for learner in group)
    rows = [row for learner in group for row in learner.texts + [FILLING] * (most - len(learner.texts))]
    batch = {name: tensor.to(base.device) for name, tensor in collate(rows).items()}
    targets = F.pad(batch.pop("labels")[:, 1:], (0, 1), value=IGNORED)  # (trials * batch, tokens)
    added.take(group)
    mixed = mixed_type(group[0].recipe, base.device)
    with torch.autocast(base.device.type, dtype=mixed, enabled=mixed is not None):
        logits = base(**batch, use_cache=False).logits  # (trials * batch, tokens, vocabulary)
    each = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )  # (trials * batch * tokens,), 0 where nothing is predicted
    predicted = (targets != IGNORED).unflatten(0, (len(group), -1)).sum((1, 2))
    losses = each.view(len(group), -1).sum(1) / predicted  # (trials,)
    scaled = [
        learner.scaler.scale(loss * learner.recipe.loss_scale)
        for learner, loss in zip(group, losses, strict=True)
    ]
    torch.stack(scaled).sum().backward()
    return losses.tolist()


def _optimizer(weights: nn.Parameter, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW without weight decay, as transformers' Trainer configures it by default."""
    # the loss is scaled, and with it the moments, to which epsilon is added
    options: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "eps": recipe.epsilon * recipe.loss_scale,
        "weight_decay": 0.0,
    }
    if recipe.optimizer == "adamw_torch":
        return torch.optim.AdamW([weights], **options)
    if recipe.bits == "8-bit":
        return bnb.optim.PagedAdamW8bit([weights], **options, min_8bit_size=1)
    return bnb.optim.PagedAdamW32bit([weights], **options)


def _flat(adapter: Adapter) -> Tensor:
    """Put matrices into one tensor: (entries,); zeros fill the last block of each."""
    rows = (matrix.flatten() for matrix in adapter.values())
    return torch.cat([F.pad(row, (0, -row.numel() % BLOCK)) for row in rows])


def _matrices(flat: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Find the matrices in flat tensors: (..., entries) -> (..., rows, columns) by name."""
    rooms = [shape.numel() + -shape.numel() % BLOCK for shape in shapes.values()]
    parts = flat.split(rooms, dim=-1)
    return {
        name: part[..., : shape.numel()].unflatten(-1, shape)
        for part, (name, shape) in zip(parts, shapes.items(), strict=True)
    }
