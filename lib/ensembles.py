"""Fine-tune the models of several seeds side by side: one batched computation over stacked weights.

A batch of four texts leaves most of a GPU idle. With the weights of several seeds stacked, every operation of
a training step does the work of all of them, and on CUDA the step is captured in a graph and replayed
(`lib.capture`). On a CPU, which one seed keeps busy, there is no gain.
"""

import copy
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.architectures import position_ids, readable_pieces
from lib.capture import Steps, graphs_for, static_lengths
from lib.errors import first_line
from lib.finetuning import Batch, Training, attention_mask, batch_of, fine_tune
from lib.memory import fitting, in_groups, training_bytes
from lib.precision import Precision, check_precision, default_precision, float32_products, mixed
from lib.recipes import Schedule, TrainingRecipe, clip_each
from lib.seeding import derive, fingerprint, generator

logger = logging.getLogger(__name__)

# PyTorch raises a plain RuntimeError for an operation that vmap cannot batch; only its message tells.
_CANNOT_BATCH = re.compile(r"\bvmap\b|functorch|batching rule", re.IGNORECASE)


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
    precision: Precision | None = None,
    capture: bool = True,
) -> list[Training]:
    """Fine-tune one model per seed, side by side, in place, as `lib.finetuning.fine_tune` trains one.

    Initial weights and the order of the texts are those of `fine_tune`; without dropout so is the result, up
    to rounding. Each seed has its own dropout stream, and every batch is padded to the longest text of all,
    so a member is the same, up to rounding, whatever the other members are. As many train at a time as fit
    into memory; if it runs out after all, half as many. If PyTorch cannot batch the models, they are trained
    one at a time. The log and ``Training.fallback`` then give the reason.

    Parameters
    ----------
    models : sequence of PreTrainedModel
        One per seed: the same architecture, device and set of weights that require a gradient.
    tokenizer, texts, labels, epochs, learning_rate, batch_size, max_length, schedule, shuffled
        As in `fine_tune`.
    seeds : sequence of int
        (seeds,): each determines the order of the texts and the dropout of its model.
    precision, capture
        As in `fine_tune`.

    Returns
    -------
    list of Training
        One per seed. A member whose losses are not finite has diverged; the others are unaffected.

    Raises
    ------
    ValueError
        If models and seeds differ in number, the recipe is invalid, or trains no step on so few texts, or the
        device lacks the precision.
    torch.OutOfMemoryError
        If memory runs out with a single member.
    """
    if len(models) != len(seeds):
        raise ValueError(f"{len(models)} models but {len(seeds)} seeds: one model per seed is required")
    recipe = TrainingRecipe(epochs, learning_rate, batch_size, schedule, shuffled)
    precision = precision or default_precision(models[0].device)
    check_precision(precision, models[0].device)
    recipe.steps(len(texts))
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    (tokens,) = static_lengths([max(map(len, pieces))], readable_pieces(models[0].config))
    batch = batch_of(pieces, labels, tokens, tokenizer.pad_token_id, models[0].device)

    def train(group: Sequence[tuple[PreTrainedModel, int]]) -> list[Training]:
        members, their_seeds = zip(*group, strict=True)
        return _Ensemble(members, their_seeds, batch, precision).train(recipe, capture)

    what = f"{len(seeds)} seeds of {type(models[0]).__name__}"
    each = training_bytes(models[0], batch_size, tokens, copies=2)
    size = fitting(each, len(seeds), models[0].device, what)
    try:
        groups = in_groups(train, list(zip(models, seeds, strict=True)), size, what)
        return [replace(done, fallback=reason) for trained, reason in groups for done in trained]
    except RuntimeError as error:  # the models are still as they were: weights are written back at the end
        if isinstance(error, torch.OutOfMemoryError) or not _CANNOT_BATCH.search(str(error)):
            raise
        reason = first_line(error)
    logger.warning("%d seeds are fine-tuned one at a time instead of together: %s", len(seeds), reason)
    how = {"max_length": max_length, "precision": precision, "capture": capture, **asdict(recipe)}
    return [
        replace(_trained_alone(model, tokenizer, texts, labels, seed=seed, **how), fallback=reason)
        for model, seed in zip(models, seeds, strict=True)
    ]


def _trained_alone(model: PreTrainedModel, *data: Any, **training: Any) -> Training:
    """Train one member as `fine_tune` does; one that diverges leaves the others unaffected."""
    initial = fingerprint(model)
    try:
        return fine_tune(model, *data, **training)
    except FloatingPointError:
        nowhere = np.array([np.nan])
        return Training(nowhere, initial, "", fingerprint(model), training["precision"])


