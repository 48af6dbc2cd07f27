"""Frozen encoders: every text is embedded once, then the heads of all seeds train together.

A head is small and its batches are smaller still (4 texts in paper 2), so that a machine that trains one head
mostly waits. The heads of many seeds are therefore stacked, and a step of them all is a few batched products.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from lib import seeding

BYTES_A_PARAMETER = 16  # the weight, its gradient and Adam's two moments, 4 bytes each
# On a CPU the heads that train side by side must stay in its cache, with all four numbers a parameter.
CPU_CACHE_BYTES = 36 * 2**20
GPU_SHARE = 0.5  # of the memory that is free


@dataclass(frozen=True)
class Heads:
    """RoBERTa classification heads (dropout, dense, tanh, dropout, projection), one a seed.

    Attributes
    ----------
    dense_weight, dense_bias : Tensor
        (seeds, dim, dim) and (seeds, dim).
    out_weight, out_bias : Tensor
        (seeds, labels, dim) and (seeds, labels).
    loss : Tensor
        (seeds,): the mean training loss of the last epoch, in nats.
    """

    dense_weight: Tensor
    dense_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    loss: Tensor

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return what every head makes of every text: (texts, dim) -> (seeds, texts, labels)."""
        one_by_one = zip(self.dense_weight, self.dense_bias, self.out_weight, self.out_bias, strict=True)
        return torch.stack(
            [
                F.linear(torch.tanh(F.linear(embeddings, dense_weight, dense_bias)), out_weight, out_bias)
                for dense_weight, dense_bias, out_weight, out_bias in one_by_one
            ]
        )

    def predicted(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class that every head gives every text: (texts, dim) -> (seeds, texts)."""
        return self.logits(torch.from_numpy(embeddings)).argmax(-1).numpy().astype(np.uint8)

    def install(self, index: int, model: PreTrainedModel) -> None:
        """Make head ``index`` the classification head of ``model``, in place."""
        dense, projection = head_layers(model)
        with torch.no_grad():
            dense.weight.copy_(self.dense_weight[index])
            dense.bias.copy_(self.dense_bias[index])
            projection.weight.copy_(self.out_weight[index])
            projection.bias.copy_(self.out_bias[index])


def head_layers(model: PreTrainedModel) -> tuple[nn.Linear, nn.Linear]:
    """Return the two linear layers of a classifier's head: (dim, dim), then (dim, labels).

    BERT has the same head as RoBERTa in other places: its pooler is the dense layer.

    Raises
    ------
    ValueError
        For a model with another kind of head.
    """
    if hasattr(model.classifier, "dense"):
        return model.classifier.dense, model.classifier.out_proj
    pooler = getattr(model.base_model, "pooler", None)
    if pooler is None:
        raise ValueError(f"{type(model).__name__} has no RoBERTa or BERT classification head")
    return pooler.dense, model.classifier


def head_parameter_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters that a frozen model trains: the two layers of its head."""
    layers = head_layers(model)
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if module in layers
        for name, _ in module.named_parameters(recurse=False)
    }


def train_heads(
    embeddings: Tensor,
    labels: Sequence[int],
    seeds: Sequence[int],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    dropout: float = 0.0,
    num_labels: int = 2,
    initializer_range: float = 0.02,
    side_by_side: int | None = None,
    device: torch.device | str = "cpu",
) -> Heads:
    """Train the classification heads of all seeds on the same embeddings.

    AdamW without weight decay and a learning rate that falls linearly to 0, as in the authors' code, where
    dropout is off. A seed draws its initial weights, its order of the texts and its dropout from generators
    of its own, so that a head is the same (to rounding) whichever seeds train beside it.

    Parameters
    ----------
    embeddings : Tensor
        (texts, dim).
    labels : sequence of int
        (texts,).
    seeds : sequence of int
    epochs, learning_rate, batch_size
        As usual; an epoch's last batch may be smaller.
    dropout : float
        Probability, before and after the dense layer.
    num_labels : int
    initializer_range : float
        Standard deviation of the initial weights; the biases start at 0.
    side_by_side : int, optional
        How many heads train at once; by default as many as suit the device.
    device : torch.device or str

    Returns
    -------
    Heads
        In the order of ``seeds``, on the CPU.

    Raises
    ------
    ValueError
        If there are no seeds, or texts and labels differ in number.
    """
    if len(seeds) == 0:
        raise ValueError("seeds = []: at least one is wanted")
    if len(embeddings) != len(labels):
        raise ValueError(f"{len(embeddings)} embeddings but {len(labels)} labels")
    device = torch.device(device)
    texts = embeddings.to(device)
    targets = torch.as_tensor(labels, device=device)
    together = side_by_side or heads_side_by_side(embeddings.shape[1], num_labels, device)
    chunks = [seeds[start : start + together] for start in range(0, len(seeds), together)]
    trained = [
        _train_together(
            texts,
            targets,
            chunk,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            dropout=dropout,
            num_labels=num_labels,
            initializer_range=initializer_range,
        )
        for chunk in tqdm(chunks, desc="heads", delay=2, leave=False)
    ]
    return Heads(*(torch.cat([getattr(heads, field.name) for heads in trained]) for field in fields(Heads)))


