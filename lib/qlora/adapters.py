"""Low-rank adapters on a 4-bit base: build them, train them, and describe the optimizer's states."""

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from bitsandbytes.functional import dequantize_blockwise
from bitsandbytes.optim import GlobalOptimManager
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import Trainer

from lib.qlora.causal_models import load_four_bit
from lib.qlora.recipes import Recipe
from lib.qlora.scores import IGNORED, collate
from lib.seeding import derive, generator, seed_everything
from lib.trainer import run_trainer


class QloraTrainer(Trainer):
    """A Trainer that records each step's exact loss, can scale it, and stops once it is not finite.

    Parameters
    ----------
    min_8bit_size : int
        Below this many elements, an 8-bit optimizer keeps a tensor's states in 32 bits.
    loss_scale : float
        Multiplies the loss that is differentiated; the recorded one is unscaled.
    *arguments, **named
        Go to the Trainer.

    Attributes
    ----------
    losses : list of float, (steps,)
        In nats per token.
    """

    def __init__(self, *arguments: Any, min_8bit_size: int, loss_scale: float, **named: Any) -> None:
        self.loss_scale = loss_scale
        self.losses: list[float] = []
        super().__init__(*arguments, **named)
        kind, options = self.get_optimizer_cls_and_kwargs(self.args)
        if "optim_bits" in options:
            options["min_8bit_size"] = min_8bit_size
        self.optimizer_cls_and_kwargs = kind, options

    def compute_loss(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Return the step's loss, scaled; record it unscaled."""
        loss = cast(torch.Tensor, super().compute_loss(*arguments, **named))  # a tuple only with outputs
        self.losses.append(loss.item())
        # After a NaN every loss is NaN.
        self.control.should_training_stop |= not math.isfinite(self.losses[-1])
        return loss * self.loss_scale


def new_adapter(model: str, recipe: Recipe, device: torch.device, seed: int) -> PeftModel:
    """Load the 4-bit base and add new adapters; the seed is set before either is built.

    Parameters
    ----------
    model : str
        Hub id or folder of the base.
    recipe : Recipe
        Determines types, kernel, and the adapters' rank, scaling and dropout.
    device : torch.device
        Where the model goes.
    seed : int
        Determines the adapters' initial weights.
    """
    seed_everything(seed)
    dtype = getattr(torch, recipe.compute)
    base = load_four_bit(model, device=device, dtype=dtype, attention=recipe.attention)
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=device.type == "cuda")
    adapters = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(base, adapters)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, recipe.adapter))
    return adapted


def train(
    adapted: PeftModel,
    encoded: Sequence[Sequence[int]],
    given: Sequence[int],
    order: Sequence[int],
    recipe: Recipe,
    device: torch.device,
    seed: int,
) -> dict[str, Any]:
    """Train adapters in place.

    Parameters
    ----------
    adapted : PeftModel
        From `new_adapter`.
    encoded : sequence of sequences of int, (texts, tokens)
        The texts' tokens, of different lengths.
    given : sequence of int, (texts,)
        How many tokens at the beginning of each text are read but not learned; at least one token is learned.
    order : sequence of int, (epochs * texts,)
        From `data_order`.
    recipe : Recipe
        How to train.
    device : torch.device
        Where the model is.
    seed : int
        Determines dropout.

    Returns
    -------
    dict
        ``losses`` (steps,) in nats per token, ``train_seconds``, and what `optimizer_states` returns.
    """
    start = time.perf_counter()
    labels = []
    for ids, count in zip(encoded, given, strict=True):
        ignored = min(count, len(ids) - 1)
        labels.append([IGNORED] * ignored + list(ids[ignored:]))
    # Automatic mixed precision requires 32-bit adapters; 16-bit adapters are trained without it.
    mixed = device.type == "cuda" and recipe.adapter == "float32"
    trainer = run_trainer(
        partial(QloraTrainer, min_8bit_size=recipe.min_8bit_size, loss_scale=recipe.loss_scale),
        model=adapted,
        train_dataset=Dataset.from_dict({"input_ids": encoded, "labels": labels}).select(order),
        data_collator=collate,
        seed=seed,
        device=device,
        optim=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        num_train_epochs=1,  # the order already includes every epoch
        per_device_train_batch_size=recipe.batch_size,
        adam_epsilon=recipe.epsilon * recipe.loss_scale,
        max_grad_norm=recipe.loss_scale,
        bf16=mixed and recipe.compute == "bfloat16",
        fp16=mixed and recipe.compute == "float16",
        logging_strategy="no",
    )
    # The Trainer registers every embedding with this singleton, which would keep each trial's base alive.
    GlobalOptimManager.get_instance().initialize()
    seconds = time.perf_counter() - start
    states = optimizer_states(cast(torch.optim.Optimizer, trainer.optimizer))
    return {"losses": np.array(trainer.losses), "train_seconds": seconds, **states}


def data_order(texts: int, epochs: int, seed: int) -> list[int]:
    """Return the order in which a trial sees its texts, reshuffled each epoch: (epochs * texts,)."""
    stream = generator(derive(seed, "order"))
    return torch.cat([torch.randperm(texts, generator=stream) for _ in range(epochs)]).tolist()


def optimizer_states(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Describe how an optimizer of the Adam family stores its two moments.

    Returns
    -------
    dict
        ``state_dtypes``: the distinct types. ``state_bytes``: bytes of the moments and their scales.
        ``starved``: the share of entries whose second moment is stored as exactly 0 while the first is not;
        Adam divides these by its epsilon alone.
    """
    dtypes, size, starved, entries = set(), 0, 0, 0
    for state in optimizer.state.values():
        bitsandbytes = "state1" in state
        first, second = (
            state[name] for name in (("state1", "state2") if bitsandbytes else ("exp_avg", "exp_avg_sq"))
        )
        dtypes |= {str(moment.dtype).removeprefix("torch.") for moment in (first, second)}
        scales = [state[name] for name in ("absmax1", "absmax2") if name in state]
        size += sum(tensor.numel() * tensor.element_size() for tensor in (first, second, *scales))
        if first.dtype == torch.uint8:
            first = dequantize_blockwise(first, absmax=state["absmax1"], code=state["qmap1"], blocksize=256)
            second = dequantize_blockwise(second, absmax=state["absmax2"], code=state["qmap2"], blocksize=256)
        starved += int(((second == 0) & (first != 0)).sum())
        entries += first.numel()
    return {"state_dtypes": sorted(dtypes), "state_bytes": size, "starved": starved / max(entries, 1)}
