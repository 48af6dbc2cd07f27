"""Fine-tune the models of several seeds side by side: one batched computation over stacked weights.

A batch of four texts leaves most of a GPU idle. With the weights of several seeds stacked, every operation of
a training step does the work of all of them. On a CPU, which one seed keeps busy, there is no gain.
"""

import copy
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.architectures import position_ids
from lib.finetuning import Training, fine_tune, mixed_precision
from lib.hub import first_line
from lib.recipes import Schedule, TrainingRecipe, clip_each
from lib.seeding import derive, fingerprint, generator

logger = logging.getLogger(__name__)

# PyTorch raises a plain RuntimeError for an operation that vmap cannot batch; only its message tells.
_CANNOT_BATCH = re.compile(r"\bvmap\b|functorch|batching rule", re.IGNORECASE)


class _Batch(NamedTuple):
    """What every member reads in one step, with the mask and the positions as the model takes them."""

    input_ids: Tensor  # (seeds, batch, tokens)
    attention_mask: Tensor  # (seeds, batch, 1, tokens, tokens), 0 or the most negative float32
    position_ids: Tensor  # (seeds, batch, tokens)
    labels: Tensor  # (seeds, batch)
    lengths: list[int]  # (seeds,): tokens of the member's own longest text


class _Site(NamedTuple):
    """A place where the model applies dropout."""

    shape: torch.Size
    probability: float