def heads_side_by_side(dim: int, num_labels: int, device: torch.device) -> int:
    """Return how many heads of ``dim`` dimensions train at once: what the cache or free memory holds.

    200 heads of 768 dimensions side by side are slower on a CPU than one by one, since every step then
    fetches all weights and moments from memory.
    """
    parameters = dim * (dim + 1) + num_labels * (dim + 1)
    room = CPU_CACHE_BYTES
    if device.type == "cuda":
        room = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
    return max(1, int(room / (BYTES_A_PARAMETER * parameters)))


def _train_together(
    texts: Tensor,
    targets: Tensor,
    seeds: Sequence[int],
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    dropout: float,
    num_labels: int,
    initializer_range: float,
) -> Heads:
    """Train the heads of ``seeds`` in one batched computation; see `train_heads`."""
    device, (n, dim) = texts.device, texts.shape
    # The weights stand as (seeds, in, out), the order in which a batched product reads them.
    starts = [seeding.generator(seeding.derive(seed, "head")) for seed in seeds]
    dense_weight = _stack(torch.randn(dim, dim, generator=g) for g in starts).to(device) * initializer_range
    out_weight = _stack(torch.randn(dim, num_labels, generator=g) for g in starts).to(device)
    out_weight = out_weight * initializer_range
    dense_bias = torch.zeros(len(seeds), 1, dim, device=device)
    out_bias = torch.zeros(len(seeds), 1, num_labels, device=device)
    weights = [w.requires_grad_() for w in (dense_weight, dense_bias, out_weight, out_bias)]

    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0, fused=True)
    steps = epochs * -(-n // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    orders = [seeding.generator(seeding.derive(seed, "order")) for seed in seeds]
    masks = [seeding.generator(seeding.derive(seed, "dropout"), device) for seed in seeds]

    total = torch.zeros(len(seeds), device=device)
    for _ in range(epochs):
        order = _stack(torch.randperm(n, generator=g) for g in orders).to(device)  # (seeds, texts)
        total = torch.zeros(len(seeds), device=device)
        for batch in order.split(batch_size, dim=1):
            x = texts[batch]  # (seeds, batch, dim)
            h = torch.tanh(torch.baddbmm(dense_bias, _drop(x, dropout, masks), dense_weight))
            logits = torch.baddbmm(out_bias, _drop(h, dropout, masks), out_weight)  # (seeds, batch, labels)
            losses = F.cross_entropy(logits.flatten(0, 1), targets[batch].flatten(), reduction="none")
            # Summed over the seeds: the gradient of a seed's own mean is then untouched by its neighbours.
            losses = losses.view(batch.shape)
            optimizer.zero_grad()
            losses.mean(dim=1).sum().backward()
            optimizer.step()
            schedule.step()
            total += losses.detach().sum(dim=1)
    done = (
        dense_weight.mT.contiguous(),
        dense_bias.squeeze(1),
        out_weight.mT.contiguous(),
        out_bias.squeeze(1),
        total / n,
    )
    return Heads(*(tensor.detach().cpu() for tensor in done))


def _stack(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors))


def _drop(x: Tensor, probability: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Drop units of x (seeds, batch, dim), each seed by its own generator."""
    if probability == 0:
        return x
    kept = _stack(torch.rand(x.shape[1:], generator=g, device=x.device) >= probability for g in generators)
    return x * kept / (1 - probability)
