"""How a classifier, or the head of a frozen one, is trained: rate, order of the texts, optimiser, clipping.

Papers 1 and 2 describe two epochs of fine-tuning, and no schedule. In the authors' code the learning rate
decays linearly to 0 and reaches it after a quarter of all steps (1 / batch size); nothing changes a weight
from there on. The reason is a miscount: ``train_model`` of paper 1's public notebook computes
``batches_per_epoch = len(train_set) // batch_size``, but ``train_set`` is a ``DataLoader``, whose length is
already the number of batches. `TrainingRecipe` offers both schedules.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW

from lib.seeding import derive, generator

Schedule = Literal["described", "authors"]
SCHEDULES: tuple[Schedule, ...] = ("described", "authors")

EPSILON = 1e-8  # AdamW's, as in the authors' code
WEIGHT_DECAY = 0.01  # AdamW's default, which the authors' code leaves as it is, for fine-tuning and heads
MAX_GRADIENT_NORM = 1.0  # the authors' code, for fine-tuning and heads


@dataclass(frozen=True)
class TrainingRecipe:
    """What papers 1 and 2 state about training, and what only the authors' code says.

    Attributes
    ----------
    epochs : int
        Passes over the texts.
    learning_rate : float
        At the first step; it decays linearly to 0.
    batch_size : int
        Texts per step; an epoch's last batch may be smaller.
    schedule : {"described", "authors"}
        Where the rate reaches 0: after all steps, or where it does in the authors' code for fine-tuning
        (their frozen heads follow ``described``).
    shuffled : bool
        Whether each seed shuffles the texts, once for all epochs (InfOpinion in the authors' code). Otherwise
        they stay in the data set's order (Allociné).

    Raises
    ------
    ValueError
        For a number that is not above 0, or an unknown schedule.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    schedule: Schedule = "described"
    shuffled: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} = {value}: a number above 0 is required")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule = {self.schedule!r}: allowed are {', '.join(SCHEDULES)}")

    def steps(self, texts: int) -> int:
        """Return how many steps have a rate above 0, and are therefore trained.

        With ``texts / batch_size`` batches per epoch (rounded up), ``described`` trains
        ``epochs * batches`` steps and ``authors`` ``epochs * (batches // batch_size)``. Paper 1's 8,000 texts
        of InfOpinion, in batches of 4 for 2 epochs: 4,000 steps and 1,000; its 160,000 texts of Allociné:
        80,000 and 20,000, half an epoch. ``authors`` sees no text twice unless there are more epochs than
        texts in a batch.

        Parameters
        ----------
        texts : int
            Training texts.

        Raises
        ------
        ValueError
            If the rate is 0 from the first step.
        """
        batches = self._batches(texts)
        steps = self.epochs * (batches // self.batch_size if self.schedule == "authors" else batches)
        if steps == 0:
            fewest = self.batch_size * (self.batch_size - 1) + 1 if self.schedule == "authors" else 1
            raise ValueError(
                f"{texts} training texts: with schedule {self.schedule!r} and batch_size = {self.batch_size} "
                f"the learning rate is 0 from the first step; at least {fewest} texts are required"
            )
        return steps

    def texts_seen(self, texts: int) -> int:
        """Return how many texts the trained steps learn from; a text counts each time it is seen."""
        epochs, steps = divmod(self.steps(texts), self._batches(texts))
        return epochs * texts + min(steps * self.batch_size, texts)

    def rates(self, texts: int) -> NDArray[np.float64]:
        """Return the learning rate at each step of all epochs: (epochs * batches,).

        With ``total = steps(texts)``, the rate at step s is ``learning_rate * max(0, (total - s) / total)``
        (`transformers.get_linear_schedule_with_warmup`, without warm-up); zeros are included.
        """
        total = self.steps(texts)
        steps = np.arange(self.epochs * self._batches(texts))
        return self.learning_rate * np.maximum(0.0, (total - steps) / total)

    def order(self, texts: int, seed: int) -> Tensor:
        """Return the order in which every epoch sees the texts, for one seed: (texts,).

        It is the same in all epochs, since the authors' ``DataLoader`` does not shuffle. A seed's fine-tuned
        model and its frozen head share it.
        """
        if not self.shuffled:
            return torch.arange(texts)
        return torch.randperm(texts, generator=generator(derive(seed, "data order")))

    def batches(self, order: Tensor) -> Iterator[Tensor]:
        """Yield the texts of each trained step: (..., batch) of ``order`` (..., texts)."""
        epoch = order.split(self.batch_size, dim=-1)
        for step in range(self.steps(order.shape[-1])):
            yield epoch[step % len(epoch)]

    def optimizer(self, weights: Iterable[Tensor], rate: Tensor, *, capturable: bool = False) -> AdamW:
        """Return AdamW over ``weights``, which reads the learning rate from a tensor.

        Parameters
        ----------
        weights : iterable of Tensor
            On one device.
        rate : Tensor, ()
            Set it to one of `rates` before each step; on the weights' device.
        capturable : bool
            Whether steps are captured in a CUDA graph.
        """
        return AdamW(
            weights, lr=rate, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True, capturable=capturable
        )

    def rate_tensors(self, texts: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the rates of the trained steps, (steps,), and the tensor that an optimizer reads, ().

        On CUDA they are in float32, the only type that a fused optimizer takes there.
        """
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        rates = torch.as_tensor(self.rates(texts)[: self.steps(texts)], dtype=dtype, device=device)
        return rates, torch.zeros((), dtype=dtype, device=device)

    def _batches(self, texts: int) -> int:
        """Return the number of batches per epoch."""
        return -(-texts // self.batch_size)


def clip_each(gradients: Sequence[Tensor]) -> None:
    """Scale the gradients of several stacked models, in place, to a norm of at most 1 for each model.

    As ``torch.nn.utils.clip_grad_norm_`` does for a single model.

    Parameters
    ----------
    gradients : sequence of Tensor, (models, ...)
        One per weight.
    """
    norms = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]  # (models,) each
    norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (models,)
    scale = (MAX_GRADIENT_NORM / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
