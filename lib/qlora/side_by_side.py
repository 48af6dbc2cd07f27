"""Train the adapters of one or several QLoRA trials on one 4-bit base, side by side.

A step holds the next texts of every trial. The base's products run once over all of them, since the base is
the same and frozen; the low-rank products are batched over the trials. Nothing else is shared: every trial
has its own initial weights, order, dropout, clipping, optimizer and rate. So a trial beside others differs
from the same trial alone only as far as products of another shape round otherwise.

On CUDA, losses and gradients of a step are computed by a graph (`lib.capture`): a step is some ten thousand
kernels, which take longer to launch than to run.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate, zip_longest
from typing import Any, Self

import bitsandbytes as bnb
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel, get_scheduler, set_seed

from lib.capture import Steps, graphs_for, has_static_lengths, static_lengths
from lib.padding import pad
from lib.qlora.adapters import BLOCK, PREFIX, has_dropout, optimizer_states
from lib.qlora.recipes import Recipe
from lib.qlora.scores import FILLER, IGNORED
from lib.seeding import derive

logger = logging.getLogger(__name__)

Adapter = Mapping[str, Tensor]
"""Matrices by peft's names: ``<layer>.lora_A.weight`` (rank, in), ``<layer>.lora_B.weight`` (out, rank)."""

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
FILLING = {"input_ids": [FILLER], "labels": [IGNORED]}  # a row for a trial whose last batch is short


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

    def draw(self, size: int) -> Tensor:
        """Draw the next step's dropout of an input of this size: (texts, tokens, size), True if it is kept.

        It depends on the trial's seed, the step and the trial's own texts; other trials make no difference.
        """
        shape = len(self.texts), max(len(row["input_ids"]) for row in self.texts), size
        self.stream.manual_seed(derive(self.seed, len(self.losses)))
        drawn = torch.empty(shape, dtype=torch.bool, device=self.device)
        return drawn.bernoulli_(1 - self.recipe.dropout, generator=self.stream)

    @property
    def scale(self) -> float:
        """What multiplies the adapter's output; where inputs are dropped, it makes up for them."""
        return self.recipe.alpha / self.recipe.rank / (1 - self.recipe.dropout)

    def update(self, loss: float, gradient: Tensor) -> None:
        """Take a step along the scaled loss's gradient: (entries,)."""
        self.losses.append(loss)
        self.weights.grad = gradient
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
    are stored and multiplied. One with fewer steps leaves the batch when it has taken them. On CUDA steps are
    captured and replayed, which does not change the result, unless the base has dropout of its own, which the
    paper's models do not have.

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
        How many trials were in a step at the end, at most: fewer may have been left to train.

    Raises
    ------
    torch.OutOfMemoryError
        If there is no room for a single trial.
    """
    set_seed(learners[0].seed)  # dropout of the base itself would be drawn from this
    graphs = graphs_for(base.device, capture=not has_dropout(base.config))
    most = base.config.max_position_embeddings
    lengths = _lengths(learners, most, static=has_static_lengths(base.device))
    base.train()
    while any(learner.learning for learner in learners):
        with _Adapted(base, learners[0]) as adapted:
            step = Steps(adapted.gradients, graphs)
            full = _trained(adapted, step, learners, at_a_time, lengths)
        if full:
            at_a_time = len(full) // 2
            logger.warning(
                "out of memory with %d trials side by side: %d at a time from step %d on",
                len(full),
                at_a_time,
                1 + len(full[0].losses),
            )
            # What did not fit must be gone before anything new is recorded.
            del adapted, step
            if base.device.type == "cuda":
                torch.cuda.empty_cache()
    base.eval()
    return at_a_time


def _lengths(learners: Sequence[Learner], most: int, *, static: bool) -> list[int]:
    """Return to how many tokens each step's texts are padded at least: (steps,)."""
    steps = zip_longest(*(learner.batches for learner in learners), fillvalue=[])
    longest = [max(len(row["input_ids"]) for rows in step for row in rows) for step in steps]
    return static_lengths(longest, most) if static else [0] * len(longest)


def _trained(
    adapted: "_Adapted",
    step: Steps[tuple[Tensor, Tensor]],
    learners: Sequence[Learner],
    at_a_time: int,
    lengths: Sequence[int],
) -> Sequence[Learner]:
    """Train to the end and return nothing, or stop where memory runs out and return the group of the step.

    No trial of that group has taken the step; those before it in the step have.
    """
    done = min(len(learner.losses) for learner in learners if learner.learning)
    for number in range(done, len(lengths)):
        learning = [learner for learner in learners if learner.learning and len(learner.losses) == number]
        for start in range(0, len(learning), at_a_time):
            group = learning[start : start + at_a_time]
            begun = time.perf_counter()
            try:
                losses, gradients = step(*adapted.inputs(group, lengths[number]))
            except torch.OutOfMemoryError:
                if len(group) == 1:
                    raise
                return group
            for learner, loss, gradient in zip(group, losses.tolist(), gradients, strict=True):
                learner.update(loss, gradient)
            for learner in group:
                learner.seconds += (time.perf_counter() - begun) / len(group)
    return []


class _Adapted:
    """A base whose layers add, to each trial's texts, what that trial's adapter adds.

    Used as a context: afterwards the base is as it was.

    Parameters
    ----------
    base : PreTrainedModel
    learner : Learner
        Any of the trials: what they share is read from it.
    """

    def __init__(self, base: PreTrainedModel, learner: Learner) -> None:
        self.base, self.shapes = base, learner.shapes
        self.mixed = mixed_type(learner.recipe, base.device)
        self.eager = learner.recipe.attention == "eager"
        sizes = {
            name.removesuffix(DOWN): shape[1] for name, shape in self.shapes.items() if name.endswith(DOWN)
        }
        ends = list(accumulate(sizes.values()))
        self.parts = {
            layer: slice(end - size, end) for (layer, size), end in zip(sizes.items(), ends, strict=True)
        }
        self.width = ends[-1]
        self.hooks: list[Any] = []

    def __enter__(self) -> Self:
        self.hooks = [
            self.base.get_submodule(layer.removeprefix(PREFIX)).register_forward_hook(
                partial(self._add, layer)
            )
            for layer in self.parts
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def inputs(self, group: Sequence[Learner], length: int) -> tuple[Tensor, ...]:
        """Return what `gradients` takes, of a group's next step."""
        most = max(len(learner.texts) for learner in group)
        rows = [row for learner in group for row in learner.texts + [FILLING] * (most - len(learner.texts))]
        tokens = max(length, *(len(row["input_ids"]) for row in rows))
        padded = [
            pad([row[name] for row in rows], padding, tokens).to(self.base.device)
            for name, padding in (("input_ids", FILLER), ("labels", IGNORED))
        ]
        dropped = [self._kept(group, most, tokens)] if any(one.recipe.dropout for one in group) else []
        one = torch.ones((), device=self.base.device)
        return (
            *padded,
            torch.stack([learner.weights.detach() for learner in group]),
            torch.stack([one * learner.scale for learner in group]),
            torch.stack([learner.scaler.scale(one * learner.recipe.loss_scale) for learner in group]),
            *dropped,
        )

    def _kept(self, group: Sequence[Learner], texts: int, tokens: int) -> Tensor:
        """Draw every trial's dropout; what is padded beyond its own longest text is dropped altogether."""
        kept = torch.zeros(len(group), texts, tokens, self.width, dtype=torch.bool, device=self.base.device)
        for index, learner in enumerate(group):
            own = learner.draw(self.width)
            kept[index, : own.shape[0], : own.shape[1]] = own
        return kept

    def gradients(
        self,
        input_ids: Tensor,
        labels: Tensor,
        weights: Tensor,
        scales: Tensor,
        loss_scales: Tensor,
        kept: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute every trial's loss and its gradient, without waiting for the device.

        Parameters
        ----------
        input_ids, labels : Tensor, (trials * batch, tokens)
        weights : Tensor, (trials, entries)
            The adapters, flat.
        scales : Tensor, (trials,)
            What multiplies an adapter's output.
        loss_scales : Tensor, (trials,)
            What multiplies a loss before the gradient is computed.
        kept : Tensor, (trials, batch, tokens, width), optional
            Dropout: True where an input is kept, for the inputs of all layers side by side.

        Returns
        -------
        Tensor
            (trials,) losses in nats per token.
        Tensor
            (trials, entries) gradients of the scaled losses.
        """
        weights = weights.detach().requires_grad_()
        # (trials, rank, in) and (trials, out, rank) of every layer
        self.matrices = _matrices(weights, self.shapes)
        self.scales, self.kept = scales[:, None, None], kept
        mask = causal_mask(input_ids.shape[1], self.base, eager=self.eager)
        with torch.autocast(
            self.base.device.type, dtype=self.mixed, enabled=self.mixed is not None, cache_enabled=False
        ):
            # (trials * batch, tokens, vocabulary)
            logits = self.base(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED)  # (trials * batch, tokens)
        each = F.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="none"
        )  # (trials * batch * tokens,), 0 where nothing is predicted
        trials = len(weights)
        predicted = (targets != IGNORED).unflatten(0, (trials, -1)).sum((1, 2))
        losses = each.view(trials, -1).sum(1) / predicted
        (gradients,) = torch.autograd.grad((losses * loss_scales).sum(), weights)
        self.matrices, self.kept = {}, None  # nothing outlives the step
        return losses.detach(), gradients

    def _add(self, layer: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Return a layer's output with what the adapters add: (trials * batch, tokens, out)."""
        down, up = self.matrices[layer + DOWN], self.matrices[layer + UP]
        given = inputs[0] if torch.is_autocast_enabled(output.device.type) else inputs[0].to(down.dtype)
        states = given.unflatten(0, (len(down), -1))  # (trials, batch, tokens, in)
        if self.kept is not None:
            states = states * self.kept[..., self.parts[layer]]
        low = states.flatten(1, 2) @ down.mT  # (trials, batch * tokens, rank)
        high = (low @ up.mT) * self.scales.to(low.dtype)
        return output + high.view(output.shape).to(output.dtype)


def causal_mask(tokens: int, base: PreTrainedModel, *, eager: bool) -> Tensor:
    """Return a mask by which no token sees a later one: (1, 1, tokens, tokens).

    Texts are padded on the right, so it also hides the padding from every token that counts. transformers
    would make another mask where nothing is padded, and wait for the device to find that out.
    """
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=base.device).tril()[None, None]
    if not eager:
        return seen
    embedding: Any = base.get_input_embeddings()
    return torch.zeros(seen.shape, device=base.device).masked_fill(~seen, -torch.inf).to(embedding.weight)


def mixed_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type of automatic mixed precision: that of the products, on a GPU with 32-bit adapters.

    16-bit adapters are trained without it, as it requires 32-bit ones.
    """
    mixed = device.type == "cuda" and recipe.adapter == "float32" and recipe.compute != "float32"
    return getattr(torch, recipe.compute) if mixed else None


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
