"""How much device memory training needs, and how it continues in smaller groups when memory runs out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import psutil
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from lib.errors import first_line

Member = TypeVar("Member")
Result = TypeVar("Result")

FLOAT = 4  # bytes
SHARE = 0.9  # of the free memory: the rest is for what estimates leave out
GIGABYTE = 1e9

logger = logging.getLogger(__name__)


def training_bytes(model: PreTrainedModel, texts: int, tokens: int, *, copies: int = 1) -> int:
    """Estimate what training a classifier needs: weights, gradients, moments and activations, in bytes.

    A trained weight takes 4 bytes, and so do its gradient and Adam's two moments.

    Parameters
    ----------
    model : PreTrainedModel
        Its weights that require a gradient are trained.
    texts, tokens : int
        Of a batch; every text is counted with its padding.
    copies : int
        How often the weights are held: an ensemble stacks them beside the models that it was given.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    weights = sum(size for size, _ in sizes)
    trained = sum(size for size, is_trained in sizes if is_trained)
    return FLOAT * (copies * weights + 3 * trained) + activation_bytes(model.config, texts, tokens)


def activation_bytes(config: PreTrainedConfig, texts: int, tokens: int) -> int:
    """Estimate what an encoder's forward pass keeps for the backward pass, in bytes.

    Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (2022), section 4.1,
    in float32: per token and layer 8 activations of the hidden size and 2 of the intermediate size, 2 dropout
    masks of one byte; and per pair of tokens, head and layer 2 numbers and a mask, unless kernels fuse them.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    a_token = FLOAT * (8 * hidden + 2 * inner) + 2 * hidden
    a_pair = (2 * FLOAT + 1) * config.num_attention_heads
    return config.num_hidden_layers * texts * tokens * (a_token + a_pair * tokens)


def free_bytes(device: torch.device) -> int:
    """Return how much memory of a device is free, what PyTorch keeps for itself included."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def fitting(each: int, wanted: int, device: torch.device, what: str) -> int:
    """Say in the log what models need, and return how many fit into a device's free memory, at least 1.

    Parameters
    ----------
    each : int
        What one needs, in bytes.
    wanted : int
        How many would train side by side.
    device : torch.device
    what : str
        What they are, for the log.
    """
    free = free_bytes(device)
    number = max(1, min(wanted, int(SHARE * free / each)))
    told = "%s: about %.2f GB each, %.2f GB are free on %s: %d of %d at a time"
    level = logging.INFO if each <= SHARE * free else logging.WARNING
    logger.log(level, told, what, each / GIGABYTE, free / GIGABYTE, device, number, wanted)
    return number


def in_groups(
    work: Callable[[Sequence[Member]], Sequence[Result]],
    members: Sequence[Member],
    capacity: int,
    what: str,
    size: Callable[[Member], int] | None = None,
) -> Iterator[tuple[Sequence[Result], str]]:
    """Work on members group by group; where memory runs out, groups are half as large from there on.

    Parameters
    ----------
    work : callable
        Works on a group and returns its results. If memory runs out it must leave the members as they were.
    members : sequence
    capacity : int
        How many members a group has, each as large as the largest of them. A single member always forms a
        group.
    what : str
        What they are, for the log.
    size : callable, optional
        How much of the capacity a member takes, such as its tokens; 1 by default.

    Yields
    ------
    sequence
        The results of a group.
    str
        Why the group is smaller than it should be, in one line; empty if it is not.

    Raises
    ------
    torch.OutOfMemoryError
        If a single member does not fit.
    """
    sizes = [1 if size is None else size(member) for member in members]
    done, reason = 0, ""
    while done < len(members):
        count = 1
        while done + count < len(members) and (count + 1) * max(sizes[done : done + count + 1]) <= capacity:
            count += 1
        try:
            results = work(members[done : done + count])
        except torch.OutOfMemoryError as error:
            if count == 1:
                raise
            reason = first_line(error)
        else:
            yield results, reason
            done += count
            continue
        # Not in the handler: there the error still holds what the failed group allocated.
        capacity = count * max(sizes[done : done + count]) // 2
        logger.warning("%s: %d at a time do not fit into memory, now half of that: %s", what, count, reason)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