class _Ensemble:
    """Stacked weights of several models, and the batched step that trains them.

    Parameters
    ----------
    models, seeds : sequence
        (seeds,)
    texts : Batch
        All training texts, padded to one length.
    precision : str
    """

    def __init__(
        self, models: Sequence[PreTrainedModel], seeds: Sequence[int], texts: Batch, precision: Precision
    ) -> None:
        self.models, self.seeds, self.texts, self.precision = models, seeds, texts, precision
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
        self.dropout: dict[int, _Dropout] = {}  # by the number of texts in a member's batch

    def train(self, recipe: TrainingRecipe, capture: bool) -> list[Training]:
        """Train all members and write their weights back; see `fine_tune_together`."""
        initial = _fingerprints(self.models)
        count = len(self.texts.labels)
        orders = torch.stack([recipe.order(count, seed) for seed in self.seeds])  # (seeds, texts)
        batches = list(recipe.batches(orders.to(self.device)))
        rates, rate = recipe.rate_tensors(count, self.device)
        streams = [generator(derive(seed, "dropout"), self.device) for seed in self.seeds]
        losses = torch.empty(len(batches), len(self.seeds), device=self.device)
        graphs = graphs_for(self.device, capture)
        with float32_products(self.precision):
            optimizer = recipe.optimizer(self.weights.values(), rate, capturable=graphs is not None)
            step = Steps(partial(self._step, optimizer), graphs)
            what = f"{len(self.seeds)} seeds together"
            for number, rows in enumerate(tqdm(batches, desc=what, delay=2, leave=False)):
                # Outside the step: a graph would have to know every member's generator.
                self._dropout_of(rows.shape[1]).draw(streams)
                rate.copy_(rates[number])
                losses[number] = step(rows)
        by_seed = losses.T.cpu().numpy()  # (seeds, steps)
        self._write_back()
        return [
            Training(
                by_seed[index],
                initial[index],
                fingerprint(orders[index].tolist()),
                final,
                self.precision,
            )
            for index, final in enumerate(_fingerprints(self.models))
        ]

    def _step(self, optimizer: torch.optim.Optimizer, rows: Tensor) -> Tensor:
        """Train each member on its texts ``rows`` (seeds, batch), and return the losses: (seeds,)."""
        ids, lengths, labels = (part[rows] for part in self.texts)
        tokens = ids.shape[-1]
        mask = attention_mask(lengths.flatten(), tokens, torch.float32).unflatten(0, rows.shape)
        inputs = ids, mask, position_ids(self.template, ids), labels
        masks = self._dropout_of(rows.shape[1]).masks
        with torch.no_grad():  # grad_and_value differentiates by itself; a second graph would be kept
            batched = vmap(grad_and_value(self._loss), in_dims=0)
            gradients, loss = batched(self.weights, self.untrained, masks, *inputs)
        clip_each(list(gradients.values()))
        for name, weight in self.weights.items():
            weight.grad = gradients[name]
        optimizer.step()
        return loss.detach()

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
        with mixed(self.device, self.precision), _GivenDropout(masks):
            everything = {**self.shared, **untrained, **weights}
            logits = functional_call(self.template, everything, kwargs=inputs).logits
        return F.cross_entropy(logits.float(), labels)

    def _dropout_of(self, texts: int) -> "_Dropout":
        """Return the masks of a step in which each member reads so many texts."""
        if texts not in self.dropout:
            sites = self._sites(texts, self.texts.input_ids.shape[1])
            self.dropout[texts] = _Dropout(sites, len(self.seeds), self.device)
        return self.dropout[texts]

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


def _fingerprints(models: Sequence[PreTrainedModel]) -> list[str]:
    """Return the models' fingerprints, (models,): hashing leaves the interpreter to other threads."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(fingerprint, models))


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
        probability = _probability(args, kwargs)
        return args[0] * next(self.masks) * (1 / (1 - probability)) if probability > 0 else args[0]


def _probability(args: tuple, kwargs: dict[str, Any] | None) -> float:
    """Return the probability of a call of dropout."""
    return args[1] if len(args) > 1 else (kwargs or {})["p"]


class _Dropout:
    """The dropout masks of all members, in memory that stays where it is.

    Attributes
    ----------
    masks : list of Tensor
        (seeds, ...) per site, in the order of the calls; True where a value is kept.
    """

    def __init__(self, sites: Sequence[_Site], seeds: int, device: torch.device) -> None:
        kept = torch.empty(seeds, sum(site.shape.numel() for site in sites), dtype=torch.bool, device=device)
        by_probability = sorted(range(len(sites)), key=lambda index: sites[index].probability)
        sizes = [sites[index].shape.numel() for index in by_probability]
        parts = dict(zip(by_probability, kept.split(sizes, dim=1), strict=True))
        self.masks = [parts[index].unflatten(1, site.shape) for index, site in enumerate(sites)]
        self.equal: list[tuple[float, Tensor]] = []  # what has the same probability lies together
        start = 0
        for probability, group in groupby(by_probability, key=lambda index: sites[index].probability):
            end = start + sum(sites[index].shape.numel() for index in group)
            self.equal.append((probability, kept[:, start:end]))
            start = end

    def draw(self, streams: Sequence[torch.Generator]) -> None:
        """Draw new masks, each member's from its own stream."""
        for probability, kept in self.equal:
            for row, stream in zip(kept, streams, strict=True):
                row.bernoulli_(1 - probability, generator=stream)
