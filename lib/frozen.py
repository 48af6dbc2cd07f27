"""Frozen encoders: embed every text once, then train the heads of all seeds together.

A head is small and so are its batches (4 texts in the authors' code): training one head at a time leaves most
of a machine idle. The heads of many seeds are therefore stacked, and one step of all is a few batched
products, which on CUDA are captured in a graph and replayed (`lib.capture`).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from lib import seeding
from lib.architectures import head_layers
from lib.capture import Steps, graphs_for
from lib.memory import free_bytes, in_groups
from lib.precision import float32_products
from lib.recipes import Schedule, TrainingRecipe, clip_each

LABELS = 2
INITIALIZER_RANGE = 0.02  # standard deviation of the initial weights; biases start at 0
BYTES_PER_PARAMETER = 16  # the weight, its gradient and Adam's two moments, 4 bytes each
# On a CPU, all heads that train side by side must fit into its cache.
CPU_CACHE_BYTES = 36 * 2**20
GPU_SHARE = 0.5  # of the free memory


@dataclass(frozen=True)
class Heads:
    """Classification heads (dense, tanh, projection), one per seed.

    RoBERTa has such a head; in BERT, the dense layer belongs to the pooler.

    Attributes
    ----------
    dense_weight, dense_bias : Tensor
        (seeds, dim, dim) and (seeds, dim).
    out_weight, out_bias : Tensor
        (seeds, labels, dim) and (seeds, labels).
    loss : Tensor
        (seeds,): the mean training loss of the last epoch, or of all steps if there were fewer, in nats.
    """

    dense_weight: Tensor
    dense_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    loss: Tensor

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return the logits of every head for every text: (texts, dim) -> (seeds, texts, labels)."""
        one_by_one = zip(self.dense_weight, self.dense_bias, self.out_weight, self.out_bias, strict=True)
        return torch.stack(
            [
                F.linear(torch.tanh(F.linear(embeddings, dense_weight, dense_bias)), out_weight, out_bias)
                for dense_weight, dense_bias, out_weight, out_bias in one_by_one
            ]
        )

    def predicted(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class that every head predicts for every text: (texts, dim) -> (seeds, texts)."""
        return self.logits(torch.from_numpy(embeddings)).argmax(-1).numpy().astype(np.uint8)

    def install(self, index: int, model: PreTrainedModel) -> None:
        """Make head ``index`` the classification head of ``model``, in place."""
        dense, projection = head_layers(model)
        with torch.no_grad():
            dense.weight.copy_(self.dense_weight[index])
            dense.bias.copy_(self.dense_bias[index])
            projection.weight.copy_(self.out_weight[index])
            projection.bias.copy_(self.out_bias[index])


def train_heads(
    embeddings: Tensor,
    labels: Sequence[int],
    seeds: Sequence[int],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    schedule: Schedule = "described",
    shuffled: bool = True,
    side_by_side: int | None = None,
    device: torch.device | str = "cpu",
    capture: bool = True,
) -> Heads:
    """Train the classification heads of all seeds on the same embeddings.

    As in the authors' code: AdamW with a weight decay of 0.01, gradients clipped at norm 1 (each head's own),
    a learning rate that decays linearly to 0 over all steps, one order of the texts for all epochs, no
    dropout. Each seed has separate generators for its initial weights and its order of the texts, so a head
    is the same (up to rounding) whatever the other seeds are.

    Parameters
    ----------
    embeddings : Tensor
        (texts, dim).
    labels : sequence of int
        (texts,).
    seeds : sequence of int
        (seeds,): one head each.
    epochs, learning_rate, batch_size, schedule, shuffled
        See `lib.recipes.TrainingRecipe`. The authors count the steps of a head correctly, so ``described`` is
        what they do; ``authors`` is their schedule of fine-tuning.
    side_by_side : int, optional
        How many heads train at once; by default `heads_side_by_side`. If memory runs out, half as many
        train at once, and the log says so.
    device : torch.device or str
        Where to train.
    capture : bool
        Whether steps are captured and replayed on CUDA. It does not change the result.

    Returns
    -------
    Heads
        In the order of ``seeds``, on the CPU.

    Raises
    ------
    ValueError
        If there are no seeds, texts and labels differ in number, the recipe is invalid, or it trains no step
        on so few texts.
    """
    if len(seeds) == 0:
        raise ValueError("seeds = []: at least one is required")
    if len(embeddings) != len(labels):
        raise ValueError(f"{len(embeddings)} embeddings but {len(labels)} labels: one label each is required")
    recipe = TrainingRecipe(epochs, learning_rate, batch_size, schedule, shuffled)
    device = torch.device(device)
    texts = embeddings.to(device)
    targets = torch.as_tensor(labels, device=device)
    together = side_by_side or heads_side_by_side(embeddings.shape[1], device)

    def train(group: Sequence[int]) -> list[Heads]:
        return [_train_together(texts, targets, group, recipe, capture=capture)]

    groups = in_groups(train, seeds, together, f"{len(seeds)} heads")
    total = -(-len(seeds) // together)
    trained = [heads for (heads,), _ in tqdm(groups, desc="heads", total=total, delay=2, leave=False)]
    return Heads(*(torch.cat([getattr(heads, field.name) for heads in trained]) for field in fields(Heads)))


def heads_side_by_side(dim: int, device: torch.device) -> int:
    """Return how many heads of ``dim`` dimensions train at once: as many as fit the cache or free memory.

    On a CPU, 200 heads of 768 dimensions side by side are slower than one by one, since every step then
    fetches all weights and moments from memory.
    """
    parameters = dim * (dim + 1) + LABELS * (dim + 1)
    available: float = CPU_CACHE_BYTES
    if device.type == "cuda":
        available = GPU_SHARE * free_bytes(device)
    return max(1, int(available / (BYTES_PER_PARAMETER * parameters)))


def _train_together(
    texts: Tensor,
    targets: Tensor,
    seeds: Sequence[int],
    recipe: TrainingRecipe,
    *,
    capture: bool,
) -> Heads:
    """Train the heads of ``seeds`` in one batched computation; see `train_heads`."""
    device, (n, dim) = texts.device, texts.shape
    # Weights are stored as (seeds, in, out), the order in which a batched product reads them.
    starts = [seeding.generator(seeding.derive(seed, "head")) for seed in seeds]
    dense_weight = _stack(torch.randn(dim, dim, generator=g) for g in starts).to(device) * INITIALIZER_RANGE
    out_weight = _stack(torch.randn(dim, LABELS, generator=g) for g in starts).to(device) * INITIALIZER_RANGE
    dense_bias = torch.zeros(len(seeds), 1, dim, device=device)
    out_bias = torch.zeros(len(seeds), 1, LABELS, device=device)
    weights = [w.requires_grad_() for w in (dense_weight, dense_bias, out_weight, out_bias)]

    rates, rate = recipe.rate_tensors(n, device)
    orders = _stack(recipe.order(n, seed) for seed in seeds).to(device)  # (seeds, texts)

    last_epoch: deque[Tensor] = deque(maxlen=-(-n // recipe.batch_size))
    graphs = graphs_for(device, capture)
    with float32_products("float32"):
        optimizer = recipe.optimizer(weights, rate, capturable=graphs is not None)
        step = Steps(partial(_step, texts, targets, weights, optimizer), graphs)
        for number, batch in enumerate(recipe.batches(orders)):  # (seeds, batch)
            rate.copy_(rates[number])
            last_epoch.append(step(batch).clone())
    done = (
        dense_weight.mT.contiguous(),
        dense_bias.squeeze(1),
        out_weight.mT.contiguous(),
        out_bias.squeeze(1),
        torch.cat(list(last_epoch), dim=1).mean(dim=1),
    )
    return Heads(*(tensor.detach().cpu() for tensor in done))


def _step(
    texts: Tensor,
    targets: Tensor,
    weights: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    batch: Tensor,
) -> Tensor:
    """Train all heads on their texts ``batch`` (seeds, batch), and return the losses of the texts."""
    dense_weight, dense_bias, out_weight, out_bias = weights
    x = texts[batch]  # (seeds, batch, dim)
    h = torch.tanh(torch.baddbmm(dense_bias, x, dense_weight))
    logits = torch.baddbmm(out_bias, h, out_weight)  # (seeds, batch, labels)
    losses = F.cross_entropy(logits.flatten(0, 1), targets[batch].flatten(), reduction="none")
    losses = losses.view(batch.shape)
    for weight in weights:
        weight.grad = None
    # Summing over seeds leaves the gradient of each seed's own mean unchanged.
    losses.mean(dim=1).sum().backward()
    clip_each([weight.grad for weight in weights if weight.grad is not None])
    optimizer.step()
    return losses.detach()


def _stack(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors))
