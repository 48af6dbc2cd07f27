"""Low-rank adapters on a 4-bit base: new ones, their training, and how the optimizer kept its moments."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import dequantize_blockwise
from bitsandbytes.optim import GlobalOptimManager
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import Trainer

from lib.finetuning import run_trainer
from lib.qlora.causal_models import load_four_bit
from lib.qlora.recipes import Recipe
from lib.qlora.scores import collate
from lib.seeding import derive, generator, seed_everything


class QloraTrainer(Trainer):
    """transformers' Trainer, which also keeps each step's loss to the bit and can scale it."""

    def __init__(self, *arguments: Any, min_8bit_size: int, loss_scale: float, **named: Any) -> None:
        self.min_8bit_size, self.loss_scale = min_8bit_size, loss_scale
        self.losses: list[float] = []
        super().__init__(*arguments, **named)
        kind, options = self.get_optimizer_cls_and_kwargs(self.args)
        if "optim_bits" in options:
            options["min_8bit_size"] = min_8bit_size
        self.optimizer_cls_and_kwargs = kind, options

    def compute_loss(self, *arguments: Any, **named: Any) -> torch.Tensor:
        """Return the step's loss, scaled; keep it as it was."""
        loss = super().compute_loss(*arguments, **named)
        self.losses.append(loss.item())
        # What follows a loss that is no number is none either.
        self.control.should_training_stop |= not math.isfinite(self.losses[-1])
        return loss * self.loss_scale


def new_adapter(model: str, how: Recipe, device: torch.device, seed: int) -> PeftModel:
    """Load the base and put new adapters on it, the seed being set before either is built."""
    seed_everything(seed)
    dtype = getattr(torch, how.compute)
    base = load_four_bit(model, device=device, dtype=dtype, attention=how.attention)
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=device.type == "cuda")
    adapters = LoraConfig(r=how.rank, lora_alpha=how.alpha, lora_dropout=how.dropout, task_type="CAUSAL_LM")
    adapted = get_peft_model(base, adapters)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, how.adapter))
    return adapted


def train(
    adapted: PeftModel,
    encoded: Sequence[Sequence[int]],
    order: Sequence[int],
    how: Recipe,
    device: torch.device,
    seed: int,
) -> QloraTrainer:
    """Train the adapters on the texts in the given order; the trainer returned holds losses and optimizer."""
    # Automatic mixed precision wants adapters of 32 bits; adapters of 16 bits are trained as they are.
    mixed = device.type == "cuda" and how.adapter == "float32"
    trainer = run_trainer(
        partial(QloraTrainer, min_8bit_size=how.min_8bit_size, loss_scale=how.loss_scale),
        model=adapted,
        train_dataset=Dataset.from_dict({"input_ids": encoded}).select(order),
        data_collator=collate,
        seed=seed,
        device=device,
        optim=how.optimizer,
        learning_rate=how.learning_rate,
        lr_scheduler_type=how.schedule,
        num_train_epochs=1,  # the order holds all epochs
        per_device_train_batch_size=how.batch_size,
        adam_epsilon=how.epsilon * how.loss_scale,
        max_grad_norm=how.loss_scale,
        bf16=mixed and how.compute == "bfloat16",
        fp16=mixed and how.compute == "float16",
        logging_strategy="no",
    )
    # The Trainer registers every embedding with this singleton, which would keep each trial's base alive.
    GlobalOptimManager.get_instance().initialize()
    return trainer


def data_order(texts: int, epochs: int, seed: int) -> list[int]:
    """Return the order in which a trial sees its texts, each epoch shuffled anew: (epochs * texts,)."""
    stream = generator(derive(seed, "order"))
    return torch.cat([torch.randperm(texts, generator=stream) for _ in range(epochs)]).tolist()


def optimizer_states(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Say how an optimizer keeps its two moments.

    Returns
    -------
    dict
        ``state_dtypes``: the types, without repeats. ``state_bytes``: of the moments and their scales.
        ``starved``: the share of entries whose second moment is kept as exactly 0 while the first is not, so
        that Adam divides by its epsilon alone.
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