def fine_tune_together(
    models: Sequence[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    seeds: Sequence[int],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    max_length: int,
    schedule: Schedule = "described",
    shuffled: bool = True,
) -> list[Training]:
    """Fine-tune one model per seed, all at once, in place, as `lib.finetuning.fine_tune` trains one.

    Initial weights and the order of the texts are those of `fine_tune`; without dropout so is the result, up
    to rounding. Each seed has its own dropout stream (`fine_tune` draws from PyTorch's global one), so a
    member is the same, up to rounding, whatever the other members are. If PyTorch cannot batch the models, or
    memory runs out, they are trained one at a time; the log and ``Training.fallback`` then give the reason.

    Parameters
    ----------
    models : sequence of PreTrainedModel
        One per seed: the same architecture, device and set of weights that require a gradient.
    tokenizer, texts, labels, epochs, learning_rate, batch_size, max_length, schedule, shuffled
        As in `fine_tune`.
    seeds : sequence of int
        (seeds,): each determines the order of the texts and the dropout of its model.

    Returns
    -------
    list of Training
        One per seed. A member whose losses are not finite has diverged; the others are unaffected.

    Raises
    ------
    ValueError
        If models and seeds differ in number, the recipe is invalid, or it trains no step on so few texts.
    """
    if len(models) != len(seeds):
        raise ValueError(f"{len(models)} models but {len(seeds)} seeds: one model per seed is required")
    recipe = TrainingRecipe(epochs, learning_rate, batch_size, schedule, shuffled)
    try:
        return _Ensemble(models, tokenizer, seeds).train(texts, labels, recipe, max_length)
    except RuntimeError as error:  # the models are still as they were: weights are written back at the end
        if not isinstance(error, torch.OutOfMemoryError) and not _CANNOT_BATCH.search(str(error)):
            raise
        reason = first_line(error)
    logger.warning("%d seeds are fine-tuned one at a time instead of together: %s", len(seeds), reason)
    return [
        replace(
            _trained_alone(
                model, tokenizer, texts, labels, seed=seed, max_length=max_length, **asdict(recipe)
            ),
            fallback=reason,
        )
        for model, seed in zip(models, seeds, strict=True)
    ]


def _trained_alone(model: PreTrainedModel, *data: Any, **training: Any) -> Training:
    """Train one member as `fine_tune` does; one that diverges leaves the others unaffected."""
    initial = fingerprint(model)
    try:
        return fine_tune(model, *data, **training)
    except FloatingPointError:
        return Training(np.array([np.nan]), initial, data_order="", final_weights=fingerprint(model))


class _Ensemble:
    """Stacked weights of several models, and the batched step that trains them."""

    def __init__(
        self, models: Sequence[PreTrainedModel], tokenizer: PreTrainedTokenizerBase, seeds: Sequence[int]
    ) -> None:
        self.models, self.tokenizer, self.seeds = models, tokenizer, seeds
        self.device = models[0].device
        members = [dict(model.named_parameters()) for model in models]
        trained = [name for name, parameter in members[0].items() if parameter.requires_grad]
        self.weights = {
            name: torch.stack([member[name].detach() for member in members]).requires_grad_()
            for name in trained
        }
        # Untrained weights that all members share, such as a frozen encoder's, are kept only once.
        self.shared: dict[str, Tensor] = {}
        self.untrained: dict[str, Tensor] = {}
        for name in members[0].keys() - set(trained):
            values = [member[name].detach() for member in members]
            if all(torch.equal(values[0], value) for value in values[1:]):
                self.shared[name] = values[0]
            else:
                self.untrained[name] = torch.stack(values)
        self.template = copy.deepcopy(models[0]).train()
        # Eager attention calls F.dropout on its weights instead of dropping them inside a fused kernel.
        self.template.set_attn_implementation("eager")
        self.skeleton = copy.deepcopy(self.template).to("meta")

    def train(
        self, texts: Sequence[str], labels: Sequence[int], recipe: TrainingRecipe, max_length: int
    ) -> list[Training]:
        """Train all members and write their weights back; see `fine_tune_together`."""
        initial = [fingerprint(model) for model in self.models]
        pieces = self.tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        orders = torch.stack([recipe.order(len(texts), seed) for seed in self.seeds])  # (seeds, texts)
        optimizer, schedule = recipe.optimizer(self.weights.values(), len(texts))
        step = vmap(grad_and_value(self._loss), in_dims=0)
        streams = [generator(derive(seed, "dropout"), self.device) for seed in self.seeds]
        sites = cache(self._sites)
        losses = []
        what, steps = f"{len(self.seeds)} seeds together", recipe.steps(len(texts))
        for rows in tqdm(recipe.batches(orders), desc=what, total=steps, delay=2, leave=False):
            batch = self._batch(rows.numpy(), pieces, labels)
            masks = _dropout_masks(batch, streams, sites)
            with torch.no_grad():  # grad_and_value differentiates by itself; a second graph would be kept
                gradients, loss = step(self.weights, self.untrained, masks, *batch[:4])
            clip_each(list(gradients.values()))
            for name, weight in self.weights.items():
                weight.grad = gradients[name]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        by_seed = torch.stack(losses, dim=1).cpu().numpy()  # (seeds, steps)
        self._write_back()
        return [
            Training(by_seed[index], initial[index], fingerprint(orders[index].tolist()), fingerprint(model))
            for index, model in enumerate(self.models)
        ]

    def _loss(
        self,
        weights: dict[str, Tensor],
        untrained: dict[str, Tensor],
        masks: list[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Return one member's loss; vmap adds the dimension of the seeds to every argument."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        mixed = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed_precision(self.device))
        with mixed, _GivenDropout(masks):
            everything = {**self.shared, **untrained, **weights}
            logits = functional_call(self.template, everything, kwargs=inputs).logits
        return F.cross_entropy(logits.float(), labels)

    def _batch(self, rows: np.ndarray, pieces: list[list[int]], labels: Sequence[int]) -> _Batch:
        """Collect the texts ``rows`` (seeds, batch), padded to the longest of all."""
        lengths = [max(len(pieces[row]) for row in member) for member in rows]
        padding = self.tokenizer.pad_token_id
        ids = torch.full((*rows.shape, max(lengths)), padding)
        for place, row in np.ndenumerate(rows):
            ids[place][: len(pieces[row])] = torch.tensor(pieces[row])
        ids = ids.to(self.device)
        real = ids != padding  # (seeds, batch, tokens)
        mask = torch.zeros(real.shape, device=self.device).masked_fill(~real, torch.finfo(torch.float32).min)
        mask = mask[:, :, None, None, :].expand(-1, -1, 1, ids.shape[-1], -1)
        targets = torch.as_tensor(np.asarray(labels)[rows], device=self.device)
        return _Batch(ids, mask, position_ids(self.template, ids), targets, lengths)

    def _sites(self, texts: int, tokens: int) -> list[_Site]:
        """Return where the model applies dropout to a batch, in the order of the calls."""
        ids = torch.zeros(texts, tokens, dtype=torch.long, device="meta")
        with torch.no_grad(), _RecordedDropout() as recorded:
            mask = torch.zeros(texts, 1, tokens, tokens, device="meta")
            self.skeleton(input_ids=ids, attention_mask=mask, position_ids=ids)
        return recorded.sites

    def _write_back(self) -> None:
        """Copy each member's weights into its model."""
        with torch.no_grad():
            for index, model in enumerate(self.models):
                for name, parameter in model.named_parameters():
                    if name in self.weights:
                        parameter.copy_(self.weights[name][index])
                model.eval()


class _RecordedDropout(TorchFunctionMode):
    """Record every call of dropout, and drop nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[_Site] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.dropout:
            return func(*args, **(kwargs or {}))
        probability = _probability(args, kwargs)
        if probability > 0:
            self.sites.append(_Site(args[0].shape, probability))
        return args[0]


class _GivenDropout(TorchFunctionMode):
    """Replace each call of dropout by a product with the next of the masks drawn beforehand."""

    def __init__(self, masks: Sequence[Tensor]) -> None:
        super().__init__()
        self.masks: Iterator[Tensor] = iter(masks)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.dropout:
            return func(*args, **(kwargs or {}))
        return args[0] * next(self.masks) if _probability(args, kwargs) > 0 else args[0]


def _probability(args: tuple, kwargs: dict[str, Any] | None) -> float:
    """Return the probability of a call of dropout."""
    return args[1] if len(args) > 1 else (kwargs or {})["p"]


def _dropout_masks(
    batch: _Batch, streams: Sequence[torch.Generator], sites: Callable[[int, int], list[_Site]]
) -> list[Tensor]:
    """Draw each member's scaled dropout masks: (seeds, ...) per site.

    A member draws for its own longest text, as it would alone; the padding beyond that is not attended to.
    """
    texts, tokens = batch.input_ids.shape[1:]
    members = [
        [_keep(site, stream) for site in sites(texts, length)]
        for length, stream in zip(batch.lengths, streams, strict=True)
    ]
    return [
        torch.stack([_enlarge(member[index], site.shape) for member in members])
        for index, site in enumerate(sites(texts, tokens))
    ]


def _keep(site: _Site, stream: torch.Generator) -> Tensor:
    drawn = torch.rand(site.shape, generator=stream, device=stream.device)
    return (drawn >= site.probability) / (1 - site.probability)


def _enlarge(mask: Tensor, shape: torch.Size) -> Tensor:
    """Append zeros to each dimension."""
    missing = [new - old for new, old in zip(shape, mask.shape, strict=True)]
    return F.pad(mask, [amount for extra in reversed(missing) for amount in (0, extra)])
