"""Run a transformers Trainer reproducibly, for pre-training; classifiers and QLoRA have their own loops."""

import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from lib.models import quiet_libraries
from lib.precision import default_precision

AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)


def run_trainer(
    trainer_class: Callable[..., AnyTrainer], *, seed: int, device: torch.device, **given: Any
) -> AnyTrainer:
    """Train with a transformers Trainer that saves, reports and prints nothing, and return the trainer.

    The default optimizer is PyTorch's fused AdamW. Products are in bfloat16 where the device computes in it;
    float32 products are not rounded to TF32 (PyTorch's default).

    Parameters
    ----------
    trainer_class : callable
        ``Trainer``, a subclass, or a partial of one.
    seed : int
        The trainer's ``seed``, which determines dropout and whatever else the trainer draws.
    device : torch.device
        Where to train.
    **given
        ``model``, ``train_dataset``, ``data_collator`` and ``optimizers`` go to the trainer, everything else
        to its ``TrainingArguments``.
    """
    parts = {
        name: given.pop(name)
        for name in ("model", "train_dataset", "data_collator", "optimizers")
        if name in given
    }
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        arguments = TrainingArguments(
            output_dir=folder,
            seed=seed,
            use_cpu=device.type == "cpu",
            bf16=default_precision(device) == "bfloat16",
            report_to="none",
            logging_nan_inf_filter=False,  # a loss that is not finite must be visible
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=device.type == "cuda",
            train_sampling_strategy="sequential",
            **given,
        )
        if device.type == "cuda":
            # With several visible GPUs, the Trainer would otherwise multiply the batch size by their number.
            arguments._n_gpu = 1
        trainer = trainer_class(args=arguments, **parts)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer
